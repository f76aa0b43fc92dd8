"""Data keys in the database: made with the participant, destroyed for good, wrapped again while everything runs; and
who may read what of the vault."""

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.activities.check import check_activities
from service.participants import exclude_postings
from service.vault import (
    Vault,
    VaultError,
    create_master_file,
    destroy_key,
    find_person,
    forget_identity,
    keep_person,
    make_key,
    mark_person,
    read_identity,
    read_key,
    write_identity,
)
from service.vault.master import add_master, load_master_file
from service.vault.persons import PersonKnown
from service.vault.refreshing import adopt_vault, refresh, require_vault
from service.vault.rotation import prepare, read_status, rotate
from tests.conftest import Database
from tests.running import Api, pooled, problem_of, ride, running_api, vault_for_tests

pytestmark = pytest.mark.anyio

SECRET = "张三 Zhang San"


async def explained(api: Api, participant_id: str, transfer_id: str) -> bool:
    """Whether a credit is still explained from its evidence."""
    answer = await api.read(participant_id, f"transfers/{transfer_id}")
    assert answer.status_code == 200, answer.text
    return answer.json().get("arithmetic") is not None or "distance_km" in answer.text


async def test_enrolment_makes_the_key_and_its_end_shuts_what_was_reported(api: Api, database: Database) -> None:
    person, other = await api.person(), await api.person()
    events = [ride(person.source, person.subject, "the event")]
    (credited,) = await api.report(person.source, events)
    (refused,) = await api.report(person.source, [ride(person.source, person.subject, "no ride", km="0.01")])
    assert (credited["outcome"], refused["outcome"]) == ("credited", "refused")
    assert await explained(api, person.participant_id, credited["transfer_id"])
    participant_id = UUID(person.participant_id)
    async with api.platform.pool.acquire() as tx, tx.transaction():
        await exclude_postings(tx)
        assert await destroy_key(tx, participant_id)
        assert not await destroy_key(tx, participant_id)
    assert participant_id in api.platform.vault._in_use
    await refresh(api.platform.pool, api.platform.vault)
    assert participant_id not in api.platform.vault._in_use
    assert not await explained(api, person.participant_id, credited["transfer_id"])
    known, unknown = await api.report(person.source, [*events, ride(person.source, person.subject)])
    assert known["outcome"] == "duplicate"
    assert unknown["problem"]["type"].endswith("subject-not-linked")  # nobody whose texts could be sealed
    assert (await api.report(other.source, [ride(other.source, other.subject)]))[0]["outcome"] == "credited"
    async with pooled(database.admin) as pool, pool.acquire() as tx:
        assert await tx.fetchval("SELECT count(*) FROM service.evidence WHERE participant_id = $1", participant_id) == 2


async def test_nothing_reported_lies_in_the_clear(api: Api, database: Database) -> None:
    person = await api.person()
    await api.report(person.source, [ride(person.source, person.subject, "an event of one's own", km="7.77")])
    connection = await asyncpg.connect(database.admin)
    query = "SELECT sealed FROM service.evidence WHERE participant_id = $1"
    rows = await connection.fetch(query, UUID(person.participant_id))
    await connection.close()
    stored = b"".join(row["sealed"] for row in rows)
    assert rows
    for told in (b"an event", b"7.77", b"distance_km", b"shared-ebike", person.subject.encode()):
        assert told not in stored


async def test_a_persons_identity_is_sealed_read_on_record_and_forgotten(database: Database) -> None:
    vault, participant_id, tag = vault_for_tests(), uuid4(), uuid4().bytes * 2
    async with pooled(database.app) as pool, pool.acquire() as tx, tx.transaction():
        await adopt_vault(tx, vault)
        with pytest.raises(VaultError, match="no data key"):
            await write_identity(tx, vault, participant_id, {"name": SECRET})
        await make_key(tx, vault, participant_id)
        assert await find_person(tx, tag) is None
        await keep_person(tx, vault, participant_id, tag, {"name": SECRET, "sub": "110"}, key_version=1)
        await keep_person(tx, vault, participant_id, tag, {"name": SECRET, "sub": "110"}, key_version=1)
        found = await find_person(tx, tag)
        assert found is not None
        assert (found.participant_id, found.state) == (participant_id, "active")
        assert await read_identity(tx, vault, participant_id, purpose="tests") == {"name": SECRET, "sub": "110"}
        assert await read_identity(tx, vault, uuid4(), purpose="tests") is None
        reads = await tx.fetch(
            "SELECT purpose, read_by FROM vault.identity_read WHERE participant_id = $1", participant_id
        )
        assert [tuple(row) for row in reads] == [("tests", "tanpuhui_app")]
        await destroy_key(tx, participant_id)
        assert await read_identity(tx, vault, participant_id, purpose="tests") is None
        await forget_identity(tx, participant_id)
        await mark_person(tx, tag, "erased")
        found = await find_person(tx, tag)
        assert found is not None
        assert found.state == "erased"


async def test_one_natural_person_is_one_participant(database: Database) -> None:
    vault, tag = vault_for_tests(), uuid4().bytes * 2
    one, other = uuid4(), uuid4()
    async with pooled(database.app) as pool, pool.acquire() as tx, tx.transaction():
        await adopt_vault(tx, vault)
        for participant_id in (one, other):
            await make_key(tx, vault, participant_id)
        await keep_person(tx, vault, one, tag, {}, key_version=1)
        with pytest.raises(PersonKnown):
            await keep_person(tx, vault, other, tag, {}, key_version=1)
        await mark_person(tx, tag, "erased")
        await keep_person(tx, vault, other, tag, {}, key_version=1)  # who comes back is somebody new
        found = await find_person(tx, tag)
        assert found is not None
        assert found.participant_id == other
        with pytest.raises(asyncpg.UniqueViolationError):
            async with tx.transaction():
                await keep_person(tx, vault, other, uuid4().bytes * 2, {}, key_version=1)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("app", "SELECT sealed FROM vault.identity"),
        ("app", "SELECT * FROM vault.identity"),
        ("app", "UPDATE vault.identity SET sealed = '\\x00' RETURNING sealed"),
        ("app", "INSERT INTO vault.identity_read DEFAULT VALUES"),
        ("app", "DELETE FROM vault.identity_read"),
        ("app", "DELETE FROM vault.key_destroyed"),
        ("app", "DELETE FROM vault.kek"),
        ("app", "UPDATE vault.kek SET check_value = ''"),
        ("app", "TRUNCATE vault.person_key"),
        ("app", "UPDATE service.evidence SET sealed = ''"),
        ("app", "DELETE FROM service.retention_run"),
        ("auditor", "SELECT 1 FROM vault.identity"),
        ("auditor", "SELECT 1 FROM vault.person"),
        ("auditor", "SELECT 1 FROM vault.identity_read"),
        ("auditor", "SELECT vault.read_identity('00000000-0000-0000-0000-000000000000', 'tests')"),
        ("auditor", "DELETE FROM vault.person_key"),
        ("sequencer", "SELECT 1 FROM vault.person_key"),
        ("sequencer", "SELECT vault.read_identity('00000000-0000-0000-0000-000000000000', 'tests')"),
        ("sequencer", "SELECT 1 FROM service.evidence"),
    ],
)
async def test_each_role_has_the_least(database: Database, role: str, statement: str) -> None:
    connection = await asyncpg.connect(getattr(database, role))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.parametrize("table", ["vault.key_destroyed", "vault.identity_read", "service.retention_run"])
async def test_what_was_destroyed_read_or_removed_stays_on_record(database: Database, table: str) -> None:
    connection = await asyncpg.connect(database.owner)
    try:
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.RaiseError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_database_knows_its_keys(fresh_database: Database, tmp_path: Path) -> None:
    own, stranger = tmp_path / "own", tmp_path / "stranger"
    create_master_file(own)
    create_master_file(stranger)
    async with pooled(fresh_database.app) as pool, pool.acquire() as tx:
        with pytest.raises(VaultError, match="no key-encryption key"):
            await make_key(tx, Vault(own), uuid4())
        await adopt_vault(tx, Vault(own))
        await adopt_vault(tx, Vault(own))
        with pytest.raises(VaultError, match="version 1 is another key"):
            await require_vault(tx, Vault(stranger))
        assert add_master(own) == 2
        await require_vault(tx, Vault(own))  # a key that was prepared and is not used yet
        await rotate(tx, Vault(own), settled_s=0)
        with pytest.raises(VaultError, match="version 2 is missing"):
            await require_vault(tx, Vault(stranger))


async def test_keys_are_changed_while_people_ride(fresh_database: Database, tmp_path: Path) -> None:
    """Not one report is refused, everything opens afterwards, and a backup from before opens no more."""
    async with running_api(fresh_database.app, fresh_database.redis, tmp_path) as api:
        people = [await api.person() for _ in range(5)]
        first = [(await api.report(one.source, [ride(one.source, one.subject)]))[0] for one in people]
        gone = UUID(people[4].participant_id)
        masters = tmp_path / "vault.keys.json"
        async with pooled(fresh_database.app) as pool, pool.acquire() as tx:
            backup = await tx.fetch("SELECT participant_id, kek_version, wrapped FROM vault.person_key")
            old = dict(load_master_file(masters))
            await destroy_key(tx, gone)
            ending = asyncio.Event()

            async def riding() -> int:
                times = 0
                while not ending.is_set():
                    one = people[times % 4]
                    day = f"2026-04-{times % 28 + 1:02}T{times // 28:02}"
                    reported = ride(
                        one.source, one.subject, started_at=f"{day}:00:00+08:00", ended_at=f"{day}:12:00+08:00"
                    )
                    assert (await api.report(one.source, [reported]))[0]["outcome"] == "credited"
                    await api.person()  # whoever is enrolled now gets a key under whichever is in use
                    times += 1
                return times

            rides = asyncio.create_task(riding())
            assert prepare(api.platform.vault) == 2  # on every machine, before it is used
            done = await rotate(tx, Vault(masters), settled_s=1.2)
            ending.set()
            assert await rides > 5
            assert (done.version, done.destroyed) == (2, (1,))
            assert done.wrapped >= 4
            assert list(load_master_file(masters)) == [2]
            status = await read_status(tx, Vault(masters))
            left = await tx.fetchval("SELECT count(*) FROM vault.person_key")
            assert [(row["kek_version"], row["data_keys"], row["in_file"]) for row in status] == [
                (1, 0, False),
                (2, left, True),
            ]
            assert status[0]["destroyed_at"] is not None
            assert await read_key(tx, api.platform.vault, gone) is None
        await refresh(api.platform.pool, api.platform.vault)
        assert api.platform.vault.versions == {2}
        assert gone not in api.platform.vault._in_use
        api.platform.vault.drop_all()
        for one, credited in zip(people[:4], first, strict=False):
            assert await explained(api, one.participant_id, credited["transfer_id"])
        for row in backup:
            with pytest.raises(VaultError, match="not 1"):
                Vault(masters).unwrap(*row)
        assert set(old) == {1}


async def test_a_process_without_the_key_posts_nothing_and_refuses_nobody(
    fresh_database: Database, tmp_path: Path
) -> None:
    """A machine to which the new file was not copied: its callers come back, and nothing of theirs is lost."""
    async with running_api(fresh_database.app, None, tmp_path) as api:
        person = await api.person()
        masters = tmp_path / "vault.keys.json"
        old = masters.read_bytes()
        async with pooled(fresh_database.app) as pool, pool.acquire() as tx:
            await rotate(tx, Vault(masters), settled_s=0)
        new = masters.read_bytes()
        masters.write_bytes(old)
        await refresh(api.platform.pool, api.platform.vault)
        event = ride(person.source, person.subject)
        problem_of(await api.report_one(person.source, event), "temporarily-unavailable")
        masters.write_bytes(new)
        await refresh(api.platform.pool, api.platform.vault)
        assert (await api.report(person.source, [event]))[0]["outcome"] == "credited"


async def test_evidence_that_an_insider_changed_is_noticed(api: Api, database: Database) -> None:
    one, other = await api.person(), await api.person()
    credits = [(await api.report(each.source, [ride(each.source, each.subject)]))[0] for each in (one, other)]
    insider = await asyncpg.connect(database.admin)
    try:
        query = "SELECT sealed FROM service.evidence WHERE activity_id = $1"
        sealed = await insider.fetchval(query, UUID(credits[0]["transfer_id"]))
        swap = "UPDATE service.evidence SET sealed = $2 WHERE activity_id = $1"
        theirs = await insider.fetchval(query, UUID(credits[1]["transfer_id"]))
        await insider.execute(swap, UUID(credits[1]["transfer_id"]), sealed)
        assert not await explained(api, other.participant_id, credits[1]["transfer_id"])
        findings = await check_activities(insider, api.platform.vault)
        assert [(one.check, one.stored) for one in findings if credits[1]["transfer_id"] in one.about] == [
            ("evidence", "does not open")
        ]
        await insider.execute(swap, UUID(credits[1]["transfer_id"]), theirs)
    finally:
        await insider.close()
    assert await explained(api, other.participant_id, credits[1]["transfer_id"])
