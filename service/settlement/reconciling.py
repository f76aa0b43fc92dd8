"""A bank's day after its statement: the bank's own files, where they differ, and closing by both sides.

A file is compared when it comes, and what differed is kept; the last file of a day counts. A side closes on exactly
the statement and the file that it names. Where nothing differs the platform closes with the bank, by rule; where the
bank closes on differences that both accept, an operator must close too. A closed day takes no file any more.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Literal
from uuid import UUID

import asyncpg

from ledger.leaves import NONCE_BYTES
from ledger.notices import statement_leaf
from ledger.store import queue_leaf
from service.clock import Fresh
from service.database import Connection
from service.settlement.bank_file import BankFile
from service.settlement.closing import BANK_LOCK, facts_of
from service.settlement.differences import Difference, compare, differences_document, read_differences
from service.settlement.statement import DayStatement, read_statement
from service.settlement.states import DayState, day_state

Side = Literal["bank", "platform"]


class StatementNotFound(Exception):
    """The bank's day has no statement: it is not over, not complete yet, or before the bank's first entry."""

    def __init__(self, day: date) -> None:
        super().__init__(day)
        self.day = day


class DayClosed(Exception):
    """Both sides have closed the day: nothing about it changes any more."""

    def __init__(self, day: date) -> None:
        super().__init__(day)
        self.day = day


class DayMoved(Exception):
    """The statement or the file that somebody wants to close on is not the one that counts now; both are given, in
    hex, None for no file."""

    def __init__(self, statement: str, file: str | None) -> None:
        super().__init__(statement, file)
        self.statement, self.file = statement, file


class BankNotClosed(Exception):
    """The bank closes first where there are differences; it has not, or on an earlier file."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A bank's file of a day, as it was compared.

    digest     SHA-256 of its bytes, hex
    lines      how many steps it told of
    """

    number: int
    digest: str
    lines: int
    differences: tuple[Difference, ...]
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Closing:
    """That a side closed the day: by whom, on which file (hex), and when."""

    side: str
    authority: str
    file: str | None
    closed_at: datetime


@dataclass(frozen=True, slots=True)
class BankDay:
    """A bank's day as it stands.

    document  the statement's bytes, and `digest` their SHA-256, hex
    files     of the bank, oldest first; the last one counts
    """

    bank_id: int
    day: date
    digest: str
    document: bytes
    issued_at: datetime
    files: tuple[StoredFile, ...]
    closings: tuple[Closing, ...]

    @property
    def statement(self) -> DayStatement:
        """The statement, read."""
        return read_statement(self.document)

    @property
    def file(self) -> StoredFile | None:
        """The bank's file that counts, if there is one."""
        return self.files[-1] if self.files else None

    @property
    def state(self) -> DayState:
        """Where the day stands."""
        differing = None if self.file is None else len(self.file.differences)
        return day_state(issued=True, differences=differing, closed_by=self.closed_by)

    @property
    def closed_by(self) -> frozenset[str]:
        """The sides whose closing stands: one on an earlier file does not."""
        counts = None if self.file is None else self.file.digest
        return frozenset(closing.side for closing in self.closings if closing.file == counts)


@dataclass(frozen=True, slots=True)
class DayLine:
    """A bank's day in a list."""

    day: date
    sequence: int
    size: int
    digest: str
    state: DayState
    differences: int | None
    issued_at: datetime


_STATEMENT = """
    SELECT bank_id, day, digest, document, issued_at FROM service.bank_statement WHERE bank_id = $1 AND day = $2
"""
_FILES = """
    SELECT number, digest, lines, differences, received_at FROM service.bank_file
    WHERE bank_id = $1 AND day = $2 ORDER BY number
"""
_CLOSINGS = """
    SELECT side, authority, file_digest, closed_at FROM service.day_closing
    WHERE bank_id = $1 AND day = $2 ORDER BY closed_at, side
"""
_DAYS = """
    SELECT s.day, s.sequence, s.size, s.digest, s.issued_at, f.differing,
        coalesce((SELECT array_agg(side) FROM service.day_closing c WHERE c.bank_id = s.bank_id AND c.day = s.day
            AND c.file_digest IS NOT DISTINCT FROM f.digest), '{}') AS closed_by
    FROM service.bank_statement s
    LEFT JOIN LATERAL (SELECT digest, differing FROM service.bank_file WHERE bank_id = s.bank_id AND day = s.day
        ORDER BY number DESC LIMIT 1) AS f ON true
    WHERE s.bank_id = $1 AND s.day < $2 ORDER BY s.day DESC LIMIT $3
"""
_LOCK = "SELECT pg_advisory_xact_lock($1, $2)"
_KNOWN = """
    SELECT redemption_id FROM service.redemption_key WHERE redemption_id = ANY($2) AND bank_id = $1
"""
_OTHER_DAYS = """
    SELECT e.transfer_id, e.day FROM service.redemption_key k
    JOIN service.redemption_entry e ON e.participant_id = k.participant_id AND e.redemption_id = k.redemption_id
    WHERE k.redemption_id = ANY($2) AND k.bank_id = $1 AND e.day <> $3 AND e.transfer_id = ANY($4)
"""
_INSERT_FILE = """
    INSERT INTO service.bank_file (bank_id, day, number, digest, statement_digest, lines, differing, differences,
        call_id, received_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_CLOSING_CALL = """
    SELECT s.signature_base, s.signature FROM service.day_closing c JOIN service.signed_call s USING (call_id)
    WHERE c.bank_id = $1 AND c.day = $2 AND c.side = 'bank' ORDER BY c.number DESC LIMIT 1
"""
_CLOSE = """
    INSERT INTO service.day_closing (bank_id, day, side, number, authority, statement_digest, file_digest, call_id,
        closed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


async def read_days(tx: Connection, bank_id: int, before: date, limit: int) -> list[DayLine]:
    """The bank's days with a statement, newest first."""
    rows = await tx.fetch(_DAYS, bank_id, before, limit)
    return [
        DayLine(
            day=row["day"],
            sequence=row["sequence"],
            size=row["size"],
            digest=row["digest"].hex(),
            state=day_state(issued=True, differences=row["differing"], closed_by=frozenset(row["closed_by"])),
            differences=row["differing"],
            issued_at=row["issued_at"],
        )
        for row in rows
    ]


async def read_day(tx: Connection, bank_id: int, day: date) -> BankDay:
    """A bank's day with everything that was said of it. Raises StatementNotFound."""
    row = await tx.fetchrow(_STATEMENT, bank_id, day)
    if row is None:
        raise StatementNotFound(day)
    files = [_file(each) for each in await tx.fetch(_FILES, bank_id, day)]
    closings = [
        Closing(each["side"], each["authority"], _hex(each["file_digest"]), each["closed_at"])
        for each in await tx.fetch(_CLOSINGS, bank_id, day)
    ]
    return BankDay(
        bank_id=bank_id,
        day=day,
        digest=row["digest"].hex(),
        document=row["document"],
        issued_at=row["issued_at"],
        files=tuple(files),
        closings=tuple(closings),
    )


async def take_file(
    tx: Connection, bank_id: int, day: date, content: bytes, file: BankFile, call_id: UUID, fresh: Fresh
) -> BankDay:
    """Compare a bank's file of a day with our statement and keep what differs; the day afterwards.

    content  the file's bytes, of which `file` was read; the same bytes as the last file change nothing
    call_id  of the signed call that brought them

    Raises StatementNotFound, DayClosed.
    """
    await tx.execute(_LOCK, BANK_LOCK, bank_id)
    found = await read_day(tx, bank_id, day)
    digest = hashlib.sha256(content).digest()
    if found.file is not None and found.file.digest == digest.hex():
        return found
    if found.state == "closed":
        raise DayClosed(day)
    differences = await _compare(tx, found, file)
    number, at = len(found.files) + 1, fresh.clock()
    document, mark = differences_document(differences), bytes.fromhex(found.digest)
    await tx.execute(
        _INSERT_FILE,
        bank_id,
        day,
        number,
        digest,
        mark,
        len(file.lines),
        len(differences),
        document,
        call_id,
        at,
    )
    stored = StoredFile(number, digest.hex(), len(file.lines), differences, at)
    return _with(found, files=(*found.files, stored))


async def _compare(tx: Connection, found: BankDay, file: BankFile) -> tuple[Difference, ...]:
    redemptions = list({line.redemption_id for line in file.lines})
    transfers = list({line.transfer_id for line in file.lines})
    known = {row["redemption_id"] for row in await tx.fetch(_KNOWN, found.bank_id, redemptions)}
    elsewhere = await tx.fetch(_OTHER_DAYS, found.bank_id, redemptions, found.day, transfers)
    other_days = {row["transfer_id"]: row["day"] for row in elsewhere}
    # Aside: what a busy day holds takes a second to compare, and others are being answered meanwhile.
    return await asyncio.to_thread(lambda: compare(found.statement.entries, file, other_days=other_days, known=known))


async def close_by_bank(
    tx: Connection, bank_id: int, day: date, *, statement: str, file: str | None, call_id: UUID, fresh: Fresh
) -> BankDay:
    """Close a day for the bank, on the statement and the file (their digests, hex) that it names. Where nothing
    differs, this closes it for the platform too. Closing it again on the same changes nothing.

    Raises StatementNotFound, DayMoved.
    """
    found = await _locked(tx, bank_id, day, statement, file)
    if "bank" not in found.closed_by:
        found = await _close(tx, found, "bank", "bank", call_id, fresh)
    if "platform" not in found.closed_by and (found.file is None or not found.file.differences):
        found = await _close(tx, found, "platform", "rule", None, fresh)
        await _tell(tx, found, fresh)
    return found


async def close_by_operator(
    tx: Connection, bank_id: int, day: date, *, statement: str, file: str | None, fresh: Fresh
) -> BankDay:
    """Close a day for the platform, with the differences that the bank has closed on. Closing it again changes
    nothing.

    Raises StatementNotFound, DayMoved, BankNotClosed.
    """
    found = await _locked(tx, bank_id, day, statement, file)
    if found.state == "closed":
        return found
    if "bank" not in found.closed_by:
        raise BankNotClosed
    found = await _close(tx, found, "platform", "operator", None, fresh)
    await _tell(tx, found, fresh)
    return found


async def _locked(tx: Connection, bank_id: int, day: date, statement: str, file: str | None) -> BankDay:
    await tx.execute(_LOCK, BANK_LOCK, bank_id)
    found = await read_day(tx, bank_id, day)
    counts = None if found.file is None else found.file.digest
    if (statement, file) != (found.digest, counts):
        raise DayMoved(found.digest, counts)
    return found


async def _close(
    tx: Connection, found: BankDay, side: Side, authority: str, call_id: UUID | None, fresh: Fresh
) -> BankDay:
    counts = None if found.file is None else found.file.digest
    mark, file_mark = bytes.fromhex(found.digest), None if counts is None else bytes.fromhex(counts)
    number, at = sum(closing.side == side for closing in found.closings) + 1, fresh.clock()
    await tx.execute(_CLOSE, found.bank_id, found.day, side, number, authority, mark, file_mark, call_id, at)
    return _with(found, closings=(*found.closings, Closing(side, authority, counts, at)))


async def _tell(tx: Connection, found: BankDay, fresh: Fresh) -> None:
    """Put it into the log that both sides closed the day: for us the rule or an operator, for the bank its call."""
    authority = next(closing.authority for closing in reversed(found.closings) if closing.side == "platform")
    file = None if found.file is None else found.file.digest
    call = await tx.fetchrow(_CLOSING_CALL, found.bank_id, found.day)
    signature = None if call is None else sha256(b"%b\n%b" % tuple(call)).hexdigest()
    document = bytes.fromhex(found.digest)
    facts = facts_of(found.statement, document, "closed", authority=authority, file=file, signature=signature)
    await queue_leaf(tx, statement_leaf(facts, fresh.clock(), fresh.random(NONCE_BYTES)))


def _with(
    found: BankDay, *, files: Sequence[StoredFile] | None = None, closings: Sequence[Closing] | None = None
) -> BankDay:
    return BankDay(
        bank_id=found.bank_id,
        day=found.day,
        digest=found.digest,
        document=found.document,
        issued_at=found.issued_at,
        files=found.files if files is None else tuple(files),
        closings=found.closings if closings is None else tuple(closings),
    )


def _file(row: asyncpg.Record) -> StoredFile:
    return StoredFile(
        row["number"], row["digest"].hex(), row["lines"], read_differences(row["differences"]), row["received_at"]
    )


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()
