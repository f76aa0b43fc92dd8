"""Problems of who calls and what they may report."""

from api.problems.kinds import QUOTA_EXCEEDED_TYPE, ProblemType, Text, by_slug

ENTRIES = by_slug(
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
