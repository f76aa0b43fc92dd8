"""Products and offers, who listed them and when.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_SERVICE = """
    -- Every document that was ever submitted, by its bytes: what a hold or a listing names by digest can be looked up
    -- for ever.
    CREATE TABLE service.listing_document (
        kind text NOT NULL CONSTRAINT listing_document_kind_check CHECK (kind IN ('product', 'offer')),
        id text NOT NULL CONSTRAINT listing_document_id_check
            CHECK (id ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(id) <= 64),
        version integer NOT NULL CONSTRAINT listing_document_version_check CHECK (version > 0),
        digest bytea NOT NULL CONSTRAINT listing_document_digest_check CHECK (octet_length(digest) = 32),
        bank text NOT NULL,
        product text CONSTRAINT listing_document_product_check CHECK ((kind = 'offer') = (product IS NOT NULL)),
        document bytea NOT NULL,
        submitted_by text NOT NULL,
        submitted_at timestamptz NOT NULL,
        PRIMARY KEY (kind, id, version)
    );
    CREATE UNIQUE INDEX listing_document_digest_key ON service.listing_document (digest);

    -- What became of it, step by step. Nothing here is edited: a process sees that something changed by their number.
    CREATE TABLE service.listing_change (
        change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind text NOT NULL,
        id text NOT NULL,
        version integer NOT NULL,
        action text NOT NULL CONSTRAINT listing_change_action_check
            CHECK (action IN ('submitted', 'approved', 'listed', 'suspended', 'resumed', 'taken_down')),
        operator text NOT NULL,
        reason text CONSTRAINT listing_change_reason_check CHECK (reason ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
        recorded_at timestamptz NOT NULL,
        CONSTRAINT listing_change_why_check CHECK ((action IN ('suspended', 'taken_down')) = (reason IS NOT NULL))
    );
    CREATE INDEX listing_change_document_index ON service.listing_change (kind, id, version);
    CREATE UNIQUE INDEX listing_change_approved_key ON service.listing_change (kind, id, version, operator)
        WHERE action = 'approved';

    -- Where each document stands now; `good_through` is the last day its evidence carries it.
    CREATE TABLE service.listing (
        kind text NOT NULL,
        id text NOT NULL,
        version integer NOT NULL,
        state text NOT NULL CONSTRAINT listing_state_check
            CHECK (state IN ('submitted', 'listed', 'suspended', 'taken_down')),
        good_through date,
        changed_at timestamptz NOT NULL,
        PRIMARY KEY (kind, id, version)
    ) WITH (fillfactor = 70);
    CREATE UNIQUE INDEX listing_current_key ON service.listing (kind, id) WHERE state IN ('listed', 'suspended');
"""

_APPEND_ONLY = ("service.listing_document", "service.listing_change")

# The worker takes down by itself what its evidence no longer carries.
_GRANTS = """
    GRANT SELECT, INSERT ON service.listing_document, service.listing_change, service.listing TO tanpuhui_app;
    GRANT UPDATE (state, good_through, changed_at) ON service.listing TO tanpuhui_app, tanpuhui_sequencer;
    GRANT SELECT ON service.listing_document, service.listing TO tanpuhui_sequencer;
    GRANT SELECT, INSERT ON service.listing_change TO tanpuhui_sequencer;
    GRANT SELECT ON service.listing_document, service.listing_change, service.listing TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_SERVICE)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
