"""The body of an API process."""

import gc
import socket
import ssl
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.hardening.protocol import Patience, bounded
from api.processes.stopping import hold_leash
from service.settings import Settings

KEEP_ALIVE_S = 30  # hardening/protocol.py ends what idles for longer
GRACE_S = 30  # for requests that are being answered


def run_api(settings: Settings, *, fd: int | None, leash: int | None) -> None:
    """Serve until told to stop; what was accepted is posted and answered first."""
    hold_leash(leash)
    app = create_app(settings)
    _settle_garbage_collector()
    config = server_config(app, settings)
    _Server(config, app).run(sockets=[socket.socket(fileno=fd)] if fd is not None else None)


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How the server serves: how long it waits for clients, whom it believes, and under which certificate."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        http=bounded(Patience(settings.request_timeout_s, settings.max_connections)),
        ws="none",  # a connection that is upgraded would be out of sight of every limit
        proxy_headers=False,  # whom to believe is a setting of ours, and is looked at where addresses are
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        backlog=2048,
    )
    if settings.tls_certificate is not None:
        config.load()
        assert config.ssl is not None  # a certificate was given
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


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
