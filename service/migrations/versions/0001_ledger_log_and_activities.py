"""The ledger, the log's queue and leaves, participants and activities.

Revision ID: 0001
"""

from alembic import op

from service.migrations import RolesMissing

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROLES = ("tanpuhui_app", "tanpuhui_sequencer", "tanpuhui_auditor")

# Participant tables carry participant_id in every key, so that they can be sharded by it. There are no foreign keys on
# the posting path: checking one locks the row it names, and every activity names the same few sources and rules.
_LEDGER = """
    CREATE SCHEMA ledger;

    CREATE TABLE ledger.account (
        participant_id uuid PRIMARY KEY,
        kind text NOT NULL
            CONSTRAINT account_kind_check
            CHECK (kind IN ('citizen', 'firm', 'social_organisation', 'government_body', 'public_institution')),
        programme text NOT NULL CONSTRAINT account_programme_check CHECK (programme ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
        region text NOT NULL CONSTRAINT account_region_check CHECK (region ~ '^[0-9]{6}$'),
        counter bigint NOT NULL DEFAULT 0 CONSTRAINT account_counter_check CHECK (counter >= 0),
        co2e_available bigint NOT NULL DEFAULT 0,
        co2e_pending bigint NOT NULL DEFAULT 0,
        co2e_held bigint NOT NULL DEFAULT 0,
        co2e_debt bigint NOT NULL DEFAULT 0,
        points_available bigint NOT NULL DEFAULT 0,
        points_pending bigint NOT NULL DEFAULT 0,
        points_held bigint NOT NULL DEFAULT 0,
        points_debt bigint NOT NULL DEFAULT 0,
        next_expiry date,
        opened_at timestamptz NOT NULL,
        CONSTRAINT account_co2e_check CHECK (least(co2e_available, co2e_pending, co2e_held, co2e_debt) >= 0),
        CONSTRAINT account_points_check CHECK (least(points_available, points_pending, points_held, points_debt) >= 0)
    ) WITH (fillfactor = 70);

    CREATE TABLE ledger.bucket (
        participant_id uuid NOT NULL,
        expires_on date NOT NULL
            CONSTRAINT bucket_month_end_check CHECK (extract(day FROM expires_on + 1) = 1),
        available bigint NOT NULL CONSTRAINT bucket_available_check CHECK (available >= 0),
        PRIMARY KEY (participant_id, expires_on)
    ) WITH (fillfactor = 70);

    CREATE TABLE ledger.transfer (
        participant_id uuid NOT NULL,
        transfer_id uuid NOT NULL,
        counter bigint NOT NULL CONSTRAINT transfer_counter_check CHECK (counter > 0),
        kind text NOT NULL,
        programme text NOT NULL,
        region text NOT NULL,
        effective_on date NOT NULL,
        recorded_at timestamptz NOT NULL,
        reverses uuid,
        reason text,
        PRIMARY KEY (participant_id, transfer_id),
        CONSTRAINT transfer_counter_key UNIQUE (participant_id, counter),
        CONSTRAINT transfer_kind_check CHECK (kind IN ('credit', 'reversal', 'lapse')),
        CONSTRAINT transfer_reverses_check CHECK ((kind = 'reversal') = (reverses IS NOT NULL)),
        CONSTRAINT transfer_reason_check CHECK ((kind = 'reversal') = (reason IS NOT NULL))
    );

    -- A transfer is reversed once. In a table of its own, so that transfers can be partitioned by their ids' time.
    CREATE TABLE ledger.reversed (
        participant_id uuid NOT NULL,
        transfer_id uuid NOT NULL,
        reversal_id uuid NOT NULL,
        PRIMARY KEY (participant_id, transfer_id)
    );

    CREATE TABLE ledger.movement (
        participant_id uuid NOT NULL,
        transfer_id uuid NOT NULL,
        line smallint NOT NULL CONSTRAINT movement_line_check CHECK (line >= 0),
        from_account text NOT NULL,
        to_account text NOT NULL,
        asset text NOT NULL,
        amount bigint NOT NULL CONSTRAINT movement_amount_check CHECK (amount > 0),
        credit_class text,
        vintage smallint,
        expires_on date,
        PRIMARY KEY (participant_id, transfer_id, line),
        CONSTRAINT movement_accounts_check CHECK (
            from_account <> to_account
            AND from_account IN ('available', 'pending', 'held', 'debt', 'issuance', 'lapsed', 'retired', 'clearing',
                'partner')
            AND to_account IN ('available', 'pending', 'held', 'debt', 'issuance', 'lapsed', 'retired', 'clearing',
                'partner')
        ),
        CONSTRAINT movement_asset_check CHECK (
            (asset = 'points' AND credit_class IS NULL AND vintage IS NULL)
            OR (asset = 'co2e_mg' AND credit_class IS NOT NULL AND credit_class IN ('project', 'scenario', 'behaviour')
                AND vintage IS NOT NULL AND expires_on IS NULL)
        )
    );

    CREATE TABLE ledger.leaf_queue (
        queue_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        participant_id uuid NOT NULL,
        transfer_id uuid NOT NULL,
        leaf bytea NOT NULL CONSTRAINT leaf_queue_length_check CHECK (octet_length(leaf) BETWEEN 1 AND 65535)
    );
    -- Emptied as fast as it fills: swept too late, its dead rows would be waded through by every drain.
    ALTER TABLE ledger.leaf_queue SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000);

    CREATE TABLE ledger.leaf (
        log_index bigint PRIMARY KEY CONSTRAINT leaf_log_index_check CHECK (log_index >= 0),
        participant_id uuid,
        transfer_id uuid,
        leaf bytea NOT NULL CONSTRAINT leaf_length_check CHECK (octet_length(leaf) BETWEEN 1 AND 65535)
    );
    CREATE UNIQUE INDEX leaf_transfer_key ON ledger.leaf (participant_id, transfer_id) WHERE transfer_id IS NOT NULL;

    CREATE TABLE ledger.log_head (
        "only" boolean PRIMARY KEY DEFAULT true CONSTRAINT log_head_only_check CHECK ("only"),
        size bigint NOT NULL CONSTRAINT log_head_size_check CHECK (size >= 0)
    );
    INSERT INTO ledger.log_head (size) VALUES (0);

    CREATE TABLE ledger.fold_head (
        "only" boolean PRIMARY KEY DEFAULT true CONSTRAINT fold_head_only_check CHECK ("only"),
        folded_to bigint NOT NULL CONSTRAINT fold_head_folded_to_check CHECK (folded_to >= 0)
    );
    INSERT INTO ledger.fold_head (folded_to) VALUES (0);

    CREATE TABLE ledger.system_total (
        programme text NOT NULL,
        asset text NOT NULL,
        account text NOT NULL,
        amount bigint NOT NULL,
        PRIMARY KEY (programme, asset, account)
    );
"""

_SERVICE = r"""
    CREATE SCHEMA service;

    CREATE TABLE service.source (
        source_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        uri text NOT NULL CONSTRAINT source_uri_key UNIQUE
            CONSTRAINT source_uri_check
            CHECK (uri ~ '^[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]+$' AND length(uri) <= 500),
        title_zh text NOT NULL,
        title_en text NOT NULL,
        grade text NOT NULL CONSTRAINT source_grade_check CHECK (grade IN ('A', 'B', 'C')),
        scenarios text[] NOT NULL,
        programme text NOT NULL CONSTRAINT source_programme_check CHECK (programme ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
        region text NOT NULL CONSTRAINT source_region_check CHECK (region ~ '^[0-9]{6}$'),
        valid_from date NOT NULL,
        valid_to date CONSTRAINT source_valid_to_check CHECK (valid_to >= valid_from),
        registered_at timestamptz NOT NULL
    );

    CREATE TABLE service.rule_document (
        rule_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        digest bytea NOT NULL CONSTRAINT rule_document_digest_key UNIQUE
            CONSTRAINT rule_document_digest_check CHECK (octet_length(digest) = 32),
        kind text NOT NULL CONSTRAINT rule_document_kind_check CHECK (kind IN ('methodology', 'points')),
        name text NOT NULL,
        version integer NOT NULL,
        document bytea NOT NULL,
        registered_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT rule_document_version_key UNIQUE (kind, name, version)
    );

    CREATE TABLE service.participant (
        participant_id uuid PRIMARY KEY,
        kind text NOT NULL,
        programme text NOT NULL,
        region text NOT NULL,
        enrolled_at timestamptz NOT NULL
    );

    -- Keyed by itself, across participants: a provider's own id for a person, as HMAC, and whom it stands for.
    -- Ended links stay: who links the same subject again is the same participant, with the same debts and caps.
    CREATE TABLE service.link (
        source_id integer NOT NULL,
        subject_tag bytea NOT NULL CONSTRAINT link_subject_tag_check CHECK (octet_length(subject_tag) = 32),
        key_version smallint NOT NULL,
        link_id uuid NOT NULL,
        participant_id uuid NOT NULL,
        linked_at timestamptz NOT NULL,
        withdrawn_at timestamptz,
        PRIMARY KEY (source_id, subject_tag, link_id)
    );
    CREATE UNIQUE INDEX link_live_key ON service.link (source_id, subject_tag) WHERE withdrawn_at IS NULL;
    CREATE INDEX link_participant_index ON service.link (participant_id);

    CREATE TABLE service.consent (
        participant_id uuid NOT NULL,
        link_id uuid NOT NULL,
        source_id integer NOT NULL,
        purpose text NOT NULL,
        text_version text NOT NULL,
        given_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        withdrawn_at timestamptz,
        PRIMARY KEY (participant_id, link_id, purpose, text_version)
    );

    -- Keyed by itself, across participants: HMAC of source and event id. It outlives erasure, so it says nothing.
    CREATE TABLE service.event_key (
        key bytea PRIMARY KEY CONSTRAINT event_key_key_check CHECK (octet_length(key) = 32),
        key_version smallint NOT NULL,
        fingerprint bytea NOT NULL CONSTRAINT event_key_fingerprint_check CHECK (octet_length(fingerprint) = 32),
        participant_id uuid NOT NULL,
        activity_id uuid NOT NULL
    );

    CREATE TABLE service.activity (
        participant_id uuid NOT NULL,
        activity_id uuid NOT NULL,
        source_id integer NOT NULL,
        grade text NOT NULL CONSTRAINT activity_grade_check CHECK (grade IN ('A', 'B', 'C')),
        scenario text NOT NULL,
        day date NOT NULL,
        outcome text NOT NULL CONSTRAINT activity_outcome_check CHECK (outcome IN ('credited', 'refused')),
        reason text CONSTRAINT activity_reason_check CHECK ((outcome = 'refused') = (reason IS NOT NULL)),
        methodology_id integer NOT NULL,
        points_rule_id integer,
        programme text NOT NULL,
        region text NOT NULL,
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, activity_id)
    );

    -- Erasable, and therefore apart: what was reported, the salt of its commitment, and the values that refused it.
    CREATE TABLE service.evidence (
        participant_id uuid NOT NULL,
        activity_id uuid NOT NULL,
        salt bytea NOT NULL CONSTRAINT evidence_salt_check CHECK (octet_length(salt) = 32),
        document bytea NOT NULL,
        refusal bytea,
        PRIMARY KEY (participant_id, activity_id)
    );
"""

_APPEND_ONLY = (
    "ledger.transfer",
    "ledger.movement",
    "ledger.reversed",
    "ledger.leaf",
    "service.event_key",
    "service.activity",
    "service.rule_document",
)

_GRANTS = """
    REVOKE ALL ON SCHEMA ledger, service FROM PUBLIC;
    GRANT USAGE ON SCHEMA ledger, service TO tanpuhui_app, tanpuhui_auditor;
    GRANT SELECT ON public.schema_version TO tanpuhui_app, tanpuhui_sequencer, tanpuhui_auditor;
    GRANT USAGE ON SCHEMA ledger TO tanpuhui_sequencer;

    -- By column: the application moves balances but renames nobody, and queues leaves but picks no place for them.
    GRANT SELECT, INSERT ON ledger.transfer, ledger.movement, ledger.reversed TO tanpuhui_app;
    GRANT SELECT, INSERT ON ledger.account, ledger.bucket TO tanpuhui_app;
    GRANT UPDATE (counter, co2e_available, co2e_pending, co2e_held, co2e_debt,
                  points_available, points_pending, points_held, points_debt, next_expiry)
        ON ledger.account TO tanpuhui_app;
    GRANT UPDATE (available) ON ledger.bucket TO tanpuhui_app;
    GRANT SELECT, INSERT (participant_id, transfer_id, leaf) ON ledger.leaf_queue TO tanpuhui_app;
    GRANT SELECT ON ledger.leaf, ledger.log_head, ledger.fold_head, ledger.system_total TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.event_key, service.activity, service.rule_document,
        service.participant TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.source, service.link, service.consent TO tanpuhui_app;
    GRANT UPDATE (title_zh, title_en, grade, scenarios, valid_from, valid_to) ON service.source TO tanpuhui_app;
    GRANT UPDATE (withdrawn_at) ON service.link, service.consent TO tanpuhui_app;
    GRANT SELECT, INSERT ON service.evidence TO tanpuhui_app;

    GRANT SELECT, DELETE ON ledger.leaf_queue TO tanpuhui_sequencer;
    GRANT SELECT, INSERT ON ledger.leaf TO tanpuhui_sequencer;
    GRANT SELECT, UPDATE ON ledger.log_head, ledger.fold_head TO tanpuhui_sequencer;
    GRANT SELECT, INSERT, UPDATE ON ledger.system_total TO tanpuhui_sequencer;
    GRANT SELECT ON ledger.transfer, ledger.movement TO tanpuhui_sequencer;

    GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO tanpuhui_auditor;
    GRANT SELECT ON service.source, service.rule_document, service.activity, service.evidence TO tanpuhui_auditor;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    _require_roles()
    op.execute(_LEDGER)
    op.execute(_SERVICE)
    op.execute("""
        CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION '% on %.% refused: the journal is append-only, post a reversal', TG_OP, TG_TABLE_SCHEMA,
            TG_TABLE_NAME; END $$
    """)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def _require_roles() -> None:
    """Roles belong to the whole server, so the operator makes them; say which are missing before anything is
    created."""
    names = ", ".join(f"'{role}'" for role in _ROLES)
    known = {
        row[0] for row in op.get_bind().exec_driver_sql(f"SELECT rolname FROM pg_roles WHERE rolname IN ({names})")
    }
    missing = [role for role in _ROLES if role not in known]
    if missing:
        create = " ".join(f"CREATE ROLE {role} LOGIN PASSWORD '…';" for role in missing)
        raise RolesMissing(f"the database roles {', '.join(missing)} do not exist; as an administrator run: {create}")


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
