"""Daily seals, held against a model that reads the log's leaves and nothing else."""

import asyncio
import hashlib
import json
import random
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.journal import Transfer
from ledger.leaf_reading import read_leaf
from ledger.notices import EpochFacts, epoch_leaf
from ledger.store import queue_leaf
from service.clock import shanghai_day
from service.database import Connection, Pool
from service.log.seal_files import find_leaf, has_tree, seal_files
from service.seals import seal_due
from service.worker import drain
from tests.conftest import Database
from tests.ledger.books import Books
from tests.running import pooled

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
MONTH_ENDS = [date(2027, 1, 31), date(2027, 2, 28), date(2027, 3, 31)]


def merkle(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + merkle(leaves[:split]) + merkle(leaves[split:])).digest()


def modelled(leaves: Sequence[bytes]) -> tuple[list[bytes], dict[str, bytes], list[dict[str, str]]]:
    """Leaf hashes of everybody's record in order, the records by pseudonym, and the totals, after these leaves."""
    amounts: dict[str, dict[tuple[str, str], int]] = {}
    buckets: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    counters: dict[str, str] = {}
    system: dict[tuple[str, str], int] = defaultdict(int)
    for fields in map(json.loads, leaves):
        if "lines" not in fields:
            continue
        who = fields["participant"]
        own = amounts.setdefault(who, defaultdict(int))
        counters[who] = fields["counter"]
        for line in fields["lines"]:
            amount, asset = int(line["amount"]), line["asset"]
            for account, change in ((line["to"], amount), (line["from"], -amount)):
                if account in ("available", "pending", "held"):
                    own[asset, account] += change
                elif account == "debt":
                    own[asset, account] -= change
                else:
                    system[asset, account] += change
                if account == "available" and asset == "points":
                    buckets[who][line["expires"]] += change
    records = {}
    for who, own in amounts.items():
        document = {
            "balances": {
                asset: {account: str(own[asset, account]) for account in ("available", "debt", "held", "pending")}
                for asset in ("co2e_mg", "points")
            },
            "buckets": {day: str(points) for day, points in buckets[who].items() if points},
            "counter": counters[who],
            "participant": who,
            "v": "1",
        }
        records[who] = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    hashes = [hashlib.sha256(b"\x00" + records[who]).digest() for who in sorted(records)]
    for own in amounts.values():
        for key, amount in own.items():
            system[key] += amount
    totals = [
        {"account": account, "amount": str(amount), "asset": asset}
        for (asset, account), amount in sorted(system.items())
        if amount
    ]
    return hashes, records, totals


@dataclass
class Ledger:
    """A ledger whose clock the test moves, a log that has begun, and where its seals' files go."""

    app: Connection
    log_side: Pool
    log_dir: Path
    offset: timedelta
    people: list[Books] = field(default_factory=list)
    credits: list[tuple[Books, Transfer]] = field(default_factory=list)

    async def seal(self) -> int:
        async with self.log_side.acquire() as connection:
            return await seal_due(connection, "demo", self.log_dir, self.offset)

    async def leaves(self) -> list[bytes]:
        await drain(self.log_side)
        return [row[0] for row in await self.app.fetch("SELECT leaf FROM ledger.leaf ORDER BY log_index")]

    async def today(self) -> date:
        return shanghai_day(await self.app.fetchval("SELECT clock_timestamp() + $1::interval", self.offset))

    async def act(self, chance: random.Random) -> None:
        """Something that may happen to somebody."""
        if not self.people or chance.random() < 0.2:
            self.people.append(await Books.open(self.app))
        books = chance.choice(self.people)
        for each in self.people:
            each.offset = self.offset
        act = chance.choice(("credit", "credit", "credit", "wait", "mature", "reverse"))
        if act in ("credit", "wait"):
            funded = chance.choice((0, 5))
            made = await books.credit(
                chance.randint(1, 10**6), chance.randint(0, 500), chance.choice(MONTH_ENDS),
                pending=act == "wait", funded_points=funded,
            )  # fmt: skip
            self.credits.append((books, made))
        elif self.credits:
            books, credit = self.credits.pop(chance.randrange(len(self.credits)))
            waits = any(line.to_account == "pending" for line in credit.lines)
            if act == "mature" and waits:
                await books.mature(credit, MONTH_ENDS[-1])
            else:
                await books.reverse(credit)

    async def require_sealed(self, day: date) -> dict[str, Any]:
        """The seal of a day says what the leaves before it add up to, in the log, the table and the files."""
        leaves = await self.leaves()
        [seal] = [leaf for leaf in map(read_leaf, leaves) if leaf["kind"] == "seal" and leaf["day"] == day.isoformat()]
        size = int(seal["size"])
        assert seal in map(read_leaf, leaves[size:])
        hashes, records, totals = modelled(leaves[:size])
        assert (seal["participants"], seal["root"]) == (str(len(hashes)), merkle(hashes).hex())
        assert seal["totals"] == totals
        row = await self.app.fetchrow("SELECT * FROM ledger.seal WHERE day = $1", day)
        assert row
        assert (row["size"], row["participants"], row["root"]) == (size, len(hashes), merkle(hashes))
        files = seal_files(self.log_dir, "demo", day)
        assert has_tree(files, len(hashes), merkle(hashes))
        for place, who in enumerate(sorted(records)):
            assert find_leaf(files, len(hashes), hashes[place], UUID(who)) == place
        assert find_leaf(files, len(hashes), bytes(32), UUID(int=0)) is None
        return seal


@pytest.fixture
async def ledger(fresh_database: Database, tmp_path: Path) -> AsyncIterator[Ledger]:
    offset = datetime(2026, 12, 1, 4, tzinfo=UTC) - datetime.now(UTC)  # noon in Shanghai
    async with (
        pooled(fresh_database.app) as pool,
        pooled(fresh_database.sequencer, 4) as log_side,
        pool.acquire() as app,
    ):
        now = await app.fetchval("SELECT clock_timestamp() + $1::interval", offset)
        await queue_leaf(app, epoch_leaf(EpochFacts("demo", 1, "localhost/log"), now, bytes(16)))
        await log_side.execute("UPDATE ledger.log_state SET epoch = 1")
        await drain(log_side)
        yield Ledger(app, log_side, tmp_path / "log", offset)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), acts=st.integers(0, 25), days=st.integers(1, 4), behind=st.booleans())
async def test_a_seal_is_what_the_leaves_add_up_to(
    ledger: Ledger, seed: int, acts: int, days: int, behind: bool
) -> None:
    chance = random.Random(seed)
    for _ in range(acts):
        await ledger.act(chance)
    if not behind:  # else leaves wait in the queue while the day is sealed: they count in the next
        await drain(ledger.log_side)
    before = await ledger.today()
    ledger.offset += days * DAY
    assert await ledger.seal() > 0
    assert await ledger.seal() == 0
    for number in range(days):
        await ledger.require_sealed(before + number * DAY)


async def test_every_day_that_has_ended_is_sealed_once_and_none_before(ledger: Ledger) -> None:
    today = await ledger.today()
    assert await ledger.seal() == 0  # the log began today
    await ledger.act(random.Random(1))
    ledger.offset += timedelta(
        hours=12, seconds=30
    )  # half a minute past midnight: the last of the day may be on its way
    assert await ledger.seal() == 0
    ledger.offset += timedelta(minutes=1)
    assert await ledger.seal() == 1
    first = await ledger.require_sealed(today)
    ledger.offset += 3 * DAY
    assert await ledger.seal() == 3
    for number in (1, 2, 3):
        seal = await ledger.require_sealed(today + number * DAY)
        assert (seal["root"], seal["totals"]) == (first["root"], first["totals"])  # nothing new: sealed all the same
    ledger.offset -= 2 * DAY
    assert await ledger.seal() == 0


async def test_a_ledger_without_anybody_is_sealed(ledger: Ledger) -> None:
    today = await ledger.today()
    ledger.offset += DAY
    assert await ledger.seal() == 1
    seal = await ledger.require_sealed(today)
    assert (seal["participants"], seal["totals"], seal["root"]) == ("0", [], hashlib.sha256(b"").hexdigest())


async def test_two_workers_by_mistake_make_one_seal(ledger: Ledger) -> None:
    chance = random.Random(2)
    for _ in range(6):
        today = await ledger.today()
        for _ in range(5):
            await ledger.act(chance)
        await drain(ledger.log_side)
        ledger.offset += DAY
        assert sum(await asyncio.gather(*(ledger.seal() for _ in range(3)))) == 1
        await ledger.require_sealed(today)
    assert len(list((ledger.log_dir / "seals" / "demo").iterdir())) == 6


async def test_files_that_were_not_written_or_are_of_another_history_are_made(ledger: Ledger) -> None:
    today, chance = await ledger.today(), random.Random(3)
    for _ in range(5):
        await ledger.act(chance)
    await drain(ledger.log_side)
    ledger.offset += DAY
    await ledger.seal()
    files = seal_files(ledger.log_dir, "demo", today)
    shutil.rmtree(files.directory)  # killed after the commit
    assert await ledger.seal() == 0
    await ledger.require_sealed(today)
    # of a history that was given up: kept, but no longer in the day's place
    tile = next(path for path in files.directory.rglob("*") if path.is_file())
    tile.write_bytes(bytes(len(tile.read_bytes())))
    assert await ledger.seal() == 0
    await ledger.require_sealed(today)
    assert len(list(files.directory.parent.glob(f"{today}.former-*"))) == 1


async def test_killed_before_the_commit_nothing_is_sealed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    today = await ledger.today()
    await ledger.act(random.Random(4))
    ledger.offset += DAY

    def killed(*_: object) -> bytes:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr("service.seals.seal_leaf", killed)
        with pytest.raises(asyncio.CancelledError):
            await ledger.seal()
    assert await ledger.app.fetchval("SELECT sealed_to FROM ledger.seal_head") == 0
    assert not (ledger.log_dir / "seals").exists()
    await ledger.act(random.Random(5))
    assert await ledger.seal() == 1
    await ledger.require_sealed(today)


async def test_nothing_is_sealed_while_the_log_is_refused(ledger: Ledger) -> None:
    await ledger.act(random.Random(6))
    ledger.offset += DAY
    await ledger.log_side.execute("UPDATE ledger.log_state SET refused = 'guard-ahead'")
    assert await ledger.seal() == 0
    await ledger.log_side.execute("UPDATE ledger.log_state SET refused = NULL")
    assert await ledger.seal() == 1
