"""One row, one activity.

A time that was skipped in spring is a BadRow. A time that occurred twice in autumn has two readings: of all readings of
a row's two times the one is taken that makes the trip shortest without ending before it starts, and of two as short the
earlier.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import product
from pathlib import Path

from service.feeds.cells import BadCellError, id_of, instants_parser
from service.feeds.errors import Bilingual
from service.feeds.fields import fields_of
from service.feeds.kinds import TripsFeed
from service.feeds.model import TimeColumn
from service.feeds.rows import NOTHING, BadRow, Row, Summary
from service.feeds.sheets import Cells, Sheet, bad_row, malformed, sheets


def read_trips(feed: TripsFeed, paths: Sequence[Path], summary: Summary) -> Iterator[Row | BadRow]:
    """The rows of the files in order. Raises FeedFileError, also midway if a file breaks off."""
    for sheet, rows in sheets(feed, paths, summary):
        parse, event_at = _row_parser(feed, sheet), sheet.index(feed.columns.event_id)
        for number, line, cells in rows:
            if isinstance(cells, Bilingual):
                yield malformed(number, line, cells, sheet)
                continue
            try:
                yield parse(number, line, cells)
            except BadCellError as bad:
                yield bad_row(number, line, bad, sheet, cells[event_at])


def _row_parser(feed: TripsFeed, sheet: Sheet) -> Callable[[int, int, Cells], Row]:
    columns, fields, file = feed.columns, fields_of(feed, sheet), sheet.path.name
    event_at, subject_at = sheet.index(columns.event_id), sheet.index(columns.subject)
    vehicle_at = None if columns.vehicle is None else sheet.index(columns.vehicle)
    times = _times_parser(columns.started_at, columns.ended_at, sheet)

    def parse(number: int, line: int, cells: Cells) -> Row:
        event_id = id_of(columns.event_id, cells[event_at])
        subject = id_of(columns.subject, cells[subject_at])
        vehicle = None
        if vehicle_at is not None and cells[vehicle_at].strip():  # some rows of a provider may know no vehicle
            vehicle = id_of(sheet.heading[vehicle_at], cells[vehicle_at])
        references = fields.references(cells, event_id)
        started_at, ended_at = times(cells)
        inputs = fields.inputs(cells, cells)
        return Row(
            number, line, event_id, subject, started_at, ended_at, vehicle, references, inputs,
            NOTHING, NOTHING, (), file,
        )  # fmt: skip

    return parse


def _times_parser(start: TimeColumn, end: TimeColumn, sheet: Sheet) -> Callable[[Cells], tuple[datetime, datetime]]:
    start_at, end_at = sheet.index(start.column), sheet.index(end.column)
    starts_of = instants_parser(start)
    ends_of = instants_parser(end)

    def times(cells: Cells) -> tuple[datetime, datetime]:
        starts, ends = starts_of(cells[start_at]), ends_of(cells[end_at])
        if len(starts) == len(ends) == 1:
            return starts[0], ends[0]
        return min(product(starts, ends), key=lambda pair: (pair[1] < pair[0], abs(pair[1] - pair[0]), pair[0]))

    return times
