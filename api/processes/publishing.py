"""The body of the publisher: the log's tiles and checkpoints, and the only process with the signing key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from api.observability.logs import configure_logging
from api.processes.stopping import hold_leash, stopping_on_signals
from ledger.errors import PolicyInvalid
from ledger.policy import read_policy
from service.clock import system_clock
from service.database import open_pool
from service.log.guard import Guard
from service.log.keys import create_signing_key, load_signing_keys
from service.log.loop import run_publisher
from service.log.publish import Log
from service.settings import Settings
from service.witness.asking import Witnesses, open_witnesses


def run_log_publisher(settings: Settings, *, leash: int | None) -> None:
    """Publish checkpoints until told to stop; the one under way is finished."""
    configure_logging(settings)
    hold_leash(leash)
    asyncio.run(_publish(settings))


async def _publish(settings: Settings) -> None:
    if settings.database_url is None:
        raise SystemExit("TANPUHUI_DATABASE_URL is not set: name the database, as the sequencer role")
    if settings.mode == "development" and not settings.log_key_file.exists():
        create_signing_key(settings.log_key_file, settings.log_origin)
    clock, interval_s = system_clock(settings.clock_offset), settings.checkpoint_interval_ms / 1000
    stopping = stopping_on_signals()
    try:
        async with (
            _witnesses(settings) as witnesses,
            await open_pool(settings.database_url, name="tanpuhui publisher", size=1) as pool,
        ):
            opened = partial(open_log, settings, witnesses)
            await run_publisher(pool, opened, settings.programme, clock, interval_s, stopping)
    except PolicyInvalid as error:
        raise SystemExit(f"TANPUHUI_WITNESS_POLICY cannot be used: {error}") from None


@asynccontextmanager
async def _witnesses(settings: Settings) -> AsyncIterator[Witnesses | None]:
    if settings.witness_policy is None:
        yield None
        return
    policy = read_policy(settings.witness_policy)
    async with open_witnesses(policy, settings.witness_timeout_ms / 1000) as witnesses:
        yield witnesses


def open_log(settings: Settings, witnesses: Witnesses | None = None) -> Log:
    """The log of these settings, with the keys that its file holds now. Raises SigningKeyUnusable."""
    keys = load_signing_keys(settings.log_key_file, settings.log_origin)
    guard = Guard(settings.guard_file)
    return Log(settings.log_origin, settings.log_dir, guard, keys.current, keys.former, witnesses)
