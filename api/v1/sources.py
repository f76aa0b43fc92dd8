"""Register data providers 数据方: what each may report, from when to when, and how far its evidence is trusted."""

import re
from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import BODY_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.problems import openapi_problems
from api.v1.activities import Name, Word
from service.activities.store import register_source

router = APIRouter(tags=["sources"])


_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)  # of the forms of ISO 8601 the one that people read


def _day(value: object) -> object:
    return date.fromisoformat(value) if isinstance(value, str) and _DAY.fullmatch(value) else value


Day = Annotated[date, BeforeValidator(_day, json_schema_input_type=str)]
# What leaves the log's leaves may carry: an absolute URI in printable ASCII.
SourceUri = Annotated[str, StringConstraints(max_length=500, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]+$")]


class SourceRegistration(BaseModel):
    """A data provider's registration. Grade A is an operator's own record, B a device's, C self-declared."""

    model_config = ConfigDict(strict=True, extra="forbid")

    uri: SourceUri
    title_zh: Word
    title_en: Word
    grade: Literal["A", "B", "C"]
    scenarios: Annotated[list[Name], Field(min_length=1, max_length=50)]
    valid_from: Day
    valid_to: Day | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "SourceRegistration":
        if self.valid_to and self.valid_to < self.valid_from:
            raise ValueError("valid_to is not before valid_from")
        return self


@router.put(
    "/sources",
    summary="Register a data provider 登记数据方",
    response_model=SourceRegistration,
    responses=openapi_problems(*BODY_PROBLEMS),
    openapi_extra=openapi_body(model=SourceRegistration),
)
async def put_source(request: Request, response: Response) -> SourceRegistration:
    """Register a source by its URI, or bring its registration up to date. Every process knows within a second."""
    platform = platform_of(request)
    caller = await admit(request, "sources:register")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(SourceRegistration, content)
    async with platform.pool.acquire() as connection:
        await register_source(
            connection,
            uri=body.uri,
            titles=(body.title_zh, body.title_en),
            grade=body.grade,
            scenarios=body.scenarios,
            programme=platform.settings.programme,
            region=platform.settings.region,
            valid_from=body.valid_from,
            valid_to=body.valid_to,
        )
    platform.licences.pop(body.uri, None)
    response.headers.update(headers)
    return body
