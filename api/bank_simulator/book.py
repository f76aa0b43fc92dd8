"""The bank's own book: what it was presented, what it means to do, and every step it believes was taken.

A file of JSON lines that is only appended to. Each line is on the disk before the bank goes on, so a bank that was
killed opens its book and does the same again, under the same keys.
"""

import csv
import io
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

FILE_COLUMNS = ("kind", "transfer_id", "redemption_id", "units", "value_fen")
Side = Literal["own", "told"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of one redemption: a `hold`, `capture`, `release` or `refund`.

    day        of Asia/Shanghai, YYYY-MM-DD
    value_fen  what it is worth to the pool, in fen
    authority  on whose word it was released or refunded, None of other kinds or where that is not known
    """

    kind: str
    transfer_id: str
    redemption_id: str
    units: int
    points: int
    value_fen: int
    day: str
    authority: str | None = None

    @property
    def amounts(self) -> tuple[str, str, int, int, int, str]:
        """What both sides must say alike."""
        return self.kind, self.redemption_id, self.units, self.points, self.value_fen, self.day


@dataclass(frozen=True, slots=True)
class Case:
    """A redemption that was presented to the bank, and what the bank means to do with it: a name of PLANS."""

    redemption_id: str
    entitlement: str
    plan: str


@dataclass(slots=True)
class Book:
    """The book, open for writing.

    own     what the bank did, by transfer id, from the answers it got
    told    what the platform says was done, by transfer id, from its log
    after   the place in the log as far as which it was told
    done    redemptions with which the bank has nothing left to do
    """

    path: Path
    cases: dict[str, Case] = field(default_factory=dict)
    own: dict[str, Entry] = field(default_factory=dict)
    told: dict[str, Entry] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    after: int = -1

    def take(self, case: Case) -> None:
        """A customer presented an entitlement."""
        if case.redemption_id not in self.cases:
            self._write("case", asdict(case))

    def enter(self, side: Side, entry: Entry) -> None:
        """A step was answered, or the platform told of one. The same again adds nothing; another amount under a known
        id is kept beside it, and the later one counts."""
        if getattr(self, side).get(entry.transfer_id) != entry:
            self._write(side, asdict(entry))

    def finish(self, redemption_id: str) -> None:
        """Nothing is left to do with it."""
        if redemption_id not in self.done:
            self._write("done", {"redemption_id": redemption_id})

    def was_told(self, after: int) -> None:
        """The log was read as far as this place."""
        if after > self.after:
            self._write("after", {"after": after})

    def day_file(self, day: str) -> bytes:
        """The bank's file of a day as CSV (RFC 4180): what it did itself, and what the platform told it of: holds that
        were never presented, and what lapsed or was cancelled."""
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow(FILE_COLUMNS)
        for entry in self.entries().values():
            if entry.day == day:
                writer.writerow([getattr(entry, column) for column in FILE_COLUMNS])
        return out.getvalue().encode("utf-8")

    def entries(self) -> dict[str, Entry]:
        """Every step the bank believes in, by transfer id: its own first, and of what it was told that which it could
        not know."""
        return {name: entry for name, entry in self.told.items() if foreign(entry)} | self.own

    def _write(self, record: str, content: dict[str, Any]) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps({"record": record, **content}).encode("utf-8") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._read(record, content)

    def _read(self, record: str, content: dict[str, Any]) -> None:
        if record == "case":
            self.cases[content["redemption_id"]] = Case(**content)
        elif record == "done":
            self.done.add(content["redemption_id"])
        elif record == "after":
            self.after = content["after"]
        else:
            {"own": self.own, "told": self.told}[record][content["transfer_id"]] = Entry(**content)


def foreign(entry: Entry) -> bool:
    """Whether a step happens without the bank: the customer's hold, and what lapsed, was cancelled or withdrawn."""
    return entry.kind == "hold" or (entry.kind in ("release", "refund") and entry.authority not in (None, "bank"))


def open_book(path: Path) -> Book:
    """The book of this file, which is made (mode 0600) if there is none. A last line that a crash cut off is
    dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    book = Book(path)
    for line in whole.splitlines():
        record = json.loads(line)
        book._read(record.pop("record"), record)
    return book
