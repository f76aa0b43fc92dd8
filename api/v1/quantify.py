"""What something would earn: one computation by one methodology, with its arithmetic. Anyone may ask; nothing is
written."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.body import media_type, parse_json, read_body
from api.comparing import comparison
from api.dependencies import JSON, openapi_body, parsed, platform_of
from api.explaining import arithmetic_view, methodology_view
from api.platform import Platform
from api.problems import Language, Problem, Text, language_of, localized, openapi_problems, word
from api.rate_limit.addresses import address_name, host_of
from api.rate_limit.costs import ESTIMATE
from api.v1.activities import Figure, Moment, Name
from ledger.units import CO2e
from service.activities.rules import RuleBook
from service.quantification.comparing import Told
from service.quantification.expression import plain
from service.quantification.model import ActivityData, Methodology
from service.quantification.periods import last_whole
from service.quantification.points import PointsRule, points_for
from service.quantification.quantify import Explanation, activity_day, explain
from service.quantification.readings import Readings, ReadingsInvalid, parse_readings
from service.quantification.refusals import (
    NoPointsRuleInForce,
    ReadingsNotValid,
    Refusal,
    UnknownReading,
    shown,
)

router = APIRouter(tags=["methodologies"])

LARGEST_BODY = 2**20  # bytes: two months of quarter hours, each as a span, are less
_ONE_TIME = Text("只给出了开始与结束时间之一", "only one of start and end was given")
ONE_HOUR = timedelta(hours=1)


Slug = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class _Wanted(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    started_at: Moment | None = None
    ended_at: Moment | None = None
    inputs: Annotated[dict[Name, Figure], Field(max_length=16)] = {}
    readings: Annotated[dict[Name, Any], Field(max_length=16)] = {}
    baseline: Annotated[dict[Name, Any], Field(max_length=16)] = {}


class WantedEstimate(_Wanted):
    """One activity as it might be reported; `methodology` is its id or a scenario. Without times it is of now, or of
    the last whole day, month or year, where the result does not depend on them."""

    methodology: Slug
    version: Annotated[int, Field(ge=1, le=10_000)] | None = None


class WantedComparison(_Wanted):
    """One act, told once for every document about it, by the names that documents share. What a document reads from
    meters may be told as a total among `inputs`: of the whole period, and of a baseline that of one such period."""

    act: Slug


@router.post(
    "/quantify",
    summary="What would it earn? 试算减排量与积分",
    responses=openapi_problems(
        "quota-exceeded", "unsupported-media-type", "payload-too-large", "malformed-json", "malformed-request",
        "rule-not-found", "no-methodology-in-force", "methodology-incomplete", "times-needed", "outside-calendar",
        "ends-before-start", "not-one-day", "not-whole-period", "period-too-long", "unknown-input", "missing-input",
        "improper-number", "input-out-of-range", "unknown-reading", "missing-reading", "missing-baseline",
        "readings-invalid", "readings-incomplete", "missing-factor", "condition-not-met", "not-computable",
        "no-reduction", "internal-error",
    ),
    openapi_extra=openapi_body(model=WantedEstimate),
)  # fmt: skip
async def quantify(request: Request, response: Response) -> dict[str, Any]:
    """Compute what one activity would earn, with every factor and step, and whether it could be credited here.

    Needs no token; each address has its own quota, counted before the body is read. Nothing is written. Caps, claims
    and budgets are of a participant and are not looked at.
    """
    platform, language = platform_of(request), language_of(request)
    content = await _asked(request, response, platform)
    wanted = parsed(WantedEstimate, content)
    return estimate(platform.rules, wanted, platform.fresh.clock(), platform.settings.programme, language)


@router.post(
    "/quantify/compare",
    summary="The same act elsewhere 同一行为在各地的结果",
    responses=openapi_problems(
        "quota-exceeded", "unsupported-media-type", "payload-too-large", "malformed-json", "malformed-request",
        "act-not-covered", "times-needed", "outside-calendar", "readings-invalid", "internal-error",
    ),
    openapi_extra=openapi_body(model=WantedComparison),
)  # fmt: skip
async def compare(request: Request, response: Response) -> dict[str, Any]:
    """Compute one act by every document about it: what each gives or why it gives nothing, its factors and formula, and
    in sentences why it differs from the others.

    Of each document it is the newest version in force on the day, else its newest, marked as not in force. Needs no
    token; the quota is that of quantify. Nothing is written.
    """
    platform, language = platform_of(request), language_of(request)
    content = await _asked(request, response, platform)
    return compared(platform.rules, parsed(WantedComparison, content), platform.fresh.clock(), language)


async def _asked(request: Request, response: Response, platform: Platform) -> Any:
    """The body of what anybody may ask, after its quota was taken."""
    host = host_of(request.scope, platform.settings.trusted_proxies)
    request.state.client = client = address_name(platform.keyring, host, platform.today())
    headers = await platform.limiter.require(client, 0, ESTIMATE)
    response.headers.update(headers | localized(language_of(request)))
    if media_type(request.headers) != JSON:
        raise Problem("unsupported-media-type", accepted=JSON)
    return parse_json(await read_body(request, min(LARGEST_BODY, platform.settings.max_body_bytes)))


def estimate(
    rules: RuleBook, wanted: WantedEstimate, now: datetime, programme: str, language: Language
) -> dict[str, Any]:
    """The answer. Raises Problem: rule-not-found, times-needed, or what a report of this would be refused with."""
    now = now.replace(microsecond=0)
    try:
        methodology = _methodology(rules, wanted, now)
        started_at, ended_at = times_of(methodology, wanted, now)
        readings = _readings(wanted.readings, methodology.readings)
        baseline = _readings(wanted.baseline, methodology.baseline)
        not_checked = () if wanted.started_at else _of_duration(methodology)
        asked = replace(
            methodology, conditions=tuple(one for one in methodology.conditions if one.id not in not_checked)
        )
        explanation = explain(asked, ActivityData(started_at, ended_at, wanted.inputs, readings, baseline))
    except Refusal as refusal:
        raise Problem(refusal.slug, **dict[str, Any](refusal.params)) from None
    why_not = rules.cannot_credit(methodology)
    points, rule = _points(rules, explanation, now, programme)
    arithmetic = arithmetic_view(explanation, {}, language)
    step = [] if rule is None else [_points_step(explanation.co2e, rule, points)]
    identity = methodology_view(methodology, language)
    return {
        "methodology": identity.pop("id"),
        **identity,
        "scenario": methodology.scenario.id,
        "trigger": methodology.trigger,
        "credit_class": methodology.credit_class,
        "started_at": _utc(started_at),
        "ended_at": _utc(ended_at),
        "day": explanation.day.isoformat(),
        "reduction_mg": arithmetic.pop("reduction_mg"),
        "points": points,
        "points_rule": rule and {"id": rule.id, "version": rule.version, "digest": rule.digest},
        "not_checked": list(not_checked),
        "can_credit": not why_not,
        "why_not": list(why_not),
        "why_not_titles": [word(code, language) for code in why_not],
        "trace": [*arithmetic.pop("steps"), *step],
        **arithmetic,
    }


def compared(rules: RuleBook, wanted: WantedComparison, now: datetime, language: Language) -> dict[str, Any]:
    """The answer. Raises Problem: act-not-covered, times-needed, outside-calendar, readings-invalid."""
    if (wanted.started_at is None) != (wanted.ended_at is None):
        raise Problem("times-needed", methodology=wanted.act, why_zh=_ONE_TIME.zh, why_en=_ONE_TIME.en)
    try:
        readings, baseline = _parsed_readings(wanted.readings), _parsed_readings(wanted.baseline)
    except Refusal as refusal:
        raise Problem(refusal.slug, **dict[str, Any](refusal.params)) from None
    told = Told(wanted.started_at, wanted.ended_at, wanted.inputs, readings, baseline)
    return comparison(rules, wanted.act, told, now, language)


def _methodology(rules: RuleBook, wanted: WantedEstimate, now: datetime) -> Methodology:
    """The document that is meant: a version that was named, or the one in force on the activity's day."""
    name = wanted.methodology
    versions = [one for one in rules.methodologies.all() if name in (one.id, one.scenario.id)]
    if wanted.version is not None:
        versions = [one for one in versions if one.version == wanted.version]
    ids = {one.id for one in versions}
    if not ids or (wanted.version is not None and len(ids) > 1):  # a scenario may have had several methodologies
        raise Problem("rule-not-found", name=name, version=wanted.version or "—")
    if wanted.version is not None:
        return versions[-1]
    day = activity_day(wanted.started_at or now)
    credited = rules.methodology(versions[-1].scenario.id, day)
    if name in (credited.id, credited.scenario.id):
        return credited
    return next((one for one in reversed(versions) if one.covers(day)), versions[-1])


def times_of(methodology: Methodology, wanted: WantedEstimate, now: datetime) -> tuple[datetime, datetime]:
    """What was given; without times the last hour, or the last whole day, month or year, if that decides nothing.

    Raises Problem times-needed.
    """
    if wanted.started_at and wanted.ended_at:
        return wanted.started_at, wanted.ended_at
    why = _why_times(methodology, wanted)
    if why:
        raise Problem("times-needed", methodology=methodology.id, why_zh=why.zh, why_en=why.en)
    if methodology.trigger in ("trip", "boarding"):
        return now - ONE_HOUR, now
    return last_whole(methodology.period.unit if methodology.period else "day", now)


def _why_times(methodology: Methodology, wanted: WantedEstimate) -> Text | None:
    if wanted.started_at or wanted.ended_at:
        return _ONE_TIME
    if wanted.readings or wanted.baseline:
        return Text("须说明读数所属的日期", "the days that the readings are of have to be said")
    if methodology.reduction and "duration_s" in methodology.reduction.expression.names:
        return Text("公式用到时长", "the formula uses the duration")
    return None


def _of_duration(methodology: Methodology) -> tuple[str, ...]:
    """The conditions that cannot be looked at as long as nobody says how long it took."""
    return tuple(one.id for one in methodology.conditions if "duration_s" in one.formula.expression.names)


def _readings(given: Mapping[str, Any], declared: Mapping[str, object]) -> dict[str, Readings]:
    for name in given:
        if name not in declared:
            raise UnknownReading(shown(name), tuple(declared))
    return _parsed_readings(given)


def _parsed_readings(given: Mapping[str, Any]) -> dict[str, Readings]:
    found = {}
    for name, value in given.items():
        try:
            found[name] = parse_readings(value)
        except ReadingsInvalid as error:
            raise ReadingsNotValid(name, error.zh, error.en) from error
    return found


def _points(
    rules: RuleBook, explanation: Explanation, now: datetime, programme: str
) -> tuple[int | None, PointsRule | None]:
    """The points under the rule of today, before any campaign; None where no rule is in force. A project's grams earn
    none while they can be traded."""
    if explanation.methodology.credit_class == "project":
        return 0, None
    try:
        rule = rules.points_rule(now, programme)
    except NoPointsRuleInForce:
        return None, None
    return points_for(rule, explanation.co2e).n, rule


def _points_step(co2e: CO2e, rule: PointsRule, points: int | None) -> str:
    return f"⌊{co2e.mg} mg ÷ 1000 mg/g × {plain(rule.points_per_gram)}⌋ = {points}"


def _utc(moment: datetime) -> str:
    try:
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:  # the first or last hours of the calendar
        return moment.isoformat()
