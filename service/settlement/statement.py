"""The statement 对账单 of one bank day: what was held, captured, released and refunded, as one document. Pure.

Its bytes are canonical JSON (RFC 8785) whose SHA-256 stands in the log; whole numbers are decimal strings. The CSV says
the same, for spreadsheets. Neither names a participant.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import orjson

VERSION = "1"
KINDS = ("hold", "capture", "release", "refund")
MEASURES = ("units", "points", "value_fen", "co2e_mg")
"""What is added up of each kind: units of an offer, whole points, fen (a hundredth of a yuan), milligrams CO2e."""

ENTRY_COLUMNS = (
    "kind",
    "transfer_id",
    "redemption_id",
    "reason",
    "offer",
    "offer_version",
    *MEASURES,
    "reference",
    "log_index",
    "recorded_at",
)
HEAD_COLUMNS = ("bank", "programme", "day", "sequence", "previous", "size", "digest")
COLUMNS = ("record", *ENTRY_COLUMNS, "entries", *HEAD_COLUMNS)
"""Of the CSV: a `statement` record fills the last seven, a `total` its kind, measures and entries, an `entry` the
rest."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of one redemption.

    reason     why it was released or refunded, a code; None for a hold or a capture
    reference  what the bank called it, None where it gave nothing
    log_index  its leaf's place in the log
    """

    transfer_id: UUID
    redemption_id: UUID
    kind: str
    reason: str | None
    offer: str
    offer_version: int
    units: int
    points: int
    value_fen: int
    co2e_mg: int
    reference: str | None
    log_index: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Total:
    """Control total of one kind: how many entries, and the sum of each measure."""

    entries: int = 0
    units: int = 0
    points: int = 0
    value_fen: int = 0
    co2e_mg: int = 0


@dataclass(frozen=True, slots=True)
class DayStatement:
    """Everything of one bank on one Asia/Shanghai day.

    bank      the registered URI
    sequence  1, 2, … for the bank: a gap shows that one is missing
    previous  digest of the statement before it, hex; None for the first
    size      every entry of the day lies below this index of the log, and none comes after
    entries   in the order of the log
    """

    bank: str
    programme: str
    day: date
    sequence: int
    previous: str | None
    size: int
    entries: tuple[Entry, ...]

    @property
    def totals(self) -> dict[str, Total]:
        """The control total of every kind, of those without an entry too."""
        return totals_of(self.entries)


def totals_of(entries: Iterable[Entry]) -> dict[str, Total]:
    """The control total of every kind."""
    sums = {kind: dict.fromkeys(("entries", *MEASURES), 0) for kind in KINDS}
    for entry in entries:
        of_kind = sums[entry.kind]
        of_kind["entries"] += 1
        for measure in MEASURES:
            of_kind[measure] += getattr(entry, measure)
    return {kind: Total(**of_kind) for kind, of_kind in sums.items()}


def statement_document(statement: DayStatement) -> bytes:
    """The statement's bytes: RFC 8785 JSON, whole numbers as strings."""
    document = {
        "v": VERSION,
        "bank": statement.bank,
        "programme": statement.programme,
        "day": statement.day.isoformat(),
        "sequence": str(statement.sequence),
        "previous": statement.previous,
        "size": str(statement.size),
        "entries": [_entry_record(entry) for entry in statement.entries],
        "totals": {kind: _total_record(total) for kind, total in statement.totals.items()},
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def digest_of(document: bytes) -> bytes:
    """SHA-256 of a statement's bytes: what its leaf in the log names."""
    return hashlib.sha256(document).digest()


def read_statement(document: bytes) -> DayStatement:
    """A statement of ours from its bytes. Raises KeyError or ValueError for anything else."""
    content: dict[str, Any] = orjson.loads(document)
    return DayStatement(
        bank=content["bank"],
        programme=content["programme"],
        day=date.fromisoformat(content["day"]),
        sequence=int(content["sequence"]),
        previous=content["previous"],
        size=int(content["size"]),
        entries=tuple(_entry(record) for record in content["entries"]),
    )


def statement_csv(document: bytes) -> bytes:
    """The same as CSV (RFC 4180, UTF-8): the statement, its entries, then the totals."""
    statement = read_statement(document)
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for record in _csv_records(statement, digest_of(document).hex()):
        writer.writerow({name: "" if value is None else value for name, value in record.items()})
    return out.getvalue().encode("utf-8")


def _csv_records(statement: DayStatement, digest: str) -> Iterator[Mapping[str, str | None]]:
    yield {
        "record": "statement",
        "bank": statement.bank,
        "programme": statement.programme,
        "day": statement.day.isoformat(),
        "sequence": str(statement.sequence),
        "previous": statement.previous,
        "size": str(statement.size),
        "digest": digest,
    }
    for entry in statement.entries:
        yield {"record": "entry", **_entry_record(entry)}
    for kind, total in statement.totals.items():
        yield {"record": "total", "kind": kind, **_total_record(total)}


def _entry_record(entry: Entry) -> dict[str, str | None]:
    found = {field.name: getattr(entry, field.name) for field in fields(entry)}
    found["recorded_at"] = entry.recorded_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {name: None if value is None else str(value) for name, value in found.items()}


def _total_record(total: Total) -> dict[str, str]:
    return {field.name: str(getattr(total, field.name)) for field in fields(total)}


def _entry(record: Mapping[str, Any]) -> Entry:
    return Entry(
        transfer_id=UUID(record["transfer_id"]),
        redemption_id=UUID(record["redemption_id"]),
        kind=record["kind"],
        reason=record["reason"],
        offer=record["offer"],
        offer_version=int(record["offer_version"]),
        **{measure: int(record[measure]) for measure in MEASURES},
        reference=record["reference"],
        log_index=int(record["log_index"]),
        recorded_at=datetime.fromisoformat(record["recorded_at"]),
    )
