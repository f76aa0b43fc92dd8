"""Problems of the person's rights: closed accounts, erasures, corrections, guardians."""

from collections.abc import Mapping

from api.problems.kinds import ProblemType, StepName, Text, by_slug

ENTRIES: dict[str, ProblemType] = by_slug(
    ProblemType(
        "account-closed",
        409,
        Text("账户已申请删除", "The account is being erased, or was"),
        Text(
            "该参与者已申请删除账户，不再为其办理新的事项。",
            "The participant asked to be forgotten: nothing new is taken.",
        ),
        Text(
            "若要继续参与，请重新登录并同意条款，即开立新账户。",
            "To take part again, sign in anew and agree to the terms.",
        ),
    ),
    ProblemType(
        "guardian-consent-needed",
        409,
        Text("需要监护人同意", "A guardian's consent is needed"),
        Text(
            "该参与者未满 14 周岁，没有有效的监护人同意。",
            "The participant is under 14, and no guardian's consent stands.",
        ),
        Text(
            "在应用中取得监护码 (POST /v1/me/guardian-codes)，交监护人登录后确认。",
            "Get a code with POST /v1/me/guardian-codes and let the guardian give it with their consent.",
        ),
    ),
    ProblemType(
        "erasure-not-asked",
        404,
        Text("没有删除请求", "No erasure was asked for"),
        Text("该账户没有删除请求。", "This account has no request to be erased."),
        Text("以 POST /v1/me/erasure 提出。", "Ask with POST /v1/me/erasure."),
    ),
    ProblemType(
        "erasure-not-for-organisations",
        409,
        Text("单位账户不适用", "Organisations are not erased"),
        Text(
            "删除个人信息的权利属于自然人；单位账户不含个人信息。",
            "The right to be forgotten is a person's; an organisation's account holds nothing of one.",
        ),
        Text("如需停用，请联系平台运营方。", "Ask the operator to end the account."),
    ),
    ProblemType(
        "correction-refused",
        409,
        Text("此项不能这样更正", "This cannot be corrected so"),
        Text("该更正未被接受：{why}。", "The correction was not taken: {why}."),
        Text(
            "按原因办理；账本中的记录只能由新的划转更正。",
            "Do as the reason says; the ledger is corrected by new transfers.",
        ),
        shown=("reason",),
    ),
    ProblemType(
        "not-a-minor",
        409,
        Text("不需要监护人", "No guardian is needed"),
        Text("该参与者已满 14 周岁或未告知出生年月。", "The participant is 14, or no month of birth is known."),
        Text("无须办理。", "There is nothing to do."),
    ),
    ProblemType(
        "guardian-code-refused",
        404,
        Text("监护码无效", "The guardian's code is not good"),
        Text("没有此监护码，或已使用、已过期。", "There is no such code, or it was used, or it is too old."),
        Text("请在孩子的应用中重新取得，24 小时内有效。", "Get a new one in the child's app; it is good for 24 hours."),
    ),
    ProblemType(
        "guardian-not-fit",
        409,
        Text("不能作为监护人", "This cannot be the guardian"),
        Text("不能作为该参与者的监护人：{why}。", "The caller cannot be this participant's guardian: {why}."),
        Text("由经城市身份登录的成年监护人本人办理。", "Let a guardian of age do it, signed in as themselves."),
        shown=("reason",),
    ),
    ProblemType(
        "guardian-known",
        409,
        Text("已有监护人同意", "A guardian's consent stands already"),
        Text("该参与者已有有效的监护人同意。", "There is a guardian's consent for this participant, and it stands."),
        Text("更换监护人时，先由原监护人撤回。", "To change, let the present guardian withdraw it first."),
    ),
    ProblemType(
        "ward-not-found",
        404,
        Text("没有此监护关系", "No such ward"),
        Text("您没有此项有效的监护关系。", "The caller has no guardianship of this id that stands."),
        Text("检查 guardianship_id。", "Check the guardianship_id."),
    ),
)

# The step in the order of checks at which each of them answers.
STEPS: Mapping[StepName, tuple[str, ...]] = {"records": tuple(ENTRIES)}
