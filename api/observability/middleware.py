"""One pure ASGI middleware around the application: request id, a log line, a metric, safe headers, the last 500.

It is the outermost of ours. Starlette's BaseHTTPMiddleware would cost more than all of the application's work together.
"""

import os
import re
import time
from collections.abc import Awaitable, Callable
from functools import cached_property
from itertools import count
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.hardening.headers import security_headers
from api.observability.logs import request_writer
from api.observability.metrics import observe_request
from api.problems import DEFAULT_BASE, Problem, negotiate, problem_response

log = structlog.get_logger("tanpuhui.api")

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_STORE = (b"cache-control", b"no-store")


class _Exchange:
    """What is known of one request and its answer."""

    __slots__ = ("request_id", "scope", "send", "status")

    def __init__(self, request_id: bytes, scope: Scope, send: Send) -> None:
        self.request_id = request_id
        self.scope = scope
        self.send = send
        self.status = 0

    def answer(self, message: Message) -> Awaitable[None]:
        """The `send` the application is given; not a coroutine itself, which would be one more for every message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"] = list(message.get("headers", ()))
            headers.append((b"x-request-id", self.request_id))
            given = {name for name, _ in headers}
            for header in security_headers(self.scope):
                if header[0] not in given:
                    headers.append(header)
            if b"cache-control" not in given:
                headers.append(_NO_STORE)  # an answer about a person is in no cache unless its route says so
        return self.send(message)


class ObservabilityMiddleware:
    """Wraps the application. A route finds the id as `request.state.request_id` and names its caller for the log by
    `request.state.client`.

    log_every   write one line for so many successful requests; every other request has its line
    """

    def __init__(self, app: ASGIApp, *, problem_base: str = DEFAULT_BASE, log_every: int = 1) -> None:
        self._app = app
        self._problem_base = problem_base
        self._log_every = log_every
        self._successes = 0
        self._prefix = os.urandom(8).hex().encode("ascii")  # with a number, an id no other process gives
        self._numbers = count(1)

    @cached_property
    def _write(self) -> Callable[[dict[str, Any]], None]:
        return request_writer()  # at the first request: logging is configured after the application is put together

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = _Exchange(_sent_id(scope) or b"%s-%d" % (self._prefix, next(self._numbers)), scope, send)
        state = scope.setdefault("state", {})
        state["request_id"] = exchange.request_id.decode("ascii")
        try:
            await self._app(scope, receive, exchange.answer)
        except ClientDisconnect:
            pass  # whoever sent half a request has no answer; the line below says 499
        except Exception as error:
            await self._fail(scope, receive, exchange, error)
        finally:
            self._note(scope, exchange, time.perf_counter() - started)

    def _note(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        route = _template(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status = exchange.status or 499  # the client went away before there was an answer
        observe_request(route, method, status, seconds)
        if status < 400:
            self._successes += 1
            if self._successes % self._log_every:
                return
        state = scope["state"]
        self._write(
            {
                "method": method,
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "client": state.get("client"),
                "request_id": state["request_id"],
            }
        )

    async def _fail(self, scope: Scope, receive: Receive, exchange: _Exchange, error: Exception) -> None:
        """What nobody caught: logged in full, answered with nothing but a reference to the log line."""
        request_id = scope["state"]["request_id"]
        log.error("unexpected error", request_id=request_id, exc_info=error)
        if exchange.status:
            raise error  # the answer had begun: the server must cut the connection, or half an answer looks whole
        language = negotiate(Request(scope).headers.get("accept-language"))
        instance = f"urn:tanpuhui:request:{request_id}"
        response = problem_response(Problem("internal-error"), language, self._problem_base, instance=instance)
        await response(scope, receive, exchange.answer)


def _template(scope: Scope) -> str:
    """The path template of the route that answered: never the path itself, which may hold an id.

    Of a route in an included router FastAPI keeps the whole template, prefix and all, in a place of its own.
    """
    included = scope.get("fastapi", {}).get("effective_route_context")
    path = getattr(included, "path_format", None) or getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unknown"


def _sent_id(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value if _SANE_ID.fullmatch(value) else None
    return None
