"""Participants 参与者: enrolment under a random pseudonym, links to the providers that know them, and the consent each
link rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, Integer, LargeBinary, SmallInteger, Text, Uuid
from sqlmodel import Field

from ledger.store import open_account
from service.database import Connection, ServiceTable


class Participant(ServiceTable, table=True):
    """One natural person or one organisation, by its pseudonym."""

    __tablename__ = "participant"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    programme: str = Field(sa_column=Column(Text, nullable=False))
    region: str = Field(sa_column=Column(Text, nullable=False))
    enrolled_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Link(ServiceTable, table=True):
    """A provider's own id for a person, as HMAC, and whom it stands for; keyed by itself, and live until it is
    withdrawn."""

    __tablename__ = "link"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    subject_tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    link_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    linked_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (Index("link_participant_index", "participant_id"),)


class Consent(ServiceTable, table=True):
    """What a person agreed to for one link: purpose, the version of the text they saw, when, and when they took it
    back."""

    __tablename__ = "consent"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    link_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    purpose: str = Field(sa_column=Column(Text, primary_key=True))
    text_version: str = Field(sa_column=Column(Text, nullable=False))
    given_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class ParticipantConflict(Exception):
    """A provider's subject is already linked to a participant of another kind, or to several of them."""


class EnrolledMeanwhile(Exception):
    """Another enrolment of the same subject committed in between: the same call again finds it."""


class ParticipantNotFound(Exception):
    """Nobody is enrolled under this id."""


class LinkNotFound(Exception):
    """This participant has no live link of this id."""


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link to make: the provider's subject as its keyed tag, and the consent that was given for it."""

    link_id: UUID
    source_id: int
    subject_tag: bytes
    key_version: int
    purpose: str
    text_version: str
    given_at: datetime


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A participant after enrolment, with the link made or found for each one asked for, in order."""

    participant_id: UUID
    link_ids: tuple[UUID, ...]
    created: bool


_LOCK_LINKS = """
    SELECT l.source_id, l.subject_tag, l.link_id, l.participant_id, p.kind
    FROM service.link l JOIN service.participant p USING (participant_id)
    WHERE (l.source_id, l.subject_tag) IN (SELECT * FROM unnest($1::int4[], $2::bytea[])) AND l.withdrawn_at IS NULL
    ORDER BY l.source_id, l.subject_tag FOR UPDATE OF l
"""

# A subject that was unlinked may be linked again, to whoever now consents; two enrolments of one subject at once meet
# here.
_TAKE_LINK = """
    INSERT INTO service.link AS l (source_id, subject_tag, key_version, link_id, participant_id, linked_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp())
    ON CONFLICT (source_id, subject_tag) DO UPDATE
        SET key_version = excluded.key_version, link_id = excluded.link_id, participant_id = excluded.participant_id,
            linked_at = excluded.linked_at, withdrawn_at = NULL
        WHERE l.withdrawn_at IS NOT NULL
    RETURNING link_id
"""

_LOCK_ACCOUNT = "SELECT counter FROM ledger.account WHERE participant_id = $1 FOR UPDATE"

_LIVE_LINK = """
    SELECT participant_id, link_id FROM service.link
    WHERE source_id = $1 AND subject_tag = $2 AND withdrawn_at IS NULL
"""

_CONSENT = """
    INSERT INTO service.consent (participant_id, link_id, purpose, text_version, given_at, recorded_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp())
"""

_ENROL = """
    INSERT INTO service.participant (participant_id, kind, programme, region, enrolled_at)
    VALUES ($1, $2, $3, $4, clock_timestamp())
"""


async def enrol(
    tx: Connection, participant_id: UUID, links: Sequence[NewLink], *, kind: str, programme: str, region: str
) -> Enrolled:
    """Enrol a participant with its links, or find the one these subjects are linked to: repeating an enrolment is
    harmless.

    Raises ParticipantConflict when a subject is linked to somebody else than the others, or to another kind of
    participant; EnrolledMeanwhile when the transaction is to be rolled back and run again.
    """
    wanted = {(link.source_id, link.subject_tag): link for link in links}
    found = await tx.fetch(_LOCK_LINKS, [source for source, _ in wanted], [tag for _, tag in wanted])
    owners = {(row["participant_id"], row["kind"]) for row in found}
    if owners and (len(owners) > 1 or len(found) < len(wanted) or next(iter(owners))[1] != kind):
        raise ParticipantConflict
    if owners:
        made = {(row["source_id"], row["subject_tag"]): row["link_id"] for row in found}
        owner = found[0]["participant_id"]
        return Enrolled(owner, tuple(made[link.source_id, link.subject_tag] for link in links), created=False)
    await tx.execute(_ENROL, participant_id, kind, programme, region)
    await open_account(tx, participant_id, kind=kind, programme=programme, region=region)
    for link in sorted(wanted.values(), key=lambda link: (link.source_id, link.subject_tag)):
        if not await _take_link(tx, participant_id, link):
            raise EnrolledMeanwhile
    ids = {key: link.link_id for key, link in wanted.items()}
    return Enrolled(participant_id, tuple(ids[link.source_id, link.subject_tag] for link in links), created=True)


async def add_link(tx: Connection, participant_id: UUID, link: NewLink) -> tuple[UUID, bool]:
    """Link one more source to a participant with a consent; the link's id, and whether it is new.

    Raises ParticipantNotFound; ParticipantConflict when the subject is linked to somebody else.
    """
    if await tx.fetchval(_LOCK_ACCOUNT, participant_id) is None:
        raise ParticipantNotFound
    if await _take_link(tx, participant_id, link):
        return link.link_id, True
    found = await tx.fetchrow(_LIVE_LINK, link.source_id, link.subject_tag)
    if found is None:
        raise EnrolledMeanwhile
    if found["participant_id"] != participant_id:
        raise ParticipantConflict
    return found["link_id"], False


async def _take_link(tx: Connection, participant_id: UUID, link: NewLink) -> bool:
    """Make the link and record its consent, unless the subject is linked now."""
    taken = await tx.fetchval(
        _TAKE_LINK, link.source_id, link.subject_tag, link.key_version, link.link_id, participant_id
    )
    if taken is not None:
        await tx.execute(_CONSENT, participant_id, link.link_id, link.purpose, link.text_version, link.given_at)
    return taken is not None


async def withdraw_consent(tx: Connection, participant_id: UUID, link_id: UUID) -> None:
    """End a link and the consents it rests on: the provider's reports for this person are refused from here on.

    Waits for what is being posted for this participant, so that nothing is recorded after the withdrawal. Raises
    LinkNotFound.
    """
    await tx.execute(_LOCK_ACCOUNT, participant_id)
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


_LINKED = """
    SELECT w.ordinal, l.participant_id
    FROM unnest($1::int4[], $2::bytea[]) WITH ORDINALITY AS w (source_id, subject_tag, ordinal)
    JOIN service.link l ON l.source_id = w.source_id AND l.subject_tag = w.subject_tag AND l.withdrawn_at IS NULL
"""


async def read_links(
    tx: Connection, source_ids: Sequence[int], subject_tags: Sequence[bytes]
) -> dict[tuple[int, bytes], UUID]:
    """Whom these subjects stand for now; those without a live link are absent."""
    rows = await tx.fetch(_LINKED, source_ids, subject_tags)
    return {(source_ids[row["ordinal"] - 1], subject_tags[row["ordinal"] - 1]): row["participant_id"] for row in rows}
