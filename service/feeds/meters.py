"""Readings of meters: those of one meter and one Asia/Shanghai calendar period make one activity.

The rows are put in order by meter and time. Readings that follow each other without a gap are joined, so an activity
carries no more figures than the rule needs: one for a whole month, and one more for each gap. The baseline is filled
from the same files; a period is passed over as `no-baseline` when they hold nothing to compare with, or begin in the
middle of it. A meter's references and inputs are those of the first of its rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from service.feeds.calendar import Bucket, bucket_of, midnight, moment_of, seconds_of, utc_text
from service.feeds.cells import (
    EXACT,
    BadCellError,
    SkippedTimeError,
    id_of,
    instants_parser,
    moments_of,
    number_of,
    shown,
)
from service.feeds.errors import Bilingual
from service.feeds.fields import fields_of, text_of
from service.feeds.kinds import Quantity, ReadingsFeed
from service.feeds.model import UNITS, TimeColumn
from service.feeds.rows import NOTHING, BadRow, Row, Series, Summary, numbers_of
from service.feeds.sheets import Cells, Sheet, bad_row, malformed, sheets
from service.feeds.spans import Cutter, Fault, Metered, Span, Staged, cuts_of, energy_kept, joined
from service.feeds.staging import Staging, staging
from service.quantification.document import Bilingual as RuleText
from service.quantification.model import BaselineRule, Period
from service.quantification.periods import baseline_days
from service.quantification.readings import MAX_VALUES

_LONGEST_METER = 170  # characters: an event's id is the meter and a period
_REMEMBERED = 1 << 15
_FIRST_YEAR, _LAST_YEAR = 1992, 2199  # of readings, as the platform takes them
_UNNAMED = RuleText("", "")


class _Meter(NamedTuple):
    """Whose meter, its name, and what is the same in all of its rows."""

    subject: str
    name: str
    references: Mapping[str, str]
    inputs: Mapping[str, Decimal]


def read_meters(feed: ReadingsFeed, paths: Sequence[Path], summary: Summary) -> Iterator[Row | BadRow]:
    """The periods, meter by meter in the order of the files, each meter's in the order of time; faulty rows first.

    Raises FeedFileError, also midway if a file breaks off.
    """
    meters: list[_Meter] = []
    names: list[str] = []
    values = ", ".join(f"v{index} TEXT" for index in range(len(feed.readings)))
    columns = f"meter INTEGER, at INTEGER, number INTEGER, line INTEGER, sheet INTEGER, shift INTEGER, {values}"
    with staging(columns) as staged:
        yield from _stage(feed, paths, summary, staged, meters, names)
        writer = _Writer(feed, names, summary)
        for meter, rows in groupby(staged.in_order("meter", "at", "number"), key=itemgetter(0)):
            faults: list[Fault] = []
            found = writer.cutter.meter(map(_unstaged, rows), faults)
            yield from (writer.bad(fault) for fault in faults)
            yield from writer.periods(meters[meter], found)


def _unstaged(row: tuple[Any, ...]) -> Staged:
    _, at, number, line, sheet, shift, *values = row
    return Staged(at, number, line, sheet, shift, tuple(None if value is None else Decimal(value) for value in values))


def _stage(
    feed: ReadingsFeed,
    paths: Sequence[Path],
    summary: Summary,
    staged: Staging,
    meters: list[_Meter],
    names: list[str],
) -> Iterator[BadRow]:
    known: dict[tuple[str, ...], int | BadCellError] = {}
    for sheet, rows in sheets(feed, paths, summary):
        names.append(sheet.path.name)
        meter_of, key_of = _meter_parser(feed, sheet)
        time_of = _time_parser(feed, sheet)
        figures = [_figure_parser(feed, sheet, spec) for spec in feed.readings.values()]
        place, before = len(names) - 1, summary.rows
        for number, line, cells in rows:
            if isinstance(cells, Bilingual):
                yield malformed(number, line, cells, sheet)
                continue
            try:
                key = key_of(cells)
                meter = known.get(key)
                if meter is None:
                    meter = known[key] = _new_meter(meter_of, cells, meters)
                if isinstance(meter, BadCellError):
                    raise meter
                capacities = meters[meter].inputs
                figures_here = [of(cells, capacities) for of in figures]
                at, shift = time_of(cells, number - before)
            except SkippedTimeError as skipped:
                if feed.time.skipped == "pass_over" and not any(figures_here):
                    summary.passed_over["skipped-time"] += 1
                else:
                    yield bad_row(number, line, skipped, sheet)
                continue
            except BadCellError as bad:
                yield bad_row(number, line, bad, sheet)
                continue
            if all(figure is None for figure in figures_here):
                summary.passed_over["no-reading"] += 1
                continue
            texts = [None if figure is None else str(figure) for figure in figures_here]
            staged.put((meter, at, number, line, place, shift, *texts))


def _new_meter(meter_of: Callable[[Cells], _Meter], cells: Cells, meters: list[_Meter]) -> int | BadCellError:
    try:
        meters.append(meter_of(cells))
    except BadCellError as bad:
        return bad
    return len(meters) - 1


def _meter_parser(
    feed: ReadingsFeed, sheet: Sheet
) -> tuple[Callable[[Cells], _Meter], Callable[[Cells], tuple[str, ...]]]:
    """The meter of a row, and what tells its rows from another's."""
    fields = fields_of(feed, sheet)
    subject = text_of(feed.columns.subject, sheet)
    name = subject if feed.columns.meter is None else text_of(feed.columns.meter, sheet)
    told = [feed.columns.subject, feed.columns.meter, *feed.references.values()]
    at = sorted({sheet.index(one) for one in told if isinstance(one, str)})

    def meter(cells: Cells) -> _Meter:
        called = id_of("meter", name(cells), _LONGEST_METER)
        return _Meter(subject(cells), called, fields.references(cells, called), fields.inputs(cells, cells))

    if len(at) == 1:
        (only,) = at
        return meter, lambda cells: (cells[only],)
    if at:
        return meter, itemgetter(*at)
    file = (str(sheet.path),)
    return meter, lambda _: file


def _time_parser(feed: ReadingsFeed, sheet: Sheet) -> Callable[[Cells, int], tuple[int, int]]:
    """A row's moment in seconds, an interval's start, and how much later the label may mean too, or 0; from its cells
    and its place in the file, counted from 1."""
    time = feed.time
    zone, clock = ZoneInfo(time.time_zone), ZoneInfo(time.clock or time.time_zone)
    register = any(spec.register_reading for spec in feed.readings.values())
    back = (time.step_s or 0) if time.label == "end" and not register else 0
    if time.column is None:
        return _sequence(feed, zone, back)
    column, index = time.column, sheet.index(time.column)
    spec = TimeColumn(column=column, time_zone=time.time_zone, format=time.format)
    instants = instants_parser(spec)

    @lru_cache(_REMEMBERED)
    def parsed(cell: str) -> tuple[int, int]:
        moments = instants(cell)
        if moments[0].microsecond or not _FIRST_YEAR <= moments[0].year <= _LAST_YEAR:
            raise BadCellError(
                en=f"{column}: expected whole seconds of the years {_FIRST_YEAR} to {_LAST_YEAR}; came {shown(cell)}.",
                zh=f"{column}：应为 {_FIRST_YEAR} 至 {_LAST_YEAR} 年间精确到秒的时间；实为 {shown(cell)}。",
            )
        shift = (moments[-1] - moments[0]) // timedelta(seconds=1)
        if time.repeated == "later" and _goes_forward(moments[0].astimezone(zone).date(), clock):
            shift = 3600
        return seconds_of(moments[0]) - back, shift

    return lambda cells, _: parsed(cells[index])


@lru_cache(_REMEMBERED)
def _goes_forward(day: date, clock: ZoneInfo) -> bool:
    """Whether the clocks of this zone skip an hour on this day."""
    begins = datetime.combine(day, datetime.min.time(), clock)
    before, after = begins.utcoffset(), (begins + timedelta(days=1)).utcoffset()
    return before is not None and after is not None and before < after


def _sequence(feed: ReadingsFeed, zone: ZoneInfo, back: int) -> Callable[[Cells, int], tuple[int, int]]:
    """Times that follow from a row's place in its file: the first row is `first`, each further one step_s later."""
    time = feed.time
    assert time.first is not None
    assert time.step_s is not None
    first, step = time.first, timedelta(seconds=time.step_s)

    def at(_: Cells, place: int) -> tuple[int, int]:
        moment = first + (place - 1) * step
        if moment.tzinfo is not None:
            return seconds_of(moment) - back, 0
        moments = moments_of(f"row {place}", moment, zone)
        return seconds_of(moments[0]) - back, (moments[-1] - moments[0]) // timedelta(seconds=1)

    return at


def _figure_parser(
    feed: ReadingsFeed, sheet: Sheet, spec: Quantity
) -> Callable[[Cells, Mapping[str, Decimal]], Decimal | None]:
    """Energy in kWh, or the register in kWh; None where a cell is empty. Raises BadCellError."""
    at, sign = [sheet.index(column) for column in spec.column], feed.csv.decimal
    hours = Decimal(feed.time.step_s or 0) / 3600 if spec.unit in UNITS["kw"] else None
    unit = spec.unit.removesuffix("/kW")
    factor = UNITS["kwh"].get(unit) or UNITS["kw"][unit]

    @lru_cache(_REMEMBERED)
    def energy(cell: str) -> Decimal | None:
        if not cell.strip():
            return None
        value = number_of(sheet.heading[at[0]], cell, sign)
        if value < 0 or value >= 10**12:
            raise BadCellError(
                en=f"{', '.join(spec.column)}: expected a reading from 0 to under 10^12; came {shown(cell)}.",
                zh=f"{'、'.join(spec.column)}：读数应不小于 0 且小于 10^12；实为 {shown(cell)}。",
            )
        value = EXACT.multiply(value, factor)
        return energy_kept(value if hours is None else value * hours)

    if len(at) == 1 and spec.times is None:
        (only,) = at
        return lambda cells, _: energy(cells[only])

    def figure(cells: Cells, inputs: Mapping[str, Decimal]) -> Decimal | None:
        total = Decimal(0)
        for index in at:
            value = energy(cells[index])
            if value is None:
                return None
            total += value
        return total if spec.times is None else energy_kept(total * inputs[spec.times])

    return figure


class _Writer:
    """Makes one meter's periods into rows."""

    def __init__(self, feed: ReadingsFeed, names: Sequence[str], summary: Summary) -> None:
        self._feed, self._names, self._summary = feed, names, summary
        self._unit, self._edge_s = feed.period.unit, feed.period.edge_gap_h * 3600
        self._cuts, self._period = cuts_of(feed.period), Period(feed.period.unit, 1)
        self._index = {name: index for index, name in enumerate(feed.readings)}
        self._rules = {
            name: BaselineRule(name, spec.of, spec.origin, spec.periods, _UNNAMED)
            for name, spec in feed.baseline.items()
        }
        register = any(spec.register_reading for spec in feed.readings.values())
        self.cutter = Cutter(feed.period, feed.time, len(feed.readings), register)

    def bad(self, fault: Fault) -> BadRow:
        row = fault.row
        return BadRow(
            row.number, row.line, None, fault.reason, fault.detail, fault.mend, file=self._names[row.sheet]
        )  # fmt: skip

    def periods(self, meter: _Meter, found: dict[int, Metered]) -> Iterator[Row | BadRow]:
        edges = {min(found), max(found)} if found else set()
        for begins, metered in found.items():  # in order, for the rows were
            lacking = self._lacking(metered, begins in edges)
            if lacking is not None:
                yield self._incomplete(meter, metered, lacking)
                continue
            baseline: dict[str, Mapping[str, Any]] = {}
            for name, rule in self._rules.items():
                spans = self._before(rule, metered.bucket, found)
                if spans:
                    baseline[name] = _series(spans)
            if len(baseline) < len(self._rules):
                self._summary.passed_over["no-baseline"] += len(metered.rows)
                continue
            readings = {name: _series(metered.spans[index]) for name, index in self._index.items()}
            yield self._row(meter, metered, readings, baseline)

    def _row(self, meter: _Meter, metered: Metered, readings: Series, baseline: Series) -> Row | BadRow:
        first, bucket = metered.first, metered.bucket
        if any(len(series["spans"]) > MAX_VALUES for series in (*readings.values(), *baseline.values())):
            gaps = Bilingual(
                en=f"at most {MAX_VALUES} stretches without a gap", zh=f"至多 {MAX_VALUES} 段连续读数"
            )  # fmt: skip
            return self._incomplete(meter, metered, gaps)
        return Row(
            first.number,
            first.line,
            f"{meter.name}:{bucket.name(self._unit)}",
            meter.subject,
            moment_of(bucket.begins),
            moment_of(bucket.ends),
            None,
            meter.references,
            meter.inputs,
            readings,
            baseline or NOTHING,
            numbers_of(metered.rows),
            self._names[first.sheet],
        )

    def _before(self, rule: BaselineRule, bucket: Bucket, found: dict[int, Metered]) -> list[Span]:
        """What the files hold of the time the period is compared with; nothing unless they hold its beginning."""
        first, last = baseline_days(rule, self._period, bucket.first, bucket.last)
        index, day, buckets = self._index[rule.of], first, []
        earliest = next((one.spans[index][0].begins for one in found.values() if one.spans[index]), bucket.begins)
        if earliest > midnight(first) + self._edge_s:
            return []  # the files begin in the middle of it, and an earlier file may hold the rest
        while day <= last:
            one = _bucket_of_day(day.toordinal(), self._unit)
            if one.begins in found:
                buckets.append(found[one.begins].spans[index])
            day = one.last + timedelta(days=1)
        return joined(buckets, self._cuts)

    def _lacking(self, metered: Metered, at_edge: bool) -> Bilingual | None:
        """What a period needs to be sent at all, where it has not."""
        for name, index in self._index.items():
            spans = metered.spans[index]
            if not spans:
                return Bilingual(en=f"readings of {name}", zh=f"{name} 的读数")
            gap = max(spans[0].begins - metered.bucket.begins, metered.bucket.ends - spans[-1].ends)
            if at_edge and gap > self._edge_s:
                hours = self._edge_s // 3600
                return Bilingual(
                    en=f"the first and the last {self._unit} of a meter whole, to {hours} h at its edges",
                    zh=f"表计首末时段的读数须完整，边缘缺口不超过 {hours} 小时",
                )
        return None

    def _incomplete(self, meter: _Meter, metered: Metered, expected: Bilingual) -> BadRow:
        event_id = f"{meter.name}:{metered.bucket.name(self._unit)}"
        spans = [span for quantity in metered.spans for span in quantity]
        came = f"{utc_text(spans[0].begins)} - {utc_text(spans[-1].ends)}" if spans else "-"
        return BadRow(
            metered.first.number,
            metered.first.line,
            event_id,
            "incomplete-reading",
            Bilingual(
                en=f"{event_id}: expected {expected.en}; came {came}.", zh=f"{event_id}：{expected.zh}；实为 {came}。"
            ),
            Bilingual(
                en="Import a file that holds the whole period; it is sent then.",
                zh="请导入包含整个时段的文件，届时再行报送。",
            ),
            numbers_of(metered.rows),
            self._names[metered.first.sheet],
        )


@lru_cache(1 << 15)
def _bucket_of_day(ordinal: int, unit: str) -> Bucket:
    return bucket_of(midnight(datetime.fromordinal(ordinal).date()), unit)


def _series(spans: Sequence[Span]) -> Mapping[str, Any]:
    """Spans in the canonical form of readings."""
    return {
        "kind": "interval",
        "spans": [[utc_text(span.begins), utc_text(span.ends), _shortest(span.value)] for span in spans],
    }


def _shortest(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
