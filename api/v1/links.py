"""Link 关联 a source or a bank: it asks, the person sees who and what for and what they learn, and decides."""

from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth.callers import require_person
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.oauth.authorization import PAR_PATH, NamedParty, party_of, push_request, redirect_target
from api.oauth.client_authentication import identify, read_form
from api.oauth.errors import JSON, NO_STORE, OAuthError
from api.platform import Platform
from api.problems import Language, Problem, language_of, openapi_problems
from api.v1.manifests import answered
from api.v1.oauth import answers_errors, form_body, oauth_answers
from service.database import Connection
from service.linking.asking import (
    LinkRequest,
    approve_link,
    decline_link,
    find_link_request,
    new_secret,
)
from service.linking.texts import Asking, ConsentText

router = APIRouter(tags=["links"])

Handle = Annotated[
    str,
    PathParameter(pattern=r"^[A-Za-z0-9_-]{22}$", description="the end of the request_uri that the client has"),
]


class PushedView(BaseModel):
    """A pushed request (RFC 9126, 2.2): `request_uri` is for the person's app, which reads it within `expires_in`
    seconds."""

    request_uri: str
    expires_in: int


class LinkRequestView(BaseModel):
    """What a client asks of the person who reads it. Nothing is linked.

    state          `pending` can be approved or declined
    party          the source or the bank that asks, by its URI, and its name
    consent_text   what is agreed to, under its `text_version`
    learns         what the party will get to know
    """

    state: Literal["pending", "approved", "declined", "expired"]
    kind: Literal["source", "bank"]
    party: str
    party_title: str
    scope: Literal["link:activities", "link:bank"]
    consent_text: str
    text_version: str
    learns: str
    expires_at: datetime


class ConsentToText(BaseModel):
    """To which version of the text the person agrees."""

    model_config = ConfigDict(strict=True, extra="forbid")

    text_version: Annotated[str, Field(min_length=1, max_length=100)]


class LinkApproval(BaseModel):
    """That the person agrees to what the request showed."""

    model_config = ConfigDict(strict=True, extra="forbid")

    consent: ConsentToText


class LinkDecided(BaseModel):
    """Where the person's browser or app goes now: to the client, with a code or with the word that it was declined."""

    redirect_to: str


class ConsentTextView(BaseModel):
    """A text in both languages, under its version; in a link's, {party} is who asks."""

    text_version: str
    zh: str
    en: str


class ConsentTextsView(BaseModel):
    """What people agree to: the terms when they first sign in, the others for each link."""

    terms: ConsentTextView
    activities: ConsentTextView
    bank: ConsentTextView


@router.post(
    "/oauth/par",
    status_code=201,
    summary="Push a request for a link 提交关联请求",
    response_model=PushedView,
    responses=oauth_answers(),
    openapi_extra=form_body(
        "response_type",
        "redirect_uri",
        "code_challenge",
        "code_challenge_method",
        "state",
        "scope",
        response_type="code",
        redirect_uri="one that the client is registered with, to the letter",
        code_challenge="S256 of the code_verifier (RFC 7636)",
        code_challenge_method="S256",
        state="bound to the person's browser session at the client",
        scope="link:activities of a source, link:bank of a bank",
    ),
)
@answers_errors
async def push(request: Request) -> Response:
    """A source or a bank asks for a link (RFC 9126). The `request_uri` goes to the city's app, which shows the person
    what is asked; the answer comes back by redirection, with a code that is good for a minute and once."""
    platform = platform_of(request)
    form = await read_form(request)
    client = (await identify(request, form, PAR_PATH)).client
    if client.public:
        raise OAuthError("unauthorized_client", "people link sources and banks alone")
    headers = await platform.limiter.require(f"client:{client.client_id}")
    pushed = await push_request(platform, client, form)
    return Response(orjson.dumps(pushed), 201, NO_STORE | headers, JSON)


@router.get(
    "/link-requests/{handle}",
    summary="Read a request for a link 查看关联请求",
    response_model=LinkRequestView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "link-request-not-found", "link-request-ended"),
)
async def read_link_request(request: Request, handle: Handle) -> Response:
    """Who asks, for what, and what they would learn, before anything is agreed to."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "profile:read")
    require_person(caller)
    headers = await charge(request, caller)
    async with platform.pool.acquire() as connection:
        asked = await find_link_request(connection, handle)
        asking = await _asking(connection, platform, asked)
    content = _view(platform, asked, asking, language)
    return answered(200, content, headers | {"Cache-Control": "no-store"}, request)


@router.post(
    "/link-requests/{handle}/approve",
    summary="Approve a link 同意关联",
    response_model=LinkDecided,
    responses=openapi_problems(
        *BODY_PROBLEMS,
        "consent-text-differs",
        "terms-withdrawn",
        "participant-not-found",
        "account-closed",
        "guardian-consent-needed",
        "link-request-not-found",
        "link-request-ended",
    ),
    openapi_extra=openapi_body(model=LinkApproval),
)
async def approve(request: Request, handle: Handle) -> Response:
    """Agree: the answer is where to go, with a code for the client. Once, whoever asks again: the link is made when the
    client shows the code."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    participant_id = require_person(caller)
    content = await read_json(request)
    headers = await charge(request, caller)
    given = parsed(LinkApproval, content)
    settings, code = platform.settings, new_secret(platform.fresh)
    async with platform.pool.acquire() as connection, connection.transaction():
        asked = await find_link_request(connection, handle)
        asking = await _asking(connection, platform, asked)
        current = platform.texts.of(_asked_for(asking)).text_version
        if given.consent.text_version != current:
            raise Problem("consent-text-differs", text_version=current)
        await approve_link(connection, asked, participant_id, current, code, settings.clock_offset)
    target = redirect_target(asked.redirect_uri, code=code, state=asked.state, iss=settings.oauth_issuer)
    return answered(200, {"redirect_to": target}, headers | {"Cache-Control": "no-store"}, request)


@router.post(
    "/link-requests/{handle}/decline",
    summary="Decline a link 拒绝关联",
    response_model=LinkDecided,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "link-request-not-found", "link-request-ended"),
)
async def decline(request: Request, handle: Handle) -> Response:
    """Decline: the answer is where to go, with the word that it was declined. The client learns nothing else."""
    platform = platform_of(request)
    caller = await admit(request, "profile:write")
    participant_id = require_person(caller)
    headers = await charge(request, caller)
    settings = platform.settings
    async with platform.pool.acquire() as connection, connection.transaction():
        asked = await find_link_request(connection, handle)
        await decline_link(connection, asked, participant_id, settings.clock_offset)
    target = redirect_target(asked.redirect_uri, error="access_denied", state=asked.state, iss=settings.oauth_issuer)
    return answered(200, {"redirect_to": target}, headers | {"Cache-Control": "no-store"}, request)


@router.get(
    "/consent-texts",
    summary="Read the texts of consent 同意文本",
    response_model=ConsentTextsView,
    responses=openapi_problems("temporarily-unavailable"),
)
async def read_texts(request: Request) -> Response:
    """The terms and the texts of linking as they are now, in both languages. Open to anyone."""
    texts = platform_of(request).texts
    content = {name: _text_view(getattr(texts, name)) for name in ConsentTextsView.model_fields}
    return answered(200, content, {"Cache-Control": "public, max-age=60"}, request)


def _text_view(text: ConsentText) -> dict[str, str]:
    return {"text_version": text.text_version, "zh": text.text.zh, "en": text.text.en}


async def _asking(tx: Connection, platform: Platform, asked: LinkRequest) -> NamedParty:
    kind, _, uri = asked.party.partition(":")
    try:
        return await party_of(tx, "provider" if kind == "source" else "bank", uri, platform.today())
    except OAuthError:  # registered when it asked, and not any more
        raise Problem("link-request-ended", state="expired") from None


def _asked_for(asking: NamedParty) -> Asking:
    return "activities" if asking.party.kind == "source" else "bank"


def _view(platform: Platform, asked: LinkRequest, asking: NamedParty, language: Language) -> dict[str, Any]:
    text = platform.texts.of(_asked_for(asking)).named(asking.title)
    assert text.learns is not None  # a link's text has it
    return {
        "state": asked.standing(platform.fresh.clock()),
        "kind": asking.party.kind,
        "party": asking.party.uri,
        "party_title": getattr(asking.title, language),
        "scope": asked.scope,
        "consent_text": getattr(text.text, language),
        "text_version": text.text_version,
        "learns": getattr(text.learns, language),
        "expires_at": asked.expires_at,
    }
