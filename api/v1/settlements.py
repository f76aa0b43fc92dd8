"""Settle provisional credits by facts that are known only later, and see what has still to be settled."""

import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller, Forbidden
from api.cursors import seal, unseal
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
from api.problems import Fault, Language, Problem, clean, language_of, localized, openapi_problems, render
from api.signatures.reports import require_report
from api.v1.activities import Figure, Name, Word
from api.v1.manifests import require_licence
from api.v1.sources import Day
from ledger.leaves import SALT_BYTES
from service.activities.intake import Refusal, figure, subject_tag
from service.activities.licences import Licence
from service.posting import Settle, Settled, SettledCredit
from service.reading import DueMonth, read_due

router = APIRouter(tags=["settlements"])

RECORD_VERSION = "1"
PAGE, LONGEST_PAGE = 50, 200
_LAST_DAY = date.max  # later than every day a settlement is due


def _in_order(last_day: date, fields: ValidationInfo) -> date:
    first = fields.data.get("first_day")
    if first is not None and last_day < first:
        raise PydanticCustomError("too-small", "before first_day", {"limit": first.isoformat()})
    return last_day


class SettlementWanted(BaseModel):
    """The facts of one person, by the names and in the units of the methodology, and which activities they decide.

    subject               the provider's own id of the person, as in the events
    first_day, last_day   the Asia/Shanghai days on which the activities began, both included
    dry_run               nothing is done, and the answer says what would be
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    subject: Word
    scenario: Name
    first_day: Day
    last_day: Annotated[Day, AfterValidator(_in_order)]
    facts: Annotated[dict[Name, Figure], Field(min_length=1, max_length=16)]
    dry_run: bool = False


class SettledItem(BaseModel):
    """One provisional credit: it matured and can be used, or it was withdrawn, and `because` is the problem."""

    activity_id: str
    outcome: Literal["matured", "withdrawn"]
    reduction_mg: int
    points: int
    because: dict[str, Any] | None


class SettledTotal(BaseModel):
    """How many credits, whole milligrams CO2e and whole points."""

    credits: int
    reduction_mg: int
    points: int


class SettlementAnswer(BaseModel):
    """Every provisional credit that these facts decided, now or when they were sent before, oldest first; none where
    others had decided all. `settlement_id` is that of the first time, and null in a dry run."""

    dry_run: bool
    settlement_id: str | None
    credits: list[SettledItem]
    totals: dict[Literal["matured", "withdrawn"], SettledTotal]


class DueView(BaseModel):
    """The provisional credits of a scenario whose activities began in a month (YYYY-MM): how many, the earliest and the
    latest day by which a settlement is expected, and how many were expected before today."""

    scenario: str
    month: str
    credits: int
    first_due: date
    last_due: date
    overdue: int


class DueAnswer(BaseModel):
    """A page of what a source has to settle, by scenario and month; `next` is the cursor of the page after it."""

    source: str
    months: list[DueView]
    next: str | None


@router.post(
    "/settlements",
    summary="Settle provisional credits 结算待确认入账",
    response_model=SettlementAnswer,
    responses=openapi_problems(
        *BODY_PROBLEMS,
        "source-not-registered",
        "report-signature-refused",
        "unknown-scenario",
        "unknown-input",
        "missing-input",
        "improper-number",
        "input-out-of-range",
        "not-computable",
        "subject-not-linked",
        "posting-suspended",
        "overloaded",
        "posting-failed",
    ),
    openapi_extra=openapi_body(model=SettlementWanted),
)
async def settle_credits(request: Request) -> Response:
    """Decide a person's provisional credits of a scenario and some days: those whose facts meet the methodology's
    conditions mature, the others are withdrawn.

    Facts that the methodology does not know, or lacks, are refused as a whole. A credit is settled once; the same call
    again is answered as the first time, and settles what has become provisional since. After the withdrawal of a
    consent, what was credited under it is settled all the same.
    """
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "activities:write")
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    wanted = parsed(SettlementWanted, content)
    licence = None if caller.source is None else await platform.licence(caller.source)
    if licence is None:
        raise Problem("source-not-registered")
    await require_report(request, raw_body(request), caller, dry_run=wanted.dry_run)
    if not any(rule.scenario.id == wanted.scenario for rule in platform.rules.posted_methodologies.values()):
        raise Problem("unknown-scenario", scenario=wanted.scenario)
    command = _command(wanted, licence, platform)
    post = platform.poster.rehearse if wanted.dry_run else platform.poster.post
    (outcome,) = await post([command])
    if isinstance(outcome, Refusal):
        params: dict[str, Any] = dict(outcome.params)
        raise Problem(outcome.slug, **params)
    assert isinstance(outcome, Settled)
    answer = {
        "dry_run": wanted.dry_run,
        "settlement_id": None if wanted.dry_run else str(outcome.settled_by),
        "credits": [_item(credit, language, platform) for credit in outcome.credits],
        "totals": {name: _total(outcome.credits, name) for name in ("matured", "withdrawn")},
    }
    return _json(answer, headers | localized(language))


def _command(wanted: SettlementWanted, licence: Licence, platform: Platform) -> Settle:
    return Settle(
        source_id=licence.source_id,
        source=licence.uri,
        subject_tag=subject_tag(platform.keyring, licence.uri, wanted.subject),
        scenario=wanted.scenario,
        first=wanted.first_day,
        last=wanted.last_day,
        facts=wanted.facts,
        document=settlement_document(wanted),
        salt=platform.fresh.random(SALT_BYTES),
        settled_by=platform.fresh.id(),
    )


def settlement_document(wanted: SettlementWanted) -> bytes:
    """The record as RFC 8785 JSON of strings only, as an activity's evidence is; it names no person."""
    fields: Mapping[str, object] = {
        "facts": {name: figure(value) for name, value in wanted.facts.items()},
        "first_day": wanted.first_day.isoformat(),
        "last_day": wanted.last_day.isoformat(),
        "scenario": wanted.scenario,
        "v": RECORD_VERSION,
    }
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _item(credit: SettledCredit, language: Language, platform: Platform) -> dict[str, Any]:
    because, base = credit.because, platform.settings.problem_base
    return {
        "activity_id": str(credit.activity_id),
        "outcome": credit.outcome,
        "reduction_mg": credit.co2e_mg,
        "points": credit.points,
        "because": because and render(because.slug, clean(because.params), language, base),
    }


def _total(credits: Iterable[SettledCredit], outcome: str) -> dict[str, int]:
    found = [credit for credit in credits if credit.outcome == outcome]
    return {
        "credits": len(found),
        "reduction_mg": sum(credit.co2e_mg for credit in found),
        "points": sum(credit.points for credit in found),
    }


@router.get(
    "/settlements/due",
    summary="List what waits for settlement 待结算清单",
    response_model=DueAnswer,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "invalid-cursor", "source-not-found"),
)
async def list_due(
    request: Request,
    before: Annotated[str | None, Query(max_length=10, description="YYYY-MM-DD: due before this day")] = None,
    source: Annotated[str | None, Query(max_length=500, description="its URI; a provider's is its own")] = None,
    after: Annotated[str | None, Query(max_length=500, description="the `next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
) -> Response:
    """What a source has still to settle, counted by scenario and month; nobody's ids. A provider reads its own,
    operators and auditors name the source."""
    platform = platform_of(request)
    caller = await admit(request, "settlements:read")
    headers = await charge(request, caller)
    due_before = _LAST_DAY if before is None else _day(before)
    licence = await require_licence(platform, _source_of(caller, source))
    whose = b"settlements due" + licence.source_id.to_bytes(8, "big")
    start = ("", date.min) if after is None else _place(unseal(platform.keyring, whose, after))
    async with platform.counting, platform.pool.acquire() as connection:
        months = await read_due(
            connection, licence.source_id, before=due_before, today=platform.today(), after=start, limit=limit + 1
        )
    page = months[:limit]
    more = seal(platform.keyring, whose, _following(page[-1])) if len(months) > limit else None
    answer = {"source": licence.uri, "months": [_due(month) for month in page], "next": more}
    return _json(answer, headers)


def _due(month: DueMonth) -> dict[str, object]:
    return {
        "scenario": month.scenario,
        "month": month.month.isoformat()[:7],
        "credits": month.credits,
        "first_due": month.first_due,
        "last_due": month.last_due,
        "overdue": month.overdue,
    }


def _following(month: DueMonth) -> bytes:
    """Where the list goes on: the same scenario from the next month on."""
    following = (month.month + timedelta(days=31)).replace(day=1)
    return following.isoformat().encode() + month.scenario.encode()


def _place(place: bytes) -> tuple[str, date]:
    return place[10:].decode(), date.fromisoformat(place[:10].decode())


def _day(text: str) -> date:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    fault = Fault("before", "bad-format", {"expected": "YYYY-MM-DD"}, where="query")
    raise Problem("malformed-request", faults=[fault])


def _source_of(caller: Caller, named: str | None) -> str:
    if caller.source is not None:
        if named not in (None, caller.source):
            raise Forbidden
        return caller.source
    if named is None:
        raise Problem("malformed-request", faults=[Fault("source", "missing", where="query")])
    return named


def _json(content: object, headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(content), 200, headers, "application/json")
