"""Ask a person for a link (RFC 9126, 6749 section 4.1, 7636), and what comes of it.

A client pushes what it wants and gets a handle, which the person's app shows. The person approves, and a code goes back
with the redirection; the client shows the code with the verifier that only it has, and the link is made. Handle and
code are random, known here by their hashes, and each does its work once. A code that comes a second time ends the link
that it had made: of two who had it one had stolen it.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from service.activities.intake import subject_tag
from service.clock import Fresh
from service.database import Connection
from service.keyring import Keyring
from service.linking.banks import NewBankLink, add_bank_link, bank_subject_tag
from service.linking.consents import TermsWithdrawn, end_link, require_terms
from service.linking.pairwise import PartyKind, pairwise_subject, party_code
from service.participants import LinkNotFound, NewLink, add_link, require_enrolled
from service.rights.standing import AccountClosed, GuardianConsentNeeded, require_unbarred

SECRET_BYTES = 16  # of a handle, and of a code
REQUEST_LIFE = timedelta(minutes=10)  # as long as somebody takes to sign in and to read; RFC 9126 (2.2) has no more
CODE_LIFE = timedelta(seconds=60)
KEPT = timedelta(days=1)  # after its end, so that a code that comes again is known

Scope = Literal["link:activities", "link:bank"]
State = Literal["pending", "approved", "declined", "expired"]
CodeFault = Literal["unknown", "used", "expired", "redirect", "verifier", "withdrawn", "barred"]

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636, 4.1


class LinkRequestNotFound(Exception):
    """No request has this handle."""


class LinkRequestEnded(Exception):
    """The request cannot be decided any more; `state` is how it stands."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = state


@dataclass(frozen=True, slots=True)
class Party:
    """A registered source or bank that asks for a link; `id` is its number in its register."""

    kind: PartyKind
    id: int
    uri: str
    programme: str

    @property
    def code(self) -> str:
        return party_code(self.kind, self.uri)


@dataclass(frozen=True, slots=True)
class NewLinkRequest:
    """What a client asks: `code_challenge` is S256 of its verifier, `state` its own and given back to it."""

    request_id: UUID
    client_id: str
    party: str
    scope: Scope
    redirect_uri: str
    code_challenge: str
    state: str | None


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """A request as it is stored."""

    request_id: UUID
    client_id: str
    party: str
    scope: Scope
    redirect_uri: str
    state: str | None
    expires_at: datetime
    decision: Literal["approved", "declined"] | None

    def standing(self, at: datetime) -> State:
        """How it stands at this moment."""
        if self.decision is not None:
            return self.decision
        return "pending" if at < self.expires_at else "expired"


@dataclass(frozen=True, slots=True)
class LinkMade:
    """What the client is told: its id for the person, and the link."""

    link_id: UUID
    subject: str


@dataclass(frozen=True, slots=True)
class CodeRefused:
    """Why a code was not taken. What it cost the code is to be committed."""

    fault: CodeFault


def new_secret(fresh: Fresh) -> str:
    """A handle or a code: base64url of 16 random bytes."""
    return base64.urlsafe_b64encode(fresh.random(SECRET_BYTES)).rstrip(b"=").decode("ascii")


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode("ascii")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8")).digest()


_ASK = """
    INSERT INTO service.link_request
        (request_id, handle_hash, client_id, party, scope, redirect_uri, code_challenge, state, created_at, expires_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, t.now, t.now + $10::interval
    FROM (SELECT clock_timestamp() + $9::interval AS now) AS t
"""
_FIND = """
    SELECT request_id, client_id, party, scope, redirect_uri, state, expires_at, decision
    FROM service.link_request WHERE handle_hash = $1
"""
_APPROVE = """
    UPDATE service.link_request SET participant_id = $2, decision = 'approved', decided_at = t.now, text_version = $3,
        code_hash = $4, code_expires_at = t.now + $6::interval
    FROM (SELECT clock_timestamp() + $5::interval AS now) AS t
    WHERE request_id = $1 AND decision IS NULL AND t.now < expires_at RETURNING true
"""
_DECLINE = """
    UPDATE service.link_request SET participant_id = $2, decision = 'declined', decided_at = t.now
    FROM (SELECT clock_timestamp() + $3::interval AS now) AS t
    WHERE request_id = $1 AND decision IS NULL AND t.now < expires_at RETURNING true
"""
_SHOWN = """
    SELECT request_id, redirect_uri, code_challenge, party, participant_id, decided_at, text_version, used_at, link_id,
        made, clock_timestamp() + $3::interval < code_expires_at AS young
    FROM service.link_request WHERE code_hash = $1 AND client_id = $2 FOR UPDATE
"""
_USE = "UPDATE service.link_request SET used_at = clock_timestamp() WHERE request_id = $1"
_MADE = "UPDATE service.link_request SET link_id = $2, made = $3 WHERE request_id = $1"
_SWEEP = "DELETE FROM service.link_request WHERE expires_at < clock_timestamp() - $1::interval"
_LOCK_ACCOUNT = "SELECT true FROM ledger.account WHERE participant_id = $1 FOR UPDATE"


async def ask_for_link(tx: Connection, wanted: NewLinkRequest, handle: str, offset: timedelta) -> None:
    """Record a request under its handle, for REQUEST_LIFE."""
    await tx.execute(
        _ASK,
        wanted.request_id,
        _hash(handle),
        wanted.client_id,
        wanted.party,
        wanted.scope,
        wanted.redirect_uri,
        wanted.code_challenge,
        wanted.state,
        offset,
        REQUEST_LIFE,
    )


async def find_link_request(tx: Connection, handle: str) -> LinkRequest:
    """The request of a handle. Raises LinkRequestNotFound."""
    row = await tx.fetchrow(_FIND, _hash(handle))
    if row is None:
        raise LinkRequestNotFound
    return LinkRequest(**row)


async def approve_link(
    tx: Connection, asked: LinkRequest, participant_id: UUID, text_version: str, code: str, offset: timedelta
) -> None:
    """The person agrees, under this version of the text: the client can have the link for this code, for CODE_LIFE.
    Once, whoever asks again. Raises LinkRequestEnded, ParticipantNotFound, TermsWithdrawn, AccountClosed,
    GuardianConsentNeeded."""
    await require_enrolled(tx, participant_id)
    await require_terms(tx, participant_id)
    await require_unbarred(tx, participant_id)
    decided = await tx.fetchval(
        _APPROVE, asked.request_id, participant_id, text_version, _hash(code), offset, CODE_LIFE
    )
    await _require_decided(tx, asked, decided)


async def decline_link(tx: Connection, asked: LinkRequest, participant_id: UUID, offset: timedelta) -> None:
    """The person does not want it. Raises LinkRequestEnded."""
    await _require_decided(tx, asked, await tx.fetchval(_DECLINE, asked.request_id, participant_id, offset))


async def _require_decided(tx: Connection, asked: LinkRequest, decided: bool | None) -> None:
    if decided:
        return
    decision = await tx.fetchval("SELECT decision FROM service.link_request WHERE request_id = $1", asked.request_id)
    raise LinkRequestEnded(decision or "expired")


async def redeem_code(
    tx: Connection,
    keyring: Keyring,
    fresh: Fresh,
    offset: timedelta,
    *,
    client_id: str,
    party: Party,
    code: str,
    verifier: str,
    redirect_uri: str,
) -> LinkMade | CodeRefused:
    """Make the link that a code stands for. Commit it whatever the outcome: a code is good for one try.

    Raises ProgrammeMismatch, and EnrolledMeanwhile when the transaction is to be rolled back and run again.
    """
    row = await tx.fetchrow(_SHOWN, _hash(code), client_id, offset)
    if row is None:
        return CodeRefused("unknown")
    participant_id: UUID = row["participant_id"]
    if row["used_at"] is not None:
        if row["made"]:
            await _end_if_live(tx, participant_id, row["link_id"])
        return CodeRefused("used")
    await tx.execute(_USE, row["request_id"])
    if not row["young"]:
        return CodeRefused("expired")
    if row["party"] != party.code or not _same(row["redirect_uri"], redirect_uri):
        return CodeRefused("redirect")
    if not _VERIFIER.fullmatch(verifier) or not _same(row["code_challenge"], challenge_of(verifier)):
        return CodeRefused("verifier")
    if not await tx.fetchval(_LOCK_ACCOUNT, participant_id):  # whoever withdraws everything waits, or is seen here
        return CodeRefused("barred")
    try:
        await require_terms(tx, participant_id)
        await require_unbarred(tx, participant_id)
    except TermsWithdrawn:
        return CodeRefused("withdrawn")
    except (AccountClosed, GuardianConsentNeeded):
        return CodeRefused("barred")
    subject = await pairwise_subject(tx, keyring, participant_id, party.code, fresh)
    agreed = row["text_version"], row["decided_at"]
    link_id, made = await _link(tx, keyring, fresh, party, participant_id, subject, agreed)
    await tx.execute(_MADE, row["request_id"], link_id, made)
    return LinkMade(link_id, subject)


async def _link(
    tx: Connection,
    keyring: Keyring,
    fresh: Fresh,
    party: Party,
    participant_id: UUID,
    subject: str,
    agreed: tuple[str, datetime],
) -> tuple[UUID, bool]:
    """The link's id, and whether it is new; `agreed` is the version of the text, and when it was agreed to."""
    if party.kind == "bank":
        tag = bank_subject_tag(keyring, party.uri, subject)
        bank = NewBankLink(fresh.id(), party.id, party.programme, tag, keyring.lasting, *agreed)
        return await add_bank_link(tx, participant_id, bank)
    tag = subject_tag(keyring, party.uri, subject)
    source = NewLink(fresh.id(), party.id, party.programme, tag, keyring.lasting, "carbon-credit", *agreed)
    return await add_link(tx, participant_id, source)


async def _end_if_live(tx: Connection, participant_id: UUID, link_id: UUID) -> None:
    try:
        await end_link(tx, participant_id, link_id)
    except LinkNotFound:
        return  # the person ended it already


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8"), other.encode("utf-8"))


async def sweep_link_requests(tx: Connection) -> int:
    """Forget requests that ended long enough ago; how many."""
    return int((await tx.execute(_SWEEP, KEPT)).split()[-1])
