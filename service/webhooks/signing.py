"""Signatures of Standard Webhooks 1.0.0, and secrets as they lie in the database.

A secret is kept because every delivery needs it, so it cannot be hashed; it is encrypted under a key of the keyring,
which lies outside of the database and of its backups.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.keyring import Keyring, KeyringError

SECRET_BYTES = 32
PREFIX = "whsec_"
_NONCE_BYTES = 12


class SecretUnreadable(Exception):
    """A stored secret does not open under this keyring."""


def new_secret() -> bytes:
    """A secret for one endpoint."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """The form in which a receiver's library takes it."""
    return PREFIX + base64.b64encode(secret).decode("ascii")


def signature_headers(message_id: str, at: datetime, body: bytes, live: Sequence[bytes]) -> dict[str, str]:
    """The three headers of a delivery, with one signature for each live secret, separated by spaces.

    at   now, aware: receivers refuse what is five minutes from their own time, so each attempt is signed anew
    """
    timestamp = str(int(at.timestamp()))
    content = b".".join((message_id.encode("ascii"), timestamp.encode("ascii"), body))
    signatures = (base64.b64encode(hmac.digest(secret, content, "sha256")).decode("ascii") for secret in live)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def seal_secret(keyring: Keyring, webhook_id: UUID, secret: bytes) -> tuple[int, bytes]:
    """The version of the key and the secret under it (AES-256-GCM), good for this endpoint alone."""
    version, nonce = keyring.current, secrets.token_bytes(_NONCE_BYTES)
    return version, nonce + _cipher(keyring, version).encrypt(nonce, secret, webhook_id.bytes)


def open_secret(keyring: Keyring, webhook_id: UUID, version: int, sealed: bytes) -> bytes:
    """The secret again. Raises SecretUnreadable."""
    try:
        return _cipher(keyring, version).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], webhook_id.bytes)
    except (InvalidTag, KeyringError, ValueError) as error:
        raise SecretUnreadable(
            f"the secret of the webhook {webhook_id} does not open under version {version} of the keyring: restore the "
            "keyring it was made with, or rotate the secret"
        ) from error


def _cipher(keyring: Keyring, version: int) -> AESGCM:
    return AESGCM(keyring.tag("webhook", b"secret", version))
