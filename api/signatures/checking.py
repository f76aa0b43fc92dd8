"""Check the signature of a bank or a source under its registered keys. Pure: message, keys and time come in.

What must be covered is decided here and not by whoever signs; the algorithm comes with the key, never with the message.
The values of components and the algorithms are a library's; its own verifier, which parses everything again for itself
and would take as long as all the rest, stands beside this one in the tests.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519, HTTPSignatureAlgorithm
from http_message_signatures.exceptions import HTTPMessageSignaturesException
from http_message_signatures.resolvers import HTTPSignatureComponentResolver
from http_sf.compat import Item

from api.signatures.reading import SOURCE_TAG, TAG, Claimed, Message, SignatureFault, check_digest, read_signature
from service.jws import Public, load_public_key

LONGEST_LIFE = timedelta(minutes=5)  # from `created` on; a nonce is remembered for longer
EARLIEST = timedelta(seconds=30)  # so far may the caller's clock be ahead
_PLAIN_FIELDS = frozenset({"content-digest", "content-type", "idempotency-key"})
NONCE_LENGTH = (16, 128)  # characters; 16 of base64 hold 96 random bits


class RegisteredKey(Protocol):
    """A caller's public key as JWK text, and whether a signature made at a moment counts."""

    @property
    def public_key(self) -> str: ...

    def counts(self, at: datetime) -> bool: ...


@dataclass(frozen=True, slots=True)
class Profile:
    """What is asked of a signature.

    tag          whose signatures these are
    required     what must be covered at least
    authorities  the addresses of this platform, in lower case, without a default port; none where any will do
    """

    tag: str
    required: tuple[str, ...]
    authorities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that holds: what it is of, byte for byte, and the key and nonce under which it was made."""

    key_id: str
    nonce: str
    base: bytes
    signature: bytes
    content_digest: str


def required_components(message: Message, *, money: bool) -> tuple[str, ...]:
    """What a bank's signature under this request must cover at least; its Idempotency-Key too where points move."""
    return (*_address_of(message), "content-digest", *(("idempotency-key",) if money else ()))


def _address_of(message: Message) -> tuple[str, ...]:
    return ("@method", "@authority", "@path", *(("@query",) if message.query else ()))


def bank_profile(message: Message, *, money: bool, authorities: frozenset[str] = frozenset()) -> Profile:
    """What is asked of a bank's call; `money` says whether it moves points."""
    return Profile(TAG, required_components(message, money=money), authorities)


def source_profile(message: Message, authorities: frozenset[str] = frozenset()) -> Profile:
    """What is asked of a source's call. What its content is read as belongs to what is signed: the media type."""
    return Profile(SOURCE_TAG, (*_address_of(message), "content-digest", "content-type"), authorities)


def check(message: Message, keys: Mapping[str, RegisteredKey], now: datetime, profile: Profile) -> Verified:
    """Check the one signature of ours under a request.

    keys    the caller's own, by key id; a signature under somebody else's key is one under an unknown key
    now     the platform's time

    Raises SignatureFault with the first thing that is wrong: form, coverage, time, key, digest, address, signature.
    """
    claimed = read_signature(message, profile.tag)
    missing = [name for name in profile.required if name not in claimed.components]
    if missing:
        raise SignatureFault("coverage", *missing)
    _check_time(claimed, now)
    nonce = claimed.parameters.get("nonce")
    if nonce is None or not NONCE_LENGTH[0] <= len(nonce) <= NONCE_LENGTH[1]:
        raise SignatureFault("nonce")
    key_id, public = _key(claimed, keys, now)
    content_digest = check_digest(message)
    base = _verified(message, claimed, public, profile.authorities)
    return Verified(key_id, nonce, base, claimed.signature, content_digest)


def _check_time(claimed: Claimed, now: datetime) -> None:
    created, expires = (claimed.parameters.get(name) for name in ("created", "expires"))
    if created is None:
        raise SignatureFault("created")
    age_s = now.timestamp() - created
    if age_s > LONGEST_LIFE.total_seconds():
        raise SignatureFault("too-old", str(created))
    if age_s < -EARLIEST.total_seconds():
        raise SignatureFault("in-future", str(created))
    if expires is not None and now.timestamp() >= expires:
        raise SignatureFault("expired", str(expires))


def _key(claimed: Claimed, keys: Mapping[str, RegisteredKey], now: datetime) -> tuple[str, Public]:
    key_id = claimed.parameters.get("keyid")
    if key_id is None:
        raise SignatureFault("keyid")
    key = keys.get(key_id)
    if key is None:
        raise SignatureFault("unknown-key", key_id[:128])
    signed_at = datetime.fromtimestamp(claimed.parameters["created"], UTC)
    if not (key.counts(now) and key.counts(min(now, signed_at))):
        raise SignatureFault("key-not-valid", key_id)
    public = load_public_key(key.public_key)
    stated = claimed.parameters.get("alg")
    if stated is not None and stated != algorithm_of(public).algorithm_id:
        raise SignatureFault("algorithm", stated[:40])
    return key_id, public


def algorithm_of(public: Public) -> type[HTTPSignatureAlgorithm]:
    """The one algorithm that a key is used with."""
    return ED25519 if isinstance(public, Ed25519PublicKey) else ECDSA_P256_SHA256


def _verified(message: Message, claimed: Claimed, public: Public, authorities: frozenset[str]) -> bytes:
    """The signature base, of which the signature is. Raises SignatureFault."""
    values = _plain_values(message, claimed) or _resolved(message, claimed)
    # Whoever calls chooses the Host: what was signed for another platform could be sent here under that one's name.
    if authorities and values["@authority"] not in authorities:
        raise SignatureFault("authority", values["@authority"][:128])
    base = _base(values, claimed)
    if not all(value.replace("\t", " ").isprintable() for value in values.values()) or not base.isascii():
        raise SignatureFault("signature")  # a line more than was covered could be hidden in a value
    verifier: Any = algorithm_of(public)
    try:
        verifier(public_key=public).verify(claimed.signature, base.encode("ascii"))
    except (InvalidSignature, HTTPMessageSignaturesException):
        raise SignatureFault("signature") from None
    return base.encode("ascii")


_PLAIN_ADDRESS = re.compile(r"https?://([a-z0-9.-]+(?::[0-9]{2,5})?)(/[A-Za-z0-9._~/-]*)")
_DEFAULT_PORTS = (":80", ":443")


def _plain_values(message: Message, claimed: Claimed) -> dict[str, str] | None:
    """The values of components that nobody could read differently, in a tenth of the library's time; None where there
    is anything else."""
    address = _PLAIN_ADDRESS.fullmatch(message.url)
    if address is None or address[1].endswith(_DEFAULT_PORTS) or not message.method.isupper():
        return None
    known = {"@method": message.method, "@authority": address[1], "@path": address[2]}
    values: dict[str, str] = {}
    for name in claimed.components:
        value = known.get(name) or (message.field(name) if name in _PLAIN_FIELDS else None)
        if value is None or value != value.strip() or not value.isprintable():
            return None
        values[name] = value
    return values


def _resolved(message: Message, claimed: Claimed) -> dict[str, str]:
    try:
        resolver = _resolver(message)
        return {name: resolver.resolve(Item(name)) for name in claimed.components}
    except HTTPMessageSignaturesException:  # what is covered is not there, or the address is none
        raise SignatureFault("signature") from None


def _resolver(message: Message) -> Any:
    resolver: Any = HTTPSignatureComponentResolver  # which says nothing of its types
    return resolver(message)


def _base(values: Mapping[str, str], claimed: Claimed) -> str:
    """RFC 9421, 2.5: a line for each component, in the order of the signature, and its parameters last."""
    lines = [f'"{name}": {value}' for name, value in values.items()]
    return "\n".join((*lines, f'"@signature-params": {claimed.params_text}'))


def computed_base(message: Message, claimed: Claimed) -> str:
    """The signature base of what a signature says it covers, as we see this request: for whoever has to find out why
    it does not verify. A component that is not there is shown as such."""
    values: dict[str, str] = {}
    for name in claimed.components:
        try:
            values[name] = _resolver(message).resolve(Item(name))
        except HTTPMessageSignaturesException as absent:
            values[name] = f"<{absent}>"
    return _base(values, claimed)
