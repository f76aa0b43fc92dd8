"""Play a customer: one ride, five units of the offer, and the entitlement that they show to you: python3 customer.py

Not your part: in production this is the platform's app. Standard library only.
"""

import json
import os
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

PLATFORM, SOURCE = os.environ["PLATFORM"], "urn:example:guide-rides"
NOW = datetime.now(UTC) + timedelta(seconds=int(os.environ.get("TANPUHUI_CLOCK_OFFSET", "0")))


def ask(token: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """What the platform answers; a refusal ends the program."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    with urlopen(Request(PLATFORM + path, content, headers, method=method), timeout=30) as answer:
        return json.load(answer)


def token(*role: str) -> str:
    return subprocess.run(["tanpuhui", "token", *role], check=True, capture_output=True, text=True).stdout.strip()


operator, subject = os.environ["OPERATOR_TOKEN"], f"customer-{uuid.uuid4()}"
source = {"uri": SOURCE, "title_zh": "指南骑行", "title_en": "Rides of the guide", "grade": "A"}
ask(operator, "PUT", "/v1/sources", source | {"scenarios": ["shared-ebike"], "valid_from": "2024-01-01"})
given = {"purpose": "carbon-credit", "text_version": "terms-3", "given_at": NOW.isoformat()}
link = {"source": SOURCE, "subject": subject, "consent": given}
person = ask(operator, "POST", "/v1/participants", {"kind": "citizen", "links": [link]})["participant_id"]
ride = {
    "scenario": "shared-ebike",
    "started_at": (NOW - timedelta(minutes=15)).isoformat(timespec="seconds"),
    "ended_at": NOW.isoformat(timespec="seconds"),
    "inputs": {"distance_km": "3"},
}
kind = {"specversion": "1.0", "type": "org.tanpuhui.activity.v1", "source": SOURCE, "id": subject, "subject": subject}
event = {"Content-Type": "application/cloudevents+json"}
ask(token("provider", "--source", SOURCE), "POST", "/v1/activities", kind | {"data": ride}, **event)

customer, mine = token("participant", person), f"/v1/participants/{person}"
quote = ask(customer, "POST", f"{mine}/quotes", {"offer": "guide-offer", "units": 5})
agreed = {name: quote[name] for name in ("offer", "version", "units", "points")}
consent = {"text_version": quote["text_version"], "given_at": NOW.isoformat()}
once = {"Idempotency-Key": f'"{uuid.uuid4()}"'}
held = ask(customer, "POST", f"{mine}/redemptions", agreed | {"consent": consent}, **once)["redemption"]
shown = ask(customer, "POST", f"{mine}/redemptions/{held['redemption_id']}/entitlement")
Path("entitlement.jws").write_text(shown["entitlement"] + "\n")
print(f"{held['points']} points are held for {held['units']} units until {held['expires_at']}: entitlement.jws")
