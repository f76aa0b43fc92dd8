"""Positions of vehicles: those of one ride make one activity, whose distance is the sum of the steps between them.

The records of a ride are put in the order of their times; the same record twice counts once, and nothing else is
dropped or smoothed. So the distance is that of `track` in the ride's own records, with every jump of the receiver.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from math import fsum
from operator import itemgetter
from pathlib import Path
from typing import Any

from service.feeds.cells import BadCellError, degrees_of, id_of, instants_parser
from service.feeds.errors import Bilingual
from service.feeds.fields import Fields, fields_of
from service.feeds.kinds import PositionsFeed
from service.feeds.places import great_circle_km, rounded_km
from service.feeds.rows import NOTHING, BadRow, Row, Summary, numbers_of
from service.feeds.sheets import Sheet, bad_row, malformed, sheets
from service.feeds.staging import Staging, staging

_STAGED = (
    "ride TEXT, at INTEGER, number INTEGER, line INTEGER, sheet INTEGER, subject TEXT, vehicle TEXT, lon REAL, lat REAL"
)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_positions(feed: PositionsFeed, paths: Sequence[Path], summary: Summary) -> Iterator[Row | BadRow]:
    """The rides by their ids; faulty records come first. Raises FeedFileError, also midway if a file breaks off."""
    read: list[tuple[Sheet, Fields]] = []
    with staging(_STAGED) as staged:
        yield from _stage(feed, paths, summary, staged, read)
        for ride, records in groupby(staged.in_order("ride", "at", "number"), key=itemgetter(0)):
            yield from _ride(feed, ride, records, read)


def _stage(
    feed: PositionsFeed, paths: Sequence[Path], summary: Summary, staged: Staging, read: list[tuple[Sheet, Fields]]
) -> Iterator[BadRow]:
    columns, sign = feed.columns, feed.csv.decimal
    instants = instants_parser(columns.at)
    for sheet, rows in sheets(feed, paths, summary):
        read.append((sheet, fields_of(feed, sheet)))
        ride_at, subject_at, at = (sheet.index(one) for one in (columns.event_id, columns.subject, columns.at.column))
        lon_at, lat_at = sheet.index(columns.longitude), sheet.index(columns.latitude)
        vehicle_at = None if columns.vehicle is None else sheet.index(columns.vehicle)
        for number, line, cells in rows:
            if isinstance(cells, Bilingual):
                yield malformed(number, line, cells, sheet)
                continue
            try:
                ride = id_of(columns.event_id, cells[ride_at])
                subject = id_of(columns.subject, cells[subject_at])
                moment = (instants(cells[at])[0] - _EPOCH) // _MICROSECOND
                lon = degrees_of(columns.longitude, cells[lon_at], 180, sign)
                lat = degrees_of(columns.latitude, cells[lat_at], 90, sign)
                vehicle = None
                if vehicle_at is not None and cells[vehicle_at].strip():
                    vehicle = id_of(sheet.heading[vehicle_at], cells[vehicle_at])
            except BadCellError as bad:
                yield bad_row(number, line, bad, sheet, cells[ride_at])
                continue
            staged.put((ride, moment, number, line, len(read) - 1, subject, vehicle, lon, lat))


def _ride(
    feed: PositionsFeed, ride: str, records: Iterator[tuple[Any, ...]], read: list[tuple[Sheet, Fields]]
) -> Iterator[Row | BadRow]:
    kept: list[tuple[Any, ...]] = []
    whole: tuple[Any, ...] | None = None
    here: set[tuple[Any, ...]] = set()
    for record in records:
        same = (record[1], *record[5:])
        if whole is None or record[1] != whole[1]:
            here.clear()
            whole = record
        if same in here:
            yield _duplicate(record, ride, read)
            continue
        here.add(same)
        kept.append(record)
    _, began, _, _, _, subject, vehicle, _, _ = kept[0]
    first = min(kept, key=itemgetter(2))
    others = [record for record in kept if record[5] != subject]
    numbers = numbers_of([record[2] for record in kept])
    sheet, fields = read[first[4]]
    if others:
        yield BadRow(
            first[2],
            first[3],
            ride,
            "several-riders",
            Bilingual(
                en=f"Expected one person for a ride; {subject} and {others[0][5]} have this one.",
                zh=f"一次骑行应只属一人；此行程同时属于 {subject} 与 {others[0][5]}。",
            ),
            Bilingual(en="Correct the ids of the ride or the person.", zh="请更正行程编号或用户编号。"),
            numbers,
            sheet.path.name,
        )
        return
    distance = fsum(great_circle_km(one[7:9], other[7:9]) for one, other in pairwise(kept))
    yield Row(
        first[2],
        first[3],
        ride,
        subject,
        _EPOCH + began * _MICROSECOND,
        _EPOCH + kept[-1][1] * _MICROSECOND,
        vehicle,
        fields.references([], ride),
        {feed.track.input: rounded_km(distance, feed.track.decimals)},
        NOTHING,
        NOTHING,
        numbers,
        sheet.path.name,
    )


def _duplicate(record: tuple[Any, ...], ride: str, read: list[tuple[Sheet, Fields]]) -> BadRow:
    return BadRow(
        record[2],
        record[3],
        ride,
        "duplicate-row",
        Bilingual(en="The same record stands in the file before.", zh="文件中此前已有相同的记录。"),
        Bilingual(en="Nothing need be done: the first one counts.", zh="无需处理：以首行为准。"),
        file=read[record[4]][0].path.name,
    )
