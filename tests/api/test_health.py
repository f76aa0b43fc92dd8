"""Health: alive asks nobody, ready asks the database, lag says how far the log is behind."""

from pathlib import Path

import pytest

from service.worker import drain
from tests.conftest import Database
from tests.running import Api, pooled, problem_of, ride, running_api
from tests.wire import wired

pytestmark = pytest.mark.anyio


async def test_lag_counts_what_waits_and_what_is_not_folded(fresh_api: Api, fresh_database: Database) -> None:
    person = await fresh_api.person()
    await fresh_api.report(person.source, [ride(person.source, person.subject) for _ in range(3)])
    assert (await fresh_api.client.get("/v1/health/lag")).json() == {"log_size": 0, "queued": 3, "unfolded": 0}
    async with pooled(fresh_database.sequencer) as pool:
        assert await drain(pool) == 3
    assert (await fresh_api.client.get("/v1/health/lag")).json() == {"log_size": 3, "queued": 0, "unfolded": 0}


async def test_without_redis_the_platform_is_ready_and_limits_by_itself(
    fresh_database: Database, tmp_path: Path
) -> None:
    async with running_api(fresh_database.app, None, tmp_path) as api:
        assert (await api.client.get("/v1/health/ready")).json()["rate_limits"] == "local"
        person = await api.person()
        assert (await api.report_one(person.source, ride(person.source, person.subject))).status_code == 201


async def test_without_the_database_it_lives_but_is_not_ready(database: Database, tmp_path: Path) -> None:
    async with wired(database.app) as wire, running_api(wire.url, database.redis, tmp_path) as api:
        whole: dict[str, str | None] = {"status": "ready", "database": "answers", "rate_limits": "shared"}
        whole |= {"posting": "open", "suspended_because": None}
        assert (await api.client.get("/v1/health/ready")).json() == whole
        await wire.cut()
        for path in ("ready", "lag"):
            answer = await api.client.get(f"/v1/health/{path}")
            problem_of(answer, "temporarily-unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert (await api.client.get("/v1/health/alive")).json() == {"status": "alive"}
        await wire.mend()
        assert (await api.client.get("/v1/health/ready")).json() == whole
