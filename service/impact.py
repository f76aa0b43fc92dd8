"""What a new version of a methodology would have changed: recorded activities, computed again from their evidence."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

from ledger.units import CO2e
from service.clock import shanghai_day
from service.quantification.evidence import activity_data
from service.quantification.model import ActivityData, Methodology
from service.quantification.points import (
    NoPointsRuleInForce,
    PointsCatalogue,
    PointsRule,
    parse_points_rule,
    points_for,
)
from service.quantification.quantify import quantify
from service.quantification.refusals import NoMethodologyInForce, Refusal
from service.vault import Vault, opened_beside

BATCH = 1_000  # rows fetched at a time: a cursor in the server, so that memory does not grow with the table

# What was taken back earns nothing under any version.
_RECORDED = """
    SELECT a.participant_id, a.activity_id, a.recorded_at, a.programme, p.digest AS points_rule, e.sealed,
        k.kek_version, k.wrapped
    FROM service.activity a
    JOIN service.rule_document m ON m.rule_id = a.methodology_id
    LEFT JOIN service.rule_document p ON p.rule_id = a.points_rule_id
    LEFT JOIN service.evidence e ON e.participant_id = a.participant_id AND e.activity_id = a.activity_id
    LEFT JOIN vault.person_key k ON k.participant_id = a.participant_id
    WHERE m.digest = $1 AND NOT EXISTS (
        SELECT FROM ledger.reversed r WHERE r.participant_id = a.participant_id AND r.transfer_id = a.activity_id
    )
    LIMIT $2
"""


@dataclass(slots=True)
class Impact:
    """Counts of recorded activities, and what they would have earned more or less in all.

    looked_at        how many were read; complete is False where there are more than the limit
    not_in_force     on days that the new version does not cover: they stay as they are
    erased           whose evidence is gone: nobody can tell
    newly_refused    by reason
    """

    looked_at: int = 0
    complete: bool = True
    unchanged: int = 0
    more: int = 0
    less: int = 0
    newly_credited: int = 0
    newly_refused: Counter[str] = field(default_factory=Counter)
    not_in_force: int = 0
    erased: int = 0
    difference_mg: int = 0
    difference_points: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "looked_at": self.looked_at,
            "complete": self.complete,
            "unchanged": self.unchanged,
            "more": self.more,
            "less": self.less,
            "newly_credited": self.newly_credited,
            "newly_refused": self.newly_refused.total(),
            "newly_refused_by_reason": dict(sorted(self.newly_refused.items())),
            "not_in_force": self.not_in_force,
            "erased": self.erased,
            "difference_mg": self.difference_mg,
            "difference_points": self.difference_points,
        }


async def measure_impact(
    connection: "asyncpg.Connection[asyncpg.Record]",
    vault: Vault,
    previous: Methodology,
    new: Methodology,
    points_rules: PointsCatalogue,
    *,
    limit: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Impact:
    """Compute every activity recorded under `previous` by both versions and compare. Reads only, at most `limit`.

    Both are computed here, because what was posted also knew caps. Points are by the rule each was credited under, for
    what earned nothing by the rule of the day it was recorded.
    """
    impact = Impact()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        posted = await connection.fetch("SELECT digest, document FROM service.rule_document WHERE kind = 'points'")
        rules = {row["digest"]: parse_points_rule(row["document"]) for row in posted}
        cursor = connection.cursor(_RECORDED, bytes.fromhex(previous.digest), limit + 1, prefetch=BATCH)
        async for row in cursor:
            if impact.looked_at == limit:
                impact.complete = False
                break
            evidence = opened_beside(vault, row)
            document = evidence.document if evidence else None
            _compare(impact, document, previous, new, _rule_of(row, rules, points_rules))
            if impact.looked_at % BATCH == 0:
                on_progress(impact.looked_at)
    return impact


def _rule_of(
    row: asyncpg.Record, posted: Mapping[bytes, PointsRule], points_rules: PointsCatalogue
) -> PointsRule | None:
    if row["points_rule"] is not None:
        return posted[row["points_rule"]]
    try:
        return points_rules.in_force(shanghai_day(row["recorded_at"]), row["programme"])
    except NoPointsRuleInForce:
        return None


def _compare(
    impact: Impact, document: bytes | None, previous: Methodology, new: Methodology, rule: PointsRule | None
) -> None:
    impact.looked_at += 1
    if document is None:
        impact.erased += 1
        return
    activity = activity_data(orjson.loads(document))
    before, _ = _milligrams(previous, activity)
    try:
        after, reason = _milligrams(new, activity)
    except NoMethodologyInForce:
        impact.not_in_force += 1
        return
    impact.difference_mg += after - before
    if rule is not None:
        impact.difference_points += _points(rule, after) - _points(rule, before)
    if after == before:
        impact.unchanged += 1
    elif not before:
        impact.newly_credited += 1
    elif not after:
        impact.newly_refused[reason] += 1
    elif after > before:
        impact.more += 1
    else:
        impact.less += 1


def _milligrams(methodology: Methodology, activity: ActivityData) -> tuple[int, str]:
    """What the activity is worth, 0 with the reason when it is refused. Raises NoMethodologyInForce."""
    try:
        return quantify(methodology, activity).co2e.mg, ""
    except NoMethodologyInForce:
        raise
    except Refusal as refusal:
        return 0, refusal.reason


def _points(rule: PointsRule, milligrams: int) -> int:
    return points_for(rule, CO2e(milligrams)).n
