"""The board's desk: documents come in, two people list them, and they go down at once when somebody or a rule says so.

    submitted ──two approvals──► listed ◄──resume── suspended
                                   │ ──suspend──────►  │
                                   └──────► taken_down ◄┘      for good: what is mended is a new version

Each step is a row that stays; each but the first two is a leaf of the log. Whatever changes what may be held waits for
what is being posted, so that no hold rests on an offer that was already down. A hold that stands is nobody's to strand:
it can be captured whatever becomes of its offer.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import asyncpg

from ledger.leaves import NONCE_BYTES
from ledger.notices import ListingFacts, listing_leaf
from service.clock import Fresh, shanghai_day
from service.database import Connection
from service.participants import exclude_postings
from service.products.evidence import faults, good_through, offer_faults
from service.products.model import DocumentKind, Offer, Product, Reason
from service.products.parsing import parse_listing

RULE = "rule"  # who takes down by itself, in the place of an operator's code
APPROVERS = 2
SUPERSEDED = "superseded"


class ListingNotFound(Exception):
    """Nothing of this kind, id and version was submitted."""


class DocumentConflict(Exception):
    """Another document was submitted under this id and version; `digest` is its digest, hex."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


class ListingRefused(Exception):
    """What the document or the world says against being on the board, each with its reason. Nothing was recorded."""

    def __init__(self, reasons: tuple[Reason, ...]) -> None:
        super().__init__(", ".join(reason.code for reason in reasons))
        self.reasons = reasons


class AlreadyApproved(Exception):
    """This operator has approved this version before: the second approval is another person's."""


class ListingStateWrong(Exception):
    """The step is not one from the state the document is in."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


@dataclass(frozen=True, slots=True)
class Desk:
    """What every step is done under: the programme, which documents' statuses it lists, and where time comes from."""

    programme: str
    allowed_statuses: Collection[str]
    fresh: Fresh
    clock_offset: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a document, as it is told to anyone; `operator` is a code, or `rule`."""

    version: int
    action: str
    operator: str
    reason: str | None
    recorded_at: datetime


_ADD = """
    INSERT INTO service.listing_document
        (kind, id, version, digest, bank, product, document, submitted_by, submitted_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING RETURNING true
"""  # a conflict is not swallowed: submit() compares the two
_DIGEST = "SELECT digest FROM service.listing_document WHERE kind = $1 AND id = $2 AND version = $3"
_PLACE = "INSERT INTO service.listing (kind, id, version, state, changed_at) VALUES ($1, $2, $3, 'submitted', $4)"
_CHANGE = """
    INSERT INTO service.listing_change (kind, id, version, action, operator, reason, recorded_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_LOCK = """
    SELECT l.state, d.document FROM service.listing l JOIN service.listing_document d USING (kind, id, version)
    WHERE l.kind = $1 AND l.id = $2 AND l.version = $3 FOR UPDATE OF l
"""
_APPROVED = """
    SELECT operator FROM service.listing_change
    WHERE kind = $1 AND id = $2 AND version = $3 AND action = 'approved' ORDER BY change_id
"""
_CURRENT = """
    SELECT d.document FROM service.listing l JOIN service.listing_document d USING (kind, id, version)
    WHERE l.kind = $1 AND l.id = $2 AND l.state = ANY($3)
"""
_MOVE = """
    UPDATE service.listing SET state = $4, good_through = $5, changed_at = $6
    WHERE kind = $1 AND id = $2 AND version = $3
"""
_HISTORY = """
    SELECT version, action, operator, reason, recorded_at FROM service.listing_change
    WHERE kind = $1 AND id = $2 ORDER BY change_id
"""
_NOW = "SELECT clock_timestamp() + $1::interval"
_QUEUE = "INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)"
_DUE = """
    SELECT d.document FROM service.listing l JOIN service.listing_document d USING (kind, id, version)
    WHERE l.state IN ('listed', 'suspended') AND l.good_through < $1 ORDER BY l.kind, l.id, l.version
"""
_BANK = "SELECT state FROM service.bank WHERE uri = $1 AND programme = $2"
_POOL = "SELECT state, rate_fen, rate_points FROM service.pool WHERE pool = $1 AND programme = $2"


async def submit(tx: Connection, document: Product | Offer, operator: str, desk: Desk) -> bool:
    """Keep a document that was read, in the caller's transaction; whether it is new. The same again changes nothing.

    operator   the code of who submits it; it is no approval

    Raises DocumentConflict.
    """
    now: datetime = await tx.fetchval(_NOW, desk.clock_offset)
    key = (document.kind, document.id, document.version)
    product = document.product if isinstance(document, Offer) else None
    digest = bytes.fromhex(document.digest)
    if not await tx.fetchval(_ADD, *key, digest, document.bank, product, document.document, operator, now):
        known: bytes = await tx.fetchval(_DIGEST, *key)
        if known != digest:
            raise DocumentConflict(known.hex())
        return False
    await tx.execute(_PLACE, *key, now)
    await tx.execute(_CHANGE, *key, "submitted", operator, None, now)
    return True


async def approve(tx: Connection, kind: DocumentKind, id_: str, version: int, operator: str, desk: Desk) -> str:
    """Record one person's approval; the second person's lists the document, and takes down the version before it.

    returns   the state it is in then, `submitted` or `listed`

    Raises ListingNotFound, ListingStateWrong, AlreadyApproved, ListingRefused: the evidence has to hold for both.
    """
    await exclude_postings(tx)
    now: datetime = await tx.fetchval(_NOW, desk.clock_offset)
    state, document = await _locked(tx, kind, id_, version)
    if state != "submitted":
        raise ListingStateWrong(state)
    found = await listing_faults(tx, document, desk, shanghai_day(now))
    if found:
        raise ListingRefused(found)
    approvers = [row["operator"] for row in await tx.fetch(_APPROVED, kind, id_, version)]
    if operator in approvers:
        raise AlreadyApproved
    await tx.execute(_CHANGE, kind, id_, version, "approved", operator, None, now)
    approvers.append(operator)
    if len(approvers) < APPROVERS:
        return state
    before = await _current(tx, kind, id_, ("listed", "suspended"))
    if before is not None:
        await step_listing(tx, before, "taken_down", RULE, SUPERSEDED, now, desk)
    await step_listing(tx, document, "listed", operator, None, now, desk, tuple(approvers))
    return "listed"


async def suspend(
    tx: Connection, kind: DocumentKind, id_: str, version: int, operator: str, reason: str, desk: Desk
) -> None:
    """Give out no more of it, from this moment on. `reason` is a code. Raises ListingNotFound, ListingStateWrong."""
    document, now = await _changeable(tx, kind, id_, version, ("listed",), desk)
    await step_listing(tx, document, "suspended", operator, reason, now, desk)


async def resume(tx: Connection, kind: DocumentKind, id_: str, version: int, operator: str, desk: Desk) -> None:
    """Put it back on the board, if its evidence still holds. Raises ListingNotFound, ListingStateWrong,
    ListingRefused."""
    document, now = await _changeable(tx, kind, id_, version, ("suspended",), desk)
    found = await listing_faults(tx, document, desk, shanghai_day(now))
    if found:
        raise ListingRefused(found)
    await step_listing(tx, document, "resumed", operator, None, now, desk)


async def take_down(
    tx: Connection, kind: DocumentKind, id_: str, version: int, operator: str, reason: str, desk: Desk
) -> None:
    """Take it off the board for good. `reason` is a code. Raises ListingNotFound, ListingStateWrong."""
    document, now = await _changeable(tx, kind, id_, version, ("listed", "suspended"), desk)
    await step_listing(tx, document, "taken_down", operator, reason, now, desk)


async def sweep_listings(tx: Connection, desk: Desk) -> int:
    """Take down what its evidence no longer carries, with the reason; how many. In the worker's transaction.

    Nobody could hold it since midnight anyhow: this writes it down.
    """
    now: datetime = await tx.fetchval(_NOW, desk.clock_offset)
    today = shanghai_day(now)
    if not await tx.fetch(_DUE, today):
        return 0
    await exclude_postings(tx)
    due = [parse_listing(row["document"]) for row in await tx.fetch(_DUE, today)]
    for document in due:
        found = faults(document, today) if isinstance(document, Product) else ()
        await step_listing(tx, document, "taken_down", RULE, found[0].code if found else "ended", now, desk)
    return len(due)


async def read_history(tx: Connection, kind: DocumentKind, id_: str) -> list[Change]:
    """Every step of every version, in their order."""
    return [Change(**row) for row in await tx.fetch(_HISTORY, kind, id_)]


async def listing_faults(tx: Connection, document: Product | Offer, desk: Desk, day: date) -> tuple[Reason, ...]:
    """What stands against the document being on the board on this day: its evidence, its bank, its pool, its
    product."""
    found: list[Reason] = []
    if await tx.fetchval(_BANK, document.bank, desk.programme) != "active":
        text = (f"银行 {document.bank} 未登记或已暂停", f"the bank {document.bank} is not registered, or is suspended")
        found.append(Reason("bank-not-active", *text))
    current = await _current(tx, document.kind, document.id, ("listed", "suspended"))
    if current is not None and current.version > document.version:
        text = (f"第 {current.version} 版已上架", f"version {current.version} is listed, which is newer")
        found.append(Reason("not-the-newest", *text))
    elif current is not None and current.version < document.version and day < document.valid.first:
        text = (f"须待其首日 {document.valid.first} 方可替换旧版", f"until {document.valid.first} it replaces nothing")
        found.append(Reason("replaces-too-early", *text))
    if isinstance(document, Product):
        if document.status not in desk.allowed_statuses:
            text = ("本部署不上架演示产品", "this deployment lists no demonstrations")
            found.append(Reason("status-not-allowed", *text))
        return (*found, *faults(document, day))
    product = await _current(tx, "product", document.product, ("listed",))
    assert product is None or isinstance(product, Product)
    found += offer_faults(document, product, day)
    found += _pool_faults(document, await tx.fetchrow(_POOL, document.pool, desk.programme))
    return tuple(found)


def _pool_faults(offer: Offer, pool: asyncpg.Record | None) -> list[Reason]:
    if pool is None or pool["state"] != "open":
        text = (f"资金池 {offer.pool} 未开放", f"the reward pool {offer.pool} is not open")
        return [Reason("pool-not-open", *text)]
    cheapest = min([offer.points_per_unit, *(tier.points_per_unit for tier in offer.tiers)])
    if offer.value_fen_per_unit * pool["rate_points"] > cheapest * pool["rate_fen"]:
        rate = f"{pool['rate_fen']} / {pool['rate_points']}"
        zh = f"每份价值高于资金池的兑付标准（{rate} 分钱/积分）"
        return [Reason("beyond-pool-rate", zh, f"a unit costs more than the pool pays: {rate} fen for points")]
    return []


async def _locked(tx: Connection, kind: DocumentKind, id_: str, version: int) -> tuple[str, Product | Offer]:
    row = await tx.fetchrow(_LOCK, kind, id_, version)
    if row is None:
        raise ListingNotFound
    return row["state"], parse_listing(row["document"])


async def _changeable(
    tx: Connection, kind: DocumentKind, id_: str, version: int, states: Collection[str], desk: Desk
) -> tuple[Product | Offer, datetime]:
    await exclude_postings(tx)
    state, document = await _locked(tx, kind, id_, version)
    if state not in states:
        raise ListingStateWrong(state)
    now: datetime = await tx.fetchval(_NOW, desk.clock_offset)
    return document, now


async def _current(tx: Connection, kind: DocumentKind, id_: str, states: Collection[str]) -> Product | Offer | None:
    document = await tx.fetchval(_CURRENT, kind, id_, list(states))
    return None if document is None else parse_listing(document)


async def step_listing(
    tx: Connection,
    document: Product | Offer,
    action: str,
    operator: str,
    reason: str | None,
    now: datetime,
    desk: Desk,
    approvers: tuple[str, ...] = (),
) -> None:
    """One step after the approvals: its row, where the document stands then, and the leaf."""
    key = (document.kind, document.id, document.version)
    last = good_through(document) if isinstance(document, Product) else document.valid.last
    await tx.execute(_CHANGE, *key, action, operator, reason, now)
    await tx.execute(_MOVE, *key, "listed" if action == "resumed" else action, last, now)
    facts = ListingFacts(desk.programme, action, *key, document.digest, approvers, reason)
    await tx.execute(_QUEUE, listing_leaf(facts, now, desk.fresh.random(NONCE_BYTES)))
