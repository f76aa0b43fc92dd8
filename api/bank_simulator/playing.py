"""What a bank does with what its customers present: accept, capture, void, refund, report the benefit, or wait.

Each redemption is a generator of steps, so that a bank can take them one after the other or in any order.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import jwt
from jwt.types import Options

from api.bank_simulator.book import Book, Case, Entry
from api.bank_simulator.calls import Answer, Bank
from api.bank_simulator.moods import Mood

SHANGHAI = ZoneInfo("Asia/Shanghai")
PLANS = ("whole", "parts", "void", "refund", "whole", "later")
"""What becomes of an accepted redemption: captured at once or in two parts, voided, captured and refunded, or nothing
yet."""
LOST_WITHIN_S = (0.001, 0.05)  # a call that is hung up on ends in its middle, or just behind it
CLAIMS = ("iss", "aud", "jti", "offer", "offer_version", "units", "points", "value_fen", "exp")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the bank was promised: a code, the redemption if it is about one, and a sentence."""

    code: str
    redemption_id: str | None
    zh: str
    en: str


@dataclass(slots=True)
class Play:
    """One bank at work; `findings` is what it was answered wrongly."""

    bank: Bank
    book: Book
    mood: Mood
    chance: random.Random
    keys: dict[str, jwt.PyJWK]
    findings: list[Finding] = field(default_factory=list)

    def present(self, entitlements: Sequence[str]) -> None:
        """Customers hand in their entitlements: each is checked under the platform's keys, and gets a plan."""
        shuffled: list[str] = []
        for text in entitlements:
            claims = self._claims(text)
            if claims is None or claims["jti"] in self.book.cases:
                continue
            if not shuffled:
                shuffled = self.chance.sample(PLANS, len(PLANS))
            self.book.take(Case(claims["jti"], text, shuffled.pop()))

    async def settle(self) -> None:
        """Take every redemption as far as it was planned."""
        open_cases = [case for case in self.book.cases.values() if case.redemption_id not in self.book.done]
        underway = [self._steps(case) for case in open_cases]
        while underway:
            steps = self.chance.choice(underway) if self.mood.reorders else underway[0]
            try:
                await anext(steps)
            except StopAsyncIteration:
                underway.remove(steps)

    def _claims(self, text: str) -> dict[str, Any] | None:
        try:
            key = self.keys[jwt.get_unverified_header(text)["kid"]]
            options: Options = {"require": list(CLAIMS), "verify_exp": False}  # an old one of the book may be over
            claims: dict[str, Any] = jwt.decode(text, key, ["EdDSA"], audience=self.bank.uri, options=options)
        except (KeyError, jwt.PyJWTError) as error:
            self._found("entitlement-unverified", None, "凭证未通过验证", f"an entitlement does not verify: {error}")
            return None
        return claims

    async def _steps(self, case: Case) -> AsyncIterator[None]:
        name, path = case.redemption_id, f"/v1/bank/redemptions/{case.redemption_id}"
        if self.mood.reorders and case.plan != "later":
            early = await self._ask(f"{path}/capture", {"final": True}, f"{name}.early")
            self._expect(early, name, "not-accepted", "hold-ended", "redemption-not-found")
            yield
        accepted = await self._ask(f"{path}/accept", {"entitlement": case.entitlement})
        if accepted.slug in ("hold-ended", "entitlement-refused"):  # cancelled, or over: the log says which
            self.book.finish(name)
            return
        if not self._good(accepted, name, "accept"):
            return
        for step in accepted.body["steps"]:
            if step["kind"] == "hold":
                self._enter(name, step)
        self._as_entitled(case, accepted.body)
        yield
        if case.plan == "later":
            self.book.finish(name)
        elif case.plan == "void":
            if await self._money(name, f"{path}/void", {}, "void"):
                self.book.finish(name)
        else:
            async for _ in self._captured(case, path, accepted.body["units"]):
                yield

    async def _captured(self, case: Case, path: str, units: int) -> AsyncIterator[None]:
        name, last = case.redemption_id, None
        if self.mood.conflicts and case.plan == "whole":
            if await self._at_once(name, path):
                self.book.finish(name)
            return
        if case.plan == "parts" and units > 2:  # a half, then one more: the rest goes back
            if not await self._money(name, f"{path}/capture", {"units": units // 2}, "first"):
                return
            yield
            last = await self._money(name, f"{path}/capture", {"units": 1, "final": True}, "last")
        else:
            last = await self._money(name, f"{path}/capture", {}, "whole")
        if last is None:
            return
        yield
        on = datetime.now(SHANGHAI).date().isoformat()
        told = await self._ask(f"{path}/fulfilment", {"reference": f"benefit-{name[-12:]}", "on": on})
        self._good(told, name, "fulfilment")
        if case.plan == "refund":
            yield
            back = f"{path}/captures/{last['step']['transfer_id']}/refund"
            if not await self._money(name, back, {"reason": "cancelled"}, "refund"):
                return
        self.book.finish(name)

    async def _money(self, name: str, path: str, content: dict[str, Any], step: str) -> dict[str, Any] | None:
        """A call that moves points, as this mood makes it; None when it was refused, which is a finding."""
        key = f"{name}.{step}"
        if self.mood.drops:
            for _ in range(self.chance.randint(1, 2)):
                await self.bank.lose(path, content, key, self.chance.uniform(*LOST_WITHIN_S))
        answer = await self._ask(path, content, key)
        if not self._good(answer, name, step):
            return None
        self._enter_all(name, answer.body)
        if self.mood.repeats:
            again = await self._ask(path, content, key)
            same = again.good and (again.body["step"], again.body["repeated"]) == (answer.body["step"], True)
            if not same:
                self._found("answered-differently", name, "重发得到不同答复", f"the {step} again: {again.body}")
        if self.mood.conflicts:
            other = {"reason": "posted_in_error"} if path.endswith("/refund") else {"units": 999}
            elsewhere = path.replace("/void", "/capture")
            self._expect(await self._ask(elsewhere, other, key), name, "idempotency-conflict")
        return answer.body

    async def _at_once(self, name: str, path: str) -> bool:
        """Two captures and a void of the same hold, at once and under three keys: one of them happens."""
        asked: list[tuple[str, dict[str, Any], str]] = [
            ("capture", {}, "one"),
            ("capture", {"final": True}, "two"),
            ("void", {}, "three"),
        ]
        answers = await asyncio.gather(
            *(self._ask(f"{path}/{verb}", content, f"{name}.{step}") for verb, content, step in asked)
        )
        done = [answer for answer in answers if answer.good]
        if len(done) != 1:
            self._found("not-once", name, "并发请求未恰好成功一次", f"{len(done)} of three calls at once were done")
        for answer in answers:
            if answer.good:
                self._enter_all(name, answer.body)
            else:
                self._expect(answer, name, "hold-ended")
        return bool(done)

    async def _ask(self, path: str, content: dict[str, Any], key: str | None = None) -> Answer:
        if self.mood.pause_s:
            await asyncio.sleep(self.chance.uniform(0, self.mood.pause_s))
        return await self.bank.call(path, content, key)

    def _as_entitled(self, case: Case, told: dict[str, Any]) -> None:
        """What was accepted is what the entitlement said."""
        claims = self._claims(case.entitlement)
        names = ("offer", "offer_version", "units", "points", "value_fen")
        if claims is not None and any(claims[name] != told[name] for name in names):
            self._found("not-as-entitled", case.redemption_id, "与凭证不符", "it is not what its entitlement says")

    def _enter_all(self, name: str, done: dict[str, Any]) -> None:
        for step in (done["step"], done["rest"]):
            if step is not None:
                self._enter(name, step)

    def _enter(self, name: str, step: dict[str, Any]) -> None:
        day = datetime.fromisoformat(step["recorded_at"]).astimezone(SHANGHAI).date().isoformat()
        authority = "bank" if step["kind"] in ("release", "refund") else None
        amounts = {measure: int(step[measure]) for measure in ("units", "points", "value_fen")}
        self.book.enter("own", Entry(step["kind"], step["transfer_id"], name, **amounts, day=day, authority=authority))

    def _good(self, answer: Answer, name: str, step: str) -> bool:
        if not answer.good:
            self._found("refused", name, "意外被拒", f"{step}: {answer.slug} {answer.body.get('detail', '')}")
        return answer.good

    def _expect(self, answer: Answer, name: str, *slugs: str) -> None:
        if answer.slug not in slugs:
            came = answer.slug or "it was done"
            self._found("not-refused", name, "应被拒而未拒", f"expected {' or '.join(slugs)}, got {came}")

    def _found(self, code: str, name: str | None, zh: str, en: str) -> None:
        self.findings.append(Finding(code, name, zh, en))
