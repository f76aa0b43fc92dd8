"""Read the fields of an HTTP message signature (RFC 9421, 4), strictly: one signature of ours, plain components, no
name twice. Nothing that is read here is believed before the signature is."""

import base64
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import http_sf

TAG = "tanpuhui-bank"
SOURCE_TAG = "tanpuhui-source"
PARAMETERS = frozenset({"created", "expires", "nonce", "alg", "keyid", "tag"})
LONGEST_FIELD = 4096  # characters
MOST_COMPONENTS = 32
SINGLE = ("signature", "signature-input", "content-digest", "idempotency-key", "content-type", "host")
"""Fields of which a second line could be read differently by whoever looks at the first or at the last."""

_HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


class SignatureFault(Exception):
    """A signature is not taken; `reason` is a key of REASONS (api/signatures/reasons.py).

    named   what the reason is about: components, a field, an id
    """

    def __init__(self, reason: str, *named: str) -> None:
        super().__init__(reason, *named)
        self.reason, self.named = reason, named


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it arrived: `url` is absolute and encoded, header names are in lower case and in order."""

    method: str
    url: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def headers(self) -> "_Fields":
        """Every line of the header, as the library reads it."""
        return _Fields(self.fields)

    @property
    def query(self) -> bool:
        """Whether the address has a query."""
        return "?" in self.url

    def field(self, name: str) -> str | None:
        """The one value of a field, None when it is absent. Raises SignatureFault for one that came twice."""
        values = [value for each, value in self.fields if each == name]
        if len(values) > 1:
            raise SignatureFault("field-repeated", name)
        return values[0] if values else None


class _Fields:
    """Header lines that come one by one: a mapping would hide the second of a name."""

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        self._fields = fields

    def items(self) -> tuple[tuple[str, str], ...]:
        return self._fields


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a signature says of itself, unverified."""

    label: str
    components: tuple[str, ...]
    parameters: Mapping[str, Any]
    signature: bytes
    params_text: str


# One signature in the one way that a serializer writes it: of such a text there are no two readings.
_PLAIN_INPUT = re.compile(
    r'([a-z*][a-z0-9_.*-]*)=(\(("[@a-z0-9-]+"(?: "[@a-z0-9-]+")*)\)((?:;[a-z]+=(?:"[ !#-\[\]-~]*"|[1-9][0-9]{0,14}))+))'
)
_PLAIN_SIGNATURE = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]{85}[AQgw]==):")
_PLAIN_PARAMETER = re.compile(r';([a-z]+)=(?:"([^"]*)"|([0-9]+))')


def _read_plain(message: Message, tag: str) -> Claimed | None:
    """What nearly all callers send, read in a tenth of the time; None for anything else, also where it is at fault."""
    stated, signed = message.field("signature-input"), message.field("signature")
    if stated is None or signed is None or len(stated) > LONGEST_FIELD:
        return None
    one, other = _PLAIN_INPUT.fullmatch(stated), _PLAIN_SIGNATURE.fullmatch(signed)
    if one is None or other is None or one[1] != other[1]:
        return None
    found = _PLAIN_PARAMETER.findall(one[4])
    parameters: dict[str, Any] = {name: int(number) if number else text for name, text, number in found}
    components = tuple(one[3][1:-1].split('" "'))
    known = parameters.keys() <= PARAMETERS and len(parameters) == len(found)
    numbers = {name for name, _, number in found if number}
    if not known or numbers - {"created", "expires"} or parameters.keys() & {"created", "expires"} != numbers:
        return None
    if parameters.get("tag") != tag or len(components) > MOST_COMPONENTS or len(set(components)) < len(components):
        return None
    return Claimed(one[1], components, parameters, base64.b64decode(other[2]), one[2])


def read_signature(message: Message, tag: str = TAG) -> Claimed:
    """The one signature that carries our tag, which says whose it is. Raises SignatureFault."""
    for name in SINGLE:
        message.field(name)
    plain = _read_plain(message, tag)
    if plain is not None:
        return plain
    inputs, signatures = (_dictionary(message, name) for name in ("signature-input", "signature"))
    ours = [label for label, (_, parameters) in inputs.items() if parameters.get("tag") == tag]
    if not ours:
        raise SignatureFault("tag", tag)
    if len(ours) > 1:
        raise SignatureFault("several", tag)
    label = ours[0]
    members, parameters = inputs[label]
    if inputs.keys() != signatures.keys() or not isinstance(members, list):
        raise SignatureFault("malformed", "signature-input")
    signature = signatures[label][0]
    if not isinstance(signature, bytes):
        raise SignatureFault("malformed", "signature")
    unknown = sorted(parameters.keys() - PARAMETERS)
    if unknown:
        raise SignatureFault("parameter", *unknown)
    for name, value in parameters.items():
        if type(value) is not (int if name in ("created", "expires") else str):
            raise SignatureFault("malformed", name)
    member: Any = (members, parameters)
    text = http_sf.ser([member])  # a list of one inner list
    return Claimed(label, _components(members), parameters, signature, text)


def _components(members: Sequence[Any]) -> tuple[str, ...]:
    if len(members) > MOST_COMPONENTS:
        raise SignatureFault("malformed", "signature-input")
    names = []
    for name, parameters in members:
        if type(name) is not str or name != name.lower():
            raise SignatureFault("malformed", "signature-input")
        if parameters:  # another reading of a field than the one that we act on
            raise SignatureFault("component", name)
        names.append(name)
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise SignatureFault("component-repeated", *repeated)
    return tuple(names)


def _dictionary(message: Message, name: str) -> Mapping[str, tuple[Any, Mapping[str, Any]]]:
    text = message.field(name)
    if text is None:
        raise SignatureFault("missing", name)
    return _parsed(text, name)


def _parsed(text: str, name: str) -> Mapping[str, tuple[Any, Mapping[str, Any]]]:
    def refuse(_key: str, _context: str) -> NoReturn:
        raise SignatureFault("malformed", name)

    if len(text) > LONGEST_FIELD:
        raise SignatureFault("malformed", name)
    try:
        found: Any = http_sf.parse(text.encode("ascii"), tltype="dictionary", on_duplicate_key=refuse)
    except (ValueError, TypeError):  # http_sf raises its own errors as ValueError
        raise SignatureFault("malformed", name) from None
    members: dict[str, tuple[Any, Mapping[str, Any]]] = found
    if not members:
        raise SignatureFault("malformed", name)
    return members


def check_digest(message: Message) -> str:
    """The Content-Digest field, every digest of which is that of the body. Raises SignatureFault."""
    text = message.field("content-digest")
    if text is None:
        raise SignatureFault("digest-missing")
    plain = base64.b64encode(hashlib.sha256(message.body).digest()).decode("ascii")
    if text == f"sha-256=:{plain}:":  # what nearly all send
        return text
    for algorithm, (digest, _) in _parsed(text, "content-digest").items():
        if algorithm not in _HASHES:
            raise SignatureFault("digest-algorithm", str(algorithm)[:40])
        if not isinstance(digest, bytes) or not hmac.compare_digest(digest, _HASHES[algorithm](message.body).digest()):
            raise SignatureFault("digest")
    return text
