"""A balance receipt proves what somebody had at the end of a day: to anybody, offline, and nothing else passes."""

import base64
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from api.cli import app
from ledger.check import check_ledger
from ledger.checkpoint import parse_proof
from ledger.errors import LedgerError
from ledger.notes import ED25519, VerifierKey, generate_signer
from ledger.receipts import BalanceReceipt, Receipt, parse_sealed, verify_any, verify_balance_receipt
from service.clock import system_clock
from service.log.guard import Guard
from service.log.loop import step
from service.log.publish import Log
from service.seals import seal_due
from service.worker import drain
from tests.conftest import Database
from tests.running import Api, Person, pooled, problem_of, ride, running_api

pytestmark = pytest.mark.anyio

ORIGIN = "localhost/log"
DAY = timedelta(days=1)


@dataclass(slots=True)
class Sealing:
    """An API, and the log's side of its database, at the same moved clock."""

    api: Api
    log: Log
    database: Database
    offset: timedelta = timedelta(0)

    @property
    def keys(self) -> list[VerifierKey]:
        return [self.log.signer.verifier]

    async def publish(self) -> None:
        async with pooled(self.database.sequencer) as pool:
            for _ in range(2):
                await drain(pool)
                async with pool.acquire() as connection:
                    await step(connection, self.log, "demo", system_clock(self.offset))

    async def end_day(self) -> date:
        """Seal everything at the end of this day, and publish; the day."""
        await self.publish()
        self.offset += DAY
        async with pooled(self.database.sequencer) as pool, pool.acquire() as connection:
            assert await seal_due(connection, "demo", self.log.directory, self.offset) == 1
            day: date = await connection.fetchval("SELECT max(day) FROM ledger.seal")
        return day

    async def receipt(self, person: Person, rest: str = "", **headers: str) -> httpx.Response:
        return await self.api.read(person.participant_id, f"receipt{rest}", **headers)


@pytest.fixture
async def sealing(fresh_database: Database, tmp_path: Path) -> AsyncIterator[Sealing]:
    async with running_api(fresh_database.app, fresh_database.redis, tmp_path) as api:
        signer = generate_signer(ORIGIN, ED25519, secrets.token_bytes(32))
        log = Log(ORIGIN, api.platform.settings.log_dir, Guard(tmp_path / "guard"), signer)
        yield Sealing(api, log, fresh_database)


async def test_everybody_has_a_receipt_of_each_sealed_day(sealing: Sealing) -> None:
    source = await sealing.api.source()
    people = [await sealing.api.person(source) for _ in range(5)]
    for person in people:
        await sealing.api.report_one(source, ride(source, person.subject))
    first = await sealing.end_day()
    answer = await sealing.receipt(people[0])
    problem_of(answer, "receipt-not-ready")  # the seal's leaf is not under a checkpoint yet
    await sealing.publish()
    for person in people:
        answer = await sealing.receipt(person)
        assert answer.status_code == 200, answer.text
        assert f"{person.participant_id}-{first}.tlog-proof" in answer.headers["content-disposition"]
        proved = verify_any(answer.text, sealing.keys)
        assert isinstance(proved, BalanceReceipt)
        assert str(proved.balance.participant) == person.participant_id
        assert proved.balance.balances["co2e_mg", "available"] == 82273
        assert list(proved.balance.buckets.values()) == [82]
        assert (proved.balance.counter, proved.seal.fields["day"]) == (1, first.isoformat())
    auditor = await asyncpg.connect(sealing.database.auditor)
    assert (await check_ledger(auditor)).findings == ()
    await auditor.close()
    # the next day has another balance, and the one before keeps its own
    await sealing.api.report_one(source, ride(source, people[0].subject))
    second = await sealing.end_day()
    await sealing.publish()
    for query, counter, day in (("", 2, second), (f"?day={first}", 1, first), (f"?day={second}", 2, second)):
        proved = verify_any((await sealing.receipt(people[0], query)).text, sealing.keys)
        assert isinstance(proved, BalanceReceipt)
        assert (proved.balance.counter, proved.seal.fields["day"]) == (counter, day.isoformat())


async def test_what_has_no_receipt_is_told(sealing: Sealing) -> None:
    person = await sealing.api.person()
    problem_of(await sealing.receipt(person), "seal-not-found")
    other = await sealing.api.person(person.source)
    await sealing.api.report_one(person.source, ride(person.source, other.subject))
    day = await sealing.end_day()
    await sealing.publish()
    problem_of(await sealing.receipt(person), "seal-not-found")  # no transfer by then
    problem_of(await sealing.receipt(other, f"?day={day - DAY}"), "seal-not-found")
    problem_of(await sealing.receipt(other, "?day=yesterday"), "malformed-request")
    assert (await sealing.receipt(other)).status_code == 200
    path = f"/v1/participants/{other.participant_id}/receipt"
    problem_of(await sealing.api.client.get(path), "unauthenticated")
    stranger = sealing.api.bearer("participant", person.participant_id)
    problem_of(await sealing.api.client.get(path, headers=stranger), "forbidden")


async def test_a_receipt_that_was_changed_anywhere_proves_nothing(sealing: Sealing) -> None:
    source = await sealing.api.source()
    people = [await sealing.api.person(source) for _ in range(3)]
    for person in people:
        await sealing.api.report_one(source, ride(source, person.subject))
    await sealing.end_day()
    await sealing.publish()
    text = (await sealing.receipt(people[0])).text
    good, proof = verify_any(text, sealing.keys), parse_proof(text)
    assert proof.extra
    carried = parse_sealed(proof.extra)
    assert carried.encode() == proof.extra

    def again(extra: bytes) -> str:
        return text.replace(base64.b64encode(proof.extra or b"").decode(), base64.b64encode(extra).decode(), 1)

    assert verify_any(again(proof.extra), sealing.keys) == good
    for place in range(len(proof.extra)):
        changed = bytearray(proof.extra)
        changed[place] ^= 1
        with pytest.raises(LedgerError):
            verify_balance_receipt(again(bytes(changed)), sealing.keys)
        with pytest.raises(LedgerError):
            verify_any(again(bytes(changed)), sealing.keys)
    fields = json.loads(proof.extra)
    for name, value in (("index", str((carried.index + 1) % 3)), ("size", "4"), ("proof", []), ("v", "2")):
        other = json.dumps(fields | {name: value}, separators=(",", ":")).encode()
        with pytest.raises(LedgerError):
            verify_balance_receipt(again(other), sealing.keys)
    with pytest.raises(LedgerError):
        verify_any(text, [generate_signer(ORIGIN, ED25519, bytes(32)).verifier])
    # the receipt of a transfer is no balance, and the balance's is no transfer's
    credit = (await sealing.api.statement(people[0].participant_id))[0]["transfer_id"]
    of_credit = (await sealing.api.read(people[0].participant_id, f"transfers/{credit}/receipt")).text
    assert isinstance(verify_any(of_credit, sealing.keys), Receipt)
    with pytest.raises(LedgerError):
        verify_balance_receipt(of_credit, sealing.keys)


async def test_the_command_explains_the_balance_in_both_languages(sealing: Sealing, tmp_path: Path) -> None:
    person = await sealing.api.person()
    await sealing.api.report_one(person.source, ride(person.source, person.subject))
    day = await sealing.end_day()
    await sealing.publish()
    file, vkey = tmp_path / "receipt.tlog-proof", tmp_path / "log.vkey"
    file.write_text((await sealing.receipt(person)).text, "utf-8")
    vkey.write_text(f"{sealing.keys[0]}\n", "utf-8")
    done = CliRunner().invoke(app, ["receipt", "verify", str(file), "--vkey", str(vkey)])
    assert done.exit_code == 0, done.output
    for part in ("回执有效", "this receipt is good", f"{day} 日终余额", "the balance at the end", "82,273 mg"):
        assert part in done.output
    done = CliRunner().invoke(app, ["receipt", "verify", str(file), "--vkey", str(vkey), "--json"])
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["verified"], told["balance"]["balances"]["points"]["available"]) == (True, "82")
    file.write_text(file.read_text("utf-8").replace("index ", "index 1"), "utf-8")
    assert CliRunner().invoke(app, ["receipt", "verify", str(file), "--vkey", str(vkey)]).exit_code == 1
