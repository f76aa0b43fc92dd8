"""Partner banks, their keys and what they signed.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BANKS = r"""
    CREATE TABLE service.bank (
        bank_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        uri text NOT NULL CONSTRAINT bank_uri_key UNIQUE,
        title_zh text NOT NULL,
        title_en text NOT NULL,
        programme text NOT NULL,
        state text NOT NULL DEFAULT 'active' CONSTRAINT bank_state_check CHECK (state IN ('active', 'suspended')),
        registered_at timestamptz NOT NULL
    );

    -- Why and when a bank's offers stopped, and went on again.
    CREATE TABLE service.bank_change (
        bank_id integer NOT NULL,
        changed_at timestamptz NOT NULL,
        action text NOT NULL CONSTRAINT bank_change_action_check CHECK (action IN ('suspended', 'resumed')),
        reason text CONSTRAINT bank_change_reason_check CHECK (reason ~ '^[a-z][a-z0-9_-]{0,63}$'),
        PRIMARY KEY (bank_id, changed_at)
    );

    CREATE TABLE service.bank_key (
        bank_id integer NOT NULL,
        key_id text NOT NULL,
        public_key text NOT NULL,
        valid_from timestamptz NOT NULL,
        valid_to timestamptz CONSTRAINT bank_key_valid_to_check CHECK (valid_to > valid_from),
        registered_at timestamptz NOT NULL,
        PRIMARY KEY (bank_id, key_id)
    );
    CREATE TRIGGER set_once BEFORE UPDATE ON service.bank_key FOR EACH ROW
        WHEN (OLD.valid_to IS NOT NULL AND (NEW.valid_to IS NULL OR NEW.valid_to > OLD.valid_to))
        EXECUTE FUNCTION service.set_once();

    -- Nonces of signatures that could still be sent again; older ones are swept, for their signatures are too old.
    CREATE TABLE service.bank_nonce (
        bank_id integer NOT NULL,
        nonce text NOT NULL,
        seen_at timestamptz NOT NULL,
        PRIMARY KEY (bank_id, nonce)
    );
    CREATE INDEX bank_nonce_seen_index ON service.bank_nonce (seen_at);

    -- What a bank signed, so that whoever has its public key can check it: the text that the signature is of, and the
    -- body whose digest stands in that text.
    CREATE TABLE service.signed_call (
        call_id uuid PRIMARY KEY,
        bank_id integer NOT NULL,
        key_id text NOT NULL,
        method text NOT NULL,
        path text NOT NULL,
        signature_base bytea NOT NULL,
        signature bytea NOT NULL CONSTRAINT signed_call_signature_check CHECK (octet_length(signature) = 64),
        content_digest text NOT NULL,
        body bytea NOT NULL,
        received_at timestamptz NOT NULL
    );

    -- The same of calls that carry what somebody wrote or a bank's whole book, and that no leaf names: erasable.
    CREATE TABLE service.signed_word (
        call_id uuid PRIMARY KEY,
        bank_id integer NOT NULL,
        key_id text NOT NULL,
        method text NOT NULL,
        path text NOT NULL,
        signature_base bytea NOT NULL,
        signature bytea NOT NULL CONSTRAINT signed_word_signature_check CHECK (octet_length(signature) = 64),
        content_digest text NOT NULL,
        body bytea NOT NULL,
        received_at timestamptz NOT NULL
    );

    -- A bank asks for an approval; the code that it hands to the person is known here by its hash alone.
    CREATE TABLE service.bank_request (
        request_id uuid PRIMARY KEY,
        bank_id integer NOT NULL,
        offer text NOT NULL,
        offer_version integer NOT NULL,
        units bigint NOT NULL CONSTRAINT bank_request_units_check CHECK (units > 0),
        reference text,
        code_hash bytea NOT NULL CONSTRAINT bank_request_code_hash_key UNIQUE
            CONSTRAINT bank_request_code_hash_check CHECK (octet_length(code_hash) = 32),
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        call_id uuid NOT NULL,
        attempt integer NOT NULL DEFAULT 1,
        participant_id uuid,
        declined_at timestamptz
    );
"""

_APPEND_ONLY = ("service.bank_change", "service.signed_call")

_GRANTS = """
    GRANT SELECT, INSERT ON service.bank, service.bank_change, service.bank_key, service.signed_call,
        service.signed_word, service.bank_request TO tanpuhui_app;
    GRANT UPDATE (title_zh, title_en, state) ON service.bank TO tanpuhui_app;
    GRANT UPDATE (valid_to) ON service.bank_key TO tanpuhui_app;
    GRANT UPDATE (participant_id, attempt, declined_at) ON service.bank_request TO tanpuhui_app;
    GRANT SELECT, INSERT, DELETE ON service.bank_nonce TO tanpuhui_app;
    GRANT SELECT ON service.bank TO tanpuhui_sequencer;
    GRANT SELECT ON service.bank, service.bank_change, service.bank_key, service.signed_call,
        service.signed_word TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_BANKS)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
