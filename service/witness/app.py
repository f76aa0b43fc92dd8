"""The witness over HTTP: POST /add-checkpoint, and GET / for its verifier key."""

import asyncio
from collections.abc import Callable

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service.witness.memory import WitnessUnusable
from service.witness.protocol import MOST_BYTES, PATH
from service.witness.witness import Answer, Witness

_log = structlog.get_logger(__name__)

BODY_WITHIN_S = 10.0


def witness_app(witness: Witness, clock: Callable[[], float]) -> Starlette:
    """The ASGI application; `clock` tells seconds since 1970."""

    async def add_checkpoint(request: Request) -> Response:
        answer = await _answer(witness, request, int(clock()))
        if answer.evidence is None:
            _log.info("asked to cosign", status=answer.status, about=answer.about)
        else:
            _log.error("not the log that was seen", about=answer.about, checkpoint=answer.evidence)
        return _response(answer)

    async def key(request: Request) -> Response:
        return _response(Answer(200, f"{witness.signer.verifier}\n"))

    return Starlette(routes=[Route(PATH, add_checkpoint, methods=["POST"]), Route("/", key, methods=["GET"])])


async def _answer(witness: Witness, request: Request, now: int) -> Answer:
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await _body(request)
    except (TimeoutError, ClientDisconnect):
        return Answer(408, "the request did not arrive in time\n", about="the request did not arrive")
    if body is None:
        return Answer(413, f"a request has at most {MOST_BYTES} bytes\n", about="too large")
    try:
        return await run_in_threadpool(witness.add_checkpoint, body, now)
    except (OSError, WitnessUnusable) as error:
        _log.error("nothing can be cosigned", because=str(error))
        return Answer(500, "this witness cannot keep what it saw: its operator must look\n", about=str(error))


async def _body(request: Request) -> bytes | None:
    """The body, or None when it is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def _response(answer: Answer) -> Response:
    headers = {"Content-Type": answer.media_type, "Cache-Control": "no-store"}
    return Response(answer.body.encode(), answer.status, headers)  # a media type alone would gain a charset
