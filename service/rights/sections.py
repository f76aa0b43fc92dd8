"""What a person gets to see and to take along: every table that has rows of theirs, in sections with names for people.

Each section is one query: $1 is the participant, $2 the place behind which it goes on, $3 how many rows. Its first
column is the place, text that sorts as the rows do; the second the row as JSON; a third, where there is one, what is
sealed under the person's key.
"""

from dataclasses import dataclass
from typing import Literal

Opens = Literal["evidence", "facts", "terms", "words"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the export.

    columns  the members of each item, in order
    tables   whose rows it tells
    opens    what the sealed column is, which becomes the members `salt` and `document`, or `words`
    """

    name: str
    zh: str
    en: str
    columns: tuple[str, ...]
    tables: tuple[str, ...]
    query: str
    opens: Opens | None = None


def _section(
    name: str,
    titles: tuple[str, str],
    columns: str,
    source: str,
    place: str,
    *tables: str,
    opens: Opens | None = None,
    where: str = "x.participant_id = $1",
    sealed: str = "x.sealed",
) -> Section:
    """`columns` are expressions, each with the name it is told under behind `AS` where that is another."""
    names = tuple(one.split(" AS ")[-1].strip().rpartition(".")[2] for one in _split(columns))
    opened = "" if opens is None else f", {sealed} AS sealed"
    query = f"""
        SELECT place, to_jsonb(item)::text AS item{"" if opens is None else ", sealed"} FROM (
            SELECT {place} AS place, item{opened} FROM {source}, LATERAL (SELECT {columns}) AS item WHERE {where}
        ) AS told WHERE place > $2 ORDER BY place LIMIT $3
    """
    more = {None: (), "words": ("words",), "evidence": ("salt", "document", "refusal")}
    added = more.get(opens, ("salt", "document"))
    return Section(name, *titles, names + added, tables or (source.split()[0],), query, opens)


def _split(columns: str) -> list[str]:
    """At the commas that stand in no brackets."""
    parts, depth = [""], 0
    for character in columns:
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _number(column: str) -> str:
    return f"lpad({column}::text, 19, '0')"


SECTIONS: tuple[Section, ...] = (
    _section(
        "profile", ("账户", "The account"),
        "x.participant_id, x.kind, x.programme, x.region, x.enrolled_at, a.counter AS transfers, a.points_available, "
        "a.points_pending, a.points_held, a.points_debt, a.co2e_available AS co2e_available_mg, "
        "a.co2e_pending AS co2e_pending_mg, a.co2e_held AS co2e_held_mg, a.co2e_debt AS co2e_debt_mg, a.next_expiry",
        "service.participant x JOIN ledger.account a USING (participant_id)", "x.participant_id::text",
        "service.participant", "ledger.account",
    ),
    _section(
        "buckets", ("积分批次与到期日", "Points by the day they expire on"), "x.expires_on, x.available AS points",
        "ledger.bucket x", "x.expires_on::text",
    ),
    _section(
        "links", ("与数据方、银行的关联", "Links with sources and banks"),
        "x.link_id, x.party, x.linked_at, x.withdrawn_at",
        "(SELECT participant_id, link_id, uri AS party, linked_at, withdrawn_at FROM service.link JOIN service.source "
        "USING (source_id) UNION ALL SELECT participant_id, link_id, uri, linked_at, withdrawn_at "
        "FROM service.bank_link JOIN service.bank USING (bank_id)) AS x",
        "x.link_id::text", "service.link", "service.bank_link",
    ),
    _section(
        "known_by", ("各方用以识别您的标识何时产生", "Since when each party has an id of its own for you"),
        "x.party, x.made_at", "service.pairwise x", "x.party",
    ),
    _section(
        "link_requests", ("待处理的关联请求", "Requests for a link that you decided"),
        "x.request_id, x.party, x.scope, x.decision, x.decided_at, x.expires_at", "service.link_request x",
        "x.request_id::text",
    ),
    _section(
        "consents", ("授权记录", "Consents"),
        "x.consent_id, x.purpose, x.party, x.text_version, x.given_at, x.recorded_at, x.withdrawn_at",
        "(SELECT participant_id, link_id AS consent_id, purpose, uri AS party, text_version, given_at, recorded_at, "
        "withdrawn_at FROM service.consent JOIN service.source USING (source_id) "
        "UNION ALL SELECT participant_id, agreement_id, purpose, uri, text_version, given_at, recorded_at, "
        "withdrawn_at FROM service.agreement LEFT JOIN service.bank USING (bank_id)) AS x",
        "x.consent_id::text || ' ' || x.purpose || ' ' || x.text_version", "service.consent", "service.agreement",
    ),
    _section(
        "activities", ("低碳行为", "Activities"),
        "x.activity_id, s.uri AS source, x.grade, x.scenario, x.day, x.outcome, x.reason, x.programme, x.region, "
        "x.recorded_at, encode(m.digest, 'hex') AS methodology, encode(p.digest, 'hex') AS points_rule",
        "service.activity x JOIN service.source s USING (source_id) "
        "JOIN service.rule_document m ON m.rule_id = x.methodology_id "
        "LEFT JOIN service.rule_document p ON p.rule_id = x.points_rule_id",
        "x.activity_id::text", "service.activity",
    ),
    _section(
        "evidence", ("行为证据", "The evidence of activities, as the log commits to it"), "x.activity_id",
        "service.evidence x", "x.activity_id::text", opens="evidence",
    ),
    _section(
        "hours", ("计入的时段", "Hours that were counted"),
        "x.exclusive_group, x.started_at, x.ended_at, x.activity_id", "service.presence x",
        "x.activity_id::text || ' ' || x.exclusive_group",
    ),
    _section(
        "caps", ("上限用量", "What was used of caps"), "x.cap, x.window_start, x.used, x.carried", "service.tally x",
        "x.cap || ' ' || x.window_start",
    ),
    _section(
        "provisional", ("待确认入账", "Credits that wait for something"),
        "x.activity_id, x.scenario, x.day, x.awaits, x.due_on", "service.provisional x", "x.activity_id::text",
    ),
    _section(
        "settlements", ("结算结论", "How provisional credits were settled"), "x.activity_id, x.outcome, x.recorded_at",
        "service.settlement x", "x.activity_id::text", opens="facts",
    ),
    _section(
        "waivers", ("放弃交易声明", "Waivers of trading"), "x.text_version, x.given_at, x.recorded_at",
        "service.waiver x", "encode(x.installation_tag, 'hex')",
    ),
    _section(
        "transfers", ("划转与分录", "Transfers with their lines"),
        "x.counter, x.transfer_id, x.kind, x.effective_on, x.recorded_at, x.reverses, x.matures, x.hold_id, x.reason, "
        "x.programme, x.region, (SELECT l.log_index FROM ledger.leaf l WHERE l.participant_id = x.participant_id "
        "AND l.transfer_id = x.transfer_id) AS log_index, (SELECT jsonb_agg(jsonb_build_object('from', v.from_account, "
        "'to', v.to_account, 'asset', v.asset, 'amount', v.amount, 'class', v.credit_class, 'vintage', v.vintage, "
        "'expires_on', v.expires_on) ORDER BY v.line) FROM ledger.movement v WHERE v.participant_id = x.participant_id "
        "AND v.transfer_id = x.transfer_id) AS lines",
        "ledger.transfer x", _number("x.counter"), "ledger.transfer", "ledger.movement", "ledger.leaf",
        "ledger.reversed", "ledger.matured", "ledger.leaf_queue",
    ),
    _section(
        "redemptions", ("兑换", "Redemptions"),
        "x.redemption_id, x.bank, x.offer, x.offer_version, x.pool, x.units, x.points, x.value_fen, x.co2e_mg, "
        "x.units_left, x.units_captured, x.units_refunded, x.state, x.started_by, x.created_at, x.expires_at, "
        "x.accepted_at, x.ended_at, (SELECT jsonb_agg(jsonb_build_object('transfer_id', e.transfer_id, 'kind', e.kind, "
        "'reason', e.reason, 'units', e.units, 'points', e.points, 'value_fen', e.value_fen, 'at', e.recorded_at) "
        "ORDER BY e.recorded_at, e.transfer_id) FROM service.redemption_entry e WHERE e.participant_id = "
        "x.participant_id AND e.redemption_id = x.redemption_id) AS steps, (SELECT jsonb_agg(jsonb_build_object("
        "'reference', f.reference, 'on', f.fulfilled_on, 'at', f.recorded_at) ORDER BY f.number) "
        "FROM service.fulfilment f WHERE f.participant_id = x.participant_id AND f.redemption_id = x.redemption_id) "
        "AS fulfilments",
        "service.redemption x", "x.redemption_id::text", "service.redemption", "service.redemption_entry",
        "service.fulfilment", "service.redemption_key", "ledger.hold",
    ),
    _section(
        "terms", ("兑换条款", "What you agreed to when redeeming, as the log commits to it"), "x.redemption_id",
        "service.redemption_terms x", "x.redemption_id::text", opens="terms",
    ),
    _section(
        "wishes", ("候补登记", "Places in queues for pools"),
        "x.wish_id, x.pool, x.offer, x.units, x.points, x.text_version, x.given_at, x.state, x.reason, x.created_at, "
        "x.ended_at",
        "service.redemption_wish x", "x.wish_id::text",
    ),
    _section(
        "bank_requests", ("银行发起的请求", "What banks asked you for"),
        "x.request_id, b.uri AS bank, x.offer, x.units, x.reference, x.created_at, x.expires_at, x.declined_at",
        "service.bank_request x JOIN service.bank b USING (bank_id)", "x.request_id::text", "service.bank_request",
        where="x.participant_id = $1 OR x.addressed_to = $1",
    ),
    _section(
        "calls", ("涉及积分的调用", "Calls about points"), "x.key, x.redemption_id, x.transfer_id, x.recorded_at",
        "service.money_call x", "x.client || ' ' || x.key",
    ),
    _section(
        "disputes", ("争议及其决定", "Disputes, and what was decided"),
        "x.dispute_id, x.redemption_id, x.reason, x.state, x.opened_at, x.answer_by, x.decide_by, "
        "(SELECT jsonb_agg(jsonb_build_object('number', s.number, 'step', s.step, 'state', s.state, 'party', s.party, "
        "'position', s.position, 'at', s.recorded_at) ORDER BY s.number) FROM service.dispute_step s "
        "WHERE s.participant_id = x.participant_id AND s.dispute_id = x.dispute_id) AS steps",
        "service.dispute x", "x.dispute_id::text", "service.dispute", "service.dispute_step",
        "service.dispute_decision",
    ),
    _section(
        "dispute_words", ("争议中的文字", "What was written in disputes"), "x.dispute_id, x.number",
        "service.dispute_text x", "x.dispute_id::text || ' ' || lpad(x.number::text, 5, '0')", opens="words",
    ),
    _section(
        "signals", ("异常信号", "Signals that were found, and their figures"),
        "x.signal_id, x.rule, x.version, x.strength, x.about, x.review_id, x.found_at, (SELECT "
        "convert_from(v.document, 'UTF8')::jsonb FROM service.signal_values v "
        "WHERE v.participant_id = x.participant_id AND v.signal_id = x.signal_id) AS figures",
        "service.signal x", "x.signal_id::text", "service.signal", "service.signal_values",
    ),
    _section(
        "reviews", ("复核及其决定", "Reviews, and what was decided"),
        "x.review_id, x.state, x.opened_at, x.due_at, x.ended_at, (SELECT jsonb_agg(jsonb_build_object('activity_id', "
        "c.activity_id, 'points', c.points) ORDER BY c.activity_id) FROM service.review_credit c "
        "WHERE c.participant_id = x.participant_id AND c.review_id = x.review_id) AS credits, "
        "(SELECT jsonb_agg(jsonb_build_object('number', s.number, 'step', s.step, 'party', s.party, 'reason', "
        "s.reason, 'at', s.recorded_at) ORDER BY s.number) FROM service.review_step s "
        "WHERE s.participant_id = x.participant_id AND s.review_id = x.review_id) AS steps",
        "service.review x", "x.review_id::text", "service.review", "service.review_credit", "service.review_step",
    ),
    _section(
        "review_words", ("复核中的文字", "What was written in reviews"), "x.review_id, x.number",
        "service.review_text x", "x.review_id::text || ' ' || lpad(x.number::text, 5, '0')", opens="words",
    ),
    _section(
        "sealed_balance", ("每日封存的余额", "The balance as last sealed"),
        "x.programme, x.counter AS transfers, x.points_available, x.points_pending, x.points_held, x.points_debt, "
        "x.co2e_available AS co2e_available_mg, x.co2e_pending AS co2e_pending_mg, x.co2e_held AS co2e_held_mg, "
        "x.co2e_debt AS co2e_debt_mg, (SELECT jsonb_agg(jsonb_build_object('expires_on', b.expires_on, 'points', "
        "b.available) ORDER BY b.expires_on) FROM ledger.sealed_bucket b WHERE b.participant_id = x.participant_id) "
        "AS buckets",
        "ledger.sealed_account x", "x.participant_id::text", "ledger.sealed_account", "ledger.sealed_bucket",
    ),
    _section(
        "corrections", ("更正记录", "What was corrected"),
        "x.number, x.field, x.before, x.after, x.corrected_by, x.corrected_at", "service.correction x",
        "lpad(x.number::text, 10, '0')",
    ),
    _section(
        "guardians", ("监护人同意", "Guardians' consents for you"),
        "x.guardianship_id, x.text_version, x.given_at, x.withdrawn_at, (SELECT m.until FROM service.minor m "
        "WHERE m.participant_id = x.participant_id) AS needed_until",
        "service.guardianship x", "x.guardianship_id::text", "service.guardianship", "service.minor",
    ),
    _section(
        "identity_reads", ("身份信息被读取的记录", "When your identity was read, and what for"),
        "x.purpose, x.read_at", "vault.identity_read x", _number("x.read_id"),
    ),
    _section(
        "erasure", ("删除请求", "A request to be forgotten"), "x.asked_at, x.asked_by, x.state, x.ended_at",
        "service.erasure x", "x.participant_id::text", "service.erasure",
    ),
)  # fmt: skip

NOT_TOLD: dict[str, str] = {
    "service.event_key": "a keyed tag of what the evidence tells in words",
    "service.claim": "a keyed tag of what the evidence tells in words",
    "service.claim_span": "a keyed tag of what the evidence tells in words",
    "service.reading_total": "a keyed tag of what the evidence tells in words",
    "service.organisation": "of organisations, which are no persons",
    "service.mandate": "of organisations, which are no persons",
    "service.guardian_code": "a hash of a code that is good for a day",
    "service.returned": "told as what is carried of caps",
    "service.erasure_step": "numbers of rows that are gone",
    "vault.person": "a keyed tag of what the identity tells in words",
    "vault.person_key": "the key that everything here was opened with",
    "vault.key_destroyed": "nothing is left to tell then",
    "vault.identity": "a section of its own, read through the vault",
}
"""Tables with a participant's rows that no section tells, and why."""
