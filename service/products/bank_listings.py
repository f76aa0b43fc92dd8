"""A bank that is suspended takes its offers off the board with it, and the log hears of each: a bank has no leaf of its
own, its offers have."""

from service.clock import shanghai_day
from service.database import Connection
from service.products.listing import Desk, listing_faults, step_listing
from service.products.parsing import parse_listing

BANK_SUSPENDED = "bank_suspended"
"""Why an offer was suspended, a code."""

_NOW = "SELECT clock_timestamp() + $1::interval"
_LISTED = """
    SELECT d.document FROM service.listing l JOIN service.listing_document d USING (kind, id, version)
    WHERE l.kind = 'offer' AND l.state = 'listed' AND d.bank = $1 ORDER BY l.id, l.version FOR UPDATE OF l
"""
# Of those that were suspended for themselves nobody knows that they are well again.
_SUSPENDED = """
    SELECT d.document FROM service.listing l JOIN service.listing_document d USING (kind, id, version)
    WHERE l.kind = 'offer' AND l.state = 'suspended' AND d.bank = $1 AND (
        SELECT c.reason FROM service.listing_change c WHERE (c.kind, c.id, c.version) = (l.kind, l.id, l.version)
        ORDER BY c.change_id DESC LIMIT 1) = $2
    ORDER BY l.id, l.version FOR UPDATE OF l
"""


async def suspend_offers_of(tx: Connection, bank: str, operator: str, desk: Desk) -> int:
    """Suspend every listed offer of a bank that is suspended; how many. The caller shuts postings out first."""
    now = await tx.fetchval(_NOW, desk.clock_offset)
    offers = [parse_listing(row["document"]) for row in await tx.fetch(_LISTED, bank)]
    for offer in offers:
        await step_listing(tx, offer, "suspended", operator, BANK_SUSPENDED, now, desk)
    return len(offers)


async def resume_offers_of(tx: Connection, bank: str, operator: str, desk: Desk) -> int:
    """Put back what went with a bank that is resumed, where nothing else stands against it; how many."""
    now = await tx.fetchval(_NOW, desk.clock_offset)
    resumed = 0
    for row in await tx.fetch(_SUSPENDED, bank, BANK_SUSPENDED):
        offer = parse_listing(row["document"])
        if not await listing_faults(tx, offer, desk, shanghai_day(now)):
            await step_listing(tx, offer, "resumed", operator, None, now, desk)
            resumed += 1
    return resumed
