"""Links and consents in the database, and what a consent that comes or goes means for what is being posted."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.database import Pool
from service.enrolment import Enrolled, enrol
from service.participants import (
    EnrolledMeanwhile,
    LinkNotFound,
    NewLink,
    ParticipantConflict,
    ParticipantNotFound,
    ProgrammeMismatch,
    add_link,
    read_links,
    withdraw_consent,
)
from service.vault.refreshing import adopt_vault
from tests.conftest import Database
from tests.running import Api, pooled, ride, vault_for_tests

pytestmark = pytest.mark.anyio

GIVEN = datetime(2026, 1, 1, tzinfo=UTC)


def link(source_id: int, subject: str, programme: str = "demo") -> NewLink:
    return NewLink(
        uuid4(), source_id, programme, subject.encode().ljust(32, b"."), 1, "carbon-credit", "tests-1", GIVEN
    )


def fresh_source() -> int:
    """A source of the test's own; no link needs it to be registered."""
    return uuid4().int % 2**30 + 2**30


async def enrolled(pool: Pool, *links: NewLink, kind: str = "citizen", programme: str = "demo") -> Enrolled:
    async with pool.acquire() as tx, tx.transaction():
        await adopt_vault(tx, vault_for_tests())
        return await enrol(tx, vault_for_tests(), uuid4(), links, kind=kind, programme=programme, region="310000")


async def rows(database: Database, query: str, *values: object) -> Sequence[asyncpg.Record]:
    connection = await asyncpg.connect(database.admin)
    try:
        return await connection.fetch(query, *values)
    finally:
        await connection.close()


async def test_an_enrolment_records_the_consent_and_opens_one_account(database: Database) -> None:
    source = fresh_source()
    async with pooled(database.app) as pool:
        made = await enrolled(pool, link(source, "a"), link(source, "b"))
    consents = await rows(database, "SELECT * FROM service.consent WHERE participant_id = $1", made.participant_id)
    assert {row["link_id"] for row in consents} == set(made.link_ids)
    assert {(row["purpose"], row["text_version"], row["given_at"], row["withdrawn_at"]) for row in consents} == {
        ("carbon-credit", "tests-1", GIVEN, None)
    }
    (account,) = await rows(database, "SELECT * FROM ledger.account WHERE participant_id = $1", made.participant_id)
    assert (account["kind"], account["programme"], account["counter"]) == ("citizen", "demo", 0)
    assert made.participant_id.version == 4


async def test_repeating_an_enrolment_makes_the_links_that_are_missing(database: Database) -> None:
    source = fresh_source()
    one, two = link(source, "a"), link(source, "b")
    async with pooled(database.app) as pool:
        first = await enrolled(pool, one)
        again = await enrolled(pool, link(source, "a"), two)
        assert (again.participant_id, again.created) == (first.participant_id, False)
        assert again.link_ids == (*first.link_ids, two.link_id)
        async with pool.acquire() as tx:
            found, keys = await read_links(
                tx, vault_for_tests(), [source] * 3, [one.subject_tag, two.subject_tag, bytes(32)]
            )
    assert set(found.values()) == {first.participant_id}
    assert len(found) == 2
    assert keys.keys() == {first.participant_id}


async def test_who_links_again_is_the_same_participant(database: Database) -> None:
    source = fresh_source()
    async with pooled(database.app) as pool:
        first = await enrolled(pool, link(source, "a"))
        for _ in range(2):
            async with pool.acquire() as tx, tx.transaction():
                (link_id,) = (await enrolled(pool, link(source, "a"))).link_ids
                await withdraw_consent(tx, first.participant_id, link_id)
            async with pool.acquire() as tx:
                assert await read_links(tx, vault_for_tests(), [source], [link(source, "a").subject_tag]) == ({}, {})
        with pytest.raises(ParticipantConflict):
            await enrolled(pool, link(source, "a"), kind="firm")
    ended = await rows(
        database, "SELECT withdrawn_at FROM service.consent WHERE participant_id = $1", first.participant_id
    )
    assert len(ended) == 2
    assert all(row["withdrawn_at"] for row in ended)


async def test_what_does_not_fit_together_is_refused_and_leaves_nothing(database: Database) -> None:
    source = fresh_source()
    async with pooled(database.app) as pool:
        one = await enrolled(pool, link(source, "a"))
        await enrolled(pool, link(source, "b"))
        with pytest.raises(ParticipantConflict):
            await enrolled(pool, link(source, "c"), link(source, "a"), link(source, "b"))
        with pytest.raises(ProgrammeMismatch):
            await enrolled(pool, link(source, "d", "elsewhere"))
        async with pool.acquire() as tx:
            for participant_id, wanted, error in (
                (uuid4(), link(source, "e"), ParticipantNotFound),
                (one.participant_id, link(source, "b"), ParticipantConflict),
                (one.participant_id, link(source, "f", "elsewhere"), ProgrammeMismatch),
            ):
                with pytest.raises(error):
                    await add_link(tx, participant_id, wanted)
            for participant_id, link_id in ((one.participant_id, uuid4()), (uuid4(), one.link_ids[0])):
                with pytest.raises(LinkNotFound):
                    await withdraw_consent(tx, participant_id, link_id)
            tags = [link(source, name).subject_tag for name in "cdef"]
            assert await read_links(tx, vault_for_tests(), [source] * 4, tags) == ({}, {})


async def test_two_enrolments_that_cross_end_in_one_participant(database: Database) -> None:
    """The second meets the first's uncommitted link, waits, and is told to look again."""
    source = fresh_source()
    async with pooled(database.app, size=3) as pool:
        async with pool.acquire() as first, first.transaction():
            made = await enrol(
                first,
                vault_for_tests(),
                uuid4(),
                [link(source, "a")],
                kind="citizen",
                programme="demo",
                region="310000",
            )
            second = asyncio.create_task(enrolled(pool, link(source, "a")))
            await asyncio.sleep(0.1)
            assert not second.done()
        with pytest.raises(EnrolledMeanwhile):
            await second
        assert (await enrolled(pool, link(source, "a"))).participant_id == made.participant_id
    people = "SELECT count(*) FROM service.participant WHERE participant_id = $1"
    assert (await rows(database, people, made.participant_id))[0][0] == 1


async def test_an_enrolment_overtaken_by_another_looks_again(database: Database) -> None:
    """The other one commits after this one found nobody and before it makes its link."""
    source, contested = fresh_source(), uuid4()
    async with pooled(database.app, size=4) as pool:
        async with pool.acquire() as holder:
            held = holder.transaction()
            await held.start()
            await enrol(holder, vault_for_tests(), contested, [], kind="citizen", programme="demo", region="310000")

            async def overtaken() -> Enrolled:
                async with pool.acquire() as tx, tx.transaction():
                    return await enrol(
                        tx,
                        vault_for_tests(),
                        contested,
                        [link(source, "a")],
                        kind="citizen",
                        programme="demo",
                        region="310000",
                    )

            waiting = asyncio.create_task(overtaken())  # found nobody; stops where the id it was given is taken
            await asyncio.sleep(0.1)
            await enrolled(pool, link(source, "a"))
            await held.rollback()
        with pytest.raises(EnrolledMeanwhile):
            await waiting


async def test_a_withdrawal_waits_for_what_is_being_posted_and_nothing_follows_it(api: Api, database: Database) -> None:
    """However they meet: each ride was posted before the withdrawal was answered, or refused."""
    for _ in range(12):
        person = await api.person()
        rides = [ride(person.source, person.subject) for _ in range(6)]
        posting = [asyncio.create_task(api.report(person.source, rides[n : n + 2])) for n in (0, 2, 4)]
        await api.unlink(person)
        answers = [await task for task in posting]
        names = [outcome["outcome"] for outcomes in answers for outcome in outcomes]
        credited = names.count("credited")
        assert (await api.balance(person.participant_id))["transfers"] == credited
        after = await api.report(person.source, [ride(person.source, person.subject)])
        assert after[0]["problem"]["type"].endswith("subject-not-linked")
        late = await rows(
            database,
            "SELECT 1 FROM ledger.transfer t JOIN service.link l USING (participant_id) "
            "WHERE t.participant_id = $1 AND t.recorded_at > l.withdrawn_at",
            UUID(person.participant_id),
        )
        assert late == []


async def test_a_consent_withdrawn_while_a_batch_waits_is_noticed(api: Api, database: Database) -> None:
    """The batch has read the link already; it meets the withdrawal at the participant's lock and starts again."""
    person, other = await api.person(), await api.person()
    async with pooled(database.app) as pool, pool.acquire() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await withdraw_consent(holder, UUID(person.participant_id), UUID(person.link_id))
        posting = asyncio.create_task(api.report(person.source, [ride(person.source, person.subject)]))
        await asyncio.sleep(0.15)
        assert not posting.done()
        await transaction.commit()
        (outcome,) = await posting
    assert outcome["problem"]["type"].endswith("subject-not-linked")
    assert (await api.balance(person.participant_id))["transfers"] == 0
    assert (
        await rows(database, "SELECT 1 FROM service.event_key WHERE participant_id = $1", UUID(person.participant_id))
        == []
    )
    assert (await api.report(other.source, [ride(other.source, other.subject)]))[0]["outcome"] == "credited"
