"""Reward pools 权益资金池: a funder's budget in points and fen, in slots so that no row is hot, and never below zero.

A pool has slots for its budget and, where it has a limit for each day, slots for every day on which something is drawn.
A batch locks one slot that has what it may draw at most, else all of them in their order, so that only their sum says
no. What comes back may lie in another slot than before, and in that of the day it was drawn on while that day lasts.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Literal

import asyncpg

from ledger.errors import LedgerInvariantBroken
from ledger.leaves import NONCE_BYTES
from ledger.notices import PoolFacts, pool_leaf
from ledger.store import queue_leaf
from service.campaigns import SLOTS, BudgetMoved, shares
from service.clock import Fresh
from service.database import Connection
from service.redemption.terms import PoolTerms

PoolState = Literal["open", "suspended", "closed"]
_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CODE = re.compile(r"[a-z][a-z0-9_-]{0,63}")
BUDGET = date.min  # the day of the slots that hold the budget itself; the driver writes it as -infinity
Window = tuple[str, date]
"""A pool, and BUDGET or the day whose limit it is."""


class PoolNotFound(Exception):
    """No pool of this code."""


class PoolConflict(Exception):
    """The pool is there, under other terms: terms are stated once, before anybody draws."""


class ChangeMixed(Exception):
    """A change raises a budget or lowers it, never both."""


class KeyTaken(Exception):
    """Another change was made under this key."""


class BudgetSpent(Exception):
    """A budget cannot be lowered by more than nothing was drawn from yet."""

    def __init__(self, points: int, fen: int) -> None:
        self.points, self.fen = points, fen
        super().__init__(f"only {points} points and {fen} fen are left")


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as it stands: its terms, their SHA-256, and what of its budget is left."""

    terms: PoolTerms
    digest: bytes
    state: PoolState
    budget_points: int
    budget_fen: int
    left_points: int
    left_fen: int
    opened_at: datetime


@dataclass(slots=True)
class Slot:
    """A locked slot; what is left changes with what the batch decides, `was` is what the row says."""

    window: Window
    slot: int
    points: int
    fen: int
    was: tuple[int, int]


@dataclass(slots=True)
class Wish:
    """What a batch may draw from a window at most; `opens` is the limit of a day that nobody drew on before."""

    points: int = 0
    fen: int = 0
    opens: int | None = None


_POOL = """
    SELECT p.*, (SELECT coalesce(sum(CASE action WHEN 'lowered' THEN -c.points ELSE c.points END), 0)::int8
            FROM service.pool_change c WHERE c.pool = p.pool) AS budget_points,
        (SELECT coalesce(sum(CASE action WHEN 'lowered' THEN -c.value_fen ELSE c.value_fen END), 0)::int8
            FROM service.pool_change c WHERE c.pool = p.pool) AS budget_fen,
        (SELECT coalesce(sum(points_left), 0)::int8 FROM service.pool_slot s
            WHERE s.pool = p.pool AND s.day = '-infinity') AS left_points,
        (SELECT coalesce(sum(fen_left), 0)::int8 FROM service.pool_slot s
            WHERE s.pool = p.pool AND s.day = '-infinity') AS left_fen
    FROM service.pool p
"""
_OPEN = """
    INSERT INTO service.pool (pool, programme, funder, title_zh, title_en, rate_fen, rate_points, shortage,
        points_per_day, points_per_person_per_day, state, terms, document, opened_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'open', $11, $12, $13)
    ON CONFLICT (pool) DO NOTHING
"""
_CHANGE = """
    INSERT INTO service.pool_change (pool, number, action, points, value_fen, changed_by, changed_at, reason, call_key)
    SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4, $5, $6, $7, $8
    FROM service.pool_change WHERE pool = $1
"""
_LOCK_POOL = "SELECT state FROM service.pool WHERE pool = $1 FOR UPDATE"
_CHANGED = "SELECT action, points, value_fen FROM service.pool_change WHERE pool = $1 AND call_key = $2"
_ACTION = {"open": "resumed", "suspended": "suspended", "closed": "closed"}
_SET_STATE = "UPDATE service.pool SET state = $2 WHERE pool = $1"

_FILL = """
    INSERT INTO service.pool_slot (pool, day, slot, points_left, fen_left)
    SELECT $1, $2, slot, points, fen FROM unnest($3::int2[], $4::int8[], $5::int8[]) AS s (slot, points, fen)
    ORDER BY slot ON CONFLICT DO NOTHING
"""
_SEE = "SELECT slot, points_left, fen_left FROM service.pool_slot WHERE pool = $1 AND day = $2 ORDER BY slot"
_LOCK = """
    SELECT slot, points_left, fen_left FROM service.pool_slot
    WHERE pool = $1 AND day = $2 AND slot = ANY($3) ORDER BY slot FOR UPDATE
"""
_LOCK_ANY = """
    SELECT slot, points_left, fen_left FROM service.pool_slot WHERE pool = $1 AND day = $2
    ORDER BY points_left FOR UPDATE SKIP LOCKED LIMIT 1
"""
_WRITE = """
    UPDATE service.pool_slot s SET points_left = n.points, fen_left = n.fen
    FROM unnest($1::text[], $2::date[], $3::int2[], $4::int8[], $5::int8[]) AS n (pool, day, slot, points, fen)
    WHERE s.pool = n.pool AND s.day = n.day AND s.slot = n.slot
"""
_ALL_SLOTS = list(range(SLOTS))


async def open_pool(tx: Connection, terms: PoolTerms, *, points: int, fen: int, by: str, fresh: Fresh) -> bool:
    """Open a pool with a budget, and tell the log; False when it is open under these very terms already.

    Raises PoolConflict when it is there under others.
    """
    digest = _digest(terms)
    columns = (terms.pool, terms.programme, terms.funder, terms.title_zh, terms.title_en, terms.rate_fen)
    limits = (terms.rate_points, terms.shortage, terms.points_per_day, terms.points_per_person_per_day)
    done = await tx.execute(_OPEN, *columns, *limits, digest, terms.document, fresh.clock())
    if done == "INSERT 0 0":
        there = await tx.fetchval("SELECT terms FROM service.pool WHERE pool = $1", terms.pool)
        if there != digest:
            raise PoolConflict
        return False
    await _change(tx, terms, "opened", points, fen, by, fresh)
    await tx.execute(_FILL, terms.pool, BUDGET, _ALL_SLOTS, shares(points), shares(fen))
    return True


async def change_pool(
    tx: Connection, pool: str, *, points: int, fen: int, by: str, fresh: Fresh, key: str | None = None
) -> Pool:
    """Raise a pool's budget, or lower it by negative amounts, and tell the log; the pool afterwards. The same under the
    caller's own key again changes nothing.

    Raises PoolNotFound, ChangeMixed, KeyTaken, and BudgetSpent when less is left than is to be taken back.
    """
    if await tx.fetchval(_LOCK_POOL, pool) is None:
        raise PoolNotFound
    if (points < 0 or fen < 0) and (points > 0 or fen > 0):
        raise ChangeMixed
    action = "lowered" if points < 0 or fen < 0 else "raised"
    before = await tx.fetchrow(_CHANGED, pool, key) if key else None
    if before is not None:
        if tuple(before) != (action, abs(points), abs(fen)):
            raise KeyTaken
        return await read_pool(tx, pool)
    terms = (await read_pool(tx, pool)).terms
    slots = [_slot((pool, BUDGET), row) for row in await tx.fetch(_LOCK, pool, BUDGET, _ALL_SLOTS)]
    if action == "lowered":
        if not draw(slots, (pool, BUDGET), -points, -fen):
            raise BudgetSpent(sum(slot.points for slot in slots), sum(slot.fen for slot in slots))
    else:
        for slot, more_points, more_fen in zip(slots, shares(points), shares(fen), strict=True):
            slot.points += more_points
            slot.fen += more_fen
    await write_slots(tx, slots)
    await _change(tx, terms, action, abs(points), abs(fen), by, fresh, key=key)
    return await read_pool(tx, pool)


async def set_pool_state(
    tx: Connection, pool: str, state: PoolState, *, by: str, fresh: Fresh, reason: str = "by_operator"
) -> None:
    """Suspend, close or open a pool again, and tell the log; the state it is in already changes nothing. The caller
    lets no posting run beside (`exclude_postings`).

    reason   why it is suspended or closed, a code

    Raises PoolNotFound.
    """
    found = await tx.fetchval(_LOCK_POOL, pool)
    if found is None:
        raise PoolNotFound
    if found == state:
        return
    await tx.execute(_SET_STATE, pool, state)
    terms = (await read_pool(tx, pool)).terms
    await _change(tx, terms, _ACTION[state], 0, 0, by, fresh, None if state == "open" else reason)


def pool_code(text: str) -> str:
    """A code as it came in an address. Raises PoolNotFound for a text that no pool can have as its code."""
    if not _CODE.fullmatch(text):
        raise PoolNotFound
    return text


async def read_pool(tx: Connection, pool: str) -> Pool:
    """One pool as it stands. Raises PoolNotFound."""
    found = await read_pools(tx, [pool])
    if not found:
        raise PoolNotFound
    return found[0]


async def read_pools(tx: Connection, pools: Sequence[str] | None = None) -> list[Pool]:
    """These pools, or all, by code."""
    rows = await tx.fetch(f"{_POOL} WHERE $1::text[] IS NULL OR p.pool = ANY($1) ORDER BY p.pool", pools)
    found = []
    for row in rows:
        terms = PoolTerms(
            row["pool"],
            row["programme"],
            row["funder"],
            row["title_zh"],
            row["title_en"],
            row["rate_fen"],
            row["rate_points"],
            row["shortage"],
            row["points_per_day"],
            row["points_per_person_per_day"],
        )
        budget = (row["budget_points"], row["budget_fen"], row["left_points"], row["left_fen"])
        found.append(Pool(terms, row["terms"], row["state"], *budget, row["opened_at"]))
    return found


async def _change(
    tx: Connection,
    terms: PoolTerms,
    action: str,
    points: int,
    fen: int,
    by: str,
    fresh: Fresh,
    reason: str | None = None,
    key: str | None = None,
) -> None:
    now = fresh.clock()
    await tx.execute(_CHANGE, terms.pool, action, points, fen, by, now, reason, key)
    digest = _digest(terms).hex()
    facts = PoolFacts(terms.programme, action, terms.pool, terms.funder, points, fen, digest, reason)
    await queue_leaf(tx, pool_leaf(facts, now, fresh.random(NONCE_BYTES)))


async def lock_windows(tx: Connection, wishes: Mapping[Window, Wish]) -> list[Slot]:
    """Lock enough of each window for what a batch may draw: one slot that has it, else all. Called once for a batch.

    Raises BudgetMoved when the batch is to be tried again.
    """
    locked: list[Slot] = []
    for window in sorted(wishes):
        wish = wishes[window]
        seen = await tx.fetch(_SEE, *window)
        if not seen and wish.opens is not None:
            await tx.execute(_FILL, *window, _ALL_SLOTS, shares(wish.opens), [0] * SLOTS)
            seen = await tx.fetch(_SEE, *window)
        rich = [row["slot"] for row in seen if row["points_left"] >= wish.points and row["fen_left"] >= wish.fen]
        rows = await tx.fetch(_LOCK, *window, [random.choice(rich)] if rich else _ALL_SLOTS)
        slots = [_slot(window, row) for row in rows]
        if rich and (slots[0].points < wish.points or slots[0].fen < wish.fen):
            raise BudgetMoved(f"another batch drew from {window[0]} between two statements")
        locked += slots
    return locked


async def lock_any(tx: Connection, window: Window) -> Slot | None:
    """Lock a slot that nobody has, to give back to: it is never waited for, so that no order is needed. None when the
    window has no slots.

    Raises BudgetMoved when others have all of them.
    """
    row = await tx.fetchrow(_LOCK_ANY, *window)
    if row is not None:
        return _slot(window, row)
    if await tx.fetch(_SEE, *window):
        raise BudgetMoved(f"others have all slots of {window[0]}")
    return None


def draw(slots: Sequence[Slot], window: Window, points: int, fen: int) -> bool:
    """Take points and fen from a window's locked slots; False, and nothing taken, when there is less."""
    mine = [slot for slot in slots if slot.window == window]
    if sum(slot.points for slot in mine) < points or sum(slot.fen for slot in mine) < fen:
        return False
    for slot in mine:
        taken_points, taken_fen = min(points, slot.points), min(fen, slot.fen)
        slot.points -= taken_points
        slot.fen -= taken_fen
        points -= taken_points
        fen -= taken_fen
    return True


async def write_slots(tx: Connection, slots: Sequence[Slot]) -> None:
    """Store what is left of the slots that changed."""
    changed = [slot for slot in slots if (slot.points, slot.fen) != slot.was]
    if not changed:
        return
    rows = [(*slot.window, slot.slot, slot.points, slot.fen) for slot in changed]
    done = await tx.execute(_WRITE, *map(list, zip(*rows, strict=True)))
    if done != f"UPDATE {len(rows)}":
        raise LedgerInvariantBroken(f"{len(rows)} slots were to change, the database says {done}")


def _slot(window: Window, row: asyncpg.Record) -> Slot:
    left = row["points_left"], row["fen_left"]
    return Slot(window, row["slot"], *left, left)


def _digest(terms: PoolTerms) -> bytes:
    return sha256(terms.document).digest()
