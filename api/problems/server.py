"""Problems of the platform's own."""

from api.problems.kinds import ProblemType, Text, by_slug

ENTRIES = by_slug(
    ProblemType(
        "posting-suspended",
        503,
        Text("暂停入账", "Posting is suspended"),
        Text(
            "数据库的历史可能与已签署的日志不一致：{why}。未保留任何内容；查询照常。运营方需要：{do}。",
            "The database's history may be another than the log that was signed: {why}. Nothing was kept; reading goes "
            "on. The operator has to act: {do}.",
        ),
        Text(
            "待运营方处理后，用同一 id 原样重发。",
            "Send it again, unchanged, under the same id, once the operator has dealt with it.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "overloaded",
        503,
        Text("系统繁忙", "Overloaded"),
        Text("等待入账的行为过多；未保留任何内容。", "Too many activities wait for posting. Nothing was kept."),
        Text("等待 Retry-After 所示秒数后重发。", "Wait as many seconds as Retry-After says, then send again."),
    ),
    ProblemType(
        "temporarily-unavailable",
        503,
        Text("暂时不可用", "Temporarily unavailable"),
        Text(
            "暂时无法完成；结果未知时，以同一 id 重发不会重复入账。",
            "It could not be done just now. Should the outcome be unclear, the same id is never credited twice.",
        ),
        Text(
            "等待 Retry-After 所示秒数后原样重发。",
            "Wait as many seconds as Retry-After says, then send the same again.",
        ),
    ),
    ProblemType(
        "posting-failed",
        500,
        Text("此事件未能入账", "This event could not be posted"),
        Text(
            "因平台内部原因，此事件未能入账；未产生任何记录，运营方已收到告警。",
            "For a reason inside the platform this event could not be posted. Nothing was recorded; operators know.",
        ),
        Text("稍后用同一 id 原样重发。", "Send it again later, unchanged, under the same id."),
    ),
    ProblemType(
        "internal-error",
        500,
        Text("内部错误", "Internal error"),
        Text("发生内部错误，编号见 instance。", "Something failed inside; instance is its reference."),
        Text(
            "稍后重发；若仍失败，请将 instance 告知运营方。",
            "Try again later; if it fails again, give the operators the instance.",
        ),
    ),
)
