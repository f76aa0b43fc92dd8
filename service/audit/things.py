"""The third pass: the things behind activities, by the references in their evidence. None of them counts twice.

A leaf has keyed tags of some of them, which only the platform can make; here the references themselves are compared,
and so are the spans of vehicles and places, which have no tag.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from service.activities.references import ReferenceInvalid, canonical_reference
from service.audit.handing import Handing, handed
from service.audit.rules import BY_DAY, BY_SPAN, Applied
from service.quantification.model import ActivityData
from service.quantification.periods import activity_day

Thing = tuple[str, str, bool, str | None]
"""Something that counts once: the names of its references, without their values; its mark; whether it is claimed as a
span, so that no two may overlap but those of one use; and that use."""


class ReferenceMissing(Exception):
    """The evidence lacks a reference that the rule asks for, or has one that names nothing."""


class Meeting(NamedTuple):
    """Two credits, by their entries, that rest on one thing; the earlier one may have been taken back before."""

    earlier: int
    later: int
    names: str


@dataclass(frozen=True, slots=True)
class ThingsJob:
    """Which partition."""

    scratch: Path
    name: str
    partition: int
    chunks: int


def claimed(applied: Applied, said: Mapping[str, Any], data: ActivityData) -> list[Thing]:
    """What an activity claims, by its evidence. Raises ReferenceMissing."""
    references = said.get("references", {})
    if "vehicle" in said:
        references = {**references, "vehicle": said["vehicle"]}
    methodology = applied.methodology
    if "elsewhere" in methodology.registers and "installation" not in references:
        raise ReferenceMissing("no installation")
    found: list[Thing] = []
    for plan in applied.claims:
        try:
            values = [_canonical(name, references[name]) for name in plan.of]
        except KeyError as missing:
            if plan.optional:
                continue
            raise ReferenceMissing(f"no {missing.args[0]}") from None
        except ReferenceInvalid as invalid:
            raise ReferenceMissing(str(invalid)) from None
        if plan.kind == BY_DAY:
            for day in _days(data):
                found.append((f"{plan.names} {day}", _mark(plan.begins, [*values, day]), False, None))
        else:
            found.append((plan.names, _mark(plan.begins, values), plan.kind == BY_SPAN, plan.use))
    return found


_operator = lru_cache(maxsize=4_096)(canonical_reference)  # its name stands in every one of its rides


def _canonical(name: str, value: str) -> str:
    return _operator(name, value) if name == "operator" else canonical_reference(name, value)


def _days(data: ActivityData) -> list[str]:
    first, last = activity_day(data.started_at), activity_day(data.ended_at - timedelta(microseconds=1))
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


def _mark(begins: str, values: Sequence[str]) -> str:
    """Of references in their canonical form, which holds no control character: no two things have one mark."""
    return "\x1f".join((begins, *values))


def hand_on(handing: Handing, things: Iterable[Thing], index: int, span: tuple[int, int], *, waits: bool) -> None:
    """Hand on what a credit claims; `waits` for a match, and gives way to an operator's record."""
    for names, mark, over_time, use in things:
        since, until = span if over_time else (0, 0)
        handing.to[f"{crc32(mark.encode()) & 0xFF:02x}"]((mark, index, names, since, until, use, waits))


def read_things(job: ThingsJob) -> list[Meeting]:
    """The meetings within one partition."""
    first: dict[str, tuple[Any, ...]] = {}
    again: dict[str, list[tuple[Any, ...]]] = {}
    for records in handed(job.scratch, job.name, job.partition, job.chunks):
        for record in records:
            earlier = first.setdefault(record[0], record)
            if earlier is not record:
                again.setdefault(record[0], [earlier]).append(record)
    return [meeting for records in again.values() for meeting in _meetings(records)]


def _meetings(records: list[tuple[Any, ...]]) -> Iterator[Meeting]:
    """Whatever met: the later entry with one that it met."""
    return _holders(records) if records[0][4] == 0 else _overlaps(records)


def _holders(records: Iterable[tuple[Any, ...]]) -> Iterator[Meeting]:
    """Of a thing without a span each entry meets the one that held it. What waits for its match gives way to an
    operator's record, and to no other that waits."""
    latest: tuple[Any, ...] | None = None
    firm: tuple[Any, ...] | None = None
    for record in records:
        holder = latest if record[6] else firm
        if holder is not None:
            yield Meeting(holder[1], record[1], record[2])
        latest = record
        firm = firm if record[6] else record


def _overlaps(records: Iterable[tuple[Any, ...]]) -> Iterator[Meeting]:
    active: list[tuple[Any, ...]] = []
    for record in sorted(records, key=lambda one: (one[3], one[1])):
        active = [one for one in active if one[4] > record[3]]
        for one in active:
            if record[5] is None or record[5] != one[5]:
                earlier, later = sorted((one, record), key=lambda each: each[1])
                if later[6] or not earlier[6]:
                    yield Meeting(earlier[1], later[1], later[2])
        active.append(record)
