"""What an import leaves behind: the file of the refused, the file of all outcomes, the state it can be resumed from.

Batches are recorded in their order, whatever the order of their answers, so that all three agree at every moment: the
state says how long the other two were when it was written, and what is longer is cut off when the import is resumed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from api.provider.closing import OutcomesFile
from api.provider.mending import mend_of
from api.provider.report import Fate, ImportReport
from api.provider.resuming import State
from api.provider.writing import GrowingCsv
from service.feeds import BadRow, Bilingual, Row, Summary

Language = Literal["zh", "en"]

SHOWN = 10  # refused rows that are named one by one; the summary counts them all


class Item(NamedTuple):
    """A row and the event it becomes."""

    row: Row
    body: bytes


@dataclass(slots=True)
class Batch:
    """Rows that travel together, with those between them that become no event, in order.

    number   counts the batches of this run from 0
    first    how many rows, good and bad, were given before
    size     bytes of the JSON array
    """

    number: int
    first: int
    entries: list[Item | BadRow] = field(default_factory=list)
    size: int = 2

    @property
    def items(self) -> list[Item]:
        return [entry for entry in self.entries if isinstance(entry, Item)]


class Shown(NamedTuple):
    """A refused row that is named to the user."""

    row: Row | BadRow
    reason: str
    detail: str
    mend: str


class RefusedFile(GrowingCsv):
    """The CSV of refused rows: which rows of the files, why, and what to mend; nothing when no path is given."""

    heading = ("row", "file", "line", "event_id", "reason", "detail", "mend")

    def write(self, row: Row | BadRow, reason: str, detail: str, mend: str) -> None:
        self.row([numbers_of(row), row.file, row.line, row.event_id or "", reason, detail, mend])


def numbers_of(row: Row | BadRow) -> str:
    """The numbers of the rows it stands for, in runs: `7`, or `1-700 702-1489`."""
    return str(row.number) if len(row.rows) < 2 else " ".join(_runs(sorted(row.rows)))


def _runs(numbers: Iterable[int]) -> Iterable[str]:
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        found = [number for _, number in run]
        yield f"{found[0]}-{found[-1]}" if len(found) > 1 else str(found[0])


class Recorder:
    """Counts and writes the batches in their order; a context manager over its files. Raises ImportStopped when one
    cannot be written."""

    def __init__(
        self,
        refused_to: Path | None = None,
        outcomes_to: Path | None = None,
        *,
        scenario: str = "",
        language: Language = "en",
        state: State | None = None,
        summary: Summary | None = None,
    ) -> None:
        self.summary = Summary() if summary is None else summary  # of the reading that goes on beside
        self.report = ImportReport() if state is None else state.report
        self.first: list[Shown] = []
        self.done = 0 if state is None else state.done
        self._scenario, self._language, self._state = scenario, language, state
        self._waiting: dict[int, tuple[Batch, list[Fate]]] = {}
        self._next = 0
        self._refused = RefusedFile(refused_to, keep=None if state is None else state.refused_bytes)
        self._outcomes = OutcomesFile(outcomes_to, keep=None if state is None else state.outcomes_bytes)

    def __enter__(self) -> "Recorder":
        self._refused.open()
        self._outcomes.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._refused.close()
        self._outcomes.close()

    @property
    def behind(self) -> int:
        """How many answered batches wait for one before them."""
        return len(self._waiting)

    def settle(self, batch: Batch, decided: list[Fate], oldest_ms: int) -> None:
        """Take the fates of a batch; record it and those that waited for it, once all before it are recorded.

        oldest_ms   when the oldest batch that is not answered was sent, Unix time
        """
        self._waiting[batch.number] = batch, decided
        while self._next in self._waiting:
            found, fates = self._waiting.pop(self._next)
            self._record(found, fates)
            self._next += 1
            self.done = found.first + len(found.entries)
        self._save(oldest_ms, finished=False)

    def begin(self, now_ms: int) -> None:
        """Before anything is sent: an import that ends before its first answer can be resumed too."""
        if self._state is not None and not self._state.since_ms:
            self._save(now_ms, finished=False)

    def look_at(self, entry: Row | BadRow) -> None:
        """Take a row that the platform is not asked about."""
        if isinstance(entry, BadRow):
            self._bad(entry)
        else:
            self.report.rows["not_asked"] += entry.stands_for

    def finish(self) -> None:
        """All batches are recorded, and all rows are read."""
        self.report.rows["passed_over"] = self.summary.passed_over.total()
        self._save(0, finished=True)

    def give_up(self) -> None:
        """Count the answers that still wait for one before them. The state does not know them: a resumed import asks
        again, and is given the same answers."""
        for number in sorted(self._waiting):
            self._record(*self._waiting.pop(number))

    def _record(self, batch: Batch, decided: Sequence[Fate]) -> None:
        fates = iter(decided)
        now = datetime.now(UTC)
        for entry in batch.entries:
            if isinstance(entry, BadRow):
                self._bad(entry)
                continue
            row, fate = entry.row, next(fates)
            self.report.add(row, fate)
            self._outcomes.write(row.event_id, self._scenario, fate, now)
            if fate.reason:
                self._refuse(row, fate.reason, fate.detail, mend_of(fate.reason))

    def _bad(self, bad: BadRow) -> None:
        self.report.add_bad(bad)
        self._refuse(bad, bad.reason, getattr(bad.detail, self._language), bad.mend)

    def _refuse(self, row: Row | BadRow, reason: str, detail: str, mend: Bilingual | None) -> None:
        todo: str = "" if mend is None else getattr(mend, self._language)
        if len(self.first) < SHOWN:
            self.first.append(Shown(row, reason, detail, todo))
        self._refused.write(row, reason, detail, todo)

    def _save(self, oldest_ms: int, *, finished: bool) -> None:
        lengths = self._refused.flush(), self._outcomes.flush()
        if self._state is None:
            return
        self._state.done, self._state.since_ms, self._state.finished = self.done, oldest_ms, finished
        self._state.rows = self.report.rows["credited"] + self.report.rows["refused"]
        self._state.refused_bytes, self._state.outcomes_bytes = lengths
        self._state.save()
