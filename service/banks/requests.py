"""A bank asks, a person approves: the request is found by a code that the bank hands over and we keep as a hash.

An approval is nothing but a redemption that names the request, so there is no moment at which points are held and the
bank is told otherwise. Whoever begins to approve has the request for themselves until they let go of it, and each
attempt has one answer: two of a request can never both hold points.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from service.database import Connection

CODE_BYTES = 16  # random; nobody guesses one of 2^128 in the half hour that it is good for
REQUEST_LIFE = timedelta(minutes=30)  # from the bank's question to the person's answer

MOST_ASKED = 100  # requests that are shown to one person at once

State = Literal["pending", "approved", "declined", "expired"]


class ApprovalNotFound(Exception):
    """No request has this code."""


class ApprovalEnded(Exception):
    """The request cannot be decided by this person: `state` is how it stands, or `taken` by somebody else."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A bank's request.

    reference       the bank's own, None where it gave none
    call_id         the bank's signed call, and `signature` its SHA-256 in hex, as leaves of the log name it
    attempt         the number of the approval that is or was tried
    participant_id  who has begun to approve, or has declined
    redemption_id   what came of it, None while nothing did
    """

    request_id: UUID
    bank_id: int
    bank: str
    bank_title_zh: str
    bank_title_en: str
    offer: str
    offer_version: int
    units: int
    reference: str | None
    call_id: UUID
    signature: str
    attempt: int
    created_at: datetime
    expires_at: datetime
    participant_id: UUID | None
    declined_at: datetime | None
    redemption_id: UUID | None

    def state(self, at: datetime) -> State:
        """How it stands at this moment."""
        if self.redemption_id is not None:
            return "approved"
        if self.declined_at is not None:
            return "declined"
        return "pending" if at < self.expires_at else "expired"

    def require_open_to(self, participant_id: UUID, at: datetime) -> None:
        """Raises ApprovalEnded unless this person can decide it, or has approved it before."""
        if self.participant_id not in (None, participant_id):
            raise ApprovalEnded("taken")
        state = self.state(at)
        if state not in ("pending", "approved"):
            raise ApprovalEnded(state)


def code_text(code: bytes) -> str:
    """A code as the bank is given it: base64url without padding."""
    return base64.urlsafe_b64encode(code).rstrip(b"=").decode("ascii")


def code_hash(text: str) -> bytes:
    """What is stored of a code."""
    return hashlib.sha256(text.encode("utf-8")).digest()


_INSERT = """
    INSERT INTO service.bank_request (request_id, bank_id, offer, offer_version, units, reference, call_id, code_hash,
        created_at, expires_at, addressed_to)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, t.now, t.now + $10::interval, $11
    FROM (SELECT clock_timestamp() + $9::interval AS now) AS t RETURNING expires_at
"""
_READ = r"""
    SELECT q.request_id, q.bank_id, b.uri AS bank, b.title_zh AS bank_title_zh, b.title_en AS bank_title_en, q.offer,
        q.offer_version, q.units, q.reference, q.call_id,
        encode(sha256(c.signature_base || '\x0a'::bytea || c.signature), 'hex') AS signature, q.attempt, q.created_at,
        q.expires_at, q.participant_id, q.declined_at, r.redemption_id
    FROM service.bank_request q JOIN service.bank b USING (bank_id) JOIN service.signed_call c USING (call_id)
    LEFT JOIN service.redemption r ON r.participant_id = q.participant_id AND r.request_id = q.request_id
"""
# Whom it is addressed to, as long as they let the bank ask them.
_ADDRESSED = """ WHERE q.addressed_to = $1 AND EXISTS (
        SELECT FROM service.bank_link l
        WHERE l.bank_id = q.bank_id AND l.participant_id = q.addressed_to AND l.withdrawn_at IS NULL)
"""
_CLAIM = """
    UPDATE service.bank_request SET participant_id = $2
    WHERE request_id = $1 AND (participant_id IS NULL OR participant_id = $2) AND declined_at IS NULL RETURNING true
"""
_LET_GO = """
    UPDATE service.bank_request SET participant_id = NULL, attempt = attempt + 1
    WHERE request_id = $1 AND participant_id = $2 AND attempt = $3 AND declined_at IS NULL
        AND NOT EXISTS (SELECT FROM service.redemption r WHERE r.participant_id = $2 AND r.request_id = $1)
"""
_DECLINE = """
    UPDATE service.bank_request SET participant_id = $2, declined_at = clock_timestamp() + $3::interval
    WHERE request_id = $1 AND (participant_id IS NULL OR participant_id = $2) AND declined_at IS NULL
        AND NOT EXISTS (SELECT FROM service.redemption r WHERE r.participant_id = $2 AND r.request_id = $1)
    RETURNING true
"""


@dataclass(frozen=True, slots=True)
class NewRequest:
    """What a bank asks by a signed call: units of one version of its offer, with a reference of its own if it likes.

    addressed_to   the person whom one of its ids stands for; None for whoever is handed the code
    """

    request_id: UUID
    bank_id: int
    offer: str
    offer_version: int
    units: int
    reference: str | None
    call_id: UUID
    addressed_to: UUID | None = None


async def create_request(tx: Connection, request: NewRequest, code: str, offset: timedelta) -> datetime:
    """Record a request under its code; when it ends."""
    expires_at: datetime = await tx.fetchval(
        _INSERT,
        request.request_id,
        request.bank_id,
        request.offer,
        request.offer_version,
        request.units,
        request.reference,
        request.call_id,
        code_hash(code),
        offset,
        REQUEST_LIFE,
        request.addressed_to,
    )
    return expires_at


async def read_request(tx: Connection, bank_id: int, request_id: UUID) -> StoredRequest | None:
    """A bank's own request."""
    row = await tx.fetchrow(_READ + " WHERE q.request_id = $1 AND q.bank_id = $2", request_id, bank_id)
    return None if row is None else StoredRequest(**row)


async def find_request(tx: Connection, code: str) -> StoredRequest:
    """The request of a code. Raises ApprovalNotFound."""
    row = await tx.fetchrow(_READ + " WHERE q.code_hash = $1 AND q.addressed_to IS NULL", code_hash(code))
    if row is None:
        raise ApprovalNotFound
    return StoredRequest(**row)


async def find_addressed(tx: Connection, participant_id: UUID, request_id: UUID) -> StoredRequest:
    """A request to this person by a bank that they have linked. Raises ApprovalNotFound."""
    row = await tx.fetchrow(_READ + _ADDRESSED + " AND q.request_id = $2", participant_id, request_id)
    if row is None:
        raise ApprovalNotFound
    return StoredRequest(**row)


async def read_addressed(tx: Connection, participant_id: UUID, at: datetime) -> list[StoredRequest]:
    """What banks ask of this person that can be decided at this moment, the oldest first; MOST_ASKED at most."""
    asked = _READ + _ADDRESSED + " AND q.expires_at > $2 AND q.declined_at IS NULL AND r.redemption_id IS NULL"
    rows = await tx.fetch(asked + " ORDER BY q.created_at, q.request_id LIMIT $3", participant_id, at, MOST_ASKED)
    return [StoredRequest(**row) for row in rows]


async def claim_request(tx: Connection, request: StoredRequest, participant_id: UUID, at: datetime) -> None:
    """Let this person, and nobody else, decide. Commit it before points are held. Raises ApprovalEnded."""
    request.require_open_to(participant_id, at)
    if request.participant_id is None and not await tx.fetchval(_CLAIM, request.request_id, participant_id):
        raise ApprovalEnded("taken")


async def let_go(tx: Connection, request: StoredRequest, participant_id: UUID) -> None:
    """This attempt was refused: anybody who has the code may try again. Nothing changes where points are held."""
    await tx.execute(_LET_GO, request.request_id, participant_id, request.attempt)


async def decline_request(
    tx: Connection, request: StoredRequest, participant_id: UUID, at: datetime, offset: timedelta
) -> None:
    """The person does not want it; the bank learns that and not who. Raises ApprovalEnded."""
    request.require_open_to(participant_id, at)
    if request.redemption_id is not None:
        raise ApprovalEnded("approved")
    if not await tx.fetchval(_DECLINE, request.request_id, participant_id, offset):
        raise ApprovalEnded("taken")
