"""Correction 更正: what a person may have put right by themselves, with its history.

Region and identity are corrected in place. What the ledger holds is corrected by new transfers alone: a source corrects
or takes back its own report, an operator reverses a credit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal
from uuid import UUID

from service.database import Connection
from service.participants import ParticipantNotFound, exclude_postings
from service.rights.guardians import end_links, guardian_needed_until, note_birth, read_need
from service.vault import Vault, read_identity, write_identity

By = Literal["participant", "guardian", "operator"]
HISTORY = 1_000  # corrections in one answer

_LOCK = "SELECT true FROM ledger.account WHERE participant_id = $1 FOR UPDATE"
_REGION = "SELECT region FROM service.participant WHERE participant_id = $1"
_SET_REGION = "UPDATE service.participant SET region = $2 WHERE participant_id = $1"
_WRITE = """
    INSERT INTO service.correction (participant_id, number, field, before, after, corrected_by, corrected_at)
    SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4, $5, clock_timestamp()
    FROM service.correction WHERE participant_id = $1
"""
_READ = """
    SELECT number, field, before, after, corrected_by, corrected_at FROM service.correction
    WHERE participant_id = $1 ORDER BY number DESC LIMIT $2
"""


class NothingKnown(Exception):
    """Nothing is known of who this participant is, so that nothing of it can be corrected."""


class GuardianCorrects(Exception):
    """A child's month of birth is corrected by the guardian, for it decides whether there has to be one."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """One correction; `before` and `after` of a region alone, for other values stand in the vault."""

    number: int
    field: str
    before: str | None
    after: str | None
    corrected_by: str
    corrected_at: datetime


async def correct(
    tx: Connection, vault: Vault, participant_id: UUID, values: Mapping[str, str], *, by: By, today: date
) -> None:
    """Put right what `values` name: `region` (six digits), `name`, `birth_month` (YYYY-MM). In a transaction, as its
    first lock. Who turns out to be under 14 and has no guardian's consent is linked no more.

    Raises ParticipantNotFound, NothingKnown, GuardianCorrects.
    """
    if "birth_month" in values:
        await exclude_postings(tx)
    if not await tx.fetchval(_LOCK, participant_id):
        raise ParticipantNotFound
    if "region" in values:
        before = await tx.fetchval(_REGION, participant_id)
        if before != values["region"]:
            await tx.execute(_SET_REGION, participant_id, values["region"])
            await tx.execute(_WRITE, participant_id, "region", before, values["region"], by)
    told = {name: values[name] for name in ("name", "birth_month") if name in values}
    if not told:
        return
    identity = await read_identity(tx, vault, participant_id, purpose="correction")
    if identity is None:
        raise NothingKnown
    changed = {name: value for name, value in told.items() if identity.get(name) != value}
    if "birth_month" in changed:
        born_in = date.fromisoformat(f"{changed['birth_month']}-01")
        need = await read_need(tx, participant_id, today)
        if need is not None and by == "participant" and guardian_needed_until(born_in) < need.until:
            raise GuardianCorrects
        if await note_birth(tx, participant_id, born_in, today) and not (need and need.consented):
            await end_links(tx, participant_id)
    if changed:
        await write_identity(tx, vault, participant_id, identity | changed)
    for name in changed:
        await tx.execute(_WRITE, participant_id, "birth" if name == "birth_month" else name, None, None, by)


async def read_corrections(tx: Connection, participant_id: UUID) -> list[Corrected]:
    """What was corrected, the newest first."""
    return [Corrected(**row) for row in await tx.fetch(_READ, participant_id, HISTORY)]
