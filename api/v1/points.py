"""What a participant reads: balance, statement, one transfer explained; and the reversal of a credit."""

from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_participant
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
from api.explaining import explanation_view, stated_view, transfer_view
from api.problems import Problem, language_of, localized, openapi_problems
from api.reviewing import waiting_view
from api.routing import DirectRoute
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from ledger.leaves import NONCE_BYTES
from service.activities.intake import Refusal
from service.explaining import explain_transfer
from service.own import own_rows
from service.posting import Reverse, Reversed
from service.reading import Balance, read_stated
from service.rights.erasure import ErasureNotAsked, read_erasure
from service.signals.reviews import read_of_credit

router = APIRouter(tags=["points"])
busy = APIRouter(tags=["points"], route_class=DirectRoute)

PAGE, LONGEST_PAGE = 50, 200
FIRST_PAGE = 2**63 - 1  # above every counter

_READ = (*CALL_PROBLEMS, "malformed-request", "participant-not-found")


class Expiring(BaseModel):
    """Points that can be used up to and including this day."""

    on: date
    points: int


class PointsBalance(BaseModel):
    """`available` can be spent now; `held` is reserved; `pending` waits to be settled or matched; `debt` is owed after
    a reversal; `under_review` of the available points wait for a review (GET /v1/me/reviews)."""

    available: int
    held: int
    pending: int
    debt: int
    under_review: int
    expiring: list[Expiring]


class ReductionBalance(BaseModel):
    """Grams as whole milligrams CO2e; `pending_mg` wait to be settled, matched or registered."""

    credited_mg: int
    pending_mg: int
    debt_mg: int


class BalanceView(BaseModel):
    """A participant's balance. `closed_since` is there where the participant asked to be forgotten: nobody can use what
    is left, and points lapse on their day."""

    participant_id: UUID
    kind: str
    programme: str
    region: str
    points: PointsBalance
    reduction: ReductionBalance
    transfers: int
    closed_since: datetime | None = None


class StatementView(BaseModel):
    """A page of transfers, newest first; `next` is the cursor of the page after it, null on the last one."""

    transfers: list[dict[str, Any]]
    next: str | None


class ReversalWanted(BaseModel):
    """Why an operator takes the credit back; the other reasons are given by what happens."""

    model_config = ConfigDict(strict=True, extra="forbid")

    reason: Literal["source_retracted", "evidence_disproved", "posted_in_error"]


@busy.get(
    "/participants/{participant_id}/balance",
    summary="Read a balance 查询余额",
    response_model=BalanceView,
    responses=openapi_problems(*_READ),
)
async def read_balance(request: Request, participant_id: UUID) -> Response:
    """Points by state and by the day they run out, and grams."""
    platform = platform_of(request)
    caller = await admit(request, "balance:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    balance = await platform.balances.read(participant_id)
    if balance is None:
        raise Problem("participant-not-found")
    view = _balance_view(balance)
    if caller.participant_id is None:  # a participant's own token is refused once the account is closed
        async with platform.pool.acquire() as connection:
            with suppress(ErasureNotAsked):
                view["closed_since"] = (await read_erasure(connection, participant_id)).asked_at
    return Response(orjson.dumps(view, option=orjson.OPT_UTC_Z), 200, headers, "application/json")


def _balance_view(balance: Balance) -> dict[str, Any]:
    return {
        "participant_id": str(balance.participant_id),
        "kind": balance.kind,
        "programme": balance.programme,
        "region": balance.region,
        "points": {
            "available": balance.points_available,
            "held": balance.points_held,
            "pending": balance.points_pending,
            "debt": balance.points_debt,
            "under_review": balance.points_under_review,
            "expiring": [{"on": day.isoformat(), "points": points} for day, points in balance.expiring],
        },
        "reduction": {
            "credited_mg": balance.reduction_mg,
            "pending_mg": balance.reduction_pending_mg,
            "debt_mg": balance.reduction_debt_mg,
        },
        "transfers": balance.transfers,
    }


@router.get(
    "/participants/{participant_id}/statement",
    summary="Read a statement 查询明细",
    response_model=StatementView,
    responses=openapi_problems(*_READ, "invalid-cursor"),
)
async def read_statement_page(
    request: Request,
    participant_id: UUID,
    after: Annotated[str | None, Query(max_length=200, description="the `next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
) -> Response:
    """Every transfer of a participant, newest first. A page keeps its transfers while new ones arrive; `pending`,
    `reversed_by` and `matured_by` say what has become of a credit by now."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "balance:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    before = FIRST_PAGE
    if after is not None:
        before = int.from_bytes(unseal(platform.keyring, participant_id.bytes, after), "big")
    async with own_rows(platform.pool, participant_id) as connection:
        stated = await read_stated(connection, participant_id, platform.rules, before=before, limit=limit + 1)
    if not stated and await platform.balances.read(participant_id) is None:
        raise Problem("participant-not-found")
    page, more = stated[:limit], None
    if len(stated) > limit:
        place = page[-1].posted.transfer.counter.to_bytes(8, "big")
        more = seal(platform.keyring, participant_id.bytes, place)
    content = {"transfers": [stated_view(each, language) for each in page], "next": more}
    return Response(orjson.dumps(content), 200, {**headers, **localized(language)}, "application/json")


@router.get(
    "/participants/{participant_id}/transfers/{transfer_id}",
    summary="Explain a transfer 解释一笔划转",
    responses=openapi_problems(*_READ, "transfer-not-found"),
)
async def explain(request: Request, participant_id: UUID, transfer_id: UUID) -> Response:
    """One transfer; for a credit its methodology with version and digest, every factor with source and confidence, and
    the arithmetic."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "balance:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        review = await read_of_credit(connection, participant_id, transfer_id, platform.fresh.clock())
        explained = await explain_transfer(connection, platform.vault, participant_id, transfer_id, platform.rules)
    content = explanation_view(explained, language) | {"review": review and waiting_view(review, language)}
    return Response(orjson.dumps(content), 200, {**headers, **localized(language)}, "application/json")


@router.post(
    "/participants/{participant_id}/transfers/{transfer_id}/reversal",
    status_code=201,
    summary="Reverse a credit 冲正一笔入账",
    responses={
        200: {"description": "It was reversed before, for the same reason: that reversal", "model": dict[str, Any]},
        **PROPOSED,
        **openapi_problems(
            *BODY_PROBLEMS,
            *TWO_PEOPLE_PROBLEMS,
            "participant-not-found",
            "transfer-not-found",
            "not-reversible",
            "already-reversed",
            "posting-suspended",
            "overloaded",
            "posting-failed",
        ),
    },
    openapi_extra=openapi_body(model=ReversalWanted),
)
async def reverse(request: Request, participant_id: UUID, transfer_id: UUID) -> Response:
    """Take a credit back by a new transfer. It takes the points from their own bucket first; what is spent already
    becomes debt.

    A credit is reversed once: the same call again gets the same reversal. Needs two operators.
    """
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "credits:reverse")
    content = await read_json(request)
    headers = await charge(request, caller)
    wanted = parsed(ReversalWanted, content)
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    fresh = platform.fresh
    command = Reverse(participant_id, transfer_id, wanted.reason, "operator", fresh.id(), fresh.random(NONCE_BYTES))
    (outcome,) = await platform.poster.post([command])
    if isinstance(outcome, Refusal):
        params: dict[str, Any] = dict(outcome.params)
        raise Problem(outcome.slug, **params)
    assert isinstance(outcome, Reversed)
    view = transfer_view(outcome.transfer, language)
    status = 200 if outcome.repeated else 201
    return Response(orjson.dumps(view), status, {**headers, **localized(language)}, "application/json")
