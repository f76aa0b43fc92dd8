"""`tanpuhui client` and `tanpuhui token-key`: from a new key to a bound token, as an operator and an engineer do it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from tests.conftest import Database
from tests.running import running_api, served

pytestmark = pytest.mark.anyio


async def run(data_dir: Path, *words: str, **environment: str) -> Result:
    environment |= {"TANPUHUI_DATA_DIR": str(data_dir)}
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), env=environment)


def told(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


async def test_from_a_new_key_to_a_bound_call(database: Database, tmp_path: Path) -> None:
    uri, private, public = f"https://bank-{os.urandom(4).hex()}.example", tmp_path / "bank.pem", tmp_path / "bank.jwk"
    client_id, titles = f"bank-{os.urandom(4).hex()}", ("--title-zh", "银行", "--title-en", "Bank")
    strict = {"require_sender_constrained": True, "two_person": True}
    async with running_api(database.app, database.redis, tmp_path / "data", **strict) as api, served(api) as url:
        made = told(await run(tmp_path / "data", "bank", "register", uri, *titles, "--url", url, "--json"))
        assert made["uri"] == uri
        done = await run(tmp_path, "bank", "new-key", str(private), "--kid", "k1", "--p256")
        public.write_text(done.stdout.splitlines()[-1], "utf-8")

        async def agreed(*words: str) -> dict[str, Any]:
            """What two operators do, the second with the proposal of the first."""
            both = (*words, "--url", url, "--json")
            ann, bo = (api.issuer.issue("operator", name) for name in ("ann", "bo"))
            first = await run(tmp_path / "data", *both, TANPUHUI_TOKEN=ann)
            assert (first.exit_code, first.stdout) == (0, ""), first.output
            proposal = first.stderr.split("TANPUHUI_APPROVES=")[1].split()[0]
            again = await run(tmp_path / "data", *both, TANPUHUI_TOKEN=ann, TANPUHUI_APPROVES=proposal)
            assert again.exit_code == 1
            return told(await run(tmp_path / "data", *both, TANPUHUI_TOKEN=bo, TANPUHUI_APPROVES=proposal))

        await agreed("client", "register", client_id, "bank", "--uri", uri, *titles)
        found = await agreed("client", "key", client_id, str(public), "--valid-from", "2026-01-01T00:00:00Z")
        assert [key["key"]["kid"] for key in found["keys"]] == ["k1"]
        fetch = ("client", "token", client_id, str(private), "--kid", "k1", "--url", url)
        assert told(await run(tmp_path, *fetch))["token_type"] == "DPoP"
        assert (await run(tmp_path, *fetch, "--unbound")).exit_code == 1
        token = (await run(tmp_path, *fetch, "--raw", "--scope", "redemptions:write")).stdout.strip()
        call = ("bank", "call", uri, str(private), "GET", "/v1/bank", "--kid", "k1", "--url", url, "--token", token)
        assert (await run(tmp_path, *call)).exit_code == 1  # a bound token, and the key is not shown
        bound = await run(tmp_path, *call, TANPUHUI_CLIENT_KEY=str(private))
        assert json.loads(bound.stdout)["uri"] == uri
        unusable = await run(tmp_path, *call, TANPUHUI_CLIENT_KEY=str(public))
        assert unusable.exit_code == 1
        for step, state in (("revoke", "active"), ("suspend", "suspended")):
            done = await run(tmp_path / "data", "client", step, client_id, "--url", url, "--json")
            assert told(done)["state"] == state
        listed = told(await run(tmp_path / "data", "client", "list", "--url", url, "--json"))["clients"]
        assert client_id in [each["client_id"] for each in listed]
        assert (await run(tmp_path, *fetch)).exit_code == 1


async def test_token_keys_are_made_changed_and_retired(tmp_path: Path) -> None:
    path = tmp_path / "token.keys.json"
    for _ in range(2):
        assert (await run(tmp_path, "token-key", "new", str(path))).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    listed = (await run(tmp_path, "token-key", "list", str(path))).stdout
    first = listed.split()[0]
    assert (await run(tmp_path, "token-key", "retire", first, str(path))).exit_code == 1  # the only one
    assert (await run(tmp_path, "token-key", "rotate", str(path), "--minutes", "0")).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert (await run(tmp_path, "token-key", "retire", first, str(path))).exit_code == 1  # its tokens still count
    assert (await run(tmp_path, "token-key", "retire", first, str(path), "--compromised")).exit_code == 0
    assert (await run(tmp_path, "token-key", "retire", "unknown", str(path))).exit_code == 1
    path.chmod(0o604)
    assert (await run(tmp_path, "token-key", "list", str(path))).exit_code == 1
    path.write_text("{}", "utf-8")
    path.chmod(0o600)
    assert (await run(tmp_path, "token-key", "list", str(path))).exit_code == 1
