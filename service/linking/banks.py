"""Links of banks: a bank may ask the person whom one of its ids stands for to redeem, for as long as they let it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from service.database import Connection
from service.keyring import Keyring
from service.participants import EnrolledMeanwhile, LinkNotFound, ParticipantNotFound, ProgrammeMismatch

PURPOSE = "bank-link"


@dataclass(frozen=True, slots=True)
class NewBankLink:
    """A link to make: the bank, its id for the person as a keyed tag, and the consent that was given for it."""

    link_id: UUID
    bank_id: int
    programme: str
    subject_tag: bytes
    key_version: int
    text_version: str
    given_at: datetime


_LOCK_ACCOUNT = "SELECT programme FROM ledger.account WHERE participant_id = $1 FOR UPDATE"
_TAKE = """
    INSERT INTO service.bank_link (bank_id, subject_tag, key_version, link_id, participant_id, linked_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp())
    ON CONFLICT (bank_id, subject_tag) WHERE withdrawn_at IS NULL DO NOTHING RETURNING link_id
"""
_LIVE = """
    SELECT link_id, participant_id FROM service.bank_link
    WHERE bank_id = $1 AND subject_tag = $2 AND withdrawn_at IS NULL
"""
_AGREE = """
    INSERT INTO service.agreement (participant_id, agreement_id, purpose, bank_id, text_version, given_at, recorded_at)
    VALUES ($1, $2, 'bank-link', $3, $4, $5, clock_timestamp()) ON CONFLICT DO NOTHING
"""  # a conflict is the same consent to the same text, given again
_END = """
    UPDATE service.bank_link SET withdrawn_at = clock_timestamp()
    WHERE participant_id = $1 AND link_id = $2 AND withdrawn_at IS NULL
"""
_WITHDRAW = """
    UPDATE service.agreement SET withdrawn_at = clock_timestamp()
    WHERE participant_id = $1 AND agreement_id = $2 AND purpose = 'bank-link' AND withdrawn_at IS NULL
"""


def bank_subject_tag(keyring: Keyring, bank_uri: str, subject: str) -> bytes:
    """The tag under which a bank's id for a person is kept."""
    return keyring.tag("subject", b"bank\0" + bank_uri.encode() + b"\0" + subject.encode())


async def add_bank_link(tx: Connection, participant_id: UUID, link: NewBankLink) -> tuple[UUID, bool]:
    """Link a bank to a participant and record the consent; the link's id, and whether it is new.

    Raises ParticipantNotFound, ProgrammeMismatch, and EnrolledMeanwhile when the transaction is to be rolled back and
    run again.
    """
    programme = await tx.fetchval(_LOCK_ACCOUNT, participant_id)
    if programme is None:
        raise ParticipantNotFound
    if programme != link.programme:
        raise ProgrammeMismatch
    taken: UUID | None = await tx.fetchval(
        _TAKE, link.bank_id, link.subject_tag, link.key_version, link.link_id, participant_id
    )
    link_id = taken
    if link_id is None:
        live = await tx.fetchrow(_LIVE, link.bank_id, link.subject_tag)
        if live is None or live["participant_id"] != participant_id:
            raise EnrolledMeanwhile
        link_id = live["link_id"]
    await tx.execute(_AGREE, participant_id, link_id, link.bank_id, link.text_version, link.given_at)
    return link_id, taken is not None


async def linked_to(tx: Connection, bank_id: int, subject_tag: bytes) -> UUID | None:
    """Whom a bank's id stands for now, None without a live link."""
    row = await tx.fetchrow(_LIVE, bank_id, subject_tag)
    return None if row is None else row["participant_id"]


async def end_bank_link(tx: Connection, participant_id: UUID, link_id: UUID) -> None:
    """End a link and the consent it rests on: the bank can ask the person nothing from here on. Call it inside a
    transaction. Raises LinkNotFound."""
    if await tx.execute(_END, participant_id, link_id) == "UPDATE 0":
        raise LinkNotFound
    await tx.execute(_WITHDRAW, participant_id, link_id)
