"""A set of public keys as an answer."""

from starlette.responses import JSONResponse


class JwkSet(JSONResponse):
    """A JWKS under its own media type (RFC 7517, 8.5)."""

    media_type = "application/jwk-set+json"
