"""Limits of single clients, set by operators: seen by every process within a second."""

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from api.cursors import seal, unseal
from api.dependencies import (
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    admit,
    charge,
    openapi_body,
    parsed,
    platform_of,
    raw_body,
    read_json,
)
from api.operators import operator_code
from api.problems import language_of, localized, openapi_problems
from api.rate_limit import Limits, Policy
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from service.limits import MOST_BURST, MOST_PER_SECOND, LimitChange, Quotas, read_limits, set_limit

router = APIRouter(tags=["limits"])

PAGE, LONGEST_PAGE = 100, 500
_CURSOR = b"limits"

# Participants and addresses are tags that say nothing of anybody, so nobody can name one here.
Client = Annotated[
    str, StringConstraints(max_length=300, pattern=r"^(provider|bank|operator|auditor|funder|assurer|authority):\S+$")
]


class Quota(BaseModel):
    """So many units a second, lasting, and at most `burst` at once."""

    model_config = ConfigDict(strict=True, extra="forbid")

    per_second: Annotated[int, Field(ge=1, le=MOST_PER_SECOND)]
    burst: Annotated[int, Field(ge=1, le=MOST_BURST)]


class OwnLimits(BaseModel):
    """A client's two quotas."""

    model_config = ConfigDict(strict=True, extra="forbid")

    requests: Quota
    items: Quota


class LimitWanted(BaseModel):
    """The limits of one client, named as the log names it: its role, a colon, and its registered URI or its subject.

    Without `limits` it goes back to those of the settings.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    client: Client
    limits: OwnLimits | None


class LimitView(BaseModel):
    """What holds for one client, and since when."""

    client: str
    limits: OwnLimits | None
    changed_by: str | None
    changed_at: datetime | None


class DefaultLimits(BaseModel):
    """What holds where nothing else is set; an address sends what carries no valid token."""

    clients: dict[str, Quota]
    participants: dict[str, Quota]
    addresses: dict[str, Quota]


class LimitPage(BaseModel):
    """The limits of the settings, and the clients that have limits of their own, by name."""

    defaults: DefaultLimits
    limits: list[LimitView]
    next: str | None


@router.get(
    "/limits",
    summary="Read the limits 查询限额",
    response_model=LimitPage,
    responses=openapi_problems(*CALL_PROBLEMS, "invalid-cursor"),
)
async def list_limits(
    request: Request,
    after: Annotated[str | None, Query(max_length=1000, description="the `next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
) -> Response:
    """What every client may send, and which have limits of their own."""
    platform = platform_of(request)
    caller = await admit(request, "limits:write")
    headers = await charge(request, caller)
    place = "" if after is None else unseal(platform.keyring, _CURSOR, after).decode("utf-8")
    async with platform.pool.acquire() as connection:
        found = await read_limits(connection, after=place, limit=limit + 1)
    page = found[:limit]
    more = seal(platform.keyring, _CURSOR, page[-1].client.encode("utf-8")) if len(found) > limit else None
    book = platform.limiter.book
    defaults = {
        "clients": _quotas(book.clients),
        "participants": _quotas(book.participants),
        "addresses": _quotas(book.addresses),
    }
    content = {"defaults": defaults, "limits": [_view(each) for each in page], "next": more}
    return _answered(content, headers, request)


@router.put(
    "/limits",
    summary="Set a client's limits 设置客户端限额",
    response_model=LimitView,
    responses=PROPOSED | openapi_problems(*BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS),
    openapi_extra=openapi_body(model=LimitWanted),
)
async def put_limit(request: Request) -> Response:
    """Give one client limits of its own, or take them back; every process follows within a second. The same again
    changes nothing. Needs two operators."""
    platform = platform_of(request)
    caller = await admit(request, "limits:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    wanted = parsed(LimitWanted, content)
    proposed = await require_two(request, caller, raw_body(request))
    if proposed is not None:
        return proposed
    quotas = None if wanted.limits is None else _wanted(wanted.limits)
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        change = await set_limit(connection, wanted.client, quotas, by=operator_code(platform, caller))
    if change is None:
        return _answered({"client": wanted.client, **_NEVER_SET}, headers, request)
    return _answered(_view(change), headers, request)


_NEVER_SET: dict[str, Any] = {"limits": None, "changed_by": None, "changed_at": None}


def _wanted(limits: OwnLimits) -> Quotas:
    return Quotas(limits.requests.per_second, limits.requests.burst, limits.items.per_second, limits.items.burst)


def _view(change: LimitChange) -> dict[str, Any]:
    own = change.quotas
    limits = own and {
        "requests": {"per_second": own.requests_per_second, "burst": own.requests_burst},
        "items": {"per_second": own.items_per_second, "burst": own.items_burst},
    }
    changed = {"changed_by": change.changed_by, "changed_at": change.changed_at.isoformat()}
    return {"client": change.client, "limits": limits, **changed}


def _quotas(limits: Limits) -> dict[str, dict[str, int]]:
    def shown(policy: Policy) -> dict[str, int]:
        return {"per_second": policy.per_second, "burst": policy.burst}

    return {policy.name: shown(policy) for policy in limits.policies}


def _answered(content: dict[str, Any], headers: dict[str, str], request: Request) -> Response:
    answer = orjson.dumps(content)
    return Response(answer, 200, {**headers, **localized(language_of(request))}, "application/json")
