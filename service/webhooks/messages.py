"""The queue of deliveries: events are taken up from the log, handed out, and written down as delivered or not.

Each endpoint goes through the log at its own pace. What is taken up is one transaction with the place it was taken up
to, so a killed worker neither loses an event nor leaves one out; it may send one twice, under the same id. Of one
redemption an event waits until the one before it was delivered or given up; nothing else waits for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from service.bank_events import BankEvent, read_bank_events
from service.database import Connection
from service.webhooks.schedule import pause_after, pause_asked
from service.webhooks.sending import Answer

WINDOW = 5_000  # places of the log in one step
TYPE = "org.tanpuhui.log"  # what a message's type begins with, as in GET /v1/events
TEST_KIND = "test"
LEASE = timedelta(seconds=60)  # longer than any attempt: then its worker is dead, and another one sends it again
KEPT = timedelta(days=30)  # messages that are over, and attempts

_BEHIND = """
    SELECT webhook_id, bank, kinds, taken_to FROM service.webhook
    WHERE state = 'active' AND taken_to < $1 ORDER BY webhook_id FOR NO KEY UPDATE SKIP LOCKED
"""
# An event that is taken up once more, by a replay, is queued once more; one that still waits stays as it is. Behind an
# earlier one in its lane it has no time yet: either one of the same step, which the caller knows, or one before.
_QUEUE = """
    INSERT INTO service.webhook_message AS m
        (webhook_id, message_id, place, lane, kind, body, state, failed, due_at, queued_at)
    SELECT webhook_id, message_id, place, lane, kind, body, 'waiting', 0,
        CASE WHEN behind OR EXISTS (SELECT FROM service.webhook_message earlier
            WHERE earlier.lane = new.lane AND earlier.state = 'waiting' AND earlier.place < new.place)
        THEN NULL ELSE $8::timestamptz END, $8
    FROM unnest($1::uuid[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::bytea[], $7::bool[])
        AS new (webhook_id, message_id, place, lane, kind, body, behind)
    ON CONFLICT (webhook_id, message_id) DO UPDATE
        SET state = 'waiting', failed = 0, due_at = excluded.due_at, ended_at = NULL
    WHERE m.state <> 'waiting'
"""
# Whoever queues and whoever ends a message look at its lane one after the other: else an event could be queued
# behind one that ends at that moment, and nothing would ever wake it.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('webhook ' || $1::uuid::text, 0))"
_LOCK_SHARED = "SELECT pg_advisory_xact_lock_shared(hashtextextended('webhook ' || $1::uuid::text, 0))"
_WAKE = """
    UPDATE service.webhook_message m SET due_at = $2
    WHERE m.lane = $1 AND m.state = 'waiting' AND m.due_at IS NULL
        AND m.place = (SELECT min(first.place) FROM service.webhook_message first
            WHERE first.lane = $1 AND first.state = 'waiting')
"""
_TAKEN = "UPDATE service.webhook SET taken_to = $2 WHERE webhook_id = ANY($1)"

_ACTIVE = "SELECT webhook_id FROM service.webhook WHERE state = 'active'"
_CLAIM = """
    WITH due AS (
        SELECT next.webhook_id, next.message_id
        FROM unnest($1::uuid[], $2::int4[]) AS room (webhook_id, free)
        CROSS JOIN LATERAL (
            SELECT m.webhook_id, m.message_id FROM service.webhook_message m
            WHERE m.webhook_id = room.webhook_id AND m.state = 'waiting' AND m.due_at <= $3
                AND m.place = (SELECT min(first.place) FROM service.webhook_message first
                    WHERE first.lane = m.lane AND first.state = 'waiting')
            ORDER BY m.due_at, m.place LIMIT room.free FOR UPDATE SKIP LOCKED
        ) AS next
    )
    UPDATE service.webhook_message m SET due_at = $4
    FROM due, service.webhook w
    WHERE m.webhook_id = due.webhook_id AND m.message_id = due.message_id AND w.webhook_id = due.webhook_id
    RETURNING m.webhook_id, m.message_id, m.lane, m.kind, m.body, m.failed, w.url
"""
_SECRETS = """
    SELECT webhook_id, key_version, sealed FROM service.webhook_secret
    WHERE webhook_id = ANY($1) AND (ends_at IS NULL OR ends_at > $2) ORDER BY webhook_id, number DESC
"""

# Only while it is this worker's: whoever asked for it again meanwhile, or took it over, is not overruled.
_RECORD = """
    UPDATE service.webhook_message SET state = $4, failed = $5, due_at = $6, status = $7, fault = $8, ended_at = $9
    WHERE webhook_id = $1 AND message_id = $2 AND due_at = $3 AND state = 'waiting'
"""
_ATTEMPT = """
    INSERT INTO service.webhook_attempt
        (webhook_id, message_id, kind, attempted_at, number, delivered, status, fault, duration_ms)
    SELECT webhook_id, $2, $3, $4, $5, $6, $7, $8, $9 FROM service.webhook WHERE webhook_id = $1 FOR KEY SHARE
"""
_DISABLE = """
    UPDATE service.webhook SET state = 'disabled', because = $2, changed_at = $3
    WHERE webhook_id = $1 AND state = 'active'
"""
_RETRY = """
    UPDATE service.webhook_message SET state = 'waiting', failed = 0, due_at = $3, ended_at = NULL
    WHERE webhook_id = $1 AND message_id = $2
"""
_SWEEP = (
    "DELETE FROM service.webhook_message WHERE ended_at < $1",
    "DELETE FROM service.webhook_attempt WHERE attempted_at < $1",
    "DELETE FROM service.webhook_secret WHERE ends_at < $1",
)


class MessageNotFound(Exception):
    """The endpoint has no message of this id, or has it no more."""


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery to be made now.

    failed   attempts before this one
    until    when another worker may take it over, the mark of this claim
    secrets  every live one as (version of the keyring, sealed), the newest first
    """

    webhook_id: UUID
    message_id: str
    lane: str
    kind: str
    body: bytes
    failed: int
    url: str
    until: datetime
    secrets: tuple[tuple[int, bytes], ...]


def message_body(kind: str, at: str, data: Mapping[str, object]) -> bytes:
    """What is posted: type, moment and data, as Standard Webhooks wants them. Below 20 kB, which the database holds to;
    an event has a dozen short members."""
    return orjson.dumps({"type": f"{TYPE}.{kind}.v1", "timestamp": at, "data": data})


async def take_up(tx: Connection, at: datetime) -> int:
    """Queue what the log has for active endpoints behind the place of each; the number of places they went on."""
    last: int = await tx.fetchval("SELECT size - 1 FROM ledger.log_head")
    behind = await tx.fetch(_BEHIND, last)
    moved = 0
    for place in sorted({row["taken_to"] for row in behind}):  # those at one place share one look at the log
        rows = [row for row in behind if row["taken_to"] == place]
        banks = {row["bank"] for row in rows}
        events, upto = await read_bank_events(
            tx, next(iter(banks)) if len(banks) == 1 else None, place, min(last, place + WINDOW)
        )
        wanted = [
            (row["webhook_id"], event)
            for row in rows
            for event in events
            if event.bank == row["bank"] and (not row["kinds"] or event.kind in row["kinds"])
        ]
        if wanted:
            await _queue(tx, wanted, at)
        await tx.execute(_TAKEN, [row["webhook_id"] for row in rows], upto)
        moved += upto - place
    return moved


async def _queue(tx: Connection, wanted: Sequence[tuple[UUID, BankEvent]], at: datetime) -> None:
    for webhook_id in sorted({webhook_id for webhook_id, _ in wanted}):
        await tx.execute(_LOCK, webhook_id)
    lanes = [f"{webhook_id}/{event.subject}" for webhook_id, event in wanted]
    seen: set[str] = set()
    behind = []
    for lane in lanes:
        behind.append(lane in seen)
        seen.add(lane)
    await tx.execute(
        _QUEUE,
        [webhook_id for webhook_id, _ in wanted],
        [event.id for _, event in wanted],
        [event.index for _, event in wanted],
        lanes,
        [event.kind for _, event in wanted],
        [message_body(event.kind, event.at, event.data) for _, event in wanted],
        behind,
        at,
    )


async def queue_test(tx: Connection, webhook_id: UUID, message_id: UUID, at: datetime) -> str:
    """Queue a message that says nothing, to see whether it arrives; its id. It is in order with nothing."""
    name = f"test_{message_id.hex}"
    moment = at.isoformat(timespec="seconds").replace("+00:00", "Z")
    body = message_body(TEST_KIND, moment, {"webhook_id": str(webhook_id)})
    await tx.execute(_QUEUE, [webhook_id], [name], [-1], [name], [TEST_KIND], [body], [False], at)
    return name


async def active(tx: Connection) -> list[UUID]:
    """The endpoints that are delivered to."""
    return [row["webhook_id"] for row in await tx.fetch(_ACTIVE)]


async def claim(tx: Connection, room: Mapping[UUID, int], at: datetime) -> list[Due]:
    """Deliveries to be made now, for each endpoint as many as there is room for."""
    until = at + LEASE
    rows = await tx.fetch(_CLAIM, list(room), list(room.values()), at, until)
    if not rows:
        return []
    secrets: dict[UUID, list[tuple[int, bytes]]] = {row["webhook_id"]: [] for row in rows}
    for row in await tx.fetch(_SECRETS, list(secrets), at):
        secrets[row["webhook_id"]].append((row["key_version"], row["sealed"]))
    return [
        Due(
            row["webhook_id"],
            row["message_id"],
            row["lane"],
            row["kind"],
            row["body"],
            row["failed"],
            row["url"],
            until,
            tuple(secrets[row["webhook_id"]]),
        )
        for row in rows
    ]


async def record(tx: Connection, due: Due, answer: Answer, at: datetime, chance: float) -> None:
    """Write down an attempt and what follows from it: delivered, tried again later, dead, or, after a 410, the endpoint
    disabled and the message left waiting for whoever makes it active again.

    chance   as in schedule.pause_after
    """
    failed = due.failed + (answer.fault is not None)
    pause = pause_after(failed, chance) if failed else None
    state, due_at, ended_at = "waiting", at, None
    if answer.fault is None:
        state, ended_at = "delivered", at
    elif answer.fault == "gone":
        failed = due.failed
    elif pause is None:
        state, ended_at = "dead", at
    else:
        due_at = at + max(pause, pause_asked(answer.retry_after, at))
    key = (due.webhook_id, due.message_id)
    if ended_at is not None:
        await tx.execute(_LOCK_SHARED, due.webhook_id)
    # The endpoint's row before its messages', as whoever deletes it does.
    delivered, number = answer.fault is None, due.failed + 1
    what = (due.kind, at, number, delivered, answer.status, answer.fault, answer.duration_ms)
    await tx.execute(_ATTEMPT, *key, *what)
    if answer.fault == "gone":
        await tx.execute(_DISABLE, due.webhook_id, "gone", at)
    await tx.execute(_RECORD, *key, due.until, state, failed, due_at, answer.status, answer.fault, ended_at)
    if ended_at is not None:
        await tx.execute(_WAKE, due.lane, at)


async def retry(tx: Connection, webhook_id: UUID, message_id: str, at: datetime) -> None:
    """Send a message now, and if that fails by the schedule from its beginning. Raises MessageNotFound."""
    if await tx.execute(_RETRY, webhook_id, message_id, at) == "UPDATE 0":
        raise MessageNotFound


async def sweep(tx: Connection, at: datetime) -> None:
    """Let go of what is over for long: messages and attempts, and secrets that ended."""
    for statement in _SWEEP:
        await tx.execute(statement, at - KEPT)
