"""Reviews 复核: credits that wait because something about them is unusual. The participant reads why and may answer;
operators release them, or confirm that they were not earned."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from api.auth.callers import Forbidden
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
from api.operators import operator_code
from api.platform import Platform
from api.problems import Language, Problem, clean, language_of, openapi_problems, word
from api.redemptions import POSTING_PROBLEMS
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from api.v1.disputes import Words
from api.v1.manifests import answered
from ledger.leaves import NONCE_BYTES
from service.activities.intake import Refusal
from service.own import own_rows
from service.posting import Reverse
from service.signals.reviews import (
    CONFIRM_REASONS,
    RELEASE_REASONS,
    CreditsStand,
    Reviewed,
    Signal,
    answer_review,
    decide_review,
    list_reviews,
    list_signals,
    read_own,
    require_open,
)
from service.signals.reviews import read_review as read_one
from service.signals.source_signals import SourceFinding, list_source_signals

router = APIRouter(tags=["reviews"])

LISTED = 50
_BEGINNING, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


class ReviewAnswer(BaseModel):
    """What the participant says to it, in their own words."""

    model_config = ConfigDict(strict=True, extra="forbid")

    words: Words


class ReviewDecision(BaseModel):
    """Whether the credits are released, or confirmed not to be earned and reversed; why, as a code, and in words that
    the participant reads."""

    model_config = ConfigDict(strict=True, extra="forbid")

    outcome: Literal["release", "confirm"]
    reason: Literal["explained", "rule_too_strict", "not_proven", "automated", "shared_account", "invented", "copied"]
    words: Words


class SignalView(BaseModel):
    """What was found: by which rule and version, in words, and with the figures. `told` is empty, and `values` null,
    once they were erased."""

    signal_id: UUID
    rule: str
    version: int
    strength: Literal["strong", "weak"]
    title: str
    told: str
    values: dict[str, str] | None
    found_at: datetime


class ReviewStepView(BaseModel):
    """A step; `words` are null where nothing was written or it was erased. `operator` is a code that operators alone
    read."""

    number: int
    step: Literal["open", "join", "answer", "release", "confirm", "lapse"]
    title: str
    party: Literal["rule", "participant", "operator"]
    operator: str | None
    reason: str | None
    reason_title: str | None
    words: str | None
    recorded_at: datetime


class ReviewView(BaseModel):
    """A review. Until it has ended, or `due_at`, `points` points cannot be spent. `credits` are the transfers it is
    about."""

    review_id: UUID
    participant_id: UUID
    state: Literal["open", "released", "confirmed", "lapsed"]
    state_title: str
    points: int
    opened_at: datetime
    due_at: datetime
    ended_at: datetime | None
    signals: list[SignalView]
    credits: list[UUID]
    steps: list[ReviewStepView]


class ReviewsView(BaseModel):
    """Reviews; `next` goes on from the last one."""

    reviews: list[ReviewView]
    next: str | None = None


class FoundView(SignalView):
    """A signal with whom it is about, by the pseudonym, and the review it opened or joined; weak ones open none."""

    participant_id: UUID
    review_id: UUID | None


class FoundsView(BaseModel):
    """What was found of people, the latest first."""

    signals: list[FoundView]


class SourceSignalView(BaseModel):
    """What was found in a source's day, held against its own past."""

    source: str
    day: date
    rule: str
    version: int
    title: str
    told: str
    values: dict[str, str]
    found_at: datetime


class SourceSignalsView(BaseModel):
    """What was found in sources' days, the latest first."""

    signals: list[SourceSignalView]


@router.get(
    "/me/reviews",
    summary="List one's reviews 查询本人复核",
    response_model=ReviewsView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def read_my_reviews(request: Request) -> Response:
    """Why points wait, in words, until when, and what became of earlier reviews; the newest first."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "balance:read")
    if caller.participant_id is None:
        raise Forbidden
    headers = await charge(request, caller)
    async with own_rows(platform.pool, caller.participant_id) as connection:
        now = platform.fresh.clock()
        found = await read_own(connection, platform.vault, caller.participant_id, now, LISTED)
    views = [review_view(each, language, to_operator=False) for each in found]
    return answered(200, {"reviews": views, "next": None}, headers, request)


@router.post(
    "/me/reviews/{review_id}/answer",
    summary="Answer a review 申辩",
    response_model=ReviewView,
    responses=openapi_problems(*BODY_PROBLEMS, "review-not-found", "review-ended"),
    openapi_extra=openapi_body(model=ReviewAnswer),
)
async def post_answer(request: Request, review_id: UUID) -> Response:
    """Say what there is to say before it is decided; as often as needed, as long as it is open."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "profile:write")
    if caller.participant_id is None:
        raise Forbidden
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(ReviewAnswer, content)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        found = await answer_review(
            connection, platform.vault, caller.participant_id, review_id, body.words, platform.fresh
        )
    return answered(200, review_view(found, language, to_operator=False), headers, request)


@router.get(
    "/reviews",
    summary="The queue of reviews 复核队列",
    response_model=ReviewsView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "invalid-cursor"),
)
async def read_queue(
    request: Request,
    open_only: Annotated[bool, Query(alias="open", description="those that have not ended")] = False,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Reviews in the order in which they were opened, with their signals and answers, by pseudonyms alone."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "reviews:read")
    headers = await charge(request, caller)
    whose = f"reviews {open_only}".encode("ascii")
    place = (_BEGINNING, UUID(int=0)) if after is None else _place(unseal(platform.keyring, whose, after))
    async with platform.pool.acquire() as connection:
        found = await list_reviews(
            connection,
            platform.vault,
            open_only=open_only,
            after=place,
            limit=LISTED + 1,
            now=platform.fresh.clock(),
        )
    shown = found[:LISTED]
    last = shown[-1] if len(found) > LISTED else None
    cursor = None if last is None else seal(platform.keyring, whose, _mark(last))
    views = [review_view(each, language, to_operator=caller.role == "operator") for each in shown]
    return answered(200, {"reviews": views, "next": cursor}, headers, request)


@router.get(
    "/reviews/{review_id}",
    summary="Read a review 查询复核",
    response_model=ReviewView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "review-not-found"),
)
async def read_review(request: Request, review_id: UUID) -> Response:
    """One review."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "reviews:read")
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        found = await read_one(connection, platform.vault, review_id, platform.fresh.clock())
    view = review_view(found, language, to_operator=caller.role == "operator")
    return answered(200, view, headers, request)


@router.post(
    "/reviews/{review_id}/decisions",
    summary="Decide a review 裁定复核",
    response_model=ReviewView,
    responses=PROPOSED
    | openapi_problems(
        *BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS, "review-not-found", "review-ended", "review-reason", *POSTING_PROBLEMS
    ),
    openapi_extra=openapi_body(model=ReviewDecision),
)
async def post_decision(request: Request, review_id: UUID) -> Response:
    """Release the credits, or confirm that they were not earned: then every one of them that stands is reversed first,
    for which two operators are needed. The same call again goes on where it was interrupted."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "reviews:decide")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(ReviewDecision, content)
    if body.reason not in (RELEASE_REASONS if body.outcome == "release" else CONFIRM_REASONS):
        raise Problem("review-reason", outcome=body.outcome, reason=body.reason)
    async with platform.pool.acquire() as connection:
        found = await require_open(connection, platform.vault, review_id, platform.fresh.clock())
    if body.outcome == "confirm":
        proposed = await require_two(request, caller, raw_body(request))
        if proposed is not None:
            return proposed
    by = operator_code(platform, caller)
    while True:
        if body.outcome == "confirm":
            await _reverse(platform, found)
        async with platform.pool.acquire() as connection:
            try:
                async with connection.transaction(isolation="read_committed"):
                    decided = await decide_review(
                        connection, platform.vault, review_id, body.outcome, body.reason, body.words, by, platform.fresh
                    )
            except CreditsStand:  # more has joined the review since it was read
                found = await require_open(connection, platform.vault, review_id, platform.fresh.clock())
                continue
        return answered(200, review_view(decided, language, to_operator=True), headers, request)


async def _reverse(platform: Platform, found: Reviewed) -> None:
    """Reverse what stands of the credits. One that somebody else has reversed meanwhile is done."""
    fresh = platform.fresh
    orders = [
        Reverse(
            found.participant_id, activity_id, "evidence_disproved", "operator", fresh.id(), fresh.random(NONCE_BYTES)
        )
        for activity_id, points in found.credits
        if points is not None
    ]
    for outcome in await platform.poster.post(orders) if orders else ():
        if isinstance(outcome, Refusal) and outcome.slug != "already-reversed":
            told: dict[str, Any] = {**clean(dict(outcome.params))}
            raise Problem(outcome.slug, **told)


@router.get(
    "/signals",
    summary="Latest signals 最近的异常信号",
    response_model=FoundsView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def read_signals(request: Request) -> Response:
    """What was found of people last, weak signals too, which open no review."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "reviews:read")
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        found = await list_signals(connection, LISTED)
    views = [
        signal_view(one, language)
        | {"participant_id": str(participant_id), "review_id": None if review_id is None else str(review_id)}
        for participant_id, review_id, one in found
    ]
    return answered(200, {"signals": views}, headers, request)


@router.get(
    "/signals/sources",
    summary="Signals about sources 数据方异常信号",
    response_model=SourceSignalsView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def read_source_signals(request: Request) -> Response:
    """Days on which a source was unlike its own past. Nothing is held for them: an operator asks the source."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "reviews:read")
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        found = await list_source_signals(connection, LISTED)
    return answered(200, {"signals": [_source_view(each, language) for each in found]}, headers, request)


def review_view(found: Reviewed, language: Language, *, to_operator: bool) -> dict[str, Any]:
    """A ReviewView in one language; which operator it was only operators read."""
    return {
        "review_id": str(found.review_id),  # the driver's ids are of a class that orjson does not know
        "participant_id": str(found.participant_id),
        "state": found.state,
        "state_title": word(found.state, language, "review"),
        "points": found.points if found.state == "open" else 0,
        "opened_at": found.opened_at,
        "due_at": found.due_at,
        "ended_at": found.ended_at,
        "signals": [signal_view(one, language) for one in found.signals],
        "credits": [str(activity_id) for activity_id, _ in found.credits],
        "steps": [
            {
                "number": step.number,
                "step": step.step,
                "title": word(step.step, language, "review"),
                "party": step.party,
                "operator": step.operator if to_operator else None,
                "reason": step.reason,
                "reason_title": step.reason and word(step.reason, language, "review"),
                "words": step.words,
                "recorded_at": step.recorded_at,
            }
            for step in found.steps
        ],
    }


def signal_view(one: Signal, language: Language) -> dict[str, Any]:
    """A SignalView in one language."""
    return {
        "signal_id": str(one.signal_id),
        "rule": one.rule,
        "version": one.version,
        "strength": one.strength,
        "title": getattr(one.title, language),
        "told": getattr(one.told, language),
        "values": one.values,
        "found_at": one.found_at,
    }


def _source_view(found: SourceFinding, language: Language) -> dict[str, Any]:
    return {
        "source": found.source,
        "day": found.day,
        "rule": found.rule,
        "version": found.version,
        "title": getattr(found.title, language),
        "told": getattr(found.told, language),
        "values": found.values,
        "found_at": found.found_at,
    }


def _mark(last: Reviewed) -> bytes:
    return ((last.opened_at - _BEGINNING) // _MICROSECOND).to_bytes(8, "big") + last.review_id.bytes


def _place(mark: bytes) -> tuple[datetime, UUID]:
    return _BEGINNING + int.from_bytes(mark[:8], "big") * _MICROSECOND, UUID(bytes=mark[8:])
