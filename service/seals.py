"""Daily seals: once an Asia/Shanghai day has ended, everybody's balance under one root, and that root in the log.

The balances of ledger.account run ahead of the log, so seals have balances of their own, folded from the journal in log
order and moved on by a seal alone. One transaction moves them, records the seal and queues its leaf. The tree's tiles
are written afterwards: between two seals the folded balances stand still, so whoever was killed in between, or lost the
files of the last day, makes them again. A second worker finds the day sealed.
"""

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import asyncpg
import structlog

from ledger.errors import LedgerError
from ledger.journal import Balances
from ledger.leaf_reading import read_leaf
from ledger.leaves import NONCE_BYTES
from ledger.log_store import fold
from ledger.merkle import leaf_hash, root_of
from ledger.notices import SealFacts, seal_leaf
from ledger.seals import SealedBalance, Totals, sealed_record
from service.clock import shanghai_day
from service.database import FAULTS, Connection, Pool
from service.log.seal_files import has_tree, seal_files, write_tree

_log = structlog.get_logger(__name__)

SEALED_AFTER = timedelta(minutes=1)  # of midnight: what was posted in the day's last moments has its place by then
AT_ONCE = 20_000  # leaves in one statement
LOOKED_EVERY_S = 5.0
_FAULTS: tuple[type[Exception], ...] = (LedgerError, *FAULTS)

_NOW = "SELECT clock_timestamp() + $1::interval"
_STATE = "SELECT epoch > 0 AND refused IS NULL FROM ledger.log_state"
_FIRST = "SELECT leaf FROM ledger.leaf WHERE log_index = 0"
_LAST_DAY = "SELECT max(day) FROM ledger.seal WHERE programme = $1"
_CURRENT = """
    SELECT programme, day, participants, root FROM ledger.seal WHERE size = (SELECT sealed_to FROM ledger.seal_head)
"""
_FOLDED_TO = "SELECT folded_to FROM ledger.fold_head"
_SYSTEM = "SELECT programme, asset, account, amount FROM ledger.system_total"
_LOCK = "SELECT sealed_to FROM ledger.seal_head FOR UPDATE"
_MOVE = "UPDATE ledger.seal_head SET sealed_to = $1"
_PROGRAMMES = "SELECT DISTINCT programme FROM ledger.sealed_account"
_INSERT = """
    INSERT INTO ledger.seal (programme, day, size, participants, root, sealed_at) VALUES ($1, $2, $3, $4, $5, $6)
"""
_QUEUE = "INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)"

# As the fold of system totals does: OFFSET 0 keeps each look-up one by key.
_LINES = """
    SELECT l.participant_id, t.programme, t.counter, m.asset, m.from_account, m.to_account, m.amount, m.expires_on
    FROM ledger.leaf l,
    LATERAL (SELECT programme, counter FROM ledger.transfer
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id OFFSET 0) AS t,
    LATERAL (SELECT asset, from_account, to_account, amount, expires_on FROM ledger.movement
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id OFFSET 0) AS m
    WHERE l.log_index >= $1 AND l.log_index < $2
"""


def _moved(asset: str, account: str) -> str:
    """The sum by which an account grew; a line from `debt` makes that larger."""
    gains, gives = ("from", "to") if account == "debt" else ("to", "from")
    return (
        f"coalesce(sum(amount) FILTER (WHERE asset = '{asset}' AND {gains}_account = '{account}'), 0)"
        f" - coalesce(sum(amount) FILTER (WHERE asset = '{asset}' AND {gives}_account = '{account}'), 0)"
    )


_BALANCES = [
    ("co2e" if asset == "co2e_mg" else asset, asset, account)
    for asset in ("co2e_mg", "points")
    for account in ("available", "pending", "held", "debt")
]
_COLUMNS = ", ".join(f"{column}_{account}" for column, _, account in _BALANCES)
_FOLD_ACCOUNTS = f"""
    INSERT INTO ledger.sealed_account AS s (participant_id, programme, counter, {_COLUMNS})
    SELECT participant_id, min(programme), max(counter), {", ".join(_moved(a, b) for _, a, b in _BALANCES)}
    FROM ({_LINES}) AS line GROUP BY participant_id
    ON CONFLICT (participant_id) DO UPDATE SET counter = excluded.counter,
        {", ".join(f"{c}_{b} = s.{c}_{b} + excluded.{c}_{b}" for c, _, b in _BALANCES)}
"""
_FOLD_BUCKETS = f"""
    INSERT INTO ledger.sealed_bucket AS s (participant_id, expires_on, available)
    SELECT participant_id, expires_on,
        sum(CASE 'available' WHEN to_account THEN amount WHEN from_account THEN -amount ELSE 0 END)
    FROM ({_LINES}) AS line WHERE asset = 'points' AND expires_on IS NOT NULL GROUP BY participant_id, expires_on
    ON CONFLICT (participant_id, expires_on) DO UPDATE SET available = s.available + excluded.available
"""
_EMPTIED = "DELETE FROM ledger.sealed_bucket WHERE available = 0"

_RECORDS = f"""
    SELECT a.participant_id, a.counter, {_COLUMNS}, b.days, b.points FROM ledger.sealed_account a,
    LATERAL (SELECT array_agg(expires_on) AS days, array_agg(available) AS points FROM ledger.sealed_bucket
        WHERE participant_id = a.participant_id) AS b
    WHERE a.programme = $1 ORDER BY a.participant_id
"""


@dataclass(frozen=True, slots=True)
class Tree:
    """The tree of one programme's balances, by its leaf hashes, and the sums of them."""

    leaves: list[bytes]
    totals: Totals

    @property
    def root(self) -> bytes:
        return root_of(self.leaves)


async def seal_due(connection: Connection, programme: str, log_dir: Path, clock_offset: timedelta) -> int:
    """Seal every day that has ended since the last seal; how many seals were made. Call it outside a transaction.

    The first seal is of the day before this one, for a log that had begun by then. Nothing is sealed while the log is
    refused, or before its first epoch.
    """
    now: datetime = await connection.fetchval(_NOW, clock_offset)
    await _require_files(connection, log_dir)
    days = await _due(connection, programme, now)
    if not days or not await connection.fetchval(_STATE):
        return 0
    async with connection.transaction():
        while await fold(connection):
            pass
        size: int = await connection.fetchval(_FOLDED_TO)  # no other fold moves it before the commit
        system = await connection.fetch(_SYSTEM)
    async with connection.transaction():
        sealed_to: int = await connection.fetchval(_LOCK)
        days = await _due(connection, programme, now)  # another worker may have been quicker
        if not days or sealed_to > size:
            return 0
        await _fold(connection, sealed_to, size)
        programmes = {programme, *(row["programme"] for row in await connection.fetch(_PROGRAMMES))}
        trees = {each: await _tree(connection, each) for each in sorted(programmes)}
        for each, tree in trees.items():
            root, totals = tree.root, tree.totals.with_system(_of(system, each))
            for day in days:
                await connection.execute(_INSERT, each, day, size, len(tree.leaves), root, now)
                facts = SealFacts(each, day, size, len(tree.leaves), root.hex(), totals)
                await connection.execute(_QUEUE, seal_leaf(facts, now, secrets.token_bytes(NONCE_BYTES)))
    for each, tree in trees.items():
        for day in days:
            await asyncio.to_thread(write_tree, seal_files(log_dir, each, day), tree.leaves, tree.root)
    _log.info("balances are sealed", days=[str(day) for day in days], size=size, programmes=list(trees))
    return len(days) * len(trees)


async def _due(connection: Connection, programme: str, now: datetime) -> list[date]:
    yesterday = shanghai_day(now - SEALED_AFTER) - timedelta(days=1)
    last: date | None = await connection.fetchval(_LAST_DAY, programme)
    if last is None:
        first: bytes | None = await connection.fetchval(_FIRST)
        begun = first is not None and shanghai_day(datetime.fromisoformat(read_leaf(first)["at"])) <= yesterday
        return [yesterday] if begun else []
    return [last + timedelta(days=number) for number in range(1, (yesterday - last).days + 1)]


async def _fold(tx: Connection, sealed_to: int, size: int) -> None:
    """Move the sealed balances on from one entry of the log to another."""
    for first in range(sealed_to, size, AT_ONCE):
        end = min(size, first + AT_ONCE)
        await tx.execute(_FOLD_ACCOUNTS, first, end)
        await tx.execute(_FOLD_BUCKETS, first, end)
    await tx.execute(_EMPTIED)
    await tx.execute(_MOVE, size)


async def _tree(tx: Connection, programme: str) -> Tree:
    tree = Tree([], Totals())
    async for row in tx.cursor(_RECORDS, programme, prefetch=2_000):
        balance = _balance(row)
        tree.totals.add(balance)
        tree.leaves.append(leaf_hash(sealed_record(balance)))
    return tree


def _balance(row: asyncpg.Record) -> SealedBalance:
    balances: Balances = {(asset, account): row[f"{column}_{account}"] for column, asset, account in _BALANCES}
    return SealedBalance(
        row["participant_id"], row["counter"], balances, dict(zip(row["days"] or (), row["points"] or (), strict=True))
    )


def _of(system: list[asyncpg.Record], programme: str) -> dict[tuple[str, str], int]:
    return {(row["asset"], row["account"]): row["amount"] for row in system if row["programme"] == programme}


async def _require_files(connection: Connection, log_dir: Path) -> None:
    """Make the last seal's tiles where they are missing: the folded balances are still what it sealed."""
    for row in await connection.fetch(_CURRENT):
        files = seal_files(log_dir, row["programme"], row["day"])
        if await asyncio.to_thread(has_tree, files, row["participants"], row["root"]):
            continue
        async with connection.transaction(isolation="repeatable_read"):
            tree = await _tree(connection, row["programme"])
        if tree.root == row["root"]:  # else another worker has sealed a further day meanwhile
            await asyncio.to_thread(write_tree, files, tree.leaves, tree.root)


async def run_seals(
    pool: Pool, programme: str, log_dir: Path, clock_offset: timedelta, stopping: asyncio.Event
) -> None:
    """Look every few seconds whether a day has ended, until `stopping` is set."""
    while not stopping.is_set():
        try:
            async with pool.acquire() as connection:
                await seal_due(connection, programme, log_dir, clock_offset)
        except _FAULTS as error:
            _log.error("balances could not be sealed", because=type(error).__name__, detail=str(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOKED_EVERY_S)
