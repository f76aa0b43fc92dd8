"""Points to spend and something to spend them on: an API with a bank, a pool and the demonstration's offers, and people
with credits, driven by the poster's commands."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from ledger.check import Finding, check_ledger
from service.activities.intake import Refusal
from service.banks.registry import read_bank, register_bank
from service.clock import Fresh, system_clock
from service.poster import Poster
from service.posting import Outcome
from service.products.listing import Desk, approve, submit
from service.products.model import Offer
from service.products.parsing import parse_listing
from service.reading import Balance, BalanceReader
from service.redemption.check import check_redemptions
from service.redemption.commands import (
    CaptureHold,
    MoneyCall,
    Order,
    PlaceHold,
    Redeemed,
    RedemptionCommand,
    RedemptionState,
    RefundCapture,
    ReleaseHold,
)
from service.redemption.pools import Pool, change_pool, open_pool, read_pool
from service.redemption.reading import accept, read_redemption
from service.redemption.terms import PoolTerms
from tests.conftest import Database
from tests.running import Api, Person, ride
from tests.service.products.documents import product

BANK = "https://bank.example/green"
FUNDER = "https://fund.example/demo"
SIGNED = "ab" * 32  # the digest of a bank's signed call


def terms(pool: str, **changes: Any) -> PoolTerms:
    """A pool's terms: a point is worth ten fen at most, and no limits."""
    plain = PoolTerms(pool, "demo", FUNDER, "测试资金池", "A test pool", 10, 1, "stop")
    return replace(plain, **changes)


@dataclass
class Market:
    """What there is to redeem: one bank, and a pool and an offer of each test's own."""

    api: Api
    database: Database
    bank_id: int
    product: str

    @property
    def desk(self) -> Desk:
        platform = self.api.platform
        return Desk("demo", {"demonstration"}, platform.fresh, platform.settings.clock_offset)

    async def pool(self, points: int = 1_000_000, fen: int = 10_000_000, **changes: Any) -> str:
        """A newly opened pool; its code."""
        code = f"pool-{os.urandom(5).hex()}"
        async with self.api.platform.pool.acquire() as tx, tx.transaction():
            await open_pool(
                tx, terms(code, **changes), points=points, fen=fen, by="op-1", fresh=self.api.platform.fresh
            )
        return code

    async def state_of(self, pool: str) -> Pool:
        async with self.api.platform.pool.acquire() as tx:
            return await read_pool(tx, pool)

    async def change(self, pool: str, *, points: int = 0, fen: int = 0) -> Pool:
        async with self.api.platform.pool.acquire() as tx, tx.transaction():
            return await change_pool(tx, pool, points=points, fen=fen, by="op-1", fresh=self.api.platform.fresh)

    async def offer(self, pool: str, **changes: Any) -> Offer:
        """A newly listed voucher of ten points and a yuan a unit; its id is its own."""
        offer_id = f"voucher-{os.urandom(5).hex()}"
        text = {
            "schema": 1,
            "kind": "offer",
            "id": offer_id,
            "version": 1,
            "product": self.product,
            "bank": BANK,
            "pool": pool,
            "title": {"zh": "测试券", "en": "A test voucher"},
            "benefit": {"kind": "voucher", "per_unit": 100, "unit": "fen"},
            "points_per_unit": 10,
            "value_fen_per_unit": 100,
            "min_units": 1,
            "max_units": 100000,
            "grams_mg_per_point": 0,
            "hold_seconds": 3600,
            "valid": {"from": date(2025, 11, 25), "to": date(2099, 12, 31)},
            "discloses": {"zh": "无", "en": "Nothing"},
            "consent": {"text_version": f"{offer_id}-1", "text": {"zh": "同意", "en": "I agree"}},
        } | changes
        document = parse_listing(orjson.dumps(text))
        assert isinstance(document, Offer)
        await self.list_documents([document])
        return document

    async def list_documents(self, documents: list[Any]) -> None:
        platform = self.api.platform
        desk = self.desk
        async with platform.pool.acquire() as tx:
            for document in documents:
                async with tx.transaction():
                    if await submit(tx, document, "op-1", desk):
                        await approve(tx, document.kind, document.id, document.version, "op-1", desk)
                        await approve(tx, document.kind, document.id, document.version, "op-2", desk)

    async def person(self, rides: int = 1) -> Person:
        """Somebody with 70 points and 70.02 g for each ride."""
        person = await self.api.person()
        events = [ride(person.source, person.subject, km="2") for _ in range(rides)]
        for outcome in await self.api.report(person.source, events):
            assert outcome["outcome"] == "credited", outcome
        return person

    async def post(self, *commands: RedemptionCommand) -> list[Outcome]:
        """What the poster answers."""
        return await self.api.platform.poster.post(commands)

    async def done(self, command: RedemptionCommand) -> Redeemed:
        """One command, which is to be done."""
        (outcome,) = await self.post(command)
        assert isinstance(outcome, Redeemed), outcome
        return outcome

    async def refused(self, command: RedemptionCommand) -> Refusal:
        """One command, which is to be refused."""
        (outcome,) = await self.post(command)
        assert isinstance(outcome, Refusal), outcome
        return outcome

    def place(
        self,
        person: Person,
        offer: Offer,
        units: int,
        points: int | None = None,
        key: str | None = None,
        *,
        from_bank: bool = True,
    ) -> PlaceHold:
        """The hold of so many units, at the offer's own price unless another was agreed."""
        agreed = units * offer.points_per_unit if points is None else points
        return PlaceHold(
            UUID(person.participant_id),
            self.api.platform.fresh.id(),
            Order("participant", call(f"participant:{person.participant_id}", key, f"{offer.id} {units}")),
            offer,
            self.bank_id,
            units,
            agreed,
            terms=b'{"units":"%d"}' % units,
            salt=os.urandom(32),
            request_id=self.api.platform.fresh.id() if from_bank else None,
        )

    def order(self, authority: str, asked: str, key: str | None = None) -> Order:
        """On whose word; under a key of its own unless one is given."""
        client = "bank:green" if authority == "bank" else authority
        return Order(authority, call(client, key, asked), signature=SIGNED if authority == "bank" else None)

    def capture(
        self, held: Redeemed, units: int | None = None, *, final: bool = False, key: str | None = None
    ) -> CaptureHold:
        state = held.redemption
        order = self.order("bank", f"{state.redemption_id} {units} {final}", key)
        ids = (state.participant_id, state.redemption_id)
        return CaptureHold(*ids, order, self.api.platform.fresh.id(), self.bank_id, units, final)

    def release(self, held: Redeemed, reason: str = "voided") -> ReleaseHold:
        state, bank_id = held.redemption, self.bank_id if reason == "voided" else None
        authority = {"voided": "bank", "cancelled": "participant", "lapsed": "rule"}.get(reason, "operator")
        order = self.order(authority, f"{state.redemption_id}")
        ids = (state.participant_id, state.redemption_id)
        return ReleaseHold(*ids, order, self.api.platform.fresh.id(), reason, bank_id)

    def refund(self, captured: Redeemed, reason: str = "cancelled") -> RefundCapture:
        state, capture_id = captured.redemption, captured.step.transfer_id
        order = self.order("bank", f"{capture_id}")
        ids = (state.participant_id, state.redemption_id)
        return RefundCapture(*ids, order, self.api.platform.fresh.id(), capture_id, reason, self.bank_id)

    @asynccontextmanager
    async def later(self, **by: float) -> AsyncIterator[Poster]:
        """Let the API's clock say that it is so much later; the poster is another one of the same database."""
        platform, offset = self.api.platform, timedelta(**by)
        was = platform.poster, platform.fresh, platform.balances
        platform.fresh = Fresh(system_clock(offset))
        platform.balances = BalanceReader(platform.pool, platform.fresh.clock)
        poster = Poster(
            platform.pool,
            platform.rules,
            platform.vault,
            platform.fresh,
            clock_offset=offset,
            lanes=2,
            queue_items=10_000,
        )
        platform.poster = poster
        try:
            yield poster
        finally:
            platform.poster, platform.fresh, platform.balances = was
            await poster.stop()

    async def accept(self, held: Redeemed, offset: timedelta = timedelta()) -> None:
        """As when the bank presents the entitlement."""
        state = held.redemption
        async with self.api.platform.pool.acquire() as tx, tx.transaction(isolation="read_committed"):
            await accept(tx, state.participant_id, state.redemption_id, self.api.platform.fresh.id(), offset)

    async def read(self, held: Redeemed) -> RedemptionState:
        """A redemption as it stands."""
        async with self.api.platform.pool.acquire() as tx:
            found = await read_redemption(tx, held.redemption.participant_id, held.redemption.redemption_id)
        assert found is not None
        return found.state

    async def balance(self, person: Person) -> Balance:
        """What the person is shown."""
        found = await self.api.platform.balances.read(UUID(person.participant_id))
        assert found is not None
        return found

    async def findings(self) -> list[Finding]:
        """What the platform's own checks find."""
        connection = await asyncpg.connect(self.database.auditor)
        try:
            return [*(await check_ledger(connection)).findings, *await check_redemptions(connection)]
        finally:
            await connection.close()


def call(client: str, key: str | None, asked: str) -> MoneyCall:
    return MoneyCall(client, key or os.urandom(8).hex(), sha256(asked.encode()).digest())


async def open_market(api: Api, database: Database) -> Market:
    """Register the bank and list a product of its."""
    platform = api.platform
    async with platform.pool.acquire() as tx, tx.transaction():
        await register_bank(tx, BANK, ("演示银行", "Demo bank"), "demo", timedelta())
        bank = await read_bank(tx, BANK)
    assert bank is not None
    fund = product(bank=BANK)
    market = Market(api, database, bank.bank_id, fund.id)
    await market.list_documents([fund])
    return market
