"""What every shipped methodology has to say of itself, and that what is only shown never computes."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from service.quantification.factor_sets import load_factor_sets
from service.quantification.methodology import load_catalogue
from service.quantification.model import ACT_OF_OLDER, Methodology
from service.quantification.periods import SHANGHAI
from service.quantification.quantify import ActivityData, quantify
from service.quantification.refusals import MethodologyIncomplete

CATALOGUE = load_catalogue(None, load_factor_sets())
EVERY = CATALOGUE.all()
EVERY_DOCUMENT = pytest.mark.parametrize("one", EVERY, ids=lambda one: f"{one.id} {one.version}")


@EVERY_DOCUMENT
def test_a_document_names_its_act_and_a_scenario_of_its_own(one: Methodology) -> None:
    assert one.act is not None
    assert one.scenario.id == one.id or one.id in ACT_OF_OLDER
    assert {other.id for other in CATALOGUE.scenarios[one.scenario.id]} == {one.id}


@EVERY_DOCUMENT
def test_a_document_computes_or_says_what_is_missing(one: Methodology) -> None:
    assert (one.reduction is None) == bool(one.missing)
    assert bool(one.examples) == (one.reduction is not None)
    if one.reduction is not None:
        assert not one.unknown
        assert one.in_force is not None
        return
    assert "methodology-incomplete" in one.faults
    start = datetime(2026, 6, 1, 8, tzinfo=SHANGHAI)
    with pytest.raises(MethodologyIncomplete):
        quantify(one, ActivityData(start, start + timedelta(hours=1), dict.fromkeys(one.inputs, Decimal(1))))


@EVERY_DOCUMENT
def test_a_document_that_computes_has_its_figures_on_its_first_day_and_on_its_last(one: Methodology) -> None:
    if one.reduction is None or one.in_force is None:
        return
    for day in (one.in_force.first, one.in_force.last or date(2030, 1, 1)):
        assert [name for name, factor in one.factors.items() if factor.on(day) is None] == []


@EVERY_DOCUMENT
def test_a_safeguard_of_ours_is_marked_as_ours(one: Methodology) -> None:
    """No city published a condition on a trip, a boarding or a day: those here say in both languages whose they are."""
    if one.trigger == "period" or one.id in ACT_OF_OLDER:
        return
    marks = [("平台校验值", "a platform safeguard")]
    if one.status == "demonstration":
        marks.append(("演示取值", "a demonstration value"))
    for condition in one.conditions:
        assert any(zh in condition.because.zh and en in condition.because.en for zh, en in marks), condition.id


@pytest.mark.parametrize(
    ("scenario", "last", "first"),
    [(name, date(2025, 5, 22), date(2025, 5, 23)) for name in ("wh-bus", "wh-metro", "wh-shared-bike")],
)
def test_wuhans_values_change_on_the_day_of_2025(scenario: str, last: date, first: date) -> None:
    assert (CATALOGUE.in_force(scenario, last).version, CATALOGUE.in_force(scenario, first).version) == (1, 2)
