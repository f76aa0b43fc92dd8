"""The SQL of activities: claim event keys, find the answers given before, append activities with their evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import orjson

from service.activities.intake import Licence, Refusal, Report
from service.activities.rules import RuleRef
from service.database import Connection


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What an event was answered when it first came, rebuilt from what was posted; `refusal` is None when it was
    credited."""

    fingerprint: bytes
    activity_id: UUID
    co2e_mg: int
    points: int
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decided activity to store: whose it is, and the points rule it was credited under, None when it was refused."""

    report: Report
    participant_id: UUID
    points_rule: RuleRef | None


@dataclass(frozen=True, slots=True)
class RecordedActivity:
    """An activity as stored, with its evidence while that has not been erased."""

    scenario: str
    day: date
    source_uri: str
    source_title_zh: str
    source_title_en: str
    grade: str
    methodology_digest: str
    points_rule_digest: str | None
    document: Mapping[str, Any] | None


# Sorted, so that two batches with the same events meet in the same order; a key another transaction is inserting is
# waited for.
_CLAIM = """
    INSERT INTO service.event_key (key, key_version, fingerprint, participant_id, activity_id)
    SELECT * FROM unnest($1::bytea[], $2::int2[], $3::bytea[], $4::uuid[], $5::uuid[]) AS new (key, v, f, p,
        a) ORDER BY new.key
    ON CONFLICT (key) DO NOTHING RETURNING key
"""  # a conflict is not swallowed: read_answers compares the fingerprints

_ANSWERS = """
    SELECT k.key, k.fingerprint, k.activity_id, a.outcome, a.reason, e.refusal,
           coalesce(m.co2e_mg, 0)::int8 AS co2e_mg, coalesce(m.points, 0)::int8 AS points
    FROM service.event_key k
    JOIN service.activity a USING (participant_id, activity_id)
    LEFT JOIN service.evidence e USING (participant_id, activity_id)
    LEFT JOIN LATERAL (
        SELECT sum(amount) FILTER (WHERE asset = 'co2e_mg') AS co2e_mg,
            sum(amount) FILTER (WHERE asset = 'points') AS points
        FROM ledger.movement WHERE participant_id = k.participant_id AND transfer_id = k.activity_id
    ) AS m ON true
    WHERE k.key = ANY($1)
"""

_ACTIVITY_COLUMNS = (
    "participant_id",
    "activity_id",
    "source_id",
    "grade",
    "scenario",
    "day",
    "outcome",
    "reason",
    "methodology_id",
    "points_rule_id",
    "programme",
    "region",
    "recorded_at",
)
_EVIDENCE_COLUMNS = ("participant_id", "activity_id", "salt", "document", "refusal")

_RECORDED = """
    SELECT a.scenario, a.day, s.uri, s.title_zh, s.title_en, a.grade, m.digest AS methodology,
        p.digest AS points_rule, e.document
    FROM service.activity a
    JOIN service.source s USING (source_id)
    JOIN service.rule_document m ON m.rule_id = a.methodology_id
    LEFT JOIN service.rule_document p ON p.rule_id = a.points_rule_id
    LEFT JOIN service.evidence e ON e.participant_id = a.participant_id AND e.activity_id = a.activity_id
    WHERE a.participant_id = $1 AND a.activity_id = $2
"""

_REGISTER_SOURCE = """
    INSERT INTO service.source (uri, title_zh, title_en, grade, scenarios, programme, region, valid_from, valid_to,
        registered_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
    ON CONFLICT (uri) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en, grade = excluded.grade,
        scenarios = excluded.scenarios, valid_from = excluded.valid_from, valid_to = excluded.valid_to
    RETURNING source_id
"""

_LICENCE = """
    SELECT source_id, uri, grade, scenarios, programme, region, valid_from, valid_to FROM service.source WHERE uri = $1
"""


async def claim_event_keys(tx: Connection, reports: Sequence[tuple[Report, UUID]]) -> set[bytes]:
    """Take the event keys of these reports for their participants; return those that were free."""
    if not reports:
        return set()
    rows = await tx.fetch(
        _CLAIM,
        [report.key for report, _ in reports],
        [report.key_version for report, _ in reports],
        [report.fingerprint for report, _ in reports],
        [participant_id for _, participant_id in reports],
        [report.activity_id for report, _ in reports],
    )
    return {row["key"] for row in rows}


async def read_answers(tx: Connection, keys: Sequence[bytes]) -> dict[bytes, StoredAnswer]:
    """What the events of these keys were answered; unknown keys are absent.

    Of a refusal whose evidence was erased only the reason is left, without its values.
    """
    answers = {}
    for row in await tx.fetch(_ANSWERS, keys):
        params = orjson.loads(row["refusal"]) if row["refusal"] else {}
        refusal = Refusal.stored(row["reason"], params) if row["outcome"] == "refused" else None
        answers[row["key"]] = StoredAnswer(
            row["fingerprint"], row["activity_id"], row["co2e_mg"], row["points"], refusal
        )
    return answers


async def append_activities(tx: Connection, recorded: Sequence[Recorded], *, at: datetime) -> None:
    """Store decided activities and their evidence; the credited ones' transfers follow in the same transaction."""
    if not recorded:
        return
    activities = [_activity(each, at) for each in recorded]
    evidence = [_evidence(each) for each in recorded]
    await tx.copy_records_to_table("activity", schema_name="service", columns=_ACTIVITY_COLUMNS, records=activities)
    await tx.copy_records_to_table("evidence", schema_name="service", columns=_EVIDENCE_COLUMNS, records=evidence)


def _activity(recorded: Recorded, at: datetime) -> tuple[object, ...]:
    report, verdict = recorded.report, recorded.report.verdict
    return (
        recorded.participant_id,
        report.activity_id,
        report.licence.source_id,
        report.licence.grade,
        report.scenario,
        report.day,
        "refused" if isinstance(verdict, Refusal) else "credited",
        verdict.reason if isinstance(verdict, Refusal) else None,
        report.methodology and report.methodology.rule_id,
        recorded.points_rule and recorded.points_rule.rule_id,
        report.licence.programme,
        report.licence.region,
        at,
    )


def _evidence(recorded: Recorded) -> tuple[object, ...]:
    report, verdict = recorded.report, recorded.report.verdict
    refusal = orjson.dumps(dict(verdict.params)) if isinstance(verdict, Refusal) else None
    return recorded.participant_id, report.activity_id, report.salt, report.document, refusal


async def read_activity(tx: Connection, participant_id: UUID, activity_id: UUID) -> RecordedActivity | None:
    """One activity with its source, rules and evidence; None when there is none of this id."""
    row = await tx.fetchrow(_RECORDED, participant_id, activity_id)
    if row is None:
        return None
    return RecordedActivity(
        row["scenario"],
        row["day"],
        row["uri"],
        row["title_zh"],
        row["title_en"],
        row["grade"],
        row["methodology"].hex(),
        row["points_rule"].hex() if row["points_rule"] else None,
        row["document"] and orjson.loads(row["document"]),
    )


async def register_source(
    tx: Connection,
    *,
    uri: str,
    titles: tuple[str, str],
    grade: str,
    scenarios: Sequence[str],
    programme: str,
    region: str,
    valid_from: date,
    valid_to: date | None,
) -> int:
    """Register a data provider by its URI, or bring its registration up to date; return its id. `titles` are zh, en."""
    source_id: int = await tx.fetchval(
        _REGISTER_SOURCE, uri, *titles, grade, list(scenarios), programme, region, valid_from, valid_to
    )
    return source_id


async def read_licence(tx: Connection, uri: str) -> Licence | None:
    """A source as it is registered now; None when it is not."""
    row = await tx.fetchrow(_LICENCE, uri)
    if row is None:
        return None
    return Licence(
        row["source_id"],
        row["uri"],
        row["grade"],
        frozenset(row["scenarios"]),
        row["programme"],
        row["region"],
        row["valid_from"],
        row["valid_to"],
    )
