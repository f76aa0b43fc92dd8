"""The public board, the desk behind it, and what a participant is told of the offers there are."""

from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from service.products.catalogue import Offers
from service.products.model import CATEGORIES
from tests.running import Api, problem_of, ride
from tests.service.products.documents import (
    BANK,
    new_id,
    offer_fields,
    open_bank_and_pool,
    product_fields,
    today,
    written,
)

pytestmark = pytest.mark.anyio

_DOCUMENTS = "/v1/products/documents"


@pytest.fixture(autouse=True)
async def _bank_and_pool(api: Api) -> None:
    async with api.platform.pool.acquire() as connection:
        await open_bank_and_pool(connection)


async def send(api: Api, fields: dict[str, Any]) -> httpx.Response:
    headers = api.bearer("operator") | {"Content-Type": "text/yaml", "Accept-Language": "en"}
    return await api.client.put(_DOCUMENTS, headers=headers, content=written(fields))


async def step(api: Api, fields: dict[str, Any], name: str, who: str = "tests", **body: Any) -> httpx.Response:
    address = f"{_DOCUMENTS}/{fields['kind']}/{fields['id']}/{fields['version']}/{name}"
    headers = {"Authorization": f"Bearer {api.issuer.issue('operator', who)}", "Accept-Language": "en"}
    return await api.client.post(address, headers=headers, json=body or None)


async def listed(api: Api, fields: dict[str, Any]) -> dict[str, Any]:
    """Put a document on the board; as it is shown then."""
    assert (await send(api, fields)).status_code == 200
    for who in ("anna", "bo"):
        answer = await step(api, fields, "approve", who)
        assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    assert shown["state"] == "listed"
    return shown


async def read(api: Api, path: str, language: str = "en", **params: str) -> Any:
    answer = await api.client.get(f"/v1/{path}", headers={"Accept-Language": language}, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ids(api: Api, path: str, **params: str) -> list[str]:
    (documents,) = [rows for name, rows in (await read(api, path, **params)).items() if name != "catalogues"]
    return [one["id"] for one in documents]


async def test_a_document_is_submitted_approved_by_two_and_shown_to_all(api: Api) -> None:
    fields = product_fields()
    made = (await send(api, fields)).json()
    assert (made["state"], made["approvals"], made["on_board"]) == ("submitted", 0, False)
    assert [one["code"] for one in made["why_not"]] == ["not-approved"]
    problem_of(await api.client.get(f"/v1/products/{fields['id']}"), "product-not-found")
    first = (await step(api, fields, "approve", "anna")).json()
    assert (first["state"], first["approvals"]) == ("submitted", 1)
    problem_of(await step(api, fields, "approve", "anna"), "listing-already-approved")
    assert (await step(api, fields, "approve", "bo")).json()["state"] == "listed"
    shown = await read(api, f"products/{fields['id']}")
    assert (shown["title"], shown["bank"], shown["on_board"], shown["why_not"]) == ("A test loan", BANK, True, [])
    assert shown["claimed_benefit"]["quantity"] == "10"
    assert shown["label"]["assessor_valid_to"] == "2098-12-31"
    assert (await read(api, f"products/{fields['id']}", "zh"))["title"] == "测试绿色贷款"
    document = await api.client.get(f"{_DOCUMENTS}/{shown['digest']}")
    assert (await send(api, document.json())).json()["digest"] == shown["digest"]
    history = (await read(api, f"products/{fields['id']}/history"))["changes"]
    assert [change["action"] for change in history] == ["submitted", "approved", "approved", "listed"]
    assert len({change["operator"] for change in history}) == 3
    assert not any(name in change["operator"] for change in history for name in ("anna", "bo", "tests"))


async def test_a_fault_of_a_document_is_named_by_its_line(api: Api) -> None:
    headers = api.bearer("operator") | {"Content-Type": "text/yaml", "Accept-Language": "en"}
    answer = await api.client.put(_DOCUMENTS, headers=headers, content=b"kind: product\nid: x\nid: y\n")
    refused = problem_of(answer, "listing-document-invalid")
    assert refused["line"] == "3"
    assert "stands here twice" in refused["detail"]
    wrapped = {"document": written(product_fields(category="lottery")).decode()}
    answer = await api.client.put(_DOCUMENTS, headers=api.bearer("operator"), json=wrapped)
    problem_of(answer, "listing-document-invalid")
    answer = await api.client.put(_DOCUMENTS, headers=api.bearer("operator"), json={"file": "x"})
    problem_of(answer, "malformed-request")
    answer = await api.client.put(_DOCUMENTS, headers=headers | {"Content-Type": "text/plain"}, content=b"x")
    problem_of(answer, "unsupported-media-type")


async def test_json_and_yaml_are_the_same_document(api: Api) -> None:
    fields = offer_fields()
    first = await send(api, fields)
    wrapped = {"document": written(fields).decode()}
    again = await api.client.put(_DOCUMENTS, headers=api.bearer("operator"), json=wrapped)
    assert first.json()["digest"] == again.json()["digest"]
    refused = problem_of(await send(api, fields | {"max_units": "7"}), "listing-document-conflict")
    assert refused["digest"] == first.json()["digest"]


async def test_evidence_that_does_not_hold_is_refused_with_its_reasons(api: Api) -> None:
    fields = product_fields(label=None, claimed_benefit={"quantity": "1", "unit": "t"})
    await send(api, fields)
    refused = problem_of(await step(api, fields, "approve"), "listing-refused")
    assert refused["reasons"] == ["no-label", "claim-not-verified"]
    assert "nobody has verified what it claims" in refused["detail"]


async def test_what_is_stopped_says_why_and_what_is_down_stays_down(api: Api) -> None:
    of = product_fields()
    made = offer_fields(product=of["id"])
    await listed(api, of)
    await listed(api, made)
    problem_of(await step(api, made, "suspend", reason="no-such-reason"), "malformed-request")
    assert (await step(api, of, "suspend", reason="complaints")).json()["reason"] == "complaints"
    shown = await read(api, f"offers/{made['id']}")
    assert (shown["state"], shown["on_board"]) == ("listed", False)
    assert [one["code"] for one in shown["why_not"]] == ["product-suspended"]
    assert (await step(api, of, "resume")).json()["on_board"]
    assert (await step(api, made, "take-down", reason="misleading")).json()["state"] == "taken_down"
    wrong = problem_of(await step(api, made, "resume"), "listing-state-wrong")
    assert (wrong["state"], "taken down" in wrong["detail"]) == ("taken_down", True)
    shown = await read(api, f"offers/{made['id']}")
    assert (shown["reason"], shown["reason_title"]) == ("misleading", "it misleads")
    problem_of(await step(api, made | {"version": "2"}, "resume"), "listing-document-not-found")


async def test_the_board_is_filtered(api: Api) -> None:
    ends = today() + timedelta(days=30)
    bond = product_fields(category="bond", valid={"from": "2026-01-01", "to": ends.isoformat()})
    older = product_fields(
        category="abs",
        taxonomy={"name": "green-bond-projects", "version": "2021", "code": "1"},
        label=product_fields()["label"] | {"labelled_on": "2025-01-01"},
    )
    await listed(api, bond)
    await listed(api, older)
    assert await ids(api, "products", category="bond") == [bond["id"]]
    assert await ids(api, "products", label="green-bond-projects") == [older["id"]]
    assert {bond["id"], older["id"]} <= set(await ids(api, "products", bank=BANK))
    assert await ids(api, "products", bank="urn:tests:other") == []
    assert bond["id"] in await ids(api, "products", valid_on=ends.isoformat())
    assert bond["id"] not in await ids(api, "products", valid_on=(ends + timedelta(days=1)).isoformat())
    await step(api, bond, "suspend", reason="complaints")
    assert bond["id"] not in await ids(api, "products", on_board="true")
    assert bond["id"] in await ids(api, "products", on_board="false")
    problem_of(await api.client.get("/v1/products", params={"category": "lottery"}), "malformed-request")
    assert len(CATEGORIES) == 11
    voucher = offer_fields(product=older["id"])
    await listed(api, voucher)
    assert await ids(api, "offers", product=older["id"], benefit="voucher") == [voucher["id"]]
    assert await ids(api, "offers", product=older["id"], benefit="donation") == []
    problem_of(await api.client.get("/v1/offers/no-such-offer"), "offer-not-found")
    problem_of(await api.client.get("/v1/offers/no-such-offer/history"), "offer-not-found")


async def test_what_ends_is_off_the_board_without_anybody_looking(api: Api) -> None:
    fields = product_fields(next_check_on=(today() + timedelta(days=3)).isoformat())
    await listed(api, fields)
    entry = api.platform.offers.entry("product", fields["id"])
    assert entry is not None
    days = [today() + timedelta(days=number) for number in (2, 3)]
    assert [bool(api.platform.offers.why_not(entry, day)) for day in days] == [False, True]


async def test_a_participant_sees_what_is_theirs_and_why_the_rest_is_not(api: Api) -> None:
    of = product_fields()
    title = {"zh": "级", "en": "tier"}
    cheap = offer_fields(
        product=of["id"], tiers=[{"name": title, "min_verified_g": "50", "points_per_unit": "10"}], points_per_unit="11"
    )
    firms = offer_fields(product=of["id"], kinds=["firm"])
    dear = offer_fields(product=of["id"], points_per_unit="1000")
    hidden = offer_fields(product=of["id"])
    for fields in (of, cheap, firms, dear):
        await listed(api, fields)
    await send(api, hidden)
    person = await api.person()
    await api.report(person.source, [ride(person.source, person.subject)])
    answer = await api.read(person.participant_id, "offers", **{"Accept-Language": "en"})
    assert answer.status_code == 200, answer.text
    own = {one["id"]: one for one in answer.json()["offers"]}
    assert hidden["id"] not in own
    mine = own[cheap["id"]]
    assert (mine["eligible"], mine["affordable"], mine["points_per_unit"], mine["tier"]) == (True, True, 10, "tier")
    assert [one["code"] for one in own[firms["id"]]["why_not"]] == ["kind"]
    assert (own[dear["id"]]["eligible"], own[dear["id"]]["affordable"]) == (True, False)
    assert own[dear["id"]]["why_not"][0]["text"] == "918 points are lacking"
    other = await api.person()
    headers = api.bearer("participant", other.participant_id)
    problem_of(await api.client.get(f"/v1/participants/{person.participant_id}/offers", headers=headers), "forbidden")


async def test_the_version_that_is_shown_is_the_one_on_the_board_or_else_the_last_that_was(api: Api) -> None:
    first = product_fields()
    second, third = first | {"version": "2", "category": "deposit"}, first | {"version": "3"}
    await listed(api, first)
    await send(api, second)
    path = f"products/{first['id']}"
    assert ((await read(api, path))["version"], (await read(api, path))["state"]) == (1, "listed")
    await listed(api, second)
    await send(api, third)
    assert (await read(api, path))["version"] == 2
    assert [(await read(api, path, version="1"))[name] for name in ("state", "reason")] == ["taken_down", "superseded"]
    problem_of(await api.client.get(f"/v1/{path}?version=3"), "product-not-found")
    await step(api, second, "take-down", reason="misleading")
    down = await read(api, path)
    assert [down[name] for name in ("version", "state", "reason")] == [2, "taken_down", "misleading"]
    answer = await api.client.get(_DOCUMENTS, headers=api.bearer("operator"))
    versions = [one["version"] for one in answer.json()["documents"] if one["id"] == first["id"]]
    assert versions == [3, 2]


async def test_drafts_are_for_those_who_decide(api: Api) -> None:
    fields = product_fields(id=new_id("draft"))
    await send(api, fields)
    answer = await api.client.get(_DOCUMENTS, headers=api.bearer("operator"))
    assert fields["id"] in [one["id"] for one in answer.json()["documents"]]
    assert fields["id"] not in await ids(api, "products")
    problem_of(await api.client.get(_DOCUMENTS), "unauthenticated")
    problem_of(await api.client.get(f"{_DOCUMENTS}/{'0' * 64}"), "listing-document-not-found")
    auditor = api.bearer("auditor")
    problem_of(await api.client.put(_DOCUMENTS, headers=auditor, content=b"x"), "forbidden")


async def test_another_process_sees_the_board_within_its_second(api: Api) -> None:
    """A copy that was read before follows what changed, and reads nothing where nothing did."""
    fields = product_fields()
    other = Offers()
    async with api.platform.pool.acquire() as connection:
        await other.refresh(connection)
        assert other.product(fields["id"]) is None
        await listed(api, fields)
        await other.refresh(connection)
        seen, entry = other.product(fields["id"]), other.entry("product", fields["id"])
        await other.refresh(connection)
    assert seen is not None
    assert other.product(fields["id"]) is seen
    assert other.entry("product", fields["id"]) is entry
    assert other.offer(fields["id"]) is None
    assert date(2026, 1, 1) in seen.valid
