"""The provider's client against a small platform of its own, over real sockets, that also plays every kind of bad day.

The stand-in keeps the promises of the HTTP API that the client relies on: an id is credited once, a repeat gets the
first answer. The client against the real platform is tested with the demonstration.
"""

import asyncio
import csv
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.provider import Consent, ImportReport, ImportStopped, Patience, enrol_riders, post_rides, register_source
from service.feeds import BadRow, Bilingual, FeedFileError, Row, load_feed

FEED = load_feed("valleybike")
AT = datetime(2018, 7, 4, 14, tzinfo=UTC)
SHORT = Patience(first_s=0.001, longest_s=0.01, total_s=5.0, timeout_s=2.0)
CONSENT = Consent(given_at=AT)

T = TypeVar("T")


def ride(number: int, *, event_id: str | None = None, km: str = "2", rider: str | None = None) -> Row:
    """Ride `number`; the stand-in credits 100 mg for each km and refuses what is over 50 km."""
    rider = rider or f"rider-{number % 7}"
    inputs = {"distance_km": Decimal(km)}
    return Row(
        number, number + 1, event_id or f"event-{number}", rider, AT, AT + timedelta(minutes=9), None, {}, inputs
    )


def bad(number: int) -> BadRow:
    return BadRow(number, number + 1, None, Bilingual(en="Expected better.", zh="应更好。"))


@dataclass
class Platform:
    """What the stand-in knows. `faults` are played one per request to /v1/activities, then all goes well."""

    faults: deque[str] = field(default_factory=deque)
    linked: set[str] | None = None  # None: everybody is
    first: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    at_once: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    pause_s: float = 0.0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match method, path:
            case "PUT", "/v1/sources":
                return 200, {}
            case "POST", "/v1/participants":
                (link,) = body["links"]
                if link["subject"] == "nobody":
                    return 422, {"type": "urn:tanpuhui:problem:malformed-request", "title": "No", "status": 422}
                known = self.linked is not None and link["subject"] in self.linked
                if self.linked is not None:
                    self.linked.add(link["subject"])
                return 200 if known else 201, {}
            case "POST", "/v1/activities":
                return 200, {"outcomes": [self.post(event) for event in body], "counts": {}}
        return 404, {"title": "Not found"}

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


def post(platform: Platform, rows: Iterable[Row | BadRow], **options: Any) -> ImportReport:
    chosen: dict[str, Any] = {"patience": SHORT, "batch_size": 4} | options
    return with_platform(platform, lambda client: post_rides(client, "token", FEED, rows, **chosen))


def test_every_row_is_counted_once_under_its_reason(tmp_path: Path) -> None:
    platform = Platform()
    platform.post({"id": "event-2", "data": {"inputs": {"distance_km": "1"}}}, at=time.time() - 3600)
    rows: list[Row | BadRow] = [
        ride(1),
        ride(2),
        bad(3),
        ride(4, km="50.1"),
        ride(5),
        ride(6, event_id="event-5"),
        bad(7),
        bad(8),
    ]
    path = tmp_path / "refused.csv"
    seen = []
    report = post(platform, rows, refused_to=path, language="zh", on_progress=lambda now: seen.append(now.posted))
    answer = report.as_json()
    assert answer.pop("seconds") >= 0
    assert answer == {
        "posted": 8,
        "credited": 2,
        "refused": {"malformed-row": 3, "duplicate": 2, "condition-not-met/max-distance": 1},
        "reduction_mg": 400,
        "points": 2,
    }
    assert report.duplicates == 2
    assert seen[-1] == 8
    with path.open(encoding="utf-8-sig", newline="") as file:
        written = {int(line["row"]): line for line in csv.DictReader(file)}
    assert {row: line["reason"] for row, line in written.items()} == {
        2: "duplicate",
        3: "malformed-row",
        4: "condition-not-met/max-distance",
        6: "duplicate",
        7: "malformed-row",
        8: "malformed-row",
    }
    assert written[3]["detail"] == "应更好。"
    assert (written[4]["line"], written[4]["event_id"]) == ("5", "event-4")
    assert written[4]["detail"] == "no: condition-not-met"


def test_what_is_sent_is_a_batch_of_cloudevents_with_the_token() -> None:
    platform = Platform()
    post(platform, [ride(n) for n in range(10)], concurrency=1, language="zh")
    assert [len(body) for *_, body in platform.requests] == [4, 4, 2]
    for method, path, headers, _ in platform.requests:
        assert (method, path) == ("POST", "/v1/activities")
        assert headers["authorization"] == "Bearer token"
        assert headers["content-type"] == "application/cloudevents-batch+json"
        assert headers["accept-language"] == "zh"
    assert [event["id"] for *_, body in platform.requests for event in body] == [f"event-{n}" for n in range(10)]


PASSING = [
    "429 Retry-After: 0",
    "503",
    "500",
    "502",
    "408",
    "drop",
    "after-drop",
    "after-half",
    "after-slow",
    "after-other",
    "after-502",
]


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_changes_no_count(fault: str) -> None:
    platform = Platform(deque([fault, fault]))
    patience = Patience(first_s=0.001, longest_s=0.01, total_s=5.0, timeout_s=0.1)
    report = post(platform, [ride(n) for n in range(10)], patience=patience)
    assert (report.credited, dict(report.refused), report.reduction_mg, report.points) == (10, {}, 2000, 10)
    assert len(platform.requests) == 5


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.sampled_from(["good", "same", "far", "bad"]), max_size=25),
    faults=st.lists(st.sampled_from(["", *(fault for fault in PASSING if fault != "after-slow")]), max_size=8),
    concurrency=st.integers(1, 3),
)
def test_counts_add_up_whatever_happens(rows: list[str], faults: list[str], concurrency: int) -> None:
    platform = Platform(deque(faults))
    made = [
        bad(n)
        if kind == "bad"
        else ride(n, km="60" if kind == "far" else "2", event_id="same" if kind == "same" else None)
        for n, kind in enumerate(rows)
    ]
    report = post(platform, made, concurrency=concurrency)
    kinds = Counter(rows)
    assert report.posted == len(rows)
    assert report.refused["malformed-row"] == kinds["bad"]
    assert report.refused["condition-not-met/max-distance"] == kinds["far"]
    transfers = [first for first in platform.first.values() if first["outcome"] == "credited"]
    assert report.credited == report.points == len(transfers)
    assert report.reduction_mg == sum(first["reduction_mg"] for first in transfers)
    assert report.duplicates == max(0, kinds["same"] - 1)


def test_a_batch_sent_again_tells_its_own_events_from_those_of_an_earlier_run() -> None:
    platform = Platform(deque(["after-drop"]))
    for n in range(2):
        platform.post({"id": f"event-{n}", "data": {"inputs": {"distance_km": "2"}}}, at=time.time() - 60)
    report = post(platform, [ride(0), ride(1), ride(2), ride(2)])
    assert (report.credited, report.reduction_mg, dict(report.refused)) == (1, 200, {"duplicate": 3})


def test_a_second_run_credits_nothing() -> None:
    platform = Platform()
    rows = [ride(n, km="60" if n % 3 == 0 else "2") for n in range(9)]
    assert post(platform, rows).credited == 6
    again = post(platform, rows)
    assert again.as_json()["refused"] == {"duplicate": 9}
    assert (again.credited, again.reduction_mg, again.points) == (0, 0, 0)


@pytest.mark.parametrize(
    ("status", "do"), [(401, "new token"), (403, "scope"), (413, "smaller"), (415, "version"), (404, "address")]
)
def test_a_fault_that_stays_stops_the_import(status: int, do: str) -> None:
    platform = Platform(deque(["", str(status)]))
    with pytest.raises(ImportStopped) as stop:
        post(platform, [ride(n) for n in range(40)], concurrency=1)
    assert f"POST /v1/activities: expected success; came {status} Played: as told: {status}" in stop.value.text.en
    assert do in stop.value.text.en
    assert str(status) in stop.value.text.zh
    assert stop.value.report is not None
    assert stop.value.report.posted == 4
    assert len(platform.requests) == 2


def test_the_other_batches_under_way_are_counted_before_it_stops() -> None:
    platform = Platform(deque(["401"]), pause_s=0.02)
    with pytest.raises(ImportStopped) as stop:
        post(platform, [ride(n) for n in range(40)], concurrency=3)
    assert stop.value.report is not None
    assert stop.value.report.credited == len(platform.first) == 8


def test_a_file_that_breaks_off_stops_the_import_with_what_was_posted() -> None:
    def rows() -> Iterator[Row]:
        yield from (ride(n) for n in range(8))
        raise FeedFileError(en="It breaks off.", zh="内容中断。")

    with pytest.raises(ImportStopped, match=r"It breaks off\.\n内容中断。") as stop:
        post(Platform(), rows())
    assert stop.value.report is not None
    assert stop.value.report.credited == 8


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(status: int) -> None:
    platform = Platform(deque([f"{status} Retry-After: 1"]))
    began = time.monotonic()
    assert post(platform, [ride(1)]).credited == 1
    assert 1.0 <= time.monotonic() - began < 3.0


def test_retry_after_may_be_a_date() -> None:
    asked = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    began = time.monotonic()
    with pytest.raises(ImportStopped, match=r"after 1 attempts came 503 Played"):
        post(Platform(deque([f"503 Retry-After: {asked}"])), [ride(1)])
    assert time.monotonic() - began < 1.0  # an hour is beyond its patience, and it says so at once
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    assert post(Platform(deque([f"503 Retry-After: {past}", "503 Retry-After: soon"])), [ride(1)]).credited == 1


def test_nobody_there_is_said_within_the_bounds_of_patience() -> None:
    async def use() -> None:
        async with httpx.AsyncClient(base_url="http://127.0.0.1:9", trust_env=False) as client:
            await post_rides(client, "token", FEED, [ride(1)], patience=Patience(0.01, 0.05, 0.3, 1.0))

    began = time.monotonic()
    with pytest.raises(ImportStopped, match=r"(?s)ConnectError.*See that the platform runs.*请确认平台正在运行"):
        asyncio.run(use())
    assert time.monotonic() - began < 2.0


def test_an_address_that_is_none_is_said() -> None:
    async def use() -> None:
        async with httpx.AsyncClient(base_url="ftp://example.org", trust_env=False) as client:
            await register_source(client, "token", FEED, patience=SHORT)

    with pytest.raises(ImportStopped, match="Mend the address"):
        asyncio.run(use())


def test_rows_are_read_no_faster_than_they_are_posted() -> None:
    platform, read = Platform(pause_s=0.001), 0

    def rows() -> Iterator[Row]:
        nonlocal read
        for n in range(200):
            read += 1
            assert read - len(platform.first) <= 3 * 4 + 1  # what three workers hold
            yield ride(n)

    assert post(platform, rows(), concurrency=3).credited == 200
    assert platform.most_at_once["/v1/activities"] == 3


def test_every_rider_is_enrolled_once_and_before_the_first_ride() -> None:
    platform = Platform(linked=set(), pause_s=0.002)

    async def use(client: httpx.AsyncClient) -> ImportReport:
        enrol = partial(enrol_riders, client, "operator", FEED, consent=CONSENT, concurrency=2, patience=SHORT)
        rows = [ride(n, rider=f"rider-{n % 13}") for n in range(60)]
        return await post_rides(client, "token", FEED, rows, enrol=enrol, batch_size=4, concurrency=4, patience=SHORT)

    report = with_platform(platform, use)
    assert (report.credited, dict(report.refused)) == (60, {})
    enrolled = [body for _, path, _, body in platform.requests if path == "/v1/participants"]
    assert len(enrolled) == 13
    assert platform.most_at_once["/v1/participants"] <= 2
    assert enrolled[0] == {
        "kind": "citizen",
        "links": [
            {
                "source": "urn:tanpuhui:source:valleybike",
                "subject": "rider-0",
                "consent": {
                    "purpose": "carbon-credit",
                    "text_version": "demonstration-1",
                    "given_at": "2018-07-04T14:00:00+00:00",
                },
            }
        ],
    }


def test_enrolling_counts_the_new_and_passes_over_who_cannot_be() -> None:
    platform = Platform(linked={"rider-0"})
    enrol = partial(enrol_riders, operator_token="operator", feed=FEED, consent=CONSENT, patience=SHORT)
    assert with_platform(platform, partial(enrol, subjects=["rider-0", "nobody", "rider-1"])) == 1


def test_registering_the_source() -> None:
    platform = Platform()
    with_platform(platform, lambda client: register_source(client, "operator", FEED, patience=SHORT))
    ((method, path, headers, body),) = platform.requests
    assert (method, path, headers["authorization"]) == ("PUT", "/v1/sources", "Bearer operator")
    assert body == {
        "uri": "urn:tanpuhui:source:valleybike",
        "title_zh": "ValleyBike 骑行记录（演示数据方）",
        "title_en": "ValleyBike ride records (demonstration provider)",
        "grade": "A",
        "scenarios": ["docked-ebike"],
        "valid_from": "2018-01-01",
        "valid_to": None,
    }


@pytest.mark.parametrize("size", [0, 1001])
def test_a_batch_size_the_platform_refuses_is_refused_here(size: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        post(Platform(), [], batch_size=size)


def test_a_batch_stays_under_two_mebibytes() -> None:
    platform = Platform()
    rows = [ride(n, event_id=f"{n:04}" + "骑" * 196, rider="者" * 200) for n in range(1000)]
    assert post(platform, rows, batch_size=1000).credited == 1000
    assert len(platform.requests) == 1
    platform = Platform()
    rows = [
        ride(n, event_id=f"{n:04}" + "𠀀" * 196, rider="𠀀" * 200)._replace(vehicle="𠀀" * 200) for n in range(1000)
    ]
    assert post(platform, rows, batch_size=1000).credited == 1000
    assert len(platform.requests) == 2
    assert all(int(headers["content-length"]) <= 2 << 20 for _, _, headers, _ in platform.requests)
