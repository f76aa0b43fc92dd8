"""Problems of an activity: its rules, its times and its figures."""

from api.problems.kinds import CORRECT, FINAL, ProblemType, Text, by_slug

ENTRIES = by_slug(
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
        FINAL,
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
        CORRECT,
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
        CORRECT,
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
        CORRECT,
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
        FINAL,
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
        FINAL,
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
        FINAL,
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
        FINAL,
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
        FINAL,
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
        CORRECT,
        shown=("name",),
    ),
    ProblemType(
        "missing-reading",
        422,
        Text("缺少读数", "Missing readings"),
        Text("缺少方法学所需的读数 {name}。", "The methodology needs the readings {name}, which are missing."),
        CORRECT,
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
        CORRECT,
        shown=("name", "first", "last"),
    ),
    ProblemType(
        "readings-invalid",
        422,
        Text("读数无法采用", "Readings cannot be taken"),
        Text("读数 {name} 无法采用：{why}。", "The readings {name} cannot be taken: {why}."),
        CORRECT,
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
        FINAL,
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
        CORRECT,
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
        FINAL,
        final=True,
        shown=("hours",),
    ),
)
