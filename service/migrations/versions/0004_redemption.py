"""Holds, captures, releases and refunds, and the pools that pay for them.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# NOT VALID: every new row is checked, and the journal is not read through under a lock that nobody passes. What is
# there was checked more narrowly.
_LEDGER = """
    ALTER TABLE ledger.transfer ADD COLUMN hold_id uuid;
    ALTER TABLE ledger.transfer DROP CONSTRAINT transfer_kind_check;
    ALTER TABLE ledger.transfer ADD CONSTRAINT transfer_kind_check CHECK (kind IN
        ('credit', 'reversal', 'lapse', 'maturity', 'hold', 'capture', 'release', 'refund')) NOT VALID;
    ALTER TABLE ledger.transfer DROP CONSTRAINT transfer_reverses_check;
    ALTER TABLE ledger.transfer ADD CONSTRAINT transfer_reverses_check
        CHECK ((kind IN ('reversal', 'refund')) = (reverses IS NOT NULL)) NOT VALID;
    ALTER TABLE ledger.transfer DROP CONSTRAINT transfer_reason_check;
    ALTER TABLE ledger.transfer ADD CONSTRAINT transfer_reason_check
        CHECK ((kind IN ('reversal', 'refund', 'release')) = (reason IS NOT NULL)) NOT VALID;
    ALTER TABLE ledger.transfer ADD CONSTRAINT transfer_hold_id_check
        CHECK ((kind IN ('capture', 'release')) = (hold_id IS NOT NULL)) NOT VALID;

    ALTER TABLE ledger.movement DROP CONSTRAINT movement_accounts_check;
    ALTER TABLE ledger.movement ADD CONSTRAINT movement_accounts_check CHECK (
        from_account <> to_account
        AND from_account IN ('available', 'pending', 'held', 'debt', 'issuance', 'lapsed', 'retired', 'clearing',
            'partner', 'redeemed')
        AND to_account IN ('available', 'pending', 'held', 'debt', 'issuance', 'lapsed', 'retired', 'clearing',
            'partner', 'redeemed')
    ) NOT VALID;

    -- What of a hold is neither captured nor released; its lines are its transfer's.
    CREATE TABLE ledger.hold (
        participant_id uuid NOT NULL,
        hold_id uuid NOT NULL,
        expires_at timestamptz NOT NULL,
        points_left bigint NOT NULL CONSTRAINT hold_points_left_check CHECK (points_left >= 0),
        co2e_left bigint NOT NULL CONSTRAINT hold_co2e_left_check CHECK (co2e_left >= 0),
        PRIMARY KEY (participant_id, hold_id)
    ) WITH (fillfactor = 70);
    CREATE INDEX hold_open_index ON ledger.hold (expires_at) WHERE points_left > 0;
"""

_SERVICE = """
    CREATE TABLE service.pool (
        pool text PRIMARY KEY,
        programme text NOT NULL,
        funder text NOT NULL,
        title_zh text NOT NULL,
        title_en text NOT NULL,
        rate_fen bigint NOT NULL CONSTRAINT pool_rate_fen_check CHECK (rate_fen >= 0),
        rate_points bigint NOT NULL CONSTRAINT pool_rate_points_check CHECK (rate_points > 0),
        shortage text NOT NULL CONSTRAINT pool_shortage_check CHECK (shortage IN ('stop', 'queue', 'pro_rata')),
        points_per_day bigint CONSTRAINT pool_points_per_day_check CHECK (points_per_day > 0),
        points_per_person_per_day bigint
            CONSTRAINT pool_points_per_person_per_day_check CHECK (points_per_person_per_day > 0),
        state text NOT NULL CONSTRAINT pool_state_check CHECK (state IN ('open', 'suspended', 'closed')),
        terms bytea NOT NULL CONSTRAINT pool_terms_check CHECK (octet_length(terms) = 32),
        document bytea NOT NULL,
        opened_at timestamptz NOT NULL
    );

    -- Every change of a budget: what was paid in, what was taken back.
    CREATE TABLE service.pool_change (
        pool text NOT NULL,
        number integer NOT NULL CONSTRAINT pool_change_number_check CHECK (number > 0),
        action text NOT NULL CONSTRAINT pool_change_action_check
            CHECK (action IN ('opened', 'raised', 'lowered', 'suspended', 'resumed', 'closed')),
        points bigint NOT NULL CONSTRAINT pool_change_points_check CHECK (points >= 0),
        value_fen bigint NOT NULL CONSTRAINT pool_change_value_fen_check CHECK (value_fen >= 0),
        changed_by text NOT NULL,
        reason text,
        call_key text,
        changed_at timestamptz NOT NULL,
        PRIMARY KEY (pool, number),
        CONSTRAINT pool_change_call_key UNIQUE (pool, call_key),
        CONSTRAINT pool_change_reason_check CHECK ((action IN ('suspended', 'closed')) = (reason IS NOT NULL))
    );

    -- A part of what is left of a budget (day: -infinity) or of a day's limit, so that no row is hot.
    CREATE TABLE service.pool_slot (
        pool text NOT NULL,
        day date NOT NULL,
        slot smallint NOT NULL,
        points_left bigint NOT NULL CONSTRAINT pool_slot_points_left_check CHECK (points_left >= 0),
        fen_left bigint NOT NULL CONSTRAINT pool_slot_fen_left_check CHECK (fen_left >= 0),
        PRIMARY KEY (pool, day, slot)
    ) WITH (fillfactor = 70);

    CREATE TABLE service.redemption (
        participant_id uuid NOT NULL,
        redemption_id uuid NOT NULL,
        bank_id integer NOT NULL,
        bank text NOT NULL,
        offer text NOT NULL,
        offer_version integer NOT NULL,
        offer_digest bytea NOT NULL CONSTRAINT redemption_offer_digest_check CHECK (octet_length(offer_digest) = 32),
        pool text NOT NULL,
        units bigint NOT NULL CONSTRAINT redemption_units_check CHECK (units > 0),
        points bigint NOT NULL CONSTRAINT redemption_points_check CHECK (points > 0),
        value_fen bigint NOT NULL CONSTRAINT redemption_value_fen_check CHECK (value_fen >= 0),
        co2e_mg bigint NOT NULL CONSTRAINT redemption_co2e_mg_check CHECK (co2e_mg >= 0),
        units_left bigint NOT NULL CONSTRAINT redemption_units_left_check CHECK (units_left >= 0),
        units_captured bigint NOT NULL CONSTRAINT redemption_units_captured_check CHECK (units_captured >= 0),
        units_refunded bigint NOT NULL CONSTRAINT redemption_units_refunded_check
            CHECK (units_refunded BETWEEN 0 AND units_captured),
        state text NOT NULL CONSTRAINT redemption_state_check
            CHECK (state IN ('held', 'captured', 'voided', 'cancelled', 'lapsed', 'withdrawn', 'refunded')),
        started_by text NOT NULL CONSTRAINT redemption_started_by_check CHECK (started_by IN ('participant', 'bank')),
        request_id uuid,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        accepted_at timestamptz,
        ended_at timestamptz,
        accepted_call uuid,
        PRIMARY KEY (participant_id, redemption_id),
        CONSTRAINT redemption_share_check
            CHECK (points % units = 0 AND value_fen % units = 0 AND co2e_mg % units = 0),
        CONSTRAINT redemption_left_check CHECK (units_left + units_captured <= units),
        CONSTRAINT redemption_ended_at_check CHECK ((state = 'held') = (ended_at IS NULL))
    ) WITH (fillfactor = 70);

    -- Whose a redemption is, for the bank that knows its id alone. What a bank asked for is approved once.
    CREATE TABLE service.redemption_key (
        redemption_id uuid PRIMARY KEY,
        participant_id uuid NOT NULL,
        bank_id integer NOT NULL,
        request_id uuid
    );
    CREATE UNIQUE INDEX redemption_key_request_key ON service.redemption_key (request_id)
        WHERE request_id IS NOT NULL;
    CREATE INDEX redemption_key_bank_index ON service.redemption_key (bank_id, redemption_id);

    -- What the participant was shown and agreed to, and the salt of its commitment in the log: erasable.
    CREATE TABLE service.redemption_terms (
        participant_id uuid NOT NULL,
        redemption_id uuid NOT NULL,
        salt bytea NOT NULL CONSTRAINT redemption_terms_salt_check CHECK (octet_length(salt) = 32),
        document bytea NOT NULL,
        PRIMARY KEY (participant_id, redemption_id)
    );

    -- Each step as a bank's day counts it; its points and grams are its transfer's, of the same id.
    CREATE TABLE service.redemption_entry (
        participant_id uuid NOT NULL,
        transfer_id uuid NOT NULL,
        redemption_id uuid NOT NULL,
        bank_id integer NOT NULL,
        kind text NOT NULL
            CONSTRAINT redemption_entry_kind_check CHECK (kind IN ('hold', 'capture', 'release', 'refund')),
        reason text,
        units bigint NOT NULL CONSTRAINT redemption_entry_units_check CHECK (units > 0),
        points bigint NOT NULL CONSTRAINT redemption_entry_points_check CHECK (points > 0),
        value_fen bigint NOT NULL CONSTRAINT redemption_entry_value_fen_check CHECK (value_fen >= 0),
        co2e_mg bigint NOT NULL CONSTRAINT redemption_entry_co2e_mg_check CHECK (co2e_mg >= 0),
        day date NOT NULL,
        recorded_at timestamptz NOT NULL,
        call_id uuid,
        PRIMARY KEY (participant_id, transfer_id)
    );
    CREATE INDEX redemption_entry_bank_day_index ON service.redemption_entry (bank_id, day);
    CREATE INDEX redemption_entry_redemption_index ON service.redemption_entry (participant_id, redemption_id);

    -- The bank's own reference, and when the benefit reached the customer: its word, which may be said again.
    CREATE TABLE service.fulfilment (
        participant_id uuid NOT NULL,
        redemption_id uuid NOT NULL,
        number integer NOT NULL CONSTRAINT fulfilment_number_check CHECK (number > 0),
        reference text NOT NULL,
        fulfilled_on date NOT NULL,
        call_id uuid NOT NULL,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, redemption_id, number)
    );

    -- Who waits for a pool that is short, in the order of their ids, with what they agreed to.
    CREATE TABLE service.redemption_wish (
        participant_id uuid NOT NULL,
        wish_id uuid NOT NULL,
        pool text NOT NULL,
        offer text NOT NULL,
        offer_version integer NOT NULL,
        units bigint NOT NULL CONSTRAINT redemption_wish_units_check CHECK (units > 0),
        points bigint NOT NULL CONSTRAINT redemption_wish_points_check CHECK (points > 0),
        text_version text NOT NULL,
        given_at timestamptz NOT NULL,
        state text NOT NULL CONSTRAINT redemption_wish_state_check
            CHECK (state IN ('waiting', 'placed', 'refused', 'left', 'expired')),
        reason text,
        redemption_id uuid,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        ended_at timestamptz,
        PRIMARY KEY (participant_id, wish_id),
        CONSTRAINT redemption_wish_ended_at_check CHECK ((state = 'waiting') = (ended_at IS NULL)),
        CONSTRAINT redemption_wish_redemption_id_check CHECK ((state = 'placed') = (redemption_id IS NOT NULL))
    );
    CREATE INDEX redemption_wish_waiting_index ON service.redemption_wish (pool, wish_id) WHERE state = 'waiting';
    CREATE UNIQUE INDEX redemption_wish_one_key ON service.redemption_wish (participant_id, pool)
        WHERE state = 'waiting';

    -- What a call about money was answered, under the caller's own key for it.
    CREATE TABLE service.money_call (
        client text NOT NULL,
        key text NOT NULL,
        fingerprint bytea NOT NULL CONSTRAINT money_call_fingerprint_check CHECK (octet_length(fingerprint) = 32),
        participant_id uuid NOT NULL,
        redemption_id uuid NOT NULL,
        transfer_id uuid NOT NULL,
        refusal bytea,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (client, key)
    );
"""

# What was answered, accepted or used up stays so, whoever asks: the columns may be written once, or in one direction.
_ONWARD = """
    CREATE TRIGGER set_once BEFORE UPDATE ON service.money_call FOR EACH ROW
        WHEN (OLD.refusal IS NOT NULL AND NEW.refusal IS DISTINCT FROM OLD.refusal)
        EXECUTE FUNCTION service.set_once();
    CREATE TRIGGER set_once BEFORE UPDATE ON ledger.hold FOR EACH ROW
        WHEN (NEW.points_left > OLD.points_left OR NEW.co2e_left > OLD.co2e_left)
        EXECUTE FUNCTION service.set_once();
    CREATE TRIGGER set_once BEFORE UPDATE ON service.redemption FOR EACH ROW
        WHEN (NEW.units_left > OLD.units_left OR NEW.units_captured < OLD.units_captured
            OR NEW.units_refunded < OLD.units_refunded
            OR (OLD.accepted_at IS NOT NULL AND NEW.accepted_at IS DISTINCT FROM OLD.accepted_at)
            OR (OLD.accepted_call IS NOT NULL AND NEW.accepted_call IS DISTINCT FROM OLD.accepted_call))
        EXECUTE FUNCTION service.set_once();
    CREATE TRIGGER set_once BEFORE UPDATE ON service.redemption_wish FOR EACH ROW
        WHEN (OLD.state <> 'waiting') EXECUTE FUNCTION service.set_once();
"""

_APPEND_ONLY = ("service.pool_change", "service.redemption_key", "service.redemption_entry")

_GRANTS = """
    GRANT SELECT, INSERT, UPDATE (points_left, co2e_left) ON ledger.hold TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.pool, service.pool_change, service.redemption, service.redemption_key,
        service.redemption_terms, service.redemption_entry, service.fulfilment, service.money_call TO tanpuhui_app;
    GRANT UPDATE (state) ON service.pool TO tanpuhui_app;
    GRANT SELECT, INSERT, UPDATE (points_left, fen_left) ON service.pool_slot TO tanpuhui_app;
    GRANT UPDATE (units_left, units_captured, units_refunded, state, accepted_at, ended_at, accepted_call)
        ON service.redemption TO tanpuhui_app;
    GRANT UPDATE (refusal) ON service.money_call TO tanpuhui_app;
    GRANT SELECT, INSERT, UPDATE (state, reason, redemption_id, ended_at) ON service.redemption_wish TO tanpuhui_app;
    GRANT SELECT ON ledger.hold, service.pool, service.pool_change, service.pool_slot, service.redemption,
        service.redemption_key, service.redemption_terms, service.redemption_entry, service.fulfilment,
        service.redemption_wish, service.money_call TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_LEDGER)
    op.execute(_SERVICE)
    op.execute(_ONWARD)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
