"""Put a right event in the place of a wrong one, and take back one that never took place."""

import json

from ask import SOURCE, ask

RIGHT = {
    "specversion": "1.0",
    "type": "org.tanpuhui.activity.v1",
    "source": SOURCE,
    "id": "order-1001-corrected",
    "subject": "rider-7",
    "data": {
        "scenario": "shared-ebike",
        "replaces": "order-1001",  # the wrong one's credit is taken back, this one's takes its place
        "started_at": "2026-05-01T08:00:00+08:00",
        "ended_at": "2026-05-01T08:12:00+08:00",
        "inputs": {"distance_km": "2.53"},
        "basis": {"distance_km": "track"},
        "vehicle": "1381",
        "references": {"operator": "example.com", "order": "1001"},
    },
}

status, answer = ask("POST", "/v1/activities", RIGHT, "application/cloudevents+json")
print(status, json.dumps(answer, ensure_ascii=False))

status, answer = ask("POST", "/v1/retractions", {"ids": ["order-1002"], "dry_run": False})
print(status, json.dumps(answer, ensure_ascii=False))
