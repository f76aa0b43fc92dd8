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
        Text("source 不是该令牌所属的数据方。", "The source is not the one this token belongs to."),
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
            "本部署不按方法学 {methodology} 计入：{because}。未保留任何内容。",
            "Nothing is credited here under the methodology {methodology}: {because}. Nothing was kept.",
        ),
        Text("仅报送本部署认可的场景。", "Report scenarios this deployment credits."),
        shown=("methodology", "because"),
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
    ProblemType(
        "not-one-day",
        422,
        Text("不是一个整日", "Not one whole day"),
        Text(
            "该方法学按日计量，应自零时报至次日零时（Asia/Shanghai），收到 {started_at} 至 {ended_at}。",
            "The methodology counts days, from midnight to the next midnight in Asia/Shanghai; "
            "what came is {started_at} to {ended_at}.",
        ),
        _FINAL,
        final=True,
        shown=("started_at", "ended_at"),
    ),
    ProblemType(
        "not-whole-period",
        422,
        Text("不是完整的日历周期", "Not whole calendar periods"),
        Text(
            "该方法学按整{unit}计量，应自首日零时报至末日的次日零时（Asia/Shanghai），"
            "收到 {started_at} 至 {ended_at}。",
            "The methodology counts whole calendar {unit}s, from the first midnight to the midnight after the last day "
            "in Asia/Shanghai; what came is {started_at} to {ended_at}.",
        ),
        _FINAL,
        final=True,
        shown=("started_at", "ended_at"),
    ),
    ProblemType(
        "period-too-long",
        422,
        Text("报送的周期过长", "Period is too long"),
        Text(
            "一次至多报送 {at_most} 个{unit}，收到 {units} 个。",
            "One report covers {at_most} {unit}s at most; this one covers {units}.",
        ),
        Text("拆成较短的周期，以新的 id 报送。", "Report shorter periods, each under a new id."),
        final=True,
        shown=("at_most", "units"),
    ),
    ProblemType(
        "unknown-reading",
        422,
        Text("方法学没有此项读数", "Unknown readings"),
        Text(
            "方法学没有读数或基准 {name}；它的读数与基准为：{known}。",
            "The methodology has no readings or baseline {name}; it has: {known}.",
        ),
        _CORRECT,
        shown=("name",),
    ),
    ProblemType(
        "missing-reading",
        422,
        Text("缺少读数", "Missing readings"),
        Text("缺少方法学所需的读数 {name}。", "The methodology needs the readings {name}, which are missing."),
        _CORRECT,
        shown=("name",),
    ),
    ProblemType(
        "missing-baseline",
        422,
        Text("缺少基准期读数", "Missing baseline"),
        Text(
            "缺少基准 {name}：需要 {first} 至 {last}（含）的读数。",
            "The baseline {name} is missing: readings of {first} to {last}, both included, are needed.",
        ),
        _CORRECT,
        shown=("name", "first", "last"),
    ),
    ProblemType(
        "readings-invalid",
        422,
        Text("读数无法采用", "Readings cannot be taken"),
        Text("读数 {name} 无法采用：{why}。", "The readings {name} cannot be taken: {why}."),
        _CORRECT,
        shown=("name",),
    ),
    ProblemType(
        "readings-incomplete",
        422,
        Text("读数不完整", "Readings are incomplete"),
        Text(
            "读数 {name} 覆盖了 {covered}，最长缺口 {longest_gap}；各时段的覆盖比例须不小于 {coverage_at_least}，"
            "缺口不得超过 {longest_gap_h} h。",
            "The readings {name} cover {covered}, with a gap of up to {longest_gap}; in every window a share of "
            "{coverage_at_least} is needed, and no gap over {longest_gap_h} h.",
        ),
        _FINAL,
        final=True,
        shown=("name", "covered", "longest_gap", "coverage_at_least", "longest_gap_h"),
    ),
    ProblemType(
        "methodology-incomplete",
        422,
        Text("方法学尚不完整", "Methodology is incomplete"),
        Text(
            "方法学 {methodology} 写明尚有未知内容，无法据此计算；未保留任何内容。",
            "The methodology {methodology} says itself that parts of it are not known: nothing is computed with it. "
            "Nothing was kept.",
        ),
        Text("待完整的版本生效后，用同一 id 重发。", "Send it again, same id, once a complete version is in force."),
        shown=("methodology",),
    ),
    ProblemType(
        "claim-window-closed",
        422,
        Text("已过报送期限", "Reported too late"),
        Text(
            "该方法学的行为须在 {last_day} 之后 {days} 日内报送，此件于 {reported} 报送。",
            "This methodology's activities are reported within {days} days of {last_day}; this one came on {reported}.",
        ),
        Text("此结论不再改变；今后请在期限内报送。", "This answer is final; report within the window from now on."),
        final=True,
        shown=("last_day", "days", "reported"),
    ),
    ProblemType(
        "missing-reference",
        422,
        Text("缺少标识", "Missing reference"),
        Text(
            "方法学 {methodology} 须以 references 中的 {name} 辨认此行为，以免重复计算；报送中没有。未保留任何内容。",
            "The methodology {methodology} tells activities apart by the reference {name}, so that none counts twice; "
            "the report has none. Nothing was kept.",
        ),
        _CORRECT,
        shown=("methodology", "name"),
    ),
    ProblemType(
        "activity-too-long",
        422,
        Text("行为持续过长", "Activity lasts too long"),
        Text(
            "按时段辨认的行为至多持续 {hours} 小时，此件更长。",
            "An activity that is told apart by its time lasts {hours} hours at most; this one is longer.",
        ),
        _FINAL,
        final=True,
        shown=("hours",),
    ),
    ProblemType(
        "participant-kind-not-eligible",
        422,
        Text("该类参与者不适用", "Not for this kind of participant"),
        Text(
            "该方法学适用于：{eligible}；此参与者的类别为{kind}。",
            "The methodology is for: {eligible}; this participant is a {kind}.",
        ),
        Text("此结论不再改变，无需重发。", "This answer is final; there is nothing to send again."),
        final=True,
        shown=("kind", "eligible"),
    ),
    ProblemType(
        "participant-covered",
        422,
        Text("参与者已纳入碳市场", "Participant is covered by emission trading"),
        Text(
            "该参与者自 {valid_from} 至 {valid_to} 纳入 {scheme}（依据：{source}），"
            "行为在 {first_day} 至 {last_day}：其减排已在该机制中计算。",
            "From {valid_from} to {valid_to} the participant is covered by {scheme} (source: {source}); the "
            "activity is of {first_day} to {last_day}, and what it saves counts there.",
        ),
        Text(
            "此结论不再改变；名录有误时请平台运营方更正，再以新的 id 报送。",
            "This answer is final; if the register is wrong, have the operator correct it and report under a new id.",
        ),
        final=True,
        shown=("scheme", "valid_from", "valid_to", "first_day", "last_day"),
    ),
    ProblemType(
        "site-covered",
        422,
        Text("场所已纳入碳市场", "Site is covered by emission trading"),
        Text(
            "所在场所的单位自 {valid_from} 至 {valid_to} 纳入 {scheme}（依据：{source}），"
            "行为在 {first_day} 至 {last_day}：其减排已在该机制中计算。",
            "From {valid_from} to {valid_to} the organisation of the site is covered by {scheme} (source: {source}); "
            "the activity is of {first_day} to {last_day}, and what it saves counts there.",
        ),
        Text(
            "此结论不再改变；名录有误时请平台运营方更正，再以新的 id 报送。",
            "This answer is final; if the register is wrong, have the operator correct it and report under a new id.",
        ),
        final=True,
        shown=("scheme", "valid_from", "valid_to", "first_day", "last_day"),
    ),
    ProblemType(
        "claimed-elsewhere",
        422,
        Text("已在其他机制中主张", "Claimed in another scheme"),
        Text(
            "该装置自 {valid_from} 至 {valid_to} 的环境权益已在 {scheme} 中主张（依据：{source}），"
            "行为在 {first_day} 至 {last_day}。",
            "From {valid_from} to {valid_to} what the installation saves is claimed in {scheme} (source: {source}); "
            "the activity is of {first_day} to {last_day}.",
        ),
        Text(
            "此结论不再改变；登记有误时请平台运营方更正，再以新的 id 报送。",
            "This answer is final; if the register is wrong, have the operator correct it and report under a new id.",
        ),
        final=True,
        shown=("scheme", "valid_from", "valid_to", "first_day", "last_day"),
    ),
    ProblemType(
        "already-claimed",
        409,
        Text("已被计入", "Already claimed"),
        Text(
            "每个{what}只计入一次；此前的行为 {earlier} 已计入同一{what}。",
            "One {what} counts once; the earlier activity {earlier} counted this {what} already.",
        ),
        Text(
            "此结论不再改变；若是{what}填错，以正确内容和新的 id 报送。",
            "This answer is final; if the {what} was mistyped, report the right one under a new id.",
        ),
        final=True,
        shown=("what", "earlier"),
    ),
    ProblemType(
        "overlaps-claim",
        409,
        Text("时段与先前的行为重叠", "Overlaps an earlier claim"),
        Text(
            "同一{what}在同一时段只计入一次；此前的行为 {earlier} 与此件的时段重叠。",
            "One {what} counts once at any time; the earlier activity {earlier} of the same {what} overlaps this one.",
        ),
        _FINAL,
        final=True,
        shown=("what", "earlier"),
    ),
    ProblemType(
        "overlaps-activity",
        409,
        Text("同一时间已有另一行为", "Somewhere else at that time"),
        Text(
            "一人不能同时进行两次{what}；该参与者此前的行为 {earlier} 与此件的时段重叠。",
            "Nobody does two activities of “{what}” at once; the earlier activity {earlier} of this participant "
            "overlaps this one.",
        ),
        _FINAL,
        final=True,
        shown=("what", "earlier"),
    ),
    ProblemType(
        "baseline-differs",
        409,
        Text("读数与先前报送的不一致", "Readings differ from those told before"),
        Text(
            "同一计量表同一时期的读数 {what} 此前已按另一数值报送，不能再以不同数值作为基准或用量。",
            "For the same meter and time the readings {what} were told before with another total; they cannot be told "
            "otherwise now, neither as use nor as baseline.",
        ),
        Text(
            "此结论不再改变；先以 replaces 更正有误的那一次，再以新的 id 报送。",
            "This answer is final; correct whichever was wrong, with `replaces`, then report this one under a new id.",
        ),
        final=True,
        shown=("what",),
    ),
    ProblemType(
        "cap-reached",
        409,
        Text("已达上限", "Cap is reached"),
        Text(
            "上限 {cap} 为每{per} {at_most} {of}，已用 {used}；此件不再计入。",
            "The cap {cap} is {at_most} {of} in a {per}, of which {used} is used; this one earns nothing.",
        ),
        Text("此结论不再改变，无需重发。", "This answer is final; there is nothing to send again."),
        final=True,
        shown=("cap", "per", "at_most", "used"),
    ),
    ProblemType(
        "activity-not-found",
        404,
        Text("没有此事件", "No such event"),
        Text(
            "该数据方没有以此 id 报送过事件；未保留任何内容。",
            "This source has reported no event under this id. Nothing was kept.",
        ),
        Text(
            "检查 id；只能撤回或更正本数据方自己的事件。",
            "Check the id; a source retracts and corrects events of its own alone.",
        ),
    ),
    ProblemType(
        "already-corrected",
        409,
        Text("所更正的事件已撤回或更正", "What it corrects was taken back or corrected"),
        Text(
            "所更正的事件此前已撤回或更正；只能更正仍然有效的事件，每个事件只能更正一次。",
            "The event that this one replaces was taken back or corrected before; a correction corrects what stands, "
            "and an event has one.",
        ),
        Text(
            "此结论不再改变；需要再次更正时，replaces 填最近一次更正的 id，或以新事件报送。",
            "This answer is final; to correct a correction, name that one in `replaces`, or report a new event.",
        ),
        final=True,
        shown=("reversal", "correction"),
    ),
    ProblemType(
        "nothing-to-retract",
        409,
        Text("没有可撤回的入账", "Nothing to retract"),
        Text(
            "该事件报送时已被拒绝，没有入账可撤回。",
            "The event was refused when it came: nothing was credited for it.",
        ),
        Text("无需撤回。", "There is nothing to take back."),
    ),
)

_RECORDS = (
    ProblemType(
        "malformed-jws",
        400,
        Text("不是有效的 JWS", "Not a compact JWS"),
        Text("请求体不是紧凑格式的 JWS：{why}。", "The body is not a compact JWS: {why}."),
        Text(
            "按 RFC 7515 第 7.1 节签名后，不加空白与换行重发。",
            "Sign it as RFC 7515, 7.1 describes, and send it without white space.",
        ),
    ),
    ProblemType(
        "signature-refused",
        403,
        Text("签名未通过验证", "Signature was not accepted"),
        Text("该内容的签名未通过验证：{why}。", "The signature under the content was not accepted: {why}."),
        Text(
            "用本数据方已登记且在有效期内的密钥（Ed25519 用 EdDSA，P-256 用 ES256）重新签名。",
            "Sign it with a key registered for this source and valid now: EdDSA for Ed25519, ES256 for P-256.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "source-key-conflict",
        409,
        Text("此 kid 已用于另一密钥", "The kid stands for another key"),
        Text(
            "该数据方已用此 kid 登记了另一密钥，或登记了不同的生效时间，或更早的失效时间。",
            "The source has registered another key under this kid, or this one with another beginning or an earlier "
            "end.",
        ),
        Text(
            "新密钥使用新的 kid；已登记的密钥只能设定失效时间或将其提前。",
            "Give a new key a kid of its own; a registered one can only be ended, or end earlier.",
        ),
    ),
    ProblemType(
        "day-not-closable",
        422,
        Text("该日不能报送日清单", "The day cannot be closed"),
        Text("{day} 不能报送日清单：{why}。未保留任何内容。", "{day} cannot be closed: {why}. Nothing was kept."),
        Text("在该日结束后报送；日期按 Asia/Shanghai 计。", "Close a day once it is over in Asia/Shanghai."),
        shown=("day",),
    ),
    ProblemType(
        "manifest-conflict",
        409,
        Text("该序号已有另一日清单", "Another manifest has this number"),
        Text(
            "该日的这一序号已有另一内容的日清单，其摘要为 {digest}。",
            "Another manifest of this day has this sequence number; its digest is {digest}.",
        ),
        Text("更正使用下一个序号。", "A correction is the next sequence number."),
        shown=("digest",),
    ),
    ProblemType(
        "manifest-out-of-sequence",
        409,
        Text("日清单序号不连续", "Manifest is out of sequence"),
        Text("该日的下一个序号应为 {expected}。", "The next sequence number of this day is {expected}."),
        Text("以该序号重新签名后报送。", "Sign it again with that number."),
        shown=("expected",),
    ),
    ProblemType(
        "source-not-found",
        404,
        Text("没有此数据方", "No such source"),
        Text("没有登记此数据方。", "No source is registered under this URI."),
        Text("检查 uri；登记由平台运营方完成。", "Check the URI; the operator registers sources."),
    ),
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
        "rule-not-found",
        404,
        Text("没有此规则文档", "No such rule document"),
        Text(
            "没有名为 {name} 的规则文档或场景，或没有所要的版本 {version}。",
            "No rule document or scenario is named {name}, or it has no version {version}.",
        ),
        Text("对照 /v1/methodologies 与 /v1/points-rules。", "Look it up in /v1/methodologies and /v1/points-rules."),
        shown=("name",),
    ),
    ProblemType(
        "log-not-found",
        404,
        Text("日志中没有此文件", "No such file of the log"),
        Text("日志中没有 {name}。", "The log has no {name}."),
        Text(
            "先取 /log/checkpoint，按其大小推算分片路径；格式见 C2SP tlog-tiles。",
            "Fetch /log/checkpoint first: its size tells which tiles there are, by the paths of C2SP tlog-tiles.",
        ),
        shown=("name",),
    ),
    ProblemType(
        "receipt-not-ready",
        404,
        Text("回执尚未生成", "The receipt is not ready"),
        Text(
            "尚无检查点涵盖这笔划转；通常在入账后一两秒内生成。",
            "No checkpoint covers the transfer yet; one does a second or two after the posting.",
        ),
        Text(
            "稍后再取，或以 Prefer: wait=5 请求等待。",
            "Ask again in a moment, or let the answer wait with Prefer: wait=5.",
        ),
    ),
    ProblemType(
        "seal-not-found",
        404,
        Text("没有涵盖此余额的封存", "No seal covers the balance"),
        Text(
            "该日没有封存，或封存时该参与者尚无任何划转。",
            "That day is not sealed, or the participant had no transfer by then.",
        ),
        Text(
            "一日在结束一分钟后封存；不带 day 参数则取最近一次。",
            "A day is sealed a minute after it has ended; without `day` the latest seal is taken.",
        ),
    ),
    ProblemType(
        "act-not-covered",
        404,
        Text("没有关于此行为的文档", "No document about this act"),
        Text(
            "没有关于行为 {act} 的方法学；有文档的行为见 acts。",
            "No methodology is about the act {act}; `acts` lists those that there are some about.",
        ),
        Text("选用其中之一。", "Take one of these."),
        shown=("act", "acts"),
    ),
    ProblemType(
        "times-needed",
        422,
        Text("需要开始与结束时间", "Times are needed"),
        Text(
            "方法学 {methodology} 的结果取决于时间：{why}。",
            "What the methodology {methodology} gives depends on the times: {why}.",
        ),
        Text("同时给出 started_at 与 ended_at。", "Give both started_at and ended_at."),
        shown=("methodology",),
    ),
    ProblemType(
        "approval-refused",
        403,
        Text("签名不被接受", "Signature not accepted"),
        Text("该审批签名不被接受：{why}。", "The signature approves nothing: {why}."),
        Text(
            "用登记的密钥，以其登记的角色，为本计划、以当日日期对平台现有文档的摘要重新签名。",
            "Sign the document as it is here for this programme, with today's date and a registered key in its role.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "approval-conflict",
        409,
        Text("与已有审批冲突", "Conflicts with another approval"),
        Text("该签名与已有审批冲突：{why}。", "The signature cannot stand beside what is there: {why}."),
        Text(
            "主管部门与技术机构须由不同的人各签署一次。",
            "The competent authority and the technical body each sign once, by different people.",
        ),
        shown=("reason",),
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
        Text("JSON 与批次大小", "JSON and number of events"),
        ("malformed-jws", "malformed-json", "batch-empty", "batch-too-large"),
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
    CheckStep(Text("日清单的签名", "the signature of a manifest"), ("signature-refused",)),
    CheckStep(
        Text("先前的结论：同一事件得到同一结论", "an earlier answer: the same event is answered as before"),
        ("event-conflict", "manifest-conflict"),
    ),
    CheckStep(
        Text("日期、许可与时间", "calendar, licence and time"),
        (
            "outside-calendar",
            "scenario-not-licensed",
            "source-licence-not-valid",
            "activity-in-future",
            "day-not-closable",
        ),
    ),
    CheckStep(
        Text("规则已生效并可用于本部署", "rules are in force, and allowed here"),
        (
            "unknown-scenario",
            "no-methodology-in-force",
            "no-points-rule-in-force",
            "methodology-not-allowed",
            "claim-window-closed",
        ),
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
            "not-one-day",
            "not-whole-period",
            "period-too-long",
            "unknown-reading",
            "missing-reading",
            "missing-baseline",
            "readings-invalid",
            "readings-incomplete",
            "methodology-incomplete",
            "missing-factor",
            "condition-not-met",
            "not-computable",
            "no-reduction",
            "missing-reference",
            "activity-too-long",
        ),
    ),
    CheckStep(Text("用户已关联并同意", "the person is linked and has consented"), ("subject-not-linked",)),
    CheckStep(
        Text("所更正或撤回的事件存在且仍有效", "the event that is corrected or taken back is there, and still stands"),
        ("activity-not-found", "already-corrected", "nothing-to-retract"),
    ),
    CheckStep(
        Text("参与者的类别与各登记名录", "the participant's kind, and the registers"),
        ("participant-kind-not-eligible", "participant-covered", "site-covered", "claimed-elsewhere"),
    ),
    CheckStep(
        Text("只计入一次；再看上限", "nothing counts twice; then the caps"),
        ("already-claimed", "overlaps-claim", "overlaps-activity", "baseline-differs", "cap-reached"),
    ),
    CheckStep(
        Text("记录存在，且其状态允许", "the records exist, and their state allows it"),
        (
            "source-key-conflict",
            "manifest-out-of-sequence",
            "source-not-found",
            "participant-not-found",
            "participant-conflict",
            "programme-mismatch",
            "link-not-found",
            "transfer-not-found",
            "methodology-not-found",
            "rule-not-found",
            "act-not-covered",
            "log-not-found",
            "seal-not-found",
            "receipt-not-ready",
            "times-needed",
            "approval-refused",
            "approval-conflict",
            "not-reversible",
            "already-reversed",
        ),
    ),
    CheckStep(
        Text("入账", "posting"),
        ("posting-suspended", "overloaded", "temporarily-unavailable", "posting-failed", "internal-error"),
    ),
)
