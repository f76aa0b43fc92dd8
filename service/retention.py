"""保存期限: how long each class of data is kept, and the job that removes what is older.

The classes and their days are data (retention.yaml beside this file; a deployment may set its own days). Each class
that the job removes has a step below: bounded batches in transactions of their own, so that nobody is held up, and safe
to stop and run again. What was removed is written down as a number of rows, never as what it was.

What an activity, a redemption or a dispute belongs to is told by its id, which begins with its time (UUIDv7).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import asyncpg
import structlog
import yaml
from sqlalchemy import BigInteger, Column, DateTime, Index, Text, Uuid
from sqlmodel import Field

from service.clock import Fresh, uuid7
from service.database import FAULTS, Connection, Pool, ServiceTable
from service.reports.erasing import count_old_bodies, erase_old_bodies

_log = structlog.get_logger(__name__)

PEOPLE_AT_ONCE = 500
ROWS_AT_ONCE = 2_000
DAILY_S = 86_400.0
LOOKED_EVERY_S = 3_600.0
LEAST_DAYS, MOST_DAYS = 7, 36_500
_TURN = 7262020  # the advisory lock of whoever runs the job


class RetentionInvalid(Exception):
    """The periods cannot be used; the message says what to do."""


class RetentionRun(ServiceTable, table=True):
    """What was removed because its time was over: how many rows of which class. Append-only."""

    __tablename__ = "retention_run"
    run_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    data_class: str = Field(sa_column=Column(Text, primary_key=True))
    ran_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    older_than: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    removed: int = Field(sa_column=Column(BigInteger, nullable=False))
    __table_args__ = (Index("retention_run_index", "ran_at"),)


@dataclass(frozen=True, slots=True)
class DataClass:
    """A class of data. `days` is None where nothing is removed by age, `why` says what ends it then."""

    name: str
    days: int | None
    zh: str
    en: str
    why: str


@dataclass(frozen=True, slots=True)
class Removed:
    """What a run removed of one class, or would remove, older than a moment."""

    data_class: str
    older_than: datetime
    rows: int


def read_classes(own: Path | None = None) -> dict[str, DataClass]:
    """The classes in their order, with the days of a deployment's own file. Raises RetentionInvalid."""
    shipped: dict[str, dict[str, Any]] = yaml.safe_load(files("service").joinpath("retention.yaml").read_text("utf-8"))
    days: dict[str, int | None] = {name: fields["days"] for name, fields in shipped.items()}
    if own is not None:
        days |= _own_days(own, days)
    return {
        name: DataClass(name, days[name], fields["zh"], fields["en"], fields["why"]) for name, fields in shipped.items()
    }


def _own_days(path: Path, shipped: Mapping[str, int | None]) -> dict[str, int | None]:
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RetentionInvalid(f"the periods in {path} cannot be read: {error}") from None
    removable = [name for name, days in shipped.items() if days is not None]
    if not isinstance(document, dict) or not document.keys() <= set(removable):
        raise RetentionInvalid(f"{path} sets the days of some of these classes: {', '.join(removable)}")
    for name, days in document.items():
        if type(days) is not int or not LEAST_DAYS <= days <= MOST_DAYS:
            raise RetentionInvalid(f"{path}: {name} takes {LEAST_DAYS} to {MOST_DAYS} whole days, not {days!r}")
    return document


@dataclass(frozen=True, slots=True)
class _ByPerson:
    """Rows that are looked for person by person: their keys begin with the participant. `rows` is the FROM and WHERE,
    with $1 for the participants and $2 for the first id that stays."""

    rows: str
    taken_out: str

    async def __call__(self, pool: Pool, before: datetime, dry_run: bool) -> int:
        bound, last, removed = uuid7(before, bytes(10)), UUID(int=0), 0
        query = f"SELECT count(*) FROM {self.rows}" if dry_run else self.taken_out
        while True:
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                people = [row[0] for row in await connection.fetch(_PEOPLE, last, PEOPLE_AT_ONCE)]
                if not people:
                    return removed
                removed += await _count(connection, query, people, bound)
            last = people[-1]


@dataclass(frozen=True, slots=True)
class _ByRow:
    """Rows of a table that is looked through, some at a time. `where` says which, with $1 for the moment."""

    table: str
    where: str

    async def __call__(self, pool: Pool, before: datetime, dry_run: bool) -> int:
        if dry_run:
            async with pool.acquire() as connection:
                return await _count(connection, f"SELECT count(*) FROM {self.table} WHERE {self.where}", before)
        delete = (
            f"DELETE FROM {self.table} WHERE ctid = ANY(ARRAY("
            f"SELECT ctid FROM {self.table} WHERE {self.where} LIMIT {ROWS_AT_ONCE}))"
        )
        removed = 0
        while True:
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                some = await _count(connection, delete, before)
            removed += some
            if some < ROWS_AT_ONCE:
                return removed


async def _bodies(pool: Pool, before: datetime, dry_run: bool) -> int:
    removed = 0
    while True:
        async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            if dry_run:
                return await count_old_bodies(connection, before)
            some = await erase_old_bodies(connection, before)
        removed += some
        if not some:
            return removed


async def _deliveries(pool: Pool, before: datetime, dry_run: bool) -> int:
    attempts = _ByRow("service.webhook_attempt", "attempted_at < $1")
    messages = _ByRow("service.webhook_message", "state <> 'waiting' AND ended_at < $1")
    return await attempts(pool, before, dry_run) + await messages(pool, before, dry_run)


_PEOPLE = "SELECT participant_id FROM service.participant WHERE participant_id > $1 ORDER BY participant_id LIMIT $2"
_OLD_EVIDENCE = "service.evidence WHERE participant_id = ANY($1) AND activity_id < $2"
_OLD_FACTS = "service.settlement WHERE participant_id = ANY($1) AND activity_id < $2 AND sealed IS NOT NULL"
_OLD_TERMS = """service.redemption_terms t WHERE participant_id = ANY($1) AND redemption_id < $2 AND EXISTS (
    SELECT FROM service.redemption r WHERE (r.participant_id, r.redemption_id) = (t.participant_id, t.redemption_id)
        AND r.state <> 'held')"""
_OLD_WORDS = """service.dispute_text t WHERE participant_id = ANY($1) AND dispute_id < $2 AND EXISTS (
    SELECT FROM service.dispute d WHERE (d.participant_id, d.dispute_id) = (t.participant_id, t.dispute_id)
        AND d.state NOT IN ('opened', 'answered', 'overdue'))"""

_OLD_REVIEW_WORDS = """service.review_text t WHERE participant_id = ANY($1) AND review_id < $2 AND EXISTS (
    SELECT FROM service.review r WHERE (r.participant_id, r.review_id) = (t.participant_id, t.review_id)
        AND r.ended_at IS NOT NULL)"""
_OLD_SIGNALS = "service.signal_values WHERE participant_id = ANY($1) AND signal_id < $2"
_OLD_DECISIONS = "service.dispute_decision WHERE participant_id = ANY($1) AND dispute_id < $2"

Step = Callable[[Pool, datetime, bool], Awaitable[int]]

STEPS: Mapping[str, Step] = {
    "evidence": _ByPerson(_OLD_EVIDENCE, f"DELETE FROM {_OLD_EVIDENCE}"),
    "settlement-facts": _ByPerson(
        _OLD_FACTS, _OLD_FACTS.replace("service.settlement", "UPDATE service.settlement SET sealed = NULL", 1)
    ),
    "redemption-terms": _ByPerson(_OLD_TERMS, f"DELETE FROM {_OLD_TERMS}"),
    "dispute-words": _ByPerson(_OLD_WORDS, f"DELETE FROM {_OLD_WORDS}"),
    "dispute-decision": _ByPerson(_OLD_DECISIONS, f"DELETE FROM {_OLD_DECISIONS}"),
    "review-words": _ByPerson(_OLD_REVIEW_WORDS, f"DELETE FROM {_OLD_REVIEW_WORDS}"),
    "signal-values": _ByPerson(_OLD_SIGNALS, f"DELETE FROM {_OLD_SIGNALS}"),
    "signed-word": _ByRow("service.signed_word", "received_at < $1"),
    "signed-report-body": _bodies,
    "manifest-text": _ByRow("service.manifest_text", "day < ($1 AT TIME ZONE 'Asia/Shanghai')::date"),
    "bank-request": _ByRow(
        "service.bank_request",
        "expires_at < $1 AND NOT EXISTS (SELECT FROM service.redemption_key k WHERE k.request_id = "
        "bank_request.request_id)",
    ),
    "webhook-delivery": _deliveries,
}

_RECORD = """
    INSERT INTO service.retention_run (run_id, data_class, ran_at, older_than, removed)
    SELECT $1, data_class, clock_timestamp(), older_than, removed
    FROM unnest($2::text[], $3::timestamptz[], $4::int8[]) AS new (data_class, older_than, removed)
"""
_LAST = "SELECT max(ran_at) FROM service.retention_run"


async def retain(pool: Pool, classes: Mapping[str, DataClass], fresh: Fresh, *, dry_run: bool = False) -> list[Removed]:
    """Remove what is older than its class is kept, and write down how much; with `dry_run` count it and remove nothing.

    One runs at a time: nothing is done, and nothing returned, while another does.
    """
    async with pool.acquire() as turn:
        if not await turn.fetchval("SELECT pg_try_advisory_lock($1)", _TURN):
            return []
        try:
            now, done = fresh.clock(), []
            for name, step in STEPS.items():
                days = classes[name].days
                if days is not None:
                    before = now - timedelta(days=days)
                    done.append(Removed(name, before, await step(pool, before, dry_run)))
            if not dry_run:
                await turn.execute(
                    _RECORD,
                    fresh.id(),
                    [one.data_class for one in done],
                    [one.older_than for one in done],
                    [one.rows for one in done],
                )
            return done
        finally:
            await turn.execute("SELECT pg_advisory_unlock($1)", _TURN)


async def read_last(tx: Connection) -> datetime | None:
    """When the job last ended; None before the first time."""
    last: datetime | None = await tx.fetchval(_LAST)
    return last


async def keep_retention(pool: Pool, classes: Mapping[str, DataClass], fresh: Fresh) -> NoReturn:
    """Run the job once a day for as long as the process serves; several processes take turns."""
    while True:
        await asyncio.sleep(random.uniform(0.5, 1.5) * LOOKED_EVERY_S)
        try:
            async with pool.acquire() as connection:
                last = await read_last(connection)
            if last is None or (datetime.now(UTC) - last).total_seconds() >= DAILY_S:
                for one in await retain(pool, classes, fresh):
                    _log.info("kept its time", data_class=one.data_class, removed=one.rows)
        except FAULTS as error:
            _log.warning("what is old was not removed", because=type(error).__name__)


async def _count(connection: "Connection | asyncpg.Connection[asyncpg.Record]", query: str, *values: object) -> int:
    """How many rows a statement counted or changed."""
    if query.lstrip().startswith("SELECT"):
        counted: int = await connection.fetchval(query, *values)
        return counted
    return int((await connection.execute(query, *values)).split()[-1])
