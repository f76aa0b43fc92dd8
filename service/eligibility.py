"""Who may earn 资格: the facts a posting batch looks up of organisations, registers and waivers, each in one statement
for the whole batch. What follows from them is decided where activities are posted."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from service.database import Connection


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a register that stands: the scheme, its days (`valid_to` is None while no end is known), and the
    document it was taken from."""

    scheme: str
    valid_from: date
    valid_to: date | None
    source: str

    def touches(self, first: date, last: date) -> bool:
        """Whether it holds on any of these days; its own first and last day are in it."""
        return self.valid_from <= last and (self.valid_to is None or first <= self.valid_to)


_ORGANISATIONS = "SELECT participant_id, code_tag FROM service.organisation WHERE participant_id = ANY($1::uuid[])"

_ENTRIES = """
    SELECT register, subject_tag, scheme, valid_from, valid_to, source FROM service.register_entry
    WHERE register = ANY($1::text[]) AND subject_tag = ANY($2::bytea[]) AND withdrawn_at IS NULL
    ORDER BY valid_from, scheme, entry_id
"""

_WAIVERS = """
    SELECT participant_id, installation_tag FROM service.waiver
    WHERE (participant_id, installation_tag) IN (SELECT * FROM unnest($1::uuid[], $2::bytea[]))
"""


async def read_organisations(tx: Connection, participant_ids: Collection[UUID]) -> dict[UUID, bytes]:
    """The tag of each participant's unified social credit code; those that are no organisation are absent."""
    if not participant_ids:
        return {}
    rows = await tx.fetch(_ORGANISATIONS, list(participant_ids))
    return {row["participant_id"]: row["code_tag"] for row in rows}


async def read_entries(
    tx: Connection, register_names: Collection[str], subject_tags: Collection[bytes]
) -> dict[tuple[str, bytes], list[Entry]]:
    """What these registers say of these subjects, by register and tag, in order of their first days.

    Withdrawn entries are left out, and subjects without an entry are absent.
    """
    if not register_names or not subject_tags:
        return {}
    found: dict[tuple[str, bytes], list[Entry]] = {}
    for register, tag, *entry in await tx.fetch(_ENTRIES, list(register_names), list(subject_tags)):
        found.setdefault((register, tag), []).append(Entry(*entry))
    return found


async def read_waivers(tx: Connection, pairs: Iterable[tuple[UUID, bytes]]) -> set[tuple[UUID, bytes]]:
    """Those of these pairs of a participant and an installation's tag whose trading was given up."""
    wanted = list(pairs)
    if not wanted:
        return set()
    rows = await tx.fetch(_WAIVERS, [participant for participant, _ in wanted], [tag for _, tag in wanted])
    return {(row["participant_id"], row["installation_tag"]) for row in rows}
