"""`tanpuhui bank` and `tanpuhui token bank`: from a new key to a signed call, as an operator and an engineer do it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from api.cli import app
from api.commands.asking import key_registration
from tests.running import Api, served

pytestmark = pytest.mark.anyio


def run(*words: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, list(words), env=env)


class Shell:
    """Commands beside an API that is served on this machine."""

    def __init__(self, api: Api, url: str) -> None:
        self._environment = {"TANPUHUI_DATA_DIR": str(api.platform.settings.data_dir)}
        self._url = url

    async def __call__(self, *words: str) -> Result:
        return await asyncio.to_thread(run, *words, "--url", self._url, env=self._environment)

    async def told(self, *words: str) -> dict[str, Any]:
        done = await self(*words, "--json")
        assert done.exit_code == 0, done.output
        document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return document


async def test_from_a_new_key_to_a_signed_call(api: Api, tmp_path: Path) -> None:
    uri = f"https://bank-{os.urandom(4).hex()}.example/green"
    private, public = tmp_path / "bank.pem", tmp_path / "bank.jwk"
    async with served(api) as url:
        shell = Shell(api, url)
        made = await shell.told("bank", "register", uri, "--title-zh", "银行", "--title-en", "Bank")
        assert (made["uri"], made["state"]) == (uri, "active")
        done = await asyncio.to_thread(run, "bank", "new-key", str(private), "--kid", "k1", "--p256")
        assert done.exit_code == 0, done.output
        assert private.stat().st_mode & 0o777 == 0o600
        public.write_text(done.stdout.splitlines()[-1], "utf-8")
        begins = ("--valid-from", "2026-01-01T00:00:00Z")
        registered = await shell.told("bank", "key", uri, str(public), *begins)
        assert [each["key"]["kid"] for each in registered["keys"]] == ["k1"]
        called = await shell("bank", "call", uri, str(private), "POST", "/v1/bank/sandbox/signature", "--kid", "k1")
        assert called.exit_code == 0, called.output
        assert json.loads(called.stdout)["accepted"] is True
        own = await shell("bank", "call", uri, str(private), "GET", "/v1/bank", "--kid", "k1")
        assert json.loads(own.stdout)["uri"] == uri
        wrong = await shell(
            "bank", "call", uri, str(private), "POST", "/v1/bank/requests", "--kid", "k2", "--body", "{}"
        )
        assert wrong.exit_code == 1
        body = json.dumps({"offer": "any", "units": 1})
        wrong = await shell(
            "bank", "call", uri, str(private), "POST", "/v1/bank/requests", "--kid", "k2", "--body", body
        )
        assert wrong.exit_code == 1
        assert "no key k2 is registered" in wrong.stderr
        assert (await shell.told("bank", "suspend", uri, "--reason", "under-review"))["state"] == "suspended"
        listed = await shell.told("bank", "list")
        assert uri in {bank["uri"] for bank in listed["banks"]}
        assert (await shell.told("bank", "resume", uri))["state"] == "active"
        ended = await shell.told("bank", "key", uri, str(public), *begins, "--valid-to", "2099-01-01T00:00:00Z")
        assert ended["keys"][0]["valid_to"] == "2099-01-01T00:00:00Z"
        refused = await shell("bank", "suspend", "https://nobody.example/x", "--reason", "under-review")
        assert refused.exit_code == 1
        assert "没有此银行" in refused.stderr


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    nonsense.chmod(0o600)
    url = ("--url", "http://127.0.0.1:9", "--token", "any")
    words = ("bank", "call", "https://bank.example/a", str(nonsense), "POST", "/v1/bank/requests", "--kid", "k")
    assert "is no PEM private key" in run(*words, *url).stderr
    nonsense.chmod(0o644)
    assert "chmod 600" in run(*words, *url).stderr
    assert run("bank", "key", "https://bank.example/a", str(nonsense), *url).exit_code == 1


def test_an_existing_key_is_never_replaced(tmp_path: Path) -> None:
    for command in (("new-key", "--kid", "k"), ("entitlement-key",)):
        file = tmp_path / command[0]
        assert run("bank", command[0], str(file), *command[1:]).exit_code == 0
        before = file.read_bytes()
        assert run("bank", command[0], str(file), *command[1:]).exit_code == 0
        assert file.read_bytes() == before


def test_a_token_for_a_bank_names_it(tmp_path: Path) -> None:
    environment = {"TANPUHUI_DATA_DIR": str(tmp_path)}
    assert run("token", "bank", env=environment).exit_code == 1
    done = run("token", "bank", "--bank", "https://bank.example/green", env=environment)
    assert done.exit_code == 0
    assert done.stdout.count(".") == 2


@pytest.mark.parametrize("kind", ["OKP", "RSA"])
def test_of_a_private_key_nothing_private_is_sent(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "key.jwk"
    public = {"kty": kind, "kid": "k1", "x": "AAAA", "n": "BBBB", "e": "AQAB"}
    private = dict.fromkeys(("d", "p", "q", "dp", "dq", "qi", "oth", "k"), "secret")
    file.write_text(json.dumps(public | private), "utf-8")
    since = "2026-01-01T00:00:00Z"
    assert key_registration(file, since, None) == {"key": public, "valid_from": since}
    assert key_registration(file, since, since) == {"key": public, "valid_from": since, "valid_to": since}
    for text in ("", "[]", "{", '"key"'):
        file.write_text(text, "utf-8")
        with pytest.raises(typer.Exit):
            key_registration(file, since, None)
