"""Sign what a provider posts (RFC 9421), as the platform asks of operators' own records: docs/signed-reports.md."""

import os
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.provider.closing import read_private_key
from api.signatures.signing import SigningKey, sign_report

SIGNED = frozenset({"/v1/activities", "/v1/retractions", "/v1/settlements"})


class ReportSigning(httpx.Auth):
    """Signs every call that reports, takes back or settles, each attempt anew; leaves others as they are."""

    requires_request_body = True

    def __init__(self, key: SigningKey, offset: timedelta) -> None:
        """`offset` moves the clock, as a platform's for tests is moved."""
        self._key, self._offset = key, offset

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if request.method == "POST" and request.url.path in SIGNED:
            signed = sign_report(
                self._key,
                request.method,
                str(request.url),
                request.content,
                content_type=request.headers["content-type"],
                created=datetime.now(UTC) + self._offset,
                nonce=os.urandom(16).hex(),
            )
            request.headers.update(signed)
        yield request


def signing_with(path: Path | None, offset: timedelta = timedelta()) -> ReportSigning | None:
    """Signing with the private JWK in a file; None without a file. Raises ImportStopped."""
    if path is None:
        return None
    jwk = read_private_key(path)
    private = jwt.PyJWK(dict(jwk)).key
    assert isinstance(private, Ed25519PrivateKey | EllipticCurvePrivateKey)  # read_private_key() takes no other
    return ReportSigning(SigningKey(jwk["kid"], private), offset)
