"""A database with a bank and steps of redemptions in it, as postings leave them; their leaves are stand-ins."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID, uuid4

from service.clock import SHANGHAI, Fresh, system_clock, uuid7
from service.database import Connection, Pool
from service.settlement.closing import issue_due
from service.vault import make_key
from service.vault.refreshing import adopt_vault
from service.worker import drain
from tests.conftest import Database
from tests.running import pooled, vault_for_tests

_numbers = itertools.count(1)

_BANK = """
    INSERT INTO service.bank (uri, title_zh, title_en, programme, state, registered_at)
    VALUES ($1, '某银行', 'A bank', 'demo', 'active', now()) RETURNING bank_id
"""
_REDEMPTION = """
    INSERT INTO service.redemption (participant_id, redemption_id, bank_id, bank, offer, offer_version, offer_digest,
        pool, units, points, value_fen, co2e_mg, units_left, units_captured, units_refunded, state, started_by,
        created_at, expires_at, accepted_at, ended_at)
    VALUES ($1, $2, $3, $4, 'a-coupon', 3, $5, $6, $7::int8, $7 * 10, $7 * 500, 0, $8, $9, 0, $10, 'participant', $11,
        $12, $11, $13)
"""
_KEY = "INSERT INTO service.redemption_key (redemption_id, participant_id, bank_id) VALUES ($1, $2, $3)"
_ENTRY = """
    INSERT INTO service.redemption_entry (participant_id, transfer_id, redemption_id, bank_id, kind, reason, units,
        points, value_fen, co2e_mg, day, recorded_at, call_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7::int8, $7 * 10, $7 * 500, 0, $8, $9, NULL)
"""
_LEAF = "INSERT INTO ledger.leaf_queue (participant_id, transfer_id, leaf) VALUES ($1, $2, $3)"


def noon(day: date) -> datetime:
    """Noon of an Asia/Shanghai day."""
    return datetime.combine(day, time(12), SHANGHAI).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A redemption with its capture, as they stand in the bank's day."""

    participant_id: UUID
    redemption_id: UUID
    capture_id: UUID
    units: int

    @property
    def value_fen(self) -> int:
        """What it costs its pool."""
        return self.units * 500


@dataclass(slots=True)
class Books:
    """A database of a test's own, as the platform and as the worker see it."""

    app: Pool
    sequencer: Pool
    bank: str
    bank_id: int
    fresh: Fresh
    offset: timedelta = timedelta(0)

    async def another_bank(self) -> tuple[str, int]:
        """A further bank: its URI and number."""
        uri = f"https://bank.example/{next(_numbers)}"
        async with self.app.acquire() as connection:
            bank_id: int = await connection.fetchval(_BANK, uri)
        return uri, bank_id

    async def redeem(
        self,
        day: date,
        units: int = 2,
        *,
        captured: bool = True,
        bank: tuple[str, int] | None = None,
        queued: bool = True,
    ) -> Redeemed:
        """A hold at noon of a day and, a minute later, its capture."""
        uri, bank_id = bank or (self.bank, self.bank_id)
        at = noon(day)
        participant_id, redemption_id = uuid4(), uuid7(at, uuid4().bytes)
        capture_id = uuid7(at + timedelta(minutes=1), uuid4().bytes)
        state, left, ended = ("captured", 0, at) if captured else ("held", units, None)
        async with self.app.acquire() as connection, connection.transaction():
            head = (participant_id, redemption_id, bank_id, uri, bytes(32), "a-pool", units, left, units - left, state)
            await connection.execute(_REDEMPTION, *head, at, at + timedelta(days=1), ended)
            await connection.execute(_KEY, redemption_id, participant_id, bank_id)
            await make_key(connection, vault_for_tests(), participant_id)
            found = Redeemed(participant_id, redemption_id, capture_id, units)
            await self._step(connection, found, redemption_id, bank_id, "hold", None, at, queued)
            if captured:
                later = at + timedelta(minutes=1)
                await self._step(connection, found, capture_id, bank_id, "capture", None, later, queued)
        return found

    async def refund(self, found: Redeemed, day: date) -> UUID:
        """The refund of a capture at noon of a day; its id."""
        transfer_id = uuid7(noon(day), uuid4().bytes)
        async with self.app.acquire() as connection, connection.transaction():
            await self._step(connection, found, transfer_id, self.bank_id, "refund", "cancelled", noon(day), True)
        return transfer_id

    async def _step(
        self,
        connection: Connection,
        found: Redeemed,
        transfer_id: UUID,
        bank_id: int,
        kind: str,
        reason: str | None,
        at: datetime,
        queued: bool,
    ) -> None:
        day = at.astimezone(SHANGHAI).date()
        key = (found.participant_id, transfer_id, found.redemption_id, bank_id)
        await connection.execute(_ENTRY, *key, kind, reason, found.units, day, at)
        if queued:
            await connection.execute(_LEAF, found.participant_id, transfer_id, f"{kind} {transfer_id}".encode("ascii"))

    async def issue(self, *, drained: bool = True) -> int:
        """Give everything its place in the log, then issue what is due."""
        if drained:
            await drain(self.sequencer)
        async with self.sequencer.acquire() as connection:
            return await issue_due(connection, self.offset)

    async def leaves(self) -> list[bytes]:
        """The statements' leaves, in the queue or in the log."""
        async with self.sequencer.acquire() as connection:
            rows: Sequence[bytes] = [
                row["leaf"]
                for row in await connection.fetch(
                    "SELECT leaf FROM ledger.leaf WHERE participant_id IS NULL "
                    "UNION ALL SELECT leaf FROM ledger.leaf_queue WHERE participant_id IS NULL"
                )
            ]
        return [leaf for leaf in rows if b'"kind":"statement"' in leaf]


def later(by: timedelta) -> Fresh:
    """Ids and the time, so much later."""
    return Fresh(system_clock(by))


@asynccontextmanager
async def open_books(database: Database) -> AsyncIterator[Books]:
    """Books over this database, with one bank."""
    async with pooled(database.app) as app, pooled(database.sequencer) as sequencer:
        clock = Fresh(system_clock())
        uri = f"https://bank.example/{next(_numbers)}"
        async with app.acquire() as connection:
            bank_id = await connection.fetchval(_BANK, uri)
            await adopt_vault(connection, vault_for_tests())
        yield Books(app, sequencer, uri, bank_id, clock)
