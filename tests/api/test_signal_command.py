"""`tanpuhui signal`: look now, and read the queue."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from service.worker import drain
from tests.conftest import Database, clone
from tests.running import Api, served
from tests.service.signals.riding import SERIES, looking

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def database(template: Database) -> Database:
    """These tests' own: what is looked at is everything."""
    return clone(template, f"signal_command_{os.urandom(6).hex()}")


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    last: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return last


async def run(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["signal", *words])


async def test_what_nobody_looked_at_is_looked_at_and_told(
    api: Api, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANPUHUI_DATABASE_URL", database.sequencer)
    monkeypatch.setenv("TANPUHUI_DATA_DIR", str(tmp_path))
    async with looking(api, database) as looker:
        person = await looker.person()
        await looker.rode(person, SERIES * 2)
        await drain(looker.pool)
    assert told(await run("run", "--json")) == {"leaves": 6}
    assert told(await run("run", "--json")) == {"leaves": 0}
    where = ("--token", api.issuer.issue("operator", "anna"), "--json")
    async with served(api) as url:
        listed = told(await run("list", "--open", "--url", url, *where))
        (review,) = listed["reviews"]
        assert (review["participant_id"], listed["sources"]) == (person.participant_id, [])
        shown = await run("show", review["review_id"], "--url", url, *where)
        assert told(shown) == review
        unknown = await run("show", "0192f0c1-0000-7000-8000-000000000000", "--url", url, *where)
    assert unknown.exit_code == 1
    assert "No such review" in unknown.output


async def test_without_a_database_nothing_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANPUHUI_DATABASE_URL", raising=False)
    monkeypatch.setenv("TANPUHUI_DATA_DIR", str(tmp_path))
    result = await run("run")
    assert result.exit_code == 1
    assert "sequencer" in result.output
