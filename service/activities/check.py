"""Compare what the service keeps beside the ledger with the leaves of its credits, the journal and the rules:
activities, event keys, claims, presence, provisional credits, caps, licences; and approvals and day manifests with the
leaves that tell of them. Reads only, and repairs nothing.

What is expected is computed again inside the database, so that memory here does not grow with the ledger; of each check
MOST_FINDINGS differences are told at most.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import asyncpg

from ledger.check import Finding
from service.activities.opened import lay_open
from service.quantification.earning import awaited, cap_name
from service.quantification.methodology import MethodologyInvalid, parse_once
from service.quantification.model import GRADES, Methodology
from service.quantification.periods import WHOLE_DAYS
from service.quantification.points import PointsRuleInvalid, parse_points_rule
from service.vault import Vault

MOST_FINDINGS = 1_000  # of one check: whoever emptied a table learns nothing more from the next million

_LEAF = """
    leaf AS (
        SELECT participant_id, transfer_id AS activity_id, convert_from(leaf, 'UTF8')::jsonb AS said FROM ledger.leaf
        UNION ALL SELECT participant_id, transfer_id, convert_from(leaf, 'UTF8')::jsonb FROM ledger.leaf_queue
    )
"""

_CREDIT = """
    credit AS (
        SELECT t.participant_id, t.transfer_id AS activity_id, r.reversal_id IS NULL AS stands,
            coalesce(b.reason IN ('corrected', 'superseded'), false) AS counted_anew
        FROM ledger.transfer t LEFT JOIN ledger.reversed r USING (participant_id, transfer_id)
        LEFT JOIN ledger.transfer b ON (b.participant_id, b.transfer_id) = (r.participant_id, r.reversal_id)
        WHERE t.kind = 'credit'
    )
"""

# Of whom no hours are known any more, nor what they used of caps.
_ERASED = "(SELECT participant_id FROM service.erasure WHERE state IN ('erasing', 'done'))"

# What evidence still tells of the hours of an activity and of the things it names; where it was erased, nothing.
_REPORTED = "reported AS (SELECT * FROM pg_temp.opened_evidence)"

# One row per field that differs; a credit without its activity, or an activity without its credit, differs in all.
_ACTIVITIES = f"""
    WITH {_LEAF}, credited AS (
        SELECT participant_id, activity_id, said FROM leaf WHERE said ->> 'kind' = 'credit'
    ), activity AS (
        SELECT a.participant_id, a.activity_id, a.day::text, a.grade, a.programme, a.region, s.uri,
               encode(m.digest, 'hex') AS methodology, encode(p.digest, 'hex') AS points_rule
        FROM service.activity a
        JOIN service.source s USING (source_id)
        JOIN service.rule_document m ON m.rule_id = a.methodology_id
        LEFT JOIN service.rule_document p ON p.rule_id = a.points_rule_id
        WHERE a.outcome = 'credited'
    )
    SELECT 'activity ' || field.name AS name, participant_id || ' ' || activity_id AS about, field.stored,
           field.said AS expected
    FROM activity a FULL JOIN credited c USING (participant_id, activity_id),
    LATERAL (VALUES
        ('activity', activity_id::text, c.said ->> 'activity'), ('day', a.day, c.said ->> 'day'),
        ('grade', a.grade, c.said ->> 'grade'), ('programme', a.programme, c.said ->> 'programme'),
        ('region', a.region, c.said ->> 'region'), ('source', a.uri, c.said ->> 'source'),
        ('methodology', a.methodology, c.said ->> 'methodology'),
        ('points rule', a.points_rule, c.said ->> 'points_rule')
    ) AS field (name, stored, said)
    WHERE field.stored IS DISTINCT FROM field.said
"""

# A correction's second key is made of that of the event it replaces (intake.correction_key), which it has as its
# fingerprint. Corrections of before that key was taken have none.
_KEYS = """
    event_key AS (
        SELECT *, key = sha256('tanpuhui/correction/1:'::bytea || fingerprint) AS corrects FROM service.event_key
    )
"""

_EVENT_KEYS = f"""
    WITH {_KEYS}, keys AS (
        SELECT participant_id, activity_id, count(*) FILTER (WHERE NOT corrects) AS own,
            count(*) FILTER (WHERE corrects) AS corrections
        FROM event_key GROUP BY 1, 2
    )
    SELECT 'event key' AS name, participant_id || ' ' || activity_id AS about,
           format('%s and %s of corrections', coalesce(k.own, 0), coalesce(k.corrections, 0)) AS stored,
           CASE WHEN a.outcome IS NULL THEN 'no activity' ELSE '1, and at most 1 of a correction' END AS expected
    FROM keys k FULL JOIN service.activity a USING (participant_id, activity_id)
    WHERE a.outcome IS NULL OR k.own IS DISTINCT FROM 1 OR k.corrections > 1
    UNION ALL
    SELECT 'event key', c.participant_id || ' ' || c.activity_id, 'a correction of ' || encode(c.fingerprint, 'hex'),
           'an event'
    FROM event_key c LEFT JOIN service.event_key e ON e.key = c.fingerprint WHERE c.corrects AND e.key IS NULL
"""

# A leaf names its event's key, which stays for ever, and the claims, which a reversal gives back.
_CLAIMS = f"""
    WITH {_LEAF}, {_CREDIT}, {_KEYS}, said AS (
        SELECT participant_id, activity_id, tag, true AS named
        FROM leaf, LATERAL jsonb_array_elements_text(said -> 'claims') AS tag WHERE said ->> 'kind' = 'credit'
    ), held AS (
        SELECT participant_id, activity_id, key_version || ':' || encode(tag, 'hex') AS tag, false AS for_ever
        FROM service.claim
        UNION ALL SELECT k.participant_id, k.activity_id, k.key_version || ':' || encode(k.key, 'hex'), true
        FROM event_key k JOIN service.activity a USING (participant_id, activity_id)
        WHERE a.outcome = 'credited' AND NOT k.corrects
    )
    SELECT 'claim' AS name, participant_id || ' ' || activity_id || ' ' || tag AS about,
           CASE WHEN h.for_ever IS NULL THEN 'no row' ELSE 'a row' END AS stored,
           CASE WHEN s.named IS NULL THEN 'not named by its leaf'
                WHEN c.stands THEN 'a row: the credit stands' ELSE 'no row: the credit was reversed' END AS expected
    FROM said s FULL JOIN held h USING (participant_id, activity_id, tag)
    LEFT JOIN credit c USING (participant_id, activity_id)
    WHERE s.named IS NULL OR h.for_ever IS NULL AND c.stands
        OR NOT h.for_ever AND c.stands IS NOT TRUE
"""

# Of an optional claim only the evidence tells whether it was made.
_SPANS = f"""
    WITH {_CREDIT}, {_REPORTED}, rule AS (
        SELECT methodology_id, string_to_array(names, '+') AS names, optional
        FROM unnest($1::int4[], $2::text[], $3::bool[]) AS r (methodology_id, names, optional)
    ), expected AS (
        SELECT participant_id, activity_id, a.day, e.since, e.until,
            count(*) FILTER (WHERE NOT r.optional OR e.named @> r.names) AS least,
            count(*) FILTER (WHERE NOT r.optional OR e.named IS NULL OR e.named @> r.names) AS most
        FROM service.activity a
        JOIN credit c USING (participant_id, activity_id)
        JOIN rule r USING (methodology_id)
        LEFT JOIN reported e USING (participant_id, activity_id)
        WHERE c.stands
        GROUP BY participant_id, activity_id, a.day, e.since, e.until
    ), held AS (
        SELECT participant_id, activity_id, count(*) AS spans, min(started_at) AS first, max(started_at) AS last,
            max(ended_at) AS until
        FROM service.claim_span GROUP BY participant_id, activity_id
    )
    SELECT 'claim span' AS name, participant_id || ' ' || activity_id AS about,
           CASE WHEN h.spans IS NULL THEN 'no span' ELSE format('%s spans, %s to %s', h.spans, h.first, h.until) END
               AS stored,
           CASE WHEN e.day IS NULL THEN 'no credit that stands and claims a span'
                ELSE format('%s to %s spans on %s, %s to %s', e.least, e.most, e.day, e.since, e.until) END AS expected
    FROM expected e FULL JOIN held h USING (participant_id, activity_id)
    WHERE e.day IS NULL OR coalesce(h.spans, 0) NOT BETWEEN e.least AND e.most
        OR (h.first AT TIME ZONE 'Asia/Shanghai')::date <> e.day OR h.first <> h.last
        OR h.first <> e.since OR h.until <> greatest(e.until, e.since + interval '1 microsecond')
"""

_PRESENCE = f"""
    WITH {_CREDIT}, {_REPORTED}, rule AS (
        SELECT * FROM unnest($1::int4[], $2::text[]) AS r (methodology_id, exclusive_group)
    ), expected AS (
        SELECT participant_id, activity_id, r.exclusive_group, a.day, e.since, e.until
        FROM service.activity a
        JOIN credit c USING (participant_id, activity_id)
        JOIN rule r USING (methodology_id)
        LEFT JOIN reported e USING (participant_id, activity_id)
        WHERE c.stands AND participant_id NOT IN {_ERASED}
    )
    SELECT 'presence' AS name, participant_id || ' ' || activity_id || ' ' || exclusive_group AS about,
           CASE WHEN p.started_at IS NULL THEN 'no row' ELSE format('%s to %s', p.started_at, p.ended_at) END AS stored,
           CASE WHEN e.day IS NULL THEN 'no credit that stands in this group'
                ELSE format('on %s, %s to %s', e.day, e.since, e.until) END AS expected
    FROM expected e FULL JOIN service.presence p USING (participant_id, activity_id, exclusive_group)
    WHERE e.day IS NULL OR p.started_at IS NULL OR (p.started_at AT TIME ZONE 'Asia/Shanghai')::date <> e.day
        OR p.started_at <> e.since OR p.ended_at <> greatest(e.until, e.since + interval '1 microsecond')
"""

# Whatever began before and had not ended; of the same use it may.
_OVERLAPS = """
    WITH ordered AS (
        SELECT *, max(ended_at) OVER (
            PARTITION BY subject_tag ORDER BY started_at, activity_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS taken_until
        FROM service.claim_span
    )
    SELECT 'claim overlap' AS name, encode(o.subject_tag, 'hex') AS about,
           format('%s from %s (%s)', o.activity_id, o.started_at, o.use) AS stored,
           format('%s until %s (%s)', e.activity_id, e.ended_at, e.use) AS expected
    FROM ordered o JOIN service.claim_span e ON e.subject_tag = o.subject_tag
        AND (e.started_at, e.activity_id) < (o.started_at, o.activity_id) AND e.ended_at > o.started_at
        AND (o.use IS NULL OR o.use IS DISTINCT FROM e.use)
    WHERE o.taken_until > o.started_at
    UNION ALL
    SELECT 'presence overlap', participant_id || ' ' || exclusive_group,
           format('%s from %s', activity_id, started_at), format('others until %s', taken_until)
    FROM (
        SELECT *, max(ended_at) OVER (
            PARTITION BY participant_id, exclusive_group ORDER BY started_at, activity_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS taken_until
        FROM service.presence
    ) AS p
    WHERE taken_until > started_at
"""

# Whoever named a meter and compared with earlier told what it showed; nobody may have told it otherwise.
_READING_TOTALS = f"""
    WITH {_CREDIT}, {_REPORTED}, expected AS (
        SELECT participant_id, activity_id FROM service.activity a
        JOIN credit c USING (participant_id, activity_id)
        JOIN reported e USING (participant_id, activity_id)
        WHERE c.stands AND a.methodology_id = ANY($1::int4[]) AND 'meter' = ANY(e.named)
    )
    SELECT 'reading total' AS name, participant_id || ' ' || activity_id AS about, encode(r.tag, 'hex') AS stored,
           'no credit that stands' AS expected
    FROM service.reading_total r LEFT JOIN credit c USING (participant_id, activity_id) WHERE c.stands IS NOT TRUE
    UNION ALL
    SELECT 'reading total', participant_id || ' ' || activity_id, 'no row', 'what the meter showed'
    FROM expected e LEFT JOIN service.reading_total r USING (participant_id, activity_id) WHERE r.tag IS NULL
    UNION ALL
    SELECT 'reading total', encode(tag, 'hex'), format('%s totals', count(DISTINCT fingerprint)), '1 total'
    FROM service.reading_total GROUP BY tag HAVING count(DISTINCT fingerprint) > 1
"""

_PROVISIONAL = f"""
    WITH {_CREDIT}, rule AS (
        SELECT * FROM unnest($1::int4[], $2::text[], $3::text[]) AS r (methodology_id, grade, awaits)
    ), waiting AS (
        SELECT DISTINCT m.participant_id, m.transfer_id AS activity_id
        FROM ledger.movement m
        JOIN credit c ON (c.participant_id, c.activity_id) = (m.participant_id, m.transfer_id)
        LEFT JOIN ledger.matured f ON (f.participant_id, f.transfer_id) = (m.participant_id, m.transfer_id)
        WHERE m.to_account = 'pending' AND c.stands AND f.maturity_id IS NULL
    ), expected AS (
        SELECT participant_id, activity_id, concat_ws(' ', r.awaits, a.scenario, a.day, a.source_id) AS said
        FROM waiting JOIN service.activity a USING (participant_id, activity_id)
        LEFT JOIN rule r USING (methodology_id, grade)
    ), stored AS (
        SELECT participant_id, activity_id, concat_ws(' ', awaits, scenario, day, source_id) AS said
        FROM service.provisional
    )
    SELECT 'provisional' AS name, participant_id || ' ' || activity_id AS about, coalesce(s.said, 'no row') AS stored,
           coalesce(e.said, 'no pending credit') AS expected
    FROM expected e FULL JOIN stored s USING (participant_id, activity_id) WHERE e.said IS DISTINCT FROM s.said
"""

_SETTLEMENTS = """
    WITH decided AS (
        SELECT s.participant_id, s.activity_id, s.outcome,
            CASE WHEN m.maturity_id IS NOT NULL THEN 'matured'
                 WHEN t.reason = 'not_eligible_at_settlement' THEN 'withdrawn' ELSE 'not decided' END AS journal
        FROM service.settlement s
        LEFT JOIN ledger.matured m ON (m.participant_id, m.transfer_id) = (s.participant_id, s.activity_id)
        LEFT JOIN ledger.reversed r ON (r.participant_id, r.transfer_id) = (s.participant_id, s.activity_id)
        LEFT JOIN ledger.transfer t ON (t.participant_id, t.transfer_id) = (r.participant_id, r.reversal_id)
    )
    SELECT 'settlement' AS name, participant_id || ' ' || activity_id AS about, outcome AS stored, journal AS expected
    FROM decided WHERE outcome <> journal
    UNION ALL
    SELECT 'settlement', t.participant_id || ' ' || t.reverses, 'no settlement', 'withdrawn' FROM ledger.transfer t
    LEFT JOIN service.settlement s ON (s.participant_id, s.activity_id) = (t.participant_id, t.reverses)
    WHERE t.reason = 'not_eligible_at_settlement' AND s.outcome IS NULL
"""

# A reversed credit still counts where its own version of the rule restores nothing, unless the same act was counted
# anew.
_TALLIES = f"""
    WITH {_CREDIT}, rule AS (
        SELECT * FROM unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::bool[])
            AS r (methodology_id, cap, per, counted, restored)
    ), counting AS (
        SELECT a.participant_id, a.activity_id, a.day, a.methodology_id, c.stands, c.counted_anew
        FROM service.activity a JOIN credit c USING (participant_id, activity_id)
        WHERE a.methodology_id = ANY($1)
    ), earned AS (
        SELECT c.participant_id, c.activity_id,
            sum(m.amount) FILTER (WHERE m.asset = 'co2e_mg') AS grams,
            sum(m.amount) FILTER (WHERE m.asset = 'points' AND m.from_account = 'issuance') AS points
        FROM counting c
        JOIN ledger.movement m ON (m.participant_id, m.transfer_id) = (c.participant_id, c.activity_id)
        GROUP BY c.participant_id, c.activity_id
    ), expected AS (
        SELECT participant_id, r.cap, date_trunc(r.per, c.day::timestamp)::date AS window_start,
            sum(CASE r.counted WHEN 'actions' THEN 1 WHEN 'grams' THEN e.grams ELSE coalesce(e.points, 0) END) AS used
        FROM counting c JOIN earned e USING (participant_id, activity_id) JOIN rule r USING (methodology_id)
        WHERE c.stands OR NOT (r.restored OR c.counted_anew)
        GROUP BY 1, 2, 3
    )
    SELECT 'tally' AS name, concat_ws(' ', participant_id, cap, window_start) AS about,
           coalesce(t.used - t.carried, 0)::text AS stored, coalesce(e.used, 0)::text AS expected
    FROM expected e FULL JOIN service.tally t USING (participant_id, cap, window_start)
    WHERE coalesce(t.used - t.carried, 0) <> coalesce(e.used, 0) AND participant_id NOT IN {_ERASED}
"""

# Of all campaigns of a rule together, through its versions: what was drawn is what the journal has from `partner`.
_BUDGETS = """
    WITH paid AS (
        SELECT m.participant_id, coalesce(t.reverses, t.transfer_id) AS activity_id,
            sum(CASE WHEN m.from_account = 'partner' THEN m.amount ELSE -m.amount END) AS points
        FROM ledger.movement m JOIN ledger.transfer t USING (participant_id, transfer_id)
        WHERE 'partner' IN (m.from_account, m.to_account)
            AND m.asset = 'points'  -- grams go there with a redemption, out of nobody's budget
        GROUP BY 1, 2
    ), expected AS (
        SELECT coalesce(r.name, 'no rule') AS points_rule, sum(points) AS drawn
        FROM paid LEFT JOIN service.activity a USING (participant_id, activity_id)
        LEFT JOIN service.rule_document r ON r.rule_id = a.points_rule_id
        GROUP BY 1
    ), stored AS (
        SELECT points_rule, sum(budget_points - left_points) AS drawn FROM service.campaign_slot GROUP BY 1
    )
    SELECT 'campaign budget' AS name, points_rule AS about, coalesce(s.drawn, 0)::text AS stored,
           coalesce(e.drawn, 0)::text AS expected
    FROM expected e FULL JOIN stored s USING (points_rule) WHERE coalesce(s.drawn, 0) <> coalesce(e.drawn, 0)
"""

_LICENCES = """
    WITH live AS (
        SELECT *, daterange(valid_from, valid_to, '[]') AS days FROM service.licence WHERE superseded_at IS NULL
    )
    SELECT 'licence' AS name, s.uri || ' ' || b.scenario AS about, b.days::text AS stored,
           'apart from ' || a.days AS expected
    FROM live a
    JOIN live b ON b.source_id = a.source_id AND b.scenario = a.scenario AND b.days && a.days
        AND (b.valid_from, b.granted_at) > (a.valid_from, a.granted_at)
    JOIN service.source s ON s.source_id = a.source_id
"""

# Leaves of no participant: a rule's and a manifest's.
_ALONE = """
    alone AS (
        SELECT number, convert_from(leaf, 'UTF8')::jsonb AS said FROM (
            SELECT log_index AS number, leaf FROM ledger.leaf WHERE transfer_id IS NULL
            UNION ALL SELECT -queue_id, leaf FROM ledger.leaf_queue WHERE transfer_id IS NULL
        ) AS leaves
    )
"""

# Of what was signed and completed nothing no leaf tells. Whether a signature verifies only the approvers' keys say.
_APPROVALS = f"""
    WITH {_ALONE}, told AS (
        SELECT number, said ->> 'at' AS at,
            concat_ws(' ', said ->> 'programme', said ->> 'document_kind', said ->> 'id', said ->> 'version',
                said ->> 'digest') AS document,
            concat_ws(' ', a ->> 'role', a ->> 'approver', a ->> 'key', a ->> 'signature', a ->> 'signed_on')
                AS approval
        FROM alone, LATERAL jsonb_array_elements(said -> 'approvals') AS a WHERE said ->> 'kind' = 'rule'
    ), held AS (
        SELECT concat_ws(' ', a.programme, d.kind, d.name, d.version, encode(a.digest, 'hex')) AS document,
            concat_ws(' ', a.role, a.approver, a.key_id, encode(a.signature, 'hex'), a.signed_on) AS approval,
            a.completes, to_char(a.approved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS at
        FROM service.approval a LEFT JOIN service.rule_document d USING (digest)
    )
    SELECT 'approval' AS name, document AS about, 'no row' AS stored, approval AS expected FROM told t
    WHERE NOT EXISTS (SELECT FROM held h WHERE (h.document, h.approval) = (t.document, t.approval))
    UNION ALL
    SELECT 'approval', document, format('%s leaves of %s at %s', count(t.number), approval, at), '1 leaf'
    FROM held h LEFT JOIN told t USING (document, approval, at) WHERE h.completes
    GROUP BY document, approval, at HAVING count(t.number) <> 1
    UNION ALL
    SELECT 'approval', t.document, 'nothing that completes it', 'leaf of ' || t.at
    FROM told t LEFT JOIN held h ON h.completes AND (h.document, h.approval, h.at) = (t.document, t.approval, t.at)
    GROUP BY t.number, t.document, t.at HAVING count(h.at) <> 1
"""

_MANIFESTS = f"""
    WITH {_ALONE}, told AS (
        SELECT concat_ws(' ', said ->> 'source', said ->> 'day', said ->> 'sequence') AS about,
            string_agg(concat_ws(' ', said ->> 'digest', said ->> 'received', said ->> 'key', said ->> 'at'),
                ' and ' ORDER BY number) AS leaf
        FROM alone WHERE said ->> 'kind' = 'manifest' GROUP BY 1
    ), held AS (
        SELECT concat_ws(' ', s.uri, m.day, m.sequence) AS about, concat_ws(' ', encode(m.digest, 'hex'),
            encode(sha256(m.received), 'hex'), encode(m.key, 'hex'),
            to_char(m.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) AS stored
        FROM service.manifest m JOIN service.source s USING (source_id)
    )
    SELECT 'manifest' AS name, about, coalesce(h.stored, 'no row') AS stored, coalesce(t.leaf, 'no leaf') AS expected
    FROM told t FULL JOIN held h USING (about) WHERE t.leaf IS DISTINCT FROM h.stored
    UNION ALL
    SELECT 'manifest text', concat_ws(' ', source_id, day, sequence), encode(sha256(convert_to(t.jws, 'UTF8')), 'hex'),
           coalesce(encode(m.digest, 'hex'), 'no manifest')
    FROM service.manifest_text t LEFT JOIN service.manifest m USING (source_id, day, sequence)
    WHERE sha256(convert_to(t.jws, 'UTF8')) IS DISTINCT FROM m.digest
"""

_DOCUMENTS = "SELECT rule_id, kind, name, version, digest, document FROM service.rule_document ORDER BY rule_id"


@dataclass(slots=True)
class _Rules:
    """What the registered methodologies say of claims, caps and settlements, as columns for the queries."""

    spans: list[tuple[int, str, bool]] = field(default_factory=list)
    exclusive: list[tuple[int, str]] = field(default_factory=list)
    compared: list[int] = field(default_factory=list)
    awaits: list[tuple[int, str, str]] = field(default_factory=list)
    caps: list[tuple[int, str, str, str, bool]] = field(default_factory=list)

    def add(self, rule_id: int, rule: Methodology) -> None:
        by_the_hour = rule.trigger not in WHOLE_DAYS
        spans = [claim for claim in rule.claims if claim.over_time and (by_the_hour or claim.use)]
        self.spans += [(rule_id, "+".join(claim.of), claim.optional) for claim in spans]
        if rule.exclusive:
            self.exclusive.append((rule_id, rule.exclusive))
        if rule.baseline:
            self.compared.append(rule_id)
        self.awaits += [(rule_id, grade, waits) for grade in GRADES if (waits := awaited(rule, grade))]
        self.caps += [(rule_id, cap_name(rule, cap), cap.per, cap.of, cap.restored) for cap in rule.caps]


async def check_activities(connection: asyncpg.Connection, vault: Vault | None) -> list[Finding]:
    """Every difference between what the service stores of activities, approvals and manifests and what leaves, journal
    and rules say, as of one moment; of each check the first MOST_FINDINGS.

    vault   opens the evidence; without it nothing is known of what was reported, as if all of it were erased
    """
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute("SET LOCAL statement_timeout = 0")
        rules = _Rules()
        findings = [finding async for finding in lay_open(connection, vault)][:MOST_FINDINGS]
        await connection.execute("SET TRANSACTION READ ONLY")
        findings += [finding async for finding in _unlike_their_digest(connection, rules)]
        checks: list[tuple[str, Sequence[Sequence[object]]]] = [
            (_ACTIVITIES, []),
            (_EVENT_KEYS, []),
            (_CLAIMS, []),
            (_SPANS, _columns(rules.spans, 3)),
            (_PRESENCE, _columns(rules.exclusive, 2)),
            (_OVERLAPS, []),
            (_READING_TOTALS, [rules.compared]),
            (_PROVISIONAL, _columns(rules.awaits, 3)),
            (_SETTLEMENTS, []),
            (_TALLIES, _columns(rules.caps, 5)),
            (_BUDGETS, []),
            (_LICENCES, []),
            (_APPROVALS, []),
            (_MANIFESTS, []),
        ]
        for query, arguments in checks:
            findings += [finding async for finding in _differences(connection, query, arguments)]
    return findings


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[place] for row in rows] for place in range(width)]


async def _differences(
    connection: asyncpg.Connection, query: str, arguments: Sequence[Sequence[object]]
) -> AsyncIterator[Finding]:
    told = 0
    async for row in connection.cursor(query, *arguments, prefetch=100):
        if told == MOST_FINDINGS:
            yield Finding(row["name"], "and more", f"more than {MOST_FINDINGS} differences", "none")
            return
        told += 1
        yield Finding(row["name"], row["about"], str(row["stored"]), str(row["expected"]))


async def _unlike_their_digest(connection: asyncpg.Connection, rules: _Rules) -> AsyncIterator[Finding]:
    """Rule documents whose bytes are not those that were registered; what the others say is put into `rules`."""
    async for rule_id, kind, name, version, digest, document in connection.cursor(_DOCUMENTS):
        about = f"{kind} {name} {version}"
        try:
            rule = parse_once(document) if kind == "methodology" else parse_points_rule(document)
        except (MethodologyInvalid, PointsRuleInvalid) as invalid:
            yield Finding("rule document", about, str(invalid), "a document as it was registered")
            continue
        if rule.digest != digest.hex():
            yield Finding("rule document", about, rule.digest, digest.hex())
        if isinstance(rule, Methodology):
            rules.add(rule_id, rule)
