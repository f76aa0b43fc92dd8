"""Against greenwashing: what keeps a product off the board on a day, and until when its evidence carries it."""

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.products.evidence import (
    REPORTED_WITHIN,
    TAXONOMIES,
    faults,
    good_through,
    offer_faults,
)
from service.products.model import CATEGORIES
from tests.service.products.documents import offer, product, product_fields

ROOT = Path(__file__).resolve().parents[3]
DAY = date(2026, 6, 1)
_LABEL: dict[str, Any] = product_fields()["label"]
_LIST: dict[str, Any] = product_fields()["lists"][0]


def codes(day: date = DAY, **changes: Any) -> list[str]:
    return [reason.code for reason in faults(product(**changes), day)]


def claim(quantity: str, verified: str) -> dict[str, Any]:
    return {
        "quantity": quantity,
        "unit": "t",
        "verified_quantity": verified,
        "verified_by": {"zh": "测试", "en": "Tests"},
    }


@pytest.mark.parametrize(
    ("changes", "good", "bad", "code"),
    [
        ({}, {}, {"label": None}, "no-label"),
        ({}, {"claimed_benefit": None}, {"claimed_benefit": {"quantity": "1", "unit": "t"}}, "claim-not-verified"),
        (
            {},
            {"claimed_benefit": claim("0.1", "0.10")},
            {"claimed_benefit": claim("0.1000001", "0.1")},
            "claim-exceeds-verified",
        ),
        ({}, {"checked_on": "2026-06-01"}, {"checked_on": "2026-06-02"}, "dated-ahead"),
        ({}, {"next_check_on": "2026-06-02"}, {"next_check_on": "2026-06-01"}, "check-overdue"),
        (
            {},
            {"label": _LABEL | {"assessor_valid_to": "2026-06-01"}},
            {"label": _LABEL | {"assessor_valid_to": "2026-05-31"}},
            "assessor-expired",
        ),
        (
            {},
            {"label": _LABEL | {"labelled_on": "2025-10-01"}},
            {"label": _LABEL | {"labelled_on": "2025-09-30"}},
            "taxonomy-not-in-force",
        ),
        (
            {"taxonomy": {"name": "green-bond-projects", "version": "2021", "code": "1"}},
            {"label": _LABEL | {"labelled_on": "2025-09-30"}},
            {"label": _LABEL | {"labelled_on": "2025-10-01"}},
            "taxonomy-not-in-force",
        ),
        (
            {},
            {},
            {"taxonomy": {"name": "green-finance-projects", "version": "2030", "code": "1"}},
            "taxonomy-unknown",
        ),
        ({}, {}, {"lists": None}, "exclusion-not-checked"),
        ({}, {"lists": [_LIST]}, {"lists": [_LIST | {"found": "yes"}]}, "excluded"),
        (
            {},
            {"lists": [_LIST, _LIST | {"kind": "positive", "found": "yes"}]},
            {"lists": [_LIST, _LIST | {"kind": "positive"}]},
            "not-on-list",
        ),
        ({}, {"lists": [_LIST | {"on": "2026-06-01"}]}, {"lists": [_LIST | {"on": "2026-06-02"}]}, "dated-ahead"),
        (
            {},
            {"valid": {"from": "2026-01-01", "to": "2026-06-01"}},
            {"valid": {"from": "2026-01-01", "to": "2026-05-31"}},
            "ended",
        ),
    ],
)
def test_the_last_good_and_the_first_bad(
    changes: dict[str, Any], good: dict[str, Any], bad: dict[str, Any], code: str
) -> None:
    assert codes(**(changes | good)) == []
    assert codes(**(changes | bad)) == [code]


def test_who_sells_a_bond_tells_every_year_what_the_money_was_used_for() -> None:
    issued = date(2026, 1, 1)
    due = issued + REPORTED_WITHIN
    assert due == date(2027, 5, 2)
    assert codes(due, category="bond") == []
    assert codes(due + timedelta(days=1), category="bond") == ["report-overdue"]
    assert codes(due + timedelta(days=1), category="green_loan") == []
    report = {"on": "2027-04-01", "digest": "ab" * 32, "url": "https://bank.example/report"}
    assert codes(due + timedelta(days=1), category="abs", use_of_proceeds=[report]) == []
    assert codes(date(2027, 3, 31), category="abs", use_of_proceeds=[report]) == ["dated-ahead"]


def test_every_reason_is_told_in_both_languages() -> None:
    found = faults(product(label=None, lists=None, claimed_benefit={"quantity": "1", "unit": "t"}), DAY)
    assert len(found) == 3
    assert all(reason.zh and reason.en and reason.zh != reason.en for reason in found)


def test_an_offer_rests_on_its_product() -> None:
    of = product()
    made = offer(product=of.id, valid={"from": "2026-01-01", "to": "2026-06-01"})
    assert offer_faults(made, of, DAY) == ()
    assert [one.code for one in offer_faults(made, None, DAY + timedelta(days=1))] == ["ended", "product-not-listed"]
    assert [one.code for one in offer_faults(made, product(bank="urn:tests:other"), DAY)] == ["bank-differs"]


def test_every_reason_has_its_place_in_the_documents() -> None:
    text = (ROOT / "docs/products.md").read_text("utf-8")
    sources = [path.read_text("utf-8") for path in (ROOT / "service/products").glob("*.py")]
    named = {code for source in sources for code in re.findall(r'Reason\(\s*"([a-z-]+)"', source)}
    assert len(named) > 30
    assert [code for code in sorted(named) if f"`{code}`" not in text] == []


_DAYS = st.dates(date(2026, 1, 2), date(2031, 12, 31))


@given(
    category=st.sampled_from(CATEGORIES),
    next_check=_DAYS,
    assessor=_DAYS,
    end=st.none() | _DAYS,
    reported=st.none() | st.dates(date(2026, 1, 2), date(2026, 6, 1)),
    listed_on=_DAYS,
    asked_on=_DAYS,
)
def test_what_was_good_stays_good_to_its_last_day_and_no_longer(
    category: str,
    next_check: date,
    assessor: date,
    end: date | None,
    reported: date | None,
    listed_on: date,
    asked_on: date,
) -> None:
    """The one day by which the database judges says the same as all the rules."""
    report = reported and [{"on": reported.isoformat(), "digest": "ab" * 32, "url": "https://bank.example/r"}]
    made = product(
        category=category,
        next_check_on=next_check.isoformat(),
        label=_LABEL | {"assessor_valid_to": assessor.isoformat()},
        valid={"from": "2026-01-01"} | ({"to": end.isoformat()} if end else {}),
        use_of_proceeds=report,
    )
    first, then = sorted((listed_on, asked_on))
    if not faults(made, first):
        assert (not faults(made, then)) == (then <= good_through(made))


def test_the_catalogues_of_one_name_share_no_day() -> None:
    for (name, version), (_, days) in TAXONOMIES.items():
        for (other, another), (_, others) in TAXONOMIES.items():
            assert (name != other or version == another) or not days.overlaps(others)
