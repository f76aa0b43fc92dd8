"""The route class of the busiest calls: described by FastAPI, called without it."""

from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.problems import Fault, Problem


class DirectRoute(APIRoute):
    """Calls its function with the request and its path's ids, and nothing else: no dependencies, no response model.

    Half of what a balance read cost was solving dependencies that it does not have. The function takes the request,
    UUIDs from the path by their names, and returns a Response; its signature and response model are the documentation.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        function: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            return await function(request, **{name: _uuid(name, text) for name, text in request.path_params.items()})

        return handle


def _uuid(name: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        fault = Fault(name, "bad-format", {"expected": "UUID"}, "path")
        raise Problem("malformed-request", faults=[fault]) from None
