"""Entitlements: what one bank is given of one redemption, and nothing that could be turned into another."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.types import Options

from api.entitlements import open_entitlement_key
from service.banks.entitlements import (
    Entitlement,
    EntitlementKey,
    EntitlementKeyUnusable,
    EntitlementRefused,
    create_entitlement_key,
    load_entitlement_key,
    retire_entitlement_keys,
    rotate_entitlement_key,
    sign_entitlement,
    verify_entitlement,
)
from service.settings import Settings

BANK, ISSUER = "https://bank.example/green", "carbon.example/log"
NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
GIVEN = Entitlement(
    BANK,
    UUID("01932f00-0000-7000-8000-000000000001"),
    "demo-rate-discount",
    2,
    units=5,
    points=500,
    value_fen=2500,
    issued_at=NOW,
    expires_at=NOW + timedelta(hours=1),
)


@pytest.fixture
def key(tmp_path: Path) -> EntitlementKey:
    assert create_entitlement_key(tmp_path / "entitlement.key")
    return load_entitlement_key(tmp_path / "entitlement.key")


def refusal(key: EntitlementKey, text: str, *, bank: str = BANK, now: datetime = NOW) -> str:
    with pytest.raises(EntitlementRefused) as caught:
        verify_entitlement(key, ISSUER, bank, text, now)
    return caught.value.reason


def test_what_was_issued_is_read_back_and_says_nothing_of_the_person(key: EntitlementKey) -> None:
    text = sign_entitlement(key, ISSUER, GIVEN)
    assert verify_entitlement(key, ISSUER, BANK, text, NOW) == GIVEN
    claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    assert set(claims) == {
        "iss",
        "aud",
        "jti",
        "offer",
        "offer_version",
        "units",
        "points",
        "value_fen",
        "iat",
        "exp",
    }


def test_a_library_verifies_it_with_the_published_key(key: EntitlementKey) -> None:
    """As a bank does, without a line of ours."""
    [published] = jwt.PyJWKSet.from_dict({"keys": [key.jwk]}).keys
    later: Options = {"verify_exp": False, "verify_iat": False}
    text = sign_entitlement(key, ISSUER, GIVEN)
    claims = jwt.decode(text, published.key, ["EdDSA"], audience=BANK, issuer=ISSUER, options=later)
    assert (claims["jti"], claims["value_fen"]) == (str(GIVEN.redemption_id), 2500)
    assert jwt.get_unverified_header(text) == {"alg": "EdDSA", "kid": key.key_id, "typ": "entitlement+jwt"}


def test_it_is_good_until_its_last_second_and_for_its_bank(key: EntitlementKey) -> None:
    text = sign_entitlement(key, ISSUER, GIVEN)
    assert verify_entitlement(key, ISSUER, BANK, text, GIVEN.expires_at - timedelta(microseconds=1))
    assert refusal(key, text, now=GIVEN.expires_at) == "expired"
    assert refusal(key, text, bank="https://other.example/bank") == "bank"


def test_another_value_or_another_key_is_refused(key: EntitlementKey, tmp_path: Path) -> None:
    text = sign_entitlement(key, ISSUER, GIVEN)
    header, _, signature = text.split(".")
    richer = sign_entitlement(key, ISSUER, replace(GIVEN, value_fen=9_999)).split(".")[1]
    assert refusal(key, f"{header}.{richer}.{signature}") == "signature"
    create_entitlement_key(tmp_path / "other.key")
    other = load_entitlement_key(tmp_path / "other.key")
    assert refusal(key, sign_entitlement(other, ISSUER, GIVEN)) == "unknown-key"
    assert refusal(key, sign_entitlement(replace(other, key_id=key.key_id), ISSUER, GIVEN)) == "signature"
    assert refusal(key, sign_entitlement(key, "other.example/log", GIVEN)) == "issuer"


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "碳.b.c", "..", "e30.e30.e30"])
def test_what_is_no_entitlement(key: EntitlementKey, text: str) -> None:
    assert refusal(key, text) in ("malformed", "signature")


def test_an_unsigned_or_differently_signed_one_is_refused(key: EntitlementKey) -> None:
    claims = {"iss": ISSUER, "aud": BANK}
    none = jwt.encode(claims, "", algorithm="none", headers={"kid": key.key_id})
    shared = jwt.encode(claims, "x" * 32, algorithm="HS256", headers={"kid": key.key_id})
    p256 = jwt.encode(claims, generate_private_key(SECP256R1()), algorithm="ES256", headers={"kid": key.key_id})
    assert {refusal(key, none), refusal(key, shared), refusal(key, p256)} <= {"malformed", "signature"}
    whole = json.loads(base64.urlsafe_b64decode(sign_entitlement(key, ISSUER, GIVEN).split(".")[1] + "=="))
    untyped = jwt.encode(whole, key.private, algorithm="EdDSA", headers={"kid": key.key_id})
    assert refusal(key, untyped) == "malformed"
    bare = jwt.encode(claims, key.private, algorithm="EdDSA", headers={"kid": key.key_id, "typ": "entitlement+jwt"})
    assert refusal(key, bare) == "malformed"


def test_a_key_file_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "entitlement.key"
    assert create_entitlement_key(path)
    before = path.read_bytes()
    assert not create_entitlement_key(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(EntitlementKeyUnusable, match="chmod 600"):
        load_entitlement_key(path)


def test_a_rotation_interrupts_nobody(tmp_path: Path) -> None:
    path = tmp_path / "entitlement.key"
    create_entitlement_key(path)
    first = load_entitlement_key(path)
    text = sign_entitlement(first, ISSUER, GIVEN)
    second = rotate_entitlement_key(path)
    assert load_entitlement_key(path) is second, "whoever reads the file next has the new key"
    assert second.key_id != first.key_id
    assert [key.key_id for key in second.former] == [first.key_id]
    assert verify_entitlement(second, ISSUER, BANK, text, NOW) == GIVEN
    assert refusal(first, sign_entitlement(second, ISSUER, GIVEN)) == "unknown-key"
    third = rotate_entitlement_key(path)
    assert [key.key_id for key in third.former] == [second.key_id, first.key_id]
    alone = retire_entitlement_keys(path)
    assert (alone.key_id, alone.former) == (third.key_id, ())
    assert refusal(alone, text) == "unknown-key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_former_key_signs_for_no_other(tmp_path: Path) -> None:
    """Each signature is held against the key that it names, not against any of the file."""
    path = tmp_path / "entitlement.key"
    create_entitlement_key(path)
    first, second = load_entitlement_key(path), rotate_entitlement_key(path)
    disguised = sign_entitlement(replace(first, key_id=second.key_id), ISSUER, GIVEN)
    assert refusal(second, disguised) == "signature"
    path.write_bytes(path.read_bytes() + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(EntitlementKeyUnusable, match="no Ed25519"):
        load_entitlement_key(path)


def test_a_key_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EntitlementKeyUnusable, match="tanpuhui bank entitlement-key"):
        load_entitlement_key(tmp_path / "absent")
    other = tmp_path / "p256.key"
    private = generate_private_key(SECP256R1())
    other.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    other.chmod(0o600)
    with pytest.raises(EntitlementKeyUnusable, match="no Ed25519"):
        load_entitlement_key(other)
    other.write_bytes(b"nonsense")
    with pytest.raises(EntitlementKeyUnusable, match="no Ed25519"):
        load_entitlement_key(other)


def test_in_development_the_key_is_made_and_in_production_it_has_to_be_there(tmp_path: Path) -> None:
    made = open_entitlement_key(Settings(data_dir=tmp_path / "one"))
    assert open_entitlement_key(Settings(data_dir=tmp_path / "one")).key_id == made.key_id
    production = Settings(data_dir=tmp_path / "two").model_copy(update={"mode": "production"})
    with pytest.raises(EntitlementKeyUnusable, match="no entitlement key"):
        open_entitlement_key(production)
    assert not (tmp_path / "two").exists()
