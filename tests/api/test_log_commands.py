"""What an operator asks and does of the log, and what anybody reads of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from api.processes.publishing import open_log
from ledger.notes import parse_verifier
from service.clock import system_clock
from service.log.guard import Guard, Signed
from service.log.loop import step
from service.settings import PREFIX
from service.worker import drain
from tests.conftest import Database
from tests.running import Api, pooled, running_api

pytestmark = pytest.mark.anyio

ORIGIN = "log.example.org/log"


@dataclass(slots=True)
class Operator:
    """An operator's shell beside an API and its log."""

    api: Api
    database: Database
    environment: dict[str, str]

    async def run(self, *words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, ["log", *words], env=self.environment)

    async def told(self, status: int, *words: str) -> dict[str, Any]:
        done = await self.run(*words, "--json")
        assert done.exit_code == status, done.output
        document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return document

    async def publish(self) -> None:
        log = open_log(self.api.platform.settings)
        async with pooled(self.database.sequencer) as pool:
            for _ in range(2):
                await drain(pool)
                async with pool.acquire() as connection:
                    await step(connection, log, "demo", system_clock())

    async def shown(self) -> dict[str, Any]:
        answer = await self.api.client.get("/v1/log")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    @property
    def guard(self) -> Guard:
        return Guard(self.api.platform.settings.guard_file)


@pytest.fixture
async def operator(fresh_database: Database, tmp_path: Path) -> AsyncIterator[Operator]:
    data = tmp_path / "data"
    data.mkdir()
    names = {"log_origin": ORIGIN, "guard_file": tmp_path / "outside.guard"}
    async with running_api(fresh_database.app, fresh_database.redis, data, **names) as api:
        settings = {"DATA_DIR": data, "DATABASE_URL": fresh_database.sequencer, "LOG_ORIGIN": ORIGIN}
        settings["GUARD_FILE"] = tmp_path / "outside.guard"
        yield Operator(api, fresh_database, {PREFIX + name: str(value) for name, value in settings.items()})


async def test_from_a_key_to_a_checkpoint_that_everybody_sees(operator: Operator) -> None:
    assert (await operator.shown())["vkey"] is None
    before = await operator.told(0, "status")
    assert (before["epoch"], before["checkpoint"], before["refused"]) == (0, None, None)
    made = await operator.run("key", "new")
    vkey = made.stdout.splitlines()[-1]
    assert parse_verifier(vkey).name == ORIGIN
    assert "left as it is" in (again := await operator.run("key", "new")).stdout
    assert again.stdout.splitlines()[-1] == vkey
    assert (await operator.told(0, "key", "show"))["vkeys"] == [vkey]
    await operator.publish()
    log = await operator.shown()
    assert (log["origin"], log["prefix"], log["vkey"], log["epoch"]) == (ORIGIN, "/log", vkey, 1)
    assert (log["size"], log["published_size"], log["refused"]) == (2, 2, None)
    told = await operator.told(0, "status")
    assert (told["size"], told["queued"], told["unsigned"], told["checkpoint"]["size"]) == (2, 0, 0, 2)
    assert told["guard"]["state"] == "agrees"
    assert told["checkpoint"]["age_s"] < 600
    person = await operator.run("status")
    assert ORIGIN in person.stdout
    assert "最近检查点" in person.stdout


async def test_a_rotation_is_in_the_log_and_both_keys_are_shown(operator: Operator) -> None:
    first = (await operator.run("key", "new")).stdout.splitlines()[-1]
    await operator.publish()
    second = (await operator.run("key", "rotate", "--hours", "1")).stdout.splitlines()[-1]
    await operator.publish()
    assert (await operator.shown())["vkeys"] == [second, first]
    assert (await operator.told(0, "key", "show"))["vkeys"] == [second, first]
    checkpoint = (await operator.api.client.get("/log/checkpoint")).text
    assert checkpoint.count(f"\n\u2014 {ORIGIN} ") == 2


async def test_what_the_guard_says_is_told_with_what_to_do(operator: Operator) -> None:
    await operator.run("key", "new")
    await operator.publish()
    good = operator.guard.read()
    assert good
    for wrong, state, code in (
        (Signed(2, None), "ahead", "guard-ahead"),
        (Signed(1, None), "behind", "guard-behind"),
        (None, "missing", "guard-missing"),
    ):
        operator.guard.path.unlink()
        if wrong:
            operator.guard.write(wrong)
        told = await operator.told(1, "status")
        assert (told["guard"]["state"], told["refused"]) == (state, code)
        assert "tanpuhui log epoch new" in told["what_to_do"]["en"]
        if not wrong:
            operator.guard.write(good)
    operator.guard.path.write_text("{}", "utf-8")
    assert (await operator.told(1, "status"))["guard"]["state"] == "unreadable"


async def test_a_further_epoch_after_the_guard_was_lost(operator: Operator) -> None:
    refused = await operator.run("epoch", "new", "--reason", "restored-backup")
    assert refused.exit_code == 1  # there is no key yet, and nothing was signed
    await operator.run("key", "new")
    refused = await operator.run("epoch", "new", "--reason", "restored-backup")
    assert refused.exit_code == 1
    assert "nothing was signed" in refused.output
    await operator.publish()
    assert (await operator.run("epoch", "new", "--reason", "Restored Backup")).exit_code == 1
    operator.guard.path.unlink()
    await operator.publish()
    assert (await operator.shown())["refused"] == "guard-missing"
    told = await operator.told(0, "epoch", "new", "--reason", "guard-lost")
    assert (told["epoch"], told["origin"], told["signed"], told["kept"]) == (2, f"{ORIGIN}/epoch-2", 2, 2)
    await operator.publish()
    log = await operator.shown()
    assert (log["epoch"], log["prefix"], log["refused"], len(log["vkeys"])) == (2, "/log/epoch-2", None, 2)
    assert parse_verifier(log["vkey"]).name == f"{ORIGIN}/epoch-2"
