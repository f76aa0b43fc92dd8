"""From a document's text to a product or an offer: strict YAML, every field known, every fault with its line.

What a document states is read here; whether it is enough to be listed is decided by evidence.py, so that a document
with a gap can be submitted, shown and mended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from service.products.model import (
    BENEFIT_UNITS,
    CATEGORIES,
    FACT_UNITS,
    STATUSES,
    Benefit,
    ClaimedBenefit,
    Label,
    ListCheck,
    Offer,
    ProceedsReport,
    Product,
    Taxonomy,
    Tier,
)
from service.quantification.document import Bilingual, DocumentInvalid, Node, digest_of, read_document
from service.quantification.model import PARTICIPANT_KINDS, Condition
from service.quantification.parsing_terms import Vocabulary, chosen, read_conditions, refuse_repeated

SCHEMA = "1"
MOST_VERSIONS = 10_000
LARGEST = 10**12  # points, and fen, that one redemption may come to: their sums stay far inside 64 bits
MOST_UNITS = 10**6
MOST_GRAMS_MG = 10**6  # a kilogram for each point
LONGEST_HOLD_S = 90 * 86_400
SHORTEST_HOLD_S = 60
LONGEST_TITLE = 200

_PRODUCT = "schema kind id version status bank category title summary taxonomy checked_on next_check_on valid"
_PRODUCT_OPTIONAL = "label claimed_benefit use_of_proceeds lists"
_OFFER = (
    "schema kind id version product bank pool title benefit points_per_unit value_fen_per_unit min_units max_units "
    "grams_mg_per_point hold_seconds valid discloses consent"
)
_OFFER_OPTIONAL = "per_person_per_year kinds regions conditions tiers"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]+")  # as a leaf of the log carries it
_URL = re.compile(r"https?://[!#-\[\]-~]+")
_CODE = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")


class ListingInvalid(DocumentInvalid):
    """A product's or an offer's document is refused: `document`, `line`, `reason`."""


@lru_cache(maxsize=256)  # the same bytes are the same document
def parse_listing(source: bytes) -> Product | Offer:
    """Read one document, YAML or its canonical JSON, of either kind. Raises ListingInvalid with the line and what to
    do."""
    try:
        root = read_document(source)
        if "kind" not in root.mapping():
            raise DocumentInvalid(root.line, "the field 'kind' is missing here: product or offer")
        kind = root.mapping()["kind"].one_of(("product", "offer"))
        return _product(root) if kind == "product" else _offer(root)
    except DocumentInvalid as error:
        raise ListingInvalid(error.line, error.reason) from error


def _product(root: Node) -> Product:
    named = root.fields(_PRODUCT, _PRODUCT_OPTIONAL)
    named["schema"].one_of([SCHEMA])
    checked_on, next_check_on = named["checked_on"].day(), named["next_check_on"].day()
    if next_check_on <= checked_on:
        raise DocumentInvalid(named["next_check_on"].line, f"the next check comes after the last, of {checked_on}")
    document = root.canonical()
    return Product(
        id=named["id"].identifier(),
        version=named["version"].counted(MOST_VERSIONS),
        digest=digest_of(document),
        document=document,
        status=named["status"].one_of(STATUSES),
        bank=_uri(named["bank"]),
        category=named["category"].one_of(CATEGORIES),
        title=_title(named["title"]),
        summary=named["summary"].bilingual(),
        taxonomy=_taxonomy(named["taxonomy"]),
        label=_label(named["label"]) if "label" in named else None,
        claimed=_claimed(named["claimed_benefit"]) if "claimed_benefit" in named else None,
        checked_on=checked_on,
        next_check_on=next_check_on,
        use_of_proceeds=tuple(map(_report, named["use_of_proceeds"].items())) if "use_of_proceeds" in named else (),
        lists=tuple(map(_list_check, named["lists"].items())) if "lists" in named else (),
        valid=named["valid"].span(),
    )


def _taxonomy(node: Node) -> Taxonomy:
    named = node.fields("name version code")
    return Taxonomy(named["name"].identifier(), _matching(named["version"]), _matching(named["code"]))


def _label(node: Node) -> Label:
    named = node.fields("basis labelled_on assessor assessor_valid_to evidence_digest evidence_url")
    return Label(
        basis=named["basis"].bilingual(),
        labelled_on=named["labelled_on"].day(),
        assessor=named["assessor"].bilingual(),
        assessor_valid_to=named["assessor_valid_to"].day(),
        evidence_digest=named["evidence_digest"].digest(),
        evidence_url=_url(named["evidence_url"]),
    )


def _claimed(node: Node) -> ClaimedBenefit:
    named = node.fields("quantity unit", optional="verified_quantity verified_by")
    if ("verified_quantity" in named) != ("verified_by" in named):
        raise DocumentInvalid(node.line, "verified_quantity and verified_by stand together, or neither")
    verified = named["verified_quantity"].number() if "verified_quantity" in named else None
    if named["quantity"].number() <= 0 or (verified is not None and verified < 0):
        raise DocumentInvalid(node.line, "a claimed quantity is above 0, a verified one not below it")
    return ClaimedBenefit(
        quantity=named["quantity"].number(),
        unit=named["unit"].text(),
        verified_quantity=verified,
        verified_by=named["verified_by"].bilingual() if "verified_by" in named else None,
    )


def _report(node: Node) -> ProceedsReport:
    named = node.fields("on digest url")
    return ProceedsReport(named["on"].day(), named["digest"].digest(), _url(named["url"]))


def _list_check(node: Node) -> ListCheck:
    named = node.fields("kind list source version on found")
    return ListCheck(
        kind=named["kind"].one_of(("positive", "exclusion")),
        list=named["list"].bilingual(),
        source=_url(named["source"]),
        version=_matching(named["version"]),
        on=named["on"].day(),
        found=named["found"].one_of(("yes", "no")) == "yes",
    )


def _offer(root: Node) -> Offer:
    named = root.fields(_OFFER, _OFFER_OPTIONAL)
    named["schema"].one_of([SCHEMA])
    max_units = named["max_units"].counted(MOST_UNITS)
    points, value_fen = named["points_per_unit"].counted(LARGEST), named["value_fen_per_unit"].counted(LARGEST)
    tiers = _tiers(named["tiers"]) if "tiers" in named else ()
    for node, amount in (
        (named["points_per_unit"], max([points, *(tier.points_per_unit for tier in tiers)])),
        (named["value_fen_per_unit"], value_fen),
    ):
        if amount * max_units > LARGEST:
            raise DocumentInvalid(node.line, f"max_units of this come to {amount * max_units}, more than {LARGEST}")
    consent = named["consent"].fields("text_version text")
    document = root.canonical()
    return Offer(
        id=named["id"].identifier(),
        version=named["version"].counted(MOST_VERSIONS),
        digest=digest_of(document),
        document=document,
        product=named["product"].identifier(),
        bank=_uri(named["bank"]),
        pool=named["pool"].identifier(),
        title=_title(named["title"]),
        benefit=_benefit(named["benefit"]),
        points_per_unit=points,
        value_fen_per_unit=value_fen,
        min_units=named["min_units"].counted(max_units),
        max_units=max_units,
        grams_mg_per_point=_up_to(named["grams_mg_per_point"], 0, MOST_GRAMS_MG),
        hold_seconds=_up_to(named["hold_seconds"], SHORTEST_HOLD_S, LONGEST_HOLD_S),
        valid=named["valid"].span(),
        per_person_per_year=_yearly(named),
        kinds=chosen(named["kinds"], PARTICIPANT_KINDS) if "kinds" in named else (),
        regions=_regions(named["regions"]) if "regions" in named else (),
        conditions=_conditions(named["conditions"]) if "conditions" in named else (),
        tiers=tiers,
        discloses=named["discloses"].bilingual(),
        consent_text=consent["text"].bilingual(),
        text_version=_matching(consent["text_version"]),
    )


def _benefit(node: Node) -> Benefit:
    kind = node.fields("kind per_unit unit", optional="cause")["kind"].one_of(BENEFIT_UNITS)
    # a donation names whom it goes to, and nothing else does
    named = node.fields("kind per_unit unit cause" if kind == "donation" else "kind per_unit unit")
    return Benefit(
        kind=kind,
        per_unit=named["per_unit"].counted(LARGEST),
        unit=named["unit"].one_of(BENEFIT_UNITS[kind]),
        cause=named["cause"].bilingual() if kind == "donation" else None,
    )


def _yearly(named: Mapping[str, Node]) -> int | None:
    node = named.get("per_person_per_year")
    if node is None:
        return None
    limit, least = node.counted(LARGEST), named["min_units"].whole()
    if limit < least:
        raise DocumentInvalid(node.line, f"nobody could redeem the least, {least} units: expected as many at least")
    return limit


def _regions(node: Node) -> tuple[str, ...]:
    found = [item.identifier() for item in node.items()]
    refuse_repeated(found, node, "region")
    return tuple(found)


def _conditions(node: Node) -> tuple[Condition, ...]:
    return read_conditions(node, Vocabulary(FACT_UNITS))


def _tiers(node: Node) -> tuple[Tier, ...]:
    made: list[Tier] = []
    for item in node.items():
        named = item.fields("name min_verified_g points_per_unit")
        tier = Tier(
            _title(named["name"]), named["min_verified_g"].counted(LARGEST), named["points_per_unit"].counted(LARGEST)
        )
        if made and tier.min_verified_g <= made[-1].min_verified_g:
            raise DocumentInvalid(item.line, "tiers stand in the order of their grams, lowest first, none twice")
        made.append(tier)
    return tuple(made)


def _title(node: Node) -> Bilingual:
    title = node.bilingual()
    if max(len(title.zh), len(title.en)) > LONGEST_TITLE:
        raise DocumentInvalid(node.line, f"a title has at most {LONGEST_TITLE} characters")
    return title


def _up_to(node: Node, least: int, most: int) -> int:
    if not least <= node.whole() <= most:
        raise DocumentInvalid(node.line, f"expected a whole number from {least} to {most}, found {node.text()}")
    return node.whole()


def _uri(node: Node) -> str:
    if len(node.text()) > 500 or not _URI.fullmatch(node.text()):
        raise DocumentInvalid(node.line, f"expected an absolute URI in printable ASCII, found {node.text()[:64]!r}")
    return node.text()


def _url(node: Node) -> str:
    if len(node.text()) > 500 or not _URL.fullmatch(node.text()):
        raise DocumentInvalid(node.line, f"expected an address such as https://…, found {node.text()[:64]!r}")
    return node.text()


def _matching(node: Node) -> str:
    if len(node.text()) > 64 or not _CODE.fullmatch(node.text()):
        raise DocumentInvalid(node.line, f"expected letters and digits joined by ., _ or -, found {node.text()[:64]!r}")
    return node.text()
