"""The second pass: every participant's transfers in their order, held against the ledger's rules one by one.

It works on a partition, all entries of some participants, and so can be done by several processes. What concerns
everybody comes out as sums: balances at every seal, system accounts, what became of the credits that others ask about.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import get_args

from ledger.journal import AMOUNT_MAX, KINDS, Line, ReversalReason
from ledger.verify.canonical import as_date, lines_of, shown
from ledger.verify.chunks import CHUNK, PARTICIPANTS
from ledger.verify.findings import Findings
from ledger.verify.holdings import (
    BALANCES,
    CO2E_AVAILABLE,
    CO2E_DEBT,
    POINTS_AVAILABLE,
    POINTS_DEBT,
    Holding,
    Totals,
    is_month_end,
)
from ledger.verify.moments import latest_day, seconds_back, shanghai_day
from ledger.verify.redemptions import Board, Redemptions, Step
from ledger.verify.sealing import write_sealed
from ledger.verify.spill import spilled
from ledger.verify.transfers import (
    ALLOWED,
    CREDIT_KIND,
    HOLD_KIND,
    LAPSE_KIND,
    MATURITY_KIND,
    RELEASE_KIND,
    REVERSAL_KIND,
    Profile,
)

CLOCK_SLACK_S = (
    60  # the database's clock is read under the participant's lock; after a failover it is another machine's
)
_REASONS = frozenset(get_args(ReversalReason))


@dataclass(frozen=True, slots=True)
class Mark:
    """After so many entries the balances are asked for: for the seal of this number, or for the totals alone."""

    size: int
    seal: int | None
    programme: str | None = None


@dataclass(frozen=True, slots=True)
class AccountsJob:
    """Which partition, and what is asked of it.

    profiles of every chunk's records
    marks    in the order of their sizes
    ended    transfers that reversals, maturities and refunds name
    watched  credits, by index, of which it is asked when they ended
    asked    credits, by their transfer, that others replace
    givers   participants who ever hold grams
    board    offers and banks, for holds
    size     entries of the log
    """

    scratch: Path
    partition: int
    profiles: Sequence[Sequence[Profile]]
    marks: Sequence[Mark]
    ended: frozenset[str]
    watched: frozenset[int]
    asked: frozenset[str]
    givers: frozenset[str] = frozenset()
    board: Board = field(default_factory=Board)
    size: int = 0


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a credit: the entries that ended it, if any.

    waits   whether all of it was pending and its grade is not an operator's: it may wait for a match
    reason  why it was reversed
    """

    index: int
    waits: bool
    reversed_at: int | None
    reason: str | None
    matured_at: int | None
    source: str


@dataclass(slots=True)
class AccountsRead:
    """What a partition gave: totals by mark, and of participants how many had a transfer by then.

    awaited  entries near the log's end after which a lapse must follow
    """

    findings: Findings = field(default_factory=Findings)
    totals: list[Totals] = field(default_factory=list)
    participants: int = 0
    watched: dict[int, Fate] = field(default_factory=dict)
    asked: dict[str, Fate] = field(default_factory=dict)
    awaited: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Credit:
    """A credit's record, taken apart again."""

    entry: int
    participant: str
    lines: tuple[Line, ...]
    profile: Profile


def read_accounts(job: AccountsJob) -> AccountsRead:
    """Go through one partition."""
    reader = _Reader(job)
    for chunk, records in spilled(job.scratch, PARTICIPANTS, job.partition, len(job.profiles)):
        reader.read(records, chunk)
    return reader.finish()


class _Reader:
    def __init__(self, job: AccountsJob) -> None:
        self.job = job
        self.out = AccountsRead()
        self.add = self.out.findings.add
        self.holdings: dict[str, Holding] = {}
        self.credits: dict[str, tuple[int, str]] = {}
        """Of those that somebody asks about: the chunk and the record, by id."""
        self.ids: list[str] = []
        self.numbers: list[str] = []
        self.reversed: dict[str, tuple[int, str]] = {}
        self.matured: dict[str, tuple[int, tuple[Line, ...]]] = {}
        self.redemptions = Redemptions(self.add, job.board, job.ended)
        self.sums: Totals = Counter()
        self.plain: dict[str, list[int]] = {}
        """Of plain credits alone: grams and points from issuance to available, by programme."""
        self.marks = list(job.marks)
        self.next_mark = self.marks[0].size if self.marks else 1 << 63
        self.days: dict[str, str] = {}

    def read(self, records: list[str], chunk: int) -> None:  # the second hot loop
        holdings, credits, days, ids = self.holdings, self.credits, self.days, self.ids
        numbers, plain, ended, watched = self.numbers, self.plain, self.job.ended, self.job.watched
        profiles = {str(place): profile for place, profile in enumerate(self.job.profiles[chunk])}
        for record in records:
            number, place, at, counter, day, participant, transfer, grams, b, c, points, expires = record.split("\t")
            index, profile = int(number), profiles[place]
            if index >= self.next_mark:
                self._reach(index)
            holding = holdings.get(participant)
            if holding is None:
                holding = holdings[participant] = Holding(profile.who, of_grams=participant in self.job.givers)
            holding.counter += 1
            if counter != str(holding.counter):
                self.add("counter", holding.counter, counter, index, participant)
                holding.counter = int(counter)
            today = days.get(at[:13]) or days.setdefault(at[:13], shanghai_day(at))
            if at < holding.at or (holding.next_expiry or today) < today:
                self._look_closer(index, at, participant, holding, today, profile.kind)
            ids.append(transfer)
            numbers.append(number)
            if holding.who != profile.who:
                self.add("participant", " ".join(holding.who), " ".join(profile.who), index, participant)
            holding.at = at
            holding.unsealed = True
            if profile.kind == CREDIT_KIND:
                if transfer in ended or index in watched:
                    credits[transfer] = chunk, record
                if day > today and day > latest_day(at):
                    self.add("day", f"at most {latest_day(at)}", day, index)
                balances = holding.balances
                owes = balances[CO2E_DEBT] or balances[POINTS_DEBT]
                if expires and not owes and profile.rule is not None and c == day[:4]:
                    left = holding.buckets.get(expires)
                    if left is None:
                        if not is_month_end(expires) or expires < today:
                            self.add("line-bucket", f"a month end from {today} on", expires, index)
                        if expires < holding.next_expiry or not holding.next_expiry:
                            holding.next_expiry = expires
                        left = 0
                    mg, new = int(grams), int(points)
                    balances[CO2E_AVAILABLE] += mg
                    balances[POINTS_AVAILABLE] += new
                    holding.buckets[expires] = left + new
                    if holding.grams is not None:
                        lot = int(c), b
                        holding.grams[lot] = holding.grams.get(lot, 0) + mg
                    given = plain.get(profile.who[1]) or plain.setdefault(profile.who[1], [0, 0])
                    given[0] += mg
                    given[1] += new
                    continue
                lines = _lines(grams, b, c, points, expires)
                self._credit(index, day, holding, lines, profile.rule)
            else:
                if day != today:
                    self.add("day", today, day, index)
                lines = lines_of(grams)
                if profile.kind == REVERSAL_KIND:
                    self._reversal(index, participant, holding, lines, b, str(profile.rule))
                elif profile.kind == MATURITY_KIND:
                    self._maturity(index, participant, holding, lines, b, profile.rule)
                elif profile.kind == LAPSE_KIND:
                    self._expect("lapse-lines", holding.expected_lapse(today), lines, index)
                else:
                    step = Step(index, at, participant, transfer, profile, b, int(c), int(points), expires, lines)
                    self.redemptions.take(step, holding)
            self._post(index, profile, today, holding, lines)
            if profile.kind >= RELEASE_KIND and holding.next_expiry and holding.next_expiry < today:
                holding.returned = index, at

    def _look_closer(self, index: int, at: str, participant: str, holding: Holding, today: str, kind: int) -> None:
        """What is seldom so: an earlier moment, or a bucket that has run out."""
        if at < holding.at and seconds_back(holding.at, at) > CLOCK_SLACK_S:
            self.add("time-backwards", f"not before {holding.at}", at, index, participant)
        if holding.returned is not None:
            entry, moment = holding.returned
            holding.returned = None
            if kind != LAPSE_KIND or at != moment:
                self.add("lapse-returned", f"what entry {entry} gave back lapsed at {moment}", at, index, participant)
        if kind != LAPSE_KIND and holding.next_expiry and holding.next_expiry < today:
            self.add("lapse-due", f"the bucket of {holding.next_expiry} lapsed before {today}", "open", index)

    def _credit(self, index: int, day: str, holding: Holding, lines: tuple[Line, ...], rule: str | None) -> None:
        self._expect("credit-lines", holding.expected_credit(lines), lines, index)
        if rule is None and any(line.asset == "points" for line in lines):
            self.add("credit-rule", "a points rule", "none", index)
        vintage = next((line.vintage for line in lines if line.vintage), None)
        if vintage != int(day[:4]):
            self.add("credit-lines", f"vintage {day[:4]}", vintage, index)

    def _reversal(
        self, index: int, participant: str, holding: Holding, lines: tuple[Line, ...], other: str, reason: str
    ) -> None:
        credit = self._credit_of("reversal", index, participant, other)
        if reason not in _REASONS:
            self.add("reversal", f"one of {', '.join(sorted(_REASONS))}", reason, index)
        if other in self.reversed:
            self.add("reversal", "a credit that stands", f"reversed by entry {self.reversed[other][0]}", index)
        if credit is None:
            return
        self.reversed.setdefault(other, (index, reason))
        matured = self.matured.get(other)
        expected = holding.expected_reversal(credit.lines, matured[1] if matured else ())
        self._expect("reversal-lines", expected, lines, index)

    def _maturity(
        self, index: int, participant: str, holding: Holding, lines: tuple[Line, ...], other: str, rule: str | None
    ) -> None:
        credit = self._credit_of("maturity", index, participant, other)
        ended = self.reversed.get(other) or self.matured.get(other)
        if ended:
            self.add("maturity", "a credit that is pending still", f"ended by entry {ended[0]}", index)
        if credit is None:
            return
        self.matured.setdefault(other, (index, lines))
        expires = next((line.expires_on for line in lines if line.expires_on), None)
        self._expect("maturity-lines", holding.expected_maturity(credit.lines, expires), lines, index)
        wanted = credit.profile.rule if any(line.asset == "points" for line in lines) else None
        if rule != wanted:
            self.add("maturity-rule", wanted, rule, index)

    def _credit_of(self, code: str, index: int, participant: str, transfer: str) -> _Credit | None:
        found = self.credits.get(transfer)
        credit = self._taken_apart(*found) if found is not None else None
        if credit is None or credit.participant != participant:
            self.add(code, "an earlier credit of the same participant", transfer, index, participant)
            return None
        return credit

    def _taken_apart(self, chunk: int, record: str) -> _Credit:
        number, place, _, _, _, participant, _, *rest = record.split("\t")
        return _Credit(int(number), participant, _lines(*rest), self.job.profiles[chunk][int(place)])

    def _expect(self, code: str, expected: Sequence[Line] | str, found: Sequence[Line], index: int) -> None:
        if expected != found:
            wanted = expected if isinstance(expected, str) else [*map(shown, expected)] or "none"
            self.add(code, wanted, [*map(shown, found)], index)

    def _post(self, index: int, profile: Profile, today: str, holding: Holding, lines: Sequence[Line]) -> None:
        programme, allowed, sums = profile.who[1], ALLOWED[profile.kind], self.sums
        for line in lines:
            giver, taker, asset, amount, expires = (
                line.from_account, line.to_account, line.asset, line.amount, line.expires_on
            )  # fmt: skip
            moves = giver == "available" or taker == "available" or profile.kind >= HOLD_KIND
            if (asset, giver, taker) not in allowed:
                self.add("line-accounts", f"accounts of a {KINDS[profile.kind]}", shown(line), index)
            if asset == "points" and moves != (expires is not None):
                wanted = "a bucket where, and only where, points move that are available or were held"
                self.add("line-bucket", wanted, shown(line), index)
            elif expires and taker == "available" and profile.kind < HOLD_KIND:
                day = expires.isoformat()
                if not is_month_end(day) or day < today:
                    self.add("line-bucket", f"a month end from {today} on", day, index)
            sums[programme, asset, giver] += amount if giver == "debt" else -amount
            sums[programme, asset, taker] += -amount if taker == "debt" else amount
            wrong = holding.move(line)
            if wrong:
                self.add("negative-balance", "0 to 2^63 - 1", wrong, index)
        for wrong in holding.sweep():
            self.add("bucket", "no more than is in it", wrong, index)
        if holding.balances[POINTS_DEBT] and holding.balances[POINTS_AVAILABLE]:
            owed, free = holding.balances[POINTS_DEBT], holding.balances[POINTS_AVAILABLE]
            self.add("debt-first", "nothing available while points are owed", f"{owed} owed, {free} available", index)

    def _reach(self, index: int) -> None:
        """The marks that lie before this entry."""
        while self.marks and self.marks[0].size <= index:
            self._mark(self.marks.pop(0))
        self.next_mark = self.marks[0].size if self.marks else 1 << 63

    def _mark(self, mark: Mark) -> None:
        sealed: dict[str, tuple[list[str], list[bytes]]] = {}
        for participant, holding in self.holdings.items():
            if holding.unsealed:
                holding.unsealed = False
                participants, leaves = sealed.setdefault(holding.who[1], ([], []))
                participants.append(participant)
                leaves.append(sha256(b"\x00" + holding.record(participant)).digest())
        write_sealed(self.job.scratch, self.job.partition, len(self.out.totals), sealed)
        totals = self.sums.copy()
        for programme, (grams, points) in self.plain.items():
            for asset, amount in (("co2e_mg", grams), ("points", points)):
                totals[programme, asset, "issuance"] -= amount
                totals[programme, asset, "available"] += amount
        self.out.totals.append(totals)

    def finish(self) -> AccountsRead:
        """The marks at the very end, overflow of balances that only grew, and what was asked of single credits."""
        self._reach(1 << 62)
        for participant, holding in self.holdings.items():
            if holding.returned is not None:
                self._end_of(holding.returned[0], participant)
            if max(holding.balances) <= AMOUNT_MAX:
                continue
            for (asset, account), amount in zip(BALANCES, holding.balances, strict=True):
                if amount > AMOUNT_MAX:
                    self.add("negative-balance", "0 to 2^63 - 1", f"{account} {asset} is {amount}", None, participant)
        self.out.participants = len(self.holdings)
        for transfer, found in self.credits.items():
            self._answer(transfer, self._taken_apart(*found))
        if len(set(self.ids)) < len(self.ids):
            first: dict[str, str] = {}
            for transfer, number in zip(self.ids, self.numbers, strict=True):
                earlier = first.setdefault(transfer, number)
                if earlier is not number:
                    self.add("transfer-repeated", "an id of its own", f"that of entry {earlier}", int(number), transfer)
        return self.out

    def _end_of(self, index: int, participant: str) -> None:
        """No transfer follows one that gave points back into a bucket that had run out. Both are queued at once, so
        that at the log's very end the second may have no place yet."""
        if self.job.size - index > CHUNK:
            self.add("lapse-returned", "a lapse behind it", "none", index, participant)
        else:
            self.out.awaited.append(index)

    def _answer(self, transfer: str, credit: _Credit) -> None:
        taken, freed = self.reversed.get(transfer), self.matured.get(transfer)
        fate = Fate(
            credit.entry,
            credit.profile.grade != "A" and all(line.to_account == "pending" for line in credit.lines),
            taken[0] if taken else None,
            taken[1] if taken else None,
            freed[0] if freed else None,
            credit.profile.source,
        )
        if credit.entry in self.job.watched:
            self.out.watched[credit.entry] = fate
        if transfer in self.job.asked:
            self.out.asked[transfer] = fate


def _lines(text: str, credit_class: str, vintage: str, points: str, expires: str) -> tuple[Line, ...]:
    """The lines of a record, from its last five fields."""
    if not expires:
        return lines_of(text)
    return (
        Line("issuance", "available", "co2e_mg", int(text), credit_class, int(vintage)),
        Line("issuance", "available", "points", int(points), expires_on=as_date(expires)),
    )
