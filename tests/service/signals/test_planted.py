"""Fraud planted in the shipped rides, with its seed: the least that the signals find of it, and the most that they find
of honest people. docs/abuse-signals.md has the whole table."""

from random import Random

import pytest

from service.feeds import SHIPPED_RIDES
from tests.service.signals.planted import KINDS, PLANTED, Score, find_everybody, judge, plant, read_rides, score

SEED = 7
# Percent of the planted accounts of a kind that some strong signal finds.
FLOOR = {"bot": 100, "replayed": 95, "jumping": 95, "copied": 40}
BLIND = {"patient bot", "lazy bot", "shared account"}
"""Who does no more than busy people do, or no more than a provider that rounds: their caps are what limits them."""


@pytest.fixture(scope="module")
def scores() -> dict[str, Score]:
    rides, kinds = plant(read_rides([SHIPPED_RIDES]), Random(SEED))
    people, _ = judge(rides)
    return score(find_everybody(people), kinds)


def test_most_of_the_planted_fraud_is_found(scores: dict[str, Score]) -> None:
    caught = scores["strong"].caught
    assert FLOOR.keys() | BLIND == set(KINDS)
    for kind, percent in FLOOR.items():
        assert caught[kind] * 100 >= percent * PLANTED, (kind, caught)


def test_honest_riders_are_left_alone(scores: dict[str, Score]) -> None:
    assert scores["strong"].precision_permille >= 950
    assert scores["strong"].wrong <= 3  # of 1,863 riders
    for name, one in scores.items():
        assert one.precision_permille >= 900, (name, one)


def test_round_figures_are_told_although_they_hold_nothing(scores: dict[str, Score]) -> None:
    assert scores["round-figures"].caught["lazy bot"] * 100 >= 90 * PLANTED
