"""The bodies of the processes: the API, the log's worker and its publisher. All stop in order on SIGTERM, and when
their leash closes."""

import asyncio
import gc
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.observability import configure_logging
from ledger.errors import PolicyInvalid
from ledger.policy import read_policy
from service.clock import system_clock
from service.database import open_pool
from service.keyring import load_keyring
from service.keyring_check import require_keyring
from service.log.guard import Guard
from service.log.keys import create_signing_key, load_signing_keys
from service.log.loop import run_publisher
from service.log.publish import Log
from service.seals import run_seals
from service.settings import Settings
from service.witness.asking import Witnesses, open_witnesses
from service.worker import run_worker

GRACE_S = 30  # for requests that are being answered


def run_api(settings: Settings, *, fd: int | None, leash: int | None) -> None:
    """Serve until told to stop; what was accepted is posted and answered first."""
    _hold(leash)
    app = create_app(settings)
    _settle_garbage_collector()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 1024,
        backlog=2048,
    )
    _Server(config, app).run(sockets=[socket.socket(fileno=fd)] if fd is not None else None)


class _Server(uvicorn.Server):
    """Tells answers without an end, such as streams of events, that it is time."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.stopping.set()
        super().handle_exit(sig, frame)


def _settle_garbage_collector() -> None:
    """What is loaded stays and what a request makes goes with its answer: without this a tenth of a batch's time goes
    into looking for cycles among the libraries' objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def run_log_worker(settings: Settings, *, leash: int | None) -> None:
    """Sequence and fold until told to stop; the transaction under way is finished."""
    configure_logging(settings)
    _hold(leash)
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    if settings.database_url is None:
        raise SystemExit("TANPUHUI_DATABASE_URL is not set: name the database, as the sequencer role")
    keyring = load_keyring(settings.keyring_file)
    stopping = _stopping()
    async with await open_pool(settings.database_url, name="tanpuhui worker", size=3) as pool:
        async with pool.acquire() as connection:
            await require_keyring(connection, keyring)
        seals = run_seals(pool, settings.programme, settings.log_dir, settings.clock_offset, stopping)
        await run_worker(pool, stopping, seals)


def run_log_publisher(settings: Settings, *, leash: int | None) -> None:
    """Publish checkpoints until told to stop; the one under way is finished."""
    configure_logging(settings)
    _hold(leash)
    asyncio.run(_publish(settings))


async def _publish(settings: Settings) -> None:
    if settings.database_url is None:
        raise SystemExit("TANPUHUI_DATABASE_URL is not set: name the database, as the sequencer role")
    if settings.mode == "development" and not settings.log_key_file.exists():
        create_signing_key(settings.log_key_file, settings.log_origin)
    clock, interval_s = system_clock(settings.clock_offset), settings.checkpoint_interval_ms / 1000
    stopping = _stopping()
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


def _stopping() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _hold(leash: int | None) -> None:
    """Stop when the supervisor is gone, even if it was killed: its end of the pipe closes with it."""
    if leash is None:
        return

    def watch() -> None:
        os.read(leash, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="leash", daemon=True).start()
