"""Problems of what sources sign, and of their keys."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "report-signature-refused",
        403,
        Text("报送签名未通过验证", "The report's signature was not accepted"),
        Text(
            "该请求的签名 (RFC 9421) 未被接受：{why}。没有记入任何内容。",
            "The signature (RFC 9421) of the call was not taken: {why}. Nothing of it was stored.",
        ),
        Text(
            "以数据方登记的密钥、新的 nonce 重新签名后重发，事件 id 不变。",
            "Sign anew with a registered key of the source, with another nonce, and send the same events again.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "source-key-not-found",
        404,
        Text("数据方没有此密钥", "No such key of the source"),
        Text("该数据方没有登记此 kid 的密钥。", "The source has no key of this kid registered."),
        Text("检查 kid；GET /v1/sources/keys 列出全部密钥。", "Check the kid; GET /v1/sources/keys lists every key."),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {
    "signature": ("report-signature-refused",),
    "records": ("source-key-not-found",),
}
