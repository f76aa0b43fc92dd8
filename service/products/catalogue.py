"""The board as one process knows it: every document ever submitted, where it stands, and why; a second old at most."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NoReturn

import asyncpg
import structlog

from service.database import FAULTS, Connection, Pool
from service.products.evidence import faults, offer_faults
from service.products.model import DocumentKind, Offer, Product, Reason
from service.products.parsing import parse_listing

_log = structlog.get_logger(__name__)

REFRESH_S = 1.0  # how long a change may take to be seen in every process; what may be held is asked of the database

_CURRENT = ("listed", "suspended")  # one version of an id at most
# Which version of an id is shown: a draft hides nothing, what was taken down least of all.
_RANK = {"submitted": 0, "taken_down": 1, "suspended": 2, "listed": 2}
# Steps are never taken back, so their number tells whether anything changed, whatever order they committed in.
_CHANGES = "SELECT count(*) FROM service.listing_change"
_ALL = """
    SELECT l.kind, l.id, l.version, l.state, l.good_through, l.changed_at, d.digest, d.document, d.submitted_at,
        (SELECT c.reason FROM service.listing_change c
         WHERE c.kind = l.kind AND c.id = l.id AND c.version = l.version ORDER BY c.change_id DESC LIMIT 1) AS reason,
        (SELECT count(*) FROM service.listing_change c
         WHERE c.kind = l.kind AND c.id = l.id AND c.version = l.version AND c.action = 'approved') AS approvals
    FROM service.listing l JOIN service.listing_document d USING (kind, id, version)
    ORDER BY l.kind, l.id, l.version
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a document and where it stands.

    state         submitted, listed, suspended or taken_down; `reason` is the code of its last step, if it had one
    good_through  the last day its evidence carries it; None while it was never listed
    approvals     how many people have approved it
    """

    document: Product | Offer
    state: str
    reason: str | None
    good_through: date | None
    approvals: int
    submitted_at: datetime
    changed_at: datetime


@dataclass(slots=True)
class Offers:
    """The products and offers there are, refreshed while a process serves: a copy, for reading and pricing."""

    _entries: Mapping[tuple[str, str, int], Entry] = field(default_factory=dict)
    _shown: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    _parsed: dict[bytes, Product | Offer] = field(default_factory=dict)
    _changes: int = -1

    async def refresh(self, tx: "Connection | asyncpg.Connection[asyncpg.Record]") -> None:
        """Read what changed since the last time."""
        changes: int = await tx.fetchval(_CHANGES)
        if changes == self._changes:
            return
        entries = {}
        for row in await tx.fetch(_ALL):
            document = self._parsed.get(row["digest"])
            if document is None:
                document = self._parsed[row["digest"]] = parse_listing(row["document"])
            entries[row["kind"], row["id"], row["version"]] = Entry(
                document,
                row["state"],
                row["reason"],
                row["good_through"],
                row["approvals"],
                row["submitted_at"],
                row["changed_at"],
            )
        shown: dict[tuple[str, str], Entry] = {}
        for (kind, name, _), entry in entries.items():  # oldest version first
            before = shown.get((kind, name))
            if before is None or _RANK[entry.state] >= _RANK[before.state]:
                shown[kind, name] = entry
        self._entries, self._shown, self._changes = entries, shown, changes

    def offer(self, id_: str, version: int | None = None) -> Offer | None:
        """An offer, whatever its state, as `entry` finds it; None where there is none."""
        entry = self.entry("offer", id_, version)
        return entry.document if entry is not None and isinstance(entry.document, Offer) else None

    def product(self, id_: str, version: int | None = None) -> Product | None:
        """A product in the same way."""
        entry = self.entry("product", id_, version)
        return entry.document if entry is not None and isinstance(entry.document, Product) else None

    def entry(self, kind: DocumentKind, id_: str, version: int | None = None) -> Entry | None:
        """One version; without a version the one that is listed or suspended, else the last that was, else a draft."""
        return self._shown.get((kind, id_)) if version is None else self._entries.get((kind, id_, version))

    def entries(self, kind: DocumentKind) -> Iterator[Entry]:
        """Of each id the version that `entry` gives, by id."""
        return (entry for (of, _), entry in self._shown.items() if of == kind)

    def drafts(self) -> list[Entry]:
        """Every version that waits for its approvals, by kind, id and version."""
        return [entry for entry in self._entries.values() if entry.state == "submitted"]

    def document(self, digest: str) -> bytes | None:
        """The canonical bytes of a digest in hex, of any version ever submitted; None where there is none."""
        found = self._parsed.get(bytes.fromhex(digest))
        return None if found is None else found.document

    def listed(self, day: date) -> list[Offer]:
        """The offers that stand on the board on this day, by id."""
        return [
            entry.document
            for entry in self.entries("offer")
            if isinstance(entry.document, Offer) and not self.why_not(entry, day)
        ]

    def why_not(self, entry: Entry, day: date) -> tuple[Reason, ...]:
        """Why a document is not on the board on this day; empty when it is. First its state, then its evidence."""
        found: list[Reason] = []
        if entry.state != "listed":
            found.append(_STATES[entry.state])
        document = entry.document
        if isinstance(document, Product):
            return (*found, *faults(document, day))
        of = self.entry("product", document.product)
        product = of.document if of is not None and of.state in _CURRENT else None
        assert product is None or isinstance(product, Product)
        found += offer_faults(document, product, day)
        if of is not None and of.state == "suspended":
            found.append(Reason("product-suspended", "其产品已暂停", "its product is suspended"))
        if product is not None:
            found += faults(product, day)
        return tuple(found)


_STATES = {
    "submitted": Reason("not-approved", "尚未经两人批准上架", "two people have not approved its listing yet"),
    "suspended": Reason("suspended", "已暂停", "it is suspended"),
    "taken_down": Reason("taken-down", "已下架", "it was taken down"),
}


async def keep_offers_fresh(pool: Pool, offers: Offers) -> NoReturn:
    """Refresh for as long as the process serves. While the database is away the last known board stands."""
    while True:
        await asyncio.sleep(REFRESH_S)
        try:
            async with pool.acquire() as connection:
                await offers.refresh(connection)
        except FAULTS as error:
            _log.warning("the board could not be read, the last known stands", because=type(error).__name__)
