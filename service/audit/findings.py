"""What a replay says: its findings by a stable code each, what it could not check, and what no bundle can show.

Codes are never renamed: see docs/audit.md. Those of `ledger.verify` stand beside them in one report.
"""

from collections import Counter
from dataclasses import dataclass, field

Words = tuple[str, str]
"""The same in English and Chinese."""

# By code: what holds where nothing is found.
CODES: dict[str, Words] = {
    "entry": ("an entry can be computed again", "条目可以重算"),
    # evidence
    "evidence": ("evidence is what the entry commits to", "证据与条目的承诺一致"),
    "evidence-form": ("an evidence document is of its form, in its one byte form", "证据文档格式正确"),
    "evidence-extra": ("evidence belongs to one entry that commits to it", "证据对应一条有承诺的条目"),
    "signed-report": (
        "what a source signed is by its key, in time, and gives the evidence of the credits behind it",
        "数据方的签名请求由其公钥按时签署，且与所涉入账的证据一致",
    ),
    "report-extra": ("a signed report belongs to the credits that it names", "数据方签名请求对应其所列的入账"),
    # rules
    "rule-form": ("a rule document can be read", "规则文档可以读取"),
    "rule-incomplete": (
        "a document that credits lacks nothing and rests on no low-quality figure",
        "入账所依规则完整可用",
    ),
    "in-force": ("the methodology is in force on the activity's day", "方法学在行为当日有效"),
    "scenario": ("the activity is of the methodology's scenario", "行为属于该方法学的场景"),
    "activity-day": (
        "the entry's day is that of the activity, in Asia/Shanghai",
        "条目日期为行为发生日（Asia/Shanghai）",
    ),
    "activity-late": (
        "an activity is credited within its claim window, or corrects one that was",
        "行为在申报期内入账",
    ),
    "activity-ahead": ("an activity ends before it is credited", "行为结束后方可入账"),
    "participant-kind": ("the methodology is for participants of this kind", "参与者类别符合方法学"),
    "credit-class": ("the credit is of the methodology's class and the activity's year", "入账类别与年份符合方法学"),
    # amounts
    "reduction": ("a reduction recomputed from its evidence is the one credited", "由证据重算的减排量与入账一致"),
    "cap": ("caps leave what was credited", "入账数额符合上限"),
    "points": ("points follow from the grams by the points rule", "积分由减排量按规则算出"),
    "points-rule": ("points are credited under a rule in force for the programme", "积分规则在入账日对该项目有效"),
    "campaign": ("a campaign adds what its multiplier says, while its budget lasts", "活动加分符合倍数与预算"),
    "grade": ("self-declared evidence earns no points", "自主申报证据不计积分"),
    "pending": ("what waits for its settlement, match or registration is pending, nothing else", "待确认状态符合规则"),
    "expiry": ("points enter the bucket that their rule counts from the month of recording", "积分批次符合有效期规则"),
    # counted once
    "claims": ("an entry has a tag for the event and for each thing its rule makes unique", "标签数量与规则要求一致"),
    "references": ("evidence names what its rule makes unique", "证据载明规则要求的唯一标识"),
    "person-overlap": ("nobody does two things of one group at a time", "同一人同组行为时间不重叠"),
    "thing-repeated": (
        "no order, payment, meter day, vehicle or place counts twice",
        "同一订单、支付、计量日或车辆不重复计入",
    ),
    # what ended a credit
    "settlement": ("a settlement record is what the entry commits to", "结算记录与条目的承诺一致"),
    "settlement-facts": ("facts that meet every condition mature, others withdraw", "结算事实与结果相符"),
    "settlement-of": ("a settlement is of the credit's scenario, source and days", "结算与入账的场景、来源与日期相符"),
    "superseded": ("only what waits for a match gives way to an operator's record", "仅待匹配的入账可被取代"),
    # redemptions
    "document-form": (
        "a product, an offer, a pool's terms and a statement can be read",
        "产品、权益、资金池条款与对账单可以读取",
    ),
    "listing-document": ("a listing says what its document says", "上架条目与其文档一致"),
    "terms": ("what a participant agreed to is what the hold commits to", "参与者同意的条款与冻结的承诺一致"),
    "decision": ("the record of a dispute's decision is what its refund commits to", "争议裁定记录与退回的承诺一致"),
    "decision-of": ("a refund is of a capture that the decision names", "退回的扣减为裁定所列"),
    "terms-of": ("a hold is for what its participant agreed to", "冻结与参与者同意的内容一致"),
    "offer-terms": ("a hold has the bank, pool, value, grams and end that its offer says", "冻结与权益所载一致"),
    "offer-price": (
        "a hold costs the points that its offer asks of this participant",
        "冻结积分等于权益对该参与者的价格",
    ),
    "offer-product": ("the product behind an offer is on the board when it is held", "冻结时权益所属产品在列"),
    "eligible": (
        "a participant may redeem what is held, by all that the log shows",
        "参与者符合权益条件（以日志可见者为限）",
    ),
    "pool-limit": (
        "a pool pays its rate, and no more a day and a person than its terms say",
        "资金池支付不超过其标准与每日、每人上限",
    ),
    "signed-call": ("what a bank asked for was signed by its key, for exactly this", "银行请求由其公钥签名且内容相符"),
    "call-extra": ("a signed call belongs to an entry that names it", "签名请求对应引用它的条目"),
    "statement-entries": ("a statement lists its day's entries as the log has them", "对账单与日志当日条目一致"),
    # completeness
    "manifest-received": ("the log has what was received of a source and day", "日志与当日接收情况一致"),
    "manifest-claimed": ("the platform received what the source says it sent", "接收情况与数据方清单一致"),
}

# What stays open, by code.
LEFT: dict[str, Words] = {
    "evidence-erased": (
        "credits whose evidence was erased: their reduction and hours",
        "证据已删除的入账：减排量与时段",
    ),
    "settlement-erased": ("settlements whose record was erased: their facts", "结算记录已删除：结算事实"),
    "terms-erased": ("holds whose terms were erased: what was agreed", "条款已删除的冻结：所同意的内容"),
    "call-erased": (
        "holds of a bank's request whose body was erased: what the bank asked for",
        "银行请求正文已删除的冻结：银行所请求的内容",
    ),
    "decision-erased": ("refunds whose decision was erased: what was decided", "裁定记录已删除的退回：裁定内容"),
    "offer-missing": ("holds of an offer whose document is missing or cannot be read", "权益文档缺失或无法读取的冻结"),
    "statement-missing": ("statements whose document is missing or cannot be read", "文档缺失或无法读取的对账单"),
    "eligibility": (
        "holds whose terms were erased, of an offer that asks for what the log does not show: registers, points at a "
        "moment",
        "条款已删除且权益条件涉及日志之外的信息：名录、当时积分",
    ),
    "report-erased": (
        "signed reports whose body was erased, or never kept: what the source said",
        "请求体已删除或未留存的数据方签名请求：数据方所报",
    ),
    "report-compromised": (
        "credits signed by a key after the moment from which it was revoked, and not taken back: ask the operator",
        "由已撤销密钥在撤销时刻之后签署且未冲正的入账：请询问运营方",
    ),
    "rule-missing": ("entries under a document that is missing or cannot be read", "规则文档缺失或无法读取的条目"),
    "entry-unread": ("entries of a bundle of the log that cannot be read", "日志分片无法读取的条目"),
    "waiver": ("project credits with points: that the owner gave up trading", "项目类入账计积分：放弃交易的声明"),
    "no-record": ("maturities without a settlement record", "无结算记录的转为可用"),
    "day-not-closed": ("days of a source with credits and no manifest", "有入账而无日清单的日子"),
    "manifest-erased": (
        "manifests whose signed text was erased: what the source claimed",
        "清单原文已删除：数据方所报",
    ),
}

# What no bundle can show, so that nobody takes a clean report for more than it is.
LIMITS: tuple[Words, ...] = (
    (
        "Tags are keyed: of a tag only its number and its repeats can be checked, not what it was made of. Where the "
        "evidence is there, things are compared by their references instead.",
        "标签经密钥处理：只能核对数量与重复，不能核对其内容。证据在时，改按其中的唯一标识核对。",
    ),
    (
        "Licences of sources, consents, mandates and the registers of covered entities and of other schemes are not in "
        "the bundle.",
        "数据方授权、同意、委托及纳入名录等不在审计包内。",
    ),
    (
        "What was refused is in no entry: its number is the platform's and the source's word.",
        "被拒的行为不在日志中：其数量仅凭平台与数据方所述。",
    ),
    (
        "Whether an activity took place: ask the source for the events of the samples.",
        "行为是否真实发生：请按抽样向数据方查证。",
    ),
)


@dataclass(slots=True)
class Open:
    """What could not be checked: how often, and the first entry or name."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, code: str, about: str, times: int = 1) -> None:
        self.counts[code] += times
        self.first.setdefault(code, about)

    def merge(self, other: "Open") -> None:
        """Add what another part of the work left open, which came later in the log."""
        self.counts.update(other.counts)
        for code, about in other.first.items():
            self.first.setdefault(code, about)
