"""Compare reviews with the steps that were written of them, and with the journal; list what differs. Nothing is
repaired."""

import asyncpg

from ledger.check import Finding

# A review is what its last step made it; of a confirmed one no credit stands, and there is no review without a signal.
_REVIEWS = """
    WITH steps AS (
        SELECT participant_id, review_id, count(*) FILTER (WHERE step = 'open') AS opened,
            coalesce(string_agg(CASE step WHEN 'release' THEN 'released' WHEN 'confirm' THEN 'confirmed'
                WHEN 'lapse' THEN 'lapsed' END, ' and ' ORDER BY number), 'open') AS state
        FROM service.review_step GROUP BY participant_id, review_id
    )
    SELECT concat_ws(' ', participant_id, review_id) AS about, coalesce(r.state, 'no review') AS stored,
        coalesce(s.state, 'no steps') AS journal
    FROM service.review r FULL JOIN steps s USING (participant_id, review_id)
    WHERE r.state IS DISTINCT FROM s.state OR s.opened <> 1
    UNION ALL
    SELECT concat_ws(' ', c.participant_id, c.review_id, c.activity_id), 'confirmed', 'a credit that stands'
    FROM service.review r JOIN service.review_credit c USING (participant_id, review_id)
    LEFT JOIN ledger.reversed v ON v.participant_id = c.participant_id AND v.transfer_id = c.activity_id
    WHERE r.state = 'confirmed' AND v.reversal_id IS NULL AND c.added_at <= r.ended_at
    UNION ALL
    SELECT concat_ws(' ', r.participant_id, r.review_id), r.state, 'no signal' FROM service.review r
    WHERE NOT EXISTS (SELECT FROM service.signal s
        WHERE s.participant_id = r.participant_id AND s.review_id = r.review_id)
"""


async def check_reviews(connection: asyncpg.Connection) -> list[Finding]:
    """Compare every review with its steps and its credits, as of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL statement_timeout = 0")
        rows = await connection.fetch(_REVIEWS, timeout=None)
    return [Finding("review", row["about"], row["stored"], row["journal"]) for row in rows]
