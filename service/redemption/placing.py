"""Make the command that places a hold from what a participant agreed to, and the terms that its commitment is of."""

import os
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

import orjson

from ledger.leaves import SALT_BYTES, utc_second
from service.clock import Fresh
from service.products.model import Facts, Offer
from service.redemption.commands import MoneyCall, Order, PlaceHold

TERMS_VERSION = "1"


class ConsentTextDiffers(Exception):
    """The participant agreed to another wording than the offer's."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a participant agreed to: so many units of an offer for so many points, and the wording they saw."""

    units: int
    points: int
    text_version: str
    given_at: datetime


@dataclass(frozen=True, slots=True)
class FromBank:
    """Where the bank began: its request, its own reference, and its signed call as it is kept."""

    request_id: UUID
    reference: str | None = None
    call_id: UUID | None = None
    signature: str | None = None


def build_hold(
    participant_id: UUID,
    offer: Offer,
    bank_id: int,
    agreed: Agreed,
    call: MoneyCall | None,
    fresh: Fresh,
    bank: FromBank | None = None,
    wish_id: UUID | None = None,
    wished_units: int | None = None,
) -> PlaceHold:
    """The command; its redemption's id and its salt are fresh.

    call     under whose key it is placed: see call_of(); None where the platform places it by itself
    wish_id  what the participant waits by, where their turn has come; `wished_units` is what they agreed to wait for

    Raises ConsentTextDiffers.
    """
    if agreed.text_version != offer.text_version:
        raise ConsentTextDiffers
    return PlaceHold(
        participant_id,
        fresh.id(),
        Order("participant", call, bank.call_id if bank else None, bank.signature if bank else None),
        offer,
        bank_id,
        agreed.units,
        agreed.points,
        terms_document(offer, agreed, bank, wish_id, wished_units),
        os.urandom(SALT_BYTES),
        bank.request_id if bank else None,
        wish_id,
    )


def terms_document(
    offer: Offer,
    agreed: Agreed,
    bank: FromBank | None = None,
    wish: UUID | None = None,
    wished_units: int | None = None,
) -> bytes:
    """What was agreed, as canonical JSON: integers are decimal strings, moments UTC to the second, null what there is
    none of."""
    members = {
        "bank": offer.bank,
        "consent": {"given_at": utc_second(agreed.given_at), "text_version": agreed.text_version},
        "hold_seconds": str(offer.hold_seconds),
        "offer": offer.id,
        "offer_digest": offer.digest,
        "offer_version": str(offer.version),
        "points": str(agreed.points),
        "pool": offer.pool,
        "reference": bank.reference if bank else None,
        "request": str(bank.request_id) if bank else None,
        "units": str(agreed.units),
        "v": TERMS_VERSION,
        "value_fen": str(offer.value_fen(agreed.units)),
        "wish": None if wish is None else str(wish),
        "wished_units": None if wished_units is None else str(wished_units),
    }
    return orjson.dumps(members, option=orjson.OPT_SORT_KEYS)


def grounded_terms(terms: bytes, redemption_id: UUID, co2e_mg: int, facts: Facts) -> bytes:
    """The terms with what the decision rested on: whose hold they are of, how many milligrams pass, and the facts of
    the person that priced and allowed it."""
    grounds = {
        "available_points": str(facts.available_points),
        "covered": facts.covered,
        "redeemed_before": facts.redeemed_before,
        "redeemed_units_this_year": str(facts.redeemed_units_this_year),
        "verified_g": str(facts.verified_g),
    }
    members = {**orjson.loads(terms), "co2e_mg": str(co2e_mg), "facts": grounds, "redemption": str(redemption_id)}
    return orjson.dumps(members, option=orjson.OPT_SORT_KEYS)


def call_of(client: str, key: str, *asked: object) -> MoneyCall:
    """A call about money under the caller's key: what was asked is what tells a repeat from a conflict."""
    return MoneyCall(client, key, sha256(orjson.dumps([str(part) for part in asked])).digest())
