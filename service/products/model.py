"""What a product and an offer are, once their documents were read; what a unit costs, and who may buy it.

Values and pure functions only: posting decides by `price` and `reasons` on facts it read under the participant's lock,
and a replay decides the same from the bundle. Documents are read in parsing.py, evidence is judged in evidence.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal, NamedTuple

from service.quantification.document import Bilingual, Span
from service.quantification.model import Condition

DocumentKind = Literal["product", "offer"]
DOCUMENT_KINDS: tuple[DocumentKind, ...] = ("product", "offer")
STATUSES = ("official", "demonstration")  # a demonstration is invented, and is never listed beside official ones
CATEGORIES = (
    "green_loan",
    "deposit",
    "bond",
    "abs",
    "fund",
    "etf",
    "reit",
    "wealth_product",
    "insurance",
    "leasing",
    "carbon_finance",
)
# What one unit gives, and the unit it is counted in: hundredths of a percent of a rate, fen, hundredths of a percent of
# a fee or premium.
BENEFIT_UNITS: Mapping[str, tuple[str, ...]] = {
    "rate_discount": ("basis_points",),
    "interest_coupon": ("basis_points", "fen"),
    "fee_discount": ("fen", "percent_e2"),
    "premium_discount": ("fen", "percent_e2"),
    "limit_uplift": ("fen", "percent_e2"),
    "fund_fee_waiver": ("fen", "percent_e2"),
    "voucher": ("fen",),
    "donation": ("fen",),
}
MG_PER_G = 1000
# What a condition of an offer may name, with its unit. The two that are yes or no are 1 or 0.
FACT_UNITS: Mapping[str, str] = {
    "verified_g": "g",
    "redeemed_units_this_year": "1",
    "redeemed_before": "1",
    "covered": "1",
    "available_points": "1",
    "units": "1",
}


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """The catalogue under which a product is green: `name` and `version` of TAXONOMIES (evidence.py), the entry's
    `code` in it."""

    name: str
    version: str
    code: str


@dataclass(frozen=True, slots=True)
class Label:
    """On what the green label rests: who assessed it, how long they may assess, and the evidence by its digest.

    labelled_on        the day the label was given: an older catalogue counts when it was in force then
    assessor_valid_to  the last day on which the assessor's qualification is valid
    evidence_digest    SHA-256 of the evidence document, hex
    """

    basis: Bilingual
    labelled_on: date
    assessor: Bilingual
    assessor_valid_to: date
    evidence_digest: str
    evidence_url: str


@dataclass(frozen=True, slots=True)
class ClaimedBenefit:
    """What the product says it saves, and what somebody verified: the claim may not be larger.

    unit               of both quantities, for example tCO2e/year
    verified_quantity  None, as verified_by, while nobody has verified anything
    """

    quantity: Decimal
    unit: str
    verified_quantity: Decimal | None
    verified_by: Bilingual | None


@dataclass(frozen=True, slots=True)
class ProceedsReport:
    """A report on what the money was used for: its day, the document's SHA-256 in hex, and where it is."""

    on: date
    digest: str
    url: str


@dataclass(frozen=True, slots=True)
class ListCheck:
    """A look into a positive list or an exclusion list: which version of it, on which day, and whether it names the
    product or its issuer."""

    kind: str
    list: Bilingual
    source: str
    version: str
    on: date
    found: bool


@dataclass(frozen=True, slots=True)
class Product:
    """One version of a green financial product, as its document says it.

    digest         SHA-256 of the document's canonical bytes, hex; `document` are those bytes
    bank           the registered URI of the bank that provides it
    label          None while there is no evidence of one: such a product cannot be listed
    claimed        None where it claims no figure
    checked_on     when all this was last looked at; from `next_check_on` on it counts as unchecked
    valid          the days on which it is on sale
    """

    id: str
    version: int
    digest: str
    document: bytes
    status: str
    bank: str
    category: str
    title: Bilingual
    summary: Bilingual
    taxonomy: Taxonomy
    label: Label | None
    claimed: ClaimedBenefit | None
    checked_on: date
    next_check_on: date
    use_of_proceeds: tuple[ProceedsReport, ...]
    lists: tuple[ListCheck, ...]
    valid: Span

    kind: Literal["product"] = "product"


@dataclass(frozen=True, slots=True)
class Benefit:
    """What one unit of an offer gives: `per_unit` in `unit` (BENEFIT_UNITS); `cause` is whom a donation goes to."""

    kind: str
    per_unit: int
    unit: str
    cause: Bilingual | None = None


@dataclass(frozen=True, slots=True)
class Tier:
    """Another price for those whose verified reduction of the last twelve months is at least so many grams."""

    name: Bilingual
    min_verified_g: int
    points_per_unit: int


@dataclass(frozen=True, slots=True)
class Offer:
    """One version of what points buy on a product, as its document says it.

    digest              SHA-256 of the document's canonical bytes, hex; `document` are those bytes
    pool                the code of the reward pool that pays
    points_per_unit     whole points for one unit, where no tier says otherwise
    value_fen_per_unit  what one unit costs the pool
    grams_mg_per_point  milligrams of the person's own reductions that pass to the funder with each point; 0: they stay
    hold_seconds        how long a hold lives
    per_person_per_year units one person may redeem in a calendar year; None is no limit
    kinds, regions      who may redeem; empty is everybody
    conditions          further requirements over FACT_UNITS
    tiers               by min_verified_g, lowest first
    discloses           what the bank learns of the person
    consent_text        what the person agrees to; `text_version` names its wording for ever
    """

    id: str
    version: int
    digest: str
    document: bytes
    product: str
    bank: str
    pool: str
    title: Bilingual
    benefit: Benefit
    points_per_unit: int
    value_fen_per_unit: int
    min_units: int
    max_units: int
    grams_mg_per_point: int
    hold_seconds: int
    valid: Span
    per_person_per_year: int | None
    kinds: tuple[str, ...]
    regions: tuple[str, ...]
    conditions: tuple[Condition, ...]
    tiers: tuple[Tier, ...]
    discloses: Bilingual
    consent_text: Bilingual
    text_version: str

    kind: Literal["offer"] = "offer"

    @property
    def weighs_grams(self) -> bool:
        """Whether the verified grams decide anything: they cost a look through a year of credits."""
        return bool(self.tiers) or any("verified_g" in one.formula.expression.names for one in self.conditions)

    def points(self, units: int, facts: Facts) -> int:
        """Whole points that so many units cost this person."""
        return units * price(self, facts)

    def value_fen(self, units: int) -> int:
        """Fen that so many units cost the pool."""
        return units * self.value_fen_per_unit

    def co2e_mg(self, points: int) -> int:
        """Milligrams that pass to the funder with so many points."""
        return points * self.grams_mg_per_point


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a person at the moment of the decision; the bank learns none of it.

    verified_g                grams of their reductions that stand, of the twelve months up to `day`, rounded down
    redeemed_units_this_year  of this offer, whatever its version, in the calendar year of `day`: held or captured, less
                              what was given back
    redeemed_before           whether any redemption of this offer ever stood
    covered                   whether an emission-trading scheme covers them on `day`
    """

    kind: str
    region: str
    verified_g: int
    redeemed_units_this_year: int
    redeemed_before: bool
    covered: bool
    available_points: int
    day: date


def year_before(day: date) -> date:
    """The day after which a credit counts for `verified_g` on `day`: a year earlier; of the 29th of February the
    28th."""
    return day.replace(year=day.year - 1, day=28) if (day.month, day.day) == (2, 29) else day.replace(year=day.year - 1)


class Reason(NamedTuple):
    """Why something cannot be, by a code for programs, in both languages."""

    code: str
    zh: str
    en: str


def price(offer: Offer, facts: Facts) -> int:
    """Whole points for one unit: of the highest tier that the verified grams reach, else the offer's own."""
    tier = tier_of(offer, facts)
    return offer.points_per_unit if tier is None else tier.points_per_unit


def tier_of(offer: Offer, facts: Facts) -> Tier | None:
    """The tier that decides the price; None where the offer's own price does."""
    reached = [tier for tier in offer.tiers if tier.min_verified_g <= facts.verified_g]
    return reached[-1] if reached else None


def reasons(offer: Offer, facts: Facts, units: int) -> tuple[Reason, ...]:
    """Why this person may not redeem so many units; empty when they may.

    Whether the points suffice is `lacking`: a refusal of its own, which saving up mends.
    """
    found: list[Reason] = []
    if facts.day not in offer.valid:
        found.append(Reason("not-valid-today", f"有效期为 {offer.valid}", f"it is valid {offer.valid}"))
    if not offer.min_units <= units <= offer.max_units:
        limits = f"{offer.min_units}–{offer.max_units}"
        found.append(Reason("units-out-of-range", f"每次可兑 {limits} 份", f"one redemption is of {limits} units"))
    if offer.kinds and facts.kind not in offer.kinds:
        found.append(Reason("kind", "不面向该类参与者", f"it is for {', '.join(offer.kinds)}"))
    if offer.regions and facts.region not in offer.regions:
        regions = ", ".join(offer.regions)
        found.append(Reason("region", f"仅限地区 {regions}", f"it is for the regions {regions}"))
    limit = offer.per_person_per_year
    if limit is not None and facts.redeemed_units_this_year + units > limit:
        left = max(0, limit - facts.redeemed_units_this_year)
        text_zh, text_en = f"每人每年 {limit} 份，今年还可兑 {left} 份", f"{limit} units a year; {left} left this year"
        found.append(Reason("yearly-cap", text_zh, text_en))
    values = _values(facts, units)
    for condition in offer.conditions:
        try:
            met = condition.holds(condition.formula.expression.evaluate(values))
        except ArithmeticError:  # a division by 0: what cannot be computed is not met
            met = False
        if not met:
            found.append(Reason(condition.id, condition.because.zh, condition.because.en))
    return tuple(found)


def lacking(offer: Offer, facts: Facts, units: int) -> Reason | None:
    """Why the points do not suffice; None when they do."""
    short = offer.points(units, facts) - facts.available_points
    if short <= 0:
        return None
    return Reason("points-not-enough", f"还差 {short} 分", f"{short} points are lacking")


def _values(facts: Facts, units: int) -> dict[str, Decimal]:
    return {
        "verified_g": Decimal(facts.verified_g),
        "redeemed_units_this_year": Decimal(facts.redeemed_units_this_year),
        "redeemed_before": Decimal(facts.redeemed_before),
        "covered": Decimal(facts.covered),
        "available_points": Decimal(facts.available_points),
        "units": Decimal(units),
    }
