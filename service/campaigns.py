"""Campaigns' budgets: points that a funder adds to what a rule gives, drawn from slots so that no row is hot.

A budget belongs to a campaign of a rule, through all versions of the rule: a new version draws on what is left, and a
raised budget is added once.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, SmallInteger, Text
from sqlmodel import Field

from ledger.errors import LedgerInvariantBroken
from service.database import Connection, ServiceTable

SLOTS = 16  # batches draw from different ones; more would only spread the last points thinner

CampaignKey = tuple[str, str]
"""The id of a points rule, whichever version, and of a campaign in it."""


class CampaignSlot(ServiceTable, table=True):
    """A part of a campaign's budget, and what is left of it; what is returned may lie in another part than before."""

    __tablename__ = "campaign_slot"
    points_rule: str = Field(sa_column=Column(Text, primary_key=True))
    campaign: str = Field(sa_column=Column(Text, primary_key=True))
    slot: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    budget_points: int = Field(sa_column=Column(BigInteger, nullable=False))
    left_points: int = Field(sa_column=Column(BigInteger, nullable=False))


@dataclass(slots=True)
class Slot:
    """A locked part of a budget; `left` changes with what the batch decides, `was` is what the row says."""

    campaign: CampaignKey
    slot: int
    left: int
    was: int


@dataclass(slots=True)
class Offer:
    """What a batch may draw from a campaign at most, and the campaign's budget as its document says."""

    points: int
    budget: int


_OPEN = """
    INSERT INTO service.campaign_slot (points_rule, campaign, slot, budget_points, left_points)
    SELECT $1, $2, slot, share, share FROM unnest($3::int2[], $4::int8[]) AS s (slot, share) ORDER BY slot
    ON CONFLICT DO NOTHING
"""  # who is first opens the budget, and everybody opens the same
_SEE = """
    SELECT slot, budget_points, left_points FROM service.campaign_slot
    WHERE points_rule = $1 AND campaign = $2 ORDER BY slot
"""
_LOCK = """
    SELECT slot, left_points FROM service.campaign_slot
    WHERE points_rule = $1 AND campaign = $2 AND slot = ANY($3) ORDER BY slot FOR UPDATE
"""
_RAISE = """
    UPDATE service.campaign_slot c
    SET left_points = c.left_points + s.share - c.budget_points, budget_points = s.share
    FROM unnest($3::int2[], $4::int8[]) AS s (slot, share)
    WHERE c.points_rule = $1 AND c.campaign = $2 AND c.slot = s.slot AND c.budget_points < s.share
"""  # its rows are locked in their order by then
_LOCK_ANY = """
    SELECT slot, left_points FROM service.campaign_slot WHERE points_rule = $1 AND campaign = $2
    ORDER BY left_points FOR UPDATE SKIP LOCKED LIMIT 1
"""
_WRITE = """
    UPDATE service.campaign_slot c SET left_points = n.left_points
    FROM unnest($1::text[], $2::text[], $3::int2[], $4::int8[]) AS n (points_rule, campaign, slot, left_points)
    WHERE c.points_rule = n.points_rule AND c.campaign = n.campaign AND c.slot = n.slot
"""


class BudgetMoved(Exception):
    """The slots are not as they were seen, or all in use: the batch is to be tried again."""


def shares(budget: int) -> list[int]:
    """A budget in as many parts as there are slots; none of a larger budget is smaller."""
    return [budget // SLOTS + (slot < budget % SLOTS) for slot in range(SLOTS)]


async def open_slots(tx: Connection, campaign: CampaignKey, offer: Offer) -> list[Slot]:
    """Lock enough of a campaign's budget for the points a batch may draw: one slot that has them, else all slots in
    their order, so that only their sum says no.

    Called once for each campaign, in the order of their keys. Raises BudgetMoved.
    """
    parts = shares(offer.budget)
    seen = await tx.fetch(_SEE, *campaign)
    if not seen:
        await tx.execute(_OPEN, *campaign, list(range(SLOTS)), parts)
        seen = await tx.fetch(_SEE, *campaign)
    if any(row["budget_points"] < parts[row["slot"]] for row in seen):
        await tx.fetch(_LOCK, *campaign, list(range(SLOTS)))
        await tx.execute(_RAISE, *campaign, list(range(SLOTS)), parts)
        seen = await tx.fetch(_SEE, *campaign)
    rich = [row["slot"] for row in seen if row["left_points"] >= offer.points]
    rows = await tx.fetch(_LOCK, *campaign, [random.choice(rich)] if rich else list(range(SLOTS)))
    if rich and rows[0]["left_points"] < offer.points:
        raise BudgetMoved(f"another batch drew from {campaign[1]} between two statements")
    return [Slot(campaign, slot, left, left) for slot, left in rows]


async def lock_any_slot(tx: Connection, campaign: CampaignKey) -> Slot:
    """Lock a slot that nobody has, to give points back to: it is never waited for, so that no order is needed.

    Raises BudgetMoved when others have all of them.
    """
    row = await tx.fetchrow(_LOCK_ANY, *campaign)
    if row is None and not await tx.fetch(_SEE, *campaign):
        raise LedgerInvariantBroken(f"points came out of the budget of {campaign[1]}, which was never opened")
    if row is None:
        raise BudgetMoved(f"others have all slots of {campaign[1]}")
    return Slot(campaign, row["slot"], row["left_points"], row["left_points"])


async def write_slots(tx: Connection, slots: Sequence[Slot]) -> None:
    """Store what is left of the budgets that were drawn from or given back to."""
    changed = [slot for slot in slots if slot.left != slot.was]
    if changed:
        rows = [(*slot.campaign, slot.slot, slot.left) for slot in changed]
        await tx.execute(_WRITE, *map(list, zip(*rows, strict=True)))
