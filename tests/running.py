"""The API as tests drive it: in this process, with tokens of the development issuer; sources and people on demand."""

import asyncio
import base64
import itertools
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvicorn
from typer.testing import CliRunner, Result

from api.app import create_app
from api.auth import DevelopmentIssuer, Role
from api.cli import app as cli
from api.platform import Platform
from api.problems import MEDIA_TYPE, PROBLEM_TYPES
from service.database import Pool, open_pool
from service.keyring import create_private_file
from service.organisations import check_character
from service.settings import Settings
from service.vault import Vault

EVENT, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
KEYRING = b'{"current": 1, "keys": {"1": "%s"}}' % base64.b64encode(b"a key for tests, of 32 bytes ...")
"""One for all: a database knows its keyring, and several APIs run over the tests' database."""
MASTERS = b'{"keys": {"1": "%s"}}' % base64.b64encode(b"vault's key for tests, 32 bytes.")
"""The vault's, one for all likewise."""
_numbers = itertools.count(1)


@cache
def vault_for_tests() -> Vault:
    """The vault of the tests' databases, for what runs beside an API."""
    with tempfile.TemporaryDirectory() as folder:
        masters = Path(folder) / "vault.keys.json"
        create_private_file(masters, MASTERS)
        return Vault(masters)


@dataclass(frozen=True, slots=True)
class Person:
    """An enrolled participant as one source knows it."""

    participant_id: str
    link_id: str
    source: str
    subject: str


@dataclass(slots=True)
class Api:
    """A running API: its client, and what a provider, an operator and a participant do with it."""

    client: httpx.AsyncClient
    issuer: DevelopmentIssuer
    platform: Platform
    _tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    def bearer(
        self, role: Role, subject: str = "tests", *, source: str | None = None, bank: str | None = None
    ) -> dict[str, str]:
        """An Authorization header."""
        key = (role, source or bank or subject)
        if key not in self._tokens:
            self._tokens[key] = self.issuer.issue(role, subject, source=source, bank=bank)
        return {"Authorization": f"Bearer {self._tokens[key]}"}

    async def source(self, **changes: Any) -> str:
        """A newly registered source; its URI."""
        uri = f"urn:tests:source:{os.getpid()}-{next(_numbers)}-{os.urandom(4).hex()}"
        body: dict[str, Any] = {"uri": uri, "title_zh": "测试数据方", "title_en": "A test provider", "grade": "A"}
        if "licences" not in changes:
            body |= {"scenarios": ["shared-ebike"], "valid_from": "2016-01-01"}
        answer = await self.client.put("/v1/sources", headers=self.bearer("operator"), json=body | changes)
        if answer.status_code == 202:  # of a platform that needs two people
            headers = self.bearer("operator", "second") | {"Approves": answer.json()["proposal_id"]}
            answer = await self.client.put("/v1/sources", headers=headers, json=body | changes)
        assert answer.status_code == 200, answer.text
        return uri

    async def person(
        self,
        source: str | None = None,
        *,
        subject: str | None = None,
        kind: str = "citizen",
        code: str | None = None,
    ) -> Person:
        """A newly enrolled participant, linked to a source with consent; an organisation has a code of its own unless
        one is given."""
        source = source or await self.source()
        subject = subject or f"rider {next(_numbers)}"
        consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
        body: dict[str, Any] = {"kind": kind, "links": [{"source": source, "subject": subject, "consent": consent}]}
        if kind != "citizen":
            body["organisation"] = organisation(code or credit_code())
        answer = await self.client.post("/v1/participants", headers=self.bearer("operator"), json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Person(made["participant_id"], made["links"][0]["link_id"], source, subject)

    async def report(self, source: str, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Post a batch; its outcomes."""
        headers = self.bearer("provider", source=source) | {"Content-Type": BATCH, "Accept-Language": "en"}
        answer = await self.client.post("/v1/activities", headers=headers, content=orjson.dumps(events))
        assert answer.status_code == 200, answer.text
        outcomes: list[dict[str, Any]] = answer.json()["outcomes"]
        return outcomes

    async def report_one(self, source: str, event: Mapping[str, Any]) -> httpx.Response:
        """Post a single event; the answer."""
        headers = self.bearer("provider", source=source) | {"Content-Type": EVENT, "Accept-Language": "en"}
        return await self.client.post("/v1/activities", headers=headers, content=orjson.dumps(event))

    async def unlink(self, person: Person) -> None:
        """Withdraw the consent a person's link rests on."""
        path = f"/v1/participants/{person.participant_id}/links/{person.link_id}"
        answer = await self.client.delete(path, headers=self.bearer("operator"))
        assert answer.status_code == 204, answer.text

    async def read(self, participant_id: str, rest: str, **headers: str) -> httpx.Response:
        """Read `rest` of what belongs to a participant (`balance`, `statement?limit=2`), as that participant."""
        path = f"/v1/participants/{participant_id}/{rest}"
        return await self.client.get(path, headers=self.bearer("participant", participant_id) | headers)

    async def statement(self, participant_id: str, *, limit: int = 50) -> list[dict[str, Any]]:
        """Every transfer of a participant, newest first, page by page."""
        transfers: list[dict[str, Any]] = []
        after = ""
        while True:
            answer = await self.read(participant_id, f"statement?limit={limit}{after}")
            assert answer.status_code == 200, answer.text
            page = answer.json()
            transfers += page["transfers"]
            if page["next"] is None:
                return transfers
            after = f"&after={page['next']}"

    async def balance(self, participant_id: str) -> dict[str, Any]:
        """A participant's balance, read as the participant."""
        headers = self.bearer("participant", participant_id)
        answer = await self.client.get(f"/v1/participants/{participant_id}/balance", headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def reverse(self, participant_id: str, transfer_id: str, reason: str = "posted_in_error") -> httpx.Response:
        """Reverse a credit, as an operator."""
        path = f"/v1/participants/{participant_id}/transfers/{transfer_id}/reversal"
        return await self.client.post(path, headers=self.bearer("operator"), json={"reason": reason})


def credit_code() -> str:
    """A unified social credit code of nobody's."""
    first = f"91310000MA{os.urandom(4).hex().upper()[:7]}"
    return first + check_character(first)


def organisation(code: str) -> dict[str, Any]:
    """What an enrolment says of an organisation."""
    return {"code": code, "mandate": {"text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}}


def ride(source: str, subject: str, event_id: str | None = None, *, km: str = "2.35", **data: Any) -> dict[str, Any]:
    """A ride of twelve minutes that is credited 35.01 g/km; `data` replaces fields of its data."""
    return {
        "specversion": "1.0",
        "id": event_id or f"ride-{next(_numbers)}-{os.urandom(4).hex()}",
        "source": source,
        "type": "org.tanpuhui.activity.v1",
        "subject": subject,
        "data": {
            "scenario": "shared-ebike",
            "started_at": "2026-05-01T08:00:00+08:00",
            "ended_at": "2026-05-01T08:12:00+08:00",
            "inputs": {"distance_km": km},
        }
        | data,
    }


def problem_of(answer: httpx.Response, slug: str) -> dict[str, Any]:
    """The problem document of an answer, which must be a whole one of this type."""
    document: dict[str, Any] = answer.json()
    kind = PROBLEM_TYPES[slug]
    assert answer.headers["content-type"] == MEDIA_TYPE, answer.text
    assert (answer.status_code, document["type"]) == (kind.status, kind.uri or f"urn:tanpuhui:problem:{slug}"), document
    assert document["status"] == kind.status
    assert document["title"] in kind.title
    assert document["detail"]
    assert "{" not in document["detail"]
    assert answer.headers["content-language"] in ("zh-CN", "en")
    assert answer.headers["vary"] == "Accept-Language"
    return document


@asynccontextmanager
async def pooled(url: str, size: int = 2) -> AsyncIterator[Pool]:
    """Connections of one role, as the platform opens them."""
    pool = await open_pool(url, name="tests", size=size)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def running_api(database_url: str, redis_url: str | None, data_dir: Path, **changes: Any) -> AsyncIterator[Api]:
    """Run an API in this process. `changes` are settings."""
    keyring = data_dir / "keyring.json"
    create_private_file(keyring, KEYRING)
    masters = data_dir / "vault.keys.json"
    create_private_file(masters, MASTERS)
    issuer = DevelopmentIssuer(data_dir)
    settings = Settings(
        data_dir=data_dir,
        database_url=database_url,
        redis_url=redis_url,
        keyring_file=keyring,
        vault_key_file=masters,
        log_level="error",
        **{"address_requests_burst": 1_000_000, **changes},  # every test comes from one address, many without a token
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://tests") as client:
            yield Api(client, issuer, app.state.platform)


@asynccontextmanager
async def served(api: Api) -> AsyncIterator[str]:
    """The API on a port of this machine, for what speaks HTTP by itself; its address."""
    transport = api.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    server = uvicorn.Server(uvicorn.Config(transport.app, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def run_as_provider(api: Api, source: str, directory: Path, *words: str) -> Result:
    """Run a command of `tanpuhui` as a data provider, at this API."""
    token = directory / "token"
    token.write_text(api.bearer("provider", source=source)["Authorization"].removeprefix("Bearer "), "utf-8")
    async with served(api) as url:
        arguments = [*words, "--source", source, "--url", url, "--token-file", str(token), "--json"]
        return await asyncio.to_thread(CliRunner().invoke, cli, arguments)
