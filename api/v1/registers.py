"""Registers 名录: import who is covered by emission trading and which installations are claimed elsewhere, and see what
is known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import (
    BODY_MODELS,
    BODY_PROBLEMS,
    CALL_PROBLEMS,
    admit,
    charge,
    openapi_body,
    parsed,
    platform_of,
    read_json,
)
from api.problems import Fault, Problem, faults_of, openapi_problems
from api.v1.activities import CreditCode, Installation, Name, Word
from api.v1.sources import Day, LastDay
from service.activities.claims import register_tag
from service.activities.references import ReferenceInvalid
from service.keyring import Keyring
from service.organisations import CodeMalformed, parse_code
from service.registers import SUBJECTS, NewEntry, Register, import_entries, list_entries

router = APIRouter(tags=["registers"])

MOST_ROWS = 5000


class CoveredEntity(BaseModel):
    """An entity under an emission-trading scheme, by its unified social credit code; `valid_to` is left out or null
    where no end is known."""

    model_config = ConfigDict(strict=True, extra="forbid")

    unified_social_credit_code: CreditCode
    valid_from: Day
    valid_to: LastDay = None


class ClaimedInstallation(BaseModel):
    """An installation whose output is claimed in another scheme: green certificates, a voluntary market."""

    model_config = ConfigDict(strict=True, extra="forbid")

    installation: Installation
    valid_from: Day
    valid_to: LastDay = None


_ROWS: tuple[type[BaseModel], ...] = (CoveredEntity, ClaimedInstallation)
_ROW_SCHEMA = {"anyOf": [{"$ref": f"#/components/schemas/{model.__name__}"} for model in _ROWS]}
BODY_MODELS.update({model.__name__: model for model in _ROWS})


class RegisterImport(BaseModel):
    """Entries of one scheme, and where they are written.

    rows      of the register `coverage`: CoveredEntity; of `elsewhere`: ClaimedInstallation
    replace   withdraw the scheme's entries that are not among the rows
    dry_run   only say what would change
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    scheme: Name
    source: Word
    rows: Annotated[
        list[Annotated[object, WithJsonSchema(_ROW_SCHEMA)]],  # checked row by row, so that every fault is named
        Field(min_length=1, max_length=MOST_ROWS),
    ]
    replace: bool = False
    dry_run: bool = False


class ImportAnswer(BaseModel):
    """What the import changed; of a dry run what it would change."""

    register_name: Annotated[Register, Field(serialization_alias="register")]
    scheme: str
    rows: int
    added: int
    unchanged: int
    withdrawn: int
    dry_run: bool


class SchemeView(BaseModel):
    """The entries of one scheme from one source; `valid_to` is null when one of them has no end."""

    scheme: str
    source: str
    entries: int
    valid_from: date
    valid_to: date | None
    imported_at: datetime


class RegisterView(BaseModel):
    """What a register holds, by scheme and source. Codes and installations are kept as keyed tags alone."""

    register_name: Annotated[Register, Field(serialization_alias="register")]
    schemes: list[SchemeView]


@router.post(
    "/registers/{register}/imports",
    summary="Import a register 导入名录",
    response_model=ImportAnswer,
    responses=openapi_problems(*BODY_PROBLEMS),
    openapi_extra=openapi_body(model=RegisterImport),
)
async def import_register(request: Request, response: Response, register: Register) -> ImportAnswer:
    """Add the entries that are not there yet, all of them or none. The same import again changes nothing.

    Every row is checked, and every fault is named by its place. Codes and installations are kept as keyed tags alone.
    """
    platform = platform_of(request)
    caller = await admit(request, "registers:write")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(RegisterImport, content)
    rows, faults = check_rows(register, body.rows)
    if faults:
        raise Problem("malformed-request", faults=faults)
    tags = [_tag(register, row.subject, platform.keyring) for row in rows]
    entries = [NewEntry(tag, row.valid_from, row.valid_to) for tag, row in zip(tags, rows, strict=True)]
    async with platform.pool.acquire() as connection, connection.transaction():
        imported = await import_entries(
            connection,
            register,
            body.scheme,
            body.source,
            entries,
            key_version=platform.keyring.lasting,
            replace=body.replace,
            dry_run=body.dry_run,
        )
    response.headers.update(headers)
    return ImportAnswer(
        register_name=register,
        scheme=body.scheme,
        rows=len(entries),
        added=imported.added,
        unchanged=imported.unchanged,
        withdrawn=imported.withdrawn,
        dry_run=body.dry_run,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was checked: the code in its one form, or the installation as it was named."""

    subject: str
    valid_from: date
    valid_to: date | None


def check_rows(register: Register, rows: Sequence[object]) -> tuple[list[Row], list[Fault]]:
    """The rows, and every fault of every row by its place; a row has a few at most, so the list is as bounded as the
    body."""
    faults: list[Fault] = []
    places: dict[Row, str] = {}
    for number, raw in enumerate(rows):
        place = f"/rows/{number}"
        try:
            row = _row(register, raw)
        except ValidationError as invalid:
            found = faults_of(invalid.errors(include_url=False, include_input=False))
            faults += [replace(fault, pointer=place + fault.pointer) for fault in found]
            continue
        if row in places:
            faults.append(Fault(place, "repeated", {"other": places[row]}))
        places.setdefault(row, place)
    return list(places), faults


def _row(register: Register, raw: object) -> Row:
    """Raises ValidationError."""
    if register == "coverage":
        covered = CoveredEntity.model_validate(raw)
        return Row(covered.unified_social_credit_code, covered.valid_from, covered.valid_to)
    claimed = ClaimedInstallation.model_validate(raw)
    return Row(claimed.installation, claimed.valid_from, claimed.valid_to)


@router.get(
    "/registers/{register}",
    summary="Read a register 查询名录",
    response_model=RegisterView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request"),
)
async def read_register(
    request: Request,
    response: Response,
    register: Register,
    subject: Annotated[
        str | None, Query(max_length=200, description="only of this code, or of this installation")
    ] = None,
) -> RegisterView:
    """What a register holds, by scheme and source; with `subject`, what it says of one entity or installation."""
    platform = platform_of(request)
    caller = await admit(request, "registers:write")
    headers = await charge(request, caller)
    tag = None if subject is None else _subject_tag(register, subject, platform.keyring)
    async with platform.pool.acquire() as connection:
        listed = await list_entries(connection, register, tag)
    response.headers.update(headers)
    return RegisterView(
        register_name=register,
        schemes=[
            SchemeView(
                scheme=each.scheme,
                source=each.source,
                entries=each.entries,
                valid_from=each.first,
                valid_to=each.last,
                imported_at=each.imported_at,
            )
            for each in listed
        ],
    )


def _subject_tag(register: Register, subject: str, keyring: Keyring) -> bytes:
    """Raises Problem malformed-request for what is no unified social credit code, and for what names nothing."""
    if register == "coverage":
        try:
            subject = parse_code(subject)
        except CodeMalformed as malformed:
            where = {"position": str(malformed.position), "expected": malformed.expected}
            raise Problem("malformed-request", faults=[Fault("subject", malformed.code, where, "query")]) from None
    try:
        return _tag(register, subject, keyring)
    except ReferenceInvalid as invalid:
        fault = Fault("subject", "bad-format", {"expected": invalid.expected}, "query")
        raise Problem("malformed-request", faults=[fault]) from None


def _tag(register: Register, subject: str, keyring: Keyring) -> bytes:
    return register_tag(keyring, SUBJECTS[register], subject)
