"""Register data providers 数据方: what each may report, from when to when, and how far its evidence is trusted."""

import re
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import (
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    admit,
    charge,
    openapi_body,
    parsed,
    platform_of,
    raw_body,
    read_json,
)
from api.platform import Platform
from api.problems import Fault, Language, Problem, language_of, localized, openapi_problems
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from api.v1.activities import Name, Word
from service.activities.licences import Days, Licence, current_run, days_left, runs
from service.activities.store import Registration, read_registration, register_source

router = APIRouter(tags=["sources"])


_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)  # of the forms of ISO 8601 the one that people read


def _day(value: object) -> date:
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:  # the 30th of February
        pass
    raise PydanticCustomError("bad-format", "no day", {"expected": "YYYY-MM-DD"})


def _in_order(valid_to: date | None, fields: ValidationInfo) -> date | None:
    first = fields.data.get("valid_from")
    if valid_to is not None and first is not None and valid_to < first:
        raise PydanticCustomError("too-small", "before valid_from", {"limit": first.isoformat()})
    return valid_to


Day = Annotated[date, BeforeValidator(_day, json_schema_input_type=str)]
LastDay = Annotated[Day | None, AfterValidator(_in_order)]  # not before the model's `valid_from`
# What leaves the log's leaves may carry: an absolute URI in printable ASCII.
SourceUri = Annotated[str, StringConstraints(max_length=500, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]+$")]

MOST_LICENCES = 200


class LicenceWanted(BaseModel):
    """One scenario the source may report, on the days from `valid_from` to `valid_to`, both included."""

    model_config = ConfigDict(strict=True, extra="forbid")

    scenario: Name
    valid_from: Day
    valid_to: LastDay = None


class SourceRegistration(BaseModel):
    """A data provider's registration. Grade A is an operator's own record, B a device's, C self-declared.

    Its licences are given either by `licences`, each scenario with its days, or, where all have the same days, by
    `scenarios` with `valid_from` and `valid_to`.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    uri: SourceUri
    title_zh: Word
    title_en: Word
    grade: Literal["A", "B", "C"]
    licences: Annotated[list[LicenceWanted], Field(min_length=1, max_length=MOST_LICENCES)] | None = None
    scenarios: Annotated[list[Name], Field(min_length=1, max_length=50)] | None = None
    valid_from: Day | None = None
    valid_to: LastDay = None


class LicenceView(BaseModel):
    """A licence in force or to come, or one that has ended and was not replaced.

    days_left   how many of its days are still to come, today included and a renewal that follows it too; null when no
                end is set
    warning     from three calendar months before the end on
    """

    scenario: str
    valid_from: date
    valid_to: date | None
    days_left: int | None
    warning: str | None


class SourceView(BaseModel):
    """A source as it is registered now; `signing` says whether its calls must be signed."""

    uri: str
    title_zh: str
    title_en: str
    grade: str
    programme: str
    region: str
    signing: Literal["required", "optional"]
    licences: list[LicenceView]


@router.put(
    "/sources",
    summary="Register a data provider 登记数据方",
    response_model=SourceView,
    responses=PROPOSED | openapi_problems(*BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS),
    openapi_extra=openapi_body(model=SourceRegistration),
)
async def put_source(request: Request) -> Response:
    """Register a source by its URI, or bring its registration up to date. Every process knows within a second.

    The licences replace those it had; what was licensed before stays on record. Needs two operators: a grade and a
    licence are what credits rest on.
    """
    platform = platform_of(request)
    caller = await admit(request, "sources:register")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(SourceRegistration, content)
    licences = _licences(body)
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    async with platform.pool.acquire() as connection, connection.transaction():
        await register_source(
            connection,
            uri=body.uri,
            titles=(body.title_zh, body.title_en),
            grade=body.grade,
            licences=licences,
            programme=platform.settings.programme,
            region=platform.settings.region,
        )
        registration = await read_registration(connection, body.uri, platform.today())
    platform.licences.pop(body.uri, None)
    assert registration is not None  # it was registered a line ago
    platform.signers.pop(body.uri, None)
    return await _answer(registration, platform, language_of(request), headers)


def _licences(body: SourceRegistration) -> list[tuple[str, Days]]:
    """The licences of either form. Raises Problem malformed-request, which names every place."""
    wanted: list[tuple[str, Days]] = []
    if body.licences is not None:
        surplus = [name for name in ("scenarios", "valid_from", "valid_to") if getattr(body, name) is not None]
        wanted = [(each.scenario, Days(each.valid_from, each.valid_to)) for each in body.licences]
        faults = [Fault(f"/{name}", "unexpected") for name in surplus] + _overlaps(wanted)
    else:
        faults = [Fault(f"/{name}", "missing") for name in ("scenarios", "valid_from") if getattr(body, name) is None]
        if body.scenarios is not None and body.valid_from is not None:
            days = Days(body.valid_from, body.valid_to)
            wanted = [(scenario, days) for scenario in dict.fromkeys(body.scenarios)]
    if faults:
        raise Problem("malformed-request", faults=faults)
    return wanted


def _overlaps(licences: Sequence[tuple[str, Days]]) -> list[Fault]:
    """Licences of one scenario share no day, so that one of them is in force at most."""
    faults: list[Fault] = []
    in_order = sorted(enumerate(licences), key=lambda each: (each[1][0], each[1][1].first))
    for (where, (scenario, before)), (place, (other, after)) in pairwise(in_order):
        if scenario == other and before.covers(after.first):
            faults.append(Fault(f"/licences/{place}", "overlaps", {"other": f"/licences/{where}"}))
    return faults


@router.get(
    "/sources/me",
    summary="Read one's own registration 查询本数据方",
    response_model=SourceView,
    responses=openapi_problems(*CALL_PROBLEMS, "source-not-found"),
)
async def read_own_source(request: Request) -> Response:
    """What the source of this token is registered for, and which of its licences end soon."""
    caller = await admit(request, "activities:write")
    headers = await charge(request, caller)
    assert caller.source is not None  # a provider's token names one, and no other role has the scope
    return await _read_source(request, caller.source, headers)


@router.get(
    "/sources",
    summary="Read a registration 查询数据方",
    response_model=SourceView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "source-not-found"),
)
async def read_source(
    request: Request,
    uri: Annotated[str | None, Query(max_length=500, description="the source's URI")] = None,
) -> Response:
    """What a source is registered for, and which of its licences end soon."""
    caller = await admit(request, "sources:register")
    headers = await charge(request, caller)
    if uri is None:
        raise Problem("malformed-request", faults=[Fault("uri", "missing", where="query")])
    return await _read_source(request, uri, headers)


async def _read_source(request: Request, uri: str, headers: dict[str, str]) -> Response:
    platform = platform_of(request)
    async with platform.pool.acquire() as connection:
        registration = await read_registration(connection, uri, platform.today())
    if registration is None:
        raise Problem("source-not-found")
    return await _answer(registration, platform, language_of(request), headers)


async def _answer(
    registration: Registration, platform: Platform, language: Language, headers: dict[str, str]
) -> Response:
    platform.observe(registration.licence)
    signer = await platform.signer(registration.licence.uri)
    assert signer is not None  # a source is never deleted
    signing = signer.signing(production=platform.settings.mode == "production")
    content = _view(registration, signing, platform.today(), language)
    return Response(orjson.dumps(content), 200, {**headers, **localized(language)}, "application/json")


def _view(registration: Registration, signing: str, today: date, language: Language) -> dict[str, Any]:
    licence = registration.licence
    return {
        "uri": licence.uri,
        "title_zh": registration.title_zh,
        "title_en": registration.title_en,
        "grade": licence.grade,
        "programme": licence.programme,
        "region": licence.region,
        "signing": signing,
        "licences": [
            _licence_view(scenario, span, licence, today, language)
            for scenario, spans in licence.spans.items()
            for span in spans
        ],
    }


def _licence_view(scenario: str, span: Days, licence: Licence, today: date, language: Language) -> dict[str, Any]:
    spans = licence.spans[scenario]
    run = next(run for run in runs(spans) if run.covers(span.first))
    left = days_left(run, today)
    warned = scenario in licence.ending and run == current_run(spans, today)
    return {
        "scenario": scenario,
        "valid_from": span.first,
        "valid_to": span.last,
        "days_left": left,
        "warning": _warning(run, left, language) if warned and left is not None else None,
    }


def _warning(run: Days, left: int, language: Language) -> str:
    if language == "zh":
        said = f"许可将于 {run.last} 到期，还有 {left} 天" if left else f"许可已于 {run.last} 到期"
        return f"{said}；此日之后的行为不予受理，请联系平台运营方续期。"
    said = f"ends on {run.last} (days left: {left})" if left else f"ended on {run.last}"
    return f"The licence {said}; activities of later days are refused. Ask the operator to renew it."
