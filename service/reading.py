"""What a participant reads, balance and statement, and what a source has still to settle. Reads decide nothing and lock
nothing; one credit with its arithmetic is in explaining.py."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import asyncpg

from ledger.journal import Transfer
from ledger.store import Posted, read_statement
from service.activities.rules import RuleBook
from service.clock import Clock, shanghai_day
from service.database import Connection, Pool
from service.quantification.model import Methodology


@dataclass(frozen=True, slots=True)
class Balance:
    """What a participant has: points by state and by the day they run out, and grams. `available` is what could be
    spent now."""

    participant_id: UUID
    kind: str
    programme: str
    region: str
    points_available: int
    points_held: int
    points_pending: int
    points_debt: int
    expiring: tuple[tuple[date, int], ...]
    reduction_mg: int
    reduction_pending_mg: int
    reduction_debt_mg: int
    transfers: int


_BALANCES = """
    SELECT a.participant_id, a.kind, a.programme, a.region, a.counter, a.points_available, a.points_held,
        a.points_pending,
           a.points_debt, a.co2e_available, a.co2e_pending, a.co2e_debt,
           coalesce(array_agg(b.expires_on ORDER BY b.expires_on) FILTER (WHERE b.available > 0), '{}') AS days,
           coalesce(array_agg(b.available ORDER BY b.expires_on) FILTER (WHERE b.available > 0), '{}') AS amounts
    FROM ledger.account a LEFT JOIN ledger.bucket b USING (participant_id)
    WHERE a.participant_id = ANY($1) GROUP BY a.participant_id
"""


async def read_balances(tx: Connection, participant_ids: Sequence[UUID], *, today: date) -> dict[UUID, Balance]:
    """The balances of these participants as of one moment; the unknown are absent.

    A bucket past its last day is dead at once: its points are out of `available` whether or not their lapse has been
    posted.
    """
    found = {}
    for row in await tx.fetch(_BALANCES, participant_ids):
        buckets = list(zip(row["days"], row["amounts"], strict=True))
        dead = sum(left for day, left in buckets if day < today)
        found[row["participant_id"]] = Balance(
            row["participant_id"],
            row["kind"],
            row["programme"],
            row["region"],
            row["points_available"] - dead,
            row["points_held"],
            row["points_pending"],
            row["points_debt"],
            tuple((day, left) for day, left in buckets if day >= today),
            row["co2e_available"],
            row["co2e_pending"],
            row["co2e_debt"],
            row["counter"],
        )
    return found


@dataclass(frozen=True, slots=True)
class Awaited:
    """What a pending credit waits for, and the day by which it is expected; None where no day is set."""

    awaits: str
    due_on: date | None


@dataclass(frozen=True, slots=True)
class StatedTransfer:
    """A transfer of a statement. Of a credit also the rule it was posted under, and what has become of it since."""

    posted: Posted
    methodology: Methodology | None
    awaited: Awaited | None


_STATED = """
    SELECT w.transfer_id, r.reversal_id, m.maturity_id, d.digest, p.awaits, p.due_on
    FROM unnest($2::uuid[]) AS w (transfer_id)
    LEFT JOIN ledger.reversed r ON r.participant_id = $1 AND r.transfer_id = w.transfer_id
    LEFT JOIN ledger.matured m ON m.participant_id = $1 AND m.transfer_id = w.transfer_id
    LEFT JOIN service.activity a ON a.participant_id = $1 AND a.activity_id = w.transfer_id
    LEFT JOIN service.rule_document d ON d.rule_id = a.methodology_id
    LEFT JOIN service.provisional p ON p.participant_id = $1 AND p.activity_id = w.transfer_id
"""


async def read_stated(
    tx: Connection, participant_id: UUID, rules: RuleBook, *, before: int, limit: int
) -> list[StatedTransfer]:
    """The latest transfers whose counter is below `before`, newest first."""
    transfers = await read_statement(tx, participant_id, before=before, limit=limit)
    credits = [transfer.transfer_id for transfer in transfers if transfer.kind == "credit"]
    rows = {row["transfer_id"]: row for row in await tx.fetch(_STATED, participant_id, credits)} if credits else {}
    return [_stated(transfer, rows.get(transfer.transfer_id), rules) for transfer in transfers]


def _stated(transfer: Transfer, row: asyncpg.Record | None, rules: RuleBook) -> StatedTransfer:
    if row is None:
        return StatedTransfer(Posted(transfer, None), None, None)
    return StatedTransfer(
        Posted(transfer, row["reversal_id"], row["maturity_id"]),
        rules.posted_methodologies[row["digest"].hex()] if row["digest"] else None,
        Awaited(row["awaits"], row["due_on"]) if row["awaits"] else None,
    )


@dataclass(frozen=True, slots=True)
class DueMonth:
    """How many credits of a scenario and a month wait for their settlement.

    first_due, last_due   the earliest and the latest day by which one of them is expected
    overdue               how many of them were expected before today
    """

    scenario: str
    month: date
    credits: int
    first_due: date
    last_due: date
    overdue: int


_DUE = """
    SELECT scenario, date_trunc('month', day::timestamp)::date AS month, count(*) AS credits, min(due_on) AS first_due,
        max(due_on) AS last_due, count(*) FILTER (WHERE due_on < $3) AS overdue
    FROM service.provisional
    WHERE source_id = $1 AND awaits = 'settlement' AND due_on < $2 AND (scenario, day) >= ($4, $5)
    GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $6
"""


async def read_due(
    tx: Connection, source_id: int, *, before: date, today: date, after: tuple[str, date], limit: int
) -> list[DueMonth]:
    """What a source has to settle, by scenario and month of the activity, as far as it is due before a day.

    after   a scenario and a day: those that come before, in this order, are left out
    """
    return [DueMonth(**row) for row in await tx.fetch(_DUE, source_id, before, today, *after, limit)]


class BalanceReader:
    """Reads balances that are asked for at the same moment in one statement: under load that is one round trip for
    dozens."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._waiting: dict[UUID, asyncio.Future[Balance | None]] = {}
        self._flights: set[asyncio.Task[None]] = set()

    async def read(self, participant_id: UUID) -> Balance | None:
        """The balance as of a moment after this call; None for an unknown participant."""
        answer = self._waiting.get(participant_id)
        if answer is None:
            answer = self._waiting[participant_id] = asyncio.get_running_loop().create_future()
            if len(self._waiting) == 1:
                flight = asyncio.create_task(self._fly())
                self._flights.add(flight)
                flight.add_done_callback(self._flights.discard)
        return await asyncio.shield(answer)

    async def _fly(self) -> None:
        async with self._pool.acquire() as connection:
            asked, self._waiting = self._waiting, {}
            try:
                found = await read_balances(connection, list(asked), today=shanghai_day(self._clock()))
            except Exception as error:
                for answer in asked.values():
                    answer.set_exception(error)
                return
        for participant_id, answer in asked.items():
            answer.set_result(found.get(participant_id))
