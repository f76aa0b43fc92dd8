"""How the transparency log stands, for anybody: under which name and key it is signed, and how far."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import platform_of
from api.problems import openapi_problems
from service.log.status import report_log

router = APIRouter(tags=["log"])


class LogView(BaseModel):
    """The log that is being written.

    origin          its name, which its checkpoints bear
    prefix          where its checkpoint and tiles are, below this platform's address
    vkey            the verifier key that signs now; null before the first checkpoint
    vkeys           that key, those that were rotated out, and those of former epochs
    size            entries that have their place
    published_size  entries under the last checkpoint, made at `signed_at`
    refused         why nothing is signed and posted just now, a code; null when all is well
    """

    origin: str
    prefix: str
    vkey: str | None
    vkeys: list[str]
    epoch: int
    size: int
    published_size: int | None
    signed_at: datetime | None
    refused: str | None


@router.get(
    "/log",
    summary="The transparency log 透明日志",
    responses=openapi_problems("temporarily-unavailable"),
)
async def show_log(request: Request, response: Response) -> LogView:
    """Name, key and size of the log. Get the key from a source that you trust, too, and compare: a platform that would
    deceive you shows you another key."""
    platform = platform_of(request)
    async with platform.pool.acquire() as connection:
        log = await report_log(connection, platform.settings.log_origin, platform.settings.log_dir)
    response.headers["Cache-Control"] = "public, max-age=1"
    return LogView(
        origin=log.origin,
        prefix=log.prefix,
        vkey=log.vkeys[0] if log.vkeys else None,
        vkeys=list(log.vkeys),
        epoch=log.epoch,
        size=log.counts.size,
        published_size=log.signed,
        signed_at=log.signed_at,
        refused=log.refused,
    )
