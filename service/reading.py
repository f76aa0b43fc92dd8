"""What a participant reads: balance, statement, and one credit with its arithmetic. Reads decide nothing and lock
nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from ledger.store import Posted, read_transfer
from service.activities.rules import RuleBook
from service.activities.store import RecordedActivity, read_activity
from service.clock import Clock, shanghai_day
from service.database import Connection, Pool
from service.quantification.model import ActivityData, Methodology
from service.quantification.points import PointsRule
from service.quantification.quantify import Explanation, explain


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
class ExplainedTransfer:
    """One transfer and, for a credit, how its amount came about.

    log_index     its place in the transparency log; None while the sequencer has not come to it
    activity, methodology, points_rule, explanation   None unless it is a credit; explanation also when the evidence
                                                      was erased
    """

    posted: Posted
    log_index: int | None
    activity: RecordedActivity | None = None
    methodology: Methodology | None = None
    points_rule: PointsRule | None = None
    explanation: Explanation | None = None


async def explain_transfer(
    tx: Connection, participant_id: UUID, transfer_id: UUID, rules: RuleBook
) -> ExplainedTransfer:
    """One transfer, explained by computing it again from its evidence under the rules it was posted under.

    Raises TransferNotFound.
    """
    posted = await read_transfer(tx, participant_id, transfer_id)
    log_index = await tx.fetchval(
        "SELECT log_index FROM ledger.leaf WHERE participant_id = $1 AND transfer_id = $2", participant_id, transfer_id
    )
    activity = await read_activity(tx, participant_id, transfer_id) if posted.transfer.kind == "credit" else None
    if activity is None:
        return ExplainedTransfer(posted, log_index)
    methodology = rules.posted_methodologies[activity.methodology_digest]
    explanation = explain(methodology, _activity_data(activity)) if activity.document else None
    points_rule = rules.posted_points_rules.get(activity.points_rule_digest or "")
    return ExplainedTransfer(posted, log_index, activity, methodology, points_rule, explanation)


def _activity_data(activity: RecordedActivity) -> ActivityData:
    assert activity.document is not None
    document = activity.document
    return ActivityData(
        datetime.fromisoformat(document["started_at"]),
        datetime.fromisoformat(document["ended_at"]),
        {name: Decimal(value) for name, value in document["inputs"].items()},
    )


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
