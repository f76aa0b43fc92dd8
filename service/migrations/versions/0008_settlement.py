"""Statements of a bank day, differences and disputes.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_DAYS = """
    CREATE TABLE service.bank_statement (
        bank_id integer NOT NULL,
        day date NOT NULL,
        sequence integer NOT NULL CONSTRAINT bank_statement_sequence_check CHECK (sequence > 0),
        size bigint NOT NULL CONSTRAINT bank_statement_size_check CHECK (size >= 0),
        digest bytea NOT NULL CONSTRAINT bank_statement_digest_check CHECK (octet_length(digest) = 32),
        document bytea NOT NULL,
        issued_at timestamptz NOT NULL,
        PRIMARY KEY (bank_id, day),
        CONSTRAINT bank_statement_sequence_key UNIQUE (bank_id, sequence)
    );

    CREATE TABLE service.bank_file (
        bank_id integer NOT NULL,
        day date NOT NULL,
        number integer NOT NULL CONSTRAINT bank_file_number_check CHECK (number > 0),
        digest bytea NOT NULL CONSTRAINT bank_file_digest_check CHECK (octet_length(digest) = 32),
        statement_digest bytea NOT NULL
            CONSTRAINT bank_file_statement_digest_check CHECK (octet_length(statement_digest) = 32),
        lines integer NOT NULL CONSTRAINT bank_file_lines_check CHECK (lines >= 0),
        differing integer NOT NULL CONSTRAINT bank_file_differing_check CHECK (differing >= 0),
        differences bytea NOT NULL,
        call_id uuid NOT NULL,
        received_at timestamptz NOT NULL,
        PRIMARY KEY (bank_id, day, number)
    );

    CREATE TABLE service.day_closing (
        bank_id integer NOT NULL,
        day date NOT NULL,
        side text NOT NULL CONSTRAINT day_closing_side_check CHECK (side IN ('bank', 'platform')),
        number integer NOT NULL CONSTRAINT day_closing_number_check CHECK (number > 0),
        authority text NOT NULL
            CONSTRAINT day_closing_authority_check CHECK (authority IN ('bank', 'operator', 'rule')),
        statement_digest bytea NOT NULL
            CONSTRAINT day_closing_statement_digest_check CHECK (octet_length(statement_digest) = 32),
        file_digest bytea CONSTRAINT day_closing_file_digest_check CHECK (octet_length(file_digest) = 32),
        call_id uuid,
        closed_at timestamptz NOT NULL,
        PRIMARY KEY (bank_id, day, side, number),
        CONSTRAINT day_closing_call_check CHECK ((side = 'bank') = (call_id IS NOT NULL)),
        CONSTRAINT day_closing_whose_check CHECK ((side = 'bank') = (authority = 'bank'))
    );
"""

_DISPUTES = """
    CREATE TABLE service.dispute (
        participant_id uuid NOT NULL,
        dispute_id uuid NOT NULL,
        redemption_id uuid NOT NULL,
        bank_id integer NOT NULL,
        reason text NOT NULL CONSTRAINT dispute_reason_check
            CHECK (reason IN ('benefit_missing', 'benefit_smaller', 'not_requested', 'charged_twice')),
        state text NOT NULL CONSTRAINT dispute_state_check CHECK (state IN
            ('opened', 'answered', 'overdue', 'resolved_for_participant', 'resolved_for_bank', 'withdrawn')),
        opened_at timestamptz NOT NULL,
        answer_by date NOT NULL,
        decide_by date NOT NULL CONSTRAINT dispute_decide_by_check CHECK (decide_by >= answer_by),
        PRIMARY KEY (participant_id, dispute_id)
    );
    CREATE UNIQUE INDEX dispute_redemption_key ON service.dispute (participant_id, redemption_id)
        WHERE state <> 'withdrawn';
    CREATE INDEX dispute_bank_index ON service.dispute (bank_id, opened_at);

    CREATE TABLE service.dispute_step (
        participant_id uuid NOT NULL,
        dispute_id uuid NOT NULL,
        number smallint NOT NULL CONSTRAINT dispute_step_number_check CHECK (number > 0),
        step text NOT NULL,
        state text NOT NULL,
        party text NOT NULL
            CONSTRAINT dispute_step_party_check CHECK (party IN ('participant', 'bank', 'operator', 'rule')),
        position text CONSTRAINT dispute_step_position_check CHECK (position IN ('accepts', 'rejects')),
        call_id uuid,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, dispute_id, number),
        CONSTRAINT dispute_step_call_check CHECK ((party = 'bank') = (call_id IS NOT NULL))
    );

    -- It is somebody's own words, so it can be erased.
    CREATE TABLE service.dispute_text (
        participant_id uuid NOT NULL,
        dispute_id uuid NOT NULL,
        number smallint NOT NULL,
        words text NOT NULL,
        PRIMARY KEY (participant_id, dispute_id, number)
    );
"""

_APPEND_ONLY = ("service.bank_statement", "service.bank_file", "service.day_closing", "service.dispute_step")

# The worker issues statements, so it reads what they are made of.
_GRANTS = """
    GRANT SELECT, INSERT ON service.bank_statement TO tanpuhui_sequencer;
    GRANT SELECT ON service.redemption, service.redemption_entry, service.fulfilment TO tanpuhui_sequencer;
    GRANT SELECT ON service.bank_statement TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.bank_file, service.day_closing, service.dispute, service.dispute_step,
        service.dispute_text TO tanpuhui_app;
    GRANT UPDATE (state, decide_by) ON service.dispute TO tanpuhui_app;
    GRANT SELECT ON service.bank_statement, service.bank_file, service.day_closing, service.dispute,
        service.dispute_step TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_DAYS)
    op.execute(_DISPUTES)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
