"""A client of the token endpoint as tests play it: registered, with a key, and tokens that are bound to it."""

import os
from dataclasses import dataclass
from typing import Any

import httpx

from api.oauth.proving import dpop_proof, token_form
from api.signatures import SigningKey, public_jwk
from tests.api.bankers import new_key
from tests.running import Api

TOKEN = "/v1/oauth/token"


@dataclass(slots=True)
class Client:
    """A registered client; `key` signs its assertions and its proofs."""

    api: Api
    client_id: str
    uri: str | None
    key: SigningKey

    @property
    def issuer(self) -> str:
        return self.api.platform.settings.oauth_issuer

    def proof(self, method: str, path: str, **claims: Any) -> dict[str, str]:
        """The DPoP header of a request."""
        return {"DPoP": dpop_proof(self.key, method, self.issuer + path, **claims)}

    async def ask(self, *, bound: bool = True, **parameters: str) -> httpx.Response:
        """Ask for a token."""
        form = token_form(self.key, self.client_id, self.issuer, **parameters)
        return await self.api.client.post(TOKEN, data=form, headers=self.proof("POST", TOKEN) if bound else {})

    async def token(self) -> str:
        """A token that is bound to the client's key."""
        answer = await self.ask()
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["access_token"]
        return found

    async def call(self, method: str, path: str, token: str, **content: Any) -> httpx.Response:
        """Call the API with a token that is bound to the key."""
        headers = {"Authorization": f"DPoP {token}"} | self.proof(method, path.partition("?")[0], access_token=token)
        return await self.api.client.request(method, path, headers=headers | content.pop("headers", {}), **content)


def change(api: Api, path: str, body: dict[str, Any], method: str = "POST") -> Any:
    """What an operator does to a client."""
    return api.client.request(method, path, headers=api.bearer("operator"), json=body)


async def put_client(api: Api, client_id: str, role: str, **changes: Any) -> httpx.Response:
    body = {"client_id": client_id, "role": role, "title_zh": "测试客户端", "title_en": "A test client"} | changes
    answer: httpx.Response = await change(api, "/v1/clients", body, "PUT")
    return answer


async def put_client_key(api: Api, client_id: str, key: SigningKey, **rest: str) -> httpx.Response:
    body = {"client_id": client_id, "key": public_jwk(key), "valid_from": "2026-01-01T00:00:00Z"} | rest
    answer: httpx.Response = await change(api, "/v1/clients/keys", body, "PUT")
    return answer


async def open_client(api: Api, role: str = "provider", uri: str | None = None, *, p256: bool = False) -> Client:
    """A newly registered client with a key; one of a provider speaks for a new source unless one is given."""
    client_id = f"client-{os.urandom(5).hex()}"
    if role == "provider":
        uri = uri or await api.source()
    answer = await put_client(api, client_id, role, **({} if uri is None else {"uri": uri}))
    assert answer.status_code == 200, answer.text
    key = new_key(f"key-{os.urandom(4).hex()}", p256=p256)
    answer = await put_client_key(api, client_id, key)
    assert answer.status_code == 200, answer.text
    return Client(api, client_id, uri, key)
