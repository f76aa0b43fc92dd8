"""The platform as an authorisation server: tokens (RFC 6749), their end (RFC 7009), its keys and metadata (RFC 8414).

Errors here are not problems: clients' libraries read the JSON that the RFCs of OAuth give, `error` and
`error_description`, and nothing else. What befalls any call (a quota, a database that is away) stays a problem.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import jwt
import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.auth import ROLE_SCOPES
from api.auth.callers import REASONS
from api.auth.dpop import ALGORITHMS, ProofRefused
from api.dependencies import platform_of
from api.jwk_set import JwkSet
from api.oauth.authorization import AUTHORIZATION_METADATA
from api.oauth.client_authentication import FORM, TOKEN_PATH, identify, read_form
from api.oauth.errors import JSON, NO_STORE, OAuthError, error_answer
from api.oauth.grants import GRANTS, TokenRequest
from api.platform import Platform
from api.problems import openapi_problems
from service.clients.registry import CLIENT_ROLES, OAuthClient
from service.clients.standing import revoke_token

router = APIRouter(tags=["oauth"])
well_known = APIRouter(tags=["oauth"])

REVOKE_PATH = "/v1/oauth/revoke"
JWKS_PATH = "/v1/oauth/jwks"
_PUBLIC = {"Cache-Control": "public, max-age=300"}  # seconds; a new key is published before it signs


class TokenView(BaseModel):
    """A token response (RFC 6749, 5.1). `token_type` is DPoP for a token that is bound to a key. A grant may add
    members of its own."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str


class OAuthErrorView(BaseModel):
    """An error (RFC 6749, 5.2)."""

    error: str
    error_description: str


class JwksView(BaseModel):
    """A JWKS (RFC 7517) of the keys that sign the platform's tokens."""

    keys: list[dict[str, str]]


class MetadataView(BaseModel):
    """Authorisation server metadata (RFC 8414)."""

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    jwks_uri: str
    grant_types_supported: list[str]
    response_types_supported: list[str]
    scopes_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    token_endpoint_auth_signing_alg_values_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_signing_alg_values_supported: list[str]
    dpop_signing_alg_values_supported: list[str]


METADATA: dict[str, Any] = dict(AUTHORIZATION_METADATA)
"""Members that other grants and endpoints add to the metadata; a value that begins with a slash is a path here."""


def form_body(*required: str, **meanings: str) -> dict[str, Any]:
    """The `requestBody` of an endpoint that takes a form."""
    properties = {name: {"type": "string", "description": meaning} for name, meaning in meanings.items()}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


_CLIENT = {
    "client_id": "of an app of people; of others it stands in the assertion",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    "client_assertion": "a JWT under a registered key of the client (RFC 7523)",
}


_PROBLEMS = (  # that a form and any call may end with
    "unsupported-media-type",
    "payload-too-large",
    "quota-exceeded",
    "temporarily-unavailable",
    "internal-error",
)


def oauth_answers(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` of an endpoint of OAuth: its errors, and the problems that any call may end with."""
    errors = {"model": OAuthErrorView}
    return {
        400: errors | {"description": "An error of RFC 6749, 8693, 9126 or 9449"},
        401: errors | {"description": "invalid_client"},
        **openapi_problems(*_PROBLEMS, *slugs),
    }


def answers_errors(route: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A route whose OAuthErrors become answers."""

    @wraps(route)
    async def answering(request: Request) -> Response:
        try:
            return await route(request)
        except OAuthError as error:
            return error_answer(error)

    return answering


@router.post(
    "/oauth/token",
    summary="Get a token 取得令牌",
    response_model=TokenView,
    responses=oauth_answers(),
    openapi_extra=form_body(
        "grant_type", grant_type="client_credentials, or another grant of the metadata", scope="fewer scopes", **_CLIENT
    ),
)
@answers_errors
async def post_token(request: Request) -> Response:
    """A short-lived access token for a client that proves itself by `private_key_jwt`. With a DPoP proof (RFC 9449) the
    token is bound to the key of the proof; where tokens of machines have to be, a proof is required."""
    platform = platform_of(request)
    form = await read_form(request)
    named = form.get("grant_type")
    if named is None:
        raise OAuthError("invalid_request", "the parameter grant_type is missing")
    grant = GRANTS.get(named)
    if grant is None:
        raise OAuthError("unsupported_grant_type", f"grant_type is one of {', '.join(GRANTS)}")
    found = await identify(request, form, TOKEN_PATH)
    headers: dict[str, str] = {}
    if not found.client.public:  # whoever only names an app is counted by the address alone
        request.state.client = named_client = f"client:{found.client.client_id}"
        headers = await platform.limiter.require(named_client)
    if found.client.public and not grant.public:
        raise OAuthError("unauthorized_client", "an app of people has no such grant")
    jkt = await proven_key(request)
    if jkt is None and _has_to_be_bound(platform, found.client):
        raise OAuthError("invalid_dpop_proof", "a DPoP proof is required here")
    answer = await grant.answer(TokenRequest(platform, found.client, form, jkt, found.at))
    return Response(orjson.dumps(answer), 200, NO_STORE | headers, JSON)


async def proven_key(request: Request) -> str | None:
    """The thumbprint of the key of the request's DPoP proof, None without one. Raises OAuthError invalid_dpop_proof."""
    possession = platform_of(request).authenticator.possession
    now = time.time()
    try:
        proof = None if possession is None else possession.check(request, now, None)
        if proof is not None and possession is not None and not await possession.memory.is_new(proof, now):
            raise ProofRefused("proof-replayed")
    except ProofRefused as refused:
        raise OAuthError("invalid_dpop_proof", REASONS[refused.reason].en) from None
    return None if proof is None else proof.jkt


def _has_to_be_bound(platform: Platform, client: OAuthClient) -> bool:
    return not client.public and platform.settings.require_sender_constrained


@router.post(
    "/oauth/revoke",
    summary="Revoke a token 吊销令牌",
    responses={200: {"description": "It is not accepted any more, or never was"}, **oauth_answers()},
    openapi_extra=form_body("token", token="an access token of this client", token_type_hint="is ignored", **_CLIENT),
)
@answers_errors
async def post_revoke(request: Request) -> Response:
    """End a token of the client's own before its time (RFC 7009); every process refuses it within a second. What is no
    token, or has expired, is answered alike."""
    platform = platform_of(request)
    form = await read_form(request)
    token = form.get("token")
    if token is None:
        raise OAuthError("invalid_request", "the parameter token is missing")
    client = (await identify(request, form, REVOKE_PATH)).client
    claims = _issued(platform, token)
    if claims is not None:
        if claims["client_id"] != client.client_id:
            raise OAuthError("invalid_request", "the token was issued to another client")
        async with platform.pool.acquire() as connection:
            ends = datetime.fromtimestamp(claims["exp"], UTC)
            await revoke_token(connection, claims["jti"], client.client_id, ends)
            await platform.standing.refresh(connection)
    return Response(b"{}", 200, NO_STORE, JSON)


def _issued(platform: Platform, token: str) -> dict[str, Any] | None:
    """The claims of a token that we signed; None for anything else."""
    try:
        key = platform.token_keys.keys.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            return None
        options: Any = {"verify_aud": False, "verify_exp": False, "verify_iat": False}
        claims: dict[str, Any] = jwt.decode(token, key.private.public_key(), algorithms=["EdDSA"], options=options)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return claims


@router.get(
    "/oauth/jwks",
    summary="Read the tokens' keys 令牌公钥",
    response_model=JwksView,
    response_class=JwkSet,
    responses=openapi_problems("temporarily-unavailable"),
)
async def read_jwks(request: Request) -> Response:
    """The public keys that sign the platform's tokens, also those that will sign soon. Open to anyone."""
    keys = platform_of(request).token_keys
    keys.refresh_if_due()
    return JwkSet({"keys": [key.jwk for key in keys.keys.values()]}, 200, _PUBLIC)


@well_known.get(
    "/.well-known/oauth-authorization-server", summary="Read the metadata 授权服务元数据", response_model=MetadataView
)
async def read_metadata(request: Request) -> Response:
    """Where the endpoints are and what they take (RFC 8414). Open to anyone."""
    issuer = platform_of(request).settings.oauth_issuer
    added = {
        name: issuer + value if isinstance(value, str) and value.startswith("/") else value
        for name, value in METADATA.items()
    }
    return Response(orjson.dumps(metadata(issuer) | added), 200, _PUBLIC, JSON)


def metadata(issuer: str) -> dict[str, Any]:
    """A MetadataView."""
    methods, algorithms = ["private_key_jwt"], ["EdDSA", "ES256"]
    return {
        "issuer": issuer,
        "token_endpoint": issuer + TOKEN_PATH,
        "revocation_endpoint": issuer + REVOKE_PATH,
        "jwks_uri": issuer + JWKS_PATH,
        "grant_types_supported": list(GRANTS),
        "response_types_supported": [],
        "scopes_supported": sorted(frozenset().union(*(ROLE_SCOPES[role] for role in CLIENT_ROLES))),
        "token_endpoint_auth_methods_supported": [*methods, "none"],
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint_auth_methods_supported": [*methods, "none"],
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
    }
