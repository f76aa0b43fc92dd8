"""Reconcile a day that is over: python3 reconcile.py 2026-11-22 book-2026-11-22.csv

What happens without you stands in the statement alone: holds that nobody has shown to you, and what lapsed or was
cancelled. It is taken from there; everything else must be in your own book.
"""

import csv
import io
import json
import os
import sys
from hashlib import sha256
from pathlib import Path
from urllib.request import Request, urlopen

from bank import PLATFORM, call, done

COLUMNS = ["kind", "transfer_id", "redemption_id", "units", "value_fen"]
WITHOUT_US = ("lapsed", "cancelled", "withdrawn")

day, book = sys.argv[1], Path(sys.argv[2])
request = Request(f"{PLATFORM}/v1/statements/{day}", headers={"Authorization": f"Bearer {os.environ['BANK_TOKEN']}"})
with urlopen(request, timeout=60) as answer:
    document = answer.read()  # its bytes: the log has their SHA-256
statement = json.loads(document)
lines = list(csv.DictReader(io.StringIO(book.read_text())))
known = {line["transfer_id"] for line in lines}
for entry in statement["entries"]:
    if entry["transfer_id"] not in known and (entry["kind"] == "hold" or entry["reason"] in WITHOUT_US):
        lines.append(entry)
file = io.StringIO(newline="")
writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
writer.writeheader()
writer.writerows(lines)
content = file.getvalue().encode()

answered = done(call("POST", f"/v1/statements/{day}/files", content, kind="text/csv"))
for each in answered["differences"]:
    print(f"{each['reason']}: {each['said']} (yours {each['theirs']}, the platform's {each['ours']})")
if answered["differing"]:
    raise SystemExit(
        f"{answered['differing']} differences, {answered['value_fen']} fen: mend the book and send it again"
    )
closing = {"statement": sha256(document).hexdigest(), "file": sha256(content).hexdigest()}
closed = done(call("POST", f"/v1/statements/{day}/closing", closing))
print(f"{day}: {len(statement['entries'])} entries agree, and the day is {closed['state']}")
