"""The worked cases of tests/service/cases, which a domain expert can read and add to, against the shipped documents."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.quantification.factor_sets import load_factor_sets
from service.quantification.methodology import load_catalogue
from service.quantification.points import load_points_rules, points_for
from service.quantification.quantify import ActivityData, quantify
from service.quantification.readings import parse_readings
from service.quantification.refusals import Refusal

SHIPPED = {(one.id, one.version): one for one in load_catalogue(None, load_factor_sets()).all()}
POINTS_RULES = {one.id: one for one in load_points_rules().all()}
SHEETS: dict[str, dict[str, Any]] = {
    path.stem: tomllib.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent.parent / "cases").glob("*.toml"))
}


@pytest.mark.parametrize(
    ("sheet", "case"),
    [
        pytest.param(sheet, case, id=f"{name}: {case['title']}")
        for name, sheet in SHEETS.items()
        for case in sheet["case"]
    ],
)
def test_case(sheet: dict[str, Any], case: dict[str, Any]) -> None:
    methodology, rule = SHIPPED[sheet["methodology"], sheet["version"]], POINTS_RULES[sheet["points_rule"]]
    inputs = {name: Decimal(value) for name, value in case.get("inputs", {}).items()}
    series = (
        {name: parse_readings(one) for name, one in case.get(what, {}).items()} for what in ("readings", "baseline")
    )
    activity = ActivityData(case["started_at"], case["ended_at"], inputs, *series)
    if "refused" in case:
        with pytest.raises(Refusal) as caught:
            quantify(methodology, activity)
        assert caught.value.reason == case["refused"]
        return
    reduction = quantify(methodology, activity)
    assert reduction.co2e.mg == case["reduction_mg"]
    assert points_for(rule, reduction.co2e).n == case["points"]
    assert reduction.vintage == case.get("vintage", case["started_at"].year)


def test_every_methodology_that_computes_has_cases_of_what_it_credits_and_of_what_it_refuses() -> None:
    computing = {name for name, one in SHIPPED.items() if one.reduction is not None and not one.missing}
    for outcome in ("reduction_mg", "refused"):
        shown = [sheet for sheet in SHEETS.values() if any(outcome in case for case in sheet["case"])]
        assert {(sheet["methodology"], sheet["version"]) for sheet in shown} == computing, outcome
