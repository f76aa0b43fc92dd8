"""How many points of somebody wait for a review: what a hold may not draw on."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from service.database import Connection

_WITHHELD = """
    SELECT r.participant_id, sum(c.points)::int8 AS points FROM service.review r
    JOIN service.review_credit c USING (participant_id, review_id)
    WHERE r.participant_id = ANY($1) AND r.state = 'open' AND r.due_at > $2 AND NOT EXISTS (
        SELECT FROM ledger.reversed v WHERE v.participant_id = c.participant_id AND v.transfer_id = c.activity_id)
    GROUP BY r.participant_id
"""


async def read_withheld(tx: Connection, participant_ids: Collection[UUID], at: datetime) -> dict[UUID, int]:
    """Points of each of these that cannot be spent at a moment because credits are under review; others are absent."""
    return {row["participant_id"]: row["points"] for row in await tx.fetch(_WITHHELD, list(participant_ids), at)}
