"""Redemptions within an honest history: a bank, a pool, offers, and holds with everything that becomes of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.hold_leaves import (
    HoldFacts,
    StepFacts,
    capture_leaf,
    decision_commitment,
    hold_leaf,
    refund_leaf,
    release_leaf,
    terms_commitment,
)
from ledger.holds import capture_lines, hold_lines, passing, refund_lines, release_lines, still_held
from ledger.journal import Line, Transfer
from ledger.notices import (
    ListingFacts,
    PoolFacts,
    StatementFacts,
    listing_leaf,
    pool_leaf,
    statement_leaf,
)
from tests.log.histories import PROGRAMME, History, Person, canonical

BANK, FUNDER, POOL = "https://bank.example/green", "https://funder.example", "demo-pool"
POINTS_PER_UNIT, FEN_PER_UNIT, MG_PER_POINT = 20, 150, 3
HOLD_LASTS = timedelta(minutes=30)
BANK_KEY = bytes([4] * 32)
POOL_TERMS = canonical({"pool": POOL, "shortage": "stop"})


def document_of(name: str) -> bytes:
    """A made-up product or offer."""
    return canonical({"id": name, "schema": "1", "version": "1"})


def digest_of(name: str) -> str:
    """The digest of a made-up document."""
    return sha256(document_of(name)).hexdigest()


@dataclass(slots=True, eq=False)
class Held:
    """A hold, and what is left of it."""

    person: Person
    transfer: Transfer
    facts: HoldFacts
    left: tuple[Line, ...]
    units_left: int
    captures: list[tuple[Transfer, int]] = field(default_factory=list)
    refunded: list[Transfer] = field(default_factory=list)


class Redeeming:
    """What a bank and its customers do, within a history.

    offers  two: of the first the grams stay with the person, of the second they pass
    held    holds of which something is left
    used    holds of which something was captured
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.offers = (digest_of("offer-a"), digest_of("offer-b"))
        self.held: list[Held] = []
        self.used: list[Held] = []
        self.points_left = self.fen_left = 0
        self.suspended = False
        self.shut = ""
        self.began: date | None = None
        self.stated: list[StatementFacts] = []
        self.closable: list[StatementFacts] = []
        self._calls = 0

    # What belongs to nobody.

    def open(self, units: int = 2_000) -> None:
        """The bank's key, a pool for so many units, and what is on the board."""
        public = Ed25519PrivateKey.from_private_bytes(BANK_KEY).public_key().public_bytes_raw()
        self.history.key("bank", BANK, public)
        self.pool("opened", units)
        for kind, name in (("product", "product-a"), ("offer", "offer-a"), ("offer", "offer-b")):
            self.list("listed", kind, name)

    def pool(self, action: str, units: int = 0) -> None:
        """Change the pool's budget by what so many units cost, or say that it may be drawn on, or may not."""
        sign = -1 if action == "lowered" else 1
        points, fen = units * POINTS_PER_UNIT, units * FEN_PER_UNIT
        self.points_left += sign * points
        self.fen_left += sign * fen
        reason = "by_operator" if action in ("suspended", "closed") else None
        facts = PoolFacts(PROGRAMME, action, POOL, FUNDER, points, fen, self._paper(POOL_TERMS), reason)
        self.shut = action if reason else "" if action == "resumed" else self.shut
        self._add(pool_leaf(facts, self.history.now, self._bytes(16)))

    def list(self, action: str, kind: str = "offer", name: str = "offer-a") -> None:
        """Put a document on the board, or say what becomes of it there."""
        approvers = ("office-1", "office-2") if action == "listed" else ()
        reason = "evidence-expired" if action in ("suspended", "taken_down") else None
        facts = ListingFacts(PROGRAMME, action, kind, name, 1, self._paper(document_of(name)), approvers, reason)
        self._add(listing_leaf(facts, self.history.now, self._bytes(16)))
        if name == "offer-a":
            self.suspended = action not in ("listed", "resumed")

    def statement(self) -> None:
        """The bank's statements up to yesterday's, each over everything up to here; none after more than a month."""
        yesterday = self.history.today - timedelta(days=1)
        day = self.stated[-1].day + timedelta(days=1) if self.stated else self.began
        if day is not None and (yesterday - day).days > 31:
            return
        while day is not None and day <= yesterday:
            number = len(self.stated) + 1
            digest = self._paper(canonical({"day": str(day), "sequence": str(number)}))
            facts = StatementFacts(PROGRAMME, BANK, day, "issued", number, digest, self.history.size)
            self._add(statement_leaf(facts, self.history.now, self._bytes(16)))
            self.stated.append(facts)
            self.closable.append(facts)
            day += timedelta(days=1)

    def close(self) -> None:
        """Both sides close the oldest day that is not closed yet: the bank by its call, on a file of its own or on
        none."""
        random = self.history.random
        file = self._bytes(32).hex() if random.random() < 0.5 else None
        authority = random.choice(("rule", "operator"))
        facts = replace(self.closable.pop(0), state="closed", authority=authority, file=file, signature=self._call())
        self._add(statement_leaf(facts, self.history.now, self._bytes(16)))

    # What belongs to a participant.

    def hold(
        self,
        person: Person,
        units: int,
        *,
        with_grams: bool = False,
        by_bank: bool = False,
        lasts: timedelta = HOLD_LASTS,
    ) -> Held:
        """Reserve the points of so many units, and their grams with the second offer."""
        self.history.lapse(person)
        self.began = self.began or self.history.today
        points = units * POINTS_PER_UNIT
        lines = hold_lines(person.buckets, person.grams, points=points, co2e_mg=points * MG_PER_POINT * with_grams)
        facts = HoldFacts(
            BANK,
            self.offers[with_grams],
            POOL,
            units,
            units * FEN_PER_UNIT,
            terms_commitment(self._bytes(32), b"{}"),
            (self.history.now + lasts).replace(microsecond=0),
            self._call() if by_bank else None,
        )
        transfer = self._post(person, "hold", lines)
        self._add(hold_leaf(transfer, person.account.kind, facts, self._bytes(16)))
        self._draw(-units)
        held = Held(person, transfer, facts, lines, units)
        self.held.append(held)
        return held

    def may_hold(self, person: Person, units: int, *, with_grams: bool = False) -> bool:
        """Whether there are points, grams, a budget and an offer for that."""
        points = units * POINTS_PER_UNIT
        free = sum(left for day, left in person.buckets.items() if day >= self.history.today)
        enough = not with_grams or passing(person.grams) >= points * MG_PER_POINT
        listed = (with_grams or not self.suspended) and not self.shut
        return free >= points and enough and listed and self.points_left >= points

    def capture(self, held: Held, units: int, *, final: bool = False) -> Transfer:
        """The bank uses so many units; `final` gives back the rest."""
        person = held.person
        self.history.lapse(person)
        points = units * POINTS_PER_UNIT
        grams = units * self._amount(held, "co2e_mg") // held.facts.units
        lines = capture_lines(held.left, points=points, co2e_mg=grams)
        held.left = still_held(
            held.left, points=_sum(held.left, "points") - points, co2e_mg=_sum(held.left, "co2e_mg") - grams
        )
        held.units_left -= units
        transfer = self._post(person, "capture", lines, hold_id=held.transfer.transfer_id)
        call = self._call()
        leaf = capture_leaf(transfer, person.account.kind, self._facts(units, "bank", call), self._bytes(16))
        self._add(leaf)
        if not held.captures:
            self.used.append(held)
        held.captures.append((transfer, units))
        if not held.units_left:
            self.held.remove(held)
        elif final:
            self.release(held, "rest", call)
        return transfer

    def release(self, held: Held, reason: str, call: str | None = None) -> Transfer:
        """Give back what is held still."""
        person, units = held.person, held.units_left
        self.history.lapse(person)
        authority = {"voided": "bank", "cancelled": "participant", "lapsed": "rule", "rest": "bank"}.get(
            reason, "operator"
        )
        if authority == "bank" and call is None:
            call = self._call()
        lines = release_lines(person.account, held.left)
        transfer = self._post(person, "release", lines, hold_id=held.transfer.transfer_id, reason=reason)
        leaf = release_leaf(transfer, person.account.kind, self._facts(units, authority, call), self._bytes(16))
        self._add(leaf)
        self._draw(units)
        self.held.remove(held)
        self.history.lapse(person)
        return transfer

    def refund(self, held: Held, place: int = 0, reason: str = "cancelled", authority: str = "bank") -> Transfer:
        """Take one of its captures back."""
        person, (capture, units) = held.person, held.captures[place]
        self.history.lapse(person)
        lines = refund_lines(person.account, capture.lines)
        transfer = self._post(person, "refund", lines, reverses=capture.transfer_id, reason=reason)
        call = self._call() if authority == "bank" else None
        facts = self._facts(units, authority, call)
        if authority == "operator":
            facts = replace(facts, decision=decision_commitment(self._bytes(32), b"{}"))
        leaf = refund_leaf(transfer, person.account.kind, facts, self._bytes(16))
        self._add(leaf)
        self._draw(units)
        held.refunded.append(capture)
        self.history.lapse(person)
        return transfer

    def happen(self) -> None:
        """One thing that happens to one person's points, or to the board."""
        history, random = self.history, self.history.random
        dead = [held for held in self.held if history.now >= held.facts.expires_at]
        standing = [held for held in self.held if history.now < held.facts.expires_at]
        refundable = [held for held in self.used if len(held.refunded) < len(held.captures)][-5:]
        what = random.random()
        if dead and what < 0.5:
            self.release(dead[0], "lapsed")
        elif standing and what < 0.4:
            self._go_on(standing[-1], random.random())
        elif refundable and what < 0.5:
            held = refundable[-1]
            place = next(n for n, (capture, _) in enumerate(held.captures) if capture not in held.refunded)
            self.refund(held, place, *random.choice((("cancelled", "bank"), ("not_fulfilled", "operator"))))
        elif what > 0.98:
            self.pool("raised", random.randint(1, 50))
        elif what > 0.97 and self.points_left >= POINTS_PER_UNIT:
            self.pool("lowered", random.randint(1, self.points_left // POINTS_PER_UNIT))
        elif what > 0.96:
            self.pool("resumed" if self.shut and random.random() < 0.8 else self._shutting())
        elif what > 0.94:
            self.list("resumed" if self.suspended else "suspended")
        else:
            self._place()

    def _shutting(self) -> str:
        return "closed" if self.shut == "suspended" else "suspended"

    def _place(self) -> None:
        random = self.history.random
        person = self.history.people[random.randrange(len(self.history.people))]
        units, with_grams = random.randint(1, 6), random.random() < 0.4
        if self.may_hold(person, units, with_grams=with_grams):
            lasts = random.choice((timedelta(minutes=30), timedelta(days=2), timedelta(days=900)))
            self.hold(person, units, with_grams=with_grams, by_bank=random.random() < 0.3, lasts=lasts)

    def _go_on(self, held: Held, what: float) -> None:
        if what < 0.6:
            units = self.history.random.randint(1, held.units_left)
            self.capture(held, units, final=what < 0.3)
        elif what < 0.75:
            self.release(held, "voided")
        elif what < 0.9:
            self.release(held, "cancelled")
        else:
            self.release(held, "withdrawn")

    def _facts(self, units: int, authority: str, call: str | None) -> StepFacts:
        return StepFacts(BANK, POOL, units, units * FEN_PER_UNIT, authority, call)

    def _post(self, person: Person, kind: str, lines: Sequence[Line], **rest: Any) -> Transfer:
        return self.history.post(person, kind, tuple(lines), self.history.today, **rest)

    def _paper(self, content: bytes) -> str:
        """Put a document beside the log; its digest."""
        self.history.papers.add(content)
        return sha256(content).hexdigest()

    def _draw(self, units: int) -> None:
        self.points_left += units * POINTS_PER_UNIT
        self.fen_left += units * FEN_PER_UNIT

    def _call(self) -> str:
        self._calls += 1
        return sha256(b"call %d" % self._calls).hexdigest()

    def _amount(self, held: Held, asset: str) -> int:
        return _sum(held.transfer.lines, asset)

    def _add(self, leaf: bytes) -> None:
        self.history.add(leaf)

    def _bytes(self, count: int) -> bytes:
        return self.history.random_bytes(count)


def _sum(lines: Sequence[Line], asset: str) -> int:
    return sum(line.amount for line in lines if line.asset == asset)
