"""The body of an API process."""

import gc
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.processes.stopping import hold_leash
from service.settings import Settings

GRACE_S = 30  # for requests that are being answered


def run_api(settings: Settings, *, fd: int | None, leash: int | None) -> None:
    """Serve until told to stop; what was accepted is posted and answered first."""
    hold_leash(leash)
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
