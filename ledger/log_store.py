"""Give queued leaves their places in the log, without a gap; fold the system accounts behind them.
 One sequencer is enough and two are harmless: each round first locks the one row that holds the log's size. Leaves are
found by being in the queue, never by "id above the last one seen": ids are drawn before their transactions commit, so
that rule would lose some.
"""

from dataclasses import dataclass

from ledger.store import Connection

_LOCK_HEAD = "SELECT size FROM ledger.log_head FOR UPDATE"

# The highest id of the first few thousand bounds the delete: without it the planner may walk the whole queue and its
# dead rows.
_SEQUENCE = """
    WITH bound AS (
        SELECT max(queue_id) AS last FROM (SELECT queue_id
            FROM ledger.leaf_queue ORDER BY queue_id LIMIT $2) AS first_few
    ), taken AS (
        DELETE FROM ledger.leaf_queue WHERE queue_id <= (SELECT last FROM bound)
        RETURNING queue_id, participant_id, transfer_id, leaf
    )
    INSERT INTO ledger.leaf (log_index, participant_id, transfer_id, leaf)
    SELECT $1 - 1 + row_number() OVER (ORDER BY queue_id), participant_id, transfer_id, leaf FROM taken
"""

_GROW = "UPDATE ledger.log_head SET size = $2 WHERE size = $1"

_LOCK_FOLD = "SELECT folded_to FROM ledger.fold_head FOR UPDATE"
_SIZE = "SELECT size FROM ledger.log_head"  # a statement of its own: one that waited for the lock sees an older size

# OFFSET 0 keeps each look-up one by key. Of tables that grow this fast the planner knows an old size, and it would
# rather read every transfer there is.
_FOLD = """
    INSERT INTO ledger.system_total AS s (programme, asset, account, amount)
    SELECT t.programme, m.asset, side.account, sum(side.change)
    FROM ledger.leaf l,
    LATERAL (SELECT programme FROM ledger.transfer
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id OFFSET 0) AS t,
    LATERAL (SELECT asset, from_account, to_account, amount FROM ledger.movement
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id OFFSET 0) AS m,
    LATERAL (VALUES (m.to_account, m.amount), (m.from_account, -m.amount)) AS side (account, change)
    WHERE l.log_index >= $1 AND l.log_index < $2 AND side.account NOT IN ('available', 'pending', 'held', 'debt')
    GROUP BY t.programme, m.asset, side.account
    ON CONFLICT (programme, asset, account) DO UPDATE SET amount = s.amount + excluded.amount
"""

_STATUS = """
    SELECT (SELECT size FROM ledger.log_head) AS size, (SELECT folded_to FROM ledger.fold_head) AS folded_to,
           (SELECT count(*) FROM (SELECT 1 FROM ledger.leaf_queue LIMIT 100001) AS q) AS queued
"""


@dataclass(frozen=True, slots=True)
class LogStatus:
    """How long the log is, how far the system totals are folded, and how many leaves wait (100,001 means more than
    100,000)."""

    size: int
    folded_to: int
    queued: int


async def sequence(tx: Connection, *, at_most: int = 5_000) -> int:
    """Move up to `at_most` queued leaves into the log at the next indexes; return how many. Call it inside a
    transaction of its own.

    A participant's leaves keep their order: the later one was queued under the same lock after the earlier one's
    commit.
    """
    size = await tx.fetchval(_LOCK_HEAD)
    taken = int((await tx.execute(_SEQUENCE, size, at_most)).rpartition(" ")[2])
    if taken and await tx.execute(_GROW, size, size + taken) != "UPDATE 1":
        raise RuntimeError(f"the log is no longer of size {size}: another sequencer moved it past this one's lock")
    return taken


async def fold(tx: Connection, *, at_most: int = 20_000) -> int:
    """Add the next leaves' movements to the system accounts' totals, in log order; return how many leaves were
    folded."""
    folded_to: int = await tx.fetchval(_LOCK_FOLD)
    upto: int = min(await tx.fetchval(_SIZE), folded_to + at_most)
    if upto > folded_to:
        await tx.execute(_FOLD, folded_to, upto)
        await tx.execute("UPDATE ledger.fold_head SET folded_to = $1", upto)
    return upto - folded_to


async def read_status(tx: Connection) -> LogStatus:
    """Size, fold and queue of the log, as of this statement."""
    row = await tx.fetchrow(_STATUS)
    assert row is not None
    return LogStatus(row["size"], row["folded_to"], row["queued"])
