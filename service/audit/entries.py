"""The first pass: a chunk of the log with its evidence. Every credit is computed again from what its entry commits to.

What depends on the entry and its evidence alone is decided here; what depends on a participant's other entries, or on
somebody else's use of the same thing, is handed on in partitions (handing.py).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from ledger.journal import AMOUNT_MAX
from ledger.leaves import evidence_commitment, settlement_commitment
from ledger.units import CO2e
from ledger.verify.findings import Findings
from ledger.verify.moments import AHEAD, shanghai_day
from service.audit.calls import Shown
from service.audit.circumstances import GRAMS_PENDING, POINTS_PENDING, Circumstances, circumstances_of
from service.audit.completeness import NO_SCENARIO
from service.audit.documents import Documents, read_documents
from service.audit.evidence import EvidenceLines, evidence_path, read_entries
from service.audit.findings import Open
from service.audit.handing import Handing
from service.audit.rules import Applied, Rules, bucket, rules_of
from service.audit.samples import Sample, sample_of
from service.audit.signed import Reports, SourceKeys
from service.audit.steps import HOLD as HOLD_KIND
from service.audit.steps import Step, Steps
from service.audit.things import ReferenceMissing, claimed, hand_on
from service.quantification.earning import MATCH
from service.quantification.evidence import activity_data
from service.quantification.model import ActivityData, Methodology
from service.quantification.periods import INSTANT, LONGEST_TRIP, activity_day
from service.quantification.points import points_for
from service.quantification.quantify import quantify
from service.quantification.readings import ReadingsInvalid
from service.quantification.refusals import NoMethodologyInForce, Refusal

HISTORIES, THINGS = "histories", "things"
_STEPS = (HOLD_KIND, "capture", "release", "refund")
_NOTICES = frozenset({"pool", "listing", "statement"})
FLUSH_EACH = 4_096  # entries: their records take some megabytes
CREDIT, REVERSAL, MATURITY, HOLD, STEP = range(5)
UNKNOWN = -1  # a reduction that cannot be recomputed
NO_SPAN = (0, 0)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MALFORMED = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, ReadingsInvalid)
_SHANGHAI_MS, _DAY_MS = 8 * 3_600_000, 86_400_000


@dataclass(frozen=True, slots=True)
class EntriesJob:
    """Which chunk.

    documents  the rules in the bundle, by digest; `papers` are products, offers, terms and statements
    scratch    a folder of this run alone
    samples    entries to tell of, with their numbers
    source_keys  what the log says of the keys of sources
    tags       whether the tags of claims are handed on as well: the verification left some open
    """

    directory: Path
    size: int
    number: int
    documents: tuple[str, ...]
    scratch: Path
    partitions: int
    samples: Mapping[int, int]
    tags: bool
    papers: tuple[str, ...] = ()
    source_keys: SourceKeys = field(default_factory=dict)


@dataclass(slots=True)
class EntriesRead:
    """What a chunk gave.

    totals     by programme, scenario, source and month of the activity: credits, milligrams, points, and of these a
               campaign's
    arrived    by source, day (counted from 1970-01-01, Asia/Shanghai) and scenario: credits, milligrams, points
    manifests  the leaves of day manifests, by index
    notices    those of pools, listings and statements
    steps      holds, and what became of them
    shown      the banks' calls that they and the statements name
    uses       by digest of a document: credits under it
    suspects   credits that rest on a key after the moment from which it was revoked later
    """

    findings: Findings = field(default_factory=Findings)
    open: Open = field(default_factory=Open)
    checked: Counter[str] = field(default_factory=Counter)
    totals: dict[tuple[str, str, str, str], list[int]] = field(default_factory=dict)
    arrived: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)
    manifests: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    notices: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    uses: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    suspects: list[int] = field(default_factory=list)


def read_chunk(job: EntriesJob) -> EntriesRead:
    """Read one chunk."""
    return _Reader(job).read()


class _Reader:
    def __init__(self, job: EntriesJob) -> None:
        self.job = job
        self.rules: Rules = rules_of(job.directory, job.documents, str(job.scratch))
        self.out = EntriesRead()
        self.find = self.out.findings.add
        self.evidence = EvidenceLines(job.directory / evidence_path(job.number))
        documents: Documents = read_documents(job.directory, job.papers, str(job.scratch))
        shared = (documents, self.evidence, self.find, self.out.open, self.out.checked)
        self.steps = Steps(job.directory, job.number, *shared)
        self.out.shown = self.steps.shown
        self.reports = Reports(job.directory, job.number, job.source_keys, self.find, self.out.open, self.out.checked)
        self.out.suspects = self.reports.suspects
        self.histories = Handing(job.scratch, HISTORIES, job.number, job.partitions)
        self.things = Handing(job.scratch, THINGS, job.number, job.partitions)
        self.groups: dict[tuple[str, ...], _Group] = {}
        self.event: str | None = None  # of the entry at hand

    def read(self) -> EntriesRead:
        out, take = self.out, {"credit": self._credit, "reversal": self._reversal, "maturity": self._maturity}
        take |= dict.fromkeys(_STEPS, self._step)
        for index, entry in read_entries(self.job.directory, self.job.size, self.job.number):
            if entry is None:
                self.evidence.of(index)
                self.reports.skip(index)
                out.open.add("entry-unread", f"entry {index}")
                continue
            try:
                leaf = orjson.loads(entry)
                kind, self.event = leaf["kind"], None
                if kind in take:
                    take[kind](index, leaf)
                elif kind == "manifest":
                    out.manifests.append((index, _manifest(leaf)))
                elif kind in _NOTICES:
                    out.notices.append((index, leaf))
                    if kind == "statement":
                        self.steps.call(index, leaf)
                out.checked[kind] += 1
                if index in self.job.samples:
                    out.samples.append(sample_of(self.job.samples[index], index, leaf, self.event))
            except _MALFORMED as error:  # of most of these the verification says more
                self.evidence.of(index)
                self.find("entry", "an entry that can be computed again", error, index)
            if index % FLUSH_EACH == FLUSH_EACH - 1:
                self.histories.flush()
                self.things.flush()
        self.histories.flush()
        self.things.flush()
        self.steps.finish()
        self.reports.finish()
        for stray in self.evidence.finish():
            self.find("evidence-extra", "evidence of an entry that commits to it", stray, None, self._file)
        for group in self.groups.values():
            group.add_to(out)
        return out

    @property
    def _file(self) -> str:
        return evidence_path(self.job.number)

    def _credit(self, index: int, leaf: dict[str, Any]) -> None:  # the one hot loop: a call less is seconds less
        digest, named, grade, day = leaf["methodology"], leaf["points_rule"], leaf["grade"], leaf["day"]
        source, programme, transfer = leaf["source"], leaf["programme"], leaf["transfer"]
        recorded = shanghai_day(leaf["at"])
        key = (digest, named, grade, leaf["participant_kind"], programme, source, day, recorded)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = _Group(circumstances_of(self.rules, leaf, recorded), *key)
        about = group.about
        applied, rule = about.applied, about.rule
        grams, points, funded, pending = self._lines(index, leaf, about)
        if not (0 < grams <= AMOUNT_MAX and 0 <= points <= AMOUNT_MAX and funded >= 0):
            raise ValueError(f"a credit of {grams} mg and {points} + {funded} points")
        if about.complaints or about.open:
            for code, expected, found in about.complaints:
                self.find(code, expected, found, index)
            for code in about.open:
                self.out.open.add(code, f"entry {index}")
        line = self.evidence.of(index)
        self.reports.take(index, leaf, line)
        worth, since, until = UNKNOWN, 0, 0
        if applied is not None:
            if pending != about.pending & (POINTS_PENDING | GRAMS_PENDING if points or funded else GRAMS_PENDING):
                self.find("pending", _pending_words(about.pending), _pending_words(pending), index)
            if line is not None:
                worth, since, until = self._measured(index, leaf, line, applied, about)
            else:
                self.out.open.add("evidence-erased", f"entry {index}")
            if not applied.methodology.caps:
                if worth not in (UNKNOWN, grams):
                    self.find("reduction", worth, grams, index)
                earned = points_for(rule, CO2e(grams)).n if rule is not None else 0
                if points != earned and (rule is not None or not named):
                    self.find("points", earned, points, index)
        group.count(transfer, grams, points, funded)
        if self.job.tags:
            waits = applied is not None and applied.awaits.get(grade) == MATCH
            for tag in leaf["claims"]:
                self.things.to[tag[-2:]]((tag, index, f"tag {tag}", 0, 0, None, waits))
        participant = leaf["participant"]
        self.histories.to[participant[-2:]](
            (
                CREDIT, index, participant, transfer, group.digest, group.named, group.grade, group.source,
                leaf["region"], group.day, grams, points, since, until, group.programme, funded, worth,
                about.pending,
            )
        )  # fmt: skip

    def _lines(self, index: int, leaf: dict[str, Any], about: Circumstances) -> tuple[int, int, int, int]:
        """Milligrams, points of the rule, points of a campaign, and which of them are pending."""
        grams = points = funded = pending = 0
        for line in leaf["lines"]:
            amount = int(line["amount"])
            if line["asset"] == "points":
                if line["from"] == "partner":
                    funded += amount
                else:
                    points += amount
                if line["to"] == "pending":
                    pending |= POINTS_PENDING
                expires = line["expires"]
                if expires is not None and about.rule is not None and expires != about.bucket:
                    self.find("expiry", about.bucket, expires, index)
                continue
            grams += amount
            if line["to"] == "pending":
                pending |= GRAMS_PENDING
            if about.applied is not None:
                wanted = about.applied.methodology.credit_class, leaf["day"][:4]
                if (line["class"], line["vintage"]) != wanted:
                    self.find("credit-class", " ".join(wanted), f"{line['class']} {line['vintage']}", index)
        return grams, points, funded, pending

    def _measured(
        self, index: int, leaf: dict[str, Any], line: dict[str, Any], applied: Applied, about: Circumstances
    ) -> tuple[int, int, int]:
        """The reduction by the evidence, UNKNOWN where it gives none, and its span in microseconds since 1970."""
        document = line.get("document")
        if not isinstance(document, str):
            self.find("evidence-form", "an evidence document", "another record", index, self._file)
            return UNKNOWN, *NO_SPAN
        raw, methodology = document.encode(), applied.methodology
        self.out.checked["evidence"] += 1
        committed = _committed(evidence_commitment, line["salt"], raw)
        if committed != leaf["evidence"]:
            self.find("evidence", leaf["evidence"], committed, index, self._file)
            return UNKNOWN, *NO_SPAN
        try:
            said = orjson.loads(raw)
            data, scenario, self.event = activity_data(said), said["scenario"], said["event"]
            worth = self._worth(index, methodology, data, about)
            if orjson.dumps(said, option=orjson.OPT_SORT_KEYS) != raw:
                self.find("evidence-form", "canonical JSON", "another form", index, self._file)
            if scenario != applied.scenario:
                self.find("scenario", applied.scenario, scenario, index)
            self._timely(index, leaf, said, data, applied)
            if methodology.claims or methodology.exclusive:
                until = max(data.ended_at, data.started_at + INSTANT)
                span = _microseconds(data.started_at), _microseconds(until)
                self._claims(index, leaf, said, data, applied, span)
                return worth, *span
        except (*_MALFORMED, Refusal) as error:
            self.find("evidence-form", "times, inputs and readings", error, index, self._file)
            return UNKNOWN, *NO_SPAN
        if len(leaf["claims"]) != 1:
            self.find("claims", 1, len(leaf["claims"]), index)
        return worth, *NO_SPAN

    def _worth(self, index: int, methodology: Methodology, data: ActivityData, about: Circumstances) -> int:
        """The reduction; what the rule refuses earns nothing. Raises what is raised of times and figures that are
        none."""
        try:
            reduction = quantify(methodology, data)
            day, worth = reduction.day, reduction.co2e.mg
        except NoMethodologyInForce:  # said already, by the entry's day
            day, worth = activity_day(data.started_at), UNKNOWN
        except Refusal as refusal:
            self.find("reduction", f"nothing: {refusal.reason}", "a credit", index)
            day, worth = activity_day(data.started_at), UNKNOWN
        if day != about.day:
            self.find("activity-day", day, about.day, index)
        return worth

    def _timely(
        self, index: int, leaf: dict[str, Any], said: dict[str, Any], data: ActivityData, applied: Applied
    ) -> None:
        """Reported after it ended, and within the claim window, counted from its last day."""
        at, window = leaf["at"], applied.methodology.claim_window_days
        if said["ended_at"] > at and data.ended_at > datetime.fromisoformat(at) + AHEAD:
            self.find("activity-ahead", f"ended by {at}", said["ended_at"], index)
        if window is None or (leaf["replaces"] and "replaces" in said):
            return  # a correction keeps the window of what it corrects
        ended = data.started_at if applied.by_the_hour else data.ended_at - _MICROSECOND
        last = max(activity_day(data.started_at), activity_day(ended))
        reported = activity_day(datetime.fromisoformat(at) - AHEAD)  # judged shortly before it was posted
        if (reported - last).days > window:
            self.find("activity-late", f"within {window} days of {last}", reported, index)

    def _claims(
        self,
        index: int,
        leaf: dict[str, Any],
        said: dict[str, Any],
        data: ActivityData,
        applied: Applied,
        span: tuple[int, int],
    ) -> None:
        """The number of tags, and the things by their references for the third pass."""
        try:
            things = claimed(applied, said, data)
        except ReferenceMissing as missing:
            self.find("references", "the references that the rule asks for", missing, index, self._file)
            return
        tags = 1
        spans = applied.methodology.exclusive is not None
        for thing in things:
            if thing[2]:
                spans = True
            else:
                tags += 1
        if len(leaf["claims"]) != tags:
            self.find("claims", tags, len(leaf["claims"]), index)
        if spans and applied.by_the_hour and data.ended_at - data.started_at > LONGEST_TRIP:
            self.find("person-overlap", f"at most {LONGEST_TRIP}", data.ended_at - data.started_at, index)
        hand_on(self.things, things, index, span, waits=applied.awaits.get(leaf["grade"]) == MATCH)

    def _record(self, index: int, committed: str | None) -> str | None:
        """The settlement record an entry commits to; None where there is none to look at."""
        if committed is None:
            return None
        line = self.evidence.of(index)
        if line is None:
            self.out.open.add("settlement-erased", f"entry {index}")
            return None
        record = line.get("record")
        if not isinstance(record, str):
            self.find("evidence-form", "a settlement record", "another document", index, self._file)
            return None
        self.out.checked["settlement"] += 1
        found = _committed(settlement_commitment, line["salt"], record.encode())
        if found != committed:
            self.find("settlement", committed, found, index, self._file)
            return None
        return record

    def _reversal(self, index: int, leaf: dict[str, Any]) -> None:
        record = self._record(index, leaf["decision"])
        grams, points, funded = _moved(leaf["lines"])
        participant = leaf["participant"]
        self.histories.to[participant[-2:]](
            (
                REVERSAL, index, participant, leaf["reverses"], leaf["reason"], leaf["decision"] is not None, record,
                grams, points, funded,
            )
        )  # fmt: skip

    def _maturity(self, index: int, leaf: dict[str, Any]) -> None:
        record = self._record(index, leaf["facts"])
        if leaf["facts"] is None:
            self.out.open.add("no-record", f"entry {index}")
        rule = self.rules.points.get(leaf["points_rule"] or "")
        wanted = bucket(rule, shanghai_day(leaf["at"])) if rule is not None else ""
        for line in leaf["lines"]:
            expires = line.get("expires")
            if expires is not None and wanted and expires != wanted:
                self.find("expiry", wanted, expires, index)
        participant = leaf["participant"]
        self.histories.to[participant[-2:]](
            (MATURITY, index, participant, leaf["matures"], leaf["awaited"], leaf["authority"], leaf["source"], record)
        )

    def _step(self, index: int, leaf: dict[str, Any]) -> None:
        step = self.steps.take(index, leaf)
        self.out.steps.append(step)
        if step.kind == HOLD_KIND:
            record: tuple[Any, ...] = (
                HOLD, index, step.participant, step.transfer, step.offer, step.units, step.points, step.at, step.day,
                leaf["participant_kind"], leaf["region"], leaf["expires_at"], step.covered, step.available_points,
            )  # fmt: skip
        else:
            record = (STEP, index, step.kind, step.participant, step.transfer, step.named, step.units)
        self.histories.to[step.participant[-2:]](record)


class _Group:
    """Credits under the same circumstances, counted together. Its texts are one object for all of them."""

    __slots__ = ("about", "arrivals", "day", "days", "digest", "funded", "grade", "named", "programme", "source")

    def __init__(
        self,
        about: Circumstances,
        digest: str,
        named: str | None,
        grade: str,
        kind: str,
        programme: str,
        source: str,
        day: str,
        recorded: str,
    ) -> None:
        self.about, self.digest, self.named, self.grade = about, digest, named, grade
        self.programme, self.source, self.day = programme, source, day
        self.arrivals: dict[int, list[int]] = {}
        self.days = ("", "", [0, 0, 0])  # the day at hand: its first id, the next one's, and what is counted of it
        self.funded = 0

    def count(self, transfer: str, grams: int, points: int, funded: int) -> None:
        """Count a credit on the day on which it arrived."""
        first, end, counts = self.days
        if not first <= transfer < end:
            self.days = first, end, counts = self._day_of(transfer)
        counts[0] += 1
        counts[1] += grams
        counts[2] += points + funded
        self.funded += funded

    def _day_of(self, transfer: str) -> tuple[str, str, list[int]]:
        """The day in whose milliseconds an id begins: a UUIDv7 does."""
        day = (int(transfer[:8] + transfer[9:13], 16) + _SHANGHAI_MS) // _DAY_MS
        begins, ends = day * _DAY_MS - _SHANGHAI_MS, (day + 1) * _DAY_MS - _SHANGHAI_MS
        return _first_id(begins), _first_id(ends), self.arrivals.setdefault(day, [0, 0, 0])

    def add_to(self, out: EntriesRead) -> None:
        """Add what was counted."""
        applied = self.about.applied
        scenario = applied.scenario if applied is not None else NO_SCENARIO
        total = out.totals.setdefault((self.programme, scenario, self.source, self.day[:7]), [0, 0, 0, 0])
        for day, counts in self.arrivals.items():
            arrived = out.arrived.setdefault((self.source, day, scenario), [0, 0, 0])
            for place, count in enumerate(counts):
                arrived[place] += count
                total[place] += count
            out.uses[self.digest] += counts[0]
            out.uses[self.named or ""] += counts[0]
        total[3] += self.funded


def _first_id(milliseconds: int) -> str:
    """No UUIDv7 of this moment or later is less, as text."""
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}"


def _microseconds(moment: datetime) -> int:
    """Since 1970, exact."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _moved(lines: list[dict[str, str]]) -> tuple[int, int, int]:
    """Milligrams, points and points that go back to a campaign's budget."""
    grams = points = funded = 0
    for line in lines:
        if line["asset"] != "points":
            grams += int(line["amount"])
            continue
        points += int(line["amount"])
        if line["to"] == "partner":
            funded += int(line["amount"])
    return grams, points, funded


def _manifest(leaf: dict[str, Any]) -> dict[str, Any]:
    """A manifest's leaf of which source, day and number can be used. Raises KeyError, TypeError, ValueError."""
    date.fromisoformat(leaf["day"])
    if not isinstance(leaf["source"], str) or int(leaf["sequence"]) < 1:
        raise ValueError("a manifest names its source, its day and its number")
    return leaf


def _committed(commitment: Callable[[bytes, bytes], str], salt: bytes, document: bytes) -> str:
    try:
        return commitment(salt, document)
    except ValueError as error:
        return str(error)


def _pending_words(pending: int) -> str:
    return ("nothing", "grams", "points", "grams and points")[pending] + " pending"
