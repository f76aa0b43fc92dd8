"""A source or a bank that asks people for links, as tests play it, and the person's app."""

import base64
import hashlib
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from api.oauth.proving import token_form
from api.signatures import SigningKey
from tests.api.bankers import new_key
from tests.api.oauth_client import Client, put_client, put_client_key
from tests.running import Api

PAR = "/v1/oauth/par"
CALLBACK = "https://provider.example/linked?from=city"


@dataclass(slots=True)
class Asked:
    """One request for a link: what the client keeps of it, and the handle that the person's app gets."""

    handle: str
    verifier: str
    state: str


@dataclass(slots=True)
class Linker:
    """A registered client that asks for links."""

    client: Client
    scope: str

    @property
    def api(self) -> Api:
        return self.client.api

    @property
    def uri(self) -> str:
        assert self.client.uri is not None
        return self.client.uri

    async def push(self, verifier: str | None = None, **changes: str | None) -> httpx.Response:
        """Push a request; `changes` replace parameters, or leave them out where they are None."""
        form: dict[str, str | None] = {
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "code_challenge": challenge(verifier or os.urandom(32).hex()),
            "code_challenge_method": "S256",
            "state": "s-1",
            "scope": self.scope,
        }
        wanted = {name: value for name, value in (form | changes).items() if value is not None}
        signed = token_form(self.client.key, self.client.client_id, self.client.issuer, **wanted)
        signed.pop("grant_type")
        return await self.api.client.post(PAR, data=signed)

    async def ask(self) -> Asked:
        """Ask somebody for a link."""
        verifier, state = os.urandom(32).hex(), os.urandom(8).hex()
        answer = await self.push(verifier, state=state)
        assert answer.status_code == 201, answer.text
        return Asked(answer.json()["request_uri"].rpartition(":")[2], verifier, state)

    async def redeem(self, code: str, verifier: str, redirect_uri: str = CALLBACK, **rest: str) -> httpx.Response:
        """Show a code."""
        shown: dict[str, Any] = {"code": code, "code_verifier": verifier, "redirect_uri": redirect_uri} | rest
        return await self.client.ask(grant_type="authorization_code", **shown)

    async def link(self, participant_id: str) -> dict[str, Any]:
        """The whole way, as it should go; what the client is told."""
        asked = await self.ask()
        code = await approved(self.api, participant_id, asked)
        answer = await self.redeem(code, asked.verifier)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


async def open_linker(api: Api, uri: str | None = None, *, bank: bool = False) -> Linker:
    """A client of a new source, or of this source or bank, with a key of its own."""
    client_id, key = f"linker-{os.urandom(5).hex()}", new_key(f"key-{os.urandom(4).hex()}")
    uri = uri or await api.source()
    role = "bank" if bank else "provider"
    answer = await put_client(api, client_id, role, uri=uri, redirect_uris=[CALLBACK, "https://provider.example/other"])
    assert answer.status_code == 200, answer.text
    await _register(api, client_id, key)
    return Linker(Client(api, client_id, uri, key), "link:bank" if bank else "link:activities")


async def _register(api: Api, client_id: str, key: SigningKey) -> None:
    answer = await put_client_key(api, client_id, key)
    assert answer.status_code == 200, answer.text


async def citizen(api: Api) -> str:
    """A newly enrolled person without any link; the participant's id."""
    answer = await api.client.post("/v1/participants", headers=api.bearer("operator"), json={"kind": "citizen"})
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["participant_id"]
    return found


def own(api: Api, participant_id: str) -> dict[str, str]:
    return api.bearer("participant", participant_id) | {"Accept-Language": "en"}


async def decide(api: Api, participant_id: str, asked: Asked, step: str = "approve", **changes: Any) -> httpx.Response:
    """Approve or decline in the person's app."""
    body = {"consent": {"text_version": "sample-activities-1"}} | changes
    path = f"/v1/link-requests/{asked.handle}/{step}"
    return await api.client.post(path, headers=own(api, participant_id), json=body if step == "approve" else None)


async def approved(api: Api, participant_id: str, asked: Asked) -> str:
    """Approve; the code that goes back to the client, with everything that has to come with it."""
    seen = await api.client.get(f"/v1/link-requests/{asked.handle}", headers=own(api, participant_id))
    assert seen.status_code == 200, seen.text
    consent = {"text_version": seen.json()["text_version"]}
    answer = await decide(api, participant_id, asked, consent=consent)
    assert answer.status_code == 200, answer.text
    target: str = answer.json()["redirect_to"]
    assert target.startswith(CALLBACK + "&")
    back = parse_qs(urlsplit(target).query)
    assert back["iss"] == [api.platform.settings.oauth_issuer]
    assert (back["state"], back["from"]) == ([asked.state], ["city"])
    [code] = back["code"]
    return str(code)
