"""Enrolment 登记: one participant or a thousand in one transaction, a statement for each table, each with an outcome of
its own.

What is known is read first, then everything is decided in memory, in order, and written. Enrolments that meet take
their locks in one order (accounts, codes, mandates, links, consents, each sorted), so one waits for the other and none
deadlocks.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from ledger.store import open_accounts
from service.database import Connection
from service.organisations import NewOrganisation, codes_of, find_organisations, record_mandates, take_codes
from service.participants import EnrolledMeanwhile, NewLink, ParticipantConflict, ProgrammeMismatch
from service.rights.standing import read_barred
from service.rights.tombstones import bring_back
from service.vault import Vault, make_keys

Subject: TypeAlias = tuple[int, bytes]
"""A source and the tag of its own id for somebody."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A participant to enrol, under `new_id` unless it is known, with its links.

    organisation   of every kind but a citizen: one organisation is one participant, whoever enrols it
    """

    new_id: UUID
    kind: str
    links: tuple[NewLink, ...]
    organisation: NewOrganisation | None = None

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return tuple((link.source_id, link.subject_tag) for link in self.links)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A participant after enrolment, with the link made or found for each one asked for, in order."""

    participant_id: UUID
    link_ids: tuple[UUID, ...]
    created: bool


NotEnrolled: TypeAlias = ParticipantConflict | ProgrammeMismatch


@dataclass(slots=True)
class _Book:
    """What is known of the subjects and codes that are wanted, and what this enrolment adds to it."""

    programme: str
    owners: dict[Subject, UUID] = field(default_factory=dict)  # settled by a subject's first link, for good
    live: dict[Subject, UUID] = field(default_factory=dict)
    kinds: dict[UUID, str] = field(default_factory=dict)
    organisations: dict[bytes, UUID] = field(default_factory=dict)
    codes: dict[UUID, bytes] = field(default_factory=dict)
    programmes: dict[UUID, str] = field(default_factory=dict)
    opened: list[Wanted] = field(default_factory=list)
    taken: dict[bytes, tuple[UUID, NewOrganisation]] = field(default_factory=dict)
    linked: list[tuple[UUID, NewLink]] = field(default_factory=list)
    consents: list[tuple[UUID, UUID, NewLink]] = field(default_factory=list)
    mandates: list[tuple[UUID, NewOrganisation]] = field(default_factory=list)
    barred: Collection[UUID] = ()

    def owners_of(self, one: Wanted) -> set[UUID]:
        """Everybody whom these subjects and this organisation belong to."""
        found = {self.owners[subject] for subject in one.subjects if subject in self.owners}
        if one.organisation is not None and one.organisation.code_tag in self.organisations:
            found.add(self.organisations[one.organisation.code_tag])
        return found

    def decide(self, one: Wanted) -> Enrolled | NotEnrolled:
        """What becomes of one, after those before it."""
        owners = self.owners_of(one)
        if len(owners) > 1 or any(self.kinds[owner] != one.kind or owner in self.barred for owner in owners):
            return ParticipantConflict()
        participant_id = next(iter(owners), one.new_id)
        code_tag = None if one.organisation is None else one.organisation.code_tag
        if code_tag is not None and self.codes.get(participant_id, code_tag) != code_tag:
            return ParticipantConflict()
        programme = self.programmes.setdefault(participant_id, self.programme)
        if any(link.programme != programme for link in one.links):
            return ProgrammeMismatch()
        if not owners:
            self.opened.append(one)
            self.kinds[participant_id] = one.kind
        if one.organisation is not None:
            self._take(participant_id, one.organisation)
        for subject, link in zip(one.subjects, one.links, strict=True):
            self.owners[subject] = participant_id
            if subject not in self.live:
                self.live[subject] = link.link_id
                self.linked.append((participant_id, link))
            self.consents.append((participant_id, self.live[subject], link))
        return Enrolled(participant_id, tuple(self.live[subject] for subject in one.subjects), created=not owners)

    def _take(self, participant_id: UUID, organisation: NewOrganisation) -> None:
        if participant_id not in self.codes:
            self.codes[participant_id] = organisation.code_tag
            self.organisations[organisation.code_tag] = participant_id
            self.taken[organisation.code_tag] = participant_id, organisation
        self.mandates.append((participant_id, organisation))


_KNOWN = """
    SELECT l.source_id, l.subject_tag, l.participant_id, p.kind, l.link_id, l.withdrawn_at IS NULL AS live
    FROM service.link l JOIN service.participant p USING (participant_id)
    WHERE (l.source_id, l.subject_tag) IN (SELECT * FROM unnest($1::int4[], $2::bytea[]))
"""

_PROGRAMMES = "SELECT participant_id, programme FROM ledger.account WHERE participant_id = ANY($1)"

_LOCK = "SELECT FROM ledger.account WHERE participant_id = ANY($1) ORDER BY participant_id FOR UPDATE"

_ENROL = """
    INSERT INTO service.participant (participant_id, kind, programme, region, enrolled_at)
    SELECT new.participant_id, new.kind, $3, $4, clock_timestamp()
    FROM unnest($1::uuid[], $2::text[]) AS new (participant_id, kind)
"""

# Two enrolments of one subject at once meet in the index of live links.
_TAKE_LINKS = """
    INSERT INTO service.link (source_id, subject_tag, key_version, link_id, participant_id, linked_at)
    SELECT new.*, clock_timestamp()
    FROM unnest($1::int4[], $2::bytea[], $3::int2[], $4::uuid[], $5::uuid[]) AS new
    ON CONFLICT (source_id, subject_tag) WHERE withdrawn_at IS NULL DO NOTHING
"""

# A subject that somebody else was linked by and left, after it was read here that nobody had it.
_STRANGERS = """
    SELECT true FROM service.link WHERE (source_id, subject_tag) IN (SELECT * FROM unnest($1::int4[], $2::bytea[]))
    GROUP BY source_id, subject_tag HAVING count(DISTINCT participant_id) > 1 LIMIT 1
"""

_CONSENTS = """
    INSERT INTO service.consent (participant_id, link_id, source_id, purpose, text_version, given_at, recorded_at)
    SELECT new.*, clock_timestamp()
    FROM unnest($1::uuid[], $2::uuid[], $3::int4[], $4::text[], $5::text[], $6::timestamptz[]) AS new
    ON CONFLICT DO NOTHING
"""  # a conflict is the same consent to the same text, given again


async def enrol(
    tx: Connection,
    vault: Vault,
    new_id: UUID,
    links: Sequence[NewLink],
    *,
    kind: str,
    programme: str,
    region: str,
    organisation: NewOrganisation | None = None,
) -> Enrolled:
    """Enrol one participant, as enrol_all does; raises what that gives as an outcome: ParticipantConflict,
    ProgrammeMismatch. Raises EnrolledMeanwhile."""
    wanted = Wanted(new_id, kind, tuple(links), organisation)
    (outcome,) = await enrol_all(tx, vault, [wanted], programme=programme, region=region)
    if isinstance(outcome, Enrolled):
        return outcome
    raise outcome


async def enrol_all(
    tx: Connection, vault: Vault, wanted: Sequence[Wanted], *, programme: str, region: str
) -> list[Enrolled | NotEnrolled]:
    """Enrol participants with their links, or find those whom their subjects or organisations belong to and make the
    links that are missing; an outcome for each, in order, of which none harms another. Who is new gets a data key.

    ParticipantConflict is the outcome when the subjects and the organisation belong to several participants or to one
    of another kind, ProgrammeMismatch when a source is of another programme than the participant.

    Raises EnrolledMeanwhile when the transaction is to be rolled back and run again.
    """
    book = await _read(tx, wanted, programme)
    outcomes = [book.decide(one) for one in wanted]
    if book.opened:
        ids, kinds = [one.new_id for one in book.opened], [one.kind for one in book.opened]
        await tx.execute(_ENROL, ids, kinds, programme, region)
        await open_accounts(tx, ids, kinds, programme=programme, region=region)
        await make_keys(tx, vault, ids)
    if book.taken and not await take_codes(tx, [book.taken[code_tag] for code_tag in sorted(book.taken)]):
        raise EnrolledMeanwhile
    if book.mandates:
        await record_mandates(tx, sorted(book.mandates, key=lambda given: given[0]))
    if book.linked:
        await _make_links(tx, book)
    if book.consents:
        await _record_consents(tx, book)
    return outcomes


async def _read(tx: Connection, wanted: Sequence[Wanted], programme: str) -> _Book:
    """What is known; the accounts of those who are known and get a link or a code are locked."""
    book = _Book(programme)
    subjects = [subject for one in wanted for subject in one.subjects]
    for row in await tx.fetch(_KNOWN, *_columns(subjects)) if subjects else ():
        subject = row["source_id"], row["subject_tag"]
        book.owners[subject] = row["participant_id"]
        book.kinds[row["participant_id"]] = row["kind"]
        if row["live"]:
            book.live[subject] = row["link_id"]
    tags = [one.organisation.code_tag for one in wanted if one.organisation is not None]
    for code_tag, (participant_id, kind) in (await find_organisations(tx, tags) if tags else {}).items():
        book.organisations[code_tag] = participant_id
        book.kinds[participant_id] = kind
    if book.kinds:
        touched = {
            owner
            for one in wanted
            if one.organisation is not None or any(subject not in book.live for subject in one.subjects)
            for owner in book.owners_of(one)
        }
        if touched:
            await tx.execute(_LOCK, list(touched))
            book.barred = await read_barred(tx, touched)
        if tags:  # under the locks: that a participant is one organisation is decided here
            book.codes = await codes_of(tx, list(book.kinds))
        book.programmes = {row[0]: row[1] for row in await tx.fetch(_PROGRAMMES, list(book.kinds))}
    return book


async def _make_links(tx: Connection, book: _Book) -> None:
    made = sorted(book.linked, key=lambda pair: (pair[1].source_id, pair[1].subject_tag))
    rows = [(link.source_id, link.subject_tag, link.key_version, link.link_id, owner) for owner, link in made]
    done: str = await tx.execute(_TAKE_LINKS, *_columns(rows))
    if done != f"INSERT 0 {len(rows)}":
        raise EnrolledMeanwhile
    if await tx.fetchval(_STRANGERS, *_columns([row[:2] for row in rows])):
        raise EnrolledMeanwhile
    await bring_back(tx, [(owner, "subject", link.source_id, link.subject_tag) for owner, link in made])


async def _record_consents(tx: Connection, book: _Book) -> None:
    rows = sorted(
        (owner, link_id, link.source_id, link.purpose, link.text_version, link.given_at)
        for owner, link_id, link in book.consents
    )
    await tx.execute(_CONSENTS, *_columns(rows))


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    """Rows, at least one, turned into columns, for unnest."""
    return [list(column) for column in zip(*rows, strict=True)]
