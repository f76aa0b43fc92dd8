"""The caller's side: sign a call of a bank or a source as the platform asks for it. For commands and tests."""

from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519
from jwt.utils import base64url_encode

from api.signatures.reading import SOURCE_TAG, TAG

Private = Ed25519PrivateKey | EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A caller's private key and the id under which its public half is registered."""

    key_id: str
    private: Private = field(repr=False)


def public_jwk(key: SigningKey) -> dict[str, str]:
    """The public half of a key as it is registered."""
    if isinstance(key.private, Ed25519PrivateKey):
        x = base64url_encode(key.private.public_key().public_bytes_raw()).decode("ascii")
        return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.key_id}
    numbers = key.private.public_key().public_numbers()
    x, y = (base64url_encode(part.to_bytes(32, "big")).decode("ascii") for part in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": key.key_id}


class _OneKey(HTTPSignatureKeyResolver):
    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def resolve_public_key(self, key_id: str) -> None:
        return None  # nothing is verified here

    def resolve_private_key(self, key_id: str) -> Private:
        return self._key.private


@dataclass(slots=True)
class _Outgoing:
    method: str
    url: str
    headers: dict[str, str]


def sign_call(
    key: SigningKey,
    method: str,
    url: str,
    body: bytes = b"",
    *,
    created: datetime,
    nonce: str,
    idempotency_key: str | None = None,
) -> dict[str, str]:
    """The headers that a signed call adds to its own: Content-Digest, Signature-Input and Signature, and the
    Idempotency-Key if one is given.

    url     absolute, as it is sent, with its query
    nonce   never used before by this bank; 16 to 128 characters
    """
    headers = {} if idempotency_key is None else {"Idempotency-Key": f'"{idempotency_key}"'}
    covered = ["content-digest", *(["idempotency-key"] if headers else [])]
    _sign(key, _Outgoing(method, url, headers), covered, body, created, nonce, TAG)
    return headers


def sign_report(
    key: SigningKey,
    method: str,
    url: str,
    body: bytes,
    *,
    content_type: str,
    created: datetime,
    nonce: str,
) -> dict[str, str]:
    """The headers of a source's signed call: Content-Type, Content-Digest, Signature-Input and Signature.

    url     absolute, as it is sent, with its query
    nonce   never used before by this source; 16 to 128 characters
    """
    headers = {"Content-Type": content_type}
    covered = ["content-digest", "content-type"]
    _sign(key, _Outgoing(method, url, headers), covered, body, created, nonce, SOURCE_TAG)
    return headers


def _sign(
    key: SigningKey, message: _Outgoing, covered: list[str], body: bytes, created: datetime, nonce: str, tag: str
) -> None:
    """Put the signature, which says whose it is by its tag, into the headers."""
    algorithm = ED25519 if isinstance(key.private, Ed25519PrivateKey) else ECDSA_P256_SHA256
    address = ["@method", "@authority", "@path", *(["@query"] if "?" in message.url else ())]
    HTTPMessageSigner(signature_algorithm=algorithm, key_resolver=_OneKey(key)).sign(
        message,
        key_id=key.key_id,
        created=created,
        nonce=nonce,
        tag=tag,
        label=tag.removeprefix("tanpuhui-"),
        covered_component_ids=[*address, *covered],
        body=body,
    )
