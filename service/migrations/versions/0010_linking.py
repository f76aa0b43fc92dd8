"""Persons who sign in, the sources and banks they link, and what they agreed to.

Revision ID: 0010
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_LINKING = """
    -- An identity provider's token was exchanged: once, whoever has it. A keyed tag, swept when the token is over.
    CREATE TABLE service.exchanged_token (
        tag bytea PRIMARY KEY CONSTRAINT exchanged_token_tag_check CHECK (octet_length(tag) = 32),
        expires_at timestamptz NOT NULL
    );
    CREATE INDEX exchanged_token_expires_index ON service.exchanged_token (expires_at);

    -- What a person agreed to beside the reports of a source, which are service.consent: the terms, a bank's link.
    CREATE TABLE service.agreement (
        participant_id uuid NOT NULL,
        agreement_id uuid NOT NULL,
        purpose text NOT NULL CONSTRAINT agreement_purpose_check CHECK (purpose IN ('terms', 'bank-link')),
        bank_id integer CONSTRAINT agreement_bank_check CHECK ((bank_id IS NOT NULL) = (purpose = 'bank-link')),
        text_version text NOT NULL,
        given_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        withdrawn_at timestamptz,
        PRIMARY KEY (participant_id, agreement_id, purpose, text_version)
    );
    CREATE TRIGGER set_once BEFORE UPDATE ON service.agreement FOR EACH ROW
        WHEN (OLD.withdrawn_at IS NOT NULL AND NEW.withdrawn_at IS DISTINCT FROM OLD.withdrawn_at)
        EXECUTE FUNCTION service.set_once();

    -- The random part of the id under which one source or one bank knows a person: with the keyring it gives the id,
    -- alone it gives nothing, and without its row nobody makes the id again.
    CREATE TABLE service.pairwise (
        participant_id uuid NOT NULL,
        party text NOT NULL,
        seed bytea NOT NULL CONSTRAINT pairwise_seed_check CHECK (octet_length(seed) = 16),
        key_version smallint NOT NULL,
        made_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, party)
    );

    -- Keyed by itself, across participants, as service.link is: a bank's id for a person, as HMAC, and whom it stands
    -- for.
    CREATE TABLE service.bank_link (
        bank_id integer NOT NULL,
        subject_tag bytea NOT NULL CONSTRAINT bank_link_subject_tag_check CHECK (octet_length(subject_tag) = 32),
        key_version smallint NOT NULL,
        link_id uuid NOT NULL,
        participant_id uuid NOT NULL,
        linked_at timestamptz NOT NULL,
        withdrawn_at timestamptz,
        PRIMARY KEY (bank_id, subject_tag, link_id)
    );
    CREATE UNIQUE INDEX bank_link_live_key ON service.bank_link (bank_id, subject_tag) WHERE withdrawn_at IS NULL;
    CREATE INDEX bank_link_participant_index ON service.bank_link (participant_id);
    CREATE TRIGGER set_once BEFORE UPDATE ON service.bank_link FOR EACH ROW
        WHEN (OLD.withdrawn_at IS NOT NULL AND NEW.withdrawn_at IS DISTINCT FROM OLD.withdrawn_at)
        EXECUTE FUNCTION service.set_once();

    -- A client asks a person for a link (RFC 9126). Its handle and its code are known here by their hashes alone.
    -- `made` says that the code was answered with a new link, which its replay ends.
    CREATE TABLE service.link_request (
        request_id uuid PRIMARY KEY,
        handle_hash bytea NOT NULL CONSTRAINT link_request_handle_hash_key UNIQUE
            CONSTRAINT link_request_handle_hash_check CHECK (octet_length(handle_hash) = 32),
        client_id text NOT NULL,
        party text NOT NULL,
        scope text NOT NULL CONSTRAINT link_request_scope_check CHECK (scope IN ('link:activities', 'link:bank')),
        redirect_uri text NOT NULL,
        code_challenge text NOT NULL,
        state text,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        participant_id uuid,
        decision text CONSTRAINT link_request_decision_check CHECK (decision IN ('approved', 'declined')),
        decided_at timestamptz,
        text_version text,
        code_hash bytea CONSTRAINT link_request_code_hash_key UNIQUE
            CONSTRAINT link_request_code_hash_check CHECK (octet_length(code_hash) = 32),
        code_expires_at timestamptz,
        used_at timestamptz,
        link_id uuid,
        made boolean NOT NULL DEFAULT false,
        CONSTRAINT link_request_decided_check CHECK (
            (decision IS NULL) = (decided_at IS NULL) AND (decision IS NULL) = (participant_id IS NULL)
        ),
        CONSTRAINT link_request_code_check CHECK (
            (code_hash IS NULL) = (decision IS DISTINCT FROM 'approved')
            AND (code_hash IS NULL) = (code_expires_at IS NULL) AND (code_hash IS NULL) = (text_version IS NULL)
        ),
        CONSTRAINT link_request_used_check CHECK (used_at IS NULL OR code_hash IS NOT NULL)
    );
    CREATE INDEX link_request_expires_index ON service.link_request (expires_at);
    CREATE INDEX link_request_participant_index ON service.link_request (participant_id)
        WHERE participant_id IS NOT NULL;
    CREATE TRIGGER set_once BEFORE UPDATE ON service.link_request FOR EACH ROW
        WHEN ((OLD.decision IS NOT NULL AND NEW.decision IS DISTINCT FROM OLD.decision)
            OR (OLD.used_at IS NOT NULL AND NEW.used_at IS DISTINCT FROM OLD.used_at))
        EXECUTE FUNCTION service.set_once();

    -- A bank's request to the person whom one of its ids stands for: no code is handed to anybody.
    ALTER TABLE service.bank_request ADD COLUMN addressed_to uuid;
    CREATE INDEX bank_request_addressed_index ON service.bank_request (addressed_to, expires_at)
        WHERE addressed_to IS NOT NULL;
"""

_GRANTS = """
    GRANT SELECT, INSERT ON service.agreement, service.pairwise, service.bank_link, service.link_request,
        service.exchanged_token TO tanpuhui_app;
    GRANT UPDATE (withdrawn_at) ON service.agreement, service.bank_link TO tanpuhui_app;
    GRANT UPDATE (participant_id, decision, decided_at, text_version, code_hash, code_expires_at, used_at, link_id,
        made) ON service.link_request TO tanpuhui_app;
    GRANT DELETE ON service.pairwise, service.link_request, service.exchanged_token TO tanpuhui_app;
    GRANT SELECT ON service.agreement TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_LINKING)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
