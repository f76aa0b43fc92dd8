"""Problems of reviews: what waits to be looked at, and what was decided."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "under-review",
        409,
        Text("部分积分正在复核", "Some points are under review"),
        Text(
            "需要 {points} 分；可用 {available} 分中有 {withheld} 分正在复核，暂不能使用。",
            "It takes {points} points; of {available} available {withheld} are under review and cannot be spent yet.",
        ),
        Text(
            "GET /v1/me/reviews 说明缘由与期限，并可申辩；其余积分可照常使用，复核结束后请用新的键重试。",
            "GET /v1/me/reviews says why and until when, and takes your answer. Use fewer points, or try again under a "
            "new key once the review has ended.",
        ),
        shown=("points", "available", "withheld"),
    ),
    ProblemType(
        "review-not-found",
        404,
        Text("没有此复核", "No such review"),
        Text("没有此编号的复核，或不属于该令牌。", "There is no review of this id, or it is not this token's."),
        Text("检查复核编号。", "Check the id of the review."),
    ),
    ProblemType(
        "review-ended",
        409,
        Text("复核已结束", "The review has ended"),
        Text("复核已结束：{state}。", "The review is over: {state}."),
        Text("已结束的复核不再更改。", "What has ended stays ended."),
        shown=("state",),
    ),
    ProblemType(
        "review-reason",
        422,
        Text("理由与结论不符", "The reason does not fit the outcome"),
        Text("理由 {reason} 不能用于 {outcome}。", "{reason} is no reason to {outcome}."),
        Text(
            "放行：explained、rule_too_strict、not_proven；确认：automated、shared_account、invented、copied。",
            "To release: explained, rule_too_strict, not_proven; to confirm: automated, shared_account, invented, "
            "copied.",
        ),
        shown=("outcome", "reason"),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {
    "form": ("review-reason",),
    "records": ("under-review", "review-not-found", "review-ended"),
}
