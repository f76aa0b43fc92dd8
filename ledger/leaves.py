"""The one byte encoding of everything the log commits to. Version 1 is frozen: see docs/audit.md and
tests/vectors/leaves.json.
 A leaf is canonical JSON (RFC 8785) whose values are strings, null, lists and objects only: an amount is a decimal
string, a time is UTC to the second, an id is a lower-case UUID, a digest is lower-case hex. Every kind has a fixed set
of fields, none of them optional, so one fact has one byte form. A leaf carries a pseudonym and random or keyed values;
never personal data, and never a plain hash of any.

Here are the leaves of credits and of what becomes of them; those of holds are in hold_leaves.py, what belongs to no
participant is in notices.py, reading in leaf_reading.py.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

from ledger.errors import LeafInvalid
from ledger.journal import Line, Transfer
from ledger.records import record

VERSION = "1"
LEAF_MAX_BYTES = 65_535  # an entry bundle writes a leaf's length in 16 bits
SALT_BYTES = 32
NONCE_BYTES = 16
EVIDENCE_PREFIX = b"tanpuhui/evidence/1\n"
SETTLEMENT_PREFIX = b"tanpuhui/settlement/1\n"
_UNESCAPED = bytes(range(0x20, 0x7F)).replace(b"\\", b"")  # printable ASCII; quotes are the leaf's own


@record
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


def evidence_commitment(salt: bytes, document: bytes) -> str:
    """SHA-256 of a fixed prefix, a 32-byte random salt and the evidence document, in hex: says nothing once the salt is
    erased."""
    return commitment(EVIDENCE_PREFIX, salt, document)


def settlement_commitment(salt: bytes, record: bytes) -> str:
    """The same of a settlement record, under a prefix of its own: neither can be taken for the other."""
    return commitment(SETTLEMENT_PREFIX, salt, record)


def commitment(prefix: bytes, salt: bytes, document: bytes) -> str:
    """The same under any prefix; each thing that is committed to has its own."""
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
    leaf = plain(
        f'{{"activity":"{facts.activity}","at":"{utc_second(transfer.recorded_at)}",'
        f'"claims":[{",".join(map(or_null, claims))}],"counter":"{transfer.counter}","day":"{transfer.effective_on}",'
        f'"evidence":"{facts.evidence}","grade":"{facts.grade}","kind":"credit",{lines_text(transfer)},'
        f'"methodology":"{facts.methodology}","nonce":"{nonce.hex()}",{participant_text(transfer, participant_kind)},'
        f'"points_rule":{or_null(facts.points_rule)},{_place(transfer)},"replaces":{or_null(facts.replaces)},'
        f'"signature":{or_null(facts.signature)},"source":"{facts.source}",{_end(transfer)}'
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
    return plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","authority":"{authority}","counter":"{transfer.counter}",'
        f'"day":"{transfer.effective_on}","decision":{or_null(decision)},"kind":"reversal",{lines_text(transfer)},'
        f'"nonce":"{nonce.hex()}",{participant_text(transfer, participant_kind)},"programme":"{transfer.programme}",'
        f'"reason":"{transfer.reason}","region":"{transfer.region}","reverses":"{transfer.reverses}",'
        f'"signature":null,{_end(transfer)}'
    )


def lapse_leaf(transfer: Transfer, participant_kind: str, nonce: bytes) -> bytes:
    """The leaf of points that ran out; each line names the bucket by its last day."""
    return plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","counter":"{transfer.counter}","day":"{transfer.effective_on}",'
        f'"kind":"lapse",{lines_text(transfer)},"nonce":"{nonce.hex()}",{participant_text(transfer, participant_kind)},'
        f"{_place(transfer)},{_end(transfer)}"
    )


def maturity_leaf(transfer: Transfer, participant_kind: str, facts: MaturityFacts, nonce: bytes) -> bytes:
    """The leaf of a maturity: the credit whose pending part it frees, on what grounds. Its `day` is that of the
    decision."""
    if (facts.points_rule is None) == any(line.asset == "points" for line in transfer.lines):
        raise ValueError("a maturity names a points rule where, and only where, points mature")
    return plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","authority":"{facts.authority}","awaited":"{facts.awaited}",'
        f'"counter":"{transfer.counter}","day":"{transfer.effective_on}","facts":{or_null(facts.facts)},'
        f'"kind":"maturity",{lines_text(transfer)},"matures":"{transfer.matures}","nonce":"{nonce.hex()}",'
        f'{participant_text(transfer, participant_kind)},"points_rule":{or_null(facts.points_rule)},{_place(transfer)},'
        f'"signature":{or_null(facts.signature)},"source":{or_null(facts.source)},{_end(transfer)}'
    )


# The texts above are RFC 8785 as they stand: keys in order, no white space, and values of ASCII that needs no escape.
# Writing them out costs a quarter of sorting and encoding an object, and shows the bytes. Tests read every leaf back.


def lines_text(transfer: Transfer) -> str:
    """The member `lines`."""
    return f'"lines":[{",".join(map(_line, transfer.lines))}]'


def _line(line: Line) -> str:
    sides = f'"from":"{line.from_account}","to":"{line.to_account}"'
    if line.asset == "points":
        return f'{{"amount":"{line.amount}","asset":"points","expires":{or_null(line.expires_on)},{sides}}}'
    return (
        f'{{"amount":"{line.amount}","asset":"{line.asset}","class":"{line.credit_class}",{sides},'
        f'"vintage":"{line.vintage}"}}'
    )


def participant_text(transfer: Transfer, kind: str) -> str:
    """The members `participant` and `participant_kind`."""
    return f'"participant":"{transfer.participant_id}","participant_kind":"{kind}"'


def _place(transfer: Transfer) -> str:
    return f'"programme":"{transfer.programme}","region":"{transfer.region}"'


def _end(transfer: Transfer) -> str:
    return f'"transfer":"{transfer.transfer_id}","v":"{VERSION}"}}'


def or_null(value: object) -> str:
    """A value as JSON: a string, or null for None."""
    return "null" if value is None else f'"{value}"'


def plain(text: str) -> bytes:
    """The text as bytes, if no value in it would have needed an escape."""
    leaf = text.encode("ascii", "backslashreplace")  # so that what is not ASCII brings a backslash in
    if leaf.translate(None, _UNESCAPED):
        raise ValueError(f"a leaf's values are printable ASCII without a backslash: {text!r}")
    return leaf


@lru_cache(maxsize=256)  # a whole batch is posted at one moment
def utc_second(moment: datetime) -> str:
    """`2026-11-22T13:05:07Z`: the second in which it happened, cut, not rounded."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
