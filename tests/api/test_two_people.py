"""What moves money or rules needs two operators, and nobody is both of them."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.signatures import public_jwk
from tests.api.bankers import new_key
from tests.conftest import Database
from tests.running import Api, problem_of, ride, running_api

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def firm(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """A platform that needs two people."""
    async with running_api(database.app, database.redis, tmp_path_factory.mktemp("firm"), two_person=True) as running:
        yield running


async def ask(
    api: Api, who: str, method: str, path: str, body: Any, approves: str | None = None, **more: Any
) -> httpx.Response:
    headers = api.bearer("operator", who) | more.get("headers", {})
    headers |= {"Approves": approves} if approves else {}
    return await api.client.request(method, path, headers=headers, json=body)


async def proposed(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert document.keys() == {"proposal_id", "expires_at"}
    found: str = document["proposal_id"]
    return found


async def both(api: Api, method: str, path: str, body: Any, **more: Any) -> httpx.Response:
    """What two operators agree on."""
    proposal = await proposed(await ask(api, "ann", method, path, body, **more))
    return await ask(api, "bo", method, path, body, proposal, **more)


def auditor(**changes: Any) -> dict[str, Any]:
    client_id = f"two-{os.urandom(4).hex()}"
    return {"client_id": client_id, "role": "auditor", "title_zh": "审计", "title_en": "Audit"} | changes


def refused(answer: httpx.Response, reason: str) -> None:
    assert problem_of(answer, "proposal-refused")["reason"] == reason


async def known(api: Api, client_id: str) -> int:
    answer = await api.client.get(f"/v1/clients?client_id={client_id}", headers=api.bearer("operator"))
    return answer.status_code


async def test_one_proposes_another_approves_once(firm: Api) -> None:
    body = auditor()
    proposal = await proposed(await ask(firm, "ann", "PUT", "/v1/clients", body))
    assert await known(firm, body["client_id"]) == 404  # nothing is done yet
    refused(await ask(firm, "ann", "PUT", "/v1/clients", body, proposal), "own")
    refused(await ask(firm, "bo", "PUT", "/v1/clients", body | {"title_en": "Evil"}, proposal), "other")
    refused(await ask(firm, "bo", "PUT", "/v1/clients", body, str(uuid4())), "unknown")
    for text in ("x", proposal.upper(), proposal + "0", "{" + proposal + "}"):
        refused(await ask(firm, "bo", "PUT", "/v1/clients", body, text), "malformed")
    assert (await ask(firm, "bo", "PUT", "/v1/clients", body, proposal)).status_code == 200
    assert await known(firm, body["client_id"]) == 200
    refused(await ask(firm, "bo", "PUT", "/v1/clients", body, proposal), "used")
    refused(await ask(firm, "cy", "PUT", "/v1/clients", body, proposal), "used")
    async with firm.platform.pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT p.method, p.target, p.proposed_by, a.approved_by FROM service.operator_proposal p"
            " JOIN service.operator_approval a USING (proposal_id) WHERE proposal_id = $1",
            proposal,
        )
    assert row is not None
    assert (row["method"], row["target"]) == ("PUT", "/v1/clients")
    assert row["proposed_by"] != row["approved_by"]
    assert row["proposed_by"].startswith("operator-")


async def test_of_two_approvals_at_once_one_is_carried_out(firm: Api) -> None:
    body = auditor()
    proposal = await proposed(await ask(firm, "ann", "PUT", "/v1/clients", body))
    answers = await asyncio.gather(*(ask(firm, f"bo-{n}", "PUT", "/v1/clients", body, proposal) for n in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 403, 403, 403, 403]


async def test_a_proposal_ends_after_a_day(firm: Api) -> None:
    body = auditor()
    row = (uuid4(), "PUT", "/v1/clients", b"\0" * 32, "operator-x")
    async with firm.platform.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO service.operator_proposal VALUES ($1, $2, $3, $4, $5, clock_timestamp() - interval '25 hours',"
            " clock_timestamp() - interval '1 hour')",
            *row,
        )
    refused(await ask(firm, "bo", "PUT", "/v1/clients", body, str(row[0])), "other")
    proposal = await proposed(await ask(firm, "ann", "PUT", "/v1/clients", body))
    async with firm.platform.pool.acquire() as connection:
        digest = await connection.fetchval(
            "SELECT body_digest FROM service.operator_proposal WHERE proposal_id = $1", proposal
        )
        await connection.execute(
            "INSERT INTO service.operator_proposal VALUES ($1, 'PUT', '/v1/clients', $2, 'operator-x',"
            " clock_timestamp() - interval '25 hours', clock_timestamp() - interval '1 hour')",
            old := uuid4(),
            digest,
        )
    refused(await ask(firm, "bo", "PUT", "/v1/clients", body, str(old)), "expired")
    assert await known(firm, body["client_id"]) == 404


async def test_every_guarded_call(firm: Api) -> None:
    """Proposed by one, it changes nothing; approved by another, it is done."""
    bank, source, pool = "https://two.example/bank", await firm.source(), f"pool-{os.urandom(4).hex()}"
    registered = {"uri": bank, "title_zh": "银行", "title_en": "Bank"}
    assert (await ask(firm, "ann", "PUT", "/v1/banks", registered)).status_code == 200
    begins = {"valid_from": "2026-01-01T00:00:00Z"}
    opening = {
        "pool": pool,
        "funder": "urn:tests:funder",
        "title_zh": "资金池",
        "title_en": "A pool",
        "rate_fen": 10,
        "rate_points": 1,
        "shortage": "stop",
        "points": 100,
        "value_fen": 1000,
    }
    client = auditor()
    titles = {"title_zh": "骑行", "title_en": "Rides"}
    registration = {"uri": source, **titles, "grade": "A", "scenarios": ["shared-ebike"], "valid_from": "2016-01-01"}
    calls: list[tuple[str, str, Any, dict[str, str]]] = [
        ("POST", "/v1/banks/resume", {"uri": bank}, {}),
        ("PUT", "/v1/banks/keys", {"bank": bank, "key": public_jwk(new_key())} | begins, {}),
        ("PUT", "/v1/sources/keys", {"uri": source, "key": public_jwk(new_key())} | begins, {}),
        ("PUT", "/v1/pools", opening, {}),
        (
            "POST",
            f"/v1/pools/{pool}/changes",
            {"points": 5, "value_fen": 50},
            {"Idempotency-Key": '"one-two-three-four"'},
        ),
        ("POST", f"/v1/pools/{pool}/state", {"state": "open"}, {}),
        ("PUT", "/v1/sources", registration, {}),
        ("PUT", "/v1/clients", client, {}),
        (
            "PUT",
            "/v1/clients/keys",
            {"client_id": client["client_id"], "key": public_jwk(new_key())} | begins,
            {},
        ),
        ("POST", "/v1/clients/resume", {"client_id": client["client_id"]}, {}),
    ]
    for method, path, body, headers in calls:
        answer = await both(firm, method, path, body, headers=headers)
        assert answer.status_code == 200, (path, answer.text)
    stops = {"/v1/banks/suspend": {"uri": bank, "reason": "tests"}, f"/v1/pools/{pool}/state": {"state": "suspended"}}
    for path, body in stops.items():  # to stop, one is enough
        assert (await ask(firm, "ann", "POST", path, body)).status_code == 200, path
    named = {"client_id": client["client_id"]}
    assert (await ask(firm, "ann", "POST", "/v1/clients/suspend", named)).status_code == 200


async def test_a_reversal_needs_two(firm: Api) -> None:
    person = await firm.person()
    (credited,) = await firm.report(person.source, [ride(person.source, person.subject)])
    before = await firm.balance(person.participant_id)
    path = f"/v1/participants/{person.participant_id}/transfers/{credited['transfer_id']}/reversal"
    proposal = await proposed(await ask(firm, "ann", "POST", path, {"reason": "posted_in_error"}))
    assert await firm.balance(person.participant_id) == before
    answer = await ask(firm, "bo", "POST", path, {"reason": "posted_in_error"}, proposal)
    assert answer.status_code == 201, answer.text
    assert await firm.balance(person.participant_id) != before
