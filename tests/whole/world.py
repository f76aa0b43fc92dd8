"""Two of everything that owns something: two providers, two people, two banks, each with what belongs to them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import httpx

from api.auth import Role
from api.signatures import SigningKey, sign_call
from tests.api.bankers import ORIGIN, Banker, offered, open_bank
from tests.api.linkers import open_linker
from tests.running import Api, Person, ride

ROLES: tuple[Role, ...] = get_args(Role)
UNITS, CAPTURED = 4, 2


@dataclass(frozen=True, slots=True)
class Side:
    """One provider, one person and one bank.

    ids     what addresses name of theirs, by the name of the parameter; under `me/` and the name what it is below
            /v1/me, where that is another kind
    secret  what nobody else is to read in any answer
    """

    person: Person
    bank: Banker
    offer: str
    ids: Mapping[str, str]
    secret: tuple[str, ...]

    def id_of(self, template: str, name: str) -> str | None:
        """What this address names of theirs by this parameter; None where there is no such thing."""
        mine = self.ids.get(f"me/{name}") if template.startswith("/v1/me/") else None
        return mine or self.ids.get(name)

    def with_ids(self, ids: Mapping[str, str]) -> "Side":
        """The same with other ids under these names, below /v1/me too."""
        return replace(self, ids={**self.ids, **ids, **{f"me/{name}": value for name, value in ids.items()}})

    def headers(self, api: Api, role: Role) -> dict[str, str]:
        """A token of this side's in a role."""
        if role == "funder":
            return {"Authorization": f"Bearer {api.issuer.issue(role, 'tests', funder='urn:tests:funder')}"}
        if role == "participant":
            return api.bearer(role, self.person.participant_id)
        if role == "provider":
            return api.bearer(role, source=self.person.source)
        return api.bearer(role, bank=self.bank.uri) if role == "bank" else api.bearer(role)


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who calls; nobody without a role."""

    role: Role | None
    side: Side = field(repr=False)

    def headers(self, api: Api) -> dict[str, str]:
        """Their token."""
        return {} if self.role is None else self.side.headers(api, self.role)


@dataclass(frozen=True, slots=True)
class World:
    """A running API with two sides."""

    api: Api
    one: Side
    other: Side

    def callers(self, *roles: Role | None) -> list[Caller]:
        """Everybody of these roles; of those that own something here both, of the others one."""
        owning = {"participant", "provider", "bank"}
        return [Caller(role, side) for role in roles for side in (self.one, self.other)[: 1 + (role in owning)]]


def signed(key: SigningKey, method: str, path: str, body: bytes, idempotency_key: str | None) -> dict[str, str]:
    """The headers by which a bank signs a call, its token apart."""
    nonce = os.urandom(16).hex()
    url = ORIGIN + path
    return sign_call(key, method, url, body, created=datetime.now(UTC), nonce=nonce, idempotency_key=idempotency_key)


async def own(api: Api, person: Person, method: Literal["GET", "POST"], rest: str, content: Any = None) -> Any:
    """A call of a person's own that succeeds; what it answered."""
    path = f"/v1/participants/{person.participant_id}/{rest}"
    headers = api.bearer("participant", person.participant_id) | {"Idempotency-Key": f'"{os.urandom(8).hex()}"'}
    answer = await api.client.request(method, path, headers=headers, json=content)
    return done(answer)


def done(answer: httpx.Response) -> Any:
    """The content of an answer that is no refusal."""
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def rich_person(api: Api, rides: int = 3) -> tuple[Person, str]:
    """Somebody with 70 points for each ride, and the id of one of the credits."""
    person = await api.person()
    outcomes = await api.report(person.source, [ride(person.source, person.subject, km="2") for _ in range(rides)])
    return person, str(outcomes[0]["transfer_id"])


async def redeemed(api: Api, person: Person, bank: Banker, offer: str) -> str:
    """A redemption that the bank has accepted; its id."""
    consent = {"text_version": "tests-1", "given_at": datetime.now(UTC).isoformat()}
    wanted = {"offer": offer, "version": 1, "units": UNITS, "points": 10 * UNITS, "consent": consent}
    made = (await own(api, person, "POST", "redemptions", wanted))["redemption"]["redemption_id"]
    entitlement = (await own(api, person, "POST", f"redemptions/{made}/entitlement"))["entitlement"]
    done(await bank.call(f"/v1/bank/redemptions/{made}/accept", {"entitlement": entitlement}))
    return str(made)


async def open_side(api: Api) -> Side:
    """A side with something of everything: a credit, a redemption partly captured and disputed, requests of the bank,
    one of them to a person who linked it, and a webhook."""
    (person, transfer_id), bank = await rich_person(api), await open_bank(api)
    offer = await offered(bank)
    redemption_id = await redeemed(api, person, bank, offer)
    at_bank = f"/v1/bank/redemptions/{redemption_id}"
    captured = done(await bank.call(f"{at_bank}/capture", {"units": CAPTURED}, idempotency_key=os.urandom(8).hex()))
    done(await bank.call(f"{at_bank}/fulfilment", {"reference": "LOAN-1", "on": "2026-05-01"}))
    dispute = await own(
        api, person, "POST", f"redemptions/{redemption_id}/disputes", {"reason": "benefit_missing", "words": "nothing"}
    )
    asked = done(await bank.call("/v1/bank/requests", {"offer": offer, "units": 1, "reference": "APP-1"}))
    linker = await open_linker(api, bank.uri, bank=True)
    linked, source = await linker.link(person.participant_id), await open_linker(api)
    await source.link(person.participant_id)
    mine = done(
        await bank.call(
            "/v1/bank/requests", {"offer": offer, "units": 1, "reference": "APP-2", "subject": linked["subject"]}
        )
    )
    consents = done(await api.client.get("/v1/me/consents", headers=api.bearer("participant", person.participant_id)))
    hook = done(await api.client.post("/v1/webhooks", headers=bank.bearer, json={"url": "https://bank.example/hooks"}))
    test = done(await api.client.post(f"/v1/webhooks/{hook['webhook_id']}/test", headers=bank.bearer))
    ids = {
        "participant_id": person.participant_id,
        "link_id": person.link_id,
        "transfer_id": transfer_id,
        "redemption_id": redemption_id,
        "capture_id": captured["step"]["transfer_id"],
        "dispute_id": dispute["dispute_id"],
        "request_id": asked["request_id"],
        "code": asked["approval_code"],
        "handle": (await linker.ask()).handle,
        "me/link_id": linked["link_id"],
        "me/request_id": mine["request_id"],
        "consent_id": next(one["consent_id"] for one in consents["consents"] if one["party"] == source.uri),
        "webhook_id": hook["webhook_id"],
        "message_id": test["message_id"],
    }
    known = {"message_id"}  # of a test event, and it says nothing
    return Side(person, bank, offer, ids, tuple(value for name, value in ids.items() if name not in known))


async def open_world(api: Api) -> World:
    """Two sides."""
    return World(api, await open_side(api), await open_side(api))


def as_body(content: Any, kind: str | None) -> bytes:
    """What is sent of a generated body."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, str) and (kind is None or "json" not in kind):
        return content.encode("utf-8", "surrogatepass")
    return json.dumps(content, default=str).encode("ascii")  # orjson writes no number beyond 64 bits
