"""The one byte encoding of everything the log commits to. Version 1 is frozen: see docs/audit.md and
tests/vectors/leaves.json.
 A leaf is canonical JSON (RFC 8785) whose values are strings, null, lists and objects only: an amount is a decimal
string, a time is UTC to the second, an id is a lower-case UUID, a digest is lower-case hex. Every kind has a fixed set
of fields, none of them optional, so one fact has one byte form. A leaf carries a pseudonym and random or keyed values;
never personal data, and never a plain hash of any.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from ledger.errors import LeafInvalid
from ledger.journal import (
    AMOUNT_MAX,
    ASSETS,
    CREDIT_CLASSES,
    PARTICIPANT_ACCOUNTS,
    PARTICIPANT_KINDS,
    SYSTEM_ACCOUNTS,
    Line,
    Transfer,
)

VERSION = "1"
LEAF_MAX_BYTES = 65_535  # an entry bundle writes a leaf's length in 16 bits
SALT_BYTES = 32
NONCE_BYTES = 16
EVIDENCE_PREFIX = b"tanpuhui/evidence/1\n"
SETTLEMENT_PREFIX = b"tanpuhui/settlement/1\n"
DOCUMENT_KINDS = ("methodology", "points")


@dataclass(frozen=True, slots=True)
class CreditFacts:
    """What a credit's leaf states beside the transfer: where the reduction came from and under which rules.

    activity       the activity's own id
    source, grade  the data provider's registered URI and the grade of its evidence (A operator, B device, C
                   self-declared)
    methodology, points_rule   SHA-256 of the documents, hex; no points rule where none can earn points
    claims         every tag that keeps this from being counted twice, as `<key version>:<HMAC hex>`: the event's own,
                   and of each order, payment, or meter and day. A tag comes again only after its holder was reversed.
    evidence       evidence_commitment() of the evidence document, hex
    signature      SHA-256 of the provider's signature over this item alone, hex; None when it did not sign. A signature
                   over several people's items could only be kept by keeping all of them.
    replaces       the reversed credit that this one corrects
    """

    activity: UUID
    source: str
    grade: str
    methodology: str
    points_rule: str | None
    evidence: str
    claims: tuple[str, ...]
    signature: str | None = None
    replaces: UUID | None = None


@dataclass(frozen=True, slots=True)
class MaturityFacts:
    """What a maturity's leaf states beside the transfer: what the credit had awaited, and who settled it with what.

    authority    on whose authority: `operator` or `source`
    awaited      `settlement` or `registration`; a credit that awaits a match is superseded by what matches it
    facts        settlement_commitment() of the record that settled it, hex; None where there is no record
    source       the registered URI of whoever sent that record; None where the operator wrote it
    points_rule  SHA-256 of the document by which the points' bucket was counted, hex; None where no points mature
    signature    SHA-256 of the sender's signature over this record alone, hex; None when it did not sign
    """

    authority: str
    awaited: str
    facts: str | None = None
    source: str | None = None
    points_rule: str | None = None
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class RuleApproval:
    """One signature under a rule document.

    role        `competent_authority` or `technical_body`
    approver    the code under which the deployment knows who signed; never a person's name
    key         the id of the signing key
    public_key  that Ed25519 key, 32 bytes in hex: an id alone could be given to another key later
    signature   Ed25519 over eight lines that name the programme, the document, the role and the day (docs/audit.md), 64
                bytes in hex
    signed_on   the Asia/Shanghai day that the signer put under it
    """

    role: str
    approver: str
    key: str
    public_key: str
    signature: str
    signed_on: date


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """A rule document that came into force by its approvals.

    document_kind  `methodology` or `points`
    digest         SHA-256 of the document's bytes, hex
    id, version, status   as the document itself says
    """

    programme: str
    document_kind: str
    id: str
    version: int
    status: str
    digest: str
    approvals: tuple[RuleApproval, ...]


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """A source's signed closing of one day, as it was received.

    source    the registered URI; programme and region are the source's
    day       the Asia/Shanghai day it closes
    sequence  1, 2, … for the source and the day: a later one amends
    digest    SHA-256 of the manifest's JWS as it came, hex
    received  SHA-256 of the canonical JSON of what we had received for that day by then, hex
    key       thumbprint of the public key that signed it (RFC 7638, SHA-256), hex
    """

    source: str
    programme: str
    region: str
    day: date
    sequence: int
    digest: str
    received: str
    key: str


def evidence_commitment(salt: bytes, document: bytes) -> str:
    """SHA-256 of a fixed prefix, a 32-byte random salt and the evidence document, in hex: says nothing once the salt is
    erased."""
    return _commitment(EVIDENCE_PREFIX, salt, document)


def settlement_commitment(salt: bytes, record: bytes) -> str:
    """The same of a settlement record, under a prefix of its own: neither can be taken for the other."""
    return _commitment(SETTLEMENT_PREFIX, salt, record)


def _commitment(prefix: bytes, salt: bytes, document: bytes) -> str:
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt is {SALT_BYTES} bytes, not {len(salt)}")
    return hashlib.sha256(prefix + salt + document).hexdigest()


def credit_leaf(transfer: Transfer, participant_kind: str, facts: CreditFacts, nonce: bytes) -> bytes:
    """The leaf of a credit; its `day` is the Asia/Shanghai day of the activity.

    Raises LeafInvalid when it would be longer than LEAF_MAX_BYTES, which some 850 claims make it.
    """
    claims = sorted(set(facts.claims))
    if len(claims) != len(facts.claims):
        raise ValueError("a leaf names each claim once")
    leaf = _plain(
        f'{{"activity":"{facts.activity}","at":"{utc_second(transfer.recorded_at)}",'
        f'"claims":[{",".join(map(_text, claims))}],"counter":"{transfer.counter}","day":"{transfer.effective_on}",'
        f'"evidence":"{facts.evidence}","grade":"{facts.grade}","kind":"credit",{_lines(transfer)},'
        f'"methodology":"{facts.methodology}","nonce":"{nonce.hex()}",{_participant(transfer, participant_kind)},'
        f'"points_rule":{_text(facts.points_rule)},{_place(transfer)},"replaces":{_text(facts.replaces)},'
        f'"signature":{_text(facts.signature)},"source":"{facts.source}",{_end(transfer)}'
    )
    if len(leaf) > LEAF_MAX_BYTES:
        raise LeafInvalid(f"a leaf has at most {LEAF_MAX_BYTES} bytes; {len(claims)} claims make it {len(leaf)}")
    return leaf


def reversal_leaf(
    transfer: Transfer, participant_kind: str, authority: str, nonce: bytes, decision: str | None = None
) -> bytes:
    """The leaf of a reversal: the credit it takes back, a code for why, and on whose authority.

    decision   settlement_commitment() of the record that decided it, hex; None where there is none

    `signature` is for whoever signs the order, and null so far.
    """
    return _plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","authority":"{authority}","counter":"{transfer.counter}",'
        f'"day":"{transfer.effective_on}","decision":{_text(decision)},"kind":"reversal",{_lines(transfer)},'
        f'"nonce":"{nonce.hex()}",{_participant(transfer, participant_kind)},"programme":"{transfer.programme}",'
        f'"reason":"{transfer.reason}","region":"{transfer.region}","reverses":"{transfer.reverses}",'
        f'"signature":null,{_end(transfer)}'
    )


def lapse_leaf(transfer: Transfer, participant_kind: str, nonce: bytes) -> bytes:
    """The leaf of points that ran out; each line names the bucket by its last day."""
    return _plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","counter":"{transfer.counter}","day":"{transfer.effective_on}",'
        f'"kind":"lapse",{_lines(transfer)},"nonce":"{nonce.hex()}",{_participant(transfer, participant_kind)},'
        f"{_place(transfer)},{_end(transfer)}"
    )


def maturity_leaf(transfer: Transfer, participant_kind: str, facts: MaturityFacts, nonce: bytes) -> bytes:
    """The leaf of a maturity: the credit whose pending part it frees, on what grounds. Its `day` is that of the
    decision."""
    if (facts.points_rule is None) == any(line.asset == "points" for line in transfer.lines):
        raise ValueError("a maturity names a points rule where, and only where, points mature")
    return _plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","authority":"{facts.authority}","awaited":"{facts.awaited}",'
        f'"counter":"{transfer.counter}","day":"{transfer.effective_on}","facts":{_text(facts.facts)},'
        f'"kind":"maturity",{_lines(transfer)},"matures":"{transfer.matures}","nonce":"{nonce.hex()}",'
        f'{_participant(transfer, participant_kind)},"points_rule":{_text(facts.points_rule)},{_place(transfer)},'
        f'"signature":{_text(facts.signature)},"source":{_text(facts.source)},{_end(transfer)}'
    )


def rule_leaf(facts: RuleFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of a rule document that is approved from `at` on. It belongs to no participant and to no transfer."""
    approvals = sorted(facts.approvals, key=lambda approval: approval.role)
    roles, approvers = {each.role for each in approvals}, {each.approver for each in approvals}
    if not len(roles) == len(approvers) == len(approvals) > 0:
        raise ValueError(f"a rule has approvals, each of another role and by another approver, not {approvals}")
    return _plain(
        f'{{"approvals":[{",".join(map(_approval, approvals))}],"at":"{utc_second(at)}","digest":"{facts.digest}",'
        f'"document_kind":"{facts.document_kind}","id":"{facts.id}","kind":"rule","nonce":"{nonce.hex()}",'
        f'"programme":"{facts.programme}","status":"{facts.status}","v":"{VERSION}","version":"{facts.version}"}}'
    )


def manifest_leaf(facts: ManifestFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of a source's day manifest, received `at`. It belongs to no participant and to no transfer."""
    return _plain(
        f'{{"at":"{utc_second(at)}","day":"{facts.day}","digest":"{facts.digest}","key":"{facts.key}",'
        f'"kind":"manifest","nonce":"{nonce.hex()}","programme":"{facts.programme}","received":"{facts.received}",'
        f'"region":"{facts.region}","sequence":"{facts.sequence}","source":"{facts.source}","v":"{VERSION}"}}'
    )


# The texts above are RFC 8785 as they stand: keys in order, no white space, and values of ASCII that needs no escape.
# Writing them out costs a quarter of sorting and encoding an object, and shows the bytes. Tests read every leaf back.


def _lines(transfer: Transfer) -> str:
    return f'"lines":[{",".join(map(_line, transfer.lines))}]'


def _line(line: Line) -> str:
    sides = f'"from":"{line.from_account}","to":"{line.to_account}"'
    if line.asset == "points":
        return f'{{"amount":"{line.amount}","asset":"points","expires":{_text(line.expires_on)},{sides}}}'
    return (
        f'{{"amount":"{line.amount}","asset":"{line.asset}","class":"{line.credit_class}",{sides},'
        f'"vintage":"{line.vintage}"}}'
    )


def _participant(transfer: Transfer, kind: str) -> str:
    return f'"participant":"{transfer.participant_id}","participant_kind":"{kind}"'


def _place(transfer: Transfer) -> str:
    return f'"programme":"{transfer.programme}","region":"{transfer.region}"'


def _end(transfer: Transfer) -> str:
    return f'"transfer":"{transfer.transfer_id}","v":"{VERSION}"}}'


def _approval(approval: RuleApproval) -> str:
    return (
        f'{{"approver":"{approval.approver}","key":"{approval.key}","public_key":"{approval.public_key}",'
        f'"role":"{approval.role}","signature":"{approval.signature}","signed_on":"{approval.signed_on}"}}'
    )


def _text(value: object) -> str:
    return "null" if value is None else f'"{value}"'


def _plain(text: str) -> bytes:
    """The text as bytes, if no value in it would have needed an escape."""
    if not (text.isascii() and text.isprintable()) or "\\" in text:
        raise ValueError(f"a leaf's values are printable ASCII without a backslash: {text!r}")
    return text.encode("ascii")


@lru_cache(maxsize=256)  # a whole batch is posted at one moment
def utc_second(moment: datetime) -> str:
    """`2026-11-22T13:05:07Z`: the second in which it happened, cut, not rounded."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# Reading: what each field must look like.

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_HEX64 = re.compile(r"[0-9a-f]{128}")
_HEX32 = re.compile(r"[0-9a-f]{64}")
_HEX16 = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_YEAR = re.compile(r"[12][0-9]{3}")
_CODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")  # a thumbprint in base64url fits
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]{1,500}")
_CLAIM = re.compile(r"[1-9][0-9]{0,4}:[0-9a-f]{64}")

Check = Callable[[object], bool]


def _like(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _among(names: Sequence[str]) -> Check:
    return lambda value: isinstance(value, str) and value in names


def _amount(value: object) -> bool:
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None and int(value) <= AMOUNT_MAX


def _moment(form: str) -> Check:
    def check(value: object) -> bool:
        if not isinstance(value, str):
            return False
        try:
            read = datetime.strptime(value, form).replace(tzinfo=UTC)
        except ValueError:
            return False
        return (utc_second(read) if "%H" in form else read.date().isoformat()) == value

    return check


def _none_or(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _claims(value: object) -> bool:
    return isinstance(value, list) and all(map(_like(_CLAIM), value)) and value == sorted(set(value))


def _approvals(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    for entry in value:
        if not isinstance(entry, dict) or entry.keys() != _APPROVAL.keys():
            return False
        if not all(check(entry[name]) for name, check in _APPROVAL.items()):
            return False
    roles, approvers = [entry["role"] for entry in value], {entry["approver"] for entry in value}
    return roles == sorted(set(roles)) and len(approvers) == len(roles)


_DAY = _moment("%Y-%m-%d")
_ACCOUNTS = PARTICIPANT_ACCOUNTS + SYSTEM_ACCOUNTS

_LINE: dict[str, Check] = {
    "amount": _amount,
    "asset": _among(ASSETS),
    "from": _among(_ACCOUNTS),
    "to": _among(_ACCOUNTS),
}
_LINE_OF: dict[str, dict[str, Check]] = {
    "points": _LINE | {"expires": _none_or(_DAY)},
    "co2e_mg": _LINE | {"class": _among(CREDIT_CLASSES), "vintage": _like(_YEAR)},
}
_APPROVAL: dict[str, Check] = {
    "approver": _like(_CODE),
    "key": _like(_KEY_ID),
    "public_key": _like(_HEX32),
    "role": _like(_CODE),
    "signature": _like(_HEX64),
    "signed_on": _DAY,
}
_EVERY: dict[str, Check] = {
    "at": _moment("%Y-%m-%dT%H:%M:%SZ"),
    "kind": lambda value: isinstance(value, str) and value in _FIELDS,
    "nonce": _like(_HEX16),
    "programme": _like(_CODE),
    "v": _among([VERSION]),
}
_ENVELOPE: dict[str, Check] = _EVERY | {
    "counter": _amount,
    "day": _DAY,
    "lines": lambda value: isinstance(value, list) and len(value) > 0,
    "participant": _like(_UUID),
    "participant_kind": _among(PARTICIPANT_KINDS),
    "region": _like(_CODE),
    "transfer": _like(_UUID7),
}
_FIELDS: dict[str, dict[str, Check]] = {
    "credit": _ENVELOPE
    | {
        "activity": _like(_UUID7),
        "claims": _claims,
        "evidence": _like(_HEX32),
        "grade": _among(("A", "B", "C")),
        "methodology": _like(_HEX32),
        "points_rule": _none_or(_like(_HEX32)),
        "replaces": _none_or(_like(_UUID7)),
        "signature": _none_or(_like(_HEX32)),
        "source": _like(_URI),
    },
    "reversal": _ENVELOPE
    | {
        "authority": _like(_CODE),
        "decision": _none_or(_like(_HEX32)),
        "reason": _like(_CODE),
        "reverses": _like(_UUID7),
        "signature": _none_or(_like(_HEX32)),
    },
    "lapse": _ENVELOPE,
    "maturity": _ENVELOPE
    | {
        "authority": _like(_CODE),
        "awaited": _like(_CODE),
        "facts": _none_or(_like(_HEX32)),
        "matures": _like(_UUID7),
        "points_rule": _none_or(_like(_HEX32)),
        "signature": _none_or(_like(_HEX32)),
        "source": _none_or(_like(_URI)),
    },
    "rule": _EVERY
    | {
        "approvals": _approvals,
        "digest": _like(_HEX32),
        "document_kind": _among(DOCUMENT_KINDS),
        "id": _like(_CODE),
        "status": _like(_CODE),
        "version": _amount,
    },
    "manifest": _EVERY
    | {
        "day": _DAY,
        "digest": _like(_HEX32),
        "key": _like(_HEX32),
        "received": _like(_HEX32),
        "region": _like(_CODE),
        "sequence": _amount,
        "source": _like(_URI),
    },
}


def read_leaf(leaf: bytes) -> dict[str, Any]:
    """The fields of a leaf of version 1, checked one by one.

    Raises LeafInvalid when the bytes are not the one canonical form of a known kind; the message names the field.
    """
    if not 0 < len(leaf) <= LEAF_MAX_BYTES:
        raise LeafInvalid(f"a leaf has 1 to {LEAF_MAX_BYTES} bytes, not {len(leaf)}")
    try:
        fields = json.loads(leaf.decode("ascii"))
    except (ValueError, RecursionError) as wrong:
        raise LeafInvalid(f"a leaf is JSON in ASCII: {wrong}") from None
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise LeafInvalid(f'expected an object with "v":"{VERSION}"')
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise LeafInvalid(f"kind is one of {', '.join(_FIELDS)}, not {kind!r}")
    _check(fields, _FIELDS[kind], kind)
    for number, line in enumerate(fields.get("lines", ())):  # a rule and a manifest move nothing
        asset = line.get("asset") if isinstance(line, dict) else None
        if not isinstance(asset, str) or asset not in _LINE_OF:
            raise LeafInvalid(f"lines[{number}] names one of the assets {', '.join(_LINE_OF)}, not {asset!r}")
        _check(line, _LINE_OF[asset], f"lines[{number}]")
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if canonical.encode("ascii", "replace") != leaf:
        raise LeafInvalid("the bytes are not the canonical form of their fields")
    return fields


def _check(fields: Mapping[str, object], checks: Mapping[str, Check], where: str) -> None:
    if fields.keys() != checks.keys():
        missing, unknown = sorted(checks.keys() - fields.keys()), sorted(fields.keys() - checks.keys())
        raise LeafInvalid(f"{where}: missing fields {missing}, unknown fields {unknown}")
    for name, check in checks.items():
        if not check(fields[name]):
            raise LeafInvalid(f"{where}: {name} cannot be {fields[name]!r}")
