"""Factor sets, for anyone to read: the figures of an announcement that methodologies pin, and which of them do."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import platform_of
from api.explaining import source_view
from api.problems import Language, Problem, language_of, localized, openapi_problems, word
from service.activities.rules import RuleBook
from service.quantification.expression import plain
from service.quantification.factor_sets import FactorSet, SetFigure

router = APIRouter(tags=["methodologies"])

SetId = Annotated[str, Path(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]


@router.get("/factor-sets", summary="List factor sets 因子集列表")
async def list_factor_sets(request: Request, response: Response) -> dict[str, Any]:
    """Every factor set with its figures, digest, and the methodologies that pin it."""
    rules, language = platform_of(request).rules, language_of(request)
    response.headers.update(localized(language))
    return {"factor_sets": [factor_set_view(rules, one, language) for one in rules.factor_sets.values()]}


@router.get(
    "/factor-sets/{set_id}",
    summary="Read a factor set 读取因子集",
    responses=openapi_problems("malformed-request", "rule-not-found"),
)
async def read_factor_set(request: Request, response: Response, set_id: SetId) -> dict[str, Any]:
    """One factor set. Its document is at /v1/methodologies/ and its digest."""
    rules, language = platform_of(request).rules, language_of(request)
    response.headers.update(localized(language))
    if set_id not in rules.factor_sets:
        raise Problem("rule-not-found", name=set_id, version="—")
    return factor_set_view(rules, rules.factor_sets[set_id], language)


def factor_set_view(rules: RuleBook, factor_set: FactorSet, language: Language) -> dict[str, Any]:
    """A factor set as it is listed."""
    return {
        "id": factor_set.id,
        "digest": factor_set.digest,
        "title": getattr(factor_set.title, language),
        "issuer": getattr(factor_set.issuer, language),
        "document": getattr(factor_set.announcement, language),
        "published": factor_set.published,
        "quantity": getattr(factor_set.quantity, language),
        "unit": factor_set.unit,
        "figures": [_figure_view(one, language) for one in factor_set.figures.values()],
        "notes": [getattr(one, language) for one in factor_set.notes],
        "pinned_by": pinned_by(rules, factor_set),
    }


def _figure_view(figure: SetFigure, language: Language) -> dict[str, Any]:
    return {
        "name": figure.name,
        "meaning": getattr(figure.meaning, language),
        "value": None if figure.value is None else plain(figure.value),
        "confidence": figure.confidence,
        "confidence_title": figure.confidence and word(figure.confidence, language),
        "quality": figure.quality,
        "note": figure.note and getattr(figure.note, language),
        "source": figure.source and source_view(figure.source, language),
    }


def pinned_by(rules: RuleBook, factor_set: FactorSet) -> list[dict[str, Any]]:
    """The methodologies with a value that was taken from the set: id, version, factor and figure."""
    return [
        {"methodology": one.id, "version": one.version, "factor": factor.name, "figure": value.pinned.figure}
        for one in rules.methodologies.all()
        for factor in one.factors.values()
        for value in factor.values
        if value.pinned is not None and value.pinned.digest == factor_set.digest
    ]
