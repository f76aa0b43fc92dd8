"""A pure ASGI middleware inside the observing one: the size of a request's head, and what its address may still send.

A request that carries a good token is charged to its client by its route, and here costs a look at its headers. What
carries none, or a bad one, is charged to its address: so nobody guesses for long, and nobody's valid token is refused
because a neighbour behind the same address guesses.
"""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.platform import Platform
from api.problems import Problem, negotiate, problem_response
from api.rate_limit.addresses import Network, address_name, host_of, is_trusted
from api.rate_limit.costs import FAILURE
from service.settings import Settings

LONGEST_ADDRESS = 4096  # bytes of path and query together
MOST_HEADERS = 100
LARGEST_HEADERS = 32 * 1024  # bytes of names and values together
HEAD_PROBLEMS = ("address-too-long", "headers-too-large")  # what any call may end with, before its route is looked for
_EXEMPT = ("/v1/health/",)  # what asks whether a process lives is never turned away
_OWN_CREDENTIALS = "/v1/oauth/"  # there a credential is in the body, whatever the header says


class GuardMiddleware:
    """Refuses a head that is too large, and what comes without a token from an address that has used up its own."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._problem_base = settings.problem_base
        self._trusted: Sequence[Network] = settings.trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        large = _too_large(scope)
        if large is not None:
            await self.refuse(large, scope, receive, send)
            return
        if self._trusted:
            self._take_scheme(scope)
        path = scope["path"]
        if path.startswith(_EXEMPT):
            await self._app(scope, receive, send)
            return
        anonymous = path.startswith(_OWN_CREDENTIALS) or all(name != b"authorization" for name, _ in headers)
        if anonymous:
            refusal = await self._charge(scope, 1)
            if refusal is not None:
                await self.refuse(refusal, scope, receive, send)
                return
        guarded = _Answer(self, scope, receive, send, charged=anonymous)
        await self._app(scope, receive, guarded.send)

    async def _charge(self, scope: Scope, units: int) -> Problem | None:
        """Charge the address of a request; the problem of one that may not pass."""
        platform: Platform | None = getattr(scope["app"].state, "platform", None)
        if platform is None:
            return None
        name = address_name(platform.keyring, host_of(scope, self._trusted), platform.today())
        decision = await platform.limiter.check(name, 0, units)
        return decision.problem() if decision.violated else None

    async def judge(self, scope: Scope, status: int, *, charged: bool) -> Problem | None:
        """Charge the address for an answer that went to nobody known: a failure, or what anybody may read."""
        if status == 401 or (status == 400 and scope["path"].startswith(_OWN_CREDENTIALS)):
            return await self._charge(scope, FAILURE)
        if not charged and scope["state"].get("client") is None:
            return await self._charge(scope, 1)
        return None

    async def refuse(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with this, in place of the application or of what it began to say."""
        language = negotiate(Request(scope).headers.get("accept-language"))
        instance = f"urn:tanpuhui:request:{scope['state']['request_id']}"
        response = problem_response(problem, language, self._problem_base, instance=instance)
        await response(scope, receive, send)

    def _take_scheme(self, scope: Scope) -> None:
        """Behind a proxy of ours it is the proxy that knows whether the client came over TLS."""
        client = scope.get("client")
        if is_trusted(str(client[0]) if client else "", self._trusted):
            for name, value in scope["headers"]:
                if name == b"x-forwarded-proto":
                    scope["scheme"] = "https" if value.strip().lower() == b"https" else "http"


class _Answer:
    """Looks at an answer's status before it leaves, once."""

    __slots__ = ("_charged", "_guard", "_receive", "_replaced", "_scope", "_send")

    def __init__(self, guard: GuardMiddleware, scope: Scope, receive: Receive, send: Send, *, charged: bool) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self._charged = charged
        self._replaced = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            state: dict[str, Any] = self._scope["state"]
            if message["status"] == 401 or state.get("client") is None:
                problem = await self._guard.judge(self._scope, message["status"], charged=self._charged)
                if problem is not None:
                    self._replaced = True
                    await self._guard.refuse(problem, self._scope, self._receive, self._send)
                    return
        if not self._replaced:
            await self._send(message)


def _too_large(scope: Scope) -> Problem | None:
    """The problem of a head beyond what any client of this interface sends."""
    path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    if len(path) + len(scope["query_string"]) > LONGEST_ADDRESS:
        return Problem("address-too-long", limit=LONGEST_ADDRESS)
    headers = scope["headers"]
    if len(headers) > MOST_HEADERS or sum(len(name) + len(value) for name, value in headers) > LARGEST_HEADERS:
        return Problem("headers-too-large", count=MOST_HEADERS, limit=LARGEST_HEADERS)
    return None
