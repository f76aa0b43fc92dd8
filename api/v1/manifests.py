"""Day manifests: a provider closes each day with a signed list of what it sent, and both sides see where they
differ."""

import re
from datetime import date, datetime
from typing import Annotated, Any, NamedTuple

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller, Forbidden
from api.body import media_type, parse_json, read_body
from api.day_manifests import (
    FIRST_DAY,
    LAST_DAY,
    ManifestPayload,
    ManifestView,
    OpenDays,
    manifest_view,
    statement_of,
    stored_statement,
)
from api.dependencies import BODY_MODELS, BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, parsed, platform_of
from api.platform import Platform
from api.problems import Fault, Language, Problem, Text, language_of, localized, openapi_problems
from service.activities.licences import Licence
from service.database import Connection
from service.jws import NotJws, SignatureRefused, read_jws
from service.manifests import (
    MEASURES,
    DayNotClosable,
    StoredManifest,
    closable_from,
    close_day,
    count_received,
    find_late,
    find_repeat,
    read_latest,
    read_manifests,
    read_open_days,
    verify_statement,
)

router = APIRouter(tags=["manifests"])

JOSE = "application/jose"
DAYS_SHOWN = 31


class ManifestAnswer(BaseModel):
    """A recorded manifest, and which days are still open."""

    source: str
    manifest: ManifestView
    days_without_manifest: OpenDays


class ManifestsView(BaseModel):
    """The manifests of a day in their sequence, or, without a day, the last one of each of the latest days."""

    source: str
    manifests: list[ManifestView]
    days_without_manifest: OpenDays


class ReceivedView(BaseModel):
    """What was received of one scenario."""

    scenario: str
    credited: int
    refused: int
    reduction_mg: int
    points: int


class ReceiptView(BaseModel):
    """What arrived from a source on a day, so far. It can be closed from `closable_from` on and then stays the same."""

    source: str
    day: date
    closable_from: datetime
    closable: bool
    scenarios: list[ReceivedView]


READ_PROBLEMS = (*CALL_PROBLEMS, "malformed-request", "source-not-found")
_JWS_PARTS: dict[str, Text] = {
    "parts": Text("应为以点号分隔的三段", "it has three parts, separated by dots"),
    "header": Text("头部不是 base64url 编码的 JSON 对象", "its header is no JSON object in base64url"),
    "payload": Text("内容不是规范的 base64url", "its payload is not in base64url without padding"),
    "signature": Text("签名不是规范的 base64url", "its signature is not in base64url without padding"),
}
_REFUSED: dict[str, Text] = {
    "header": Text(
        "头部只能有 alg、kid，以及可选的 typ、cty", "its header may hold alg and kid, perhaps typ and cty, and no more"
    ),
    "algorithm": Text("算法与该密钥不符", "its algorithm is not the one of the key"),
    "unknown-key": Text("该数据方没有登记此密钥 (kid)", "the source has no key of this kid registered"),
    "key-not-valid": Text("该密钥当前不在有效期", "the key is not valid now"),
    "signature": Text("签名与内容不符", "the signature is not that of the content"),
}


@router.post(
    "/manifests",
    status_code=201,
    summary="Close a day 报送日清单",
    response_model=ManifestAnswer,
    responses={
        200: {"description": "This statement came before: the manifest as it was recorded", "model": ManifestAnswer},
        **openapi_problems(
            *BODY_PROBLEMS,
            "malformed-jws",
            "source-mismatch",
            "source-not-registered",
            "signature-refused",
            "manifest-conflict",
            "day-not-closable",
            "manifest-out-of-sequence",
            "posting-suspended",
        ),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                JOSE: {
                    "schema": {
                        "type": "string",
                        "description": "a compact JWS (EdDSA or ES256) whose payload is a ManifestPayload",
                    }
                }
            },
        }
    },
)
async def post_manifest(request: Request) -> Response:
    """Close a day that is over with a signed list of what was sent on it; the answer shows where both sides differ.

    The day is the Asia/Shanghai day on which the events arrived. A correction is the next sequence number.
    """
    platform = platform_of(request)
    caller = await admit(request, "activities:write")
    if media_type(request.headers) != JOSE:
        raise Problem("unsupported-media-type", accepted=JOSE)
    body = await read_body(request, platform.settings.max_body_bytes)
    try:
        jws = read_jws(body)
    except NotJws as error:
        raise _refused("malformed-jws", _JWS_PARTS[error.part]) from None
    content = parse_json(jws.payload)
    headers = await charge(request, caller)
    statement = statement_of(parsed(ManifestPayload, content))
    if statement.source != caller.source:
        raise Problem("source-mismatch")
    licence = await platform.licence(statement.source)
    if licence is None:
        raise Problem("source-not-registered")
    async with platform.counting, platform.pool.acquire() as connection, connection.transaction():
        stored, created = await find_repeat(connection, licence.source_id, jws.digest), False
        if stored is None:
            try:
                key = await verify_statement(connection, licence.source_id, jws, platform.fresh.clock())
            except SignatureRefused as error:
                raise _refused("signature-refused", _REFUSED[error.reason], reason=error.reason) from None
            platform.watch.require()
            stored, created = await close_day(
                connection, licence, statement, jws, key, platform.fresh, platform.settings.clock_offset
            )
        answer = {
            "source": licence.uri,
            "manifest": await _shown(connection, platform, stored, language_of(request)),
            "days_without_manifest": await _open_days(connection, platform, licence),
        }
    return answered(201 if created else 200, answer, headers, request)


def _refused(slug: str, why: Text, **params: Any) -> Problem:
    return Problem(slug, **params, why_zh=why.zh, why_en=why.en)


@router.get(
    "/manifests",
    summary="Read day manifests 查询日清单",
    response_model=ManifestsView,
    responses=openapi_problems(*READ_PROBLEMS),
)
async def list_manifests(
    request: Request,
    day: Annotated[str | None, Query(max_length=10, description="YYYY-MM-DD, an Asia/Shanghai day")] = None,
    source: Annotated[str | None, Query(max_length=500, description="its URI; a provider's is its own")] = None,
) -> Response:
    """The manifests of a day beside what had been received of it, and the days that have none. A provider reads its
    own; operators and auditors name the source."""
    platform, reader = platform_of(request), await admit_reader(request, source)
    source_id = reader.licence.source_id
    wanted = None if day is None else _day(day)
    async with platform.pool.acquire() as connection:
        if wanted is None:
            found = await read_latest(connection, source_id, DAYS_SHOWN)
        else:
            found = await read_manifests(connection, source_id, wanted)
        language = language_of(request)
        content = {
            "source": reader.licence.uri,
            "manifests": [await _shown(connection, platform, stored, language) for stored in found],
            "days_without_manifest": await _open_days(connection, platform, reader.licence),
        }
    return answered(200, content, reader.headers, request)


@router.get(
    "/manifests/receipt",
    summary="Read what was received on a day 查询当日接收情况",
    response_model=ReceiptView,
    responses=openapi_problems(*READ_PROBLEMS),
)
async def read_receipt(
    request: Request,
    day: Annotated[str | None, Query(max_length=10, description="YYYY-MM-DD, an Asia/Shanghai day")] = None,
    source: Annotated[str | None, Query(max_length=500, description="its URI; a provider's is its own")] = None,
) -> Response:
    """What arrived from a source on this day and was credited or refused for good, to compare before closing it."""
    platform, reader = platform_of(request), await admit_reader(request, source)
    if day is None:
        raise Problem("malformed-request", faults=[Fault("day", "missing", where="query")])
    wanted = _day(day)
    opens = closable_from(wanted)
    async with platform.counting, platform.pool.acquire() as connection, connection.transaction(readonly=True):
        received = await count_received(connection, reader.licence.source_id, wanted)
    content = {
        "source": reader.licence.uri,
        "day": wanted,
        "closable_from": opens,
        "closable": platform.fresh.clock() >= opens,
        "scenarios": [
            {"scenario": scenario, **{name: getattr(counts, name) for name in MEASURES}}
            for scenario, counts in sorted(received.items())
        ],
    }
    return answered(200, content, reader.headers, request)


class Reader(NamedTuple):
    """A source, for a caller who may read what is its own, and the headers of the answer."""

    licence: Licence
    headers: dict[str, str]


async def admit_reader(request: Request, source: str | None) -> Reader:
    """Whose manifests are read: a provider's own, or those of the source that an operator or auditor names."""
    caller = await admit(request, "manifests:read")
    headers = await charge(request, caller)
    return Reader(await require_licence(platform_of(request), _source_of(caller, source)), headers)


def _source_of(caller: Caller, source: str | None) -> str:
    if caller.source is not None:
        if source not in (None, caller.source):
            raise Forbidden
        return caller.source
    if source is None:
        raise Problem("malformed-request", faults=[Fault("source", "missing", where="query")])
    return source


async def require_licence(platform: Platform, uri: str) -> Licence:
    """The registration of a source somebody names. Raises Problem source-not-found."""
    licence = await platform.licence(uri)
    if licence is None:
        raise Problem("source-not-found")
    return licence


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None
    except ValueError:
        day = None
    if day is None or not FIRST_DAY <= day <= LAST_DAY:
        raise Problem(
            "malformed-request", faults=[Fault("day", "bad-format", {"expected": "YYYY-MM-DD"}, where="query")]
        )
    return day


async def _open_days(connection: Connection, platform: Platform, licence: Licence) -> dict[str, Any]:
    count, latest = await read_open_days(connection, licence.source_id, platform.today())
    return {"count": count, "latest": latest}


async def _shown(
    connection: Connection, platform: Platform, stored: StoredManifest, language: Language
) -> dict[str, Any]:
    statement = stored_statement(stored)
    late = await find_late(connection, platform.keyring, statement) if statement and statement.late else set()
    return manifest_view(stored, statement, late, language)


def not_closable(error: DayNotClosable) -> Problem:
    """Why a day cannot be closed, and from when on it can."""
    day = error.day.isoformat()
    if error.opens is None:
        why = Text("早于该数据方的首个许可", "it lies before the source's first licence")
        return _refused("day-not-closable", why, day=day)
    opens = error.opens.isoformat().replace("+00:00", "Z")
    why = Text(f"该日尚未结束，{opens} 起可以报送", f"it is not over; it can be closed from {opens} on")
    return _refused("day-not-closable", why, day=day)


def answered(status: int, content: object, headers: dict[str, str], request: Request) -> Response:
    """A JSON answer; its moments are UTC."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_UTC_Z),
        status,
        {**headers, **localized(language_of(request))},
        "application/json",
    )


BODY_MODELS[ManifestPayload.__name__] = ManifestPayload  # what the JWS carries is described too
