"""Open reward pools 权益资金池, change their budgets, suspend and close them; everybody reads them (liability.py)."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import BODY_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, raw_body, read_json
from api.idempotency import read_idempotency_key
from api.operators import operator_code
from api.problems import openapi_problems
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from api.v1.activities import Name, Word
from api.v1.liability import pool_view
from api.v1.manifests import answered
from api.v1.sources import SourceUri
from service.participants import exclude_postings
from service.redemption.pools import PoolState, change_pool, open_pool, pool_code, read_pool, set_pool_state
from service.redemption.terms import PoolTerms, Shortage

router = APIRouter(tags=["pools"])

_MOST = 10**15  # points or fen: far above any budget, far below a bigint
Amount = Annotated[int, Field(ge=0, le=_MOST)]
Limit = Annotated[int, Field(ge=1, le=_MOST)]


class PoolOpening(BaseModel):
    """A pool's terms, which are stated once, and its first budget.

    funder                     who pays, an absolute URI
    rate_fen, rate_points      the pool pays at most so many fen for so many points
    shortage                   what happens when it is short
    points_per_day, points_per_person_per_day   limits of one Asia/Shanghai day; null is none
    points, value_fen          the budget it opens with
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    pool: Name
    funder: SourceUri
    title_zh: Word
    title_en: Word
    rate_fen: Amount
    rate_points: Limit
    shortage: Shortage
    points_per_day: Limit | None = None
    points_per_person_per_day: Limit | None = None
    points: Amount
    value_fen: Amount


class PoolChangeWanted(BaseModel):
    """By how much the budget changes: both from 0 to raise it, both to 0 to lower it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    points: Annotated[int, Field(ge=-_MOST, le=_MOST)]
    value_fen: Annotated[int, Field(ge=-_MOST, le=_MOST)]


class PoolStateWanted(BaseModel):
    """Whether anybody may draw on it, and why not, as a code that the log is told. What is held can be captured all the
    same."""

    model_config = ConfigDict(strict=True, extra="forbid")

    state: PoolState
    reason: Name = "by_operator"


@router.put(
    "/pools",
    summary="Open a reward pool 设立资金池",
    responses=PROPOSED | openapi_problems(*BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS, "pool-conflict", "posting-suspended"),
    openapi_extra=openapi_body(model=PoolOpening),
)
async def put_pool(request: Request) -> Response:
    """Open a pool with a budget, and tell the log. The same again changes nothing; other terms under its code are a
    conflict. Needs two operators."""
    platform = platform_of(request)
    caller = await admit(request, "pools:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    wanted = parsed(PoolOpening, content)
    platform.watch.require()
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    terms = PoolTerms(
        wanted.pool,
        platform.settings.programme,
        wanted.funder,
        wanted.title_zh,
        wanted.title_en,
        wanted.rate_fen,
        wanted.rate_points,
        wanted.shortage,
        wanted.points_per_day,
        wanted.points_per_person_per_day,
    )
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        budget = {"points": wanted.points, "fen": wanted.value_fen}
        await open_pool(connection, terms, **budget, by=operator_code(platform, caller), fresh=platform.fresh)
        found = await read_pool(connection, wanted.pool)
    return answered(200, pool_view(found), headers, request)


@router.post(
    "/pools/{pool}/changes",
    summary="Change a pool's budget 调整资金池预算",
    responses=PROPOSED
    | openapi_problems(
        *BODY_PROBLEMS,
        *TWO_PEOPLE_PROBLEMS,
        "idempotency-key-missing",
        "idempotency-conflict",
        "pool-not-found",
        "pool-change-mixed",
        "pool-budget-spent",
        "posting-suspended",
    ),
    openapi_extra=openapi_body(model=PoolChangeWanted),
)
async def change_budget(request: Request, pool: str) -> Response:
    """Pay more in, or take back what nothing was drawn from; the log is told. Needs an `Idempotency-Key`: the same
    again changes nothing. Needs two operators."""
    platform = platform_of(request)
    caller = await admit(request, "pools:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    key = read_idempotency_key(request)
    wanted = parsed(PoolChangeWanted, content)
    platform.watch.require()
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        change = {"points": wanted.points, "fen": wanted.value_fen}
        found = await change_pool(
            connection, pool_code(pool), **change, by=operator_code(platform, caller), fresh=platform.fresh, key=key
        )
    return answered(200, pool_view(found), headers, request)


@router.post(
    "/pools/{pool}/state",
    summary="Suspend or open a pool 暂停或开放资金池",
    responses=PROPOSED | openapi_problems(*BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS, "pool-not-found"),
    openapi_extra=openapi_body(model=PoolStateWanted),
)
async def change_state(request: Request, pool: str) -> Response:
    """Let nobody draw on a pool from this moment on, or let them again, which needs two operators. Holds that stand are
    not touched."""
    platform = platform_of(request)
    caller = await admit(request, "pools:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    wanted = parsed(PoolStateWanted, content)
    platform.watch.require()
    if wanted.state == "open" and (proposed := await require_two(request, caller, raw_body(request))) is not None:
        return proposed
    by = operator_code(platform, caller)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        await exclude_postings(connection)
        code = pool_code(pool)
        await set_pool_state(connection, code, wanted.state, by=by, fresh=platform.fresh, reason=wanted.reason)
        found = await read_pool(connection, code)
    return answered(200, pool_view(found), headers, request)
