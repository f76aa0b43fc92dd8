"""The documents of the rules: what they may say, and that what they say of distances is what methodologies compute."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from service.clock import SHANGHAI
from service.quantification.document import DocumentInvalid
from service.quantification.methodology import load_catalogue
from service.quantification.model import ActivityData
from service.quantification.quantify import quantify
from service.signals.drift import SourceDay, find_drift
from service.signals.finding import Person, find
from service.signals.rules import DAY_KINDS, DRIFT_KINDS, KINDS, parse_rule, shipped_rules

RULES = {rule.id: rule for rule in shipped_rules()}
DOCUMENT = """
schema: 1
id: many
version: 2
kind: acts-a-day
strength: strong
window_days: 1
title: {zh: 多, en: Many}
told: {zh: "{count}", en: "{count} on {day}"}
limits: {more_than: 24, times_usual: 4}
"""


def test_a_document_says_its_limits_and_its_words() -> None:
    rule = parse_rule(DOCUMENT.encode())
    assert (rule.id, rule.version, rule.strength, rule.limits) == (
        "many",
        2,
        "strong",
        {"more_than": 24, "times_usual": 4},
    )
    assert len(rule.digest) == 64


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("schema: 1", "schema: 2"),
        ("acts-a-day", "acts-a-week"),
        ("strength: strong", "strength: fatal"),
        ("window_days: 1", "window_days: 36"),
        ("window_days: 1", "window_days: 0"),
        ("more_than: 24", "more_than: 0"),
        ("more_than: 24", "more_than: 24.5"),
        ("more_than: 24", 'more_than: "-1"'),
        (", times_usual: 4", ""),
        (", times_usual: 4", ", times_usual: 4, per: 3"),
        ("on {day}", "by {name}"),
        ("limits:", "scenarios: {docked-ebike: {mg_per_km: 1}}\nlimits:"),
        ("version: 2", ""),
    ],
)
def test_a_document_that_says_something_else_is_refused(was: str, now: str) -> None:
    assert was in DOCUMENT
    with pytest.raises(DocumentInvalid):
        parse_rule(DOCUMENT.replace(was, now).encode())


def test_every_kind_has_a_rule_that_something_looks_by() -> None:
    assert {rule.kind for rule in RULES.values()} == KINDS.keys()
    assert DAY_KINDS.keys() | DRIFT_KINDS.keys() < KINDS.keys()
    assert find(RULES.values(), Person([]), datetime.now(SHANGHAI).date()) == []
    assert find_drift(RULES.values(), _nothing(), []) == []


def _nothing() -> SourceDay:
    return SourceDay(datetime.now(SHANGHAI).date(), 0, 0, 0, 0, (0,) * 24)


def test_grams_tell_the_distance_as_the_documents_say() -> None:
    """A kilometre, and a thousand and one, under every methodology in force for a scenario that a rule names."""
    begins = datetime.now(SHANGHAI) - timedelta(days=1)
    named = {(name, each.mg_per_km) for rule in RULES.values() for name, each in rule.distances.items()}
    assert {name for name, _ in named} == {"docked-ebike", "shared-ebike"}
    for scenario, mg_per_km in named:
        methodology = load_catalogue().in_force(scenario, begins.date())
        for km in ("1", "7.3"):
            data = ActivityData(begins, begins + timedelta(hours=1), {"distance_km": Decimal(km)})
            assert quantify(methodology, data).co2e.mg == int(Decimal(km) * mg_per_km)


def test_words_are_there_in_both_languages_for_every_value() -> None:
    for rule in RULES.values():
        values = dict.fromkeys(KINDS[rule.kind][1].split(), "7")
        assert "7" in rule.told.zh.format(**values)
        assert "7" in rule.told.en.format(**values)
        assert rule.title.zh != rule.title.en
