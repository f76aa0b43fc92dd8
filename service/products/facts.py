"""What is known of a person when an offer is priced or refused: read in one statement, under the lock they are posted
under."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from service.clock import shanghai_day
from service.database import Connection
from service.participants import ParticipantNotFound
from service.products.model import MG_PER_G, Facts, year_before

# A credit counts whole while it stands, on the day it happened; what is pending counts once it has matured. Grams that
# passed to a funder with points were verified all the same. A dead hold's units are nobody's, whether or not its lapse
# has been written down.
_FACTS = """
    WITH wanted AS (
        SELECT * FROM unnest($1::uuid[], $2::text[], $6::bool[]) AS w (participant_id, offer, grams)
    ), person AS MATERIALIZED (
        SELECT a.participant_id, a.kind, a.region,
            a.points_available - coalesce((
                SELECT sum(b.available) FROM ledger.bucket b
                WHERE b.participant_id = a.participant_id AND b.expires_on < $4
            ), 0)::int8 AS available_points,
            a.kind <> 'citizen' AND EXISTS (
                SELECT FROM service.organisation o
                JOIN service.register_entry e ON e.register = 'coverage' AND e.subject_tag = o.code_tag
                WHERE o.participant_id = a.participant_id AND e.withdrawn_at IS NULL
                    AND e.valid_from <= $4 AND coalesce(e.valid_to, $4) >= $4
            ) AS covered,
            CASE WHEN w.grams THEN (
                SELECT coalesce(sum(m.amount), 0)::int8
                FROM ledger.transfer t JOIN ledger.movement m USING (participant_id, transfer_id)
                WHERE t.participant_id = a.participant_id AND t.kind = 'credit'
                    AND t.effective_on > $5 AND t.effective_on <= $4
                    AND m.asset = 'co2e_mg' AND m.from_account = 'issuance'
                    AND NOT EXISTS (
                        SELECT FROM ledger.reversed r
                        WHERE r.participant_id = t.participant_id AND r.transfer_id = t.transfer_id
                    )
                    AND (m.to_account <> 'pending' OR EXISTS (
                        SELECT FROM ledger.matured x
                        WHERE x.participant_id = t.participant_id AND x.transfer_id = t.transfer_id
                    ))
            ) ELSE 0 END AS verified_mg
        FROM (SELECT participant_id, bool_or(grams) AS grams FROM wanted GROUP BY participant_id) AS w
        JOIN ledger.account a USING (participant_id)
    )
    SELECT w.participant_id, w.offer, p.kind, p.region, p.available_points, p.covered, p.verified_mg, s.this_year,
        s.ever
    FROM wanted w JOIN person p USING (participant_id)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(units) FILTER (WHERE date_trunc('year', day) = date_trunc('year', $4::date)), 0)::int8
            AS this_year, coalesce(bool_or(units > 0), false) AS ever
        FROM (
            SELECT (r.created_at AT TIME ZONE 'Asia/Shanghai')::date AS day,
                r.units_captured - r.units_refunded + CASE WHEN r.expires_at > $3 THEN r.units_left ELSE 0 END AS units
            FROM service.redemption r WHERE r.participant_id = w.participant_id AND r.offer = w.offer
        ) AS standing
    ) AS s
"""


async def read_facts(
    tx: Connection, participant_id: UUID, offer_ids: Sequence[str], at: datetime, *, grams: bool = True
) -> dict[str, Facts]:
    """The facts of one person by offer, at a moment whose Asia/Shanghai day decides.

    grams   False leaves `verified_g` 0, for offers that do not weigh it (Offer.weighs_grams)

    Raises ParticipantNotFound.
    """
    found = await read_many_facts(tx, [(participant_id, offer_id, grams) for offer_id in offer_ids], at)
    if offer_ids and not found:
        raise ParticipantNotFound
    return {offer_id: facts for (_, offer_id), facts in found.items()}


async def read_many_facts(
    tx: Connection, wanted: Sequence[tuple[UUID, str, bool]], at: datetime
) -> dict[tuple[UUID, str], Facts]:
    """The same of many at once: who, by which offer, and whether grams are weighed. Unknown people are absent."""
    day = shanghai_day(at)
    people, offers, grams = ([each[place] for each in wanted] for place in range(3))
    rows = await tx.fetch(_FACTS, people, offers, at, day, year_before(day), grams)
    return {
        (row["participant_id"], row["offer"]): Facts(
            kind=row["kind"],
            region=row["region"],
            verified_g=row["verified_mg"] // MG_PER_G,
            redeemed_units_this_year=row["this_year"],
            redeemed_before=row["ever"],
            covered=row["covered"],
            available_points=row["available_points"],
            day=day,
        )
        for row in rows
    }
