"""Liability 负债: what is left of each pool, for everybody; points outstanding, burn and forecast, for operators."""

from datetime import date, datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.auth.callers import Forbidden
from api.dependencies import CALL_PROBLEMS, admit, charge, platform_of
from api.problems import openapi_problems
from api.v1.manifests import answered
from service.redemption.pools import Pool, pool_code, read_pool, read_pools
from service.settlement.liability import Liability, PoolStatus, read_liability, read_pool_statuses

router = APIRouter(tags=["pools"])


class AmountView(BaseModel):
    """Whole points, and the fen (a hundredth of a yuan) that they cost the pool."""

    points: int
    fen: int


class PoolView(BaseModel):
    """A reward pool 权益资金池: whose money it is, the rules stated before anybody drew on it, and what is left.

    rate      it pays at most so many fen for so many points
    shortage  what happens when it is short: `stop`, `queue` or `pro_rata`
    terms     SHA-256 of its terms, as in the log
    """

    pool: str
    title_zh: str
    title_en: str
    funder: str
    state: Literal["open", "suspended", "closed"]
    rate: AmountView
    shortage: Literal["stop", "queue", "pro_rata"]
    points_per_day: int | None
    points_per_person_per_day: int | None
    budget: AmountView
    left: AmountView
    terms: str
    opened_at: datetime


class PoolsView(BaseModel):
    """Every pool, by code."""

    pools: list[PoolView]


class ExpiryView(BaseModel):
    """Points that can be used until the end of a day, and not after it."""

    expires_on: date
    points: int


class PoolStatusView(BaseModel):
    """A pool, what of its budget is held and what is paid, how much went in the last days, and when it is empty at
    that rate; `empty_on` is null when that is not to be seen."""

    pool: PoolView
    held: AmountView
    paid: AmountView
    burn_days: int
    burnt: AmountView
    empty_on: date | None


class LiabilityView(BaseModel):
    """What is owed as of one moment: points by the day they expire on, others by why they cannot be used now.

    available         all of `by_expiry`
    held_ended        in holds whose time has passed, about to come back
    lapsed_unwritten  past their day, and not written down yet: owed to nobody
    closed            of `available` and `pending`, in accounts of people who were forgotten: nobody can use them
    """

    at: datetime
    programme: str
    available: int
    by_expiry: list[ExpiryView]
    pending: int
    held: int
    held_ended: int
    lapsed_unwritten: int
    debt: int
    closed: int
    pools: list[PoolStatusView]


class FundedView(BaseModel):
    """The pools of one funder, by code."""

    pools: list[PoolStatusView]


@router.get(
    "/pools",
    summary="List reward pools 权益资金池列表",
    response_model=PoolsView,
    responses=openapi_problems("temporarily-unavailable"),
)
async def list_pools(request: Request) -> Response:
    """Every pool with its budget and what is left of it. Open to anyone."""
    async with platform_of(request).pool.acquire() as connection:
        pools = await read_pools(connection)
    return answered(200, {"pools": [pool_view(pool) for pool in pools]}, {}, request)


@router.get(
    "/pools/{pool}",
    summary="Read a reward pool 查询权益资金池",
    response_model=PoolView,
    responses=openapi_problems("pool-not-found", "temporarily-unavailable"),
)
async def read_one_pool(request: Request, pool: str) -> Response:
    """One pool with its budget and what is left of it. Open to anyone."""
    async with platform_of(request).pool.acquire() as connection:
        found = await read_pool(connection, pool_code(pool))
    return answered(200, pool_view(found), {}, request)


@router.get(
    "/liability",
    summary="Read what is owed 查询负债",
    response_model=LiabilityView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def read_owed(request: Request) -> Response:
    """Points outstanding by expiry, held points, and how long each pool lasts at the burn of the last thirty days."""
    platform = platform_of(request)
    caller = await admit(request, "pools:write")
    headers = await charge(request, caller)
    settings = platform.settings
    async with (
        platform.counting,
        platform.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        owed = await read_liability(connection, settings.programme, settings.clock_offset)
        statuses = await read_pool_statuses(connection, platform.today())
    return answered(200, liability_view(owed, statuses), headers, request)


@router.get(
    "/funder/pools",
    summary="Read how one's own pools are used 查询本出资方的资金池",
    response_model=FundedView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def read_funded(request: Request) -> Response:
    """The pools that the funder of this token pays for: what is held and paid of each, and how long it lasts. Sums
    alone: nobody's redemption can be seen."""
    platform = platform_of(request)
    caller = await admit(request, "pools:read")
    if caller.funder is None:
        raise Forbidden
    headers = await charge(request, caller)
    async with (
        platform.counting,
        platform.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        statuses = await read_pool_statuses(connection, platform.today(), caller.funder)
    return answered(200, {"pools": _statuses(statuses)}, headers, request)


def pool_view(pool: Pool) -> dict[str, Any]:
    """A PoolView."""
    terms = pool.terms
    return {
        "pool": terms.pool,
        "title_zh": terms.title_zh,
        "title_en": terms.title_en,
        "funder": terms.funder,
        "state": pool.state,
        "rate": _amount(terms.rate_points, terms.rate_fen),
        "shortage": terms.shortage,
        "points_per_day": terms.points_per_day,
        "points_per_person_per_day": terms.points_per_person_per_day,
        "budget": _amount(pool.budget_points, pool.budget_fen),
        "left": _amount(pool.left_points, pool.left_fen),
        "terms": pool.digest.hex(),
        "opened_at": pool.opened_at,
    }


def liability_view(owed: Liability, statuses: list[PoolStatus]) -> dict[str, Any]:
    """A LiabilityView."""
    plain = ("at", "programme", "available", "pending", "held", "held_ended", "lapsed_unwritten", "debt", "closed")
    return {
        **{name: getattr(owed, name) for name in plain},
        "by_expiry": [{"expires_on": day, "points": points} for day, points in owed.by_expiry.items()],
        "pools": _statuses(statuses),
    }


def _statuses(statuses: list[PoolStatus]) -> list[dict[str, Any]]:
    return [
        {
            "pool": pool_view(status.pool),
            "held": _amount(status.held_points, status.held_fen),
            "paid": _amount(status.paid_points, status.paid_fen),
            "burn_days": status.burn_days,
            "burnt": _amount(status.burnt_points, status.burnt_fen),
            "empty_on": status.empty_on,
        }
        for status in statuses
    ]


def _amount(points: int, fen: int) -> dict[str, int]:
    return {"points": points, "fen": fen}
