"""Rides as a provider would report them: synthetic, and the same ones again for the same seed."""

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson

EVENT, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
SOURCE = "urn:tanpuhui:load-tests"
SOURCE_REGISTRATION = {
    "uri": SOURCE,
    "title_zh": "负载测试数据方",
    "title_en": "Provider of the load tests",
    "grade": "A",
    "scenarios": ["shared-ebike"],
    "valid_from": "2016-01-01",
    "valid_to": None,
}

_SHANGHAI = timezone(timedelta(hours=8))
_FIRST_MINUTE = datetime(2025, 3, 1, tzinfo=_SHANGHAI)
_MINUTES = 90 * 24 * 60  # rides begin within 90 days


def ride(event_id: str, subject: str, chance: random.Random) -> dict[str, Any]:
    """One ride that the demonstration methodology credits: 1 to 6 km at 9 to 15 km/h.

    A provider's distance is a number with two decimals, which JSON carries as it is written.
    """
    hundredths = chance.randrange(100, 600)
    started = _FIRST_MINUTE + timedelta(minutes=chance.randrange(_MINUTES))
    ended = started + timedelta(seconds=hundredths * chance.randrange(240, 400) // 100)
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": SOURCE,
        "type": "org.tanpuhui.activity.v1",
        "subject": subject,
        "time": ended.isoformat(),
        "datacontenttype": "application/json",
        "data": {
            "scenario": "shared-ebike",
            "started_at": started.isoformat(),
            "ended_at": ended.isoformat(),
            "inputs": {"distance_km": hundredths / 100},
            "basis": {"distance_km": "track"},
            "vehicle": str(chance.randrange(10_000)),
        },
    }


def encoded_rides(subjects: Sequence[str], seed: int) -> Iterator[bytes]:
    """Rides without end, each with an id of its own, spread evenly over the subjects at random."""
    chance = random.Random(seed)
    while True:
        event_id = f"{seed}-{chance.getrandbits(96):024x}"
        yield orjson.dumps(ride(event_id, chance.choice(subjects), chance))
