"""Offers 权益: what points buy, for anyone to read; and for a participant whether it is theirs to have, and why not."""

from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.auth import require_participant
from api.board import offer_view, told
from api.dependencies import CALL_PROBLEMS, admit, charge, platform_of
from api.platform import Platform
from api.problems import Language, Problem, language_of, localized, openapi_problems
from api.v1.products import BankFilter, BoardFilter, DayFilter, DocumentId, VersionFilter, history
from service.participants import require_enrolled
from service.products.facts import read_facts
from service.products.model import BENEFIT_UNITS, Facts, Offer, lacking, price, reasons, tier_of

router = APIRouter(tags=["offers"])

_BENEFITS = tuple(BENEFIT_UNITS)


@router.get(
    "/offers",
    summary="Browse offers 权益列表",
    responses=openapi_problems("malformed-request"),
)
async def list_offers(
    request: Request,
    response: Response,
    product: Annotated[str | None, Query(max_length=64, description="only on this product, by its id")] = None,
    bank: BankFilter = None,
    benefit: Annotated[Literal[_BENEFITS] | None, Query()] = None,  # type: ignore[valid-type]  # a closed list
    valid_on: DayFilter = None,
    on_board: BoardFilter = None,
) -> dict[str, Any]:
    """Every offer that was ever listed: its price, its conditions, what the bank will learn; whether it is on the
    board, and why not."""
    platform, language = platform_of(request), language_of(request)
    response.headers.update(localized(language))
    day = valid_on or platform.today()
    found = []
    for entry in platform.offers.entries("offer"):
        offer = entry.document
        assert isinstance(offer, Offer)
        if entry.state == "submitted" or product not in (None, offer.product) or bank not in (None, offer.bank):
            continue
        if benefit not in (None, offer.benefit.kind) or (valid_on is not None and valid_on not in offer.valid):
            continue
        stands = not platform.offers.why_not(entry, day)
        if (valid_on is None or stands) and on_board in (None, stands):
            found.append(offer_view(platform.offers, entry, day, language))
    return {"offers": found}


@router.get(
    "/offers/{offer_id}",
    summary="Read about an offer 权益说明",
    responses=openapi_problems("malformed-request", "offer-not-found"),
)
async def read_offer(
    request: Request, response: Response, offer_id: DocumentId, version: VersionFilter = None
) -> dict[str, Any]:
    """An offer and where it stands: the version on the board, or else the last that was."""
    platform, language = platform_of(request), language_of(request)
    response.headers.update(localized(language))
    entry = platform.offers.entry("offer", offer_id, version)
    if entry is None or entry.state == "submitted":
        raise Problem("offer-not-found")
    return offer_view(platform.offers, entry, platform.today(), language)


@router.get(
    "/offers/{offer_id}/history",
    summary="Read an offer's history 权益上下架记录",
    responses=openapi_problems("malformed-request", "offer-not-found", "temporarily-unavailable"),
)
async def read_offer_history(request: Request, response: Response, offer_id: DocumentId) -> dict[str, Any]:
    """Every step of every version: submitted, approved, listed, suspended, resumed, taken down, and why."""
    return await history(request, response, "offer", offer_id)


@router.get(
    "/participants/{participant_id}/offers",
    summary="See which offers one may redeem 可兑换的权益",
    responses=openapi_problems(*CALL_PROBLEMS, "malformed-request", "participant-not-found"),
)
async def list_own_offers(request: Request, participant_id: UUID) -> Response:
    """Every offer on the board with its price for this participant; whether they may redeem it, and why not."""
    platform, language = platform_of(request), language_of(request)
    caller = await admit(request, "redemptions:read")
    require_participant(caller, participant_id)
    headers = await charge(request, caller)
    offers = platform.offers.listed(platform.today())
    async with platform.pool.acquire() as connection:
        await require_enrolled(connection, participant_id)
        grams = any(offer.weighs_grams for offer in offers)
        ids = [offer.id for offer in offers]
        facts = await read_facts(connection, participant_id, ids, platform.fresh.clock(), grams=grams)
    found = [_own_view(platform, offer, facts[offer.id], language) for offer in offers]
    content = orjson.dumps({"participant_id": str(participant_id), "offers": found})
    return Response(content, 200, headers | localized(language), "application/json")


def _own_view(platform: Platform, offer: Offer, facts: Facts, language: Language) -> dict[str, Any]:
    """An offer as this person has it: judged for the fewest units that it sells."""
    entry = platform.offers.entry("offer", offer.id, offer.version)
    assert entry is not None  # it was listed a line ago
    against = [*reasons(offer, facts, offer.min_units)]
    short = lacking(offer, facts, offer.min_units)
    tier = tier_of(offer, facts)
    return {
        "id": offer.id,
        "version": offer.version,
        "title": getattr(offer.title, language),
        "product": offer.product,
        "bank": offer.bank,
        "points_per_unit": price(offer, facts),
        "value_fen_per_unit": offer.value_fen_per_unit,
        "min_units": offer.min_units,
        "max_units": offer.max_units,
        "tier": tier and getattr(tier.name, language),
        "eligible": not against,
        "affordable": short is None,
        "why_not": told([*against, *([short] if short else [])], language),
    }
