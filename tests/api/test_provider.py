"""The provider's client against a small platform of its own, over real sockets, that also plays every kind of bad day.

The client against the real platform is tested with the demonstration and in test_importing.py.
"""

import asyncio
import csv
import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.provider import (
    Consent,
    ImportReport,
    ImportStopped,
    Patience,
    Recorder,
    enrol_riders,
    post_rows,
    register_source,
)
from api.provider.encoding import encoder
from service.feeds import BadRow, FeedFileError, Row, to_event
from tests.api.stand_in import AT, FEED, SHORT, Platform, bad, post, ride, with_platform

CONSENT = Consent(given_at=AT)


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
    recorder = Recorder(path, language="zh")
    report = post(platform, rows, recorder=recorder, language="zh", on_progress=lambda now: seen.append(now.posted))
    answer = report.as_json()
    assert answer.pop("seconds") >= 0
    assert answer == {
        "posted": 8,
        "credited": 2,
        "refused": {"malformed-row": 3, "duplicate": 2, "condition-not-met/max-distance": 1},
        "reduction_mg": 400,
        "points": 2,
    }
    assert (report.duplicates, dict(report.rows)) == (2, {"credited": 2, "refused": 6, "passed_over": 0})
    amounts = {"credited": 2, "refused": 3, "reduction_mg": 400, "points": 2}
    nothing = {"credited": 0, "refused": 3, "reduction_mg": 0, "points": 0}
    assert report.in_full()["days"] == {"2018-07-04": amounts, "unknown": nothing}
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
    assert (written[3]["detail"], written[3]["mend"]) == ("应更好。", "请更正。")
    assert all(line["mend"] for line in written.values())
    assert list(written) == [2, 3, 4, 6, 7, 8]
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
            await post_rows(client, "token", FEED, [ride(1)], Recorder(), patience=Patience(0.01, 0.05, 0.3, 1.0))

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
        enrol = partial(enrol_riders, client, "operator", FEED, consent=CONSENT, patience=SHORT)
        rows = [ride(n, rider=f"rider-{n % 13}") for n in range(60)]
        options: dict[str, Any] = {"enrol": enrol, "batch_size": 4, "concurrency": 4, "patience": SHORT}
        return await post_rows(client, "token", FEED, rows, Recorder(), **options)

    report = with_platform(platform, use)
    assert (report.credited, dict(report.refused)) == (60, {})
    calls = [body["participants"] for _, path, _, body in platform.requests if path == "/v1/participants/batch"]
    enrolled = [person for people in calls for person in people]
    assert len(enrolled) == 13
    assert len(calls) <= 4
    assert platform.most_at_once["/v1/participants/batch"] == 1
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


@given(
    event_id=st.text(min_size=1, max_size=20),
    subject=st.text(min_size=1, max_size=20),
    vehicle=st.none() | st.text(min_size=1, max_size=9),
    references=st.dictionaries(st.sampled_from(["operator", "order"]), st.text(min_size=1, max_size=9)),
    started_at=st.datetimes(timezones=st.just(UTC)),
    km=st.decimals(allow_nan=False, allow_infinity=False),
    names=st.sets(st.sampled_from(["distance_km"])),
    reads=st.booleans(),
)
def test_rows_are_encoded_as_their_events(
    event_id: str,
    subject: str,
    vehicle: str | None,
    references: dict[str, str],
    started_at: datetime,
    km: Decimal,
    names: set[str],
    reads: bool,
) -> None:
    series = {"use_kwh": {"kind": "interval", "spans": [["a", "b", "1"]]}} if reads else {}
    inputs = dict.fromkeys(names, km)
    row = Row(1, 2, event_id, subject, started_at, started_at, vehicle, references, inputs, series, series)
    encode = encoder(FEED)
    for one in (row, row._replace(event_id="second")):
        assert orjson.loads(encode(one)) == orjson.loads(orjson.dumps(to_event(FEED, one)))
