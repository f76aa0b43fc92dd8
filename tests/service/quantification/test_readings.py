"""Meter readings: one form, exact totals, gaps by the stated rule, nothing from outside the period."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quantification.document import Bilingual
from service.quantification.model import ReadingRule, Window
from service.quantification.periods import SHANGHAI
from service.quantification.readings import GAP, MAX_VALUES, Readings, ReadingsInvalid, parse_readings
from service.quantification.refusals import ReadingsIncomplete
from service.quantification.totals import Total, total

FIRST = date(2026, 1, 1)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=SHANGHAI)
SAID = Bilingual("用电量", "use")
PEAK = Window("peak_kwh", SAID, 6 * 3600, 22 * 3600)
VALLEY = Window("valley_kwh", SAID, 22 * 3600, 6 * 3600)
RULE = ReadingRule("use_kwh", "kWh", SAID, Decimal("0.9"), Decimal(24), "pro_rata", {})
SPLIT = replace(RULE, windows={"peak_kwh": PEAK, "valley_kwh": VALLEY})
PEAK_ALONE = replace(RULE, windows={"peak_kwh": PEAK})

figures = st.decimals(min_value=0, max_value=10**6, places=6)
PER_DAY = 24


def stepped(values: Sequence[Decimal | None], step_s: int = 3600, begins: datetime = MIDNIGHT) -> Readings:
    written = [None if value is None else format(value, "f") for value in values]
    return parse_readings({"kind": "interval", "from": begins.isoformat(), "step_s": step_s, "values": written})


def spans(readings: Readings) -> dict[str, Any]:
    canonical = readings.as_json()
    begins, step_s = canonical["from"], int(str(canonical["step_s"]))
    start = datetime.fromisoformat(str(begins))
    values = canonical["values"]
    assert isinstance(values, list)
    rows = [
        [
            (start + timedelta(seconds=n * step_s)).isoformat(),
            (start + timedelta(seconds=(n + 1) * step_s)).isoformat(),
            v,
        ]
        for n, v in enumerate(values)
        if v != GAP
    ]
    return {"kind": "interval", "spans": rows}


def register(values: list[Decimal], step_s: int = 3600, at_first: Decimal = Decimal("10234.5")) -> dict[str, Any]:
    rows, reading = [[MIDNIGHT.isoformat(), str(at_first)]], Fraction(at_first)
    for number, value in enumerate(values, start=1):
        reading += Fraction(value)
        text = format((Decimal(reading.numerator) / Decimal(reading.denominator)).normalize(), "f")
        rows.append([(MIDNIGHT + timedelta(seconds=number * step_s)).isoformat(), text])
    return {"kind": "cumulative", "at": rows}


def parts(found: Total) -> dict[str, Decimal]:
    return {part.name: part.value for part in found.parts}


days_of_values = st.integers(min_value=1, max_value=3).flatmap(
    lambda days: st.lists(figures, min_size=days * PER_DAY, max_size=days * PER_DAY)
)
gappy = st.integers(min_value=1, max_value=3).flatmap(
    lambda days: st.lists(figures | st.none(), min_size=days * PER_DAY, max_size=days * PER_DAY)
)


def last_of(values: list[Any]) -> date:
    return FIRST + timedelta(days=len(values) // PER_DAY - 1)


@given(gappy)
def test_the_canonical_form_reads_back_to_itself_and_says_no_more_than_was_reported(
    values: list[Decimal | None],
) -> None:
    readings = stepped(values)
    assert parse_readings(readings.as_json()) == readings
    assert parse_readings(readings.as_json()).as_json() == readings.as_json()
    assert [one.value for one in readings.spans] == [value for value in values if value is not None]
    if readings.spans:
        again = parse_readings(spans(readings))
        assert again.spans == readings.spans
        assert parse_readings(again.as_json()) == again


@given(days_of_values)
def test_every_form_of_the_same_data_comes_to_the_same(values: list[Decimal]) -> None:
    last = last_of(values)
    whole = stepped(values)
    cumulative = parse_readings(register(values))
    assert parse_readings(cumulative.as_json()) == cumulative
    for rule in (RULE, SPLIT, PEAK_ALONE, replace(RULE, gaps="as_zero"), replace(RULE, gaps="refuse")):
        found = total(whole, rule, FIRST, last)
        assert found == total(cumulative, rule, FIRST, last) == total(parse_readings(spans(whole)), rule, FIRST, last)
        assert Fraction(found.value) == sum(map(Fraction, values)) == Fraction(found.measured)
        assert (found.covered_share, found.longest_gap_s) == (Decimal(1), 0)


@given(days_of_values)
def test_a_period_is_the_sum_of_its_days_and_of_its_windows(values: list[Decimal]) -> None:
    whole = total(stepped(values), SPLIT, FIRST, last_of(values))
    assert whole.value == whole.parts[0].value + whole.parts[1].value
    days = []
    for number in range(len(values) // PER_DAY):
        day = FIRST + timedelta(days=number)
        one = values[number * PER_DAY : (number + 1) * PER_DAY]
        days.append(total(stepped(one, begins=MIDNIGHT + timedelta(days=number)), SPLIT, day, day))
        assert parts(days[-1])["valley_kwh"] == sum(one[:6]) + sum(one[22:])
        assert parts(days[-1])["peak_kwh"] == sum(one[6:22])
    for name in ("peak_kwh", "valley_kwh"):
        assert parts(whole)[name] == sum(parts(day)[name] for day in days)


@given(gappy)
def test_peak_and_valley_are_the_whole_however_much_was_filled(values: list[Decimal | None]) -> None:
    loose = replace(SPLIT, coverage_at_least=Decimal(0), longest_gap_h=Decimal(1000))
    try:
        found = total(stepped(values), loose, FIRST, last_of(values))
    except ReadingsIncomplete:
        return  # one of the windows has nothing to go by
    assert Fraction(found.value) == sum(Fraction(part.value) for part in found.parts)
    for part in found.parts:
        exact = Fraction(part.measured) * Fraction(part.span_s, part.covered_s)
        assert abs(Fraction(part.value) - exact) <= exact * Fraction(1, 10**49)
        assert part.value >= part.measured
    assert sum(Fraction(part.measured) for part in found.parts) == sum(Fraction(value) for value in values if value)


@given(gappy)
def test_gaps_count_as_nothing_where_the_rule_says_so(values: list[Decimal | None]) -> None:
    zero = replace(RULE, gaps="as_zero", coverage_at_least=Decimal(0), longest_gap_h=Decimal(1000))
    assert Fraction(total(stepped(values), zero, FIRST, last_of(values)).value) == sum(Fraction(v) for v in values if v)


def test_coverage_and_the_longest_gap_have_a_last_good_and_a_first_bad_value() -> None:
    hours: list[Decimal | None] = [Decimal(1)] * 240
    last = FIRST + timedelta(days=9)
    good = total(stepped([*hours[24:], *[None] * 24], 3600), RULE, FIRST, last)  # 24 h at the end, a tenth
    assert (good.measured, good.value, good.longest_gap_s) == (Decimal(216), Decimal(240), 86400)
    with pytest.raises(ReadingsIncomplete) as caught:
        total(stepped([*hours[25:], *[None] * 25], 3600), replace(RULE, coverage_at_least=Decimal(0)), FIRST, last)
    assert caught.value.params == {
        "name": "use_kwh",
        "covered": "89 %",
        "longest_gap": "25 h",
        "coverage_at_least": "0",
        "longest_gap_h": "24",
    }
    with pytest.raises(ReadingsIncomplete, match="cover 89 %"):
        total(stepped([*hours[25:], *[None] * 25], 3600), replace(RULE, longest_gap_h=Decimal(99)), FIRST, last)
    with pytest.raises(ReadingsIncomplete):
        total(stepped([*hours[1:], None], 3600), replace(RULE, gaps="refuse"), FIRST, last)


def test_leaving_out_the_dear_hours_is_refused_though_most_of_the_day_is_there() -> None:
    values: list[Decimal | None] = [Decimal(1)] * 48
    values[13:17] = [None] * 4  # two of sixteen hours by day: 8 % of the day, an eighth of the window
    with pytest.raises(ReadingsIncomplete, match="cover 87 %"):
        total(stepped(values, 1800), SPLIT, FIRST, FIRST)
    assert total(stepped(values, 1800), RULE, FIRST, FIRST).value == 48


def test_a_window_over_midnight_takes_a_span_over_midnight_and_no_span_over_its_edge() -> None:
    rows = [
        ["2026-01-01T00:00:00+08:00", "2026-01-01T06:00:00+08:00", "1"],
        ["2026-01-01T06:00:00+08:00", "2026-01-01T22:00:00+08:00", "10"],
        ["2026-01-01T22:00:00+08:00", "2026-01-02T06:00:00+08:00", "2"],
        ["2026-01-02T06:00:00+08:00", "2026-01-02T22:00:00+08:00", "20"],
        ["2026-01-02T22:00:00+08:00", "2026-01-03T00:00:00+08:00", "3"],
    ]
    readings = parse_readings({"kind": "interval", "spans": rows})
    assert parts(total(readings, SPLIT, FIRST, date(2026, 1, 2))) == {"peak_kwh": 30, "valley_kwh": 6}
    assert parts(total(readings, PEAK_ALONE, FIRST, date(2026, 1, 2))) == {"peak_kwh": 30, "": 6}
    rows[0][1] = rows[1][0] = "2026-01-01T06:00:01+08:00"
    with pytest.raises(ReadingsInvalid, match="crosses the edge of a window"):
        total(parse_readings({"kind": "interval", "spans": rows}), SPLIT, FIRST, date(2026, 1, 2))


@pytest.mark.parametrize(
    ("begins", "good"),
    [
        ("2026-01-01T00:00:00+08:00", True),
        ("2025-12-31T16:00:00Z", True),
        ("2025-12-31T23:59:59+08:00", False),
        ("2026-01-01T00:00:01+08:00", False),
        ("2026-01-01T00:00:00Z", False),
    ],
)
def test_nothing_crosses_an_edge_of_the_period(begins: str, good: bool) -> None:
    readings = parse_readings({"kind": "interval", "from": begins, "step_s": "86400", "values": ["5"]})
    if good:
        assert total(readings, RULE, FIRST, FIRST).value == 5
        return
    with pytest.raises(ReadingsInvalid, match="outside the period"):
        total(readings, RULE, FIRST, FIRST)


ROW = ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", "1"]
GRID = {"kind": "interval", "from": "2026-01-01T00:00:00Z", "step_s": 1800, "values": ["1"]}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "an object"),
        ([], "an object"),
        ({}, "the form is"),
        ({"kind": "interval"}, "the form is"),
        ({"kind": "cumulative", "spans": [ROW]}, "the form is"),
        ({**GRID, "note": "x"}, "the form is"),
        ({5: "x"}, "the form is"),
        ({"kind": ["interval"], "spans": [ROW]}, "the form is"),
        ({**GRID, "values": []}, f"one to {MAX_VALUES}"),
        ({**GRID, "values": ["1"] * (MAX_VALUES + 1)}, f"one to {MAX_VALUES}"),
        ({**GRID, "values": "11"}, f"one to {MAX_VALUES}"),
        ({**GRID, "values": ["-1"]}, "not negative"),
        ({**GRID, "values": ["-0"]}, "not negative"),
        ({**GRID, "values": ["1e3"]}, "decimal number"),
        ({**GRID, "values": ["NaN"]}, "decimal number"),
        ({**GRID, "values": ["1" * 13]}, "12 digits before"),
        ({**GRID, "values": ["0." + "1" * 13]}, "12 after the point"),
        ({**GRID, "values": [1.5]}, "decimal number"),
        ({**GRID, "values": [True]}, "decimal number"),
        ({**GRID, "values": [Decimal("1E+999999")]}, "decimal number"),
        ({**GRID, "values": [Decimal("NaN")]}, "decimal number"),
        ({**GRID, "values": [10**400]}, "decimal number"),
        ({**GRID, "values": [["1"]]}, "decimal number"),
        ({**GRID, "step_s": 0}, "step_s"),
        ({**GRID, "step_s": 1800.0}, "step_s"),
        ({**GRID, "step_s": True}, "step_s"),
        ({**GRID, "step_s": 366 * 86400 + 1}, "step_s"),
        ({**GRID, "step_s": 366 * 86400, "values": ["1"] * 3000}, "1992 to 2199"),
        ({**GRID, "from": "2026-01-01"}, "whole seconds"),
        ({**GRID, "from": "2026-02-30T00:00:00Z"}, "whole seconds"),
        ({**GRID, "from": "2026-01-01T00:00:00.5Z"}, "whole seconds"),
        ({**GRID, "from": "2026-01-01T00:00:00"}, "whole seconds"),
        ({**GRID, "from": "0001-01-01T00:00:00+08:00"}, "1992 to 2199"),
        ({**GRID, "from": "9999-12-31T23:59:59-08:00"}, "1992 to 2199"),
        ({**GRID, "from": 5}, "whole seconds"),
        ({"kind": "interval", "spans": [ROW[:2]]}, "a list of 3"),
        ({"kind": "interval", "spans": ["abc"]}, "a list of 3"),
        ({"kind": "interval", "spans": [ROW, ROW]}, "never overlap"),
        ({"kind": "interval", "spans": [[ROW[0], ROW[0], "1"]]}, "no later than it begins"),
        ({"kind": "interval", "spans": [[ROW[0], ROW[1], "gap"]]}, "decimal number"),
        ({"kind": "cumulative", "at": [[ROW[0], "1"]]}, "twice at least"),
        ({"kind": "cumulative", "at": [[ROW[0], "1"], [ROW[0], "2"]]}, "order of time"),
        ({"kind": "cumulative", "at": [[ROW[0], "2"], [ROW[1], "1.9"]]}, "never decreases"),
    ],
)
def test_what_is_no_readings_is_refused_in_both_languages(value: object, reason: str) -> None:
    begun = perf_counter()
    with pytest.raises(ReadingsInvalid, match=reason) as caught:
        parse_readings(value)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in caught.value.zh)
    assert perf_counter() - begun < 1


def test_a_register_that_stands_still_and_numbers_of_json_are_taken() -> None:
    still = parse_readings({"kind": "cumulative", "at": [[ROW[0], 5], [ROW[1], Decimal("5.0")]]})
    assert still.as_json() == {"kind": "cumulative", "at": [[ROW[0], "5"], [ROW[1], "5"]]}
    assert [one.value for one in still.spans] == [0]
    assert parse_readings({**GRID, "values": [Decimal("1E+3"), None]}).as_json()["values"] == ["1000", "gap"]


def test_the_longest_series_is_added_up_quickly() -> None:
    values: list[Decimal | None] = [Decimal("0.123456")] * 2976
    begun = perf_counter()
    found = total(stepped(values, 900), SPLIT, FIRST, date(2026, 1, 31))
    assert found.value == Decimal("0.123456") * 2976
    assert perf_counter() - begun < 1
