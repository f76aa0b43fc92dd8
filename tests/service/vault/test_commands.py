"""`tanpuhui vault` and `tanpuhui privacy retain`, as an operator runs them beside the platform."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from api.cli import app as cli
from service.vault.master import load_master_file
from tests.conftest import Database
from tests.running import ride, running_api

pytestmark = pytest.mark.anyio


async def run(*words: str, **environment: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, cli, list(words), env=environment)


def told(done: Result) -> Any:
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


async def test_a_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "vault.keys.json"
    assert "created" in (await run("vault", "init", str(path))).stdout
    first = load_master_file(path)
    assert "left as it is" in (await run("vault", "init", str(path))).stdout
    assert load_master_file(path) == first


async def test_an_operator_changes_the_key_and_removes_what_is_old(fresh_database: Database, tmp_path: Path) -> None:
    async with running_api(fresh_database.app, None, tmp_path) as api:
        masters = api.platform.settings.vault_key_file
        environment = {"TANPUHUI_DATABASE_URL": fresh_database.app, "TANPUHUI_VAULT_KEY_FILE": str(masters)}
        person = await api.person()
        (credited,) = await api.report(person.source, [ride(person.source, person.subject)])
        prepared = told(await run("vault", "rotate", "--prepare", "--json", **environment))
        assert (prepared, list(load_master_file(masters))) == ({"prepared": 2}, [1, 2])
        assert told(await run("vault", "rotate", "--json", **environment)) == {
            "version": 2,
            "wrapped": 1,
            "destroyed": [1],
        }
        status = await run("vault", "status", "--json", **environment)
        assert [(key["kek_version"], key["data_keys"]) for key in told(status)["keys"]] == [(1, 0), (2, 1)]
        assert "destroyed" in status.stdout
        explained = await api.read(person.participant_id, f"transfers/{credited['transfer_id']}")
        assert "distance_km" in explained.text
        periods = tmp_path / "periods.yaml"
        periods.write_text("webhook-delivery: 7\n")
        environment["TANPUHUI_RETENTION_FILE"] = str(periods)
        counted = told(await run("privacy", "retain", "--dry-run", "--json", **environment))
        assert (counted["dry_run"], counted["removed"]["evidence"]) == (True, 0)
        late = environment | {"TANPUHUI_CLOCK_OFFSET": str(1096 * 86_400)}
        assert told(await run("privacy", "retain", "--json", **late))["removed"]["evidence"] == 1
        periods.write_text("evidence: never\n")
        refused = await run("privacy", "retain", **environment)
        assert (refused.exit_code, "whole days" in refused.stderr) == (1, True)
    connection = await asyncpg.connect(fresh_database.admin)
    query = "SELECT count(*) FROM service.evidence WHERE participant_id = $1"
    assert await connection.fetchval(query, UUID(person.participant_id)) == 0
    await connection.close()


async def test_another_file_is_refused_before_anything_is_done(fresh_database: Database, tmp_path: Path) -> None:
    async with running_api(fresh_database.app, None, tmp_path):
        pass
    stranger = tmp_path / "stranger.json"
    await run("vault", "init", str(stranger))
    before = stranger.read_bytes()
    environment = {"TANPUHUI_DATABASE_URL": fresh_database.app, "TANPUHUI_VAULT_KEY_FILE": str(stranger)}
    refused = await run("vault", "rotate", **environment)
    assert refused.exit_code == 1
    assert "version 1 is another key" in refused.stderr
    assert stranger.read_bytes() == before
