"""Real postings, at random and at once: the statement of the day equals the ledger, and equals the bank's own book."""

import asyncio
from collections import Counter
from datetime import timedelta
from random import Random

import pytest

from service.posting import Outcome
from service.redemption.commands import Redeemed, RedemptionCommand, Step
from service.settlement.bank_file import BankFile, Line
from service.settlement.closing import issue_due
from service.settlement.differences import compare
from service.settlement.reconciling import read_day
from service.settlement.statement import DayStatement
from service.worker import drain
from tests.conftest import Database
from tests.running import Api, pooled
from tests.service.redemption.redemption_world import Market, open_market

pytestmark = pytest.mark.anyio

TOMORROW = timedelta(days=1)  # the worker's clock: today is over then

# What a statement says of a kind, from the journal alone: points leave `available` by a hold, `held` by a capture or a
# release, and `redeemed` by a refund. A bucket that ran out is a transfer of its own.
_LEDGER = """
    SELECT t.kind, count(DISTINCT t.transfer_id) AS entries, sum(m.amount)::int8 AS points
    FROM ledger.transfer t JOIN ledger.movement m USING (participant_id, transfer_id)
    WHERE t.kind IN ('hold', 'capture', 'release', 'refund') AND m.asset = 'points' GROUP BY t.kind
"""


@pytest.fixture
async def market(fresh_api: Api, fresh_database: Database) -> Market:
    return await open_market(fresh_api, fresh_database)


class Bank:
    """A bank that writes down what it was answered."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def note(self, outcome: Outcome) -> Redeemed | None:
        if not isinstance(outcome, Redeemed):
            return None
        for step in (outcome.step, outcome.rest):
            if step is not None and not outcome.repeated:
                self.lines.append(self._line(outcome, step))
        return outcome

    def _line(self, outcome: Redeemed, step: Step) -> Line:
        ids = (step.transfer_id, outcome.redemption.redemption_id)
        return Line(len(self.lines) + 2, *ids, step.kind, step.units, step.value_fen, step.points, step.co2e_mg)


async def play(market: Market, bank: Bank, pool: str, seed: int) -> None:
    """Somebody redeems, and a bank captures in parts, voids and refunds, some of it at once and some of it twice."""
    random = Random(seed)
    offer, person = await market.offer(pool), await market.person(rides=4)
    for _ in range(4):
        held = bank.note((await market.post(market.place(person, offer, random.randint(1, 6))))[0])
        if held is None:
            continue
        captures = [
            market.capture(held, random.choice([1, 2, None]), final=random.random() < 0.3)
            for _ in range(random.randint(0, 3))
        ]
        commands: list[RedemptionCommand] = [*captures]
        if random.random() < 0.5:
            commands.append(market.release(held))
        done = await asyncio.gather(*(market.post(command) for command in commands))
        noted = [bank.note(outcome) for (outcome,) in done]
        captured = [each for each in noted if each is not None and each.step.kind == "capture"]
        for each in captured:
            if random.random() < 0.5:
                refunds = [market.refund(each) for _ in range(2)]  # under two keys: one of them is refused
                for (outcome,) in await asyncio.gather(*(market.post(command) for command in refunds)):
                    bank.note(outcome)


async def issued(market: Market, days_ahead: timedelta = TOMORROW) -> DayStatement:
    async with pooled(market.database.sequencer) as pool:
        await drain(pool)
        async with pool.acquire() as connection:
            assert await issue_due(connection, days_ahead) == 1
    platform = market.api.platform
    async with platform.pool.acquire() as connection:
        return (await read_day(connection, market.bank_id, platform.today())).statement


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_statement_is_the_ledger_and_the_banks_own_book(market: Market, seed: int) -> None:
    bank, pool = Bank(), await market.pool()
    await asyncio.gather(*(play(market, bank, pool, seed * 100 + number) for number in range(4)))
    statement = await issued(market)
    assert compare(statement.entries, BankFile(tuple(bank.lines), {}), other_days={}, known=frozenset()) == ()
    async with market.api.platform.pool.acquire() as connection:
        rows = await connection.fetch(_LEDGER)
    ledger = {row["kind"]: (row["entries"], row["points"]) for row in rows}
    said = {kind: (total.entries, total.points) for kind, total in statement.totals.items() if total.entries}
    assert said == ledger
    assert {"hold", "capture"} <= said.keys()
    left, totals = await market.state_of(pool), statement.totals
    back = totals["release"].value_fen + totals["refund"].value_fen
    assert left.budget_fen - left.left_fen == totals["hold"].value_fen - back
    assert all(entry.log_index < statement.size for entry in statement.entries)
    assert Counter(entry.transfer_id for entry in statement.entries).most_common(1)[0][1] == 1


async def test_a_line_that_a_bank_lost_is_found(market: Market) -> None:
    bank, pool = Bank(), await market.pool()
    await play(market, bank, pool, 7)
    statement = await issued(market)
    lost = bank.lines.pop()
    (missing,) = compare(statement.entries, BankFile(tuple(bank.lines), {}), other_days={}, known=frozenset())
    assert (missing.reason, missing.transfer_id) == ("missing-there", lost.transfer_id)
