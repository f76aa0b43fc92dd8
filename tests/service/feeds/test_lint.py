"""Feeds against the methodologies that ship: all fit, and what does not is said."""

import pytest

from service.feeds import Feed, list_feeds
from service.feeds.lint import examine
from service.quantification.methodology import load_catalogue
from tests.service.feeds.making import feed_like

RULES = load_catalogue().all()


@pytest.mark.parametrize("feed", list_feeds(), ids=lambda feed: feed.id)
def test_every_shipped_feed_gives_what_its_methodology_asks_for(feed: Feed) -> None:
    assert [one for one in examine(feed, RULES) if one.level == "error"] == []


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        (feed_like("valleybike", ("docked-ebike", "docked-bike")), "no methodology covers the scenario docked-bike"),
        (feed_like("valleybike", ("distance_km:", "ridden_km:")), "takes the input distance_km, which the feed lacks"),
        (feed_like("valleybike", ("distance_km:", "ridden_km:")), "has no input ridden_km"),
        (feed_like("mobike-shanghai", ("  order: orderid\n", "")), "the feed lacks order"),
        (feed_like("shenzhen-bus-taps", ("demo-bus-ride", "demo-metro-ride")), "counts by trip"),
        (feed_like("trondheim-charging", ('constant: "0.2"', 'constant: "0.5"')), "the constant is 0.5"),
        (feed_like("london-households", ("periods: 7", "periods: 6")), "from: preceding, periods: 7"),
        (feed_like("london-households", ("unit: day", "unit: month")), "counts by the day, the feed by the month"),
        (feed_like("ausgrid-pv", ("generation_kwh", "made_kwh")), "takes readings generation_kwh"),
        (feed_like("ausgrid-pv", ("installation: {", "payment: {")), "the feed lacks installation"),
        (feed_like("valleybike", ("docked-ebike", "sh-bus")), "is incomplete and credits nothing"),
        (feed_like("valleybike", ("  grade: A", "  grade: C")), "earns grams and no points"),
    ],
)
def test_what_does_not_fit_is_said(feed: Feed, said: str) -> None:
    found = examine(feed, RULES)
    assert any(said in one.text.en for one in found), [one.text.en for one in found]
    assert all(one.text.zh for one in found)
