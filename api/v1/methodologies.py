"""The rules, for anyone to read: methodologies and points rules with their approvals, as the bytes the log commits to;
and the approvals of those who sign them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import BODY_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.explaining import methodology_view
from api.problems import Language, Problem, Text, language_of, localized, openapi_problems, word
from api.v1.sources import Day
from service.activities.rules import RuleBook, name_of
from service.approvals import ApprovalConflict, ApprovalRefused, ApproverRole, approve
from service.quantification.expression import plain
from service.quantification.model import Methodology
from service.quantification.points import PointsRule

router = APIRouter(tags=["methodologies"])

RuleId = Annotated[str, Path(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Version = Annotated[int, Path(ge=1, le=10_000)]


class NewApproval(BaseModel):
    """An approver's signature: Ed25519 over the eight lines of docs/api.md, in hexadecimal; `key` is its kid,
    `signed_on` the day in the last line."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: ApproverRole
    key: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
    signed_on: Day


REFUSED: dict[str, Text] = {
    "unknown-key": Text("该密钥未登记为审批人密钥", "the key is not one of an approver"),
    "retired-key": Text("该密钥已停用", "the key is retired"),
    "wrong-role": Text("该密钥登记的是另一角色", "the key is registered for the other role"),
    "wrong-signature": Text(
        "签名与本计划、平台现有文档的摘要、角色或签署日不符",
        "the signature does not verify over this programme, the digest of the document as it is here, the role and the "
        "day of signing",
    ),
    "signed-ahead": Text("签署日尚未到来", "the day of signing has not come yet"),
    "signed-long-ago": Text("签署日早于 90 天前", "it was signed more than 90 days ago"),
    "one-person": Text("同一人已以另一角色签署", "the same person has signed in the other role"),
    "role-signed": Text("该角色已由他人签署", "somebody else has signed in this role"),
}


@router.get("/methodologies", summary="List methodologies 方法学列表")
async def list_methodologies(request: Request, response: Response) -> dict[str, Any]:
    """Every methodology with its version, status, days in force, digest and approvals; whether this deployment credits
    under it, and why not."""
    rules, language = platform_of(request).rules, language_of(request)
    response.headers.update(localized(language))
    return {"methodologies": [methodology_summary(rules, rule, language) for rule in rules.methodologies.all()]}


@router.get("/points-rules", summary="List points rules 积分规则列表")
async def list_points_rules(request: Request, response: Response) -> dict[str, Any]:
    """Every points rule, in the same way."""
    rules, language = platform_of(request).rules, language_of(request)
    response.headers.update(localized(language))
    return {"points_rules": [points_rule_summary(rules, rule, language) for rule in rules.points_rules.all()]}


@router.get(
    "/methodologies/{digest}",
    summary="Read a rule document 读取规则文档",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}, **openapi_problems("methodology-not-found")},
)
async def read_document(request: Request, digest: str = Path(pattern="^[0-9a-f]{64}$")) -> Response:
    """The canonical bytes of a methodology, points rule or factor set: their SHA-256 is the digest in the address, in
    the log and in what pins it."""
    rules = platform_of(request).rules
    rule = rules.posted_methodologies.get(digest) or rules.posted_points_rules.get(digest)
    factor_set = next((one for one in rules.factor_sets.values() if one.digest == digest), None)
    document = rule or factor_set
    if document is None:
        raise Problem("methodology-not-found")
    return Response(
        document.document, 200, {"Cache-Control": "public, max-age=31536000, immutable"}, "application/json"
    )


@router.get(
    "/methodologies/{rule_id}/versions/{version}",
    summary="Read about a methodology 方法学说明",
    responses=openapi_problems("malformed-request", "rule-not-found"),
)
async def read_methodology(request: Request, response: Response, rule_id: RuleId, version: Version) -> dict[str, Any]:
    """One version with its approvals. Its document is at the address of its digest."""
    rules, language = platform_of(request).rules, language_of(request)
    response.headers.update(localized(language))
    return methodology_summary(rules, find_methodology(rules, rule_id, version), language)


@router.get(
    "/points-rules/{rule_id}/versions/{version}",
    summary="Read about a points rule 积分规则说明",
    responses=openapi_problems("malformed-request", "rule-not-found"),
)
async def read_points_rule(request: Request, response: Response, rule_id: RuleId, version: Version) -> dict[str, Any]:
    """One version with its approvals. Its document is at /v1/methodologies/ and its digest."""
    rules, language = platform_of(request).rules, language_of(request)
    response.headers.update(localized(language))
    return points_rule_summary(rules, find_points_rule(rules, rule_id, version), language)


_APPROVING = openapi_problems(
    *BODY_PROBLEMS, "rule-not-found", "approval-refused", "approval-conflict", "posting-suspended"
)


@router.post(
    "/methodologies/{rule_id}/versions/{version}/approvals",
    summary="Approve a methodology 审批方法学",
    status_code=201,
    responses={200: {"description": "It was there before", "model": dict[str, Any]}, **_APPROVING},
    openapi_extra=openapi_body(model=NewApproval),
)
async def approve_methodology(
    request: Request, response: Response, rule_id: RuleId, version: Version
) -> dict[str, Any]:
    """Record one role's signature of one version. The second role's brings it into force and queues its rule leaf.

    The token only lets the call in; the signature is the authority. The same signature again changes nothing.
    """
    body = await _wanted(request, response)
    rules, language = platform_of(request).rules, language_of(request)
    rule = find_methodology(rules, rule_id, version)
    await _approve(request, response, rule, body)
    return methodology_summary(rules, rule, language)


@router.post(
    "/points-rules/{rule_id}/versions/{version}/approvals",
    summary="Approve a points rule 审批积分规则",
    status_code=201,
    responses={200: {"description": "It was there before", "model": dict[str, Any]}, **_APPROVING},
    openapi_extra=openapi_body(model=NewApproval),
)
async def approve_points_rule(
    request: Request, response: Response, rule_id: RuleId, version: Version
) -> dict[str, Any]:
    """The same for a points rule."""
    body = await _wanted(request, response)
    rules, language = platform_of(request).rules, language_of(request)
    rule = find_points_rule(rules, rule_id, version)
    await _approve(request, response, rule, body)
    return points_rule_summary(rules, rule, language)


async def _wanted(request: Request, response: Response) -> NewApproval:
    caller = await admit(request, "rules:approve")
    content = await read_json(request)
    response.headers.update(await charge(request, caller) | localized(language_of(request)))
    return parsed(NewApproval, content)


async def _approve(request: Request, response: Response, rule: Methodology | PointsRule, body: NewApproval) -> None:
    platform = platform_of(request)
    approvals = platform.rules.approvals
    platform.watch.require()
    try:
        async with platform.pool.acquire() as connection:
            async with connection.transaction(isolation="read_committed"):
                new = await approve(
                    connection,
                    name_of(rule),
                    body.role,
                    body.key,
                    bytes.fromhex(body.signature),
                    body.signed_on,
                    status=rule.status,
                    approvers=approvals.approvers,
                    programme=platform.settings.programme,
                    fresh=platform.fresh,
                    clock_offset=platform.settings.clock_offset,
                )
            await approvals.refresh(connection)  # other processes follow within two seconds
    except (ApprovalRefused, ApprovalConflict) as error:
        why = REFUSED[error.reason]
        slug = "approval-refused" if isinstance(error, ApprovalRefused) else "approval-conflict"
        raise Problem(slug, reason=error.reason, why_zh=why.zh, why_en=why.en) from None
    if not new:
        response.status_code = 200


def find_methodology(rules: RuleBook, rule_id: str, version: int) -> Methodology:
    """Raises Problem rule-not-found."""
    for rule in rules.methodologies.all():
        if (rule.id, rule.version) == (rule_id, version):
            return rule
    raise Problem("rule-not-found", name=rule_id, version=version)


def find_points_rule(rules: RuleBook, rule_id: str, version: int) -> PointsRule:
    """Raises Problem rule-not-found."""
    for rule in rules.points_rules.all():
        if (rule.id, rule.version) == (rule_id, version):
            return rule
    raise Problem("rule-not-found", name=rule_id, version=version)


def methodology_summary(rules: RuleBook, methodology: Methodology, language: Language) -> dict[str, Any]:
    """A methodology as it is listed."""
    return (
        methodology_view(methodology, language)
        | {
            "scenario": methodology.scenario.id,
            "trigger": methodology.trigger,
            "credit_class": methodology.credit_class,
            "in_force": methodology.in_force_shown,
            "act": methodology.act,
            "part_of": methodology.part_of
            and {"id": methodology.part_of.id, "title": getattr(methodology.part_of.title, language)},
            "baseline_scenario": methodology.baseline_scenario and getattr(methodology.baseline_scenario, language),
            "unknown": sorted(methodology.unknown),
            "missing": [getattr(one, language) for one in methodology.missing],
        }
        | _standing(rules, methodology, language)
    )


def points_rule_summary(rules: RuleBook, rule: PointsRule, language: Language) -> dict[str, Any]:
    """A points rule as it is listed."""
    return {
        "id": rule.id,
        "version": rule.version,
        "digest": rule.digest,
        "title": getattr(rule.title, language),
        "status": rule.status,
        "status_title": word(rule.status, language),
        "jurisdiction": rule.jurisdiction,
        "points_per_gram": plain(rule.points_per_gram),
        "in_force": str(rule.in_force),
    } | _standing(rules, rule, language)


def _standing(rules: RuleBook, rule: Methodology | PointsRule, language: Language) -> dict[str, Any]:
    why_not = rules.cannot_credit(rule)
    return {
        "can_credit": not why_not,
        "why_not": list(why_not),
        "why_not_titles": [word(code, language) for code in why_not],
        "approvals": [
            {
                "role": one.role,
                "role_title": word(one.role, language),
                "approver": one.approver,
                "key": one.key_id,
                "signature": one.signature.hex(),
                "signed_on": one.signed_on.isoformat(),
                "approved_at": one.approved_at.isoformat().replace("+00:00", "Z"),
            }
            for one in rules.approvals.signed.get(rule.digest, ())
        ],
    }
