"""Statements over HTTP: a bank reads its own, sends its book signed, sees each difference, and both close the day."""

import asyncio
import base64
import csv
import hashlib
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from api.cli import app as cli
from api.signatures import public_jwk
from service.clock import shanghai_day
from service.settlement.statement import DayStatement, statement_document
from tests.api.bankers import Banker, open_bank
from tests.conftest import Database
from tests.running import Api, pooled, problem_of, served
from tests.service.settlement.books import Books

pytestmark = pytest.mark.anyio

TODAY = shanghai_day(datetime.now(UTC))
YESTERDAY = TODAY - timedelta(days=1)
DAY = f"/v1/statements/{YESTERDAY}"
HEADER = "transfer_id,redemption_id,kind,units,value_fen\n"


class Counter:
    """A bank at the counter: its books in the platform, and how it calls."""

    def __init__(self, api: Api, books: Books, banker: Banker) -> None:
        self.api, self.books, self.banker = api, books, banker

    async def send(self, content: bytes, kind: str = "text/csv", path: str = f"{DAY}/files") -> httpx.Response:
        headers = self.banker.signed("POST", path, content) | {"Content-Type": kind}
        return await self.api.client.post(path, headers=headers, content=content)

    async def stands(self) -> dict[str, Any]:
        answer = await self.banker.get(f"{DAY}/reconciliation")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def close(self, **changes: Any) -> httpx.Response:
        found = await self.stands()
        body = {"statement": found["digest"], "file": found["files"][-1]["digest"] if found["files"] else None}
        return await self.banker.call(f"{DAY}/closing", body | changes)

    async def operator_closes(self) -> httpx.Response:
        found = await self.stands()
        body = {"statement": found["digest"], "file": found["files"][-1]["digest"], "bank": self.banker.uri}
        return await self.api.client.post(f"{DAY}/closing", headers=self.api.bearer("operator"), json=body)


@pytest.fixture
async def counter(fresh_database: Database, fresh_api: Api) -> AsyncIterator[Counter]:
    """A bank with two redemptions of yesterday, and the statement of them."""
    banker = await open_bank(fresh_api)
    async with pooled(fresh_database.app) as app, pooled(fresh_database.sequencer) as sequencer:
        async with app.acquire() as connection:
            bank_id = await connection.fetchval("SELECT bank_id FROM service.bank WHERE uri = $1", banker.uri)
        books = Books(app, sequencer, banker.uri, bank_id, fresh_api.platform.fresh)
        await books.redeem(YESTERDAY, 2)
        await books.redeem(YESTERDAY, 3)
        assert await books.issue() == 1
        yield Counter(fresh_api, books, banker)


async def test_a_bank_downloads_its_day_in_both_forms(counter: Counter) -> None:
    listed = (await counter.banker.get("/v1/statements")).json()
    (line,) = listed["days"]
    assert (line["day"], line["state"], line["differences"], listed["next"]) == (str(YESTERDAY), "issued", None, None)
    answer = await counter.banker.get(DAY, Accept="application/json")
    assert hashlib.sha256(answer.content).hexdigest() == line["digest"]
    found = answer.json()
    assert (found["bank"], found["day"], found["size"]) == (counter.banker.uri, str(YESTERDAY), str(line["size"]))
    assert (
        found["totals"]["capture"] | {"entries": "2", "units": "5", "value_fen": "2500"} == found["totals"]["capture"]
    )
    sheet = await counter.banker.get(DAY, Accept="text/csv")
    assert sheet.headers["content-type"].startswith("text/csv")
    assert f"statement-{YESTERDAY}.csv" in sheet.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(sheet.text, newline="")))
    assert [row["transfer_id"] for row in rows if row["record"] == "entry"] == [
        entry["transfer_id"] for entry in found["entries"]
    ]
    for each in (answer, sheet):
        mark = base64.b64encode(hashlib.sha256(each.content).digest()).decode("ascii")
        assert each.headers["content-digest"] == f"sha-256=:{mark}:"


async def test_what_is_sent_back_agrees_and_the_day_is_closed(counter: Counter) -> None:
    for kind in ("text/csv", "application/json"):
        statement = await counter.banker.get(DAY, Accept=kind)
        answer = await counter.send(statement.content, kind)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["state"], answer.json()["differences"]) == ("agreed", [])
    closed = await counter.close()
    assert closed.status_code == 200, closed.text
    assert closed.json()["state"] == "closed"
    assert [(each["side"], each["authority"]) for each in closed.json()["closings"]] == [
        ("bank", "bank"),
        ("platform", "rule"),
    ]
    problem_of(await counter.send(HEADER.encode("ascii")), "day-closed")
    (line,) = (await counter.banker.get("/v1/statements")).json()["days"]
    assert line["state"] == "closed"


@pytest.mark.parametrize("language", ["en", "zh-CN"])
async def test_differences_are_told_in_the_readers_language(counter: Counter, language: str) -> None:
    answer = await counter.send(HEADER.encode("ascii"))
    assert (answer.json()["state"], answer.json()["differing"], answer.json()["value_fen"]) == ("disputed", 4, -5000)
    shown = await counter.banker.get(f"{DAY}/reconciliation", **{"Accept-Language": language})
    assert {each["reason"] for each in shown.json()["differences"]} == {"missing-there"}
    assert all(("平台" in each["said"]) == (language == "zh-CN") for each in shown.json()["differences"])


async def test_differences_are_closed_by_both_sides_the_bank_first(counter: Counter) -> None:
    await counter.send(HEADER.encode("ascii"))
    problem_of(await counter.operator_closes(), "bank-not-closed")
    assert (await counter.close()).json()["state"] == "disputed"
    assert (await counter.operator_closes()).json()["state"] == "closed"
    assert (await counter.operator_closes()).json()["state"] == "closed"


async def test_a_side_closes_on_the_papers_that_count(counter: Counter) -> None:
    problem = problem_of(await counter.close(statement="ab" * 32), "day-moved")
    assert problem["statement"] == (await counter.stands())["digest"]
    problem_of(await counter.close(file="ab" * 32), "day-moved")
    problem_of(await counter.close(statement="AB"), "malformed-request")
    assert (await counter.close()).json()["state"] == "closed"


async def test_a_file_that_cannot_be_read_is_answered_with_its_places(counter: Counter) -> None:
    answer = await counter.send(f"{HEADER}x,y,hold,1,1\n".encode("ascii"))
    problem = problem_of(answer, "bank-file-malformed")
    assert [(each["line"], each["column"]) for each in problem["errors"]] == [(2, "transfer_id"), (2, "redemption_id")]
    assert (await counter.stands())["files"] == []
    problem_of(await counter.send(b"{}", "text/plain"), "unsupported-media-type")


async def test_a_book_that_is_not_signed_is_not_taken(counter: Counter) -> None:
    headers = counter.banker.bearer | {"Content-Type": "text/csv"}
    answer = await counter.api.client.post(f"{DAY}/files", headers=headers, content=HEADER)
    problem_of(answer, "call-signature-refused")
    signed = counter.banker.signed("POST", f"{DAY}/files", b"another body") | {"Content-Type": "text/csv"}
    answer = await counter.api.client.post(f"{DAY}/files", headers=signed, content=HEADER)
    problem_of(answer, "call-signature-refused")
    body = {"statement": (await counter.stands())["digest"], "file": None}
    answer = await counter.api.client.post(f"{DAY}/closing", headers=counter.banker.bearer, json=body)
    problem_of(answer, "call-signature-refused")
    assert (await counter.stands())["files"] == []


async def test_a_bank_sees_its_own_days_and_an_operator_names_the_bank(counter: Counter) -> None:
    other, operator = await open_bank(counter.api), counter.api.bearer("operator")
    problem_of(await other.get(DAY), "statement-not-found")
    problem_of(await other.get(f"/v1/statements?bank={counter.banker.uri}"), "forbidden")
    assert (await other.get("/v1/statements")).json()["days"] == []
    client = counter.api.client
    assert len((await client.get(f"/v1/statements?bank={counter.banker.uri}", headers=operator)).json()["days"]) == 1
    problem_of(await client.get("/v1/statements", headers=operator), "malformed-request")
    problem_of(await client.get("/v1/statements?bank=urn:none", headers=operator), "bank-not-found")
    participant = counter.api.bearer("participant", "7b0f9c1e-2f4d-4c6a-9e53-1d0c8a7b6e5f")
    problem_of(await client.get(DAY, headers=participant), "forbidden")
    problem_of(await counter.banker.get("/v1/statements/yesterday"), "malformed-request")
    missing = problem_of(await counter.banker.get(f"/v1/statements/{TODAY}"), "statement-not-found")
    assert missing["day"] == str(TODAY)


async def test_the_list_is_read_page_by_page(counter: Counter) -> None:
    counter.books.offset = timedelta(days=3)
    assert await counter.books.issue() == 3
    first = (await counter.banker.get("/v1/statements?limit=3")).json()
    assert len(first["days"]) == 3
    rest = (await counter.banker.get(f"/v1/statements?limit=3&before={first['next']}")).json()
    assert [line["day"] for line in rest["days"]] == [str(YESTERDAY)]
    assert rest["next"] is None


async def test_the_signed_book_is_kept_for_the_auditor(counter: Counter, fresh_database: Database) -> None:
    content = HEADER.encode("ascii")
    answer = await counter.send(content)
    async with pooled(fresh_database.auditor) as pool, pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT f.digest, f.differences, c.body FROM service.bank_file f JOIN service.signed_word c USING (call_id)"
        )
    assert row is not None
    assert row["body"] == content
    assert row["digest"].hex() == answer.json()["files"][0]["digest"] == hashlib.sha256(content).hexdigest()
    assert len(orjson.loads(row["differences"])) == 4


async def invoked(counter: Counter, directory: Path, *words: str, operator: bool = False) -> Result:
    """Run `tanpuhui statement` or `pool` at this API, as the bank or as the operator."""
    bearer = counter.api.bearer("operator") if operator else counter.banker.bearer
    token, key = directory / "token", directory / "key.json"
    token.write_text(bearer["Authorization"].removeprefix("Bearer "), "utf-8")
    private = counter.banker.key.private
    assert isinstance(private, Ed25519PrivateKey)
    seed = base64.urlsafe_b64encode(private.private_bytes_raw()).rstrip(b"=").decode("ascii")
    key.write_bytes(orjson.dumps(public_jwk(counter.banker.key) | {"d": seed}))
    async with served(counter.api) as url:
        arguments = [word.format(key=key, dir=directory) for word in words]
        arguments += ["--url", url, "--token-file", str(token), "--json"]
        return await asyncio.to_thread(CliRunner().invoke, cli, arguments)


def result_of(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = orjson.loads(done.stdout.splitlines()[-1])
    return found


async def test_a_bank_settles_its_day_by_commands_alone(counter: Counter, tmp_path: Path) -> None:
    bank, day = ("--bank", counter.banker.uri), str(YESTERDAY)
    listed = result_of(await invoked(counter, tmp_path, "statement", "list", *bank))
    assert [line["state"] for line in listed["days"]] == ["issued"]
    for form in ("json", "csv"):
        out = ("--out", f"{{dir}}/day.{form}", "--format", form)
        fetched = result_of(await invoked(counter, tmp_path, "statement", "fetch", day, *bank, *out))
        assert hashlib.sha256((tmp_path / f"day.{form}").read_bytes()).hexdigest() == fetched["sha256"]
    runner = CliRunner()
    checked = runner.invoke(cli, ["statement", "verify", str(tmp_path / "day.json"), "--json"])
    assert result_of(checked)["digest"] == listed["days"][0]["digest"]
    files = [str(tmp_path / "day.json"), str(tmp_path / "day.csv")]
    assert runner.invoke(cli, ["statement", "compare", *files]).exit_code == 0
    (tmp_path / "books.csv").write_text(HEADER, "utf-8")
    apart = runner.invoke(cli, ["statement", "compare", files[0], str(tmp_path / "books.csv"), "--json"])
    assert (apart.exit_code, orjson.loads(apart.stdout.splitlines()[-1])["differing"]) == (1, 4)
    key = ("--key", "{key}")
    sent = result_of(await invoked(counter, tmp_path, "statement", "send", day, "{dir}/books.csv", *bank, *key))
    assert (sent["state"], sent["differing"]) == ("disputed", 4)
    sent = result_of(await invoked(counter, tmp_path, "statement", "send", day, "{dir}/day.csv", *bank, *key))
    assert sent["state"] == "agreed"
    assert result_of(await invoked(counter, tmp_path, "statement", "close", day, *bank, *key))["state"] == "closed"


async def test_an_operator_closes_by_command_and_reads_what_is_owed(counter: Counter, tmp_path: Path) -> None:
    bank, day = ("--bank", counter.banker.uri), str(YESTERDAY)
    await counter.send(HEADER.encode("ascii"))
    early = await invoked(counter, tmp_path, "statement", "close", day, *bank, operator=True)
    assert early.exit_code == 1
    assert "bank has not closed" in early.output
    await counter.close()
    closed = await invoked(counter, tmp_path, "statement", "close", day, *bank, operator=True)
    assert result_of(closed)["state"] == "closed"
    owed = await invoked(counter, tmp_path, "pool", "status", operator=True)
    assert result_of(owed)["pools"] == []


def test_an_altered_statement_is_noticed(tmp_path: Path) -> None:
    statement = DayStatement("https://bank.example/green", "demo", YESTERDAY, 1, None, 0, ())
    path = tmp_path / "day.json"
    path.write_bytes(statement_document(statement))
    assert CliRunner().invoke(cli, ["statement", "verify", str(path)]).exit_code == 0
    path.write_bytes(statement_document(statement).replace(b'"units":"0"', b'"units":"1"', 1))
    assert CliRunner().invoke(cli, ["statement", "verify", str(path)]).exit_code == 1
