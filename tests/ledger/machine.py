"""A machine that drives the real platform and the reference model through the same story and compares their answers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import asyncpg
from anyio.from_thread import BlockingPortal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger.check import check_ledger
from service.activities.check import check_activities
from service.worker import drain
from tests.conftest import Database
from tests.ledger.model import SHANGHAI, Answer, Model, Rider, answer_of
from tests.running import Api, pooled, ride, vault_for_tests

T = TypeVar("T")

MONTHS = (0, 1, 25, 26, 51)  # of a story: the first buckets have lapsed in 25, the next in 26, all others in 51
RIDERS = 5  # few, so that much happens to each


@dataclass
class World:
    """The real platform: an API for each month of the story, over one database."""

    portal: BlockingPortal
    database: Database
    first_month: int
    apis: Mapping[int, Api]

    def call(self, work: Callable[..., Awaitable[T]], *values: Any) -> T:
        """Run this in the API's event loop."""
        return self.portal.call(work, *values)


_ORDINAL = st.integers(0, 10**6)
_METRES = st.integers(100, 4999) | st.sampled_from([0, 99, 100, 101, 5000, 5001, 29_999, 30_000, 30_001])
_SECONDS = st.sampled_from([720] * 12 + [-1, 0, 59, 60, 1200, 4321, 10_800, 10_801])
_ITEMS = st.lists(
    st.tuples(
        st.sampled_from(["new"] * 5 + ["repeat", "repeat", "conflict", "unlinked", "other source", "malformed"]),
        _ORDINAL,
        _METRES,
        _SECONDS,
    ),
    min_size=1,
    max_size=12,
)
_REASONS = st.sampled_from(["posted_in_error", "posted_in_error", "source_retracted"])


class Journey(RuleBasedStateMachine):
    """One story: every rule does the same to the platform and to the model and compares the answers."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.model = Model(world.first_month)
        self.sources: list[str] = []
        self.numbers = 0
        self.figures: dict[tuple[str, str], tuple[int, int]] = {}

    @property
    def api(self) -> Api:
        return self.world.apis[self.model.month]

    @property
    def riders(self) -> list[Rider]:
        return list(self.model.riders.values())

    def event(
        self, source: str, subject: str, metres: int, seconds: int, event_id: str | None = None
    ) -> dict[str, Any]:
        self.numbers += 1
        start = datetime(2026, 5, 1, 8, tzinfo=SHANGHAI)
        times = {"started_at": start.isoformat(), "ended_at": (start + timedelta(seconds=seconds)).isoformat()}
        km = f"{metres // 1000}.{metres % 1000:03}"
        event = ride(source, subject, event_id or f"event {self.numbers}", km=km, **times)
        self.figures.setdefault((source, event["id"]), (metres, seconds))
        return event

    @initialize(start=st.sampled_from(["plain", "indebted", "two buckets"]))
    def begin(self, start: str) -> None:
        """Two riders with credits. The first may owe points that lapsed before they were reversed; or both have a
        second bucket, and the first has lost a credit of it."""
        self.sources = [self.world.call(self.api.source) for _ in range(2)]
        rides = [("new", 0, 1000 * km, 720) for km in (1, 2, 3)]
        for source in self.sources:
            self.enrol(source)
            self.post(rides, source)
        if start == "plain":
            return
        self.wait(1 if start == "indebted" else 0)
        if start == "two buckets":
            for source in self.sources:
                self.post(rides, source)
        for transfer in list(self.riders[0].credits)[-2:]:
            self.reverse_one(self.riders[0], transfer, "posted_in_error", 1)

    def enrol(self, source: str) -> None:
        person = self.world.call(self.api.person, source)
        self.model.riders[source, person.subject] = Rider(person.participant_id, source, person.subject, person.link_id)

    @precondition(lambda self: len(self.riders) < RIDERS)
    @rule(place=_ORDINAL)
    def enrol_somebody(self, place: int) -> None:
        self.enrol(self.sources[place % 2])

    def drawn(self, kind: str, place: int, metres: int, seconds: int, token: str) -> dict[str, Any]:
        """An event of this kind, of or about what is there already."""
        mine = [rider for rider in self.riders if rider.source == token]
        rider = mine[place % len(mine)]
        known = [body for (source, _), (body, _) in self.model.events.items() if source == token]
        if kind in ("repeat", "conflict") and known:
            earlier: dict[str, Any] = known[place % len(known)]
            return earlier if kind == "repeat" else earlier | {"subject": earlier["subject"] + "?"}
        if kind == "unlinked":
            return self.event(token, "somebody unknown", metres, seconds)
        if kind == "other source":
            return self.event(self.sources[self.sources.index(token) - 1], rider.subject, metres, seconds)
        event = self.event(token, rider.subject, metres, seconds)
        return {"id": event["id"]} if kind == "malformed" else event

    def expect(self, token: str, event: Mapping[str, Any], answer: Answer) -> None:
        metres, seconds = self.figures.get((event.get("source", ""), event["id"]), (0, 0))
        transfer_id = answer[1] if answer[0] == "credited" else None
        expected = self.model.post(token, event, metres, seconds, transfer_id)
        assert answer == expected, f"{event}: the platform said {answer}, the model {expected}"

    @rule(items=_ITEMS, place=_ORDINAL)
    def post_a_batch(self, items: Sequence[tuple[str, int, int, int]], place: int) -> None:
        self.post(items, self.sources[place % 2], repeats=place % 3)

    def post(self, items: Sequence[tuple[str, int, int, int]], token: str, *, repeats: int = 0) -> None:
        events = [self.drawn(*item, token) for item in items]
        events += events[:repeats]  # in the same batch
        for event, outcome in zip(events, self.world.call(self.api.report, token, events), strict=True):
            self.expect(token, event, answer_of(outcome))

    @rule(place=_ORDINAL, kind=st.sampled_from(["new", "new", "repeat", "conflict"]), metres=_METRES, seconds=_SECONDS)
    def post_one(self, place: int, kind: str, metres: int, seconds: int) -> None:
        token = self.sources[place % 2]
        event = self.drawn(kind, place, metres, seconds, token)
        answer = self.world.call(self.api.report_one, token, event)
        content = answer.json()
        if answer.is_success:
            told = answer_of(content)
            assert answer.status_code == {"credited": 201, "duplicate": 200}[told[0]]
        else:  # a refusal is told in the same words again, so only the model knows a repeat
            told = answer_of({"outcome": "refused", "problem": content})
            first = self.model.events.get((token, event["id"]))
            if first and first == (event, told):
                told = ("duplicate", told)
        self.expect(token, event, told)

    @rule(place=_ORDINAL, items=_ITEMS, times=st.integers(2, 4))
    def post_the_same_at_once(self, place: int, items: Sequence[tuple[str, int, int, int]], times: int) -> None:
        """Everybody sends the same new rides at the same time: each is answered once as new, else as a repeat."""
        token = self.sources[place % 2]
        events = [self.drawn("new", *item[1:], token) for item in items]
        owing = {rider.subject for rider in self.riders if rider.debt or rider.mg_debt}
        events = [event for event in events if event["subject"] not in owing]  # debts depend on which ride came first
        if not events:
            return

        async def together() -> list[list[dict[str, Any]]]:
            return await asyncio.gather(*(self.api.report(token, events) for _ in range(times)))

        answers = [[answer_of(outcome) for outcome in outcomes] for outcomes in self.world.call(together)]
        for event, *told in zip(events, *answers, strict=True):
            told.sort(key=lambda answer: answer[0] == "duplicate")
            for answer in told:
                self.expect(token, event, answer)

    @rule(place=_ORDINAL)
    def unlink(self, place: int) -> None:
        rider = self.riders[place % len(self.riders)]
        path = f"/v1/participants/{rider.participant_id}/links/{rider.link_id}"
        if rider.link_id is not None:
            answer = self.world.call(_delete, self.api, path)
            assert answer == 204
            rider.link_id = None

    @rule(place=_ORDINAL)
    def link_again(self, place: int) -> None:
        unlinked = [rider for rider in self.riders if rider.link_id is None]
        if unlinked:
            rider = unlinked[place % len(unlinked)]
            found, rider.link_id = self.world.call(_link, self.api, rider.source, rider.subject)
            assert found == rider.participant_id

    @precondition(lambda self: any(rider.credits for rider in self.riders))
    @rule(place=_ORDINAL, reason=_REASONS, times=st.integers(1, 3), count=st.integers(1, 4))
    def reverse(self, place: int, reason: str, times: int, count: int) -> None:
        """Take some credits of one rider back, each perhaps several times at once."""
        rider = next(rider for rider in self.riders[place % len(self.riders) :] + self.riders if rider.credits)
        transfers = list(rider.credits)
        for number in range(count):
            self.reverse_one(rider, transfers[(place + number) % len(transfers)], reason, times)

    def reverse_one(self, rider: Rider, transfer: str, reason: str, times: int) -> None:
        credit = rider.credits[transfer]
        rider.lapse(self.model.month)

        async def together() -> list[Any]:
            calls = (self.api.reverse(rider.participant_id, transfer, reason) for _ in range(times))
            return await asyncio.gather(*calls)

        answers = self.world.call(together)
        statuses = sorted((answer.status_code for answer in answers), reverse=True)
        if credit.reason is None:
            assert statuses == [201] + [200] * (times - 1)
            credit.reason, credit.reversal = reason, answers[0].json()["transfer_id"]
            rider.take_back(credit)
        else:
            assert statuses == [200 if credit.reason == reason else 409] * times
        ids = {answer.json()["transfer_id"] for answer in answers if answer.is_success}
        assert ids <= {credit.reversal}

    @rule(place=_ORDINAL)
    def wait_some_months(self, place: int) -> None:
        self.wait(place % 2)

    def wait(self, place: int) -> None:
        later = [month for month in self.world.apis if month > self.model.month]
        if later:
            self.model.month = later[place % len(later)]

    @rule()
    def sequence(self) -> None:
        self.world.call(_drained, self.world.database)

    @invariant()
    def balances_agree(self) -> None:
        for rider in self.riders:
            found = self.world.call(self.api.balance, rider.participant_id)
            points, reduction = found["points"], found["reduction"]
            told = (
                points["available"],
                points["debt"],
                points["pending"],
                points["expiring"],
                reduction["credited_mg"],
                reduction["debt_mg"],
                reduction["pending_mg"],
                found["transfers"],
            )
            assert told == rider.balance(self.model.month)
            assert min(points["available"], points["debt"], points["held"], points["pending"]) >= 0

    def teardown(self) -> None:
        for rider in self.riders:
            statement = self.world.call(_statement, self.api, rider.participant_id)
            assert [transfer["counter"] for transfer in statement] == list(range(rider.transfers, 0, -1))
            credits = {transfer["transfer_id"] for transfer in statement if transfer["kind"] == "credit"}
            assert credits == rider.credits.keys()
        sums, findings = self.world.call(audited, self.world.database)
        assert findings == []
        assert all(amount == 0 for amount in sums.values()), sums


async def _statement(api: Api, participant_id: str) -> list[dict[str, Any]]:
    return await api.statement(participant_id, limit=20)


async def _delete(api: Api, path: str) -> int:
    return (await api.client.delete(path, headers=api.bearer("operator"))).status_code


async def _link(api: Api, source: str, subject: str) -> tuple[str, str]:
    consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
    body = {"kind": "citizen", "links": [{"source": source, "subject": subject, "consent": consent}]}
    answer = await api.client.post("/v1/participants", headers=api.bearer("operator"), json=body)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    return made["participant_id"], made["links"][0]["link_id"]


async def _drained(database: Database) -> None:
    async with pooled(database.sequencer) as pool:
        await drain(pool)


_SUMS = """
    SELECT asset, sum(amount)::int8 AS amount FROM (
        SELECT 'points' AS asset, points_available + points_pending + points_held - points_debt AS amount
        FROM ledger.account
        UNION ALL SELECT 'co2e_mg', co2e_available + co2e_pending + co2e_held - co2e_debt FROM ledger.account
        UNION ALL SELECT asset, amount FROM ledger.system_total
    ) AS side GROUP BY asset
"""


async def audited(database: Database, *, activities: bool = True) -> tuple[dict[str, int], list[Any]]:
    """Once all is sequenced and folded: the sum of every account per asset, and what the checks find."""
    await _drained(database)
    connection = await asyncpg.connect(database.auditor)
    sums = {row["asset"]: row["amount"] for row in await connection.fetch(_SUMS)}
    findings = list((await check_ledger(connection)).findings)
    if activities:
        findings += await check_activities(connection, vault_for_tests())
    await connection.close()
    return sums, findings
