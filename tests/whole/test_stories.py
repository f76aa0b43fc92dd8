"""Stories over HTTP: what one call makes the next ones act on, by whom it belongs to and by whom it does not."""

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from api.auth import Role
from api.commands.ledger import check_everything
from tests.conftest import Database
from tests.running import ride
from tests.whole.judging import Judge
from tests.whole.world import Caller, Side, World, signed

pytestmark = pytest.mark.anyio

T = TypeVar("T")
_PICK = st.integers(0, 10**6)
_UNITS = st.integers(1, 3)
_WHO = st.sampled_from(["own", "own", "own", "other", "role", "nobody"])
_REDEMPTION = "/v1/participants/{participant_id}/redemptions/{redemption_id}"
_AT_BANK = "/v1/bank/redemptions/{redemption_id}"


class Stories(RuleBasedStateMachine):
    """Two people, two banks and an operator. A step is taken by whom it belongs to, by the other of the same role, by
    another role or without a token; the last three must be refused."""

    world: World
    judge: Judge
    loop: asyncio.AbstractEventLoop
    taken: Counter[str]

    @initialize()
    def begin(self) -> None:
        self.redemptions: list[tuple[Side, dict[str, str]]] = []
        self.captures: list[tuple[Side, dict[str, str]]] = []
        self.disputes: list[tuple[Side, dict[str, str]]] = []
        self.requests: list[tuple[Side, dict[str, str]]] = []
        self.webhooks: list[tuple[Side, dict[str, str]]] = []
        for side in range(2):  # something to act on from the first step on
            self.earn(side, "4")
            for number in range(2):
                self.hold(side, "own", 3)
                self.accept(len(self.redemptions) - 1, "own")
                if number:
                    self.capture(len(self.redemptions) - 1, "own", 2, False)
                    self.dispute(len(self.redemptions) - 1, "own")
            self.ask(side, 1)
        self.go_on(1, "own", "answer", True)
        if not self.taken["cancel"]:
            self.hold(0, "own", 1)
            self.let_go(len(self.redemptions) - 1, "own", False)
        if not self.taken["decision"]:
            self.go_on(1, "own", "decide", True)
        self.listen(0)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def side(self, pick: int) -> Side:
        return (self.world.one, self.world.other)[pick % 2]

    def take(
        self, who: str, role: Role, side: Side, method: str, template: str, ids: dict[str, str], body: Any = None
    ) -> Any:
        """One step; its content when it was taken, None when it was refused."""
        other = self.world.other if side is self.world.one else self.world.one
        strange: Role = "auditor" if role != "auditor" else "provider"
        callers = {"own": (role, side), "other": (role, other), "role": (strange, side), "nobody": (None, side)}
        answer = self.wait(self._send(Caller(*callers[who]), method, template.format(**ids), body))
        faults = self.judge.faults(method, template, answer)
        assert not faults, f"{who}: {method} {template} {body}: {faults} {answer.text[:500]}"
        if who != "own" and not (who == "other" and role == "operator"):
            assert answer.status_code in (401, 403, 404), f"{who}: {method} {template}: {answer.text}"
            assert not [word for word in side.secret if word in answer.text]
            return None
        if not answer.is_success:
            return None
        self.taken[template.rpartition("/")[2]] += 1
        return orjson.loads(answer.content) if answer.content else {}

    async def _send(self, caller: Caller, method: str, path: str, body: Any) -> httpx.Response:
        content = b"" if body is None else orjson.dumps(body)
        key = os.urandom(8).hex()
        headers = caller.headers(self.world.api) | {"Idempotency-Key": f'"{key}"'}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if caller.role == "bank" and method == "POST":
            headers |= signed(caller.side.bank.key, method, path, content, key)
        return await self.world.api.client.request(method, path, headers=headers, content=content)

    @rule(pick=_PICK, km=st.sampled_from(["0.5", "2", "4"]))
    def earn(self, pick: int, km: str) -> None:
        person = self.side(pick).person
        self.wait(self.world.api.report(person.source, [ride(person.source, person.subject, km=km)]))

    @rule(pick=_PICK, who=_WHO, units=_UNITS)
    def hold(self, pick: int, who: str, units: int) -> None:
        side = self.side(pick)
        ids = {"participant_id": side.person.participant_id}
        consent = {"text_version": "tests-1", "given_at": datetime.now(UTC).isoformat()}
        body = {"offer": side.offer, "version": 1, "units": units, "points": 10 * units, "consent": consent}
        made = self.take(who, "participant", side, "POST", "/v1/participants/{participant_id}/redemptions", ids, body)
        if made:
            self.redemptions.append((side, ids | {"redemption_id": made["redemption"]["redemption_id"]}))

    @precondition(lambda self: self.redemptions)
    @rule(pick=_PICK, who=_WHO)
    def accept(self, pick: int, who: str) -> None:
        side, ids = self.redemptions[pick % len(self.redemptions)]
        made = self.take("own", "participant", side, "POST", _REDEMPTION + "/entitlement", ids)
        text = made["entitlement"] if made else "e30.e30.AA"
        self.take(who, "bank", side, "POST", _AT_BANK + "/accept", ids, {"entitlement": text})

    @precondition(lambda self: self.redemptions)
    @rule(pick=_PICK, who=_WHO, units=_UNITS, final=st.booleans())
    def capture(self, pick: int, who: str, units: int, final: bool) -> None:
        side, ids = self.redemptions[pick % len(self.redemptions)]
        body = {"units": units, "final": final}
        done = self.take(who, "bank", side, "POST", _AT_BANK + "/capture", ids, body)
        if done:
            self.captures.append((side, ids | {"capture_id": done["step"]["transfer_id"]}))

    @precondition(lambda self: self.redemptions)
    @rule(pick=_PICK, who=_WHO, bank=st.booleans())
    def let_go(self, pick: int, who: str, bank: bool) -> None:
        side, ids = self.redemptions[pick % len(self.redemptions)]
        if bank:
            self.take(who, "bank", side, "POST", _AT_BANK + "/void", ids, {})
        else:
            self.take(who, "participant", side, "POST", _REDEMPTION + "/cancel", ids)

    @precondition(lambda self: self.captures)
    @rule(pick=_PICK, who=_WHO)
    def refund(self, pick: int, who: str) -> None:
        side, ids = self.captures[pick % len(self.captures)]
        template = _AT_BANK + "/captures/{capture_id}/refund"
        self.take(who, "bank", side, "POST", template, ids, {"reason": "cancelled"})

    @precondition(lambda self: self.redemptions)
    @rule(pick=_PICK, who=_WHO)
    def dispute(self, pick: int, who: str) -> None:
        side, ids = self.redemptions[pick % len(self.redemptions)]
        body = {"reason": "benefit_missing", "words": "it never came"}
        made = self.take(who, "participant", side, "POST", _REDEMPTION + "/disputes", ids, body)
        if made:
            self.disputes.append((side, ids | {"dispute_id": made["dispute_id"]}))

    @precondition(lambda self: self.disputes)
    @rule(pick=_PICK, who=_WHO, step=st.sampled_from(["answer", "answer", "decide", "withdraw"]), yes=st.booleans())
    def go_on(self, pick: int, who: str, step: str, yes: bool) -> None:
        side, ids = self.disputes[pick % len(self.disputes)]
        template = _REDEMPTION + "/disputes/{dispute_id}"
        if step == "answer":
            body = {"position": "accepts" if yes else "rejects", "words": "we looked"}
            self.take(who, "bank", side, "POST", _AT_BANK + "/disputes/{dispute_id}/answer", ids, body)
        elif step == "decide":
            body = {"outcome": "participant" if yes else "bank", "words": "we looked"}
            self.take(who, "operator", side, "POST", template + "/decision", ids, body)
        else:
            self.take(who, "participant", side, "POST", template + "/withdrawal", ids, {})

    @rule(pick=_PICK, units=_UNITS)
    def ask(self, pick: int, units: int) -> None:
        side = self.side(pick)
        body = {"offer": side.offer, "units": units, "reference": "APP-2"}
        made = self.take("own", "bank", side, "POST", "/v1/bank/requests", {}, body)
        if made:
            self.requests.append((side, {"request_id": made["request_id"], "code": made["approval_code"]}))

    @precondition(lambda self: self.requests)
    @rule(
        pick=_PICK,
        who=st.sampled_from(["own", "own", "role", "nobody"]),
        step=st.sampled_from(["no", "yes", "look", "no"]),
    )
    def approve(self, pick: int, who: str, step: str) -> None:
        side, ids = self.requests[pick % len(self.requests)]
        template = "/v1/approvals/{code}"
        if step == "look":
            self.take(who, "participant", side, "GET", template, ids)
        elif step == "no":
            self.take(who, "participant", side, "POST", template + "/decline", ids)
        else:
            consent = {"text_version": "tests-1", "given_at": datetime.now(UTC).isoformat()}
            body = {"points": 10 * (1 + pick % 3), "consent": consent}
            self.take(who, "participant", side, "POST", template, ids, body)

    @precondition(lambda self: self.requests)
    @rule(pick=_PICK, who=_WHO)
    def learn(self, pick: int, who: str) -> None:
        side, ids = self.requests[pick % len(self.requests)]
        self.take(who, "bank", side, "GET", "/v1/bank/requests/{request_id}", ids)

    @rule(pick=_PICK)
    def listen(self, pick: int) -> None:
        side = self.side(pick)
        made = self.take("own", "bank", side, "POST", "/v1/webhooks", {}, {"url": "https://bank.example/more"})
        if made:
            self.webhooks.append((side, {"webhook_id": made["webhook_id"]}))

    @precondition(lambda self: self.webhooks)
    @rule(pick=_PICK, who=_WHO, step=st.sampled_from(["GET", "PATCH", "DELETE", "DELETE"]))
    def tune(self, pick: int, who: str, step: str) -> None:
        side, ids = self.webhooks[pick % len(self.webhooks)]
        body = {"state": "paused"} if step == "PATCH" else None
        self.take(who, "bank", side, step, "/v1/webhooks/{webhook_id}", ids, body)


async def tell(world: World, *, stories: int, steps: int, fixed: bool) -> Counter[str]:
    """Play so many stories; how often each kind of step was taken."""
    transport: Any = world.api.client._transport
    taken: Counter[str] = Counter()
    told = {"world": world, "judge": Judge(transport.app.openapi()), "loop": asyncio.get_running_loop()}
    machine = type("Told", (Stories,), told | {"taken": taken})
    profile = settings(
        max_examples=stories,
        stateful_step_count=steps,
        derandomize=fixed,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,) if fixed else (Phase.generate, Phase.shrink),
    )
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=profile)
    return taken


async def test_every_step_of_a_story_is_its_owners(world: World, database: Database) -> None:
    taken = await tell(world, stories=8, steps=30, fixed=True)
    assert taken.keys() >= {
        *("redemptions", "entitlement", "accept", "capture", "void", "cancel", "refund"),
        *("disputes", "answer", "decision", "withdrawal", "requests", "{code}", "{request_id}"),
        *("webhooks", "{webhook_id}"),
    }, taken
    assert (await check_everything(database.auditor, None, None)).findings == ()


@pytest.mark.soak
async def test_every_step_of_many_stories_is_its_owners(world: World, database: Database) -> None:
    await tell(world, stories=300, steps=60, fixed=False)
    assert (await check_everything(database.auditor, None, None)).findings == ()
