"""A reference model of redemptions, written from the rules of docs and not from the code: plain integers, dates and
dictionaries, one person and one pool at a time.

The commands are the platform's own values, so that both are asked the very same thing; what is answered is told as
tuples that the two have in common.
"""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from uuid import UUID

from service.redemption.commands import CaptureHold, PlaceHold, RedemptionCommand, RefundCapture

Answer = tuple[object, ...]
Parts = list[tuple[date, int]]
"""Points by the last day of their bucket."""


@dataclass
class Taken:
    """A capture: its points by bucket, its milligrams, and whether it was taken back."""

    units: int
    parts: Parts
    mg: int
    refunded: bool = False


@dataclass
class Held:
    """A redemption: what one unit is worth, what of it is held, and what became of the rest."""

    redemption_id: UUID
    bank_id: int
    pool: str
    offer: str
    units: int
    points_per_unit: int
    fen_per_unit: int
    mg_per_unit: int
    made: datetime
    ends: datetime
    accepted: bool
    parts: Parts
    mg: int
    left: int
    state: str = "held"
    captured: int = 0
    refunded: int = 0
    captures: dict[UUID, Taken] = field(default_factory=dict)

    @property
    def told(self) -> Answer:
        return (self.state, self.left, self.captured, self.refunded)

    def end(self, reason: str) -> None:
        self.left, self.mg, self.parts = 0, 0, []
        self.state = reason if not self.captured else "refunded" if self.captured == self.refunded else "captured"

    def standing(self, now: datetime) -> int:
        """Units that are captured for good, or held by a hold that lives."""
        alive = self.left if now < self.ends else 0
        return alive + self.captured - self.refunded


@dataclass
class Purse:
    """What one person has."""

    buckets: dict[date, int] = field(default_factory=dict)
    debt: int = 0
    mg: int = 0
    mg_debt: int = 0
    redemptions: dict[UUID, Held] = field(default_factory=dict)

    def earn(self, points: int, mg: int, bucket: date) -> None:
        repaid = min(points, self.debt)
        self.debt -= repaid
        self._add([(bucket, points - repaid)])
        repaid = min(mg, self.mg_debt)
        self.mg_debt -= repaid
        self.mg += mg - repaid

    def lose(self, points: int, mg: int, bucket: date) -> None:
        """A credit is reversed: its own bucket pays first, then the others as they run out; the rest is debt."""
        for day in sorted(self.buckets, key=lambda one: (one != bucket, one)):
            taken = min(points, self.buckets[day])
            self.buckets[day] -= taken
            points -= taken
        self.debt += points
        taken = min(mg, self.mg)
        self.mg -= taken
        self.mg_debt += mg - taken

    def take(self, points: int) -> Parts:
        """So many points, those first that run out first."""
        parts: Parts = []
        for day in sorted(self.buckets):
            taken = min(points, self.buckets[day])
            if taken:
                parts.append((day, taken))
                self.buckets[day] -= taken
                points -= taken
        return parts

    def give(self, parts: Parts, mg: int, today: date) -> tuple[int, int]:
        """Points and grams come back; how many points repaid a debt, and how many had run out."""
        repaid_points = lapsed = 0
        for day, points in parts:
            repaid = min(points, self.debt)
            self.debt -= repaid
            repaid_points += repaid
            if day < today:
                lapsed += points - repaid
            else:
                self._add([(day, points - repaid)])
        repaid = min(mg, self.mg_debt)
        self.mg_debt -= repaid
        self.mg += mg - repaid
        return repaid_points, lapsed

    def lapse(self, today: date) -> None:
        self.buckets = {day: left for day, left in self.buckets.items() if day >= today and left}

    def _add(self, parts: Parts) -> None:
        for day, points in parts:
            if points:
                self.buckets[day] = self.buckets.get(day, 0) + points


@dataclass
class Till:
    """A pool: what is left of it, and of its limits by day."""

    points: int
    fen: int
    per_day: int | None = None
    per_person: int | None = None
    open: bool = True
    drawn: dict[date, int] = field(default_factory=dict)


@dataclass
class Model:
    """Everybody's purses, the pools, and the answers that calls were given under their keys."""

    purses: dict[UUID, Purse] = field(default_factory=dict)
    tills: dict[str, Till] = field(default_factory=dict)
    calls: dict[tuple[str, str], tuple[bytes, UUID, Answer]] = field(default_factory=dict)

    def do(self, command: RedemptionCommand, now: datetime) -> Answer:
        """The answer to a command: ('refused', why), or ('done', repeated, step, rest, state)."""
        purse, call = self.purses[command.participant_id], command.order.call
        purse.lapse(now.date())
        self.bury(purse, now)
        known = self.calls.get((call.client, call.key)) if call else None
        if call and known:
            fingerprint, redemption_id, answer = known
            if fingerprint != call.fingerprint:
                return ("refused", "idempotency-conflict")
            if answer[0] == "refused":
                return answer
            return ("done", True, *answer[2:4], purse.redemptions[redemption_id].told)
        answer = self._do(command, purse, now)
        if call:
            self.calls[call.client, call.key] = call.fingerprint, command.redemption_id, answer
        return answer

    def _do(self, command: RedemptionCommand, purse: Purse, now: datetime) -> Answer:
        if isinstance(command, PlaceHold):
            return self._place(command, purse, now)
        held = purse.redemptions.get(command.redemption_id)
        if held is None or command.bank_id not in (None, held.bank_id):
            return ("refused", "redemption-not-found")
        if isinstance(command, RefundCapture):
            return self._refund(command, purse, held, now)
        if held.state != "held":
            return ("refused", "hold-ended")
        if isinstance(command, CaptureHold):
            return self._capture(command, purse, held, now)
        if command.reason == "cancelled" and held.accepted:
            return ("refused", "not-cancellable")
        if command.reason == "voided" and not held.accepted:
            return ("refused", "not-accepted")
        if command.reason == "lapsed":
            return ("refused", "hold-not-over")
        step = self._release(purse, held, command.reason, now)
        return ("done", False, step, None, held.told)

    def bury(self, purse: Purse, now: datetime) -> None:
        """What is dead goes back before anything else is decided."""
        for held in sorted(purse.redemptions.values(), key=lambda one: one.redemption_id):
            if held.state == "held" and now >= held.ends:
                self._release(purse, held, "lapsed", now)

    def _place(self, command: PlaceHold, purse: Purse, now: datetime) -> Answer:
        offer, till = command.offer, self.tills[command.offer.pool]
        points, fen = command.units * offer.points_per_unit, command.units * offer.value_fen_per_unit
        mg = points * offer.grams_mg_per_point
        mine = purse.redemptions.values()
        this_year = sum(one.standing(now) for one in mine if one.offer == offer.id and one.made.year == now.year)
        today = sum(
            one.standing(now) * one.points_per_unit
            for one in mine
            if one.pool == offer.pool and one.made.date() == now.date()
        )
        cap = offer.per_person_per_year
        if not till.open:
            return ("refused", "pool-not-open")
        if not offer.min_units <= command.units <= offer.max_units or (cap and this_year + command.units > cap):
            return ("refused", "not-eligible")
        if points != command.points:
            return ("refused", "price-changed")
        if points > sum(purse.buckets.values()):
            return ("refused", "points-not-enough")
        if mg > purse.mg:
            return ("refused", "grams-not-enough")
        if till.per_person is not None and today + points > till.per_person:
            return ("refused", "pool-person-limit")
        if till.per_day is not None and till.drawn.get(now.date(), 0) + points > till.per_day:
            return ("refused", "pool-daily-limit")
        if points > till.points or fen > till.fen:
            return ("refused", "pool-exhausted")
        till.points, till.fen = till.points - points, till.fen - fen
        till.drawn[now.date()] = till.drawn.get(now.date(), 0) + points
        purse.mg -= mg
        held = purse.redemptions[command.redemption_id] = Held(
            command.redemption_id,
            command.bank_id,
            offer.pool,
            offer.id,
            command.units,
            offer.points_per_unit,
            offer.value_fen_per_unit,
            offer.points_per_unit * offer.grams_mg_per_point,
            now,
            now + timedelta(seconds=offer.hold_seconds),
            command.request_id is not None,
            purse.take(points),
            mg,
            command.units,
        )
        return ("done", False, ("hold", None, command.units, points, fen, mg, 0, 0), None, held.told)

    def _capture(self, command: CaptureHold, purse: Purse, held: Held, now: datetime) -> Answer:
        if not held.accepted:
            return ("refused", "not-accepted")
        units = held.left if command.units is None else command.units
        if units > held.left:
            return ("refused", "units-beyond-hold")
        points, fen, mg = units * held.points_per_unit, units * held.fen_per_unit, units * held.mg_per_unit
        parts: Parts = []
        kept: Parts = []
        wanted = points
        for day, amount in held.parts:
            taken = min(wanted, amount)
            wanted -= taken
            parts += [(day, taken)] if taken else []
            kept += [(day, amount - taken)] if amount > taken else []
        held.parts, held.mg = kept, held.mg - mg
        held.left, held.captured = held.left - units, held.captured + units
        held.captures[command.transfer_id] = Taken(units, parts, mg)
        step = ("capture", None, units, points, fen, mg, 0, 0)
        rest = None
        if not held.left:
            held.end("captured")
        elif command.final:
            rest = self._release(purse, held, "rest", now)
        return ("done", False, step, rest, held.told)

    def _release(self, purse: Purse, held: Held, reason: str, now: datetime) -> Answer:
        units = held.left
        points, fen, mg = units * held.points_per_unit, units * held.fen_per_unit, held.mg
        self._give_back(held, points, fen, now)
        repaid, lapsed = purse.give(held.parts, held.mg, now.date())
        held.end(reason)
        return ("release", reason, units, points, fen, mg, repaid, lapsed)

    def _refund(self, command: RefundCapture, purse: Purse, held: Held, now: datetime) -> Answer:
        capture = held.captures.get(command.capture_id)
        if capture is None:
            return ("refused", "redemption-not-found")
        if capture.refunded:
            return ("refused", "already-refunded")
        capture.refunded = True
        held.refunded += capture.units
        points, fen = capture.units * held.points_per_unit, capture.units * held.fen_per_unit
        self._give_back(held, points, fen, now)
        repaid, lapsed = purse.give(capture.parts, capture.mg, now.date())
        if held.state != "held":
            held.end("captured")
        step = ("refund", command.reason, capture.units, points, fen, capture.mg, repaid, lapsed)
        return ("done", False, step, None, held.told)

    def _give_back(self, held: Held, points: int, fen: int, now: datetime) -> None:
        till = self.tills[held.pool]
        till.points, till.fen = till.points + points, till.fen + fen
        if held.made.date() == now.date():
            till.drawn[now.date()] -= points

    def seen(self, participant_id: UUID, now: datetime) -> Answer:
        """What the person is shown: free points by bucket, held, owed; grams free and owed. Nothing is changed."""
        purse = self.purses[participant_id]
        buckets, debt, mg, mg_debt = dict(purse.buckets), purse.debt, purse.mg, purse.mg_debt
        shown = Purse(buckets, debt, mg, mg_debt)
        held = 0
        for one in sorted(purse.redemptions.values(), key=lambda each: each.redemption_id):
            if one.state == "held" and now >= one.ends:
                shown.give(one.parts, one.mg, now.date())
            elif one.state == "held":
                held += sum(points for _, points in one.parts)
        shown.lapse(now.date())
        free = tuple(sorted(shown.buckets.items()))
        return (free, held, shown.debt, shown.mg, shown.mg_debt)
