"""Problems of banks, their keys, their signed calls and the approvals they ask for."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "idempotency-key-missing",
        400,
        Text("缺少 Idempotency-Key", "Idempotency-Key is missing"),
        Text(
            "涉及积分的调用须携带一个 Idempotency-Key 请求头：{why}。",
            "A call that moves points carries one Idempotency-Key: {why}.",
        ),
        Text(
            '每笔操作使用一个新值，形如 Idempotency-Key: "8e03978e-40d5-43dd-bc93-6894a57f9324"；重发时沿用该值。',
            "Give each operation a value of its own, such as Idempotency-Key: "
            '"8e03978e-40d5-43dd-bc93-6894a57f9324", and repeat it with the same one.',
        ),
        shown=("reason",),
    ),
    ProblemType(
        "call-signature-refused",
        403,
        Text("调用签名未通过验证", "The call's signature was not accepted"),
        Text("该调用的签名 (RFC 9421) 未被接受：{why}。", "The signature (RFC 9421) of the call was not taken: {why}."),
        Text(
            "改正后以新的 nonce 重新签名；测试环境可用 POST /v1/bank/sandbox/signature 对照签名原文。",
            "Correct it and sign anew, with another nonce; outside production POST /v1/bank/sandbox/signature shows "
            "what was to be signed.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "entitlement-refused",
        403,
        Text("凭证未被接受", "The entitlement was not accepted"),
        Text("该兑换凭证未被接受：{why}。", "The entitlement was not taken: {why}."),
        Text(
            "原样提交持有人出示给本银行、尚在有效期内的凭证。",
            "Present the entitlement that was issued to this bank for this redemption, unchanged and in time.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "bank-not-registered",
        403,
        Text("银行未登记", "Bank is not registered"),
        Text("本平台没有登记该令牌所属的银行。", "This platform has not registered the bank that the token names."),
        Text("请平台运营方先登记该银行，再重发。", "Ask the operator to register it, then send again."),
    ),
    ProblemType(
        "bank-not-found",
        404,
        Text("没有此银行", "No such bank"),
        Text("没有登记此银行。", "No bank is registered under this URI."),
        Text("检查 uri；登记由平台运营方完成。", "Check the URI; the operator registers banks."),
    ),
    ProblemType(
        "bank-key-conflict",
        409,
        Text("此密钥或 kid 已有他用", "The key or its kid is taken"),
        Text(
            "该银行已用此 kid 登记了另一密钥，或登记了不同的生效时间，或更早的失效时间；或此密钥已属于另一登记。",
            "The bank has registered another key under this kid, or this one with another beginning or an earlier end; "
            "or the key itself is registered elsewhere.",
        ),
        Text(
            "新密钥使用新的 kid；已登记的密钥只能设定失效时间或将其提前。",
            "Give a new key a kid of its own; a registered one can only be ended, or end earlier.",
        ),
    ),
    ProblemType(
        "bank-suspended",
        409,
        Text("银行已暂停", "Bank is suspended"),
        Text(
            "该银行目前不能发起新的兑换；已冻结的积分仍可扣减或解冻。",
            "No points can be held for this bank at present; what is held can still be captured or voided.",
        ),
        Text("待平台运营方恢复后重发。", "Send again once the operator has resumed it."),
    ),
    ProblemType(
        "bank-request-not-found",
        404,
        Text("没有此请求", "No such request"),
        Text("本银行没有此请求。", "This bank has no such request."),
        Text("检查 request_id。", "Check the request_id."),
    ),
    ProblemType(
        "approval-not-found",
        404,
        Text("没有此待批请求", "Nothing to approve"),
        Text("此授权码没有对应的请求。", "There is no request of this approval code."),
        Text("请向银行取得新的授权码。", "Ask the bank for a new code."),
    ),
    ProblemType(
        "approval-ended",
        409,
        Text("请求已结束", "The request has ended"),
        Text(
            "该请求已由他人处理、已批准、已拒绝或已过期：{state}。",
            "The request was decided or taken up by somebody else, or its time is over: {state}.",
        ),
        Text("请向银行重新发起。", "Let the bank start it again."),
        shown=("state",),
    ),
    ProblemType(
        "sandbox-only",
        403,
        Text("仅供测试环境", "For the sandbox alone"),
        Text("生产环境不提供此功能。", "A platform in production does not offer this."),
        Text("请在测试环境使用。", "Use it where the platform runs for development."),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {
    "scope": ("sandbox-only",),
    "form": ("idempotency-key-missing",),
    "source": ("bank-not-registered",),
    "signature": ("call-signature-refused", "entitlement-refused"),
    "records": (
        "bank-not-found",
        "bank-key-conflict",
        "bank-suspended",
        "bank-request-not-found",
        "approval-not-found",
        "approval-ended",
    ),
}
