"""People who redeem and their bank, as clients of a platform that is killed: every call about money is sent again under
its key until it is answered, and what was answered is compared with what the platform holds."""

import asyncio
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import asyncpg
import httpx
import orjson

from api.auth import DevelopmentIssuer
from api.signatures import SigningKey, public_jwk, sign_call
from ledger.check import check_ledger
from service.redemption.check import check_redemptions
from tests.api.bankers import new_key
from tests.running import BATCH, ride
from tests.service.products.documents import offer_fields, product_fields
from tests.story.clients import ANSWER_WITHIN_S, Served

PEOPLE = 16
CLIENTS = 8
BUDGET_POINTS, BUDGET_FEN = 1_000_000, 10_000_000
POINTS, FEN = 10, 100  # of a unit
_FUNDER = "https://fund.example/story"


@dataclass(slots=True)
class Shoppers:
    """People with points, an offer of a bank, and what each call was answered.

    steps   by transfer id: kind, redemption, units; what was answered is there once
    """

    served: Served
    seed: int
    people: list[str] = field(default_factory=list)
    answers: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    steps: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    bank: str = field(default_factory=lambda: f"https://bank-{os.urandom(4).hex()}.example/green")
    key: SigningKey = field(default_factory=lambda: new_key("story-1"))
    pool: str = field(default_factory=lambda: f"story-{os.urandom(4).hex()}")
    offer: dict[str, Any] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def open(self) -> None:
        """The bank with its key, the pool, the offer on the board, and people with points."""
        issuer = DevelopmentIssuer(self.served.data_dir)
        self._tokens = {who: issuer.issue("operator", who) for who in ("anna", "bo")}
        self._tokens["bank"] = issuer.issue("bank", "story", bank=self.bank)
        source = f"urn:tests:story:{os.urandom(6).hex()}"
        provider = {
            "Authorization": f"Bearer {issuer.issue('provider', 'story', source=source)}",
            "Content-Type": BATCH,
        }
        async with httpx.AsyncClient(base_url=self.served.url, timeout=30) as client:
            await self._stand(client, source)
            consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
            for number in range(PEOPLE):
                link = {"source": source, "subject": f"rider {number}", "consent": consent}
                made = await self._put(client, "POST", "/v1/participants", {"kind": "citizen", "links": [link]})
                self.people.append(made["participant_id"])
                self._tokens[made["participant_id"]] = issuer.issue("participant", made["participant_id"])
            days = [
                {"started_at": f"2026-05-{day:02d}T08:00:00+08:00", "ended_at": f"2026-05-{day:02d}T08:12:00+08:00"}
                for day in (1, 2, 3, 4)  # ten rides a day: more would wait for a review
            ]
            rides = [
                ride(source, f"rider {number}", km="4.5", **days[each % 4])
                for number in range(PEOPLE)
                for each in range(40)
            ]
            answer = await client.post("/v1/activities", headers=provider, content=orjson.dumps(rides))
            assert all(one["outcome"] == "credited" for one in answer.json()["outcomes"]), answer.text

    async def _stand(self, client: httpx.AsyncClient, source: str) -> None:
        titles = {"title_zh": "故事", "title_en": "A story"}
        grade = {"grade": "A", "scenarios": ["shared-ebike"], "valid_from": "2016-01-01"}
        await self._put(client, "PUT", "/v1/sources", {"uri": source, **titles, **grade})
        await self._put(client, "PUT", "/v1/banks", {"uri": self.bank, **titles})
        key = {"bank": self.bank, "key": public_jwk(self.key), "valid_from": "2026-01-01T00:00:00+08:00"}
        await self._put(client, "PUT", "/v1/banks/keys", key)
        terms = {"pool": self.pool, "funder": _FUNDER, **titles, "rate_fen": 10, "rate_points": 1, "shortage": "stop"}
        await self._put(client, "PUT", "/v1/pools", {**terms, "points": BUDGET_POINTS, "value_fen": BUDGET_FEN})
        goods = product_fields(bank=self.bank)
        self.offer = offer_fields(bank=self.bank, product=goods["id"], pool=self.pool, max_units="9")
        for document in (goods, self.offer):
            text = orjson.dumps(document).decode("utf-8")
            await self._put(client, "PUT", "/v1/products/documents", {"document": text})
            for who in ("anna", "bo"):
                path = f"/v1/products/documents/{document['kind']}/{document['id']}/1/approve"
                await self._put(client, "POST", path, {}, who)

    async def _put(self, client: httpx.AsyncClient, method: str, path: str, body: Any, who: str = "anna") -> Any:
        answer = await client.request(
            method, path, headers={"Authorization": f"Bearer {self._tokens[who]}"}, json=body or None
        )
        assert answer.is_success, f"{path}: {answer.text}"
        return answer.json()

    async def shop(self, stopping: asyncio.Event) -> None:
        """Several at once, until `stopping` is set and what each had begun is done."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(random.Random(f"{self.seed} {number}"), stopping))

    async def _client(self, chance: random.Random, stopping: asyncio.Event) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            while not stopping.is_set():
                await self._one(client, chance)

    async def _one(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        """One redemption: held, accepted, captured in part or wholly or voided, and perhaps refunded; or cancelled."""
        person, units = chance.choice(self.people), chance.randint(1, 4)
        consent = {"text_version": self.offer["consent"]["text_version"], "given_at": datetime.now(UTC).isoformat()}
        wanted = {"offer": self.offer["id"], "version": 1, "units": units, "points": units * POINTS, "consent": consent}
        base = f"/v1/participants/{person}/redemptions"
        held = await self._money(client, base, wanted, person, again=chance.random() < 0.2)
        if held is None:
            return
        redemption_id = held["redemption"]["redemption_id"]
        if chance.random() < 0.2:
            await self._money(client, f"{base}/{redemption_id}/cancel", None, person)
            return
        entitlement = await self._until(client, f"{base}/{redemption_id}/entitlement", None, person, None)
        bank = f"/v1/bank/redemptions/{redemption_id}"
        await self._until(client, f"{bank}/accept", {"entitlement": entitlement["entitlement"]}, "bank", None)
        if chance.random() < 0.2:
            await self._money(client, f"{bank}/void", {}, "bank")
            return
        taking = {"units": chance.randint(1, units), "final": chance.random() < 0.7}
        captured = await self._money(client, f"{bank}/capture", taking, "bank", again=chance.random() < 0.2)
        if captured and chance.random() < 0.3:
            path = f"{bank}/captures/{captured['step']['transfer_id']}/refund"
            await self._money(client, path, {"reason": "cancelled"}, "bank", again=chance.random() < 0.5)

    async def _money(
        self, client: httpx.AsyncClient, path: str, body: Any, who: str, *, again: bool = False
    ) -> dict[str, Any] | None:
        """What was done, or None where it was refused; `again` sends it once more after its answer."""
        key = f"{self.seed}-{next(self._numbers)}"
        done = await self._until(client, path, body, who, key)
        if "step" not in done:
            assert done["type"].endswith("points-not-enough"), done
            return None
        self._note(key, done)
        if again:
            self._note(key, await self._until(client, path, body, who, key))
        return done

    def _note(self, key: str, done: dict[str, Any]) -> None:
        redemption_id = done["redemption"]["redemption_id"]
        told = [(one["transfer_id"], one["kind"], one["units"]) for one in (done["step"], done["rest"]) if one]
        known = self.answers.setdefault(key, tuple(told))
        assert known == tuple(told), f"{key} was answered {known}, and later {told}"
        for transfer_id, kind, units in told:
            self.steps[transfer_id] = (kind, redemption_id, units)

    async def _until(
        self, client: httpx.AsyncClient, path: str, body: Any, who: str, key: str | None
    ) -> dict[str, Any]:
        """Send it again, signed anew, until there is an answer that stands."""
        give_up = time.monotonic() + ANSWER_WITHIN_S
        while True:
            content = b"" if body is None else orjson.dumps(body)
            url = self.served.url + path
            headers = {"Authorization": f"Bearer {self._tokens[who]}", "Content-Type": "application/json"}
            if who == "bank":
                nonce = os.urandom(16).hex()
                now = datetime.now(UTC)
                headers |= sign_call(self.key, "POST", url, content, created=now, nonce=nonce, idempotency_key=key)
            elif key:
                headers["Idempotency-Key"] = f'"{key}"'
            try:
                answer = await client.post(url, headers=headers, content=content)
            except httpx.TransportError:
                self.lost += 1
            else:
                self.statuses[answer.status_code] += 1
                if answer.status_code not in (429, 500, 502, 503):
                    return dict(answer.json())
                assert "posting-failed" not in answer.text, answer.text
                assert "internal-error" not in answer.text, answer.text
            assert time.monotonic() < give_up, f"{path} is not answered: {self.statuses}, {self.lost} lost"
            await asyncio.sleep(0.1)


async def assert_books_agree(shoppers: Shoppers, auditor_url: str) -> None:
    """Every answer is there once, nothing else is, and pool, holds and balances agree with it."""
    connection = await asyncpg.connect(auditor_url, timeout=30)
    try:
        people = shoppers.people
        rows = await connection.fetch(
            "SELECT transfer_id::text, kind, redemption_id::text, units FROM service.redemption_entry "
            "WHERE participant_id = ANY($1::uuid[])",
            people,
        )
        found = {row[0]: (row[1], row[2], row[3]) for row in rows}
        assert found == shoppers.steps, "answered and not there, or there and never answered"
        units: Counter[str] = Counter()
        for kind, _, number in shoppers.steps.values():
            units[kind] += number
        taken = units["hold"] - units["release"] - units["refund"]
        left = await connection.fetchrow(
            "SELECT sum(points_left)::int8, sum(fen_left)::int8 FROM service.pool_slot WHERE pool = $1", shoppers.pool
        )
        assert left is not None
        assert tuple(left) == (BUDGET_POINTS - taken * POINTS, BUDGET_FEN - taken * FEN)
        held = await connection.fetchval(
            "SELECT sum(points_left)::int8 FROM ledger.hold WHERE participant_id = ANY($1::uuid[])", people
        )
        assert held == (units["hold"] - units["release"] - units["capture"]) * POINTS
        account = await connection.fetchrow(
            "SELECT sum(points_available)::int8 AS free, sum(points_held)::int8 AS held FROM ledger.account "
            "WHERE participant_id = ANY($1::uuid[])",
            people,
        )
        assert account is not None
        assert account["held"] == held
        earned = PEOPLE * 40 * 157  # 4.5 km are 157.545 g
        assert account["free"] == earned - held - (units["capture"] - units["refund"]) * POINTS
        assert (await check_ledger(connection)).findings == ()
        assert await check_redemptions(connection) == []
    finally:
        await connection.close()
