"""Participants 参与者 under their random pseudonyms, links to the providers that know them, and the consent each link
rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, Integer, LargeBinary, SmallInteger, Text, Uuid, text
from sqlmodel import Field

from service.database import Connection, ServiceTable
from service.rights.standing import require_unbarred
from service.rights.tombstones import bring_back
from service.vault.vault import DataKey, Vault


class Participant(ServiceTable, table=True):
    """One natural person or one organisation, by its pseudonym."""

    __tablename__ = "participant"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    programme: str = Field(sa_column=Column(Text, nullable=False))
    region: str = Field(sa_column=Column(Text, nullable=False))
    enrolled_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Link(ServiceTable, table=True):
    """A provider's own id for a person, as HMAC, and whom it stands for; keyed by itself, and live until withdrawn."""

    __tablename__ = "link"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    subject_tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    link_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    linked_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (
        Index("link_live_key", "source_id", "subject_tag", unique=True, postgresql_where=text("withdrawn_at IS NULL")),
        Index("link_participant_index", "participant_id"),
    )


class Consent(ServiceTable, table=True):
    """What a person agreed to for one link: purpose, the version of the text they saw, when, and when they took it
    back."""

    __tablename__ = "consent"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    link_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    source_id: int = Field(sa_column=Column(Integer, nullable=False))
    purpose: str = Field(sa_column=Column(Text, primary_key=True))
    text_version: str = Field(sa_column=Column(Text, primary_key=True))
    given_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class ParticipantConflict(Exception):
    """A provider's subject, or the organisation, belongs to another participant than the others, or to one of another
    kind."""


class ProgrammeMismatch(Exception):
    """A participant of one programme cannot be linked to a source of another: that needs a recognition rule."""


class EnrolledMeanwhile(Exception):
    """Another enrolment of the same subject or organisation committed in between: the same call again finds it."""


class ParticipantNotFound(Exception):
    """Nobody is enrolled under this id."""


class LinkNotFound(Exception):
    """This participant has no live link of this id."""


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link to make: the source, the provider's subject as its keyed tag, and the consent that was given for it."""

    link_id: UUID
    source_id: int
    programme: str
    subject_tag: bytes
    key_version: int
    purpose: str
    text_version: str
    given_at: datetime


# Whom a subject stands for is settled by its first link: who withdraws and links again is the same participant.
_OWNERS = """
    SELECT DISTINCT participant_id FROM service.link WHERE source_id = $1 AND subject_tag = $2
"""

# Two enrolments of one subject at once meet in the index of live links.
_TAKE_LINK = """
    INSERT INTO service.link (source_id, subject_tag, key_version, link_id, participant_id, linked_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp())
    ON CONFLICT (source_id, subject_tag) WHERE withdrawn_at IS NULL DO NOTHING RETURNING link_id
"""

_LIVE_LINK = """
    SELECT participant_id, link_id FROM service.link
    WHERE source_id = $1 AND subject_tag = $2 AND withdrawn_at IS NULL
"""

_CONSENT = """
    INSERT INTO service.consent (participant_id, link_id, source_id, purpose, text_version, given_at, recorded_at)
    VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp()) ON CONFLICT DO NOTHING
"""  # a conflict is the same consent to the same text, given again

_LOCK_ACCOUNT = "SELECT programme FROM ledger.account WHERE participant_id = $1 FOR UPDATE"


async def require_enrolled(tx: Connection, participant_id: UUID) -> None:
    """Raises ParticipantNotFound unless somebody is enrolled under this id."""
    if not await tx.fetchval("SELECT true FROM service.participant WHERE participant_id = $1", participant_id):
        raise ParticipantNotFound


async def add_link(tx: Connection, participant_id: UUID, link: NewLink) -> tuple[UUID, bool]:
    """Link a source to a participant and record the consent; the link's id, and whether it is new. A subject that was
    erased before brings what it had used of caps.

    Raises ParticipantNotFound, ProgrammeMismatch, AccountClosed, GuardianConsentNeeded, ParticipantConflict when the
    subject is or was somebody else's, and EnrolledMeanwhile when the transaction is to be rolled back and run again.
    """
    programme = await tx.fetchval(_LOCK_ACCOUNT, participant_id)
    if programme is None:
        raise ParticipantNotFound
    if programme != link.programme:
        raise ProgrammeMismatch
    await require_unbarred(tx, participant_id)
    owners = await tx.fetch(_OWNERS, link.source_id, link.subject_tag)
    if any(owner["participant_id"] != participant_id for owner in owners):
        raise ParticipantConflict
    taken = await tx.fetchval(
        _TAKE_LINK, link.source_id, link.subject_tag, link.key_version, link.link_id, participant_id
    )
    link_id = taken
    if taken is None:
        live = await tx.fetchrow(_LIVE_LINK, link.source_id, link.subject_tag)
        if live is None or live["participant_id"] != participant_id:
            raise EnrolledMeanwhile
        link_id = live["link_id"]
    await tx.execute(_CONSENT, participant_id, link_id, link.source_id, link.purpose, link.text_version, link.given_at)
    if taken is not None:
        await bring_back(tx, [(participant_id, "subject", link.source_id, link.subject_tag)])
    return link_id, taken is not None


_WITHDRAWALS = 7262019  # the advisory lock between postings, which share it, and withdrawals, which have it alone


async def hold_withdrawals(tx: Connection) -> None:
    """Let no consent be withdrawn before this transaction ends, so that what it reads of links stays true: its first
    lock."""
    await tx.execute("SELECT pg_advisory_xact_lock_shared($1)", _WITHDRAWALS)


async def exclude_postings(tx: Connection) -> None:
    """Wait for what is being posted, and let nothing begin to be posted before this transaction ends: its first lock,
    taken by whoever ends something that postings rest on."""
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _WITHDRAWALS)


async def withdraw_consent(tx: Connection, participant_id: UUID, link_id: UUID) -> None:
    """End a link and the consents it rests on: the provider's reports for this person are refused from here on.

    Waits for what is being posted, so that nothing is recorded after the withdrawal. Raises LinkNotFound.
    """
    await exclude_postings(tx)
    ended = await tx.execute(
        "UPDATE service.link SET withdrawn_at = clock_timestamp() "
        "WHERE participant_id = $1 AND link_id = $2 AND withdrawn_at IS NULL",
        participant_id,
        link_id,
    )
    if ended == "UPDATE 0":
        raise LinkNotFound
    await tx.execute(
        "UPDATE service.consent SET withdrawn_at = clock_timestamp() "
        "WHERE participant_id = $1 AND link_id = $2 AND withdrawn_at IS NULL",
        participant_id,
        link_id,
    )


# With the wrapped data key beside each, by its own key whatever the planner believes of a table that grows (OFFSET 0):
# what is reported is sealed under it, and no statement of its own fetches it. Whose key was destroyed is linked no
# more.
_LINKED = """
    SELECT w.ordinal, l.participant_id, k.kek_version, k.wrapped
    FROM unnest($1::int4[], $2::bytea[]) WITH ORDINALITY AS w (source_id, subject_tag, ordinal)
    JOIN service.link l ON l.source_id = w.source_id AND l.subject_tag = w.subject_tag AND l.withdrawn_at IS NULL,
    LATERAL (SELECT kek_version, wrapped FROM vault.person_key
        WHERE participant_id = l.participant_id OFFSET 0) AS k
"""


# A subject belongs to one participant for good, so that all its links name the same.
_ONCE_LINKED = """
    SELECT DISTINCT l.source_id, l.subject_tag, l.participant_id
    FROM unnest($1::int4[], $2::bytea[]) AS w (source_id, subject_tag)
    JOIN service.link l ON l.source_id = w.source_id AND l.subject_tag = w.subject_tag
"""


async def read_ended_links(
    tx: Connection, source_ids: Sequence[int], subject_tags: Sequence[bytes]
) -> dict[tuple[int, bytes], UUID]:
    """Whom these subjects, which have no live link, stood for; those that never had one are absent."""
    rows = await tx.fetch(_ONCE_LINKED, source_ids, subject_tags)
    return {(row["source_id"], row["subject_tag"]): row["participant_id"] for row in rows}


async def read_links(
    tx: Connection, vault: Vault, source_ids: Sequence[int], subject_tags: Sequence[bytes]
) -> tuple[dict[tuple[int, bytes], UUID], dict[UUID, DataKey]]:
    """Whom these subjects stand for now, and their data keys; those without a live link are absent. Raises
    VaultError."""
    owners: dict[tuple[int, bytes], UUID] = {}
    keys: dict[UUID, DataKey] = {}
    for ordinal, participant_id, version, wrapped in await tx.fetch(_LINKED, source_ids, subject_tags):
        owners[source_ids[ordinal - 1], subject_tags[ordinal - 1]] = participant_id
        keys[participant_id] = vault.key(participant_id, version, wrapped)
    return owners, keys
