"""What a participant reads, balance and statement, and what a source has still to settle. Reads decide nothing and lock
nothing; one credit with its arithmetic is in explaining.py."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from uuid import UUID

import asyncpg

from ledger.holds import Hold, release_lines, still_held
from ledger.journal import ASSETS, PARTICIPANT_ACCOUNTS, Account, Line, Transfer, buckets_after, posted
from ledger.store import Posted, read_statement
from service.activities.rules import RuleBook
from service.clock import Clock, shanghai_day
from service.database import Connection, Pool
from service.own import seeing_only
from service.quantification.model import Methodology
from service.signals.withheld import read_withheld


@dataclass(frozen=True, slots=True)
class Balance:
    """What a participant has: points by state and by the day they run out, and grams. `available` is what could be
    spent now, less what is under review of it."""

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
    points_under_review: int = 0


_BALANCES = """
    SELECT a.participant_id, a.kind, a.programme, a.region, a.counter, a.points_available, a.points_held,
           a.points_pending, a.points_debt, a.co2e_available, a.co2e_held, a.co2e_pending, a.co2e_debt,
           coalesce(array_agg(b.expires_on ORDER BY b.expires_on) FILTER (WHERE b.available > 0), '{}') AS days,
           coalesce(array_agg(b.available ORDER BY b.expires_on) FILTER (WHERE b.available > 0), '{}') AS amounts,
           EXISTS (SELECT FROM service.review r WHERE r.participant_id = a.participant_id AND r.state = 'open')
               AS reviewed
    FROM ledger.account a LEFT JOIN ledger.bucket b USING (participant_id)
    WHERE a.participant_id = ANY($1) GROUP BY a.participant_id
"""


# The counter is told with or without dead holds: who has another one by now was posted for in between.
_DEAD_HOLDS = """
    SELECT a.participant_id, a.counter, h.hold_id, h.expires_at, h.points_left, h.co2e_left, m.from_account,
        m.to_account, m.asset, m.amount, m.credit_class, m.vintage, m.expires_on
    FROM ledger.account a
    LEFT JOIN (ledger.hold h JOIN ledger.movement m ON m.participant_id = h.participant_id
            AND m.transfer_id = h.hold_id)
        ON h.participant_id = a.participant_id AND h.points_left > 0 AND h.expires_at <= $2
    WHERE a.participant_id = ANY($1) ORDER BY a.participant_id, h.hold_id, m.line
"""


async def read_balances(
    tx: Connection, participant_ids: Sequence[UUID], *, at: datetime, today: date
) -> dict[UUID, Balance]:
    """The balances of these participants as of one moment; the unknown are absent.

    A bucket past its last day is dead at once: its points are out of `available` whether or not their lapse has been
    posted. So is a hold whose time is over: what it held is back, has repaid what was owed, or is dead with its bucket.
    """
    found: dict[UUID, Balance] = {}
    asked = list(participant_ids)
    reviewed: set[UUID] = set()
    while asked:
        rows = {row["participant_id"]: row for row in await tx.fetch(_BALANCES, asked)}
        reviewed |= {participant_id for participant_id, row in rows.items() if row["reviewed"]}
        found |= {participant_id: _balance(row, today) for participant_id, row in rows.items()}
        asked = [row["participant_id"] for row in rows.values() if row["points_held"]]
        if asked:
            asked = await _release_dead(tx, asked, at, today, rows, found)
    if reviewed:
        for participant_id, points in (await read_withheld(tx, reviewed, at)).items():
            balance = found[participant_id]
            withheld = min(points, balance.points_available)
            found[participant_id] = replace(balance, points_under_review=withheld)
    return found


async def _release_dead(
    tx: Connection,
    participant_ids: Sequence[UUID],
    at: datetime,
    today: date,
    rows: Mapping[UUID, asyncpg.Record],
    found: dict[UUID, Balance],
) -> list[UUID]:
    """Put those right in `found` who have dead holds, as their release will; who is to be read again."""
    moved: list[UUID] = []
    dead: dict[UUID, dict[UUID, tuple[Hold, list[Line]]]] = {}
    for row in await tx.fetch(_DEAD_HOLDS, participant_ids, at):
        participant_id, counter, hold_id, expires_at, points_left, co2e_left, *line = row
        if counter != found[participant_id].transfers:
            moved.append(participant_id)
        elif hold_id is not None:
            hold = Hold(participant_id, hold_id, expires_at, points_left, co2e_left)
            dead.setdefault(participant_id, {}).setdefault(hold_id, (hold, []))[1].append(Line(*line))
    for participant_id, holds in dead.items():
        row = rows[participant_id]
        account, buckets = _account(row), dict(zip(row["days"], row["amounts"], strict=True))
        for hold, lines in holds.values():
            held = still_held(lines, points=hold.points_left, co2e_mg=hold.co2e_left)
            released = release_lines(account, held)
            account, buckets = posted(account, released), buckets_after(buckets, released)
        found[participant_id] = _told(account, row["counter"], buckets, today)
    return list(dict.fromkeys(moved))


def _account(row: asyncpg.Record) -> Account:
    names = {"co2e_mg": "co2e", "points": "points"}
    balances = {(asset, name): row[f"{names[asset]}_{name}"] for asset in ASSETS for name in PARTICIPANT_ACCOUNTS}
    return Account(row["participant_id"], row["kind"], row["programme"], row["region"], row["counter"], balances)


def _told(account: Account, transfers: int, buckets: Mapping[date, int], today: date) -> Balance:
    live = tuple(sorted((day, left) for day, left in buckets.items() if day >= today and left))
    return Balance(
        account.participant_id,
        account.kind,
        account.programme,
        account.region,
        sum(left for _, left in live),
        account.balance("points", "held"),
        account.balance("points", "pending"),
        account.balance("points", "debt"),
        live,
        account.balance("co2e_mg", "available"),
        account.balance("co2e_mg", "pending"),
        account.balance("co2e_mg", "debt"),
        transfers,
    )


def _balance(row: asyncpg.Record, today: date) -> Balance:
    buckets = list(zip(row["days"], row["amounts"], strict=True))
    dead = sum(left for day, left in buckets if day < today)
    return Balance(
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
        asked: dict[UUID, asyncio.Future[Balance | None]] = {}
        try:
            async with self._pool.acquire() as connection:
                asked, self._waiting = self._waiting, {}
                async with seeing_only(connection, asked):
                    now = self._clock()
                    found = await read_balances(connection, list(asked), at=now, today=shanghai_day(now))
                    for participant_id, answer in asked.items():  # who asked does not wait for the transaction's end
                        answer.set_result(found.get(participant_id))
        except Exception as error:
            if not asked:  # no connection could be had
                asked, self._waiting = self._waiting, {}
            for answer in asked.values():
                if not answer.done():
                    answer.set_exception(error)
