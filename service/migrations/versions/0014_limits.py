"""Limits of single clients; and rows that show themselves to none but their own participant.

Revision ID: 0014
"""

from alembic import op

from service.migrations import RolesMissing

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_LIMITS = """
    CREATE TABLE service.client_limit (
        limit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        client text NOT NULL CONSTRAINT client_limit_client_check CHECK (length(client) BETWEEN 3 AND 300),
        requests_per_second integer
            CONSTRAINT client_limit_requests_per_second_check CHECK (requests_per_second BETWEEN 1 AND 1000000),
        requests_burst integer
            CONSTRAINT client_limit_requests_burst_check CHECK (requests_burst BETWEEN 1 AND 10000000),
        items_per_second integer
            CONSTRAINT client_limit_items_per_second_check CHECK (items_per_second BETWEEN 1 AND 1000000),
        items_burst integer CONSTRAINT client_limit_items_burst_check CHECK (items_burst BETWEEN 1 AND 10000000),
        changed_by text NOT NULL,
        changed_at timestamptz NOT NULL,
        CONSTRAINT client_limit_whole_check
            CHECK (num_nulls(requests_per_second, requests_burst, items_per_second, items_burst) IN (0, 4))
    );
    CREATE INDEX client_limit_client_index ON service.client_limit (client, limit_id);
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON service.client_limit
        FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
    GRANT SELECT, INSERT ON service.client_limit TO tanpuhui_app;
    GRANT SELECT ON service.client_limit TO tanpuhui_auditor;
"""

# What is read for a participant is read as a role that sees the rows of the participants named in the transaction and
# no others: a condition that was forgotten then shows nothing instead of everything. The other roles pass by the
# policies, for they post in bulk, and COPY is not possible under policies.
OWN = (
    *(f"ledger.{name}" for name in ("account", "bucket", "transfer", "movement", "reversed", "matured", "hold")),
    *(f"ledger.{name}" for name in ("leaf", "leaf_queue", "sealed_account", "sealed_bucket")),
    *(f"service.{name}" for name in ("participant", "link", "bank_link", "consent", "agreement", "mandate", "waiver")),
    *(f"service.{name}" for name in ("activity", "evidence", "provisional", "settlement")),
    *(f"service.{name}" for name in ("redemption", "redemption_terms", "redemption_entry", "fulfilment")),
    *(f"service.{name}" for name in ("redemption_wish", "dispute", "dispute_step", "dispute_text")),
    "vault.person_key",
)
# What every reader may see: rules, sources, banks and what the log says of itself.
_COMMON = (
    *(f"service.{name}" for name in ("source", "rule_document", "bank", "pool", "pool_slot")),
    *(f"ledger.{name}" for name in ("log_head", "log_state", "fold_head", "seal", "seal_head", "checkpoint")),
)

_BYPASSING = ("tanpuhui_app", "tanpuhui_sequencer", "tanpuhui_auditor")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '4s'")
    _require_roles()
    op.execute(_LIMITS)
    op.execute("GRANT USAGE ON SCHEMA ledger, service, vault TO tanpuhui_self")
    for table in OWN:
        # The setting is read once for a statement, not for each row. Leaves of nobody's, such as seals, are for all.
        nobodys = "participant_id IS NULL OR " if table == "ledger.leaf" else ""
        op.execute(f"""
            ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
            CREATE POLICY own_rows ON {table} FOR SELECT TO tanpuhui_self USING ({nobodys}participant_id = ANY (
                (SELECT nullif(current_setting('tanpuhui.participants', true), '')::uuid[])::uuid[]
            ));
            GRANT SELECT ON {table} TO tanpuhui_self
        """)
    op.execute(f"GRANT SELECT ON {', '.join(_COMMON)} TO tanpuhui_self")


def _require_roles() -> None:
    """Roles belong to the whole server, so the operator makes them; say which are missing before anything is
    changed."""
    database = op.get_bind()
    roles = database.exec_driver_sql("SELECT rolname, rolbypassrls FROM pg_roles WHERE rolname ^@ 'tanpuhui_'")
    known: dict[str, bool] = dict(tuple(row) for row in roles)
    member = "tanpuhui_self" in known and bool(
        database.exec_driver_sql("SELECT pg_has_role('tanpuhui_app', 'tanpuhui_self', 'MEMBER')").scalar()
    )
    wanted = []
    if "tanpuhui_self" not in known:
        wanted.append("CREATE ROLE tanpuhui_self NOLOGIN;")
    if not member:
        wanted.append("GRANT tanpuhui_self TO tanpuhui_app;")
    wanted += [f"ALTER ROLE {role} BYPASSRLS;" for role in _BYPASSING if not known.get(role)]
    if wanted:
        raise RolesMissing(f"the database lacks roles of this version; as an administrator run: {' '.join(wanted)}")


def downgrade() -> None:
    raise NotImplementedError("history is not reversible: write a forward migration")
