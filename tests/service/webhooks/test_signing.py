"""Signatures as the reference library makes and reads them, secrets as they are stored, the schedule."""

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from service.keyring import Keyring
from service.webhooks.schedule import ATTEMPTS, JITTER, pause_after
from service.webhooks.signing import (
    SecretUnreadable,
    new_secret,
    open_secret,
    seal_secret,
    secret_text,
    signature_headers,
)

KEYRING = Keyring(1, {1: b"k" * 32})


def test_the_example_of_the_specification() -> None:
    """The vector of Standard Webhooks' own libraries."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signature_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
        [secret],
    )
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(body=st.dictionaries(st.text(), st.integers() | st.text()))
def test_the_library_takes_what_we_sign(body: dict[str, object]) -> None:
    secret, raw = new_secret(), json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    headers = signature_headers("evt_1", datetime.now(UTC), raw, [secret])
    assert Webhook(secret_text(secret)).verify(raw, headers) == json.loads(raw)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(new_secret())).verify(raw, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(secret)).verify(raw + b" ", headers)


def test_while_secrets_rotate_both_readers_agree() -> None:
    former, newest = new_secret(), new_secret()
    headers = signature_headers("evt_1", datetime.now(UTC), b"{}", [newest, former])
    for secret in (former, newest):
        Webhook(secret_text(secret)).verify(b"{}", headers)


def test_a_signature_ages() -> None:
    secret = new_secret()
    headers = signature_headers("evt_1", datetime.now(UTC) - timedelta(minutes=6), b"{}", [secret])
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret_text(secret)).verify(b"{}", headers)


def test_a_secret_has_the_length_the_specification_asks_for() -> None:
    text = secret_text(new_secret())
    assert text.startswith("whsec_")
    assert 24 <= len(base64.b64decode(text.removeprefix("whsec_"))) <= 64


def test_a_stored_secret_opens_for_its_own_webhook_and_keyring_alone() -> None:
    webhook_id, secret = uuid4(), new_secret()
    version, sealed = seal_secret(KEYRING, webhook_id, secret)
    assert secret not in sealed
    assert seal_secret(KEYRING, webhook_id, secret)[1] != sealed
    assert open_secret(KEYRING, webhook_id, version, sealed) == secret
    rotated = Keyring(2, {1: b"k" * 32, 2: b"l" * 32})
    assert open_secret(rotated, webhook_id, version, sealed) == secret
    assert seal_secret(rotated, webhook_id, secret)[0] == 2
    other = Keyring(1, {1: secrets.token_bytes(32)})
    for keyring, whose, which, what in (
        (KEYRING, uuid4(), version, sealed),
        (KEYRING, webhook_id, 2, sealed),
        (KEYRING, webhook_id, version, sealed[:-1]),
        (KEYRING, webhook_id, version, b""),
        (other, webhook_id, version, sealed),
    ):
        with pytest.raises(SecretUnreadable, match="rotate the secret"):
            open_secret(keyring, whose, which, what)


def test_the_schedule_is_the_standard_one() -> None:
    pauses = [pause_after(failed, 0) for failed in range(1, ATTEMPTS)]
    hours = timedelta(hours=1)
    assert pauses == [
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        *(count * hours for count in (2, 5, 10, 14, 20, 24)),
    ]
    assert pause_after(ATTEMPTS, 0) is None
    assert pause_after(ATTEMPTS + 1, 0.5) is None


@given(failed=st.integers(1, ATTEMPTS - 1), chance=st.floats(0, 1, exclude_max=True))
def test_jitter_only_adds_and_not_much(failed: int, chance: float) -> None:
    plain, moved = pause_after(failed, 0), pause_after(failed, chance)
    assert plain is not None
    assert moved is not None
    assert plain <= moved <= plain * (1 + JITTER)
