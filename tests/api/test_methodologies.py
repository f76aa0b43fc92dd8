"""The rules, public: what is listed, documents whose digest anyone can recompute; and their approvals."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
import rfc8785

from api.body import parse_json
from ledger.leaf_reading import read_leaf
from service.activities.rules import name_of
from service.approvals import RuleName
from service.quantification.methodology import parse_methodology
from service.quantification.points import parse_points_rule
from tests.conftest import Database
from tests.documents import AUTHORITY, BODY, DEMO, DEMO_POINTS, changed, signer, write_approvers
from tests.running import Api, problem_of, ride, running_api

pytestmark = pytest.mark.anyio

ALICE, BOB = signer(AUTHORITY, "officer-1"), signer(BODY, "expert-1")
OWN = changed(DEMO, ("id: demo-shared-ebike", "id: our-shared-ebike"))
OWN_2 = changed(
    OWN.decode(), ("version: 1", "version: 2"), ("in_force: {from: 2016-01-01}", "in_force: {from: 2020-01-01}")
)
OWN_POINTS = changed(DEMO_POINTS, ("id: demo-points", "id: our-points"))
METHODOLOGY = "/v1/methodologies/our-shared-ebike/versions/1"
FIRST = name_of(parse_methodology(OWN))
POINTS_RULE = "/v1/points-rules/our-points/versions/1"


async def test_anyone_may_list_the_methodologies_in_their_language(api: Api) -> None:
    answers = [await api.client.get("/v1/methodologies", headers={"Accept-Language": name}) for name in ("zh", "en")]
    chinese, english = (answer.json()["methodologies"] for answer in answers)
    (shown,) = [rule for rule in english if (rule["id"], rule["version"]) == ("demo-shared-ebike", 1)]
    assert (shown["status"], shown["scenario"], shown["trigger"], shown["jurisdiction"]) == (
        "demonstration",
        "shared-ebike",
        "trip",
        "demonstration",
    )
    assert (shown["can_credit"], shown["why_not"], shown["approvals"]) == (True, [], [])
    assert "not official" in shown["status_title"]
    assert [rule["digest"] for rule in chinese] == [rule["digest"] for rule in english]
    assert {"id": "demo-shared-ebike", "title": "共享电单车骑行减排量(演示)"}.items() <= chinese[
        english.index(shown)
    ].items()
    assert [answer.headers["content-language"] for answer in answers] == ["zh-CN", "en"]


async def test_points_rules_are_listed_too(api: Api) -> None:
    answer = await api.client.get("/v1/points-rules", headers={"Accept-Language": "en"})
    (rule,) = [rule for rule in answer.json()["points_rules"] if (rule["id"], rule["version"]) == ("demo-points", 1)]
    assert (rule["points_per_gram"], rule["can_credit"]) == ("1", True)
    assert (await api.client.get("/v1/points-rules/demo-points/versions/1")).json()["digest"] == rule["digest"]


async def test_one_version_is_found_by_its_name(api: Api) -> None:
    listed = (await api.client.get("/v1/methodologies")).json()["methodologies"]
    for rule in listed:
        answer = await api.client.get(f"/v1/methodologies/{rule['id']}/versions/{rule['version']}")
        assert answer.json() == rule
    for path in ("methodologies/demo-shared-ebike", "points-rules/demo-points"):
        problem_of(await api.client.get(f"/v1/{path}/versions/9999"), "rule-not-found")
        problem_of(await api.client.get(f"/v1/{path}/versions/0"), "malformed-request")


async def test_a_document_is_the_bytes_its_digest_is_of(api: Api) -> None:
    person = await api.person()
    transfer = (await api.report_one(person.source, ride(person.source, person.subject))).json()["transfer_id"]
    explained = (await api.read(person.participant_id, f"transfers/{transfer}")).json()
    for rule in ("methodology", "points_rule"):
        digest = explained[rule]["digest"]
        answer = await api.client.get(f"/v1/methodologies/{digest}")
        assert hashlib.sha256(answer.content).hexdigest() == digest
        assert rfc8785.dumps(parse_json(answer.content)) == answer.content
        assert parse_json(answer.content)["id"] == explained[rule]["id"]
        assert "immutable" in answer.headers["cache-control"]


async def test_another_digest_is_not_found(api: Api) -> None:
    problem_of(await api.client.get(f"/v1/methodologies/{'0' * 64}"), "methodology-not-found")
    for text in ("0" * 63, "A" * 64, "demo-shared-ebike"):
        problem_of(await api.client.get(f"/v1/methodologies/{text}"), "malformed-request")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A platform with documents of its own that credits only what is approved."""

    api: Api
    methodology: RuleName
    second: RuleName
    points: RuleName

    async def approve(self, path: str, body: dict[str, Any], role: Any = "operator") -> httpx.Response:
        headers = self.api.bearer(role) | {"Accept-Language": "en"}
        return await self.api.client.post(f"{path}/approvals", json=body, headers=headers)

    async def leaves(self) -> list[dict[str, Any]]:
        rows = await self.api.platform.pool.fetch("SELECT leaf FROM ledger.leaf_queue ORDER BY queue_id")
        return [leaf for leaf in (read_leaf(row["leaf"]) for row in rows) if leaf["kind"] == "rule"]


@pytest.fixture
async def deployment(fresh_database: Database, tmp_path: Path) -> AsyncIterator[Deployment]:
    rules = tmp_path / "rules"
    for folder, name, content in (
        ("methodologies", "first", OWN),
        ("methodologies", "second", OWN_2),
        ("points", "points", OWN_POINTS),
    ):
        (rules / folder).mkdir(parents=True, exist_ok=True)
        (rules / folder / f"{name}.yaml").write_bytes(content)
    async with running_api(
        fresh_database.app,
        None,
        tmp_path / "data",
        rules_dir=rules,
        approvers_file=write_approvers(tmp_path / "approvers.json", ALICE.entry, BOB.entry),
        require_approvals=True,
    ) as api:
        first, second, points = parse_methodology(OWN), parse_methodology(OWN_2), parse_points_rule(OWN_POINTS)
        yield Deployment(
            api,
            RuleName("methodology", first.id, 1, first.digest),
            RuleName("methodology", second.id, 2, second.digest),
            RuleName("points", points.id, 1, points.digest),
        )


async def test_a_ride_counts_once_both_documents_are_signed_by_both(deployment: Deployment) -> None:
    api = deployment.api
    person = await api.person()

    async def outcome() -> dict[str, Any]:
        (found,) = await api.report(person.source, [ride(person.source, person.subject)])
        return found

    assert (await outcome())["problem"]["type"].endswith(":no-points-rule-in-force")
    for one in (ALICE, BOB):
        answer = await deployment.approve(POINTS_RULE, one.body(deployment.points))
        assert answer.status_code == 201, answer.text
    refused = (await outcome())["problem"]
    assert refused["type"].endswith(":methodology-not-allowed")
    first = await deployment.approve(METHODOLOGY, ALICE.body(deployment.methodology))
    assert (first.json()["can_credit"], first.json()["why_not"]) == (False, ["not-approved"])
    assert (await outcome())["outcome"] == "refused"
    second = await deployment.approve(METHODOLOGY, BOB.body(deployment.methodology))
    assert (second.json()["can_credit"], second.json()["why_not"]) == (True, [])
    credited = await outcome()  # version 2 is newer and signed by nobody: it displaces nothing
    explained = (await api.read(person.participant_id, f"transfers/{credited['transfer_id']}")).json()
    assert (explained["methodology"]["id"], explained["methodology"]["version"]) == ("our-shared-ebike", 1)
    assert [(leaf["document_kind"], leaf["digest"]) for leaf in await deployment.leaves()] == [
        ("points", deployment.points.digest),
        ("methodology", deployment.methodology.digest),
    ]


async def test_approvals_are_shown_to_anyone(deployment: Deployment) -> None:
    await deployment.approve(METHODOLOGY, ALICE.body(deployment.methodology))
    (shown,) = (await deployment.api.client.get(METHODOLOGY, headers={"Accept-Language": "en"})).json()["approvals"]
    assert (shown["role"], shown["role_title"], shown["approver"], shown["key"]) == (
        AUTHORITY,
        "competent authority",
        "officer-1",
        ALICE.kid,
    )
    body = ALICE.body(deployment.methodology)
    assert (shown["signature"], shown["signed_on"]) == (body["signature"], body["signed_on"])
    assert shown["approved_at"].endswith("Z")


async def test_the_same_signature_again_is_answered_as_before(deployment: Deployment) -> None:
    body = ALICE.body(deployment.methodology)
    answers = [await deployment.approve(METHODOLOGY, body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()


async def test_both_roles_at_once_leave_one_leaf(deployment: Deployment) -> None:
    bodies = [one.body(deployment.methodology) for one in (ALICE, BOB)] * 4
    answers = await asyncio.gather(*(deployment.approve(METHODOLOGY, body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200] * 6 + [201] * 2
    assert len(await deployment.leaves()) == 1
    assert (await deployment.api.client.get(METHODOLOGY)).json()["can_credit"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"signature": "0" * 128}, "wrong-signature"),
        ({"key": "nobody"}, "unknown-key"),
        ({"role": BODY}, "wrong-role"),
        ({"signed_on": "2026-01-01"}, "wrong-signature"),
        (ALICE.body(FIRST, on=date(2026, 1, 1)), "signed-long-ago"),
        (ALICE.body(FIRST, on=date(2999, 1, 1)), "signed-ahead"),
        (ALICE.body(FIRST, programme="elsewhere"), "wrong-signature"),
    ],
)
async def test_what_is_not_signed_rightly_approves_nothing(
    deployment: Deployment, change: dict[str, str], reason: str
) -> None:
    body = ALICE.body(deployment.methodology) | change
    assert problem_of(await deployment.approve(METHODOLOGY, body), "approval-refused")["reason"] == reason
    assert (await deployment.api.client.get(METHODOLOGY)).json()["approvals"] == []


async def test_a_signature_of_another_document_approves_nothing(deployment: Deployment) -> None:
    names = (deployment.second, deployment.points, RuleName("methodology", "our-shared-ebike", 1, "ab" * 32))
    for name in names:
        problem = problem_of(await deployment.approve(METHODOLOGY, ALICE.body(name)), "approval-refused")
        assert problem["reason"] == "wrong-signature"


async def test_one_person_with_two_keys_signs_in_one_role(deployment: Deployment, tmp_path: Path) -> None:
    other_hand = signer(BODY, ALICE.person)
    write_approvers(tmp_path / "approvers.json", ALICE.entry, BOB.entry, other_hand.entry)
    async with deployment.api.platform.pool.acquire() as connection:
        await deployment.api.platform.rules.approvals.refresh(connection)
    assert (await deployment.approve(METHODOLOGY, ALICE.body(deployment.methodology))).status_code == 201
    conflict = await deployment.approve(METHODOLOGY, other_hand.body(deployment.methodology))
    assert problem_of(conflict, "approval-conflict")["reason"] == "one-person"
    assert (await deployment.approve(METHODOLOGY, BOB.body(deployment.methodology))).status_code == 201


async def test_who_may_call_and_how(deployment: Deployment) -> None:
    body = ALICE.body(deployment.methodology)
    for role in ("auditor", "participant"):
        headers = deployment.api.bearer(role, "00000000-0000-0000-0000-000000000001")
        answer = await deployment.api.client.post(f"{METHODOLOGY}/approvals", json=body, headers=headers)
        assert problem_of(answer, "forbidden")["missing_scope"] == "rules:approve"
    problem_of(await deployment.approve(METHODOLOGY.replace("/1", "/9"), body), "rule-not-found")
    for wrong in ({}, body | {"more": 1}, body | {"signature": "AB" * 64}, body | {"role": "operator"},
                  body | {"signed_on": "20260101"}, body | {"signed_on": None}):  # fmt: skip
        problem_of(await deployment.approve(METHODOLOGY, wrong), "malformed-request")
