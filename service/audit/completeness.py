"""Is anything missing? What a source says it sent of a day, what the platform says it received, and what the log has.

The day of an event is the Asia/Shanghai day on which it arrived, which is in its activity's id: both sides count an
event to the same day. A day can be closed when everything that arrived on it has been posted, so all three must agree.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, NamedTuple

import orjson

from ledger.bundle import Bundle, FileUnreadable, parse_lines
from ledger.verify.findings import Findings
from service.audit.findings import Open

MANIFESTS = "manifests.jsonl"
MEASURES = ("credited", "reduction_mg", "points")
"""What the log has as well; of what was refused it has nothing."""
REFUSED = "refused"
NO_SCENARIO = "?"

_FIRST_DAY = date(1970, 1, 1)


class Counts(NamedTuple):
    """How many activities were credited, milligrams and points; and how many were refused, of which no entry tells."""

    credited: int = 0
    reduction_mg: int = 0
    points: int = 0
    refused: int | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One scenario of a source's day: as the source claims (None once its text was erased), as received, as logged.

    entry   of the manifest in the log
    """

    source: str
    day: str
    sequence: int
    entry: int
    scenario: str
    claimed: Counts | None
    received: Counts
    logged: Counts

    @property
    def agrees(self) -> bool:
        """Whether nothing differs."""
        claimed = self.claimed is None or self.claimed == self.received
        return claimed and self.received[:3] == self.logged[:3]


@dataclass(frozen=True, slots=True)
class Closing:
    """How far a source has closed its days: those with a manifest, and those that arrived and have none."""

    source: str
    closed: int
    open: tuple[str, ...]


Arrived = Mapping[tuple[str, int, str], list[int]]
"""By source, day counted from 1970-01-01, and scenario: credits, milligrams, points."""


def compare_days(
    bundle: Bundle,
    manifests: Iterable[tuple[int, Mapping[str, Any]]],
    arrived: Arrived,
    findings: Findings,
    open_: Open,
) -> list[Compared]:
    """Hold every manifest against the log, and the last one of a day against what its source claims."""
    texts = _texts(bundle, findings)
    latest: dict[tuple[str, str], int] = {}
    for index, leaf in manifests:
        latest[leaf["source"], leaf["day"]] = index  # in the order of the log, which is that of their numbers
    compared = []
    for index, leaf in manifests:
        fields = texts.get(index)
        if fields is None:  # the verification says so
            continue
        try:
            rows = list(_compared(index, leaf, fields, arrived))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            findings.add("evidence-form", "what was received and claimed of a day", error, index, MANIFESTS)
            continue
        if any(row.scenario == NO_SCENARIO for row in rows):
            continue  # credits under a document that cannot be read: which scenario they are of is not known
        is_last = latest[leaf["source"], leaf["day"]] == index
        for row in rows:
            _judge(row, findings, is_last=is_last)
        if is_last:
            compared += rows
            if fields.get("jws") is None:
                open_.add("manifest-erased", f"entry {index}")
    return compared


def closings_of(arrived: Arrived, compared: Iterable[Mapping[str, Any]], today: str, open_: Open) -> list[Closing]:
    """Of each source, its days with and without a manifest before `today`; `compared` are the manifests' leaves."""
    closed: dict[str, set[str]] = {}
    for leaf in compared:
        closed.setdefault(leaf["source"], set()).add(leaf["day"])
    days: dict[str, set[str]] = {source: set() for source in closed}
    for source, number, _ in arrived:
        days.setdefault(source, set()).add(day_of(number))
    found = []
    for source, seen in sorted(days.items()):
        mine = closed.get(source, set())
        left = tuple(sorted(day for day in seen - mine if day < today))
        if left:
            open_.add("day-not-closed", f"{source} {left[0]}", len(left))
        found.append(Closing(source, len(mine), left))
    return found


def day_of(number: int) -> str:
    """A day by its number, counted from 1970-01-01."""
    return (_FIRST_DAY + timedelta(days=number)).isoformat()


def _texts(bundle: Bundle, findings: Findings) -> dict[int, Mapping[str, Any]]:
    raw = bundle.read(MANIFESTS)
    found: dict[int, Mapping[str, Any]] = {}
    if raw is None:
        return found
    try:
        for _, fields in parse_lines(raw):
            found[int(fields["index"])] = fields
    except (FileUnreadable, KeyError, TypeError, ValueError) as error:
        findings.add("evidence-form", "one manifest a line", error, None, MANIFESTS)
    return found


def _compared(index: int, leaf: Mapping[str, Any], fields: Mapping[str, Any], arrived: Arrived) -> Iterator[Compared]:
    source, day = leaf["source"], leaf["day"]
    number = (date.fromisoformat(day) - _FIRST_DAY).days
    received = {name: _counts(each) for name, each in fields["received"]["scenarios"].items()}
    claimed = _claimed(fields)
    logged = {
        scenario: Counts(*counts)
        for (who, when, scenario), counts in arrived.items()
        if (who, when) == (source, number)
    }
    for scenario in sorted(received.keys() | logged.keys() | (claimed or {}).keys()):
        nothing = Counts(refused=0)
        yield Compared(
            source,
            day,
            int(leaf["sequence"]),
            index,
            scenario,
            None if claimed is None else claimed.get(scenario, nothing),
            received.get(scenario, nothing),
            logged.get(scenario, Counts()),
        )


def _claimed(fields: Mapping[str, Any]) -> dict[str, Counts] | None:
    """By the signed text, whose signature the verification checks."""
    if fields.get("jws") is None:
        return None
    payload = fields["jws"].split(".")[1]
    said = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return {name: _counts(each) for name, each in said["scenarios"].items()}


def _counts(said: Mapping[str, Any]) -> Counts:
    return Counts(*(int(said[measure]) for measure in (*MEASURES, REFUSED)))


def _judge(row: Compared, findings: Findings, *, is_last: bool) -> None:
    where = f"{row.source} {row.day} {row.scenario}"
    for measure in MEASURES:
        received, logged = getattr(row.received, measure), getattr(row.logged, measure)
        if received != logged:
            findings.add("manifest-received", f"{measure} {received}", f"{logged} in the log", row.entry, where)
    if row.claimed is None or not is_last:
        return
    for measure in (*MEASURES, REFUSED):
        claimed, received = getattr(row.claimed, measure), getattr(row.received, measure)
        if claimed != received:
            findings.add("manifest-claimed", f"{measure} {claimed}", f"{received} received", row.entry, where)
