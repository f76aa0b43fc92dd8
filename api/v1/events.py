"""Events out of the log, by page and as a stream: what was posted, in the log's order, for each caller what they may
see."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.auth import Caller, Forbidden
from api.dependencies import CALL_PROBLEMS, admit, charge, platform_of
from api.platform import Platform
from api.preferences import preferred_wait_s
from api.problems import Problem, openapi_problems
from service.database import FAULTS
from service.events import Event, Events, Subscriber, read_events

router = APIRouter(prefix="/events", tags=["events"])

PAGE, LONGEST_PAGE = 100, 1_000
LOOK_EVERY_S = 0.5
BREATH_S = 15.0  # a comment keeps proxies from closing a quiet stream
EVENT_TYPE = "org.tanpuhui.log"


class EventsView(BaseModel):
    """A page of CloudEvents; `next` is to be asked for after."""

    events: list[dict[str, Any]]
    next: int
    log_size: int


@router.get("", summary="Read events 查询事件", response_model=EventsView, responses=openapi_problems(*CALL_PROBLEMS))
async def read(
    request: Request,
    after: Annotated[int, Query(ge=-1, le=2**53, description="the `next` of the page before; -1 from the start")] = -1,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
) -> Response:
    """What was posted behind a place of the log: a provider sees what became of its reports, a bank the steps of its
    redemptions, its listings and its statements, a participant their own entries, operators and auditors all of them.

    A page may be empty although more follows, where the places it looked at belong to others: go on from `next` until
    it is `log_size` - 1. With `Prefer: wait=10` an answer without events waits for one.
    """
    platform = platform_of(request)
    caller = await admit(request, "events:read")
    headers = await charge(request, caller)
    wait_s = preferred_wait_s(request)
    give_up = asyncio.get_running_loop().time() + wait_s
    page = await _page(platform, caller, after, limit)
    while not page.events and page.upto >= page.size - 1 and asyncio.get_running_loop().time() < give_up:
        await asyncio.sleep(LOOK_EVERY_S)
        page = await _page(platform, caller, page.upto, limit)
    content = {
        "events": [_cloud_event(platform, event) for event in page.events],
        "next": page.upto,
        "log_size": page.size,
    }
    return Response(orjson.dumps(content), 200, headers, "application/json")


@router.get("/stream", summary="Stream events 事件流", responses=openapi_problems(*CALL_PROBLEMS, "overloaded"))
async def stream(
    request: Request,
    after: Annotated[int | None, Query(ge=-1, le=2**53, description="a place of the log; else Last-Event-ID")] = None,
) -> Response:
    """The same as server-sent events, from the place on, without an end: `id` is the place, to be sent back as
    `Last-Event-ID` after a break."""
    platform = platform_of(request)
    caller = await admit(request, "events:read")
    headers = await charge(request, caller)
    if platform.streams.locked():
        raise Problem("overloaded", headers={"Retry-After": "5"})
    place = after if after is not None else _last_event_id(request)
    return StreamingResponse(
        _streamed(platform, caller, place, request.app.state.stopping),
        headers={**headers, "Cache-Control": "no-store"},
        media_type="text/event-stream",
    )


def _last_event_id(request: Request) -> int:
    text = request.headers.get("last-event-id", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 17 else -1


async def _streamed(platform: Platform, caller: Caller, place: int, stopping: threading.Event) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    async with platform.streams:
        breath = loop.time()
        while not stopping.is_set():
            try:
                page = await _page(platform, caller, place, LONGEST_PAGE)
            except FAULTS:
                return  # the client comes back with the last place it has
            for event in page.events:
                body = orjson.dumps(_cloud_event(platform, event))
                yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.index, event.kind.encode(), body)
            place = page.upto
            if page.events:
                breath = loop.time()
            elif place >= page.size - 1:
                if loop.time() - breath > BREATH_S:
                    breath = loop.time()
                    yield b": \n\n"
                await asyncio.sleep(LOOK_EVERY_S)


async def _page(platform: Platform, caller: Caller, after: int, limit: int) -> Events:
    subscriber = Subscriber(caller.source, caller.participant_id, caller.bank)
    if caller.role not in ("operator", "auditor", "authority") and subscriber == Subscriber():
        raise Forbidden  # a token that names nobody sees nobody's
    async with platform.pool.acquire() as connection:
        return await read_events(connection, platform.vault, subscriber, after, limit)


def _cloud_event(platform: Platform, event: Event) -> dict[str, Any]:
    """CloudEvents 1.0.2; the log's name and the place are its id for ever."""
    origin = platform.settings.log_origin
    return {
        "specversion": "1.0",
        "id": str(event.index),
        "source": f"https://{origin}",
        "type": f"{EVENT_TYPE}.{event.kind}.v1",
        "time": event.at,
        "datacontenttype": "application/json",
        "data": event.data,
    }
