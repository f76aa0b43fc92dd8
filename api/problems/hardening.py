"""Problems of a request's head, before anything else is looked at."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES = by_slug(
    ProblemType(
        "address-too-long",
        414,
        Text("地址过长", "Address is too long"),
        Text("路径与查询参数共超过 {limit} 字节。", "Path and query together are longer than {limit} bytes."),
        Text("去掉不需要的查询参数后重发。", "Leave out the parameters that are not needed, then send again."),
        shown=("limit",),
    ),
    ProblemType(
        "headers-too-large",
        431,
        Text("请求头过大", "Headers are too large"),
        Text(
            "请求头超过 {count} 项，或共超过 {limit} 字节。",
            "There are more than {count} headers, or they are longer than {limit} bytes together.",
        ),
        Text("去掉不需要的请求头后重发。", "Leave out the headers that are not needed, then send again."),
        shown=("count", "limit"),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {"address": ("address-too-long", "headers-too-large")}
