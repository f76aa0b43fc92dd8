"""Whether the process lives, whether it can serve, and how far the log is behind."""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from api.dependencies import platform_of
from api.problems import Problem, openapi_problems
from ledger.log_store import read_status
from service.database import FAULTS

router = APIRouter(prefix="/health", tags=["health"])

PATIENCE_S = 2.0  # a probe that waits longer is as good as unanswered


@router.get("/alive", summary="Does the process live? 进程是否存活")
async def alive() -> dict[str, str]:
    """Answers as long as the event loop turns; asks nobody else."""
    return {"status": "alive"}


@router.get("/ready", summary="Can it serve? 能否服务", responses=openapi_problems("temporarily-unavailable"))
async def ready(request: Request) -> dict[str, Any]:
    """Ready when the database answers. Redis is told, but not needed: without it every process limits by itself. While
    posting is suspended reads go on, so the process is ready; `suspended_because` says why."""
    platform = platform_of(request)
    await _ask(platform.pool.fetchval("SELECT 1"))
    refused = platform.watch.refused
    return {
        "status": "ready",
        "database": "answers",
        "rate_limits": "shared" if platform.limiter.shared else "local",
        "posting": "suspended" if refused else "open",
        "suspended_because": refused,
    }


@router.get(
    "/lag", summary="How far is the log behind? 日志进度", responses=openapi_problems("temporarily-unavailable")
)
async def lag(request: Request) -> dict[str, int]:
    """The log's size, the leaves that wait for a place in it, and how many leaves the system totals have yet to take
    in."""
    async with platform_of(request).pool.acquire() as connection:
        status = await _ask(read_status(connection))
    return {"log_size": status.size, "queued": status.queued, "unfolded": status.size - status.folded_to}


async def _ask(question: Any) -> Any:
    try:
        return await asyncio.wait_for(question, PATIENCE_S)
    except FAULTS:
        raise Problem("temporarily-unavailable", headers={"Retry-After": "2"}) from None
