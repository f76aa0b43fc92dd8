"""The second pass: every participant's credits in their order, and what ended them. Caps are used up again, hours that
meet are found, settlements are decided again by their records."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ledger.units import CO2e, Points
from ledger.verify.findings import Findings
from service.audit.circumstances import GRAMS_PENDING
from service.audit.completeness import NO_SCENARIO
from service.audit.documents import read_documents
from service.audit.eligibility import Eligibility, HoldTold
from service.audit.entries import CREDIT, HISTORIES, HOLD, MATURITY, REVERSAL, STEP, UNKNOWN
from service.audit.findings import Open
from service.audit.handing import handed
from service.audit.rules import Applied, Rules, rules_of
from service.quantification.earning import (
    MATCH,
    REGISTRATION,
    SETTLEMENT,
    CapReached,
    Earned,
    capped,
    caps_of,
    window_start,
)
from service.quantification.model import Cap
from service.quantification.points import PointsRule, campaign_of, campaign_points, points_for
from service.quantification.refusals import ConditionNotMet, Refusal
from service.quantification.settlement import settle

NOT_ELIGIBLE, SUPERSEDED, CORRECTED = "not_eligible_at_settlement", "superseded", "corrected"

Span = tuple[int, int, int]
"""A time in microseconds since 1970, and the entry of the credit."""


@dataclass(frozen=True, slots=True)
class HistoriesJob:
    """Which partition; `documents` are the rules in the bundle, by digest, `papers` its other documents."""

    directory: Path
    documents: tuple[str, ...]
    scratch: Path
    partition: int
    chunks: int
    papers: tuple[str, ...] = ()


class Draw(NamedTuple):
    """What an entry took out of a campaign's budget, or gave back with a negative amount.

    wanted   what the multiplier adds, whatever is left of the budget
    budget   as the entry's own version of the rule promises it
    """

    entry: int
    campaign: tuple[str, str]
    wanted: int
    drawn: int
    budget: int


@dataclass(slots=True)
class HistoriesRead:
    """What a partition gave.

    ended   by the entry of a credit: the entry of its reversal
    taken   by programme, scenario, source and month of the credit: reversals, milligrams and points taken back,
            maturities
    draws   on campaigns
    """

    findings: Findings = field(default_factory=Findings)
    open: Open = field(default_factory=Open)
    ended: dict[int, int] = field(default_factory=dict)
    taken: dict[tuple[str, str, str, str], list[int]] = field(default_factory=dict)
    draws: list[Draw] = field(default_factory=list)


class _Credit(NamedTuple):
    """A credit as the first pass hands it on, without what kind of record it is."""

    entry: int
    participant: str
    transfer: str
    methodology: str
    points_rule: str | None
    grade: str
    source: str
    region: str
    day: str
    grams: int
    points: int
    since: int
    until: int
    programme: str
    funded: int
    worth: int
    pending: int


def read_histories(job: HistoriesJob) -> HistoriesRead:
    """Go through one partition."""
    reader = _Reader(job)
    for records in handed(job.scratch, HISTORIES, job.partition, job.chunks):
        reader.read(records)
    return reader.out


class _Reader:
    def __init__(self, job: HistoriesJob) -> None:
        self.rules: Rules = rules_of(job.directory, job.documents, str(job.scratch))
        self.out = HistoriesRead()
        self.find = self.out.findings.add
        self.credits: dict[str, tuple[Any, ...]] = {}
        self.used: Counter[tuple[str, str, date]] = Counter()
        self.there: dict[tuple[str, str], list[Span]] = {}
        documents = read_documents(job.directory, job.papers, str(job.scratch))
        self.eligibility = Eligibility(documents, self.find, self.out.open)
        self.weighs = documents.weighs
        self.credited: dict[str, list[str]] = {}
        """By participant the transfers of their credits, where an offer weighs their grams."""
        self.matured: set[str] = set()

    def read(self, records: list[tuple[Any, ...]]) -> None:
        for record in records:
            try:
                if record[0] == CREDIT:
                    self._credit(record)
                elif record[0] == REVERSAL:
                    self._reversal(*record[1:])
                elif record[0] == MATURITY:
                    self._maturity(*record[1:])
                elif record[0] == HOLD:
                    self.eligibility.hold(HoldTold(*record[1:]), self._verified_mg)
                elif record[0] == STEP:
                    self.eligibility.step(*record[2:])
            except (ValueError, TypeError, KeyError, ArithmeticError) as error:  # no leaf of ours
                self.find("entry", "an entry that can be computed again", error, record[1])

    def _credit(self, record: tuple[Any, ...]) -> None:
        (
            _, index, participant, transfer, methodology, points_rule, _, _, region, day, grams, points, since, until,
            _, funded, worth, _,
        ) = record  # fmt: skip
        self.credits[transfer] = record
        if self.weighs:
            self.credited.setdefault(participant, []).append(transfer)
        applied = self.rules.methodologies.get(methodology)
        if applied is None:
            return
        rule = self.rules.points.get(points_rule or "")
        if applied.methodology.caps and not (points_rule and rule is None):
            self._caps(index, participant, applied, rule, date.fromisoformat(day), (grams, points, worth))
        if until and applied.methodology.exclusive:
            self._present(index, participant, applied.methodology.exclusive, since, until)
        if rule is not None and (funded or rule.campaigns):
            self._campaign(index, rule, applied.scenario, region, date.fromisoformat(day), points, funded)

    def _caps(
        self,
        index: int,
        participant: str,
        applied: Applied,
        rule: PointsRule | None,
        day: date,
        amounts: tuple[int, int, int],
    ) -> None:
        """Hold a credit against what its caps leave, then use them up by what was credited."""
        grams, points, worth = amounts
        methodology = applied.methodology

        def room(name: str, cap: Cap) -> int:
            return max(0, cap.at_most - self.used[participant, name, window_start(cap.per, day)])

        credited = Earned(grams, points)
        # Where the evidence is gone, the grams that were credited are at most what it was worth.
        expected = capped(methodology, CO2e(grams if worth == UNKNOWN else worth), rule, room)
        if isinstance(expected, CapReached):
            told = f"nothing: {expected.used} of {expected.cap.at_most} {expected.cap.of} used under {expected.cap.id}"
            self.find("cap", told, f"{grams} mg, {points} points", index, participant)
        elif expected.co2e_mg != grams:
            clipped = expected.co2e_mg != worth
            self.find("cap" if clipped else "reduction", expected.co2e_mg, grams, index, participant)
        elif expected.points != points:
            clipped = rule is not None and expected.points != points_for(rule, CO2e(grams)).n
            self.find("cap" if clipped else "points", expected.points, points, index, participant)
        for name, cap in caps_of(methodology).items():
            self.used[participant, name, window_start(cap.per, day)] += credited.counted(cap.of)

    def _present(self, index: int, participant: str, group: str, since: int, until: int) -> None:
        """What stands never overlaps, so that a new span can only meet its neighbours."""
        spans = self.there.setdefault((participant, group), [])
        place = bisect_left(spans, (since, until, index))
        for other in spans[max(0, place - 1) : place + 1]:
            if other[0] < until and other[1] > since:
                self.find("person-overlap", f"apart from entry {other[2]} ({group})", "at the same time", index)
        insort(spans, (since, until, index))

    def _campaign(
        self, index: int, rule: PointsRule, scenario: str, region: str, day: date, points: int, funded: int
    ) -> None:
        offered = campaign_points(rule, Points(points), scenario, region, day)
        wanted = offered[1].n if offered else 0
        if funded > wanted:
            self.find("campaign", f"at most {wanted}", funded, index)
        campaign = campaign_of(rule, scenario, region, day)
        if campaign is not None and (wanted or funded):
            draw = Draw(index, (rule.id, campaign.id), wanted, funded, campaign.budget_points)
            self.out.draws.append(draw)

    def _verified_mg(self, participant: str, after: date, upto: date) -> int:
        """Milligrams of a participant's credits of these days that stand, and are not pending any more."""
        total = 0
        for transfer in self.credited.get(participant, ()):
            credit = _Credit(*self.credits[transfer][1:])
            waits = credit.pending & GRAMS_PENDING and transfer not in self.matured
            if after.isoformat() < credit.day <= upto.isoformat() and credit.entry not in self.out.ended and not waits:
                total += credit.grams
        return total

    def _ended(self, credit: _Credit, applied: Applied | None) -> list[int]:
        scenario = applied.scenario if applied is not None else NO_SCENARIO
        key = (credit.programme, scenario, credit.source, credit.day[:7])
        return self.out.taken.setdefault(key, [0, 0, 0, 0])

    def _reversal(
        self,
        index: int,
        participant: str,
        reverses: str,
        reason: str,
        decided: bool,
        record: str | None,
        grams: int,
        points: int,
        funded: int,
    ) -> None:
        record_of = self.credits.get(reverses)
        if record_of is None or record_of[1] in self.out.ended:  # the verification says so
            return
        credit = _Credit(*record_of[1:])
        applied = self.rules.methodologies.get(credit.methodology)
        self.out.ended[credit.entry] = index
        taken = self._ended(credit, applied)
        taken[0] += 1
        taken[1] += grams
        taken[2] += points
        if applied is None:
            return
        awaits = applied.awaits.get(credit.grade)
        if reason == SUPERSEDED and awaits != MATCH:
            self.find("superseded", "a credit that waits for its match", f"one that awaits {awaits}", index)
        if decided != (reason == NOT_ELIGIBLE):
            expected = "a settlement record" if reason == NOT_ELIGIBLE else "none"
            self.find("settlement", expected, "a commitment" if decided else "none", index)
        if record is not None:
            self._settled(index, credit, applied, record, matured=False)
        methodology, day = applied.methodology, date.fromisoformat(credit.day)
        earned = Earned(credit.grams, credit.points)
        for name, cap in caps_of(methodology).items():
            if cap.restored or reason in (CORRECTED, SUPERSEDED):
                key = (participant, name, window_start(cap.per, day))
                self.used[key] = max(0, self.used[key] - earned.counted(cap.of))
        if methodology.exclusive and credit.until:
            spans = self.there.get((participant, methodology.exclusive), [])
            place = bisect_left(spans, (credit.since, credit.until, credit.entry))
            if place < len(spans) and spans[place][2] == credit.entry:
                del spans[place]
        rule = self.rules.points.get(credit.points_rule or "")
        if funded and rule is not None:
            campaign = campaign_of(rule, applied.scenario, credit.region, day)
            if campaign is not None:
                draw = Draw(index, (rule.id, campaign.id), 0, -funded, campaign.budget_points)
                self.out.draws.append(draw)

    def _maturity(
        self,
        index: int,
        participant: str,
        matures: str,
        awaited: str,
        authority: str,
        source: str | None,
        record: str | None,
    ) -> None:
        record_of = self.credits.get(matures)
        if record_of is None:
            return
        credit = _Credit(*record_of[1:])
        self.matured.add(matures)
        applied = self.rules.methodologies.get(credit.methodology)
        self._ended(credit, applied)[3] += 1
        if applied is None:
            return
        awaits = applied.awaits.get(credit.grade)
        if awaited != awaits or awaited not in (SETTLEMENT, REGISTRATION):
            self.find("settlement-of", f"a credit that awaits {awaited}", f"one that awaits {awaits}", index)
        if authority == "source" and source != credit.source:
            self.find("settlement-of", credit.source, source, index)
        if record is not None:
            self._settled(index, credit, applied, record, matured=True)

    def _settled(self, index: int, credit: _Credit, applied: Applied, record: str, *, matured: bool) -> None:
        """Decide a settlement again by its record."""
        settlement = applied.methodology.settlement
        try:
            said = orjson.loads(record)
            facts: Mapping[str, Decimal] = {name: Decimal(value) for name, value in said["facts"].items()}
            first, last, scenario = (str(said[name]) for name in ("first_day", "last_day", "scenario"))
        except (ValueError, KeyError, TypeError, ArithmeticError, AttributeError) as error:
            self.find("evidence-form", "facts, days and scenario", error, index)
            return
        if scenario != applied.scenario or not first <= credit.day <= last:
            told = f"{applied.scenario} on {credit.day}"
            self.find("settlement-of", told, f"{scenario} from {first} to {last}", index)
        if settlement is None:
            self.find("settlement-facts", "a methodology with a settlement", applied.methodology.id, index)
            return
        try:
            settle(settlement, facts)
            decided, because = True, "every condition holds"
        except ConditionNotMet as refusal:
            decided, because = False, refusal.reason
        except Refusal as refusal:
            self.find("settlement-facts", "facts that the rule asks for", refusal.reason, index)
            return
        if decided != matured:
            expected = f"{'matured' if decided else 'withdrawn'}: {because}"
            self.find("settlement-facts", expected, "matured" if matured else "withdrawn", index)
