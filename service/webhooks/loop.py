"""The worker's loop of deliveries. Several workers share the work; one that is killed loses nothing."""

import asyncio
import random
from collections import Counter as Tally
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from prometheus_client import Counter

from service.clock import Clock
from service.database import FAULTS, Pool
from service.keyring import Keyring
from service.webhooks.messages import WINDOW, Due, active, claim, record, sweep, take_up
from service.webhooks.schedule import chance
from service.webhooks.sending import MOST_CONNECTIONS, Answer, Sender, open_sender
from service.webhooks.signing import SecretUnreadable, open_secret, signature_headers
from service.worker import pause

_log = structlog.get_logger(__name__)

IDLE_S = 0.25  # between looks at the log while nothing is under way
BUSY_S = 0.02  # while something is: what was delivered makes room for the next
AT_ONCE = 8  # deliveries to one endpoint: a slow one holds up itself alone
RESTED_S = 1.0  # after a failure
SWEPT_EVERY = timedelta(hours=1)
LAST_WITHIN_S = 5.0  # when told to stop: what has not been answered by then is sent again by the next worker

DELIVERIES = Counter("tanpuhui_webhook_attempts", "Attempts to deliver an event, by what came of it", ["outcome"])


class Deliveries:
    """The deliveries of one worker."""

    def __init__(self, pool: Pool, keyring: Keyring, sender: Sender, clock: Clock) -> None:
        self._pool, self._keyring, self._sender, self._clock = pool, keyring, sender, clock
        self._running: dict[asyncio.Task[None], UUID] = {}
        self._swept: datetime | None = None

    @property
    def under_way(self) -> int:
        """Deliveries that wait for their answers."""
        return len(self._running)

    async def step(self) -> bool:
        """Take up what is new in the log and begin what is due; whether there is more at once.

        Raises the faults of the database; then nothing of the step was done.
        """
        async with self._pool.acquire() as connection:
            at = self._clock()
            if self._swept is None or at - self._swept > SWEPT_EVERY:
                await sweep(connection, at)
                self._swept = at
            async with connection.transaction(isolation="read_committed"):
                moved = await take_up(connection, at)
            room = self._room(await active(connection))
            async with connection.transaction(isolation="read_committed"):
                due = await claim(connection, room, at)
        for one in due:
            task = asyncio.create_task(self._deliver(one))
            self._running[task] = one.webhook_id
            task.add_done_callback(lambda done: self._running.pop(done, None))
        return moved >= WINDOW or bool(due)

    def _room(self, webhooks: list[UUID]) -> dict[UUID, int]:
        """How many deliveries may begin for each. Where there is not enough for all, chance says who is first: those
        that hang must not keep the same others waiting each time."""
        busy, left = Tally(self._running.values()), MOST_CONNECTIONS - len(self._running)
        room = {}
        for webhook_id in random.sample(webhooks, len(webhooks)):
            free = min(AT_ONCE - busy[webhook_id], left)
            if free > 0:
                room[webhook_id] = free
                left -= free
        return room

    async def _deliver(self, due: Due) -> None:
        answer = await self._attempt(due)
        DELIVERIES.labels(answer.fault or "delivered").inc()
        try:
            async with self._pool.acquire() as connection, connection.transaction(isolation="read_committed"):
                await record(connection, due, answer, self._clock(), chance())
        except FAULTS as error:  # its time runs out, and it is sent again
            _log.warning("a delivery could not be written down", because=type(error).__name__, detail=str(error))

    async def _attempt(self, due: Due) -> Answer:
        try:
            live = [open_secret(self._keyring, due.webhook_id, *secret) for secret in due.secrets]
        except SecretUnreadable as error:
            _log.error("a webhook's secret cannot be used", detail=str(error))
            return Answer(None, "secret-unreadable", 0)
        headers = {
            "content-type": "application/json",
            "user-agent": "tanpuhui-webhooks/1",
            **signature_headers(due.message_id, self._clock(), due.body, live),
        }
        return await self._sender.send(due.url, headers, due.body)

    async def rest(self, within_s: float) -> None:
        """Wait for what is under way, and then no longer."""
        running = list(self._running)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=within_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


async def run_deliveries(
    pool: Pool, keyring: Keyring, clock: Clock, stopping: asyncio.Event, *, private_allowed: bool
) -> None:
    """Deliver until `stopping` is set.

    clock             the real time, by which receivers judge a signature's
    private_allowed   whether addresses of private networks are reached, as in development
    """
    async with open_sender(private_allowed=private_allowed) as sender:
        deliveries = Deliveries(pool, keyring, sender, clock)
        while not stopping.is_set():
            try:
                more = await deliveries.step()
                await pause(stopping, BUSY_S if more or deliveries.under_way else IDLE_S)
            except FAULTS as error:
                _log.warning("webhooks wait", because=type(error).__name__, detail=str(error))
                await pool.expire_connections()
                await pause(stopping, RESTED_S)
        await deliveries.rest(LAST_WITHIN_S)
