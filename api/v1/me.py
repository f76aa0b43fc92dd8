"""Oneself 本人: who one is here, what one has linked and agreed to, what banks ask; and the end of each."""

from datetime import datetime
from functools import partial
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.auth.callers import require_person
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.problems import Language, Problem, language_of, openapi_problems
from api.redemptions import PLACE_PROBLEMS, POSTING_PROBLEMS
from api.v1.approvals import ApprovalGiven, ApprovalView, DeclinedView, approve_found, decline_found, view_for
from api.v1.manifests import answered
from service.banks.requests import find_addressed, read_addressed
from service.linking.consents import (
    PersonConsent,
    PersonLink,
    end_link,
    read_consents,
    read_person_links,
    withdraw,
)
from service.own import own_rows
from service.participants import LinkNotFound

router = APIRouter(prefix="/me", tags=["me"])

_PRIVATE = {"Cache-Control": "no-store"}
_READ = "SELECT kind, programme, region, enrolled_at FROM service.participant WHERE participant_id = $1"


class LinkView(BaseModel):
    """A source or a bank that knows this person; `ended_at` once it does not any more."""

    link_id: UUID
    kind: Literal["source", "bank"]
    party: str
    party_title: str
    linked_at: datetime
    ended_at: datetime | None


class ConsentView(BaseModel):
    """A consent to one version of a text. `party` is whom it lets do something, null of the terms."""

    consent_id: UUID
    purpose: Literal["terms", "carbon-credit", "bank-link"]
    party: str | None
    text_version: str
    given_at: datetime
    withdrawn_at: datetime | None


class MeView(BaseModel):
    """Oneself as the platform knows one: under a random number, without a name."""

    participant_id: UUID
    kind: str
    programme: str
    region: str
    enrolled_at: datetime
    links: list[LinkView]
    consents: list[ConsentView]


class ConsentsView(BaseModel):
    """Every consent, withdrawn ones too, in the order in which they were given."""

    consents: list[ConsentView]


class RequestsView(BaseModel):
    """What linked banks ask, as `GET /v1/approvals/{code}` would show it."""

    requests: list[ApprovalView]


@router.get(
    "",
    summary="Read who one is here 查询本人",
    response_model=MeView,
    responses=openapi_problems(*CALL_PROBLEMS, "participant-not-found"),
)
async def read_me(request: Request) -> Response:
    """The participant of this token: its number, where it belongs, what it has linked and agreed to."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "profile:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        row = await connection.fetchrow(_READ, participant_id)
        if row is None:
            raise Problem("participant-not-found")
        links = await read_person_links(connection, participant_id)
        consents = await read_consents(connection, participant_id)
    content = {
        "participant_id": str(participant_id),
        **row,
        "links": [_link_view(link, language) for link in links],
        "consents": [_consent_view(consent) for consent in consents],
    }
    return answered(200, content, headers | _PRIVATE, request)


@router.get(
    "/links/{link_id}",
    summary="Read a link 查询关联",
    response_model=LinkView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "link-not-found"),
)
async def read_link(request: Request, link_id: UUID) -> Response:
    """One link of one's own, ended ones too."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "profile:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        links = await read_person_links(connection, participant_id)
    found = next((link for link in links if link.link_id == link_id), None)
    if found is None:
        raise LinkNotFound
    return answered(200, _link_view(found, language), headers | _PRIVATE, request)


@router.delete(
    "/links/{link_id}",
    status_code=204,
    summary="Unlink 解除关联",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "link-not-found"),
)
async def unlink(request: Request, link_id: UUID) -> Response:
    """End a link and the consent it rests on: from the moment of the answer on nothing that the source reports of this
    person is taken, and the bank can ask nothing. Linking again gives the party the same id."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection, connection.transaction():
        await end_link(connection, participant_id, link_id)
    return Response(status_code=204, headers=headers)


@router.get(
    "/consents",
    summary="Read one's consents 查询同意记录",
    response_model=ConsentsView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def read_own_consents(request: Request) -> Response:
    """What one has agreed to, to whom, in which version of the text, when, and what one took back."""
    platform = platform_of(request)
    caller = await admit(request, "profile:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        consents = await read_consents(connection, participant_id)
    content = {"consents": [_consent_view(consent) for consent in consents]}
    return answered(200, content, headers | _PRIVATE, request)


@router.post(
    "/consents/{consent_id}/withdraw",
    status_code=204,
    summary="Withdraw a consent 撤回同意",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "consent-not-found"),
)
async def withdraw_consent(request: Request, consent_id: UUID) -> Response:
    """Take a consent back. The link that rests on it ends at once; with the terms every link does, and nothing is
    processed until one agrees again. What was done before stays done."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection, connection.transaction():
        await withdraw(connection, participant_id, consent_id)
    return Response(status_code=204, headers=headers)


@router.get(
    "/requests",
    summary="Read what banks ask 查询银行请求",
    response_model=RequestsView,
    responses=openapi_problems(*CALL_PROBLEMS),
)
async def read_requests(request: Request) -> Response:
    """What banks that one has linked ask one to redeem, and what it would cost and give. Nothing is reserved."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "redemptions:read")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        asked = await read_addressed(connection, participant_id, platform.fresh.clock())
        views = [await view_for(connection, platform, one, participant_id, language) for one in asked]
    return answered(200, {"requests": views}, headers | _PRIVATE, request)


@router.post(
    "/requests/{request_id}",
    status_code=201,
    summary="Approve what a bank asks 同意银行请求",
    responses=openapi_problems(
        *BODY_PROBLEMS,
        "approval-not-found",
        "approval-ended",
        "consent-not-valid",
        "idempotency-conflict",
        *PLACE_PROBLEMS,
        *POSTING_PROBLEMS,
    ),
    openapi_extra=openapi_body(model=ApprovalGiven),
)
async def approve_request(request: Request, request_id: UUID) -> Response:
    """Agree, as with `POST /v1/approvals/{code}`: the points are held for the bank. Once only; the same again is
    answered as it stands."""
    caller = await admit(request, "redemptions:write")
    participant_id = require_person(caller)
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    given = parsed(ApprovalGiven, content)
    find = partial(find_addressed, participant_id=participant_id, request_id=request_id)
    return await approve_found(request, find, participant_id, given, headers)


@router.post(
    "/requests/{request_id}/decline",
    summary="Decline what a bank asks 拒绝银行请求",
    response_model=DeclinedView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "approval-not-found", "approval-ended"),
)
async def decline_request(request: Request, request_id: UUID) -> Response:
    """Decline: the bank learns that, and nothing else."""
    caller = await admit(request, "redemptions:write")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    find = partial(find_addressed, participant_id=participant_id, request_id=request_id)
    return await decline_found(request, find, participant_id, headers)


def _link_view(link: PersonLink, language: Language) -> dict[str, Any]:
    return {
        "link_id": str(link.link_id),
        "kind": link.kind,
        "party": link.uri,
        "party_title": link.title_zh if language == "zh" else link.title_en,
        "linked_at": link.linked_at,
        "ended_at": link.ended_at,
    }


def _consent_view(consent: PersonConsent) -> dict[str, Any]:
    return {
        "consent_id": str(consent.consent_id),
        "purpose": consent.purpose,
        "party": consent.party,
        "text_version": consent.text_version,
        "given_at": consent.given_at,
        "withdrawn_at": consent.withdrawn_at,
    }
