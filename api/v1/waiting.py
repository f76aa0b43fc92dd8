"""Wait for a pool that is short 候补, see one's place, and leave again."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_participant
from api.auth.callers import Forbidden
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.problems import openapi_problems
from api.v1.manifests import answered
from api.v1.redemptions import RedemptionWanted, agreed, listed_offer
from service.own import own_rows
from service.products.facts import read_facts
from service.redemption.pools import read_pool
from service.redemption.waiting import Wish, join, leave, read_wishes

router = APIRouter(tags=["redemptions"])

SHOWN = 100


class WishView(BaseModel):
    """What somebody waits for. `ahead` is how many wait before them; `reason` the problem type that ended it."""

    wish_id: str
    pool: str
    offer: str
    offer_version: int
    units: int
    points: int
    state: str
    ahead: int | None
    reason: str | None
    redemption_id: str | None
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None


class WishesView(BaseModel):
    """The latest wishes, newest first."""

    wishes: list[WishView]


@router.post(
    "/participants/{participant_id}/wishes",
    status_code=201,
    summary="Wait for a pool 候补兑换",
    response_model=WishView,
    responses=openapi_problems(
        *BODY_PROBLEMS,
        "participant-not-found",
        "offer-not-found",
        "pool-not-found",
        "consent-not-valid",
        "pool-not-short",
        "wish-too-large",
    ),
    openapi_extra=openapi_body(model=RedemptionWanted),
)
async def wait_for_pool(request: Request, participant_id: UUID) -> Response:
    """Wait until the pool can pay: in turn or sharing alike, as its terms say. No points are held meanwhile; the hold
    is placed on the words that were agreed to now, for thirty days at most. Who waits for this pool already is
    answered with what they said first."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:write")
    if caller.participant_id != participant_id:
        raise Forbidden
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    wanted = parsed(RedemptionWanted, content)
    offer = listed_offer(platform, wanted.offer, wanted.version)
    words = agreed(platform, wanted.units, wanted.points, wanted.consent)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        facts = (await read_facts(connection, participant_id, [offer.id], platform.fresh.clock()))[offer.id]
        pool = await read_pool(connection, offer.pool)
        wish = await join(connection, participant_id, offer, facts, words, pool, platform.fresh)
    return answered(201, _view(wish), headers, request)


@router.get(
    "/participants/{participant_id}/wishes",
    summary="List wishes 候补列表",
    response_model=WishesView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request"),
)
async def list_wishes(request: Request, participant_id: UUID) -> Response:
    """What a participant waits for, with their place, and what became of earlier wishes."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        wishes = await read_wishes(connection, participant_id, SHOWN)
    return answered(200, {"wishes": [_view(wish) for wish in wishes]}, headers, request)


@router.delete(
    "/participants/{participant_id}/wishes/{wish_id}",
    status_code=204,
    summary="Leave a queue 退出候补",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "wish-not-found"),
)
async def leave_queue(request: Request, participant_id: UUID, wish_id: UUID) -> Response:
    """Wait no longer."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:write")
    if caller.participant_id != participant_id:
        raise Forbidden
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        await leave(connection, participant_id, wish_id, platform.fresh.clock())
    return Response(None, 204, headers)


def _view(wish: Wish) -> dict[str, Any]:
    return {
        "wish_id": str(wish.wish_id),
        "pool": wish.pool,
        "offer": wish.offer,
        "offer_version": wish.offer_version,
        "units": wish.units,
        "points": wish.points,
        "state": wish.state,
        "ahead": wish.ahead,
        "reason": wish.reason,
        "redemption_id": None if wish.redemption_id is None else str(wish.redemption_id),
        "created_at": wish.created_at,
        "expires_at": wish.expires_at,
        "ended_at": wish.ended_at,
    }
