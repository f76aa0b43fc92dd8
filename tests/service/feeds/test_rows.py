"""Reading a provider's file: golden events, forms of CSV, faulty rows, faulty files, clock changes."""

import contextlib
import gzip
import hashlib
import tracemalloc
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.feeds import (
    SHIPPED_RIDES,
    BadRow,
    Feed,
    FeedFileError,
    Row,
    count_rows,
    load_feed,
    read_rows,
    to_event,
)
from service.feeds.cells import LONGEST_ID
from service.feeds.feed import parse_feed
from service.feeds.places import straight_line_km

VALLEYBIKE = load_feed("valleybike")
MOBIKE = load_feed("mobike-shanghai")
HEADING = "route_id,user_id,bike_id,start_time_utc,end_time_utc,points,track_km"
RIDE = "route_07_2018@a,rider-1,1381,2018-07-04T14:00:00Z,2018-07-04T14:20:00Z,240,3.456"
MOBIKE_HEADING = (
    "orderid,bikeid,userid,start_time,start_location_x,start_location_y,end_time,end_location_x,end_location_y,track"
)
MOBIKE_RIDE = (
    "900001,77,4001,2016-08-19 23:50,121.500,31.300,"
    '2016-08-20 00:05,121.500,31.309999999999999,"121.500,31.300#121.500,31.310"'
)

Put = Callable[[str | bytes], Path]


@pytest.fixture(scope="module")
def put(tmp_path_factory: pytest.TempPathFactory) -> Put:
    """Write a file and give its path; always the same, for Hypothesis asks hundreds of times."""
    path = tmp_path_factory.mktemp("rides") / "骑行 rides.csv"

    def put(content: str | bytes) -> Path:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def rows_of(feed: Feed, path: Path) -> list[Row | BadRow]:
    rows = list(read_rows(feed, [path]))
    assert count_rows(feed, [path]) == len(rows)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return rows


def the_row(feed: Feed, path: Path) -> Row:
    (row,) = rows_of(feed, path)
    assert isinstance(row, Row), row
    return row


def test_the_shipped_file_is_what_its_notice_says() -> None:
    content = gzip.decompress(SHIPPED_RIDES.read_bytes())
    assert hashlib.sha256(content).hexdigest() == "9e4769e7a6610c601000f53fec7bbd8a16e2526089104c083a0e62eb3acd4857"
    assert content.splitlines()[0].decode() == HEADING
    assert len(rows_of(VALLEYBIKE, SHIPPED_RIDES)) == 12_000
    notice = (SHIPPED_RIDES.parent / "NOTICE").read_text(encoding="utf-8")
    assert "Copyright (c) 2020 Valleybike.org, Nicholas Horton, Maria-Cristiana Gîrjău" in notice
    assert "12,000" in notice


def test_the_first_valleybike_events() -> None:
    first, eleventh = (
        to_event(VALLEYBIKE, row)
        for row in islice(read_rows(VALLEYBIKE, [SHIPPED_RIDES]), 0, 11, 10)
        if isinstance(row, Row)
    )
    assert first == {
        "specversion": "1.0",
        "id": "route_11_2018@8d2ac752-69dd-4fcc-b61a-09e5a4dd5acf",
        "source": "urn:tanpuhui:source:valleybike",
        "type": "org.tanpuhui.activity.v1",
        "subject": "1630f240-e408-4826-81da-10603f44c5d7",
        "data": {
            "scenario": "docked-ebike",
            "started_at": "1980-11-21T14:24:06Z",  # a dirty row, left in: the platform refuses it
            "ended_at": "2018-11-12T01:46:22Z",
            "inputs": {"distance_km": "5.13"},
            "basis": {"distance_km": "track"},
            "vehicle": "1381",
            "references": {"operator": "valleybike"},
        },
    }
    assert eleventh["id"] == "route_06_2018@dd896500-39aa-4e4f-8f48-1c368afb3ca6"
    assert eleventh["data"] == {
        "scenario": "docked-ebike",
        "started_at": "2018-06-28T14:09:32Z",
        "ended_at": "2018-06-28T17:33:57Z",
        "inputs": {"distance_km": "1.41"},
        "basis": {"distance_km": "track"},
        "vehicle": "924",
        "references": {"operator": "valleybike"},
    }


def test_a_mobike_event(put: Put) -> None:
    row = the_row(MOBIKE, put(f"{MOBIKE_HEADING}\n{MOBIKE_RIDE}\n"))
    assert to_event(MOBIKE, row) == {
        "specversion": "1.0",
        "id": "900001",
        "source": "urn:tanpuhui:source:mobike-shanghai",
        "type": "org.tanpuhui.activity.v1",
        "subject": "4001",
        "data": {
            "scenario": "demo-shared-bike",
            "started_at": "2016-08-19T15:50:00Z",  # Asia/Shanghai is eight hours ahead
            "ended_at": "2016-08-19T16:05:00Z",
            "inputs": {"distance_km": "1.112"},  # a hundredth of a degree: 6371.0088 * pi / 180 / 100 = 1.11195
            "basis": {"distance_km": "straight_line"},
            "vehicle": "77",
            "references": {"operator": "mobike", "order": "900001"},
        },
    }


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADING}\n{RIDE}\n",
        f"{HEADING}\n{RIDE}",  # no newline at the end
        f"\ufeff{HEADING}\r\n{RIDE}\r\n",
        f"{HEADING}\n\n{RIDE}\n\n",
        HEADING.replace(",", " , ") + "\n" + RIDE.replace(",", " ,  ") + "\n",
        ",".join(f'"{cell}"' for cell in HEADING.split(",")) + "\n" + ",".join(f'"{cell}"' for cell in RIDE.split(",")),
        f'note,{HEADING}\n"two\nlines, and a ""quote""",{RIDE}\n',
        ",".join(reversed(HEADING.split(","))) + "\n" + ",".join(reversed(RIDE.split(","))),
        f"{HEADING}\n{RIDE.replace('14:00:00Z', '14:00:00').replace('14:20:00Z', '22:20:00+08:00')}\n",
        f"{HEADING}\n{RIDE.replace('T14:00:00Z', ' 14:00').replace('14:20:00Z', '14:20:00.000Z')}\n",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_ride_in_other_forms(put: Put, content: str, packed: bool) -> None:
    raw = content.encode()
    half = len(raw) // 2  # two members in one file, as `cat a.gz b.gz` makes it
    path = put(gzip.compress(raw[:half]) + gzip.compress(raw[half:]) if packed else raw)
    assert to_event(VALLEYBIKE, the_row(VALLEYBIKE, path)) == to_event(
        VALLEYBIKE, the_row(VALLEYBIKE, put(f"{HEADING}\n{RIDE}\n"))
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("3.456", "", "track_km: expected a number"),
        ("3.456", "3,456", "came 8 cells"),
        ("3.456", '"3,456"', "thousands separator; came '3,456'"),
        ("3.456", "NaN", "came 'NaN'"),
        ("3.456", "1e999", "came '1e999'"),
        ("3.456", "٣.٤", "expected a number"),
        ("3.456", "9" * 41, "expected a number"),
        (",3.456", "", "came 6 cells"),
        ("2018-07-04T14:00:00Z", "04/07/2018 14:00", "start_time_utc: expected a date and time"),
        ("2018-07-04T14:00:00Z", "2018-02-30T14:00:00Z", "came '2018-02-30T14:00:00Z'"),
        ("2018-07-04T14:00:00Z", "0001-01-01T00:00:00+14:00", "start_time_utc: expected a date and time"),
        ("2018-07-04T14:00:00Z", "2018-07-04T24:00:00Z", "start_time_utc: expected a date and time"),
        ("2018-07-04T14:00:00Z", "20180704T140000Z", "start_time_utc: expected a date and time"),
        ("rider-1", " ", "user_id: expected an id"),
        ("rider-1", "rider\x07", "came 'rider\\x07'"),
        ("rider-1", "r" * (LONGEST_ID + 1), "user_id: expected an id of 1 to 200"),
        ("route_07_2018@a", "", "route_id: expected an id"),
        ("rider-1", '"rider"1', "Mend the line's commas"),
        ("rider-1", '"rider-1', "Mend the line's commas"),
    ],
)
def test_a_faulty_row_says_what_to_mend_and_harms_no_neighbour(put: Put, old: str, new: str, said: str) -> None:
    before, after = RIDE.replace("@a", "@before"), RIDE.replace("@a", "@after")
    assert old in RIDE
    rows = rows_of(VALLEYBIKE, put("\n".join([HEADING, before, RIDE.replace(old, new), after])))
    assert [type(row) for row in rows] == [Row, BadRow, Row]
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert (bad.number, bad.line) == (2, 3)
    assert said in bad.detail.en
    assert bad.detail.zh


def test_the_last_good_values(put: Put) -> None:
    def valleybike(old: str, new: str) -> Row:
        return the_row(VALLEYBIKE, put(f"{HEADING}\n{RIDE.replace(old, new)}\n"))

    for number in ("0", "-1.5", "+2.", ".5", "1e-05", "9" * 40, "31.304000000000002"):
        event = to_event(VALLEYBIKE, valleybike("3.456", number))
        assert event["data"]["inputs"] == {"distance_km": f"{Decimal(number):f}"}
    assert valleybike("rider-1", "骑" * LONGEST_ID).subject == "骑" * LONGEST_ID
    assert valleybike("1381", " ").vehicle is None


def test_references_are_columns_or_constants(put: Put) -> None:
    text = (SHIPPED_RIDES.parent.parent / "valleybike.yaml").read_text(encoding="utf-8")
    constant = "  operator: {constant: valleybike}"
    assert constant in text
    feed = parse_feed(text.replace(constant, f"{constant}\n  order: bill\n  payment: paid"), "orders.yaml")
    rides = [f"{RIDE},{order},{paid}" for order, paid in (("A-1", "p 7"), (" B2 ", " "), ("", "p8"))]
    rows = rows_of(feed, put("\n".join([f"{HEADING},bill,paid", *rides])))
    assert [to_event(feed, row)["data"]["references"] for row in rows if isinstance(row, Row)] == [
        {"operator": "valleybike", "order": "A-1", "payment": "p 7"},
        {"operator": "valleybike", "order": "B2"},  # an empty cell is no reference
        {"operator": "valleybike", "payment": "p8"},
    ]
    (bad,) = rows_of(feed, put(f"{HEADING},bill,paid\n{RIDE},{'9' * (LONGEST_ID + 1)},p\n"))
    assert isinstance(bad, BadRow)
    assert "bill: expected an id" in bad.detail.en
    with pytest.raises(FeedFileError, match="paid missing"):
        count_rows(feed, [put(f"{HEADING},bill\n{RIDE},A-1\n")])
    without = parse_feed(text.replace(f"references:\n{constant}", "# none:"), "none.yaml")
    assert "references" not in to_event(without, the_row(without, put(f"{HEADING}\n{RIDE}\n")))["data"]


def test_degrees_beyond_the_globe_are_a_bad_row(put: Put) -> None:
    for old, last_good, first_bad in (("31.300", "90", "90.001"), ("121.500", "-180", "-180.001")):
        the_row(MOBIKE, put(f"{MOBIKE_HEADING}\n{MOBIKE_RIDE.replace(old, last_good, 1)}\n"))
        (bad,) = rows_of(MOBIKE, put(f"{MOBIKE_HEADING}\n{MOBIKE_RIDE.replace(old, first_bad, 1)}\n"))
        assert isinstance(bad, BadRow)
        assert first_bad in bad.detail.en
        assert first_bad in bad.detail.zh


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"\xef\xbb\xbf \n", "an empty file"),
        (gzip.compress(b""), "an empty file"),
        (b"<html>\n<head><title>504 Gateway Time-out</title></head>", "a web page"),
        (gzip.compress(b"\n<!DOCTYPE html>"), "a web page"),
        (b"PK\x03\x04rest", "another kind of archive"),
        (b"PAR1rest", "another kind of archive or a Parquet file"),
        (HEADING.encode("utf-16"), "UTF-16"),
        (b"\x00\x01\x02", "binary"),
        (bytes(range(128, 256)), "byte 0x80 is not"),
        (b"\x1f\x8b not gzip after all", "reading it failed"),
        (gzip.compress(f"{HEADING}\n{RIDE}\n".encode())[:-9], "it breaks off"),
        (gzip.compress(f"{HEADING}\n{RIDE}\n".encode()) + b"rubbish", "reading it failed"),
        (
            f"{HEADING}\n{RIDE}\n".replace("rider-1", "Gîrjău").encode("latin-1", "replace"),
            "line 2: expected text in UTF-8; byte 0xee",
        ),
        (
            f"{HEADING}\n{RIDE}\n".encode("gb18030").replace(b"rider", "骑手".encode("gb18030")),
            "line 2: expected text in UTF-8",
        ),
        (HEADING.replace(",track_km", "").encode(), "track_km missing"),
        (
            HEADING.replace(",", ";").encode(),
            "route_id, user_id, start_time_utc, end_time_utc, bike_id, track_km missing",
        ),
        (f"{HEADING},track_km".encode(), "track_km standing twice"),
        (RIDE.encode(), "route_id, user_id"),
        (HEADING.encode() + b"\r" + RIDE.encode() + b"\r", "it is not CSV"),
        (b'"' + HEADING.encode() + b"\n" + RIDE.encode(), "it is not CSV"),
        (HEADING.encode() + b"\n" + b"x" * (1 << 20) + b"\n", "line 2: expected lines of at most 1 MiB"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,  # gzip puts the time in it, and a mebibyte is no name
)
def test_a_file_that_is_no_csv_is_refused_as_a_whole(put: Put, content: bytes, said: str) -> None:
    path = put(content)
    for read in (count_rows, lambda feed, paths: list(read_rows(feed, paths))):
        with pytest.raises(FeedFileError) as refused:
            read(VALLEYBIKE, [path])
        assert said in refused.value.text.en
        assert str(path) in refused.value.text.zh


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(FeedFileError, match="reading it failed"):
            count_rows(VALLEYBIKE, [path])


def test_a_heading_alone_is_a_file_without_rows(put: Put) -> None:
    assert rows_of(VALLEYBIKE, put(HEADING)) == []


def test_a_stray_quotation_mark_costs_its_own_line(put: Put) -> None:
    rides = [RIDE.replace("@a", f"@{n}") for n in range(2000)]
    rides[5] = rides[5].replace(
        "rider-1", '"rider-1'
    )  # no other follows: by the rules of CSV it would swallow the rest
    rows = rows_of(VALLEYBIKE, put("\n".join([HEADING, *rides])))
    assert [row.line for row in rows if isinstance(row, BadRow)] == [7]
    assert [row.line for row in rows] == list(range(2, 2002))


BERLIN = parse_feed(
    (SHIPPED_RIDES.parent.parent / "valleybike.yaml")
    .read_text(encoding="utf-8")
    .replace("time_zone: UTC", "time_zone: Europe/Berlin"),
    "berlin.yaml",
)


@pytest.mark.parametrize(
    ("start", "end", "started_at", "ended_at"),
    [
        ("2018-03-25 01:59", "2018-03-25 03:01", "00:59", "01:01"),  # across the hour that was skipped
        ("2018-10-28 01:50", "2018-10-28 01:59", "23:50", "23:59"),
        ("2018-10-28 01:50", "2018-10-28 02:10", "23:50", "00:10"),  # an end that occurred twice: the shortest ride
        ("2018-10-28 02:50", "2018-10-28 03:10", "01:50", "02:10"),  # a start that occurred twice: the shortest ride
        ("2018-10-28 02:10", "2018-10-28 02:30", "00:10", "00:30"),  # both twice and as short: the earlier
        ("2018-10-28 02:50", "2018-10-28 02:10", "00:50", "01:10"),  # the clock was set back during the ride
        ("2018-10-28 03:00", "2018-10-28 03:10", "02:00", "02:10"),
        ("2018-10-28T02:10:00+01:00", "2018-10-28T02:30:00+01:00", "01:10", "01:30"),  # an offset leaves no doubt
    ],
)
def test_a_time_that_occurred_twice_makes_the_shortest_ride(
    put: Put, start: str, end: str, started_at: str, ended_at: str
) -> None:
    ride = RIDE.replace("2018-07-04T14:00:00Z", start).replace("2018-07-04T14:20:00Z", end)
    row = the_row(BERLIN, put(f"{HEADING}\n{ride}\n"))
    assert (f"{row.started_at:%H:%M}", f"{row.ended_at:%H:%M}") == (started_at, ended_at)


@pytest.mark.parametrize(("time", "good"), [("01:59", True), ("02:00", False), ("02:59", False), ("03:00", True)])
def test_a_time_that_was_skipped_is_a_bad_row(put: Put, time: str, good: bool) -> None:
    ride = RIDE.replace("2018-07-04T14:00:00Z", f"2018-03-25 {time}").replace(
        "2018-07-04T14:20:00Z", "2018-03-25 04:00"
    )
    (row,) = rows_of(BERLIN, put(f"{HEADING}\n{ride}\n"))
    assert isinstance(row, Row if good else BadRow)
    if isinstance(row, BadRow):
        assert "was skipped by the clock change in Europe/Berlin" in row.detail.en


@pytest.mark.parametrize(("unit", "km"), [("km", "3456.700"), ("m", "3.456700"), ("mi", "5563.0194048")])
def test_units_are_converted_exactly(put: Put, unit: str, km: str) -> None:
    text = (
        (SHIPPED_RIDES.parent.parent / "valleybike.yaml")
        .read_text(encoding="utf-8")
        .replace("unit: km", f"unit: {unit}")
    )
    row = the_row(parse_feed(text, "unit.yaml"), put(f"{HEADING}\n{RIDE.replace('3.456', '3456.700')}\n"))
    assert row.inputs["distance_km"] == Decimal(km)


@pytest.mark.parametrize(
    ("start", "end", "km"),
    [
        ((121.522, 31.289), (121.522, 31.289), "0.000"),
        ((0.0, 0.0), (1.0, 0.0), "111.195"),  # 6371.0088 * pi / 180 = 111.195080
        ((0.0, 0.0), (180.0, 0.0), "20015.114"),  # half way round: 6371.0088 * pi = 20015.1144
        ((0.0, 90.0), (77.0, -90.0), "20015.114"),
        ((179.5, 0.0), (-179.5, 0.0), "111.195"),  # across the date line, the short way
        ((121.4737, 31.2304), (116.4074, 39.9042), "1067.312"),  # Shanghai to Beijing
    ],
)
def test_the_straight_line(start: tuple[float, float], end: tuple[float, float], km: str) -> None:
    assert straight_line_km(start, end, 3) == straight_line_km(end, start, 3) == Decimal(km)


degrees = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@given(degrees, degrees)
def test_the_straight_line_of_any_two_places(start: tuple[float, float], end: tuple[float, float]) -> None:
    distance = straight_line_km(start, end, 3)
    assert Decimal(0) <= distance <= Decimal("20015.114")
    assert distance.as_tuple().exponent == -3


cell = st.text(max_size=12) | st.sampled_from(
    [*RIDE.split(","), '"', '""', "\n", "\r", ",", "\x00", "1e9", "2018-10-28 02:30"]
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    lines=st.lists(st.lists(cell, max_size=8).map(",".join) | st.just(RIDE), max_size=6),
    feed=st.sampled_from([VALLEYBIKE, BERLIN]),
)
def test_no_row_crashes_the_reader_or_gets_lost(put: Put, lines: list[str], feed: Feed) -> None:
    content = "\n".join([HEADING, *lines, RIDE]).encode("utf-8", "surrogatepass")
    try:
        rows = rows_of(feed, put(content))
    except FeedFileError:
        return  # surrogates are not UTF-8
    numbers = [row.line for row in rows]
    assert numbers == sorted(set(numbers))
    for row in rows:
        if isinstance(row, Row):
            event = to_event(feed, row)
            assert datetime.fromisoformat(event["data"]["started_at"]) == row.started_at
        else:
            assert row.detail.en
            assert row.detail.zh


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(put: Put, content: bytes) -> None:
    for raw in (content, gzip.compress(content), b"\x1f\x8b" + content, HEADING.encode() + b"\n" + content):
        with contextlib.suppress(FeedFileError):
            rows_of(VALLEYBIKE, put(raw))


def test_memory_does_not_grow_with_the_file(put: Put) -> None:
    """Even when a quotation mark is never closed."""
    rides = [RIDE] * 40_000
    rides[20_000] = RIDE.replace("rider", '"rider')
    path = put("\n".join([HEADING, *rides]))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(VALLEYBIKE, [path])) == 40_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
