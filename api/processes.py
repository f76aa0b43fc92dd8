"""The bodies of the two processes: the API and the log's worker. Both stop in order on SIGTERM, and when their leash
closes."""

import asyncio
import gc
import os
import signal
import socket
import threading

import uvicorn

from api.app import create_app
from api.observability import configure_logging
from service.database import open_pool
from service.keyring import load_keyring
from service.keyring_check import require_keyring
from service.settings import Settings
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
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)] if fd is not None else None)


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
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with await open_pool(settings.database_url, name="tanpuhui worker", size=2) as pool:
        async with pool.acquire() as connection:
            await require_keyring(connection, keyring)
        await run_worker(pool, stopping)


def _hold(leash: int | None) -> None:
    """Stop when the supervisor is gone, even if it was killed: its end of the pipe closes with it."""
    if leash is None:
        return

    def watch() -> None:
        os.read(leash, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="leash", daemon=True).start()
