"""Taps of cards: which two are one trip, and where all the others go."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.feeds import load_feed, to_event
from tests.service.feeds.making import feed_like, read, written

METRO, BUS = load_feed("shenzhen-metro-taps"), load_feed("shenzhen-bus-taps")
HEADING = "card_no,deal_date,deal_type,deal_money,deal_value,equ_no,company_name,station,car_no,conn_mark,close_date"
IN, OUT, BOARD = "地铁入站", "地铁出站", "巴士"


def tap(card: str, at: str, kind: str, line: str = "地铁一号线", station: str = "甲站") -> str:
    return f"{card},2026-05-01 {at},{kind},0,0,2630,{line},{station},G-1,0,2026-05-01 00:00:00"


def test_an_entry_and_the_next_exit_are_one_trip(tmp_path: Path) -> None:
    path = written(
        tmp_path / "taps.csv.gz",
        HEADING,
        tap("A", "08:40:00", OUT),  # in the file before its entry: the times decide
        tap("B", "08:00:00", BOARD),
        tap("A", "08:10:30", IN),
        tap("C", "09:00:00", OUT),
        tap("A", "09:00:00", IN),
        packed=True,
    )
    good, bad, summary = read(METRO, [path])
    assert [to_event(METRO, row) for row in good] == [
        {
            "specversion": "1.0",
            "id": "A@20260501T001030Z",
            "source": "urn:tanpuhui:source:shenzhen-metro-taps",
            "type": "org.tanpuhui.activity.v1",
            "subject": "A",
            "data": {
                "scenario": "demo-metro-ride",
                "started_at": "2026-05-01T00:10:30Z",
                "ended_at": "2026-05-01T00:40:00Z",
                "references": {"operator": "szt-metro", "order": "A@20260501T001030Z"},
            },
        }
    ]
    assert (good[0].number, good[0].line, tuple(good[0].rows), good[0].file) == (3, 4, (1, 3), "taps.csv.gz")
    assert [(one.number, one.line, one.reason) for one in bad] == [
        (5, 6, "unmatched-entry"),
        (4, 5, "unmatched-exit"),
    ]
    assert summary.passed_over == {"other-mode": 1}


@pytest.mark.parametrize(("minutes", "paired"), [(240, True), (241, False)])
def test_the_longest_time_between_two_taps(tmp_path: Path, minutes: int, paired: bool) -> None:
    end = datetime(2026, 5, 1, 6, 0, 0) + timedelta(minutes=minutes)  # noqa: DTZ001 - a local time of the file
    path = written(tmp_path / "taps.csv", HEADING, tap("A", "06:00:00", IN), tap("A", f"{end:%H:%M:%S}", OUT))
    good, bad, _ = read(METRO, [path])
    assert len(good) == paired
    assert [one.reason for one in bad] == ([] if paired else ["unmatched-entry", "unmatched-exit"])


def test_taps_that_must_agree(tmp_path: Path) -> None:
    feed = feed_like("shenzhen-metro-taps", ("longest_min: 240", "same: [company_name]\n  longest_min: 240"))
    for other, paired in (("地铁一号线", True), ("地铁四号线", False)):
        path = written(tmp_path / "t.csv", HEADING, tap("A", "06:00:00", IN), tap("A", "06:30:00", OUT, other, "乙站"))
        assert len(read(feed, [path])[0]) == paired


def test_a_boarding_is_a_ride_of_its_own_and_breaks_no_pair(tmp_path: Path) -> None:
    lines = [tap("A", "06:00:00", IN), tap("A", "06:10:00", BOARD, "巴士集团", "M1"), tap("A", "06:30:00", OUT)]
    path = written(tmp_path / "taps.csv", HEADING, *lines, lines[1], tap("A", "06:10:00", BOARD, "巴士集团", "M2"))
    assert len(read(METRO, [path])[0]) == 1
    good, bad, _ = read(BUS, [path])
    assert [row.event_id for row in good] == ["A@20260430T221000Z", "A@20260430T221000Z-2"]
    assert good[0].started_at == good[0].ended_at == datetime(2026, 4, 30, 22, 10, tzinfo=UTC)
    assert [(one.number, one.reason) for one in bad] == [(4, "duplicate-row")]


def test_a_trip_over_two_files(tmp_path: Path) -> None:
    first = written(tmp_path / "1.csv", HEADING, tap("A", "06:00:00", IN))
    second = written(tmp_path / "2.csv", HEADING, tap("A", "06:20:00", OUT))
    (row,), _, _ = read(METRO, [first, second])
    assert (row.rows, row.file) == (range(1, 3), "1.csv")
    assert not read(METRO, [second])[0]


def test_a_faulty_tap_says_what_to_mend(tmp_path: Path) -> None:
    for line, said in (
        (tap("A", "06:00:00", "摆渡"), "deal_type: expected one of 地铁入站, 地铁出站; came '摆渡'"),
        (tap("", "06:00:00", IN), "card_no: expected an id"),
        (tap("A", "26:00:00", IN), "deal_date: expected a date and time"),
        ("A,2026", "came 2 cells"),
    ):
        _, (bad,), _ = read(METRO, [written(tmp_path / "t.csv", HEADING, line)])
        assert bad.reason == "malformed-row"
        assert said in bad.detail.en


taps = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 59), st.integers(0, 4), st.sampled_from([IN, OUT, BOARD])),
    max_size=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taps)
def test_every_pair_is_what_the_rule_says_and_no_row_is_lost(
    tmp_path: Path, drawn: list[tuple[str, int, int, str]]
) -> None:
    """Against the rule applied card by card to the list."""
    lines = [tap(card, f"0{hour}:{minute:02}:00", kind) for card, minute, hour, kind in drawn]
    good, bad, _ = read(METRO, [written(tmp_path / "taps.csv", HEADING, *lines)])
    pairs: Counter[str] = Counter()
    for card in "ABC":
        mine = sorted({(60 * hour + minute, number) for number, (c, minute, hour, k) in enumerate(drawn) if c == card})
        kinds = [(at, drawn[number][3]) for at, number in mine if drawn[number][3] != BOARD]
        distinct = [one for index, one in enumerate(kinds) if not index or one != kinds[index - 1]]
        pairs[card] = sum(
            one[1] == IN and other[1] == OUT and other[0] - one[0] <= 240 for one, other in pairwise(distinct)
        )
    assert Counter(row.subject for row in good) == +pairs
    assert {one.reason for one in bad} <= {"unmatched-entry", "unmatched-exit", "duplicate-row"}
