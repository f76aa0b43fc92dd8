"""Read a provider's file by its feed, one row at a time.

A file that cannot be trusted as a whole (an error page, a cut-off gzip, another encoding, a heading without the feed's
columns) raises FeedFileError. A single row that cannot be read is a BadRow, and its neighbours are unharmed.

Local times and clock changes. A time that was skipped in spring is a BadRow. A time that occurred twice in autumn has
two readings: of all readings of a row's two times the one is taken that makes the ride shortest without ending before
it starts, and of two as short the earlier.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from service.feeds.feed import UNITS, Bilingual, Constant, Feed, FeedFileError, InputColumn, StraightLine, TimeColumn
from service.feeds.records import Lines, open_lines, read_heading, records

EVENT_TYPE = "org.tanpuhui.activity.v1"
EARTH_RADIUS_KM = 6371.0088  # the mean radius R1 of the GRS 80 ellipsoid, (2a + b) / 3, as the IUGG gives it
LONGEST_ID = 200  # characters, as the API takes them
_LONGEST_NUMBER = 40  # characters: a binary double prints at most 24

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_EXACT = Context(prec=120, traps=[Inexact])  # a unit conversion that would round is a bug


class Row(NamedTuple):
    """One ride as the provider wrote it, in the platform's units.

    number      counts the rows from 1, the heading not counted
    line        the line of the file it begins on; the heading is line 1
    started_at, ended_at   aware, UTC
    references  by name, the feed's constants among them; vehicle stands by itself
    inputs      by name, in the unit that ends the name, exact
    """

    number: int
    line: int
    event_id: str
    subject: str
    started_at: datetime
    ended_at: datetime
    vehicle: str | None
    references: Mapping[str, str]
    inputs: Mapping[str, Decimal]


class BadRow(NamedTuple):
    """A row that cannot become an event; `detail` says what was expected, what came and what to mend."""

    number: int
    line: int
    event_id: str | None
    detail: Bilingual


class _BadCellError(Exception):
    def __init__(self, *, zh: str, en: str) -> None:
        super().__init__(en)
        self.detail = Bilingual(zh=zh, en=en)


def read_rows(feed: Feed, path: Path) -> Iterator[Row | BadRow]:
    """The file's rows in order; blank lines are not rows. Raises FeedFileError, also midway if the file breaks off."""
    with open_lines(path) as lines:
        heading = _heading(feed, path, lines)
        parse = _row_parser(feed, heading)
        event_at = heading.index(feed.columns.event_id)
        for number, (line, cells) in enumerate(records(lines, len(heading)), start=1):
            if isinstance(cells, Bilingual):
                yield BadRow(number, line, None, cells)
                continue
            try:
                yield parse(number, line, cells)
            except _BadCellError as bad:
                yield BadRow(number, line, cells[event_at].strip()[:LONGEST_ID] or None, bad.detail)


def count_rows(feed: Feed, path: Path) -> int:
    """How many rows read_rows will give, good and bad.

    Reads the whole file, so that one that breaks off midway raises FeedFileError here, before anything was posted.
    """
    with open_lines(path) as lines:
        heading = _heading(feed, path, lines)
        return sum(1 for _ in records(lines, len(heading)))


def to_event(feed: Feed, row: Row) -> dict[str, Any]:
    """The row as a CloudEvent for `POST /v1/activities`. The same row gives the same event: it may be sent again."""
    data: dict[str, Any] = {
        "scenario": feed.scenario,
        "started_at": _rfc3339(row.started_at),
        "ended_at": _rfc3339(row.ended_at),
        "inputs": {name: f"{value:f}" for name, value in row.inputs.items()},
        "basis": {name: feed.inputs[name].basis for name in row.inputs},
    }
    if row.vehicle is not None:
        data["vehicle"] = row.vehicle
    if row.references:
        data["references"] = dict(row.references)
    return {
        "specversion": "1.0",
        "id": row.event_id,
        "source": feed.source.uri,
        "type": EVENT_TYPE,
        "subject": row.subject,
        "data": data,
    }


def straight_line_km(start: tuple[float, float], end: tuple[float, float], decimals: int) -> Decimal:
    """The great-circle distance in km of two (longitude, latitude) in degrees, on a sphere of EARTH_RADIUS_KM.

    d = 2 R asin sqrt( sin²((φ2-φ1)/2) + cos φ1 cos φ2 sin²((λ2-λ1)/2) ), the haversine formula in doubles, rounded
    once, half-even, to `decimals`. At the length of rides a double is exact to some 1e-11 km, so the last digits, in
    which mathematical libraries differ, do not survive the rounding.
    """
    (lon1, lat1), (lon2, lat2) = start, end
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_phi, half_lambda = (phi2 - phi1) / 2, math.radians(lon2 - lon1) / 2
    h = math.sin(half_phi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_lambda) ** 2
    return Decimal(f"{2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h))):.{decimals}f}")


def _heading(feed: Feed, path: Path, lines: Lines) -> list[str]:
    """The names of the columns; every one the feed maps must be there once, others are left alone."""
    names = read_heading(path, lines)
    wanted = _mapped_columns(feed)
    missing = [name for name in wanted if name not in names]
    twice = [name for name in wanted if names.count(name) > 1]
    if missing or twice:
        found = ", ".join(names)[:300]
        fault_en = f"{', '.join(missing)} missing" if missing else f"{', '.join(twice)} standing twice"
        fault_zh = f"缺少 {'、'.join(missing)}" if missing else f"{'、'.join(twice)} 重复"
        raise FeedFileError(
            en=f"{path} line 1: feed {feed.id} expects the columns {', '.join(wanted)}; came: {found} ({fault_en}). "
            "Choose the feed that fits, or mend the heading.",
            zh=f"{path} 第 1 行：映射 {feed.id} 需要列 {', '.join(wanted)}；实为 {found}（{fault_zh}）。"
            "请选用相符的映射或更正表头。",
        )
    return names


def _mapped_columns(feed: Feed) -> list[str]:
    columns = feed.columns
    wanted = [columns.event_id, columns.subject, columns.started_at.column, columns.ended_at.column]
    if columns.vehicle is not None:
        wanted.append(columns.vehicle)
    wanted += [spec for spec in feed.references.values() if isinstance(spec, str)]
    for spec in feed.inputs.values():
        if isinstance(spec, StraightLine):
            wanted += [spec.start.longitude, spec.start.latitude, spec.end.longitude, spec.end.latitude]
        else:
            wanted.append(spec.column)
    return list(dict.fromkeys(wanted))


def _row_parser(feed: Feed, heading: list[str]) -> Callable[[int, int, list[str]], Row]:
    """A function for this feed and heading; everything that can be looked up once is looked up here."""
    columns = feed.columns
    event_at, subject_at = heading.index(columns.event_id), heading.index(columns.subject)
    vehicle_at = None if columns.vehicle is None else heading.index(columns.vehicle)
    constants: dict[str, str] = {
        name: spec.constant for name, spec in feed.references.items() if isinstance(spec, Constant)
    }
    named = [(name, heading.index(spec)) for name, spec in feed.references.items() if isinstance(spec, str)]
    times = _times_parser(columns.started_at, columns.ended_at, heading)
    inputs = [(name, _input_parser(name, spec, heading)) for name, spec in feed.inputs.items()]

    def parse(number: int, line: int, cells: list[str]) -> Row:
        event_id = _id(columns.event_id, cells[event_at])
        subject = _id(columns.subject, cells[subject_at])
        vehicle = None
        if vehicle_at is not None and cells[vehicle_at].strip():  # some rows of a provider may know no vehicle
            vehicle = _id(heading[vehicle_at], cells[vehicle_at])
        known = {name: _id(heading[at], cells[at]) for name, at in named if cells[at].strip()}
        started_at, ended_at = times(cells)
        figures = {name: of(cells) for name, of in inputs}
        return Row(number, line, event_id, subject, started_at, ended_at, vehicle, constants | known, figures)

    return parse


def _input_parser(name: str, spec: InputColumn | StraightLine, heading: list[str]) -> Callable[[list[str]], Decimal]:
    if isinstance(spec, StraightLine):
        columns = [spec.start.longitude, spec.start.latitude, spec.end.longitude, spec.end.latitude]
        at = [heading.index(column) for column in columns]

        def straight(cells: list[str]) -> Decimal:
            lon1, lat1, lon2, lat2 = (
                _degrees(column, cells[i], bound)
                for column, i, bound in zip(columns, at, (180, 90, 180, 90), strict=True)
            )
            return straight_line_km((lon1, lat1), (lon2, lat2), spec.decimals)

        return straight
    position, factor = heading.index(spec.column), UNITS[name.rpartition("_")[2]][spec.unit]
    return lambda cells: _EXACT.multiply(_number(spec.column, cells[position]), factor)


def _times_parser(
    start: TimeColumn, end: TimeColumn, heading: list[str]
) -> Callable[[list[str]], tuple[datetime, datetime]]:
    start_at, end_at = heading.index(start.column), heading.index(end.column)
    start_zone, end_zone = ZoneInfo(start.time_zone), ZoneInfo(end.time_zone)

    def times(cells: list[str]) -> tuple[datetime, datetime]:
        starts = _instants(start.column, cells[start_at], start_zone)
        ends = _instants(end.column, cells[end_at], end_zone)
        if len(starts) == len(ends) == 1:
            return starts[0], ends[0]
        return min(product(starts, ends), key=lambda pair: (pair[1] < pair[0], abs(pair[1] - pair[0]), pair[0]))

    return times


def _instants(column: str, cell: str, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The moments a text may mean, earlier first: one, or two where the clock was set back. UTC."""
    text = cell.strip()
    try:
        if not _TIME.fullmatch(text):
            raise ValueError(text)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return (moment.astimezone(UTC),)
        first, second = moment.replace(tzinfo=zone), moment.replace(tzinfo=zone, fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        assert before is not None
        assert after is not None
        if before < after:
            raise _BadCellError(
                en=f"{column}: the local time {text} was skipped by the clock change in {zone.key}. "
                "Give the time with its offset from UTC.",
                zh=f"{column}：当地时间 {text} 因 {zone.key} 时钟拨快而不存在。请提供带 UTC 偏移的时间。",
            )
        if before == after:
            return (first.astimezone(UTC),)
        return first.astimezone(UTC), second.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _BadCellError(
            en=f"{column}: expected a date and time such as 2016-08-19 21:41 or 2016-08-19T13:41:05Z; "
            f"came {_shown(cell)}. Mend it.",
            zh=f"{column}：应为日期时间，如 2016-08-19 21:41 或 2016-08-19T13:41:05Z；实为 {_shown(cell)}。请更正。",
        ) from error


def _number(column: str, cell: str) -> Decimal:
    text = cell.strip()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        raise _BadCellError(
            en=f"{column}: expected a number such as 2.35, without unit or thousands separator; "
            f"came {_shown(cell)}. Mend it.",
            zh=f"{column}：应为不带单位和千位分隔符的数字，如 2.35；实为 {_shown(cell)}。请更正。",
        )
    return Decimal(text)


def _degrees(column: str, cell: str, bound: int) -> float:
    degrees = float(_number(column, cell))
    if abs(degrees) > bound:
        raise _BadCellError(
            en=f"{column}: expected degrees from -{bound} to {bound}; came {_shown(cell)}. "
            "Mend it, or the feed if it swaps longitude and latitude.",
            zh=f"{column}：应为 -{bound} 到 {bound} 之间的度数；实为 {_shown(cell)}。"
            "请更正；若经纬度颠倒，请更正映射文档。",
        )
    return degrees


def _id(column: str, cell: str) -> str:
    text = cell.strip()
    if not text or len(text) > LONGEST_ID or not text.isprintable():
        raise _BadCellError(
            en=f"{column}: expected an id of 1 to {LONGEST_ID} printable characters; came {_shown(cell)}. Mend it.",
            zh=f"{column}：应为 1 至 {LONGEST_ID} 个可见字符的编号；实为 {_shown(cell)}。请更正。",
        )
    return text


def _shown(cell: str) -> str:
    """A cell for a message: no control character reaches a terminal, and no kilobyte either."""
    return repr(cell if len(cell) <= 60 else cell[:57] + "...")


def _rfc3339(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"
