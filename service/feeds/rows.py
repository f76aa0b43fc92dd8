"""What the rows of a provider's files become: activities, faults, or neither by a rule of the feed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from service.feeds.errors import Bilingual
from service.feeds.kinds import Feed
from service.quantification.periods import activity_day

EVENT_TYPE = "org.tanpuhui.activity.v1"
NOTHING: Mapping[str, Any] = MappingProxyType({})
Series: TypeAlias = Mapping[str, Mapping[str, Any]]


class Row(NamedTuple):
    """One activity as the provider's file tells it, in the platform's units: of one row, or of several together.

    number      of the first row it was made of, counted from 1 through all files, headings not counted
    line        the line of its file that row begins on; the heading is line 1. In Parquet, the row of its file
    started_at, ended_at   aware, UTC
    references  by name, the feed's constants among them; vehicle stands by itself
    inputs      by name, in the unit that ends the name, exact
    readings, baseline     by name, series of a meter in the canonical form of service/quantification/readings.py
    rows        the numbers of the rows it stands for; empty: of `number` alone
    file        the name of the file that `line` is of
    """

    number: int
    line: int
    event_id: str
    subject: str
    started_at: datetime
    ended_at: datetime
    vehicle: str | None
    references: Mapping[str, str]
    inputs: Mapping[str, Decimal]
    readings: Series = NOTHING
    baseline: Series = NOTHING
    rows: Sequence[int] = ()
    file: str = ""

    @property
    def stands_for(self) -> int:
        """How many rows of the files this is made of."""
        return len(self.rows) or 1

    @property
    def day(self) -> date:
        """The Asia/Shanghai day it began on: the day that decides on rules and factors."""
        return activity_day(self.started_at)


class BadRow(NamedTuple):
    """One row, or several together, that cannot become an activity.

    reason   a slug: why
    detail   what was expected and what came
    mend     what to do about it
    rows     the numbers of the rows it stands for; empty: of `number` alone
    """

    number: int
    line: int
    event_id: str | None
    reason: str
    detail: Bilingual
    mend: Bilingual
    rows: Sequence[int] = ()
    file: str = ""

    @property
    def stands_for(self) -> int:
        """How many rows of the files this is made of."""
        return len(self.rows) or 1


@dataclass(slots=True)
class Summary:
    """Where all rows of the files went; complete when the last row was given.

    rows         read from the files
    passed_over  by the feed's own rules, by a slug that names the rule: neither an activity nor a fault. With the
                 rows that the Row and BadRow given stand for they add up to `rows`
    """

    rows: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)


def numbers_of(rows: list[int]) -> Sequence[int]:
    """Row numbers in order, as a range where none is missing between the first and the last."""
    rows.sort()
    whole = rows[-1] - rows[0] == len(rows) - 1
    return range(rows[0], rows[-1] + 1) if whole else tuple(rows)


def to_event(feed: Feed, row: Row) -> dict[str, Any]:
    """The row as a CloudEvent for `POST /v1/activities`. The same row gives the same event: it may be sent again."""
    data: dict[str, Any] = {
        "scenario": feed.scenario,
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(row.ended_at),
    }
    if row.inputs:
        data["inputs"] = {name: f"{value:f}" for name, value in row.inputs.items()}
        data["basis"] = {name: feed.basis_of(name) for name in row.inputs}
    if row.vehicle is not None:
        data["vehicle"] = row.vehicle
    if row.references:
        data["references"] = dict(row.references)
    if row.readings:
        data["readings"] = dict(row.readings)
    if row.baseline:
        data["baseline"] = dict(row.baseline)
    return {
        "specversion": "1.0",
        "id": row.event_id,
        "source": feed.source.uri,
        "type": EVENT_TYPE,
        "subject": row.subject,
        "data": data,
    }


def rfc3339(moment: datetime) -> str:
    """A moment of UTC as RFC 3339 writes it."""
    return moment.replace(tzinfo=None).isoformat() + "Z"
