"""Enrol participants, link them to the providers that know them, and end such a link when a consent is withdrawn."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID, uuid4

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.platform import Platform
from api.problems import Fault, Language, Problem, language_of, localized, openapi_problems
from api.v1.activities import BREATH, CreditCode, Moment, Name, Word
from service.activities.claims import register_tag
from service.activities.intake import subject_tag
from service.database import Connection
from service.enrolment import Enrolled, NotEnrolled, Wanted, enrol_all
from service.keyring import Keyring
from service.organisations import NewOrganisation
from service.participants import EnrolledMeanwhile, NewLink, ParticipantConflict, add_link, withdraw_consent

router = APIRouter(tags=["participants"])

T = TypeVar("T")
MOST_PARTICIPANTS = 1000
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


class EnrolmentBatch(BaseModel):
    """Participants to enrol; each is read by itself, so that one that is faulty harms no other."""

    model_config = ConfigDict(strict=True, extra="forbid")

    participants: Annotated[
        list[Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/Enrolment"})]],
        Field(min_length=1, max_length=MOST_PARTICIPANTS),
    ]


class EnrolledItem(BaseModel):
    """This participant is enrolled: now, or these subjects or this organisation were before."""

    outcome: Literal["enrolled", "found"]
    participant_id: UUID
    links: list[LinkMade]


class NotEnrolledItem(BaseModel):
    """Not enrolled, and why, as a problem document (RFC 9457). Nothing of it was kept."""

    outcome: Literal["refused"]
    problem: dict[str, Any]


class EnrolmentsAnswer(BaseModel):
    """One outcome for every participant, in the order they were sent; `kind` is as it was sent."""

    programme: str
    region: str
    outcomes: list[EnrolledItem | NotEnrolledItem]
    counts: dict[Literal["enrolled", "found", "refused"], int]


@router.post(
    "/participants",
    status_code=201,
    summary="Enrol a participant 登记参与者",
    response_model=EnrolledParticipant,
    responses={
        200: {
            "description": "These subjects or this organisation were enrolled before: the participant they are",
            "model": EnrolledParticipant,
        },
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
    (enrolled,) = await _enrol(platform, [await _wanted(platform, body)])
    if not isinstance(enrolled, Enrolled):
        raise enrolled
    response.headers.update(headers)
    response.status_code = 201 if enrolled.created else 200
    return EnrolledParticipant(
        participant_id=enrolled.participant_id,
        kind=body.kind,
        programme=platform.settings.programme,
        region=platform.settings.region,
        links=[
            LinkMade(link_id=link_id, source=link.source)
            for link_id, link in zip(enrolled.link_ids, body.links, strict=True)
        ],
    )


@router.post(
    "/participants/batch",
    summary="Enrol participants in bulk 批量登记参与者",
    response_model=EnrolmentsAnswer,
    responses=openapi_problems(*BODY_PROBLEMS, "source-not-registered", "participant-conflict", "programme-mismatch"),
    openapi_extra=openapi_body(model=EnrolmentBatch),
)
async def enrol_participants(request: Request) -> Response:
    """Enrol up to 1,000 participants, each as `POST /v1/participants` does, with an outcome of its own; one that is
    refused harms no other.

    Send the same again whenever no answer came: who was enrolled is found.
    """
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "participants:enrol")
    content = await read_json(request)
    named = content.get("participants") if isinstance(content, dict) else None
    headers = await charge(request, caller, len(named) if isinstance(named, list) else 0)
    batch = parsed(EnrolmentBatch, content)
    read: list[tuple[Enrolment, Wanted] | Problem] = []
    for number, raw in enumerate(batch.participants):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        read.append(await _read(platform, raw))
    sound = [one for one in read if not isinstance(one, Problem)]
    enrolled = iter(await _enrol(platform, [wanted for _, wanted in sound]) if sound else ())
    items = [
        _refused(one, language, platform)
        if isinstance(one, Problem)
        else _item(one[0], next(enrolled), language, platform)
        for one in read
    ]
    counts = Counter(item["outcome"] for item in items)
    answer = {
        "programme": platform.settings.programme,
        "region": platform.settings.region,
        "outcomes": items,
        "counts": {name: counts[name] for name in ("enrolled", "found", "refused")},
    }
    return Response(orjson.dumps(answer), 200, headers | localized(language), "application/json")


async def _read(platform: Platform, raw: object) -> tuple[Enrolment, Wanted] | Problem:
    """One of a batch; what is wrong with it is its own outcome."""
    try:
        body = parsed(Enrolment, raw)
        return body, await _wanted(platform, body)
    except Problem as problem:
        return problem


def _item(body: Enrolment, enrolled: Enrolled | NotEnrolled, language: Language, platform: Platform) -> dict[str, Any]:
    if not isinstance(enrolled, Enrolled):
        slug = "participant-conflict" if isinstance(enrolled, ParticipantConflict) else "programme-mismatch"
        return _refused(Problem(slug), language, platform)
    return {
        "outcome": "enrolled" if enrolled.created else "found",
        "participant_id": str(enrolled.participant_id),
        "links": [
            {"link_id": str(link_id), "source": link.source}
            for link_id, link in zip(enrolled.link_ids, body.links, strict=True)
        ],
    }


def _refused(problem: Problem, language: Language, platform: Platform) -> dict[str, Any]:
    return {"outcome": "refused", "problem": problem.render(language, platform.settings.problem_base)}


async def _enrol(platform: Platform, wanted: list[Wanted]) -> list[Enrolled | NotEnrolled]:
    names = {"programme": platform.settings.programme, "region": platform.settings.region}
    return await _in_transaction(platform, lambda tx: enrol_all(tx, platform.vault, wanted, **names))


async def _wanted(platform: Platform, body: Enrolment) -> Wanted:
    """An enrolment with its tags. Raises Problem malformed-request, source-not-registered."""
    organisation = _organisation(body, platform.keyring)
    links = [await _new_link(platform, wanted) for wanted in body.links]
    return Wanted(uuid4(), body.kind, tuple(links), organisation)


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


async def _new_link(platform: Platform, wanted: LinkWanted) -> NewLink:
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
        200: {"description": "It was linked to this participant before", "model": LinkMade},
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
    link = await _new_link(platform, wanted)
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
