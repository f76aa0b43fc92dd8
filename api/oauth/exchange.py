"""Sign a citizen in: an ID token of the city's identity provider is exchanged (RFC 8693) for a token of ours.

The client is an app of people. Whoever was never here is enrolled, if the request says by `terms` which version of the
terms the person has just agreed to; without that the answer is `consent_required`.
"""

from typing import TYPE_CHECKING, Any

from api.auth.keys import KeysUnavailable
from api.oauth.citizens import IdTokenRefused
from api.oauth.errors import OAuthError
from api.oauth.issuing import issue_token
from service.persons import ConsentRequired, Identified, PersonErased, SignedIn, Terms, TokenExchanged, sign_in

if TYPE_CHECKING:
    from api.oauth.grants import TokenRequest  # which names this grant among the others

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"

_NOT_OFFERED = ("actor_token", "actor_token_type", "resource", "audience")


async def token_exchange(request: "TokenRequest") -> dict[str, Any]:
    """A token for the participant whom an ID token speaks of. Raises OAuthError."""
    client = request.client
    if client.role != "participant":
        raise OAuthError("unauthorized_client", "people sign in by an app that is registered for participants")
    if request.require("subject_token_type") != ID_TOKEN:
        raise OAuthError("invalid_request", f"the subject_token_type is {ID_TOKEN}")
    if request.form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise OAuthError("invalid_request", f"the requested_token_type is {ACCESS_TOKEN}")
    for name in _NOT_OFFERED:
        if name in request.form:
            raise OAuthError("invalid_request", f"the parameter {name} is not offered here")
    asked = request.form.get("scope")
    scopes = client.scopes if asked is None else frozenset(asked.split())
    if not scopes or not scopes <= client.scopes:
        raise OAuthError("invalid_scope", "a scope is asked for that this app is not registered with")
    signed_in = await _sign_in(request, await _identify(request))
    issued = issue_token(
        request.platform,
        client_id=client.client_id,
        role="participant",
        subject=str(signed_in.participant_id),
        scopes=scopes,
        uri=None,
        jkt=request.jkt,
        at=request.at,
    )
    return {**issued, "issued_token_type": ACCESS_TOKEN, "enrolled": signed_in.enrolled}


async def _identify(request: "TokenRequest") -> Identified:
    citizens = request.platform.citizens
    if citizens is None:
        raise OAuthError("unsupported_grant_type", "this platform has no identity provider for citizens")
    try:
        return await citizens.identify(request.require("subject_token"), request.form.get("nonce"))
    except IdTokenRefused as refused:
        raise OAuthError("invalid_request", str(refused)) from None  # RFC 8693, 2.2.2
    except KeysUnavailable:
        raise OAuthError(
            "temporarily_unavailable", "the identity provider cannot be reached", headers={"Retry-After": "5"}
        ) from None


async def _sign_in(request: "TokenRequest", who: Identified) -> SignedIn:
    platform = request.platform
    settings = platform.settings
    terms = Terms(platform.texts.terms.text_version, request.form.get("terms"))
    try:
        async with platform.pool.acquire() as connection, connection.transaction():
            return await sign_in(
                connection,
                platform.vault,
                platform.keyring,
                who,
                terms,
                programme=settings.programme,
                region=settings.region,
                fresh=platform.fresh,
                offset=settings.clock_offset,
            )
    except TokenExchanged:
        raise OAuthError("invalid_request", "the ID token was exchanged before: sign in again") from None
    except ConsentRequired:
        raise OAuthError(
            "consent_required",
            f"the person has to agree to the terms: show version {terms.current} and send it as terms",
        ) from None
    except PersonErased:
        raise OAuthError("access_denied", "the person has closed their account") from None
