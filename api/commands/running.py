"""The platform for the length of a command."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from api.demonstration import Terminal
from api.supervisor import RunningPlatform, start_platform
from service.settings import Settings


@contextmanager
def running(settings: Settings, terminal: Terminal) -> Iterator[RunningPlatform]:
    """The platform for the length of a `with` block. SIGTERM ends it as Ctrl-C does: in order."""
    signal.signal(signal.SIGTERM, _interrupt)
    platform = start_platform(settings, terminal.say)
    try:
        yield platform
    finally:
        terminal.say("正在停止", "stopping")
        platform.stop()


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
