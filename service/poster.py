"""Gathers requests into batches, posts each batch in one transaction, and hands every request its outcomes.
 Requests that arrive while a batch is committing form the next one. A batch that fails on data is retried in halves
until the faulty command stands alone; deadlocks and lost connections are retried whole, which is safe because a
command's ids are made before it is first tried. A client that goes away cancels nothing. The queue is bounded.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg
import structlog
from prometheus_client import Counter, Gauge, Histogram

from service.activities.counting import ClaimsMoved, HoldersToLock
from service.activities.intake import Refusal
from service.activities.rules import RuleBook
from service.campaigns import BudgetMoved
from service.clock import Fresh
from service.database import LOST, Connection, Pool
from service.posting import Command, Outcome, post_batch
from service.vault import Vault, VaultError

_log = structlog.get_logger(__name__)

BATCH_ITEMS = 1_000  # what one transaction takes: larger ones gain nothing and hold their locks longer
WORTH_A_LANE = 256  # waiting before persons have lanes of their own; fewer travel better together
WORTH_A_BATCH = 24  # waiting before a second batch is begun beside the first; fewer cost more than they gain
REHEARSAL_WAITS_MS = 100  # for a lock, far below the second after which PostgreSQL looks for deadlocks
REHEARSALS = 2  # at the same time: they hold locks and connections, and nobody waits for their outcome
QUIET_TURNS = 4  # of the event loop, from a request's first byte to its place in the queue
RETRY_FOR_S = 20.0  # how long a lost database is waited for before the requests are told to come back
CONTENTION_RETRIES = 8

BATCH_SIZE = Histogram("tanpuhui_batch_commands", "Commands in one transaction", buckets=(1, 4, 16, 64, 256, 1024))
BATCH_SECONDS = Histogram("tanpuhui_batch_seconds", "Time of one transaction, retries included")
WAITING = Gauge("tanpuhui_waiting_commands", "Commands waiting to be posted", multiprocess_mode="livesum")
POISON = Counter("tanpuhui_poison_commands", "Commands that could not be posted: each is a bug to look at")

# The transaction was not at fault: somebody else held a lock, or won.
_CONTENTION: tuple[type[Exception], ...] = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    ClaimsMoved,
    BudgetMoved,
)


class QueueFull(Exception):
    """More is waiting than the poster may hold: try again in a moment."""


class DatabaseAway(Exception):
    """The database could not be reached for as long as the poster waits. What was sent may or may not be posted: send
    it again."""


class _Rehearsed(Exception):
    """All was decided: take it back."""


@dataclass(slots=True, eq=False)
class _Part:
    """What one lane has to post of a request."""

    commands: Sequence[Command]
    answer: "asyncio.Future[list[Outcome]]"


class _Lane:
    """What waits for one lane."""

    def __init__(self) -> None:
        self.waiting: deque[_Part] = deque()
        self.items = 0
        self.posting = 0  # batches
        self.changed = asyncio.Event()

    def put(self, part: _Part) -> None:
        self.waiting.append(part)
        self.items += len(part.commands)
        self.changed.set()


class Poster:
    """One per process. When much is waiting, up to `lanes` batches are posted at the same time, so that the database
    works while the next batch is prepared. A person's commands go to the person's lane: two batches that share a
    participant would wait for each other's locks, and two of a thousand among a hundred thousand share ten."""

    def __init__(
        self,
        pool: Pool,
        rules: RuleBook,
        vault: Vault,
        fresh: Fresh,
        *,
        clock_offset: timedelta,
        lanes: int,
        queue_items: int,
        batch_items: int = BATCH_ITEMS,
        may_post: Callable[[], None] = lambda: None,
    ) -> None:
        """`may_post` raises while nothing may be posted; nothing is taken then."""
        self._pool, self._rules, self._vault, self._fresh = pool, rules, vault, fresh
        self._clock_offset = clock_offset
        self._queue_items, self._batch_items = queue_items, batch_items
        self._may_post = may_post
        self._waiting_items = 0
        self._rehearsing = asyncio.Semaphore(REHEARSALS)
        self._stopping = False
        self._lanes = [_Lane() for _ in range(lanes)]
        served = list(enumerate(self._lanes)) + [(0, self._lanes[0])] * (lanes > 1)
        self._tasks = [asyncio.create_task(self._serve(lane), name=f"poster lane {number}") for number, lane in served]

    async def post(self, commands: Sequence[Command]) -> list[Outcome]:
        """The outcomes of these commands in their order, once they are committed.

        Raises QueueFull when too many wait or the process is stopping, DatabaseAway when the database stays away, and
        what `may_post` raises.
        """
        self._may_post()
        if self._stopping or (self._waiting_items and self._waiting_items + len(commands) > self._queue_items):
            raise QueueFull
        lanes = self._split(commands)
        if len(lanes) == 1:
            (lane,) = lanes
            return await self._put(lane, commands)
        parts = [self._put(lane, [commands[place] for place in places]) for lane, places in lanes.items()]
        done = await asyncio.gather(*parts, return_exceptions=True)
        outcomes: dict[int, Outcome] = {}
        for places, part in zip(lanes.values(), done, strict=True):
            if isinstance(part, BaseException):
                raise part
            outcomes.update(zip(places, part, strict=True))
        return [outcomes[place] for place in range(len(commands))]

    async def rehearse(self, commands: Sequence[Command]) -> list[Outcome]:
        """What these commands would be answered now: they are posted in a transaction of their own, and taken back.

        Raises what `post` raises.
        """
        self._may_post()
        if self._stopping:
            raise QueueFull
        outcomes: dict[int, Outcome] = {}
        holders: set[UUID] = set()
        async with self._rehearsing:
            for contended in range(CONTENTION_RETRIES + 1):
                try:
                    await self._rehearse_once(commands, outcomes, holders)
                except _Rehearsed:
                    break
                except (*_CONTENTION, *LOST) as error:
                    if isinstance(error, LOST) or contended == CONTENTION_RETRIES:
                        raise DatabaseAway from error
                    if isinstance(error, HoldersToLock):
                        holders |= error.participant_ids
                    await asyncio.sleep(random.uniform(0, 0.02 * 2**contended))
        return [outcomes[place] for place in range(len(commands))]

    async def _rehearse_once(
        self, commands: Sequence[Command], outcomes: dict[int, Outcome], holders: Collection[UUID]
    ) -> None:
        """Always raises: _Rehearsed when all was decided."""
        async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            for number, places in enumerate(_rounds(commands)):
                if number == 1:  # a second round's locks come after the first's, out of order: no long waits
                    await connection.execute(f"SET LOCAL lock_timeout = {REHEARSAL_WAITS_MS}")
                posted = await self._rehearse_halving(connection, [commands[place] for place in places], holders)
                outcomes.update(zip(places, posted, strict=True))
            raise _Rehearsed

    async def _rehearse_halving(
        self, connection: Connection, commands: Sequence[Command], holders: Collection[UUID]
    ) -> list[Outcome]:
        """As _post_halving does, within the one transaction: each attempt in a savepoint of its own."""
        try:
            async with connection.transaction():
                return await self._post_batch(connection, commands, holders)
        except DatabaseAway:
            raise
        except (*_CONTENTION, *LOST):
            raise
        except Exception as fault:
            if len(commands) == 1:
                return _unpostable(commands[0], fault)
        await connection.execute(f"SET LOCAL lock_timeout = {REHEARSAL_WAITS_MS}")  # as before a second round
        middle = len(commands) // 2
        halves = (commands[:middle], commands[middle:])
        return [one for half in halves for one in await self._rehearse_halving(connection, half, holders)]

    async def stop(self) -> None:
        """Take nothing new, post what waits, and end."""
        self._stopping = True
        for lane in self._lanes:
            lane.changed.set()
        await asyncio.gather(*self._tasks)

    def _put(self, lane: int, commands: Sequence[Command]) -> "asyncio.Future[list[Outcome]]":
        part = _Part(commands, asyncio.get_running_loop().create_future())
        self._lanes[lane].put(part)
        self._count(len(commands))
        return part.answer

    def _split(self, commands: Sequence[Command]) -> Mapping[int, Sequence[int]]:
        """The places of the commands by lane: all in the first while little waits, which travels better together."""
        if self._waiting_items + len(commands) < WORTH_A_LANE:
            return {0: range(len(commands))}
        homes = _joined(commands)
        lanes: dict[int, list[int]] = {}
        for place, home in enumerate(homes):
            lanes.setdefault(home[0] % len(self._lanes), []).append(place)
        return lanes

    def _count(self, change: int) -> None:
        self._waiting_items += change
        WAITING.inc(change)

    async def _serve(self, lane: _Lane) -> None:
        while lane.waiting or not self._stopping:
            if not self._may_begin(lane):
                lane.changed.clear()
                await lane.changed.wait()
                continue
            lane.posting += 1
            await self._linger(lane)
            requests = self._next_batch(lane)
            try:
                await self._answer(requests)
            except Exception as fault:  # a lane that ended would leave everybody behind it waiting for ever
                _log.error("batch could not be answered", exc_info=fault)
                for request in requests:
                    if not request.answer.done():
                        request.answer.set_exception(fault)
            finally:
                lane.posting -= 1
                lane.changed.set()

    def _may_begin(self, lane: _Lane) -> bool:
        """While little waits, one batch is gathered and decided while the database works on the other; persons who
        have lanes of their own have one batch at a time."""
        if not lane.posting or self._stopping:
            return bool(lane.waiting)
        return lane.items >= WORTH_A_BATCH and self._waiting_items < WORTH_A_LANE

    async def _linger(self, lane: _Lane) -> None:
        """Let everybody join who is on the way: as long as the loop's turns bring new requests, the next turns may too.

        It costs nobody time, because a loop that has requests to read is not waiting for this batch.
        """
        quiet = 0
        while quiet < QUIET_TURNS and lane.items < WORTH_A_LANE:
            waiting = len(lane.waiting)
            await asyncio.sleep(0)
            quiet = 0 if len(lane.waiting) > waiting else quiet + 1

    def _next_batch(self, lane: _Lane) -> list[_Part]:
        parts: list[_Part] = []
        items = 0
        while lane.waiting and (not parts or items + len(lane.waiting[0].commands) <= self._batch_items):
            parts.append(lane.waiting.popleft())
            items += len(parts[-1].commands)
        lane.items -= items
        self._count(-items)
        return parts

    async def _answer(self, requests: Sequence[_Part]) -> None:
        commands = [command for request in requests for command in request.commands]
        if not commands:
            return
        BATCH_SIZE.observe(len(commands))
        outcomes: list[Outcome | None] = [None] * len(commands)
        away: DatabaseAway | None = None
        try:
            with BATCH_SECONDS.time():
                for places in _rounds(commands):
                    posted = await self._post_halving([commands[place] for place in places])
                    for place, outcome in zip(places, posted, strict=True):
                        outcomes[place] = outcome
        except DatabaseAway as error:
            away = error
        start = 0
        for request in requests:
            mine = outcomes[start : start + len(request.commands)]
            start += len(request.commands)
            if request.answer.done():  # its client went away; what it sent is posted all the same
                continue
            done = [outcome for outcome in mine if outcome is not None]
            if away and len(done) < len(mine):
                request.answer.set_exception(away)
            else:
                request.answer.set_result(done)

    async def _post_batch(
        self, connection: Connection, commands: Sequence[Command], holders: Collection[UUID]
    ) -> list[Outcome]:
        rules, vault, fresh = self._rules, self._vault, self._fresh
        try:
            return await post_batch(connection, commands, rules, vault, fresh, self._clock_offset, holders)
        except VaultError as error:  # nothing is wrong with what was sent: it can be posted once the key is there
            _log.error("nothing is posted: the vault is shut", detail=str(error))
            raise DatabaseAway from error

    async def _post_halving(self, commands: Sequence[Command]) -> list[Outcome]:
        try:
            return await self._post_retrying(commands)
        except DatabaseAway:
            raise
        except Exception as fault:
            # Any other fault belongs to some command of the batch: find it, and let its neighbours pass.
            if len(commands) > 1:
                middle = len(commands) // 2
                return await self._post_halving(commands[:middle]) + await self._post_halving(commands[middle:])
            return _unpostable(commands[0], fault)

    async def _post_retrying(self, commands: Sequence[Command]) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + RETRY_FOR_S
        contended = 0
        holders: set[UUID] = set()
        while True:
            try:
                async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                    return await self._post_batch(connection, commands, holders)
            except _CONTENTION as error:
                contended += 1
                if isinstance(error, HoldersToLock):
                    holders |= error.participant_ids
                _log.info("batch is tried again", because=type(error).__name__, items=len(commands))
                if contended > CONTENTION_RETRIES:
                    raise DatabaseAway from error
                await asyncio.sleep(random.uniform(0, 0.02 * 2**contended))
            except LOST as error:
                if loop.time() > give_up:
                    raise DatabaseAway from error
                _log.warning("database lost", because=type(error).__name__, items=len(commands))
                await self._pool.expire_connections()
                await asyncio.sleep(random.uniform(0.05, 0.3))


def _unpostable(command: Command, fault: Exception) -> list[Outcome]:
    POISON.inc()
    _log.error("command could not be posted", key=command.key.hex(), exc_info=fault)
    return [Refusal("posting-failed", {})]


def _joined(commands: Sequence[Command]) -> list[bytes]:
    """Where each command belongs: with its person's others, and with those of everybody who wants something that the
    person wants, because of two in one request the first in the list comes first."""
    joined: dict[bytes, bytes] = {}
    first: dict[bytes, bytes] = {}

    def root(home: bytes) -> bytes:
        while (other := joined.get(home)) is not None:
            home = other
        return home

    homes = [command.home for command in commands]
    for command, home in zip(commands, homes, strict=True):
        for tag in command.order_tags:
            held, mine = root(first.setdefault(tag, home)), root(home)
            if held != mine:
                joined[mine] = held
    return [root(home) for home in homes]


def _rounds(commands: Sequence[Command]) -> Iterator[list[int]]:
    """The places of the commands in batches: no key stands twice in one, a repeat comes after what it repeats, and what
    names an earlier event comes, with all that follows it, after that event was posted."""
    start = 0
    seen: set[bytes] = set()
    for place, command in enumerate(commands):
        if command.names is not None and command.names in seen:
            yield from _without_repeats(commands, start, place)
            start, seen = place, set()
        seen.add(command.key)
        if command.names is not None:
            seen.add(command.names)
    yield from _without_repeats(commands, start, len(commands))


def _without_repeats(commands: Sequence[Command], start: int, end: int) -> list[list[int]]:
    rounds: list[list[int]] = []
    seen: dict[bytes, int] = {}
    for place in range(start, end):
        key = commands[place].key
        number = seen.get(key, 0)
        seen[key] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    return rounds
