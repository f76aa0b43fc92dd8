"""What routes begin with: the caller, the limit, the body. Routes call these in the documented order of checks.
 They are calls and not FastAPI parameters because FastAPI reads a whole body before any dependency has asked who sends
it.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from api.auth import Caller, require_scope
from api.auth.callers import Unauthenticated
from api.body import media_type, parse_json, read_body
from api.hardening.queries import require_known_query
from api.platform import Platform
from api.problems import Problem, faults_of
from api.rate_limit.costs import units_of

JSON = "application/json"
BODY_MODELS: dict[
    str, type[BaseModel]
] = {}  # models that only openapi_body() names, for the components of the document

# What any call may end with, and any call with a body, for the documents of the routes.
CALL_PROBLEMS = (
    "unauthenticated",
    "forbidden",
    "quota-exceeded",
    "malformed-request",  # a query parameter that the call does not have
    "temporarily-unavailable",
    "internal-error",
)
BODY_PROBLEMS = (*CALL_PROBLEMS, "unsupported-media-type", "payload-too-large", "malformed-json")

Model = TypeVar("Model", bound=BaseModel)


def platform_of(request: Request) -> Platform:
    """The parts of this process."""
    platform: Platform = request.app.state.platform
    return platform


async def admit(request: Request, scope: str) -> Caller:
    """Who calls, if their token carries the scope and their account is open. Raises Unauthenticated, Forbidden."""
    caller = await admit_closed(request, scope)
    if caller.participant_id is not None and caller.participant_id in platform_of(request).closed:
        raise Unauthenticated("account-closed")
    return caller


async def admit_closed(request: Request, scope: str) -> Caller:
    """The same, also of somebody who asked to be forgotten. Raises Unauthenticated, Forbidden."""
    caller = await platform_of(request).authenticator.authenticate(request.headers.get("authorization"), request)
    request.state.client = caller.client
    require_scope(caller, scope)
    return caller


async def charge(request: Request, caller: Caller, items: int = 0) -> dict[str, str]:
    """Count the request against the caller's quotas; the headers that say what is left. Raises Problem
    quota-exceeded, or malformed-request for a query parameter that the call does not have."""
    headers = await platform_of(request).limiter.require(caller.client, items, units_of(request))
    require_known_query(request)
    return headers


async def read_json(request: Request) -> Any:
    """The request's JSON body, bounded and exact. Raises the problems of api/body.py."""
    if media_type(request.headers) != JSON:
        raise Problem("unsupported-media-type", accepted=JSON)
    body = request.state.body = await read_body(request, platform_of(request).settings.max_body_bytes)
    return parse_json(body)


def raw_body(request: Request) -> bytes:
    """The bytes that `read_json` read, for what is about them and not about what they say."""
    body: bytes = request.state.body
    return body


def parsed(model: type[Model], content: object) -> Model:
    """The body as this model. Raises Problem malformed-request, which names every place and repeats no value."""
    try:
        return model.model_validate(content)
    except ValidationError as invalid:
        raise Problem(
            "malformed-request", faults=faults_of(invalid.errors(include_url=False, include_input=False))
        ) from None


def openapi_body(*kinds: str, model: type[BaseModel], batch: str | None = None) -> dict[str, Any]:
    """The `requestBody` of a route that reads its body by itself; `batch` is a media type that takes a list of the
    model."""
    BODY_MODELS[model.__name__] = model
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    content: dict[str, Any] = {kind: {"schema": reference} for kind in kinds or (JSON,)}
    if batch:
        content[batch] = {"schema": {"type": "array", "items": reference, "minItems": 1, "maxItems": 1000}}
    return {"requestBody": {"required": True, "content": content}}
