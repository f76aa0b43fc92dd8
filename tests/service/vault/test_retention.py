"""What has been kept as long as its class is kept is removed, nothing younger is, and only how much is written down."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
import yaml

from service.clock import Fresh, system_clock, uuid7
from service.retention import RetentionInvalid, read_classes, read_last, retain
from tests.conftest import Database
from tests.running import Api, pooled, ride

pytestmark = pytest.mark.anyio

_OLD_ROWS = """
    INSERT INTO service.signed_word VALUES
        ($1, 1, 'k', 'POST', '/v1/x', '', decode(repeat('00', 64), 'hex'), '', 'words', now() - interval '366 days'),
        ($2, 1, 'k', 'POST', '/v1/x', '', decode(repeat('00', 64), 'hex'), '', 'words', now() - interval '364 days');
"""


async def evidence_of(database: Database, *participants: str) -> set[UUID]:
    connection = await asyncpg.connect(database.admin)
    query = "SELECT activity_id FROM service.evidence WHERE participant_id = ANY($1)"
    rows = await connection.fetch(query, [UUID(one) for one in participants])
    await connection.close()
    return {row["activity_id"] for row in rows}


async def test_evidence_goes_a_millisecond_after_its_time(fresh_api: Api, fresh_database: Database) -> None:
    api, database = fresh_api, fresh_database
    one, other = await api.person(), await api.person()
    credited = [
        (await api.report(each.source, [ride(each.source, each.subject)]))[0]["transfer_id"] for each in (one, other)
    ]
    people = (one.participant_id, other.participant_id)
    first, second = sorted(UUID(each) for each in credited)
    came = datetime.fromtimestamp((first.int >> 80) / 1000, UTC)
    classes = read_classes()
    kept = timedelta(days=classes["evidence"].days or 0)
    assert (second.int >> 80) > (first.int >> 80)
    async with pooled(database.app) as pool:
        at = Fresh(lambda: came + kept)
        assert {one.data_class: one.rows for one in await retain(pool, classes, at, dry_run=True)}["evidence"] == 0
        assert len(await evidence_of(database, *people)) == 2
        late = Fresh(lambda: came + kept + timedelta(milliseconds=1))
        counted = {one.data_class: one.rows for one in await retain(pool, classes, late, dry_run=True)}
        assert await evidence_of(database, *people) == {first, second}
        removed = {one.data_class: one.rows for one in await retain(pool, classes, late)}
        assert removed == counted
        assert removed["evidence"] == 1
        assert await evidence_of(database, *people) == {second}
        async with pool.acquire() as connection:
            rows = await connection.fetch("SELECT * FROM service.retention_run WHERE data_class = 'evidence'")
            assert [(row["removed"], row["older_than"]) for row in rows][-1] == (1, late.clock() - kept)
            assert await read_last(connection) is not None
    # The activity, its credit and its leaf are as they were: what is erased is what it rested on.
    answer = await api.read(one.participant_id, f"transfers/{credited[0]}")
    assert answer.status_code == 200


async def test_each_class_has_a_step_that_runs_and_leaves_what_is_young(fresh_database: Database) -> None:
    old, young = uuid7(datetime.now(UTC), b"1" * 10), uuid4()
    connection = await asyncpg.connect(fresh_database.admin)
    for statement in filter(str.strip, _OLD_ROWS.split(";")):
        await connection.execute(statement, old, young)
    async with pooled(fresh_database.app) as pool:
        done = {one.data_class: one.rows for one in await retain(pool, read_classes(), Fresh(system_clock()))}
        assert done.pop("signed-word") == 1
        assert set(done.values()) == {0}
    assert [row["call_id"] for row in await connection.fetch("SELECT call_id FROM service.signed_word")] == [young]
    await connection.close()


async def test_one_runs_at_a_time(fresh_database: Database) -> None:
    async with pooled(fresh_database.app, size=6) as pool:
        both = await asyncio.gather(*(retain(pool, read_classes(), Fresh(system_clock())) for _ in range(3)))
    assert sorted(map(bool, both)).count(True) >= 1
    connection = await asyncpg.connect(fresh_database.admin)
    runs = await connection.fetchval("SELECT count(DISTINCT run_id) FROM service.retention_run")
    await connection.close()
    assert runs == sum(map(bool, both))


def test_a_deployment_sets_days_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "retention.yaml"
    own.write_text(yaml.safe_dump({"evidence": 400, "webhook-delivery": 7}))
    classes = read_classes(own)
    assert (classes["evidence"].days, classes["webhook-delivery"].days) == (400, 7)
    assert classes["signed-word"] == read_classes()["signed-word"]


@pytest.mark.parametrize(
    "text",
    ["[]", "evidence: 6", "evidence: 36501", "evidence: true", "evidence: '400'", "record: 400", "unknown: 400", "{"],
)
def test_periods_that_cannot_be_are_refused(tmp_path: Path, text: str) -> None:
    own = tmp_path / "retention.yaml"
    own.write_text(text)
    with pytest.raises(RetentionInvalid):
        read_classes(own)
    with pytest.raises(RetentionInvalid):
        read_classes(tmp_path / "none.yaml")
