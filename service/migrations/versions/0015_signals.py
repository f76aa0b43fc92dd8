"""Signals of abuse, and the reviews that they open.

Revision ID: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_SIGNALS = """
    CREATE TABLE service.signal (
        participant_id uuid NOT NULL,
        signal_id uuid NOT NULL,
        rule text NOT NULL,
        version integer NOT NULL,
        digest bytea NOT NULL CONSTRAINT signal_digest_check CHECK (octet_length(digest) = 32),
        strength text NOT NULL CONSTRAINT signal_strength_check CHECK (strength IN ('strong', 'weak')),
        about text NOT NULL,
        review_id uuid,
        found_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, signal_id),
        CONSTRAINT signal_about_key UNIQUE (participant_id, rule, version, about)
    );
    CREATE INDEX signal_found_index ON service.signal (found_at);

    -- The figures that were found tell of somebody's days, so they can be erased.
    CREATE TABLE service.signal_values (
        participant_id uuid NOT NULL,
        signal_id uuid NOT NULL,
        document bytea NOT NULL,
        PRIMARY KEY (participant_id, signal_id)
    );

    -- What a source reported on a day of recording, for its own later days to be held against.
    CREATE TABLE service.source_day (
        source_id integer NOT NULL,
        day date NOT NULL,
        credited bigint NOT NULL CONSTRAINT source_day_credited_check CHECK (credited >= 0),
        refused bigint NOT NULL CONSTRAINT source_day_refused_check CHECK (refused >= 0),
        mg bigint NOT NULL CONSTRAINT source_day_mg_check CHECK (mg >= 0),
        usual_acts bigint NOT NULL CONSTRAINT source_day_usual_acts_check CHECK (usual_acts >= 0),
        hours bigint[] NOT NULL CONSTRAINT source_day_hours_check CHECK (cardinality(hours) = 24),
        PRIMARY KEY (source_id, day)
    );

    CREATE TABLE service.source_signal (
        source_id integer NOT NULL,
        rule text NOT NULL,
        version integer NOT NULL,
        day date NOT NULL,
        digest bytea NOT NULL CONSTRAINT source_signal_digest_check CHECK (octet_length(digest) = 32),
        strength text NOT NULL CONSTRAINT source_signal_strength_check CHECK (strength IN ('strong', 'weak')),
        document bytea NOT NULL,
        found_at timestamptz NOT NULL,
        PRIMARY KEY (source_id, rule, version, day)
    );

    -- How far the log was looked at, and the last day that was.
    CREATE TABLE service.signal_head (
        "only" boolean PRIMARY KEY DEFAULT true CONSTRAINT signal_head_only_check CHECK ("only"),
        looked_to bigint NOT NULL CONSTRAINT signal_head_looked_to_check CHECK (looked_to >= 0),
        day date
    );
    INSERT INTO service.signal_head (looked_to) VALUES (0);
"""

_REVIEWS = """
    CREATE TABLE service.review (
        participant_id uuid NOT NULL,
        review_id uuid NOT NULL,
        state text NOT NULL CONSTRAINT review_state_check
            CHECK (state IN ('open', 'released', 'confirmed', 'lapsed')),
        opened_at timestamptz NOT NULL,
        due_at timestamptz NOT NULL CONSTRAINT review_due_at_check CHECK (due_at > opened_at),
        ended_at timestamptz,
        PRIMARY KEY (participant_id, review_id),
        CONSTRAINT review_ended_at_check CHECK ((state = 'open') = (ended_at IS NULL))
    );
    CREATE UNIQUE INDEX review_open_key ON service.review (participant_id) WHERE state = 'open';
    CREATE INDEX review_due_index ON service.review (due_at) WHERE state = 'open';
    CREATE INDEX review_id_index ON service.review (review_id);

    -- The credits that a review is about: so many points cannot be spent while it is open.
    CREATE TABLE service.review_credit (
        participant_id uuid NOT NULL,
        review_id uuid NOT NULL,
        activity_id uuid NOT NULL,
        points bigint NOT NULL CONSTRAINT review_credit_points_check CHECK (points >= 0),
        added_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, review_id, activity_id)
    );

    CREATE TABLE service.review_step (
        participant_id uuid NOT NULL,
        review_id uuid NOT NULL,
        number smallint NOT NULL CONSTRAINT review_step_number_check CHECK (number > 0),
        step text NOT NULL CONSTRAINT review_step_step_check
            CHECK (step IN ('open', 'join', 'answer', 'release', 'confirm', 'lapse')),
        party text NOT NULL CONSTRAINT review_step_party_check CHECK (party IN ('rule', 'participant', 'operator')),
        operator text CONSTRAINT review_step_operator_check CHECK ((party = 'operator') = (operator IS NOT NULL)),
        reason text,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, review_id, number),
        CONSTRAINT review_step_reason_check
            CHECK ((step IN ('release', 'confirm')) = (reason IS NOT NULL))
    );

    -- It is somebody's own words, sealed under the participant's data key, so it can be erased.
    CREATE TABLE service.review_text (
        participant_id uuid NOT NULL,
        review_id uuid NOT NULL,
        number smallint NOT NULL,
        sealed bytea NOT NULL,
        PRIMARY KEY (participant_id, review_id, number)
    );
"""

# What was decided stays decided; another finding opens another review.
_ONWARD = """
    CREATE TRIGGER set_once BEFORE UPDATE ON service.review FOR EACH ROW
        WHEN (OLD.state <> 'open') EXECUTE FUNCTION service.set_once();
"""

_APPEND_ONLY = (
    "service.signal",
    "service.source_day",
    "service.source_signal",
    "service.review_credit",
    "service.review_step",
)

# What a participant reads of these shows itself to nobody else.
_OWN = ("signal", "signal_values", "review", "review_credit", "review_step", "review_text")

# The worker looks for signals, so it reads what they are found in: times, amounts and tags, and no evidence.
_GRANTS = """
    GRANT SELECT (participant_id, activity_id, source_id, scenario, day, outcome, reason)
        ON service.activity TO tanpuhui_sequencer;
    GRANT SELECT (participant_id, activity_id, started_at, ended_at) ON service.presence TO tanpuhui_sequencer;
    GRANT SELECT (subject_tag, activity_id, started_at, ended_at) ON service.claim_span TO tanpuhui_sequencer;
    GRANT SELECT (participant_id, enrolled_at) ON service.participant TO tanpuhui_sequencer;
    GRANT SELECT (source_id, participant_id) ON service.link TO tanpuhui_sequencer;
    GRANT SELECT (source_id, uri) ON service.source TO tanpuhui_sequencer;
    GRANT SELECT ON ledger.reversed TO tanpuhui_sequencer;
    GRANT SELECT, INSERT ON service.signal, service.signal_values, service.source_day, service.source_signal,
        service.review, service.review_credit, service.review_step TO tanpuhui_sequencer;
    GRANT UPDATE (state, ended_at) ON service.review TO tanpuhui_sequencer;
    GRANT SELECT, UPDATE ON service.signal_head TO tanpuhui_sequencer;

    GRANT SELECT ON service.signal, service.signal_values, service.source_day, service.source_signal,
        service.signal_head, service.review, service.review_credit TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.review_step, service.review_text TO tanpuhui_app;
    GRANT UPDATE (state, ended_at) ON service.review TO tanpuhui_app;
    GRANT DELETE ON service.signal_values, service.review_text TO tanpuhui_app;  -- an erasure
    GRANT SELECT ON service.signal, service.source_day, service.source_signal, service.signal_head, service.review,
        service.review_credit, service.review_step TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_SIGNALS)
    op.execute(_REVIEWS)
    op.execute(_ONWARD)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    for name in _OWN:
        op.execute(f"""
            ALTER TABLE service.{name} ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own_rows ON service.{name} FOR SELECT TO tanpuhui_self USING (participant_id = ANY (
                (SELECT nullif(current_setting('tanpuhui.participants', true), '')::uuid[])::uuid[]
            ));
            GRANT SELECT ON service.{name} TO tanpuhui_self
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
