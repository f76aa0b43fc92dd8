"""Provisional credits: what a pending credit waits for, and how it was settled."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Column, Date, DateTime, Index, Integer, LargeBinary, Text, Uuid
from sqlmodel import Field

from service.database import Connection, ServiceTable
from service.vault import DataKey, open_facts


class ProvisionalCredit(ServiceTable, table=True):
    """A pending credit and what it awaits: a settlement, an operator's matching record, or a project's registration."""

    __tablename__ = "provisional"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    activity_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    source_id: int = Field(sa_column=Column(Integer, nullable=False))
    scenario: str = Field(sa_column=Column(Text, nullable=False))
    day: date = Field(sa_column=Column(Date, nullable=False))
    awaits: str = Field(sa_column=Column(Text, nullable=False))
    due_on: date | None = Field(sa_column=Column(Date))
    __table_args__ = (Index("provisional_source_index", "source_id", "scenario", "day"),)


class Settlement(ServiceTable, table=True):
    """How a provisional credit was settled, with the facts and their salt, sealed under the participant's data key and
    erasable."""

    __tablename__ = "settlement"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    activity_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    settled_by: UUID = Field(sa_column=Column(Uuid, nullable=False))
    outcome: str = Field(sa_column=Column(Text, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    sealed: bytes | None = Field(sa_column=Column(LargeBinary))


@dataclass(frozen=True, slots=True)
class Provisional:
    """A pending credit to remember, in the columns' order. `due_on` is the day by which its settlement is expected."""

    participant_id: UUID
    activity_id: UUID
    source_id: int
    scenario: str
    day: date
    awaits: str
    due_on: date | None


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A provisional credit to settle: the rules it was credited under, as digests."""

    activity_id: UUID
    day: date
    methodology: str
    points_rule: str | None


@dataclass(frozen=True, slots=True)
class SettledBefore:
    """A credit that the same facts settled when they were sent before: how, and in which settlement."""

    activity_id: UUID
    day: date
    methodology: str
    outcome: str
    settled_by: UUID


@dataclass(frozen=True, slots=True)
class SettledRow:
    """A settlement to store, in the columns' order."""

    participant_id: UUID
    activity_id: UUID
    settled_by: UUID
    outcome: str
    recorded_at: datetime
    sealed: bytes | None


_PROVISIONAL = ("participant_id", "activity_id", "source_id", "scenario", "day", "awaits", "due_on")
_SETTLED = ("participant_id", "activity_id", "settled_by", "outcome", "recorded_at", "sealed")

_MATCHABLE = """
    SELECT p.activity_id FROM unnest($1::uuid[], $2::uuid[]) AS w (participant_id, activity_id)
    JOIN service.provisional p USING (participant_id, activity_id) WHERE p.awaits = 'match'
"""

_AWAITING = """
    SELECT p.activity_id, p.day, m.digest AS methodology, r.digest AS points_rule
    FROM service.provisional p
    JOIN service.activity a USING (participant_id, activity_id)
    JOIN service.rule_document m ON m.rule_id = a.methodology_id
    LEFT JOIN service.rule_document r ON r.rule_id = a.points_rule_id
    WHERE p.participant_id = $1 AND p.source_id = $2 AND p.scenario = $3 AND p.awaits = 'settlement'
        AND p.day BETWEEN $4 AND $5
    ORDER BY p.day, p.activity_id
"""

_SETTLED_BEFORE = """
    SELECT s.activity_id, a.day, m.digest AS methodology, s.outcome, s.settled_by, s.sealed
    FROM service.settlement s
    JOIN service.activity a USING (participant_id, activity_id)
    JOIN service.rule_document m ON m.rule_id = a.methodology_id
    WHERE s.participant_id = $1 AND a.source_id = $2 AND a.scenario = $3 AND a.day BETWEEN $4 AND $5
        AND s.sealed IS NOT NULL
"""

_NO_LONGER = """
    DELETE FROM service.provisional p USING unnest($1::uuid[], $2::uuid[]) AS w (participant_id, activity_id)
    WHERE p.participant_id = w.participant_id AND p.activity_id = w.activity_id
"""


async def read_matchable(tx: Connection, holders: Sequence[tuple[UUID, UUID]]) -> set[UUID]:
    """Which of these participants' activities wait for an operator's record."""
    if not holders:
        return set()
    rows = await tx.fetch(_MATCHABLE, *map(list, zip(*holders, strict=True)))
    return {row["activity_id"] for row in rows}


async def read_awaiting(
    tx: Connection, participant_id: UUID, source_id: int, scenario: str, first: date, last: date
) -> list[Awaiting]:
    """The credits of these days that wait for a settlement, oldest first."""
    rows = await tx.fetch(_AWAITING, participant_id, source_id, scenario, first, last)
    return [
        Awaiting(
            row["activity_id"], row["day"], row["methodology"].hex(), row["points_rule"] and row["points_rule"].hex()
        )
        for row in rows
    ]


async def read_settled_before(
    tx: Connection,
    key: DataKey | None,
    participant_id: UUID,
    source_id: int,
    scenario: str,
    first: date,
    last: date,
    document: bytes,
) -> list[SettledBefore]:
    """What a source's settlement of these days by this document of facts decided when it was sent before; nothing once
    the facts were erased, or the participant's `key` was destroyed."""
    if key is None:
        return []
    rows = await tx.fetch(_SETTLED_BEFORE, participant_id, source_id, scenario, first, last)
    return [
        SettledBefore(row["activity_id"], row["day"], row["methodology"].hex(), row["outcome"], row["settled_by"])
        for row in rows
        if open_facts(key, row["activity_id"], row["sealed"]).document == document
    ]


async def write_provisional(
    tx: Connection,
    new: Sequence[Provisional],
    ended: Sequence[tuple[UUID, UUID]],
    settled: Sequence[SettledRow],
) -> None:
    """Remember what became provisional, forget what is no longer, store the settlements."""
    gone = set(ended)
    rows = [_row(each) for each in new if (each.participant_id, each.activity_id) not in gone]
    if rows:
        await tx.copy_records_to_table("provisional", schema_name="service", columns=_PROVISIONAL, records=rows)
    if ended:
        await tx.execute(_NO_LONGER, *map(list, zip(*ended, strict=True)))
    if settled:
        rows = [_row(each) for each in settled]
        await tx.copy_records_to_table("settlement", schema_name="service", columns=_SETTLED, records=rows)


def _row(value: Provisional | SettledRow) -> tuple[object, ...]:
    return tuple(getattr(value, name) for name in (_PROVISIONAL if isinstance(value, Provisional) else _SETTLED))
