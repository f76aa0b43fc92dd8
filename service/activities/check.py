"""Compare every activity with the leaf of its credit: what the database says was counted must be what the log says."""

import asyncpg

from ledger.check import Finding

# One row per field that differs; a credit without its activity, or an activity without its credit, differs in all.
_DIFFERENCES = """
    WITH leaf AS (
        SELECT participant_id, transfer_id, convert_from(leaf, 'UTF8')::jsonb AS said FROM ledger.leaf
        UNION ALL SELECT participant_id, transfer_id, convert_from(leaf, 'UTF8')::jsonb FROM ledger.leaf_queue
    ), credit AS (
        SELECT participant_id, transfer_id AS activity_id, said FROM leaf WHERE said ->> 'kind' = 'credit'
    ), activity AS (
        SELECT a.participant_id, a.activity_id, a.day::text, a.grade, a.programme, a.region, s.uri,
               encode(m.digest, 'hex') AS methodology, encode(p.digest, 'hex') AS points_rule
        FROM service.activity a
        JOIN service.source s USING (source_id)
        JOIN service.rule_document m ON m.rule_id = a.methodology_id
        LEFT JOIN service.rule_document p ON p.rule_id = a.points_rule_id
        WHERE a.outcome = 'credited'
    )
    SELECT participant_id || ' ' || activity_id AS about, field.name, field.stored, field.said
    FROM activity a FULL JOIN credit c USING (participant_id, activity_id),
    LATERAL (VALUES
        ('activity', activity_id::text, c.said ->> 'activity'), ('day', a.day, c.said ->> 'day'),
        ('grade', a.grade, c.said ->> 'grade'), ('programme', a.programme, c.said ->> 'programme'),
        ('region', a.region, c.said ->> 'region'), ('source', a.uri, c.said ->> 'source'),
        ('methodology', a.methodology, c.said ->> 'methodology'),
        ('points rule', a.points_rule, c.said ->> 'points_rule')
    ) AS field (name, stored, said)
    WHERE field.stored IS DISTINCT FROM field.said
"""


async def check_activities(connection: asyncpg.Connection) -> list[Finding]:
    """Every difference between stored activities and the leaves of their credits. Reads only."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL statement_timeout = 0")
        rows = await connection.fetch(_DIFFERENCES, timeout=None)
    return [Finding(f"activity {row['name']}", row["about"], str(row["stored"]), str(row["said"])) for row in rows]
