"""A load generator that costs little, because it shares the machine with what it measures.

Raw HTTP/1.1 on keep-alive connections, one request at a time on each. Requests come as ready bytes, and the next one is
written from the callback that saw the last byte of an answer: no task and no future per request. It reads only what the
measured servers send, answers with a Content-Length.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

PATIENCE_S = 60.0  # after the last request was sent: longer than the platform itself waits for a lost database


class LoadFailed(Exception):
    """The measured server closed a connection, fell silent, or sent what is no answer."""


@dataclass(slots=True)
class Measured:
    """What one stretch of load saw.

    elapsed     seconds from the first request to the last answer
    latencies   seconds of each request, in order of completion
    statuses    answers by HTTP status
    unexpected  the first answer of a status that was not expected, for the message
    bodies      the answers' bodies, where they were asked for
    cpu         seconds of processor time the generator itself took
    """

    elapsed: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unexpected: bytes | None = None
    bodies: list[bytes] = field(default_factory=list)
    cpu: float = 0.0


def http_request(
    method: str,
    path: str,
    *,
    token: str,
    content_type: str | None = None,
    body: bytes | None = None,
    extra: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of one request; `extra` are further headers."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


class _Load:
    """What the connections of one stretch share."""

    def __init__(self, requests: Iterator[bytes], expected: Sequence[int], keep_bodies: bool) -> None:
        self.requests, self.expected, self.keep_bodies = requests, frozenset(expected), keep_bodies
        self.measured = Measured()
        self.stop_at = 0.0
        self.ended = 0.0
        self.busy = 0
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(self, status: int, body: bytes, seconds: float) -> None:
        measured = self.measured
        measured.latencies.append(seconds)
        measured.statuses[status] += 1
        if self.keep_bodies:
            measured.bodies.append(body)
        if status not in self.expected and measured.unexpected is None:
            measured.unexpected = body

    def fail(self, why: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(LoadFailed(why))


class _Connection(asyncio.Protocol):
    """One client. Holds the answer that is arriving until it is complete."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._answer = bytearray()
        self._body_at = 0  # 0 while the head is incomplete
        self._complete_at = 0
        self._sent_at = 0.0
        self._idle = True
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class, of the same methods

    def send_next(self) -> None:
        load, now = self._load, time.perf_counter()
        request = next(load.requests, None) if now < load.stop_at else None
        self._idle = request is None
        if request is None:
            load.busy -= 1
            if load.busy == 0 and not load.finished.done():
                load.ended = now
                load.finished.set_result(None)
            return
        self._sent_at = now
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        answer += data
        if not self._body_at and not self._read_head():
            return
        if len(answer) < self._complete_at:
            return
        seconds = time.perf_counter() - self._sent_at
        self._load.answered(int(answer[9:12]), bytes(answer[self._body_at :]), seconds)
        answer.clear()
        self._body_at = 0
        self.send_next()

    def _read_head(self) -> bool:
        """Find where the body begins and ends; False while the head is incomplete."""
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._answer[:end]).lower()
        at = head.find(b"\r\ncontent-length:")
        if not head.startswith(b"http/1.1 ") or at < 0:
            self._load.fail(f"expected an HTTP/1.1 answer with a Content-Length; came {head[:200]!r}")
            return False
        self._body_at = end + 4
        self._complete_at = self._body_at + int(head[at + 17 :].split(b"\r\n", 1)[0])
        return True

    def connection_lost(self, error: Exception | None) -> None:
        if not self._idle:
            self._load.fail(f"the server closed a connection that waited for its answer: {error}")


async def drive(
    port: int,
    requests: Iterator[bytes],
    *,
    clients: int,
    seconds: float,
    expected: Sequence[int],
    keep_bodies: bool = False,
) -> Measured:
    """Send requests on `clients` connections to 127.0.0.1 for so many seconds, or until there are none left; what was
    sent is waited for.

    Raises LoadFailed.
    """
    loop = asyncio.get_running_loop()
    load = _Load(requests, expected, keep_bodies)
    connections: list[_Connection] = []
    try:
        for _ in range(clients):
            _, connection = await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port)
            connections.append(connection)
        started, cpu = time.perf_counter(), time.process_time()
        load.stop_at, load.busy = started + seconds, clients
        for connection in connections:
            connection.send_next()
        async with asyncio.timeout(seconds + PATIENCE_S):
            await load.finished
    except TimeoutError:
        raise LoadFailed(f"{load.busy} of {clients} clients still wait {PATIENCE_S:.0f} s after the end") from None
    finally:
        for connection in connections:
            connection.transport.close()
    load.measured.elapsed = load.ended - started
    load.measured.cpu = time.process_time() - cpu
    return load.measured
