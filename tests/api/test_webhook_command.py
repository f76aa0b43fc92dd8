"""`tanpuhui webhook`, against an API on a port of this machine."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from api.cli import app as cli
from api.commands.webhook import listener
from service.clock import system_clock
from service.webhooks.signing import new_secret, secret_text, signature_headers
from tests.api.bankers import open_bank
from tests.running import Api, served

pytestmark = pytest.mark.anyio


async def run(api: Api, url: str, bank: str, *words: str) -> Result:
    token = api.bearer("bank", bank=bank)["Authorization"].removeprefix("Bearer ")
    arguments = ["webhook", *words, "--bank", bank, "--url", url, "--token", token]
    return await asyncio.to_thread(CliRunner().invoke, cli, arguments)


def last(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


async def test_from_adding_to_deleting(api: Api) -> None:
    bank = (await open_bank(api)).uri
    async with served(api) as url:
        made = last(await run(api, url, bank, "add", "https://bank.example/hooks", "--kind", "hold", "--json"))
        name = made["webhook_id"]
        assert made["kinds"] == ["hold"]
        assert made["secret"].startswith("whsec_")
        shown = await run(api, url, bank, "list")
        assert name in shown.stdout
        assert "推送中" in shown.stdout
        assert made["secret"] not in shown.stdout
        assert last(await run(api, url, bank, "pause", name, "--json"))["state"] == "paused"
        assert last(await run(api, url, bank, "resume", name, "--json"))["state"] == "active"
        queued = last(await run(api, url, bank, "test", name, "--json"))["message_id"]
        listed = await run(api, url, bank, "messages", name, "--state", "waiting")
        assert queued in listed.stdout
        assert last(await run(api, url, bank, "messages", name, "--state", "dead", "--json")) == {"messages": []}
        assert last(await run(api, url, bank, "retry", name, queued, "--json"))["message_id"] == queued
        assert last(await run(api, url, bank, "attempts", name, "--json")) == {"attempts": []}
        assert last(await run(api, url, bank, "replay", name, "--from-index", "0", "--json"))["queued_to"] == -1
        rotated = last(await run(api, url, bank, "rotate", name, "--overlap-hours", "0", "--json"))
        assert rotated["secret"] != made["secret"]
        assert (await run(api, url, bank, "delete", name)).exit_code == 0
        gone = await run(api, url, bank, "delete", name)
        assert gone.exit_code == 1
        assert "没有此推送端点" in gone.stderr
        assert "No such webhook" in gone.stderr


async def test_what_is_refused_says_where(api: Api) -> None:
    bank = (await open_bank(api)).uri
    async with served(api) as url:
        refused = await run(api, url, bank, "add", "https://bank.example/hooks", "--kind", "credit")
        assert refused.exit_code == 1
        assert "/kinds/0" in refused.stderr


async def test_the_listener_takes_what_verifies(capsys: pytest.CaptureFixture[str]) -> None:
    secret, body = new_secret(), b'{"type":"org.tanpuhui.log.hold.v1","data":{}}'
    transport = httpx.ASGITransport(listener([secret_text(secret)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://tests") as client:
        headers = signature_headers("evt_1", system_clock()(), body, [secret])
        assert (await client.post("/any/path", content=body, headers=headers)).status_code == 204
        assert (await client.post("/", content=body + b" ", headers=headers)).status_code == 401
        assert (await client.post("/", content=b"x" * 70_000, headers=headers)).status_code == 413
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"message_id": "evt_1", "verified": True, "type": "org.tanpuhui.log.hold.v1", "data": {}}
    assert lines[1] == {"verified": False, "because": "no signature was made with the secret"}
