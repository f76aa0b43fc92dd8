"""Issue access tokens: JWTs of the platform's own (RFC 9068), signed by its token key."""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from api.auth.callers import ROLE_SCOPES
from api.platform import Platform
from service.clients.registry import URI_OF
from service.clients.token_keys import sign_token

MACHINE_LIFE = timedelta(minutes=10)  # the client asks again whenever it likes, so a stolen one is soon worthless
PARTICIPANT_LIFE = timedelta(hours=1)  # a person would have to sign in again


def issue_token(
    platform: Platform,
    *,
    client_id: str,
    role: str,
    subject: str,
    scopes: Iterable[str],
    uri: str | None,
    jkt: str | None,
    at: datetime,
) -> dict[str, Any]:
    """The members of a token response (RFC 6749, 5.1) with a new access token.

    subject   the participant's id for that role, else the client's
    uri       of the source, bank or funder that the client speaks for
    jkt       thumbprint of the key that the token is bound to (RFC 9449); None for a bearer token
    """
    granted = frozenset(scopes)
    assert granted <= ROLE_SCOPES[role]  # registration and grants see to it; a token beyond its role is refused anyway
    life = PARTICIPANT_LIFE if role == "participant" else MACHINE_LIFE
    issued = int(at.timestamp())
    claims: dict[str, Any] = {
        "iss": platform.settings.oauth_issuer,
        "aud": platform.settings.token_audience,
        "sub": subject,
        "client_id": client_id,
        "role": role,
        "scope": " ".join(sorted(granted)),
        "iat": issued,
        "exp": issued + int(life.total_seconds()),
        "jti": secrets.token_urlsafe(16),
    }
    if uri is not None:
        claims[URI_OF[role]] = uri
    if jkt is not None:
        claims["cnf"] = {"jkt": jkt}
    return {
        "access_token": sign_token(platform.token_keys, claims, at),
        "token_type": "Bearer" if jkt is None else "DPoP",
        "expires_in": int(life.total_seconds()),
        "scope": claims["scope"],
    }
