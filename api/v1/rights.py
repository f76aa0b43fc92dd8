"""A person's rights over what is kept of them: a copy of everything, corrections, and to be forgotten."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from api.auth import Caller
from api.auth.callers import require_person
from api.dependencies import (
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    admit,
    admit_closed,
    charge,
    openapi_body,
    parsed,
    platform_of,
    read_json,
)
from api.platform import Platform
from api.problems import Fault, Problem, Text, openapi_problems
from api.v1.manifests import answered
from service.log.watch import PostingSuspended
from service.poster import DatabaseAway, QueueFull
from service.rights.correcting import By, Corrected, GuardianCorrects, NothingKnown, correct, read_corrections
from service.rights.erasure import AskedBy, Erasure, ErasureNotAsked, NotAPerson, ask_erasure, read_erasure
from service.rights.export import export_person, person_export_schema
from service.rights.guardians import GuardianCodeRefused, GuardianKnown, GuardianNotFit, NotAMinor, WardNotFound
from service.rights.standing import AccountClosed, GuardianConsentNeeded

router = APIRouter(tags=["rights"])

ERRORS: dict[type[Exception], Callable[[Any], Problem]] = {
    AccountClosed: lambda _: Problem("account-closed"),
    GuardianConsentNeeded: lambda _: Problem("guardian-consent-needed"),
    ErasureNotAsked: lambda _: Problem("erasure-not-asked"),
    NotAPerson: lambda _: Problem("erasure-not-for-organisations"),
    NothingKnown: lambda _: _refused("nothing-known"),
    GuardianCorrects: lambda _: _refused("guardian-corrects"),
    NotAMinor: lambda _: Problem("not-a-minor"),
    GuardianCodeRefused: lambda _: Problem("guardian-code-refused"),
    GuardianNotFit: lambda error: _not_fit(error.reason),
    GuardianKnown: lambda _: Problem("guardian-known"),
    WardNotFound: lambda _: Problem("ward-not-found"),
}
_REFUSED = {
    "nothing-known": Text("平台没有其身份信息", "nothing is known of who this is"),
    "guardian-corrects": Text("儿童的出生年月由监护人更正", "a child's month of birth is corrected by the guardian"),
}
_NOT_FIT = {
    "person": Text("未经城市身份登录", "not signed in by the city's identity provider"),
    "minor": Text("本人未满 14 周岁", "under 14"),
    "self": Text("不能监护自己", "the child themselves"),
}


def _refused(reason: str) -> Problem:
    why = _REFUSED[reason]
    return Problem("correction-refused", reason=reason, why_zh=why.zh, why_en=why.en)


def _not_fit(reason: str) -> Problem:
    why = _NOT_FIT[reason]
    return Problem("guardian-not-fit", reason=reason, why_zh=why.zh, why_en=why.en)


CONFIRMED = "erase-my-account"
JSON = "application/json"
PRIVATE = {"Cache-Control": "no-store"}  # what is erased here must not live on in a cache
_REGION = r"^[0-9]{6}$"
_MONTH = r"^(19|20)[0-9]{2}-(0[1-9]|1[0-2])$"


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class CorrectionWanted(_Strict):
    """What is to be put right: the region as an administrative division code (GB/T 2260), the name, the month of
    birth. What is left out stays as it is."""

    region: Annotated[str, Field(pattern=_REGION)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    birth_month: Annotated[str, Field(pattern=_MONTH)] | None = None


class CorrectionView(BaseModel):
    """One correction. Values that identify are told by the copy of everything alone."""

    number: int
    field: Literal["region", "name", "birth"]
    before: str | None
    after: str | None
    corrected_by: By
    corrected_at: datetime


class CorrectionsView(BaseModel):
    """What was corrected, the newest first."""

    corrections: list[CorrectionView]


class ErasureWanted(_Strict):
    """Said so that nobody does it by mistake: it cannot be taken back."""

    confirm: Literal["erase-my-account"]


class ErasureView(BaseModel):
    """How far an erasure has come.

    state   `asked`; `waiting` while a bank may still use points it has accepted; `erasing`; `done`
    """

    state: Literal["asked", "waiting", "erasing", "done"]
    asked_at: datetime
    asked_by: AskedBy
    ended_at: datetime | None


@router.get(
    "/me/export",
    summary="Take a copy of everything 查阅与导出个人信息",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {JSON: {"schema": {"type": "object"}}},
            "description": "Everything that is kept of the caller",
        },
        **openapi_problems(*CALL_PROBLEMS),
    },
)
async def export_me(request: Request) -> Response:
    """Everything that is kept of the caller, as one JSON document with a label in both languages for each section; its
    schema is at `/v1/schemas/person-export-1`."""
    caller = await admit(request, "profile:read")
    participant_id = require_person(caller)
    return stream_export(request, participant_id, await charge(request, caller))


def stream_export(request: Request, participant_id: UUID, headers: dict[str, str]) -> StreamingResponse:
    """The copy of everything, piece by piece."""
    platform = platform_of(request)
    pieces = export_person(platform.pool, platform.vault, participant_id, platform.fresh.clock())
    name = {"Content-Disposition": 'attachment; filename="person-export.json"'}
    return StreamingResponse(pieces, 200, headers | PRIVATE | name, JSON)


@router.get(
    "/schemas/person-export-1",
    summary="Schema of the copy 个人信息副本的结构",
    responses={200: {"content": {JSON: {"schema": {"type": "object"}}}, "description": "A JSON Schema (2020-12)"}},
)
async def export_schema() -> Response:
    """The JSON Schema of `GET /v1/me/export`."""
    return JSONResponse(person_export_schema(), 200)


@router.patch(
    "/me",
    summary="Correct what is known of you 更正个人信息",
    response_model=CorrectionsView,
    responses=openapi_problems(*BODY_PROBLEMS, "participant-not-found", "correction-refused"),
    openapi_extra=openapi_body(model=CorrectionWanted),
)
async def correct_me(request: Request) -> Response:
    """Put right the region, the name or the month of birth. A record in the ledger is corrected by new transfers: ask
    the provider that reported it, or the operator."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    participant_id = require_person(caller)
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    values = wanted_values(content)
    async with platform.pool.acquire() as connection, connection.transaction():
        await correct(connection, platform.vault, participant_id, values, by="participant", today=platform.today())
        found = await read_corrections(connection, participant_id)
    return answered(200, corrections_view(found), headers | PRIVATE, request)


def wanted_values(content: object) -> dict[str, str]:
    """What is to be corrected. Raises Problem malformed-request where nothing is."""
    values: dict[str, str] = parsed(CorrectionWanted, content).model_dump(exclude_none=True)
    if not values:
        raise Problem("malformed-request", faults=[Fault("", "missing")])
    return values


def corrections_view(found: list[Corrected]) -> dict[str, Any]:
    """Corrections as they are told."""
    return {
        "corrections": [
            {
                "number": one.number,
                "field": one.field,
                "before": one.before,
                "after": one.after,
                "corrected_by": one.corrected_by,
                "corrected_at": one.corrected_at,
            }
            for one in found
        ]
    }


@router.get(
    "/me/corrections",
    summary="List corrections 更正记录",
    response_model=CorrectionsView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def list_corrections(request: Request) -> Response:
    """What was corrected, by whom and when."""
    platform = platform_of(request)
    caller = await admit(request, "profile:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        found = await read_corrections(connection, participant_id)
    return answered(200, corrections_view(found), headers | PRIVATE, request)


@router.post(
    "/me/erasure",
    status_code=202,
    summary="Ask to be forgotten 注销账户并删除个人信息",
    response_model=ErasureView,
    responses=openapi_problems(*BODY_PROBLEMS, "participant-not-found", "erasure-not-for-organisations"),
    openapi_extra=openapi_body(model=ErasureWanted),
)
async def erase_me(request: Request) -> Response:
    """Close the account and forget who it belonged to. At once every link ends, and this token and all others are
    refused but for asking how far it has come. Points that a bank holds may still be used or given back by the bank;
    all others are lost with the account."""
    caller = await admit_closed(request, "profile:write")
    participant_id = require_person(caller)
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    parsed(ErasureWanted, content)
    return answered(202, await begin(platform_of(request), participant_id, "participant"), headers | PRIVATE, request)


async def begin(platform: Platform, participant_id: UUID, asked_by: AskedBy) -> dict[str, Any]:
    """Ask for an erasure and take it as far as it goes; how it stands."""
    async with platform.pool.acquire() as connection, connection.transaction():
        erasure = await ask_erasure(connection, platform.vault, participant_id, asked_by, platform.fresh)
    platform.closed.add(participant_id)
    platform.vault.drop([participant_id])
    if erasure.state != "done":
        with suppress(DatabaseAway, QueueFull, PostingSuspended):  # it was asked for, and the job goes on with it
            erasure = await platform.eraser.go_on(participant_id)
    return erasure_view(erasure)


def erasure_view(erasure: Erasure) -> dict[str, Any]:
    """An erasure as it is told."""
    return {
        "state": erasure.state,
        "asked_at": erasure.asked_at,
        "asked_by": erasure.asked_by,
        "ended_at": erasure.ended_at,
    }


@router.get(
    "/me/erasure",
    summary="How far an erasure has come 查询删除进度",
    response_model=ErasureView,
    responses=openapi_problems(*CALL_PROBLEMS, "erasure-not-asked"),
)
async def read_my_erasure(request: Request) -> Response:
    """How far it has come: a token that is refused everywhere else is taken here."""
    platform = platform_of(request)
    caller: Caller = await admit_closed(request, "profile:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        found = await read_erasure(connection, participant_id)
    return answered(200, erasure_view(found), headers | PRIVATE, request)
