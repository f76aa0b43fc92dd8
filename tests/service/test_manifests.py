"""Signed statements and a day's counts: one text for one statement, one algorithm for a key, one day for an id."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import jwt
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from service.clock import shanghai_day, uuid7
from service.jws import Jws, NotJws, SignatureRefused, payload_of, read_jws, read_public_key, thumbprint, verify_jws
from service.manifests import (
    MEASURES,
    Counts,
    _first_id,
    closable_from,
    compare,
    received_document,
)

PAYLOAD = b'{"v":"1"}'
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256 = generate_private_key(SECP256R1())
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def jwk(key: Any, algorithm: str) -> dict[str, str]:
    made: dict[str, str] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return made


PUBLIC = {"EdDSA": read_public_key(jwk(ED25519, "EdDSA")), "ES256": read_public_key(jwk(P256, "ES256"))}


def signed(algorithm: str = "EdDSA", payload: bytes = PAYLOAD, **header: Any) -> bytes:
    key = ED25519 if algorithm == "EdDSA" else P256
    return jwt.PyJWS().encode(payload, key, algorithm, headers={"kid": "k1", "typ": None, **header}).encode()


def unsigned(header: Mapping[str, Any], payload: bytes = PAYLOAD, signature: bytes = b"") -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(payload)}.{b64(signature)}"


def refusal(body: bytes | str, algorithm: str = "EdDSA") -> str:
    """Why a statement is not accepted under the key of this algorithm."""
    try:
        statement = read_jws(body if isinstance(body, bytes) else body.encode())
        if statement.key_id != "k1":
            return "unknown-key"
        verify_jws(statement, PUBLIC[algorithm])
    except NotJws as error:
        return f"malformed {error.part}"
    except SignatureRefused as error:
        return error.reason
    return "accepted"


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_a_statement_under_its_own_key_is_accepted(algorithm: str) -> None:
    body = signed(algorithm)
    statement = read_jws(body)
    assert refusal(body, algorithm) == "accepted"
    assert (statement.payload, payload_of(statement.text)) == (PAYLOAD, PAYLOAD)
    assert statement.digest == hashlib.sha256(body).digest()


def test_the_key_decides_the_algorithm() -> None:
    assert refusal(signed("ES256"), "EdDSA") == "algorithm"
    assert refusal(signed("EdDSA"), "ES256") == "algorithm"
    for algorithm in ("none", "HS256", "RS256", "ES384", "Ed25519", "eddsa", "", None, ["EdDSA"]):
        assert refusal(unsigned({"alg": algorithm, "kid": "k1"}, signature=bytes(64))) == "algorithm", algorithm
    assert refusal(unsigned({"kid": "k1"}, signature=bytes(64))) == "algorithm"


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_a_public_key_is_no_secret_to_sign_with(algorithm: str) -> None:
    """HS256 over the public key in whatever form: whoever reads the key could make it."""
    head = b64(json.dumps({"alg": "HS256", "kid": "k1"}).encode()) + "." + b64(PAYLOAD)
    public = json.loads(PUBLIC[algorithm])
    for secret in (PUBLIC[algorithm].encode(), base64.urlsafe_b64decode(public["x"] + "=")):
        forged = head + "." + b64(hmac.new(secret, head.encode(), hashlib.sha256).digest())
        assert refusal(forged, algorithm) == "algorithm"


def test_the_header_says_no_more_than_it_must() -> None:
    for extra in ({"crit": ["exp"]}, {"b64": True, "crit": ["b64"]}, {"jwk": json.loads(PUBLIC["EdDSA"])}, {"x": 1}):
        assert refusal(signed(**extra)) == "header", extra
    assert refusal(unsigned({"alg": "EdDSA"}, signature=bytes(64))) == "header"
    assert refusal(unsigned({"alg": "EdDSA", "kid": 7}, signature=bytes(64))) == "header"
    assert refusal(signed(typ="JOSE", cty="json")) == "accepted"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "parts"),
        (b"{}", "parts"),
        (signed() + b".x", "parts"),
        (signed() + b"\n", "signature"),
        (b" " + signed(), "header"),
        (signed() + b"=", "signature"),
        (signed().replace(b".", b".!", 1), "payload"),
        (b"..", "header"),
        (f"{b64(b'{')}.e30.AA".encode(), "header"),
        (f"{b64(b'[]')}.e30.AA".encode(), "header"),
        (f"{b64(b'[' * 100_000)}.e30.AA".encode(), "header"),
        (f"{b64(b'{alg:1}')}.e30.AA".encode(), "header"),
        (b64(b'{"alg":"EdDSA","alg":"none","kid":"k1"}').encode() + b".e30.AA", "header"),
        (b"e30.e30.", "signature"),
        ("é.e30.AA".encode(), "header"),
    ],
    ids=str,
)
def test_what_is_no_compact_jws_is_said_to_be_none(body: bytes, part: str) -> None:
    with pytest.raises(NotJws) as raised:
        read_jws(body)
    assert raised.value.part == part


@given(st.data())
def test_no_other_text_passes_for_a_signed_one(data: st.DataObject) -> None:
    """One character changed anywhere: in the header, the payload, the signature, and in the loose bits that base64url
    leaves at the end of each."""
    text = signed().decode()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(ALPHABET).filter(lambda character: character != text[place]))
    assert refusal(text[:place] + other + text[place + 1 :]) != "accepted"


def test_only_whole_public_keys_of_two_kinds_are_read() -> None:
    ed, p256 = json.loads(PUBLIC["EdDSA"]), json.loads(PUBLIC["ES256"])
    assert read_public_key({**ed, "kid": "k", "use": "sig"}) == PUBLIC["EdDSA"] == rfc8785.dumps(ed).decode()
    for wrong in (
        {},
        {**ed, "crv": "X25519"},
        {**ed, "crv": "Ed448"},
        {**ed, "x": ed["x"][:-1]},
        {**ed, "x": b64(bytes(31))},
        {**ed, "x": ed["x"] + "="},
        {**p256, "crv": "P-384"},
        {**p256, "y": p256["x"]},  # not on the curve
        {**p256, "y": ""},
        {**p256, "kty": "RSA"},
        {"kty": "oct", "k": "AAAA"},
        {**ed, "x": b64(bytes([1, *bytes(31)]))},  # of small order
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - of whichever reason: the caller says only that it is no key
            read_public_key(wrong)


def test_a_thumbprint_is_that_of_rfc_8037() -> None:
    x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"  # appendix A
    found = thumbprint(read_public_key({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}))
    assert b64(found) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_another_key_of_the_kind_signs_nothing_here() -> None:
    other = Ed25519PrivateKey.generate()
    body = jwt.PyJWS().encode(PAYLOAD, other, "EdDSA", headers={"kid": "k1", "typ": None}).encode()
    assert refusal(body) == "signature"


moments = st.datetimes(datetime(2001, 1, 1), datetime(2500, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments, st.binary(min_size=10, max_size=10), st.integers(-2, 2))
def test_an_id_lies_in_the_range_of_the_day_on_which_it_was_made(at: datetime, random: bytes, days: int) -> None:
    day = shanghai_day(at) + timedelta(days=days)
    within = _first_id(day) <= uuid7(at, random) < _first_id(day + timedelta(days=1))
    assert within == (days == 0)


def test_a_day_ends_at_midnight_in_shanghai_and_closes_five_minutes_later() -> None:
    assert closable_from(date(2026, 5, 1)) == datetime(2026, 5, 1, 16, 5, tzinfo=UTC)


counts = st.builds(Counts, *[st.integers(0, 10**15)] * 4)
tables = st.dictionaries(st.sampled_from(["shared-ebike", "metro", "bus"]), counts)


@given(tables, tables)
def test_every_gap_is_shown_and_nothing_else(claimed: dict[str, Counts], received: dict[str, Counts]) -> None:
    shown = compare(claimed, received)
    assert list(shown) == sorted({*claimed, *received})
    for scenario, gaps in shown.items():
        assert [gap.measure for gap in gaps] == list(MEASURES)
        for gap in gaps:
            assert gap.received + gap.difference == gap.claimed
        agrees = claimed.get(scenario, Counts()) == received.get(scenario, Counts())
        assert agrees == (not any(gap.difference for gap in gaps))


@given(tables)
def test_what_was_received_has_one_text(received: dict[str, Counts]) -> None:
    text = received_document("urn:example:rides", date(2026, 5, 1), received)
    assert text == rfc8785.dumps(json.loads(text))
    reordered = dict(reversed(received.items()))
    assert received_document("urn:example:rides", date(2026, 5, 1), reordered) == text


def test_a_jws_is_taken_apart_and_not_yet_believed() -> None:
    assert read_jws(signed()) == Jws(signed().decode(), {"alg": "EdDSA", "kid": "k1"}, PAYLOAD)
