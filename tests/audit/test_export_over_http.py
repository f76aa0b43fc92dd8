"""Taking a bundle away over HTTP, and by the command: who may, what is not there, and a way that breaks."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from api.cli import app as cli
from api.remote_log import RemoteLog
from ledger.bundle import read_bundle
from service.audit.source import ExportStopped
from service.audit.writing import export_bundle
from tests.audit.audited import EXPORTED, World, contents, export, filled
from tests.running import problem_of, served

pytestmark = pytest.mark.anyio

ROUTES = ("bundle", "evidence/000", f"rules/{'0' * 64}", "checkpoints", "manifests", "keys", "totals")


async def test_before_the_first_checkpoint_there_is_nothing(world: World, tmp_path: Path) -> None:
    shutil.rmtree(world.log.directory)
    with pytest.raises(ExportStopped, match="nothing of the log is signed yet"):
        await export(world, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    for route in ("bundle", "evidence/000", "checkpoints", "manifests", "keys", "totals"):
        answer = await world.api.client.get(f"/v1/audit/{route}", headers=world.api.bearer("auditor"))
        problem_of(answer, "log-not-found")


@pytest.mark.parametrize("route", ROUTES)
async def test_only_an_auditor_is_answered(world: World, route: str) -> None:
    path = f"/v1/audit/{route}"
    problem_of(await world.api.client.get(path), "unauthenticated")
    for role in ("operator", "participant", "provider"):
        subject = "00000000-0000-0000-0000-000000000007" if role == "participant" else "tests"
        source = "urn:tests:some" if role == "provider" else None
        bearer = world.api.bearer(role, subject, source=source)
        assert (
            problem_of(await world.api.client.get(path, headers=bearer), "forbidden")["missing_scope"] == "audit:read"
        )
    answer = await world.api.client.get(path, headers=world.api.bearer("auditor"))
    assert answer.status_code == (404 if "rules" in route else 200)
    assert answer.headers["cache-control"] == "no-store" or answer.status_code == 404


async def test_what_is_not_there_and_what_is_malformed_is_said(world: World) -> None:
    async def ask(path: str) -> httpx.Response:
        return await world.api.client.get(f"/v1/audit/{path}", headers=world.api.bearer("auditor"))

    for path in (
        "evidence/001", "evidence/0", "evidence/000.p/7", "evidence/x000/000", "evidence/%00", "evidence/000?size=999",
        "evidence/000?size=0", "totals?size=999", "manifests?size=999", "rules/x", f"rules/{'A' * 64}",
    ):  # fmt: skip
        problem_of(await ask(path), "log-not-found")
    for path in (
        "evidence/000?size=-1", "evidence/000?size=01", "totals?size=x", "manifests?after=-1", "manifests?after=%2B1",
        "checkpoints?after=1", "checkpoints?after=0:1", "checkpoints?to=1:01", "checkpoints?to=1:9:9",
    ):  # fmt: skip
        problem_of(await ask(path), "malformed-request")
    size = (await ask("bundle")).json()["size"]
    assert (await ask(f"checkpoints?after=1:{size}")).content == b""
    (last,) = (await ask(f"checkpoints?after=1:{size - 1}")).text.splitlines()
    assert json.loads(last)["size"] == str(size)


async def invoked(*words: str) -> Result:
    """What a command of `tanpuhui` says."""
    return await asyncio.to_thread(CliRunner().invoke, cli, words)


async def test_the_command_exports_over_http_and_says_what_is_wrong(world: World, tmp_path: Path) -> None:
    await filled(world)
    token = tmp_path / "token"

    async def run(role: str, *words: str) -> Result:
        source = "urn:tests:some" if role == "provider" else None
        bearer = world.api.bearer(role, source=source)["Authorization"]  # type: ignore[arg-type]  # one of the roles
        token.write_text(bearer.removeprefix("Bearer "), "utf-8")
        async with served(world.api) as url:
            arguments = ["audit", "export", str(tmp_path / "bundle"), "--url", url, "--token-file", str(token), *words]
            return await invoked(*arguments)

    for role in ("provider", "operator"):
        refused = await run(role)
        assert refused.exit_code == 1
        assert "the scope audit:read" in refused.stderr
        assert "审计方令牌" in refused.stderr
        assert not (tmp_path / "bundle").exists()
    done = await run("auditor", "--json", "--no-parquet")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["size"] == read_bundle(tmp_path / "bundle").size
    assert told["kept"] == 0
    assert not (tmp_path / "bundle/parquet").exists()
    again = await run("auditor")
    assert again.exit_code == 0, again.stderr
    assert "续自" in again.stdout
    token.write_text("two tokens", "utf-8")
    arguments = ["audit", "export", str(tmp_path / "bundle"), "--url", "http://127.0.0.1:9", "--token-file", str(token)]
    assert "one access token" in (await invoked(*arguments)).stderr
    assert "--token-file is for --url" in (await invoked("audit", "export", "x", "--token-file", "y")).stderr


async def test_the_command_exports_from_beside_the_database(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = await invoked("audit", "export", "bundle")
    assert nothing.exit_code == 1
    assert "no platform runs from here" in nothing.stderr
    monkeypatch.setenv("TANPUHUI_DATABASE_URL", world.database.auditor)
    monkeypatch.setenv("TANPUHUI_LOG_DIR", str(world.log.directory))
    shut = await invoked("audit", "export", "bundle", "--json")
    assert shut.exit_code == 1
    assert "no key-encryption keys" in shut.stderr  # a bundle without evidence would look like one that was erased
    monkeypatch.setenv("TANPUHUI_VAULT_KEY_FILE", str(world.api.platform.settings.vault_key_file))
    done = await invoked("audit", "export", "bundle", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["origin"] == "log.example.org/log"
    monkeypatch.setenv("TANPUHUI_LOG_DIR", str(tmp_path))
    elsewhere = await invoked("audit", "export", "bundle")
    assert "nothing of the log is signed yet" in elsewhere.stderr


async def test_a_way_that_breaks_is_tried_again(world: World, tmp_path: Path) -> None:
    """Busy answers, lost connections, answers that break off, and a token that ended: the bundle is the same."""
    await filled(world)
    await export(world, tmp_path / "beside")
    way = _Breaking(world)
    token = world.api.bearer("auditor")["Authorization"].removeprefix("Bearer ")
    tokens = iter(["outdated", *[token] * 100])
    async with RemoteLog("http://tests", lambda: next(tokens), transport=way, pause_s=0) as source:
        await export_bundle(source, tmp_path / "over", EXPORTED)
    assert contents(tmp_path / "over") == contents(tmp_path / "beside")
    assert {"busy", "lost", "cut"} <= way.done
    async with RemoteLog("http://tests", lambda: "outdated", transport=way, pause_s=0) as source:
        with pytest.raises(ExportStopped, match="valid auditor's token"):
            await export_bundle(source, tmp_path / "over", EXPORTED)


class _Breaking(httpx.AsyncBaseTransport):
    """The API, of which each address fails in some way the first times it is asked."""

    def __init__(self, world: World) -> None:
        self._inner = world.api.client._transport
        self._asked: dict[str, int] = {}
        self.done: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = self._asked[request.url.path] = self._asked.get(request.url.path, 0) + 1
        if asked == 1:
            self.done.add("busy")
            return httpx.Response(503, headers={"Retry-After": "0"})
        if asked == 2:
            self.done.add("lost")
            raise httpx.ConnectError("lost")
        answer = await self._inner.handle_async_request(request)
        if asked == 3 and answer.status_code == 200 and "/evidence/" in request.url.path:
            self.done.add("cut")
            return httpx.Response(200, stream=_Cut(await answer.aread()))
        return answer


class _Cut(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content[: len(self._content) // 2]
        raise httpx.RemoteProtocolError("cut")
