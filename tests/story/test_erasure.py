"""Somebody with an identity, rides, a redemption and a dispute is forgotten: a search byte by byte of everything that a
platform keeps and gives away finds nothing of them, and the log still checks to the last entry."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import redis

from api.auth import DevelopmentIssuer
from api.oauth.exchange import GRANT_TYPE, ID_TOKEN
from api.signatures import SigningKey, public_jwk, sign_call, sign_report
from service.embedded.postgresql import _installed_programs
from tests.api.bankers import new_key
from tests.api.identity_provider import AUDIENCE, RealProvider, real_provider
from tests.running import BATCH, ride
from tests.service.products.documents import offer_fields, product_fields
from tests.story.clients import ROOT, Served, environment, room
from tests.story.searching import files_of, search

pytestmark = pytest.mark.anyio

TERMS = "sample-terms-1"
RIDES = 6
PUBLISHED_WITHIN_S = 60.0  # on a busy machine; three seconds otherwise


@dataclass(slots=True)
class Town:
    """A platform with its city's identity provider, one source that signs and one bank."""

    served: Served
    client: httpx.AsyncClient
    issuer: DevelopmentIssuer
    source: str = "urn:tests:story:bikes"
    bank: str = "https://bank.example/story"
    key: SigningKey = field(default_factory=lambda: new_key("key-1"))
    offer: dict[str, Any] = field(default_factory=dict)

    async def ask(self, method: str, path: str, token: str, **rest: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Accept-Language": "en"} | rest.pop("headers", {})
        answer = await self.client.request(method, path, headers=headers, **rest)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    async def operate(self, method: str, path: str, body: Any, who: str = "anna") -> dict[str, Any]:
        answer = await self.ask(method, path, self.issuer.issue("operator", who), json=body)
        return dict(answer.json())

    async def found(self) -> None:
        """Register the source, the bank, a pool and an offer."""
        titles = {"title_zh": "故事", "title_en": "A story"}
        grade = {"grade": "A", "scenarios": ["shared-ebike"], "valid_from": "2016-01-01"}
        since = {"key": public_jwk(self.key), "valid_from": "2026-01-01T00:00:00+08:00"}
        await self.operate("PUT", "/v1/sources", {"uri": self.source, **titles, **grade})
        await self.operate("PUT", "/v1/sources/keys", {"uri": self.source, **since})
        await self.operate("PUT", "/v1/banks", {"uri": self.bank, **titles})
        bank_key = new_key("key-2")
        await self.operate("PUT", "/v1/banks/keys", {"bank": self.bank, **since, "key": public_jwk(bank_key)})
        self.bank_key = bank_key
        terms = {"pool": "story", "funder": "https://fund.example", **titles, "rate_fen": 10, "rate_points": 1}
        await self.operate("PUT", "/v1/pools", terms | {"shortage": "stop", "points": 10_000, "value_fen": 100_000})
        goods = product_fields(bank=self.bank)
        self.offer = offer_fields(bank=self.bank, product=goods["id"], pool="story")
        for document in (goods, self.offer):
            await self.operate("PUT", "/v1/products/documents", {"document": orjson.dumps(document).decode()})
            path = f"/v1/products/documents/{document['kind']}/{document['id']}/1/approve"
            for who in ("anna", "bo"):
                await self.operate("POST", path, {}, who)
        app = {"client_id": "app", "role": "participant", "title_zh": "应用", "title_en": "An app"}
        await self.operate("PUT", "/v1/clients", app)

    bank_key: SigningKey = field(default_factory=lambda: new_key("key-2"))

    async def report(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A signed batch of the source; its outcomes."""
        body = orjson.dumps(events)
        signed = sign_report(
            self.key,
            "POST",
            f"{self.served.url}/v1/activities",
            body,
            content_type=BATCH,
            created=datetime.now(UTC),
            nonce=os.urandom(16).hex(),
        )
        token = self.issuer.issue("provider", "story", source=self.source)
        answer = await self.ask("POST", "/v1/activities", token, content=body, headers=signed)
        return list(answer.json()["outcomes"])

    async def bank_says(self, path: str, content: Any) -> dict[str, Any]:
        body = orjson.dumps(content)
        signed = sign_call(
            self.bank_key,
            "POST",
            self.served.url + path,
            body,
            created=datetime.now(UTC),
            nonce=os.urandom(16).hex(),
            idempotency_key=os.urandom(8).hex(),
        )
        headers = {"Content-Type": "application/json"} | signed
        token = self.issuer.issue("bank", "story", bank=self.bank)
        return dict((await self.ask("POST", path, token, content=body, headers=headers)).json())


@asynccontextmanager
async def town(directory: Path, city: RealProvider) -> AsyncIterator[Town]:
    settings = {"citizen_issuer": city.issuer, "citizen_audience": AUDIENCE}
    served = Served(directory / "data", log_every="1", **settings)
    served._environment["TANPUHUI_LOG_LEVEL"] = "info"  # every request is logged
    with served:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as client:
            yield Town(served, client, DevelopmentIssuer(served.data_dir))


@dataclass(slots=True)
class Citizen:
    """Somebody, their token, and every value that says who they are or what they did."""

    name: str
    participant_id: str
    token: str
    values: set[bytes]


async def live(town: Town, city: RealProvider) -> Citizen:
    """Sign in, ride, redeem, quarrel."""
    sub, subject = f"sub-{os.urandom(9).hex()}", f"rider-{os.urandom(9).hex()}"
    name, telephone = f"慕容小满{os.urandom(4).hex()}", f"139-{os.urandom(6).hex()}"
    form = {"grant_type": GRANT_TYPE, "client_id": "app", "subject_token_type": ID_TOKEN, "terms": TERMS}
    form["subject_token"] = city.sign_in(sub, {"name": name, "birthdate": "1990-02-03"})
    token = (await town.client.post("/v1/oauth/token", data=form)).json()["access_token"]
    person = (await town.ask("GET", "/v1/me", token)).json()["participant_id"]
    await town.ask("PATCH", "/v1/me", token, json={"name": name})
    consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
    link = {"source": town.source, "subject": subject, "consent": consent}
    await town.operate("POST", f"/v1/participants/{person}/links", link)
    events = [
        ride(
            town.source,
            subject,
            f"event-{os.urandom(9).hex()}",
            started_at=f"2026-05-0{number + 1}T08:00:00+08:00",
            ended_at=f"2026-05-0{number + 1}T08:12:00+08:00",
            references={"operator": "bikes", "order": f"order-{os.urandom(9).hex()}"},
        )
        for number in range(RIDES)
    ]
    outcomes = await town.report(events)
    assert [one["outcome"] for one in outcomes] == ["credited"] * RIDES, outcomes
    await redeem(town, person, token, name, telephone)
    values = {sub.encode(), subject.encode(), name.encode(), telephone.encode()}
    values |= {event["id"].encode() for event in events}
    values |= {event["data"]["references"]["order"].encode() for event in events}
    return Citizen(name, person, token, values)


async def redeem(town: Town, person: str, token: str, name: str, telephone: str) -> None:
    """Redeem two units, dispute it, and let the bank answer."""
    await asyncio.sleep(1.5)  # the board is read once a second
    consent = {"text_version": town.offer["consent"]["text_version"], "given_at": datetime.now(UTC).isoformat()}
    wanted = {"offer": town.offer["id"], "version": 1, "units": 2, "points": 20, "consent": consent}
    base = f"/v1/participants/{person}/redemptions"
    key = {"Idempotency-Key": f'"{os.urandom(9).hex()}"'}
    held = (await town.ask("POST", base, token, json=wanted, headers=key)).json()
    mine = f"{base}/{held['redemption']['redemption_id']}"
    at_bank = f"/v1/bank/redemptions/{held['redemption']['redemption_id']}"
    entitlement = (await town.ask("POST", f"{mine}/entitlement", token)).json()["entitlement"]
    await town.bank_says(f"{at_bank}/accept", {"entitlement": entitlement})
    await town.bank_says(f"{at_bank}/capture", {"units": 2})
    words = f"我是{name}，电话 {telephone}，优惠没有到账"
    opened = await town.ask("POST", f"{mine}/disputes", token, json={"reason": "benefit_missing", "words": words})
    answered = {"position": "rejects", "words": f"{name} was paid"}
    await town.bank_says(f"{at_bank}/disputes/{opened.json()['dispute_id']}/answer", answered)


async def take_a_copy(town: Town, citizen: Citizen) -> Mapping[str, list[Any]]:
    """The person's own copy of everything; its salts are among what is searched for."""
    copy = (await town.ask("GET", "/v1/me/export", citizen.token)).json()
    told: dict[str, list[Any]] = {section["name"]: section["items"] for section in copy["sections"]}
    for name in ("evidence", "terms"):
        citizen.values |= {bytes.fromhex(item["salt"]) for item in told[name]}
    return told


async def erase(town: Town, citizen: Citizen) -> None:
    answer = await town.ask("POST", "/v1/me/erasure", citizen.token, json={"confirm": "erase-my-account"})
    assert answer.json()["state"] == "done", answer.text
    refused = await town.client.get("/v1/me", headers={"Authorization": f"Bearer {citizen.token}"})
    assert refused.status_code == 401


def run(town: Town, *arguments: str, module: str = "api.cli") -> "subprocess.CompletedProcess[str]":
    """A command to its end, as an operator or an auditor runs it."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment(town.served.data_dir),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


async def export(town: Town, directory: Path, entries: int) -> None:
    """An auditor's bundle, once the log has come as far as the books."""
    give_up = time.monotonic() + PUBLISHED_WITHIN_S
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        done = await asyncio.to_thread(run, town, "audit", "export", str(directory), "--no-parquet", "--json")
        if done.returncode == 0 and int(json.loads(done.stdout.splitlines()[-1])["size"]) >= entries:
            return
        assert time.monotonic() < give_up, done.stdout + done.stderr
        await asyncio.sleep(0.5)


def dump(town: Town, directory: Path) -> None:
    """Everything that is in the database and in the cache, as their own programs write it down."""
    ports, passwords = town.served.secrets()
    url = f"postgresql://postgres:{passwords['postgres']}@127.0.0.1:{ports['tanpuhui']}/tanpuhui"
    with (directory / "database.sql").open("wb") as file:
        subprocess.run([_installed_programs() / "pg_dump", "--inserts", url], stdout=file, check=True)
    assert (directory / "database.sql").stat().st_size > 10_000
    with redis.Redis(port=ports["redis"], password=passwords["redis"]) as cache:
        lines = [b"%b %b" % (name, cache.dump(name) or b"") for name in cache.scan_iter()]
    (directory / "cache").write_bytes(b"\n".join(lines))


async def test_a_search_finds_nothing_of_who_was_forgotten() -> None:
    with room() as directory, real_provider() as city:
        async with town(directory, city) as here:
            await here.found()
            citizen, other = await asyncio.gather(live(here, city), live(here, city))
            told = await take_a_copy(here, citizen)
            assert (len(told["evidence"]), len(told["terms"]), len(told["dispute_words"])) == (RIDES, 1, 2)
            after, left = directory / "after", directory / "left"
            await erase(here, citizen)
            await export(here, after, 2 * (RIDES + 2))
            left.mkdir()
            dump(here, left)
            await verify(here, after)
            # The other one lost nothing, and whoever is searched for is found where they are.
            still = await take_a_copy(here, other)
            assert len(still["evidence"]) == RIDES
            assert search(files_of(after), other.values)
        logs = [here.served.data_dir / "platform.log", here.served.output]
        sealed = citizen.values - {citizen.name.encode()}  # which the bank wrote, into a row that is gone
        assert search([*files_of(after, left), *logs], citizen.values) == []
        # Pages, journals and all, which hold bytes as they are: it never lay there open.
        assert search(files_of(here.served.data_dir), sealed, plain=True) == []


async def verify(town: Town, bundle: Path) -> None:
    """The bundle checks, and says what it could not check."""
    verified, replayed, checked = await asyncio.gather(
        asyncio.to_thread(run, town, "verify", str(bundle), module="ledger"),
        asyncio.to_thread(run, town, "audit", "replay", str(bundle), "--json"),
        asyncio.to_thread(run, town, "ledger", "check", "--json"),
    )
    for done in (verified, replayed, checked):
        assert done.returncode == 0, done.stdout + done.stderr
    unchecked = {one["code"]: one["count"] for one in json.loads(replayed.stdout)["not_checked"]}
    assert (unchecked["evidence-erased"], unchecked["terms-erased"], unchecked["report-erased"]) == (RIDES, 1, 1)
