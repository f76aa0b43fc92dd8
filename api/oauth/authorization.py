"""Linking at the edge of OAuth: a pushed request (RFC 9126) of a source or a bank, and the code that it ends with.

There is no page here: the city's app shows the request to whoever is signed in (api/v1/links.py), and redirects.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from api.oauth.errors import OAuthError
from api.oauth.issuing import issue_token
from api.platform import Platform
from service.activities.store import read_registration
from service.banks.registry import read_bank
from service.clients.registry import OAuthClient
from service.database import Connection
from service.linking.asking import (
    REQUEST_LIFE,
    CodeFault,
    CodeRefused,
    LinkMade,
    NewLinkRequest,
    Party,
    Scope,
    ask_for_link,
    new_secret,
    redeem_code,
)
from service.participants import EnrolledMeanwhile, ProgrammeMismatch
from service.quantification.document import Bilingual

if TYPE_CHECKING:
    from api.oauth.grants import TokenRequest  # which names this grant among the others

PAR_PATH = "/v1/oauth/par"
REQUEST_URI = "urn:ietf:params:oauth:request_uri:"
LONGEST_STATE = 512  # characters
MEETINGS = 10  # links of one person that may cross before the client is asked to come back

AUTHORIZATION_METADATA: Mapping[str, Any] = {
    "pushed_authorization_request_endpoint": PAR_PATH,
    "require_pushed_authorization_requests": True,
    "response_types_supported": ["code"],
    "code_challenge_methods_supported": ["S256"],
    "authorization_response_iss_parameter_supported": True,
}

_SCOPE_OF: Mapping[str, Scope] = {"provider": "link:activities", "bank": "link:bank"}
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # base64url of a SHA-256
_PRINTABLE = re.compile(r"[\x20-\x7e]+")

_WHY: Mapping[CodeFault, str] = {
    "unknown": "the code is not one of this client",
    "used": "the code was used before: what it had been given for is ended",
    "expired": "the code has expired",
    "redirect": "the redirect_uri is not the one of the request",
    "verifier": "the code_verifier does not fit the code_challenge",
    "withdrawn": "the person has withdrawn their consent",
    "barred": "the person can be linked to nobody at present",
}


@dataclass(frozen=True, slots=True)
class NamedParty:
    """A source or a bank that asks for links, with its name for people."""

    party: Party
    title: Bilingual


async def push_request(platform: Platform, client: OAuthClient, form: Mapping[str, str]) -> dict[str, Any]:
    """Record what a client wants of a person; the members of the answer (RFC 9126, 2.2). Raises OAuthError."""
    scope = _SCOPE_OF.get(client.role)
    if scope is None:
        raise OAuthError("unauthorized_client", "people link sources and banks alone")
    if "request" in form or "request_uri" in form:
        raise OAuthError("invalid_request", "request and request_uri are not taken here (RFC 9126, 2.1)")
    if _given(form, "response_type") != "code":
        raise OAuthError("unsupported_response_type", "the response_type is code")
    if _given(form, "scope") != scope:
        raise OAuthError("invalid_scope", f"the scope of this client is {scope}")
    redirect_uri = _given(form, "redirect_uri")
    if redirect_uri not in client.redirect_uris:
        raise OAuthError("invalid_request", "the redirect_uri is not one that the client is registered with")
    if form.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(_given(form, "code_challenge")):
        raise OAuthError("invalid_request", "a code_challenge of the method S256 is needed (RFC 7636)")
    state = _given(form, "state")
    if len(state) > LONGEST_STATE or not _PRINTABLE.fullmatch(state):
        raise OAuthError("invalid_request", f"state has 1 to {LONGEST_STATE} printable characters")
    handle = new_secret(platform.fresh)
    async with platform.pool.acquire() as connection:
        asking = await party_of(connection, client.role, client.uri, platform.today())
        wanted = NewLinkRequest(
            request_id=platform.fresh.id(),
            client_id=client.client_id,
            party=asking.party.code,
            scope=scope,
            redirect_uri=redirect_uri,
            code_challenge=form["code_challenge"],
            state=state,
        )
        await ask_for_link(connection, wanted, handle, platform.settings.clock_offset)
    return {"request_uri": REQUEST_URI + handle, "expires_in": int(REQUEST_LIFE.total_seconds())}


def _given(form: Mapping[str, str], name: str) -> str:
    value = form.get(name)
    if value is None:
        raise OAuthError("invalid_request", f"the parameter {name} is missing")
    return value


async def party_of(tx: Connection, role: str, uri: str | None, today: date) -> NamedParty:
    """The source or the bank that a client of this role speaks for. Raises OAuthError
    unauthorized_client for one that is not registered, or is suspended."""
    if role == "provider" and uri is not None:
        source = await read_registration(tx, uri, today)
        if source is not None:
            licence = source.licence
            party = Party("source", licence.source_id, uri, licence.programme)
            return NamedParty(party, Bilingual(source.title_zh, source.title_en))
    if role == "bank" and uri is not None:
        bank = await read_bank(tx, uri)
        if bank is not None and bank.active:
            return NamedParty(Party("bank", bank.bank_id, uri, bank.programme), Bilingual(bank.title_zh, bank.title_en))
    raise OAuthError("unauthorized_client", "the source or bank of this client is not registered, or is suspended")


def redirect_target(redirect_uri: str, **parameters: str | None) -> str:
    """Where a browser goes back to, with these parameters; None is left out."""
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"


async def authorization_code(request: "TokenRequest") -> dict[str, Any]:
    """The link that a code stands for: its id, and the id by which this party alone knows the person, beside an access
    token for the client itself. Raises OAuthError."""
    platform, client = request.platform, request.client
    if client.role not in _SCOPE_OF:
        raise OAuthError("unauthorized_client", "people link sources and banks alone")
    code, verifier = request.require("code"), request.require("code_verifier")
    redirect_uri = request.require("redirect_uri")
    made = await _redeemed(request, code, verifier, redirect_uri)
    if isinstance(made, CodeRefused):
        raise OAuthError("invalid_grant", _WHY[made.fault])
    issued = issue_token(
        platform,
        client_id=client.client_id,
        role=client.role,
        subject=client.client_id,
        scopes=client.scopes,
        uri=client.uri,
        jkt=request.jkt,
        at=request.at,
    )
    return {**issued, "link_id": str(made.link_id), "subject": made.subject}


async def _redeemed(request: "TokenRequest", code: str, verifier: str, redirect_uri: str) -> LinkMade | CodeRefused:
    platform, client = request.platform, request.client
    for _ in range(MEETINGS):
        try:
            async with platform.pool.acquire() as connection, connection.transaction():
                asking = await party_of(connection, client.role, client.uri, platform.today())
                return await redeem_code(
                    connection,
                    platform.keyring,
                    platform.fresh,
                    platform.settings.clock_offset,
                    client_id=client.client_id,
                    party=asking.party,
                    code=code,
                    verifier=verifier,
                    redirect_uri=redirect_uri,
                )
        except EnrolledMeanwhile:
            continue
        except ProgrammeMismatch:
            raise OAuthError("invalid_grant", "the person belongs to another programme than the client") from None
    raise OAuthError("temporarily_unavailable", "try again in a moment", headers={"Retry-After": "1"})
