"""A bank's day and its differences as they are shown, in Chinese and English, and the form of what closes it."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from api.problems import Language, Problem
from api.v1.sources import SourceUri
from service.settlement.bank_file import BankFileInvalid
from service.settlement.differences import REASONS, Difference
from service.settlement.reconciling import BankDay, DayLine
from service.settlement.statement import Total
from service.settlement.states import DayState

MOST_SHOWN = 1_000  # differences; who has more has sent another day's file, or half of one
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class DayClosure(BaseModel):
    """What is closed on: the statement and the bank's file that counts, by their digests; `file` is null where the
    bank sent none. An operator names the bank."""

    model_config = ConfigDict(strict=True, extra="forbid")

    statement: Digest
    file: Digest | None
    bank: SourceUri | None = None


class DifferenceView(BaseModel):
    """One thing that differs. `value_fen` is by how much the bank's side exceeds ours through it; `line` is the place
    in the bank's file."""

    reason: str
    said: str
    transfer_id: str | None
    redemption_id: str | None
    kind: str | None
    line: int | None
    measure: str | None
    ours: str | None
    theirs: str | None
    value_fen: int


class FileView(BaseModel):
    """A file that the bank sent, by its SHA-256; the last one counts."""

    number: int
    digest: str
    lines: int
    differences: int
    received_at: datetime


class ClosingView(BaseModel):
    """That a side closed the day. One on a file that another has replaced since counts no more."""

    side: Literal["bank", "platform"]
    authority: Literal["bank", "operator", "rule"]
    file: str | None
    counts: bool
    closed_at: datetime


class TotalView(BaseModel):
    """The control total of one kind: points, fen and milligrams are whole."""

    entries: int
    units: int
    points: int
    value_fen: int
    co2e_mg: int


class BankDayView(BaseModel):
    """A bank's day as it stands. `digest` is the SHA-256 of the statement's JSON, as in the log; `size` is the size of
    the log below which all of the day lies; `value_fen` is what all differences make together."""

    bank: str
    day: date
    state: DayState
    sequence: int
    size: int
    digest: str
    issued_at: datetime
    totals: dict[str, TotalView]
    differing: int
    value_fen: int
    differences: list[DifferenceView]
    files: list[FileView]
    closings: list[ClosingView]


class DayLineView(BaseModel):
    """A day in the list: `differences` of the bank's last file, null while there is none."""

    day: date
    sequence: int
    size: int
    digest: str
    state: DayState
    differences: int | None
    issued_at: datetime


class BankDaysView(BaseModel):
    """A bank's days with a statement, newest first; `next` goes on before the last one."""

    bank: str
    days: list[DayLineView]
    next: date | None


def bank_day_view(found: BankDay, language: Language) -> dict[str, Any]:
    """A BankDayView."""
    statement, last = found.statement, found.file
    differences = () if last is None else last.differences
    counts = None if last is None else last.digest
    return {
        "bank": statement.bank,
        "day": found.day,
        "state": found.state,
        "sequence": statement.sequence,
        "size": statement.size,
        "digest": found.digest,
        "issued_at": found.issued_at,
        "totals": {kind: _total(total) for kind, total in statement.totals.items()},
        "differing": len(differences),
        "value_fen": sum(difference.value_fen for difference in differences),
        "differences": [_difference(each, language) for each in differences[:MOST_SHOWN]],
        "files": [
            {
                "number": file.number,
                "digest": file.digest,
                "lines": file.lines,
                "differences": len(file.differences),
                "received_at": file.received_at,
            }
            for file in found.files
        ],
        "closings": [
            {
                "side": closing.side,
                "authority": closing.authority,
                "file": closing.file,
                "counts": closing.file == counts,
                "closed_at": closing.closed_at,
            }
            for closing in found.closings
        ],
    }


def day_line_view(line: DayLine) -> dict[str, Any]:
    """A DayLineView."""
    return {name: getattr(line, name) for name in DayLineView.model_fields}


def malformed_file(invalid: BankFileInvalid, language: Language) -> Problem:
    """The problem that says where a file cannot be read."""
    errors = [
        {"line": fault.line, "column": fault.column, "detail": getattr(fault.expected, language)}
        for fault in invalid.faults
    ]
    return Problem("bank-file-malformed", count=len(errors), members={"errors": errors})


def _total(total: Total) -> dict[str, int]:
    return {name: getattr(total, name) for name in TotalView.model_fields}


def _difference(difference: Difference, language: Language) -> dict[str, Any]:
    return {
        "reason": difference.reason,
        "said": getattr(REASONS[difference.reason], language),
        "transfer_id": difference.transfer_id,
        "redemption_id": difference.redemption_id,
        "kind": difference.kind,
        "line": difference.line,
        "measure": difference.measure,
        "ours": difference.ours,
        "theirs": difference.theirs,
        "value_fen": difference.value_fen,
    }
