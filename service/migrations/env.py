"""Runs migrations: one linear history, one connection without a pool, in one transaction each."""

from alembic import context
from sqlalchemy import create_engine, pool

from ledger.tables import metadata as ledger_metadata
from service import (
    approvals,
    campaigns,
    keyring_check,
    limits,
    manifests,
    organisations,
    participants,
    proposals,
    registers,
    retention,
)
from service.activities import claims, counting, models, provisional
from service.banks import models as banks
from service.clients import models as clients
from service.database import ServiceTable, migration_url
from service.linking import models as linking
from service.products import tables as products
from service.redemption import models as redemption
from service.reports import models as reports
from service.rights import models as rights
from service.settlement import models as settlement
from service.signals import models as signals
from service.vault import tables as vault
from service.webhooks import models as webhooks

# A table joins the service's metadata when its module is loaded.
ROOMS_WITH_TABLES = (
    approvals,
    banks,
    campaigns,
    claims,
    clients,
    counting,
    keyring_check,
    limits,
    linking,
    manifests,
    models,
    organisations,
    participants,
    products,
    proposals,
    provisional,
    redemption,
    registers,
    reports,
    retention,
    rights,
    settlement,
    signals,
    vault,
    webhooks,
)

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
