"""What is owed, summed from the books, and how long a pool lasts: the same sums by another way."""

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clock import shanghai_day
from service.redemption.pools import open_pool as open_reward_pool
from service.redemption.terms import PoolTerms
from service.settlement.liability import FARTHEST, Liability, forecast, read_liability, read_pool_statuses
from tests.conftest import Database
from tests.service.settlement.books import Books, open_books

pytestmark = pytest.mark.anyio

TODAY = shanghai_day(datetime.now(UTC))


@given(st.integers(0, 10**12), st.integers(1, 10**9), st.integers(1, 30))
def test_a_pool_is_empty_on_the_day_the_sum_passes_what_is_left(left: int, burnt: int, days: int) -> None:
    empty_on = forecast(left, burnt, days, TODAY)
    if empty_on is None:
        assert left * days > burnt * FARTHEST.days
        return
    lasts = (empty_on - TODAY).days
    assert lasts * burnt >= left * days
    assert lasts == 0 or (lasts - 1) * burnt < left * days


@given(st.integers(0, 10**12), st.integers(-(10**9), 0))
def test_a_pool_that_does_not_burn_does_not_run_out(left: int, burnt: int) -> None:
    assert forecast(left, burnt, 30, TODAY) is None


async def account(books: Books, buckets: dict[date, int], **columns: int) -> None:
    participant_id, values = uuid4(), {"points_available": sum(buckets.values())} | columns
    async with books.app.acquire() as connection:
        await connection.execute(
            "INSERT INTO ledger.account (participant_id, kind, programme, region, opened_at) "
            "VALUES ($1, 'citizen', 'demo', '310000', now())",
            participant_id,
        )
        for name, amount in values.items():
            await connection.execute(
                f"UPDATE ledger.account SET {name} = $2 WHERE participant_id = $1", participant_id, amount
            )
        for day, points in buckets.items():
            await connection.execute(
                "INSERT INTO ledger.bucket (participant_id, expires_on, available) VALUES ($1, $2, $3)",
                participant_id,
                day,
                points,
            )
        for ends in (timedelta(hours=1), -timedelta(hours=1)):
            await connection.execute(
                "INSERT INTO ledger.hold (participant_id, hold_id, expires_at, points_left, co2e_left) "
                "VALUES ($1, $2, now() + $3::interval, $4, 0)",
                participant_id,
                uuid4(),
                ends,
                7 if ends > timedelta(0) else 3,
            )


def month_end(months: int) -> date:
    """The last day of the month so many months from this one."""
    first = (TODAY.year * 12 + TODAY.month - 1) + months + 1
    return date(first // 12, first % 12 + 1, 1) - timedelta(days=1)


async def test_points_are_owed_by_the_day_on_which_they_expire(fresh_database: Database) -> None:
    dead, soon, far = month_end(-1), month_end(1), month_end(20)

    async def owed_on(day: date, programme: str = "demo") -> Liability:
        async with (
            books.app.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await read_liability(connection, programme, day - TODAY)

    async with open_books(fresh_database) as books:
        await account(books, {soon: 10, far: 20, dead: 5}, points_pending=8)
        await account(books, {far: 1})
        now, last, after = await owed_on(TODAY), await owed_on(soon), await owed_on(soon + timedelta(days=1))
        other = await owed_on(TODAY, "another")
    assert dict(now.by_expiry) == dict(last.by_expiry) == {soon: 10, far: 21}
    assert dict(after.by_expiry) == {far: 21}
    assert (now.available, now.pending, now.lapsed_unwritten, now.debt) == (31, 8, 5, 0)
    assert (after.available, after.lapsed_unwritten) == (21, 15)
    assert (now.held, now.held_ended) == (14, 6)
    assert (after.held, after.held_ended) == (0, 20)
    assert (other.available, other.held, other.pending) == (0, 0, 0)


async def test_a_pool_says_what_is_held_paid_and_burnt(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        terms = PoolTerms("a-pool", "demo", "https://bank.example/funder", "某池", "A pool", 50, 1, "stop")
        async with books.app.acquire() as connection, connection.transaction():
            await open_reward_pool(connection, terms, points=1_000, fen=80_000, by="tests", fresh=books.fresh)
            await open_reward_pool(
                connection,
                PoolTerms("b-pool", "demo", "https://bank.example/funder", "某池", "Another", 50, 1, "queue"),
                points=10,
                fen=10,
                by="tests",
                fresh=books.fresh,
            )
        await books.redeem(TODAY, 4)
        await books.redeem(TODAY, 3, captured=False)
        back = await books.redeem(TODAY, 2)
        await books.refund(back, TODAY)
        async with books.app.acquire() as connection:
            await connection.execute(
                "UPDATE service.redemption SET units_refunded = units, state = 'refunded' WHERE redemption_id = $1",
                back.redemption_id,
            )
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                one, other = await read_pool_statuses(connection, TODAY)
    assert (one.held_points, one.held_fen, one.paid_points, one.paid_fen) == (30, 1_500, 40, 2_000)
    assert (one.burn_days, one.burnt_points, one.burnt_fen) == (1, 40, 2_000)
    assert one.empty_on == TODAY + timedelta(days=25)  # its points, before its money
    assert (other.pool.terms.pool, other.burnt_points, other.empty_on) == ("b-pool", 0, None)
