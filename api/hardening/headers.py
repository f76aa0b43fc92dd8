"""The security headers of every answer, by what kind of answer it is."""

import re
from base64 import b64encode
from hashlib import sha256

from starlette.types import Scope

Headers = tuple[tuple[bytes, bytes], ...]

# An answer that is data runs nothing, loads nothing and is shown in no other page, whatever a browser makes of it.
_DATA: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# Two years, as browsers ask of whoever means it. Subdomains are their owner's to decide.
_TRANSPORT = (b"strict-transport-security", b"max-age=63072000")
_DATA_TLS: Headers = (*_DATA, _TRANSPORT)

_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def security_headers(scope: Scope) -> Headers:
    """What is added to an answer, but for a header that its route set by itself."""
    return _DATA_TLS if scope["scheme"] == "https" else _DATA


def policy_of_page(page: bytes) -> str:
    """The Content-Security-Policy of a page whose scripts are this server's own or stand in it: those that stand in it
    are named by their digests, so no other runs. Its styles may stand in it: a style reads nothing."""
    digests = " ".join(
        f"'sha256-{b64encode(sha256(script).digest()).decode('ascii')}'" for script in _INLINE_SCRIPT.findall(page)
    )
    return (
        f"default-src 'none'; script-src 'self' {digests}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
