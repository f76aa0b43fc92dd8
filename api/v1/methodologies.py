"""The rules in force, for anyone to read: methodologies and points rules by their digest, as the bytes the log commits
to."""

from typing import Any

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import platform_of
from api.explaining import methodology_view
from api.problems import Language, Problem, language_of, localized, openapi_problems
from service.quantification.model import Methodology

router = APIRouter(tags=["methodologies"])


@router.get("/methodologies", summary="List methodologies 方法学列表")
async def list_methodologies(request: Request, response: Response) -> dict[str, Any]:
    """Every methodology with its version, status, days in force and digest, and whether this deployment credits under
    it."""
    rules, language = platform_of(request).rules, language_of(request)
    response.headers.update(localized(language))
    return {"methodologies": [_summary(rule, rules.allowed_statuses, language) for rule in rules.methodologies.all()]}


def _summary(methodology: Methodology, allowed: frozenset[str], language: Language) -> dict[str, Any]:
    return methodology_view(methodology, language) | {
        "scenario": methodology.scenario.id,
        "trigger": methodology.trigger,
        "in_force": str(methodology.in_force),
        "can_credit": methodology.status in allowed,
    }


@router.get(
    "/methodologies/{digest}",
    summary="Read a rule document 读取规则文档",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}, **openapi_problems("methodology-not-found")},
)
async def read_document(request: Request, digest: str = Path(pattern="^[0-9a-f]{64}$")) -> Response:
    """The canonical bytes of a methodology or points rule: their SHA-256 is the digest in the address and in the
    log."""
    rules = platform_of(request).rules
    rule = rules.posted_methodologies.get(digest) or rules.posted_points_rules.get(digest)
    if rule is None:
        raise Problem("methodology-not-found")
    return Response(rule.document, 200, {"Cache-Control": "public, max-age=31536000, immutable"}, "application/json")
