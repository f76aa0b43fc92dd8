"""How every process stops: in order on SIGTERM, and when its leash closes."""

import asyncio
import os
import signal
import threading


def stopping_on_signals() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def hold_leash(leash: int | None) -> None:
    """Stop when the supervisor is gone, even if it was killed: its end of the pipe closes with it."""
    if leash is None:
        return

    def watch() -> None:
        os.read(leash, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="leash", daemon=True).start()
