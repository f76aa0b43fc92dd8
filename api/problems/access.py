"""Problems of clients, their keys, and what needs two people."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "client-not-found",
        404,
        Text("没有此客户端", "No such client"),
        Text("没有登记此客户端。", "No client is registered under this id."),
        Text("检查 client_id；登记由平台运营方完成。", "Check the client_id; the operator registers clients."),
    ),
    ProblemType(
        "client-conflict",
        409,
        Text("客户端已另行登记", "The client is registered otherwise"),
        Text(
            "此 client_id 已登记为其他角色，或代表其他主体。",
            "This client_id is registered with another role, or speaks for somebody else.",
        ),
        Text("角色与主体不可更改：请使用新的 client_id。", "Neither can change: use another client_id."),
    ),
    ProblemType(
        "client-key-conflict",
        409,
        Text("此密钥或 kid 已有他用", "The key or its kid is taken"),
        Text(
            "该客户端已用此 kid 登记了另一密钥，或不同的生效时间，或更早的失效时间；或此密钥属于另一客户端；"
            "或该客户端为面向个人的应用，不持有密钥。",
            "The client has registered another key under this kid, or this one with another beginning or an earlier "
            "end; or the key is another client's; or the client is an app of people, which has no key.",
        ),
        Text(
            "新密钥使用新的 kid；已登记的密钥只能设定失效时间或将其提前。",
            "Give a new key a kid of its own; a registered one can only be ended, or end earlier.",
        ),
    ),
    ProblemType(
        "proposal-refused",
        403,
        Text("批准未被接受", "The approval was not taken"),
        Text("所批准的提议不适用于此请求：{why}。", "The proposal does not stand for this request: {why}."),
        Text(
            "由另一名运营人员在 24 小时内，以完全相同的请求并携带 Approves: <proposal_id> 批准；必要时重新提出。",
            "Another operator sends the very same request within 24 hours, with Approves: <proposal_id>; where that is "
            "too late, propose it again.",
        ),
        shown=("reason",),
    ),
)

REASONS: Mapping[str, Text] = {
    "malformed": Text("Approves 不是提议编号", "Approves holds no id of a proposal"),
    "unknown": Text("没有此提议", "there is no such proposal"),
    "other": Text("请求与提议不同", "the request is another than the proposed one"),
    "own": Text("提议由本人提出", "it was proposed by the same operator"),
    "used": Text("提议已被批准过", "it was approved before"),
    "expired": Text("提议已过期", "it has expired"),
}
"""Why an approval was not taken."""

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {
    "source": ("proposal-refused",),
    "records": ("client-not-found", "client-conflict", "client-key-conflict"),
}
