"""Webhooks over HTTP: registering, secrets shown once, tests, replays, dead letters, and events by GET for banks."""

import itertools
import json
import os
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from standardwebhooks import Webhook

from ledger.log_store import sequence
from service.clock import system_clock, uuid7
from service.webhooks.endpoints import MOST_OF_A_BANK
from service.webhooks.loop import Deliveries
from service.webhooks.sending import open_sender
from tests.conftest import Database
from tests.running import Api, pooled, problem_of, running_api
from tests.service.webhooks.world import canonical, receiving, step

pytestmark = pytest.mark.anyio

_numbers = itertools.count(1)
URL = "https://bank.example/hooks"


async def a_bank(api: Api) -> str:
    """A newly registered bank; its URI."""
    uri = f"https://bank.example/{os.getpid()}-{next(_numbers)}"
    body = {"uri": uri, "title_zh": "示例银行", "title_en": "Example bank"}
    answer = await api.client.put("/v1/banks", headers=api.bearer("operator"), json=body)
    assert answer.status_code == 200, answer.text
    return uri


async def call(api: Api, bank: str, method: str, path: str, **options: Any) -> httpx.Response:
    headers = api.bearer("bank", bank=bank) | {"Accept-Language": "en"}
    return await api.client.request(method, f"/v1/webhooks{path}", headers=headers, **options)


async def added(api: Api, bank: str, url: str = URL, **more: Any) -> dict[str, Any]:
    answer = await call(api, bank, "POST", "", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def logged(database: Database, *leaves: dict[str, Any]) -> None:
    async with pooled(database.app) as app, app.acquire() as connection:
        for leaf in leaves:
            transfer = UUID(leaf["transfer"]) if "transfer" in leaf else None
            owner = None if transfer is None else uuid4()
            await connection.execute(
                "INSERT INTO ledger.leaf_queue (participant_id, transfer_id, leaf) VALUES ($1, $2, $3)",
                owner,
                transfer,
                canonical(leaf),
            )
    async with pooled(database.sequencer) as worker, worker.acquire() as connection, connection.transaction():
        await sequence(connection)


async def delivered(api: Api, database: Database) -> None:
    """Do what the worker does until nothing is due."""
    async with pooled(database.sequencer) as pool, open_sender(private_allowed=True) as sender:
        deliveries = Deliveries(pool, api.platform.keyring, sender, system_clock())
        while await deliveries.step() or deliveries.under_way:
            await deliveries.rest(20)


def redemption() -> UUID:
    return uuid7(datetime.now(UTC), secrets.token_bytes(10))


async def test_a_bank_adds_reads_changes_and_deletes(api: Api) -> None:
    bank = await a_bank(api)
    made = await added(api, bank, kinds=["hold", "capture", "hold"])
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert made["kinds"] == ["hold", "capture"]
    assert (made["state"], made["because"], made["waiting"], made["dead"]) == ("active", None, 0, 0)
    path = f"/{made['webhook_id']}"
    shown = await call(api, bank, "GET", path)
    assert shown.json() == made
    listed = await call(api, bank, "GET", "")
    assert listed.json() == {"webhooks": [made]}
    assert secret not in shown.text + listed.text
    changed = await call(api, bank, "PATCH", path, json={"state": "paused", "kinds": [], "url": URL + "/2"})
    assert (changed.json()["state"], changed.json()["kinds"], changed.json()["url"]) == ("paused", [], URL + "/2")
    assert (await call(api, bank, "PATCH", path, json={})).json()["state"] == "paused"
    assert (await call(api, bank, "DELETE", path)).status_code == 204
    problem_of(await call(api, bank, "GET", path), "webhook-not-found")


async def test_another_banks_webhook_is_not_there(api: Api) -> None:
    mine, other = await a_bank(api), await a_bank(api)
    path = f"/{(await added(api, mine))['webhook_id']}"
    calls = [
        ("GET", path, None),
        ("PATCH", path, {}),
        ("DELETE", path, None),
        ("POST", f"{path}/secrets", {}),
        ("POST", f"{path}/test", None),
        ("POST", f"{path}/replay", {"from_index": 0}),
        ("GET", f"{path}/messages", None),
        ("GET", f"{path}/attempts", None),
        ("POST", f"{path}/messages/evt_1/retry", None),
    ]
    for method, where, body in calls:
        problem_of(await call(api, other, method, where, json=body), "webhook-not-found")
    assert (await call(api, other, "GET", "")).json() == {"webhooks": []}
    problem_of(await call(api, mine, "POST", f"{path}/messages/evt_1/retry"), "webhook-message-not-found")


async def test_who_may_not(api: Api) -> None:
    problem_of(await call(api, "https://unknown.example/bank", "GET", ""), "bank-not-registered")
    for headers in (api.bearer("operator"), api.bearer("auditor"), {}):
        answer = await api.client.get("/v1/webhooks", headers=headers)
        problem_of(answer, "forbidden" if headers else "unauthenticated")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": 7}, "/url"),
        ({"url": URL, "kinds": ["credit"]}, "/kinds/0"),
        ({"url": URL, "from_index": -1}, "/from_index"),
        ({"url": URL, "secret": "whsec_mine"}, "/secret"),
    ],
)
async def test_a_body_that_is_not_as_expected(api: Api, body: dict[str, Any], pointer: str) -> None:
    problem = problem_of(await call(api, await a_bank(api), "POST", "", json=body), "malformed-request")
    assert problem["errors"][0]["pointer"] == pointer


async def test_so_many_and_no_more(api: Api) -> None:
    bank = await a_bank(api)
    for _ in range(MOST_OF_A_BANK):
        await added(api, bank)
    problem = problem_of(await call(api, bank, "POST", "", json={"url": URL}), "webhook-limit")
    assert problem["limit"] == str(MOST_OF_A_BANK)


async def test_an_address_that_is_refused_says_why(api: Api) -> None:
    bank = await a_bank(api)
    made = await added(api, bank)
    for url, reason in (("ftp://bank.example", "not-https"), ("https://a:b@bank.example", "carries-credentials")):
        for method, path in (("POST", ""), ("PATCH", f"/{made['webhook_id']}")):
            answer = await call(api, bank, method, path, json={"url": url})
            assert problem_of(answer, "webhook-address-refused")["reason"] == reason


async def test_outside_development_no_private_address(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = await a_bank(api)
    monkeypatch.setattr(api.platform, "settings", api.platform.settings.model_copy(update={"mode": "production"}))
    for url, reason in (
        ("http://bank.example/hooks", "not-https"),
        ("https://127.0.0.1/hooks", "private-address"),
        ("https://localhost/hooks", "private-address"),
        ("https://169.254.169.254/latest/meta-data", "private-address"),
        ("https://[::ffff:10.0.0.1]/hooks", "private-address"),
        ("https://nowhere.invalid/hooks", "name-unknown"),
    ):
        answer = await call(api, bank, "POST", "", json={"url": url})
        assert problem_of(answer, "webhook-address-refused")["reason"] == reason, url


@pytest.fixture
async def fresh(fresh_database: Database, tmp_path: Path) -> AsyncIterator[tuple[Api, Database]]:
    async with running_api(fresh_database.app, fresh_database.redis, tmp_path) as api:
        yield api, fresh_database


async def test_from_the_log_to_the_bank_and_what_became_of_it(fresh: tuple[Api, Database]) -> None:
    api, database = fresh
    bank, mine = await a_bank(api), redemption()
    async with receiving() as receiver:
        made = await added(api, bank, receiver.url)
        path = f"/{made['webhook_id']}"
        tested = await call(api, bank, "POST", f"{path}/test")
        assert tested.status_code == 202
        await delivered(api, database)
        assert receiver.heard[0].id == tested.json()["message_id"]
        first = receiver.heard[0]
        # the reference library, with the real time and the headers as they came
        assert Webhook(made["secret"]).verify(first.body, dict(first.headers)) == first.document

        rotated = (await call(api, bank, "POST", f"{path}/secrets", json={"overlap_hours": 1})).json()
        receiver.answer = lambda heard: 500 if heard.document["type"].endswith("hold.v1") else 200
        await logged(database, step("hold", mine, bank), step("hold", redemption()), step("capture", mine, bank))
        await delivered(api, database)
        assert [each.index for each in receiver.heard[1:]] == [0]
        for secret in (made["secret"], rotated["secret"]):
            Webhook(secret).verify(receiver.heard[1].body, dict(receiver.heard[1].headers))
        waiting = (await call(api, bank, "GET", path)).json()
        assert (waiting["waiting"], waiting["dead"], waiting["queued_to"]) == (2, 0, 2)
        attempts = (await call(api, bank, "GET", f"{path}/attempts")).json()["attempts"]
        assert [(each["kind"], each["delivered"], each["status"], each["fault"]) for each in attempts] == [
            ("hold", False, 500, "refused"),
            ("test", True, 204, None),
        ]

        receiver.answer = lambda _: 200
        message = receiver.heard[1].id
        assert (await call(api, bank, "POST", f"{path}/messages/{message}/retry")).status_code == 202
        await delivered(api, database)
        assert [each.index for each in receiver.heard[2:]] == [0, 2]
        found = (await call(api, bank, "GET", f"{path}/messages?state=delivered&limit=2")).json()["messages"]
        assert [(each["place"], each["kind"], each["failed"]) for each in found] == [(2, "capture", 0), (0, "hold", 0)]
        assert (await call(api, bank, "GET", f"{path}/messages?state=dead")).json() == {"messages": []}
        assert (await call(api, bank, "GET", f"{path}/messages?before=1")).json()["messages"][0]["place"] == 0

        assert (await call(api, bank, "POST", f"{path}/replay", json={"from_index": 1})).json()["queued_to"] == 0
        await delivered(api, database)
        assert [each.index for each in receiver.heard[4:]] == [2]


async def test_a_bank_reads_its_events_and_no_others(fresh: tuple[Api, Database]) -> None:
    api, database = fresh
    bank, other = await a_bank(api), await a_bank(api)
    mine = redemption()
    statement = {
        "at": "2026-06-02T00:00:10Z",
        "bank": bank,
        "day": "2026-06-01",
        "digest": "cd" * 32,
        "kind": "statement",
        "nonce": "00" * 16,
        "programme": "demo",
        "sequence": "1",
        "size": "3",
        "state": "issued",
        "v": "1",
    }
    await logged(
        database,
        step("hold", mine, bank),
        step("hold", redemption(), other),
        step("capture", mine, bank),
        statement,
        statement | {"bank": other},
        step("release", mine, bank),
    )
    headers = api.bearer("bank", bank=bank)
    page = (await api.client.get("/v1/events", headers=headers)).json()
    assert [(event["id"], event["type"]) for event in page["events"]] == [
        ("0", "org.tanpuhui.log.hold.v1"),
        ("2", "org.tanpuhui.log.capture.v1"),
        ("3", "org.tanpuhui.log.statement.v1"),
        ("5", "org.tanpuhui.log.release.v1"),
    ]
    assert page["next"] == 5
    told = page["events"][0]["data"]
    assert told["redemption_id"] == str(mine)
    assert "pseudonym" not in json.dumps(page)
    assert "counter" not in told

    seen: list[str] = []
    after = -1
    while after < 5:  # page by page the same events, none twice and none left out
        part = (await api.client.get(f"/v1/events?after={after}&limit=1", headers=headers)).json()
        seen += [event["id"] for event in part["events"]]
        assert part["next"] > after
        after = part["next"]
    assert seen == ["0", "2", "3", "5"]
