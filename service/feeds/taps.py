"""Taps of cards: an entry and the same card's next tap of the gates, an exit, are one trip; a boarding stands alone.

In the order of their times, a card's entry waits for its next tap at a gate. If that is an exit, within the longest
time and the same in the columns that must agree, the two are a trip. Everything else is a BadRow: an entry without an
exit, an exit without an entry, the same row twice. Boardings neither make nor break a pair. A local time that the clock
showed twice is taken as the earlier.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import orjson

from service.feeds.cells import BadCellError, id_of, instants_parser, shown
from service.feeds.errors import Bilingual
from service.feeds.fields import Fields, fields_of
from service.feeds.kinds import Pairing, TapsFeed
from service.feeds.rows import NOTHING, BadRow, Row, Summary, numbers_of
from service.feeds.sheets import Cells, Sheet, bad_row, malformed, sheets
from service.feeds.staging import Staging, staging

_LONGEST_CARD = 170  # characters: an event's id is the card and a time
_STAGED = "card TEXT, at INTEGER, number INTEGER, line INTEGER, sheet INTEGER, kind TEXT, cells BLOB"
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Tap(NamedTuple):
    card: str
    at: int
    number: int
    line: int
    sheet: int
    kind: str
    cells: bytes

    @property
    def moment(self) -> datetime:
        return _EPOCH + self.at * _MICROSECOND


class _Columns(NamedTuple):
    """Where what a trip is made of stands in one file."""

    sheet: Sheet
    fields: Fields
    vehicle: int | None
    same: tuple[int, ...]


def read_taps(feed: TapsFeed, paths: Sequence[Path], summary: Summary) -> Iterator[Row | BadRow]:
    """The trips and boardings, card by card, each card's in the order of their times; faulty rows come first.

    Raises FeedFileError, also midway if a file breaks off.
    """
    read: list[_Columns] = []
    with staging(_STAGED) as staged:
        yield from _stage(feed, paths, summary, staged, read)
        maker = _Maker(feed, read)
        card, waiting, before = "", None, None
        for tap in map(_Tap._make, staged.in_order("card", "at", "number")):
            if tap.card != card:
                if waiting is not None:
                    yield maker.unmatched(waiting)
                card, waiting, before = tap.card, None, None
                maker.next_card()
            if before is not None and before.at == tap.at and before.cells == tap.cells:
                yield maker.duplicate(tap, before)
                continue
            before = tap
            if tap.kind == "boarding":
                yield maker.activity(tap, tap)
            elif tap.kind == "entry":
                if waiting is not None:
                    yield maker.unmatched(waiting)
                waiting = tap
            elif waiting is not None and maker.are_one_trip(waiting, tap):
                yield maker.activity(waiting, tap)
                waiting = None
            else:
                if waiting is not None:
                    yield maker.unmatched(waiting)
                    waiting = None
                yield maker.unmatched(tap)
        if waiting is not None:
            yield maker.unmatched(waiting)


def _stage(
    feed: TapsFeed, paths: Sequence[Path], summary: Summary, staged: Staging, read: list[_Columns]
) -> Iterator[BadRow]:
    words = feed.taps
    kinds = {word: kind for kind in ("entry", "exit", "boarding") for word in getattr(words, kind)}
    columns = feed.columns
    for sheet, rows in sheets(feed, paths, summary):
        card_at, kind_at = sheet.index(columns.subject), sheet.index(words.column)
        at, instants = sheet.index(columns.at.column), instants_parser(columns.at)
        vehicle = None if columns.vehicle is None else sheet.index(columns.vehicle)
        same = tuple(sheet.index(column) for column in (feed.pairing.same if feed.pairing else ()))
        read.append(_Columns(sheet, fields_of(feed, sheet), vehicle, same))
        for number, line, cells in rows:
            if isinstance(cells, Bilingual):
                yield malformed(number, line, cells, sheet)
                continue
            try:
                kind = kinds.get(cells[kind_at].strip())
                if kind is None:
                    raise _unknown_tap(words.column, cells[kind_at], kinds)
                card = id_of(columns.subject, cells[card_at], _LONGEST_CARD)
                moment = (instants(cells[at])[0] - _EPOCH) // _MICROSECOND
            except BadCellError as bad:
                yield bad_row(number, line, bad, sheet)
                continue
            staged.put((card, moment, number, line, len(read) - 1, kind, orjson.dumps(cells)))


class _Maker:
    """Makes rows of one or two taps."""

    def __init__(self, feed: TapsFeed, read: list[_Columns]) -> None:
        self._read, self._pairing = read, feed.pairing
        self._vehicle = feed.columns.vehicle
        self._ids: set[str] = set()

    def next_card(self) -> None:
        self._ids.clear()

    def are_one_trip(self, entry: _Tap, exit_: _Tap) -> bool:
        pairing = self._pairing
        assert pairing is not None  # or there were no entries
        if exit_.at - entry.at > pairing.longest_min * 60_000_000:
            return False
        return not pairing.same or self._said(entry) == self._said(exit_)

    def activity(self, first: _Tap, last: _Tap) -> Row | BadRow:
        """A trip of two taps, or a boarding that is both its beginning and its end."""
        columns = self._read[last.sheet]
        cells_last: Cells = orjson.loads(last.cells)
        cells_first: Cells = cells_last if first is last else orjson.loads(first.cells)
        numbers = [first.number] if first is last else [first.number, last.number]
        event_id = self._event_id(first)
        try:
            vehicle_at = self._read[first.sheet].vehicle
            vehicle = None
            if vehicle_at is not None and self._vehicle is not None and cells_first[vehicle_at].strip():
                vehicle = id_of(self._vehicle, cells_first[vehicle_at])
            return Row(
                first.number,
                first.line,
                event_id,
                first.card,
                first.moment,
                last.moment,
                vehicle,
                columns.fields.references(cells_last, event_id),
                columns.fields.inputs(cells_first, cells_last),
                NOTHING,
                NOTHING,
                numbers_of(numbers),
                self._file(first),
            )
        except BadCellError as bad:
            fault = bad_row(first.number, first.line, bad, self._read[first.sheet].sheet, event_id)
            return fault._replace(rows=numbers_of(numbers))

    def unmatched(self, tap: _Tap) -> BadRow:
        pairing = self._pairing
        assert pairing is not None
        entry = tap.kind == "entry"
        rule = _rule(pairing)
        en, zh = (
            ("exit as its next tap", "下一次过闸为出站") if entry else ("entry as its tap before", "上一次过闸为进站")
        )
        return BadRow(
            tap.number,
            tap.line,
            None,
            "unmatched-entry" if entry else "unmatched-exit",
            Bilingual(
                en=f"Card {tap.card} at {tap.moment:%Y-%m-%dT%H:%M:%SZ}: expected an {en} {rule.en}; there is none.",
                zh=f"卡 {tap.card} 于 {tap.moment:%Y-%m-%dT%H:%M:%SZ}：{rule.zh}应有{zh}的记录，但没有。",
            ),
            Bilingual(
                en="If the other tap is in another file, give both files together; otherwise nothing can be done.",
                zh="若另一条刷卡记录在别的文件中，请将两个文件一并导入；否则无法处理。",
            ),
            file=self._file(tap),
        )

    def duplicate(self, tap: _Tap, first: _Tap) -> BadRow:
        return BadRow(
            tap.number,
            tap.line,
            None,
            "duplicate-row",
            Bilingual(en=f"The same as row {first.number}.", zh=f"与第 {first.number} 行完全相同。"),
            Bilingual(en="Nothing need be done: the first one counts.", zh="无需处理：以首行为准。"),
            file=self._file(tap),
        )

    def _said(self, tap: _Tap) -> list[str]:
        cells = orjson.loads(tap.cells)
        return [cells[at].strip() for at in self._read[tap.sheet].same]

    def _event_id(self, tap: _Tap) -> str:
        """The card and the second it began; a number behind it where a card began two things in one second."""
        plain = event_id = f"{tap.card}@{tap.moment:%Y%m%dT%H%M%SZ}"
        further = 1
        while event_id in self._ids:
            further += 1
            event_id = f"{plain}-{further}"
        self._ids.add(event_id)
        return event_id

    def _file(self, tap: _Tap) -> str:
        return self._read[tap.sheet].sheet.path.name


def _rule(pairing: Pairing) -> Bilingual:
    same = ", ".join(pairing.same)
    return Bilingual(
        en=f"within {pairing.longest_min} min" + (f" with the same {same}" if same else ""),
        zh=f"{pairing.longest_min} 分钟内" + (f"（{same} 相同）" if same else ""),
    )


def _unknown_tap(column: str, cell: str, kinds: dict[str, str]) -> BadCellError:
    known = ", ".join(kinds)
    return BadCellError(
        en=f"{column}: expected one of {known}; came {shown(cell)}.",
        zh=f"{column}：应为 {known} 之一；实为 {shown(cell)}。",
        mend=Bilingual(
            en="Mend this row, or let the feed pass over such rows (pass_over).",
            zh="请更正此行，或在映射中用 pass_over 略过此类行。",
        ),
    )
