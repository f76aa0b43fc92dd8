"""Who may ask for a token: clients and their keys, what was used up or revoked, and operators' proposals.

Revision ID: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ACCESS = r"""
    -- An operator is a person and signs in elsewhere: no machine has that role.
    CREATE TABLE service.oauth_client (
        client_id text PRIMARY KEY
            CONSTRAINT oauth_client_client_id_check CHECK (client_id ~ '^[a-z0-9][a-z0-9._-]{2,63}$'),
        role text NOT NULL CONSTRAINT oauth_client_role_check CHECK
            (role IN ('provider', 'participant', 'bank', 'auditor', 'funder', 'assurer', 'authority')),
        uri text CONSTRAINT oauth_client_uri_check CHECK
            ((uri IS NOT NULL) = (role IN ('provider', 'bank', 'funder'))),
        title_zh text NOT NULL,
        title_en text NOT NULL,
        scopes text[] NOT NULL,
        redirect_uris text[] NOT NULL,
        state text NOT NULL DEFAULT 'active'
            CONSTRAINT oauth_client_state_check CHECK (state IN ('active', 'suspended')),
        tokens_from timestamptz,
        registered_at timestamptz NOT NULL
    );

    -- What was done to a client, and by whom.
    CREATE TABLE service.client_change (
        client_id text NOT NULL,
        number integer NOT NULL CONSTRAINT client_change_number_check CHECK (number > 0),
        changed_at timestamptz NOT NULL,
        action text NOT NULL CONSTRAINT client_change_action_check CHECK
            (action IN ('registered', 'changed', 'key-added', 'key-ended', 'suspended', 'resumed', 'tokens-revoked')),
        kid text,
        by_operator text NOT NULL,
        PRIMARY KEY (client_id, number)
    );

    CREATE TABLE service.client_key (
        client_id text NOT NULL,
        kid text NOT NULL,
        public_key text NOT NULL,
        valid_from timestamptz NOT NULL,
        valid_to timestamptz CONSTRAINT client_key_valid_to_check CHECK (valid_to >= valid_from),
        registered_at timestamptz NOT NULL,
        PRIMARY KEY (client_id, kid)
    );
    CREATE TRIGGER set_once BEFORE UPDATE ON service.client_key FOR EACH ROW
        WHEN (OLD.valid_to IS NOT NULL AND (NEW.valid_to IS NULL OR NEW.valid_to > OLD.valid_to))
        EXECUTE FUNCTION service.set_once();

    -- Assertions that could still be sent again; older ones are swept, for nobody takes them any more.
    CREATE TABLE service.assertion_used (
        client_id text NOT NULL,
        jti text NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (client_id, jti)
    );
    CREATE INDEX assertion_used_expires_index ON service.assertion_used (expires_at);

    -- Tokens that were revoked before their end; swept after it.
    CREATE TABLE service.token_revoked (
        jti text PRIMARY KEY,
        client_id text NOT NULL,
        expires_at timestamptz NOT NULL
    );
    CREATE INDEX token_revoked_expires_index ON service.token_revoked (expires_at);

    -- What one operator wants done, known by the digest of the request, and the other who asked for the same.
    CREATE TABLE service.operator_proposal (
        proposal_id uuid PRIMARY KEY,
        method text NOT NULL,
        target text NOT NULL,
        body_digest bytea NOT NULL
            CONSTRAINT operator_proposal_body_digest_check CHECK (octet_length(body_digest) = 32),
        proposed_by text NOT NULL,
        proposed_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL
            CONSTRAINT operator_proposal_expires_at_check CHECK (expires_at > proposed_at)
    );
    CREATE TABLE service.operator_approval (
        proposal_id uuid PRIMARY KEY,
        approved_by text NOT NULL,
        approved_at timestamptz NOT NULL
    );
"""

_APPEND_ONLY = ("service.client_change", "service.operator_proposal", "service.operator_approval")

_GRANTS = """
    GRANT SELECT, INSERT ON service.oauth_client, service.client_change, service.client_key,
        service.operator_proposal, service.operator_approval TO tanpuhui_app;
    GRANT UPDATE (title_zh, title_en, scopes, redirect_uris, state, tokens_from) ON service.oauth_client
        TO tanpuhui_app;
    GRANT UPDATE (valid_to) ON service.client_key TO tanpuhui_app;
    GRANT SELECT, INSERT, DELETE ON service.assertion_used, service.token_revoked TO tanpuhui_app;
    GRANT SELECT ON service.oauth_client, service.client_change, service.client_key,
        service.operator_proposal, service.operator_approval TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_ACCESS)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
