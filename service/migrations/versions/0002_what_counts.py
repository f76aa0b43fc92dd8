"""What counts, for whom, and only once: claims, overlaps, caps, provisional credits, licences, registers, approvals.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LEDGER = """
    -- NOT VALID: every new row is checked, and the journal is not read through under a lock that nobody passes. What is
    -- there obeys: its kinds were checked more narrowly, and none of it matures anything.
    ALTER TABLE ledger.transfer ADD COLUMN matures uuid;
    ALTER TABLE ledger.transfer DROP CONSTRAINT transfer_kind_check;
    ALTER TABLE ledger.transfer ADD CONSTRAINT transfer_kind_check
        CHECK (kind IN ('credit', 'reversal', 'lapse', 'maturity')) NOT VALID;
    ALTER TABLE ledger.transfer ADD CONSTRAINT transfer_matures_check
        CHECK ((kind = 'maturity') = (matures IS NOT NULL)) NOT VALID;

    -- A pending credit matures once, as a transfer is reversed once.
    CREATE TABLE ledger.matured (
        participant_id uuid NOT NULL,
        transfer_id uuid NOT NULL,
        maturity_id uuid NOT NULL,
        PRIMARY KEY (participant_id, transfer_id)
    );

    -- A rule's or a manifest's leaf belongs to no participant and posts no transfer.
    ALTER TABLE ledger.leaf_queue ALTER COLUMN participant_id DROP NOT NULL;
    ALTER TABLE ledger.leaf_queue ALTER COLUMN transfer_id DROP NOT NULL;
    ALTER TABLE ledger.leaf_queue ADD CONSTRAINT leaf_queue_transfer_check
        CHECK ((participant_id IS NULL) = (transfer_id IS NULL));
    -- Not looked for in the rows there are: the queue, which they came through, had both columns NOT NULL.
    ALTER TABLE ledger.leaf ADD CONSTRAINT leaf_transfer_check
        CHECK ((participant_id IS NULL) = (transfer_id IS NULL)) NOT VALID;
"""

# Keyed by themselves, across participants; a participant's own tables carry its id first in every key.
_COUNTED_ONCE = """
    CREATE TABLE service.claim (
        tag bytea PRIMARY KEY CONSTRAINT claim_tag_check CHECK (octet_length(tag) = 32),
        key_version smallint NOT NULL,
        participant_id uuid NOT NULL,
        activity_id uuid NOT NULL
    );
    CREATE INDEX claim_activity_index ON service.claim (activity_id);

    -- One row for each thing whose spans are looked at: the lock under which they are.
    CREATE TABLE service.claim_subject (
        tag bytea PRIMARY KEY CONSTRAINT claim_subject_tag_check CHECK (octet_length(tag) = 32),
        key_version smallint NOT NULL
    );

    CREATE TABLE service.claim_span (
        subject_tag bytea NOT NULL CONSTRAINT claim_span_subject_tag_check CHECK (octet_length(subject_tag) = 32),
        started_at timestamptz NOT NULL,
        ended_at timestamptz NOT NULL CONSTRAINT claim_span_ended_at_check CHECK (ended_at >= started_at),
        use text,
        participant_id uuid NOT NULL,
        activity_id uuid NOT NULL,
        PRIMARY KEY (subject_tag, started_at, activity_id)
    );
    CREATE INDEX claim_span_activity_index ON service.claim_span (activity_id);

    -- What a meter showed over a month, as HMAC, for each credit that rests on it: while one stands, nobody tells it
    -- otherwise.
    CREATE TABLE service.reading_total (
        tag bytea NOT NULL CONSTRAINT reading_total_tag_check CHECK (octet_length(tag) = 32),
        key_version smallint NOT NULL,
        fingerprint bytea NOT NULL CONSTRAINT reading_total_fingerprint_check CHECK (octet_length(fingerprint) = 32),
        participant_id uuid NOT NULL,
        activity_id uuid NOT NULL,
        PRIMARY KEY (tag, activity_id)
    );
    CREATE INDEX reading_total_activity_index ON service.reading_total (activity_id);

    CREATE TABLE service.presence (
        participant_id uuid NOT NULL,
        exclusive_group text NOT NULL,
        started_at timestamptz NOT NULL,
        ended_at timestamptz NOT NULL
            CONSTRAINT presence_ended_at_check
            CHECK (ended_at >= started_at AND ended_at <= started_at + interval '48 hours'),
        activity_id uuid NOT NULL,
        PRIMARY KEY (participant_id, exclusive_group, started_at, activity_id)
    );

    CREATE TABLE service.tally (
        participant_id uuid NOT NULL,
        cap text NOT NULL,
        window_start date NOT NULL,
        used bigint NOT NULL CONSTRAINT tally_used_check CHECK (used >= 0),
        PRIMARY KEY (participant_id, cap, window_start)
    ) WITH (fillfactor = 70);

    CREATE TABLE service.campaign_slot (
        points_rule text NOT NULL,
        campaign text NOT NULL,
        slot smallint NOT NULL CONSTRAINT campaign_slot_slot_check CHECK (slot BETWEEN 0 AND 15),
        budget_points bigint NOT NULL CONSTRAINT campaign_slot_budget_points_check CHECK (budget_points >= 0),
        left_points bigint NOT NULL CONSTRAINT campaign_slot_left_points_check CHECK (left_points >= 0),
        PRIMARY KEY (points_rule, campaign, slot)
    ) WITH (fillfactor = 50);

    CREATE TABLE service.keyring_check (
        key_version smallint PRIMARY KEY,
        check_value bytea NOT NULL CONSTRAINT keyring_check_check_value_check CHECK (octet_length(check_value) = 32)
    );

    CREATE TABLE service.provisional (
        participant_id uuid NOT NULL,
        activity_id uuid NOT NULL,
        source_id integer NOT NULL,
        scenario text NOT NULL,
        day date NOT NULL,
        awaits text NOT NULL
            CONSTRAINT provisional_awaits_check CHECK (awaits IN ('settlement', 'match', 'registration')),
        due_on date,
        PRIMARY KEY (participant_id, activity_id)
    );
    CREATE INDEX provisional_source_index ON service.provisional (source_id, scenario, day);

    CREATE TABLE service.settlement (
        participant_id uuid NOT NULL,
        activity_id uuid NOT NULL,
        settled_by uuid NOT NULL,
        outcome text NOT NULL CONSTRAINT settlement_outcome_check CHECK (outcome IN ('matured', 'withdrawn')),
        recorded_at timestamptz NOT NULL,
        salt bytea CONSTRAINT settlement_salt_check CHECK (octet_length(salt) = 32),
        facts bytea,
        PRIMARY KEY (participant_id, activity_id)
    );
"""

_WHO = r"""
    -- What was ended stays ended, and does not end later than was said: what counted then can be looked up for ever.
    CREATE FUNCTION service.set_once() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '% on %.% refused: what was ended stays ended, register it anew', TG_OP, TG_TABLE_SCHEMA,
        TG_TABLE_NAME; END $$;

    CREATE TABLE service.licence (
        source_id integer NOT NULL,
        scenario text NOT NULL CONSTRAINT licence_scenario_check CHECK (scenario ~ '^[a-z][a-z0-9_-]{0,63}$'),
        valid_from date NOT NULL,
        valid_to date CONSTRAINT licence_valid_to_check CHECK (valid_to >= valid_from),
        granted_at timestamptz NOT NULL,
        superseded_at timestamptz,
        PRIMARY KEY (source_id, scenario, valid_from, granted_at)
    );
    INSERT INTO service.licence (source_id, scenario, valid_from, valid_to, granted_at)
        SELECT DISTINCT source_id, scenario, valid_from, valid_to, registered_at
        FROM service.source, unnest(scenarios) AS scenario;
    CREATE TRIGGER set_once BEFORE UPDATE ON service.licence FOR EACH ROW
        WHEN (OLD.superseded_at IS NOT NULL AND NEW.superseded_at IS DISTINCT FROM OLD.superseded_at)
        EXECUTE FUNCTION service.set_once();
    ALTER TABLE service.source DROP COLUMN scenarios, DROP COLUMN valid_from, DROP COLUMN valid_to;

    CREATE TABLE service.source_key (
        source_id integer NOT NULL,
        key_id text NOT NULL,
        public_key text NOT NULL,
        valid_from timestamptz NOT NULL,
        valid_to timestamptz CONSTRAINT source_key_valid_to_check CHECK (valid_to > valid_from),
        registered_at timestamptz NOT NULL,
        PRIMARY KEY (source_id, key_id)
    );
    CREATE TRIGGER set_once BEFORE UPDATE ON service.source_key FOR EACH ROW
        WHEN (OLD.valid_to IS NOT NULL AND (NEW.valid_to IS NULL OR NEW.valid_to > OLD.valid_to))
        EXECUTE FUNCTION service.set_once();

    CREATE TABLE service.organisation (
        code_tag bytea PRIMARY KEY CONSTRAINT organisation_code_tag_check CHECK (octet_length(code_tag) = 32),
        key_version smallint NOT NULL,
        participant_id uuid NOT NULL,
        recorded_at timestamptz NOT NULL
    );
    CREATE INDEX organisation_participant_index ON service.organisation (participant_id);

    CREATE TABLE service.mandate (
        participant_id uuid NOT NULL,
        text_version text NOT NULL,
        given_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        withdrawn_at timestamptz,
        PRIMARY KEY (participant_id, text_version, given_at)
    );

    CREATE TABLE service.register_entry (
        entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        register text NOT NULL CONSTRAINT register_entry_register_check CHECK (register IN ('coverage', 'elsewhere')),
        subject_tag bytea NOT NULL CONSTRAINT register_entry_subject_tag_check CHECK (octet_length(subject_tag) = 32),
        key_version smallint NOT NULL,
        scheme text NOT NULL,
        valid_from date NOT NULL,
        valid_to date CONSTRAINT register_entry_valid_to_check CHECK (valid_to >= valid_from),
        source text NOT NULL,
        imported_at timestamptz NOT NULL,
        withdrawn_at timestamptz
    );
    CREATE INDEX register_entry_subject_index ON service.register_entry (register, subject_tag);
    CREATE TRIGGER set_once BEFORE UPDATE ON service.register_entry FOR EACH ROW
        WHEN (OLD.withdrawn_at IS NOT NULL AND NEW.withdrawn_at IS DISTINCT FROM OLD.withdrawn_at)
        EXECUTE FUNCTION service.set_once();

    CREATE TABLE service.waiver (
        participant_id uuid NOT NULL,
        installation_tag bytea NOT NULL
            CONSTRAINT waiver_installation_tag_check CHECK (octet_length(installation_tag) = 32),
        key_version smallint NOT NULL,
        text_version text NOT NULL,
        given_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, installation_tag)
    );

    -- The key names the signature too: no row that does not verify stands in the place of one that does.
    CREATE TABLE service.approval (
        programme text NOT NULL,
        digest bytea NOT NULL CONSTRAINT approval_digest_check CHECK (octet_length(digest) = 32),
        role text NOT NULL CONSTRAINT approval_role_check CHECK (role IN ('competent_authority', 'technical_body')),
        key_id text NOT NULL,
        signature bytea NOT NULL CONSTRAINT approval_signature_check CHECK (octet_length(signature) = 64),
        approver text NOT NULL,
        signed_on date NOT NULL,
        completes boolean NOT NULL,
        approved_at timestamptz NOT NULL,
        PRIMARY KEY (programme, digest, role, key_id, signature)
    );

    CREATE TABLE service.manifest (
        source_id integer NOT NULL,
        day date NOT NULL,
        sequence integer NOT NULL CONSTRAINT manifest_sequence_check CHECK (sequence > 0),
        digest bytea NOT NULL CONSTRAINT manifest_digest_check CHECK (octet_length(digest) = 32),
        received bytea NOT NULL,
        key_id text NOT NULL,
        key bytea NOT NULL CONSTRAINT manifest_key_check CHECK (octet_length(key) = 32),
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (source_id, day, sequence)
    );

    -- It may list events by the source's own ids, so it can be erased.
    CREATE TABLE service.manifest_text (
        source_id integer NOT NULL,
        day date NOT NULL,
        sequence integer NOT NULL,
        jws text NOT NULL,
        PRIMARY KEY (source_id, day, sequence)
    );
"""

_APPEND_ONLY = ("ledger.matured", "service.keyring_check", "service.waiver", "service.approval", "service.manifest")

# What a refused item took is given back, a reversed credit's too: these rows are locks, the leaves are the record.
_GRANTS = """
    GRANT SELECT, INSERT ON ledger.matured TO tanpuhui_app;
    GRANT SELECT ON ledger.matured TO tanpuhui_auditor;
    GRANT SELECT, INSERT ON service.keyring_check TO tanpuhui_app;
    GRANT USAGE ON SCHEMA service TO tanpuhui_sequencer;  -- of which it may read one table
    GRANT SELECT ON service.keyring_check TO tanpuhui_sequencer, tanpuhui_auditor;
    GRANT SELECT, INSERT, DELETE ON service.claim, service.claim_span, service.presence, service.reading_total
        TO tanpuhui_app;
    GRANT UPDATE (participant_id, activity_id) ON service.claim TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.claim_subject TO tanpuhui_app;
    GRANT UPDATE (key_version) ON service.claim_subject TO tanpuhui_app;  -- what a row lock asks for
    GRANT SELECT, INSERT ON service.tally TO tanpuhui_app;
    GRANT UPDATE (used) ON service.tally TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.campaign_slot TO tanpuhui_app;
    GRANT UPDATE (left_points, budget_points) ON service.campaign_slot TO tanpuhui_app;
    GRANT SELECT ON service.campaign_slot TO tanpuhui_auditor;
    GRANT SELECT, INSERT, DELETE ON service.provisional TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.settlement, service.waiver, service.approval, service.manifest,
        service.manifest_text TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.licence, service.source_key, service.organisation, service.mandate,
        service.register_entry TO tanpuhui_app;
    GRANT UPDATE (superseded_at) ON service.licence TO tanpuhui_app;
    GRANT UPDATE (valid_to) ON service.source_key TO tanpuhui_app;
    GRANT UPDATE (withdrawn_at) ON service.register_entry TO tanpuhui_app;
    GRANT SELECT ON service.licence, service.source_key, service.register_entry, service.approval, service.manifest,
        service.manifest_text, service.settlement, service.provisional TO tanpuhui_auditor;
    GRANT SELECT ON service.event_key, service.claim, service.claim_span, service.presence, service.reading_total,
        service.tally TO tanpuhui_auditor;  -- keyed tags, to be compared with those of the leaves
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_LEDGER)
    op.execute(_COUNTED_ONCE)
    op.execute(_WHO)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
