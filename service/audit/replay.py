"""Replay a bundle: verify it, then compute every reduction, point, cap and settlement again, under its own rules.

Three passes over the log (entries.py, histories.py, things.py), by chunk and by partition, each of which several
processes may share. What service.activities.check asks the database is asked here of evidence and log alone.
"""

import gc
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from ledger.bundle import Bundle, read_bundle
from ledger.tiles import WIDTH
from ledger.verify.findings import Findings
from ledger.verify.moments import shanghai_day
from ledger.verify.report import Report as Verified
from ledger.verify.run import verify
from ledger.verify.spill import partitions_for
from service.audit.budgets import check_budgets
from service.audit.completeness import Closing, Compared, closings_of, compare_days
from service.audit.documents import named_documents, read_documents
from service.audit.entries import THINGS, EntriesJob, EntriesRead, read_chunk
from service.audit.evidence import CHUNK
from service.audit.findings import Open
from service.audit.histories import HistoriesJob, HistoriesRead, read_histories
from service.audit.redemptions import check_redemptions
from service.audit.rules import Rules, budgets, documents_of, rules_of
from service.audit.samples import Sample, draw
from service.audit.things import Meeting, ThingsJob, read_things
from service.quantification.document import Bilingual

Progress = Callable[[str, int, int], None]
"""Told the name of a step, and how much of how much of it is done."""

WAITING_CLAIM = "waiting-claim"


class Total(NamedTuple):
    """What was credited of a scenario by a source, of activities of one month, and what became of it.

    points   with those of campaigns, which are `campaign_points`
    """

    programme: str
    scenario: str
    source: str
    month: str
    credits: int
    reduction_mg: int
    points: int
    campaign_points: int
    reversals: int
    reversed_mg: int
    reversed_points: int
    maturities: int


class RuleUse(NamedTuple):
    """A document of the bundle, and how many credits are under it. `status` is that of its credits."""

    kind: str
    id: str
    version: int
    digest: str
    status: str
    credits: int


@dataclass(slots=True)
class Replay:
    """What was computed, found and left open.

    verified   what `ledger.verify` says of the bundle
    size       entries looked at
    findings   of the replay alone
    scenarios  titles, by the documents of the bundle
    """

    bundle: Bundle
    verified: Verified
    size: int
    findings: Findings = field(default_factory=Findings)
    open: Open = field(default_factory=Open)
    checked: dict[str, int] = field(default_factory=dict)
    totals: list[Total] = field(default_factory=list)
    days: list[Compared] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    rules: list[RuleUse] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    scenarios: dict[str, Bilingual] = field(default_factory=dict)

    @property
    def decides_claims(self) -> bool:
        """Whether the verification left claims open: which credits wait for a match is said by their methodologies."""
        return any(left.code == WAITING_CLAIM for left in self.verified.left)

    @property
    def clean(self) -> bool:
        """Whether nothing was found, by the verification or by the replay."""
        return self.verified.clean and not self.findings.counts


def replay(directory: Path, *, processes: int = 1, progress: Progress | None = None) -> Replay:
    """Verify a bundle and compute it again.

    Raises BundleUnreadable, OSError.
    """
    tell = progress or (lambda step, done, total: None)
    bundle = read_bundle(directory)
    tell("verify", 0, 1)
    verified = verify(directory, processes=processes)
    tell("verify", 1, 1)
    # A signed size may be any number; no more is looked at than can be there.
    size = min(int(verified.log["size"]), WIDTH * len(bundle.under("log/tile/entries/")))
    with tempfile.TemporaryDirectory(prefix="tanpuhui-replay-") as scratch, _workers(processes, tell) as work:
        return _Replaying(Replay(bundle, verified, size), Path(scratch), work).run()


Work = Callable[[str, Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Under a name, do each of some jobs, perhaps in several processes; what they gave, in their order."""


@contextmanager
def _workers(processes: int, tell: Progress) -> Iterator[Work]:
    def told(name: str, results: Iterable[Any], total: int) -> list[Any]:
        done = []
        for result in results:
            done.append(result)
            tell(name, len(done), total)
        return done

    if processes <= 1:
        collecting = gc.isenabled()
        gc.disable()  # nothing here makes cycles, and to look for them among so many records takes a tenth of the time
        try:
            yield lambda name, function, jobs: told(name, map(function, jobs), len(jobs))
        finally:
            if collecting:
                gc.enable()
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=gc.disable) as pool:
        yield lambda name, function, jobs: told(name, pool.map(function, jobs), len(jobs))


class _Replaying:
    """One run: what is known so far."""

    def __init__(self, out: Replay, scratch: Path, work: Work) -> None:
        self.out, self.scratch, self.work = out, scratch, work
        self.documents, self.papers = documents_of(out.bundle), named_documents(out.bundle)
        self.rules: Rules = rules_of(out.bundle.directory, self.documents, str(scratch))

    def run(self) -> Replay:
        out, directory = self.out, self.out.bundle.directory
        chunks, partitions = -(-out.size // CHUNK), partitions_for(out.size)
        drawn, tags = draw(out.verified.log["root"], out.size), out.decides_claims
        entries: list[EntriesRead] = self.work(
            "entries",
            read_chunk,
            [
                EntriesJob(
                    directory,
                    out.size,
                    number,
                    self.documents,
                    self.scratch,
                    partitions,
                    drawn,
                    tags,
                    self.papers,
                    out.verified.source_keys,
                )
                for number in range(chunks)
            ],
        )
        histories: list[HistoriesRead] = self.work(
            "histories",
            read_histories,
            [
                HistoriesJob(directory, self.documents, self.scratch, each, chunks, self.papers)
                for each in range(partitions)
            ],
        )
        meetings: list[list[Meeting]] = self.work(
            "things", read_things, [ThingsJob(self.scratch, THINGS, each, chunks) for each in range(partitions)]
        )
        parts: list[EntriesRead | HistoriesRead] = [*entries, *histories]
        for part in parts:
            out.findings.merge(part.findings)
            out.open.merge(part.open)
        self._unreadable()
        self._things(meetings, histories)
        self._suspects(entries, histories)
        draws = [draw for part in histories for draw in part.draws]
        check_budgets(draws, budgets(self.rules.points.values()), out.findings)
        self._complete(entries)
        self._redemptions(entries)
        out.totals = _totals(entries, histories)
        out.rules = self._uses(entries)
        out.scenarios = {one.scenario: one.methodology.scenario.title for one in self.rules.methodologies.values()}
        out.samples = sorted((sample for part in entries for sample in part.samples), key=lambda one: one.number)
        checked = sum((part.checked for part in entries), Counter[str]())
        out.checked = {name: checked[name] for name in _CHECKED}
        return out

    def _unreadable(self) -> None:
        for digest, reason in sorted(self.rules.unreadable.items()):
            self.out.findings.add("rule-form", "a document that can be read", reason, None, f"rules/{digest}.json")

    def _things(self, meetings: Iterable[Sequence[Meeting]], histories: Sequence[HistoriesRead]) -> None:
        """Two credits for one thing are right if the earlier one had been taken back."""
        for meeting in (one for part in meetings for one in part):
            ended = next((part.ended[meeting.earlier] for part in histories if meeting.earlier in part.ended), None)
            if ended is None or ended > meeting.later:
                expected = f"entry {meeting.earlier} reversed before"
                self.out.findings.add("thing-repeated", expected, f"the same {meeting.names}", meeting.later)

    def _suspects(self, entries: Sequence[EntriesRead], histories: Sequence[HistoriesRead]) -> None:
        """Credits that a key signed after the moment from which it was revoked: right if they were taken back."""
        for index in (one for part in entries for one in part.suspects):
            if not any(index in part.ended for part in histories):
                self.out.open.add("report-compromised", f"entry {index}")

    def _complete(self, entries: Sequence[EntriesRead]) -> None:
        out = self.out
        arrived: dict[tuple[str, int, str], list[int]] = {}
        for part in entries:
            for key, counts in part.arrived.items():
                before = arrived.get(key, (0, 0, 0))
                arrived[key] = [one + other for one, other in zip(counts, before, strict=True)]
        manifests = [manifest for part in entries for manifest in part.manifests]
        out.days = compare_days(out.bundle, manifests, arrived, out.findings, out.open)
        today = shanghai_day(out.bundle.created_at)
        out.closings = closings_of(arrived, [leaf for _, leaf in manifests], today, out.open)

    def _redemptions(self, entries: Sequence[EntriesRead]) -> None:
        documents = read_documents(self.out.bundle.directory, self.papers, str(self.scratch))
        steps = [step for part in entries for step in part.steps]
        notices = [notice for part in entries for notice in part.notices]
        shown = [one for part in entries for one in part.shown]
        check_redemptions(steps, notices, shown, documents, self.out.findings, self.out.open)

    def _uses(self, entries: Sequence[EntriesRead]) -> list[RuleUse]:
        uses = sum((part.uses for part in entries), Counter[str]())
        applied = [one.methodology for one in self.rules.methodologies.values()]
        found = [
            RuleUse("methodology", one.id, one.version, one.digest, one.credited_as, uses[one.digest])
            for one in applied
        ]
        found += [
            RuleUse("points", one.id, one.version, one.digest, one.status, uses[one.digest])
            for one in self.rules.points.values()
        ]
        return sorted(found)


_CHECKED = (
    "credit", "reversal", "maturity", "lapse", "hold", "capture", "release", "refund", "manifest", "statement",
    "evidence", "settlement", "terms", "decisions", "calls", "reports",
)  # fmt: skip


def _totals(entries: Sequence[EntriesRead], histories: Sequence[HistoriesRead]) -> list[Total]:
    credited: dict[tuple[str, str, str, str], list[int]] = {}
    ended: dict[tuple[str, str, str, str], list[int]] = {}
    for into, parts in ((credited, [part.totals for part in entries]), (ended, [part.taken for part in histories])):
        for part in parts:
            _add(into, part)
    nothing = [0, 0, 0, 0]
    return [Total(*key, *credited.get(key, nothing), *ended.get(key, nothing)) for key in sorted(credited)]


def _add(
    into: dict[tuple[str, str, str, str], list[int]], part: Mapping[tuple[str, str, str, str], Sequence[int]]
) -> None:
    for key, amounts in part.items():
        before = into.get(key, (0, 0, 0, 0))
        into[key] = [one + other for one, other in zip(amounts, before, strict=True)]
