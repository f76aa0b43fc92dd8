"""What holds and their steps do to pools and to banks' days, chunk by chunk of the log and then over all of it.

A pool's budget moves with the entries of everybody, in the order of the log. So each chunk says by how much it moved
every pool and where on the way that stood lowest: with the sum of the chunks before, that shows whether a pool was ever
below zero, whatever order the chunks were read in.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.journal import KINDS
from ledger.verify.findings import Findings
from ledger.verify.transfers import CAPTURE_KIND, HOLD_KIND, Transfer

Notices = Sequence[tuple[int, dict[str, Any]]]
_POINTS = re.compile(r'"amount":"([0-9]+)","asset":"points"')
_SIGNS = {"opened": 1, "raised": 1, "lowered": -1}
_SHUT = ("suspended", "closed")
# What a pool may be before it is put into a state; from its opening on it may be drawn on, as after it was resumed.
_BEFORE = {
    "suspended": ("resumed", "closed"),
    "resumed": ("suspended", "closed"),
    "closed": ("resumed", "suspended"),
}


@dataclass(slots=True)
class Course:
    """How far an amount went: by how much in all, how low on the way, and at which entry."""

    change: int = 0
    lowest: int = 0
    lowest_at: int = -1

    def move(self, by: int, index: int) -> None:
        """One step more."""
        self.change += by
        if self.change < self.lowest:
            self.lowest, self.lowest_at = self.change, index


@dataclass(slots=True)
class Drawn:
    """What a chunk does to one pool: the courses of points and of fen, and of the holds that draw on it the first, in
    the chunk and after each entry about the pool."""

    points: Course = field(default_factory=Course)
    fen: Course = field(default_factory=Course)
    firsts: list[int] = field(default_factory=list)
    changed: bool = True


@dataclass(slots=True)
class Sum:
    """So many steps of a kind, with so many units, points and fen."""

    steps: int = 0
    units: int = 0
    points: int = 0
    value_fen: int = 0

    def add(self, other: "Sum") -> None:
        """The sum of both."""
        self.steps += other.steps
        self.units += other.units
        self.points += other.points
        self.value_fen += other.value_fen


SumKey = tuple[str, str, str, str, str]
"""Programme, pool, bank, month and kind."""


@dataclass(slots=True)
class Draws:
    """Of a chunk, or of several one behind the other.

    pools  by programme and code
    days   by bank and day: the last entry of that day
    sums   by programme, pool, bank, month and kind
    givers  participants whose holds take grams
    """

    pools: dict[tuple[str, str], Drawn] = field(default_factory=dict)
    days: dict[tuple[str, str], int] = field(default_factory=dict)
    sums: dict[SumKey, Sum] = field(default_factory=dict)
    givers: set[str] = field(default_factory=set)

    def step(self, index: int, one: Transfer) -> None:
        """Take in a hold or a step of one."""
        profile = one.profile
        points, fen = sum(map(int, _POINTS.findall(one.lines))), int(one.value)
        programme = profile.who[1]
        key = programme, profile.pool, profile.bank, one.day[:7], KINDS[profile.kind]
        self.sums.setdefault(key, Sum()).add(Sum(1, int(one.units), points, fen))
        self.days[profile.bank, one.day] = index
        if profile.kind == CAPTURE_KIND:  # what was held is used: the budget had been drawn on before
            return
        pool = self.pools.setdefault((programme, profile.pool), Drawn())
        sign = -1 if profile.kind == HOLD_KIND else 1
        if profile.kind == HOLD_KIND:
            if pool.changed:
                pool.firsts.append(index)
                pool.changed = False
            if "co2e_mg" in one.lines:
                self.givers.add(one.participant)
        pool.points.move(sign * points, index)
        pool.fen.move(sign * fen, index)

    def notice(self, index: int, fields: Mapping[str, Any]) -> None:
        """Take in the leaf of a change of a pool's budget; any other is none of its concern."""
        if fields["kind"] == "pool":
            pool = self.pools.setdefault((fields["programme"], fields["pool"]), Drawn())
            sign = _SIGNS.get(fields["action"], 0)
            pool.points.move(sign * int(fields["points"]), index)
            pool.fen.move(sign * int(fields["value"]), index)
            pool.changed = True


def check_pools(draws: Sequence[Draws], notices: Notices, findings: Findings) -> None:
    """Pools are opened once, before anything is drawn on them, keep funder and terms, are never below zero, and are not
    drawn on while they are suspended or closed.

    draws   of every chunk, in the order of the log
    """
    opened, states = _opened(notices, findings)
    points: dict[tuple[str, str], int] = {}
    fen: dict[tuple[str, str], int] = {}
    for drawn in draws:
        for key, pool in drawn.pools.items():
            where = " ".join(key)
            if pool.firsts and opened.get(key, pool.firsts[0]) >= pool.firsts[0]:
                findings.add("pool", f"opened before entry {pool.firsts[0]}", "not opened", pool.firsts[0], where)
                opened[key] = -1  # said once
            changes = states.get(key, [])
            for hold in pool.firsts:
                place = bisect_left(changes, (hold, ""))
                if place and changes[place - 1][1] in _SHUT:
                    findings.add("pool", "a pool that may be drawn on", changes[place - 1][1], hold, where)
            for left, course, unit in ((points, pool.points, "points"), (fen, pool.fen, "fen")):
                before = left.get(key, 0)
                if before + course.lowest < 0:
                    found = f"{before + course.lowest} {unit}"
                    findings.add("pool-overdrawn", "0 or more", found, course.lowest_at, where)
                left[key] = before + course.change


def _opened(
    notices: Notices, findings: Findings
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], list[tuple[int, str]]]]:
    """By programme and code: the entry that opened a pool, and what state it was put into, by which entries."""
    opened: dict[tuple[str, str], int] = {}
    terms: dict[tuple[str, str], str] = {}
    states: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for index, fields in notices:
        if fields["kind"] != "pool":
            continue
        key, stated = (fields["programme"], fields["pool"]), f"{fields['funder']} {fields['terms']}"
        action, where = fields["action"], " ".join(key)
        if action == "opened" and key in opened:
            findings.add("pool", "opened once", f"opened by entry {opened[key]}", index, where)
        elif action != "opened" and key not in opened:
            findings.add("pool", "opened before", action, index, where)
        if terms.setdefault(key, stated) != stated:
            findings.add("pool", f"funder and terms {terms[key]}", stated, index, where)
        opened.setdefault(key, index)
        if action in _BEFORE:
            mine = states.setdefault(key, [])
            before = mine[-1][1] if mine else "resumed"
            if before not in _BEFORE[action]:
                wanted = " or ".join(sorted(_BEFORE[action]))
                findings.add("pool", f"a pool that is {wanted}, to be {action}", before, index, where)
            if (fields["points"], fields["value"]) != ("0", "0"):
                told = f"{fields['points']} points, {fields['value']} fen"
                findings.add("pool", f"no change of the budget where it is {action}", told, index, where)
            mine.append((index, action))
    return opened, states


def last_of_days(draws: Sequence[Draws]) -> dict[tuple[str, str], int]:
    """By bank and day: the log's last entry of that day."""
    found: dict[tuple[str, str], int] = {}
    for drawn in draws:
        found.update(drawn.days)
    return found


def sums_of(draws: Sequence[Draws]) -> dict[SumKey, Sum]:
    """By programme, pool, bank, month and kind, over all the log."""
    found: dict[SumKey, Sum] = {}
    for drawn in draws:
        for key, amount in drawn.sums.items():
            found.setdefault(key, Sum()).add(amount)
    return found
