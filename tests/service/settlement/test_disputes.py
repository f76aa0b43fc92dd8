"""Disputes in the database: one about a redemption, every step a row, deadlines by days, words that can be erased."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.clock import shanghai_day
from service.settlement.disputes import (
    Disputed,
    DisputeExists,
    DisputeNotFound,
    NothingToDispute,
    Which,
    answer_dispute,
    decide_dispute,
    list_disputes,
    open_dispute,
    read_dispute,
    read_disputes,
    read_unrefunded,
    require_decidable,
    require_owner,
    withdraw_dispute,
)
from service.settlement.states import ANSWER_WITHIN, DECIDE_WITHIN, StepRefused
from tests.conftest import Database
from tests.running import pooled, vault_for_tests
from tests.service.settlement.books import Books, Redeemed, later, open_books

pytestmark = pytest.mark.anyio

TODAY = shanghai_day(datetime.now(UTC))
YESTERDAY = TODAY - timedelta(days=1)


async def dispute(books: Books, found: Redeemed, words: str | None = "nothing came") -> Disputed:
    async with books.app.acquire() as connection, connection.transaction():
        return await open_dispute(
            connection,
            vault_for_tests(),
            found.participant_id,
            found.redemption_id,
            "benefit_missing",
            words,
            books.fresh,
        )


async def step(books: Books, which: Which, what: str, words: str | None = "because", by: Any = None) -> Disputed:
    fresh = by or books.fresh
    async with books.app.acquire() as connection, connection.transaction():
        if what == "answer":
            return await answer_dispute(connection, vault_for_tests(), which, "rejects", words, uuid4(), fresh)
        if what == "withdraw":
            return await withdraw_dispute(connection, vault_for_tests(), which, words, fresh)
        return await decide_dispute(
            connection, vault_for_tests(), which, "bank" if what == "bank" else "participant", words, fresh
        )


def which_of(found: Disputed) -> Which:
    return Which(found.participant_id, found.redemption_id, found.dispute_id)


async def test_a_dispute_is_answered_and_decided_and_all_of_it_is_kept(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        found = await books.redeem(YESTERDAY)
        opened = await dispute(books, found)
        assert (opened.standing.state, opened.standing.waits_for) == ("opened", "bank")
        assert opened.standing.due_on == TODAY + ANSWER_WITHIN
        assert opened.bank == books.bank
        answered = await step(books, which_of(opened), "answer")
        assert (answered.standing.waits_for, answered.standing.due_on) == ("operator", TODAY + DECIDE_WITHIN)
        decided = await step(books, which_of(opened), "participant")
        assert (decided.standing.state, decided.standing.waits_for) == ("resolved_for_participant", None)
        assert [(each.step, each.party, each.position, each.words) for each in decided.steps] == [
            ("open", "participant", None, "nothing came"),
            ("answer", "bank", "rejects", "because"),
            ("resolve_for_participant", "operator", None, "because"),
        ]
        async with books.app.acquire() as connection:
            assert await read_disputes(
                connection, vault_for_tests(), found.participant_id, found.redemption_id, TODAY
            ) == [decided]
            assert await read_unrefunded(connection, which_of(opened)) == [found.capture_id]
        for again in ("answer", "withdraw", "bank", "participant"):
            with pytest.raises(StepRefused):
                await step(books, which_of(opened), again)
        with pytest.raises(DisputeExists):
            await dispute(books, found)


async def test_the_operator_decides_once_the_bank_was_heard_or_let_its_time_pass(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        opened = await dispute(books, await books.redeem(YESTERDAY))
        which, last = which_of(opened), TODAY + ANSWER_WITHIN
        async with books.app.acquire() as connection:
            for today in (TODAY, last):
                with pytest.raises(StepRefused):
                    await require_decidable(connection, vault_for_tests(), which, "bank", today)
            await require_decidable(connection, vault_for_tests(), which, "bank", last + timedelta(days=1))
            overdue = await read_dispute(connection, vault_for_tests(), which, last + timedelta(days=1))
        assert (overdue.standing.state, overdue.standing.waits_for) == ("overdue", "operator")
        with pytest.raises(StepRefused):
            await step(books, which, "bank")
        decided = await step(books, which, "bank", by=later(ANSWER_WITHIN + timedelta(days=1)))
        assert [(each.step, each.state, each.party) for each in decided.steps][1:] == [
            ("lapse", "overdue", "rule"),
            ("resolve_for_bank", "resolved_for_bank", "operator"),
        ]


async def test_a_late_answer_is_an_answer(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        opened = await dispute(books, await books.redeem(YESTERDAY))
        by = later(ANSWER_WITHIN + timedelta(days=3))
        answered = await step(books, which_of(opened), "answer", by=by)
        assert answered.standing.due_on == TODAY + ANSWER_WITHIN + timedelta(days=3) + DECIDE_WITHIN
        assert [each.step for each in answered.steps] == ["open", "lapse", "answer"]


async def test_what_was_withdrawn_may_be_opened_again(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        found = await books.redeem(YESTERDAY)
        first = await dispute(books, found)
        assert (await step(books, which_of(first), "withdraw", None)).standing.state == "withdrawn"
        second = await dispute(books, found)
        assert second.dispute_id != first.dispute_id
        async with books.app.acquire() as connection:
            both = await read_disputes(connection, vault_for_tests(), found.participant_id, found.redemption_id, TODAY)
        assert [each.dispute_id for each in both] == [first.dispute_id, second.dispute_id]


async def test_only_points_that_were_spent_are_disputed(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        held, spent = await books.redeem(YESTERDAY, captured=False), await books.redeem(YESTERDAY)
        with pytest.raises(NothingToDispute):
            await dispute(books, held)
        async with books.app.acquire() as connection:
            await connection.execute(
                "UPDATE service.redemption SET units_refunded = units_captured WHERE redemption_id = $1",
                spent.redemption_id,
            )
        with pytest.raises(NothingToDispute):
            await dispute(books, spent)
        with pytest.raises(DisputeNotFound):
            await dispute(books, Redeemed(uuid4(), spent.redemption_id, uuid4(), 1))


async def test_one_dispute_comes_of_many_at_once(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        found = await books.redeem(YESTERDAY)
        made = await asyncio.gather(*(dispute(books, found) for _ in range(8)), return_exceptions=True)
        (opened,) = [each for each in made if isinstance(each, Disputed)]
        conflicts = [each for each in made if isinstance(each, DisputeExists)]
        assert {each.dispute_id for each in conflicts} == {opened.dispute_id}
        assert len(conflicts) == 7


async def test_an_answer_and_a_withdrawal_at_once_leave_one_history(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        for _ in range(5):
            opened = await dispute(books, await books.redeem(YESTERDAY))
            which = which_of(opened)
            done = await asyncio.gather(
                step(books, which, "answer"), step(books, which, "withdraw"), return_exceptions=True
            )
            async with books.app.acquire() as connection:
                found = await read_dispute(connection, vault_for_tests(), which, TODAY)
            assert found.steps[-1].state == found.standing.state
            assert [each.number for each in found.steps] == list(range(1, len(found.steps) + 1))
            assert sum(isinstance(each, Disputed) for each in done) == len(found.steps) - 1
            assert all(isinstance(each, Disputed | StepRefused) for each in done)


async def test_a_step_waits_for_the_one_under_way(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books, pooled(fresh_database.app) as pool, pool.acquire() as connection:
        which = which_of(await dispute(books, await books.redeem(YESTERDAY)))
        transaction = connection.transaction(isolation="read_committed")
        await transaction.start()
        await withdraw_dispute(connection, vault_for_tests(), which, None, books.fresh)
        answering = asyncio.create_task(step(books, which, "answer"))
        done, _ = await asyncio.wait({answering}, timeout=0.3)
        assert not done
        await transaction.commit()
        with pytest.raises(StepRefused):
            await answering


async def test_a_bank_finds_its_own_disputes_and_no_others(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        other = await books.another_bank()
        mine, theirs = await books.redeem(YESTERDAY), await books.redeem(YESTERDAY, bank=other)
        first, second = await dispute(books, mine), await dispute(books, theirs)
        await step(books, which_of(first), "withdraw")
        async with books.app.acquire() as connection:

            async def listed(bank_id: int | None, *, open_only: bool) -> list[UUID]:
                beginning = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
                found = await list_disputes(
                    connection, vault_for_tests(), bank_id, open_only=open_only, after=beginning, limit=10, today=TODAY
                )
                return [each.dispute_id for each in found]

            assert await listed(books.bank_id, open_only=False) == [first.dispute_id]
            assert await listed(books.bank_id, open_only=True) == []
            assert await listed(None, open_only=False) == [first.dispute_id, second.dispute_id]
            assert await require_owner(connection, other[1], theirs.redemption_id) == theirs.participant_id
            with pytest.raises(DisputeNotFound):
                await require_owner(connection, books.bank_id, theirs.redemption_id)
        with pytest.raises(DisputeNotFound):
            await step(books, Which(mine.participant_id, theirs.redemption_id, second.dispute_id), "answer")


async def test_words_can_be_erased_and_steps_cannot(fresh_database: Database) -> None:
    async with open_books(fresh_database) as books:
        opened = await dispute(books, await books.redeem(YESTERDAY))
        owner = await asyncpg.connect(fresh_database.owner)
        await owner.execute("DELETE FROM service.dispute_text")
        with pytest.raises(asyncpg.RaiseError):
            await owner.execute("DELETE FROM service.dispute_step")
        await owner.close()
        async with books.app.acquire() as connection:
            found = await read_dispute(connection, vault_for_tests(), which_of(opened), TODAY)
        assert [(each.step, each.words) for each in found.steps] == [("open", None)]
