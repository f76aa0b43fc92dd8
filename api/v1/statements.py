"""Statements 对账单: each bank day as one document, the bank's own file against it, and closing by both sides."""

import asyncio
import re
from base64 import b64encode
from datetime import date
from hashlib import sha256
from typing import Annotated, Literal, NamedTuple

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Caller, require_scope
from api.auth.callers import Forbidden
from api.bank_days import (
    BankDaysView,
    BankDayView,
    DayClosure,
    bank_day_view,
    day_line_view,
    malformed_file,
)
from api.body import media_type, parse_json, read_body
from api.day_manifests import FIRST_DAY, LAST_DAY
from api.dependencies import (
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    JSON,
    admit,
    charge,
    openapi_body,
    parsed,
    platform_of,
)
from api.problems import Fault, Problem, language_of, openapi_problems
from api.signatures import require_signed
from api.signatures.calls import SIGNED_PROBLEMS, calling_bank
from api.v1.manifests import answered
from service.banks.registry import RegisteredBank
from service.settlement.bank_file import BankFileInvalid, read_bank_file
from service.settlement.reconciling import (
    BankDay,
    close_by_bank,
    close_by_operator,
    read_day,
    read_days,
    take_file,
)
from service.settlement.statement import statement_csv

router = APIRouter(tags=["statements"])

CSV = "text/csv"
FILE_BYTES = 32 * 2**20  # a hundred thousand lines with every column filled
DAYS_SHOWN, MOST_DAYS = 31, 366
BankUri = Annotated[str | None, Query(max_length=500, description="its URI; a bank's is its own")]
READ_PROBLEMS = (*CALL_PROBLEMS, "malformed-request", "bank-not-registered", "bank-not-found")


class _Reader(NamedTuple):
    """A bank, for a caller who may read what is its own, and the headers of the answer."""

    bank: RegisteredBank
    headers: dict[str, str]


@router.get(
    "/statements",
    summary="List bank days 营业日列表",
    response_model=BankDaysView,
    responses=openapi_problems(*READ_PROBLEMS),
)
async def list_days(
    request: Request,
    bank: BankUri = None,
    before: Annotated[str | None, Query(max_length=10, description="YYYY-MM-DD")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_DAYS)] = DAYS_SHOWN,
) -> Response:
    """The days that have a statement and where each stands, newest first. A bank reads its own, an operator names the
    bank."""
    reader = await _admit_reader(request, bank)
    until = LAST_DAY if before is None else _day(before, "before", "query")
    async with platform_of(request).pool.acquire() as connection:
        days = await read_days(connection, reader.bank.bank_id, until, limit + 1)
    shown = days[:limit]
    content = {
        "bank": reader.bank.uri,
        "days": [day_line_view(line) for line in shown],
        "next": shown[-1].day if len(days) > limit else None,
    }
    return answered(200, content, reader.headers, request)


@router.get(
    "/statements/{day}",
    summary="Download a statement 下载对账单",
    response_class=Response,
    responses={
        200: {
            "description": "The statement: the JSON whose SHA-256 is in the log, or the same as CSV",
            "content": {JSON: {"schema": {"type": "object"}}, CSV: {"schema": {"type": "string"}}},
        },
        **openapi_problems(*READ_PROBLEMS, "statement-not-found"),
    },
)
async def read_statement(request: Request, day: str, bank: BankUri = None) -> Response:
    """Everything of the day, with control totals. `Accept: text/csv` asks for CSV; Content-Digest is of what is
    sent."""
    reader = await _admit_reader(request, bank)
    found = await _read(request, reader.bank, _day(day))
    as_csv = _wants_csv(request)
    content = await asyncio.to_thread(statement_csv, found.document) if as_csv else found.document
    headers = {
        **reader.headers,
        "Content-Digest": f"sha-256=:{b64encode(sha256(content).digest()).decode('ascii')}:",
        "Content-Disposition": f'attachment; filename="statement-{found.day}.{"csv" if as_csv else "json"}"',
        "Vary": "Accept",
    }
    return Response(content, 200, headers, f"{CSV}; charset=utf-8; header=present" if as_csv else JSON)


@router.get(
    "/statements/{day}/reconciliation",
    summary="Read where a day stands 查询对账情况",
    response_model=BankDayView,
    responses=openapi_problems(*READ_PROBLEMS, "statement-not-found"),
)
async def read_reconciliation(request: Request, day: str, bank: BankUri = None) -> Response:
    """The state of the day, every difference of the bank's last file with its reason, and who has closed it."""
    reader = await _admit_reader(request, bank)
    found = await _read(request, reader.bank, _day(day))
    return await _shown(request, found, reader.headers)


@router.post(
    "/statements/{day}/files",
    summary="Send the bank's file 提交银行对账文件",
    response_model=BankDayView,
    responses=openapi_problems(
        *BODY_PROBLEMS, *SIGNED_PROBLEMS, "bank-file-malformed", "statement-not-found", "day-closed"
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {CSV: {"schema": {"type": "string"}}, JSON: {"schema": {"type": "object"}}},
        }
    },
)
async def post_file(request: Request, day: str) -> Response:
    """Compare the bank's own book of the day with our statement; a later file replaces the answer, and all are kept.

    The bank signs the call. A file needs `transfer_id`, `redemption_id`, `kind`, `units` and `value_fen`; a statement
    that is sent back agrees with itself.
    """
    platform = platform_of(request)
    caller = await admit(request, "statements:write")
    form = _form(request)
    body = await read_body(request, FILE_BYTES)
    headers = await charge(request, caller)
    wanted = _day(day)
    call = await require_signed(request, body, caller, money=False, lasting=False)
    try:
        file = await asyncio.to_thread(read_bank_file, body, form, bank=call.bank.uri, day=wanted)
    except BankFileInvalid as invalid:
        raise malformed_file(invalid, language_of(request)) from None
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        found = await take_file(connection, call.bank.bank_id, wanted, body, file, call.call_id, platform.fresh)
    return await _shown(request, found, headers)


@router.post(
    "/statements/{day}/closing",
    summary="Close a day 关账",
    response_model=BankDayView,
    responses=openapi_problems(
        *BODY_PROBLEMS,
        *SIGNED_PROBLEMS,
        "bank-not-found",
        "statement-not-found",
        "day-moved",
        "bank-not-closed",
        "posting-suspended",
    ),
    openapi_extra=openapi_body(model=DayClosure),
)
async def post_closing(request: Request, day: str) -> Response:
    """Close the day on a statement and on the bank's file that counts. The bank signs the call.

    Where nothing differs the platform closes with it. Where the bank closes on differences that it accepts, an
    operator closes after it. What both have closed stands in the log and changes no more.
    """
    platform = platform_of(request)
    caller = await admit(request, "statements:read")
    if caller.bank is None and caller.role != "operator":  # who may only read them
        raise Forbidden
    require_scope(caller, "banks:write" if caller.bank is None else "statements:write")
    if media_type(request.headers) != JSON:
        raise Problem("unsupported-media-type", accepted=JSON)
    content = await read_body(request, platform.settings.max_body_bytes)
    document = parse_json(content)
    headers = await charge(request, caller)
    wanted, body = _day(day), parsed(DayClosure, document)
    platform.watch.require()
    if caller.bank is None:
        bank = await _named(request, caller, body.bank)
        async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            found = await close_by_operator(
                connection, bank.bank_id, wanted, statement=body.statement, file=body.file, fresh=platform.fresh
            )
        return await _shown(request, found, headers)
    call = await require_signed(request, content, caller, money=False)
    if body.bank not in (None, call.bank.uri):
        raise Forbidden
    async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        found = await close_by_bank(
            connection,
            call.bank.bank_id,
            wanted,
            statement=body.statement,
            file=body.file,
            call_id=call.call_id,
            fresh=platform.fresh,
        )
    return await _shown(request, found, headers)


async def _admit_reader(request: Request, bank: str | None) -> _Reader:
    caller = await admit(request, "statements:read")
    headers = await charge(request, caller)
    return _Reader(await _named(request, caller, bank, "query"), headers)


async def _named(
    request: Request, caller: Caller, bank: str | None, where: Literal["query", "body"] = "body"
) -> RegisteredBank:
    """A bank's own registration, or that of the bank an operator names."""
    if caller.bank is not None:
        if bank not in (None, caller.bank):
            raise Forbidden
        return await calling_bank(request, caller)
    if bank is None:
        raise Problem(
            "malformed-request", faults=[Fault("/bank" if where == "body" else "bank", "missing", where=where)]
        )
    found = await platform_of(request).bank(bank)
    if found is None:
        raise Problem("bank-not-found")
    return found


async def _read(request: Request, bank: RegisteredBank, day: date) -> BankDay:
    async with platform_of(request).pool.acquire() as connection:
        return await read_day(connection, bank.bank_id, day)


async def _shown(request: Request, found: BankDay, headers: dict[str, str]) -> Response:
    view = await asyncio.to_thread(bank_day_view, found, language_of(request))  # a busy day takes a second to read
    return answered(200, view, headers, request)


def _form(request: Request) -> Literal["csv", "json"]:
    kind = media_type(request.headers)
    if kind == CSV:
        return "csv"
    if kind == JSON:
        return "json"
    raise Problem("unsupported-media-type", accepted=f"{CSV}, {JSON}")


def _wants_csv(request: Request) -> bool:
    """Whether CSV was asked for: JSON is what is signed for in the log, so it is sent wherever it is accepted too."""
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return CSV in accepted and JSON not in accepted


def _day(text: str, name: str = "day", where: str = "path") -> date:
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None
    except ValueError:
        day = None
    if day is None or not FIRST_DAY <= day <= LAST_DAY:
        raise Problem("malformed-request", faults=[Fault(name, "bad-format", {"expected": "YYYY-MM-DD"}, where)])
    return day
