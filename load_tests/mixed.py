"""Batches in which every rule has work: trips by their orders, boardings, hired vehicles, organisations under look-ups,
caps that clip and refuse, and among them repeats, double claims and people in two places at once.

The rules are load_tests/rules, whose figures are invented. Synthetic, and the same events again for the same seed.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson

from load_tests.events import SOURCE, SOURCE_REGISTRATION, ride
from load_tests.seed import Rider

RULES_DIR = Path(__file__).resolve().parent / "rules"
SCENARIOS = ("shared-ebike", "load-metro", "load-bus", "load-hire", "load-charging")
MIXED_REGISTRATION = SOURCE_REGISTRATION | {"scenarios": list(SCENARIOS)}
# Everything that may refuse one of these events: any other reason is a fault of the platform or of this file.
REASONS = (
    "already-claimed",
    "overlaps-claim",
    "overlaps-activity",
    "cap-reached",
    "participant-covered",
    "site-covered",
)
COVERED_ONE_IN = 4  # firms that the register says are covered by emission trading
COVERED_FROM = "2025-01-01"

_SHANGHAI = timezone(timedelta(hours=8))
_FIRST_DAY = datetime(2025, 3, 1, tzinfo=_SHANGHAI)
_DAYS = 60
_TRAVELS = ("load-metro", "load-bus", "load-hire", "shared-ebike")
_WEIGHTS = (36, 22, 14, 28)
_A_DAYS_TRAVELS = (2, 2, 3, 4, 4, 6, 8)  # some days run into the caps
_FIRMS_DAYS = 0.3  # for each day of a citizen's
_REPEATED, _CLAIMED_TWICE, _TWO_PLACES, _TAKEN_VEHICLE = 0.02, 0.04, 0.02, 0.02
_VEHICLES = 200_000  # a fleet for so many rides in a second
_SPREAD = 40  # batches over which a person's day is strewn: hours lie between its activities
_REMEMBERED = 20_000  # events of which one may come again: most come seconds later, some while the first is posted


def covered(riders: Sequence[Rider]) -> list[str]:
    """The codes of the firms that are covered by emission trading."""
    return [rider.code for rider in riders if rider.code][::COVERED_ONE_IN]


class MixedEvents:
    """Encoded events without end, a person's day spread over many batches."""

    def __init__(self, riders: Sequence[Rider], seed: int) -> None:
        self._chance, self._seed, self._number = random.Random(seed), seed, 0
        self._citizens = [rider.subject for rider in riders if rider.code is None]
        self._firms = [rider for rider in riders if rider.code is not None]
        self._orders: deque[dict[str, str]] = deque(maxlen=_REMEMBERED)
        self._hired: deque[tuple[str, datetime, datetime]] = deque(maxlen=_REMEMBERED)
        self._earlier: deque[bytes] = deque(maxlen=_REMEMBERED)

    def batches(self, items: int) -> Iterator[bytes]:
        """Bodies of so many events each."""
        waiting: list[bytes] = []
        while True:
            while len(waiting) < _SPREAD * items:
                waiting += self._day()
            self._chance.shuffle(waiting)
            for _ in range(_SPREAD // 4):
                yield b"[" + b",".join(waiting[-items:]) + b"]"
                del waiting[-items:]

    def _day(self) -> list[bytes]:
        """What one citizen did in one day, now and then what a firm did, and some events that came before."""
        chance = self._chance
        events = [orjson.dumps(event) for event in self._travels()]
        if chance.random() < _FIRMS_DAYS:
            events.append(orjson.dumps(self._charging()))
        again = [chance.choice(self._earlier) for _ in events if self._earlier and chance.random() < _REPEATED]
        self._earlier += events
        return events + again

    def _travels(self) -> Iterator[dict[str, Any]]:
        chance, subject = self._chance, self._chance.choice(self._citizens)
        day = _FIRST_DAY + timedelta(days=chance.randrange(_DAYS))
        began = ended = day + timedelta(minutes=chance.randrange(360, 540))
        for _ in range(chance.choice(_A_DAYS_TRAVELS)):
            scenario = chance.choices(_TRAVELS, _WEIGHTS)[0]
            if scenario == "shared-ebike":
                yield ride(self._id(), subject, chance)
                continue
            two_places = chance.random() < _TWO_PLACES
            began = began if two_places else ended + timedelta(minutes=chance.randrange(5, 60))
            ended = began + timedelta(minutes=chance.randrange(6, 40))
            yield self._travel(scenario, subject, began, ended)

    def _travel(self, scenario: str, subject: str, began: datetime, ended: datetime) -> dict[str, Any]:
        chance = self._chance
        if scenario == "load-bus":
            return self._event(scenario, subject, began, began, {}, {"payment": self._order()["order"]})
        order = self._order()
        if scenario == "load-metro":
            if chance.random() < 0.3:
                order = order | {"payment": f"metro-{order['order']}"}
            return self._event(
                scenario, subject, began, ended, {"distance_km": chance.randrange(200, 2500) / 100}, order
            )
        vehicle = str(chance.randrange(_VEHICLES))
        if self._hired and chance.random() < _TAKEN_VEHICLE:
            vehicle, began, ended = chance.choice(self._hired)
        self._hired.append((vehicle, began, ended))
        event = self._event(scenario, subject, began, ended, {"distance_km": chance.randrange(50, 600) / 100}, order)
        event["data"]["vehicle"] = vehicle
        return event

    def _order(self) -> dict[str, str]:
        """An order that nobody had, or now and then one that somebody was credited for."""
        if self._orders and self._chance.random() < _CLAIMED_TWICE:
            return self._chance.choice(self._orders)
        order = {"operator": "load", "order": f"{self._seed}-{self._chance.getrandbits(64):016x}"}
        self._orders.append(order)
        return order

    def _charging(self) -> dict[str, Any]:
        chance, firm = self._chance, self._chance.choice(self._firms)
        site = firm if chance.random() < 0.8 else chance.choice(self._firms)
        day = _FIRST_DAY + timedelta(days=chance.randrange(_DAYS))
        references = {"meter": f"{firm.subject}-{chance.randrange(20)}", "site": str(site.code)}
        figures = {"charged_kwh": chance.randrange(1000, 90000) / 100}
        return self._event("load-charging", firm.subject, day, day + timedelta(days=1), figures, references)

    def _event(
        self,
        scenario: str,
        subject: str,
        began: datetime,
        ended: datetime,
        figures: dict[str, float],
        references: dict[str, str],
    ) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": self._id(),
            "source": SOURCE,
            "type": "org.tanpuhui.activity.v1",
            "subject": subject,
            "time": ended.isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "scenario": scenario,
                "started_at": began.isoformat(),
                "ended_at": ended.isoformat(),
                "inputs": figures,
                "references": references,
            },
        }

    def _id(self) -> str:
        self._number += 1
        return f"mixed-{self._seed}-{self._number}"
