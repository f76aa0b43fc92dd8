"""Report a file of rides: python3 send_rides.py rides.csv outcomes.csv [--dry-run]

outcomes.csv gets a line for every ride that was answered, after each batch. After a crash, a kill or a long outage the
same command goes on from there. What was answered and not written down is sent again, and answered as the first time.
"""

import argparse
import csv
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from ask import SOURCE, ask

SCENARIO, SHANGHAI = "shared-ebike", timezone(timedelta(hours=8))
COLUMNS = ("id", "scenario", "outcome", "reduction_mg", "points", "at", "reason")


def event_of(row: dict[str, str]) -> dict[str, Any]:
    """A ride as an event. Raises ValueError or ArithmeticError for a row that is none."""
    started, ended = (
        datetime.fromisoformat(row[name]).replace(tzinfo=SHANGHAI) for name in ("unlocked_at", "locked_at")
    )
    return {
        "specversion": "1.0",
        "type": "org.tanpuhui.activity.v1",
        "source": SOURCE,
        "id": f"order-{row['order_no']}",  # from your record: never a random number, never the time of sending
        "subject": row["rider"],
        "data": {
            "scenario": SCENARIO,
            "started_at": started.isoformat(),
            "ended_at": ended.isoformat(),
            "inputs": {"distance_km": str(Decimal(row["metres"]) / 1000)},  # exact: no float on the way
            "basis": {"distance_km": "track"},
            "vehicle": row["bike_no"],
            "references": {"operator": "example.com", "order": row["order_no"]},
        },
    }


def events(path: Path, known: set[str]) -> Iterator[dict[str, Any]]:
    """The events of the file that have no answer yet."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            try:
                event = event_of(row)
            except (ValueError, ArithmeticError) as fault:
                print(f"{path} line {rows.line_num}: not sent, {fault!r}", file=sys.stderr)
                continue
            if event["id"] not in known:
                known.add(event["id"])
                yield event


def decided(path: Path) -> set[str]:
    """Ids with their final answer. A last line that a crash cut off is removed: that ride is sent again."""
    whole = path.read_bytes().rpartition(b"\n")[0] + b"\n" if path.exists() else b"\n"
    path.write_bytes(",".join(COLUMNS).encode() + b"\n" if whole == b"\n" else whole)
    with path.open(encoding="utf-8", newline="") as file:
        return {row["id"] for row in csv.DictReader(file) if row["outcome"] != "unkept"}


def line_of(item: dict[str, Any]) -> list[Any]:
    """An outcome as a line. A duplicate that we have no line of is one whose first answer was lost: it is that one."""
    first = item.get("first", item)
    at = datetime.now(UTC)
    stored = first.get("transfer_id") or first.get("problem", {}).get("activity_id")
    if stored:  # the time of arrival: a UUIDv7 begins with its milliseconds
        at = datetime.fromtimestamp(int(stored.replace("-", "")[:12], 16) / 1000, UTC)
    if first["outcome"] == "credited":
        return [item["id"], SCENARIO, "credited", first["reduction_mg"], first["points"], at.isoformat(), ""]
    reason = re.split("[:/#]", first["problem"]["type"])[-1]
    outcome = "refused" if stored else "unkept"  # unkept: mend it, or have it mended, then the same id again
    return [item["id"], SCENARIO, outcome, "", "", at.isoformat(), reason]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("rides", type=Path)
    options.add_argument("outcomes", type=Path)
    options.add_argument("--batch", type=int, default=500, help="at most 1000")
    options.add_argument("--dry-run", action="store_true", help="only say what would become of them")
    chosen = options.parse_args()
    path = "/v1/activities?dry_run=true" if chosen.dry_run else "/v1/activities"
    remaining, counts = events(chosen.rides, decided(chosen.outcomes)), Counter[str]()
    with chosen.outcomes.open("a", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        while batch := list(islice(remaining, chosen.batch)):
            status, answer = ask("POST", path, batch, "application/cloudevents-batch+json")
            if status != 200:  # the batch as a whole: token, size or quota
                sys.exit(f"{status} {answer['title']}: {answer['detail']}")
            found = [line_of(item) for item in answer["outcomes"]]
            counts.update(f"{line[2]} {line[6]}".strip() for line in found)
            if not chosen.dry_run:
                lines.writerows(found)
                file.flush()
                os.fsync(file.fileno())  # on the disk before the next batch leaves
    print(", ".join(f"{name}: {count}" for name, count in counts.items()) or "nothing left to send")


if __name__ == "__main__":
    main()
