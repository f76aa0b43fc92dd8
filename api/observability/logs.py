"""Structured logs: one JSON object a line, on standard error, so that standard output stays a command's own.

No line holds a token, a body, a query or a person's id: a request is logged by its route's template.
"""

import asyncio
import atexit
import logging
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.typing import EventDict, Processor

from service.settings import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)


def configure_logging(settings: Settings, stream: BinaryIO | None = None) -> None:
    """Send our lines and those of the libraries to one stream as JSON. Called once, in the process that serves.

    uvicorn's own access line is silenced: ours says more. Run it with log_config=None.
    """
    output = stream or sys.stderr.buffer
    level = _LEVELS[settings.log_level]
    structlog.configure(
        processors=[*_SHARED, _scrub, structlog.processors.JSONRenderer(serializer=_dump)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(file=output),
        cache_logger_on_first_use=False,  # a line before this call would keep its logger for ever
    )
    handler = logging.StreamHandler(_Text(output))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_SHARED],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _scrub,
                structlog.processors.JSONRenderer(serializer=lambda value, **_: _dump(value).decode("utf-8")),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    for name in ("uvicorn.access", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


# What a library's message may carry: a token, a password in an address, the values of a row that broke a constraint.
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(Bearer|DPoP|Basic)\s+[^\s\"',]+", re.IGNORECASE), r"\1 …"),
    (re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*@"), "…@"),
    (re.compile(r"(?m)^(DETAIL|CONTEXT|HINT):.*$"), r"\1: …"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), "…"),
)


def scrubbed(text: str) -> str:
    """The text without what may be secret or somebody's."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _scrub(_: Any, __: str, event: EventDict) -> EventDict:
    """A processor: every text of a line, scrubbed. Request lines do not pass here; they hold none of this."""
    return {name: scrubbed(value) if isinstance(value, str) else value for name, value in event.items()}


def _dump(value: EventDict | Any, **_: Any) -> bytes:
    return orjson.dumps(value, default=lambda other: scrubbed(str(other)))


class _Text:
    """A text stream over the byte stream the other lines go to, so that both stay in order."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def write(self, text: str) -> int:
        return self._output.write(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        self._output.flush()


def request_writer() -> Callable[[dict[str, Any]], None]:
    """What writes request lines: the shape of every other line, without the processors, as there are so many of these.

    Asked for once, after `configure_logging`; where logging was never configured, structlog's own default writes.
    """
    logger = structlog.get_logger("tanpuhui.request")
    if not logger.is_enabled_for(logging.INFO):
        return lambda facts: None
    factory = structlog.get_config()["logger_factory"]
    if not isinstance(factory, structlog.BytesLoggerFactory):
        return lambda facts: logger.info("request", **facts)
    return _RequestLines(factory().msg).add


class _RequestLines:
    """Gathers request lines for a moment and writes them together: a write for each would cost more than the rest.

    A piece stays below the 4,096 bytes that a pipe takes whole, so lines of several processes never mix.
    """

    PIECE = 3_000  # bytes; a line has some 250
    MOMENT = 0.1  # seconds

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self._held = bytearray()
        atexit.register(self.flush)

    def add(self, facts: dict[str, Any]) -> None:
        facts |= {"event": "request", "level": "info", "timestamp": datetime.now(UTC)}
        if not self._held:
            asyncio.get_running_loop().call_later(self.MOMENT, self.flush)
        self._held += orjson.dumps(facts, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
        if len(self._held) > self.PIECE:
            self.flush()

    def flush(self) -> None:
        if self._held:
            piece, self._held = bytes(self._held[:-1]), bytearray()
            self._write(piece)  # which ends it with the newline
