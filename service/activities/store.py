"""The SQL of activities: claim event keys, find the answers given before, append activities with their evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import orjson

from ledger.records import record
from service.activities.intake import Refusal, Report, correction_key
from service.activities.licences import Days, Licence, endings
from service.activities.rules import RuleRef
from service.database import Connection
from service.vault import DataKey, Vault, opened_beside, seal_evidence


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What an event was answered when it first came, rebuilt from what was posted; `refusal` is None when it was
    credited."""

    fingerprint: bytes
    activity_id: UUID
    co2e_mg: int
    points: int
    pending: bool
    refusal: Refusal | None


@record
class Recorded:
    """A decided activity to store: whose it is, the points rule it was credited under (None without points), and why it
    was refused (None when it was credited)."""

    report: Report
    participant_id: UUID
    points_rule: RuleRef | None
    refusal: Refusal | None


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


@dataclass(frozen=True, slots=True)
class Registration:
    """A source as it is registered now: its licence, and its names for people."""

    title_zh: str
    title_en: str
    licence: Licence


# Sorted, so that two batches with the same events meet in the same order; a key another transaction is inserting is
# waited for.
_CLAIM = """
    INSERT INTO service.event_key (key, key_version, fingerprint, participant_id, activity_id)
    SELECT new.key, $2, new.fingerprint, new.participant_id, new.activity_id
    FROM unnest($1::bytea[], $3::bytea[], $4::uuid[], $5::uuid[]) AS new (key, fingerprint, participant_id, activity_id)
    ORDER BY new.key
    ON CONFLICT (key) DO NOTHING RETURNING key
"""  # a conflict is not swallowed: read_answers compares the fingerprints

_ANSWERS = """
    SELECT k.key, k.fingerprint, k.participant_id, k.activity_id, a.outcome, a.reason, e.sealed, e.kek_version,
           e.wrapped,
           coalesce(m.co2e_mg, 0)::int8 AS co2e_mg, coalesce(m.points, 0)::int8 AS points,
           coalesce(m.pending, false) AS pending
    FROM service.event_key k
    JOIN service.activity a USING (participant_id, activity_id)
    LEFT JOIN LATERAL (
        SELECT sealed, kek_version, wrapped FROM service.evidence JOIN vault.person_key USING (participant_id)
        WHERE participant_id = k.participant_id AND activity_id = k.activity_id AND a.outcome = 'refused' OFFSET 0
    ) AS e ON true
    LEFT JOIN LATERAL (
        SELECT sum(amount) FILTER (WHERE asset = 'co2e_mg') AS co2e_mg,
            sum(amount) FILTER (WHERE asset = 'points') AS points, bool_and(to_account = 'pending') AS pending
        FROM ledger.movement WHERE participant_id = k.participant_id AND transfer_id = k.activity_id
    ) AS m ON true
    WHERE k.key = ANY($1)
"""

_EVENTS = "SELECT key, participant_id, activity_id FROM service.event_key WHERE key = ANY($1)"

_RULE_AND_DAY = """
    SELECT m.digest, a.day FROM service.activity a JOIN service.rule_document m ON m.rule_id = a.methodology_id
    WHERE a.participant_id = $1 AND a.activity_id = $2
"""

_POINTS_RULE = """
    SELECT a.scenario, p.digest FROM service.activity a JOIN service.rule_document p ON p.rule_id = a.points_rule_id
    WHERE a.participant_id = $1 AND a.activity_id = $2
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
_EVIDENCE_COLUMNS = ("participant_id", "activity_id", "sealed")

_RECORDED = """
    SELECT a.participant_id, a.activity_id, a.scenario, a.day, s.uri, s.title_zh, s.title_en, a.grade,
        m.digest AS methodology, p.digest AS points_rule, e.sealed, k.kek_version, k.wrapped
    FROM service.activity a
    JOIN service.source s USING (source_id)
    JOIN service.rule_document m ON m.rule_id = a.methodology_id
    LEFT JOIN service.rule_document p ON p.rule_id = a.points_rule_id
    LEFT JOIN service.evidence e ON e.participant_id = a.participant_id AND e.activity_id = a.activity_id
    LEFT JOIN vault.person_key k ON k.participant_id = a.participant_id
    WHERE a.participant_id = $1 AND a.activity_id = $2
"""

_REGISTER_SOURCE = """
    INSERT INTO service.source (uri, title_zh, title_en, grade, programme, region, registered_at)
    VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
    ON CONFLICT (uri) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en, grade = excluded.grade
    RETURNING source_id
"""  # and the row is locked: two registrations of one source do not mix their licences

# A licence that stays as it is stays granted when it was; one that is left out or changed is superseded.
_GRANT = """
    WITH moment AS MATERIALIZED (SELECT clock_timestamp() AS at), wanted AS (
        SELECT * FROM unnest($2::text[], $3::date[], $4::date[]) AS w (scenario, valid_from, valid_to)
    ), live AS (
        SELECT * FROM service.licence WHERE source_id = $1 AND superseded_at IS NULL
    ), superseded AS (
        UPDATE service.licence AS l SET superseded_at = (SELECT at FROM moment)
        WHERE l.source_id = $1 AND l.superseded_at IS NULL AND NOT EXISTS (
            SELECT FROM wanted AS w
            WHERE (w.scenario, w.valid_from) = (l.scenario, l.valid_from) AND w.valid_to IS NOT DISTINCT FROM l.valid_to
        )
    )
    INSERT INTO service.licence (source_id, scenario, valid_from, valid_to, granted_at)
    SELECT $1, w.scenario, w.valid_from, w.valid_to, (SELECT at FROM moment) FROM wanted AS w
    WHERE NOT EXISTS (
        SELECT FROM live AS l
        WHERE (w.scenario, w.valid_from) = (l.scenario, l.valid_from) AND w.valid_to IS NOT DISTINCT FROM l.valid_to
    )
"""

_REGISTERED = """
    SELECT s.source_id, s.uri, s.title_zh, s.title_en, s.grade, s.programme, s.region, l.scenario, l.valid_from,
        l.valid_to
    FROM service.source s LEFT JOIN service.licence l ON l.source_id = s.source_id AND l.superseded_at IS NULL
    WHERE s.uri = $1 ORDER BY l.scenario, l.valid_from
"""


async def claim_event_keys(tx: Connection, reports: Sequence[tuple[Report, UUID]]) -> set[bytes]:
    """Take the event keys of these reports for their participants; return those that were free."""
    if not reports:
        return set()
    rows = await tx.fetch(
        _CLAIM,
        [report.key for report, _ in reports],
        reports[0][0].key_version,
        [report.fingerprint for report, _ in reports],
        [participant_id for _, participant_id in reports],
        [report.activity_id for report, _ in reports],
    )
    return {row["key"] for row in rows}


async def claim_corrections(tx: Connection, reports: Sequence[tuple[Report, UUID]]) -> dict[bytes, UUID]:
    """Take, for each of these corrections, the one place that the event it replaces has for its correction; return
    those that come too late, by their own keys, with the activity that has the place."""
    places = {correction_key(report.replaces): each for each in reports if (report := each[0]).replaces}
    if not places:
        return {}
    rows = await tx.fetch(
        _CLAIM,
        list(places),
        reports[0][0].key_version,
        [report.replaces for report, _ in places.values()],
        [participant_id for _, participant_id in places.values()],
        [report.activity_id for report, _ in places.values()],
    )
    late = places.keys() - {row["key"] for row in rows}
    return {places[key][0].key: activity_id for key, (_, activity_id) in (await read_events(tx, list(late))).items()}


async def read_answers(tx: Connection, vault: Vault, keys: Sequence[bytes]) -> dict[bytes, StoredAnswer]:
    """What the events of these keys were answered; unknown keys are absent.

    Of a refusal whose evidence was erased only the reason is left, without its values.
    """
    answers = {}
    for row in await tx.fetch(_ANSWERS, keys):
        evidence = opened_beside(vault, row)
        params = orjson.loads(evidence.refusal) if evidence and evidence.refusal else {}
        refused = row["outcome"] == "refused"
        refusal = Refusal.stored(row["reason"], params, row["activity_id"]) if refused else None
        answers[row["key"]] = StoredAnswer(
            row["fingerprint"], row["activity_id"], row["co2e_mg"], row["points"], row["pending"], refusal
        )
    return answers


async def append_activities(
    tx: Connection, recorded: Sequence[Recorded], keys: Mapping[UUID, DataKey], *, at: datetime
) -> None:
    """Store decided activities and their evidence, sealed; the credited ones' transfers follow in the same transaction.

    keys   the data key of every participant among them
    """
    if not recorded:
        return
    activities = [_activity(each, at) for each in recorded]
    evidence = [_evidence(each, keys[each.participant_id]) for each in recorded]
    await tx.copy_records_to_table("activity", schema_name="service", columns=_ACTIVITY_COLUMNS, records=activities)
    await tx.copy_records_to_table("evidence", schema_name="service", columns=_EVIDENCE_COLUMNS, records=evidence)


def _activity(recorded: Recorded, at: datetime) -> tuple[object, ...]:
    report, refusal = recorded.report, recorded.refusal
    return (
        recorded.participant_id,
        report.activity_id,
        report.licence.source_id,
        report.licence.grade,
        report.scenario,
        report.day,
        "refused" if refusal else "credited",
        refusal.reason if refusal else None,
        report.methodology and report.methodology.rule_id,
        recorded.points_rule and recorded.points_rule.rule_id,
        report.licence.programme,
        report.licence.region,
        at,
    )


def _evidence(recorded: Recorded, key: DataKey) -> tuple[object, ...]:
    report = recorded.report
    refusal = orjson.dumps(dict(recorded.refusal.params)) if recorded.refusal else None
    sealed = seal_evidence(key, report.activity_id, report.salt, report.document, refusal)
    return recorded.participant_id, report.activity_id, sealed


async def read_events(tx: Connection, keys: Sequence[bytes]) -> dict[bytes, tuple[UUID, UUID]]:
    """Whose events these are, and their activities; unknown ones are absent."""
    if not keys:
        return {}
    return {key: (participant_id, activity_id) for key, participant_id, activity_id in await tx.fetch(_EVENTS, keys)}


async def read_rule_and_day(tx: Connection, participant_id: UUID, activity_id: UUID) -> tuple[str | None, date | None]:
    """The digest of the methodology an activity was judged by, and its day; None twice when there is no activity."""
    row = await tx.fetchrow(_RULE_AND_DAY, participant_id, activity_id)
    return (row["digest"].hex(), row["day"]) if row else (None, None)


async def read_points_rule(tx: Connection, participant_id: UUID, activity_id: UUID) -> tuple[str, str] | None:
    """The scenario of an activity and the digest of the rule its points were computed by; None when it earned none."""
    row = await tx.fetchrow(_POINTS_RULE, participant_id, activity_id)
    return (row["scenario"], row["digest"].hex()) if row else None


async def read_activity(
    tx: Connection, vault: Vault, participant_id: UUID, activity_id: UUID
) -> RecordedActivity | None:
    """One activity with its source, rules and evidence; None when there is none of this id."""
    row = await tx.fetchrow(_RECORDED, participant_id, activity_id)
    if row is None:
        return None
    evidence = opened_beside(vault, row)
    return RecordedActivity(
        row["scenario"],
        row["day"],
        row["uri"],
        row["title_zh"],
        row["title_en"],
        row["grade"],
        row["methodology"].hex(),
        row["points_rule"].hex() if row["points_rule"] else None,
        orjson.loads(evidence.document) if evidence else None,
    )


async def register_source(
    tx: Connection,
    *,
    uri: str,
    titles: tuple[str, str],
    grade: str,
    licences: Sequence[tuple[str, Days]],
    programme: str,
    region: str,
) -> int:
    """Register a data provider by its URI, or bring its registration up to date, in the caller's transaction.

    titles     zh, en
    licences   a scenario and its days each, in place of those it had; no two of one scenario overlap
    returns    the source's id
    """
    source_id: int = await tx.fetchval(_REGISTER_SOURCE, uri, *titles, grade, programme, region)
    await tx.execute(
        _GRANT,
        source_id,
        [scenario for scenario, _ in licences],
        [span.first for _, span in licences],
        [span.last for _, span in licences],
    )
    return source_id


async def read_registration(tx: Connection, uri: str, today: date) -> Registration | None:
    """A source as it is registered; None when it is not. `today` decides which licences are warned of."""
    rows = await tx.fetch(_REGISTERED, uri)
    if not rows:
        return None
    spans: dict[str, tuple[Days, ...]] = {}
    for row in rows:
        if row["scenario"] is not None:
            spans[row["scenario"]] = (*spans.get(row["scenario"], ()), Days(row["valid_from"], row["valid_to"]))
    source = rows[0]
    licence = Licence(
        source["source_id"],
        source["uri"],
        source["grade"],
        spans,
        source["programme"],
        source["region"],
        endings(spans, today),
    )
    return Registration(source["title_zh"], source["title_en"], licence)


async def read_licence(tx: Connection, uri: str, today: date) -> Licence | None:
    """What a source may report, as it is registered now; None when it is not."""
    registration = await read_registration(tx, uri, today)
    return None if registration is None else registration.licence
