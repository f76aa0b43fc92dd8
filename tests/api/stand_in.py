"""A small platform over real sockets that also plays every kind of bad day, and rides to post to it.

It keeps the promises of the HTTP API that a client relies on: an id is credited once, a repeat gets the first answer.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import httpx
import orjson

from api.provider import Bearer, ImportReport, Patience, Recorder, post_rows
from service.feeds import BadRow, Bilingual, Row, load_feed

FEED = load_feed("valleybike")
AT = datetime(2018, 7, 4, 14, tzinfo=UTC)
SHORT = Patience(first_s=0.001, longest_s=0.01, total_s=5.0, timeout_s=2.0)

T = TypeVar("T")


def ride(number: int, *, event_id: str | None = None, km: str = "2", rider: str | None = None) -> Row:
    """Ride `number`; the stand-in credits 100 mg for each km and refuses what is over 50 km."""
    rider = rider or f"rider-{number % 7}"
    inputs = {"distance_km": Decimal(km)}
    return Row(
        number, number + 1, event_id or f"event-{number}", rider, AT, AT + timedelta(minutes=9), None, {}, inputs
    )


def bad(number: int) -> BadRow:
    return BadRow(
        number,
        number + 1,
        None,
        "malformed-row",
        Bilingual(en="Expected better.", zh="应更好。"),
        Bilingual(en="Mend it.", zh="请更正。"),
    )


@dataclass
class Platform:
    """What the stand-in knows. `faults` are played one per request to /v1/activities, then all goes well; of `tokens`
    the first is taken, and each goes with the fault "ended"."""

    faults: deque[str] = field(default_factory=deque)
    tokens: deque[str] = field(default_factory=deque)
    linked: set[str] | None = None  # None: everybody is
    first: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    at_once: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    pause_s: float = 0.0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match method, path.partition("?")[0]:
            case "PUT", "/v1/sources":
                return 200, {}
            case "POST", "/v1/participants/batch":
                outcomes = [self.enrol(person["links"][0]["subject"]) for person in body["participants"]]
                return 200, {"outcomes": outcomes, "counts": Counter(one["outcome"] for one in outcomes)}
            case "POST", "/v1/activities":
                return 200, {"outcomes": [self.post(event) for event in body], "counts": {}}
        return 404, {"title": "Not found"}

    def enrol(self, subject: str) -> dict[str, str]:
        if subject == "nobody":
            return {"outcome": "refused"}
        known = self.linked is not None and subject in self.linked
        if self.linked is not None:
            self.linked.add(subject)
        return {"outcome": "found" if known else "enrolled"}

    def post(self, event: dict[str, Any], at: float | None = None) -> dict[str, Any]:
        event_id = event["id"]
        if self.linked is not None and event["subject"] not in self.linked:
            return refused(event_id, "subject-not-linked")
        if event_id in self.first:
            return {"id": event_id, "outcome": "duplicate", "first": self.first[event_id]}
        km = Decimal(event["data"]["inputs"]["distance_km"])
        made_ms = int((at or time.time()) * 1000)
        self.first[event_id] = (
            refused(event_id, "condition-not-met", condition="max-distance", value=str(km), limit="50")
            if km > 50
            else {
                "id": event_id,
                "outcome": "credited",
                "transfer_id": str(UUID(int=made_ms << 80 | 7 << 76 | 2 << 62 | len(self.first))),
                "reduction_mg": int(km * 100),
                "points": 1,
            }
        )
        return self.first[event_id]


def refused(event_id: str, slug: str, **members: str) -> dict[str, Any]:
    problem = {"type": f"urn:tanpuhui:problem:{slug}", "title": slug, "status": 422, "detail": f"no: {slug}"}
    return {"id": event_id, "outcome": "refused", "problem": problem | members}


@asynccontextmanager
async def serving(platform: Platform) -> Any:
    """A client of the stand-in, which speaks just enough HTTP/1.1 to break it at will."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _one_request(platform, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        try:
            yield client
        finally:
            server.close()


async def _one_request(platform: Platform, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    body = orjson.loads(await reader.readexactly(int(headers["content-length"])))
    platform.requests.append((method, path, headers, body))
    platform.at_once[path] += 1
    platform.most_at_once[path] = max(platform.most_at_once[path], platform.at_once[path])
    try:
        await asyncio.sleep(platform.pause_s)
        fault = platform.faults.popleft() if platform.faults and path == "/v1/activities" else ""
        if fault == "ended":
            platform.tokens.popleft()
        if platform.tokens and headers["authorization"] != f"Bearer {platform.tokens[0]}":
            fault = "401"
        return await _play(fault, lambda: platform.answer(method, path, body), writer)
    finally:
        platform.at_once[path] -= 1


async def _play(fault: str, answer: Callable[[], tuple[int, Any]], writer: asyncio.StreamWriter) -> bool:
    """Answer, or fail on the way, an after-… once all is posted; returns whether the connection stays."""
    extra = ""
    match fault.split(" ", 1):
        case ["drop"]:
            return False
        case ["after-drop"]:
            answer()
            return False
        case ["after-half"]:
            _, document = answer()
            content = orjson.dumps(document)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content[: len(content) // 2])
            await writer.drain()
            return False
        case ["after-slow"]:
            answer()
            await asyncio.sleep(0.3)
            return False
        case ["after-other"]:  # a proxy that answers something else with 200
            answer()
            status, document = 200, {"outcomes": []}
        case ["after-502"]:
            answer()
            status, document = 502, "Bad Gateway"
        case [code, *rest] if code.isdigit():
            status, document = int(code), {"title": "Played", "detail": f"as told: {code}"}
            extra = "".join(f"{line}\r\n" for line in rest)
        case _:
            status, document = answer()
    content = orjson.dumps(document)
    writer.write(f"HTTP/1.1 {status} Played\r\n{extra}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    await writer.drain()
    return True


def with_platform(platform: Platform, use: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with serving(platform) as client:
            return await use(client)

    return asyncio.run(run())


def post(
    platform: Platform,
    rows: Iterable[Row | BadRow],
    *,
    recorder: Recorder | None = None,
    token: Bearer | str = "token",
    **options: Any,
) -> ImportReport:
    chosen: dict[str, Any] = {"patience": SHORT, "batch_size": 4} | options
    with recorder or Recorder() as recording:
        return with_platform(platform, lambda client: post_rows(client, token, FEED, rows, recording, **chosen))
