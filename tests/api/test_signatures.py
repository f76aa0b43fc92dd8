"""Signed calls without a platform: the published vectors of RFC 9421, a library on the bank's side, and attacks."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519
from http_message_signatures.exceptions import HTTPMessageSignaturesException
from hypothesis import given
from hypothesis import strategies as st

from api.problems import PROBLEM_TYPES, Problem
from api.signatures.checking import Verified, algorithm_of, bank_profile, computed_base, required_components
from api.signatures.checking import check as check_by
from api.signatures.reading import Message, SignatureFault, check_digest, read_signature
from api.signatures.reasons import REASONS, reason_text, refused
from api.signatures.signing import SigningKey, public_jwk, sign_call
from service.banks.registry import RegisteredBankKey
from service.jws import load_public_key, read_public_key

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
URL = "https://carbon.example/v1/bank/redemptions/01932f00-0000-7000-8000-000000000000/capture"
BODY = b'{"units":3,"final":true,"reference":"LN-1"}'
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc9421.json").read_bytes())


def registered(key: SigningKey, **changes: Any) -> dict[str, RegisteredBankKey]:
    made = RegisteredBankKey(key.key_id, read_public_key(public_jwk(key)), NOW - timedelta(days=1), None)
    return {key.key_id: replace(made, **changes)}


KEY = SigningKey("bank-2026", Ed25519PrivateKey.generate())
P256 = SigningKey("bank-p256", generate_private_key(SECP256R1()))
KEYS = registered(KEY) | registered(P256)


def check(sent: Message, keys: dict[str, RegisteredBankKey], now: datetime, *, money: bool) -> Verified:
    """Check a call of a bank."""
    return check_by(sent, keys, now, bank_profile(sent, money=money))


def message(
    key: SigningKey = KEY,
    *,
    url: str = URL,
    body: bytes = BODY,
    created: datetime = NOW,
    nonce: str = "n-0123456789abcdef",
    idempotency_key: str | None = "op-1",
) -> Message:
    """A call as a bank sends it."""
    signed = sign_call(key, "POST", url, body, created=created, nonce=nonce, idempotency_key=idempotency_key)
    host = url.split("/")[2]
    fields = [("host", host), ("content-type", "application/json"), *((n.lower(), v) for n, v in signed.items())]
    return Message("POST", url, tuple(fields), body)


def with_field(sent: Message, name: str, change: Callable[[str], str]) -> Message:
    return replace(sent, fields=tuple((n, change(v) if n == name else v) for n, v in sent.fields))


def reason(sent: Message, keys: dict[str, RegisteredBankKey] = KEYS, now: datetime = NOW, money: bool = True) -> str:
    with pytest.raises(SignatureFault) as caught:
        check(sent, keys, now, money=money)
    problem = refused(caught.value)
    assert problem.type.slug == "call-signature-refused"
    assert "{" not in reason_text(caught.value).zh + reason_text(caught.value).en
    return caught.value.reason


# The vectors of appendix B: a base, byte for byte, and signatures as they were published


def _published() -> Message:
    request, vector = VECTORS["request"], VECTORS["ed25519"]
    fields = [(name, value) for name, value in request["fields"]]
    fields += [("signature-input", vector["signature_input"]), ("signature", vector["signature"])]
    return Message(request["method"], request["url"], tuple(fields), request["body"].encode("utf-8"))


def test_the_published_request_has_the_published_base_and_signature() -> None:
    vector, tag = VECTORS["ed25519"], ';tag="tanpuhui-bank"'  # only signatures that carry our tag are looked at
    claimed = read_signature(with_field(_published(), "signature-input", lambda value: value + tag))
    base = computed_base(_published(), claimed).removesuffix(tag)
    assert base == vector["base"]
    public = load_public_key(read_public_key(VECTORS["keys"]["test-key-ed25519"]))
    assert algorithm_of(public) is ED25519
    algorithm: Any = algorithm_of(public)
    algorithm(public_key=public).verify(claimed.signature, base.encode("ascii"))
    private = load_pem_private_key(VECTORS["ed25519_private"].encode("ascii"), None)
    assert isinstance(private, Ed25519PrivateKey)
    assert private.sign(base.encode("ascii")) == claimed.signature  # deterministic, so the same bit for bit
    with pytest.raises(InvalidSignature):
        algorithm(public_key=public).verify(claimed.signature, base.replace("POST", "PUT").encode("ascii"))


def test_the_published_signature_of_p256_verifies_as_r_and_s() -> None:
    vector = VECTORS["p256"]
    public = load_public_key(read_public_key(VECTORS["keys"]["test-key-ecc-p256"]))
    assert algorithm_of(public) is ECDSA_P256_SHA256
    algorithm: Any = algorithm_of(public)
    algorithm(public_key=public).verify(base64.b64decode(vector["signature"]), vector["base"].encode("ascii"))


def test_the_published_digest_is_that_of_its_body() -> None:
    check_digest(_published())
    with pytest.raises(SignatureFault, match="digest"):
        check_digest(replace(_published(), body=_published().body + b" "))


# A bank's call


@pytest.mark.parametrize("key", [KEY, P256], ids=["ed25519", "p256"])
@pytest.mark.parametrize("url", [URL, URL + "?day=2026-11-22&x=%E7%A2%B3"], ids=["plain", "query"])
@pytest.mark.parametrize("body", [BODY, b""], ids=["body", "empty"])
def test_what_a_bank_signed_is_taken(key: SigningKey, url: str, body: bytes) -> None:
    sent = message(key, url=url, body=body)
    verified = check(sent, KEYS, NOW, money=True)
    assert (verified.key_id, verified.nonce, len(verified.signature)) == (key.key_id, "n-0123456789abcdef", 64)
    assert verified.base.decode("ascii") == computed_base(sent, read_signature(sent))
    for name in required_components(sent, money=True):
        assert f'"{name}": ' in verified.base.decode("ascii")
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode("ascii")
    assert verified.content_digest == f"sha-256=:{digest}:"
    algorithm: Any = ED25519 if key is KEY else ECDSA_P256_SHA256  # what the auditor does with what is kept
    algorithm(public_key=key.private.public_key()).verify(verified.signature, verified.base)


def test_no_idempotency_key_where_no_points_move() -> None:
    assert check(message(idempotency_key=None), KEYS, NOW, money=False).key_id == "bank-2026"


def test_other_signatures_beside_ours_are_left_alone() -> None:
    sent = message()
    both = with_field(sent, "signature-input", lambda value: value + ', proxy=("@method");created=1;tag="proxy"')
    both = with_field(both, "signature", lambda value: value + ", proxy=:AAAA:")
    assert check(both, KEYS, NOW, money=True)


class _Keys(HTTPSignatureKeyResolver):
    """Both keys, as the library asks for them."""

    def resolve_public_key(self, key_id: str) -> Any:
        return {key.key_id: key.private.public_key() for key in (KEY, P256)}.get(key_id)

    def resolve_private_key(self, key_id: str) -> Any:
        raise KeyError(key_id)


def _library_says(sent: Message, algorithm: Any) -> str | None:
    """What the library's own verifier says was signed; None when it refuses."""
    verifier = HTTPMessageVerifier(signature_algorithm=algorithm, key_resolver=_Keys())
    required = required_components(sent, money=True)
    try:
        [found] = verifier.verify(sent, max_age=None, expect_tag="tanpuhui-bank", require_components=required)
        verifier.verify_body(sent, [found], sent.body)
    except HTTPMessageSignaturesException:
        return None
    return "\n".join(f"{name}: {value}" for name, value in found.covered_components.items())


_EARLY = datetime(2026, 1, 1, tzinfo=UTC)  # the library's clock is the machine's: it takes what is not of the future
_ALTERED = st.tuples(
    st.sampled_from(["signature", "signature-input", "content-digest", "idempotency-key", "host", "content-type"]),
    st.integers(0, 400),
    st.sampled_from([" ", ";", ",", '"', "(", ")", ":", "=", "a", "0", "\t", "@"]),
    st.booleans(),
)


@given(
    st.booleans(),
    st.sampled_from([URL, URL + "?", URL + "?a=1&b=%41", URL + "/%E7%A2%B3"]),
    st.lists(_ALTERED, max_size=2),
)
def test_a_librarys_verifier_takes_whatever_this_one_takes_and_over_the_same_text(
    p256: bool, url: str, alterations: list[tuple[str, int, str, bool]]
) -> None:
    key = P256 if p256 else KEY
    sent = message(key, url=url, created=_EARLY)
    for name, where, letter, replaced in alterations:

        def alter(value: str, where: int = where, letter: str = letter, replaced: bool = replaced) -> str:
            at = where % (len(value) + 1)
            return value[:at] + letter + value[at + replaced :]

        sent = with_field(sent, name, alter)
    keys = registered(KEY, valid_from=_EARLY) | registered(P256, valid_from=_EARLY)
    said = _library_says(sent, ECDSA_P256_SHA256 if p256 else ED25519)
    try:
        taken = check(sent, keys, _EARLY, money=True)
    except SignatureFault:
        assert said is None or alterations  # this one is the stricter of the two
    else:
        assert taken.base.decode("ascii") == said


# Attacks


@pytest.mark.parametrize("name", ["@method", "@authority", "@path", "@query", "content-digest", "idempotency-key"])
def test_coverage_cannot_be_left_out(name: str) -> None:
    url = URL + "?final=true"
    sent = with_field(message(url=url), "signature-input", lambda value: value.replace(f' "{name}"', "", 1))
    sent = with_field(sent, "signature-input", lambda value: value.replace(f'("{name}" ', "(", 1))
    assert name not in read_signature(sent).components
    with pytest.raises(SignatureFault) as caught:
        check(sent, KEYS, NOW, money=True)
    assert (caught.value.reason, caught.value.named) == ("coverage", (name,))


def test_a_call_that_moves_points_needs_its_key_covered() -> None:
    assert reason(message(idempotency_key=None)) == "coverage"


def test_a_body_under_an_old_digest() -> None:
    assert reason(replace(message(), body=BODY.replace(b"3", b"9"))) == "digest"


def test_a_digest_renewed_for_another_body() -> None:
    other = BODY.replace(b"3", b"9")
    renewed = f"sha-256=:{base64.b64encode(hashlib.sha256(other).digest()).decode('ascii')}:"
    assert reason(with_field(replace(message(), body=other), "content-digest", lambda _: renewed)) == "signature"


@pytest.mark.parametrize(
    "change",
    [
        lambda sent: replace(sent, method="PUT"),
        lambda sent: replace(sent, url=sent.url.replace("/capture", "/void")),
        lambda sent: replace(sent, url=sent.url.replace("carbon.example", "other.example")),
        lambda sent: replace(sent, url=sent.url.replace("day=1", "day=2")),
        lambda sent: with_field(sent, "idempotency-key", lambda _: '"op-2"'),
        lambda sent: with_field(sent, "signature-input", lambda value: value.replace("n-0123", "n-9999")),
        lambda sent: with_field(sent, "signature-input", lambda value: value + ";expires=9999999999"),
    ],
    ids=["method", "path", "authority", "query", "key", "nonce", "expires"],
)
def test_anything_else_than_what_was_signed(change: Callable[[Message], Message]) -> None:
    assert reason(change(message(url=URL + "?day=1"))) == "signature"


def test_another_banks_key_is_unknown_even_under_a_known_id() -> None:
    stranger = SigningKey("other-bank", Ed25519PrivateKey.generate())
    assert reason(message(stranger)) == "unknown-key"
    assert reason(message(SigningKey("bank-2026", stranger.private))) == "signature"
    assert reason(message(SigningKey("bank-p256", KEY.private))) == "algorithm"


@pytest.mark.parametrize("stated", ["hmac-sha256", "rsa-pss-sha512", "ecdsa-p256-sha256", "none", ""])
def test_the_algorithm_comes_with_the_key(stated: str) -> None:
    sent = with_field(message(), "signature-input", lambda value: value.replace('alg="ed25519"', f'alg="{stated}"'))
    assert reason(sent) == "algorithm"


def test_the_clock_may_differ_so_far_and_no_further() -> None:
    for shift_s, expected in ((-300, None), (-301, "too-old"), (30, None), (31, "in-future")):
        sent = message(created=NOW + timedelta(seconds=shift_s))
        if expected is None:
            assert check(sent, KEYS, NOW, money=True)
        else:
            assert reason(sent) == expected
    ended = with_field(message(), "signature-input", lambda value: f"{value};expires={int(NOW.timestamp())}")
    assert reason(ended) == "expired"


def test_a_key_counts_from_its_first_moment_and_before_its_last() -> None:
    for changes, good in (
        ({"valid_from": NOW}, True),
        ({"valid_from": NOW + timedelta(seconds=1)}, False),
        ({"valid_to": NOW + timedelta(seconds=1)}, True),
        ({"valid_to": NOW}, False),
    ):
        keys = registered(KEY, **changes)
        if good:
            assert check(message(), keys, NOW, money=True)
        else:
            assert reason(message(), keys) == "key-not-valid"
    late = message(created=NOW - timedelta(minutes=1))
    assert reason(late, registered(KEY, valid_from=NOW - timedelta(seconds=59))) == "key-not-valid"


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("signature-input", lambda v: v.replace('"@method"', '"@method" "@method"'), "component-repeated"),
        ("signature-input", lambda v: v.replace('"content-digest"', '"content-digest";sf'), "component"),
        ("signature-input", lambda v: v.replace('"@path"', '"@path";req'), "component"),
        ("signature-input", lambda v: v.replace('"@method"', "method"), "malformed"),
        ("signature-input", lambda v: v.replace('"@method"', '"@Method"'), "malformed"),
        ("signature-input", lambda v: f"{v}, {v}", "malformed"),
        ("signature-input", lambda v: f'{v};nonce="another-0123456789"', "malformed"),
        ("signature-input", lambda v: v.replace("bank=", "other="), "malformed"),
        ("signature-input", lambda v: v.replace("created=", "created=0."), "malformed"),
        ("signature-input", lambda v: v + ";surprise=1", "parameter"),
        ("signature-input", lambda v: v.replace("tanpuhui-bank", "another"), "tag"),
        ("signature-input", lambda v: f"{v}, b2={v.partition('=')[2]}", "several"),
        ("signature-input", lambda v: v.replace("n-0123456789abcdef", "n-0123456789abc"), "nonce"),
        ("signature-input", lambda v: v.replace("n-0123456789abcdef", "n" * 129), "nonce"),
        ("signature-input", lambda v: "(" * 5000, "malformed"),
        ("signature", lambda v: "bank=1", "malformed"),
        ("signature", lambda v: "bank=:AAAA:", "signature"),
        ("content-digest", lambda v: "md5=:AAAA:", "digest-algorithm"),
        ("content-digest", lambda v: f"{v}, sha-512=:AAAA:", "digest"),
        ("content-digest", lambda v: "sha-256", "digest"),
        ("content-digest", lambda v: "", "malformed"),
    ],
)
def test_what_is_not_as_it_must_be(name: str, change: Callable[[str], str], expected: str) -> None:
    sent = message()
    changed = with_field(sent, name, change)
    assert changed != sent
    assert reason(changed) == expected


@pytest.mark.parametrize("name", ["signature", "signature-input", "content-digest", "idempotency-key", "host"])
def test_a_field_that_came_twice_could_be_read_in_two_ways(name: str) -> None:
    sent = message()
    assert reason(replace(sent, fields=(*sent.fields, (name, dict(sent.fields)[name])))) == "field-repeated"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("signature", "missing"), ("signature-input", "missing"), ("content-digest", "digest-missing")],
)
def test_a_field_that_is_not_there(name: str, expected: str) -> None:
    sent = message()
    assert reason(replace(sent, fields=tuple(each for each in sent.fields if each[0] != name))) == expected


@given(st.text(max_size=300), st.sampled_from(["signature", "signature-input", "content-digest"]))
def test_whatever_comes_is_refused_and_never_more(text: str, name: str) -> None:
    sent = with_field(message(), name, lambda _: text.encode("utf-8").decode("latin-1"))
    with pytest.raises(SignatureFault) as caught:
        check(sent, KEYS, NOW, money=True)
    assert caught.value.reason in REASONS
    assert isinstance(refused(caught.value), Problem)


def test_every_reason_is_said_in_both_languages() -> None:
    for text in REASONS.values():
        assert any("\u4e00" <= letter <= "\u9fff" for letter in text.zh)
        assert text.en.isascii()
        assert ("{named}" in text.zh) == ("{named}" in text.en)
    assert PROBLEM_TYPES["call-signature-refused"].parameters == {"why", "reason"}


def test_a_value_cannot_hold_another_line_of_what_was_signed() -> None:
    """A bank signed the text of two components; nobody may show it as the value of one."""
    sent = message()
    text = read_signature(sent).params_text.replace('"@path"', '"x-note" "@path"')
    hidden = replace(sent, fields=(*sent.fields, ("x-note", 'a\n"x-more": b')))
    hidden = with_field(hidden, "signature-input", lambda _: f"bank={text}")
    base = computed_base(hidden, read_signature(hidden))
    assert '"x-note": a\n"x-more": b\n' in base
    assert isinstance(KEY.private, Ed25519PrivateKey)
    signature = base64.b64encode(KEY.private.sign(base.encode("ascii"))).decode("ascii")
    assert reason(with_field(hidden, "signature", lambda _: f"bank=:{signature}:")) == "signature"
