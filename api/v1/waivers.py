"""Waivers 放弃交易: an owner gives up trading an installation's reductions, for good, so that they may earn points."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_participant
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.problems import Text, openapi_problems
from api.v1.activities import Installation, Moment
from service.activities.claims import register_tag
from service.organisations import GivenWaiver, NewWaiver, list_waivers, waive
from service.own import own_rows
from service.participants import require_enrolled

router = APIRouter(tags=["participants"])

# What a waiver says, by the version of the text; a version that was shown to somebody is never worded anew.
WAIVER_TEXTS: dict[str, Text] = {
    "trading-1": Text(
        "本人（本单位）就所列设施产生的全部减排量，不可撤回地放弃一切交易、转让、质押和抵销的权利："
        "它们不再签发为可交易的减排量，也不在其他碳市场、绿证或自愿减排机制中主张；作为交换，可据此获得碳积分。"
        "放弃自登记之时起对该设施今后及尚未签发的减排量永久有效，不能撤回。",
        "For all reductions of the installation named, the right to trade, transfer, pledge or offset with them is "
        "given up irrevocably: they are not issued as tradable reductions, and are not claimed in another carbon "
        "market, as green certificates or in another voluntary scheme. In exchange they may earn points. From its "
        "recording on, the waiver holds for ever for all reductions of the installation that are still to come or not "
        "yet issued; it cannot be taken back.",
    ),
}


class WaiverWanted(BaseModel):
    """An installation whose reductions shall never be traded, and the version of the text that was agreed to."""

    model_config = ConfigDict(strict=True, extra="forbid")

    installation: Installation
    text_version: Literal["trading-1"]
    given_at: Moment


class TextView(BaseModel):
    zh: str
    en: str


class WaiverView(BaseModel):
    """A waiver on record. The installation is known as a keyed tag alone, as it stands in the log."""

    installation_tag: str
    text_version: str
    text: TextView
    given_at: datetime
    recorded_at: datetime


class WaiverList(BaseModel):
    """Everything a participant has waived, in order of recording."""

    waivers: list[WaiverView]


@router.post(
    "/participants/{participant_id}/waivers",
    status_code=201,
    summary="Give up trading 放弃交易",
    response_model=WaiverView,
    responses={
        200: {"description": "It was given up before: that waiver"},
        **openapi_problems(*BODY_PROBLEMS, "participant-not-found"),
    },
    openapi_extra=openapi_body(model=WaiverWanted),
)
async def give_waiver(request: Request, response: Response, participant_id: UUID) -> WaiverView:
    """Give up for good the trading of an installation's reductions, so that they may earn points. It cannot be undone.

    By the participant, or by an operator in whose hands the signed text is.
    """
    platform = platform_of(request)
    caller = await admit(request, "waivers:write")
    require_participant(caller, participant_id)
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(WaiverWanted, content)
    waiver = NewWaiver(
        installation_tag=register_tag(platform.keyring, "installation", body.installation),
        key_version=platform.keyring.lasting,
        text_version=body.text_version,
        given_at=body.given_at,
    )
    async with platform.pool.acquire() as connection, connection.transaction():
        await require_enrolled(connection, participant_id)
        given, created = await waive(connection, participant_id, waiver)
    response.headers.update(headers)
    response.status_code = 201 if created else 200
    return _waiver_view(given)


@router.get(
    "/participants/{participant_id}/waivers",
    summary="List waivers 放弃交易记录",
    response_model=WaiverList,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "participant-not-found"),
)
async def read_waivers(request: Request, response: Response, participant_id: UUID) -> WaiverList:
    """The installations whose reductions this participant has given up trading, each with the text agreed to."""
    platform = platform_of(request)
    caller = await admit(request, "balance:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        await require_enrolled(connection, participant_id)
        given = await list_waivers(connection, participant_id)
    response.headers.update(headers)
    return WaiverList(waivers=[_waiver_view(waiver) for waiver in given])


def _waiver_view(waiver: GivenWaiver) -> WaiverView:
    text = WAIVER_TEXTS[waiver.text_version]
    return WaiverView(
        installation_tag=f"{waiver.key_version}:{waiver.installation_tag.hex()}",
        text_version=waiver.text_version,
        text=TextView(zh=text.zh, en=text.en),
        given_at=waiver.given_at,
        recorded_at=waiver.recorded_at,
    )
