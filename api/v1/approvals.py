"""Approve 授权 what a bank asks: the participant sees what, for how much, and what the bank learns, and decides."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

from fastapi import APIRouter
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth.callers import require_person
from api.board import told
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.platform import Platform
from api.problems import Language, Problem, language_of, openapi_problems
from api.redemptions import PLACE_PROBLEMS, POSTING_PROBLEMS, post_step
from api.v1.manifests import answered
from api.v1.redemptions import ConsentGiven, agreed
from service.banks.requests import StoredRequest, claim_request, decline_request, find_request, let_go
from service.database import Connection
from service.products.facts import read_facts
from service.products.model import Facts, Offer, lacking, reasons
from service.redemption.placing import FromBank, build_hold, call_of

router = APIRouter(prefix="/approvals", tags=["redemptions"])

Code = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{22}$", description="the code that the bank handed over")]
Finding: TypeAlias = Callable[[Connection], Awaitable[StoredRequest]]


class ApprovalView(BaseModel):
    """What a bank asks, and what it would cost this participant now. Nothing is reserved.

    state      `pending` can be approved or declined
    points     to be approved as they stand here; a price that changed by then is refused
    discloses  what the bank will learn; `consent_text` what is agreed to, under its `text_version`
    why_not    why it cannot be redeemed now; empty when it can
    """

    request_id: UUID
    state: Literal["pending", "approved", "declined", "expired"]
    bank: str
    bank_title: str
    reference: str | None
    offer: str
    offer_version: int
    title: str
    units: int
    points: int
    value_fen: int
    reduction_mg: int
    hold_seconds: int
    discloses: str
    consent_text: str
    text_version: str
    eligible: bool
    why_not: list[dict[str, Any]]
    expires_at: datetime
    redemption_id: UUID | None


class ApprovalGiven(BaseModel):
    """That the participant agrees: to which wording, when, and for how many points, as the request showed them."""

    model_config = ConfigDict(strict=True, extra="forbid")

    points: Annotated[int, Field(ge=1, le=2**62)]
    consent: ConsentGiven


class DeclinedView(BaseModel):
    """The request as it stands now."""

    request_id: UUID
    state: Literal["declined"]


@router.get(
    "/{code}",
    summary="Read what a bank asks 查看银行请求",
    response_model=ApprovalView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "approval-not-found", "approval-ended"),
)
async def read_approval(request: Request, code: Code) -> Response:
    """What the bank of this code asks for, and what it would cost and give the participant who reads it."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "redemptions:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    now = platform.fresh.clock()
    async with platform.pool.acquire() as connection:
        asked = await find_request(connection, code)
        if asked.state(now) == "pending":
            asked.require_open_to(participant_id, now)
        content = await view_for(connection, platform, asked, participant_id, language)
    return answered(200, content, headers | {"Cache-Control": "no-store"}, request)


@router.post(
    "/{code}",
    status_code=201,
    summary="Approve what a bank asks 同意兑换",
    responses=openapi_problems(
        *BODY_PROBLEMS,
        "approval-not-found",
        "approval-ended",
        "consent-not-valid",
        "idempotency-conflict",
        *PLACE_PROBLEMS,
        *POSTING_PROBLEMS,
    ),
    openapi_extra=openapi_body(model=ApprovalGiven),
)
async def approve(request: Request, code: Code) -> Response:
    """Agree: the points are held for the bank, which has accepted already and cannot be cancelled on. Once only; the
    same again is answered as it stands."""
    caller = await admit(request, "redemptions:write")
    participant_id = require_person(caller)
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    given = parsed(ApprovalGiven, content)
    return await approve_found(request, partial(find_request, code=code), participant_id, given, headers)


async def approve_found(
    request: Request, find: Finding, participant_id: UUID, given: ApprovalGiven, headers: dict[str, str]
) -> Response:
    """Hold the points for the request that `find` finds, in the name of this person. Raises what `approve` ends
    with."""
    platform = platform_of(request)
    async with platform.pool.acquire() as connection:
        asked = await find(connection)
        offer = _offer(platform, asked)
        consent = agreed(platform, asked.units, given.points, given.consent)
        command = build_hold(
            participant_id,
            offer,
            asked.bank_id,
            consent,
            call_of("approval", f"{asked.request_id}/{asked.attempt}", participant_id, given.points),
            platform.fresh,
            FromBank(asked.request_id, asked.reference, asked.call_id, asked.signature),
        )
        await claim_request(connection, asked, participant_id, platform.fresh.clock())
    try:
        return await post_step(platform, command, request, headers)
    except Problem:  # decided, and nothing held: unlike a database that went away, which may have held them
        async with platform.pool.acquire() as connection:
            await let_go(connection, asked, participant_id)
        raise


@router.post(
    "/{code}/decline",
    summary="Decline what a bank asks 拒绝兑换",
    response_model=DeclinedView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "approval-not-found", "approval-ended"),
)
async def decline(request: Request, code: Code) -> Response:
    """Decline: the bank learns that it was declined, and not by whom."""
    caller = await admit(request, "redemptions:write")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    return await decline_found(request, partial(find_request, code=code), participant_id, headers)


async def decline_found(request: Request, find: Finding, participant_id: UUID, headers: dict[str, str]) -> Response:
    """Decline the request that `find` finds, in the name of this person. Raises what `decline` ends with."""
    platform = platform_of(request)
    settings = platform.settings
    async with platform.pool.acquire() as connection:
        asked = await find(connection)
        await decline_request(connection, asked, participant_id, platform.fresh.clock(), settings.clock_offset)
    return answered(200, {"request_id": str(asked.request_id), "state": "declined"}, headers, request)


async def view_for(
    tx: Connection, platform: Platform, asked: StoredRequest, participant_id: UUID, language: Language
) -> dict[str, Any]:
    """An ApprovalView of a request as this person sees it now. Raises Problem temporarily-unavailable."""
    offer = _offer(platform, asked)
    facts = (await read_facts(tx, participant_id, [offer.id], platform.fresh.clock()))[offer.id]
    return _view(platform, asked, offer, facts, language)


def _offer(platform: Platform, asked: StoredRequest) -> Offer:
    entry = platform.offers.entry("offer", asked.offer, asked.offer_version)
    if entry is None or not isinstance(entry.document, Offer):  # another process listed it a moment ago
        raise Problem("temporarily-unavailable", headers={"Retry-After": "2"})
    return entry.document


def _view(platform: Platform, asked: StoredRequest, offer: Offer, facts: Facts, language: Language) -> dict[str, Any]:
    points = offer.points(asked.units, facts)
    entry = platform.offers.entry("offer", offer.id, offer.version)
    against = [
        *(platform.offers.why_not(entry, platform.today()) if entry else ()),
        *reasons(offer, facts, asked.units),
    ]
    short = lacking(offer, facts, asked.units)
    why_not = told([*against, *([short] if short else [])], language)
    return {
        "request_id": str(asked.request_id),
        "state": asked.state(platform.fresh.clock()),
        "bank": asked.bank,
        "bank_title": asked.bank_title_zh if language == "zh" else asked.bank_title_en,
        "reference": asked.reference,
        "offer": offer.id,
        "offer_version": offer.version,
        "title": getattr(offer.title, language),
        "units": asked.units,
        "points": points,
        "value_fen": offer.value_fen(asked.units),
        "reduction_mg": offer.co2e_mg(points),
        "hold_seconds": offer.hold_seconds,
        "discloses": getattr(offer.discloses, language),
        "consent_text": getattr(offer.consent_text, language),
        "text_version": offer.text_version,
        "eligible": not why_not,
        "why_not": why_not,
        "expires_at": asked.expires_at,
        "redemption_id": asked.redemption_id and str(asked.redemption_id),
    }
