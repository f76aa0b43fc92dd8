"""Enrol participants, link them to the providers that know them, and end such a link when a consent is withdrawn."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, TypeVar
from uuid import UUID, uuid4

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.platform import Platform
from api.problems import Fault, Problem, openapi_problems
from api.v1.activities import CreditCode, Moment, Name, Word
from service.activities.claims import register_tag
from service.activities.intake import subject_tag
from service.database import Connection
from service.keyring import Keyring
from service.organisations import NewOrganisation
from service.participants import EnrolledMeanwhile, NewLink, add_link, enrol, withdraw_consent

router = APIRouter(tags=["participants"])

T = TypeVar("T")
MEETINGS = 10  # enrolments of one subject that may cross before the caller is asked to come back
Kind = Literal["citizen", "firm", "social_organisation", "government_body", "public_institution"]


class ConsentGiven(BaseModel):
    """What the person agreed to, in which version of the text, and when."""

    model_config = ConfigDict(strict=True, extra="forbid")

    purpose: Literal["carbon-credit"]
    text_version: Name
    given_at: Moment


class LinkWanted(BaseModel):
    """A provider, its own id for the person, and the person's consent to their activities being credited."""

    model_config = ConfigDict(strict=True, extra="forbid")

    source: Word
    subject: Word
    consent: ConsentGiven


class MandateGiven(BaseModel):
    """That whoever enrols the organisation may do so: the version of the text its representative signed, and when."""

    model_config = ConfigDict(strict=True, extra="forbid")

    text_version: Name
    given_at: Moment


class OrganisationWanted(BaseModel):
    """An organisation by its unified social credit code (GB 32100-2015), which is kept as a keyed tag alone."""

    model_config = ConfigDict(strict=True, extra="forbid")

    code: CreditCode
    mandate: MandateGiven


class Enrolment(BaseModel):
    """A participant to enrol. No name, no telephone number: the platform does not take any.

    Every kind but `citizen` needs `organisation`; a citizen has none.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    kind: Kind
    organisation: OrganisationWanted | None = None
    links: Annotated[list[LinkWanted], Field(max_length=20)] = []


class LinkMade(BaseModel):
    link_id: UUID
    source: str


class EnrolledParticipant(BaseModel):
    """The participant under its random pseudonym."""

    participant_id: UUID
    kind: Kind
    programme: str
    region: str
    links: list[LinkMade]


@router.post(
    "/participants",
    status_code=201,
    summary="Enrol a participant 登记参与者",
    response_model=EnrolledParticipant,
    responses={
        200: {"description": "These subjects or this organisation were enrolled before: the participant they are"},
        **openapi_problems(
            *BODY_PROBLEMS,
            "source-not-registered",
            "participant-conflict",
            "programme-mismatch",
        ),
    },
    openapi_extra=openapi_body(model=Enrolment),
)
async def enrol_participant(request: Request, response: Response) -> EnrolledParticipant:
    """Enrol a participant under a random pseudonym and link the sources that know it, each with the consent it rests
    on.

    Repeating an enrolment finds the participant again. A source's subject belongs to one participant at a time, and
    one organisation is one participant, by its unified social credit code.
    """
    platform = platform_of(request)
    caller = await admit(request, "participants:enrol")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(Enrolment, content)
    organisation = _organisation(body, platform.keyring)
    links = [await _new_link(request, wanted) for wanted in body.links]
    settings = platform.settings
    names = {"kind": body.kind, "programme": settings.programme, "region": settings.region}
    enrolled = await _in_transaction(platform, lambda tx: enrol(tx, uuid4(), links, organisation=organisation, **names))
    response.headers.update(headers)
    response.status_code = 201 if enrolled.created else 200
    made = [
        LinkMade(link_id=link_id, source=link.source)
        for link_id, link in zip(enrolled.link_ids, body.links, strict=True)
    ]
    return EnrolledParticipant(
        participant_id=enrolled.participant_id,
        kind=body.kind,
        programme=platform.settings.programme,
        region=platform.settings.region,
        links=made,
    )


def _organisation(body: Enrolment, keyring: Keyring) -> NewOrganisation | None:
    """The organisation of an enrolment. Raises Problem malformed-request."""
    wanted = body.organisation
    if wanted is None:
        if body.kind != "citizen":
            raise Problem("malformed-request", faults=[Fault("/organisation", "missing")])
        return None
    if body.kind == "citizen":
        raise Problem("malformed-request", faults=[Fault("/organisation", "unexpected")])
    return NewOrganisation(
        code_tag=register_tag(keyring, "site", wanted.code),
        key_version=keyring.lasting,
        text_version=wanted.mandate.text_version,
        given_at=wanted.mandate.given_at,
    )


async def _new_link(request: Request, wanted: LinkWanted) -> NewLink:
    platform = platform_of(request)
    licence = await platform.licence(wanted.source)
    if licence is None:
        raise Problem("source-not-registered")
    return NewLink(
        link_id=uuid4(),
        source_id=licence.source_id,
        programme=licence.programme,
        subject_tag=subject_tag(platform.keyring, wanted.source, wanted.subject),
        key_version=platform.keyring.lasting,
        purpose=wanted.consent.purpose,
        text_version=wanted.consent.text_version,
        given_at=wanted.consent.given_at,
    )


@router.post(
    "/participants/{participant_id}/links",
    status_code=201,
    summary="Link another source 关联数据方",
    response_model=LinkMade,
    responses={
        200: {"description": "It was linked to this participant before"},
        **openapi_problems(
            *BODY_PROBLEMS,
            "source-not-registered",
            "participant-not-found",
            "participant-conflict",
            "programme-mismatch",
        ),
    },
    openapi_extra=openapi_body(model=LinkWanted),
)
async def link_source(request: Request, response: Response, participant_id: UUID) -> LinkMade:
    """Link one more source to a participant, with the consent it rests on."""
    platform = platform_of(request)
    caller = await admit(request, "participants:enrol")
    content = await read_json(request)
    headers = await charge(request, caller)
    wanted = parsed(LinkWanted, content)
    link = await _new_link(request, wanted)
    link_id, created = await _in_transaction(platform, lambda tx: add_link(tx, participant_id, link))
    response.headers.update(headers)
    response.status_code = 201 if created else 200
    return LinkMade(link_id=link_id, source=wanted.source)


async def _in_transaction(platform: Platform, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do this in one transaction; again from the start when the same subject was enrolled in between."""
    for _ in range(MEETINGS):
        try:
            async with platform.pool.acquire() as connection, connection.transaction():
                return await work(connection)
        except EnrolledMeanwhile:
            continue
    raise Problem("temporarily-unavailable", headers={"Retry-After": "1"})


@router.delete(
    "/participants/{participant_id}/links/{link_id}",
    status_code=204,
    summary="Withdraw a consent 撤回授权",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "link-not-found"),
)
async def withdraw(request: Request, participant_id: UUID, link_id: UUID) -> Response:
    """End a link: from the moment of the answer on, the source's reports for this person are refused and nothing of
    them is kept."""
    platform = platform_of(request)
    headers = await charge(request, await admit(request, "participants:enrol"))
    async with platform.pool.acquire() as connection, connection.transaction():
        await withdraw_consent(connection, participant_id, link_id)
    return Response(status_code=204, headers=headers)
