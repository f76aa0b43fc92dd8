"""People link sources and banks: by a code that is worth nothing to anybody else, under ids that cannot be joined."""

import asyncio
import os
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.oauth.authorization import redirect_target
from api.oauth.exchange import GRANT_TYPE
from service.linking.asking import (
    CODE_LIFE,
    KEPT,
    REQUEST_LIFE,
    LinkRequestNotFound,
    NewLinkRequest,
    ask_for_link,
    find_link_request,
    new_secret,
    sweep_link_requests,
)
from service.linking.consents import agree_to_terms
from service.linking.texts import SHIPPED, load_texts, parse_texts
from service.quantification.document import DocumentInvalid
from service.rights.guardians import note_birth
from tests.api.bankers import Banker, offered, open_bank
from tests.api.linkers import CALLBACK, PAR, approved, challenge, citizen, decide, open_linker, own
from tests.api.oauth_client import open_client
from tests.running import Api, problem_of, ride

pytestmark = pytest.mark.anyio

REQUESTS, MINE = "/v1/bank/requests", "/v1/me/requests"


async def me(api: Api, participant_id: str) -> dict[str, Any]:
    answer = await api.client.get("/v1/me", headers=own(api, participant_id))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def unlink(api: Api, participant_id: str, link_id: str) -> httpx.Response:
    return await api.client.delete(f"/v1/me/links/{link_id}", headers=own(api, participant_id))


def refused(answer: httpx.Response, error: str) -> None:
    assert (answer.status_code, answer.json()["error"]) == (400, error), answer.text


async def outcome(api: Api, source: str, subject: str) -> str:
    """What becomes of a ride: `credited`, or the problem."""
    answer = await api.report_one(source, ride(source, subject))
    found = answer.json()
    return str(found.get("outcome") or found["type"].rpartition(":")[2])


async def test_a_source_is_linked_credited_and_unlinked(api: Api) -> None:
    linker, person = await open_linker(api), await citizen(api)
    asked = await linker.ask()
    seen = (await api.client.get(f"/v1/link-requests/{asked.handle}", headers=own(api, person))).json()
    assert {name: seen[name] for name in ("state", "kind", "party", "party_title", "scope", "text_version")} == {
        "state": "pending",
        "kind": "source",
        "party": linker.uri,
        "party_title": "A test provider",
        "scope": "link:activities",
        "text_version": "sample-activities-1",
    }
    assert "A test provider" in seen["consent_text"]
    assert seen["learns"]
    assert (await me(api, person))["links"] == []
    code = await approved(api, person, asked)
    assert (await me(api, person))["links"] == []  # nothing is linked before the code is shown
    told = (await linker.redeem(code, asked.verifier)).json()
    assert person not in repr(told)
    assert await outcome(api, linker.uri, told["subject"]) == "credited"
    mine = await me(api, person)
    assert [(link["link_id"], link["party"], link["ended_at"]) for link in mine["links"]] == [
        (told["link_id"], linker.uri, None)
    ]
    assert [(one["purpose"], one["party"], one["text_version"]) for one in mine["consents"]] == [
        ("carbon-credit", linker.uri, "sample-activities-1")
    ]
    assert (await unlink(api, person, told["link_id"])).status_code == 204
    assert await outcome(api, linker.uri, told["subject"]) == "subject-not-linked"
    problem_of(await unlink(api, person, told["link_id"]), "link-not-found")
    ended = await api.client.get(f"/v1/me/links/{told['link_id']}", headers=own(api, person))
    assert ended.json()["ended_at"] is not None
    again = await linker.link(person)
    assert (again["subject"], again["link_id"] == told["link_id"]) == (told["subject"], False)
    assert await outcome(api, linker.uri, told["subject"]) == "credited"
    consents = (await me(api, person))["consents"]
    assert [one["withdrawn_at"] is None for one in consents] == [False, True]
    assert int((await api.balance(person))["points"]["available"]) > 0


async def test_a_bank_asks_by_its_own_id_and_the_person_decides(api: Api) -> None:
    bank, person = await open_bank(api), await api.person()
    await api.report(person.source, [ride(person.source, person.subject, km="2")])
    linker = await open_linker(api, bank.uri, bank=True)
    told = await linker.link(person.participant_id)
    wanted = {"offer": await offered(bank), "units": 3, "subject": told["subject"]}
    made = (await bank.call(REQUESTS, wanted)).json()
    assert made["approval_code"] is None
    mine = (await api.client.get(MINE, headers=own(api, person.participant_id))).json()["requests"]
    assert [(one["request_id"], one["bank"], one["points"]) for one in mine] == [(made["request_id"], bank.uri, 30)]
    path = f"{MINE}/{made['request_id']}"
    body = {"points": 30, "consent": {"text_version": "tests-1", "given_at": "2026-11-01T08:00:00+08:00"}}
    stranger = own(api, await citizen(api))
    assert (await api.client.get(MINE, headers=stranger)).json()["requests"] == []
    problem_of(await api.client.post(path, headers=stranger, json=body), "approval-not-found")
    problem_of(await api.client.post(f"{path}/decline", headers=stranger), "approval-not-found")
    held = await api.client.post(path, headers=own(api, person.participant_id), json=body)
    assert held.status_code == 201, held.text
    assert (await api.client.post(path, headers=own(api, person.participant_id), json=body)).status_code == 200
    seen = (await bank.get(f"{REQUESTS}/{made['request_id']}")).json()
    assert (seen["state"], seen["entitlement"] is None) == ("approved", False)
    assert (await api.client.get(MINE, headers=own(api, person.participant_id))).json()["requests"] == []
    assert person.participant_id not in repr(seen) + repr(made)


async def test_without_a_live_link_a_bank_asks_nobody(api: Api) -> None:
    bank, person = await open_bank(api), await citizen(api)
    linker = await open_linker(api, bank.uri, bank=True)
    told, offer = await linker.link(person), await offered(bank)
    other = await open_bank(api)
    stolen = {"offer": await offered(other), "units": 1, "subject": told["subject"]}
    problem_of(await other.call(REQUESTS, stolen), "bank-link-not-live")
    wanted = {"offer": offer, "units": 1, "subject": told["subject"]}
    made = (await bank.call(REQUESTS, wanted)).json()
    declined = (await bank.call(REQUESTS, wanted)).json()
    answer = await api.client.post(f"{MINE}/{declined['request_id']}/decline", headers=own(api, person))
    assert answer.json()["state"] == "declined"
    assert (await unlink(api, person, told["link_id"])).status_code == 204
    assert (await api.client.get(MINE, headers=own(api, person))).json()["requests"] == []
    path = f"{MINE}/{made['request_id']}"
    body = {"points": 10, "consent": {"text_version": "tests-1", "given_at": "2026-11-01T08:00:00+08:00"}}
    problem_of(await api.client.post(path, headers=own(api, person), json=body), "approval-not-found")
    ended = await bank.call(REQUESTS, wanted)
    never = await bank.call(REQUESTS, wanted | {"subject": "A" * 22})
    assert problem_of(ended, "bank-link-not-live") == problem_of(never, "bank-link-not-live")  # nobody is found out
    assert (await linker.link(person))["subject"] == told["subject"]
    assert (await bank.call(REQUESTS, wanted)).status_code == 201


async def test_a_bank_needs_the_scope_to_name_somebody(api: Api) -> None:
    bank = await open_bank(api)
    narrow = Banker(api, bank.uri, bank.key)
    token = api.issuer.issue("bank", "tests", bank=bank.uri, scopes=["redemptions:write"])
    api._tokens["bank", bank.uri] = token
    wanted = {"offer": await offered(bank), "units": 1, "subject": "A" * 22}
    answer = await narrow.call(REQUESTS, wanted)
    assert problem_of(answer, "forbidden")["missing_scope"] == "links:write"


async def test_a_code_that_comes_again_ends_what_it_made(api: Api) -> None:
    for bank in (False, True):
        uri = (await open_bank(api)).uri if bank else None
        linker, person = await open_linker(api, uri, bank=bank), await citizen(api)
        asked = await linker.ask()
        code = await approved(api, person, asked)
        told = (await linker.redeem(code, asked.verifier)).json()
        for _ in range(2):
            refused(await linker.redeem(code, asked.verifier), "invalid_grant")
        [link] = (await me(api, person))["links"]
        assert (link["link_id"], link["ended_at"] is None) == (told["link_id"], False)


async def test_a_replay_does_not_end_a_link_that_was_there_before(api: Api) -> None:
    linker, person = await open_linker(api), await citizen(api)
    told = await linker.link(person)
    asked = await linker.ask()
    code = await approved(api, person, asked)
    again = (await linker.redeem(code, asked.verifier)).json()
    assert (again["link_id"], again["subject"]) == (told["link_id"], told["subject"])
    refused(await linker.redeem(code, asked.verifier), "invalid_grant")
    assert await outcome(api, linker.uri, told["subject"]) == "credited"


async def test_a_stolen_code_is_worth_nothing(api: Api) -> None:
    linker, thief, person = await open_linker(api), await open_linker(api), await citizen(api)
    asked = await linker.ask()
    code = await approved(api, person, asked)
    refused(await thief.redeem(code, asked.verifier), "invalid_grant")  # another client's: it stays good for its own
    refused(await thief.redeem("A" * 22, asked.verifier), "invalid_grant")
    assert (await linker.redeem(code, asked.verifier)).status_code == 200
    for wrong in ({"verifier": "b" * 64}, {"verifier": "short"}, {"redirect_uri": "https://provider.example/other"}):
        person, asked = await citizen(api), await linker.ask()
        code = await approved(api, person, asked)
        shown = {"code": code, "verifier": asked.verifier} | wrong
        refused(await linker.redeem(**shown), "invalid_grant")
        refused(await linker.redeem(code, asked.verifier), "invalid_grant")  # one try, rightly or not
        assert (await me(api, person))["links"] == []


async def test_a_code_is_good_for_a_minute(api: Api) -> None:
    linker, person = await open_linker(api), await citizen(api)
    asked = await linker.ask()
    code = await approved(api, person, asked)
    async with api.platform.pool.acquire() as connection:
        row = await connection.fetchrow(
            "SELECT decided_at, code_expires_at, r::text AS stored FROM service.link_request r "
            "WHERE participant_id = $1",
            UUID(person),
        )
        assert row is not None
        assert row["code_expires_at"] - row["decided_at"] == CODE_LIFE
        assert code not in row["stored"]
        assert asked.handle not in row["stored"]
        await connection.execute(
            "UPDATE service.link_request SET code_expires_at = clock_timestamp() WHERE participant_id = $1",
            UUID(person),
        )
    refused(await linker.redeem(code, asked.verifier), "invalid_grant")
    assert (await me(api, person))["links"] == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"scope": "link:bank"}, "invalid_scope"),
        ({"scope": "link:activities link:bank"}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"state": None}, "invalid_request"),
        ({"state": "x" * 513}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": CALLBACK + "/"}, "invalid_request"),
        ({"redirect_uri": CALLBACK.replace("?from=city", "")}, "invalid_request"),
        ({"redirect_uri": "https://provider.example.evil/linked?from=city"}, "invalid_request"),
        ({"redirect_uri": CALLBACK.replace("provider", "PROVIDER")}, "invalid_request"),
        ({"request_uri": "urn:ietf:params:oauth:request_uri:x"}, "invalid_request"),
        ({"request": "e30.e30."}, "invalid_request"),
    ],
)
async def test_a_request_is_as_it_must_be(api: Api, changes: dict[str, str | None], error: str) -> None:
    refused(await (await open_linker(api)).push(**changes), error)


async def test_only_sources_and_banks_ask(api: Api) -> None:
    linker = await open_linker(api)
    auditor = await open_client(api, "auditor")
    refused(await type(linker)(auditor, "link:activities").push(redirect_uri=CALLBACK), "unauthorized_client")
    form = {"client_id": linker.client.client_id, "response_type": "code", "code_challenge": challenge("v" * 43)}
    answer = await api.client.post(PAR, data=form)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    bank = await open_bank(api)
    of_bank = await open_linker(api, bank.uri, bank=True)
    suspended = {"uri": bank.uri, "reason": "under-review"}
    await api.client.post("/v1/banks/suspend", headers=api.bearer("operator"), json=suspended)
    refused(await of_bank.push(), "unauthorized_client")


async def test_a_request_is_decided_once_by_a_person_themselves(api: Api) -> None:
    linker, people = await open_linker(api), [await citizen(api) for _ in range(4)]
    asked = await linker.ask()
    answers = await asyncio.gather(*(decide(api, person, asked) for person in people for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    for answer in answers:
        if answer.status_code == 409:
            assert problem_of(answer, "link-request-ended")["state"] == "approved"
    problem_of(await decide(api, people[0], asked, "decline"), "link-request-ended")
    declined = await linker.ask()
    answer = await decide(api, people[0], declined, "decline")
    back = parse_qs(urlsplit(answer.json()["redirect_to"]).query)
    assert (back["error"], back["state"], "code" in back) == (["access_denied"], [declined.state], False)
    assert problem_of(await decide(api, people[1], declined), "link-request-ended")["state"] == "declined"
    path, body = (
        f"/v1/link-requests/{(await linker.ask()).handle}",
        {"consent": {"text_version": "sample-activities-1"}},
    )
    for role in ("operator", "authority", "provider"):
        headers = api.bearer(role, source=linker.uri if role == "provider" else None)
        problem_of(await api.client.get(path, headers=headers), "forbidden")
        problem_of(await api.client.post(f"{path}/approve", headers=headers, json=body), "forbidden")


async def test_what_is_not_there_or_over_cannot_be_decided(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    linker, person = await open_linker(api), await citizen(api)
    asked = await linker.ask()
    unknown = type(asked)("A" * 22, asked.verifier, asked.state)
    problem_of(await decide(api, person, unknown), "link-request-not-found")
    problem_of(await decide(api, person, type(asked)("short", "", "")), "malformed-request")
    answer = await decide(api, person, asked, consent={"text_version": "an-older-text"})
    assert problem_of(answer, "consent-text-differs")["text_version"] == "sample-activities-1"
    problem_of(await decide(api, person, asked, consent={}), "malformed-request")
    async with api.platform.pool.acquire() as connection:
        newest = "SELECT created_at, expires_at FROM service.link_request ORDER BY created_at DESC"
        row = await connection.fetchrow(newest)
        assert row is not None
        assert row["expires_at"] - row["created_at"] == REQUEST_LIFE
    later = api.platform.settings.model_copy(update={"clock_offset": REQUEST_LIFE})
    monkeypatch.setattr(api.platform, "settings", later)
    assert problem_of(await decide(api, person, asked), "link-request-ended")["state"] == "expired"
    problem_of(await decide(api, str(UUID(int=9)), asked), "participant-not-found")


async def test_of_one_code_shown_at_once_at_most_one_link_comes(api: Api) -> None:
    linker, person = await open_linker(api), await citizen(api)
    asked = await linker.ask()
    code = await approved(api, person, asked)
    answers = await asyncio.gather(*(linker.redeem(code, asked.verifier) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 4
    [link] = (await me(api, person))["links"]
    assert link["ended_at"] is not None  # two had the code, so one had stolen it
    links = await asyncio.gather(*(linker.link(person) for _ in range(4)))
    assert len({link["link_id"] for link in links}) == 1
    assert len({link["subject"] for link in links}) == 1


async def test_no_two_parties_can_find_that_they_know_one_person(api: Api) -> None:
    people = [await citizen(api) for _ in range(2)]
    bank = await open_bank(api)
    linkers = [await open_linker(api), await open_linker(api), await open_linker(api, bank.uri, bank=True)]
    told = [await linker.link(person) for person in people for linker in linkers]
    subjects = [one["subject"] for one in told]
    assert len(set(subjects)) == 6
    assert {len(subject) for subject in subjects} == {22}
    second = await open_linker(api, linkers[0].uri)  # another client of the same source is the same party
    assert (await second.link(people[0]))["subject"] == subjects[0]
    async with api.platform.pool.acquire() as connection:
        for table in ("link", "bank_link", "pairwise", "consent", "agreement", "link_request"):
            rows = [row[0] for row in await connection.fetch(f"SELECT t::text FROM service.{table} t")]
            assert not any(subject in row for row in rows for subject in subjects), table
    crossed = [await outcome(api, linkers[1].uri, subjects[0]), await outcome(api, linkers[1].uri, "B" * 22)]
    assert crossed == ["subject-not-linked"] * 2


async def test_a_person_without_the_row_gets_another_id(api: Api) -> None:
    linker, person = await open_linker(api), await citizen(api)
    told = await linker.link(person)
    await unlink(api, person, told["link_id"])
    async with api.platform.pool.acquire() as connection:
        await connection.execute("DELETE FROM service.pairwise WHERE participant_id = $1", UUID(person))
    assert (await linker.link(person))["subject"] != told["subject"]


async def test_with_the_terms_everything_ends(api: Api) -> None:
    bank, person, consent_id = await open_bank(api), await citizen(api), UUID(bytes=os.urandom(16), version=4)
    async with api.platform.pool.acquire() as connection:
        await agree_to_terms(connection, UUID(person), consent_id, "sample-terms-1", api.platform.settings.clock_offset)
    linkers = [await open_linker(api), await open_linker(api), await open_linker(api, bank.uri, bank=True)]
    told = [await linker.link(person) for linker in linkers]
    pending = await linkers[0].ask()
    code = await approved(api, person, pending)
    undecided = await linkers[0].ask()
    one = f"/v1/me/consents/{told[1]['link_id']}/withdraw"
    assert (await api.client.post(one, headers=own(api, person))).status_code == 204
    assert [link["ended_at"] is None for link in (await me(api, person))["links"]] == [True, False, True]
    stranger = await api.client.post(f"/v1/me/consents/{consent_id}/withdraw", headers=own(api, await citizen(api)))
    problem_of(stranger, "consent-not-found")
    everything = await api.client.post(f"/v1/me/consents/{consent_id}/withdraw", headers=own(api, person))
    assert everything.status_code == 204
    mine = await me(api, person)
    assert all(link["ended_at"] for link in mine["links"])
    assert all(consent["withdrawn_at"] for consent in mine["consents"])
    assert await outcome(api, linkers[0].uri, told[0]["subject"]) == "subject-not-linked"
    wanted = {"offer": await offered(bank), "units": 1, "subject": told[2]["subject"]}
    problem_of(await bank.call(REQUESTS, wanted), "bank-link-not-live")
    refused(await linkers[0].redeem(code, pending.verifier), "invalid_grant")
    problem_of(await decide(api, person, undecided), "terms-withdrawn")


async def test_after_everything_is_withdrawn_nothing_is_recorded(api: Api) -> None:
    linker, person, consent_id = await open_linker(api), await citizen(api), UUID(bytes=os.urandom(16), version=4)
    async with api.platform.pool.acquire() as connection:
        await agree_to_terms(connection, UUID(person), consent_id, "sample-terms-1", api.platform.settings.clock_offset)
    told = await linker.link(person)

    async def withdraw() -> None:
        await asyncio.sleep(0.01)
        path = f"/v1/me/consents/{consent_id}/withdraw"
        assert (await api.client.post(path, headers=own(api, person))).status_code == 204

    rides = (outcome(api, linker.uri, told["subject"]) for _ in range(60))
    outcomes, _ = await asyncio.gather(asyncio.gather(*rides), withdraw())
    assert set(outcomes) <= {"credited", "refused", "subject-not-linked"}
    async with api.platform.pool.acquire() as connection:
        late = "SELECT count(*) FROM service.activity a JOIN service.agreement g USING (participant_id)"
        found = await connection.fetchval(
            late + " WHERE participant_id = $1 AND a.recorded_at > g.withdrawn_at", UUID(person)
        )
    assert found == 0


async def test_a_child_without_a_guardian_is_linked_to_nobody(api: Api) -> None:
    linker, person = await open_linker(api), await citizen(api)
    asked, later = await linker.ask(), await linker.ask()
    code = await approved(api, person, asked)
    async with api.platform.pool.acquire() as connection:
        await note_birth(connection, UUID(person), api.platform.today().replace(day=1), api.platform.today())
    refused(await linker.redeem(code, asked.verifier), "invalid_grant")
    problem_of(await decide(api, person, later), "guardian-consent-needed")
    assert (await me(api, person))["links"] == []


async def test_nobody_ends_or_reads_what_is_anothers(api: Api) -> None:
    linker, person, other = await open_linker(api), await citizen(api), await citizen(api)
    told = await linker.link(person)
    problem_of(await unlink(api, other, told["link_id"]), "link-not-found")
    read = await api.client.get(f"/v1/me/links/{told['link_id']}", headers=own(api, other))
    problem_of(read, "link-not-found")
    problem_of(await api.client.get("/v1/me", headers=api.bearer("operator")), "forbidden")
    assert await outcome(api, linker.uri, told["subject"]) == "credited"
    bank = await open_bank(api)
    asked = await (await open_linker(api, bank.uri, bank=True)).link(person)
    problem_of(await unlink(api, other, asked["link_id"]), "link-not-found")
    withdrawn = f"/v1/me/consents/{asked['link_id']}/withdraw"
    problem_of(await api.client.post(withdrawn, headers=own(api, other)), "consent-not-found")
    wanted = {"offer": await offered(bank), "units": 1, "subject": asked["subject"]}
    assert (await bank.call(REQUESTS, wanted)).status_code == 201


async def test_requests_are_forgotten_a_day_after_they_ended(api: Api) -> None:
    linker, person, fresh = await open_linker(api), await citizen(api), api.platform.fresh
    young, old = await linker.ask(), new_secret(fresh)
    party = f"source:{linker.uri}"
    wanted = NewLinkRequest(fresh.id(), "app-1", party, "link:activities", CALLBACK, challenge("v" * 43), "s-1")
    async with api.platform.pool.acquire() as connection:
        await ask_for_link(connection, wanted, old, -KEPT - REQUEST_LIFE)
        assert (await find_link_request(connection, old)).standing(fresh.clock()) == "expired"
        assert await sweep_link_requests(connection) == 1
        with pytest.raises(LinkRequestNotFound):
            await find_link_request(connection, old)
    assert (await api.client.get(f"/v1/link-requests/{young.handle}", headers=own(api, person))).status_code == 200
    assert KEPT > REQUEST_LIFE + CODE_LIFE  # a code that comes again is still known


async def test_the_metadata_say_how_links_are_asked_for(api: Api) -> None:
    told = (await api.client.get("/.well-known/oauth-authorization-server")).json()
    assert told["pushed_authorization_request_endpoint"] == api.platform.settings.oauth_issuer + PAR
    assert (told["require_pushed_authorization_requests"], told["code_challenge_methods_supported"]) == (True, ["S256"])
    assert told["authorization_response_iss_parameter_supported"] is True
    assert {"authorization_code", GRANT_TYPE} <= set(told["grant_types_supported"])


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60)


@given(printable, st.sampled_from(["https://a.example/x", "https://a.example/x?y=1"]))
def test_what_goes_back_is_read_as_it_was_sent(state: str, uri: str) -> None:
    target = redirect_target(uri, code="c-1", state=state, iss=None)
    assert target.startswith(uri)
    kept = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    assert {name: kept[name] for name in ("code", "state")} == {"code": "c-1", "state": state}
    assert "iss" not in kept


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("schema: 1", "schema: 2"),
        ("terms:", "rules:"),
        ("text_version: sample-terms-1", "text_version: a version"),
        ("我同意{party}将", "我同意将"),
        ("  learns:", "  knows:"),
    ],
)
def test_texts_with_a_fault_are_refused(old: str, new: str) -> None:
    document = SHIPPED.read_text("utf-8")
    assert load_texts(None) == load_texts(SHIPPED) == parse_texts(document.encode())
    with pytest.raises(DocumentInvalid):
        parse_texts(document.replace(old, new, 1).encode())
