"""Somebody with the database: what the application's role cannot do, and what it can do is found."""

import os
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest

from ledger.check import check_ledger
from service.signals.check import check_reviews
from service.worker import drain
from tests.conftest import Database
from tests.running import Api, ride
from tests.service.signals.riding import Looker, looking

pytestmark = pytest.mark.anyio


@pytest.fixture
async def looker(fresh_api: Api, fresh_database: Database) -> AsyncIterator[Looker]:
    async with looking(fresh_api, fresh_database) as looker:
        yield looker


async def test_points_written_by_hand_are_found(looker: Looker, fresh_database: Database) -> None:
    person = await looker.api.person()
    await looker.api.report(person.source, [ride(person.source, person.subject)])
    await drain(looker.pool)
    insider = await asyncpg.connect(fresh_database.app)  # it moves balances, as the posting does
    auditor = await asyncpg.connect(fresh_database.auditor)
    try:
        assert (await check_ledger(auditor)).findings == ()
        await insider.execute(
            "UPDATE ledger.account SET points_available = points_available + 1000000 WHERE participant_id = $1",
            UUID(person.participant_id),
        )
        found = (await check_ledger(auditor)).findings
    finally:
        await insider.close()
        await auditor.close()
    assert {person.participant_id in one.about for one in found} == {True}


async def test_a_review_that_is_ended_by_hand_is_found(looker: Looker, fresh_database: Database) -> None:
    people = [await looker.suspicious() for _ in range(2)]
    insider = await asyncpg.connect(fresh_database.app)
    auditor = await asyncpg.connect(fresh_database.auditor)
    try:
        assert await check_reviews(auditor) == []
        for person, state in zip(people, ("released", "confirmed"), strict=True):
            ended = "UPDATE service.review SET state = $2, ended_at = now() WHERE participant_id = $1"
            await insider.execute(ended, UUID(person.participant_id), state)
        found = await check_reviews(auditor)
    finally:
        await insider.close()
        await auditor.close()
    told = sorted((one.about.split()[0], one.stored, one.journal) for one in found)
    released, confirmed = (person.participant_id for person in people)
    standing = [(confirmed, "confirmed", "a credit that stands")] * 3
    assert told == sorted([(released, "released", "open"), (confirmed, "confirmed", "open"), *standing])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.movement SET amount = amount + 1",
        "DELETE FROM ledger.transfer",
        "DELETE FROM ledger.leaf",
        "INSERT INTO ledger.leaf (log_index, leaf) VALUES (999999, 'x')",
        "UPDATE ledger.log_head SET size = 0",
        "DELETE FROM service.event_key",
        "UPDATE service.activity SET outcome = 'credited'",
        "DELETE FROM service.review_step",
        "INSERT INTO service.review_credit VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, now())",
        "INSERT INTO service.signal_head (looked_to) VALUES (1)",
        "ALTER TABLE ledger.movement DISABLE TRIGGER append_only",
        "SET ROLE tanpuhui_owner",
    ],
)
async def test_the_applications_role_rewrites_nothing(database: Database, statement: str) -> None:
    connection = await asyncpg.connect(database.app)
    try:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.RaiseError)):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_lies_in_the_tables_names_nobody(looker: Looker, fresh_database: Database) -> None:
    """The subject that a source knows somebody by, the event's id and the vehicle stand in no column as they were
    sent."""
    said = [f"{os.urandom(6).hex()}-{what}" for what in ("subject", "event", "vehicle")]
    person = await looker.api.person(subject=said[0])
    await looker.api.report(person.source, [ride(person.source, said[0], said[1], vehicle=said[2])])
    admin = await asyncpg.connect(fresh_database.admin)
    try:
        tables = await admin.fetch(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables "
            "WHERE table_schema IN ('ledger', 'service', 'vault') AND table_type = 'BASE TABLE'"
        )
        for (table,) in tables:
            text = "\n".join(str(row[0]) for row in await admin.fetch(f"SELECT t::text FROM {table} t"))
            for word in said:
                assert word not in text, table
                assert word.encode().hex() not in text, table
    finally:
        await admin.close()
