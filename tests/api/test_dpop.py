"""Proofs of possession (RFC 9449): the published examples, and everything that is no proof."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from api.auth.dpop import EARLIEST_S, OLDEST_S, Proof, ProofRefused, check_proof, origin_of, token_hash
from api.auth.keys import parse_jwks
from api.auth.proofs import ProofMemory
from api.oauth.proving import dpop_proof
from api.signatures import SigningKey, public_jwk
from service.jws import SignatureRefused, load_public_key, read_jws, read_public_key, thumbprint, verify_jws
from tests.api.bankers import new_key
from tests.conftest import Database

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "dpop.json").read_bytes())
ORIGIN, PATH, NOW = "https://carbon.example", "/v1/activities", 1_800_000_000
KEY, EC_KEY = new_key("a"), new_key("b", p256=True)

pytestmark = pytest.mark.anyio


def made(key: SigningKey = KEY, *, access_token: str | None = "a.b.c", **claims: Any) -> str:
    return dpop_proof(key, "POST", ORIGIN + PATH, access_token=access_token, now=NOW, **claims)


def check(proof: str, **changes: Any) -> Proof:
    asked: dict[str, Any] = {"method": "POST", "path": PATH, "origins": {ORIGIN}, "now": NOW, "access_token": "a.b.c"}
    return check_proof(proof, **asked | changes)


def reason(proof: str, **changes: Any) -> str:
    with pytest.raises(ProofRefused) as caught:
        check(proof, **changes)
    return caught.value.reason


def with_header(header: dict[str, Any], key: SigningKey = KEY, algorithm: str = "EdDSA") -> str:
    claims = jwt.decode(made(key), options={"verify_signature": False})
    return jwt.encode(claims, key.private, algorithm, headers=header)


def jwk(key: SigningKey = KEY, **more: str) -> dict[str, str]:
    return {name: value for name, value in public_jwk(key).items() if name != "kid"} | more


@pytest.mark.parametrize("name", ["token_request", "resource_request"])
def test_the_examples_of_the_standard(name: str) -> None:
    example = VECTORS[name]
    origin, _, path = example["url"].rpartition("/")
    asked = {"method": example["method"], "path": f"/{path}", "origins": {origin}, "now": example["at"] + 5}
    found = check_proof(example["proof"], **asked, access_token=example.get("access_token"))
    assert found.jkt == VECTORS["jkt"]
    assert found.until == example["at"] + OLDEST_S
    if "ath" in example:
        assert token_hash(example["access_token"]) == example["ath"]
        with pytest.raises(ProofRefused, match="proof-token"):
            check_proof(example["proof"], **asked, access_token=example["access_token"] + "x")


def test_published_keys_thumbprints_and_signatures() -> None:
    ed, p256 = VECTORS["ed25519"], VECTORS["p256"]
    text = read_public_key(ed["jwk"])
    assert base64.urlsafe_b64encode(thumbprint(text)).rstrip(b"=").decode() == ed["thumbprint"]
    for vector in (ed, p256):
        header, payload, signature = vector["jws"].split(".")
        key = load_public_key(read_public_key(vector["jwk"]))
        algorithm = json.loads(base64.urlsafe_b64decode(header + "=="))["alg"]
        jwt.PyJWS().decode_complete(vector["jws"], key, algorithms=[algorithm])
        with pytest.raises(SignatureRefused, match="header"):
            verify_jws(read_jws(vector["jws"].encode()), read_public_key(vector["jwk"]))  # of ours, each names its key
        flipped = f"{header}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.PyJWS().decode_complete(flipped, key, algorithms=[algorithm])
    assert parse_jwks(json.dumps(VECTORS["jwks"]).encode())["1"].algorithm == "ES256"


@pytest.mark.parametrize("key", [KEY, EC_KEY])
def test_a_proof_is_for_one_request_of_one_key(key: SigningKey) -> None:
    found = check(made(key))
    text = read_public_key(jwk(key))
    assert found.jkt == base64.urlsafe_b64encode(thumbprint(text)).rstrip(b"=").decode()
    assert reason(made(key), method="GET") == "proof-method"
    assert reason(made(key), path=PATH + "/") == "proof-address"
    assert reason(made(key), origins={"https://carbon.example:8443"}) == "proof-address"
    assert reason(made(key), origins={"http://carbon.example"}) == "proof-address"
    assert reason(made(key), access_token="a.b.d") == "proof-token"
    assert reason(made(key, access_token=None)) == "proof-token"
    assert check(made(key, access_token=None), access_token=None).jti


def test_the_clock_may_differ_a_little() -> None:
    for now in (NOW + OLDEST_S, NOW - EARLIEST_S):
        check(made(), now=now)
    for now in (NOW + OLDEST_S + 1, NOW - EARLIEST_S - 1):
        assert reason(made(), now=now) == "proof-time"
    for value in (None, str(NOW), float(NOW), True):
        assert reason(made(iat=value)) == "proof-time"


@pytest.mark.parametrize(
    "address",
    [
        ORIGIN,
        f"{ORIGIN}{PATH}/..",
        f"{ORIGIN}/v1%2Factivities",
        f"https://carbon.example@evil.example{PATH}",
        f"https://evil.example{PATH}",
        f"//carbon.example{PATH}",
        PATH,
        f"{ORIGIN}:x{PATH}",
        "",
        None,
        7,
        f"{ORIGIN}{PATH}\n",
    ],
)
def test_a_proof_for_another_address(address: object) -> None:
    assert reason(made(htu=address)) == "proof-address"


def test_the_address_in_other_writings() -> None:
    for address in (f"HTTPS://CARBON.example:443{PATH}", f"{ORIGIN}{PATH}?x=1", f"{ORIGIN}{PATH}#x"):
        check(made(htu=address))
    assert origin_of("http://[::1]:80/x") == "http://[::1]"
    assert origin_of("ftp://carbon.example/") is None


def test_only_asymmetric_signatures_of_public_keys() -> None:
    claims = jwt.decode(made(), options={"verify_signature": False})
    none = jwt.encode(claims, "", "none", headers={"typ": "dpop+jwt", "jwk": jwk()})
    assert reason(none + "AAAA") == "proof-key"
    secret = base64.urlsafe_b64decode(jwk()["x"] + "=")
    hmac = jwt.encode(claims, secret, "HS256", headers={"typ": "dpop+jwt", "jwk": jwk()})
    assert reason(hmac) == "proof-key"
    octets = jwt.encode(claims, secret, "HS256", headers={"typ": "dpop+jwt", "jwk": {"kty": "oct", "k": "AAAA"}})
    assert reason(octets) == "proof-key"
    assert reason(with_header({"typ": "dpop+jwt", "jwk": jwk(EC_KEY)})) == "proof-key"  # another key's algorithm
    assert reason(with_header({"typ": "dpop+jwt", "jwk": jwk(new_key())})) == "proof-signature"
    private = ed25519.Ed25519PrivateKey.generate().private_bytes_raw()
    assert reason(with_header({"typ": "dpop+jwt", "jwk": jwk(d=base64.urlsafe_b64encode(private).decode())})) == (
        "proof-key"
    )
    assert reason(with_header({"typ": "dpop+jwt", "jwk": jwk(alg="ES256")})) == "proof-key"
    assert reason(with_header({"typ": "dpop+jwt", "jwk": jwk(use="enc")})) == "proof-key"
    p384 = ec.generate_private_key(ec.SECP384R1())
    other = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(p384.public_key()))
    other.pop("key_ops", None)
    assert reason(jwt.encode(claims, p384, "ES384", headers={"typ": "dpop+jwt", "jwk": other})) == "proof-key"
    off_curve = jwk(EC_KEY) | {"y": jwk(EC_KEY)["x"]}
    assert reason(with_header({"typ": "dpop+jwt", "jwk": off_curve}, EC_KEY, "ES256")) == "proof-key"


def test_the_form_is_one() -> None:
    for header in (
        {"typ": "JWT", "jwk": jwk()},
        {"typ": "at+jwt", "jwk": jwk()},
        {"typ": "dpop+jwt"},
        {"typ": "dpop+jwt", "jwk": jwk(), "kid": "x"},
        {"typ": "dpop+jwt", "jwk": jwk(), "crit": ["b64"], "b64": True},
        {"typ": "dpop+jwt", "jwk": "x"},
    ):
        assert reason(with_header(header)) == "proof-malformed"
    head, body, tail = made().split(".")
    for text in ("", "x", "a.b", f"{head}.{body}", f"{head}.{body}.{tail}=", f"{head}.{body}.{tail}.", "é.é.é"):
        assert reason(text) == "proof-malformed"
    assert reason(f"{head}.{body}.{tail[:-4]}") in ("proof-signature", "proof-malformed")
    assert reason(made(more="x" * 5000)) == "proof-malformed"
    for jti in (None, 7, "short", "x" * 129, "with space", ""):
        assert reason(made(jti=jti)) == "proof-malformed"
    twice = base64.urlsafe_b64encode(b'{"htm":"POST","htm":"POST"}').rstrip(b"=").decode()
    assert reason(f"{head}.{twice}.{tail}") == "proof-malformed"
    listed = base64.urlsafe_b64encode(b"[]").rstrip(b"=").decode()
    assert reason(f"{head}.{listed}.{tail}") == "proof-malformed"


PROOF = made()


@given(st.integers(0, len(PROOF) - 1), st.sampled_from("ABCxyz019-_.="))
def test_no_character_of_a_proof_can_be_changed(place: int, character: str) -> None:
    if PROOF[place] != character:
        reason(PROOF[:place] + character + PROOF[place + 1 :])


@given(st.text(max_size=200))
def test_nonsense_is_refused_and_nothing_else(text: str) -> None:
    reason(text)


async def test_a_proof_is_new_once(database: Database) -> None:
    now = time.time()
    one, other = (Proof("j" * 43, f"id {now} {n}".replace(" ", "-"), now + OLDEST_S) for n in range(2))
    here, there, alone = ProofMemory(database.redis), ProofMemory(database.redis), ProofMemory(None)
    for memory in (here, there, alone):
        await memory.start()
    assert await here.is_new(one, now)
    assert not await here.is_new(one, now)
    assert not await there.is_new(one, now)  # another process was told
    assert await there.is_new(other, now)
    assert await alone.is_new(one, now)  # one that cannot be told
    assert not await alone.is_new(one, now)
    assert here.shared
    assert not alone.shared
    for memory in (here, there, alone):
        await memory.close()


async def test_without_redis_a_process_remembers_alone_and_nobody_waits() -> None:
    memory = ProofMemory("redis://127.0.0.1:1", timeout=0.05, retry=60)
    await memory.start()
    now = time.time()
    proof = Proof("j" * 43, "id-of-one-proof", now + OLDEST_S)
    began = time.monotonic()
    assert await memory.is_new(proof, now)
    assert not await memory.is_new(proof, now)
    assert not memory.shared
    for number in range(100):
        assert await memory.is_new(Proof("j" * 43, f"id-{number:08}", now + OLDEST_S), now)
    assert time.monotonic() - began < 1
    await memory.close()


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ProofMemory(None)
    for number in range(50):
        await memory.is_new(Proof("j", f"old-{number}", 100.0), 50.0)
    await memory.is_new(Proof("j", "new", 200.0), 150.0)
    assert len(memory._used) == 1  # what could not be sent again is forgotten
    monkeypatch.setattr("api.auth.proofs.MOST_REMEMBERED", 10)
    for number in range(50):
        await memory.is_new(Proof("j", f"many-{number}", 250.0), 150.0)
    assert len(memory._used) == 10


async def test_a_redis_that_hangs_delays_a_proof_by_no_more_than_the_limit(database: Database) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(65536):  # takes everything, and answers the greeting alone
            writer.write(b"+OK\r\n" * content.count(b"CLIENT"))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    memory = ProofMemory(f"redis://127.0.0.1:{port}", timeout=0.05, retry=60)
    await memory.start()
    reached = memory.shared
    now, began = time.time(), time.monotonic()
    proofs = [Proof("j" * 43, f"hung-{number:08}", now + OLDEST_S) for number in range(50)]
    assert all(await asyncio.gather(*(memory.is_new(proof, now) for proof in proofs)))
    assert not any([await memory.is_new(proof, now) for proof in proofs])
    assert time.monotonic() - began < 0.5
    assert (reached, memory.shared) == (True, False)
    await memory.close()
    server.close()
    await server.wait_closed()
