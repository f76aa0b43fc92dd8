"""A bank's signed calls about redemptions: accept, capture, void, refund, and say that the benefit was given."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth.callers import Forbidden
from api.body import media_type, parse_json, read_body
from api.cursors import seal, unseal
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, JSON, Model, admit, charge, openapi_body, parsed, platform_of
from api.entitlements import require_entitlement
from api.platform import Platform
from api.problems import Problem, openapi_problems
from api.redemptions import POSTING_PROBLEMS, STEP_PROBLEMS, not_found, post_step, redemption_view, told_view
from api.routing import DirectRoute
from api.signatures import SignedCall, require_signed
from api.signatures.calls import MONEY_PROBLEMS, SIGNED_PROBLEMS, calling_bank
from api.v1.bank_requests import BankReference
from api.v1.manifests import answered
from api.v1.redemptions import LONGEST_PAGE, PAGE, Units
from api.v1.sources import Day
from service.redemption.commands import CaptureHold, Order, RedemptionCommand, RefundCapture, ReleaseHold
from service.redemption.placing import call_of
from service.redemption.reading import (
    NothingCaptured,
    accept,
    fulfil,
    read_bank_redemptions,
    read_redemption,
)

router = APIRouter(prefix="/bank", tags=["bank redemptions"])
busy = APIRouter(prefix="/bank", tags=["bank redemptions"], route_class=DirectRoute)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class EntitlementPresented(_Strict):
    """The entitlement as the customer gave it to the bank."""

    entitlement: Annotated[str, Field(min_length=1, max_length=4000)]


class CaptureWanted(_Strict):
    """Use so many units of the hold, all that is left without a number; `final` gives back what is left then."""

    units: Units | None = None
    final: bool = False


class VoidWanted(_Strict):
    """Give the whole rest of the hold back."""


class RefundWanted(_Strict):
    """Why the points of a capture go back: the product was given up, its benefit never came, or it was an error."""

    reason: Literal["cancelled", "not_fulfilled", "posted_in_error"]


class FulfilmentTold(_Strict):
    """The benefit was given: the bank's own reference, which the customer may quote and which names nobody, and the
    day."""

    reference: BankReference
    on: Day


@dataclass(frozen=True, slots=True)
class _Called:
    """A signed call about one redemption of the bank."""

    signed: SignedCall
    participant_id: UUID
    headers: dict[str, str]
    client: str
    body: bytes


async def _called(request: Request, redemption_id: UUID, *, money: bool = True, lasting: bool = True) -> _Called:
    """Whose redemption it is, once the call is known to be the bank's. Raises the problems of the order of checks."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:write")
    if caller.bank is None:
        raise Forbidden
    if media_type(request.headers) != JSON:
        raise Problem("unsupported-media-type", accepted=JSON)
    body = await read_body(request, platform.settings.max_body_bytes)
    headers = await charge(request, caller, 1)
    signed = await require_signed(request, body, caller, money, lasting=lasting)
    participant_id = await platform.owners.ask((redemption_id, signed.bank.bank_id))
    if participant_id is None:
        raise not_found()
    return _Called(signed, participant_id, headers, caller.client, body)


def _read(model: type[Model], called: _Called) -> Model:
    return parsed(model, parse_json(called.body))


def _order(called: _Called, *asked: object) -> Order:
    key = called.signed.idempotency_key
    assert key is not None  # a call about money has one
    return Order("bank", call_of(called.client, key, *asked), called.signed.call_id, called.signed.digest_hex)


async def _step(
    request: Request, redemption_id: UUID, build: Callable[[Platform, _Called], RedemptionCommand]
) -> Response:
    called = await _called(request, redemption_id)
    platform = platform_of(request)
    return await post_step(platform, build(platform, called), request, called.headers)


@busy.post(
    "/redemptions/{redemption_id}/accept",
    summary="Accept an entitlement 接受凭证",
    responses=openapi_problems(
        *BODY_PROBLEMS, *SIGNED_PROBLEMS, "entitlement-refused", "redemption-not-found", "hold-ended"
    ),
    openapi_extra=openapi_body(model=EntitlementPresented),
)
async def accept_entitlement(request: Request, redemption_id: UUID) -> Response:
    """Present the customer's entitlement. From now on the hold is the bank's to capture or to void, and the customer
    cannot cancel it. The same again is answered as it stands."""
    called = await _called(request, redemption_id, money=False)
    platform = platform_of(request)
    wanted = _read(EntitlementPresented, called)
    require_entitlement(platform, wanted.entitlement, called.signed.bank.uri, redemption_id)
    ids = (called.participant_id, redemption_id)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        await accept(connection, *ids, called.signed.call_id, platform.settings.clock_offset)
        found = await read_redemption(connection, *ids)
    assert found is not None  # its owner was found
    if found.state.accepted_at is None:
        raise Problem("hold-ended", state=str(redemption_view(found.state, platform.fresh.clock())["state"]))
    return answered(200, told_view(found, platform.fresh.clock()), called.headers, request)


@busy.post(
    "/redemptions/{redemption_id}/capture",
    summary="Capture a hold 扣减积分",
    responses=openapi_problems(
        *BODY_PROBLEMS, *MONEY_PROBLEMS, *STEP_PROBLEMS, "not-accepted", "units-beyond-hold", *POSTING_PROBLEMS
    ),
    openapi_extra=openapi_body(model=CaptureWanted),
)
async def capture(request: Request, redemption_id: UUID) -> Response:
    """Use the hold, wholly or in part: a hold that stands can always be captured, whatever became of its offer."""

    def build(platform: Platform, called: _Called) -> RedemptionCommand:
        wanted = _read(CaptureWanted, called)
        order = _order(called, "capture", redemption_id, wanted.units, wanted.final)
        ids = (called.participant_id, redemption_id, order, platform.fresh.id())
        return CaptureHold(*ids, called.signed.bank.bank_id, wanted.units, wanted.final)

    return await _step(request, redemption_id, build)


@busy.post(
    "/redemptions/{redemption_id}/void",
    summary="Void a hold 解冻积分",
    responses=openapi_problems(*BODY_PROBLEMS, *MONEY_PROBLEMS, *STEP_PROBLEMS, "not-accepted", *POSTING_PROBLEMS),
    openapi_extra=openapi_body(model=VoidWanted),
)
async def void(request: Request, redemption_id: UUID) -> Response:
    """Give back all that is still held: the points return to the customer, what they cost to the pool."""

    def build(platform: Platform, called: _Called) -> RedemptionCommand:
        _read(VoidWanted, called)
        order = _order(called, "void", redemption_id)
        ids = (called.participant_id, redemption_id, order, platform.fresh.id())
        return ReleaseHold(*ids, "voided", called.signed.bank.bank_id)

    return await _step(request, redemption_id, build)


@router.post(
    "/redemptions/{redemption_id}/captures/{capture_id}/refund",
    summary="Refund a capture 退回积分",
    responses=openapi_problems(
        *BODY_PROBLEMS,
        *MONEY_PROBLEMS,
        "redemption-not-found",
        "idempotency-conflict",
        "already-refunded",
        *POSTING_PROBLEMS,
    ),
    openapi_extra=openapi_body(model=RefundWanted),
)
async def refund(request: Request, redemption_id: UUID, capture_id: UUID) -> Response:
    """Take a capture back, once and whole: the loan was cancelled, the benefit never came. Points that have run out
    meanwhile lapse at once, and the answer says how many."""

    def build(platform: Platform, called: _Called) -> RedemptionCommand:
        wanted = _read(RefundWanted, called)
        order = _order(called, "refund", redemption_id, capture_id, wanted.reason)
        ids = (called.participant_id, redemption_id, order, platform.fresh.id())
        return RefundCapture(*ids, capture_id, wanted.reason, called.signed.bank.bank_id)

    return await _step(request, redemption_id, build)


@router.post(
    "/redemptions/{redemption_id}/fulfilment",
    summary="Report the benefit given 报告权益兑现",
    responses=openapi_problems(*BODY_PROBLEMS, *SIGNED_PROBLEMS, "redemption-not-found", "nothing-captured"),
    openapi_extra=openapi_body(model=FulfilmentTold),
)
async def report_fulfilment(request: Request, redemption_id: UUID) -> Response:
    """Say that the customer has the benefit, under the bank's own reference. The same again changes nothing; another
    one is kept beside it."""
    called = await _called(request, redemption_id, money=False, lasting=False)
    platform = platform_of(request)
    wanted = _read(FulfilmentTold, called)
    on: date = wanted.on
    ids = (called.participant_id, redemption_id)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        found = await read_redemption(connection, *ids)
        assert found is not None  # its owner was found
        try:
            offset = platform.settings.clock_offset
            await fulfil(connection, found, wanted.reference, on, called.signed.call_id, offset)
        except NothingCaptured:
            raise Problem("nothing-captured") from None
        found = await read_redemption(connection, *ids)
    assert found is not None
    return answered(200, told_view(found, platform.fresh.clock()), called.headers, request)


@router.get(
    "/redemptions",
    summary="List a bank's redemptions 银行兑换列表",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "invalid-cursor", "bank-not-registered"),
)
async def list_bank_redemptions(
    request: Request,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
) -> Response:
    """The redemptions that the bank has accepted, newest first: amounts and states, and nothing of the person."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    headers = await charge(request, caller)
    bank = await calling_bank(request, caller)
    whose = b"bank redemptions %d" % bank.bank_id
    before = {} if after is None else {"before": UUID(bytes=unseal(platform.keyring, whose, after))}
    async with platform.pool.acquire() as connection:
        found = await read_bank_redemptions(connection, bank.bank_id, limit=limit + 1, **before)
    shown, more = found[:limit], len(found) > limit
    content = {
        "redemptions": [redemption_view(state, platform.fresh.clock()) for state in shown],
        "next": seal(platform.keyring, whose, shown[-1].redemption_id.bytes) if more else None,
    }
    return answered(200, content, headers, request)


@router.get(
    "/redemptions/{redemption_id}",
    summary="Read a bank's redemption 银行查询兑换",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "bank-not-registered", "redemption-not-found"),
)
async def read_bank_redemption(request: Request, redemption_id: UUID) -> Response:
    """One redemption that the bank has accepted, with every step and its place in the log."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    headers = await charge(request, caller)
    bank = await calling_bank(request, caller)
    owner = await platform.owners.ask((redemption_id, bank.bank_id))
    async with platform.pool.acquire() as connection:
        found = await read_redemption(connection, owner, redemption_id) if owner else None
    if found is None or found.state.accepted_at is None:
        raise not_found()
    return answered(200, told_view(found, platform.fresh.clock()), headers, request)
