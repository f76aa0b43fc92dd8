"""The person's rights: erasure with its tombstones, corrections with their history, guardians of those under 14.

Revision ID: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ERASURE = """
    -- Who asked to be forgotten. The row stays: it says that the pseudonym is nobody's any more, and nothing else.
    CREATE TABLE service.erasure (
        participant_id uuid PRIMARY KEY,
        asked_at timestamptz NOT NULL,
        asked_by text NOT NULL CONSTRAINT erasure_asked_by_check CHECK (asked_by IN ('participant', 'guardian',
            'operator')),
        state text NOT NULL CONSTRAINT erasure_state_check CHECK (state IN ('asked', 'waiting', 'erasing', 'done')),
        ended_at timestamptz,
        CONSTRAINT erasure_ended_at_check CHECK ((state = 'done') = (ended_at IS NOT NULL))
    );
    CREATE INDEX erasure_open_index ON service.erasure (asked_at) WHERE state <> 'done';
    CREATE INDEX erasure_asked_index ON service.erasure (asked_at);
    CREATE TRIGGER set_once BEFORE UPDATE ON service.erasure FOR EACH ROW
        WHEN (OLD.state = 'done' OR NEW.asked_at <> OLD.asked_at) EXECUTE FUNCTION service.set_once();

    -- What was removed of each class of data, as a number of rows.
    CREATE TABLE service.erasure_step (
        participant_id uuid NOT NULL,
        class text NOT NULL,
        removed bigint NOT NULL CONSTRAINT erasure_step_removed_check CHECK (removed >= 0),
        recorded_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, class)
    );

    -- By the keyed tag of a person or of a provider's subject: under whose tombstone their caps are remembered. It does
    -- not name the pseudonym that was theirs.
    CREATE TABLE service.tombstone (
        kind text NOT NULL CONSTRAINT tombstone_kind_check CHECK (kind IN ('person', 'subject')),
        source_id integer NOT NULL CONSTRAINT tombstone_source_id_check CHECK ((kind = 'person') = (source_id = 0)),
        tag bytea NOT NULL CONSTRAINT tombstone_tag_check CHECK (octet_length(tag) = 32),
        tombstone_id uuid NOT NULL,
        expires_on date NOT NULL,
        PRIMARY KEY (kind, source_id, tag)
    );
    CREATE INDEX tombstone_id_index ON service.tombstone (tombstone_id);

    CREATE TABLE service.tombstone_tally (
        tombstone_id uuid NOT NULL,
        cap text NOT NULL,
        window_start date NOT NULL,
        used bigint NOT NULL CONSTRAINT tombstone_tally_used_check CHECK (used > 0),
        PRIMARY KEY (tombstone_id, cap, window_start)
    );

    -- Which tombstones a participant came back under: each is counted once.
    CREATE TABLE service.returned (
        participant_id uuid NOT NULL,
        tombstone_id uuid NOT NULL,
        PRIMARY KEY (participant_id, tombstone_id)
    );

    -- Of what is used of a cap, what was used before the person came back.
    ALTER TABLE service.tally ADD COLUMN carried bigint NOT NULL DEFAULT 0
        CONSTRAINT tally_carried_check CHECK (carried >= 0);

    -- A link of somebody who is forgotten keeps its source and its pseudonym, by which a day's reports are counted, and
    -- loses what it was known by; no other link may.
    CREATE FUNCTION service.unname_link() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.withdrawn_at IS NULL OR NEW.participant_id <> OLD.participant_id OR NEW.source_id <> OLD.source_id
            OR NOT EXISTS (SELECT FROM service.erasure e WHERE e.participant_id = OLD.participant_id) THEN
            RAISE EXCEPTION 'UPDATE on service.link refused: a link is renamed by an erasure alone';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER unname_link BEFORE UPDATE OF subject_tag, link_id ON service.link FOR EACH ROW
        EXECUTE FUNCTION service.unname_link();
"""

# Consents, links of banks and what was used of caps are removed with whoever was erased, and never otherwise.
_FORGET = """
    CREATE FUNCTION service.forget_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM service.erasure e WHERE e.participant_id = OLD.participant_id) THEN
            RAISE EXCEPTION 'DELETE on %.% refused: rows go with whoever was erased', TG_TABLE_SCHEMA, TG_TABLE_NAME;
        END IF;
        RETURN OLD;
    END $$
"""
_FORGOTTEN = ("service.consent", "service.agreement", "service.bank_link", "service.tally", "service.correction")

_PERSONS = """
    -- What a person had corrected. Values that identify stand in the vault alone, so there is none of them here.
    CREATE TABLE service.correction (
        participant_id uuid NOT NULL,
        number integer NOT NULL CONSTRAINT correction_number_check CHECK (number > 0),
        field text NOT NULL CONSTRAINT correction_field_check CHECK (field IN ('region', 'name', 'birth')),
        before text,
        after text,
        corrected_by text NOT NULL
            CONSTRAINT correction_corrected_by_check CHECK (corrected_by IN ('participant', 'guardian', 'operator')),
        corrected_at timestamptz NOT NULL,
        PRIMARY KEY (participant_id, number),
        CONSTRAINT correction_values_check CHECK (field = 'region' OR (before IS NULL AND after IS NULL))
    );

    -- Who is under 14, and from which day on no longer: no row, or a day that has come, asks for no guardian.
    CREATE TABLE service.minor (
        participant_id uuid PRIMARY KEY,
        until date NOT NULL
    );

    -- What a child hands to a guardian; known here by its hash alone.
    CREATE TABLE service.guardian_code (
        code_hash bytea PRIMARY KEY CONSTRAINT guardian_code_code_hash_check CHECK (octet_length(code_hash) = 32),
        participant_id uuid NOT NULL,
        expires_at timestamptz NOT NULL,
        used_at timestamptz
    );
    CREATE INDEX guardian_code_participant_index ON service.guardian_code (participant_id);

    CREATE TABLE service.guardianship (
        participant_id uuid NOT NULL,
        guardianship_id uuid NOT NULL,
        guardian_id uuid NOT NULL,
        guardian_tag bytea NOT NULL CONSTRAINT guardianship_guardian_tag_check CHECK (octet_length(guardian_tag) = 32),
        text_version text NOT NULL,
        given_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        withdrawn_at timestamptz,
        PRIMARY KEY (participant_id, guardianship_id)
    );
    CREATE UNIQUE INDEX guardianship_live_key ON service.guardianship (participant_id) WHERE withdrawn_at IS NULL;
    CREATE INDEX guardianship_guardian_index ON service.guardianship (guardian_id);
    CREATE TRIGGER set_once BEFORE UPDATE ON service.guardianship FOR EACH ROW
        WHEN (OLD.withdrawn_at IS NOT NULL AND NEW.withdrawn_at IS DISTINCT FROM OLD.withdrawn_at)
        EXECUTE FUNCTION service.set_once();
"""

# A bank's request may name the person by the bank's id for them. Its body goes with the person; what was signed, and
# the signature, stay.
_CALLS = """
    ALTER TABLE service.signed_call ALTER COLUMN body DROP NOT NULL;
    DROP TRIGGER append_only ON service.signed_call;
    CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE OR UPDATE OF call_id, bank_id, key_id, method, path,
        signature_base, signature, content_digest, received_at ON service.signed_call
        FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
    CREATE FUNCTION service.redact_call() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.body IS NOT NULL OR NOT EXISTS (
            SELECT FROM service.bank_request r JOIN service.erasure e ON e.participant_id = r.addressed_to
            WHERE r.call_id = OLD.call_id) THEN
            RAISE EXCEPTION 'UPDATE on service.signed_call refused: a body is removed by an erasure alone';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER redact_call BEFORE UPDATE OF body ON service.signed_call FOR EACH ROW
        EXECUTE FUNCTION service.redact_call();
"""

_APPEND_ONLY = ("service.erasure_step",)

# The application forgets by itself, so it may remove what identifies; nothing of the journal is among it.
_GRANTS = """
    GRANT SELECT, INSERT ON service.erasure, service.erasure_step, service.correction, service.minor,
        service.guardian_code, service.guardianship, service.tombstone, service.tombstone_tally, service.returned
        TO tanpuhui_app;
    GRANT UPDATE (state, ended_at) ON service.erasure TO tanpuhui_app;
    GRANT UPDATE (tombstone_id, expires_on), DELETE ON service.tombstone TO tanpuhui_app;
    GRANT DELETE ON service.tombstone_tally, service.returned, service.correction, service.minor,
        service.guardian_code, service.guardianship, service.tally TO tanpuhui_app;
    GRANT UPDATE (until) ON service.minor TO tanpuhui_app;
    GRANT UPDATE (used_at) ON service.guardian_code TO tanpuhui_app;
    GRANT UPDATE (withdrawn_at) ON service.guardianship TO tanpuhui_app;
    GRANT UPDATE (carried) ON service.tally TO tanpuhui_app;
    GRANT UPDATE (region) ON service.participant TO tanpuhui_app;
    GRANT UPDATE (subject_tag, link_id) ON service.link TO tanpuhui_app;
    GRANT DELETE ON service.consent, service.agreement, service.bank_link TO tanpuhui_app;
    GRANT UPDATE (body) ON service.signed_call TO tanpuhui_app;
    GRANT SELECT ON service.erasure, service.erasure_step TO tanpuhui_auditor, tanpuhui_sequencer;
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    op.execute(_ERASURE)
    op.execute(_PERSONS)
    op.execute(_CALLS)
    op.execute(_FORGET)
    for table in _FORGOTTEN:
        op.execute(f"""
            CREATE TRIGGER forget_only BEFORE DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION service.forget_only()
        """)
    for table in _APPEND_ONLY:
        op.execute(f"""
            CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()
        """)
    op.execute(_GRANTS)


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
