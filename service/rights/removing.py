"""What an erasure removes, class by class, and why the rest stays: the one list of it, which a test holds against the
schema.

Nothing that the ledger or the log is recomputed from is among what goes. What stays names a pseudonym that is nobody's
any more, days, amounts and keyed tags.
"""

from dataclasses import dataclass
from uuid import UUID

from service.database import Connection


@dataclass(frozen=True, slots=True)
class Removal:
    """A class of data with its names for people, and the statements that remove a participant's, $1."""

    name: str
    zh: str
    en: str
    statements: tuple[str, ...]


def _rows(*tables: str, column: str = "participant_id") -> tuple[str, ...]:
    return tuple(f"DELETE FROM {table} WHERE {column} = $1" for table in tables)


AT_ONCE: tuple[Removal, ...] = (
    Removal(
        "links",
        "与数据方、银行的关联及配对标识",
        "links with sources and banks, and the ids they were known by",
        (
            # Two random ids are 244 random bits: nothing finds the link again, and the source's day is still counted.
            "UPDATE service.link SET withdrawn_at = coalesce(withdrawn_at, clock_timestamp()), "
            "link_id = gen_random_uuid(), "
            "subject_tag = sha256((gen_random_uuid()::text || gen_random_uuid()::text)::bytea) "
            "WHERE participant_id = $1",
            *_rows("service.pairwise", "service.bank_link", "service.link_request"),
        ),
    ),
    Removal("consents", "授权记录", "consents", _rows("service.consent", "service.agreement")),
    Removal(
        "person",
        "城市身份与本平台账户的对应",
        "whose account at the city's identity provider this was",
        _rows("vault.person"),
    ),
    Removal(
        "wishes",
        "候补登记",
        "places in queues for pools",
        (
            "UPDATE service.redemption_wish SET state = 'left', ended_at = clock_timestamp() "
            "WHERE participant_id = $1 AND state = 'waiting'",
        ),
    ),
)
"""When somebody asks: from then on nobody can report for them, sign in as them or find them."""

AT_LAST: tuple[Removal, ...] = (
    Removal("identity", "身份信息", "the identity", _rows("vault.identity")),
    Removal("evidence", "行为证据与盐值", "the evidence of activities, with its salts", _rows("service.evidence")),
    Removal(
        "settlements",
        "结算依据与盐值",
        "what settlements rested on, with its salts",
        ("UPDATE service.settlement SET sealed = NULL WHERE participant_id = $1 AND sealed IS NOT NULL",),
    ),
    Removal("terms", "兑换条款与盐值", "the terms of redemptions, with their salts", _rows("service.redemption_terms")),
    Removal(
        "words",
        "争议中的文字",
        "what was written in disputes",
        (
            *_rows("service.dispute_text", "service.dispute_decision"),
            "DELETE FROM service.signed_word WHERE call_id IN "
            "(SELECT call_id FROM service.dispute_step WHERE participant_id = $1 AND call_id IS NOT NULL)",
        ),
    ),
    Removal(
        "signals",
        "复核中的数值与文字",
        "figures that signals were found in, and what was written in reviews",
        _rows("service.signal_values", "service.review_text"),
    ),
    Removal(
        "requests",
        "银行按配对标识发起的请求正文",
        "bodies of banks' requests that named the person by the bank's id",
        (
            "UPDATE service.signed_call SET body = NULL WHERE body IS NOT NULL AND call_id IN "
            "(SELECT call_id FROM service.bank_request WHERE addressed_to = $1)",
        ),
    ),
    Removal(
        "messages",
        "向银行推送的消息",
        "messages that were sent to banks",
        (
            "DELETE FROM service.webhook_message m "
            "USING service.redemption r JOIN service.webhook w ON w.bank = r.bank "
            "WHERE r.participant_id = $1 AND m.webhook_id = w.webhook_id "
            "AND m.lane = w.webhook_id::text || '/' || r.redemption_id::text",
        ),
    ),
    Removal("hours", "出行时段", "the hours of trips", _rows("service.presence")),
    Removal("caps", "上限用量", "what was used of caps", _rows("service.tally", "service.returned")),
    Removal("corrections", "更正记录", "what was corrected", _rows("service.correction")),
    Removal(
        "guardians",
        "监护关系",
        "guardianship",
        _rows("service.minor", "service.guardian_code", "service.guardianship")
        + _rows("service.guardianship", column="guardian_id"),
    ),
)
"""Once nothing is held for them any more, in one transaction with the destruction of their key."""

STAYS: dict[str, tuple[str, str]] = {
    "ledger": (
        "账本与日志只含假名、日期、数额、代码与带密钥标签；删改将使任何人无法核对",
        "the ledger and its log hold pseudonyms, days, amounts, codes and keyed tags; without them nobody could check",
    ),
    "once": (
        "事件、订单、车辆时段的带密钥标签：防止同一行为再次入账",
        "keyed tags of events, orders and things: the same act is never credited again",
    ),
    "money": (
        "兑换、对账与争议的步骤：银行账务依法保存，仅含假名与金额",
        "steps of redemptions, statements and disputes: a bank's books are kept by law; they name a pseudonym and "
        "amounts",
    ),
    "reviews": (
        "复核的步骤与决定：仅含假名与代码，说明积分为何曾暂缓使用",
        "steps of reviews and what was decided: a pseudonym and codes, why points could not be used for a while",
    ),
    "state": (
        "删除本身的记录",
        "the record of the erasure itself",
    ),
}
"""What stays, and why."""

TABLES_THAT_STAY: dict[str, str] = {
    "ledger.account": "ledger",
    "ledger.bucket": "ledger",
    "ledger.transfer": "ledger",
    "ledger.reversed": "ledger",
    "ledger.matured": "ledger",
    "ledger.movement": "ledger",
    "ledger.hold": "ledger",
    "ledger.leaf": "ledger",
    "ledger.leaf_queue": "ledger",
    "ledger.sealed_account": "ledger",
    "ledger.sealed_bucket": "ledger",
    "service.participant": "ledger",
    "service.activity": "ledger",
    "service.provisional": "ledger",
    "service.waiver": "ledger",
    "service.mandate": "ledger",  # of organisations, which no erasure is of
    "service.organisation": "ledger",
    "service.event_key": "once",
    "service.claim": "once",
    "service.claim_span": "once",
    "service.reading_total": "once",
    "service.redemption": "money",
    "service.redemption_key": "money",
    "service.redemption_entry": "money",
    "service.fulfilment": "money",
    "service.dispute": "money",
    "service.dispute_step": "money",
    "service.money_call": "money",
    "service.bank_request": "money",
    "service.signal": "reviews",
    "service.review": "reviews",
    "service.review_credit": "reviews",
    "service.review_step": "reviews",
    "service.erasure": "state",
    "service.erasure_step": "state",
    "vault.person_key": "state",  # its key is destroyed
    "vault.key_destroyed": "state",
    "vault.identity_read": "state",
}
"""Tables with a participant's pseudonym that an erasure leaves, by the reason in STAYS."""


async def remove(tx: Connection, removal: Removal, participant_id: UUID) -> int:
    """Remove one class of a participant's data; how many rows that were."""
    removed = 0
    for statement in removal.statements:
        done: str = await tx.execute(statement, participant_id)
        removed += int(done.rpartition(" ")[2])
    return removed
