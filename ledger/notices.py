"""The leaves that belong to no participant and move nothing: rules, manifests, keys, epochs, daily seals, and of
redemption the pools, the listings and the banks' statements.

They are of the encoding that leaves.py describes; docs/audit.md states every field and byte.
"""

from dataclasses import dataclass
from datetime import date, datetime

from ledger.leaves import VERSION, or_null, plain, utc_second

DOCUMENT_KINDS = ("methodology", "points")
KEY_ACTIONS = ("added", "revoked")
ALGORITHMS = ("ed25519", "p256")
POOL_ACTIONS = ("opened", "raised", "lowered", "suspended", "resumed", "closed")
LISTED_KINDS = ("product", "offer")
LISTING_ACTIONS = ("listed", "suspended", "resumed", "taken_down")
STATEMENT_STATES = ("issued", "closed")


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


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """A change of a reward pool: of its budget, or of whether anything may be drawn on it.

    action     `opened`, `raised`, or `lowered`: what the funder takes back is what nothing was drawn from; `suspended`
               and `closed` let nothing be drawn until it is `resumed`
    pool       its code
    funder     who pays, a registered URI
    points     by how many points the budget changes, from 0
    value_fen  by how many fen, from 0
    terms      SHA-256 of the pool's terms, hex: its funder, its limits and what happens when it is short
    reason     why it was suspended or closed, a code; None otherwise
    """

    programme: str
    action: str
    pool: str
    funder: str
    points: int
    value_fen: int
    terms: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ListingFacts:
    """A product or an offer goes on the board, or what happens to it there.

    action         one of LISTING_ACTIONS
    document_kind  `product` or `offer`
    id, version    as the document itself says
    digest         SHA-256 of the document's bytes, hex
    approvers      the codes of those who approved it: two at least where it is listed; never a person's name
    reason         why it was suspended or taken down, a code; None otherwise
    """

    programme: str
    action: str
    document_kind: str
    id: str
    version: int
    digest: str
    approvers: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class StatementFacts:
    """A bank's day as both sides are shown it.

    bank      the registered URI
    day       the Asia/Shanghai day
    state     `issued`, or `closed` once both sides agree
    sequence  1, 2, … for the bank
    digest    SHA-256 of the statement's bytes, hex
    size      entries of the log below which all of the day's entries lie
    authority  on which we closed it: `operator`, or `rule` where the books agreed and the bank had closed; None of an
               issued one
    file       SHA-256 of the bank's own book as it sent it, hex, of a closed one; None where it sent none
    signature  SHA-256 of the signed call by which the bank closed, hex; None where it did not
    """

    programme: str
    bank: str
    day: date
    state: str
    sequence: int
    digest: str
    size: int
    authority: str | None = None
    file: str | None = None
    signature: str | None = None


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


def pool_leaf(facts: PoolFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of a change of a pool at `at`. `signature` is for its funder's, and null so far."""
    if (facts.action in ("suspended", "closed")) == (facts.reason is None):
        raise ValueError("whoever suspends or closes a pool says why, and nobody else")
    return plain(
        f'{{"action":"{facts.action}","at":"{utc_second(at)}","funder":"{facts.funder}","kind":"pool",'
        f'"nonce":"{nonce.hex()}","points":"{facts.points}","pool":"{facts.pool}","programme":"{facts.programme}",'
        f'"reason":{or_null(facts.reason)},"signature":null,"terms":"{facts.terms}","v":"{VERSION}",'
        f'"value":"{facts.value_fen}"}}'
    )


def listing_leaf(facts: ListingFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of what happened on the board at `at`."""
    approvers = sorted(set(facts.approvers))
    if facts.action == "listed" and len(approvers) < 2:
        raise ValueError(f"two people approve a listing, not {len(approvers)}")
    if (facts.action in ("suspended", "taken_down")) == (facts.reason is None):
        raise ValueError("whoever suspends or takes down says why, and nobody else")
    return plain(
        f'{{"action":"{facts.action}","approvers":[{",".join(map(or_null, approvers))}],"at":"{utc_second(at)}",'
        f'"digest":"{facts.digest}","document_kind":"{facts.document_kind}","id":"{facts.id}","kind":"listing",'
        f'"nonce":"{nonce.hex()}","programme":"{facts.programme}","reason":{or_null(facts.reason)},"v":"{VERSION}",'
        f'"version":"{facts.version}"}}'
    )


def statement_leaf(facts: StatementFacts, at: datetime, nonce: bytes) -> bytes:
    """The leaf of a bank day's statement, written at `at`."""
    if (facts.state == "closed") == (facts.authority is None):
        raise ValueError("a closed statement says on whose authority, an issued one has none")
    return plain(
        f'{{"at":"{utc_second(at)}","authority":{or_null(facts.authority)},"bank":"{facts.bank}","day":"{facts.day}",'
        f'"digest":"{facts.digest}","file":{or_null(facts.file)},"kind":"statement","nonce":"{nonce.hex()}",'
        f'"programme":"{facts.programme}","sequence":"{facts.sequence}","signature":{or_null(facts.signature)},'
        f'"size":"{facts.size}","state":"{facts.state}","v":"{VERSION}"}}'
    )
