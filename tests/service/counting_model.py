"""A reference model of what counts once, written from the documents in tests/rules/counting and not from the code.

It keeps a list of credits and looks through all of it for everything: what is claimed, what overlaps, how much of a cap
is used. No index, no tally, no lock. Whole milligrams, whole points, minutes and months as integers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Literal

Answer = tuple[Any, ...]
"""What happened, in the model's words: credited, refused, duplicate, reversed, settled."""

FIRST_DAY = date(2026, 3, 30)
GRADES = {"north": "A", "south": "A", "phone": "B", "diary": "C"}
"""The sources, by name, with the grade of their evidence."""
KINDS = ("citizen", "citizen", "firm")
"""The people, by number."""


@dataclass(frozen=True)
class Act:
    """One report. References are small numbers, so that many meet.

    begins, lasts   minutes after 08:00 of FIRST_DAY; a month and a number of months where whole months count
    amount          metres, stops, kWh used or kWh generated, each month
    before          kWh of the same months of the year before, each
    replaces        the number of an earlier command
    """

    scenario: Literal["ride", "boarding", "home", "pv", "bonus", "walk"]
    who: int
    source: str
    begins: int
    lasts: int
    amount: int
    order: int = 0
    payment: int | None = None
    thing: int = 0
    address: int = 0
    before: int = 0
    replaces: int | None = None

    @property
    def monthly(self) -> bool:
        return self.scenario in ("home", "pv")

    @property
    def day(self) -> date:
        """The day that caps count it on."""
        if self.monthly:
            return date(self.begins // 12, self.begins % 12 + 1, 1)
        return FIRST_DAY + timedelta(days=(8 * 60 + self.begins) // (24 * 60))

    @property
    def ends(self) -> int:
        return self.begins + max(self.lasts, 0)

    @property
    def months(self) -> range:
        return range(self.begins, self.begins + self.lasts)

    @property
    def milligrams(self) -> int:
        if self.scenario == "ride":
            return self.amount * 10
        if self.scenario == "boarding":
            return self.amount * 3000
        return (self.before - self.amount if self.scenario == "home" else self.amount) * self.lasts * 1000

    @property
    def claims(self) -> list[tuple[str, object]]:
        """What has one holder: the names of the references, and their values."""
        if self.scenario == "home":
            return [("meter", (self.thing, month)) for month in self.months]
        if self.scenario == "pv":
            return [("installation", (self.thing, month)) for month in self.months]
        paid: list[tuple[str, object]] = [] if self.payment is None else [("payment", self.payment)]
        return [("operator+order", (self.order, "o")), *paid] if self.scenario == "ride" else paid

    @property
    def told(self) -> dict[tuple[int, int], tuple[str, int]]:
        """What each meter showed in each month, and the name it was told under."""
        if self.scenario != "home":
            return {}
        used = {(self.thing, month): ("use_kwh", self.amount) for month in self.months}
        return used | {(self.thing, month - 12): ("baseline_kwh", self.before) for month in self.months}


@dataclass(frozen=True)
class Repeat:
    """An earlier report once more, under the same id."""

    of: int


@dataclass(frozen=True)
class Retract:
    """The source takes an earlier report back."""

    of: int


@dataclass(frozen=True)
class Reverse:
    """An operator takes an earlier report's credit back."""

    of: int
    reason: str = "posted_in_error"


@dataclass(frozen=True)
class Settle:
    """A source says which tariff tier a person reached in 2025 and 2026."""

    who: int
    source: str
    tier: int


Order = Act | Repeat | Retract | Reverse | Settle


@dataclass(frozen=True)
class Cap:
    """A cap as its document says it; `of` is what it counts."""

    id: str
    per: Literal["day", "month", "year"]
    of: str
    at_most: int
    clips: bool
    restored: bool

    def window(self, day: date) -> date:
        return {"day": day, "month": day.replace(day=1), "year": day.replace(month=1, day=1)}[self.per]


CAPS: dict[str, tuple[Cap, ...]] = {
    "ride": (
        Cap("rides-per-day", "day", "actions", 2, False, True),
        Cap("grams-per-month", "month", "grams", 50_000, True, False),
    ),
    "boarding": (
        Cap("points-per-day", "day", "points", 15, True, True),
        Cap("points-per-month", "month", "points", 30, False, False),
    ),
    "home": (Cap("grams-per-year", "year", "grams", 25_000, False, True),),
    "pv": (),
}


@dataclass(eq=False)
class Credit:
    """A credit: pending for what it awaits, or taken back for a reason."""

    number: int
    act: Act
    mg: int
    points: int
    awaits: str | None
    reason: str | None = None

    @property
    def stands(self) -> bool:
        return self.reason is None

    def counts(self, cap: Cap) -> bool:
        """Whether it uses up this cap still: what is counted anew gives it back, else only if the cap says so."""
        return self.stands or not (cap.restored or self.reason in ("corrected", "superseded"))

    def amount(self, of: str) -> int:
        return {"actions": 1, "grams": self.mg, "points": self.points}[of]


@dataclass
class Model:
    """Everything the platform should have counted, command by command."""

    credits: dict[int, Credit] = field(default_factory=dict)
    events: dict[int, tuple[Act, Answer]] = field(default_factory=dict)
    corrected: set[int] = field(default_factory=set)
    settled: dict[Settle, list[tuple[int, str, int, int]]] = field(default_factory=dict)

    def obey(self, number: int, order: Order) -> Answer:
        """The answer to one command; `number` is its place in the story."""
        if isinstance(order, Act):
            return self._report(number, order)
        if isinstance(order, Repeat):
            if order.of not in self.events:  # nothing was stored: it is as new, and fails again
                return self._report(order.of, self._acts[order.of])
            return ("duplicate", self.events[order.of][1])
        if isinstance(order, Settle):
            return self._settle(order)
        return self._take_back(order)

    _acts: dict[int, Act] = field(default_factory=dict)

    def _report(self, number: int, act: Act) -> Answer:
        self._acts[number] = act
        corrected = act.replaces
        if corrected is not None and corrected not in self.events:
            return ("refused", "activity-not-found", None)
        answer = self._corrected(act) or self._credited(number, act)
        self.events[number] = (act, answer)
        if corrected is not None:
            self.corrected.add(corrected)
        return answer

    def _corrected(self, act: Act) -> Answer | None:
        if act.replaces is None:
            return None
        too_late: Answer = ("refused", "already-corrected", None)
        credit = self.credits.get(act.replaces)
        if (
            credit is None
        ):  # it was refused: whoever corrects it first does so, and what came too late has no correction
            return too_late if act.replaces in self.corrected or self.events[act.replaces][1] == too_late else None
        if not credit.stands:
            return too_late
        credit.reason = "corrected"
        return None

    def _credited(self, number: int, act: Act) -> Answer:
        if act.milligrams <= 0:
            return ("refused", "no-reduction", None)
        if act.scenario in ("ride", "boarding") and KINDS[act.who] != "citizen":
            return ("refused", "participant-kind-not-eligible", None)
        awaits = {"home": "settlement", "pv": "registration"}.get(act.scenario)
        if act.scenario == "ride" and GRADES[act.source] == "B":
            awaits = "match"
        replaced, outranked = self._giving_way(act, awaits)
        against = self._against(act, [*replaced, *outranked])
        if against:
            return ("refused", *against)
        for credit in replaced:
            credit.reason = "superseded"
        points_too = GRADES[act.source] != "C" and act.scenario != "pv"
        amounts = self._within_caps(act, points_too)
        if isinstance(amounts, str):
            return ("refused", amounts, None)
        for credit in outranked:
            credit.reason = "superseded"
        mg, points = amounts
        self.credits[number] = Credit(number, act, mg, points, awaits)
        return ("credited", mg, points, awaits is not None)

    def _giving_way(self, act: Act, awaits: str | None) -> tuple[list[Credit], list[Credit]]:
        if GRADES[act.source] != "A" or awaits == "match":
            return [], []
        waiting = [one for one in self.credits.values() if one.stands and one.awaits == "match"]
        same = [one for one in waiting if set(one.act.claims) & set(act.claims)]
        mine = [one for one in waiting if one.act.who == act.who and (one in same or at_once(one.act, act))]
        return mine, [one for one in same if one.act.who != act.who]

    def _against(self, act: Act, yielding: Sequence[Credit]) -> tuple[str, set[int] | None] | None:
        """The reason, and which earlier activities it may name."""
        holding = [one for one in self.credits.values() if one.stands and one not in yielding]
        for name, value in act.claims:
            if found := {one.number for one in holding if (name, value) in one.act.claims}:
                return f"already-claimed/{name}", found
        if act.scenario == "ride":
            vehicle = [one for one in holding if one.act.scenario == "ride" and one.act.thing == act.thing]
            if found := {one.number for one in vehicle if overlap(one.act, act)}:
                return "overlaps-claim/operator+vehicle", found
        if act.monthly:
            address = [one for one in holding if one.act.monthly and one.act.address == act.address]
            others = [one for one in address if one.act.scenario != act.scenario]
            if found := {one.number for one in others if set(one.act.months) & set(act.months)}:
                return "overlaps-claim/address", found
        mine = [one for one in holding if one.act.who == act.who]
        if found := {one.number for one in mine if at_once(one.act, act)}:
            return "overlaps-activity/travel", found
        for key, (name, kwh) in act.told.items():
            if found := {one.number for one in holding if one.act.told.get(key, (name, kwh))[1] != kwh}:
                return f"baseline-differs/{name}", found
        return None

    def _within_caps(self, act: Act, points_too: bool) -> tuple[int, int] | str:
        amounts = {"actions": 1, "grams": act.milligrams, "points": 0}
        for of in amounts:
            if of == "points" and points_too:
                amounts["points"] = amounts["grams"] // 1000
            for cap in CAPS[act.scenario]:
                if cap.of != of:
                    continue
                room = max(0, cap.at_most - self.used(act.who, act.scenario, cap, cap.window(act.day)))
                if amounts[of] > room:
                    if not cap.clips or (of == "grams" and room == 0):
                        return f"cap-reached/{cap.id}"
                    amounts[of] = room
        return amounts["grams"], amounts["points"]

    def used(self, who: int, scenario: str, cap: Cap, window: date) -> int:
        mine = [one for one in self.credits.values() if (one.act.who, one.act.scenario) == (who, scenario)]
        return sum(one.amount(cap.of) for one in mine if cap.window(one.act.day) == window and one.counts(cap))

    def _take_back(self, order: Retract | Reverse) -> Answer:
        if isinstance(order, Retract) and order.of not in self.events:
            return ("refused", "activity-not-found", None)
        credit = self.credits.get(order.of)
        if credit is None:
            return ("refused", "nothing-to-retract" if isinstance(order, Retract) else "transfer-not-found", None)
        reason = "source_retracted" if isinstance(order, Retract) else order.reason
        if credit.stands:
            credit.reason = reason
            return ("reversed", order.of, reason, False)
        if credit.reason == reason:
            return ("reversed", order.of, reason, True)
        return ("refused", "already-reversed", None)

    def _settle(self, order: Settle) -> Answer:
        settled = self.settled.setdefault(order, [])  # the same facts again are answered as before
        for credit in self.credits.values():
            mine = (credit.act.who, credit.act.source) == (order.who, order.source)
            if mine and credit.stands and credit.awaits == "settlement":
                credit.awaits = None
                settled.append((credit.number, "matured" if order.tier < 3 else "withdrawn", credit.mg, credit.points))
                if order.tier == 3:
                    credit.reason = "not_eligible_at_settlement"
        return ("settled", frozenset(settled))

    def balance(self, who: int) -> dict[str, int]:
        """Nothing is spent here and nothing lapses, so nobody owes: a balance is the sum of the credits that stand."""
        mine = [one for one in self.credits.values() if one.act.who == who and one.stands]
        waiting, free = [one for one in mine if one.awaits], [one for one in mine if not one.awaits]
        return {
            "co2e_available": sum(one.mg for one in free),
            "co2e_pending": sum(one.mg for one in waiting),
            "co2e_debt": 0,
            "points_available": sum(one.points for one in free),
            "points_pending": sum(one.points for one in waiting),
            "points_debt": 0,
        }

    def tallies(self, who: int) -> dict[tuple[str, date], int]:
        """How much of each cap is used, by its name and window; only what is above zero."""
        mine = [one.act for one in self.credits.values() if one.act.who == who]
        found = {
            (f"counting-{act.scenario}/{cap.id}/{cap.per}/{cap.of}", window): self.used(who, act.scenario, cap, window)
            for act in mine
            for cap in CAPS[act.scenario]
            for window in [cap.window(act.day)]
        }
        return {key: used for key, used in found.items() if used}


def overlap(one: Act, other: Act) -> bool:
    """Whether two things that are done hour by hour share a moment; a boarding is one."""
    return one.begins < max(other.ends, other.begins + 1) and other.begins < max(one.ends, one.begins + 1)


def at_once(one: Act, other: Act) -> bool:
    """Whether both are travels of the same time: nobody does two."""
    return not one.monthly and not other.monthly and overlap(one, other)


def told(orders: Sequence[Order]) -> Iterator[tuple[Answer, Model]]:
    """The story as the model lives it: each answer, with the model as it is then."""
    model = Model()
    for number, order in enumerate(orders):
        yield model.obey(number, order), model


def without_sets(answer: Answer) -> Answer:
    """An answer to compare: `earlier` is checked apart, because one of several may be named."""
    if answer[0] == "refused":
        return answer[:2]
    return ("duplicate", without_sets(answer[1])) if answer[0] == "duplicate" else answer


def corrected(act: Act, number: int, **changes: Any) -> Act:
    """The same act, reported anew as a correction of command `number`."""
    return replace(act, replaces=number, **changes)
