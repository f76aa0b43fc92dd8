"""Every problem type of the API: what it means, whether it is final, what to do. Statuses are chosen here alone.

A template names its parameters in braces; `{title}` takes the parameter `title_zh` or `title_en` where there is one.
A stored refusal is a slug and its parameters, so a slug or a parameter, once released, keeps its meaning.
"""

from dataclasses import dataclass
from string import Formatter
from typing import Literal, NamedTuple

Language = Literal["zh", "en"]

QUOTA_EXCEEDED_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Text(NamedTuple):
    """One text in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One row of the table.

    final    the answer is stored with the event and given again; otherwise nothing was kept and it may be sent again
    shown    parameters that are also members of the document, for programs
    uri      the type's address where it is not the platform's own
    """

    slug: str
    status: int
    title: Text
    detail: Text
    remedy: Text
    final: bool = False
    shown: tuple[str, ...] = ()
    uri: str | None = None

    @property
    def parameters(self) -> frozenset[str]:
        """What the detail cannot be written without, a translated parameter under its plain name."""
        named = (name for text in self.detail for _, name, _, _ in Formatter().parse(text) if name)
        return frozenset(named) | frozenset(self.shown)


_FINAL = Text(
    "此结论不再改变；若原数据有误，请以新的 id 报送。",
    "This answer is final; if your record was wrong, report it under a new id.",
)
_CORRECT = Text("改正后，用同一 id 重发。", "Correct it and send it again, same id.")

_CALLER = (
    ProblemType(
        "unauthenticated",
        401,
        Text("未通过身份验证", "Not authenticated"),
        Text("访问令牌无效：{why}。", "The access token was not accepted: {why}."),
        Text(
            "向签发方取得新的访问令牌，放入 Authorization: Bearer 请求头后重发。",
            "Get a new access token from your issuer, send it as Authorization: Bearer, and repeat the request.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "forbidden",
        403,
        Text("无权访问", "Not allowed"),
        Text("此令牌不允许该操作：{why}。", "This token does not allow it: {why}."),
        Text(
            "请使用具备所需权限的令牌，或访问属于该令牌的资源。",
            "Use a token that carries the scope, or ask for what belongs to this one.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "quota-exceeded",
        429,
        Text("请求超过限额", "Quota exceeded"),
        Text("该客户端已超出限额：{policies}。", "This client is over its quota: {policies}."),
        Text(
            "等待 Retry-After 所示秒数后重发；没有该响应头时，请求本身大于限额，须拆分。未保留任何内容。",
            "Wait as many seconds as Retry-After says, then send again; without it the request alone is larger "
            "than the quota: split it. Nothing was kept.",
        ),
        uri=QUOTA_EXCEEDED_TYPE,
    ),
    ProblemType(
        "source-mismatch",
        403,
        Text("数据方与令牌不符", "Source is not the token's"),
        Text("事件的 source 不是该令牌所属的数据方。", "The event's source is not the one this token belongs to."),
        Text(
            "将 source 改为令牌中登记的标识，或换用对应的令牌。",
            "Send the source the token names, or use that source's token.",
        ),
    ),
    ProblemType(
        "source-not-registered",
        403,
        Text("数据方未登记", "Source is not registered"),
        Text("本平台没有登记该数据方。", "This platform has not registered the source."),
        Text(
            "请平台运营方先登记数据方，再重发。未保留任何内容。",
            "Ask the operator to register it, then send again. Nothing was kept.",
        ),
    ),
    ProblemType(
        "source-licence-not-valid",
        403,
        Text("数据方许可不在有效期", "Source's licence is not valid on that day"),
        Text(
            "数据方的许可有效期为 {valid_from} 至 {valid_to}，行为发生在 {day}。",
            "The source is licensed from {valid_from} to {valid_to}; the activity is of {day}.",
        ),
        Text(
            "请平台运营方更新许可后重发。未保留任何内容。",
            "Ask the operator to renew it, then send again. Nothing was kept.",
        ),
        shown=("valid_from", "valid_to", "day"),
    ),
    ProblemType(
        "scenario-not-licensed",
        403,
        Text("数据方未获准报送该场景", "Scenario is not licensed to the source"),
        Text("数据方未获准报送场景 {scenario}。", "The source has no licence for the scenario {scenario}."),
        Text(
            "请平台运营方增加该场景后重发。未保留任何内容。",
            "Ask the operator to add the scenario, then send again. Nothing was kept.",
        ),
        shown=("scenario",),
    ),
    ProblemType(
        "subject-not-linked",
        403,
        Text("用户未授权", "Person is not linked"),
        Text(
            "该用户没有在此数据方下的有效授权；内容未予保留。",
            "The person has no consent in force for this source; nothing of the event was kept.",
        ),
        Text("待用户完成关联并同意后重发。", "Send again once the person has linked the source and consented."),
    ),
)

_REQUEST = (
    ProblemType(
        "malformed-json",
        400,
        Text("不是有效的 JSON", "Not valid JSON"),
        Text("请求体不是有效的 JSON：{why}。", "The body is not valid JSON: {why}."),
        Text("按 RFC 8259 以 UTF-8 编码后重发。", "Send JSON as RFC 8259 describes it, in UTF-8."),
    ),
    ProblemType(
        "malformed-request",
        422,
        Text("请求不符合要求", "Request is not as expected"),
        Text("请求中有 {count} 处不符合要求，见 errors。", "Faults in the request: {count}; see errors."),
        Text("按 errors 中的 pointer 逐项改正后重发。", "Correct each place that errors points to, then send again."),
    ),
    ProblemType(
        "malformed-event",
        422,
        Text("事件不符合要求", "Event is not as expected"),
        Text(
            "事件中有 {count} 处不符合要求，见 errors；未保留任何内容。",
            "Faults in the event: {count}; see errors. Nothing was kept.",
        ),
        Text(
            "按 errors 中的 pointer 逐项改正后，用同一 id 重发。",
            "Correct each place that errors points to and send it again, same id.",
        ),
    ),
    ProblemType(
        "batch-empty",
        422,
        Text("批次为空", "Batch is empty"),
        Text("批次中没有事件，至少应有一个。", "The batch holds no event; it needs at least one."),
        Text("没有事件时不必发送。", "Send nothing when there is nothing to send."),
    ),
    ProblemType(
        "batch-too-large",
        413,
        Text("批次过大", "Batch is too large"),
        Text("批次中有 {count} 个事件，最多 {limit} 个。", "The batch holds {count} events; {limit} is the most."),
        Text("拆成较小的批次后重发。未保留任何内容。", "Split it and send the parts. Nothing was kept."),
        shown=("limit",),
    ),
    ProblemType(
        "payload-too-large",
        413,
        Text("请求体过大", "Body is too large"),
        Text("请求体超过 {limit} 字节。", "The body is larger than {limit} bytes."),
        Text("拆成较小的请求后重发。未保留任何内容。", "Send it in smaller requests. Nothing was kept."),
        shown=("limit",),
    ),
    ProblemType(
        "unsupported-media-type",
        415,
        Text("不支持的内容类型", "Unsupported media type"),
        Text("此处接受：{accepted}。", "Accepted here: {accepted}."),
        Text(
            "设置正确的 Content-Type，不要使用 Content-Encoding，再重发。",
            "Send one of these as Content-Type, without Content-Encoding.",
        ),
        shown=("accepted",),
    ),
    ProblemType(
        "not-found",
        404,
        Text("没有此地址", "Not found"),
        Text("此地址没有内容。", "There is nothing at this address."),
        Text("请对照接口文档检查地址。", "Check the address against the API's documentation."),
    ),
    ProblemType(
        "method-not-allowed",
        405,
        Text("不支持此方法", "Method not allowed"),
        Text("此地址不支持 {method} 方法。", "This address does not take {method}."),
        Text("使用 Allow 响应头中列出的方法。", "Use one of the methods the Allow header names."),
    ),
    ProblemType(
        "invalid-cursor",
        400,
        Text("分页游标无效", "Cursor is not valid"),
        Text("after 不是本平台为该列表给出的游标。", "`after` is not a cursor this platform gave for this list."),
        Text(
            "去掉 after 从头读取，或原样使用上次返回的游标。",
            "Start without it, or use the last answer's cursor unchanged.",
        ),
    ),
)

_ACTIVITY = (
    ProblemType(
        "event-conflict",
        409,
        Text("同一事件内容不同", "Another event has this id"),
        Text(
            "该数据方已用此 id 报送过另一内容；先前的结论不变。",
            "The source has sent another body under this id; its first answer stands.",
        ),
        Text("每个事件使用自己的 id；重发时不改内容。", "Give each event an id of its own; repeat an event unchanged."),
    ),
    ProblemType(
        "unknown-scenario",
        422,
        Text("未知场景", "Unknown scenario"),
        Text(
            "本平台没有场景 {scenario}；未保留任何内容。",
            "This platform knows no scenario {scenario}. Nothing was kept.",
        ),
        Text("对照 /v1/methodologies 中的场景代码。", "Take the scenario's code from /v1/methodologies."),
        shown=("scenario",),
    ),
    ProblemType(
        "no-methodology-in-force",
        422,
        Text("当日没有生效的方法学", "No methodology in force on that day"),
        Text(
            "场景 {scenario} 在 {day} 没有生效的方法学；未保留任何内容。",
            "No methodology of {scenario} is in force on {day}. Nothing was kept.",
        ),
        Text("待方法学生效后，用同一 id 重发。", "Send it again, same id, once one is in force."),
        shown=("scenario", "day"),
    ),
    ProblemType(
        "no-points-rule-in-force",
        422,
        Text("没有生效的积分规则", "No points rule in force"),
        Text("{day} 没有生效的积分规则；未保留任何内容。", "No points rule is in force on {day}. Nothing was kept."),
        Text("待规则生效后，用同一 id 重发。", "Send it again, same id, once one is in force."),
        shown=("day",),
    ),
    ProblemType(
        "methodology-not-allowed",
        422,
        Text("方法学不得用于本部署", "Methodology is not allowed here"),
        Text(
            "方法学 {methodology} 的状态为 {status}，本部署不据此计分；未保留任何内容。",
            "The methodology {methodology} has the status {status}, which earns nothing here. Nothing was kept.",
        ),
        Text("仅报送本部署认可的场景。", "Report scenarios this deployment credits."),
        shown=("methodology",),
    ),
    ProblemType(
        "activity-in-future",
        422,
        Text("行为尚未结束", "Activity lies in the future"),
        Text(
            "行为结束于 {ended_at}，晚于当前时间；未保留任何内容。",
            "The activity ends at {ended_at}, after now. Nothing was kept.",
        ),
        Text(
            "检查时钟与时区偏移，行为结束后用同一 id 重发。",
            "Check clock and offset; send it again, same id, after it has ended.",
        ),
        shown=("ended_at",),
    ),
    ProblemType(
        "outside-calendar",
        422,
        Text("时间不在日历之内", "Time is outside the calendar"),
        Text(
            "started_at 为 {started_at}，在上海没有对应的日期；未保留任何内容。",
            "started_at is {started_at}, which is no calendar day in Shanghai. Nothing was kept.",
        ),
        Text("改正时间后，用同一 id 重发。", "Correct the time and send it again, same id."),
        shown=("started_at",),
    ),
    ProblemType(
        "ends-before-start",
        422,
        Text("结束早于开始", "Ends before it starts"),
        Text(
            "行为结束于 {ended_at}，早于开始时间 {started_at}。",
            "The activity ends at {ended_at}, before its start at {started_at}.",
        ),
        _FINAL,
        final=True,
        shown=("started_at", "ended_at"),
    ),
    ProblemType(
        "unknown-input",
        422,
        Text("方法学没有此项输入", "Unknown input"),
        Text(
            "方法学没有输入项 {name}；它的输入项为：{known}。未保留任何内容。",
            "The methodology has no input {name}; its inputs are: {known}. Nothing was kept.",
        ),
        _CORRECT,
        shown=("name",),
    ),
    ProblemType(
        "missing-input",
        422,
        Text("缺少输入", "Missing input"),
        Text(
            "缺少方法学所需的输入项 {name}。未保留任何内容。",
            "The methodology needs the input {name}, which is missing. Nothing was kept.",
        ),
        _CORRECT,
        shown=("name",),
    ),
    ProblemType(
        "improper-number",
        422,
        Text("数字不可用", "Number cannot be taken"),
        Text(
            "输入项 {name} 为 {value}；数字须有限、不为负零，有效数字至多 18 位。未保留任何内容。",
            "The input {name} is {value}; it must be finite, not -0, of at most 18 significant digits. Nothing kept.",
        ),
        _CORRECT,
        shown=("name", "value"),
    ),
    ProblemType(
        "missing-factor",
        422,
        Text("当日没有因子数值", "Factor has no value on that day"),
        Text(
            "方法学的因子 {name} 在 {day} 没有数值；未保留任何内容。",
            "The methodology's factor {name} has no value on {day}. Nothing was kept.",
        ),
        Text("待因子公布后，用同一 id 重发。", "Send it again, same id, once it has one."),
        shown=("name", "day"),
    ),
    ProblemType(
        "input-out-of-range",
        422,
        Text("输入超出范围", "Input out of range"),
        Text(
            "输入项 {name} 为 {value}{unit}，超出范围 {limits}。",
            "The input {name} is {value}{unit}, outside its range {limits}.",
        ),
        _FINAL,
        final=True,
        shown=("name", "value", "unit", "limits"),
    ),
    ProblemType(
        "condition-not-met",
        422,
        Text("不符合方法学条件", "Condition of the methodology is not met"),
        Text(
            "条件“{title}”未满足：实际为 {value}{unit}，应{comparison} {limit}{unit}。",
            "The condition “{title}” is not met: it is {value}{unit} and must be {comparison} {limit}{unit}.",
        ),
        _FINAL,
        final=True,
        shown=("condition", "value", "limit", "unit", "comparison"),
    ),
    ProblemType(
        "not-computable",
        422,
        Text("无法计算", "Cannot be computed"),
        Text(
            "按报送的数值，{where} 的除数为零，无法计算。",
            "From these figures {where} cannot be computed: a divisor is zero.",
        ),
        _FINAL,
        final=True,
        shown=("where",),
    ),
    ProblemType(
        "no-reduction",
        422,
        Text("没有减排量", "No reduction"),
        Text(
            "按方法学计算的减排量为 {value}{unit}，不足一毫克，不予计入。",
            "By the methodology the reduction is {value}{unit}; less than a milligram earns nothing.",
        ),
        Text("此结论不再改变，无需重发。", "This answer is final; there is nothing to send again."),
        final=True,
        shown=("value", "unit"),
    ),
)

_RECORDS = (
    ProblemType(
        "participant-not-found",
        404,
        Text("没有此参与者", "No such participant"),
        Text("没有此参与者。", "There is no such participant."),
        Text("检查 participant_id。", "Check the participant_id."),
    ),
    ProblemType(
        "participant-conflict",
        409,
        Text("参与者信息冲突", "Participant differs"),
        Text(
            "该用户已以其他类别或另一参与者身份登记。", "The person is enrolled as another kind or another participant."
        ),
        Text("先读取已有登记，再以相同信息登记。", "Read the existing enrolment and enrol with the same facts."),
    ),
    ProblemType(
        "programme-mismatch",
        409,
        Text("计划不一致", "Programmes differ"),
        Text(
            "参与者与数据方属于不同的碳普惠计划。",
            "The participant and the source belong to different programmes.",
        ),
        Text(
            "关联同一计划的数据方；跨计划须先有互认规则。",
            "Link a source of the participant's programme; across programmes a recognition rule comes first.",
        ),
    ),
    ProblemType(
        "link-not-found",
        404,
        Text("没有此关联", "No such link"),
        Text("该参与者没有此关联。", "The participant has no such link."),
        Text("检查 link_id。", "Check the link_id."),
    ),
    ProblemType(
        "transfer-not-found",
        404,
        Text("没有此划转", "No such transfer"),
        Text("该参与者没有此划转。", "The participant has no such transfer."),
        Text("检查 transfer_id，可在明细中查到。", "Check the transfer_id; the statement lists them."),
    ),
    ProblemType(
        "methodology-not-found",
        404,
        Text("没有此方法学", "No such methodology"),
        Text("没有此摘要对应的方法学。", "No methodology has this digest."),
        Text("在 /v1/methodologies 中查找摘要。", "Find the digest in /v1/methodologies."),
    ),
    ProblemType(
        "not-reversible",
        409,
        Text("不可冲正", "Cannot be reversed"),
        Text("该划转的类别为 {kind}，不可冲正。", "The transfer is of the kind {kind}, which cannot be reversed."),
        Text("仅活动入账可以冲正。", "Only a credit of an activity can be reversed."),
    ),
    ProblemType(
        "already-reversed",
        409,
        Text("已冲正", "Already reversed"),
        Text(
            "该划转已由 {reversal} 冲正，理由为 {reason}。",
            "The transfer was reversed by {reversal}, for the reason {reason}.",
        ),
        Text("无需再次冲正。", "There is nothing left to reverse."),
        shown=("reversal", "reason"),
    ),
)

_SERVER = (
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

PROBLEM_TYPES: dict[str, ProblemType] = {
    row.slug: row for row in (*_CALLER, *_REQUEST, *_ACTIVITY, *_RECORDS, *_SERVER)
}


class CheckStep(NamedTuple):
    """One step in the order of checks, and the problems it may end with."""

    meaning: Text
    slugs: tuple[str, ...]


# Part of the interface: the first step that fails answers, so a client can rely on what was checked before it.
ORDER_OF_CHECKS: tuple[CheckStep, ...] = (
    CheckStep(Text("地址与方法", "address and method"), ("not-found", "method-not-allowed")),
    CheckStep(Text("令牌", "token"), ("unauthenticated",)),
    CheckStep(Text("权限", "scope and ownership"), ("forbidden",)),
    CheckStep(Text("内容类型与大小", "media type and size"), ("unsupported-media-type", "payload-too-large")),
    CheckStep(
        Text("JSON 与批次大小", "JSON and number of events"), ("malformed-json", "batch-empty", "batch-too-large")
    ),
    CheckStep(Text("限额：请求数与条数", "quota of requests and items"), ("quota-exceeded",)),
    CheckStep(
        Text("请求或事件的形式", "form of the request or event"),
        ("malformed-request", "malformed-event", "invalid-cursor"),
    ),
    CheckStep(
        Text("数据方与令牌相符且已登记", "the source is the token's, and registered"),
        ("source-mismatch", "source-not-registered"),
    ),
    CheckStep(
        Text("先前的结论：同一事件得到同一结论", "an earlier answer: the same event is answered as before"),
        ("event-conflict",),
    ),
    CheckStep(
        Text("日期、许可与时间", "calendar, licence and time"),
        ("outside-calendar", "scenario-not-licensed", "source-licence-not-valid", "activity-in-future"),
    ),
    CheckStep(
        Text("规则已生效并可用于本部署", "rules are in force, and allowed here"),
        ("unknown-scenario", "no-methodology-in-force", "no-points-rule-in-force", "methodology-not-allowed"),
    ),
    CheckStep(
        Text(
            "行为的数值与方法学条件；对未授权的用户，最终结论让位于下一步",
            "the activity's figures and the methodology's conditions; of a person who is not linked no final answer is "
            "given, the next step answers",
        ),
        (
            "ends-before-start",
            "unknown-input",
            "missing-input",
            "improper-number",
            "input-out-of-range",
            "missing-factor",
            "condition-not-met",
            "not-computable",
            "no-reduction",
        ),
    ),
    CheckStep(Text("用户已关联并同意", "the person is linked and has consented"), ("subject-not-linked",)),
    CheckStep(
        Text("记录存在，且其状态允许", "the records exist, and their state allows it"),
        (
            "participant-not-found",
            "participant-conflict",
            "programme-mismatch",
            "link-not-found",
            "transfer-not-found",
            "methodology-not-found",
            "not-reversible",
            "already-reversed",
        ),
    ),
    CheckStep(
        Text("入账", "posting"),
        ("overloaded", "temporarily-unavailable", "posting-failed", "internal-error"),
    ),
)
