"""Refusals: read the problem, mend what can be mended under the same id, and leave what is final."""

import json
import re
from typing import Any

from ask import SOURCE, ask


def report(event_id: str, started_at: str, ended_at: str, distance_km: str) -> tuple[int, Any]:
    data = {
        "scenario": "shared-ebike",
        "started_at": started_at,
        "ended_at": ended_at,
        "inputs": {"distance_km": distance_km},
    }
    event = {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": SOURCE, "id": event_id}
    status, answer = ask(
        "POST", "/v1/activities", event | {"subject": "rider-7", "data": data}, "application/cloudevents+json"
    )
    print(status, json.dumps(answer, ensure_ascii=False))
    return status, answer


def explain(problem: Any) -> None:
    """What kind of problem it is goes by the last part of its type, never by its texts."""
    slug = re.split("[:/#]", problem["type"])[-1]
    _, page = ask("GET", f"/v1/problems/{slug}")
    print(f"  {slug}, {'final' if page['final'] else 'not final'}. {page['remedy']}")
    for error in problem.get("errors", []):
        print(f"  {error['pointer']}: {error['detail']}")


status, problem = report("order-1002", "2026-05-01T18:00:00", "2026-05-01T18:20:00+08:00", "4,2")
explain(problem)
report("order-1002", "2026-05-01T18:00:00+08:00", "2026-05-01T18:20:00+08:00", "4.2")  # mended, the same id

status, problem = report("order-1003", "2026-05-01T19:00:00+08:00", "2026-05-01T19:00:40+08:00", "0.21")
explain(problem)  # final: 40 seconds are no ride, and asking again changes nothing
