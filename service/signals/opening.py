"""Write down what was found, and open a review of what is strong: once for each thing, whoever looks again."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

import orjson
from prometheus_client import Counter

from service.clock import Fresh
from service.database import Connection
from service.signals.finding import Found

REVIEW_WITHIN = timedelta(days=7)
"""So long points may wait for an operator; after that the review ends in the person's favour."""

SIGNALS = Counter("tanpuhui_signals", "Signals of abuse that were found", ["rule"])

_KNOWN = """
    SELECT s.rule, s.version, s.about, s.review_id
    FROM unnest($2::text[], $3::int4[], $4::text[]) AS w (rule, version, about)
    JOIN service.signal s ON s.participant_id = $1 AND (s.rule, s.version, s.about) = (w.rule, w.version, w.about)
"""
_OPEN_REVIEW = """
    INSERT INTO service.review (participant_id, review_id, state, opened_at, due_at)
    VALUES ($1, $2, 'open', $3, $4)
    ON CONFLICT (participant_id) WHERE state = 'open' DO NOTHING RETURNING review_id
"""  # a conflict is a review that is open already: what is found joins it
_OPEN_ONE = """
    SELECT review_id FROM service.review WHERE participant_id = $1 AND state = 'open' AND due_at > $2 FOR UPDATE
"""
_LAPSE = """
    UPDATE service.review SET state = 'lapsed', ended_at = $2
    WHERE (participant_id, review_id) = ANY(SELECT participant_id, review_id FROM service.review
        WHERE state = 'open' AND due_at <= $1 AND ($3::uuid IS NULL OR participant_id = $3) LIMIT $4)
        AND state = 'open'
    RETURNING participant_id, review_id
"""
_SIGNAL = """
    INSERT INTO service.signal
        (participant_id, signal_id, rule, version, digest, strength, about, review_id, found_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_VALUES = "INSERT INTO service.signal_values (participant_id, signal_id, document) VALUES ($1, $2, $3)"
_CREDITS = """
    INSERT INTO service.review_credit (participant_id, review_id, activity_id, points, added_at)
    SELECT $1, $2, w.activity_id, coalesce((SELECT sum(amount) FROM ledger.movement m WHERE m.participant_id = $1
        AND m.transfer_id = w.activity_id AND m.asset = 'points'), 0)::int8, $4
    FROM unnest($3::uuid[]) AS w (activity_id) ON CONFLICT DO NOTHING
"""  # a conflict is a credit that the review is about already
_STEP = """
    INSERT INTO service.review_step (participant_id, review_id, number, step, party, operator, reason, recorded_at)
    SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6, $7 FROM service.review_step
    WHERE participant_id = $1 AND review_id = $2 RETURNING number
"""
_SOURCE_SIGNAL = """
    INSERT INTO service.source_signal (source_id, rule, version, day, digest, strength, document, found_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
"""  # a conflict is the same finding of the same day, computed again
AT_ONCE = 500


async def record_found(tx: Connection, participant_id: UUID, found: Sequence[Found], fresh: Fresh) -> int:
    """Record what is new of this, in the caller's transaction; how many signals are. One strong enough opens a review,
    or joins the one that is open; the credits it is about wait with it."""
    if not found:
        return 0
    now = fresh.clock()
    keys = [[one.rule.id for one in found], [one.rule.version for one in found], [one.about for one in found]]
    known = {
        (row["rule"], row["version"], row["about"]): row["review_id"]
        for row in await tx.fetch(_KNOWN, participant_id, *keys)
    }
    new = [one for one in found if _key(one) not in known]
    strong = [one for one in new if one.rule.strength == "strong"]
    review_id = await _review(tx, participant_id, fresh, opens=bool(strong))
    for one in new:
        signal_id = fresh.id()
        joins = review_id if one.rule.strength == "strong" else None
        about = (one.rule.id, one.rule.version, bytes.fromhex(one.rule.digest), one.rule.strength, one.about)
        await tx.execute(_SIGNAL, participant_id, signal_id, *about, joins, now)
        await tx.execute(_VALUES, participant_id, signal_id, told_document(one.values))
        SIGNALS.labels(one.rule.id).inc()
    if review_id is not None:
        # Credits of a day that is under review already come under it too, as the day goes on.
        concerned = [*strong, *(one for one in found if known.get(_key(one)) == review_id)]
        activities = sorted({activity_id for one in concerned for activity_id in one.activities})
        await tx.execute(_CREDITS, participant_id, review_id, activities, now)
    return len(new)


def _key(one: Found) -> tuple[str, int, str]:
    return one.rule.id, one.rule.version, one.about


def told_document(values: Mapping[str, str]) -> bytes:
    """The values that were found as canonical JSON."""
    return orjson.dumps(dict(values), option=orjson.OPT_SORT_KEYS)


async def _review(tx: Connection, participant_id: UUID, fresh: Fresh, *, opens: bool) -> UUID | None:
    """The review that is open, or that is opened now; None when there is none and nothing opens one."""
    now = fresh.clock()
    await lapse_overdue(tx, now, participant_id)  # one whose time is over is over, whether or not that was written down
    there: UUID | None = await tx.fetchval(_OPEN_ONE, participant_id, now)
    if not opens:
        return there
    if there is None:
        there = await tx.fetchval(_OPEN_REVIEW, participant_id, fresh.id(), now, now + REVIEW_WITHIN)
        if there is None:  # another worker was quicker
            raise ReviewMoved
        await take_step(tx, participant_id, there, "open", "rule", now)
    else:
        await take_step(tx, participant_id, there, "join", "rule", now)
    return there


class ReviewMoved(Exception):
    """Another worker opened a review in between: the transaction is to be rolled back and run again."""


async def lapse_overdue(tx: Connection, now: datetime, participant_id: UUID | None = None) -> int:
    """Write down that reviews are over because nobody decided them in time; how many, AT_ONCE at most."""
    over = await tx.fetch(_LAPSE, now, now, participant_id, AT_ONCE)
    for row in over:
        await take_step(tx, row["participant_id"], row["review_id"], "lapse", "rule", now)
    return len(over)


async def take_step(
    tx: Connection,
    participant_id: UUID,
    review_id: UUID,
    step: str,
    party: str,
    now: datetime,
    *,
    operator: str | None = None,
    reason: str | None = None,
) -> int:
    """Append one step; its number. The review's row is locked, or new."""
    number: int = await tx.fetchval(_STEP, participant_id, review_id, step, party, operator, reason, now)
    return number


async def record_drift(tx: Connection, source_id: int, day: date, found: Sequence[Found], now: datetime) -> None:
    """Record what was found in a source's day."""
    for one in found:
        rule = one.rule
        about = (rule.id, rule.version, day, bytes.fromhex(rule.digest), rule.strength)
        await tx.execute(_SOURCE_SIGNAL, source_id, *about, told_document(one.values), now)
        SIGNALS.labels(rule.id).inc()
