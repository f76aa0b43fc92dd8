"""Keep one participant's ledger by the ledger's own functions, as posting does: lock, close what has lapsed, decide on
the locked rows, append with a leaf."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

from ledger.journal import (
    Account,
    Line,
    Transfer,
    buckets_after,
    credit_lines,
    lapse_lines,
    maturity_lines,
    posted,
    reversal_lines,
)
from ledger.leaves import CreditFacts, MaturityFacts, credit_leaf, lapse_leaf, maturity_leaf, reversal_leaf
from ledger.store import append_transfers, lock_accounts, open_account, read_buckets, read_transfer
from service.clock import Fresh, shanghai_day, system_clock
from service.database import Connection

Decide = Callable[[Account, dict[date, int]], tuple[Line, ...]]
LeafOf = Callable[[Transfer], bytes]

_fresh = Fresh(system_clock())
_DIGEST = "11" * 32


@dataclass
class Books:
    """A participant of the tests. `offset` moves the database's clock."""

    tx: Connection
    participant_id: UUID
    offset: timedelta = timedelta(0)

    @classmethod
    async def open(cls, tx: Connection) -> "Books":
        books = cls(tx, uuid4())
        await open_account(tx, books.participant_id, kind="citizen", programme="demo", region="310000")
        return books

    async def credit(self, co2e_mg: int, points: int, expires_on: date, **how: Any) -> Transfer:
        """`how` is `pending`, `grams_pending` and `funded_points` of credit_lines()."""
        return await self._post(
            "credit",
            lambda account, _: credit_lines(
                account,
                co2e_mg=co2e_mg,
                points=points,
                credit_class="scenario",
                vintage=2026,
                expires_on=expires_on,
                **how,
            ),
            lambda transfer: credit_leaf(
                transfer,
                "citizen",
                CreditFacts(transfer.transfer_id, "urn:tests:meters", "A", _DIGEST, _DIGEST, _DIGEST, ()),
                bytes(16),
            ),
        )

    async def mature(self, credit: Transfer, expires_on: date) -> Transfer:
        def leaf_of(transfer: Transfer) -> bytes:
            earns = any(line.asset == "points" for line in transfer.lines)
            facts = MaturityFacts("operator", "settlement", points_rule=_DIGEST if earns else None)
            return maturity_leaf(transfer, "citizen", facts, bytes(16))

        return await self._post(
            "maturity",
            lambda account, _: maturity_lines(account, credit.lines, expires_on=expires_on),
            leaf_of,
            matures=credit.transfer_id,
        )

    async def reverse(self, credit: Transfer, reason: str = "posted_in_error") -> Transfer:
        found = await read_transfer(self.tx, self.participant_id, credit.transfer_id)
        matured: Sequence[Line] = ()
        if found.matured_by:
            matured = (await read_transfer(self.tx, self.participant_id, found.matured_by)).transfer.lines
        return await self._post(
            "reversal",
            lambda account, buckets: reversal_lines(account, buckets, credit.lines, matured),
            lambda transfer: reversal_leaf(transfer, "citizen", "operator", bytes(16)),
            reverses=credit.transfer_id,
            reason=reason,
        )

    async def account(self) -> Account:
        accounts, _ = await lock_accounts(self.tx, [self.participant_id], clock_offset=self.offset)
        return accounts[self.participant_id]

    async def buckets(self) -> dict[date, int]:
        return (await read_buckets(self.tx, [self.participant_id])).get(self.participant_id, {})

    async def _post(self, kind: str, decide: Decide, leaf_of: LeafOf, **rest: Any) -> Transfer:
        async with self.tx.transaction():
            accounts, at = await lock_accounts(self.tx, [self.participant_id], clock_offset=self.offset)
            assert at is not None
            account, buckets = accounts[self.participant_id], await self.buckets()
            transfers: list[Transfer] = []
            leaves: list[bytes] = []

            def add(kind: str, lines: tuple[Line, ...], leaf_of: LeafOf, **rest: Any) -> None:
                nonlocal account, buckets
                transfer = Transfer(
                    _fresh.id(), account.participant_id, kind, account.counter + 1, "demo", "310000", lines, today, at,
                    **rest,
                )  # fmt: skip
                transfers.append(transfer)
                leaves.append(leaf_of(transfer))
                buckets = buckets_after(buckets, lines)
                account = replace(
                    posted(account, lines),
                    next_expiry=min((day for day, left in buckets.items() if left), default=None),
                )

            today = shanghai_day(at)
            lapsed = lapse_lines(buckets, today)
            if lapsed:
                add("lapse", lapsed, lambda transfer: lapse_leaf(transfer, "citizen", bytes(16)))
            add(kind, decide(account, buckets), leaf_of, **rest)
            await append_transfers(self.tx, transfers, leaves, {self.participant_id: account})
            return transfers[-1]
