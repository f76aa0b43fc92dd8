"""The platform's own tokens at the edge: its keys, and whether a token of theirs still stands."""

from collections.abc import Mapping
from typing import Any

from api.auth.callers import Unauthenticated
from api.auth.keys import VerifyingKey
from service.clients.standing import Standing
from service.clients.token_keys import TOKEN_TYPE, TokenKeys


class OwnTokens:
    """What an authenticator knows of the tokens that this platform issues under the name `issuer`."""

    def __init__(self, keys: TokenKeys, standing: Standing, issuer: str) -> None:
        self.issuer = issuer
        self._keys = keys
        self._standing = standing

    @property
    def version(self) -> int:
        """Rises when a key is added or retired, or a revocation becomes known."""
        return self._keys.version + self._standing.version

    def refresh_if_due(self) -> None:
        """Called before every use; cheap."""
        self._keys.refresh_if_due()

    def find(self, kid: str) -> VerifyingKey | None:
        """The key of this id, if it is one of ours."""
        key = self._keys.keys.get(kid)
        return None if key is None else VerifyingKey("EdDSA", key.private.public_key())

    def require_type(self, header: Mapping[str, Any]) -> None:
        """Raises Unauthenticated for what is signed by us and no access token (RFC 9068, 4)."""
        if header.get("typ") != TOKEN_TYPE:
            raise Unauthenticated("malformed")

    def require_standing(self, claims: Mapping[str, Any]) -> None:
        """Raises Unauthenticated for a token that was revoked, or whose client is suspended."""
        client_id, jti = claims.get("client_id"), claims.get("jti")
        if not isinstance(client_id, str) or not isinstance(jti, str):
            raise Unauthenticated("missing-claim")
        if self._standing.refuses(client_id, jti, claims["iat"]):
            raise Unauthenticated("revoked")
