"""While the history may be another than the one that was signed nothing is posted, and whoever reads is answered."""

import asyncio
from pathlib import Path

import asyncpg
import httpx
import pytest

from ledger.checkpoint import Checkpoint
from service.log.guard import Guard, GuardUnusable, Signed
from service.log.refusals import REFUSALS
from service.log.watch import Watch
from tests.conftest import Database
from tests.running import Api, Person, pooled, problem_of, ride, running_api

pytestmark = pytest.mark.anyio

SIGNATURE = "\u2014 localhost/log AAAAAAA=\n"


def checkpoint(size: int) -> str:
    return f"{Checkpoint('localhost/log', size, bytes(32))}\n{SIGNATURE}"


async def ready(api: Api) -> tuple[str, str | None]:
    content = (await api.client.get("/v1/health/ready")).json()
    assert content["status"] == "ready"
    return content["posting"], content["suspended_because"]


async def refuse(database: Database, code: str | None) -> None:
    """As the publisher does."""
    connection = await asyncpg.connect(database.sequencer)
    await connection.execute("UPDATE ledger.log_state SET refused = $1", code)
    await connection.close()


async def refresh(api: Api) -> None:
    async with api.platform.pool.acquire() as connection:
        await api.platform.watch.refresh(connection)


async def posted(api: Api) -> int:
    async with api.platform.pool.acquire() as connection:
        found: int = await connection.fetchval(
            "SELECT (SELECT count(*) FROM ledger.leaf_queue) + (SELECT count(*) FROM service.event_key)"
        )
    return found


def writes(api: Api, person: Person, transfer: str) -> list[httpx.Request]:
    """Everything that would put something into the log."""
    provider = api.bearer("provider", source=person.source)
    operator = api.bearer("operator")
    event = provider | {"Content-Type": "application/cloudevents+json"}
    events = provider | {"Content-Type": "application/cloudevents-batch+json"}
    one = ride(person.source, person.subject)
    build = api.client.build_request
    return [
        build("POST", "/v1/activities", headers=event, json=one),
        build("POST", "/v1/activities", headers=events, json=[one]),
        build("POST", "/v1/activities?dry_run=true", headers=events, json=[one]),
        build(
            "POST",
            f"/v1/participants/{person.participant_id}/transfers/{transfer}/reversal",
            headers=operator,
            json={"reason": "posted_in_error"},
        ),
    ]


async def test_nothing_is_posted_and_reading_goes_on(fresh_api: Api, fresh_database: Database) -> None:
    api = fresh_api
    person = await api.person()
    first = await api.report_one(person.source, ride(person.source, person.subject))
    assert first.status_code == 201
    transfer = first.json()["transfer_id"]
    for code, why in REFUSALS.items():
        await refuse(fresh_database, code)
        await refresh(api)
        before = await posted(api)
        for request in writes(api, person, transfer):
            request.headers["Accept-Language"] = "en"
            document = problem_of(answer := await api.client.send(request), "posting-suspended")
            assert document["reason"] == code
            assert why.en in document["detail"]
            assert why.remedy_en in document["detail"]
            assert answer.headers["retry-after"] == "30"
        assert await posted(api) == before
        assert await ready(api) == ("suspended", code)
        assert (await api.balance(person.participant_id))["transfers"] == 1
    await refuse(fresh_database, None)
    await refresh(api)
    again = ride(person.source, person.subject)
    assert (await api.report_one(person.source, again)).status_code == 201
    assert await ready(api) == ("open", None)


async def test_a_change_is_seen_within_seconds(fresh_api: Api, fresh_database: Database) -> None:
    await refuse(fresh_database, "guard-missing")
    for _ in range(100):
        if await ready(fresh_api) == ("suspended", "guard-missing"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the watch does not look again")


async def test_what_was_signed_is_seen_without_the_publisher(fresh_database: Database, tmp_path: Path) -> None:
    """The guard and what is served are read at the start, so that not one activity gets through."""
    guard = Guard(tmp_path / "elsewhere.guard")
    data = tmp_path / "data"
    data.mkdir()

    async def started() -> tuple[str, str | None]:
        async with running_api(fresh_database.app, fresh_database.redis, data, guard_file=guard.path) as api:
            return await ready(api)

    assert await started() == ("open", None)
    for signed, expected in (
        (Signed(1, None), "guard-ahead"),  # an epoch that this database has not
        (Signed(1, checkpoint(1)), "guard-ahead"),
    ):
        guard.write(signed)
        assert await started() == ("suspended", expected)
    guard.path.write_text("{}")
    assert await started() == ("suspended", "guard-unusable")
    guard.path.unlink()
    shown = data / "log" / "epoch-1" / "checkpoint"
    shown.parent.mkdir(parents=True)
    shown.write_text(checkpoint(1), "utf-8")
    assert await started() == ("suspended", "guard-ahead")
    shown.write_text("damaged", "utf-8")
    assert await started() == ("open", None)


class _Forbidden(Guard):
    """A guard that another user keeps to himself."""

    def read(self) -> Signed | None:
        raise GuardUnusable("not for you") from PermissionError()


async def test_a_guard_that_only_the_publisher_may_read_is_left_to_it(fresh_database: Database, tmp_path: Path) -> None:
    watch = Watch(_Forbidden(tmp_path / "guard"), tmp_path)
    async with pooled(fresh_database.app) as pool, pool.acquire() as connection:
        await watch.refresh(connection)
    assert watch.refused is None
