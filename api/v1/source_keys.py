"""Public keys of sources: registered by the operator, shown to whoever checks a signature."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import BODY_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, raw_body, read_json
from api.problems import Fault, Problem, openapi_problems
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from api.v1.activities import Moment
from api.v1.manifests import READ_PROBLEMS, admit_reader, answered, require_licence
from api.v1.sources import SourceUri
from service.jws import read_public_key
from service.manifests import RegisteredKey, read_keys, register_key

router = APIRouter(tags=["sources"])

KeyId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
Coordinate = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
KeyMoment = Annotated[Moment, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), le=datetime(2999, 12, 31, tzinfo=UTC))]


class _PublicKey(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    kid: KeyId
    use: Literal["sig"] = "sig"
    key_ops: list[Literal["verify"]] = ["verify"]


class Ed25519Key(_PublicKey):
    """An Ed25519 public key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: Coordinate
    alg: Literal["EdDSA"] = "EdDSA"


class P256Key(_PublicKey):
    """A P-256 public key (RFC 7518)."""

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: Coordinate
    y: Coordinate
    alg: Literal["ES256"] = "ES256"


class SourceKeyRegistration(BaseModel):
    """A source's public key as a JWK with a kid. Its signatures count from `valid_from` on and before `valid_to`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    uri: SourceUri
    key: Annotated[Ed25519Key | P256Key, Field(discriminator="kty")]
    valid_from: KeyMoment
    valid_to: KeyMoment | None = None


class SourceKeyView(BaseModel):
    """A registered key: the required members of the JWK, and its kid."""

    uri: str
    key: dict[str, str]
    valid_from: datetime
    valid_to: datetime | None


class SourceKeysView(BaseModel):
    """Every key a source has had, the newest first."""

    keys: list[SourceKeyView]


@router.put(
    "/sources/keys",
    summary="Register a source's key 登记数据方公钥",
    response_model=SourceKeyView,
    responses=PROPOSED
    | openapi_problems(
        *BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS, "source-not-found", "source-key-conflict", "posting-suspended"
    ),
    openapi_extra=openapi_body(model=SourceKeyRegistration),
)
async def put_key(request: Request) -> Response:
    """Register a public key of a source: Ed25519 or P-256. Again with a `valid_to` ends it, or ends it earlier. The log
    has a leaf of each change. Needs two operators."""
    platform = platform_of(request)
    caller = await admit(request, "sources:register")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(SourceKeyRegistration, content)
    key = _registered(body)
    licence = await require_licence(platform, body.uri)
    platform.watch.require()
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        await register_key(connection, licence, key, platform.fresh, platform.settings.clock_offset)
    platform.signers.pop(body.uri, None)
    return answered(200, _key_view(body.uri, key), headers, request)


def _registered(body: SourceKeyRegistration) -> RegisteredKey:
    if body.valid_to is not None and body.valid_to <= body.valid_from:
        fault = Fault("/valid_to", "too-small", {"limit": body.valid_from.isoformat()})
        raise Problem("malformed-request", faults=[fault])
    try:
        text = read_public_key({name: value for name, value in body.key if isinstance(value, str)})
    except ValueError:
        raise Problem("malformed-request", faults=[Fault("/key", "invalid")]) from None
    ends = body.valid_to and body.valid_to.astimezone(UTC)
    return RegisteredKey(body.key.kid, text, body.valid_from.astimezone(UTC), ends)


@router.get(
    "/sources/keys",
    summary="List a source's keys 数据方公钥列表",
    response_model=SourceKeysView,
    responses=openapi_problems(*READ_PROBLEMS),
)
async def list_keys(request: Request, source: Annotated[str | None, Query(max_length=500)] = None) -> Response:
    """Every key a source has had, with the time in which its signatures count. A provider sees its own."""
    platform, reader = platform_of(request), await admit_reader(request, source)
    async with platform.pool.acquire() as connection:
        keys = await read_keys(connection, reader.licence.source_id)
    content = {"keys": [_key_view(reader.licence.uri, key) for key in keys]}
    return answered(200, content, reader.headers, request)


def _key_view(uri: str, key: RegisteredKey) -> dict[str, Any]:
    return {
        "uri": uri,
        "key": {**orjson.loads(key.public_key), "kid": key.key_id},
        "valid_from": key.valid_from,
        "valid_to": key.valid_to,
    }
