"""A platform on which points were redeemed, and the bundle of it: holds that a participant or a bank began, captures in
part, what came back, two bank days, and a statement closed by both sides."""

import base64
import os
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.audit.findings import CODES
from service.banks.calls import KeptCall, keep_calls
from service.banks.registry import RegisteredBankKey, register_bank_key
from service.database import Connection
from service.jws import read_public_key
from service.products.model import Offer
from service.redemption.commands import Order, Redeemed
from service.redemption.placing import Agreed, FromBank, build_hold
from service.settlement.closing import issue_due
from service.settlement.decisions import keep_decision
from service.settlement.disputes import Which, open_dispute
from service.settlement.reconciling import close_by_bank, read_day
from service.worker import drain
from tests.audit.audited import RULES
from tests.audit.history import TOMORROW, Publishing
from tests.conftest import Database
from tests.log.histories import jwk_of
from tests.running import Person, running_api
from tests.service.redemption.redemption_world import BANK, Market, call, open_market

OF_REDEMPTIONS = tuple(CODES)[tuple(CODES).index("document-form") : tuple(CODES).index("manifest-received")]
"""The codes of findings about redemptions."""
KEY = Ed25519PrivateKey.from_private_bytes(bytes([4] * 32))


async def make_redeemed(database: Database, folder: Path) -> Path:
    """Post everything, issue the statement of the day, publish, and export the bundle; its folder."""
    async with Publishing.of(database, folder) as publishing:
        (folder / "platform").mkdir(parents=True)
        async with running_api(database.app, database.redis, folder / "platform", rules_dir=RULES) as api:
            bank = Bank(await open_market(api, database))
            await bank.register_key()
            await _redeem(bank)
            await drain(publishing.pool)
            async with publishing.pool.acquire() as connection:
                assert await issue_due(connection, TOMORROW) == 1
                await bank.close(connection)
        await publishing.export(folder / "bundle")
    return folder / "bundle"


@dataclass
class Bank:
    """The market's bank, which signs what it asks for."""

    market: Market

    async def register_key(self) -> None:
        platform = self.market.api.platform
        jwk = jwk_of(KEY.public_key().public_bytes_raw())
        now = platform.fresh.clock() - timedelta(minutes=1)
        key = RegisteredBankKey("k1", read_public_key(jwk), now.replace(microsecond=0), None)
        async with platform.pool.acquire() as tx, tx.transaction():
            await register_bank_key(tx, BANK, key, platform.fresh, timedelta())

    async def signed(self, path: str, body: dict[str, Any]) -> tuple[UUID, str]:
        """A signed call, kept as the API keeps it; its id, and what leaves say of it."""
        platform, content = self.market.api.platform, orjson.dumps(body)
        digest = f"sha-256=:{base64.b64encode(sha256(content).digest()).decode()}:"
        nonce = os.urandom(12).hex()
        base = "\n".join(
            (
                '"@method": POST',
                '"@authority": carbon.example.org',
                f'"@path": {path}',
                f'"content-digest": {digest}',
                '"@signature-params": ("@method" "@authority" "@path" "content-digest");created=1;keyid="k1";'
                f'nonce="{nonce}";tag="tanpuhui-bank"',
            )
        ).encode()
        signature = KEY.sign(base)
        call_id = platform.fresh.id()
        kept = KeptCall(
            call_id, self.market.bank_id, "k1", nonce, "POST", path, base, signature, digest, content, lasting=True
        )
        async with platform.pool.acquire() as tx, tx.transaction():
            assert await keep_calls(tx, [kept], timedelta()) == [True]
        return call_id, sha256(base + b"\n" + signature).hexdigest()

    async def hold(self, person: Person, offer: Offer, units: int, *, began: bool = True, price: int = 10) -> Redeemed:
        """A hold of so many units, which the bank began or accepts."""
        fresh, points = self.market.api.platform.fresh, units * price
        agreed = Agreed(units, points, offer.text_version, fresh.clock())
        asked = None
        if began:
            kept, signature = await self.signed("/v1/bank/requests", {"offer": offer.id, "units": units})
            asked = FromBank(fresh.id(), "loan-1", kept, signature)
        money = call(f"participant:{person.participant_id}", None, f"{offer.id} {units}")
        command = build_hold(UUID(person.participant_id), offer, self.market.bank_id, agreed, money, fresh, asked)
        held = await self.market.done(command)
        if not began:
            await self._accept(held)
        return held

    async def _accept(self, held: Redeemed) -> None:
        accepted = "UPDATE service.redemption SET accepted_at = created_at WHERE redemption_id = $1"
        async with self.market.api.platform.pool.acquire() as tx:
            await tx.execute(accepted, held.redemption.redemption_id)

    async def capture(self, held: Redeemed, units: int | None, *, final: bool = False) -> Redeemed:
        path = f"/v1/bank/redemptions/{held.redemption.redemption_id}/capture"
        body = {"units": units, "final": final}
        command = self.market.capture(held, units, final=final)
        return await self.market.done(replace(command, order=await self._order(command.order, path, body)))

    async def void(self, held: Redeemed) -> Redeemed:
        command = self.market.release(held, "voided")
        path = f"/v1/bank/redemptions/{held.redemption.redemption_id}/void"
        return await self.market.done(replace(command, order=await self._order(command.order, path, {})))

    async def refund(self, captured: Redeemed) -> Redeemed:
        command = self.market.refund(captured)
        redemption = captured.redemption.redemption_id
        path = f"/v1/bank/redemptions/{redemption}/captures/{captured.step.transfer_id}/refund"
        body = {"reason": command.reason}
        return await self.market.done(replace(command, order=await self._order(command.order, path, body)))

    async def decided_back(self, captured: Redeemed) -> Redeemed:
        """The refund of a capture that a dispute's decision gives back."""
        platform, state = self.market.api.platform, captured.redemption
        capture_id = captured.step.transfer_id
        async with platform.pool.acquire() as tx, tx.transaction(isolation="read_committed"):
            ids = (state.participant_id, state.redemption_id)
            made = await open_dispute(tx, platform.vault, *ids, "benefit_missing", None, platform.fresh)
            which = Which(*ids, made.dispute_id)
            decision = await keep_decision(tx, platform.vault, which, [capture_id], platform.fresh)
        order = Order("operator", call("platform:disputes", None, f"{capture_id}"))
        command = self.market.refund(captured, "not_fulfilled")
        return await self.market.done(replace(command, order=order, decision=decision, bank_id=None))

    async def close(self, tx: Connection) -> None:
        """Close the one day that has a statement."""
        platform, bank_id = self.market.api.platform, self.market.bank_id
        day = await tx.fetchval("SELECT day FROM service.bank_statement")
        digest = (await read_day(tx, bank_id, day)).digest
        body = {"statement": digest, "file": None}
        call_id, _ = await self.signed(f"/v1/statements/{day}/closing", body)
        async with tx.transaction():
            closed = await close_by_bank(
                tx, bank_id, day, statement=digest, file=None, call_id=call_id, fresh=platform.fresh
            )
        assert closed.state == "closed"

    async def _order(self, order: Order, path: str, body: dict[str, Any]) -> Order:
        kept, signature = await self.signed(path, body)
        return replace(order, call_id=kept, signature=signature)


async def _redeem(bank: Bank) -> None:
    market = bank.market
    pool = await market.pool(points_per_day=1_000, points_per_person_per_day=600)
    plain = await market.offer(pool)
    costly = await market.offer(
        pool,
        value_fen_per_unit=90,
        grams_mg_per_point=20,
        per_person_per_year=12,
        tiers=[{"name": {"zh": "一级", "en": "First"}, "min_verified_g": 200, "points_per_unit": 9}],
        conditions=[
            {
                "id": "some-rides",
                "title": {"zh": "有骑行", "en": "Some rides"},
                "value": "verified_g",
                "unit": "g",
                "at_least": 100,
                "because": {"zh": "须有骑行", "en": "it is for those who ride"},
            },
            {
                "id": "some-points",
                "title": {"zh": "有积分", "en": "Some points"},
                "value": "available_points",
                "unit": "1",
                "at_least": 20,
                "because": {"zh": "须有积分", "en": "it is for those who have points"},
            },
            {
                "id": "not-covered",
                "title": {"zh": "未纳入", "en": "Not covered"},
                "value": "covered",
                "unit": "1",
                "at_most": 0,
                "because": {"zh": "不面向纳入者", "en": "it is not for those a trading scheme covers"},
            },
        ],
    )
    person, other = await market.person(rides=4), await market.person(rides=2)
    first = await bank.hold(person, plain, 5)
    part = await bank.capture(first, 2)
    await bank.capture(first, 1, final=True)
    await bank.refund(part)
    second = await bank.hold(person, costly, 6, began=False, price=9)
    await bank.capture(second, None)
    third = await bank.hold(other, plain, 3)
    await bank.void(third)
    fourth = await bank.hold(other, costly, 4)
    await bank.decided_back(await bank.capture(fourth, 4))
    await market.change(pool, points=500, fen=1_000)
