"""Report activities: one CloudEvent, structured or binary, or a batch of them; every item gets its own outcome, in
order."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import orjson
from fastapi import APIRouter, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller
from api.body import media_type, parse_json, read_body
from api.dependencies import admit, charge, openapi_body, platform_of
from api.observability import count_activities
from api.platform import Platform
from api.problems import (
    MEDIA_TYPE,
    Fault,
    Language,
    Problem,
    clean,
    faults_of,
    language_of,
    localized,
    openapi_problems,
    render,
)
from api.routing import DirectRoute
from api.signatures.reports import SignedReport, keep_activities, verified_report
from service.activities.intake import Refusal, Report, ReportedActivity, assess
from service.activities.references import ReferenceInvalid, canonical_reference
from service.organisations import CodeMalformed, parse_code
from service.posting import Credited, Duplicate, Outcome
from service.quantification.readings import Readings, ReadingsInvalid, parse_readings

router = APIRouter(tags=["activities"], route_class=DirectRoute)

Post = Callable[[Sequence[Report]], Awaitable[list[Outcome]]]

_NONE: Mapping[str, str] = {}
EVENT_TYPE = "org.tanpuhui.activity.v1"
STRUCTURED, BATCH, BINARY = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
BREATH = 64  # items judged before other requests get a turn of the event loop

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_FIGURE = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,4})?", re.ASCII)
_A_MOMENT = "RFC 3339, with an offset: 2026-05-01T08:00:00+08:00"
_A_FIGURE = '2.35 / "2.35"'  # read alike in both languages


def _moment(value: object) -> object:
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise PydanticCustomError("bad-format", "no moment", {"expected": _A_MOMENT})
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:  # such as a 30th of February
        raise PydanticCustomError("bad-format", "no moment", {"expected": _A_MOMENT}) from None


def _figure(value: object) -> object:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, str) and _FIGURE.fullmatch(value):
        return Decimal(value)
    raise PydanticCustomError("bad-format", "no figure", {"expected": _A_FIGURE})


Moment = Annotated[datetime, BeforeValidator(_moment, json_schema_input_type=str)]
Figure = Annotated[Decimal, BeforeValidator(_figure, json_schema_input_type=str | int | float)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]
Basis = Literal["metered", "track", "straight_line", "station_distance", "declared"]
Reference = Literal["operator", "order", "payment", "meter", "installation", "address", "site"]


def _nameable(name: str, text: str) -> str:
    try:
        canonical_reference(name, text)
    except ReferenceInvalid as invalid:
        raise PydanticCustomError("bad-format", "no reference", {"expected": invalid.expected}) from None
    return text


Vehicle = Annotated[Word, AfterValidator(partial(_nameable, "vehicle"))]
Installation = Annotated[Word, AfterValidator(partial(_nameable, "installation"))]


def _code(text: str) -> str:
    try:
        return parse_code(text)
    except CodeMalformed as malformed:
        where = {"position": malformed.position, "expected": malformed.expected}
        raise PydanticCustomError(malformed.code, "no unified social credit code", where) from None


CreditCode = Annotated[Word, AfterValidator(_code)]  # GB 32100-2015, in upper case


def _referring(references: dict[Reference, str]) -> dict[Reference, str]:
    """Every reference names something; a site is an organisation by its code."""
    for name, text in references.items():
        _nameable(name, text)
    return {**references, "site": _code(references["site"])} if "site" in references else references


def _readings(value: object) -> object:
    if isinstance(value, Readings):
        return value
    try:
        return parse_readings(value)
    except ReadingsInvalid as invalid:
        raise PydanticCustomError("readings-invalid", "{why}", {"why": invalid.en, "why_zh": invalid.zh}) from None


Series = Annotated[
    Any,
    BeforeValidator(_readings),
    WithJsonSchema({"type": "object", "description": "Readings of a meter: docs/api.md, “Meter readings”."}),
]


class ActivityData(BaseModel):
    """What was done: the scenario, when, and the figures its methodology asks for, in the methodology's units.

    `references` name the thing behind it (an order, a payment, a meter), so that it counts once; `readings` are a
    meter's over whole days, months or years, `baseline` those of the time it is compared with. `replaces` is the id of
    an earlier event of yours that this one corrects.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    scenario: Name
    started_at: Moment
    ended_at: Moment
    inputs: Annotated[dict[Name, Figure], Field(max_length=16)]
    basis: Annotated[dict[Name, Basis], Field(default_factory=dict, max_length=16)]
    vehicle: Vehicle | None = None
    references: Annotated[dict[Reference, Word], Field(default_factory=dict, max_length=8), AfterValidator(_referring)]
    readings: Annotated[dict[Name, Series], Field(default_factory=dict, max_length=8)]
    baseline: Annotated[dict[Name, Series], Field(default_factory=dict, max_length=8)]
    replaces: Word | None = None


class ActivityEvent(BaseModel):
    """A CloudEvent 1.0. `source` is the token's; `subject` is the provider's own id of a linked person. Other
    attributes are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    specversion: Literal["1.0"]
    id: Word
    source: Word
    type: Literal["org.tanpuhui.activity.v1"]
    subject: Word
    time: Moment | None = None
    datacontenttype: Literal["application/json"] | None = None
    data: ActivityData


class CreditedItem(BaseModel):
    """Credited: whole milligrams CO2e and whole points, under this transfer; while `pending` they cannot be used."""

    id: str
    outcome: Literal["credited"]
    transfer_id: str
    reduction_mg: int
    points: int
    pending: bool


class RefusedItem(BaseModel):
    """Not credited, and why, as a problem document (RFC 9457); a final one names the `activity_id` it is stored
    under."""

    id: str | None
    outcome: Literal["refused"]
    problem: dict[str, Any]


class DuplicateItem(BaseModel):
    """The same event came before: its first answer again."""

    id: str
    outcome: Literal["duplicate"]
    first: CreditedItem | RefusedItem


class BatchAnswer(BaseModel):
    """One outcome for every event, in the order they were sent."""

    outcomes: list[CreditedItem | RefusedItem | DuplicateItem]
    counts: dict[Literal["credited", "duplicate", "refused"], int]


_PROBLEMS = openapi_problems(
    "unauthenticated", "forbidden", "unsupported-media-type", "payload-too-large", "malformed-json",
    "malformed-request", "malformed-event", "batch-empty", "batch-too-large", "quota-exceeded", "source-mismatch",
    "source-not-registered", "report-signature-refused", "event-conflict", "scenario-not-licensed",
    "source-licence-not-valid", "activity-in-future", "unknown-scenario", "no-methodology-in-force",
    "no-points-rule-in-force", "outside-calendar", "methodology-not-allowed", "subject-not-linked",
    "activity-not-found", "already-corrected", "missing-reference", "claim-window-closed", "activity-too-long",
    "already-claimed", "overlaps-claim", "overlaps-activity", "baseline-differs", "cap-reached",
    "participant-kind-not-eligible", "participant-covered", "site-covered", "claimed-elsewhere", "ends-before-start",
    "unknown-input", "missing-input", "improper-number", "input-out-of-range", "missing-factor", "condition-not-met",
    "not-computable", "no-reduction", "posting-suspended", "overloaded", "temporarily-unavailable", "posting-failed",
    "internal-error",
)  # fmt: skip


@router.post(
    "/activities",
    summary="Report activities 报送低碳行为",
    response_model=CreditedItem | DuplicateItem | BatchAnswer,
    responses={
        200: {
            "description": "A batch: an outcome for every event, in order. "
            "A single event that came before: its first answer."
        },
        201: {"description": "A single event, credited", "model": CreditedItem},
        **_PROBLEMS,
    },
    openapi_extra=openapi_body(STRUCTURED, model=ActivityEvent, batch=BATCH),
)
async def report_activities(
    request: Request, dry_run: Annotated[bool, Query(description="Answer, and do nothing.")] = False
) -> Response:
    """Report one activity (a CloudEvent, structured or binary) or a batch of up to 1,000.

    Binary mode is `application/json` with the data as body and the event's attributes in `ce-` headers,
    percent-encoded. Each event is credited once, however often it is sent: repeat it with the same id whenever no
    answer came. A single event's refusal is the answer's problem; in a batch every item has its own outcome, and one
    item never harms another. With `dry_run=true` everything is decided as it would be now, and nothing is stored.
    """
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "activities:write")
    kind = media_type(request.headers)
    if kind not in (STRUCTURED, BATCH, BINARY):
        raise Problem("unsupported-media-type", accepted=", ".join((STRUCTURED, BATCH, BINARY)))
    body = await read_body(request, platform.settings.max_body_bytes)
    content = parse_json(body)
    events = _batch(content, platform) if kind == BATCH else [_binary(request, content) if kind == BINARY else content]
    headers = await charge(request, caller, len(events))
    post: Post = platform.poster.rehearse if _is_dry_run(request) else platform.poster.post
    signed = await verified_report(request, body, caller)
    outcomes = await _outcomes(events, caller, platform, post, signed, alone=kind != BATCH)
    if post == platform.poster.post:
        _count(outcomes)
    headers |= localized(language) | await _licence_warning(events, caller, platform)
    if kind == BATCH:
        return _json(200, _batch_answer(events, outcomes, language, platform), headers)
    return _single_answer(_id_of(events[0]), outcomes[0], language, platform, headers)


def _is_dry_run(request: Request) -> bool:
    asked = request.query_params.getlist("dry_run")
    if asked in ([], ["true"], ["false"]):
        return asked == ["true"]
    raise Problem("malformed-request", faults=[Fault("dry_run", "wrong-value", {"expected": "true, false"}, "query")])


def _batch(content: object, platform: Platform) -> list[object]:
    if not isinstance(content, list):
        raise Problem("malformed-request", faults=[Fault("", "wrong-type", {"expected": "array"})])
    if not content:
        raise Problem("batch-empty")
    if len(content) > platform.settings.max_batch_items:
        raise Problem("batch-too-large", limit=platform.settings.max_batch_items, count=len(content))
    return content


def _binary(request: Request, data: object) -> dict[str, object]:
    """An event in binary mode: attributes from the ce- headers (CloudEvents HTTP binding 3.1.3: UTF-8,
    percent-encoded)."""
    attributes = {
        name[3:]: unquote(value, errors="replace") for name, value in request.headers.items() if name.startswith("ce-")
    }
    return {**attributes, "data": data}


async def _outcomes(
    events: Sequence[object],
    caller: Caller,
    platform: Platform,
    post: Post,
    signed: SignedReport | None = None,
    *,
    alone: bool = False,
) -> list[Outcome | Problem]:
    """Judge every event in pure code, post what can be posted together, and put the outcomes in the events' order.

    signed   the call's signature: it is on record before anything is posted
    alone    the call is about one event, and its signature over that event alone
    """
    outcomes: dict[int, Outcome | Problem] = {}
    reports: list[tuple[int, Report]] = []
    licence = await platform.licence(caller.source) if caller.source else None
    now = platform.fresh.clock()
    signature = signed.digest_hex if signed is not None and alone else None
    for number, raw in enumerate(events):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        try:
            event = ActivityEvent.model_validate(raw)
        except ValidationError as invalid:
            outcomes[number] = Problem(
                "malformed-event", faults=faults_of(invalid.errors(include_url=False, include_input=False))
            )
            continue
        if event.source != caller.source:
            outcomes[number] = Problem("source-mismatch")
        elif licence is None:
            outcomes[number] = Problem("source-not-registered")
        else:
            known = platform.rules, platform.keyring, platform.fresh, now
            reports.append((number, assess(_reported(event), licence, *known, signature)))
    if reports and signed is not None and post == platform.poster.post:
        await keep_activities(platform, signed, events, dict(reports))
    if reports:
        posted = await post([report for _, report in reports])
        outcomes.update(zip((number for number, _ in reports), posted, strict=True))
    return [outcomes[number] for number in range(len(events))]


async def _licence_warning(events: Sequence[object], caller: Caller, platform: Platform) -> dict[str, str]:
    """The scenarios among these events whose licence is about to end, with its last day: a list of RFC 9651."""
    licence = await platform.licence(caller.source) if caller.source else None
    if licence is None or not licence.ending:
        return {}
    named = {scenario for event in events if isinstance(scenario := _scenario_of(event), str)}
    ending = [f'{name};last-day="{last}"' for name, last in sorted(licence.ending.items()) if name in named]
    return {"Tanpuhui-Licence-Warning": ", ".join(ending)} if ending else {}


def _scenario_of(event: object) -> object:
    data = event.get("data") if isinstance(event, dict) else None
    return data.get("scenario") if isinstance(data, dict) else None


def _reported(event: ActivityEvent) -> ReportedActivity:
    data = event.data
    return ReportedActivity(
        event.id,
        event.subject,
        event.type,
        event.time,
        data.scenario,
        data.started_at,
        data.ended_at,
        data.inputs,
        data.basis,
        data.vehicle,
        {str(name): value for name, value in data.references.items()} if data.references else _NONE,
        data.readings,
        data.baseline,
        data.replaces,
    )


def _id_of(event: object) -> str | None:
    """The event's id, to find an outcome by; None when there is none that could be repeated."""
    name = event.get("id") if isinstance(event, dict) else None
    return name if isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable() else None


def _count(outcomes: Sequence[Outcome | Problem]) -> None:
    named = Counter(
        ("refused", outcome.slug) if isinstance(outcome, Refusal | Problem) else (type(outcome).__name__.lower(), "")
        for outcome in outcomes
    )
    for (name, problem), count in named.items():
        count_activities(name, count, problem=problem)


def _batch_answer(
    events: Sequence[object], outcomes: Sequence[Outcome | Problem], language: Language, platform: Platform
) -> dict[str, object]:
    items = [_item(_id_of(event), outcome, language, platform) for event, outcome in zip(events, outcomes, strict=True)]
    counts = dict.fromkeys(("credited", "duplicate", "refused"), 0)
    for item in items:
        counts[item["outcome"]] += 1
    return {"outcomes": items, "counts": counts}


def _item(event_id: str | None, outcome: Outcome | Problem, language: Language, platform: Platform) -> dict[str, Any]:
    if isinstance(outcome, Credited):
        return {
            "id": event_id,
            "outcome": "credited",
            "transfer_id": str(outcome.transfer_id),
            "reduction_mg": outcome.co2e_mg,
            "points": outcome.points,
            "pending": outcome.pending,
        }
    if isinstance(outcome, Duplicate):
        return {"id": event_id, "outcome": "duplicate", "first": _item(event_id, outcome.first, language, platform)}
    return {"id": event_id, "outcome": "refused", "problem": _document(outcome, language, platform)}


def _document(outcome: Outcome | Problem, language: Language, platform: Platform) -> dict[str, Any]:
    base = platform.settings.problem_base
    if isinstance(outcome, Problem):
        return outcome.render(language, base)
    if isinstance(outcome, Refusal):
        document = render(outcome.slug, clean(outcome.params), language, base)
        if outcome.activity_id:
            document["activity_id"] = str(outcome.activity_id)
        return document
    raise TypeError(f"a report has no outcome {outcome!r}")


def _single_answer(
    event_id: str | None, outcome: Outcome | Problem, language: Language, platform: Platform, headers: dict[str, str]
) -> Response:
    """201 when credited now, 200 for the first answer again; a refusal is a problem, the same one when it is
    repeated."""
    refused = outcome.first if isinstance(outcome, Duplicate) else outcome
    if isinstance(refused, Refusal | Problem):
        document = _document(refused, language, platform)
        return _json(document["status"], document, headers, MEDIA_TYPE)
    status = 200 if isinstance(outcome, Duplicate) else 201
    return _json(status, _item(event_id, outcome, language, platform), headers)


def _json(status: int, content: object, headers: dict[str, str], kind: str = "application/json") -> Response:
    return Response(orjson.dumps(content), status, headers, kind)
