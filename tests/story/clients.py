"""What the stories share: the platform as real processes that can be killed, providers that send every event until it
is answered, and the comparison of what they were answered with what the ledger holds.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

import asyncpg
import httpx
import orjson

from api.auth import DevelopmentIssuer
from ledger.check import check_ledger
from service.embedded.processes import free_port, processes_in
from service.settings import PREFIX
from tests.running import BATCH, EVENT, ride

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 120.0  # five seconds on an idle machine
STOP_WITHIN_S = 60.0
ANSWER_WITHIN_S = 90.0  # however often it had to be sent
PEOPLE = 48  # some batches cross and wait for each other, others pass each other while they commit
CLIENTS = 16
COMMIT_DELAY_US = 100_000
_PROC = Path("/proc")


@contextmanager
def room() -> Iterator[Path]:
    """A directory for data directories, with a space and a Chinese character in its path; in memory where there is
    space, as disks are slow."""
    memory = Path("/dev/shm")  # noqa: S108 - only a faster place for a private directory
    fast = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    with tempfile.TemporaryDirectory(prefix="tanpuhui story 碳 ", dir=memory if fast else None) as directory:
        Path(directory).chmod(0o711)  # root hands the servers below it to an ordinary user
        yield Path(directory)


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a command that works in this data directory, without the settings of whoever runs the tests
    (but with the servers' programs, where they named some)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) or name.endswith("_BIN")}
    if kept.pop("PYTHONDONTWRITEBYTECODE", None):  # each command would compile every library again
        kept["PYTHONPYCACHEPREFIX"] = str(data_dir.parent / "bytecode")
    chosen = {PREFIX + name.upper(): value for name, value in settings.items()}
    return kept | {PREFIX + "DATA_DIR": str(data_dir), "COLUMNS": "120"} | chosen


def run_command(data_dir: Path, *arguments: str, within_s: float = 180.0) -> subprocess.CompletedProcess[str]:
    """Run `tanpuhui …` to its end, as its user does."""
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=ROOT,
        env=environment(data_dir),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=within_s,
        check=False,
    )


class Served:
    """`tanpuhui serve` as a process of its own, with everything below it. In a `with` block, which stops it."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.url = ""
        self.auditor_url = ""
        self.output = data_dir.with_name(data_dir.name + " output.log")
        self._environment = environment(data_dir, log_level="warning", **settings)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "start() comes first"
        return self._process

    def start(self) -> None:
        """Start it, also on a directory whose supervisor was killed, and wait until it is ready."""
        port = str(
            free_port(None)
        )  # a new one each time: what the children of a killed supervisor hold is not free yet
        with self.output.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "serve"],
                cwd=ROOT,
                env=self._environment | {PREFIX + "PORT": port},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        give_up = time.monotonic() + START_WITHIN_S
        while time.monotonic() < give_up and self._process.poll() is None:
            with suppress(OSError, ValueError):
                known = json.loads((self.data_dir / "platform.json").read_bytes())
                if known["pid"] == self._process.pid:
                    self.url, self.auditor_url = known["url"], known["auditor_url"]
                    return
            time.sleep(0.05)
        self.end()
        raise AssertionError(f"`tanpuhui serve` did not become ready:\n{self.output.read_text('utf-8')[-4000:]}")

    def end(self) -> int:
        """Stop it in order; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            kill([self.process.pid, *self.everyone()], signal.SIGKILL)
            self.process.wait()
            raise

    def children(self, verb: str) -> list[int]:
        """The process ids of the supervisor's children that run this verb, `api` or `worker`."""
        return [pid for pid, parent, command in _processes() if parent == self.process.pid and verb in command[1:4]]

    def postgres(self) -> list[int]:
        """The processes of PostgreSQL, the postmaster and its backends."""
        return processes_in(self.data_dir / "servers" / "postgresql", "postgres")

    def committing(self) -> list[int]:
        """The backends of the API that are in their commit just now, as their titles say."""
        backends = set(self.postgres())
        titles = ((pid, command[0]) for pid, _, command in _processes() if pid in backends)
        return [pid for pid, title in titles if "tanpuhui_app" in title and title.rstrip().endswith("COMMIT")]

    def valkey(self) -> list[int]:
        return processes_in(self.data_dir / "servers" / "valkey", "valkey-server", "redis-server")

    def everyone(self) -> list[int]:
        """All processes below the supervisor."""
        return self.children("api") + self.children("worker") + self.postgres() + self.valkey()

    def errors(self) -> str:
        """The errors the platform logged, for whoever reads why a test failed."""
        lines = (self.data_dir / "platform.log").read_text("utf-8", "replace").splitlines()
        return "\n".join([line for line in lines if '"level":"error"' in line][-20:])

    def secrets(self) -> tuple[Mapping[str, int], Mapping[str, str]]:
        """Ports and passwords of the embedded servers."""
        document = json.loads((self.data_dir / "servers" / "servers.json").read_bytes())
        return document["ports"], document["passwords"]


def _processes() -> Iterator[tuple[int, int, list[str]]]:
    """Process id, parent and command line of every process that can be seen."""
    for entry in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]
            command = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            yield int(entry.name), int(parent), command


def gone(pids: Sequence[int]) -> bool:
    """Whether none of these is left."""
    return not any((_PROC / str(pid)).exists() for pid in pids)


def kill(pids: Sequence[int], number: int) -> None:
    """Send a signal to these; whoever ended meanwhile needs none."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def running(processes: Callable[[], list[int]]) -> list[int]:
    """These processes, once there are any: what was killed before may not be back yet."""
    give_up = time.monotonic() + START_WITHIN_S
    while not (found := processes()):
        assert time.monotonic() < give_up, "what was killed is not brought back"
        time.sleep(0.02)
    return found


async def slow_commits(served: Served) -> None:
    """Let every commit take a tenth of a second, as on a slow disk, from now on and after restarts of the server.

    A stop or a kill then often falls between the decision about a batch and its commit, or between commit and answer.
    """
    ports, passwords = served.secrets()
    connection = await asyncpg.connect(
        host="127.0.0.1", port=ports["tanpuhui"], user="postgres", password=passwords["postgres"], database="postgres"
    )
    try:
        await connection.execute(f"ALTER SYSTEM SET commit_delay = {COMMIT_DELAY_US}")
        await connection.execute("ALTER SYSTEM SET commit_siblings = 0")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


class Answer(NamedTuple):
    """What became of an event: a credit, or a refusal that stands."""

    transfer_id: str | None
    reduction_mg: int = 0
    points: int = 0
    reason: str = ""


@dataclass(slots=True)
class Providers:
    """Clients of one source. Every event is sent again until it has a final answer, and some are sent once more after
    that: each answer must then be the one given first.

    answers    by event id
    statuses   of every response; `lost` counts the requests that got none
    slowest_s  longest time to the response of one sending
    patient    False: an event that is not answered is given up, for a platform that will not come back
    """

    served: Served
    seed: int
    source: str = field(default_factory=lambda: f"urn:tests:story:{os.urandom(6).hex()}")
    people: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    slowest_s: float = 0.0
    patient: bool = True
    _sent: list[dict[str, Any]] = field(default_factory=list)
    _token: str = ""
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    async def enrol(self) -> None:
        """Register the source, and people with consent."""
        issuer = DevelopmentIssuer(self.served.data_dir)
        self._token = issuer.issue("provider", "story", source=self.source)
        operator = {"Authorization": f"Bearer {issuer.issue('operator', 'story')}"}
        body = {
            "uri": self.source,
            "title_zh": "故事中的数据方",
            "title_en": "The provider of a story",
            "grade": "A",
            "scenarios": ["shared-ebike"],
            "valid_from": "2016-01-01",
        }
        consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2026-01-01T08:00:00+08:00"}
        async with httpx.AsyncClient(base_url=self.served.url, headers=operator, timeout=30) as client:
            assert (await client.put("/v1/sources", json=body)).status_code == 200
            for number in range(PEOPLE):
                subject = f"rider {number}"
                link = {"source": self.source, "subject": subject, "consent": consent}
                answer = await client.post("/v1/participants", json={"kind": "citizen", "links": [link]})
                assert answer.status_code == 201, answer.text
                self.people[subject] = answer.json()["participant_id"]

    async def post(self, stopping: asyncio.Event) -> None:
        """16 clients at once, until `stopping` is set and what each had sent is answered."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(random.Random(f"{self.seed} {number}"), stopping))

    async def _client(self, chance: random.Random, stopping: asyncio.Event) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            while not stopping.is_set():
                await self._settle(client, self._some_events(chance))
                await asyncio.sleep(0)

    def _some_events(self, chance: random.Random) -> list[dict[str, Any]]:
        """One event, or a batch; now and then one that is refused, or one that was answered before."""
        events = []
        for _ in range(chance.choice((1, 1, 1, 5, 40))):
            if self._sent and chance.random() < 0.1:
                events.append(chance.choice(self._sent))
                continue
            km = "0.01" if chance.random() < 0.1 else str(Decimal(chance.randint(500, 4500)) / 1000)  # 10 m are no ride
            subject = chance.choice(list(self.people))
            events.append(ride(self.source, subject, f"story-{next(self._numbers)}", km=km))
            self.subjects[events[-1]["id"]] = subject
        return events

    async def _settle(self, client: httpx.AsyncClient, events: Sequence[Mapping[str, Any]]) -> None:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                outcomes = await self._send(client, events)
                if outcomes is not None:
                    break
                if not self.patient:
                    return
                await asyncio.sleep(0.1)
        for event, outcome in zip(events, outcomes, strict=True):
            answer, known = _final(outcome), self.answers.get(event["id"])
            assert known in (None, answer), f"{event['id']} was answered {known}, and later {outcome}"
            if known is None:
                self.answers[event["id"]] = answer
                self._sent.append(dict(event))

    async def _send(
        self, client: httpx.AsyncClient, events: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]] | None:
        """The outcomes, or None when it is to be sent again."""
        single = len(events) == 1
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": EVENT if single else BATCH}
        content = orjson.dumps(events[0] if single else events)
        began = time.monotonic()
        try:
            answer = await client.post(f"{self.served.url}/v1/activities", headers=headers, content=content)
        except httpx.TransportError:
            self.lost += 1
            return None
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.statuses[answer.status_code] += 1
        if answer.status_code >= 500:
            assert "posting-failed" not in answer.text, f"a valid event became poison: {answer.text}"
            assert "internal-error" not in answer.text, answer.text
            return None
        said: dict[str, Any] = answer.json()
        if not single:
            assert answer.status_code == 200, answer.text
            return list(said["outcomes"])
        return [said if answer.is_success else {"outcome": "refused", "problem": said}]

    @property
    def credited(self) -> dict[str, Answer]:
        return {event_id: answer for event_id, answer in self.answers.items() if answer.transfer_id}


def _final(outcome: Mapping[str, Any]) -> Answer:
    match outcome["outcome"]:
        case "duplicate":
            return _final(outcome["first"])
        case "credited":
            return Answer(outcome["transfer_id"], outcome["reduction_mg"], outcome["points"])
        case _:
            assert outcome["problem"]["type"].endswith("condition-not-met"), outcome
            return Answer(None, reason=outcome["problem"]["condition"])


async def assert_ledger_holds_what_was_answered(providers: Providers, auditor_url: str) -> None:
    """Every credit that was answered is there once and for its person, nothing else is, and the log has each of them.

    Waits until the log has taken in what was queued.
    """
    connection = await asyncpg.connect(auditor_url, timeout=30)
    try:
        await _drained(connection)
        await _assert_credits(connection, providers)
        await _assert_log(connection)
        assert (await check_ledger(connection)).findings == ()
    finally:
        await connection.close()


async def _drained(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    give_up = time.monotonic() + 30
    while await connection.fetchval(
        "SELECT (SELECT count(*) FROM ledger.leaf_queue) + (SELECT size FROM ledger.log_head) - folded_to "
        "FROM ledger.fold_head"
    ):
        assert time.monotonic() < give_up, "the log does not take in what is queued"
        await asyncio.sleep(0.05)


async def _assert_credits(connection: "asyncpg.Connection[asyncpg.Record]", providers: Providers) -> None:
    people = list(providers.people.values())
    rows = await connection.fetch(
        """SELECT transfer_id::text, participant_id::text,
               (SELECT sum(amount) FROM ledger.movement m WHERE m.transfer_id = t.transfer_id
                AND m.participant_id = t.participant_id AND asset = 'co2e_mg')::int8 AS reduction_mg,
               (SELECT sum(amount) FROM ledger.movement m WHERE m.transfer_id = t.transfer_id
                AND m.participant_id = t.participant_id AND asset = 'points')::int8 AS points
           FROM ledger.transfer t WHERE participant_id = ANY($1::uuid[])""",
        people,
    )
    found = Counter((row["transfer_id"], row["participant_id"], row["reduction_mg"], row["points"]) for row in rows)
    answered = Counter(
        (answer.transfer_id, providers.people[providers.subjects[event_id]], answer.reduction_mg, answer.points)
        for event_id, answer in providers.credited.items()
    )
    assert answered - found == Counter(), "answered as credited, and not in the ledger"
    assert found - answered == Counter(), "in the ledger, and never answered"

    balances = await connection.fetch(
        "SELECT participant_id::text, co2e_available, points_available FROM ledger.account "
        "WHERE participant_id = ANY($1::uuid[])",
        people,
    )
    expected = dict.fromkeys(people, (0, 0))
    for _, person, reduction_mg, points in answered.elements():
        expected[person] = expected[person][0] + reduction_mg, expected[person][1] + points
    assert {row[0]: (row[1], row[2]) for row in balances} == expected

    activities = await connection.fetchval(
        "SELECT count(*) FROM service.activity WHERE participant_id = ANY($1::uuid[])", people
    )
    assert activities == len(providers.answers), "an activity is stored for each event, refused ones included"


async def _assert_log(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Indexes without a gap, one leaf for each transfer, and every participant's transfers in their order."""
    rows = await connection.fetch(
        "SELECT log_index, participant_id, transfer_id, counter "
        "FROM ledger.leaf LEFT JOIN ledger.transfer USING (participant_id, transfer_id) ORDER BY log_index"
    )
    assert [row["log_index"] for row in rows] == list(range(len(rows)))
    told = [row for row in rows if row["transfer_id"]]  # the log's own leaves, of its keys and epochs, tell of none
    assert len({row["transfer_id"] for row in told}) == len(told)
    assert len(told) == await connection.fetchval("SELECT count(*) FROM ledger.transfer")
    counters: Counter[Any] = Counter()
    for row in told:
        counters[row["participant_id"]] += 1
        assert row["counter"] == counters[row["participant_id"]], f"out of order at index {row['log_index']}"
