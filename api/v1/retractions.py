"""Take back, as their source, what was credited for events: in bulk, safe to repeat, with a dry run."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller, Forbidden
from api.dependencies import BODY_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, raw_body, read_json
from api.platform import Platform
from api.problems import Fault, Language, Problem, clean, language_of, localized, openapi_problems, render
from api.problems.faults import MOST_FAULTS
from api.signatures.reports import require_report
from api.v1.activities import RefusedItem, Word
from ledger.leaves import NONCE_BYTES
from service.activities.intake import Refusal, event_key
from service.posting import Outcome, Retract, Reversed

router = APIRouter(tags=["activities"])

MOST_IDS = 1000


class RetractionsWanted(BaseModel):
    """The ids of events of the caller's own; with `dry_run` nothing is done, and the answer says what would be."""

    model_config = ConfigDict(strict=True, extra="forbid")

    ids: Annotated[list[Word], Field(min_length=1, max_length=MOST_IDS)]
    dry_run: bool = False


class ReversedItem(BaseModel):
    """The credit of this event was taken back: `transfer_id` is the reversal, null in a dry run; `reverses` is the
    credit, with its whole milligrams and points."""

    id: str
    outcome: Literal["reversed"]
    transfer_id: str | None
    reverses: str
    reduction_mg: int
    points: int


class RepeatedItem(BaseModel):
    """The event was retracted before: the first answer again."""

    id: str
    outcome: Literal["repeated"]
    first: ReversedItem


class Taken(BaseModel):
    """What this call took back, or would: whole milligrams CO2e and whole points."""

    reduction_mg: int
    points: int


class RetractionsAnswer(BaseModel):
    """One outcome for every id, in the order they were sent; `dry_run` says that nothing was done."""

    dry_run: bool
    outcomes: list[ReversedItem | RepeatedItem | RefusedItem]
    counts: dict[Literal["reversed", "repeated", "refused"], int]
    totals: Taken


@router.post(
    "/retractions",
    summary="Retract events 撤回事件",
    response_model=RetractionsAnswer,
    responses=openapi_problems(
        *BODY_PROBLEMS,
        "report-signature-refused",
        "activity-not-found",
        "nothing-to-retract",
        "already-reversed",
        "posting-suspended",
        "overloaded",
        "posting-failed",
    ),
    openapi_extra=openapi_body(model=RetractionsWanted),
)
async def retract_events(request: Request) -> Response:
    """Reverse what was credited for up to 1,000 events of your own; each id has its own outcome.

    Send the same again whenever no answer came: an event is retracted once. To replace a wrong event by a right one,
    report the right one with `replaces`.
    """
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "activities:write")
    content = await read_json(request)
    named = content.get("ids") if isinstance(content, dict) else None
    headers = await charge(request, caller, len(named) if isinstance(named, list) else 0)
    wanted = parsed(RetractionsWanted, content)
    _refuse_repeats(wanted.ids)
    await require_report(request, raw_body(request), caller, dry_run=wanted.dry_run)
    commands = _commands(wanted.ids, caller, platform)
    post = platform.poster.rehearse if wanted.dry_run else platform.poster.post
    outcomes = await post(commands)
    items = [
        _item(event_id, outcome, wanted.dry_run, language, platform)
        for event_id, outcome in zip(wanted.ids, outcomes, strict=True)
    ]
    counts = Counter(item["outcome"] for item in items)
    done = [item for item in items if item["outcome"] == "reversed"]
    answer = {
        "dry_run": wanted.dry_run,
        "outcomes": items,
        "counts": {name: counts[name] for name in ("reversed", "repeated", "refused")},
        "totals": {name: sum(item[name] for item in done) for name in ("reduction_mg", "points")},
    }
    return Response(orjson.dumps(answer), 200, headers | localized(language), "application/json")


def _refuse_repeats(ids: Sequence[str]) -> None:
    first: dict[str, int] = {}
    faults = [
        Fault(f"/ids/{place}", "repeated", {"other": f"/ids/{first[event_id]}"})
        for place, event_id in enumerate(ids)
        if first.setdefault(event_id, place) != place
    ]
    if faults:
        raise Problem("malformed-request", faults=faults[:MOST_FAULTS])


def _commands(ids: Sequence[str], caller: Caller, platform: Platform) -> list[Retract]:
    if caller.source is None:
        raise Forbidden
    fresh = platform.fresh
    return [
        Retract(event_key(platform.keyring, caller.source, event_id), fresh.id(), fresh.random(NONCE_BYTES))
        for event_id in ids
    ]


def _item(event_id: str, outcome: Outcome, dry_run: bool, language: Language, platform: Platform) -> dict[str, Any]:
    if isinstance(outcome, Refusal):
        problem = render(outcome.slug, clean(outcome.params), language, platform.settings.problem_base)
        return {"id": event_id, "outcome": "refused", "problem": problem}
    assert isinstance(outcome, Reversed)
    rehearsed = dry_run and not outcome.repeated
    amounts = {
        name: sum(line.amount for line in outcome.transfer.lines if line.asset == asset)
        for name, asset in (("reduction_mg", "co2e_mg"), ("points", "points"))
    }
    item = {
        "id": event_id,
        "outcome": "reversed",
        "transfer_id": None if rehearsed else str(outcome.transfer.transfer_id),
        "reverses": str(outcome.transfer.reverses),
        **amounts,
    }
    return {"id": event_id, "outcome": "repeated", "first": item} if outcome.repeated else item
