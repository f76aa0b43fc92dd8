"""The leaves that belong to no participant and move nothing: rules, manifests, keys, epochs and daily seals.

They are of the encoding that leaves.py describes; docs/audit.md states every field and byte.
"""

from dataclasses import dataclass
from datetime import date, datetime

from ledger.leaves import VERSION, or_null, plain, utc_second

DOCUMENT_KINDS = ("methodology", "points")
KEY_ACTIONS = ("added", "revoked")
ALGORITHMS = ("ed25519", "p256")


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


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A public key that counts from a moment on, or no longer does.

    action      `added`, or `revoked`: what it signed from `since` on does not count
    holder      whose it is, a code: `log`, `source`, `bank`
    name        of the holder: a log's origin, a source's or a bank's registered URI
    key         thumbprint of the key (RFC 7638, SHA-256), hex
    algorithm   `ed25519` or `p256`
    public_key  32 bytes of Ed25519, or 64 of P-256 (x, then y), hex
    since       from when on it counts, or no longer does
    """

    programme: str
    action: str
    holder: str
    name: str
    key: str
    algorithm: str
    public_key: str
    since: datetime


@dataclass(frozen=True, slots=True)
class FormerLog:
    """The last signed word of the log that an epoch goes on from.

    origin      its name
    size, root  of its last checkpoint
    checkpoint  SHA-256 of that signed checkpoint's bytes, hex: whoever holds them can show what was promised
    kept        so many of its first entries are the first entries of this log, too
    """

    origin: str
    size: int
    root: str
    checkpoint: str
    kept: int


@dataclass(frozen=True, slots=True)
class EpochFacts:
    """A log of this ledger begins, the first or, after an incident, a further one.

    number  1, 2, …
    origin  the log's name, which its checkpoints bear
    former  the log before it; None for the first
    reason  why there is a further one, a code; None for the first
    """

    programme: str
    number: int
    origin: str
    former: FormerLog | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SealTotal:
    """The sum of one account over everybody, or of a system account; `amount` may be negative for a system account."""

    account: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class SealFacts:
    """All balances as the first `size` entries of the log leave them.

    day           the Asia/Shanghai day that had ended
    size          entries covered; this leaf's own index is not below it
    participants  how many balances there are
    root          root hash (RFC 6962) of a tree whose entries are the participants' sealed balances, by pseudonym, hex
    totals        by asset and account, those that are not zero
    """

    programme: str
    day: date
    size: int
    participants: int
    root: str
    totals: tuple[SealTotal, ...]


def rule_leaf(facts: RuleFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of a rule document that is approved from `at` on. It belongs to no participant and to no transfer."""
    approvals = sorted(facts.approvals, key=lambda approval: approval.role)
    roles, approvers = {each.role for each in approvals}, {each.approver for each in approvals}
    if not len(roles) == len(approvers) == len(approvals) > 0:
        raise ValueError(f"a rule has approvals, each of another role and by another approver, not {approvals}")
    return plain(
        f'{{"approvals":[{",".join(map(_approval, approvals))}],"at":"{utc_second(at)}","digest":"{facts.digest}",'
        f'"document_kind":"{facts.document_kind}","id":"{facts.id}","kind":"rule","nonce":"{nonce.hex()}",'
        f'"programme":"{facts.programme}","status":"{facts.status}","v":"{VERSION}","version":"{facts.version}"}}'
    )


def manifest_leaf(facts: ManifestFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of a source's day manifest, received `at`. It belongs to no participant and to no transfer."""
    return plain(
        f'{{"at":"{utc_second(at)}","day":"{facts.day}","digest":"{facts.digest}","key":"{facts.key}",'
        f'"kind":"manifest","nonce":"{nonce.hex()}","programme":"{facts.programme}","received":"{facts.received}",'
        f'"region":"{facts.region}","sequence":"{facts.sequence}","source":"{facts.source}","v":"{VERSION}"}}'
    )


def key_leaf(facts: KeyFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of a key that is announced or revoked."""
    return plain(
        f'{{"action":"{facts.action}","algorithm":"{facts.algorithm}","at":"{utc_second(at)}",'
        f'"holder":"{facts.holder}","key":"{facts.key}","kind":"key","name":"{facts.name}","nonce":"{nonce.hex()}",'
        f'"programme":"{facts.programme}","public_key":"{facts.public_key}","since":"{utc_second(facts.since)}",'
        f'"v":"{VERSION}"}}'
    )


def epoch_leaf(facts: EpochFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf that says under what name the log goes on; in a further one, behind the entries that were kept."""
    if (facts.former is None) != (facts.reason is None) or (facts.former is None) != (facts.number == 1):
        raise ValueError(f"the first epoch has no former log and no reason, every further one has both: {facts}")
    return plain(
        f'{{"at":"{utc_second(at)}","former":{_former(facts.former)},"kind":"epoch","nonce":"{nonce.hex()}",'
        f'"number":"{facts.number}","origin":"{facts.origin}","programme":"{facts.programme}",'
        f'"reason":{or_null(facts.reason)},"v":"{VERSION}"}}'
    )


def seal_leaf(facts: SealFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of a daily seal."""
    totals = sorted(facts.totals, key=lambda total: (total.asset, total.account))
    return plain(
        f'{{"at":"{utc_second(at)}","day":"{facts.day}","kind":"seal","nonce":"{nonce.hex()}",'
        f'"participants":"{facts.participants}","programme":"{facts.programme}","root":"{facts.root}",'
        f'"size":"{facts.size}","totals":[{",".join(map(_total, totals))}],"v":"{VERSION}"}}'
    )


def _approval(approval: RuleApproval) -> str:
    return (
        f'{{"approver":"{approval.approver}","key":"{approval.key}","public_key":"{approval.public_key}",'
        f'"role":"{approval.role}","signature":"{approval.signature}","signed_on":"{approval.signed_on}"}}'
    )


def _former(former: FormerLog | None) -> str:
    if former is None:
        return "null"
    return (
        f'{{"checkpoint":"{former.checkpoint}","kept":"{former.kept}","origin":"{former.origin}",'
        f'"root":"{former.root}","size":"{former.size}"}}'
    )


def _total(total: SealTotal) -> str:
    return f'{{"account":"{total.account}","amount":"{total.amount}","asset":"{total.asset}"}}'
