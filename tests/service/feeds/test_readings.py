"""Readings of meters: forms, clock changes, gaps, periods, baselines, and the same sums by another way."""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.feeds import FeedFileError, Row, load_feed, to_event
from service.quantification.readings import parse_readings
from tests.service.feeds.making import feed_like, read, written

LONDON, SYDNEY = load_feed("london-households"), load_feed("sgsc-households")
LONDON_HEADING, SYDNEY_HEADING = (
    "LCLid,tstp,energy(kWh/hh)",
    "customer_id,reading_datetime,event_key,general_supply_kwh,controlled_load_kwh",
)
HALF_HOUR = timedelta(minutes=30)
SHANGHAI = ZoneInfo("Asia/Shanghai")


def half_hours(begins: datetime, ends: datetime, value: str = "0.25", home: str = "H1") -> list[str]:
    lines = []
    while begins < ends:
        lines.append(f"{home},{begins:%Y-%m-%d %H:%M:%S}, {value} ")
        begins += HALF_HOUR
    return lines


def midnight(text: str) -> datetime:
    """When a day of Asia/Shanghai begins, as the naive UTC of the file."""
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI).astimezone(UTC).replace(tzinfo=None)


def spans(row: Row, name: str = "use_kwh") -> list[tuple[str, str, str]]:
    return [tuple(span) for span in row.readings[name]["spans"]]


def test_a_day_against_the_seven_before(tmp_path: Path) -> None:
    lines = half_hours(midnight("2026-05-01"), midnight("2026-05-09"))
    del lines[48 * 7 + 10]  # one half hour of the last day
    path = written(tmp_path / "london.csv.gz", LONDON_HEADING, *reversed(lines), packed=True)
    (row,), bad, summary = read(LONDON, [path])
    assert to_event(LONDON, row) == {
        "specversion": "1.0",
        "id": "H1:2026-05-08",
        "source": "urn:tanpuhui:source:london-households",
        "type": "org.tanpuhui.activity.v1",
        "subject": "H1",
        "data": {
            "scenario": "demo-home-electricity-week",
            "started_at": "2026-05-07T16:00:00Z",
            "ended_at": "2026-05-08T16:00:00Z",
            "references": {"meter": "H1", "address": "H1"},
            "readings": {
                "use_kwh": {
                    "kind": "interval",
                    "spans": [
                        ["2026-05-07T16:00:00Z", "2026-05-07T21:00:00Z", "2.5"],
                        ["2026-05-07T21:30:00Z", "2026-05-08T16:00:00Z", "9.25"],
                    ],
                }
            },
            "baseline": {
                "baseline_kwh": {
                    "kind": "interval",
                    "spans": [["2026-04-30T16:00:00Z", "2026-05-07T16:00:00Z", "84"]],
                }
            },
        },
    }
    assert not bad
    assert summary.passed_over == {"no-baseline": 48 * 7}
    assert row.rows == range(1, 48)  # the file is in the other order
    assert row.day == date(2026, 5, 8)
    for series in (*row.readings.values(), *row.baseline.values()):
        assert parse_readings(series).as_json() == series, "the platform's canonical form"


@pytest.mark.parametrize(("hours", "sent"), [(1, True), (2, False)])
def test_the_first_and_the_last_period_are_sent_whole_or_not_at_all(tmp_path: Path, hours: int, sent: bool) -> None:
    """A file cut off in the middle of a period must not decide it: the rest may come tomorrow."""
    lines = half_hours(midnight("2026-05-01"), midnight("2026-05-09") - timedelta(hours=hours))
    good, bad, _ = read(LONDON, [written(tmp_path / "london.csv", LONDON_HEADING, *lines)])
    assert [row.event_id for row in good] == (["H1:2026-05-08"] if sent else [])
    assert [(one.event_id, one.reason, one.stands_for) for one in bad] == (
        [] if sent else [("H1:2026-05-08", "incomplete-reading", 44)]
    )


def test_a_month_a_year_before(tmp_path: Path) -> None:
    begins, ends = (datetime.fromisoformat(day) for day in ("2024-02-01", "2025-03-02"))
    lines = [f"{line.replace(', ', ',0,')},0.05" for line in half_hours(begins, ends)]
    path = written(tmp_path / "sydney.csv", SYDNEY_HEADING, *lines)
    good, bad, summary = read(SYDNEY, [path])
    assert [row.event_id for row in good] == ["H1:2025-02"]
    assert spans(good[0]) == [("2025-01-31T16:00:00Z", "2025-02-28T16:00:00Z", "403.2")]  # 1344 * (0.25 + 0.05)
    assert good[0].baseline["baseline_kwh"]["spans"] == [["2024-01-31T16:00:00Z", "2024-02-29T16:00:00Z", "417.6"]]
    assert [(one.event_id, one.reason) for one in bad] == [
        ("H1:2024-01", "incomplete-reading"),
        ("H1:2025-03", "incomplete-reading"),
    ]
    assert summary.passed_over.keys() == {"no-baseline"}


@pytest.mark.parametrize("second", ["01:00:00,0,2,0", "02:00:00,0,2,0"])  # as published, and relabelled
def test_a_skipped_hour_that_was_labelled_as_the_hour_before(tmp_path: Path, second: str) -> None:
    feed = feed_like("sgsc-households", ("{unit: month, edge_gap_h: 24}", "{unit: day, edge_gap_h: 24}"), baseline={})
    labels = ["00:00:00,0,1,0", "00:30:00,0,1,0", "01:00:00,0,1,0", "01:30:00,0,1,0", second]
    lines = [f"H1,2013-10-06 {label}" for label in [*labels, second.replace(":00:00", ":30:00"), "03:00:00,0,5,0"]]
    (_, row), _, _ = read(feed, [written(tmp_path / "s.csv", SYDNEY_HEADING, *lines)])
    assert spans(row) == [("2013-10-05T16:00:00Z", "2013-10-05T17:30:00Z", "9")]
    twice = written(tmp_path / "s.csv", SYDNEY_HEADING, "H1,2013-10-05 01:00:00,0,1,0", "H1,2013-10-05 01:00:00,0,2,0")
    _, (bad,), _ = read(feed, [twice])
    assert (bad.reason, bad.number) == ("overlapping-reading", 2), "on any other day it is a fault"


@pytest.mark.parametrize(
    ("repeated", "lines", "expected"),
    [
        # On 28 October 2018 the hour from 2 o'clock came twice in Berlin, from 00:00 and from 01:00 UTC
        ("in_order", ["01:30 1", "02:00 2", "02:30 4", "02:00 8", "02:30 16", "03:00 32"], [("23:30", "02:30", "63")]),
        ("in_order", ["01:30 1", "02:00 2", "02:30 4", "03:00 8"], [("23:30", "01:00", "7"), ("02:00", "02:30", "8")]),
        ("shared", ["01:30 1", "02:00 2", "02:30 4", "03:00 8"], [("23:30", "02:30", "15")]),
    ],
)
def test_an_hour_that_the_clock_repeats(
    tmp_path: Path, repeated: str, lines: list[str], expected: list[tuple[str, str, str]]
) -> None:
    feed = feed_like(
        "london-households",
        ("time_zone: UTC ", "time_zone: Europe/Berlin "),
        ("label: start", f"label: start\n  repeated: {repeated}"),
        ("edge_gap_h: 1", "edge_gap_h: 24"),
        baseline={},
    )
    rows = [f"H1,2018-10-28 {line.replace(' ', ':00,')}" for line in lines]
    (row,), bad, _ = read(feed, [written(tmp_path / "b.csv", LONDON_HEADING, *rows)])
    assert [(begins[11:16], ends[11:16], value) for begins, ends, value in spans(row)] == expected
    assert not bad


@pytest.mark.parametrize(
    ("rule", "value", "passed"), [("refuse", "0", 0), ("pass_over", "0", 1), ("pass_over", "1", 0)]
)
def test_an_hour_that_the_clock_skips(tmp_path: Path, rule: str, value: str, passed: int) -> None:
    feed = feed_like(
        "london-households",
        ("time_zone: UTC ", "time_zone: Europe/Berlin "),
        ("label: start", f"label: start\n  skipped: {rule}"),
    )
    path = written(tmp_path / "b.csv", LONDON_HEADING, f"H1,2018-03-25 02:30:00,{value}")
    _, bad, summary = read(feed, [path])
    assert summary.passed_over == ({"skipped-time": 1} if passed else {})
    assert [one.reason for one in bad] == ([] if passed else ["skipped-time"])


def test_labels_at_the_end_and_mean_power(tmp_path: Path) -> None:
    feed = feed_like(
        "london-households",
        ("label: start", "label: end"),
        ("unit: kWh", "unit: W"),
        ("edge_gap_h: 1", "edge_gap_h: 24"),
        baseline={},
    )
    path = written(tmp_path / "w.csv", LONDON_HEADING, "H1,2026-05-01 16:00:00,500", "H1,2026-05-01 16:30:00,1000.1")
    first, second = read(feed, [path])[0]
    assert spans(first) == [("2026-05-01T15:30:00Z", "2026-05-01T16:00:00Z", "0.25")]
    assert spans(second) == [("2026-05-01T16:00:00Z", "2026-05-01T16:30:00Z", "0.50005")]


REGISTER = feed_like(
    "konstanz-pv", ("{unit: month, edge_gap_h: 24}", "{unit: day, edge_gap_h: 24, cut_at: ['06:00', '22:00']}")
)
REGISTER_HEADING = "utc_timestamp,DE_KN_residential4_pv,interpolated_values"


def test_a_register(tmp_path: Path) -> None:
    path = written(
        tmp_path / "r.csv",
        REGISTER_HEADING,
        "2026-05-01T15:00:00Z,,",
        "2026-05-01T16:00:00Z,100.5,",  # midnight in Shanghai
        "2026-05-01T18:00:00Z,102,",
        "2026-05-01T20:00:00Z,110,DE_KN_residential4_pv",  # interpolated
        "2026-05-01T22:00:00Z,120,",  # 06:00
        "2026-05-01T23:00:00Z,119,",
        "2026-05-02T13:00:00Z,130,",
        "2026-05-02T15:00:00Z,131,",  # over 22:00
        "2026-05-02T17:00:00Z,135,",  # over midnight
        "2026-05-02T18:00:00Z,136,",
    )
    (row, following), (bad,), summary = read(REGISTER, [path])
    assert spans(row, "generation_kwh") == [
        ("2026-05-01T16:00:00Z", "2026-05-01T22:00:00Z", "19.5"),
        ("2026-05-01T22:00:00Z", "2026-05-02T13:00:00Z", "10"),
    ]
    assert spans(following, "generation_kwh") == [("2026-05-02T17:00:00Z", "2026-05-02T18:00:00Z", "1")]
    assert (bad.reason, bad.line) == ("register-fell", 7)
    assert summary.passed_over == {"no-reading": 1, "interpolated": 1}
    assert row.inputs == {"capacity_kw": Decimal(10)}


def test_a_file_without_dates_and_a_table_beside_it(tmp_path: Path) -> None:
    feed = load_feed("fontana-pv")
    written(tmp_path / "pv-capacity.csv", "building,pv_nominal_kw", "Building_9,4.5")
    begins = datetime(2016, 7, 31, 23, tzinfo=ZoneInfo("America/Los_Angeles")).astimezone(UTC)
    hours = int((datetime(2016, 8, 31, 16, tzinfo=UTC) - begins).total_seconds()) // 3600
    lines = ["month,hour,solar_generation", *(f"8,1,{number}" for number in range(hours))]
    lines.insert(100, "")  # a blank line is no row, and takes no hour
    (row,), bad, _ = read(feed, [written(tmp_path / "Building_9.csv", *lines)])
    assert row.subject == row.references["installation"] == "Building_9"
    assert row.inputs == {"capacity_kw": Decimal("4.5")}
    ((starts, ends, value),) = spans(row, "generation_kwh")
    assert (starts, ends) == ("2016-08-01T06:00:00Z", "2016-08-31T16:00:00Z")
    assert Decimal(value) == Decimal(hours * (hours - 1) // 2) * Decimal("4.5") / 1000
    assert not bad
    _, bad, _ = read(feed, [written(tmp_path / "Building_3.csv", *lines)])
    assert {one.reason for one in bad} == {"not-in-table"}
    with pytest.raises(FeedFileError, match="a file named by what it is of"):
        read(feed, [written(tmp_path / ".csv", *lines)])


@pytest.mark.parametrize(
    ("line", "reason", "said"),
    [
        ("H1,2026-05-01 00:00:00,-0.1", "malformed-row", "expected a reading from 0"),
        ("H1,2026-05-01 00:00:00,1e12", "malformed-row", "expected a reading from 0 to under 10^12"),
        ("H1,2026-05-01 00:00:00,Null", "malformed-row", "expected a number"),
        ("H1,2026-05-01 00:00:00.5,1", "malformed-row", "whole seconds"),
        ("H1,1899-05-01 00:00:00,1", "malformed-row", "of the years 1992 to 2199"),
        (",2026-05-01 00:00:00,1", "malformed-row", "LCLid: expected an id"),
        ("H1,2026-05-01 15:45:00,1", "crosses-period", "this one goes on"),
    ],
)
def test_a_faulty_reading(tmp_path: Path, line: str, reason: str, said: str) -> None:
    _, (bad,), _ = read(LONDON, [written(tmp_path / "l.csv", LONDON_HEADING, line)])
    assert bad.reason == reason
    assert said in bad.detail.en


def test_a_reading_twice(tmp_path: Path) -> None:
    lines = ["H1,2026-05-01 00:00:00,1", "H1,2026-05-01 00:00:00,1.0", "H1,2026-05-01 00:10:00,1", "H2,2026-05-01,1"]
    _, bad, _ = read(LONDON, [written(tmp_path / "l.csv", LONDON_HEADING, *lines)])
    assert sorted((one.number, one.reason) for one in bad) == [
        (1, "incomplete-reading"),
        (2, "duplicate-row"),
        (3, "overlapping-reading"),
        (4, "malformed-row"),
    ]


readings = st.lists(
    st.tuples(st.sampled_from(["H1", "H2"]), st.integers(0, 48 * 4 - 1), st.decimals("0", "9.999", places=3)),
    max_size=60,
    unique_by=lambda one: one[:2],
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(readings)
def test_sums_are_those_of_the_file(tmp_path: Path, drawn: list[tuple[str, int, Decimal]]) -> None:
    """However the spans are joined and cut, a day's add up to what stands in the file for it, and so do baselines."""
    feed = feed_like(
        "london-households",
        period={"unit": "day", "edge_gap_h": 24, "cut_at": ["06:00", "22:00"]},
        baseline={"baseline_kwh": {"of": "use_kwh", "from": "preceding", "periods": 2}},
    )
    begins = midnight("2026-05-01")
    expected: dict[str, Decimal] = defaultdict(Decimal)
    for home, slot, value in drawn:
        expected[f"{home}:2026-05-0{1 + slot // 48}"] += value
    lines = [f"{home},{begins + slot * HALF_HOUR},{value}" for home, slot, value in drawn]
    good, bad, _ = read(feed, [written(tmp_path / "l.csv", LONDON_HEADING, *lines)])
    assert not bad
    for row in good:
        assert _sum(spans(row)) == expected[row.event_id]
        home, day = row.event_id.split(":")
        before = [date.fromisoformat(day) - timedelta(days=back) for back in (1, 2)]
        assert _sum(row.baseline["baseline_kwh"]["spans"]) == sum(expected[f"{home}:{one}"] for one in before)
        assert all(not begins < f"{row.day}T14:00:00Z" < ends for begins, ends, _ in spans(row)), "22:00"


def _sum(found: Iterable[tuple[str, str, str] | list[str]]) -> Decimal:
    return sum((Decimal(value) for _, _, value in found), Decimal(0))


MEASURE = """
import resource, sys
from pathlib import Path
from service.feeds import load_feed, read_rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(row.stands_for for row in read_rows(load_feed("london-households"), [Path(sys.argv[1])]))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_number_of_readings(tmp_path: Path) -> None:
    """200,000 readings of 20 homes: 300 MB are allowed for a million; what is kept is one home's."""
    lines = [
        line
        for home in range(20)
        for line in half_hours(midnight("2025-01-01"), midnight("2025-01-01") + 10_000 * HALF_HOUR, home=f"H{home}")
    ]
    path = written(tmp_path / "many.csv", LONDON_HEADING, *lines)
    told = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    rows, grown_mb = map(int, told.stdout.split())
    assert rows == 200_000 - 20 * 7 * 48  # the first seven days have nothing to compare with
    assert grown_mb < 100
