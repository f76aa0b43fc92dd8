"""A platform's history of a few people, with everything a replay computes again, and the bundle of it.

Posted by the platform's own poster under the rules of tests/rules/counting; closed by manifests over HTTP; published
and exported as an operator would.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.audit.export import Stored
from service.audit.writing import export_bundle
from service.clock import SHANGHAI
from service.database import Pool
from service.log.epochs import open_first
from service.log.guard import Guard
from service.log.publish import Log, publish
from service.manifests import count_received
from service.posting import Credited, Outcome, Reversed, Settle, Settled
from service.quantification.document import digest_of
from service.worker import drain
from tests.conftest import Database
from tests.log.bundles import signer_of
from tests.running import Api, pooled, running_api, vault_for_tests
from tests.service import counting_model as story
from tests.service.counting_world import Stage, World, make_world, poster_on

RULES = Path(__file__).parents[1] / "rules" / "counting"
TOMORROW = timedelta(days=1, minutes=6)
JANUARY = 2026 * 12  # a month, as the story numbers them

# What happens, by name. A ride is 10 g for each kilometre, a boarding 3 g for each stop, a kWh 1 g, a gram one point.
ACTS: Mapping[str, story.Act] = {
    "ride": story.Act("ride", 0, "north", 0, 10, 2_000, order=1, payment=1, thing=1),
    "clipped ride": story.Act("ride", 0, "north", 30, 10, 4_000, order=2, thing=1),  # 50 g a month, then no more
    "boarding": story.Act("boarding", 0, "south", 60, 10, 4, payment=2),
    "clipped boarding": story.Act("boarding", 0, "south", 90, 10, 2, payment=3),  # 15 points a day
    "phone": story.Act("ride", 1, "phone", 0, 10, 1_000, order=3, thing=2),
    "operator's record": story.Act("ride", 1, "north", 0, 10, 1_000, order=3, thing=2),
    "diary": story.Act("ride", 1, "diary", 60, 10, 1_000, order=4, thing=3),
    "corrected": story.Act("ride", 1, "north", 1_500, 10, 1_000, order=5, thing=2),
    "waiting": story.Act("ride", 1, "phone", 3_000, 10, 1_000, order=6, thing=2),
    "home": story.Act("home", 0, "south", JANUARY, 1, 10, thing=1, address=1, before=18),
    "heavy home": story.Act("home", 1, "south", JANUARY, 1, 10, thing=2, address=2, before=15),
    "roof": story.Act("pv", 2, "south", JANUARY, 1, 100, thing=1, address=3),
    "bonus": story.Act("bonus", 0, "north", 200, 10, 2_000),
    "late bonus": story.Act("bonus", 1, "north", 260, 10, 4_000),
}


@dataclass(frozen=True)
class Audited:
    """A bundle of the history, and the activities by name."""

    directory: Path
    activities: Mapping[str, UUID]
    correction: UUID
    sources: Mapping[str, str]


async def make_history(database: Database, folder: Path) -> Audited:
    """Post everything, close the day after, publish, and export the bundle into `folder`."""
    async with Publishing.of(database, folder) as publishing:
        async with running_api(database.app, database.redis, _made(folder / "platform"), rules_dir=RULES) as api:
            world = await make_world(api, database)
            stage = await world.people()
            activities, correction = await _post(world, stage)
        sources = {name: licence.uri for name, licence in world.licences.items()}
        closing = _made(folder / "closing")
        async with running_api(database.app, database.redis, closing, rules_dir=RULES, clock_offset=TOMORROW) as api:
            for licence in world.licences.values():
                await _close(api, licence.uri, licence.source_id, shanghai_day_of(correction))
        directory = folder / "bundle"
        await publishing.export(directory)
    return Audited(directory, activities, correction, sources)


@dataclass(frozen=True)
class Publishing:
    """A log over a test's database, and bundles of it."""

    pool: Pool
    log: Log

    @classmethod
    @asynccontextmanager
    async def of(cls, database: Database, folder: Path) -> AsyncIterator["Publishing"]:
        """Begin the log; its files go into `folder`."""
        log = Log("log.example.org/log", folder / "log", Guard(folder / "guard"), signer_of())
        async with pooled(database.admin) as pool:
            async with pool.acquire() as connection:
                await open_first(connection, log, "demo", datetime.now(UTC))
            yield cls(pool, log)

    async def export(self, directory: Path) -> None:
        """Sign everything that was posted, and export it."""
        later = datetime.now(UTC) + TOMORROW
        await drain(self.pool)
        self.log.show_keys(1, later)
        async with self.pool.acquire() as connection:
            assert (await publish(connection, self.log, later)).refused is None
        stored = Stored(self.pool, vault_for_tests(), self.log.directory, "demo")
        await export_bundle(stored, directory, later + TOMORROW, parquet=False)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def shanghai_day_of(activity: UUID) -> date:
    """The day on which an activity arrived."""
    return datetime.fromtimestamp((activity.int >> 80) / 1000, SHANGHAI).date()


async def _post(world: World, stage: Stage) -> tuple[dict[str, UUID], UUID]:
    names, orders = list(ACTS), list(ACTS.values())
    async with poster_on(world) as poster:

        async def post(command: Any) -> Outcome:
            return (await poster.post([command]))[0]

        for number, order in enumerate(orders):
            outcome = await post(stage.command(number, order, orders))
            assert isinstance(outcome, Credited), (names[number], outcome)
        for who, tier in ((0, 2), (1, 3)):
            settling = stage.command(len(orders), story.Settle(who, "south", tier), orders)
            assert isinstance(settling, Settle)
            assert isinstance(await post(recorded(settling)), Settled)
        number = names.index("bonus")
        reversal = stage.command(len(orders), story.Reverse(number), orders)
        assert isinstance(await post(reversal), Reversed)
        corrected = names.index("corrected")
        better = story.Act("ride", 1, "north", 1_500, 12, 900, order=5, thing=2, replaces=corrected)
        outcome = await post(stage.command(len(orders) + 1, better, [*orders, better]))
        assert isinstance(outcome, Credited), outcome
    activities = {name: stage.reports[number].activity_id for number, name in enumerate(names)}
    return activities, outcome.transfer_id


def recorded(command: Settle) -> Settle:
    """The settlement with its record as the API writes it down."""
    record = {
        "facts": {name: str(value) for name, value in command.facts.items()},
        "first_day": str(command.first),
        "last_day": str(command.last),
        "scenario": command.scenario,
        "v": "1",
    }
    return replace(command, document=orjson.dumps(record, option=orjson.OPT_SORT_KEYS))


async def _close(api: Api, source: str, source_id: int, day: date) -> None:
    """Sign what was received: an honest source that kept every outcome says the same."""
    key = Ed25519PrivateKey.generate()
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}
    body = {"uri": source, "key": jwk, "valid_from": "2026-01-01T00:00:00+08:00"}
    put = await api.client.put("/v1/sources/keys", headers=api.bearer("operator"), json=body)
    assert put.status_code == 200, put.text
    async with api.platform.pool.acquire() as tx, tx.transaction():
        received = await count_received(tx, source_id, day)
    scenarios = {
        name: {
            "sent": each.credited + each.refused,
            "credited": each.credited,
            "refused": each.refused,
            "duplicate": 0,
            "reduction_mg": str(each.reduction_mg),
            "points": str(each.points),
        }
        for name, each in received.items()
    }
    statement = {"v": "1", "source": source, "day": str(day), "sequence": 1, "scenarios": scenarios, "late": []}
    signed = jwt.PyJWS().encode(orjson.dumps(statement), key, "EdDSA", headers={"kid": "k1", "typ": None})
    headers = api.bearer("provider", source=source) | {"Content-Type": "application/jose"}
    answer = await api.client.post("/v1/manifests", headers=headers, content=signed.encode())
    assert answer.status_code == 201, answer.text


def evidence_of(directory: Path) -> dict[int, dict[str, str]]:
    """The lines of a small bundle's evidence, by index."""
    lines = (directory / "evidence" / "000.jsonl").read_bytes().splitlines()
    return {int(line["index"]): line for line in map(json.loads, lines)}


def put_evidence(directory: Path, lines: Mapping[int, Mapping[str, str]]) -> None:
    """Write these lines as the evidence of a small bundle."""
    text = b"".join(orjson.dumps(lines[index], option=orjson.OPT_SORT_KEYS) + b"\n" for index in sorted(lines))
    (directory / "evidence" / "000.jsonl").write_bytes(text)


def put_rule(directory: Path, digest: str, *changes: tuple[bytes, bytes]) -> str:
    """Add a document with other words beside the one of this digest; its own digest."""
    document = (directory / "rules" / f"{digest}.json").read_bytes()
    for change in changes:
        assert change[0] in document, change
        document = document.replace(*change)
    made = digest_of(document)
    (directory / "rules" / f"{made}.json").write_bytes(document)
    return made
