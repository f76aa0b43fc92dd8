"""The worked cases of tests/service/cases, which a domain expert can read and add to, against the shipped documents."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from service.quantification.methodology import load_catalogue
from service.quantification.points import load_points_rules, points_for
from service.quantification.quantify import ActivityData, quantify
from service.quantification.readings import parse_readings
from service.quantification.refusals import Refusal

CASES = [
    pytest.param(sheet, case, id=f"{path.stem}: {case['title']}")
    for path in sorted((Path(__file__).parent.parent / "cases").glob("*.toml"))
    for sheet in [tomllib.loads(path.read_text(encoding="utf-8"))]
    for case in sheet["case"]
]


@pytest.mark.parametrize(("sheet", "case"), CASES)
def test_case(sheet: dict[str, Any], case: dict[str, Any]) -> None:
    [methodology] = [
        one for one in load_catalogue().all() if (one.id, one.version) == (sheet["methodology"], sheet["version"])
    ]
    [rule] = [one for one in load_points_rules().all() if one.id == sheet["points_rule"]]
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


def test_every_methodology_that_ships_has_cases() -> None:
    assert {(param.values[0]["methodology"], param.values[0]["version"]) for param in CASES} == {  # type: ignore[index]
        (one.id, one.version) for one in load_catalogue().all()
    }
