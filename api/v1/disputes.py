"""Disputes 争议: a benefit that never came. The participant opens one, the bank answers, the operator decides, and all
three see the same steps."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller, require_participant
from api.auth.callers import Forbidden
from api.body import media_type, parse_json, read_body
from api.cursors import seal, unseal
from api.dependencies import (
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    JSON,
    admit,
    charge,
    openapi_body,
    parsed,
    platform_of,
    raw_body,
    read_json,
)
from api.platform import Platform
from api.problems import Problem, openapi_problems
from api.redemptions import refused
from api.signatures import require_signed
from api.signatures.calls import SIGNED_PROBLEMS, calling_bank
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from api.v1.manifests import answered
from service.activities.intake import Refusal
from service.own import own_rows
from service.redemption.commands import MoneyCall, Order, RefundCapture
from service.settlement.decisions import FOR_PARTICIPANT, keep_decision, require_undecided
from service.settlement.disputes import (
    Disputed,
    Which,
    answer_dispute,
    decide_dispute,
    list_disputes,
    open_dispute,
    read_dispute,
    read_disputes,
    read_unrefunded,
    require_decidable,
    require_owner,
    withdraw_dispute,
)

router = APIRouter(tags=["disputes"])

LISTED = 100
_BEGINNING, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
Words = Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]+$")]


class DisputeWanted(BaseModel):
    """Why, as a code, and in the participant's own words, which the bank reads too."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: Literal["benefit_missing", "benefit_smaller", "not_requested", "charged_twice"]
    words: Words | None = None


class Withdrawal(BaseModel):
    """Perhaps why."""

    model_config = ConfigDict(strict=True, extra="forbid")

    words: Words | None = None


class BankAnswer(BaseModel):
    """Whether the bank accepts or rejects what is claimed, and why, which the participant reads."""

    model_config = ConfigDict(strict=True, extra="forbid")

    position: Literal["accepts", "rejects"]
    words: Words


class Decision(BaseModel):
    """For whom the operator decides, and why, which both read. For the participant: every capture is refunded."""

    model_config = ConfigDict(strict=True, extra="forbid")

    outcome: Literal["participant", "bank"]
    words: Words


class StepView(BaseModel):
    """A step; `words` are null where nothing was written or it was erased."""

    number: int
    step: str
    state: str
    party: Literal["participant", "bank", "operator", "rule"]
    position: Literal["accepts", "rejects"] | None
    words: str | None
    recorded_at: datetime


class DisputeView(BaseModel):
    """A dispute and every step of it. `waits_for` is whose turn it is, `due_on` the last day of it, `late` that this
    day has passed."""

    dispute_id: UUID
    redemption_id: UUID
    bank: str
    reason: str
    state: Literal["opened", "answered", "overdue", "resolved_for_participant", "resolved_for_bank", "withdrawn"]
    waits_for: Literal["bank", "operator"] | None
    due_on: date | None
    late: bool
    opened_at: datetime
    steps: list[StepView]


class DisputesView(BaseModel):
    """Disputes in the order in which they were opened; `next` goes on from the last one."""

    disputes: list[DisputeView]
    next: str | None = None


_OF_REDEMPTION = "/participants/{participant_id}/redemptions/{redemption_id}/disputes"
_STEP_PROBLEMS = (*BODY_PROBLEMS, "dispute-not-found", "dispute-step-refused")


@router.post(
    _OF_REDEMPTION,
    status_code=201,
    summary="Open a dispute 提出争议",
    response_model=DisputeView,
    responses=openapi_problems(*BODY_PROBLEMS, "dispute-not-found", "nothing-to-dispute", "dispute-exists"),
    openapi_extra=openapi_body(model=DisputeWanted),
)
async def post_dispute(request: Request, participant_id: UUID, redemption_id: UUID) -> Response:
    """Say that what points were spent on never came. The bank has fifteen days to answer, and the operator decides
    within fifteen more."""
    platform, (caller, content) = platform_of(request), await _read_own(request, participant_id)
    headers = await charge(request, caller)
    body = parsed(DisputeWanted, content)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        made = await open_dispute(
            connection, platform.vault, participant_id, redemption_id, body.reason, body.words, platform.fresh
        )
    return answered(201, dispute_view(made), headers, request)


@router.get(
    _OF_REDEMPTION,
    summary="List disputes of a redemption 查询争议",
    response_model=DisputesView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request"),
)
async def read_own_disputes(request: Request, participant_id: UUID, redemption_id: UUID) -> Response:
    """Every dispute about a redemption with its steps, for the participant and for operators."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        found = await read_disputes(connection, platform.vault, participant_id, redemption_id, platform.today())
    return answered(200, _list(found), headers, request)


@router.post(
    _OF_REDEMPTION + "/{dispute_id}/withdrawal",
    summary="Withdraw a dispute 撤回争议",
    response_model=DisputeView,
    responses=openapi_problems(*_STEP_PROBLEMS),
    openapi_extra=openapi_body(model=Withdrawal),
)
async def post_withdrawal(request: Request, participant_id: UUID, redemption_id: UUID, dispute_id: UUID) -> Response:
    """Take a dispute back, for instance because the benefit has come. Another may be opened later."""
    platform, (caller, content) = platform_of(request), await _read_own(request, participant_id)
    headers = await charge(request, caller)
    body, which = parsed(Withdrawal, content), Which(participant_id, redemption_id, dispute_id)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        found = await withdraw_dispute(connection, platform.vault, which, body.words, platform.fresh)
    return answered(200, dispute_view(found), headers, request)


@router.post(
    _OF_REDEMPTION + "/{dispute_id}/decision",
    summary="Decide a dispute 裁定争议",
    response_model=DisputeView,
    responses=PROPOSED
    | openapi_problems(*_STEP_PROBLEMS, *TWO_PEOPLE_PROBLEMS, "posting-suspended", "overloaded", "posting-failed"),
    openapi_extra=openapi_body(model=Decision),
)
async def post_decision(request: Request, participant_id: UUID, redemption_id: UUID, dispute_id: UUID) -> Response:
    """Decide, once the bank has answered or let its time pass. For the participant, every capture that stands is
    refunded first, for which two operators are needed; the same call again goes on where it was interrupted."""
    platform = platform_of(request)
    caller = await admit(request, "credits:reverse")
    content = await read_json(request)
    headers = await charge(request, caller)
    body, which = parsed(Decision, content), Which(participant_id, redemption_id, dispute_id)
    async with platform.pool.acquire() as connection:
        await require_decidable(connection, platform.vault, which, body.outcome, platform.today())
        captures = await read_unrefunded(connection, which) if body.outcome == FOR_PARTICIPANT else []
    if captures:
        proposed = await require_two(request, caller, raw_body(request))
        if proposed is not None:
            return proposed
        async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            decision = await keep_decision(connection, platform.vault, which, captures, platform.fresh)
        await _refund(platform, which, captures, decision)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        await require_undecided(connection, which, body.outcome)
        found = await decide_dispute(connection, platform.vault, which, body.outcome, body.words, platform.fresh)
    return answered(200, dispute_view(found), headers, request)


async def _refund(platform: Platform, which: Which, captures: list[UUID], decision: str | None) -> None:
    """Refund each capture under a key of its own, so that a decision that is sent again refunds nothing twice; each
    commits to the decision's record."""
    for capture_id in captures:
        key = f"dispute/{which.dispute_id}/{capture_id}"
        call = MoneyCall("platform:disputes", key, hashlib.sha256(key.encode("ascii")).digest())
        command = RefundCapture(
            participant_id=which.participant_id,
            redemption_id=which.redemption_id,
            order=Order("operator", call),
            transfer_id=platform.fresh.id(),
            capture_id=capture_id,
            reason="not_fulfilled",
            decision=decision,
        )
        (outcome,) = await platform.poster.post([command])
        if isinstance(outcome, Refusal) and outcome.slug != "already-refunded":  # the bank was quicker: it is done
            raise refused(outcome)


@router.get(
    "/disputes",
    summary="List disputes 争议列表",
    response_model=DisputesView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "invalid-cursor", "bank-not-registered"),
)
async def read_all_disputes(
    request: Request,
    open_only: Annotated[bool, Query(alias="open", description="those that have not ended")] = False,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """A bank's disputes, by the redemptions they are about; an operator sees those of all banks, without names."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    if caller.participant_id is not None:
        raise Forbidden
    headers = await charge(request, caller)
    bank_id = None if caller.bank is None else (await calling_bank(request, caller)).bank_id
    whose = f"disputes {bank_id} {open_only}".encode("ascii")
    place = (_BEGINNING, UUID(int=0)) if after is None else _place(unseal(platform.keyring, whose, after))
    async with platform.pool.acquire() as connection:
        found = await list_disputes(
            connection,
            platform.vault,
            bank_id,
            open_only=open_only,
            after=place,
            limit=LISTED + 1,
            today=platform.today(),
        )
    shown, more = found[:LISTED], len(found) > LISTED
    last = shown[-1] if more else None
    cursor = None if last is None else seal(platform.keyring, whose, _mark(last.opened_at, last.dispute_id))
    return answered(200, _list(shown, cursor), headers, request)


@router.post(
    "/bank/redemptions/{redemption_id}/disputes/{dispute_id}/answer",
    summary="Answer a dispute 答复争议",
    response_model=DisputeView,
    responses=openapi_problems(*_STEP_PROBLEMS, *SIGNED_PROBLEMS),
    openapi_extra=openapi_body(model=BankAnswer),
)
async def post_answer(request: Request, redemption_id: UUID, dispute_id: UUID) -> Response:
    """The bank's answer; the bank signs the call. A bank that accepts refunds the captures itself, or leaves it to the
    operator's decision."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:write")
    if caller.bank is None:
        raise Forbidden
    if media_type(request.headers) != JSON:
        raise Problem("unsupported-media-type", accepted=JSON)
    content = await read_body(request, platform.settings.max_body_bytes)
    document = parse_json(content)
    headers = await charge(request, caller)
    body = parsed(BankAnswer, document)
    call = await require_signed(request, content, caller, money=False, lasting=False)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        owner = await require_owner(connection, call.bank.bank_id, redemption_id)
        which = Which(owner, redemption_id, dispute_id)
        found = await answer_dispute(
            connection, platform.vault, which, body.position, body.words, call.call_id, platform.fresh
        )
    return answered(200, dispute_view(found), headers, request)


@router.get(
    "/bank/redemptions/{redemption_id}/disputes/{dispute_id}",
    summary="Read a dispute 查询争议详情",
    response_model=DisputeView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "bank-not-registered", "dispute-not-found"),
)
async def read_bank_dispute(request: Request, redemption_id: UUID, dispute_id: UUID) -> Response:
    """A dispute about a redemption with the bank of this token."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    headers = await charge(request, caller)
    bank = await calling_bank(request, caller)
    async with platform.pool.acquire() as connection:
        owner = await require_owner(connection, bank.bank_id, redemption_id)
        found = await read_dispute(
            connection, platform.vault, Which(owner, redemption_id, dispute_id), platform.today()
        )
    return answered(200, dispute_view(found), headers, request)


async def _read_own(request: Request, participant_id: UUID) -> tuple[Caller, Any]:
    """A call of the participant's own with its body: nobody else opens or withdraws what is theirs."""
    caller = await admit(request, "redemptions:write")
    if caller.participant_id != participant_id:
        raise Forbidden
    return caller, await read_json(request)


def dispute_view(found: Disputed) -> dict[str, Any]:
    """A DisputeView: the same for everybody, and without the participant."""
    standing = found.standing
    return {
        "dispute_id": str(found.dispute_id),  # the driver's ids are of a class that orjson does not know
        "redemption_id": str(found.redemption_id),
        "bank": found.bank,
        "reason": found.reason,
        "state": standing.state,
        "waits_for": standing.waits_for,
        "due_on": standing.due_on,
        "late": standing.late,
        "opened_at": found.opened_at,
        "steps": [{name: getattr(step, name) for name in StepView.model_fields} for step in found.steps],
    }


def _list(found: list[Disputed], cursor: str | None = None) -> dict[str, Any]:
    return {"disputes": [dispute_view(each) for each in found], "next": cursor}


def _mark(opened_at: datetime, dispute_id: UUID) -> bytes:
    return ((opened_at - _BEGINNING) // _MICROSECOND).to_bytes(8, "big") + dispute_id.bytes


def _place(mark: bytes) -> tuple[datetime, UUID]:
    return _BEGINNING + int.from_bytes(mark[:8], "big") * _MICROSECOND, UUID(bytes=mark[8:])
