"""The body of the worker: the log's loops, and those of a bank day, of the board, and of what is sent to banks."""

import asyncio

from api.observability.logs import configure_logging
from api.processes.stopping import hold_leash, stopping_on_signals
from service.clock import Fresh, system_clock
from service.database import open_pool
from service.keyring import load_keyring
from service.keyring_check import require_keyring
from service.products.listing import Desk
from service.products.sweeping import run_listing_sweeps
from service.seals import run_seals
from service.settings import Settings
from service.settlement.closing import run_statements
from service.signals.looking import run_signals
from service.webhooks.loop import run_deliveries
from service.worker import run_worker


def run_log_worker(settings: Settings, *, leash: int | None) -> None:
    """Sequence and fold until told to stop; the transaction under way is finished."""
    configure_logging(settings)
    hold_leash(leash)
    asyncio.run(work(settings))


async def work(settings: Settings) -> None:
    """Every loop, until told to stop."""
    if settings.database_url is None:
        raise SystemExit("TANPUHUI_DATABASE_URL is not set: name the database, as the sequencer role")
    keyring = load_keyring(settings.keyring_file)
    stopping = stopping_on_signals()
    async with await open_pool(settings.database_url, name="tanpuhui worker", size=7) as pool:
        async with pool.acquire() as connection:
            await require_keyring(connection, keyring)
        seals = run_seals(pool, settings.programme, settings.log_dir, settings.clock_offset, stopping)
        development = settings.mode == "development"
        deliveries = run_deliveries(pool, keyring, system_clock(), stopping, private_allowed=development)
        statements = run_statements(pool, settings.clock_offset, stopping)
        fresh = Fresh(system_clock(settings.clock_offset))
        desk = Desk(settings.programme, settings.allowed_statuses, fresh, settings.clock_offset)
        sweeps = run_listing_sweeps(pool, desk, stopping)
        signals = run_signals(pool, fresh, stopping)
        await run_worker(pool, stopping, seals, sweeps, statements, deliveries, signals)
