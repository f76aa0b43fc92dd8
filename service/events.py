"""Events out of the log: what is in it, in its one order, for each subscriber what it may see.

The log is the outbox: nothing is announced that is not there, and nothing there is ever announced otherwise. A place in
it is the cursor; whoever asks again from the same place gets the same events.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from ledger.store import Connection
from service.bank_events import read_bank_events
from service.vault import Vault, opened_beside

WINDOW = 5_000  # places one call looks through: what is others' is passed over, and the answer says how far it came

_ALL = """
    SELECT log_index, leaf, NULL::uuid AS activity_id FROM ledger.leaf
    WHERE log_index > $1 AND log_index <= $2 ORDER BY log_index LIMIT $3
"""

_OF_PARTICIPANT = """
    SELECT log_index, leaf, NULL::uuid AS activity_id FROM ledger.leaf
    WHERE participant_id = $4 AND log_index > $1 AND log_index <= $2 ORDER BY log_index LIMIT $3
"""

# A source learns what became of what it reported: the credit, and its reversal or maturity.
_OF_SOURCE = """
    SELECT l.log_index, l.leaf, a.participant_id, a.activity_id, e.sealed, k.kek_version, k.wrapped
    FROM ledger.leaf l
    JOIN ledger.transfer t USING (participant_id, transfer_id)
    JOIN service.activity a ON a.participant_id = t.participant_id
        AND a.activity_id = coalesce(t.reverses, t.matures, t.transfer_id)
    LEFT JOIN service.evidence e ON e.participant_id = a.participant_id AND e.activity_id = a.activity_id
    LEFT JOIN vault.person_key k ON k.participant_id = a.participant_id
    WHERE l.log_index > $1 AND l.log_index <= $2 AND a.source_id = (SELECT source_id FROM service.source WHERE uri = $4)
    ORDER BY l.log_index LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Who asks: a source or a bank by its URI, a participant, or with none of them somebody who may see everything."""

    source: str | None = None
    participant_id: UUID | None = None
    bank: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the log, as this subscriber may see it.

    index   its place
    kind    of the leaf
    at      when it was posted, UTC, to the second
    data    what is told of it
    """

    index: int
    kind: str
    at: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Events:
    """A page of events; `upto` is the last place that was looked at, where the next page begins behind."""

    events: tuple[Event, ...]
    upto: int
    size: int


async def read_events(tx: Connection, vault: Vault, subscriber: Subscriber, after: int, limit: int) -> Events:
    """The events behind the place `after` (-1 for all), `limit` at most."""
    size: int = await tx.fetchval("SELECT size FROM ledger.log_head")
    narrow = subscriber.source is not None or subscriber.bank is not None
    last = min(size - 1, after + WINDOW) if narrow else size - 1
    if subscriber.bank is not None:
        told, upto = await read_bank_events(tx, subscriber.bank, after, last, limit)
        return Events(tuple(Event(each.index, each.kind, each.at, each.data) for each in told), upto, size)
    if subscriber.source is not None:
        rows = await tx.fetch(_OF_SOURCE, after, last, limit, subscriber.source)
    elif subscriber.participant_id is not None:
        rows = await tx.fetch(_OF_PARTICIPANT, after, last, limit, subscriber.participant_id)
    else:
        rows = await tx.fetch(_ALL, after, last, limit)
    found = tuple(
        Event(row["log_index"], leaf["kind"], leaf["at"], _told(leaf, vault, row))
        for row in rows
        for leaf in [json.loads(row["leaf"])]
    )
    upto = found[-1].index if len(found) == limit else max(last, after)
    return Events(found, upto, size)


def _told(leaf: dict[str, Any], vault: Vault, row: asyncpg.Record) -> dict[str, Any]:
    """The whole entry; for a source what concerns its report, and nothing of the person: no pseudonym, no balance."""
    if row["activity_id"] is None:
        return {"entry": leaf}
    evidence = opened_beside(vault, row)
    told = {
        "activity_id": str(row["activity_id"]),
        "event_id": json.loads(evidence.document)["event"] if evidence else None,
        "transfer_id": leaf["transfer"],
        "day": leaf["day"],
        "reduction_mg": _sum(leaf, "co2e_mg"),
        "points": _sum(leaf, "points"),
    }
    if leaf["kind"] == "reversal":
        told["reason"] = leaf["reason"]
    return told


def _sum(leaf: dict[str, Any], asset: str) -> str:
    return str(sum(int(line["amount"]) for line in leaf["lines"] if line["asset"] == asset))
