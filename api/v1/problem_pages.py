"""A page for every problem type: what it means, whether it is final, and what to do."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import platform_of
from api.problems import (
    Problem,
    describe_checks,
    describe_problem,
    describe_problems,
    language_of,
    localized,
    openapi_problems,
)

router = APIRouter(prefix="/problems", tags=["problems"])


@router.get("", summary="List problem types 错误类型列表")
async def list_problems(request: Request, response: Response) -> dict[str, Any]:
    """Every problem type, and the fixed order of checks that decides which one an answer names."""
    language, base = language_of(request), platform_of(request).settings.problem_base
    response.headers.update(localized(language))
    checks = [{"check": text, "problems": slugs} for text, slugs in describe_checks(language)]
    return {"problems": [asdict(page) for page in describe_problems(language, base)], "order_of_checks": checks}


@router.get("/{slug}", summary="Read about a problem type 错误类型说明", responses=openapi_problems("not-found"))
async def read_problem(request: Request, response: Response, slug: str) -> dict[str, Any]:
    """What this problem means and what to do about it."""
    language = language_of(request)
    page = describe_problem(slug, language, platform_of(request).settings.problem_base)
    if page is None:
        raise Problem("not-found")
    response.headers.update(localized(language))
    return asdict(page)
