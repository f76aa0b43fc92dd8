"""Send a token that is bound to a key (RFC 9449): for the commands, wherever they send one.

`TANPUHUI_CLIENT_KEY` names the private key in PEM, the one that `tanpuhui client token` was given. Without it tokens
are sent as bearers, which a platform in production takes of people alone.
"""

import os
from functools import cache
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.oauth.proving import dpop_proof
from api.signatures.signing import SigningKey
from service.keyring import readable_by_others

CLIENT_KEY = "TANPUHUI_CLIENT_KEY"
_BEARER = "Bearer "


class ClientKeyUnusable(Exception):
    """The key that the environment names cannot be used; the message says what to do."""


def bind(request: httpx.Request) -> None:
    """Show the key with the request's token, where the environment names one. Raises ClientKeyUnusable."""
    path, authorization = os.environ.get(CLIENT_KEY), request.headers.get("authorization", "")
    if path and authorization.startswith(_BEARER):
        token = authorization.removeprefix(_BEARER)
        proof = dpop_proof(_key(Path(path)), request.method, str(request.url), access_token=token)
        request.headers.update({"Authorization": f"DPoP {token}", "DPoP": proof})


async def bind_later(request: httpx.Request) -> None:
    """The same, for a client that awaits its hooks."""
    bind(request)


HOOKS = {"request": [bind]}
ASYNC_HOOKS = {"request": [bind_later]}
"""For `event_hooks` of an httpx client: a proof is for one request, so each attempt is given its own."""


@cache
def _key(path: Path) -> SigningKey:
    try:
        if readable_by_others(path):
            raise ClientKeyUnusable(f"every user may read {path}: chmod 600 it")
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ClientKeyUnusable(f"{CLIENT_KEY} names {path}, which is no PEM private key: {error}") from None
    if not isinstance(private, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise ClientKeyUnusable(f"{path} holds another kind of key than Ed25519 or P-256")
    return SigningKey("", private)  # a proof carries the key itself, and no id of it
