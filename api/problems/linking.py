"""Problems of linking: requests for a link, consents, and a bank's requests by its own id for a person."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "link-request-not-found",
        404,
        Text("没有此关联请求", "No such request for a link"),
        Text("此编号没有对应的关联请求。", "There is no request for a link of this handle."),
        Text("请从申请方重新发起。", "Start again where the link is asked for."),
    ),
    ProblemType(
        "link-request-ended",
        409,
        Text("关联请求已结束", "The request for a link has ended"),
        Text(
            "该关联请求已处理或已过期：{state}。",
            "The request was decided already, or its time is over: {state}.",
        ),
        Text("请从申请方重新发起。", "Start again where the link is asked for."),
        shown=("state",),
    ),
    ProblemType(
        "consent-text-differs",
        422,
        Text("同意的文本版本不符", "The consent is to another text"),
        Text(
            "现行文本的版本为 {text_version}。",
            "The text that is agreed to now is of version {text_version}.",
        ),
        Text("出示现行文本，并提交其 text_version。", "Show the present text, and send its text_version."),
        shown=("text_version",),
    ),
    ProblemType(
        "terms-withdrawn",
        409,
        Text("使用条款的同意已撤回", "The consent to the terms is withdrawn"),
        Text(
            "您已撤回对使用条款的同意，平台不再处理您的信息。",
            "You have withdrawn your consent to the terms, and nothing of yours is processed.",
        ),
        Text("重新登录并同意现行条款后再试。", "Sign in anew, agree to the present terms, and try again."),
    ),
    ProblemType(
        "consent-not-found",
        404,
        Text("没有此项有效同意", "No such consent in force"),
        Text("您没有此编号的有效同意。", "You have no consent of this id that is in force."),
        Text("查询 GET /v1/me/consents。", "Look at GET /v1/me/consents."),
    ),
    ProblemType(
        "bank-link-not-live",
        409,
        Text("该用户未关联本银行", "The person is not linked to the bank"),
        Text(
            "此编号没有本银行的有效关联；未向任何人发出请求。",
            "This bank has no link in force for this id; nobody was asked.",
        ),
        Text(
            "请用户重新关联，或不提交 subject，改用授权码。",
            "Let the person link the bank again, or leave subject out and hand over the approval code.",
        ),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {
    "form": ("consent-text-differs",),
    "consent": ("bank-link-not-live", "terms-withdrawn"),
    "records": ("link-request-not-found", "link-request-ended", "consent-not-found"),
}
