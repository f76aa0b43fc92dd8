"""A home's month against the same month a year earlier, then, once the tariff year is over, its settlement."""

import json

from ask import SOURCE, ask

APRIL = {
    "specversion": "1.0",
    "type": "org.tanpuhui.activity.v1",
    "source": SOURCE,
    "id": "meter-310104-0007-2026-04",  # the meter and the month: one event
    "subject": "rider-8",
    "data": {
        "scenario": "demo-home-electricity",
        "inputs": {},
        "started_at": "2026-04-01T00:00:00+08:00",  # the first midnight of the month in Shanghai
        "ended_at": "2026-05-01T00:00:00+08:00",
        "references": {"meter": "310104-0007", "address": "QN-2207-1502"},
        "readings": {
            "use_kwh": {
                "kind": "cumulative",
                "at": [["2026-04-01T00:00:00+08:00", "9120.5"], ["2026-05-01T00:00:00+08:00", "9300.5"]],
            }
        },
        "baseline": {
            "baseline_kwh": {
                "kind": "cumulative",
                "at": [["2025-04-01T00:00:00+08:00", "6541.25"], ["2025-05-01T00:00:00+08:00", "6771.25"]],
            }
        },
    },
}
YEAR = {
    "subject": "rider-8",
    "scenario": "demo-home-electricity",
    "first_day": "2026-01-01",
    "last_day": "2026-12-31",
    "facts": {"tier": 2, "has_pv": 0},
}

status, answer = ask("POST", "/v1/activities", APRIL, "application/cloudevents+json")
print(status, json.dumps(answer, ensure_ascii=False))

status, answer = ask("POST", "/v1/settlements", YEAR)
print(status, json.dumps(answer, ensure_ascii=False))
