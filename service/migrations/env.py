"""Runs migrations: one linear history, one connection without a pool, in one transaction each."""

from alembic import context
from sqlalchemy import create_engine, pool

from ledger.tables import metadata as ledger_metadata
from service import campaigns  # noqa: F401 - its tables join the service's metadata
from service.activities import claims, counting, models, provisional  # noqa: F401 - as above
from service.approvals import Approval  # noqa: F401 - as above
from service.database import ServiceTable, migration_url
from service.keyring_check import KeyringCheck  # noqa: F401 - as above
from service.manifests import Manifest  # noqa: F401 - as above
from service.organisations import Organisation  # noqa: F401 - as above
from service.participants import Participant  # noqa: F401 - as above
from service.registers import RegisterEntry  # noqa: F401 - as above

engine = create_engine(
    migration_url(context.config.attributes["database_url"]),
    poolclass=pool.NullPool,
    connect_args={"connect_timeout": 10},
)
with engine.connect() as connection:
    # Two processes that start at once: the second waits here and then finds nothing to do. Each migration is a
    # transaction, so the lock is the connection's, and ends with it.
    connection.exec_driver_sql("SELECT pg_advisory_lock(7262018)")
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=[ledger_metadata, ServiceTable.metadata],
        include_schemas=True,
        version_table="schema_version",
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
