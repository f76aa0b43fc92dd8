"""A log with a bank's events, endpoints of the bank, a receiver that answers as it is told, and time that is moved."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from standardwebhooks import Webhook

from ledger.log_store import sequence
from service.clock import uuid7
from service.database import Pool
from service.keyring import Keyring
from service.webhooks import endpoints
from service.webhooks.endpoints import Endpoint
from service.webhooks.loop import Deliveries
from service.webhooks.sending import Sender, open_sender
from tests.conftest import Database
from tests.running import pooled

BANK, OTHER_BANK = "https://bank.example/green", "https://other.example/green"
BEGAN = datetime(2026, 6, 1, 4, tzinfo=UTC)
_QUEUE = "INSERT INTO ledger.leaf_queue (participant_id, transfer_id, leaf) VALUES ($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class Heard:
    """A request as the receiver got it."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def redemption(self) -> str:
        return str(self.document["data"]["redemption_id"])

    @property
    def index(self) -> int:
        return int(self.document["data"]["log_index"])

    def signed_by(self, secret: str) -> bool:
        """Whether one of the signatures is the one that the reference library makes."""
        at = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        expected = Webhook(secret).sign(self.id, at, self.body.decode())
        return expected in self.headers["webhook-signature"].split(" ")


@dataclass(slots=True)
class Receiver:
    """A bank's server. `answer` gives the status of a request, or None to hang until the other side has had enough;
    `headers` are more lines of every answer."""

    url: str
    answer: Callable[[Heard], int | None] = lambda _: 204
    heard: list[Heard] = field(default_factory=list)
    headers: str = ""

    @property
    def indexes(self) -> list[int]:
        return [each.index for each in self.heard]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on this machine."""
    serving: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
            headers = {
                name.lower(): value
                for line in head.split("\r\n")[1:]
                for name, found, value in [line.partition(": ")]
                if found
            }
            heard = Heard(headers, await reader.readexactly(int(headers["content-length"])))
            receiver.heard.append(heard)
            status = receiver.answer(heard)
            if status is None:
                await reader.read()
            else:
                head = f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n{receiver.headers}\r\n"
                writer.write(head.encode())
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver = Receiver(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks")
    async with server:
        yield receiver
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def step(kind: str, redemption: UUID, bank: str = BANK, **changes: str | None) -> dict[str, Any]:
    """The leaf of a step of a redemption, with the members that a bank is told of and some that it is not."""
    transfer = redemption if kind == "hold" else uuid7(BEGAN, secrets.token_bytes(10))
    leaf: dict[str, Any] = {
        "at": "2026-06-01T04:00:00Z",
        "bank": bank,
        "counter": "7",
        "day": "2026-06-01",
        "kind": kind,
        "lines": [
            {"amount": "60", "asset": "points", "expires_on": "2028-05-31", "from": "available", "to": "held"},
            {"amount": "40", "asset": "points", "expires_on": "2028-06-30", "from": "available", "to": "held"},
            {"amount": "90000", "asset": "co2e_mg", "from": "available", "to": "held"},
        ],
        "nonce": secrets.token_hex(16),
        "participant": "a pseudonym",
        "pool": "demo-green-pool",
        "transfer": str(transfer),
        "units": "2",
        "value": "2000",
    }
    if kind == "hold":
        leaf |= {"expires_at": "2026-06-08T04:00:00Z", "offer": "ab" * 32}
    else:
        leaf["hold"] = str(redemption)
    if kind == "release":
        leaf |= {"authority": "bank", "reason": "voided"}
    return leaf | changes


@dataclass(slots=True)
class World:
    """A ledger's log, the worker's side and the API's."""

    database: Database
    app: Pool
    worker: Pool
    sender: Sender
    keyring: Keyring
    now: datetime = BEGAN

    def deliveries(self) -> Deliveries:
        """A worker of its own."""
        return Deliveries(self.worker, self.keyring, self.sender, lambda: self.now)

    async def log(self, *leaves: Mapping[str, Any]) -> None:
        """Put leaves into the log."""
        async with self.app.acquire() as connection:
            for leaf in leaves:
                transfer = UUID(leaf["transfer"]) if "transfer" in leaf else None
                owner = None if transfer is None else uuid7(BEGAN, secrets.token_bytes(10))
                await connection.execute(_QUEUE, owner, transfer, canonical(leaf))
        async with self.worker.acquire() as connection, connection.transaction():
            await sequence(connection)

    async def endpoint(
        self, url: str, *kinds: str, bank: str = BANK, from_index: int | None = None
    ) -> tuple[Endpoint, str]:
        """A new endpoint and its secret."""
        webhook_id = uuid7(self.now, secrets.token_bytes(10))
        async with self.app.acquire() as connection, connection.transaction():
            return await endpoints.create(connection, self.keyring, webhook_id, bank, url, kinds, from_index, self.now)

    async def run(self, deliveries: Deliveries | None = None) -> Deliveries:
        """Deliver until nothing is due any more."""
        deliveries = deliveries or self.deliveries()
        while await deliveries.step() or deliveries.under_way:
            await deliveries.rest(20)
        return deliveries

    async def later(self, **time: float) -> None:
        """So much later, deliver what is due then."""
        self.now += timedelta(**time)
        await self.run()

    async def messages(self, webhook_id: UUID, state: str | None = None) -> list[tuple[int, str, int, str | None]]:
        """Place, state, failed attempts and last fault of each message, or of those in one state, in order."""
        rows = await self.app.fetch(
            "SELECT place, state, failed, fault FROM service.webhook_message WHERE webhook_id = $1 AND "
            "($2::text IS NULL OR state = $2) ORDER BY place",
            webhook_id,
            state,
        )
        return [tuple(row) for row in rows]


def canonical(leaf: Mapping[str, Any]) -> bytes:
    """As the log encodes it."""
    return json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


@asynccontextmanager
async def make_world(database: Database) -> AsyncIterator[World]:
    """A world over an empty log."""
    keyring = Keyring(1, {1: b"a key for tests, of 32 bytes ..."})
    async with (
        pooled(database.app) as app,
        pooled(database.sequencer, size=4) as worker,
        open_sender(private_allowed=True, timeout_s=10.0) as sender,
    ):
        yield World(database, app, worker, sender, keyring)
