"""Signed checkpoints, whether the log may go on, and balances sealed at the end of a day.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_LEDGER = """
    -- Every checkpoint that was ever signed, byte for byte: two that contradict each other are the evidence.
    CREATE TABLE ledger.checkpoint (
        epoch integer NOT NULL CONSTRAINT checkpoint_epoch_check CHECK (epoch > 0),
        size bigint NOT NULL CONSTRAINT checkpoint_size_check CHECK (size >= 0),
        note text NOT NULL,
        signed_at timestamptz NOT NULL,
        PRIMARY KEY (epoch, size)
    );

    -- Which log of this ledger is being written, and why nothing may be posted or signed, if that is so.
    CREATE TABLE ledger.log_state (
        "only" boolean PRIMARY KEY DEFAULT true CONSTRAINT log_state_only_check CHECK ("only"),
        epoch integer NOT NULL CONSTRAINT log_state_epoch_check CHECK (epoch >= 0),
        refused text
    );
    INSERT INTO ledger.log_state (epoch) VALUES (0);

    CREATE TABLE ledger.seal (
        programme text NOT NULL,
        day date NOT NULL,
        size bigint NOT NULL CONSTRAINT seal_size_check CHECK (size >= 0),
        participants bigint NOT NULL CONSTRAINT seal_participants_check CHECK (participants >= 0),
        root bytea NOT NULL CONSTRAINT seal_root_check CHECK (octet_length(root) = 32),
        sealed_at timestamptz NOT NULL,
        PRIMARY KEY (programme, day)
    );

    -- Balances in log order, as the first `sealed_to` entries leave them: those of ledger.account run ahead of the log.
    CREATE TABLE ledger.seal_head (
        "only" boolean PRIMARY KEY DEFAULT true CONSTRAINT seal_head_only_check CHECK ("only"),
        sealed_to bigint NOT NULL CONSTRAINT seal_head_sealed_to_check CHECK (sealed_to >= 0)
    );
    INSERT INTO ledger.seal_head (sealed_to) VALUES (0);

    CREATE TABLE ledger.sealed_account (
        participant_id uuid PRIMARY KEY,
        programme text NOT NULL,
        counter bigint NOT NULL CONSTRAINT sealed_account_counter_check CHECK (counter > 0),
        co2e_available bigint NOT NULL DEFAULT 0,
        co2e_pending bigint NOT NULL DEFAULT 0,
        co2e_held bigint NOT NULL DEFAULT 0,
        co2e_debt bigint NOT NULL DEFAULT 0,
        points_available bigint NOT NULL DEFAULT 0,
        points_pending bigint NOT NULL DEFAULT 0,
        points_held bigint NOT NULL DEFAULT 0,
        points_debt bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 70);

    CREATE TABLE ledger.sealed_bucket (
        participant_id uuid NOT NULL,
        expires_on date NOT NULL,
        available bigint NOT NULL,
        PRIMARY KEY (participant_id, expires_on)
    ) WITH (fillfactor = 70);
"""

_APPEND_ONLY = ("ledger.checkpoint", "ledger.seal")

# The log's side announces its keys, its epochs and its seals by leaves of their own, which belong to no participant.
_GRANTS = """
    GRANT INSERT (leaf) ON ledger.leaf_queue TO tanpuhui_sequencer;
    GRANT SELECT, INSERT ON ledger.checkpoint, ledger.seal TO tanpuhui_sequencer;
    GRANT SELECT, UPDATE (epoch, refused) ON ledger.log_state TO tanpuhui_sequencer;
    GRANT SELECT, UPDATE (sealed_to) ON ledger.seal_head TO tanpuhui_sequencer;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.sealed_account, ledger.sealed_bucket TO tanpuhui_sequencer;
    GRANT SELECT ON ledger.checkpoint, ledger.log_state, ledger.seal, ledger.seal_head, ledger.sealed_account,
        ledger.sealed_bucket TO tanpuhui_app, tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_LEDGER)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
