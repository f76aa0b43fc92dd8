"""Guardians 监护人: for somebody under 14 nothing is taken without a guardian's consent (PIPL, article 31).

Who is under 14 is known from the month of birth, which stands in the vault; here is only the day on which the need
ends. A month says no day, so it ends when the whole month of the fourteenth birthday is over. The child's app shows a
code; the guardian, signed in as themselves, gives it with their consent. That both belong together is the guardian's
word, kept with the tag of who they are; an operator may ask for papers and end a consent that was given wrongly.
"""

import calendar
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from service.database import Connection
from service.participants import exclude_postings

AGE = 14
CODE_BYTES = 16
CODE_LASTS = timedelta(hours=24)


class NotAMinor(Exception):
    """The participant needs no guardian."""


class GuardianNotFit(Exception):
    """Whoever wants to be the guardian is not signed in by the city's identity provider, is under 14 or is the child;
    `reason` is `person`, `minor` or `self`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class GuardianCodeRefused(Exception):
    """The code is of nobody, was used, or is too old."""


class GuardianKnown(Exception):
    """A guardian's consent for this child stands already."""


class WardNotFound(Exception):
    """The caller is not, or no longer, the guardian of this child."""


@dataclass(frozen=True, slots=True)
class Ward:
    """A child as their guardian sees them; `until` is the first day on which no guardian is needed."""

    guardianship_id: UUID
    participant_id: UUID
    text_version: str
    given_at: datetime
    until: date | None


@dataclass(frozen=True, slots=True)
class Need:
    """Whether somebody needs a guardian's consent, until which day, and whether one stands."""

    until: date
    consented: bool


_NOTE = """
    INSERT INTO service.minor (participant_id, until) VALUES ($1, $2)
    ON CONFLICT (participant_id) DO UPDATE SET until = excluded.until
"""
_FREE = "DELETE FROM service.minor WHERE participant_id = $1"
_NEED = """
    SELECT m.until, EXISTS (SELECT FROM service.guardianship g
        WHERE g.participant_id = m.participant_id AND g.withdrawn_at IS NULL) AS consented
    FROM service.minor m WHERE m.participant_id = $1 AND m.until > $2
"""
_ACCOUNT = "SELECT true FROM ledger.account WHERE participant_id = $1 FOR UPDATE"
_CODE = """
    INSERT INTO service.guardian_code (code_hash, participant_id, expires_at) VALUES ($1, $2, $3)
"""
_FORGET_CODES = "DELETE FROM service.guardian_code WHERE participant_id = $1 OR expires_at < $2"
_USE_CODE = """
    UPDATE service.guardian_code SET used_at = $2
    WHERE code_hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING participant_id
"""
_TAG = "SELECT person_tag FROM vault.person WHERE participant_id = $1"
_CONSENT = """
    INSERT INTO service.guardianship (participant_id, guardianship_id, guardian_id, guardian_tag, text_version,
        given_at, recorded_at)
    VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
    ON CONFLICT (participant_id) WHERE withdrawn_at IS NULL DO NOTHING RETURNING true
"""  # a conflict is said: GuardianKnown
_WARDS = """
    SELECT g.guardianship_id, g.participant_id, g.text_version, g.given_at, m.until
    FROM service.guardianship g LEFT JOIN service.minor m USING (participant_id)
    WHERE g.guardian_id = $1 AND g.withdrawn_at IS NULL AND (m.until IS NULL OR m.until > $2)
    ORDER BY g.given_at, g.guardianship_id
"""
_WITHDRAW = """
    UPDATE service.guardianship SET withdrawn_at = clock_timestamp()
    WHERE guardian_id = $1 AND guardianship_id = $2 AND withdrawn_at IS NULL RETURNING participant_id
"""
_GUARDED = "SELECT guardianship_id FROM service.guardianship WHERE guardian_id = $1 AND withdrawn_at IS NULL"
_END_LINKS = (
    "UPDATE service.link SET withdrawn_at = clock_timestamp() WHERE participant_id = $1 AND withdrawn_at IS NULL",
    "UPDATE service.consent SET withdrawn_at = clock_timestamp() WHERE participant_id = $1 AND withdrawn_at IS NULL",
    "UPDATE service.bank_link SET withdrawn_at = clock_timestamp() WHERE participant_id = $1 AND withdrawn_at IS NULL",
)


def guardian_needed_until(born_in: date) -> date:
    """The first day on which whoever was born in this month is surely 14."""
    year, month = born_in.year + AGE, born_in.month
    return date(year, month, calendar.monthrange(year, month)[1]) + timedelta(days=1)


async def note_birth(tx: Connection, participant_id: UUID, born_in: date, today: date) -> bool:
    """Note, by a month of birth that is known, whether a guardian is needed; whether one is. The participant is new or
    locked."""
    until = guardian_needed_until(born_in)
    if until <= today:
        await tx.execute(_FREE, participant_id)
        return False
    await tx.execute(_NOTE, participant_id, until)
    return True


async def read_need(tx: Connection, participant_id: UUID, today: date) -> Need | None:
    """What a participant needs of a guardian; None of one who is 14, or whose age is not known."""
    row = await tx.fetchrow(_NEED, participant_id, today)
    return None if row is None else Need(row["until"], row["consented"])


async def make_code(tx: Connection, participant_id: UUID, now: datetime, today: date) -> tuple[str, datetime]:
    """A code for the guardian, and when it ends; an earlier one is good no more. In a transaction. Raises NotAMinor."""
    if await read_need(tx, participant_id, today) is None:
        raise NotAMinor
    await tx.execute(_FORGET_CODES, participant_id, now)
    code, expires_at = secrets.token_urlsafe(CODE_BYTES), now + CODE_LASTS
    await tx.execute(_CODE, _hash(code), participant_id, expires_at)
    return code, expires_at


async def consent_for_child(
    tx: Connection,
    guardian_id: UUID,
    code: str,
    *,
    text_version: str,
    given_at: datetime,
    guardianship_id: UUID,
    now: datetime,
    today: date,
) -> UUID:
    """Record a guardian's consent; the child. In a transaction.

    Raises GuardianNotFit, GuardianCodeRefused, GuardianKnown.
    """
    guardian_tag = await tx.fetchval(_TAG, guardian_id)
    if guardian_tag is None:
        raise GuardianNotFit("person")
    if await read_need(tx, guardian_id, today) is not None:
        raise GuardianNotFit("minor")
    child: UUID | None = await tx.fetchval(_USE_CODE, _hash(code), now)
    if child is None:
        raise GuardianCodeRefused
    if child == guardian_id:
        raise GuardianNotFit("self")
    await tx.fetchval(_ACCOUNT, child)
    row = (child, guardianship_id, guardian_id, guardian_tag, text_version, given_at)
    if not await tx.fetchval(_CONSENT, *row):
        raise GuardianKnown
    return child


async def read_wards(tx: Connection, guardian_id: UUID, today: date) -> Sequence[Ward]:
    """The children whose guardian somebody is; one who turned 14 is their own master."""
    return [Ward(**row) for row in await tx.fetch(_WARDS, guardian_id, today)]


async def find_ward(tx: Connection, guardian_id: UUID, guardianship_id: UUID, today: date) -> Ward:
    """One of them. Raises WardNotFound."""
    wards = [ward for ward in await read_wards(tx, guardian_id, today) if ward.guardianship_id == guardianship_id]
    if not wards:
        raise WardNotFound
    return wards[0]


async def withdraw_guardianship(tx: Connection, guardian_id: UUID, guardianship_id: UUID) -> None:
    """Take the consent back: the child's links end, and nothing is taken for them any more. In a transaction, as its
    first lock; waits for what is being posted. Raises WardNotFound."""
    await exclude_postings(tx)
    await _withdraw(tx, guardian_id, guardianship_id)


async def end_guardianships(tx: Connection, guardian_id: UUID) -> None:
    """Take back every consent of a guardian who is being forgotten; postings are excluded."""
    for row in await tx.fetch(_GUARDED, guardian_id):
        await _withdraw(tx, guardian_id, row["guardianship_id"])


async def _withdraw(tx: Connection, guardian_id: UUID, guardianship_id: UUID) -> None:
    child = await tx.fetchval(_WITHDRAW, guardian_id, guardianship_id)
    if child is None:
        raise WardNotFound
    await end_links(tx, child)


async def end_links(tx: Connection, participant_id: UUID) -> None:
    """End every link of a child with its consent; postings are excluded."""
    for statement in _END_LINKS:
        await tx.execute(statement, participant_id)


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
