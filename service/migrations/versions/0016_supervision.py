"""The record of a dispute's decision that refunds commit to.

Revision ID: 0016
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# Sealed under the participant's data key, as what was written in the dispute is; the commitment stands in the log too.
_DECISIONS = """
    CREATE TABLE service.dispute_decision (
        participant_id uuid NOT NULL,
        redemption_id uuid NOT NULL,
        dispute_id uuid NOT NULL,
        commitment bytea NOT NULL
            CONSTRAINT dispute_decision_commitment_check CHECK (octet_length(commitment) = 32),
        sealed bytea NOT NULL CONSTRAINT dispute_decision_sealed_check CHECK (octet_length(sealed) > 65),
        decided_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, redemption_id)
    );
    ALTER TABLE service.dispute_decision ALTER COLUMN sealed SET STORAGE EXTERNAL;
    GRANT SELECT, INSERT, DELETE ON service.dispute_decision TO tanpuhui_app;
    GRANT SELECT ON service.dispute_decision TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_DECISIONS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
