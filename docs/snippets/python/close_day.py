"""Close a day from the outcomes you kept: python3 close_day.py 2026-11-22 outcomes.csv [sequence]

The standard library signs nothing, so `openssl` (3.0 or newer) does it.
"""

import csv
import json
import subprocess
import sys
import tempfile
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ask import SOURCE, ask

SHANGHAI = timezone(timedelta(hours=8))
ED25519 = bytes.fromhex("302e020100300506032b657004220420")  # what stands before the 32 bytes of a key (RFC 8410, 7)


def claims(day: str, outcomes: Path) -> dict[str, dict[str, Any]]:
    """What was sent on this day of Shanghai and answered, by scenario."""
    found: dict[str, dict[str, int]] = {}
    with outcomes.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if datetime.fromisoformat(line["at"]).astimezone(SHANGHAI).date().isoformat() == day:
                names = ("sent", "credited", "refused", "duplicate", "reduction_mg", "points")
                counts = found.setdefault(line["scenario"], dict.fromkeys(names, 0))
                counts["sent"] += 1
                if line["outcome"] in counts:  # what was not kept is in `sent` alone
                    counts[line["outcome"]] += 1
                counts["reduction_mg"] += int(line["reduction_mg"] or 0)
                counts["points"] += int(line["points"] or 0)
    return {
        scenario: counts | {name: str(counts[name]) for name in ("reduction_mg", "points")}
        for scenario, counts in found.items()
    }


def signed(payload: dict[str, Any], key: dict[str, str]) -> bytes:
    """A compact JWS (RFC 7515) by an Ed25519 key."""
    parts = [json.dumps({"alg": "EdDSA", "kid": key["kid"]}), json.dumps(payload)]
    text = b".".join(urlsafe_b64encode(part.encode()).rstrip(b"=") for part in parts)
    pem = b64encode(ED25519 + urlsafe_b64decode(key["d"] + "="))
    with tempfile.TemporaryDirectory() as folder:  # for its owner's eyes only
        secret, signing = Path(folder, "key.pem"), Path(folder, "text")
        secret.write_bytes(b"-----BEGIN PRIVATE KEY-----\n" + pem + b"\n-----END PRIVATE KEY-----\n")
        signing.write_bytes(text)
        command = ["openssl", "pkeyutl", "-sign", "-inkey", str(secret), "-rawin", "-in", str(signing)]
        signature = subprocess.run(command, check=True, capture_output=True).stdout
    return text + b"." + urlsafe_b64encode(signature).rstrip(b"=")


day, outcomes, sequence = sys.argv[1], Path(sys.argv[2]), int((sys.argv[3:] or ["1"])[0])
manifest = {
    "v": "1",
    "source": SOURCE,
    "day": day,
    "sequence": sequence,
    "scenarios": claims(day, outcomes),
    "late": [],
}
status, answer = ask(
    "POST", "/v1/manifests", signed(manifest, json.loads(Path("rides-1.jwk").read_bytes())), "application/jose"
)
print(status, json.dumps(answer, ensure_ascii=False))
