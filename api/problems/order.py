"""The order of checks, with the problems of what existed first; a later room names the step of each of its own."""

from typing import NamedTuple

from api.problems.kinds import StepName, Text


class CheckStep(NamedTuple):
    """One step in the order of checks, and the problems it may end with."""

    name: StepName
    meaning: Text
    slugs: tuple[str, ...]


# Part of the interface: the first step that fails answers, so a client can rely on what was checked before it.
STEPS: tuple[CheckStep, ...] = (
    CheckStep("address", Text("地址与方法", "address and method"), ("not-found", "method-not-allowed")),
    CheckStep("token", Text("令牌", "token"), ("unauthenticated",)),
    CheckStep("scope", Text("权限", "scope and ownership"), ("forbidden",)),
    CheckStep("media", Text("内容类型与大小", "media type and size"), ("unsupported-media-type", "payload-too-large")),
    CheckStep(
        "json",
        Text("JSON 与批次大小", "JSON and number of events"),
        ("malformed-jws", "malformed-json", "batch-empty", "batch-too-large"),
    ),
    CheckStep("quota", Text("限额：请求数与条数", "quota of requests and items"), ("quota-exceeded",)),
    CheckStep(
        "form",
        Text("请求或事件的形式", "form of the request or event"),
        ("malformed-request", "malformed-event", "invalid-cursor"),
    ),
    CheckStep(
        "source",
        Text("数据方与令牌相符且已登记", "the source is the token's, and registered"),
        ("source-mismatch", "source-not-registered"),
    ),
    CheckStep(
        "signature",
        Text("日清单、银行调用或数据方报送的签名", "the signature of a manifest, a bank's call or a source's report"),
        ("signature-refused",),
    ),
    CheckStep(
        "earlier",
        Text("先前的结论：同一事件得到同一结论", "an earlier answer: the same event is answered as before"),
        ("event-conflict", "manifest-conflict"),
    ),
    CheckStep(
        "calendar",
        Text("日期、许可与时间", "calendar, licence and time"),
        (
            "outside-calendar",
            "scenario-not-licensed",
            "source-licence-not-valid",
            "activity-in-future",
            "day-not-closable",
        ),
    ),
    CheckStep(
        "rules",
        Text("规则已生效并可用于本部署", "rules are in force, and allowed here"),
        (
            "unknown-scenario",
            "no-methodology-in-force",
            "no-points-rule-in-force",
            "methodology-not-allowed",
            "claim-window-closed",
        ),
    ),
    CheckStep(
        "figures",
        Text(
            "行为的数值与方法学条件；对未授权的用户，最终结论让位于下一步",
            "the activity's figures and the methodology's conditions; of a person who is not linked no final answer is "
            "given, the next step answers",
        ),
        (
            "ends-before-start",
            "unknown-input",
            "missing-input",
            "improper-number",
            "input-out-of-range",
            "not-one-day",
            "not-whole-period",
            "period-too-long",
            "unknown-reading",
            "missing-reading",
            "missing-baseline",
            "readings-invalid",
            "readings-incomplete",
            "methodology-incomplete",
            "missing-factor",
            "condition-not-met",
            "not-computable",
            "no-reduction",
            "missing-reference",
            "activity-too-long",
        ),
    ),
    CheckStep("consent", Text("用户已关联并同意", "the person is linked and has consented"), ("subject-not-linked",)),
    CheckStep(
        "corrected",
        Text("所更正或撤回的事件存在且仍有效", "the event that is corrected or taken back is there, and still stands"),
        ("activity-not-found", "already-corrected", "nothing-to-retract"),
    ),
    CheckStep(
        "registers",
        Text("参与者的类别与各登记名录", "the participant's kind, and the registers"),
        ("participant-kind-not-eligible", "participant-covered", "site-covered", "claimed-elsewhere"),
    ),
    CheckStep(
        "once",
        Text("只计入一次；再看上限", "nothing counts twice; then the caps"),
        ("already-claimed", "overlaps-claim", "overlaps-activity", "baseline-differs", "cap-reached"),
    ),
    CheckStep(
        "records",
        Text("记录存在，且其状态允许", "the records exist, and their state allows it"),
        (
            "source-key-conflict",
            "manifest-out-of-sequence",
            "source-not-found",
            "participant-not-found",
            "participant-conflict",
            "programme-mismatch",
            "link-not-found",
            "transfer-not-found",
            "methodology-not-found",
            "rule-not-found",
            "act-not-covered",
            "log-not-found",
            "seal-not-found",
            "receipt-not-ready",
            "times-needed",
            "approval-refused",
            "approval-conflict",
            "not-reversible",
            "already-reversed",
        ),
    ),
    CheckStep(
        "posting",
        Text("入账", "posting"),
        ("posting-suspended", "overloaded", "temporarily-unavailable", "posting-failed", "internal-error"),
    ),
)
