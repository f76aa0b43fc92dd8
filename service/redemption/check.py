"""Recompute what is known of redemptions from the steps that were written of them, and those from the journal; list
what differs. Nothing is repaired."""

import asyncpg

from ledger.check import Finding

# Each query returns one row per difference: what it is about, what is stored, what the steps or the journal say.
_DIFFERENCES: dict[str, str] = {
    # A step is told of in the journal and for the bank's day with the same amounts.
    "redemption entry": """
        WITH moved AS (
            SELECT t.participant_id, t.transfer_id, t.kind, t.reason, t.effective_on,
                   coalesce(sum(m.amount) FILTER (WHERE m.asset = 'points'), 0)::int8 AS points,
                   coalesce(sum(m.amount) FILTER (WHERE m.asset = 'co2e_mg'), 0)::int8 AS co2e_mg,
                   coalesce(t.hold_id, c.hold_id, t.transfer_id) AS redemption_id
            FROM ledger.transfer t JOIN ledger.movement m USING (participant_id, transfer_id)
            LEFT JOIN ledger.transfer c ON c.participant_id = t.participant_id AND c.transfer_id = t.reverses
            WHERE t.kind IN ('hold', 'capture', 'release', 'refund')
            GROUP BY t.participant_id, t.transfer_id, t.kind, t.reason, t.effective_on, t.hold_id, c.hold_id
        )
        SELECT concat_ws(' ', participant_id, transfer_id) AS about,
               concat_ws(' ', coalesce(e.kind, 'no entry'), e.reason, e.points, e.co2e_mg, e.day) AS stored,
               concat_ws(' ', coalesce(m.kind, 'no transfer'), m.reason, m.points, m.co2e_mg, m.effective_on) AS journal
        FROM service.redemption_entry e FULL JOIN moved m USING (participant_id, transfer_id)
        WHERE (e.kind, e.reason, e.points, e.co2e_mg, e.day, e.redemption_id)
            IS DISTINCT FROM (m.kind, m.reason, m.points, m.co2e_mg, m.effective_on, m.redemption_id)
    """,
    "redemption": """
        WITH steps AS (
            SELECT participant_id, redemption_id, bank_id,
                   coalesce(sum(units) FILTER (WHERE kind = 'hold'), 0) AS held,
                   coalesce(sum(units) FILTER (WHERE kind = 'capture'), 0) AS captured,
                   coalesce(sum(units) FILTER (WHERE kind = 'release'), 0) AS released,
                   coalesce(sum(units) FILTER (WHERE kind = 'refund'), 0) AS refunded,
                   coalesce(sum(points) FILTER (WHERE kind = 'hold'), 0) AS points,
                   coalesce(sum(value_fen) FILTER (WHERE kind = 'hold'), 0) AS value_fen,
                   bool_or(value_fen * s.whole_units <> s.whole_fen * units) AS uneven,
                   bool_or(kind = 'capture' AND recorded_at >= s.expires_at
                       OR kind = 'release' AND (reason = 'lapsed') <> (recorded_at >= s.expires_at)) AS late
            FROM service.redemption_entry e,
            LATERAL (SELECT r.units AS whole_units, r.value_fen AS whole_fen, r.expires_at FROM service.redemption r
                WHERE r.participant_id = e.participant_id AND r.redemption_id = e.redemption_id) AS s
            GROUP BY participant_id, redemption_id, bank_id
        )
        SELECT concat_ws(' ', participant_id, redemption_id) AS about,
               format('%s units for %s points, %s fen: %s left, %s captured, %s refunded, %s', r.units, r.points,
                   r.value_fen, r.units_left, r.units_captured, r.units_refunded, r.state) AS stored,
               format('%s units for %s points, %s fen: %s released, %s captured, %s refunded', s.held, s.points,
                   s.value_fen, s.released, s.captured, s.refunded) AS journal
        FROM service.redemption r FULL JOIN steps s USING (participant_id, redemption_id, bank_id)
        WHERE (r.units, r.points, r.value_fen, r.units_left, r.units_captured, r.units_refunded) IS DISTINCT FROM
              (s.held, s.points, s.value_fen, s.held - s.captured - s.released, s.captured, s.refunded)
           OR s.uneven OR (r.state = 'held') <> (r.units_left > 0)
           OR (r.state IN ('captured', 'refunded')) <> (r.units_left = 0 AND r.units_captured > 0)
           OR (r.state = 'refunded')
              <> (r.units_left = 0 AND r.units_captured > 0 AND r.units_refunded = r.units_captured)
           OR (r.accepted_at IS NULL AND r.units_captured > 0) OR s.late
    """,
    "redemption and hold": """
        SELECT concat_ws(' ', p.participant_id, coalesce(r.redemption_id, h.hold_id)) AS about,
               format('%s of %s units left until %s', r.units_left, r.units, r.expires_at) AS stored,
               format('%s points, %s mg held until %s', h.points_left, h.co2e_left, h.expires_at) AS journal
        FROM service.redemption r
        FULL JOIN ledger.hold h ON h.participant_id = r.participant_id AND h.hold_id = r.redemption_id
        LEFT JOIN LATERAL (SELECT coalesce(r.participant_id, h.participant_id) AS participant_id) AS p ON true
        WHERE h.points_left IS DISTINCT FROM r.points / r.units * r.units_left
           OR h.co2e_left IS DISTINCT FROM r.co2e_mg / r.units * r.units_left
           OR h.expires_at IS DISTINCT FROM r.expires_at
    """,
    "redemption key": """
        SELECT coalesce(r.redemption_id, k.redemption_id)::text AS about, coalesce(k.bank_id::text, 'no key') AS stored,
               coalesce(r.bank_id::text, 'no redemption') AS journal
        FROM service.redemption r FULL JOIN service.redemption_key k USING (redemption_id)
        WHERE (r.participant_id, r.bank_id) IS DISTINCT FROM (k.participant_id, k.bank_id)
    """,
    # What is left of a budget is what was paid in, less what holds took and did not give back.
    "pool": """
        WITH budget AS (
            SELECT pool, sum(CASE action WHEN 'lowered' THEN -points ELSE points END) AS points,
                   sum(CASE action WHEN 'lowered' THEN -value_fen ELSE value_fen END) AS fen
            FROM service.pool_change GROUP BY pool
        ), drawn AS (
            SELECT r.pool, sum(CASE e.kind WHEN 'hold' THEN e.points ELSE -e.points END) AS points,
                   sum(CASE e.kind WHEN 'hold' THEN e.value_fen ELSE -e.value_fen END) AS fen
            FROM service.redemption_entry e JOIN service.redemption r USING (participant_id, redemption_id)
            WHERE e.kind IN ('hold', 'release', 'refund') GROUP BY r.pool
        ), slots AS (
            SELECT pool, sum(points_left) AS points, sum(fen_left) AS fen FROM service.pool_slot
            WHERE day = '-infinity' GROUP BY pool
        )
        SELECT pool AS about, format('%s points, %s fen left', s.points, s.fen) AS stored,
               format('%s points, %s fen left', b.points - coalesce(d.points, 0), b.fen - coalesce(d.fen, 0)) AS journal
        FROM budget b LEFT JOIN drawn d USING (pool) FULL JOIN slots s USING (pool)
        WHERE (s.points, s.fen) IS DISTINCT FROM (b.points - coalesce(d.points, 0), b.fen - coalesce(d.fen, 0))
    """,
    # Of a day's limit: less what that day's holds took, and did not give back before its midnight.
    "pool day": """
        WITH drawn AS (
            SELECT r.pool, h.day,
                   sum(CASE e.kind WHEN 'hold' THEN e.points ELSE -e.points END)::int8 AS points
            FROM service.redemption r
            JOIN service.redemption_entry h ON (h.participant_id, h.transfer_id) = (r.participant_id, r.redemption_id)
            JOIN service.redemption_entry e
                ON (e.participant_id, e.redemption_id, e.day) = (r.participant_id, r.redemption_id, h.day)
            WHERE e.kind IN ('hold', 'release', 'refund') GROUP BY r.pool, h.day
        ), slots AS (
            SELECT pool, day, sum(points_left)::int8 AS points FROM service.pool_slot WHERE day <> '-infinity'
            GROUP BY pool, day
        )
        SELECT concat_ws(' ', pool, day) AS about, coalesce(s.points::text, 'no slots') AS stored,
               (p.points_per_day - coalesce(d.points, 0))::text AS journal
        FROM drawn d FULL JOIN slots s USING (pool, day) JOIN service.pool p USING (pool)
        WHERE s.points IS DISTINCT FROM p.points_per_day - coalesce(d.points, 0)
    """,
}


async def check_redemptions(connection: asyncpg.Connection) -> list[Finding]:
    """Compare redemptions, their holds, their entries and the pools, as of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL statement_timeout = 0")
        return [
            Finding(check, row["about"], row["stored"], row["journal"])
            for check, query in _DIFFERENCES.items()
            for row in await connection.fetch(query, timeout=None)
        ]
