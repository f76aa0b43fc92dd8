"""The simulated bank in every mood, against a real platform: it settles, its book agrees, a day that is over is closed;
and what differs is found."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from api.bank_simulator import MOODS, Bank, Book, play_bank, reconciling
from api.bank_simulator.book import Case, Entry, open_book
from api.bank_simulator.playing import PLANS
from api.bank_simulator.running import Outcome
from api.cli import app as cli
from service.database import Pool
from service.settlement.closing import issue_due
from service.worker import drain
from tests.api.bankers import Banker, offered, open_bank
from tests.conftest import Database
from tests.running import Api, pooled, ride, running_api, served

pytestmark = pytest.mark.anyio

A_DAY = timedelta(hours=25)  # at any hour today is over then
UNITS = 5


@dataclass
class Town:
    """A bank with an offer, the address of its platform, and the log's worker."""

    api: Api
    url: str
    banker: Banker
    offer: str
    worker: Pool
    directory: Path

    async def entitlements(self, number: int) -> list[str]:
        """What so many new people show to the bank, for five units each."""
        return [await self.entitlement() for _ in range(number)]

    async def entitlement(self) -> str:
        person = await self.api.person()
        await self.api.report(person.source, [ride(person.source, person.subject, km="2")])
        mine, path = self.api.bearer("participant", person.participant_id), f"/v1/participants/{person.participant_id}"
        quote = (await self.api.client.post(f"{path}/quotes", headers=mine, json=self._wanted())).json()
        consent = {"text_version": quote["text_version"], "given_at": datetime.now(UTC).isoformat()}
        body = self._wanted() | {"version": quote["version"], "points": quote["points"], "consent": consent}
        key = {"Idempotency-Key": '"once"'}
        held = await self.api.client.post(f"{path}/redemptions", headers=mine | key, json=body)
        assert held.status_code == 201, held.text
        name = held.json()["redemption"]["redemption_id"]
        issued = await self.api.client.post(f"{path}/redemptions/{name}/entitlement", headers=mine)
        return str(issued.json()["entitlement"])

    def _wanted(self) -> dict[str, object]:
        return {"offer": self.offer, "units": UNITS}

    def key_file(self) -> Path:
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self.directory / "key.pem"
        path.write_bytes(self.banker.key.private.private_bytes(*form))
        path.chmod(0o600)
        return path

    def book(self) -> Book:
        return open_book(self.directory / "book.jsonl")

    async def play(
        self, mood: str, entitlements: list[str], *, seed: int = 1, ahead: timedelta = timedelta(0), url: str = ""
    ) -> Outcome:
        """A bank's day in this mood."""
        token = self.banker.bearer["Authorization"].removeprefix("Bearer ")
        quick = replace(MOODS[mood], pause_s=min(MOODS[mood].pause_s, 0.02))
        async with httpx.AsyncClient(base_url=url or self.url, timeout=60) as client:
            key = self.banker.key
            bank = Bank(self.banker.uri, client, token, key.key_id, key.private, lambda: datetime.now(UTC) + ahead)
            return await play_bank(bank, self.book(), quick, entitlements, random.Random(seed))


@pytest.fixture
async def town(database: Database, tmp_path: Path) -> AsyncIterator[Town]:
    async with (
        running_api(database.app, database.redis, tmp_path / "data") as api,
        served(api) as url,
        pooled(database.sequencer) as worker,
        sequencing(worker),
    ):
        banker = await open_bank(api)
        yield Town(api, url, banker, await offered(banker), worker, tmp_path)


@asynccontextmanager
async def sequencing(worker: Pool) -> AsyncIterator[None]:
    """What is posted gets its place in the log, as the worker gives it."""

    async def work() -> None:
        while True:
            await drain(worker)
            await asyncio.sleep(0.05)

    working = asyncio.create_task(work())
    try:
        yield
    finally:
        working.cancel()


@pytest.mark.parametrize("mood", MOODS)
async def test_a_bank_in_every_mood_settles_and_agrees(town: Town, mood: str) -> None:
    done = await town.play(mood, await town.entitlements(len(PLANS)))
    assert done.findings == ()
    assert done.agrees
    assert sum(done.redemptions.values()) == len(PLANS)
    assert done.redemptions["held"] == 1
    if mood != "conflicting":  # there a race decides
        assert done.redemptions == {"held": 1, "captured": 4, "voided": 1, "lapsed": 0}
    kinds = [entry.kind for entry in town.book().entries().values()]
    assert {"hold", "capture", "release", "refund"} == set(kinds)
    again = await town.play("honest", [])
    assert (again.redemptions, again.agrees) == (done.redemptions, True)
    assert len(town.book().entries()) == len(kinds)


async def test_a_day_that_is_over_is_closed_with_the_banks_own_file(town: Town, database: Database) -> None:
    shown = await town.entitlements(3)
    await town.entitlement()  # held and never presented: the bank learns of it from the platform
    today = await town.play("honest", shown)
    assert (today.agrees, today.reconciled.agreed, len(today.reconciled.preliminary)) == (True, [], 1)
    async with town.worker.acquire() as connection:
        await issue_due(connection, A_DAY)
    (day,) = today.reconciled.preliminary
    offset = str(int(A_DAY.total_seconds()))
    async with (
        running_api(database.app, database.redis, town.directory / "data", clock_offset=offset) as later,
        served(later) as url,
    ):
        tomorrow = await town.play("honest", [], ahead=A_DAY, url=url)
        assert tomorrow.findings == ()
        assert (tomorrow.reconciled.closed, tomorrow.reconciled.preliminary) == ([day], {})
        once_more = await town.play("honest", [], ahead=A_DAY, url=url)
        assert (once_more.agrees, once_more.reconciled.closed) == (True, [day])


async def test_a_book_that_says_something_else_closes_nothing(
    town: Town, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciling, "WRITTEN_WITHIN_S", 0.5)
    await town.play("honest", await town.entitlements(1), seed=_seed("whole"))
    book = town.book()
    capture = next(entry for entry in book.own.values() if entry.kind == "capture")
    book.enter("own", replace(capture, value_fen=capture.value_fen + 1))
    invented = Entry("capture", "01a20574-91ce-77a3-8e85-13dcb2ca39ab", capture.redemption_id, 1, 10, 100, capture.day)
    book.enter("own", invented)
    async with town.worker.acquire() as connection:
        await issue_due(connection, A_DAY)
    offset = str(int(A_DAY.total_seconds()))
    async with (
        running_api(database.app, database.redis, town.directory / "data", clock_offset=offset) as later,
        served(later) as url,
    ):
        done = await town.play("honest", [], ahead=A_DAY, url=url)
    assert not done.agrees
    assert (done.reconciled.agreed, done.reconciled.closed) == ([], [])
    codes = [finding.code for finding in done.findings]
    assert sorted(codes) == sorted(
        ["amount-differs", "missing-there", "amount-differs", "missing-here", "units-differ"]
    )


async def test_a_step_that_the_bank_forgot_is_found(town: Town) -> None:
    await town.play("honest", await town.entitlements(1), seed=_seed("whole"))
    lines = town.book().path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["record"] != "own" or json.loads(line)["kind"] != "capture"]
    town.book().path.write_bytes(b"".join(kept))
    done = await town.play("honest", [])
    assert [finding.code for finding in done.findings] == ["missing-here", "units-differ"]
    assert not done.agrees


async def test_a_bank_that_was_killed_does_the_same_again(town: Town) -> None:
    shown = await town.entitlements(1)
    await town.play("honest", shown, seed=_seed("parts"))
    whole = town.book()
    lines = whole.path.read_bytes().splitlines(keepends=True)
    first = next(place for place, line in enumerate(lines) if json.loads(line).get("kind") == "capture")
    whole.path.write_bytes(b"".join(lines[:first]) + lines[first][:20])  # the answer came, and was not written down
    done = await town.play("honest", shown, seed=99)
    assert (done.findings, done.agrees) == ((), True)
    assert town.book().own == whole.own


async def test_what_is_no_entitlement_of_the_platform_is_not_believed(town: Town) -> None:
    (good,) = await town.entitlements(1)
    head, _, signature = good.split(".")
    done = await town.play("honest", [f"{head}.{good.split('.')[1][:-2]}AA.{signature}", "nothing"])
    assert {finding.code for finding in done.findings} == {"entitlement-unverified"}
    assert done.redemptions == {"held": 0, "captured": 0, "voided": 0, "lapsed": 0}


async def test_the_command_says_what_it_found(town: Town) -> None:
    key = town.key_file()
    (town.directory / "shown").write_text("\n".join(await town.entitlements(2)), "ascii")
    token = town.banker.bearer["Authorization"].removeprefix("Bearer ")
    words = ["bank", "simulate", "--bank", town.banker.uri, "--key", str(key), "--kid", town.banker.key.key_id]
    words += ["--book", str(town.directory / "book.jsonl"), "--entitlements", str(town.directory / "shown")]
    words += ["--url", town.url, "--token", token, "--json"]
    done = await asyncio.to_thread(CliRunner().invoke, cli, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["reconciled"], sum(told["redemptions"].values())) == (True, 2)
    moody = await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--mood", "cheerful"])
    assert moody.exit_code == 1
    assert "honest" in moody.stderr


def _seed(plan: str) -> int:
    """A seed under which the first redemption gets this plan."""
    return next(seed for seed in range(1000) if random.Random(seed).sample(PLANS, len(PLANS))[-1] == plan)


def test_a_book_drops_the_line_that_a_crash_cut_off(tmp_path: Path) -> None:
    book = open_book(tmp_path / "book.jsonl")
    book.take(Case("one", "…", "whole"))
    with book.path.open("ab") as file:
        file.write(b'{"record": "done", "redem')
    assert open_book(book.path).done == set()
    assert book.path.read_bytes().endswith(b"}\n")
    assert oct(book.path.stat().st_mode & 0o777) == "0o600"


async def test_the_certification_says_what_is_missing(town: Town, database: Database) -> None:
    key = town.key_file()
    words = ["bank", "certify", town.banker.uri, str(key), "--kid", town.banker.key.key_id, "--json"]
    words += ["--token", town.banker.bearer["Authorization"].removeprefix("Bearer ")]

    async def missing(url: str, offset: str = "0") -> set[str]:
        environment = {"TANPUHUI_CLOCK_OFFSET": offset}
        done = await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--url", url], env=environment)
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["certified"] == (done.exit_code == 0) == (not told["missing"]), done.output
        return set(told["missing"])

    begun = {"accepts", "captures", "captures-part", "voids", "refunds", "reports", "closes"}
    assert await missing(town.url) == begun
    await town.play("honest", await town.entitlements(len(PLANS)))
    assert await missing(town.url) == {"closes"}
    async with town.worker.acquire() as connection:
        await issue_due(connection, A_DAY)
    offset = str(int(A_DAY.total_seconds()))
    async with (
        running_api(database.app, database.redis, town.directory / "data", clock_offset=offset) as later,
        served(later) as url,
    ):
        await town.play("honest", [], ahead=A_DAY, url=url)
        assert await missing(url, offset) == {"decides"}  # a hold of which nothing was decided has lapsed
        assert "signature" in await missing(url)  # a clock that is a day behind
