"""Where events are sent to, and what became of each.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_WEBHOOKS = """
    CREATE TABLE service.webhook (
        webhook_id uuid PRIMARY KEY,
        bank text NOT NULL,
        url text NOT NULL CONSTRAINT webhook_url_check CHECK (url ~ '^https?://' AND length(url) <= 500),
        kinds text[] NOT NULL,
        state text NOT NULL CONSTRAINT webhook_state_check CHECK (state IN ('active', 'paused', 'disabled')),
        because text CONSTRAINT webhook_because_check CHECK ((state = 'disabled') = (because IS NOT NULL)),
        taken_to bigint NOT NULL CONSTRAINT webhook_taken_to_check CHECK (taken_to >= -1),
        created_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL
    );
    CREATE INDEX webhook_bank_index ON service.webhook (bank);

    CREATE TABLE service.webhook_secret (
        webhook_id uuid NOT NULL,
        number integer NOT NULL CONSTRAINT webhook_secret_number_check CHECK (number > 0),
        key_version smallint NOT NULL,
        sealed bytea NOT NULL,
        created_at timestamptz NOT NULL,
        ends_at timestamptz,
        PRIMARY KEY (webhook_id, number)
    );

    CREATE TABLE service.webhook_message (
        webhook_id uuid NOT NULL,
        message_id text NOT NULL,
        place bigint NOT NULL CONSTRAINT webhook_message_place_check CHECK (place >= -1),
        lane text NOT NULL,
        kind text NOT NULL,
        body bytea NOT NULL CONSTRAINT webhook_message_body_check CHECK (octet_length(body) < 20480),
        state text NOT NULL CONSTRAINT webhook_message_state_check CHECK (state IN ('waiting', 'delivered', 'dead')),
        failed integer NOT NULL CONSTRAINT webhook_message_failed_check CHECK (failed >= 0),
        due_at timestamptz,
        status smallint,
        fault text,
        queued_at timestamptz NOT NULL,
        ended_at timestamptz CONSTRAINT webhook_message_ended_check CHECK ((state = 'waiting') = (ended_at IS NULL)),
        PRIMARY KEY (webhook_id, message_id)
    ) WITH (fillfactor = 70);
    -- The table grows faster than the planner learns of it: what waits in a lane is asked for by the lane alone, for
    -- which there is one index. The others are each of one state.
    CREATE INDEX webhook_message_due_index ON service.webhook_message (webhook_id, due_at, place)
        WHERE state = 'waiting';
    CREATE INDEX webhook_message_order_index ON service.webhook_message (lane, place)
        WHERE state = 'waiting';
    CREATE INDEX webhook_message_delivered_index ON service.webhook_message (webhook_id, place)
        WHERE state = 'delivered';
    CREATE INDEX webhook_message_dead_index ON service.webhook_message (webhook_id, place) WHERE state = 'dead';

    CREATE TABLE service.webhook_attempt (
        webhook_id uuid NOT NULL,
        attempt_id bigint GENERATED ALWAYS AS IDENTITY,
        message_id text NOT NULL,
        kind text NOT NULL,
        attempted_at timestamptz NOT NULL,
        number integer NOT NULL CONSTRAINT webhook_attempt_number_check CHECK (number > 0),
        delivered boolean NOT NULL,
        status smallint,
        fault text CONSTRAINT webhook_attempt_fault_check CHECK (delivered = (fault IS NULL)),
        duration_ms integer NOT NULL CONSTRAINT webhook_attempt_duration_ms_check CHECK (duration_ms >= 0),
        PRIMARY KEY (webhook_id, attempt_id)
    );
"""

# The API registers and shows, the worker delivers. The worker reads of a redemption what it tells a bank, nothing else.
_GRANTS = """
    GRANT SELECT, INSERT, DELETE ON service.webhook, service.webhook_secret, service.webhook_message,
        service.webhook_attempt TO tanpuhui_app;
    GRANT UPDATE (url, kinds, state, because, taken_to, changed_at) ON service.webhook TO tanpuhui_app;
    GRANT UPDATE (ends_at) ON service.webhook_secret TO tanpuhui_app;
    GRANT UPDATE (state, failed, due_at, ended_at) ON service.webhook_message TO tanpuhui_app;
    GRANT SELECT, DELETE ON service.webhook_secret TO tanpuhui_sequencer;
    GRANT SELECT, UPDATE (state, because, taken_to, changed_at) ON service.webhook TO tanpuhui_sequencer;
    GRANT SELECT, INSERT, DELETE, UPDATE (state, failed, due_at, status, fault, ended_at) ON service.webhook_message
        TO tanpuhui_sequencer;
    GRANT SELECT, INSERT, DELETE ON service.webhook_attempt TO tanpuhui_sequencer;
    GRANT SELECT ON service.webhook, service.webhook_message, service.webhook_attempt TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_WEBHOOKS)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
