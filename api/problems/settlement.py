"""Problems of statements, reconciliation and disputes."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "bank-file-malformed",
        400,
        Text("对账文件无法读取", "The file cannot be read"),
        Text(
            "文件有 {count} 处不符合格式，见 errors；未作比对。",
            "The file breaks the format in {count} places, see errors. Nothing was compared.",
        ),
        Text(
            "改正后重新提交整个文件；至少需要 transfer_id、redemption_id、kind、units、value_fen 各列。",
            "Correct it and send the whole file again; it needs the columns transfer_id, redemption_id, kind, units "
            "and value_fen at least.",
        ),
    ),
    ProblemType(
        "statement-not-found",
        404,
        Text("该日没有对账单", "The day has no statement"),
        Text(
            "{day} 没有对账单：该日尚未结束或尚未完整，或早于该银行的首笔记录。",
            "{day} has no statement: the day is not over or not complete yet, or lies before the bank's first entry.",
        ),
        Text(
            "午夜（Asia/Shanghai）之后数秒出具；GET /v1/statements 列出已有各日。",
            "It is issued seconds after midnight in Asia/Shanghai; GET /v1/statements lists the days that have one.",
        ),
        shown=("day",),
    ),
    ProblemType(
        "day-closed",
        409,
        Text("该日已关账", "The day is closed"),
        Text("双方均已对 {day} 关账，不再接收文件。", "Both sides have closed {day}; it takes no file any more."),
        Text(
            "差错以之后各日的新记录更正；已关账的日子不再更改。",
            "A mistake is corrected by entries of later days; a closed day never changes.",
        ),
        shown=("day",),
    ),
    ProblemType(
        "day-moved",
        409,
        Text("所依据的文件已非最新", "Not the documents that count"),
        Text(
            "该日现行对账单的摘要为 {statement}，对账文件的摘要为 {file}。",
            "What counts for the day is the statement of digest {statement} and the file of digest {file}.",
        ),
        Text(
            "查看现行的对账单与差异，再以其摘要关账。",
            "Look at the statement and the differences that count now, and close on their digests.",
        ),
        shown=("statement", "file"),
    ),
    ProblemType(
        "bank-not-closed",
        409,
        Text("银行尚未关账", "The bank has not closed the day"),
        Text(
            "该日存在差异，须由银行先就同一文件关账。",
            "There are differences, and the bank has not closed the day on this file.",
        ),
        Text(
            "待银行关账后重试；无差异时平台自动关账。", "Wait for the bank; without differences no one else need close."
        ),
    ),
    ProblemType(
        "pool-not-found",
        404,
        Text("没有此资金池", "No such pool"),
        Text("没有此代码的权益资金池。", "There is no reward pool of this code."),
        Text("GET /v1/pools 列出全部资金池。", "GET /v1/pools lists every pool."),
    ),
    ProblemType(
        "dispute-not-found",
        404,
        Text("没有此争议", "No such dispute"),
        Text("没有此争议，或不属于该令牌。", "There is no such dispute, or it is not this token's."),
        Text("检查兑换编号与争议编号。", "Check the ids of the redemption and of the dispute."),
    ),
    ProblemType(
        "nothing-to-dispute",
        409,
        Text("没有可争议的扣减", "Nothing was spent"),
        Text(
            "该兑换没有已扣减且未退回的积分。",
            "No points of this redemption are spent: nothing was captured, or all of it was given back.",
        ),
        Text(
            "冻结中的积分到期自动退回，或由本人取消。", "Held points come back when their time is over, or cancel them."
        ),
    ),
    ProblemType(
        "dispute-exists",
        409,
        Text("已有争议", "There is a dispute already"),
        Text("该兑换已有争议 {dispute_id}。", "There is a dispute about this redemption: {dispute_id}."),
        Text("在该争议中补充；撤回后可另行提出。", "Follow that one; after it is withdrawn another may be opened."),
        shown=("dispute_id",),
    ),
    ProblemType(
        "dispute-step-refused",
        409,
        Text("争议状态不允许此操作", "The dispute does not take this step"),
        Text("争议现为 {state}，不接受 {step}。", "The dispute is {state} and does not take the step {step}."),
        Text(
            "银行答复或逾期未答后，运营方方可裁定；已终结的争议不再更改。",
            "The operator decides once the bank has answered or let its time pass; what has ended stays ended.",
        ),
        shown=("state", "step"),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {
    "form": ("bank-file-malformed",),
    "records": (
        "statement-not-found",
        "day-closed",
        "day-moved",
        "bank-not-closed",
        "pool-not-found",
        "dispute-not-found",
        "nothing-to-dispute",
        "dispute-exists",
        "dispute-step-refused",
    ),
}
