"""Who asks at the token endpoint: clients prove themselves by `private_key_jwt` (RFC 7523), apps of people are named.

An assertion is a JWS under a registered key of the client, EdDSA or ES256 as the key says, for this platform alone, for
five minutes at most, used once. What is wrong with it is said only where it betrays nothing of who is registered.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from api.body import media_type, read_body
from api.dependencies import platform_of
from api.oauth.errors import OAuthError
from api.platform import Platform
from service.clients.registry import OAuthClient, read_client_locked
from service.clients.standing import use_assertion
from service.database import Connection
from service.jws import Jws, NotJws, SignatureRefused, read_jws, verify_jws

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TOKEN_PATH = "/v1/oauth/token"
FORM = "application/x-www-form-urlencoded"
LONGEST_LIFE_S = 300
LEEWAY_S = 30  # seconds that clocks may differ
LARGEST_FORM = 32 * 1024  # bytes; an assertion or a subject token of a few thousand, and the rest is small
MOST_PARAMETERS = 32

_TYPES = (None, "JWT", "jwt", "client-authentication+jwt")
_CLIENT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{2,63}")
_JTI = re.compile(r"[\x21-\x7e]{8,128}")
_REFUSED = "the client assertion was not accepted"


@dataclass(frozen=True, slots=True)
class Identified:
    """Who asks, and the database's time: tokens and revocations live by one clock."""

    client: OAuthClient
    at: datetime


async def read_form(request: Request) -> dict[str, str]:
    """The parameters of a form; one without a value counts as absent (RFC 6749, 3.2).

    Raises OAuthError invalid_request, for a parameter that comes twice too; Problem payload-too-large.
    """
    if media_type(request.headers) != FORM:
        raise OAuthError("invalid_request", f"the body has to be {FORM}")
    if request.url.query:
        raise OAuthError("invalid_request", "parameters belong into the body, not into the address")
    body = await read_body(request, LARGEST_FORM)
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=MOST_PARAMETERS
        )
    except ValueError:
        raise OAuthError("invalid_request", "the body is not a form") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "a parameter comes twice")
    return {name: value for name, value in form.items() if value}


async def identify(request: Request, form: Mapping[str, str], endpoint: str) -> Identified:
    """The client of a request, proven where it has a key.

    endpoint   path of the endpoint; an assertion is for its address, or for the platform

    Raises OAuthError invalid_client, invalid_request, unauthorized_client (suspended).
    """
    platform = platform_of(request)
    if "authorization" in request.headers or "client_secret" in form:
        raise OAuthError("invalid_client", "clients prove themselves by private_key_jwt alone")
    if "client_assertion" in form or "client_assertion_type" in form:
        return await _proven(platform, form, endpoint)
    client_id = form.get("client_id")
    if client_id is None:
        raise OAuthError("invalid_client", "a client_assertion, or the client_id of an app, is missing")
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        client = await _registered(connection, client_id)
        at: datetime = await connection.fetchval("SELECT clock_timestamp()")
    if client is None or not client.public:
        raise OAuthError("invalid_client", "the client is not known, or has to prove itself by private_key_jwt")
    return _standing(client, at)


async def _proven(platform: Platform, form: Mapping[str, str], endpoint: str) -> Identified:
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise OAuthError("invalid_client", f"client_assertion_type has to be {ASSERTION_TYPE}")
    jws, claims = _read(form.get("client_assertion", ""))
    client_id = claims.get("iss")
    if not isinstance(client_id, str) or claims.get("sub") != client_id:
        raise OAuthError("invalid_client", "iss and sub of the assertion are both the client_id")
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_client", "the client_id is another than that of the assertion")
    issuer = platform.settings.oauth_issuer
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    if audience not in (issuer, issuer + endpoint, issuer + TOKEN_PATH):
        raise OAuthError("invalid_client", f"aud of the assertion has to be {issuer}")
    jti, expires = _times(claims)
    # One transaction: whoever ends a key or suspends the client waits for this, or this sees it.
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        client = await _registered(connection, client_id)
        _verify(jws, client)
        assert client is not None
        at = await use_assertion(connection, client_id, jti, datetime.fromtimestamp(expires + LEEWAY_S, UTC))
        if at is None:
            raise OAuthError("invalid_client", "the assertion was used before (jti): make a new one")
    return _standing(client, at)


async def _registered(connection: Connection, client_id: str) -> OAuthClient | None:
    """The client of an id that anybody may have sent; what could be none is not looked for."""
    return await read_client_locked(connection, client_id) if _CLIENT_ID.fullmatch(client_id) else None


def _standing(client: OAuthClient, at: datetime) -> Identified:
    if not client.active:
        raise OAuthError("unauthorized_client", "the client is suspended")
    # Whoever asks within the very second of a revocation is given a token that counts from its end on.
    return Identified(client, at if client.tokens_from is None else max(at, client.tokens_from))


def _read(text: str) -> tuple[Jws, dict[str, Any]]:
    try:
        jws = read_jws(text.encode("ascii"))
        claims = json.loads(jws.payload, object_pairs_hook=_without_repeats)
    except (NotJws, ValueError, RecursionError):
        raise OAuthError("invalid_client", "the client_assertion is not a compact JWS of JSON") from None
    if not isinstance(claims, dict) or jws.header.get("typ") not in _TYPES:
        raise OAuthError("invalid_client", "the client_assertion is not a JWT for this purpose")
    return jws, claims


def _times(claims: Mapping[str, Any]) -> tuple[str, int]:
    now = time.time()
    jti, expires, issued, begins = (claims.get(name) for name in ("jti", "exp", "iat", "nbf"))
    if not isinstance(jti, str) or not _JTI.fullmatch(jti):
        raise OAuthError("invalid_client", "jti of the assertion has to be 8 to 128 printable characters")
    if type(expires) is not int or not now - LEEWAY_S < expires <= now + LONGEST_LIFE_S + LEEWAY_S:
        raise OAuthError("invalid_client", "the assertion has expired, or lives longer than five minutes (exp)")
    if any(value is not None and (type(value) is not int or value > now + LEEWAY_S) for value in (issued, begins)):
        raise OAuthError("invalid_client", "the assertion is not valid yet (iat, nbf): check the clock")
    return jti, expires


def _verify(jws: Jws, client: OAuthClient | None) -> None:
    """Under a key of this client that counts now; which of all this failed nobody is told."""
    try:
        key = None if client is None else client.keys.get(jws.key_id)
        if key is None or not key.counts(datetime.now(UTC)):
            raise SignatureRefused("unknown-key")
        verify_jws(jws, key.public_key)
    except SignatureRefused:
        raise OAuthError("invalid_client", _REFUSED) from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an assertion names each member once")
    return found
