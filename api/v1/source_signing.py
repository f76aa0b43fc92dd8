"""Whether a source must sign what it sends, and what is done when one of its keys was stolen."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_scope
from api.dependencies import BODY_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, raw_body, read_json
from api.operators import operator_code
from api.platform import SIGNER_FRESH_S, Platform
from api.problems import Fault, Problem, openapi_problems
from api.two_people import PROPOSED, TWO_PEOPLE_PROBLEMS, require_two
from api.v1.manifests import answered, require_licence
from api.v1.source_keys import KeyId, KeyMoment
from api.v1.sources import SourceUri
from ledger.leaves import NONCE_BYTES
from service.activities.intake import Refusal
from service.posting import Outcome, Reverse, Reversed
from service.reports.compromise import SignedSince, StandingCredit, find_signed, is_decided, revoke_key
from service.reports.registry import set_signing

router = APIRouter(tags=["sources"])

AT_A_TIME = 500  # credits in one posting
MOST_REVERSED = 10_000  # credits in one call; whoever asks again goes on
SETTLES_S = SIGNER_FRESH_S + 0.5  # by then every process knows, and what the key still brought in has been posted
REASON = "key_compromised"


class SigningPolicy(BaseModel):
    """Whether a source's calls must be signed. Of a source of which nothing was decided, those of grade A must in
    production, and no others."""

    model_config = ConfigDict(strict=True, extra="forbid")

    uri: SourceUri
    signing: Literal["required", "optional"]


class KeyRevocation(BaseModel):
    """From which moment on a key does not count, because somebody else may have had it; with `dry_run` nothing is done,
    and the answer says what would be."""

    model_config = ConfigDict(strict=True, extra="forbid", populate_by_name=True)

    uri: SourceUri
    kid: KeyId
    since: Annotated[KeyMoment, Field(alias="from")]
    dry_run: bool = False


class OtherCallView(BaseModel):
    """A call that reported no activity, to be looked at by hand."""

    path: str
    received_at: datetime


class SignedManifestView(BaseModel):
    """A day's manifest, to be closed anew under another key."""

    day: date
    sequence: int


class TakenBack(BaseModel):
    """What this call took back, or would: credits, whole milligrams CO2e, whole points."""

    credits: int
    reduction_mg: int
    points: int


class RevocationAnswer(BaseModel):
    """What the key signed since, and what became of it.

    ends               from when on the key does not count; null in a dry run
    calls, credited    reports that were taken since, and the credits they led to
    reversed_before    credits that had been taken back, by whomever
    reversed           what this call took back
    refused            credits that could not be taken back, by the problem
    left               credits that still stand: send the same call again until there are none
    others, manifests  what else it signed since, which nothing is done about
    """

    uri: str
    kid: str
    since: Annotated[datetime, Field(serialization_alias="from")]
    dry_run: bool
    ends: datetime | None
    calls: int
    credited: int
    reversed_before: int
    reversed: TakenBack
    refused: dict[str, int]
    left: int
    others: list[OtherCallView]
    manifests: list[SignedManifestView]


@router.put(
    "/sources/policy",
    summary="Say whether a source must sign 设定数据方签名要求",
    response_model=SigningPolicy,
    responses={**PROPOSED, **openapi_problems(*BODY_PROBLEMS, *TWO_PEOPLE_PROBLEMS, "source-not-found")},
    openapi_extra=openapi_body(model=SigningPolicy),
)
async def put_policy(request: Request) -> Response:
    """Require a source's signature (RFC 9421) under its reports, settlements and retractions, or leave it to the
    source. Every process knows within a second. Needs two operators."""
    platform = platform_of(request)
    caller = await admit(request, "sources:register")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(SigningPolicy, content)
    await require_licence(platform, body.uri)
    if (proposed := await require_two(request, caller, raw_body(request))) is not None:
        return proposed
    async with platform.pool.acquire() as connection:
        known = await set_signing(connection, body.uri, body.signing, platform.settings.clock_offset)
    if not known:
        raise Problem("source-not-found")
    platform.signers.pop(body.uri, None)
    return answered(200, body.model_dump(), headers, request)


@router.post(
    "/sources/keys/revocation",
    summary="Revoke a compromised key 撤销失窃密钥",
    response_model=RevocationAnswer,
    responses={
        **PROPOSED,
        **openapi_problems(
            *BODY_PROBLEMS,
            *TWO_PEOPLE_PROBLEMS,
            "source-not-found",
            "source-key-not-found",
            "posting-suspended",
            "overloaded",
        ),
    },
    openapi_extra=openapi_body(model=KeyRevocation),
)
async def post_revocation(request: Request) -> Response:
    """End a source's key from a moment on, and take back every credit that it signed since, with the reason
    `key_compromised`, up to 10,000 in a call. Send the same again until nothing is left: it was decided once."""
    platform = platform_of(request)
    caller = await admit(request, "sources:register")
    require_scope(caller, "credits:reverse")
    content = await read_json(request)
    headers = await charge(request, caller)
    body = parsed(KeyRevocation, content)
    since = body.since.astimezone(UTC).replace(microsecond=0)  # to the second, as the leaf of it says
    now = platform.fresh.clock()
    if since > now:
        raise Problem("malformed-request", faults=[Fault("/from", "too-large", {"limit": now.isoformat()})])
    licence = await require_licence(platform, body.uri)
    async with platform.pool.acquire() as connection:
        decided = await is_decided(connection, licence.source_id, body.kid, since)
    ends: datetime | None = None
    if not body.dry_run:
        if not decided and (proposed := await require_two(request, caller, raw_body(request))) is not None:
            return proposed
        platform.watch.require()
        by, fresh, offset = operator_code(platform, caller), platform.fresh, platform.settings.clock_offset
        async with platform.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
            ends = await revoke_key(connection, licence, body.kid, since, by, fresh, offset)
        platform.signers.pop(body.uri, None)
        if not decided:
            await asyncio.sleep(SETTLES_S)
    async with platform.counting, platform.pool.acquire() as connection, connection.transaction():
        found = await find_signed(connection, licence.source_id, body.kid, since, MOST_REVERSED)
    taken, refused = TakenBack(credits=0, reduction_mg=0, points=0), Counter[str]()
    if body.dry_run:
        taken = _sum(found.standing)
    else:
        taken, refused = await _take_back(platform, found.standing)
    answer = _answer(body, since, ends, found, taken, refused)
    return answered(200, answer.model_dump(by_alias=True), headers, request)


async def _take_back(platform: Platform, credits: Sequence[StandingCredit]) -> tuple[TakenBack, Counter[str]]:
    """Reverse these; what the poster refuses is counted by its problem. One that another call took back meanwhile
    counts as taken back."""
    fresh, done, refused = platform.fresh, list[StandingCredit](), Counter[str]()
    for some in (credits[first : first + AT_A_TIME] for first in range(0, len(credits), AT_A_TIME)):
        commands = [
            Reverse(each.participant_id, each.activity_id, REASON, "operator", fresh.id(), fresh.random(NONCE_BYTES))
            for each in some
        ]
        outcomes: list[Outcome] = await platform.poster.post(commands)
        for each, outcome in zip(some, outcomes, strict=True):
            if isinstance(outcome, Reversed):
                done.append(each)
            elif isinstance(outcome, Refusal):
                refused[outcome.slug] += 1
    return _sum(done), refused


def _sum(credits: Sequence[StandingCredit]) -> TakenBack:
    return TakenBack(
        credits=len(credits),
        reduction_mg=sum(each.co2e_mg for each in credits),
        points=sum(each.points for each in credits),
    )


def _answer(
    body: KeyRevocation,
    since: datetime,
    ends: datetime | None,
    found: SignedSince,
    taken: TakenBack,
    refused: Counter[str],
) -> RevocationAnswer:
    return RevocationAnswer(
        uri=body.uri,
        kid=body.kid,
        since=since,
        dry_run=body.dry_run,
        ends=ends,
        calls=found.calls,
        credited=found.credited,
        reversed_before=found.gone,
        reversed=taken,
        refused=dict(sorted(refused.items())),
        left=found.left - taken.credits,
        others=[OtherCallView(path=each.path, received_at=each.received_at) for each in found.others],
        manifests=[SignedManifestView(day=day, sequence=sequence) for day, sequence in found.manifests],
    )
