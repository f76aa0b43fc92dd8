"""What a batch knows of redemptions, and what it will write of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from ledger.holds import Grams, Hold
from ledger.journal import Line
from service.activities.intake import Refusal
from service.database import Connection
from service.products.model import Facts
from service.redemption.commands import MoneyCall, RedemptionState
from service.redemption.pools import Pool, Slot, write_slots
from service.redemption.store import (
    Answered,
    Capture,
    Entry,
    store_refusals,
    write_changed,
    write_entries,
    write_granted,
    write_new,
)
from service.vault import DataKey


@dataclass(slots=True)
class Redeeming:
    """Read under the participants' locks, changed by what is decided.

    answers   of calls that came before, by the tag of their key
    states    redemptions that are held, and those the commands name; `holds` are theirs
    lines     of holds and captures, by transfer
    steps     of redemptions whose calls came before
    standing  by offer and version: why it cannot be held now, None when it can
    facts     by participant and offer
    grams     of participants whose grams are to pass
    barred    people for whom nothing may be held, with the slug that says why
    approved  requests of banks that were approved before
    queued    pools that somebody waits for
    wishes    of those whose turn has come, which still wait
    granted   wishes that end with a hold: participant, wish and hold
    drawn     points that stand of today's redemptions, by participant and pool
    withheld  points of participants that wait for a review
    slots     the locked parts of budgets and daily limits
    new       with their holds, the salt of their terms and the terms
    """

    answers: Mapping[bytes, Answered] = field(default_factory=dict)
    states: dict[UUID, RedemptionState] = field(default_factory=dict)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    lines: dict[UUID, tuple[Line, ...]] = field(default_factory=dict)
    captures: dict[UUID, Capture] = field(default_factory=dict)
    steps: Mapping[UUID, list[Entry]] = field(default_factory=dict)
    standing: dict[tuple[str, int], str | None] = field(default_factory=dict)
    facts: dict[tuple[UUID, str], Facts] = field(default_factory=dict)
    grams: Mapping[UUID, Grams] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    barred: Mapping[UUID, str] = field(default_factory=dict)
    approved: Collection[UUID] = ()
    queued: Collection[str] = ()
    wishes: Collection[UUID] = ()
    granted: list[tuple[UUID, UUID, UUID]] = field(default_factory=list)
    drawn: dict[tuple[UUID, str], int] = field(default_factory=dict)
    withheld: Mapping[UUID, int] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    new: list[tuple[RedemptionState, Hold, bytes, bytes]] = field(default_factory=list)
    changed: set[UUID] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    refused: list[tuple[MoneyCall, Refusal]] = field(default_factory=list)

    async def write(self, tx: Connection, keys: Mapping[UUID, DataKey]) -> None:
        """Write all that was decided, a statement per table; `keys` are the data keys of those with new redemptions."""
        await write_new(tx, self.new, keys)
        await write_changed(tx, [(self.states[each], self.holds[each]) for each in sorted(self.changed)])
        await write_entries(tx, self.entries)
        await store_refusals(tx, self.refused)
        await write_granted(tx, self.granted)
        await write_slots(tx, self.slots)
