"""The server's HTTP protocol with an end to patience: connections, heads, bodies and readers have their time and size.

uvicorn alone waits for ever for a head or a body that does not come, keeps whatever headers are sent, and writes to
whoever does not read. One look a second at every connection costs the requests nothing.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, ClassVar

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOK_EVERY_S = 1.0
LARGEST_HEAD = 48 * 1024  # bytes that may come before a head is complete; guard.py refuses whole ones by the header
SLOWEST = 4096  # bytes of a body in a second
UNREAD_S = 30.0  # how long an answer may lie without the client taking a byte of it
IDLE_S = 35.0  # past uvicorn's own keep-alive, for connections it has lost sight of

CUT = Counter("tanpuhui_connections_cut", "Connections that were ended by the server, by reason", ["reason"])


class Phase(Enum):
    """What a connection waits for."""

    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    IDLE = auto()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for a head, and a body's first part, in seconds; how many connections one process keeps."""

    request_s: float
    connections: int


class PatientProtocol(HttpToolsProtocol):
    """One connection. `bounded` makes the class that a server is given."""

    patience: ClassVar[Patience]
    _looking: ClassVar[bool] = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._phase = Phase.HEAD
        self._since = self.loop.time()
        self._head = 0
        self._body = 0
        self._unread = 0
        self._unread_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > self.patience.connections:
            self._cut("connections", 503, b"Service Unavailable")
            return
        self._enter(Phase.HEAD)
        if not type(self)._looking:
            type(self)._looking = True
            self.loop.call_later(LOOK_EVERY_S, self._look)

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
            self._head = 0
        if self._phase is Phase.HEAD:
            self._head += len(data)
            super().data_received(data)
            if self._phase is Phase.HEAD and self._head > LARGEST_HEAD:
                self._cut("head-too-large", 431, b"Request Header Fields Too Large")
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._enter(Phase.BODY)
        self._body = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._enter(Phase.IDLE if self.cycle.response_complete else Phase.ANSWER)
        self._head = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._phase is Phase.ANSWER:
            self._enter(Phase.IDLE)
        super().on_response_complete()

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since = phase, self.loop.time()

    def _look(self) -> None:
        """Look at every connection of this server, and again in a second for as long as there is one."""
        for connection in list(self.connections):
            if isinstance(connection, PatientProtocol):
                connection._judge()
        if self.connections:
            self.loop.call_later(LOOK_EVERY_S, self._look)
        else:
            type(self)._looking = False

    def _judge(self) -> None:
        if self.transport.is_closing():
            if self._reads_nothing():
                self.transport.abort()
            return
        now = self.loop.time()
        waited = now - self._since
        if self._phase is Phase.HEAD and waited > self.patience.request_s:
            self._cut("slow-head", 408 if self._head else 0, b"Request Timeout")
        elif self._phase is Phase.BODY and self.flow.read_paused:
            self._since = now  # it is the application that does not read on
        elif self._phase is Phase.BODY and waited > self.patience.request_s + self._body / SLOWEST:
            self._cut("slow-body", 0 if self.cycle.response_started else 408, b"Request Timeout")
        elif self._phase is Phase.IDLE and waited > IDLE_S:
            self._cut("idle", 0, b"")
        elif self._reads_nothing():
            CUT.labels("unread").inc()
            self.transport.abort()

    def _reads_nothing(self) -> bool:
        """Whether an answer has lain for long without the client taking any of it."""
        unread, now = self.transport.get_write_buffer_size(), self.loop.time()
        if unread == 0 or unread != self._unread:
            self._unread, self._unread_since = unread, now
            return False
        return now - self._unread_since > UNREAD_S

    def _cut(self, reason: str, status: int, phrase: bytes) -> None:
        """End the connection, with a last word where nothing of an answer has left; 0 says nothing."""
        CUT.labels(reason).inc()
        if status:
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
                b"cache-control: no-store\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, phrase, len(phrase), phrase)
            )
        self.transport.close()


def bounded(patience: Patience) -> type[PatientProtocol]:
    """The protocol class of a server with this patience."""
    return type("BoundedProtocol", (PatientProtocol,), {"patience": patience, "_looking": False})
