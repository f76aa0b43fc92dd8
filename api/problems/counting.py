"""Problems of what may count: whom it is for, what was counted before, what was corrected."""

from api.problems.kinds import FINAL, ProblemType, Text, by_slug

ENTRIES = by_slug(
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
        FINAL,
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
        FINAL,
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
