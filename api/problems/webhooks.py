"""Problems of webhook endpoints and their deliveries."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "webhook-address-refused",
        422,
        Text("该地址不能接收事件", "No events are sent to this address"),
        Text("url 不能作为事件推送地址：{why}。", "Events cannot be sent to this url: {why}."),
        Text(
            "给出公网可达、以 https:// 开头的地址，例如 https://bank.example/hooks。",
            "Give an https:// address that the public internet reaches, such as https://bank.example/hooks.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "webhook-not-found",
        404,
        Text("没有此推送端点", "No such webhook"),
        Text("本银行没有此推送端点。", "The bank has no webhook of this id."),
        Text("检查 webhook_id；GET /v1/webhooks 列出全部端点。", "Check the webhook_id; GET /v1/webhooks lists them."),
    ),
    ProblemType(
        "webhook-message-not-found",
        404,
        Text("没有此消息", "No such message"),
        Text(
            "此端点没有该消息，或其保存期已过。",
            "The webhook has no message of this id, or it was let go after its time.",
        ),
        Text(
            "端点的消息列表列出保存期内的消息；更早的事件可由日志序号重放。",
            "The list of its messages shows those that are kept; older events come back by a replay from their index.",
        ),
    ),
    ProblemType(
        "webhook-limit",
        409,
        Text("推送端点过多", "Too many webhooks"),
        Text("一家银行至多 {limit} 个推送端点。", "A bank has {limit} webhooks at most."),
        Text("删除不再使用的端点，再添加。", "Delete one that is no longer used, then add this one."),
        shown=("limit",),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {
    "form": ("webhook-address-refused",),
    "records": ("webhook-not-found", "webhook-message-not-found", "webhook-limit"),
}
