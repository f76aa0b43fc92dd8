"""What moves money or rules needs two operators: the first proposes, the second approves by asking for the same.

A guarded route calls `require_two` after everything that can be judged without the database. It answers the first
request with 202 and the proposal; the second, with the header `Approves`, goes on.
"""

import hashlib
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller
from api.dependencies import platform_of
from api.operators import operator_code
from api.problems import Problem
from api.problems.access import REASONS
from service.proposals import Asked, ProposalRefused, approve, propose

HEADER = "Approves"
TWO_PEOPLE_PROBLEMS = ("proposal-refused",)
PROPOSED: dict[int | str, dict[str, Any]] = {
    202: {"description": "Proposed: another operator has to send the same, with Approves"}
}
"""For the documents of guarded routes: what their `responses` begin with."""


async def require_two(request: Request, caller: Caller, body: bytes) -> Response | None:
    """The answer to a first request, which proposes and does nothing; None for one that is to be carried out.

    body   of the request, byte for byte

    Only operators are two people: who acts for themselves, as a provider does for its own records, needs nobody. An
    approval is used up here, so of two that come at once one is carried out. Raises Problem proposal-refused.
    """
    platform = platform_of(request)
    if caller.role != "operator" or not platform.settings.two_person:
        return None
    asked = Asked(request.method, _target(request), hashlib.sha256(body).digest(), operator_code(platform, caller))
    named = request.headers.getlist(HEADER)
    if not named:
        proposal_id = platform.fresh.id()
        async with platform.pool.acquire() as connection:
            expires_at = await propose(connection, proposal_id, asked)
        answer = {"proposal_id": str(proposal_id), "expires_at": expires_at}
        return Response(orjson.dumps(answer), 202, {"Cache-Control": "no-store"}, "application/json")
    try:
        async with platform.pool.acquire() as connection:
            await approve(connection, _proposal(named), asked)
    except ProposalRefused as refused:
        why = REASONS[refused.reason]
        raise Problem("proposal-refused", reason=refused.reason, why_zh=why.zh, why_en=why.en) from None
    return None


def _target(request: Request) -> str:
    """Path and query as they came."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode("ascii", "replace")
    query: bytes = request.scope["query_string"]
    path = raw.partition(b"?")[0].decode("latin-1")
    return f"{path}?{query.decode('latin-1')}" if query else path


def _proposal(named: list[str]) -> UUID:
    try:
        found = UUID(named[0])
    except ValueError:
        raise ProposalRefused("malformed") from None
    if len(named) > 1 or str(found) != named[0]:
        raise ProposalRefused("malformed")
    return found
