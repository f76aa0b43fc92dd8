"""The rules, public: what is listed, and documents whose digest anyone can recompute."""

import hashlib

import pytest
import rfc8785

from api.body import parse_json
from tests.running import Api, problem_of, ride

pytestmark = pytest.mark.anyio


async def test_anyone_may_list_the_methodologies_in_their_language(api: Api) -> None:
    answers = [await api.client.get("/v1/methodologies", headers={"Accept-Language": name}) for name in ("zh", "en")]
    chinese, english = (answer.json()["methodologies"] for answer in answers)
    (shown,) = [rule for rule in english if rule["id"] == "demo-shared-ebike"]
    assert (shown["version"], shown["status"], shown["scenario"], shown["can_credit"]) == (
        1,
        "demonstration",
        "shared-ebike",
        True,
    )
    assert "not official" in shown["status_title"]
    assert [rule["digest"] for rule in chinese] == [rule["digest"] for rule in english]
    assert "演示" in chinese[0]["title"]
    assert [answer.headers["content-language"] for answer in answers] == ["zh-CN", "en"]


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
