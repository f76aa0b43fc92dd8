"""What sources sign: whether they must, what they signed, and which of their keys were compromised.

Revision ID: 0011
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_REPORTS = r"""
    -- Whether a source signs its reports; one that has no row is as its grade and the platform's mode say.
    CREATE TABLE service.source_policy (
        source_id integer PRIMARY KEY,
        signing text NOT NULL CONSTRAINT source_policy_signing_check CHECK (signing IN ('required', 'optional')),
        set_at timestamptz NOT NULL
    );

    -- Nonces of signatures that could still be sent again; older ones are swept, for their signatures are too old.
    CREATE TABLE service.source_nonce (
        source_id integer NOT NULL,
        nonce text NOT NULL,
        seen_at timestamptz NOT NULL,
        PRIMARY KEY (source_id, nonce)
    );
    CREATE INDEX source_nonce_seen_index ON service.source_nonce (seen_at);

    -- What a source signed, so that whoever has its public key can check it: the text that the signature is of, and,
    -- sealed under a key of its own, the body whose digest stands in that text. A body tells of several people: it is
    -- taken out, with its key, when one of them is forgotten or when its time is over; the signature stays.
    CREATE TABLE service.signed_report (
        call_id uuid PRIMARY KEY,
        source_id integer NOT NULL,
        key_id text NOT NULL,
        method text NOT NULL,
        path text NOT NULL,
        signature_base bytea NOT NULL,
        signature bytea NOT NULL CONSTRAINT signed_report_signature_check CHECK (octet_length(signature) = 64),
        content_digest text NOT NULL,
        body bytea,
        body_key bytea,
        kek_version smallint,
        activities uuid[] NOT NULL,
        subject_tags bytea[] NOT NULL,
        received_at timestamptz NOT NULL,
        body_erased_at timestamptz,
        CONSTRAINT signed_report_body_check
            CHECK ((body IS NULL) = (body_key IS NULL) AND (body IS NULL) = (kek_version IS NULL)),
        CONSTRAINT signed_report_body_erased_at_check
            CHECK (body_erased_at IS NULL OR (body IS NULL AND subject_tags = '{}'))
    );
    CREATE INDEX signed_report_activities_index ON service.signed_report USING gin (activities);
    CREATE INDEX signed_report_subjects_index ON service.signed_report USING gin (subject_tags)
        WHERE body IS NOT NULL;
    -- The few that still have a body, oldest first: what retention and the changing of keys look for.
    CREATE INDEX signed_report_body_index ON service.signed_report (received_at) WHERE body IS NOT NULL;
    CREATE TRIGGER set_once BEFORE UPDATE ON service.signed_report FOR EACH ROW
        WHEN (NEW.body IS NOT NULL AND NEW.body IS DISTINCT FROM OLD.body) EXECUTE FUNCTION service.set_once();

    -- From which moment on a key was in wrong hands, as an operator decided.
    CREATE TABLE service.key_revocation (
        source_id integer NOT NULL,
        key_id text NOT NULL,
        revoked_from timestamptz NOT NULL,
        decided_by text NOT NULL,
        decided_at timestamptz NOT NULL,
        PRIMARY KEY (source_id, key_id, revoked_from)
    );
"""

_GRANTS = """
    GRANT SELECT, INSERT ON service.source_policy, service.signed_report, service.key_revocation TO tanpuhui_app;
    GRANT UPDATE (signing, set_at) ON service.source_policy TO tanpuhui_app;
    GRANT SELECT, INSERT, DELETE ON service.source_nonce TO tanpuhui_app;
    GRANT UPDATE (body, body_key, kek_version, subject_tags, body_erased_at) ON service.signed_report TO tanpuhui_app;
    GRANT SELECT ON service.source_policy, service.signed_report, service.key_revocation TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_REPORTS)
    op.execute("""
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON service.key_revocation
        FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
    """)
    op.execute("""
        CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON service.signed_report
        FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
    """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
