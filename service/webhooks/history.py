"""What became of deliveries, for whoever operates the receiver."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from service.database import Connection

State = Literal["waiting", "delivered", "dead"]
LAST_PLACE = 2**62  # behind every place of any log

# A statement for each state, named in it: then each is answered by its own index.
_COUNTS = """
    SELECT (SELECT count(*) FROM service.webhook_message WHERE webhook_id = $1 AND state = 'waiting') AS waiting,
        (SELECT count(*) FROM service.webhook_message WHERE webhook_id = $1 AND state = 'dead') AS dead,
        (SELECT min(queued_at) FROM service.webhook_message WHERE webhook_id = $1 AND state = 'waiting')
            AS waiting_since
"""
_OF_STATE: dict[State, str] = {
    "waiting": "state = 'waiting'",
    "delivered": "state = 'delivered'",
    "dead": "state = 'dead'",
}
_MESSAGES = """
    SELECT message_id, kind, place, state, failed, due_at, status, fault, queued_at, ended_at
    FROM service.webhook_message
    WHERE webhook_id = $1 AND {of_state} AND place < $2
    ORDER BY place DESC, message_id LIMIT $3
"""
_ATTEMPTS = """
    SELECT message_id, kind, attempted_at, number, delivered, status, fault, duration_ms
    FROM service.webhook_attempt WHERE webhook_id = $1 ORDER BY attempt_id DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Queue:
    """How many messages wait and how many were given up; since when the oldest waits."""

    waiting: int
    dead: int
    waiting_since: datetime | None


@dataclass(frozen=True, slots=True)
class Message:
    """One row of service.webhook_message without its body (service/webhooks/models.py)."""

    message_id: str
    kind: str
    place: int
    state: State
    failed: int
    due_at: datetime | None
    status: int | None
    fault: str | None
    queued_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row of service.webhook_attempt."""

    message_id: str
    kind: str
    attempted_at: datetime
    number: int
    delivered: bool
    status: int | None
    fault: str | None
    duration_ms: int


async def read_queue(tx: Connection, webhook_id: UUID) -> Queue:
    """How the endpoint's queue stands."""
    row = await tx.fetchrow(_COUNTS, webhook_id)
    assert row is not None
    return Queue(**row)


async def read_messages(
    tx: Connection, webhook_id: UUID, state: State | None, before: int | None, limit: int
) -> list[Message]:
    """The endpoint's messages, of one state or of all, those of the latest places first, from the last on or from
    before a place."""
    found: list[Message] = []
    for each in _OF_STATE if state is None else (state,):
        query = _MESSAGES.format(of_state=_OF_STATE[each])
        found += [
            Message(**row) for row in await tx.fetch(query, webhook_id, LAST_PLACE if before is None else before, limit)
        ]
    found.sort(key=lambda message: (-message.place, message.message_id))
    return found[:limit]


async def read_attempts(tx: Connection, webhook_id: UUID, limit: int) -> list[Attempt]:
    """The last attempts, newest first."""
    return [Attempt(**row) for row in await tx.fetch(_ATTEMPTS, webhook_id, limit)]
