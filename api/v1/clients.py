"""Register the clients of the token endpoint and their keys, suspend and resume them, revoke what they were given."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.auth import ROLE_SCOPES
from api.dependencies import (
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    admit,
    charge,
    openapi_body,
    parsed,
    platform_of,
    raw_body,
    read_json,
)
from api.operators import operator_code
from api.problems import Fault, Problem, openapi_problems
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from api.v1.activities import Word
from api.v1.manifests import answered
from api.v1.source_keys import Ed25519Key, KeyMoment, P256Key
from api.v1.sources import SourceUri
from service.clients.registry import (
    URI_OF,
    ClientKey,
    OAuthClient,
    Registration,
    read_client,
    read_clients,
    register_client,
    register_client_key,
    revoke_tokens,
    set_client_state,
)
from service.database import Connection
from service.jws import read_public_key

router = APIRouter(tags=["clients"])

ClientId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{2,63}$")]
# Over TLS, or to an app's own machine (RFC 8252, 7.3); a fragment would be lost on the way (RFC 6749, 3.1.2).
RedirectUri = Annotated[
    str,
    StringConstraints(
        max_length=500, pattern=r"^(https://[A-Za-z0-9.-]+|http://(127\.0\.0\.1|\[::1\]))(:[0-9]{1,5})?/[!$-\[\]-~]*$"
    ),
]
MachineRole = Literal["provider", "participant", "bank", "auditor", "funder", "assurer", "authority"]


class ClientRegistration(BaseModel):
    """A client of the token endpoint.

    role            of its tokens; `participant` is an app of people, which has no key. No client is an operator: that
                    is a person
    uri             of the source, bank or funder that it speaks for; null for the other roles
    scopes          of its role; all of them when left out
    redirect_uris   to which a person is sent back after linking
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    client_id: ClientId
    role: MachineRole
    uri: SourceUri | None = None
    title_zh: Word
    title_en: Word
    scopes: Annotated[list[Word], Field(min_length=1, max_length=50)] | None = None
    redirect_uris: Annotated[list[RedirectUri], Field(max_length=20)] = []


class ClientKeyRegistration(BaseModel):
    """A client's public key as a JWK with a kid. Its assertions count from `valid_from` on and before `valid_to`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    client_id: ClientId
    key: Annotated[Ed25519Key | P256Key, Field(discriminator="kty")]
    valid_from: KeyMoment
    valid_to: KeyMoment | None = None


class ClientNamed(BaseModel):
    """Which client."""

    model_config = ConfigDict(strict=True, extra="forbid")

    client_id: ClientId


class ClientKeyView(BaseModel):
    """A registered key: the required members of the JWK, and its kid."""

    key: dict[str, str]
    valid_from: datetime
    valid_to: datetime | None


class ClientView(BaseModel):
    """A client as it is registered now, with every key it has had, the newest first. `tokens_from`: tokens that were
    issued before are refused."""

    client_id: str
    role: MachineRole
    uri: str | None
    title_zh: str
    title_en: str
    scopes: list[str]
    redirect_uris: list[str]
    state: Literal["active", "suspended"]
    tokens_from: datetime | None
    keys: list[ClientKeyView]


class ClientsView(BaseModel):
    """Every registered client, by id."""

    clients: list[ClientView]


_CHANGE_PROBLEMS = (*BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS)


@router.put(
    "/clients",
    summary="Register a client 登记客户端",
    response_model=ClientView,
    responses=PROPOSED | openapi_problems(*_CHANGE_PROBLEMS, "client-conflict"),
    openapi_extra=openapi_body(model=ClientRegistration),
)
async def put_client(request: Request) -> Response:
    """Register a client by its id, or give it other titles, scopes and addresses. Role and URI are for good. Needs two
    operators."""
    platform = platform_of(request)
    caller = await admit(request, "clients:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    wanted = _registration(parsed(ClientRegistration, content))
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        await register_client(connection, wanted, by=operator_code(platform, caller))
    return await _read(request, wanted.client_id, headers)


def _registration(body: ClientRegistration) -> Registration:
    speaks_for = body.role in URI_OF
    if speaks_for != (body.uri is not None):
        raise Problem("malformed-request", faults=[Fault("/uri", "missing" if speaks_for else "unexpected")])
    scopes = ROLE_SCOPES[body.role] if body.scopes is None else frozenset(body.scopes)
    if not scopes <= ROLE_SCOPES[body.role]:
        expected = " ".join(sorted(ROLE_SCOPES[body.role]))
        raise Problem("malformed-request", faults=[Fault("/scopes", "wrong-value", {"expected": expected})])
    return Registration(
        body.client_id, body.role, body.uri, body.title_zh, body.title_en, scopes, tuple(body.redirect_uris)
    )


@router.put(
    "/clients/keys",
    summary="Register a client's key 登记客户端公钥",
    response_model=ClientView,
    responses=PROPOSED | openapi_problems(*_CHANGE_PROBLEMS, "client-not-found", "client-key-conflict"),
    openapi_extra=openapi_body(model=ClientKeyRegistration),
)
async def put_client_key(request: Request) -> Response:
    """Register a public key of a client: Ed25519 or P-256. Several may count at once, so that one follows the other
    without a gap. Again with a `valid_to` ends it, or ends it earlier. Needs two operators."""
    platform = platform_of(request)
    caller = await admit(request, "clients:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(ClientKeyRegistration, content)
    key = _key(body)
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        await register_client_key(connection, body.client_id, key, by=operator_code(platform, caller))
    return await _read(request, body.client_id, headers)


def _key(body: ClientKeyRegistration) -> ClientKey:
    if body.valid_to is not None and body.valid_to < body.valid_from:
        fault = Fault("/valid_to", "too-small", {"limit": body.valid_from.isoformat()})
        raise Problem("malformed-request", faults=[fault])
    try:
        text = read_public_key({name: value for name, value in body.key if isinstance(value, str)})
    except ValueError:
        raise Problem("malformed-request", faults=[Fault("/key", "invalid")]) from None
    ends = body.valid_to and body.valid_to.astimezone(UTC)
    return ClientKey(body.key.kid, text, body.valid_from.astimezone(UTC), ends)


@router.post(
    "/clients/suspend",
    summary="Suspend a client 暂停客户端",
    response_model=ClientView,
    responses=openapi_problems(*BODY_PROBLEMS, "client-not-found"),
    openapi_extra=openapi_body(model=ClientNamed),
)
async def suspend_client(request: Request) -> Response:
    """Give it no more tokens, and refuse those it has: in every process within a second, and for good. One operator is
    enough to stop something."""

    async def change(connection: Connection, client_id: str, by: str) -> None:
        await set_client_state(connection, client_id, "suspended", by=by)

    return await _changed(request, change, guarded=False)


@router.post(
    "/clients/resume",
    summary="Resume a client 恢复客户端",
    response_model=ClientView,
    responses=PROPOSED | openapi_problems(*_CHANGE_PROBLEMS, "client-not-found"),
    openapi_extra=openapi_body(model=ClientNamed),
)
async def resume_client(request: Request) -> Response:
    """Let it ask for tokens again. Needs two operators."""

    async def change(connection: Connection, client_id: str, by: str) -> None:
        await set_client_state(connection, client_id, "resumed", by=by)

    return await _changed(request, change, guarded=True)


@router.post(
    "/clients/revoke-tokens",
    summary="Revoke a client's tokens 吊销客户端的全部令牌",
    response_model=ClientView,
    responses=openapi_problems(*BODY_PROBLEMS, "client-not-found"),
    openapi_extra=openapi_body(model=ClientNamed),
)
async def revoke_client_tokens(request: Request) -> Response:
    """Refuse every token that it was given until now, in every process within a second; it may ask for new ones. After
    the end of a key that was stolen."""

    async def change(connection: Connection, client_id: str, by: str) -> None:
        await revoke_tokens(connection, client_id, by=by)

    return await _changed(request, change, guarded=False)


async def _changed(
    request: Request, change: Callable[[Connection, str, str], Awaitable[None]], *, guarded: bool
) -> Response:
    platform = platform_of(request)
    caller = await admit(request, "clients:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    client_id = parsed(ClientNamed, content).client_id
    proposed = await require_two(request, caller, raw_body(request)) if guarded else None
    if proposed is not None:
        return proposed
    async with platform.pool.acquire() as connection:
        async with connection.transaction(isolation="read_committed"):
            await change(connection, client_id, operator_code(platform, caller))
        await platform.standing.refresh(connection)
    return await _read(request, client_id, headers)


@router.get(
    "/clients",
    summary="List clients 客户端列表",
    response_model=ClientsView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "client-not-found"),
)
async def list_clients(request: Request, client_id: Annotated[ClientId | None, Query()] = None) -> Response:
    """Every client with its keys, or the one of an id."""
    caller = await admit(request, "clients:write")
    headers = await charge(request, caller)
    async with platform_of(request).pool.acquire() as connection:
        clients = await read_clients(connection, client_id)
    if client_id is not None and not clients:
        raise Problem("client-not-found")
    return answered(200, {"clients": [client_view(client) for client in clients]}, headers, request)


async def _read(request: Request, client_id: str, headers: dict[str, str]) -> Response:
    async with platform_of(request).pool.acquire() as connection:
        client = await read_client(connection, client_id)
    assert client is not None  # it was written a line ago, and is never deleted
    return answered(200, client_view(client), headers, request)


def client_view(client: OAuthClient) -> dict[str, Any]:
    """A ClientView."""
    return {
        "client_id": client.client_id,
        "role": client.role,
        "uri": client.uri,
        "title_zh": client.title_zh,
        "title_en": client.title_en,
        "scopes": sorted(client.scopes),
        "redirect_uris": list(client.redirect_uris),
        "state": client.state,
        "tokens_from": client.tokens_from,
        "keys": [
            {
                "key": {**orjson.loads(key.public_key), "kid": key.kid},
                "valid_from": key.valid_from,
                "valid_to": key.valid_to,
            }
            for key in client.keys.values()
        ],
    }
