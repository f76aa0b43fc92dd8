"""The platform as the tests of counting drive it: orders of the reference model become the poster's commands, and what
the database holds afterwards becomes comparable."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from api.problems import PROBLEM_TYPES
from ledger.check import Finding, check_ledger
from service.activities.check import check_activities
from service.activities.intake import Refusal, Report, ReportedActivity, Worth, assess, event_key, subject_tag
from service.activities.licences import Licence
from service.clock import SHANGHAI
from service.poster import Poster
from service.posting import Command, Credited, Duplicate, Outcome, Retract, Reverse, Reversed, Settle, Settled
from service.quantification.readings import Readings, parse_readings
from tests.conftest import Database
from tests.running import Api, credit_code, organisation, pooled, vault_for_tests
from tests.service import counting_model as story

SCENARIOS = ("ride", "boarding", "home", "pv", "bonus", "walk")


@dataclass
class World:
    """One API with the rules of tests/rules/counting, its database, and a source of each name."""

    api: Api
    database: Database
    licences: dict[str, Licence]

    async def people(self, kinds: Sequence[str] = story.KINDS) -> "Stage":
        """Newly enrolled people, each linked to every source, and references that nobody else uses."""
        name = os.urandom(6).hex()
        found = [await self._enrol(f"{name} {number}", kind) for number, kind in enumerate(kinds)]
        return Stage(self, name, found)

    async def _enrol(self, subject: str, kind: str) -> UUID:
        consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
        links = [{"source": one.uri, "subject": subject, "consent": consent} for one in self.licences.values()]
        body: dict[str, Any] = {"kind": kind, "links": links}
        if kind != "citizen":
            body["organisation"] = organisation(credit_code())
        headers = self.api.bearer("operator")
        answer = await self.api.client.post("/v1/participants", headers=headers, json=body)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["participant_id"])


async def make_world(api: Api, database: Database) -> World:
    """Register the sources, each for every scenario."""
    licences = {}
    for name, grade in story.GRADES.items():
        scenarios = [f"counting-{scenario}" for scenario in SCENARIOS]
        uri = await api.source(grade=grade, scenarios=scenarios)
        licence = await api.platform.licence(uri)
        assert licence is not None
        licences[name] = licence
    return World(api, database, licences)


@asynccontextmanager
async def poster_on(world: World, *, lanes: int = 1, batch_items: int = 1_000) -> AsyncIterator[Poster]:
    """A poster with connections of its own, as of a process of its own."""
    platform = world.api.platform
    async with pooled(world.database.app, lanes + 1) as pool:
        poster = Poster(
            pool,
            platform.rules,
            platform.vault,
            platform.fresh,
            clock_offset=timedelta(0),
            lanes=lanes,
            queue_items=20_000,
            batch_items=batch_items,
        )
        try:
            yield poster
        finally:
            await poster.stop()


@dataclass
class Stage:
    """Some people and references of a story's own."""

    world: World
    name: str
    participant_ids: list[UUID]
    reports: dict[int, Report] = field(default_factory=dict)

    def activity(self, number: int, act: story.Act) -> ReportedActivity:
        """The event of this act: the same number is the same event."""
        begins, ends = _times(act)
        return ReportedActivity(
            event_id=self._event(number),
            subject=f"{self.name} {act.who}",
            type="org.tanpuhui.activity.v1",
            time=None,
            scenario=f"counting-{act.scenario}",
            started_at=begins,
            ended_at=ends,
            inputs=_inputs(act),
            basis={},
            vehicle=f"{self.name} vehicle {act.thing}" if act.scenario == "ride" else None,
            references=self._references(act),
            readings=_readings(act),
            baseline=_baseline(act),
            replaces=None if act.replaces is None else self._event(act.replaces),
        )

    def _event(self, number: int) -> str:
        return f"{self.name} event {number}"

    def _references(self, act: story.Act) -> dict[str, str]:
        named: dict[str, object] = {}
        if act.scenario == "ride":
            named = {"operator": "bikes", "order": act.order}
        if act.scenario in ("ride", "boarding") and act.payment is not None:
            named["payment"] = act.payment
        if act.scenario == "home":
            named = {"meter": act.thing, "address": act.address}
        if act.scenario == "pv":
            named = {"installation": act.thing, "address": act.address}
        # A letter between them: of references, letters and digits alone decide.
        return {name: "bikes" if name == "operator" else f"{self.name} n {value}" for name, value in named.items()}

    def report(self, number: int, act: story.Act, now: datetime | None = None) -> Report:
        """The act, judged: on its way to a poster."""
        platform, licence = self.world.api.platform, self.world.licences[act.source]
        judged_at = now or platform.fresh.clock()
        activity = self.activity(number, act)
        return assess(activity, licence, platform.rules, platform.keyring, platform.fresh, judged_at)

    def command(self, number: int, order: story.Order, orders: Sequence[story.Order]) -> Command:
        """What a poster is told; `orders` are the whole story."""
        fresh, keyring = self.world.api.platform.fresh, self.world.api.platform.keyring
        if isinstance(order, story.Act):
            self.reports[number] = self.report(number, order)
            return self.reports[number]
        if isinstance(order, story.Repeat):
            act = orders[order.of]
            assert isinstance(act, story.Act)
            return self.report(order.of, act)
        if isinstance(order, story.Retract):
            act = orders[order.of]
            assert isinstance(act, story.Act)
            licence = self.world.licences[act.source]
            return Retract(event_key(keyring, licence.uri, self._event(order.of)), fresh.id(), fresh.random(16))
        if isinstance(order, story.Reverse):
            act = orders[order.of]
            assert isinstance(act, story.Act)
            who, transfer_id = self.participant_ids[act.who], self.reports[order.of].activity_id
            return Reverse(who, transfer_id, order.reason, "operator", fresh.id(), fresh.random(16))
        licence = self.world.licences[order.source]
        return Settle(
            licence.source_id,
            licence.uri,
            subject_tag(keyring, licence.uri, f"{self.name} {order.who}"),
            "counting-home",
            date(2025, 1, 1),
            date(2026, 12, 31),
            {"tier": Decimal(order.tier)},
            b'{"tier":"%d"}' % order.tier,
            fresh.random(32),
            fresh.id(),
        )

    def commands(self, orders: Sequence[story.Order]) -> list[Command]:
        return [self.command(number, order, orders) for number, order in enumerate(orders)]

    def number(self, activity_id: UUID | str) -> int | None:
        """Which of the story's reports became this activity."""
        return next((number for number, one in self.reports.items() if str(one.activity_id) == str(activity_id)), None)

    def answer(self, outcome: Outcome) -> story.Answer:
        """An outcome in the model's words; a refusal must be a documented one."""
        if isinstance(outcome, Credited):
            return ("credited", outcome.co2e_mg, outcome.points, outcome.pending)
        if isinstance(outcome, Duplicate):
            return ("duplicate", self.answer(outcome.first))
        if isinstance(outcome, Reversed):
            number = self.number(outcome.transfer.reverses or UUID(int=0))
            return ("reversed", number, outcome.transfer.reason, outcome.repeated)
        if isinstance(outcome, Settled):
            credits = ((self.number(one.activity_id), one.outcome, one.co2e_mg, one.points) for one in outcome.credits)
            return ("settled", frozenset(credits))
        assert isinstance(outcome, Refusal)
        assert outcome.slug in PROBLEM_TYPES, outcome
        earlier = outcome.params.get("earlier")
        return ("refused", outcome.reason, None if earlier is None else self.number(earlier))


def _times(act: story.Act) -> tuple[datetime, datetime]:
    if act.monthly:
        return _month(act.begins), _month(act.begins + act.lasts)
    eight = datetime(*story.FIRST_DAY.timetuple()[:3], 8, tzinfo=SHANGHAI)
    return eight + timedelta(minutes=act.begins), eight + timedelta(minutes=act.ends)


def _month(index: int) -> datetime:
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=SHANGHAI)


def _inputs(act: story.Act) -> dict[str, Decimal]:
    if act.scenario in ("ride", "bonus", "walk"):
        return {"distance_km": Decimal(act.amount) / 1000}
    return {"stops": Decimal(act.amount)} if act.scenario == "boarding" else {}


def _series(first: int, months: int, kwh: int) -> Readings:
    spans = [[_month(first + n).isoformat(), _month(first + n + 1).isoformat(), str(kwh)] for n in range(months)]
    return parse_readings({"kind": "interval", "spans": spans})


def _readings(act: story.Act) -> dict[str, Readings]:
    if not act.monthly:
        return {}
    return {"use_kwh" if act.scenario == "home" else "pv_kwh": _series(act.begins, act.lasts, act.amount)}


def _baseline(act: story.Act) -> dict[str, Readings]:
    return {"baseline_kwh": _series(act.begins - 12, act.lasts, act.before)} if act.scenario == "home" else {}


async def fetch(database: Database, query: str, *values: object) -> list[asyncpg.Record]:
    """Read as the superuser."""
    connection = await asyncpg.connect(database.admin)
    try:
        return await connection.fetch(query, *values)
    finally:
        await connection.close()


@dataclass(frozen=True)
class Counted:
    """Everything that is stored of what some people's credits hold and use."""

    claims: set[tuple[Any, ...]]
    spans: set[tuple[Any, ...]]
    presence: set[tuple[Any, ...]]
    totals: set[tuple[Any, ...]]
    provisional: set[tuple[Any, ...]]
    tallies: dict[tuple[Any, ...], int]


async def stored(stage: Stage) -> Counted:
    """What the database holds of these people."""
    tables = {
        "claim": "tag, participant_id, activity_id",
        "claim_span": "subject_tag, started_at, ended_at, use, participant_id, activity_id",
        "presence": "participant_id, exclusive_group, started_at, ended_at, activity_id",
        "reading_total": "tag, fingerprint, participant_id, activity_id",
        "provisional": "participant_id, activity_id, awaits",
        "tally": "participant_id, cap, window_start, used",
    }
    rows = {}
    connection = await asyncpg.connect(stage.world.database.admin)
    try:
        for table, columns in tables.items():
            query = f"SELECT {columns} FROM service.{table} WHERE participant_id = ANY($1)"
            found = [tuple(row) for row in await connection.fetch(query, stage.participant_ids)]
            assert len(found) == len(set(found))
            rows[table] = found
    finally:
        await connection.close()
    return Counted(
        set(rows["claim"]),
        set(rows["claim_span"]),
        set(rows["presence"]),
        set(rows["reading_total"]),
        set(rows["provisional"]),
        {row[:3]: row[3] for row in rows["tally"] if row[3]},
    )


def expected(stage: Stage, model: story.Model) -> Counted:
    """What it should hold: the demands of the credits that stand, and nothing else."""
    claims, spans, presence, totals, provisional = set(), set(), set(), set(), set()
    for credit in model.credits.values():
        report, who = stage.reports[credit.number], stage.participant_ids[credit.act.who]
        assert isinstance(report.verdict, Worth)
        demands, mine = report.verdict.demands, (who, report.activity_id)
        if credit.stands and credit.awaits:
            provisional.add((*mine, credit.awaits))
        if credit.stands and demands.methodology.exclusive:
            presence.add((who, demands.methodology.exclusive, demands.since, demands.until, report.activity_id))
        if credit.stands:
            claims |= {(tag, *mine) for tag, _ in demands.claims}
            spans |= {(span.subject, demands.since, demands.until, span.use, *mine) for span in demands.spans}
            totals |= {(tag, fingerprint, *mine) for tag, fingerprint, _ in demands.totals}
    tallies = {
        (participant_id, cap, window): used
        for who, participant_id in enumerate(stage.participant_ids)
        for (cap, window), used in model.tallies(who).items()
    }
    return Counted(claims, spans, presence, totals, provisional, tallies)


async def balances(stage: Stage) -> list[dict[str, int]]:
    """Each person's balances, as stored."""
    rows = await fetch(
        stage.world.database,
        "SELECT participant_id, co2e_available, co2e_pending, co2e_debt, points_available, points_pending, points_debt "
        "FROM ledger.account WHERE participant_id = ANY($1)",
        stage.participant_ids,
    )
    found = {row["participant_id"]: {name: row[name] for name in list(row.keys())[1:]} for row in rows}
    return [found[each] for each in stage.participant_ids]


async def findings(database: Database) -> list[Finding]:
    """What the checks of the ledger and of everything beside it find."""
    connection = await asyncpg.connect(database.auditor)
    try:
        return [
            *(await check_ledger(connection)).findings,
            *await check_activities(connection, vault_for_tests()),
        ]
    finally:
        await connection.close()


@asynccontextmanager
async def crowd(world: World, number: int) -> AsyncIterator[list[Poster]]:
    """As many posters, each with connections of its own, as of as many processes; nothing deadlocks meanwhile."""
    async with no_deadlock(world.database), AsyncExitStack() as stack:
        yield [await stack.enter_async_context(poster_on(world)) for _ in range(number)]


async def post_at_once(posters: Sequence[Poster], batches: Sequence[Sequence[Command]]) -> list[list[Outcome]]:
    """Post a batch through each poster at the same time."""
    return await asyncio.gather(*(poster.post(batch) for poster, batch in zip(posters, batches, strict=True)))


@asynccontextmanager
async def no_deadlock(database: Database) -> AsyncIterator[None]:
    """Nothing deadlocks meanwhile. A server process counts its deadlocks when it ends, so the posters end inside."""

    async def count() -> int:
        rows = await fetch(database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        number: int = rows[0]["deadlocks"]
        return number

    before = await count()
    yield
    await asyncio.sleep(0.1)
    assert await count() == before
