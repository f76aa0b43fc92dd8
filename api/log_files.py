"""The transparency log over HTTP, as C2SP tlog-tiles lays it out: checkpoints and tiles for anybody, entries for
auditors.

What is served are the bytes that the publisher stored. Nothing is asked of the database.
"""

import asyncio
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import admit, charge, platform_of
from api.problems import Problem, openapi_problems
from ledger.errors import TileInvalid
from ledger.tiles import Tile, parse_path
from service.log.files import LogFiles

router = APIRouter(prefix="/log", tags=["log"])

CHECKPOINT_TYPE = "text/plain; charset=utf-8"
TILE_TYPE = "application/octet-stream"
_FRESH = {"Cache-Control": "public, max-age=2"}  # a checkpoint follows another each second
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_FOR_EVER_PRIVATE = {"Cache-Control": "private, max-age=31536000, immutable"}
_PUBLIC = ("log-not-found",)


@router.head("/checkpoint", include_in_schema=False)
@router.get(
    "/checkpoint",
    summary="The latest checkpoint 最新检查点",
    responses=openapi_problems(*_PUBLIC),
)
async def first_checkpoint(request: Request) -> Response:
    """The signed size and root of the first epoch's log, a signed note. Of a log that was given up: its last."""
    return await _checkpoint(request, 1)


@router.head("/epoch-{epoch:int}/checkpoint", include_in_schema=False)
@router.get(
    "/epoch-{epoch:int}/checkpoint",
    summary="The latest checkpoint of a further epoch 后续纪元的最新检查点",
    responses=openapi_problems(*_PUBLIC),
)
async def checkpoint(request: Request, epoch: int) -> Response:
    """The same of a further epoch, begun after an incident; its first leaf behind the entries it kept says why."""
    return await _checkpoint(request, _further(epoch))


@router.head("/tile/{path:path}", include_in_schema=False)
@router.get(
    "/tile/{path:path}",
    summary="A tile or an entry bundle 分片或条目包",
    responses=openapi_problems(*_PUBLIC, "unauthenticated", "forbidden", "quota-exceeded"),
)
async def first_tile(request: Request, path: str) -> Response:
    """Up to 256 hashes of one level, or with an auditor's token up to 256 entries, by the paths of tlog-tiles."""
    return await _tile(request, 1, path)


@router.head("/epoch-{epoch:int}/tile/{path:path}", include_in_schema=False)
@router.get(
    "/epoch-{epoch:int}/tile/{path:path}",
    summary="A tile or an entry bundle of a further epoch 后续纪元的分片或条目包",
    responses=openapi_problems(*_PUBLIC, "unauthenticated", "forbidden", "quota-exceeded"),
)
async def tile(request: Request, epoch: int, path: str) -> Response:
    """The same of a further epoch."""
    return await _tile(request, _further(epoch), path)


def _further(epoch: int) -> int:
    if epoch < 2:
        raise Problem("log-not-found", name=f"epoch-{epoch}")  # the first has no prefix: one thing has one address
    return epoch


async def _checkpoint(request: Request, epoch: int) -> Response:
    note = await asyncio.to_thread(_files(request, epoch).read_checkpoint)
    if note is None:
        raise Problem("log-not-found", name="checkpoint")
    return Response(note, headers=_FRESH, media_type=CHECKPOINT_TYPE)


async def _tile(request: Request, epoch: int, path: str) -> Response:
    try:
        wanted = parse_path(f"tile/{path}")
    except TileInvalid:
        raise Problem("log-not-found", name=f"tile/{path[:100]}") from None
    headers = _FOR_EVER
    if wanted.level is None:
        caller = await admit(request, "audit:read")
        headers = _FOR_EVER_PRIVATE | await charge(request, caller)
    try:
        content = await asyncio.to_thread(_stored, _files(request, epoch), wanted)
    except FileNotFoundError:
        raise Problem("log-not-found", name=wanted.path) from None
    return Response(content, headers=headers, media_type=TILE_TYPE)


def _stored(files: LogFiles, wanted: Tile) -> bytes:
    return files.read(wanted)


def _files(request: Request, epoch: int) -> LogFiles:
    directory: Path = platform_of(request).settings.log_dir
    return LogFiles(directory / f"epoch-{epoch}")
