"""Tokens: what is accepted, every way to be refused, keys that change, and who may do what."""

import asyncio
import base64
import json
import stat
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from api.auth import (
    ROLE_SCOPES,
    Authenticator,
    Caller,
    DevelopmentIssuer,
    FileKeys,
    Forbidden,
    Role,
    Unauthenticated,
    UrlKeys,
    build_authenticator,
    require_participant,
    require_scope,
)
from api.auth.keys import KeysMalformed, KeysUnavailable, parse_jwks
from api.auth.tokens import LEEWAY, LONGEST_LIFE
from api.problems import Problem
from service.settings import Settings, UnsafeSettings

ISSUER, AUDIENCE = "https://issuer.example", "tanpuhui"
SOURCE = "urn:tanpuhui:source:valleybike"
BANK = "https://bank.example/green"

ED25519 = ed25519.Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())
RSA2048 = rsa.generate_private_key(65537, 2048)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def jwk(key: Any, kid: str, **more: str) -> dict[str, Any]:
    kinds: dict[Any, Any] = {ed25519.Ed25519PrivateKey: OKPAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm = next((kinds[kind] for kind in kinds if isinstance(key, kind)), RSAAlgorithm)
    public: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    public.pop("key_ops", None)
    return {**public, "kid": kid, **more}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


ALL_KEYS = jwks(jwk(ED25519, "ed"), jwk(P256, "ec"), jwk(RSA2048, "rsa"))


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    usual: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 600,
        "sub": "valleybike",
        "role": "provider",
        "scope": "activities:write",
        "source": SOURCE,
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def token(key: Any = ED25519, kid: str = "ed", algorithm: str = "EdDSA", **changes: object) -> str:
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid})


def bearer(text: str) -> str:
    return "Bearer " + text


@pytest.fixture
def jwks_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(ALL_KEYS)
    return path


@pytest.fixture
def authenticator(jwks_file: Path) -> Authenticator:
    return Authenticator(FileKeys(jwks_file), issuer=ISSUER, audience=AUDIENCE)


async def reason(authenticator: Authenticator, authorization: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await authenticator.authenticate(authorization)
    assert caught.value.headers["WWW-Authenticate"].startswith('Bearer realm="tanpuhui"')
    assert caught.value.headers["WWW-Authenticate"].isascii()
    return caught.value.params["reason"]


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"), [(ED25519, "ed", "EdDSA"), (P256, "ec", "ES256"), (RSA2048, "rsa", "RS256")]
)
async def test_each_algorithm_with_its_key(authenticator: Authenticator, key: Any, kid: str, algorithm: str) -> None:
    caller = await authenticator.authenticate(bearer(token(key, kid, algorithm)))
    assert caller == Caller(
        "valleybike", "provider", frozenset({"activities:write"}), SOURCE, None, f"provider:{SOURCE}"
    )


async def test_each_role(authenticator: Authenticator) -> None:
    person = str(uuid4())
    participant = await authenticator.authenticate(
        bearer(token(sub=person, role="participant", scope="balance:read", source=None))
    )
    assert participant.participant_id == UUID(person)
    assert person not in participant.client
    for role in ("operator", "auditor"):
        caller = await authenticator.authenticate(
            bearer(token(sub="ops", role=role, scope=" ".join(ROLE_SCOPES[role]), source=None))
        )
        assert (caller.scopes, caller.participant_id, caller.client) == (ROLE_SCOPES[role], None, f"{role}:ops")
    bank = await authenticator.authenticate(
        bearer(token(sub="ops", role="bank", scope=" ".join(ROLE_SCOPES["bank"]), source=None, bank=BANK))
    )
    assert (bank.bank, bank.source, bank.scopes, bank.client) == (BANK, None, ROLE_SCOPES["bank"], f"bank:{BANK}")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "https://other.example"}, "wrong-issuer"),
        ({"iss": None}, "missing-claim"),
        ({"aud": "other"}, "wrong-audience"),
        ({"aud": None}, "missing-claim"),
        ({"exp": None}, "missing-claim"),
        ({"iat": None}, "missing-claim"),
        ({"sub": None}, "missing-claim"),
        ({"sub": ""}, "bad-claim"),
        ({"sub": "a\nb"}, "bad-claim"),
        ({"sub": "x" * 201}, "bad-claim"),
        ({"exp": int(time.time()) - LEEWAY - 5}, "expired"),
        ({"iat": int(time.time()) + LEEWAY + 60, "exp": int(time.time()) + 900}, "not-yet-valid"),
        ({"nbf": int(time.time()) + LEEWAY + 60}, "not-yet-valid"),
        ({"exp": int(time.time()) + LONGEST_LIFE + 60}, "too-long-lived"),
        ({"exp": True, "iat": True}, "expired"),
        ({"role": None}, "unknown-role"),
        ({"role": "root"}, "unknown-role"),
        ({"role": ["operator"]}, "unknown-role"),
        ({"scope": "activities:write credits:reverse"}, "scope-beyond-role"),
        ({"scope": ["activities:write"]}, "bad-claim"),
        ({"source": None}, "bad-claim"),
        ({"source": "no uri"}, "bad-claim"),
        ({"role": "auditor", "scope": "audit:read"}, "bad-claim"),
        ({"role": "bank", "scope": "", "source": None}, "bad-claim"),
        ({"role": "bank", "scope": "", "bank": BANK}, "bad-claim"),
        ({"role": "bank", "scope": "", "source": None, "bank": "no uri"}, "bad-claim"),
        ({"role": "bank", "scope": "activities:write", "source": None, "bank": BANK}, "scope-beyond-role"),
        ({"bank": BANK}, "bad-claim"),
        ({"role": "operator", "scope": "", "source": None, "bank": BANK}, "bad-claim"),
        ({"role": "participant", "scope": "", "source": None}, "bad-claim"),
        ({"role": "participant", "scope": "", "source": None, "sub": "{" + str(uuid4()) + "}"}, "bad-claim"),
    ],
)
async def test_claims_that_are_refused(authenticator: Authenticator, changes: dict[str, Any], expected: str) -> None:
    assert await reason(authenticator, bearer(token(**changes))) == expected


async def test_clocks_may_differ_a_little(authenticator: Authenticator) -> None:
    await authenticator.authenticate(bearer(token(exp=int(time.time()) - LEEWAY + 5, iat=int(time.time()) - 600)))
    await authenticator.authenticate(bearer(token(iat=int(time.time()) + LEEWAY - 5)))


async def test_what_is_no_token_is_refused(authenticator: Authenticator) -> None:
    assert await reason(authenticator, None) == "no-token"
    assert await reason(authenticator, "Basic YTpi") == "no-token"
    assert await reason(authenticator, "Bearer ") == "malformed"
    assert await reason(authenticator, "Bearer a.b.c") == "malformed"
    assert await reason(authenticator, "Bearer \udc80.é.\0") == "malformed"
    assert await reason(authenticator, bearer(token(sub="x" * 4000))) == "too-large"


def forged(header: dict[str, object], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims()).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_an_algorithm_is_the_keys_never_the_tokens(authenticator: Authenticator) -> None:
    """`none`, a public key used as a shared secret, and another asymmetric algorithm."""
    assert await reason(authenticator, bearer(forged({"alg": "none", "kid": "ed"}))) == "wrong-algorithm"
    assert await reason(authenticator, bearer(forged({"alg": "HS256", "kid": "rsa"}, b"x" * 32))) == "wrong-algorithm"
    assert await reason(authenticator, bearer(token(RSA2048, "rsa", "PS256"))) == "wrong-algorithm"
    assert await reason(authenticator, bearer(token(ED25519, "ec", "EdDSA"))) == "wrong-algorithm"
    assert await reason(authenticator, bearer(forged({"alg": "EdDSA"}))) == "unknown-key"
    assert await reason(authenticator, bearer(forged({"alg": "EdDSA", "kid": 1}))) in {"unknown-key", "malformed"}
    assert await reason(authenticator, bearer(forged({"alg": "EdDSA", "kid": "ed"}, bytes(64)))) == "bad-signature"
    critical = jwt.encode(claims(), ED25519, "EdDSA", headers={"kid": "ed", "crit": ["exp"], "exp": 1})
    assert await reason(authenticator, bearer(critical)) == "malformed"


async def test_a_changed_token_is_not_the_remembered_one(authenticator: Authenticator) -> None:
    good = token()
    await authenticator.authenticate(bearer(good))
    head, _, tail = good.split(".")
    other = token(sub="another").split(".")[1]
    assert await reason(authenticator, bearer(f"{head}.{other}.{tail}")) == "bad-signature"


async def test_a_remembered_token_ends_with_its_life(jwks_file: Path) -> None:
    now = time.time()
    authenticator = Authenticator(FileKeys(jwks_file), issuer=ISSUER, audience=AUDIENCE, clock=lambda: now)
    short = bearer(token(exp=int(now) - LEEWAY + 1, iat=int(now) - 60))
    await authenticator.authenticate(short)
    await asyncio.sleep(1.1)
    assert await reason(authenticator, short) == "expired"  # past its end it is verified anew, leeway and all


async def test_verified_once_then_remembered_for_a_minute(jwks_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    decode = jwt.decode

    def counted(*args: Any, **options: Any) -> Any:
        verified.append(1)
        return decode(*args, **options)

    monkeypatch.setattr(jwt, "decode", counted)
    now = time.time()
    authenticator = Authenticator(FileKeys(jwks_file), issuer=ISSUER, audience=AUDIENCE, clock=lambda: now)
    text = bearer(token())
    for _ in range(5):
        await authenticator.authenticate(text)
    assert len(verified) == 1
    now += 59
    await authenticator.authenticate(text)
    assert len(verified) == 1
    now += 2
    await authenticator.authenticate(text)
    assert len(verified) == 2


def replace_keys(path: Path, document: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(document)
    fresh.replace(path)


async def test_a_changed_file_ends_what_the_old_key_signed(jwks_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = Authenticator(FileKeys(jwks_file), issuer=ISSUER, audience=AUDIENCE)
    old = bearer(token())
    await authenticator.authenticate(old)
    replace_keys(jwks_file, jwks(jwk(P256, "ec")))
    await authenticator.authenticate(old)  # looked at once a second at most
    later = time.monotonic() + 2
    monkeypatch.setattr("api.auth.keys.time.monotonic", lambda: later)
    assert await reason(authenticator, old) == "unknown-key"
    await authenticator.authenticate(bearer(token(P256, "ec", "ES256")))


async def test_a_broken_file_leaves_the_last_good_keys(jwks_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = Authenticator(FileKeys(jwks_file), issuer=ISSUER, audience=AUDIENCE)
    moment = time.monotonic()
    monkeypatch.setattr("api.auth.keys.time.monotonic", lambda: moment)
    replace_keys(jwks_file, b"{")
    moment += 2
    await authenticator.authenticate(bearer(token()))
    jwks_file.unlink()  # noqa: ASYNC240 - a test has nobody to hold up
    moment += 2
    await authenticator.authenticate(bearer(token()))


def test_unusable_keys_are_passed_over_and_dangerous_sets_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    p384 = ec.generate_private_key(ec.SECP384R1())
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "hmac"}
    others = [jwk(weak, "weak"), jwk(p384, "p384"), secret, jwk(P256, "enc", use="enc"), jwk(P256, "alg", alg="ES384")]
    anonymous = jwk(P256, "x")
    del anonymous["kid"]
    assert set(parse_jwks(jwks(*others, anonymous, jwk(ED25519, "ed", use="sig", alg="EdDSA")))) == {"ed"}
    for document in (
        b"",
        b"[]",
        b"{}",
        b'{"keys": [1]}',
        jwks(*others),
        jwks(jwk(P256, "a"), jwk(ED25519, "a")),
        jwks(json.loads(OKPAlgorithm.to_jwk(ED25519)) | {"kid": "private"}),
        jwks({"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": "!"}),
    ):
        with pytest.raises(KeysMalformed):
            parse_jwks(document)


class Issuer:
    """An issuer's JWKS address, answering as told."""

    def __init__(self, answer: Callable[[], httpx.Response]) -> None:
        self.answer = answer
        self.asked = 0

    def keys(self) -> UrlKeys:
        def handle(request: httpx.Request) -> httpx.Response:
            self.asked += 1
            return self.answer()

        return UrlKeys("https://issuer.example/jwks", httpx.AsyncClient(transport=httpx.MockTransport(handle)))


async def test_keys_by_address_are_fetched_once_and_unknown_kids_ask_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1000.0
    monkeypatch.setattr("api.auth.keys.time.monotonic", lambda: moment)
    issuer = Issuer(lambda: httpx.Response(200, content=ALL_KEYS))
    authenticator = Authenticator(issuer.keys(), issuer=ISSUER, audience=AUDIENCE)
    await authenticator.authenticate(bearer(token()))
    await authenticator.authenticate(bearer(token(P256, "ec", "ES256")))
    assert issuer.asked == 1
    for _ in range(3):
        assert await reason(authenticator, bearer(token(kid="new"))) == "unknown-key"
    assert issuer.asked == 1
    moment += 11
    issuer.answer = lambda: httpx.Response(200, content=jwks(jwk(ED25519, "new")))
    await authenticator.authenticate(bearer(token(kid="new")))
    assert issuer.asked == 2
    assert await reason(authenticator, bearer(token(P256, "ec", "ES256"))) == "unknown-key"  # no longer remembered
    await authenticator.close()


async def test_an_issuer_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1000.0
    monkeypatch.setattr("api.auth.keys.time.monotonic", lambda: moment)
    issuer = Issuer(lambda: httpx.Response(500))
    keys = issuer.keys()
    authenticator = Authenticator(keys, issuer=ISSUER, audience=AUDIENCE)
    for _ in range(3):
        with pytest.raises(Problem) as caught:  # says nothing about the token, so not 401
            await authenticator.authenticate(bearer(token()))
        assert (caught.value.slug, caught.value.headers) == ("temporarily-unavailable", {"Retry-After": "5"})
    assert issuer.asked == 1
    moment += 2
    issuer.answer = lambda: httpx.Response(200, content=ALL_KEYS)
    good = bearer(token())
    await authenticator.authenticate(good)
    issuer.answer = lambda: httpx.Response(200, content=b"x" * 300_000)
    moment += UrlKeys.FRESH + 1
    await authenticator.authenticate(good)  # the fetch is in the background
    assert await keys.find("unknown") is None
    assert issuer.asked == 3
    await authenticator.authenticate(good)
    await authenticator.close()


def test_keys_must_be_there_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable, match="put the issuer's public keys there"):
        FileKeys(tmp_path / "none.json")
    with pytest.raises(ValueError, match="put the issuer's public keys there"):
        build_authenticator(Settings(jwks=str(tmp_path / "none.json")))


async def test_the_development_issuer(tmp_path: Path) -> None:
    authenticator = build_authenticator(Settings(data_dir=tmp_path))
    issuer = DevelopmentIssuer(tmp_path)
    key = tmp_path / "development-issuer" / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "PRIVATE" not in issuer.jwks_path.read_text()
    provider = await authenticator.authenticate(bearer(issuer.issue("provider", "p", source=SOURCE)))
    assert provider.scopes == ROLE_SCOPES["provider"]
    bank = await authenticator.authenticate(bearer(issuer.issue("bank", "b", bank=BANK)))
    assert (bank.bank, bank.scopes) == (BANK, ROLE_SCOPES["bank"])
    fewer = issuer.issue("operator", "ops", scopes=["balance:read"], ttl=timedelta(minutes=1))
    assert (await authenticator.authenticate(bearer(fewer))).scopes == {"balance:read"}
    assert (
        await reason(authenticator, bearer(issuer.issue("operator", "ops", ttl=timedelta(days=2)))) == "too-long-lived"
    )


def test_production_refuses_the_development_issuer(tmp_path: Path) -> None:
    unsafe = Settings(data_dir=tmp_path).model_copy(update={"mode": "production"})  # as if the settings let it through
    with pytest.raises(UnsafeSettings, match="development issuer"):
        build_authenticator(unsafe)


def caller(role: Role, participant_id: UUID | None = None) -> Caller:
    return Caller("s", role, ROLE_SCOPES[role], None, participant_id, "c")


def test_scopes_and_ownership() -> None:
    own, other = uuid4(), uuid4()
    require_scope(caller("provider"), "activities:write")
    with pytest.raises(Forbidden) as caught:
        require_scope(caller("provider"), "balance:read")
    assert 'error="insufficient_scope", scope="balance:read"' in caught.value.headers["WWW-Authenticate"]
    assert caught.value.render("en")["missing_scope"] == "balance:read"
    require_participant(caller("participant", own), own)
    require_participant(caller("operator"), other)
    require_participant(caller("auditor"), other)
    for stranger in (caller("participant", own), caller("provider")):
        with pytest.raises(Forbidden):
            require_participant(stranger, other)
