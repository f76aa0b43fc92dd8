"""What a person agreed to, for each purpose: what there is, and how it is taken back."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from service.database import Connection
from service.linking.banks import end_bank_link
from service.participants import LinkNotFound, exclude_postings, withdraw_consent

Purpose = Literal["terms", "carbon-credit", "bank-link"]


class ConsentNotFound(Exception):
    """This person has no consent of this id that is in force."""


class TermsWithdrawn(Exception):
    """This person has taken back their consent to the terms, and has not agreed again since."""


@dataclass(frozen=True, slots=True)
class PersonLink:
    """A source or a bank that knows a person, or did until `ended_at`. Of one party the person has one live link."""

    link_id: UUID
    kind: Literal["source", "bank"]
    uri: str
    title_zh: str
    title_en: str
    linked_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class PersonConsent:
    """One consent to one version of a text.

    consent_id   of a link the link's id, which names all versions that were agreed to for it
    party        the source or the bank that it is about, None of the terms
    """

    consent_id: UUID
    purpose: Purpose
    party: str | None
    text_version: str
    given_at: datetime
    withdrawn_at: datetime | None


_LINKS = """
    SELECT l.link_id, 'source' AS kind, s.uri, s.title_zh, s.title_en, l.linked_at, l.withdrawn_at AS ended_at
    FROM service.link l JOIN service.source s USING (source_id) WHERE l.participant_id = $1
    UNION ALL
    SELECT l.link_id, 'bank', b.uri, b.title_zh, b.title_en, l.linked_at, l.withdrawn_at
    FROM service.bank_link l JOIN service.bank b USING (bank_id) WHERE l.participant_id = $1
    ORDER BY linked_at, link_id LIMIT $2
"""
_CONSENTS = """
    SELECT c.link_id AS consent_id, c.purpose, s.uri AS party, c.text_version, c.given_at, c.withdrawn_at
    FROM service.consent c JOIN service.source s USING (source_id) WHERE c.participant_id = $1
    UNION ALL
    SELECT a.agreement_id, a.purpose, b.uri, a.text_version, a.given_at, a.withdrawn_at
    FROM service.agreement a LEFT JOIN service.bank b USING (bank_id) WHERE a.participant_id = $1
    ORDER BY given_at, consent_id, text_version LIMIT $2
"""
_AGREE_TERMS = """
    INSERT INTO service.agreement (participant_id, agreement_id, purpose, text_version, given_at, recorded_at)
    SELECT $1, $2, 'terms', $3, t.now, t.now FROM (SELECT clock_timestamp() + $4::interval AS now) AS t
"""
_TERMS = """
    SELECT text_version FROM service.agreement
    WHERE participant_id = $1 AND purpose = 'terms' AND withdrawn_at IS NULL
"""
_EVER = "SELECT true FROM service.agreement WHERE participant_id = $1 AND purpose = 'terms' LIMIT 1"
_KIND = """
    SELECT 'source' AS kind FROM service.link WHERE participant_id = $1 AND link_id = $2
    UNION ALL SELECT 'bank' FROM service.bank_link WHERE participant_id = $1 AND link_id = $2
    UNION ALL SELECT 'terms' FROM service.agreement WHERE participant_id = $1 AND agreement_id = $2
        AND purpose = 'terms'
    LIMIT 1
"""
_LOCK_ACCOUNT = "SELECT FROM ledger.account WHERE participant_id = $1 FOR UPDATE"
_END_ALL = (
    "UPDATE service.link SET withdrawn_at = clock_timestamp() WHERE participant_id = $1 AND withdrawn_at IS NULL",
    "UPDATE service.consent SET withdrawn_at = clock_timestamp() WHERE participant_id = $1 AND withdrawn_at IS NULL",
    "UPDATE service.bank_link SET withdrawn_at = clock_timestamp() WHERE participant_id = $1 AND withdrawn_at IS NULL",
    "UPDATE service.agreement SET withdrawn_at = clock_timestamp() WHERE participant_id = $1 AND withdrawn_at IS NULL",
)
MOST = 1_000  # links, or consents, in one answer; nobody has a hundred


async def read_person_links(tx: Connection, participant_id: UUID) -> list[PersonLink]:
    """Every link of a person, ended ones too, in the order in which they were made."""
    return [PersonLink(**row) for row in await tx.fetch(_LINKS, participant_id, MOST)]


async def read_consents(tx: Connection, participant_id: UUID) -> list[PersonConsent]:
    """Every consent of a person, withdrawn ones too, in the order in which they were given."""
    return [PersonConsent(**row) for row in await tx.fetch(_CONSENTS, participant_id, MOST)]


async def agree_to_terms(
    tx: Connection, participant_id: UUID, consent_id: UUID, text_version: str, offset: timedelta
) -> None:
    """Record that a person agrees to the terms, in this version, now."""
    await tx.execute(_AGREE_TERMS, participant_id, consent_id, text_version, offset)


async def agreed_terms(tx: Connection, participant_id: UUID) -> frozenset[str]:
    """The versions of the terms that a person agrees to, not counting what was withdrawn."""
    return frozenset(row["text_version"] for row in await tx.fetch(_TERMS, participant_id))


async def require_terms(tx: Connection, participant_id: UUID) -> None:
    """Raises TermsWithdrawn for somebody who agreed once and took it back. Whoever was enrolled by an operator agreed
    elsewhere."""
    if not await agreed_terms(tx, participant_id) and await tx.fetchval(_EVER, participant_id):
        raise TermsWithdrawn


async def end_link(tx: Connection, participant_id: UUID, link_id: UUID) -> None:
    """End a link of either kind, with its consent: nothing is processed under it from here on. Call it inside a
    transaction. Raises LinkNotFound."""
    if await tx.fetchval(_KIND, participant_id, link_id) == "bank":
        await end_bank_link(tx, participant_id, link_id)
    else:
        await withdraw_consent(tx, participant_id, link_id)


async def withdraw(tx: Connection, participant_id: UUID, consent_id: UUID) -> None:
    """Take back a consent: the link that rests on it ends, and with the terms every link and every consent does. Call
    it inside a transaction. Raises ConsentNotFound for one that is not in force."""
    try:
        if await tx.fetchval(_KIND, participant_id, consent_id) != "terms":
            await end_link(tx, participant_id, consent_id)
            return
    except LinkNotFound:
        raise ConsentNotFound from None
    await exclude_postings(tx)
    await tx.execute(_LOCK_ACCOUNT, participant_id)  # so that no link is being made beside this
    if not await agreed_terms(tx, participant_id):
        raise ConsentNotFound
    for statement in _END_ALL:
        await tx.execute(statement, participant_id)
