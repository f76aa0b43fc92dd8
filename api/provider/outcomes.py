"""What became of the events: the platform's answers, the report they add up to, the file of the refused."""

import csv
import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson

from service.feeds import BadRow, Bilingual, Row

MALFORMED_ROW = "malformed-row"
DUPLICATE = "duplicate"
_CLOCK_SLACK_MS = 2_000  # by which the clocks of this machine and the platform may differ
_REMEMBERED = 50_000  # transfers; some 8 MB


class ImportStopped(Exception):
    """The import cannot go on; `text` says why and what to do, `report` how far it came."""

    def __init__(self, *, zh: str, en: str, report: "ImportReport | None" = None) -> None:
        super().__init__(f"{en}\n{zh}")
        self.text = Bilingual(zh=zh, en=en)
        self.report = report


@dataclass(slots=True)
class ImportReport:
    """What became of the rows so far.

    credited      events credited in this run, also when the answer had to be asked for twice
    refused       by reason: the problem's slug, with the condition after a slash for condition-not-met; `duplicate` for
                  an event credited or refused before, `malformed-row` for a row that is no event
    reduction_mg, points   of the credited
    """

    credited: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reduction_mg: int = 0
    points: int = 0
    seconds: float = 0.0

    @property
    def posted(self) -> int:
        """Rows accounted for."""
        return self.credited + self.refused.total()

    @property
    def duplicates(self) -> int:
        return self.refused[DUPLICATE]

    def as_json(self) -> dict[str, Any]:
        """The object `tanpuhui demo --json` ends with; the most frequent reason first."""
        return {
            "posted": self.posted,
            "credited": self.credited,
            "refused": dict(self.refused.most_common()),
            "reduction_mg": self.reduction_mg,
            "points": self.points,
            "seconds": round(self.seconds, 3),
        }


class Fate(NamedTuple):
    """How one event is counted: as credited, or under `reason`."""

    reason: str = ""
    detail: str = ""
    reduction_mg: int = 0
    points: int = 0
    transfer_id: UUID | None = None


class Answered(NamedTuple):
    """One item of the platform's answer; `again` when the event was known and `fate` is its first one."""

    fate: Fate
    again: bool


def answers(body: bytes, expected: int) -> list[Answered] | None:
    """The answer's items, or None when it is not an answer to that many events."""
    try:
        outcomes = orjson.loads(body)["outcomes"]
        return [_answered(outcome) for outcome in outcomes] if len(outcomes) == expected else None
    except (ValueError, KeyError, TypeError):
        return None


def _answered(outcome: Any) -> Answered:
    match outcome["outcome"]:
        case "credited":
            transfer_id = UUID(outcome["transfer_id"])
            return Answered(
                Fate("", "", int(outcome["reduction_mg"]), int(outcome["points"]), transfer_id), again=False
            )
        case "refused":
            return Answered(Fate(reason_of(outcome["problem"]), str(outcome["problem"].get("detail", ""))), again=False)
        case "duplicate":
            return Answered(_answered(outcome["first"]).fate, again=True)
    raise ValueError("an outcome is credited, refused or duplicate")


def reason_of(problem: dict[str, Any]) -> str:
    """The slug that ends the problem's type, and the condition when it names one."""
    slug = re.split(r"[:/#]", str(problem["type"]).rstrip("/"))[-1]
    condition = problem.get("condition")
    return f"{slug}/{condition}" if condition is not None else slug


def add(report: ImportReport, fate: Fate) -> None:
    """Count one event."""
    if fate.reason:
        report.refused[fate.reason] += 1
        return
    report.credited += 1
    report.reduction_mg += fate.reduction_mg
    report.points += fate.points


class Counted:
    """The transfers counted lately, so that each is counted once, also when an event stands twice in the file.

    Bounded: it forgets the oldest of 50,000, some seconds of the fastest import; after that, only an event that stands
    twice in the file and travels in a batch that was sent again for so long could count a second time.
    """

    def __init__(self) -> None:
        self._order: deque[UUID] = deque()
        self._known: set[UUID] = set()

    def add(self, transfer_id: UUID) -> bool:
        """Whether it was not counted before."""
        if transfer_id in self._known:
            return False
        self._known.add(transfer_id)
        self._order.append(transfer_id)
        if len(self._order) > _REMEMBERED:
            self._known.remove(self._order.popleft())
        return True


def fates(
    event_ids: Sequence[str], answered: Sequence[Answered], resent_since_ms: int | None, counted: Counted
) -> list[Fate]:
    """How each event of a batch is counted.

    resent_since_ms  when a batch that had to be sent again was first sent (Unix time), else None. That first sending
                     may have been posted and only its answer lost: those events come back as known, and yet it was
                     this run that had them decided, so their first answer counts.
    """
    decided = []
    seen: set[str] = set()  # the second of two equal events of one batch is a duplicate however often it is sent
    for event_id, (fate, again) in zip(event_ids, answered, strict=True):
        ours = not again
        if again and resent_since_ms is not None:
            ours = event_id not in seen and _made_since(fate, resent_since_ms)
        if ours and fate.transfer_id is not None:
            ours = counted.add(fate.transfer_id)
        seen.add(event_id)
        decided.append(fate if ours else Fate(DUPLICATE, fate.detail or f"transfer {fate.transfer_id}"))
    return decided


def _made_since(fate: Fate, since_ms: int) -> bool:
    """Whether the transfer was made since then: its id is a UUIDv7. A refusal has no time and is taken to be ours."""
    return fate.transfer_id is None or fate.transfer_id.int >> 80 >= since_ms - _CLOCK_SLACK_MS


class RefusedFile:
    """The CSV of refused rows, or nothing when no path is given."""

    def __init__(self, path: Path | None, language: Literal["zh", "en"]) -> None:
        # With a byte order mark, without which a spreadsheet shows Chinese as noise
        self._file = None if path is None else path.open("w", encoding="utf-8-sig", newline="")
        self._writer = None if self._file is None else csv.writer(self._file)

    def __enter__(self) -> "RefusedFile":
        if self._writer is not None:
            self._writer.writerow(["row", "line", "event_id", "reason", "detail"])
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, row: Row | BadRow, reason: str, detail: str) -> None:
        if self._writer is not None:
            self._writer.writerow([row.number, row.line, row.event_id or "", reason, detail])
