"""Documents of products and offers: what is taken, and the line and the reason of what is refused."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

import service.products
from service.products.evidence import faults
from service.products.model import Offer, Product
from service.products.parsing import LARGEST, ListingInvalid, parse_listing
from tests.service.products.documents import offer, offer_fields, product, product_fields, today, written

SHIPPED = sorted((Path(service.products.__file__).parent / "demonstration").glob("*.yaml"))


def test_three_products_and_their_offers_ship_and_say_that_they_are_invented() -> None:
    documents = [parse_listing(path.read_bytes()) for path in SHIPPED]
    products = {one.id: one for one in documents if isinstance(one, Product)}
    offers = [one for one in documents if isinstance(one, Offer)]
    assert [path.stem for path in SHIPPED] == [one.id for one in documents]
    assert (len(products), len(offers)) == (3, 3)
    for one in products.values():
        assert (one.status, one.bank) == ("demonstration", "https://bank.example/green")
        assert faults(one, today()) == ()
    for made in offers:
        assert (made.pool, made.bank) == ("demo-green-pool", products[made.product].bank)
        assert today() in made.valid
    assert all("nvented" in path.read_text("utf-8").splitlines()[0] for path in SHIPPED)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_canonical_bytes_are_the_same_document(path: Path) -> None:
    made = parse_listing(path.read_bytes())
    again = parse_listing(made.document)
    assert (again.document, again.digest, again.id) == (made.document, made.digest, made.id)
    assert made.digest == hashlib.sha256(made.document).hexdigest()


def test_an_offer_is_read_whole() -> None:
    made = offer(
        benefit={"kind": "donation", "per_unit": "50", "unit": "fen", "cause": {"zh": "树", "en": "Trees"}},
        per_person_per_year="20",
        kinds=["firm", "citizen"],
        regions=["310000"],
        tiers=[{"name": {"zh": "高", "en": "high"}, "min_verified_g": "1000", "points_per_unit": "8"}],
        conditions=[
            {
                "id": "saved-enough",
                "title": {"zh": "减排", "en": "Saved"},
                "value": "verified_g",
                "unit": "g",
                "at_least": "500",
                "because": {"zh": "不足", "en": "too little"},
            }
        ],
    )
    assert made.benefit.cause is not None
    assert (made.kinds, made.regions, made.per_person_per_year) == (("citizen", "firm"), ("310000",), 20)
    assert made.weighs_grams
    assert not offer().weighs_grams
    assert (made.value_fen(3), made.co2e_mg(30)) == (300, 0)


_TIER = {"name": {"zh": "高", "en": "high"}, "min_verified_g": "5", "points_per_unit": "8"}
_CONDITION = {
    "id": "one",
    "title": {"zh": "一", "en": "One"},
    "value": "covered",
    "unit": "1",
    "at_most": "0",
    "because": {"zh": "一", "en": "one"},
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"colour": "green"}, "unknown field 'colour'"),
        ({"pool": None}, "the field 'pool' is missing"),
        ({"bank": "no uri"}, "expected an absolute URI"),
        ({"points_per_unit": "0"}, "whole number from 1"),
        ({"points_per_unit": "1.5"}, "expected a whole number"),
        ({"points_per_unit": str(LARGEST // 100 + 1)}, "max_units of this come to"),
        ({"value_fen_per_unit": str(LARGEST // 100 + 1)}, "max_units of this come to"),
        ({"tiers": [_TIER | {"points_per_unit": str(LARGEST // 100 + 1)}]}, "max_units of this come to"),
        ({"min_units": "101"}, "whole number from 1 to 100"),
        ({"hold_seconds": "59"}, "whole number from 60"),
        ({"grams_mg_per_point": "1000001"}, "whole number from 0 to 1000000"),
        ({"benefit": {"kind": "voucher", "per_unit": "1", "unit": "basis_points"}}, "expected one of fen"),
        ({"benefit": {"kind": "gift", "per_unit": "1", "unit": "fen"}}, "expected one of rate_discount"),
        ({"benefit": {"kind": "donation", "per_unit": "1", "unit": "fen"}}, "the field 'cause' is missing"),
        (
            {"benefit": {"kind": "voucher", "per_unit": "1", "unit": "fen", "cause": {"zh": "一", "en": "one"}}},
            "unknown field 'cause'",
        ),
        ({"tiers": [_TIER, _TIER]}, "lowest first, none twice"),
        ({"conditions": [_CONDITION, _CONDITION]}, "stands here twice"),
        ({"conditions": [_CONDITION | {"value": "age"}]}, "'age' is not declared"),
        ({"conditions": [_CONDITION | {"value": "verified_g"}]}, "comes out in g"),
        ({"kinds": ["person"]}, "expected one of citizen"),
        ({"regions": ["310000", "310000"]}, "stands here twice"),
        ({"min_units": "5", "per_person_per_year": "4"}, "nobody could redeem the least"),
        ({"valid": {"from": "2026-02-01", "to": "2026-01-31"}}, "before it starts"),
        ({"title": {"zh": "题", "en": "t" * 201}}, "at most 200 characters"),
        ({"title": {"zh": "题"}}, "the field 'en' is missing"),
    ],
)
def test_an_offer_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ListingInvalid, match=re.escape(reason)):
        parse_listing(written(offer_fields(**changes)))


def test_the_last_good_values_are_taken() -> None:
    made = offer(
        points_per_unit=str(LARGEST // 100), value_fen_per_unit=str(LARGEST // 100), grams_mg_per_point="1000000"
    )
    assert made.value_fen(made.max_units) == LARGEST
    assert made.co2e_mg(made.points_per_unit * made.max_units) < 2**63
    assert offer(min_units="4", per_person_per_year="4").per_person_per_year == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"category": "lottery"}, "expected one of green_loan"),
        ({"status": "draft"}, "expected one of official, demonstration"),
        ({"next_check_on": "2026-01-01"}, "the next check comes after the last"),
        ({"claimed_benefit": {"quantity": "1", "unit": "t", "verified_quantity": "1"}}, "stand together"),
        ({"claimed_benefit": {"quantity": "0", "unit": "t"}}, "above 0"),
        ({"claimed_benefit": {"quantity": "1e3", "unit": "t"}}, "without exponent"),
        ({"use_of_proceeds": [{"on": "2026-02-30", "digest": "ab" * 32, "url": "https://x"}]}, "expected a day"),
        ({"use_of_proceeds": [{"on": "2026-02-03", "digest": "AB" * 32, "url": "https://x"}]}, "64 hexadecimal"),
        ({"use_of_proceeds": [{"on": "2026-02-03", "digest": "ab" * 32, "url": "ftp://x"}]}, "expected an address"),
        ({"taxonomy": {"name": "green", "version": "20 25", "code": "1"}}, "letters and digits"),
        ({"schema": "2"}, "expected one of 1"),
        ({"kind": "gift"}, "expected one of product, offer"),
    ],
)
def test_a_product_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ListingInvalid, match=re.escape(reason)):
        parse_listing(written(product_fields(**changes)))


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        (b"kind: product\nkind: offer\n", 2, "stands here twice"),
        (b"kind: product\nid: &a x\n", 2, "anchors are not read"),
        (b"- kind\n", 1, "expected named fields"),
        (b"id: x\n", 1, "the field 'kind' is missing"),
        (b"", 1, "the document is empty"),
        (b"kind: product\n" + b"#" * 300_000, 1, "at most"),
        (b"\xff", 1, "not UTF-8"),
    ],
)
def test_what_is_no_document_is_refused_with_its_line(source: bytes, line: int, reason: str) -> None:
    with pytest.raises(ListingInvalid, match=reason) as refused:
        parse_listing(source)
    assert refused.value.line == line


def test_a_gap_in_the_evidence_is_read_and_refused_later() -> None:
    made = product(label=None, claimed_benefit=None, lists=None)
    assert (made.label, made.claimed, made.lists, made.use_of_proceeds) == (None, None, (), ())
