"""What the log says to a bank: each step of its redemptions, listings of its products and offers, its statements.

Of the person nothing is told: no pseudonym, no balance, no bucket. The leaf is what it is read from, so that nothing is
told that is not in the log.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ledger.store import Connection

STEP_KINDS = ("hold", "capture", "release", "refund")
KINDS = (*STEP_KINDS, "listing", "statement")
"""Every kind of event a bank can have."""

# The key `bank` stands in no leaf but those of a bank's, and text inside of a leaf has its quotes escaped. A refund
# names the capture, and the capture its hold: looked up one by one, by key, for refunds alone.
_OF_BANKS = """
    SELECT l.log_index, l.leaf, CASE WHEN position('"kind":"refund"'::bytea IN l.leaf) > 0 THEN (
        SELECT capture.hold_id FROM ledger.transfer own
        JOIN ledger.transfer capture
            ON capture.participant_id = own.participant_id AND capture.transfer_id = own.reverses
        WHERE own.participant_id = l.participant_id AND own.transfer_id = l.transfer_id
    ) END AS hold_id
    FROM ledger.leaf l
    WHERE l.log_index > $1 AND l.log_index <= $2 AND position($4::bytea IN l.leaf) > 0
    ORDER BY l.log_index LIMIT $3
"""

_LISTINGS = """
    SELECT log_index, leaf FROM ledger.leaf
    WHERE log_index > $1 AND log_index <= $2 AND participant_id IS NULL
        AND position('"kind":"listing"'::bytea IN leaf) > 0
    ORDER BY log_index
"""

_WHOSE = "SELECT digest, bank FROM service.listing_document WHERE digest = ANY($1)"


@dataclass(frozen=True, slots=True)
class BankEvent:
    """An entry of the log as its bank is told of it.

    bank     its registered URI
    index    the place in the log
    id       the same wherever the event is told; of the leaf's digest, so that it outlasts a change of the log's name
    kind     of the leaf
    subject  what it is in order with: the redemption, the document, the day
    at       when it was posted, UTC, to the second
    data     what is told
    """

    bank: str
    index: int
    id: str
    kind: str
    subject: str
    at: str
    data: dict[str, Any]


async def read_bank_events(
    tx: Connection, bank: str | None, after: int, last: int, limit: int | None = None
) -> tuple[list[BankEvent], int]:
    """Events of one bank, or with None of every bank, behind the place `after` and as far as `last`, in order, `limit`
    at most; and the place as far as which these are all."""
    needle = b'"bank":"' if bank is None else f'"bank":{json.dumps(bank)}'.encode("ascii")
    rows = await tx.fetch(_OF_BANKS, after, last, limit, needle)
    upto: int = rows[-1]["log_index"] if len(rows) == limit else max(last, after)
    steps = (_of_leaf(row["log_index"], row["leaf"], row["hold_id"]) for row in rows)
    events = [event for event in steps if event is not None]
    events += await _listings(tx, bank, after, upto)
    events.sort(key=lambda event: event.index)
    if limit is not None and len(events) > limit:
        events = events[:limit]
        upto = events[-1].index
    return events, upto


async def _listings(tx: Connection, bank: str | None, after: int, upto: int) -> list[BankEvent]:
    rows = await tx.fetch(_LISTINGS, after, upto)
    if not rows:
        return []
    leaves = [(row["log_index"], row["leaf"], json.loads(row["leaf"])) for row in rows]
    digests = [bytes.fromhex(leaf["digest"]) for _, _, leaf in leaves]
    whose = {row["digest"].hex(): row["bank"] for row in await tx.fetch(_WHOSE, digests)}
    found = []
    for index, raw, leaf in leaves:
        owner = whose.get(leaf["digest"])
        if owner is None or bank not in (None, owner):
            continue
        names = ("action", "digest", "document_kind", "id", "reason", "version")
        subject = f"{leaf['document_kind']}:{leaf['id']}"
        found.append(_event(owner, index, raw, leaf, subject, {name: leaf[name] for name in names}))
    return found


def _of_leaf(index: int, raw: bytes, refunded_hold: UUID | None) -> BankEvent | None:
    """The event of a leaf that names its bank; None for a kind that banks are not told of."""
    leaf = json.loads(raw)
    if leaf["kind"] in STEP_KINDS:
        return _event(leaf["bank"], index, raw, leaf, *_step(leaf, refunded_hold))
    if leaf["kind"] == "statement":
        names = ("day", "digest", "sequence", "size", "state")
        return _event(leaf["bank"], index, raw, leaf, f"statement:{leaf['day']}", {name: leaf[name] for name in names})
    return None


def _step(leaf: dict[str, Any], refunded_hold: UUID | None) -> tuple[str, dict[str, Any]]:
    kind = leaf["kind"]
    redemption = leaf["transfer"] if kind == "hold" else str(refunded_hold) if kind == "refund" else leaf["hold"]
    told = {
        "redemption_id": redemption,
        "transfer_id": leaf["transfer"],
        "day": leaf["day"],
        "units": leaf["units"],
        "points": _sum(leaf, "points"),
        "value_fen": leaf["value"],
        "pool": leaf["pool"],
    }
    if kind == "hold":
        told |= {"offer": leaf["offer"], "expires_at": leaf["expires_at"]}
    if kind in ("release", "refund"):
        told |= {"authority": leaf["authority"], "reason": leaf["reason"]}
    if kind == "refund":
        told["capture_id"] = leaf["reverses"]
    return redemption, told


def _event(bank: str, index: int, raw: bytes, leaf: dict[str, Any], subject: str, data: dict[str, Any]) -> BankEvent:
    name = f"evt_{hashlib.sha256(raw).hexdigest()[:32]}"
    return BankEvent(bank, index, name, leaf["kind"], subject, leaf["at"], {**data, "log_index": str(index)})


def _sum(leaf: dict[str, Any], asset: str) -> str:
    """Of the transfer's lines; each point and each gram is in one of them."""
    lines: Sequence[dict[str, Any]] = leaf["lines"]
    return str(sum(int(line["amount"]) for line in lines if line["asset"] == asset))
