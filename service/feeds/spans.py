"""The staged readings of one meter as spans of energy: what was measured from when to when.

An interval is a span as it stands. Of a register, two readings that follow each other make one. Spans that touch are
joined, except at the edges of calendar periods and of the methodology's windows; a span that crosses such an edge
cannot be told apart and is left out: of an interval that is a fault, of a register it is a gap.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import NamedTuple

from service.feeds.calendar import DAY_S, Bucket, bucket_of, second_of_day
from service.feeds.errors import Bilingual
from service.feeds.kinds import PeriodOf, ReadingTime

_SUMS = Context(prec=60)  # thousands of figures of 12 digits before and 12 after the point add up exactly
_PLACES = Decimal("1e-12")  # what the platform takes after the point
HALF = Decimal("0.5")


class Staged(NamedTuple):
    """One row of a meter.

    at      seconds since 1970 UTC: the start of its interval, or when a register was read
    shift   where the label may mean a later moment too, how many seconds later; else 0
    values  by quantity, kWh; None where it has none
    """

    at: int
    number: int
    line: int
    sheet: int
    shift: int
    values: tuple[Decimal | None, ...]


class Fault(NamedTuple):
    """A row that no span can be made of."""

    row: Staged
    reason: str
    detail: Bilingual
    mend: Bilingual


@dataclass(slots=True)
class Span:
    begins: int
    ends: int
    value: Decimal


@dataclass(slots=True)
class Metered:
    """What one meter's rows come to in one calendar period: the rows, and for each quantity its joined spans."""

    bucket: Bucket
    first: Staged
    spans: list[list[Span]]
    rows: list[int] = field(default_factory=list)


def energy_kept(value: Decimal) -> Decimal:
    """Energy to 12 decimals, half-even: the noise of binary fractions, and thirds, go no further."""
    exponent = value.as_tuple().exponent
    return value.quantize(_PLACES, ROUND_HALF_EVEN, _SUMS) if isinstance(exponent, int) and exponent < -12 else value


class Cutter:
    """Puts the rows of one meter after another into calendar periods."""

    def __init__(self, period: PeriodOf, time: ReadingTime, quantities: int, register: bool) -> None:
        self._unit, self._quantities, self._register = period.unit, quantities, register
        self._step = 0 if register else (time.step_s or 0)
        self._shared = time.repeated == "shared"
        self._cuts = sorted(_clock(text) for text in period.cut_at)

    def meter(self, rows: Iterable[Staged], faults: list[Fault]) -> dict[int, Metered]:
        """One meter's periods by when they begin, in order; `faults` learns the rows that no span can be made of."""
        found: dict[int, Metered] = {}
        before: Staged | None = None
        registers: list[tuple[int, Decimal] | None] = [None] * self._quantities
        for row in self._resolved(rows):
            if before is not None and row.at < before.at + (self._step or 1):
                faults.append(_repeated(row, before))
                continue
            fault = self._read_register(row, registers, found) if self._register else self._add_interval(row, found)
            if fault is None:
                before = row
            else:
                faults.append(fault)
        return found

    def _add_interval(self, row: Staged, found: dict[int, Metered]) -> Fault | None:
        begins, ends = row.at, row.at + self._step
        bucket = bucket_of(begins, self._unit)
        if ends > bucket.ends or self._crosses(begins, ends):
            return _crossing(row, self._unit)
        metered = _into(found, bucket, row, self._quantities)
        for index, value in enumerate(row.values):
            if value is not None:
                self._join(metered.spans[index], begins, ends, value)
        return None

    def _read_register(
        self, row: Staged, registers: list[tuple[int, Decimal] | None], found: dict[int, Metered]
    ) -> Fault | None:
        for index, value in enumerate(row.values):
            last = registers[index]
            if value is not None and last is not None and value < last[1]:
                return _fallen(row, value, last[1])
        closes = any(one is not None for one in registers)
        bucket = bucket_of(row.at - 1 if closes else row.at, self._unit)
        metered = _into(found, bucket, row, self._quantities)
        for index, value in enumerate(row.values):
            if value is None:
                continue
            last = registers[index]
            registers[index] = row.at, value
            if last is not None and last[0] >= bucket.begins and not self._crosses(last[0], row.at):
                self._join(metered.spans[index], last[0], row.at, _SUMS.subtract(value, last[1]))
        return None

    def _join(self, spans: list[Span], begins: int, ends: int, value: Decimal) -> None:
        if spans and spans[-1].ends == begins and not (self._cuts and second_of_day(begins) in self._cuts):
            spans[-1].ends = ends
            spans[-1].value = _SUMS.add(spans[-1].value, value)
        else:
            spans.append(Span(begins, ends, value))

    def _crosses(self, begins: int, ends: int) -> bool:
        """Whether a cut lies strictly between two moments."""
        if not self._cuts:
            return False
        at = second_of_day(begins)
        return any(at < cut + day < at + ends - begins for cut in self._cuts for day in (0, DAY_S))

    def _resolved(self, rows: Iterable[Staged]) -> Iterator[Staged]:
        """The rows with labels that may mean two moments set to one, in order again."""
        later: list[Staged] = []
        first: Staged | None = None
        for row in rows:
            while later and later[0].at <= row.at:
                yield heapq.heappop(later)
            if row.shift and self._shared:
                half = tuple(None if value is None else energy_kept(value * HALF) for value in row.values)
                rest = tuple(
                    None if value is None or part is None else value - part
                    for value, part in zip(row.values, half, strict=True)
                )
                heapq.heappush(later, row._replace(at=row.at + row.shift, shift=0, values=rest, number=0))
                yield row._replace(values=half)
            elif row.shift and first is not None and first.at == row.at and first.shift:
                heapq.heappush(later, row._replace(at=row.at + row.shift, shift=0))
                first = row._replace(shift=0)  # a third row of this label is the same again, and refused
            else:
                first = row
                yield row
        while later:
            yield heapq.heappop(later)


def joined(buckets: Sequence[Sequence[Span]], cuts: frozenset[int]) -> list[Span]:
    """The spans of several periods that follow each other, joined where they touch."""
    found: list[Span] = []
    for spans in buckets:
        for span in spans:
            if found and found[-1].ends == span.begins and not (cuts and second_of_day(span.begins) in cuts):
                found[-1] = Span(found[-1].begins, span.ends, _SUMS.add(found[-1].value, span.value))
            else:
                found.append(span)
    return found


def cuts_of(period: PeriodOf) -> frozenset[int]:
    return frozenset(_clock(text) for text in period.cut_at)


def _clock(text: str) -> int:
    return int(text[:2]) * 3600 + int(text[3:]) * 60


def _into(found: dict[int, Metered], bucket: Bucket, row: Staged, quantities: int) -> Metered:
    metered = found.get(bucket.begins)
    if metered is None:
        metered = found[bucket.begins] = Metered(bucket, row, [[] for _ in range(quantities)])
    if row.number:  # the second half of a shared label is of the same row
        metered.rows.append(row.number)
        if row.number < metered.first.number:
            metered.first = row
    return metered


def _repeated(row: Staged, before: Staged) -> Fault:
    if row.at == before.at and row.values == before.values:
        return Fault(
            row,
            "duplicate-row",
            Bilingual(en=f"The same as row {before.number}.", zh=f"与第 {before.number} 行相同。"),
            Bilingual(en="Nothing need be done: the first one counts.", zh="无需处理：以首行为准。"),
        )
    return Fault(
        row,
        "overlapping-reading",
        Bilingual(
            en=f"Expected one reading for a time; row {before.number} tells this time of the same meter too.",
            zh=f"同一时间应只有一个读数；第 {before.number} 行已有该表计同一时间的读数。",
        ),
        Bilingual(en="Keep the right one of the two.", zh="请保留两者中正确的一个。"),
    )


def _crossing(row: Staged, unit: str) -> Fault:
    return Fault(
        row,
        "crosses-period",
        Bilingual(
            en=f"Expected readings that end with the {unit} of Asia/Shanghai and with its windows; this one goes on.",
            zh="读数不应跨越上海时间的日、月或时段边界，此读数跨越。",
        ),
        Bilingual(
            en="Give finer readings, or correct time_zone, label and step_s of the feed.",
            zh="请提供更细的读数，或更正映射的 time_zone、label、step_s。",
        ),
    )


def _fallen(row: Staged, value: Decimal, last: Decimal) -> Fault:
    return Fault(
        row,
        "register-fell",
        Bilingual(
            en=f"Expected a register that never falls; {value:f} follows {last:f}.",
            zh=f"表底不应减小；{last:f} 之后为 {value:f}。",
        ),
        Bilingual(
            en="Correct the register; a new meter has an id of its own.", zh="请更正表底；换表后应使用新的表计编号。"
        ),
    )
