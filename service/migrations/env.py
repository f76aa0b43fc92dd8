"""Runs migrations: one linear history, one connection without a pool, in one transaction each."""

from alembic import context
from sqlalchemy import create_engine, pool

from ledger.tables import metadata as ledger_metadata
from service.activities import models  # noqa: F401 - its tables join the service's metadata
from service.database import ServiceTable, migration_url
from service.participants import Participant  # noqa: F401 - as above

engine = create_engine(
    migration_url(context.config.attributes["database_url"]),
    poolclass=pool.NullPool,
    connect_args={"connect_timeout": 10},
)
with engine.connect() as connection:
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
        # Two processes that start at once: the second waits here and then finds nothing to do.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7262018)")
        context.run_migrations()
engine.dispose()
