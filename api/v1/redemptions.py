"""Redeem points 兑换: a quote, a hold that the participant agreed to, the entitlement for the bank."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_participant
from api.auth.callers import Forbidden
from api.board import told
from api.cursors import seal, unseal
from api.dependencies import BODY_PROBLEMS, CALL_PROBLEMS, admit, charge, openapi_body, parsed, platform_of, read_json
from api.entitlements import issue_entitlement
from api.idempotency import read_idempotency_key
from api.platform import Platform
from api.problems import Language, Problem, language_of, openapi_problems
from api.redemptions import PLACE_PROBLEMS, POSTING_PROBLEMS, not_found, post_step, redemption_view, told_view
from api.routing import DirectRoute
from api.v1.activities import Moment, Name
from api.v1.manifests import answered
from ledger.holds import hold_lines, passing
from service.banks.entitlements import Entitlement
from service.own import own_rows
from service.products.facts import read_facts
from service.products.model import Facts, Offer, Reason, lacking, price, reasons, tier_of
from service.redemption.commands import Order, ReleaseHold
from service.redemption.placing import Agreed, build_hold, call_of
from service.redemption.pools import Pool, read_pool
from service.redemption.reading import read_redemption, read_redemptions
from service.redemption.store import read_grams

router = APIRouter(tags=["redemptions"])
busy = APIRouter(tags=["redemptions"], route_class=DirectRoute)

PAGE, LONGEST_PAGE = 50, 200
_CLOCK_SLACK = timedelta(minutes=5)  # a phone's clock may be so far ahead
Units = Annotated[int, Field(ge=1, le=1_000_000)]
Version = Annotated[int, Field(ge=1, le=1_000_000)]


class QuoteWanted(BaseModel):
    """So many units of an offer; without a version, of the one on the board."""

    model_config = ConfigDict(strict=True, extra="forbid")

    offer: Name
    version: Version | None = None
    units: Units


class ConsentGiven(BaseModel):
    """That the participant agreed, to which wording, and when."""

    model_config = ConfigDict(strict=True, extra="forbid")

    text_version: Annotated[str, Field(min_length=1, max_length=100)]
    given_at: Moment


class RedemptionWanted(BaseModel):
    """What the participant agreed to: units of a version of an offer, for so many points as the quote said."""

    model_config = ConfigDict(strict=True, extra="forbid")

    offer: Name
    version: Version
    units: Units
    points: Annotated[int, Field(ge=1, le=2**62)]
    consent: ConsentGiven


class ExpiringPoints(BaseModel):
    """Points that would be used of those that run out on this day."""

    on: str
    points: int


class BenefitView(BaseModel):
    """What the units give: an amount in its unit."""

    kind: str
    amount: int
    unit: str


class QuoteView(BaseModel):
    """What the units cost and give, for this participant now; nothing is reserved.

    points         of which those that run out first are used first
    value_fen      what the reward pool pays for it
    reduction_mg   milligrams that pass to the funder with the points; 0 where they stay the participant's
    discloses      what the bank will learn; `consent` what is agreed to
    why_not        why it cannot be redeemed now; empty when it can
    pool_points    what is left in the pool, and `shortage` its rule when that is too little
    """

    offer: str
    version: int
    units: int
    points: int
    points_per_unit: int
    tier: str | None
    benefit: BenefitView
    value_fen: int
    reduction_mg: int
    expiring: list[ExpiringPoints]
    hold_seconds: int
    discloses: str
    consent_text: str
    text_version: str
    eligible: bool
    why_not: list[dict[str, Any]]
    pool: str
    pool_points: int
    shortage: Literal["stop", "queue", "pro_rata"]


@router.post(
    "/participants/{participant_id}/quotes",
    summary="Quote a redemption 兑换试算",
    response_model=QuoteView,
    responses=openapi_problems(*BODY_PROBLEMS, "participant-not-found", "offer-not-found"),
    openapi_extra=openapi_body(model=QuoteWanted),
)
async def quote(request: Request, participant_id: UUID) -> Response:
    """What so many units would cost and give: points, which of them run out first, the benefit, what the bank will
    learn, what is agreed to. Nothing is reserved."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "redemptions:read")
    require_participant(caller, participant_id)
    content = await read_json(request)
    headers = await charge(request, caller)
    wanted = parsed(QuoteWanted, content)
    offer = listed_offer(platform, wanted.offer, wanted.version)
    now = platform.fresh.clock()
    async with platform.pool.acquire() as connection:
        facts = (await read_facts(connection, participant_id, [offer.id], now))[offer.id]
        grams = (await read_grams(connection, [participant_id])).get(participant_id, {})
        pool = await read_pool(connection, offer.pool)
    balance = await platform.balances.read(participant_id)
    free = dict(balance.expiring) if balance else {}
    facts = replace(facts, available_points=sum(free.values()))  # what a dead hold held is back
    points = offer.points(wanted.units, facts)
    used = hold_lines(free, {}, points=points) if points <= sum(free.values()) else ()
    against = _against(platform, offer, facts, wanted.units, language)
    if offer.co2e_mg(points) > passing(grams):
        against.append({"code": "grams-not-enough", "text": _GRAMS[language]})
    against += told(_short(pool, points, offer.value_fen(wanted.units)), language)
    tier = tier_of(offer, facts)
    benefit = {
        "kind": offer.benefit.kind,
        "amount": offer.benefit.per_unit * wanted.units,
        "unit": offer.benefit.unit,
    }
    view = {
        "offer": offer.id,
        "version": offer.version,
        "units": wanted.units,
        "points": points,
        "points_per_unit": price(offer, facts),
        "tier": tier and getattr(tier.name, language),
        "benefit": benefit,
        "value_fen": offer.value_fen(wanted.units),
        "reduction_mg": offer.co2e_mg(points),
        "expiring": [{"on": line.expires_on, "points": line.amount} for line in used],
        "hold_seconds": offer.hold_seconds,
        "discloses": getattr(offer.discloses, language),
        "consent_text": getattr(offer.consent_text, language),
        "text_version": offer.text_version,
        "eligible": not against,
        "why_not": against,
        "pool": offer.pool,
        "pool_points": pool.left_points,
        "shortage": pool.terms.shortage,
    }
    return answered(200, view, headers, request)


_POOL_NOT_OPEN = Reason("pool-not-open", "资金池已暂停、关闭或不付此价格", "the pool is not open, or not at this price")
_POOL_EXHAUSTED = Reason("pool-exhausted", "资金池余额不足", "what is left in the pool does not pay for this")
_GRAMS: dict[str, str] = {
    "zh": "可随积分转出的减排量不足",
    "en": "there are fewer grams that could pass with the points",
}


def _short(pool: Pool, points: int, fen: int) -> list[Reason]:
    """Why the pool would not pay now; its limits of the day are known when the points are held."""
    if pool.state != "open" or not pool.terms.pays(points, fen):
        return [_POOL_NOT_OPEN]
    return [_POOL_EXHAUSTED] if pool.left_points < points or pool.left_fen < fen else []


def _against(platform: Platform, offer: Offer, facts: Facts, units: int, language: Language) -> list[dict[str, Any]]:
    entry = platform.offers.entry("offer", offer.id, offer.version)
    found = [*(platform.offers.why_not(entry, platform.today()) if entry else ()), *reasons(offer, facts, units)]
    short = lacking(offer, facts, units)
    return list(told([*found, *([short] if short else [])], language))


def listed_offer(platform: Platform, offer_id: str, version: int | None) -> Offer:
    """An offer that stands on the board or stood there. Raises Problem offer-not-found."""
    entry = platform.offers.entry("offer", offer_id, version)
    if entry is None or entry.state == "submitted" or not isinstance(entry.document, Offer):
        raise Problem("offer-not-found")
    return entry.document


@busy.post(
    "/participants/{participant_id}/redemptions",
    status_code=201,
    summary="Redeem points 兑换积分",
    responses=openapi_problems(
        *BODY_PROBLEMS,
        "idempotency-key-missing",
        "idempotency-conflict",
        "offer-not-found",
        "consent-not-valid",
        "bank-not-registered",
        *PLACE_PROBLEMS,
        *POSTING_PROBLEMS,
    ),
    openapi_extra=openapi_body(model=RedemptionWanted),
)
async def redeem(request: Request, participant_id: UUID) -> Response:
    """Reserve the points for units of an offer. They are held until the bank captures them, or until `expires_at`.

    Needs an `Idempotency-Key`: the same call again is answered as the first time, refusals included.
    """
    platform = platform_of(request)
    caller = await admit(request, "redemptions:write")
    if caller.participant_id != participant_id:  # nobody else can agree for them
        raise Forbidden
    content = await read_json(request)
    headers = await charge(request, caller, 1)
    key = read_idempotency_key(request)
    wanted = parsed(RedemptionWanted, content)
    offer = listed_offer(platform, wanted.offer, wanted.version)
    bank = await platform.bank(offer.bank)
    if bank is None:
        raise Problem("bank-not-registered")
    asked = (participant_id, offer.id, offer.version, wanted.units, wanted.points)
    command = build_hold(
        participant_id,
        offer,
        bank.bank_id,
        agreed(platform, wanted.units, wanted.points, wanted.consent),
        call_of(caller.client, key, "redeem", *asked),
        platform.fresh,
    )
    return await post_step(platform, command, request, headers)


def agreed(platform: Platform, units: int, points: int, consent: ConsentGiven) -> Agreed:
    """What was agreed. Raises Problem consent-not-valid for a moment that has not come yet."""
    if consent.given_at > platform.fresh.clock() + _CLOCK_SLACK:
        raise Problem("consent-not-valid")
    return Agreed(units, points, consent.text_version, consent.given_at)


@router.get(
    "/participants/{participant_id}/redemptions",
    summary="List redemptions 兑换记录",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "invalid-cursor"),
)
async def list_redemptions(
    request: Request,
    participant_id: UUID,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = PAGE,
) -> Response:
    """A participant's redemptions, newest first; `next` is the cursor of the page after it."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    whose = b"redemptions " + participant_id.bytes
    before = {} if after is None else {"before": UUID(bytes=unseal(platform.keyring, whose, after))}
    async with own_rows(platform.pool, participant_id) as connection:
        found = await read_redemptions(connection, participant_id, limit=limit + 1, **before)
    shown = found[:limit]
    more = len(found) > limit
    content = {
        "redemptions": [redemption_view(state, platform.fresh.clock()) for state in shown],
        "next": seal(platform.keyring, whose, shown[-1].redemption_id.bytes) if more else None,
    }
    return answered(200, content, headers, request)


@router.get(
    "/participants/{participant_id}/redemptions/{redemption_id}",
    summary="Read a redemption 查询兑换",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "redemption-not-found"),
)
async def read_one(request: Request, participant_id: UUID, redemption_id: UUID) -> Response:
    """A redemption with every step, its place in the log, and the bank's word that the benefit was given."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        found = await read_redemption(connection, participant_id, redemption_id)
    if found is None:
        raise not_found()
    return answered(200, told_view(found, platform.fresh.clock()), headers, request)


@router.post(
    "/participants/{participant_id}/redemptions/{redemption_id}/cancel",
    summary="Cancel a redemption 取消兑换",
    responses=openapi_problems(
        *CALL_PROBLEMS,
        "malformed-request",
        "idempotency-key-missing",
        "idempotency-conflict",
        "redemption-not-found",
        "hold-ended",
        "not-cancellable",
        *POSTING_PROBLEMS,
    ),
)
async def cancel(request: Request, participant_id: UUID, redemption_id: UUID) -> Response:
    """Give the points back, as long as the bank has not accepted the entitlement. Needs an `Idempotency-Key`."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:write")
    if caller.participant_id != participant_id:
        raise Forbidden
    headers = await charge(request, caller, 1)
    key = read_idempotency_key(request)
    order = Order("participant", call_of(caller.client, key, "cancel", redemption_id))
    command = ReleaseHold(participant_id, redemption_id, order, platform.fresh.id(), "cancelled")
    return await post_step(platform, command, request, headers)


class EntitlementView(BaseModel):
    """A compact JWS for the bank, good until `expires_at`."""

    entitlement: str
    expires_at: datetime


@router.post(
    "/participants/{participant_id}/redemptions/{redemption_id}/entitlement",
    summary="Get the entitlement 领取兑换凭证",
    response_model=EntitlementView,
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "redemption-not-found", "hold-ended"),
)
async def get_entitlement(request: Request, participant_id: UUID, redemption_id: UUID) -> Response:
    """What the participant shows the bank: bound to the offer, its value and its end, and it names nobody."""
    platform = platform_of(request)
    caller = await admit(request, "redemptions:write")
    if caller.participant_id != participant_id:
        raise Forbidden
    headers = await charge(request, caller)
    async with own_rows(platform.pool, participant_id) as connection:
        found = await read_redemption(connection, participant_id, redemption_id)
    if found is None:
        raise not_found()
    now, state = platform.fresh.clock(), found.state
    if state.state != "held" or state.is_dead(now):
        raise Problem("hold-ended", state=str(redemption_view(state, now)["state"]))
    points, fen, _ = state.share(state.units_left)
    entitlement = Entitlement(
        bank=state.bank,
        redemption_id=redemption_id,
        offer=state.offer,
        offer_version=state.offer_version,
        units=state.units_left,
        points=points,
        value_fen=fen,
        issued_at=now,
        expires_at=state.expires_at,
    )
    content = {"entitlement": issue_entitlement(platform, entitlement), "expires_at": state.expires_at}
    return answered(200, content, headers, request)
