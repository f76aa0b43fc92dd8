"""Meter readings: parsed once, kept in one form. What they come to is in totals.py.

A report carries them in one of three forms:

    {"kind": "interval", "from": "2026-01-01T00:00:00+08:00", "step_s": 1800, "values": ["0.4", null, "0.5"]}
    {"kind": "interval", "spans": [["2026-01-01T00:00:00+08:00", "2026-02-01T00:00:00+08:00", "310.5"], …]}
    {"kind": "cumulative", "at": [["2026-01-01T00:00:00+08:00", "10234.5"], …]}

The canonical form (`as_json`) holds texts alone: times in UTC ending in Z, figures in their shortest plain form, `gap`
for a value that is missing; it reads back to itself. Figures are exact and never negative, of at most 12 digits before
and 12 after the point; times are whole seconds. A register that runs backwards, spans that overlap and more than 3,000
values are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from service.quantification.expression import OPERATIONS, exact_input

MAX_VALUES = 3_000  # a month of quarter hours is 2,976
GAP = "gap"
DAY_S = 86_400

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = (int((datetime(year, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()) for year in (1992, 2200))
_LONGEST_STEP = 366 * DAY_S
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.0{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_FIGURE = re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,12})?")
_STEP = re.compile(r"[1-9][0-9]{0,8}")


class ReadingsInvalid(Exception):
    """Readings are refused as they stand: `zh` and `en` say why, to go on from “the readings cannot be taken:”."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(zh, en)
        self.zh, self.en = zh, en

    def __str__(self) -> str:
        return self.en


class Measured(NamedTuple):
    """What was measured between two moments, in seconds since 1970-01-01T00:00:00Z."""

    begins: int
    ends: int
    value: Decimal


@dataclass(frozen=True, slots=True)
class Readings:
    """One series as reported.

    kind       interval or cumulative
    spans      what was measured, in order, without overlap; what no span covers is a gap
    grid       (begins, step, count) of an interval series that was reported on a regular grid, gaps included
    register   (moment, register) of a cumulative series: its differences are the spans
    """

    kind: str
    spans: tuple[Measured, ...]
    grid: tuple[int, int, int] | None = None
    register: tuple[tuple[int, Decimal], ...] = ()

    def as_json(self) -> dict[str, object]:
        """The canonical form: objects, lists and texts alone."""
        if self.kind == "cumulative":
            return {"at": [[_utc(at), _shortest(value)] for at, value in self.register], "kind": self.kind}
        if self.grid is None:
            spans = [[_utc(one.begins), _utc(one.ends), _shortest(one.value)] for one in self.spans]
            return {"kind": self.kind, "spans": spans}
        begins, step_s, count = self.grid
        found = {one.begins: _shortest(one.value) for one in self.spans}
        values = [found.get(begins + number * step_s, GAP) for number in range(count)]
        return {"from": _utc(begins), "kind": self.kind, "step_s": str(step_s), "values": values}


def parse_readings(value: object) -> Readings:
    """Read one series from parsed JSON or a document: numbers as text, int or Decimal. Raises ReadingsInvalid."""
    if not isinstance(value, Mapping):
        raise ReadingsInvalid("应为一个对象", "an object is expected")
    kind, fields = value.get("kind"), value.keys() - {"kind"}
    if kind == "interval" and fields == {"from", "step_s", "values"}:
        return _gridded(_time(value["from"]), _step(value["step_s"]), _listed(value["values"]))
    if kind == "interval" and fields == {"spans"}:
        spans = [Measured(_time(begins), _time(ends), _figure(v)) for begins, ends, v in _rows(value["spans"], 3)]
        return Readings("interval", _in_order(spans))
    if kind == "cumulative" and fields == {"at"}:
        return _cumulative([(_time(at), _figure(v)) for at, v in _rows(value["at"], 2)])
    raise ReadingsInvalid(
        "形式应为 kind interval 加 from、step_s、values 或 spans,或 kind cumulative 加 at",
        "the form is kind interval with from, step_s and values, or with spans; or kind cumulative with at",
    )


def _gridded(begins: int, step_s: int, values: Sequence[object]) -> Readings:
    spans = []
    for number, value in enumerate(values):
        if value is not None and value != GAP:
            start = begins + number * step_s
            spans.append(Measured(start, start + step_s, _figure(value)))
    if begins + len(values) * step_s > _LATEST:
        raise _no_time()
    return Readings("interval", tuple(spans), grid=(begins, step_s, len(values)))


def _in_order(spans: list[Measured]) -> tuple[Measured, ...]:
    if any(one.begins >= one.ends for one in spans):
        raise ReadingsInvalid("有时段的结束不晚于开始", "a span ends no later than it begins")
    if any(one.ends > other.begins for one, other in pairwise(spans)):
        raise ReadingsInvalid("时段须按先后排列且互不重叠", "spans stand in order and never overlap")
    return tuple(spans)


def _cumulative(register: list[tuple[int, Decimal]]) -> Readings:
    if len(register) < 2:
        raise ReadingsInvalid("表底至少须有两次", "a register is read twice at least")
    if any(one[0] >= other[0] for one, other in pairwise(register)):
        raise ReadingsInvalid("表底须按时间先后排列,时刻不得重复", "a register's readings stand in order of time")
    if any(one[1] > other[1] for one, other in pairwise(register)):
        raise ReadingsInvalid("表底不得减小", "a register never decreases")
    subtract = OPERATIONS["-"]
    spans = (Measured(one[0], other[0], subtract(other[1], one[1])) for one, other in pairwise(register))
    return Readings("cumulative", tuple(spans), register=tuple(register))


def _listed(value: object) -> Sequence[object]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_VALUES:
        raise ReadingsInvalid(f"须为一至 {MAX_VALUES} 项的列表", f"a list of one to {MAX_VALUES} values is expected")
    return value


def _rows(value: object, width: int) -> list[list[object]]:
    rows: list[list[object]] = []
    for row in _listed(value):
        if not isinstance(row, list) or len(row) != width:
            raise ReadingsInvalid(f"每一项须为 {width} 个值的列表", f"each item is a list of {width} values")
        rows.append(row)
    return rows


def _time(value: object) -> int:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            seconds = int((datetime.fromisoformat(value) - _EPOCH).total_seconds())
        except (ValueError, OverflowError):
            raise _no_time() from None  # the form of a time, but no time
        if _EARLIEST <= seconds <= _LATEST:
            return seconds
    raise _no_time()


def _no_time() -> ReadingsInvalid:
    return ReadingsInvalid(
        "时刻须形如 2026-01-01T00:00:00+08:00,精确到秒,在 1992 至 2199 年之间",
        "a time is written 2026-01-01T00:00:00+08:00, in whole seconds, of the years 1992 to 2199",
    )


def _step(value: object) -> int:
    text = str(value) if type(value) is int else value
    if isinstance(text, str) and _STEP.fullmatch(text) and int(text) <= _LONGEST_STEP:
        return int(text)
    raise ReadingsInvalid("step_s 须为不超过一年的整数秒", "step_s is a whole number of seconds, a year at most")


def _figure(value: object) -> Decimal:
    text = value
    if type(value) is int or type(value) is Decimal:
        number = exact_input(Decimal(value))
        text = None if number is None else _shortest(number)
    if not isinstance(text, str) or not _FIGURE.fullmatch(text):
        raise ReadingsInvalid(
            "读数须为不小于零的十进制数,小数点前后各至多 12 位",
            "a reading is a decimal number, not negative, of at most 12 digits before and 12 after the point",
        )
    return Decimal(text)


def _shortest(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _utc(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
