"""Tombstones 墓碑: what is remembered of somebody who was erased, so that coming back does not renew their caps.

A tombstone is found by the keyed tags that the person was known by, at the city's identity provider and at the sources
they had linked. It holds how much of each cap was used in the windows that can still be reported for, and not whose
account that was. Whoever comes back begins with what was used. Then a credit that no longer fits is refused whole and
never cut: an auditor, who sees the new account's credits alone, finds each of them within the caps.
"""

from collections.abc import Sequence
from datetime import date
from uuid import UUID, uuid4

from service.database import Connection

_YEARS_KEPT = 1  # a year's activities may be reported until late in the next: electricity is settled then

_TAGS = """
    WITH known AS (
        SELECT 'person' AS kind, 0 AS source_id, person_tag AS tag FROM vault.person WHERE participant_id = $1
        UNION SELECT 'subject', source_id, subject_tag FROM service.link WHERE participant_id = $1
        UNION SELECT t.kind, t.source_id, t.tag FROM service.returned r JOIN service.tombstone t USING (tombstone_id)
            WHERE r.participant_id = $1
    )
    INSERT INTO service.tombstone (kind, source_id, tag, tombstone_id, expires_on)
    SELECT kind, source_id, tag, $2, $3 FROM known ORDER BY kind, source_id, tag
    ON CONFLICT (kind, source_id, tag) DO UPDATE
        SET tombstone_id = excluded.tombstone_id, expires_on = excluded.expires_on
"""  # a conflict is a tombstone that this participant came back under: the new one holds what it held
_TALLIES = """
    INSERT INTO service.tombstone_tally (tombstone_id, cap, window_start, used)
    SELECT $2, cap, window_start, used FROM service.tally
    WHERE participant_id = $1 AND window_start >= $3 AND used > 0
"""
_ORPHANED = """
    DELETE FROM service.tombstone_tally k
    WHERE NOT EXISTS (SELECT FROM service.tombstone t WHERE t.tombstone_id = k.tombstone_id)
        AND k.tombstone_id IN (SELECT tombstone_id FROM service.returned WHERE participant_id = $1)
"""
_RETURN = """
    WITH met AS (
        INSERT INTO service.returned (participant_id, tombstone_id)
        SELECT DISTINCT n.participant_id, t.tombstone_id
        FROM unnest($1::uuid[], $2::text[], $3::int4[], $4::bytea[]) AS n (participant_id, kind, source_id, tag)
        JOIN service.tombstone t USING (kind, source_id, tag)
        ON CONFLICT DO NOTHING RETURNING participant_id, tombstone_id
    )
    INSERT INTO service.tally AS t (participant_id, cap, window_start, used, carried)
    SELECT met.participant_id, k.cap, k.window_start, sum(k.used), sum(k.used)
    FROM met JOIN service.tombstone_tally k USING (tombstone_id)
    GROUP BY met.participant_id, k.cap, k.window_start
    ON CONFLICT (participant_id, cap, window_start) DO UPDATE
        SET used = t.used + excluded.used, carried = t.carried + excluded.carried
"""
_EXPIRE = (
    "DELETE FROM service.tombstone_tally WHERE tombstone_id IN "
    "(SELECT tombstone_id FROM service.tombstone WHERE expires_on < $1)",
    "DELETE FROM service.tombstone WHERE expires_on < $1",
)

Known = tuple[UUID, str, int, bytes]
"""A participant, and what they are known by: `person` with source 0, or `subject` with its source; and the tag."""


async def bury(tx: Connection, participant_id: UUID, today: date) -> None:
    """Remember what this participant, who is locked, has used of each cap, under everything they are known by."""
    tombstone_id, first = uuid4(), date(today.year - _YEARS_KEPT, 1, 1)
    await tx.execute(_TAGS, participant_id, tombstone_id, date(today.year + _YEARS_KEPT, 12, 31))
    await tx.execute(_TALLIES, participant_id, tombstone_id, first)
    await tx.execute(_ORPHANED, participant_id)


async def bring_back(tx: Connection, known: Sequence[Known]) -> None:
    """Let participants who have just become known by these tags begin with what is remembered under them; each
    tombstone counts once for each. Their accounts are new or locked."""
    if known:
        await tx.execute(_RETURN, *map(list, zip(*known, strict=True)))


async def expire(tx: Connection, today: date) -> int:
    """Forget what is remembered for long enough; how many tags were."""
    for statement in _EXPIRE:
        removed: str = await tx.execute(statement, today)
    return int(removed.rpartition(" ")[2])
