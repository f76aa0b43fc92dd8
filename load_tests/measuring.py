"""One platform measured: its journeys in rounds, the echo between them, and what each process took for them."""

import asyncio
import itertools
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import orjson

from api.supervisor import RunningPlatform
from load_tests.client import LoadFailed, Measured, drive, http_request
from load_tests.events import BATCH, EVENT, SOURCE, encoded_rides
from load_tests.machine import cpu_seconds, describe_machine, file_system
from load_tests.mixed import COVERED_FROM, MIXED_REGISTRATION, REASONS, MixedEvents, covered
from load_tests.redeeming import ACCEPTED, BANK, OFFER, SAVERS, Redeeming
from load_tests.report import STORED, TARGETS, Figures, JourneyFigures, Stored
from load_tests.seed import Rider, enrol_all, make_riders
from service.database import open_pool
from service.keyring import load_keyring
from service.vault import Vault

BATCH_ITEMS = 500
MOST_ROWS = 5_000  # of a register in one request
READERS = 500  # participants who read their balance again and again, each with a token of their own
# Events prepared for a second of a stretch; a faster platform ends it early, which changes no rate.
MOST_RIDES_PER_SECOND = 16_000
MOST_MIXED_PER_SECOND = 10_000
MOST_HOLDS_PER_SECOND = 5_000
RECEIPT_SEED = 500
RIDES_EACH, SAVING_SEED = 3, 1_000  # for everybody who will redeem; every seed from here on is one ride
ECHO_SHARE = 0.5  # how long an echo lasts beside what it is compared with, which has two of them
ECHO_BODIES = 1_000
WARM_UP_S = 1.0
DRAINED_WITHIN_S = 120.0
TOKEN_LIFE = timedelta(hours=2)

# What is written for every activity. The queue between them is emptied as it fills, and its space is used again.
_STATE = ("ledger.transfer", "ledger.movement", "ledger.account", "ledger.bucket", "ledger.leaf",
          "service.event_key", "service.activity", "service.evidence")  # fmt: skip
# And where everything is counted once.
_COUNTED = ("service.claim", "service.claim_subject", "service.claim_span", "service.presence", "service.tally")


@dataclass(frozen=True, slots=True)
class Journey:
    """One thing measured: its requests for a stretch of so many seconds, on how many connections, to which port."""

    name: str
    port: int
    clients: int
    items: int  # counted units in one request
    expected: tuple[int, ...]
    requests: Callable[[float], Iterator[bytes]]
    stored: str | None = None  # under which heading what it writes is told, if it writes
    reasons: tuple[str, ...] = ()  # why an item may be refused; without them all are credited
    kept: Callable[[Sequence[bytes]], None] | None = None  # who reads the answers afterwards


@dataclass(frozen=True, slots=True)
class Part:
    """One of the platforms measured: its API processes, and as many of the echo; the journeys, and the end of their
    names in the report."""

    processes: int
    journeys: tuple[str, ...]
    suffix: str = ""


@dataclass(slots=True)
class Stretches:
    """What the stretches of one journey saw, in order, and the processor time taken in them by name of process."""

    measured: list[Measured] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)  # leaves without a place in the log when the load stopped
    outcomes: Counter[str] = field(default_factory=Counter)  # of a batch's items: credited, duplicate, or the reason


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    seconds: float
    rounds: int
    participants: int
    processes: int
    clients: int
    batch_clients: int
    data_dir: Path
    results: Path


class Bench:
    """One run: the platform, the echo, and what is sent to them."""

    def __init__(
        self, platform: RunningPlatform, part: Part, options: Options, echo_port: int, echo_pids: list[int]
    ) -> None:
        self.platform, self.part, self.options, self.echo_port = platform, part, options, echo_port
        self.port = urlsplit(platform.url).port or 80
        self.riders = make_riders(options.participants)
        citizens = [rider for rider in self.riders if rider.code is None]
        self.provider = platform.issuer.issue("provider", "load-tests", source=SOURCE, ttl=TOKEN_LIFE)
        self.operator = platform.issuer.issue("operator", "load-tests", ttl=TOKEN_LIFE)
        self.rides = encoded_rides([rider.subject for rider in citizens], seed=1)
        savers = citizens[:SAVERS]
        self.savers = [rider.subject for rider in savers]
        people = [rider.participant_id for rider in savers]
        tokens = [platform.issuer.issue("participant", str(each), ttl=TOKEN_LIFE) for each in people]
        bank = platform.issuer.issue("bank", "load-tests", bank=BANK, ttl=TOKEN_LIFE)
        self.redeeming = Redeeming(people, tokens, bank)
        self.mixed = MixedEvents(self.riders, seed=1).batches(BATCH_ITEMS)
        self.grown = {heading: Counter[str]() for heading in STORED}
        self.posted = Counter[str]()
        self.receipts: list[float] = []
        pids = {name: [pid] for name, pid in platform.pids().items()}
        api = [pid for name, own in pids.items() if name.startswith("api ") for pid in own]
        self.pids = {name: own for name, own in pids.items() if not name.startswith("api ")}
        self.pids = {"api": api, **self.pids, "echo": echo_pids}
        self.echo, *all_journeys = self._journeys()
        self.journeys = [journey for journey in all_journeys if journey.name in part.journeys]
        self.seen = {journey.name: Stretches() for journey in (self.echo, *self.journeys)}

    def _journeys(self) -> list[Journey]:
        options = self.options
        echoed = [self._post("/echo", "application/json", next(self.rides)) for _ in range(ECHO_BODIES)]
        reads = [self._balance(rider) for rider in self.riders[:READERS]]
        return [
            Journey("echo", self.echo_port, options.clients, 1, (200,), lambda _: itertools.cycle(echoed)),
            Journey("singles", self.port, options.clients, 1, (201,), self._singles, "plain"),
            Journey("batches", self.port, options.batch_clients, BATCH_ITEMS, (200,), self._batches, "plain"),
            Journey("mixed", self.port, options.batch_clients, BATCH_ITEMS, (200,), self._mixed, "mixed", REASONS),
            Journey("balance", self.port, options.clients, 1, (200,), lambda _: itertools.cycle(reads)),
            Journey("holds", self.port, options.clients, 1, (201,), self._holds, kept=self.redeeming.keep),
            Journey("captures", self.port, options.clients, 1, (200,), self._captures),
        ]

    def _post(self, path: str, kind: str, body: bytes) -> bytes:
        return http_request("POST", path, token=self.provider, content_type=kind, body=body)

    def _balance(self, rider: Rider) -> bytes:
        participant_id = str(rider.participant_id)
        token = self.platform.issuer.issue("participant", participant_id, ttl=TOKEN_LIFE)
        return http_request("GET", f"/v1/participants/{participant_id}/balance", token=token)

    def _singles(self, seconds: float) -> Iterator[bytes]:
        count = int(seconds * MOST_RIDES_PER_SECOND / 2)
        return iter([self._post("/v1/activities", EVENT, next(self.rides)) for _ in range(count)])

    def _batches(self, seconds: float) -> Iterator[bytes]:
        count = int(seconds * MOST_RIDES_PER_SECOND / BATCH_ITEMS)
        bodies = (b"[" + b",".join(itertools.islice(self.rides, BATCH_ITEMS)) + b"]" for _ in range(count))
        return iter([self._post("/v1/activities", BATCH, body) for body in bodies])

    def _mixed(self, seconds: float) -> Iterator[bytes]:
        count = int(seconds * MOST_MIXED_PER_SECOND / BATCH_ITEMS)
        return iter([self._post("/v1/activities", BATCH, next(self.mixed)) for _ in range(count)])

    def _holds(self, seconds: float) -> Iterator[bytes]:
        return self.redeeming.holds(int(seconds * MOST_HOLDS_PER_SECOND))

    def _captures(self, seconds: float) -> Iterator[bytes]:
        return self.redeeming.captures(int(seconds * MOST_HOLDS_PER_SECOND))

    async def run(self) -> Figures:
        await self._enrol()
        await self._earn()
        say("预热", "warming up")
        for journey in (self.echo, *self.journeys):
            await self._stretch(journey, WARM_UP_S)
        await self._drained()
        for seen in self.seen.values():
            seen.outcomes.clear()
        length = self.options.seconds / self.options.rounds
        await self._record(self.echo, length * ECHO_SHARE)
        for number in range(self.options.rounds):
            say(f"第 {number + 1} 轮，共 {self.options.rounds} 轮", f"round {number + 1} of {self.options.rounds}")
            for journey in self.journeys:
                await self._record(journey, length)
                await self._record(self.echo, length * ECHO_SHARE)
        stored = {heading: Stored(self.posted[heading], self.grown[heading]) for heading in STORED}
        return await self._figures(stored)

    async def _enrol(self) -> None:
        settings, platform = self.platform.settings, self.platform
        say(f"登记 {len(self.riders):,} 名参与者", f"enrolling {len(self.riders):,} participants")
        async with httpx.AsyncClient(base_url=platform.url) as client:
            headers = {"Authorization": f"Bearer {self.operator}"}
            (await client.put("/v1/sources", headers=headers, json=MIXED_REGISTRATION)).raise_for_status()
            rows = [{"unified_social_credit_code": code, "valid_from": COVERED_FROM} for code in covered(self.riders)]
            for start in range(0, len(rows), MOST_ROWS):
                entries = {"scheme": "load-test", "source": "load tests", "rows": rows[start : start + MOST_ROWS]}
                answer = await client.post("/v1/registers/coverage/imports", headers=headers, json=entries)
                answer.raise_for_status()
        async with await open_pool(platform.urls.app, name="load tests", size=1) as pool, pool.acquire() as connection:
            await enrol_all(
                connection,
                self.riders,
                keyring=load_keyring(settings.keyring_file),
                vault=Vault(settings.vault_key_file),
                source_uri=SOURCE,
                programme=settings.programme,
                region=settings.region,
            )
        async with self._as_owner() as connection:
            await connection.execute("ANALYZE")

    async def _earn(self) -> None:
        """A bank, a pool and an offer, and points for those who will redeem."""
        second = self.platform.issuer.issue("operator", "load-tests-2", ttl=TOKEN_LIFE)
        async with httpx.AsyncClient(base_url=self.platform.url, timeout=60) as client:
            await self.redeeming.set_up(client, (self.operator, second))
            headers = {"Authorization": f"Bearer {self.provider}", "Content-Type": BATCH}
            mine = enumerate(self.savers * RIDES_EACH, SAVING_SEED)
            each = [next(encoded_rides([subject], seed)) for seed, subject in mine]
            for start in range(0, len(each), BATCH_ITEMS):
                body = b"[" + b",".join(each[start : start + BATCH_ITEMS]) + b"]"
                (await client.post("/v1/activities", headers=headers, content=body)).raise_for_status()

    async def _record(self, journey: Journey, seconds: float) -> None:
        sizes = await self._table_sizes() if journey.stored else {}
        seen, before = self.seen[journey.name], cpu_seconds(self.pids)
        looking = asyncio.create_task(self._receipt(seconds / 2)) if journey.items > 1 else None
        measured = await self._stretch(journey, seconds)
        if looking is not None:
            self.receipts.append(await looking)
        queued = await self._drained() if journey.stored else 0
        after = cpu_seconds(self.pids)
        if journey.stored:
            self.posted[journey.stored] += len(measured.latencies) * journey.items
            for table, size in (await self._table_sizes()).items():
                self.grown[journey.stored][table] += size - sizes[table]
        seen.measured.append(measured)
        seen.cpu.append({name: after[name] - before[name] for name in after} | {"generator": measured.cpu})
        seen.queued.append(queued)

    async def _receipt(self, after_s: float) -> float:
        """Post one ride in the middle of a stretch; seconds from its answer until its receipt is there."""
        await asyncio.sleep(after_s)
        rider = self.riders[0]
        headers = {"Authorization": f"Bearer {self.provider}", "Content-Type": EVENT}
        mine = self.platform.issuer.issue("participant", str(rider.participant_id), ttl=TOKEN_LIFE)
        body = next(encoded_rides([rider.subject], RECEIPT_SEED + len(self.receipts)))
        async with httpx.AsyncClient(base_url=self.platform.url, timeout=60) as client:
            answer = await client.post("/v1/activities", headers=headers, content=body)
            credit, began = answer.raise_for_status().json()["transfer_id"], time.monotonic()
            path = f"/v1/participants/{rider.participant_id}/transfers/{credit}/receipt"
            while (found := await client.get(path, headers={"Authorization": f"Bearer {mine}"})).status_code != 200:
                if time.monotonic() - began > DRAINED_WITHIN_S:
                    raise LoadFailed(f"no receipt after {DRAINED_WITHIN_S:.0f} s: {found.text[:500]}")
                await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def _stretch(self, journey: Journey, seconds: float) -> Measured:
        measured = await drive(
            journey.port,
            journey.requests(seconds),
            clients=journey.clients,
            seconds=seconds,
            expected=journey.expected,
            keep_bodies=journey.items > 1 or journey.kept is not None,
        )
        if measured.unexpected is not None:
            raise LoadFailed(f"{journey.name}: answers {dict(measured.statuses)}, expected {journey.expected}; the "
                             f"first other one: {measured.unexpected[:500]!r}")  # fmt: skip
        if journey.kept is not None:
            journey.kept(measured.bodies)
            measured.bodies.clear()
            async with self._as_owner() as connection:
                await connection.execute(ACCEPTED, OFFER)
        found = Counter[str]()
        for body in measured.bodies:
            found.update(map(_outcome, orjson.loads(body)["outcomes"]))
        measured.bodies.clear()
        allowed = {"credited", *journey.reasons, *(("duplicate",) if journey.reasons else ())}
        if not found.keys() <= allowed:
            raise LoadFailed(f"{journey.name}: expected none but {sorted(allowed)} in the batches; came {dict(found)}")
        self.seen[journey.name].outcomes += found
        return measured

    async def _lag(self) -> dict[str, int]:
        async with httpx.AsyncClient(base_url=self.platform.url) as client:
            answer = (await client.get("/v1/health/lag")).raise_for_status()
        lag: dict[str, int] = answer.json()
        return lag

    async def _drained(self) -> int:
        """Wait until every leaf is in the log and the totals, and say how many were not when this was called."""
        first = await self._lag()
        give_up = time.monotonic() + DRAINED_WITHIN_S
        lag = first
        while lag["queued"] or lag["unfolded"]:
            if time.monotonic() > give_up:
                raise LoadFailed(f"the log is not up to date after {DRAINED_WITHIN_S:.0f} s: {lag}")
            await asyncio.sleep(0.1)
            lag = await self._lag()
        return first["queued"]

    def _as_owner(self) -> "_Connected":
        return _Connected(self.platform.urls.owner)

    async def _table_sizes(self) -> dict[str, int]:
        async with self._as_owner() as connection:
            rows = await connection.fetch(
                "SELECT name, pg_total_relation_size(name::regclass) AS bytes FROM unnest($1::text[]) AS t (name)",
                [*_STATE, *_COUNTED],
            )
        return {row["name"]: row["bytes"] for row in rows}

    async def _figures(self, stored: Mapping[str, Stored]) -> Figures:
        async with self._as_owner() as connection:
            server = await connection.fetchval("SHOW server_version")
        settings, options = self.platform.settings, self.options
        echoes = [_rate(measured) for measured in self.seen["echo"].measured]
        changed = sorted(settings.model_fields_set - {"data_dir", "host", "port", "rules_dir", "api_processes"})
        return Figures(
            date=datetime.now(UTC),
            machine=describe_machine()
            | {"postgresql": str(server), "file_system": file_system(settings.data_dir.absolute())},
            settings={name: str(getattr(settings, name)) for name in changed},
            participants=options.participants,
            seconds=options.seconds,
            rounds=options.rounds,
            stored=stored,
            journeys=[
                self._journey_figures(self.echo, [1.0]),
                *(
                    self._journey_figures(journey, self._ratios(place, journey, echoes))
                    for place, journey in enumerate(self.journeys)
                ),
            ],
            targets=TARGETS,
            receipts=self.receipts,
        )

    def _journey_figures(self, journey: Journey, ratios: list[float]) -> JourneyFigures:
        seen = self.seen[journey.name]
        latencies = sorted(latency for measured in seen.measured for latency in measured.latencies)
        rates = [_rate(measured) * journey.items for measured in seen.measured]
        counted = len(latencies) * journey.items
        cpu = {name: sum(stretch[name] for stretch in seen.cpu) / counted for name in seen.cpu[0]}
        return JourneyFigures(
            name=journey.name + self.part.suffix,
            processes=self.part.processes,
            clients=journey.clients,
            items=journey.items,
            requests=len(latencies),
            rate=statistics.median(rates),
            rate_range=(min(rates), max(rates)),
            p50=_quantile(latencies, 0.50),
            p99=_quantile(latencies, 0.99),
            ratio=statistics.median(ratios),
            ratio_range=(min(ratios), max(ratios)),
            cpu=cpu,
            most_queued=max(seen.queued),
            outcomes=dict(seen.outcomes.most_common()),
        )

    def _ratios(self, place: int, journey: Journey, echoes: Sequence[float]) -> list[float]:
        """Counted units per second of each stretch, divided by the requests of the echo just before and after it."""
        ratios = []
        for number, measured in enumerate(self.seen[journey.name].measured):
            at = number * len(self.journeys) + place
            ratios.append(_rate(measured) * journey.items / statistics.mean(echoes[at : at + 2]))
        return ratios


class _Connected:
    """A connection for the length of an `async with` block."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> "asyncpg.Connection[asyncpg.Record]":
        self._connection = await asyncpg.connect(self._url)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


def _outcome(item: Mapping[str, Any]) -> str:
    """`credited`, `duplicate`, or the slug of the problem that refused it."""
    if item["outcome"] != "refused":
        return str(item["outcome"])
    return str(item["problem"]["type"]).rpartition(":")[2]


def _rate(measured: Measured) -> float:
    return len(measured.latencies) / measured.elapsed


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def say(zh: str, en: str) -> None:
    print(f"{zh}  {en}", file=sys.stderr, flush=True)
