"""Problems of a request's form, before anything in it is looked at."""

from api.problems.kinds import ProblemType, Text, by_slug

ENTRIES = by_slug(
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
