"""The vault: persons, their sealed identities, and the data keys that what is told of them is sealed under.

Revision ID: 0012
"""

from alembic import op

from service.migrations import DataInTheClear

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_VAULT = """
    CREATE SCHEMA vault;

    -- Which key-encryption key wraps new data keys: the newest that was not retired. The keys are in a file elsewhere.
    CREATE TABLE vault.kek (
        kek_version smallint PRIMARY KEY CONSTRAINT kek_version_check CHECK (kek_version > 0),
        check_value bytea NOT NULL CONSTRAINT kek_check_value_check CHECK (octet_length(check_value) = 32),
        adopted_at timestamptz NOT NULL,
        retired_at timestamptz,
        destroyed_at timestamptz CONSTRAINT kek_destroyed_at_check CHECK (destroyed_at >= retired_at)
    );
    CREATE TRIGGER set_once BEFORE UPDATE ON vault.kek FOR EACH ROW
        WHEN (OLD.retired_at IS NOT NULL AND NEW.retired_at IS DISTINCT FROM OLD.retired_at
            OR OLD.destroyed_at IS NOT NULL)
        EXECUTE FUNCTION service.set_once();

    CREATE TABLE vault.person_key (
        participant_id uuid PRIMARY KEY,
        kek_version smallint NOT NULL,
        wrapped bytea NOT NULL CONSTRAINT person_key_wrapped_check CHECK (octet_length(wrapped) = 60)
    );

    -- Whose keys are gone, so that every process forgets them, and that there was one can be told.
    CREATE TABLE vault.key_destroyed (
        participant_id uuid PRIMARY KEY,
        destroyed_at timestamptz NOT NULL
    );
    CREATE INDEX key_destroyed_at_index ON vault.key_destroyed (destroyed_at);

    -- Keyed by itself, across participants: HMAC of who somebody is at the identity provider, and whom it stands for.
    CREATE TABLE vault.person (
        person_tag bytea PRIMARY KEY CONSTRAINT person_tag_check CHECK (octet_length(person_tag) = 32),
        key_version smallint NOT NULL,
        participant_id uuid NOT NULL CONSTRAINT person_participant_key UNIQUE,
        state text NOT NULL CONSTRAINT person_state_check CHECK (state IN ('active', 'erased'))
    );

    CREATE TABLE vault.identity (
        participant_id uuid PRIMARY KEY,
        sealed bytea NOT NULL CONSTRAINT identity_sealed_check CHECK (octet_length(sealed) > 29),
        updated_at timestamptz NOT NULL
    );

    -- Whose identity was read, when and what for.
    CREATE TABLE vault.identity_read (
        read_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        participant_id uuid NOT NULL,
        purpose text NOT NULL CONSTRAINT identity_read_purpose_check CHECK (purpose ~ '^[a-z][a-z0-9_-]{0,63}$'),
        read_by text NOT NULL,
        read_at timestamptz NOT NULL
    );
    CREATE INDEX identity_read_participant_index ON vault.identity_read (participant_id);

    -- The only way to an identity: one at a time, and written down.
    CREATE FUNCTION vault.read_identity(whose uuid, what_for text) RETURNS bytea
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
    DECLARE found bytea;
    BEGIN
        SELECT i.sealed INTO found FROM vault.identity AS i WHERE i.participant_id = whose;
        IF found IS NOT NULL THEN
            INSERT INTO vault.identity_read (participant_id, purpose, read_by, read_at)
            VALUES (whose, what_for, session_user, clock_timestamp());
        END IF;
        RETURN found;
    END $$;
    REVOKE ALL ON FUNCTION vault.read_identity(uuid, text) FROM PUBLIC;
"""

# What is sealed no database compresses: EXTERNAL spares it the attempt.
_SEALED = """
    ALTER TABLE service.evidence DROP COLUMN salt, DROP COLUMN document, DROP COLUMN refusal,
        ADD COLUMN sealed bytea NOT NULL CONSTRAINT evidence_sealed_check CHECK (octet_length(sealed) > 65);
    ALTER TABLE service.evidence ALTER COLUMN sealed SET STORAGE EXTERNAL;
    ALTER TABLE service.redemption_terms DROP COLUMN salt, DROP COLUMN document,
        ADD COLUMN sealed bytea NOT NULL CONSTRAINT redemption_terms_sealed_check CHECK (octet_length(sealed) > 65);
    ALTER TABLE service.redemption_terms ALTER COLUMN sealed SET STORAGE EXTERNAL;
    ALTER TABLE service.settlement DROP COLUMN salt, DROP COLUMN facts,
        ADD COLUMN sealed bytea CONSTRAINT settlement_sealed_check CHECK (octet_length(sealed) > 65);
    ALTER TABLE service.dispute_text DROP COLUMN words,
        ADD COLUMN sealed bytea NOT NULL CONSTRAINT dispute_text_sealed_check CHECK (octet_length(sealed) > 29);
"""

_RETENTION = """
    -- What was removed because its time was over: how much of which class, never what.
    CREATE TABLE service.retention_run (
        run_id uuid NOT NULL,
        data_class text NOT NULL,
        ran_at timestamptz NOT NULL,
        older_than timestamptz NOT NULL,
        removed bigint NOT NULL CONSTRAINT retention_run_removed_check CHECK (removed >= 0),
        PRIMARY KEY (run_id, data_class)
    );
    CREATE INDEX retention_run_index ON service.retention_run (ran_at);
"""

_APPEND_ONLY = ("vault.key_destroyed", "vault.identity_read", "service.retention_run")

# The application writes identities and selects none: `sealed` leaves the table through vault.read_identity alone.
# Wrapped data keys open nothing without the file of key-encryption keys; the worker and the publisher need neither.
_GRANTS = """
    REVOKE ALL ON SCHEMA vault FROM PUBLIC;
    GRANT USAGE ON SCHEMA vault TO tanpuhui_app, tanpuhui_auditor;
    GRANT SELECT, INSERT, UPDATE (retired_at, destroyed_at) ON vault.kek TO tanpuhui_app;
    GRANT SELECT, INSERT, DELETE, UPDATE (kek_version, wrapped) ON vault.person_key TO tanpuhui_app;
    GRANT SELECT, INSERT ON vault.key_destroyed TO tanpuhui_app;
    GRANT SELECT, INSERT, DELETE, UPDATE (participant_id, state) ON vault.person TO tanpuhui_app;
    GRANT INSERT, DELETE, UPDATE (sealed, updated_at), SELECT (participant_id, updated_at)
        ON vault.identity TO tanpuhui_app;
    GRANT EXECUTE ON FUNCTION vault.read_identity(uuid, text) TO tanpuhui_app;
    GRANT SELECT ON vault.identity_read TO tanpuhui_app;
    GRANT SELECT ON vault.kek, vault.person_key TO tanpuhui_auditor;
    GRANT DELETE ON service.evidence, service.redemption_terms, service.dispute_text, service.manifest_text,
        service.signed_word, service.bank_request TO tanpuhui_app;
    GRANT UPDATE (sealed) ON service.settlement TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.retention_run TO tanpuhui_app;
    GRANT SELECT ON service.retention_run TO tanpuhui_auditor;
"""

_IN_THE_CLEAR = """
    SELECT (SELECT count(*) FROM service.participant) + (SELECT count(*) FROM service.evidence)
        + (SELECT count(*) FROM service.redemption_terms) + (SELECT count(*) FROM service.dispute_text)
        + (SELECT count(*) FROM service.settlement)
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    _require_nobody()
    op.execute(_VAULT)
    op.execute(_SEALED)
    op.execute(_RETENTION)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def _require_nobody() -> None:
    """What lies in the clear would stay in the clear in the pages, the journal and the backups of this database."""
    rows: int = op.get_bind().exec_driver_sql(_IN_THE_CLEAR).scalar_one()
    if rows:
        raise DataInTheClear(
            f"this database holds {rows} rows of participants and their evidence in the clear, of a version before the "
            "first release: begin with an empty database (for the embedded one, remove TANPUHUI_DATA_DIR) and let the "
            "providers report again; encrypting them here would leave the clear text in its pages and backups"
        )


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
