"""A bank's own file of one day, CSV or JSON, read strictly into lines that can be compared. Pure.

It has the form of the statement, of which a bank needs the first few columns only: a statement that is sent back agrees
with itself. Where the file cannot be read, the faults name every place, and nothing is compared.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple
from uuid import UUID

from service.settlement.statement import COLUMNS, ENTRY_COLUMNS, HEAD_COLUMNS, KINDS, MEASURES, VERSION, Total

Form = Literal["csv", "json"]

NEEDED = ("kind", "transfer_id", "redemption_id", "units", "value_fen")
MOST_LINES = 100_000  # with every column filled they are some 25 MB, which one request still carries
MOST_FAULTS = 20  # a longer list helps nobody
_AMOUNT = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_OF_TOTAL = ("entries", *MEASURES)


class Words(NamedTuple):
    """One text in both languages."""

    zh: str
    en: str


class FileFault(NamedTuple):
    """Where the file cannot be read: the line of a CSV (the header is 1) or the entry of a JSON document from 1 on, 0
    for the file as a whole; the column; and what was expected there. What came is not repeated."""

    line: int
    column: str
    expected: Words


class BankFileInvalid(ValueError):
    """The file cannot be read; `faults` says where, at most MOST_FAULTS of them."""

    def __init__(self, faults: tuple[FileFault, ...]) -> None:
        super().__init__("; ".join(f"line {line}, {column}: {expected.en}" for line, column, expected in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Line:
    """What the bank has of one step. Points and grams are compared where the bank states them.

    number  its line in a CSV, its place in a JSON document
    """

    number: int
    transfer_id: UUID
    redemption_id: UUID
    kind: str
    units: int
    value_fen: int
    points: int | None
    co2e_mg: int | None


@dataclass(frozen=True, slots=True)
class BankFile:
    """A bank's file: its lines in their order, and the control totals it states, by kind."""

    lines: tuple[Line, ...]
    totals: Mapping[str, Mapping[str, int]]


_KIND = Words(f"应为 {'、'.join(KINDS)} 之一", f"must be one of {', '.join(KINDS)}")
_UUID = Words("应为小写、带连字符的 UUID", "must be a UUID, in lower case and with hyphens")
_WHOLE = Words("应为不带符号、前导零或小数的整数", "must be a whole number without sign, leading zero or fraction")
_RECORD = Words("应为 statement、entry、total 之一", "must be one of statement, entry, total")
_TWICE = Words("同一类别只能有一行合计", "a kind has one total")
_MISSING = Words("缺少此列", "the column is missing")
_UNKNOWN = Words(f"不认识此列；可用的列：{'、'.join(COLUMNS)}", f"is no known column; known are {', '.join(COLUMNS)}")
_REPEATED = Words("该列出现了两次", "the column is there twice")
_CELLS = Words("单元格数应与表头相同", "must have as many cells as the header")
_UTF8 = Words("应为 UTF-8 文本", "must be text in UTF-8")
_CSV = Words("应为 RFC 4180 的 CSV", "must be CSV after RFC 4180")
_JSON = Words("应为 JSON 对象，键不重复", "must be a JSON object that repeats no key")
_LIST = Words("应为数组", "must be an array")
_OBJECT = Words("应为对象", "must be an object")
_VERSION = Words(f"应为 {VERSION}", f"must be {VERSION}")
_MEMBER = Words("不认识此项", "is no known member")
_MANY = Words(f"至多 {MOST_LINES} 行", f"has at most {MOST_LINES} lines")


def read_bank_file(content: bytes, form: Form, *, bank: str, day: date) -> BankFile:
    """A bank's file of this day. Where it names a bank or a day, they must be these. Raises BankFileInvalid."""
    reading = _Reading(bank, day)
    if form == "csv":
        reading.read_csv(content)
    else:
        reading.read_json(content)
    if reading.faults:
        raise BankFileInvalid(tuple(reading.faults[:MOST_FAULTS]))
    return BankFile(tuple(reading.lines), reading.totals)


class _Reading:
    """A file being read: what was found so far, and what was wrong."""

    def __init__(self, bank: str, day: date) -> None:
        self.expected = {"bank": bank, "day": day.isoformat()}
        self.lines: list[Line] = []
        self.totals: dict[str, dict[str, int]] = {}
        self.faults: list[FileFault] = []

    def fault(self, line: int, column: str, expected: Words) -> None:
        self.faults.append(FileFault(line, column, expected))

    def read_csv(self, content: bytes) -> None:
        try:
            text = content.decode("utf-8-sig")  # spreadsheets put a mark in front
        except UnicodeDecodeError:
            return self.fault(0, "", _UTF8)
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            header = next(rows, [])
            self._header(header)
            if not self.faults:
                self._rows(header, rows, rows)
        except csv.Error:
            self.fault(rows.line_num, "", _CSV)
        return None

    def _header(self, header: list[str]) -> None:
        for name in NEEDED:
            if name not in header:
                self.fault(1, name, _MISSING)
        for place, name in enumerate(header):
            if name not in COLUMNS:
                self.fault(1, f"{place + 1}", _UNKNOWN)
            elif name in header[:place]:
                self.fault(1, name, _REPEATED)

    def _rows(self, header: list[str], rows: Iterator[list[str]], place: Any) -> None:
        for row in rows:
            number: int = place.line_num
            if len(self.faults) >= MOST_FAULTS:
                return None
            if not row:  # an empty line, as the last one of many files
                continue
            if len(self.lines) >= MOST_LINES:
                return self.fault(number, "", _MANY)
            if len(row) != len(header):
                self.fault(number, "", _CELLS)
                continue
            record = dict(zip(header, row, strict=True))
            self._named(number, record)
            match record.get("record", "entry"):
                case "entry":
                    self._line(number, record)
                case "total":
                    self._total(number, record)
                case "statement":
                    pass  # of which the bank and the day count alone
                case _:
                    self.fault(number, "record", _RECORD)
        return None

    def read_json(self, content: bytes) -> None:
        try:
            document = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_float=str)
        except (ValueError, RecursionError):
            return self.fault(0, "", _JSON)
        if not isinstance(document, dict):
            return self.fault(0, "", _JSON)
        for name in document.keys() - {"v", "entries", "totals", *HEAD_COLUMNS}:
            self.fault(0, name[:100], _MEMBER)
        if document.get("v") != VERSION:
            self.fault(0, "v", _VERSION)
        self._named(0, document)
        entries, totals = document.get("entries"), document.get("totals", {})
        if not isinstance(entries, list):
            return self.fault(0, "entries", _LIST)
        if len(entries) > MOST_LINES:
            return self.fault(0, "entries", _MANY)
        for number, record in enumerate(entries, 1):
            if len(self.faults) >= MOST_FAULTS:
                return None
            if not isinstance(record, dict):
                self.fault(number, "", _OBJECT)
                continue
            for name in record.keys() - {*ENTRY_COLUMNS}:
                self.fault(number, name[:100], _MEMBER)
            self._line(number, record)
        if not isinstance(totals, dict):
            return self.fault(0, "totals", _OBJECT)
        for kind, total in totals.items():
            if not isinstance(total, dict) or total.keys() - {*_OF_TOTAL}:
                self.fault(0, "totals", _OBJECT)
            else:
                self._total(0, {"kind": kind, **total})
        return None

    def _named(self, number: int, record: Mapping[str, Any]) -> None:
        for name, value in self.expected.items():
            if record.get(name, value) not in (value, ""):
                self.fault(number, name, Words(f"应为 {value}", f"must be {value}"))

    def _line(self, number: int, record: Mapping[str, Any]) -> None:
        before = len(self.faults)
        transfer_id = self._uuid(number, record, "transfer_id")
        redemption_id = self._uuid(number, record, "redemption_id")
        kind = self._kind(number, record)
        amounts = {name: self._amount(number, record, name, needed=name in NEEDED) for name in MEASURES}
        if len(self.faults) == before:
            units, value_fen = amounts["units"], amounts["value_fen"]
            assert transfer_id is not None
            assert redemption_id is not None
            assert units is not None
            assert value_fen is not None
            points, co2e_mg = amounts["points"], amounts["co2e_mg"]
            self.lines.append(Line(number, transfer_id, redemption_id, kind, units, value_fen, points, co2e_mg))

    def _total(self, number: int, record: Mapping[str, Any]) -> None:
        kind = self._kind(number, record)
        found = {name: self._amount(number, record, name, needed=False) for name in _OF_TOTAL}
        if kind in self.totals:
            self.fault(number, "kind", _TWICE)
        self.totals[kind] = {name: amount for name, amount in found.items() if amount is not None}

    def _kind(self, number: int, record: Mapping[str, Any]) -> str:
        kind = record.get("kind")
        if kind not in KINDS:
            self.fault(number, "kind", _KIND)
        return str(kind)

    def _uuid(self, number: int, record: Mapping[str, Any], name: str) -> UUID | None:
        text = record.get(name)
        try:
            found = UUID(text) if isinstance(text, str) else None
        except ValueError:
            found = None
        if found is None or str(found) != text:
            self.fault(number, name, _UUID)
        return found

    def _amount(self, number: int, record: Mapping[str, Any], name: str, *, needed: bool) -> int | None:
        value = record.get(name)
        if value is None or value == "":
            if needed:
                self.fault(number, name, _WHOLE)
            return None
        if type(value) is int:  # a JSON number; bool is another type
            value = str(value)
        if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
            self.fault(number, name, _WHOLE)
            return None
        return int(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("repeated key")
    return found


def sums_of(lines: tuple[Line, ...]) -> dict[str, Total]:
    """What the lines of each kind add up to; a measure that some line does not state counts nothing there."""
    sums = {kind: dict.fromkeys(_OF_TOTAL, 0) for kind in KINDS}
    for line in lines:
        of_kind = sums[line.kind]
        of_kind["entries"] += 1
        for measure in MEASURES:
            of_kind[measure] += getattr(line, measure) or 0
    return {kind: Total(**of_kind) for kind, of_kind in sums.items()}
