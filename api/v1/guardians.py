"""Guardians of participants under 14: the child's code, the guardian's consent, what a guardian may do for them."""

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.auth.callers import require_person
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.platform import Platform
from api.problems import Problem, openapi_problems
from api.v1.activities import Moment, Name
from api.v1.manifests import answered
from api.v1.rights import (
    JSON,
    PRIVATE,
    CorrectionsView,
    CorrectionWanted,
    ErasureView,
    ErasureWanted,
    begin,
    corrections_view,
    stream_export,
    wanted_values,
)
from service.rights.correcting import correct, read_corrections
from service.rights.guardians import (
    Ward,
    consent_for_child,
    find_ward,
    make_code,
    read_need,
    read_wards,
    withdraw_guardianship,
)
from service.rights.texts import GUARDIAN_TEXT_EN, GUARDIAN_TEXT_VERSION, GUARDIAN_TEXT_ZH

router = APIRouter(prefix="/me", tags=["guardians"])


class GuardianCodeView(BaseModel):
    """A code for the guardian, good once and until it ends."""

    code: str
    expires_at: datetime


class GuardianNeedView(BaseModel):
    """Whether a guardian's consent is needed, until which day (exclusive), and whether one stands."""

    needed: bool
    until: date | None
    consented: bool


class WardWanted(BaseModel):
    """The code that the child's app shows, and the guardian's consent to the text in force."""

    model_config = ConfigDict(strict=True, extra="forbid")

    code: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22}$")]
    text_version: Name
    given_at: Moment


class WardView(BaseModel):
    """A child whose guardian the caller is; `until` is the first day on which no guardian is needed."""

    guardianship_id: UUID
    participant_id: UUID
    text_version: str
    given_at: datetime
    until: date | None


class TextView(BaseModel):
    """The text in both languages."""

    zh: str
    en: str


class WardsView(BaseModel):
    """The caller's wards, and the text that a guardian agrees to now."""

    wards: list[WardView]
    text_version: str
    text: TextView


@router.get(
    "/guardian",
    summary="Is a guardian needed 是否需要监护人",
    response_model=GuardianNeedView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def read_my_need(request: Request) -> Response:
    """Whether the caller needs a guardian's consent, and has one."""
    platform = platform_of(request)
    caller = await admit(request, "profile:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        need = await read_need(connection, participant_id, platform.today())
    told = {"needed": need is not None, "until": need and need.until, "consented": need is not None and need.consented}
    return answered(200, told, headers | PRIVATE, request)


@router.post(
    "/guardian-codes",
    status_code=201,
    summary="Get a code for the guardian 取得监护码",
    response_model=GuardianCodeView,
    responses=openapi_problems(*CALL_PROBLEMS, "not-a-minor"),
)
async def get_code(request: Request) -> Response:
    """A code that the child hands to the guardian. An earlier one is good no more."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    participant_id = require_person(caller)
    headers = await charge(request, caller, 1)
    now = platform.fresh.clock()
    async with platform.pool.acquire() as connection, connection.transaction():
        code, expires_at = await make_code(connection, participant_id, now, platform.today())
    return answered(201, {"code": code, "expires_at": expires_at}, headers | PRIVATE, request)


@router.post(
    "/wards",
    status_code=201,
    summary="Consent as a guardian 监护人同意",
    response_model=WardView,
    responses=openapi_problems(
        *BODY_PROBLEMS, "consent-not-valid", "guardian-code-refused", "guardian-not-fit", "guardian-known"
    ),
    openapi_extra=openapi_body(model=WardWanted),
)
async def consent(request: Request) -> Response:
    """Record the consent of the caller, signed in as themselves, for the child whose code it is."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    participant_id = require_person(caller)
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    wanted = parsed(WardWanted, content)
    now, today = platform.fresh.clock(), platform.today()
    if wanted.text_version != GUARDIAN_TEXT_VERSION or wanted.given_at > now:
        raise Problem("consent-not-valid")
    guardianship_id = platform.fresh.id()
    async with platform.pool.acquire() as connection, connection.transaction():
        await consent_for_child(
            connection,
            participant_id,
            wanted.code,
            text_version=wanted.text_version,
            given_at=wanted.given_at,
            guardianship_id=guardianship_id,
            now=now,
            today=today,
        )
        ward = await find_ward(connection, participant_id, guardianship_id, today)
    return answered(201, _ward_view(ward), headers | PRIVATE, request)


def _ward_view(ward: Ward) -> dict[str, Any]:
    return {
        "guardianship_id": str(ward.guardianship_id),
        "participant_id": str(ward.participant_id),
        "text_version": ward.text_version,
        "given_at": ward.given_at,
        "until": ward.until,
    }


@router.get(
    "/wards",
    summary="List wards 我监护的儿童",
    response_model=WardsView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def list_wards(request: Request) -> Response:
    """The children whose guardian the caller is, and the text that a guardian agrees to."""
    platform = platform_of(request)
    caller = await admit(request, "profile:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        wards = await read_wards(connection, participant_id, platform.today())
    told = {
        "wards": [_ward_view(ward) for ward in wards],
        "text_version": GUARDIAN_TEXT_VERSION,
        "text": {"zh": GUARDIAN_TEXT_ZH, "en": GUARDIAN_TEXT_EN},
    }
    return answered(200, told, headers | PRIVATE, request)


@router.delete(
    "/wards/{guardianship_id}",
    status_code=204,
    summary="Withdraw a guardian's consent 撤回监护人同意",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "ward-not-found"),
)
async def withdraw(request: Request, guardianship_id: UUID) -> Response:
    """End the consent: from the answer on every link of the child has ended and nothing is taken for them."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    participant_id = require_person(caller)
    headers = await charge(request, caller, 1)
    async with platform.pool.acquire() as connection, connection.transaction():
        await withdraw_guardianship(connection, participant_id, guardianship_id)
    return Response(status_code=204, headers=headers | PRIVATE)


@router.get(
    "/wards/{guardianship_id}/export",
    summary="Take a copy of everything of a ward 导出儿童的个人信息",
    response_class=StreamingResponse,
    responses={
        200: {"content": {JSON: {"schema": {"type": "object"}}}, "description": "Everything that is kept of the child"},
        **openapi_problems(*CALL_PROBLEMS, "malformed-request", "ward-not-found"),
    },
)
async def export_ward(request: Request, guardianship_id: UUID) -> Response:
    """What `GET /v1/me/export` tells of oneself, of the child."""
    caller = await admit(request, "profile:read")
    guardian = require_person(caller)
    headers = await charge(request, caller)
    return stream_export(request, await _child(platform_of(request), guardian, guardianship_id), headers)


@router.patch(
    "/wards/{guardianship_id}",
    summary="Correct what is known of a ward 更正儿童的个人信息",
    response_model=CorrectionsView,
    responses=openapi_problems(*BODY_PROBLEMS, "ward-not-found", "participant-not-found", "correction-refused"),
    openapi_extra=openapi_body(model=CorrectionWanted),
)
async def correct_ward(request: Request, guardianship_id: UUID) -> Response:
    """What `PATCH /v1/me` corrects of oneself, of the child; the month of birth too."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    guardian = require_person(caller)
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    values = wanted_values(content)
    child = await _child(platform, guardian, guardianship_id)
    async with platform.pool.acquire() as connection, connection.transaction():
        await correct(connection, platform.vault, child, values, by="guardian", today=platform.today())
        found = await read_corrections(connection, child)
    return answered(200, corrections_view(found), headers | PRIVATE, request)


@router.post(
    "/wards/{guardianship_id}/erasure",
    status_code=202,
    summary="Ask for a ward to be forgotten 删除儿童的个人信息",
    response_model=ErasureView,
    responses=openapi_problems(
        *BODY_PROBLEMS, "ward-not-found", "participant-not-found", "erasure-not-for-organisations"
    ),
    openapi_extra=openapi_body(model=ErasureWanted),
)
async def erase_ward(request: Request, guardianship_id: UUID) -> Response:
    """What `POST /v1/me/erasure` asks for oneself, for the child."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    guardian = require_person(caller)
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    parsed(ErasureWanted, content)
    child = await _child(platform, guardian, guardianship_id)
    return answered(202, await begin(platform, child, "guardian"), headers | PRIVATE, request)


async def _child(platform: Platform, guardian: UUID, guardianship_id: UUID) -> UUID:
    async with platform.pool.acquire() as connection:
        return (await find_ward(connection, guardian, guardianship_id, platform.today())).participant_id
