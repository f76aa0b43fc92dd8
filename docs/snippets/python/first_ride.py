"""The first ride: one event, one answer."""

import json

from ask import SOURCE, ask

RIDE = {
    "specversion": "1.0",
    "type": "org.tanpuhui.activity.v1",
    "source": SOURCE,
    "id": "order-1001",
    "subject": "rider-7",
    "data": {
        "scenario": "shared-ebike",
        "started_at": "2026-05-01T08:00:00+08:00",
        "ended_at": "2026-05-01T08:12:00+08:00",
        "inputs": {"distance_km": "2.35"},
        "basis": {"distance_km": "track"},
        "vehicle": "1381",
        "references": {"operator": "example.com", "order": "1001"},
    },
}

status, answer = ask("POST", "/v1/activities", RIDE, "application/cloudevents+json")
print(status, json.dumps(answer, ensure_ascii=False))
