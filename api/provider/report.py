"""What an import adds up to: outcomes by reason, rows, days, milligrams and points; and how it stops."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.feeds import BadRow, Bilingual, Row

DUPLICATE = "duplicate"
NO_DAY = "unknown"  # of a row that cannot be read


class ImportStopped(Exception):
    """The import cannot go on; `text` says why and what to do, `report` how far it came."""

    def __init__(self, *, zh: str, en: str, report: "ImportReport | None" = None) -> None:
        super().__init__(f"{en}\n{zh}")
        self.text = Bilingual(zh=zh, en=en)
        self.report = report


class Fate(NamedTuple):
    """How one event is counted: as credited, or under `reason`. `transfer_id` is a UUIDv7, as text: millions of them
    are read, and few looked into."""

    reason: str = ""
    detail: str = ""
    reduction_mg: int = 0
    points: int = 0
    transfer_id: str | None = None
    pending: bool = False

    @property
    def made_ms(self) -> int | None:
        """When its transfer was made, Unix time; None of what has none."""
        return None if self.transfer_id is None else int(self.transfer_id[:8] + self.transfer_id[9:13], 16)


@dataclass(slots=True)
class Amounts:
    """What became of the events of one Asia/Shanghai day: numbers of events, whole milligrams CO2e, whole points."""

    credited: int = 0
    refused: int = 0
    reduction_mg: int = 0
    points: int = 0


@dataclass(slots=True)
class ImportReport:
    """What became of the rows so far.

    credited      events credited in this import, also when the answer had to be asked for twice; `pending` of them wait
                  for a settlement or a record and cannot be used yet
    refused       by reason: the problem's slug, with the condition after a slash for condition-not-met; `duplicate` for
                  an event credited or refused before; the feed's own reason for rows that make no event
    reduction_mg, points   of the credited
    rows          rows of the file by what became of their event: `credited`, `refused`, `passed_over`, and, in a dry
                  run, `not_asked`
    days          by the Asia/Shanghai day an event began on, or NO_DAY
    """

    credited: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    reduction_mg: int = 0
    points: int = 0
    seconds: float = 0.0
    pending: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    days: dict[str, Amounts] = field(default_factory=dict)

    @property
    def posted(self) -> int:
        """Events, and rows that make none, accounted for."""
        return self.credited + self.refused.total()

    @property
    def duplicates(self) -> int:
        return self.refused[DUPLICATE]

    def add(self, row: Row, fate: Fate) -> None:
        """Count one event."""
        day = self.days.setdefault(row.day.isoformat(), Amounts())
        if fate.reason:
            self.refused[fate.reason] += 1
            self.rows["refused"] += row.stands_for
            day.refused += 1
            return
        self.credited += 1
        self.pending += fate.pending
        self.reduction_mg += fate.reduction_mg
        self.points += fate.points
        self.rows["credited"] += row.stands_for
        day.credited += 1
        day.reduction_mg += fate.reduction_mg
        day.points += fate.points

    def add_bad(self, bad: BadRow) -> None:
        """Count what makes no event."""
        self.refused[bad.reason] += 1
        self.rows["refused"] += bad.stands_for
        self.days.setdefault(NO_DAY, Amounts()).refused += 1

    @property
    def answered(self) -> int:
        """Rows whose event, or whose fault, is accounted for."""
        return self.rows["credited"] + self.rows["refused"] + self.rows["not_asked"]

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

    def in_full(self) -> dict[str, Any]:
        """The same with what `tanpuhui import --json` adds: pending credits, rows, days. Of these from_json makes the
        report again."""
        return self.as_json() | {
            "pending": self.pending,
            "rows": {name: self.rows[name] for name in ("credited", "refused", "passed_over", "not_asked")},
            "days": {
                day: {
                    "credited": found.credited,
                    "refused": found.refused,
                    "reduction_mg": found.reduction_mg,
                    "points": found.points,
                }
                for day, found in sorted(self.days.items())
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "ImportReport":
        """A report from `in_full`. Raises KeyError, TypeError for what is none."""
        return cls(
            credited=document["credited"],
            refused=Counter(document["refused"]),
            reduction_mg=document["reduction_mg"],
            points=document["points"],
            seconds=document["seconds"],
            pending=document["pending"],
            rows=Counter(document["rows"]),
            days={day: Amounts(**found) for day, found in document["days"].items()},
        )
