"""What a verification says: findings under a stable code each, and what could not be decided from the bundle alone."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_SHOWN = 100  # of one code, in one report; the others are counted

# By code: what holds where nothing is found, in English and Chinese. Codes are never renamed: see docs/audit.md.
CODES: dict[str, tuple[str, str]] = {
    # the bundle and its keys
    "bundle-field": ("bundle.json says what the log says", "bundle.json 与日志一致"),
    "file-missing": ("every file that the bundle needs or lists is there", "所需与所列文件齐全"),
    "file-differs": ("every file has the listed length and SHA-256", "每个文件的长度与 SHA-256 与清单一致"),
    "file-form": ("every file is of its form", "每个文件格式正确"),
    "log-key": ("log.vkey is a verifier key, and among those of keys.json", "log.vkey 有效且列于 keys.json"),
    "source-key": ("keys.json names sources' keys as the log announced them", "keys.json 中的数据方公钥与日志公告一致"),
    "bank-key": ("keys.json names banks' keys as the log announced them", "keys.json 中的银行公钥与日志公告一致"),
    "checkpoint-signature": ("every checkpoint is signed by the log's key", "每个检查点均由日志密钥签名"),
    "checkpoint-origin": ("a checkpoint names the log of its epoch", "检查点的日志名称与纪元相符"),
    "witness-quorum": ("as many witnesses as the policy asks for saw the checkpoint", "见证方数量满足策略要求"),
    "history-rewritten": ("the log begins with every earlier checkpoint", "日志包含此前每个检查点的全部内容"),
    # the tree
    "entries-form": ("entry bundles hold 256 entries each, the last one the rest", "条目分片完整"),
    "leaf-hash": ("an entry's leaf hash is the one in its tile", "条目的叶子哈希与分片一致"),
    "tile-differs": ("a tile holds the hashes of the entries below it", "分片与其下条目的哈希一致"),
    "root": ("the entries lead to the root that was signed", "全部条目得出已签名的根哈希"),
    "epoch": ("epochs follow one another as their leaves say", "纪元按其叶子所述前后衔接"),
    "epoch-kept": ("an epoch begins with the entries it kept of the former log", "新纪元以其保留的旧日志条目开头"),
    # the entries
    "leaf-form": ("an entry is the canonical form of a known kind", "条目为已知类别的规范形式"),
    "counter": ("a participant's transfers are numbered 1, 2, 3, …", "参与者划转编号连续"),
    "participant": ("a participant's kind, programme and region stay", "参与者类别、项目与地区不变"),
    "transfer-repeated": ("a transfer has one entry", "每笔划转只有一个条目"),
    "day": ("an entry's days fit the moment it was posted", "条目日期与入账时刻相符"),
    "time-backwards": (
        "a participant's transfers are posted one after another, a minute of clock error aside",
        "同一参与者的划转按时间先后入账（容许一分钟时钟误差）",
    ),
    "line-accounts": ("a kind of transfer moves between its own accounts", "各类划转只在规定账户之间移动"),
    "line-bucket": (
        "points in or out of available or held name their bucket, a month end",
        "可用与冻结积分的分录注明批次（月末）",
    ),
    "negative-balance": ("no balance is below zero or above 2^63 - 1", "余额不为负且不溢出"),
    "bucket": ("a bucket gives only what is in it", "批次支出不超过余额"),
    "lapse-due": ("what has run out is closed before anything else is posted", "到期批次先行结清"),
    "lapse-returned": (
        "points that come back into a bucket that has run out lapse at once",
        "退回到期批次的积分立即失效",
    ),
    "debt-first": ("who owes points has none available", "欠付积分者无可用积分"),
    "credit-lines": ("a credit repays debts first, in one class and vintage", "入账先还欠额，类别与年份唯一"),
    "credit-activity": ("a credit's transfer has the id of its activity", "入账的划转编号即行为编号"),
    "credit-rule": ("points are credited under a points rule", "积分入账须有积分规则"),
    "credit-claim": ("a credit names what keeps it from being counted twice", "入账注明唯一性标签"),
    "claim-repeated": ("a claim comes again only after its holder was reversed", "标签仅在持有者冲正后才再次出现"),
    "replaces": (
        "a credit replaces one that was corrected or superseded before, and nobody else does",
        "替代的入账此前已被更正或取代，且仅替代一次",
    ),
    "reversal": (
        "a reversal takes back one standing credit of its participant, for a known reason",
        "冲正针对本人一笔未冲正的入账，原因已知",
    ),
    "authority": (
        "what is taken back or freed is so on an operator's, a source's or a rule's authority",
        "冲正与转为可用依运营方、数据方或规则之权",
    ),
    "reversal-lines": ("a reversal takes back what the credit gave", "冲正分录与原入账相符"),
    "lapse-lines": ("a lapse closes the buckets that have run out, each whole, and no other", "仅结清全部到期批次"),
    "maturity": ("a maturity frees one credit that is pending still", "转为可用针对一笔仍待确认的入账"),
    "maturity-lines": ("a maturity frees exactly what was pending", "转为可用分录与待确认部分相符"),
    "maturity-rule": ("a maturity counts its bucket by the credit's points rule", "转为可用沿用入账时的积分规则"),
    # redemptions
    "hold-lines": (
        "a hold takes the points that run out first, and the oldest grams of a class that passes",
        "冻结先取最早到期的积分与最早年份的可转让减排量",
    ),
    "hold-share": (
        "units, points, grams and value of a step are in its hold's proportion, and no more than was left",
        "份数、积分、减排量与金额与冻结成比例且不超过余额",
    ),
    "hold-time": (
        "a hold is captured before its end, and lapses from its end on",
        "冻结的扣减在截止前，过期在截止后",
    ),
    "hold-offer": ("a hold is of an offer that is listed then", "冻结所属优惠当时在列"),
    "hold-bank": (
        "a bank's key was announced before, and stands where the bank signs a step",
        "银行公钥已公告，签署步骤时有效",
    ),
    "hold": (
        "a capture or a release is of an earlier hold of its participant with something left, of its bank and pool",
        "扣减与解冻针对本人尚有余额的冻结，银行与资金池一致",
    ),
    "step-authority": (
        "a step is on the authority that its reason calls for",
        "各步骤依其原因之权",
    ),
    "capture-lines": ("a capture takes what is held, from its first lines", "扣减按冻结分录先后取用"),
    "release": ("a release has a known reason, and a rest is left by a capture", "解冻原因已知，剩余解冻之前有扣减"),
    "release-lines": ("a release gives back all that is held still, debts first", "解冻退回全部剩余，先还欠额"),
    "refund": (
        "a refund takes back one standing capture of its participant, of its bank and pool, for a known reason",
        "退还针对本人一笔未退还的扣减，银行与资金池一致，原因已知",
    ),
    "refund-lines": ("a refund gives back what the capture took, debts first", "退还分录与扣减相符，先还欠额"),
    # what belongs to nobody
    "pool": (
        "a pool is opened once, before anything draws on it, stays its funder's, and is not drawn on while it is "
        "suspended or closed",
        "资金池先开立一次，出资方不变，暂停或关闭期间不得支取",
    ),
    "pool-overdrawn": ("no pool is ever below zero, in points and in fen", "资金池的积分与金额在任何位置均不为负"),
    "listing": (
        "a document is listed, suspended, resumed and taken down in turn",
        "产品与优惠依次上架、暂停、恢复、下架",
    ),
    "statement": (
        "a bank's statements are numbered day by day, cover all of a day that is over, and are closed as issued, "
        "by the rule or an operator",
        "银行对账单逐日连续编号，覆盖已结束当日的全部条目，关账与出具一致且依规则或运营方",
    ),
    "rule-approval": ("a rule leaf bears good signatures in both roles", "规则叶子有两方有效签名"),
    "rule-late": ("a document is approved before anything is credited under it", "规则先审批后入账"),
    "rule-document": ("rules/ holds the documents that the log names", "rules/ 含日志所引用的文档"),
    "named-document": (
        "documents/ holds the products, offers, terms and statements that the log names",
        "documents/ 含日志所引用的产品、权益、条款与对账单",
    ),
    "key": ("a key leaf announces one key, and revokes only what it announced", "密钥叶子公告有效，撤销有据"),
    "key-unannounced": ("the log's key was announced in the log, and not revoked", "日志密钥已公告且未撤销"),
    "manifest": ("manifests of a source and day are numbered 1, 2, 3, …", "日清单编号连续"),
    "manifest-key": (
        "a manifest is signed by a key that its source had announced and not revoked",
        "日清单由数据方已公告且未撤销的密钥签名",
    ),
    "manifest-text": ("manifests.jsonl holds what the manifests' leaves commit to", "清单文件与叶子承诺一致"),
    "seal": ("a seal covers entries before it, for a day later than the one before", "封存覆盖其之前的条目，日期递增"),
    "seal-participants": ("a seal counts everybody with a transfer", "封存人数与有划转的参与者一致"),
    "seal-root": ("a seal's root is that of the balances recomputed", "封存根哈希与重算余额一致"),
    "seal-totals": ("a seal's totals are the balances added up", "封存合计与余额之和一致"),
    "published-totals": ("totals.json is what the lines add up to", "公布的合计与分录之和一致"),
}

# What stays open, by code, in English and Chinese.
LEFT: dict[str, tuple[str, str]] = {
    "waiting-claim": (
        "a claim was named again while a credit held it that may have waited for its match: only its methodology says "
        "whether it did, which the replay looks up",
        "标签重复时其持有入账可能在等待匹配：须查方法学，由重放判定",
    ),
    "not-approved": (
        "documents that credits name and no rule leaf approves: right where the deployment requires no approvals",
        "入账引用但日志中无审批的文档：仅在不要求审批的部署中正常",
    ),
    "entries-lost": (
        "entries of a former log that its successor did not keep, as the epoch's leaf says",
        "旧日志中未被新纪元保留的条目（纪元叶子已载明）",
    ),
    "totals-ahead": ("totals.json is folded further than the checkpoint goes", "totals.json 超出检查点范围"),
    "totals-behind": (
        "totals.json counts the first entries only: the rest is not held against it",
        "totals.json 仅计入前面的条目，其余未核对",
    ),
    "day-not-stated": (
        "days of a bank that are over, with entries and no statement yet",
        "已结束、有条目而尚无对账单的银行日",
    ),
    "lapse-awaited": (
        "points came back into a bucket that has run out at the log's end: the lapse follows in the next entries",
        "日志末尾退回到期批次的积分：失效条目随后写入",
    ),
    "files-not-read": ("files in the folder that the bundle does not list", "文件夹中未列入清单的文件"),
}

LEFT_TO_REPLAY = (
    "amounts, caps, expiry months, eligibility and evidence rest on documents: `tanpuhui audit replay` computes them",
    "数额、上限、有效期月数、资格与证据依据规则文档，由 `tanpuhui audit replay` 重算",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be.

    index   of the entry in the log; None where it is no entry's
    where   the file, the participant or the document it is about
    """

    code: str
    expected: str
    found: str
    index: int | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """Something the bundle alone cannot decide: how often, and the first entry or name."""

    code: str
    count: int
    first: str


@dataclass(slots=True)
class Findings:
    """Findings as they come: of each code the first are kept, all are counted."""

    shown: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, code: str, expected: object, found: object, index: int | None = None, where: str = "") -> None:
        self.counts[code] += 1
        if self.counts[code] <= MOST_SHOWN:
            self.shown.append(Finding(code, _short(expected), _short(found), index, where))

    def merge(self, other: "Findings") -> None:
        """Add what another part of the work found."""
        kept = Counter(finding.code for finding in self.shown)
        for finding in other.shown:
            kept[finding.code] += 1
            if kept[finding.code] <= MOST_SHOWN:
                self.shown.append(finding)
        self.counts.update(other.counts)

    def in_order(self) -> list[Finding]:
        """By code as listed above, then by entry."""
        order = list(CODES)
        return sorted(
            self.shown, key=lambda one: (order.index(one.code), -1 if one.index is None else one.index, one.where)
        )


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)
    return text if len(text) <= 2_000 else text[:2_000] + "…"
