"""The grants of the token endpoint: what a client shows, and what it is given for it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from api.oauth.authorization import authorization_code
from api.oauth.errors import OAuthError
from api.oauth.exchange import GRANT_TYPE as TOKEN_EXCHANGE
from api.oauth.exchange import token_exchange
from api.oauth.issuing import issue_token
from api.platform import Platform
from service.clients.registry import OAuthClient


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request at the token endpoint, whose client is known already.

    client   registered and active; one with a key has shown a `private_key_jwt`, an app of people (`client.public`)
             has only named itself
    form     every parameter of the body; none comes twice
    jkt      thumbprint of the key of a verified DPoP proof (RFC 9449), None without a proof
    at       the platform's time
    """

    platform: Platform
    client: OAuthClient
    form: Mapping[str, str]
    jkt: str | None
    at: datetime

    def require(self, name: str) -> str:
        """A parameter that must be there. Raises OAuthError invalid_request."""
        value = self.form.get(name, "")
        if not value:
            raise OAuthError("invalid_request", f"the parameter {name} is missing")
        return value


class Grant(Protocol):
    """One grant type.

    public   whether a client without a key may use it

    `answer` gives the members of the token response (RFC 6749, 5.1): with `issue_token` for an access token, and
    members of its own beside it. Raises OAuthError.
    """

    @property
    def public(self) -> bool: ...

    async def answer(self, request: TokenRequest) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class FunctionGrant:
    """A grant that is one function."""

    answering: Callable[[TokenRequest], Awaitable[dict[str, Any]]]
    public: bool = False

    async def answer(self, request: TokenRequest) -> dict[str, Any]:
        return await self.answering(request)


async def client_credentials(request: TokenRequest) -> dict[str, Any]:
    """A token for the client itself (RFC 6749, 4.4), with the scopes it asks for, or all that it is registered with."""
    client = request.client
    asked = request.form.get("scope")
    scopes = client.scopes if asked is None else frozenset(asked.split())
    if not scopes or not scopes <= client.scopes:
        raise OAuthError("invalid_scope", "a scope is asked for that this client is not registered with")
    return issue_token(
        request.platform,
        client_id=client.client_id,
        role=client.role,
        subject=client.client_id,
        scopes=scopes,
        uri=client.uri,
        jkt=request.jkt,
        at=request.at,
    )


GRANTS: dict[str, Grant] = {
    "client_credentials": FunctionGrant(client_credentials),
    "authorization_code": FunctionGrant(authorization_code),
    TOKEN_EXCHANGE: FunctionGrant(token_exchange, public=True),
}
"""By `grant_type`. A grant that comes from another module is added here, in one line."""
