"""Registers 名录: who is covered by emission trading, and which installations are claimed in other schemes.

An entry is a dated fact with its source: a tag of the entity's code or of the installation, a scheme, its first and
last day, and the document it was taken from. The day of an activity decides whether it counts. An entry that turns out
wrong is withdrawn, never deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from sqlalchemy import BigInteger, Column, Date, DateTime, Identity, Index, LargeBinary, SmallInteger, Text
from sqlmodel import Field

from service.database import Connection, ServiceTable

Register = Literal["coverage", "elsewhere"]

# What a register's entries are about: the reference whose tag they carry (service/activities/claims.py).
SUBJECTS: dict[Register, str] = {"coverage": "site", "elsewhere": "installation"}


class RegisterEntry(ServiceTable, table=True):
    """One entry of a register: whom or what it is about, as a tag, on which days, and where that is written."""

    __tablename__ = "register_entry"
    entry_id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    register_name: str = Field(sa_column=Column("register", Text, nullable=False))
    subject_tag: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    scheme: str = Field(sa_column=Column(Text, nullable=False))
    valid_from: date = Field(sa_column=Column(Date, nullable=False))
    valid_to: date | None = Field(sa_column=Column(Date))
    source: str = Field(sa_column=Column(Text, nullable=False))
    imported_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (Index("register_entry_subject_index", "register", "subject_tag"),)


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to import; `valid_to` is None where no end is known."""

    subject_tag: bytes
    valid_from: date
    valid_to: date | None


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changed, or would change."""

    added: int
    unchanged: int
    withdrawn: int


@dataclass(frozen=True, slots=True)
class Listed:
    """The live entries of one scheme from one source: how many, and the days they span; `last` is None when one of them
    has no end."""

    scheme: str
    source: str
    entries: int
    first: date
    last: date | None
    imported_at: datetime


_IMPORTS = (
    7262020  # the advisory lock of imports, with the register's place: two at once would both add what is missing
)

_LIVE = """
    SELECT entry_id, subject_tag, valid_from, valid_to, source FROM service.register_entry
    WHERE register = $1 AND scheme = $2 AND withdrawn_at IS NULL
"""

_ADD = """
    INSERT INTO service.register_entry (register, subject_tag, key_version, scheme, valid_from, valid_to, source,
        imported_at)
    SELECT $1, new.tag, $2, $3, new.valid_from, new.valid_to, $4, clock_timestamp()
    FROM unnest($5::bytea[], $6::date[], $7::date[]) AS new (tag, valid_from, valid_to)
"""

_WITHDRAW = "UPDATE service.register_entry SET withdrawn_at = clock_timestamp() WHERE entry_id = ANY($1)"

_LIST = """
    SELECT scheme, source, count(*)::int AS entries, min(valid_from) AS first,
        CASE WHEN count(valid_to) = count(*) THEN max(valid_to) END AS last, max(imported_at) AS imported_at
    FROM service.register_entry
    WHERE register = $1 AND withdrawn_at IS NULL AND ($2::bytea IS NULL OR subject_tag = $2)
    GROUP BY scheme, source ORDER BY scheme, first, source
"""


async def import_entries(
    tx: Connection,
    register: Register,
    scheme: str,
    source: str,
    entries: Sequence[NewEntry],
    *,
    key_version: int,
    replace: bool = False,
    dry_run: bool = False,
) -> Imported:
    """Bring a register up to date in the caller's transaction; the same import again changes nothing.

    An entry is known when its subject, its days and its source are. `replace` withdraws what the register has of this
    scheme and `entries`, no two of which are equal, have not. A dry run only counts.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1, $2)", _IMPORTS, list(SUBJECTS).index(register))
    live = {
        (row["subject_tag"], row["valid_from"], row["valid_to"], row["source"]): row["entry_id"]
        for row in await tx.fetch(_LIVE, register, scheme)
    }
    wanted = {(entry.subject_tag, entry.valid_from, entry.valid_to, source): entry for entry in entries}
    new = [entry for key, entry in wanted.items() if key not in live]
    gone = [entry_id for key, entry_id in live.items() if key not in wanted] if replace else []
    if not dry_run:
        await tx.execute(_WITHDRAW, gone)
        await tx.execute(
            _ADD,
            register,
            key_version,
            scheme,
            source,
            [entry.subject_tag for entry in new],
            [entry.valid_from for entry in new],
            [entry.valid_to for entry in new],
        )
    return Imported(added=len(new), unchanged=len(wanted) - len(new), withdrawn=len(gone))


async def list_entries(tx: Connection, register: Register, subject_tag: bytes | None = None) -> list[Listed]:
    """What a register holds, by scheme and source; of one subject alone where its tag is given."""
    return [Listed(*row.values()) for row in await tx.fetch(_LIST, register, subject_tag)]
