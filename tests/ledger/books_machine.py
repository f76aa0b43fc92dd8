"""A machine that keeps a few participants' ledgers over the real database, and the reference model beside them: credits
that wait in whole or in part, points out of budgets, maturities, and reversals before and after them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from anyio.from_thread import BlockingPortal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger.journal import ReversalReason, Transfer
from ledger.store import read_statement
from service.database import Connection
from tests.conftest import Database
from tests.ledger.books import Books
from tests.ledger.machine import MONTHS, audited
from tests.ledger.model import Answer, Rider, month_end, offset_of

T = TypeVar("T")

_ORDINAL = st.integers(0, 10**6)
_GRAMS = st.integers(1, 10**6)
_POINTS = st.integers(0, 40)  # few, so that debts and buckets end within a credit
_FUNDED = st.just(0) | st.integers(1, 50)
_WAITS = st.sampled_from([(False, False), (True, True), (True, True), (True, False), (False, True)])
_REASONS: st.SearchStrategy[ReversalReason] = st.sampled_from(
    ["posted_in_error", "not_eligible_at_settlement", "superseded", "corrected"]
)


@dataclass
class Desk:
    """One connection to a database of the stories' own; `budget` is what they have drawn from campaigns so far."""

    portal: BlockingPortal
    database: Database
    tx: Connection
    first_month: int
    budget: int = 0

    def call(self, work: Callable[..., Awaitable[T]], *values: Any) -> T:
        """Run this in the connection's event loop."""
        return self.portal.call(work, *values)


@dataclass
class Entry:
    """A participant: the real books, the model's, and the real credits by id."""

    books: Books
    rider: Rider
    credits: dict[str, Transfer]

    def credit(self, place: int, *, waiting: bool | None = None) -> Transfer | None:
        """One of those that stand, that wait or do not, if there is one."""
        found = [
            self.credits[name]
            for name, credit in self.rider.credits.items()
            if credit.reason is None and (waiting is None or any(credit.waiting) == waiting)
        ]
        return found[place % len(found)] if found else None


class Bookkeeping(RuleBasedStateMachine):
    """One story: every rule does the same to the ledger and to the model."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.month = desk.first_month
        self.entries: list[Entry] = []

    @initialize(start=st.sampled_from(["empty", "indebted", "two buckets"]))
    def begin(self, start: str) -> None:
        """Two participants. They may owe what lapsed before it was reversed, or have credits in two buckets; either
        way some still wait."""
        self.open()
        if start == "empty":
            return
        for place in range(2):
            self.earn(place, 1000, 40, 0, (False, False))
            for funded in (0, 5, 10):
                self.earn(place, 1000, 30, funded, (True, True))
        self.wait_until(26 if start == "indebted" else 1)
        for place in range(2):
            if start == "indebted":
                self.reverse(place, 0, waiting=False, reason="posted_in_error")
            else:
                self.mature(place, 0)

    def open(self) -> None:
        for _ in range(2):
            books = self.desk.call(Books.open, self.desk.tx)
            self.entries.append(Entry(books, Rider(str(books.participant_id), "", str(uuid4()), None), {}))
        self.wait_until(0)

    def entry(self, place: int) -> Entry:
        """The one of this place, after what has run out was closed, as every posting does."""
        entry = self.entries[place % len(self.entries)]
        entry.rider.lapse(self.month)
        return entry

    @rule(place=_ORDINAL, mg=_GRAMS, points=_POINTS, funded=_FUNDED, waits=_WAITS)
    def earn(self, place: int, mg: int, points: int, funded: int, waits: tuple[bool, bool]) -> None:
        entry, (mg_waits, points_wait) = self.entry(place), waits

        async def credited() -> Transfer:
            return await entry.books.credit(
                mg,
                points,
                month_end(self.month + 24),
                pending=points_wait,
                grams_pending=mg_waits,
                funded_points=funded,
            )

        credit = self.desk.call(credited)
        name = str(credit.transfer_id)
        entry.credits[name] = credit
        entry.rider.earn(name, mg, points, self.month, funded=funded, mg_waits=mg_waits, points_wait=points_wait)
        self.desk.budget += funded

    @precondition(lambda self: any(entry.credit(0, waiting=True) for entry in self.entries))
    @rule(place=_ORDINAL, which=_ORDINAL)
    def mature(self, place: int, which: int) -> None:
        if credit := self.entries[place % 2].credit(which, waiting=True):
            entry = self.entry(place)
            self.desk.call(entry.books.mature, credit, month_end(self.month + 24))
            entry.rider.mature(entry.rider.credits[str(credit.transfer_id)], self.month)

    @precondition(lambda self: any(entry.credit(0) for entry in self.entries))
    @rule(place=_ORDINAL, which=_ORDINAL, waiting=st.sampled_from([None, False, True]), reason=_REASONS)
    def reverse(self, place: int, which: int, waiting: bool | None, reason: ReversalReason) -> None:
        if credit := self.entries[place % 2].credit(which, waiting=waiting):
            entry = self.entry(place)
            self.desk.call(entry.books.reverse, credit, reason)
            taken = entry.rider.credits[str(credit.transfer_id)]
            taken.reason = reason
            entry.rider.take_back(taken)
            self.desk.budget -= taken.funded

    @rule(place=_ORDINAL)
    def wait(self, place: int) -> None:
        later = [month for month in MONTHS if self.desk.first_month + month >= self.month]
        self.wait_until(later[place % min(2, len(later))])

    def wait_until(self, month: int) -> None:
        self.month = self.desk.first_month + month
        for entry in self.entries:
            entry.books.offset = offset_of(self.month)

    @invariant()
    def books_agree(self) -> None:
        for entry in self.entries:
            told = self.desk.call(self._told, entry)
            assert told == entry.rider.balance(self.month)

    async def _told(self, entry: Entry) -> Answer:
        account, buckets = await entry.books.account(), await entry.books.buckets()
        live = sorted((day, points) for day, points in buckets.items() if day > month_end(self.month - 1))
        return (
            sum(points for _, points in live),
            account.balance("points", "debt"),
            account.balance("points", "pending"),
            [{"on": day.isoformat(), "points": points} for day, points in live],
            account.balance("co2e_mg", "available"),
            account.balance("co2e_mg", "debt"),
            account.balance("co2e_mg", "pending"),
            account.counter,
        )

    def teardown(self) -> None:
        sums, findings, statements, budget = self.desk.call(self._closed)
        assert findings == []
        assert all(amount == 0 for amount in sums.values()), sums
        assert budget == -self.desk.budget
        for entry, statement in zip(self.entries, statements, strict=True):
            assert [transfer.counter for transfer in statement] == list(range(entry.rider.transfers, 0, -1))

    async def _closed(self) -> tuple[dict[str, int], list[Any], list[list[Transfer]], int]:
        statements = [
            await read_statement(self.desk.tx, entry.books.participant_id, before=10**9, limit=10**4)
            for entry in self.entries
        ]
        sums, findings = await audited(self.desk.database, activities=False)
        budget = await self.desk.tx.fetchval(
            "SELECT coalesce(sum(amount), 0)::int8 FROM ledger.system_total WHERE account = 'partner'"
        )
        return sums, findings, statements, budget
