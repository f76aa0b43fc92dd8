"""An older backup is restored: nothing is posted and nothing is signed, until an operator opens a further epoch."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.auth import DevelopmentIssuer
from ledger.checkpoint import parse_checkpoint
from ledger.leaf_reading import read_leaf
from ledger.notes import parse_note, parse_verifier, verify_note
from ledger.tiles import WIDTH, Tile
from service.log.files import VERIFIER_KEY, LogFiles, read_entries
from service.log.guard import Guard
from service.log.refusals import REFUSALS
from tests.running import BATCH, ride
from tests.story.clients import ROOT, Providers, Served, environment, room

pytestmark = pytest.mark.anyio

SIGNED_WITHIN_S = 30.0


def run(served: Served, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command beside the platform, as its operator."""
    command = [sys.executable, "-m", "api.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(served.data_dir), capture_output=True, encoding="utf-8", check=False
    )


def answered(done: "subprocess.CompletedProcess[str]", status: int) -> dict[str, Any]:
    assert done.returncode == status, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


async def post(served: Served, providers: Providers, first: int, count: int) -> httpx.Response:
    token = DevelopmentIssuer(served.data_dir).issue("provider", "story", source=providers.source)
    events = [ride(providers.source, "rider 1", f"event-{number}") for number in range(first, first + count)]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": BATCH, "Accept-Language": "en"}
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
        return await client.post("/v1/activities", headers=headers, json=events)


async def read(served: Served, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
        return await client.get(path, headers=headers)


def stop(served: Served) -> int:
    """Stop it, and see that everything that was answered is under the last checkpoint. Its size."""
    assert served.end() == 130
    signed = Guard(served.data_dir.with_name("data.guard")).read()
    assert signed
    log = LogFiles(served.data_dir / "log" / f"epoch-{signed.epoch}")
    assert log.read_checkpoint() == signed.note
    return signed.size


def copy(source: Path, target: Path) -> None:
    """With owners and modes: where root runs the tests, the cluster belongs to somebody else."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


async def test_posting_and_signing_stop_and_a_further_epoch_goes_on() -> None:
    with room() as directory:
        served = Served(directory / "data", checkpoint_interval_ms="200")
        cluster, backup = directory / "data" / "servers" / "postgresql", directory / "backup"
        with served:
            providers = Providers(served, seed=1)
            await providers.enrol()
            assert (await post(served, providers, 0, 30)).json()["counts"]["credited"] == 30
        before = stop(served)
        assert before >= 30
        copy(cluster, backup)

        served.start()
        assert (await post(served, providers, 30, 30)).json()["counts"]["credited"] == 30
        promised = stop(served)
        assert promised == before + 30
        copy(backup, cluster)

        served.start()
        try:
            await refused(served, providers, promised)
            await opened(served, providers, before, promised)
        finally:
            served.end()


async def refused(served: Served, providers: Providers, promised: int) -> None:
    former = (await read(served, "/log/checkpoint")).text
    answer = await post(served, providers, 60, 5)
    assert answer.status_code == 503
    assert answer.json()["reason"] == "guard-ahead"
    assert "tanpuhui log epoch new" in answer.json()["detail"]
    ready = (await read(served, "/v1/health/ready")).json()
    assert (ready["status"], ready["posting"]) == ("ready", "suspended")
    person = providers.people["rider 1"]
    token = DevelopmentIssuer(served.data_dir).issue("participant", person)
    balance = await read(served, f"/v1/participants/{person}/balance", {"Authorization": f"Bearer {token}"})
    assert (balance.status_code, balance.json()["transfers"]) == (200, 30)
    told = answered(run(served, "log", "status", "--json"), 1)
    assert (told["refused"], told["guard"]["state"], told["guard"]["size"]) == ("guard-ahead", "ahead", promised)
    assert told["what_to_do"]["zh"] == REFUSALS["guard-ahead"].remedy_zh
    await asyncio.sleep(1)
    assert (await read(served, "/log/checkpoint")).text == former


async def opened(served: Served, providers: Providers, before: int, promised: int) -> None:
    former = (await read(served, "/log/checkpoint")).text
    done = answered(run(served, "log", "epoch", "new", "--reason", "restored-backup", "--json"), 0)
    assert (done["epoch"], done["signed"], done["kept"], done["lost"]) == (2, promised, before, promised - before)
    give_up = time.monotonic() + SIGNED_WITHIN_S
    while (answer := await post(served, providers, 30, 30)).status_code == 503:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.2)
    assert answer.json()["counts"]["credited"] == 30  # what the backup had not, the provider sends again
    while (log := (await read(served, "/v1/log")).json())["published_size"] != before + 2 + 30:
        assert time.monotonic() < give_up, log
        await asyncio.sleep(0.2)
    assert (log["epoch"], log["prefix"], log["refused"]) == (2, "/log/epoch-2", None)
    note = parse_note((await read(served, "/log/epoch-2/checkpoint")).text)
    checkpoint = parse_checkpoint(verify_note(note, [parse_verifier(log["vkey"])]).text)
    assert (checkpoint.origin, checkpoint.size) == (log["origin"], before + 32)
    assert (await read(served, "/log/checkpoint")).text == former
    assert len((served.data_dir / "log" / VERIFIER_KEY).read_text("utf-8").split()) == 2
    assert checkpoint.size < WIDTH
    entries = read_entries(LogFiles(served.data_dir / "log" / "epoch-2"), Tile(None, 0, checkpoint.size))
    told = [leaf for leaf in map(read_leaf, entries) if leaf["kind"] == "epoch"][-1]
    assert (told["number"], told["reason"], told["former"]["kept"]) == ("2", "restored-backup", str(before))
    status = answered(run(served, "log", "status", "--json"), 0)
    assert (status["epoch"], status["refused"], status["guard"]["state"]) == (2, None, "agrees")
