"""Approvals 规则审批: a rule document is in force once the competent authority and the technical body both signed it.

An approval is an Ed25519 signature over approval_message(): the programme, the kind, id, version and digest of one
document, the role it is signed in and the day of signing. Nobody signs in both roles. The signature is the authority:
it is checked when it arrives, and again whenever approvals are read, under the keys of `approvers_file`, so that a row
in the database alone approves nothing and hinders nobody. With the second role's signature a rule leaf goes to the log,
and again when somebody has to sign in the place of a key that was taken out.
"""

import asyncio
import hashlib
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import asyncpg
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Boolean, Column, Date, DateTime, LargeBinary, Text
from sqlmodel import Field

from ledger.ed25519 import read_ed25519
from ledger.leaves import NONCE_BYTES
from ledger.notices import RuleApproval, RuleFacts, rule_leaf
from ledger.store import queue_leaf
from service.clock import Fresh, shanghai_day
from service.database import FAULTS, Connection, Pool, ServiceTable

_log = structlog.get_logger(__name__)

ApproverRole = Literal["competent_authority", "technical_body"]
ROLES: tuple[ApproverRole, ...] = get_args(ApproverRole)
DocumentKind = Literal["methodology", "points"]

REFRESH_S = 2.0  # how long an approval may take to be in force in every process
OLDEST = timedelta(days=90)  # between the day of signing and the day on which an approval arrives
SIGNATURE_BYTES = 64
LARGEST_FILE = 256 * 1024  # bytes: a thousand keys
_CODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PUBLIC_BYTES = 32


class Approval(ServiceTable, table=True):
    """One role's signature of one document. The key names the signature, so that no other row can stand in its place;
    `completes` where it was the second of two roles and a rule leaf went to the log with it."""

    __tablename__ = "approval"
    programme: str = Field(sa_column=Column(Text, primary_key=True))
    digest: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    role: str = Field(sa_column=Column(Text, primary_key=True))
    key_id: str = Field(sa_column=Column(Text, primary_key=True))
    signature: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    approver: str = Field(sa_column=Column(Text, nullable=False))
    signed_on: date = Field(sa_column=Column(Date, nullable=False))
    completes: bool = Field(sa_column=Column(Boolean, nullable=False))
    approved_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class ApproversInvalid(Exception):
    """The approvers' file cannot be used; the message says why and what to do."""


class ApprovalRefused(Exception):
    """The signature approves nothing: `reason` is unknown-key, retired-key, wrong-role, wrong-signature, signed-ahead
    or signed-long-ago."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ApprovalConflict(Exception):
    """The signature is good and cannot stand beside what is there.

    reason   one-person: who signed in the other role signs here too; role-signed: somebody else has signed in this role
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RuleName:
    """A document as it is approved: what it is called, and the digest of its bytes."""

    kind: DocumentKind
    id: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Approver:
    """A key that approves: whose it is, by a code that names nobody, and in which role.

    retired   what it signed stays approved; it signs nothing new
    """

    key_id: str
    public_key: Ed25519PublicKey
    role: ApproverRole
    person: str
    retired: bool


@dataclass(frozen=True, slots=True)
class Signed:
    """An approval that was given."""

    role: str
    approver: str
    key_id: str
    signature: bytes
    signed_on: date
    completes: bool
    approved_at: datetime


def approval_message(programme: str, rule: RuleName, role: str, signed_on: date) -> bytes:
    """What an approver signs: eight lines, each ending in a line feed."""
    document = (rule.kind, rule.id, str(rule.version), rule.digest)
    lines = ("tanpuhui/approve/1", programme, *document, role, signed_on.isoformat())
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def sign_approval(key: Ed25519PrivateKey, programme: str, rule: RuleName, role: str, signed_on: date) -> bytes:
    """The signature of one document in one role on one day, for one programme: 64 bytes."""
    return key.sign(approval_message(programme, rule, role, signed_on))


def public_entry(key: Ed25519PublicKey) -> dict[str, str]:
    """The key's entry for the approvers' file, still without role and person; its kid is the thumbprint (RFC 7638)."""
    x = _encoded(key.public_bytes_raw())
    thumbprint = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode("ascii")).digest()
    return {"kty": "OKP", "crv": "Ed25519", "kid": _encoded(thumbprint), "x": x}


def parse_approvers(document: bytes) -> dict[str, Approver]:
    """The approvers' keys by kid. Raises ApproversInvalid.

    Every entry has kty OKP, crv Ed25519, kid, x (as in a JWKS), role and person; `retired: true` for a key out of use.
    A person may have several keys; a key belongs to one person.
    """
    try:
        content = json.loads(document)
        entries = content["keys"]
        if content.keys() != {"keys"} or not isinstance(entries, list):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ApproversInvalid('expected {"keys": [...]} and nothing beside it') from None
    found: dict[str, Approver] = {}
    for number, entry in enumerate(entries, start=1):
        approver = _approver(entry, f"key {number}")
        same = approver.public_key.public_bytes_raw()
        if approver.key_id in found or any(same == one.public_key.public_bytes_raw() for one in found.values()):
            raise ApproversInvalid(f"key {number} stands here twice: give each key once, for one person")
        found[approver.key_id] = approver
    return found


_REQUIRED = {"kty", "crv", "kid", "x", "role", "person"}
_OPTIONAL = {"retired", "use", "alg"}


def _approver(entry: Any, where: str) -> Approver:
    if not isinstance(entry, dict):
        raise ApproversInvalid(f"{where}: expected an object")
    if "d" in entry:
        raise ApproversInvalid(f"{where} is a private key: take it out, and replace that key pair")
    if not _REQUIRED <= entry.keys() <= _REQUIRED | _OPTIONAL:
        raise ApproversInvalid(f"{where}: expected {', '.join(sorted(_REQUIRED))} and at most retired beside them")
    if (entry["kty"], entry["crv"]) != ("OKP", "Ed25519"):
        raise ApproversInvalid(f"{where}: expected kty OKP and crv Ed25519")
    if not isinstance(entry["kid"], str) or not _KEY_ID.fullmatch(entry["kid"]):
        raise ApproversInvalid(f"{where}: a kid is 1 to 64 of A-Z, a-z, 0-9, _ and -")
    if entry["role"] not in ROLES:
        raise ApproversInvalid(f"{where}: role is {' or '.join(ROLES)}")
    if not isinstance(entry["person"], str) or not _CODE.fullmatch(entry["person"]):
        raise ApproversInvalid(f"{where}: person is a code of a-z, 0-9, ., _ and -, such as officer-12; no name")
    if type(entry.get("retired", False)) is not bool:
        raise ApproversInvalid(f"{where}: retired is true or false")
    try:
        key = read_ed25519(_decoded(entry["x"], where))
    except ValueError:
        raise ApproversInvalid(f"{where}: x is a point of small order: anybody could sign under it") from None
    return Approver(entry["kid"], key, entry["role"], entry["person"], entry.get("retired", False))


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decoded(text: object, where: str) -> bytes:
    try:
        raw = urlsafe_b64decode(f"{text}=") if isinstance(text, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != _PUBLIC_BYTES or _encoded(raw) != text:
        raise ApproversInvalid(f"{where}: x is the public key, 32 bytes in base64url without padding")
    return raw


_SIGNED = """
    SELECT role, approver, key_id, signature, signed_on, completes, approved_at FROM service.approval
    WHERE programme = $1 AND digest = $2 ORDER BY approved_at, role
"""
_APPEND = """
    INSERT INTO service.approval
        (programme, digest, role, key_id, signature, approver, signed_on, completes, approved_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + $9)
    ON CONFLICT DO NOTHING RETURNING approved_at
"""  # a conflict is not swallowed: approve() says what it means
_ALL = """
    SELECT d.kind, d.name, d.version, a.digest, a.role, a.approver, a.key_id, a.signature, a.signed_on, a.completes,
        a.approved_at
    FROM service.approval a JOIN service.rule_document d USING (digest) WHERE a.programme = $1
    ORDER BY a.approved_at, a.role
"""


async def approve(
    tx: Connection,
    rule: RuleName,
    role: str,
    key_id: str,
    signature: bytes,
    signed_on: date,
    *,
    status: str,
    approvers: Mapping[str, Approver],
    programme: str,
    fresh: Fresh,
    clock_offset: timedelta = timedelta(0),
) -> bool:
    """Record one role's signature; the second queues the document's rule leaf, in the caller's transaction.

    returns   whether it is new: the same person in the same role again changes nothing

    Only recorded approvals that hold count: one that does not stands in nobody's way. Raises ApprovalRefused,
    ApprovalConflict.
    """
    signer = _signer(approvers, programme, rule, role, key_id, signature, signed_on)
    digest = bytes.fromhex(rule.digest)
    # One at a time for each document, so that the second of two that arrive at once sees the first.
    await tx.execute("SELECT pg_advisory_xact_lock($1)", int.from_bytes(digest[:8], "big", signed=True))
    recorded = (Signed(*row) for row in await tx.fetch(_SIGNED, programme, digest))
    held = [one for one in recorded if holds(approvers, programme, rule, one)]
    in_role = {one.approver for one in held if one.role == role}
    beside = [one for one in held if one.role != role]
    if in_role and signer.person not in in_role:
        raise ApprovalConflict("role-signed")
    if in_role and (not beside or _in_force(held)):
        return False
    if any(one.approver == signer.person for one in beside):
        raise ApprovalConflict("one-person")
    _require_recent(signed_on, shanghai_day(fresh.clock()))
    row = (programme, digest, role, key_id, signature, signer.person, signed_on, bool(beside))
    at = await tx.fetchval(_APPEND, *row, clock_offset)
    if at is None:  # this very signature is recorded, and completes nothing: the one of another day can
        return False
    if beside:
        new = Signed(role, signer.person, key_id, signature, signed_on, completes=True, approved_at=at)
        approvals = tuple(_in_leaf(approvers, one) for one in (beside[-1], new))
        facts = RuleFacts(programme, rule.kind, rule.id, rule.version, status, rule.digest, approvals)
        await queue_leaf(tx, rule_leaf(facts, at, fresh.random(NONCE_BYTES)))
    return True


def _in_force(held: Sequence[Signed]) -> bool:
    """Whether two people signed in the two roles and a rule leaf told of it: a key that comes back to the approvers'
    file beside a signature it never met brings nothing into force."""
    return any(
        one.role != other.role and one.approver != other.approver and (one.completes or other.completes)
        for one, other in combinations(held, 2)
    )


def _require_recent(signed_on: date, today: date) -> None:
    if signed_on > today:
        raise ApprovalRefused("signed-ahead")
    if signed_on < today - OLDEST:
        raise ApprovalRefused("signed-long-ago")


def _in_leaf(approvers: Mapping[str, Approver], one: Signed) -> RuleApproval:
    public_key = approvers[one.key_id].public_key.public_bytes_raw().hex()
    return RuleApproval(one.role, one.approver, one.key_id, public_key, one.signature.hex(), one.signed_on)


def _signer(
    approvers: Mapping[str, Approver],
    programme: str,
    rule: RuleName,
    role: str,
    key_id: str,
    signature: bytes,
    signed_on: date,
) -> Approver:
    signer = approvers.get(key_id)
    if signer is None:
        raise ApprovalRefused("unknown-key")
    if signer.retired:
        raise ApprovalRefused("retired-key")
    if signer.role != role:
        raise ApprovalRefused("wrong-role")
    if not _verifies(signer, signature, approval_message(programme, rule, role, signed_on)):
        raise ApprovalRefused("wrong-signature")
    return signer


def holds(approvers: Mapping[str, Approver], programme: str, rule: RuleName, signed: Signed) -> bool:
    """Whether a recorded approval is one by the keys there are now: a key that was taken out approves nothing."""
    signer = approvers.get(signed.key_id)
    return (
        signer is not None
        and (signer.role, signer.person) == (signed.role, signed.approver)
        and _verifies(signer, signed.signature, approval_message(programme, rule, signed.role, signed.signed_on))
    )


def _verifies(signer: Approver, signature: bytes, message: bytes) -> bool:
    try:
        signer.public_key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Approvals:
    """Which documents are approved, as last read; one per process, refreshed every REFRESH_S.

    programme  for which: a signature names it
    digests    documents both roles have signed; the same object until one more is approved
    signed     the approvals that hold, by digest
    approvers  the keys, read again when their file changes; a file that is broken later leaves the last good ones
    """

    def __init__(self, approvers_file: Path | None = None, programme: str = "") -> None:
        """Raises ApproversInvalid for a file that is missing or broken at the start."""
        self.programme = programme
        self.digests: frozenset[str] = frozenset()
        self.signed: Mapping[str, tuple[Signed, ...]] = {}
        self.approvers: Mapping[str, Approver] = {}
        self._file = approvers_file
        self._stamp: tuple[int, int, int] | None = None
        self._held: set[tuple[str, Signed]] = set()
        if approvers_file is not None:
            self._stamp, self.approvers = _read_approvers(approvers_file)

    async def refresh(self, tx: "Connection | asyncpg.Connection[asyncpg.Record]") -> None:
        """Read what has been approved by now."""
        self._look_at_file()
        signed: dict[str, list[Signed]] = {}
        for kind, name, version, digest, *row in await tx.fetch(_ALL, self.programme):
            rule, one = RuleName(kind, name, version, digest.hex()), Signed(*row)
            if (rule.digest, one) in self._held or holds(self.approvers, self.programme, rule, one):
                self._held.add((rule.digest, one))
                signed.setdefault(rule.digest, []).append(one)
        self.signed = {digest: tuple(ones) for digest, ones in signed.items()}
        digests = frozenset(digest for digest, ones in self.signed.items() if _in_force(ones))
        if digests != self.digests:
            self.digests = digests

    def _look_at_file(self) -> None:
        if self._file is None:
            return
        try:
            if _stamp(self._file) == self._stamp:
                return
            self._stamp, self.approvers = _read_approvers(self._file)
        except ApproversInvalid as error:
            _log.error("the approvers' file cannot be used, the last good keys stay", why=str(error))
            return
        self._held.clear()


def _read_approvers(path: Path) -> tuple[tuple[int, int, int], dict[str, Approver]]:
    stamp = _stamp(path)
    try:
        with path.open("rb") as file:
            document = file.read(LARGEST_FILE + 1)
    except OSError:
        raise ApproversInvalid(f"the approvers' file {path} cannot be read: check its permissions") from None
    if len(document) > LARGEST_FILE:
        raise ApproversInvalid(f"the approvers' file {path} has more than {LARGEST_FILE} bytes")
    try:
        return stamp, parse_approvers(document)
    except ApproversInvalid as error:
        raise ApproversInvalid(f"the approvers' file {path}: {error}") from None


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        raise ApproversInvalid(f"no approvers' file at {path}: put the approvers' public keys there") from None
    return status.st_mtime_ns, status.st_size, status.st_ino


async def keep_fresh(pool: Pool, approvals: Approvals) -> NoReturn:
    """Refresh for as long as the process serves. While the database is away the last known approvals stand."""
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            async with pool.acquire() as connection:
                await approvals.refresh(connection)
        except FAULTS as error:
            _log.warning("approvals could not be read, the last known stand", because=type(error).__name__)
