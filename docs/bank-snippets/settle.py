"""Settle what a customer shows: python3 settle.py entitlement.jws loan-4711

The second word is your own number of the business. Every step goes into your book of the day, book-YYYY-MM-DD.csv.
"""

import csv
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jwt
from bank import AHEAD, BANK, call, done

SHANGHAI = timezone(timedelta(hours=8))
COLUMNS = ["kind", "transfer_id", "redemption_id", "units", "value_fen"]


def book(redemption_id: str, step: dict[str, Any] | None) -> None:
    """Write a step down once, on the day on which the platform recorded it."""
    if step is None:
        return
    path = Path(f"book-{datetime.fromisoformat(step['recorded_at']).astimezone(SHANGHAI).date()}.csv")
    known = path.read_text().splitlines() if path.exists() else []
    if not any(step["transfer_id"] in line for line in known):
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            if not known:
                writer.writeheader()
            writer.writerow(step | {"redemption_id": redemption_id})


text, reference = Path(sys.argv[1]).read_text().strip(), sys.argv[2]
keys = jwt.PyJWKSet.from_dict(done(call("GET", "/v1/bank/keys")))
key = keys[jwt.get_unverified_header(text)["kid"]]
claims = jwt.decode(text, key, ["EdDSA"], audience=BANK, options={"verify_exp": not AHEAD})
path = f"/v1/bank/redemptions/{claims['jti']}"
print(f"entitled to {claims['units']} units of {claims['offer']}, worth {claims['value_fen'] / 100:.2f} yuan")

accepted = done(call("POST", f"{path}/accept", {"entitlement": text}))
book(claims["jti"], next(step for step in accepted["steps"] if step["kind"] == "hold"))
captured = done(call("POST", f"{path}/capture", {"units": 3, "final": True}, key=f"{reference}-capture"))
book(claims["jti"], captured["step"])
book(claims["jti"], captured["rest"])
print(f"captured {captured['step']['units']} units, {captured['rest']['units']} went back to the customer")
today = (datetime.now(SHANGHAI) + AHEAD).date().isoformat()
done(call("POST", f"{path}/fulfilment", {"reference": reference, "on": today}))
print(f"{captured['redemption']['state']}, and the benefit is reported as {reference}")
