"""A platform that has something to audit: credits of every kind, what ended them, a closed day, and a signed log."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.remote_log import RemoteLog
from ledger.log_store import fold, sequence
from ledger.notes import ED25519, generate_signer
from service.audit.export import Stored
from service.audit.writing import Exported, export_bundle
from service.clock import shanghai_day
from service.log.epochs import open_first, open_further
from service.log.guard import Guard
from service.log.publish import Log, publish
from tests.conftest import Database
from tests.running import Api, Person, pooled, ride, running_api, served

ORIGIN = "log.example.org/log"
RULES = Path(__file__).resolve().parents[1] / "rules"
POSTED = datetime(2026, 11, 22, 12, tzinfo=ZoneInfo("Asia/Shanghai"))  # the rules of tests take January until then
EXPORTED = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)  # behind every key of these tests
HOME = "test-home-electricity"
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@dataclass(slots=True)
class World:
    """An API, its database, and the log that a publisher writes into its directory."""

    api: Api
    database: Database
    log: Log

    async def post(self, rides: int = 3) -> Person:
        """Rides of a new person, one of them taken back."""
        person = await self.api.person()
        posted = await self.api.report(
            person.source, [ride(person.source, person.subject, **_at(n)) for n in range(rides)]
        )
        answer = await self.api.reverse(person.participant_id, posted[0]["transfer_id"])
        assert answer.status_code in (200, 201), answer.text
        return person

    async def settle(self, tier: int) -> Person:
        """Two months of savings that mature, or are withdrawn where `tier` is 3."""
        person = await self.api.person(await self.api.source(scenarios=[HOME]))
        outcomes = await self.api.report(person.source, [_savings(person, date(2026, month, 1)) for month in (1, 2)])
        assert {each["outcome"] for each in outcomes} == {"credited"}, outcomes
        wanted = {
            "subject": person.subject,
            "scenario": HOME,
            "first_day": "2026-01-01",
            "last_day": "2026-12-31",
            "facts": {"tier": tier, "has_pv": 0},
        }
        headers = self.api.bearer("provider", source=person.source)
        answer = await self.api.client.post("/v1/settlements", headers=headers, json=wanted)
        assert answer.status_code == 200, answer.text
        return person

    async def close_today(self, source: str, path: Path) -> str:
        """A manifest of the database's today, sent by an API for which that day is over; its text."""
        public = jwt.get_algorithm_by_name("EdDSA").to_jwk(_KEY.public_key(), as_dict=True)
        key = {name: public[name] for name in ("kty", "crv", "x")} | {"kid": "k1"}
        body = {"uri": source, "key": key, "valid_from": "2026-01-01T00:00:00+08:00"}
        answer = await self.api.client.put("/v1/sources/keys", headers=self.api.bearer("operator"), json=body)
        assert answer.status_code == 200, answer.text
        settings = self.api.platform.settings
        day = shanghai_day(datetime.now(UTC))
        content = {"v": "1", "source": source, "day": str(day), "sequence": 1, "scenarios": {}, "late": []}
        text = jwt.PyJWS().encode(orjson.dumps(content), _KEY, "EdDSA", headers={"kid": "k1", "typ": None})
        changes = {"clock_offset": timedelta(days=1, minutes=10), "log_origin": ORIGIN}
        shown = {"log_dir": settings.log_dir, "guard_file": settings.guard_file}
        async with running_api(
            self.database.app, self.database.redis, _made(path), rules_dir=RULES, **changes, **shown
        ) as then:
            headers = then.bearer("provider", source=source) | {"Content-Type": "application/jose"}
            answer = await then.client.post("/v1/manifests", headers=headers, content=text.encode())
            assert answer.status_code == 201, answer.text
        return text

    async def publish(self) -> int:
        """Number what waits, fold it, and sign; the size."""
        async with self.publisher() as connection:
            while await _in_transaction(connection, sequence):
                pass
            while await _in_transaction(connection, fold):
                pass
            epoch, now = await connection.fetchval("SELECT epoch FROM ledger.log_state"), datetime.now(UTC)
            self.log.show_keys(epoch, now)
            return (await publish(connection, self.log, now)).size

    async def open_further(self) -> None:
        """Begin another epoch, as after an incident."""
        async with self.publisher() as connection:
            await open_further(connection, self.log, "demo", "restored-backup", datetime.now(UTC))

    async def fill(self, count: int) -> None:
        """Entries that are nobody's and no leaves: what grows the log fast."""
        async with self.publisher() as connection:
            made = "INSERT INTO ledger.leaf_queue (leaf) SELECT int8send(n) FROM generate_series(1, $1::bigint) AS n"
            await connection.execute(made, count)

    @asynccontextmanager
    async def publisher(self) -> AsyncIterator[Any]:
        async with pooled(self.database.sequencer, 1) as pool, pool.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def stored(self) -> AsyncIterator[Stored]:
        """The platform as an export beside its database reads it."""
        async with pooled(self.database.auditor, 1) as pool:
            yield Stored(
                pool, self.api.platform.vault, self.log.directory, "demo", self.api.platform.settings.witness_policy
            )

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows, as the role of auditors."""
        connection = await asyncpg.connect(self.database.auditor)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def change(self, *statements: str) -> None:
        """What only the server's superuser can do: past every trigger."""
        connection = await asyncpg.connect(self.database.admin)
        try:
            await connection.execute("SET session_replication_role = replica")
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def erase(self, participant_id: str) -> None:
        """Erase the evidence of a person."""
        await self.change(f"DELETE FROM service.evidence WHERE participant_id = '{UUID(participant_id)}'")


def _made(path: Path) -> Path:
    path.mkdir()
    return path


async def _in_transaction(connection: Any, step: Any) -> int:
    async with connection.transaction():
        done: int = await step(connection)
        return done


@asynccontextmanager
async def world_on(database: Database, path: Path) -> AsyncIterator[World]:
    """A platform whose log has begun, and holds nothing else yet."""
    offset = POSTED - datetime.now(UTC)
    log = Log(
        ORIGIN,
        path / "log",
        Guard(path / "elsewhere" / "guard"),
        generate_signer(ORIGIN, ED25519, secrets.token_bytes(32)),
    )
    policy = path / "policy"
    policy.write_text(f"log {log.signer.verifier}\nquorum none\n", "utf-8")
    settings = {"rules_dir": RULES, "clock_offset": offset, "guard_file": log.guard.path, "log_origin": ORIGIN}
    settings["witness_policy"] = policy
    async with running_api(database.app, database.redis, path, **settings) as api:
        world = World(api, database, log)
        async with world.publisher() as connection:
            await publish(connection, log, datetime.now(UTC))
            await open_first(connection, log, "demo", datetime.now(UTC))
        await world.publish()
        yield world


def _at(hour: int) -> dict[str, str]:
    return {
        "started_at": f"2026-05-01T{8 + hour:02}:00:00+08:00",
        "ended_at": f"2026-05-01T{8 + hour:02}:12:00+08:00",
    }


def _month(first: date, kwh: str) -> dict[str, Any]:
    last = (first + timedelta(days=31)).replace(day=1)
    return {"kind": "interval", "spans": [[f"{first}T00:00:00+08:00", f"{last}T00:00:00+08:00", kwh]]}


def _savings(person: Person, first: date) -> dict[str, Any]:
    """A month with less electricity than the year before."""
    last = (first + timedelta(days=31)).replace(day=1)
    return {
        "specversion": "1.0",
        "id": f"{person.subject} {first}",
        "source": person.source,
        "type": "org.tanpuhui.activity.v1",
        "subject": person.subject,
        "data": {
            "scenario": HOME,
            "started_at": f"{first}T00:00:00+08:00",
            "ended_at": f"{last}T00:00:00+08:00",
            "inputs": {},
            "references": {"meter": f"meter of {person.subject}", "address": f"home of {person.subject}"},
            "readings": {"use_kwh": _month(first, "100")},
            "baseline": {"baseline_kwh": _month(first.replace(year=first.year - 1), "200")},
        },
    }


async def filled(world: World) -> None:
    """Something of everything, signed."""
    person = await world.post()
    await world.settle(1)
    await world.settle(3)
    await world.close_today(person.source, world.log.directory.parent / "tomorrow")
    await world.publish()


async def export(world: World, directory: Path, **options: Any) -> Exported:
    async with world.stored() as source:
        return await export_bundle(source, directory, EXPORTED, **options)


@asynccontextmanager
async def remote(world: World) -> AsyncIterator[RemoteLog]:
    """The platform as an auditor reaches it, with a token."""
    token = world.api.bearer("auditor")["Authorization"].removeprefix("Bearer ")
    async with served(world.api) as url, RemoteLog(url, lambda: token) as source:
        yield source


def contents(directory: Path) -> dict[str, str]:
    """Every file of a folder with the hash of its bytes."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
