"""Look for signals behind the log: in bounded steps, at rest most of the time, and never while anybody waits.

A look takes the next leaves of the log, reads what the people did whom they tell of, holds it against the rules and
writes down what is new, in one transaction that also moves the cursor: whoever is killed in between looks again. Once a
day each source's day is summed up and held against the days before it.
"""

import asyncio
from collections.abc import Sequence
from datetime import date, timedelta

import structlog
from prometheus_client import Gauge

from service.clock import Fresh, shanghai_day
from service.database import FAULTS, Connection, Pool
from service.signals.drift import find_drift
from service.signals.finding import find, find_shared
from service.signals.opening import AT_ONCE, ReviewMoved, lapse_overdue, record_drift, record_found
from service.signals.reading import read_past, read_people, read_series, read_source_day, read_source_ids
from service.signals.rules import SignalRule, shipped_rules
from service.worker import pause

_log = structlog.get_logger(__name__)

LEAVES_AT_ONCE = 500
RESTS = 9  # times as long as a look took: looking costs a tenth of one processor at most, and catches up at night
SHORTEST_REST_S, IDLE_S, FAILED_S = 0.2, 2.0, 5.0
DAY_SETTLED_AFTER = timedelta(minutes=5)  # what began to be posted before midnight is there by then
_LOOKER = 7_262_031  # the advisory lock of whoever looks

BEHIND = Gauge("tanpuhui_signals_behind_leaves", "Leaves of the log in which nobody has looked for signals yet")

_HEAD = "SELECT h.looked_to, h.day, l.size FROM service.signal_head h, ledger.log_head l FOR UPDATE OF h"
_MOVE = "UPDATE service.signal_head SET looked_to = $1"
_MOVE_DAY = "UPDATE service.signal_head SET day = $1"
_HAS_DAY = "SELECT EXISTS (SELECT FROM service.source_day WHERE source_id = $1 AND day = $2)"
_KEEP_DAY = """
    INSERT INTO service.source_day (source_id, day, credited, refused, mg, usual_acts, hours)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_PASSING: tuple[type[Exception], ...] = (*FAULTS, ReviewMoved)
_LOCK = "SELECT pg_try_advisory_xact_lock($1)"


async def look(tx: Connection, fresh: Fresh, rules: Sequence[SignalRule] = ()) -> int:
    """Look at the next leaves, in the caller's transaction; how many there were. 0 too while somebody else looks."""
    rules = rules or shipped_rules()
    if not await tx.fetchval(_LOCK, _LOOKER):
        return 0
    head = await tx.fetchrow(_HEAD)
    assert head is not None  # its row is made by the migration
    first, size = head["looked_to"], head["size"]
    end = min(size, first + LEAVES_AT_ONCE)
    if first < end:
        people = await read_people(tx, first, end, shanghai_day(fresh.clock()))
        for participant_id, looked in people.items():
            found = {(one.rule.id, one.about): one for day in looked.days for one in find(rules, looked.person, day)}
            await record_found(tx, participant_id, list(found.values()), fresh)
        await tx.execute(_MOVE, end)
    BEHIND.set(size - end)
    return int(end - first)


async def look_at_day(pool: Pool, fresh: Fresh, rules: Sequence[SignalRule] = ()) -> date | None:
    """Sum up the next day that is over, source by source, each in a transaction of its own; the day, or None when all
    that are over were. A deployment's first day is the one before its first look."""
    rules, now = rules or shipped_rules(), fresh.clock()
    async with pool.acquire() as connection:
        last = await connection.fetchval("SELECT day FROM service.signal_head")
        over = shanghai_day(now - DAY_SETTLED_AFTER) - timedelta(days=1)
        day = over if last is None else last + timedelta(days=1)
        if day > over:
            return None
        for source_id in await read_source_ids(connection):
            async with connection.transaction(isolation="read_committed"):
                await connection.execute("SET LOCAL statement_timeout = '10min'")  # a city's busiest source
                await _look_at_source(connection, source_id, day, fresh, rules)
        await connection.execute(_MOVE_DAY, day)
    return day


async def _look_at_source(tx: Connection, source_id: int, day: date, fresh: Fresh, rules: Sequence[SignalRule]) -> None:
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _LOOKER)
    if await tx.fetchval(_HAS_DAY, source_id, day):
        return
    today = await read_source_day(tx, source_id, day)
    about = (today.credited, today.refused, today.mg, today.usual_acts, list(today.hours))
    await tx.execute(_KEEP_DAY, source_id, day, *about)
    if not today.credited:
        return
    past = await read_past(tx, source_id, day, max((rule.window_days for rule in rules), default=1))
    await record_drift(tx, source_id, day, find_drift(rules, today, past), fresh.clock())
    for rule in rules:
        if rule.kind == "shared-series":
            people = await read_series(tx, source_id, day, sorted(rule.distances), rule.limits["length"])
            for participant_id, found in sorted(find_shared(rule, people, day).items()):
                await record_found(tx, participant_id, [found], fresh)


async def run_signals(pool: Pool, fresh: Fresh, stopping: asyncio.Event) -> None:
    """Look again and again until `stopping` is set."""
    loop = asyncio.get_running_loop()
    while not stopping.is_set():
        begun, rest_s = loop.time(), IDLE_S
        try:
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                done = await look(connection, fresh)
            async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                over = await lapse_overdue(connection, fresh.clock())
            if done == LEAVES_AT_ONCE or over == AT_ONCE or await look_at_day(pool, fresh) is not None:
                rest_s = max(SHORTEST_REST_S, RESTS * (loop.time() - begun))
        except _PASSING as error:
            _log.warning("nobody looked for signals", because=type(error).__name__, detail=str(error))
            rest_s = FAILED_S
        await pause(stopping, rest_s)


async def look_through(pool: Pool, fresh: Fresh) -> int:
    """Look until nothing is left to look at; how many leaves that were. For commands and tests."""
    leaves = 0
    while True:
        async with pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            done = await look(connection, fresh)
            await lapse_overdue(connection, fresh.clock())
        leaves += done
        if not done:
            break
    while await look_at_day(pool, fresh) is not None:
        pass
    return leaves
