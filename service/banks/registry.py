"""Registering banks and their keys, suspending and resuming; every change of a key is announced in the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from ledger.leaves import NONCE_BYTES
from ledger.notices import KeyFacts, key_leaf
from ledger.store import queue_leaf
from service.clock import Fresh
from service.database import Connection
from service.jws import raw_public_key, thumbprint

Action = Literal["suspended", "resumed"]


class BankNotFound(Exception):
    """No bank is registered under this URI."""


class BankKeyConflict(Exception):
    """The key id stands for another key of this bank, or for this one from another moment on or to an earlier end; or
    the key is another bank's, and a signature must say whose it is."""


@dataclass(frozen=True, slots=True)
class RegisteredBankKey:
    """A bank's public key as JWK text, and when its signatures count: from `valid_from`, before `valid_to`."""

    key_id: str
    public_key: str
    valid_from: datetime
    valid_to: datetime | None

    def counts(self, at: datetime) -> bool:
        """Whether a signature made at this moment counts."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


@dataclass(frozen=True, slots=True)
class RegisteredBank:
    """A bank as it is registered now, with every key it has had, the newest first."""

    bank_id: int
    uri: str
    title_zh: str
    title_en: str
    programme: str
    state: str
    keys: Mapping[str, RegisteredBankKey]

    @property
    def active(self) -> bool:
        """Whether points can be held for it."""
        return self.state == "active"


_REGISTER = """
    INSERT INTO service.bank AS b (uri, title_zh, title_en, programme, registered_at)
    VALUES ($1, $2, $3, $4, clock_timestamp() + $5::interval)
    ON CONFLICT (uri) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en
"""  # the programme of a registration is for good: redemptions rest on it

_BANKS = """
    SELECT bank_id, uri, title_zh, title_en, programme, state FROM service.bank
    WHERE $1::text[] IS NULL OR uri = ANY($1) ORDER BY uri
"""
_KEYS = """
    SELECT bank_id, key_id, public_key, valid_from, valid_to FROM service.bank_key
    WHERE bank_id = ANY($1) ORDER BY valid_from DESC, key_id
"""

_LOCK = "SELECT bank_id, uri, programme, state FROM service.bank WHERE uri = $1 FOR UPDATE"
_KEY = "SELECT valid_to FROM service.bank_key WHERE bank_id = $1 AND key_id = $2"
_REGISTER_KEY = """
    INSERT INTO service.bank_key AS k (bank_id, key_id, public_key, valid_from, valid_to, registered_at)
    SELECT $1, $2, $3, $4, $5, clock_timestamp() + $6::interval
    WHERE NOT EXISTS (SELECT FROM service.bank_key o WHERE o.public_key = $3 AND (o.bank_id, o.key_id) <> ($1, $2))
    ON CONFLICT (bank_id, key_id) DO UPDATE SET valid_to = excluded.valid_to
        WHERE k.public_key = excluded.public_key AND k.valid_from = excluded.valid_from
            AND (k.valid_to IS NULL OR excluded.valid_to <= k.valid_to)
    RETURNING true
"""
_KEYS_LOCK = 7262021  # the advisory lock of key registrations: two banks must not register one key at once
_SET_STATE = "UPDATE service.bank SET state = $2 WHERE bank_id = $1 AND state <> $2 RETURNING true"
_CHANGED = """
    INSERT INTO service.bank_change (bank_id, changed_at, action, reason)
    VALUES ($1, clock_timestamp() + $2::interval, $3, $4)
"""


async def register_bank(tx: Connection, uri: str, titles: tuple[str, str], programme: str, offset: timedelta) -> None:
    """Register a bank by its URI, or give it other titles (Chinese, English)."""
    await tx.execute(_REGISTER, uri, *titles, programme, offset)


async def read_banks(tx: Connection, uris: Sequence[str] | None = None) -> list[RegisteredBank]:
    """The banks of these URIs, or all, by URI; unknown ones are absent."""
    banks = await tx.fetch(_BANKS, None if uris is None else list(uris))
    keys: dict[int, dict[str, RegisteredBankKey]] = {row["bank_id"]: {} for row in banks}
    for bank_id, *key in await tx.fetch(_KEYS, list(keys)):
        keys[bank_id][key[0]] = RegisteredBankKey(*key)
    return [RegisteredBank(**row, keys=keys[row["bank_id"]]) for row in banks]


async def read_bank(tx: Connection, uri: str) -> RegisteredBank | None:
    """The bank of this URI, None when there is none."""
    return next(iter(await read_banks(tx, [uri])), None)


async def register_bank_key(tx: Connection, uri: str, key: RegisteredBankKey, fresh: Fresh, offset: timedelta) -> None:
    """Register a bank's public key, or end it, or let it end earlier: never later, and never again without an end.
    What changes is announced in the log. Call it inside a transaction.

    Raises BankNotFound, BankKeyConflict.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _KEYS_LOCK)
    bank = await tx.fetchrow(_LOCK, uri)
    if bank is None:
        raise BankNotFound
    bank_id = bank["bank_id"]
    before = await tx.fetchrow(_KEY, bank_id, key.key_id)
    wanted = (bank_id, key.key_id, key.public_key, key.valid_from, key.valid_to, offset)
    if not await tx.fetchval(_REGISTER_KEY, *wanted):
        raise BankKeyConflict
    changes: list[tuple[str, datetime]] = []
    if before is None:
        changes.append(("added", key.valid_from))
    if key.valid_to is not None and (before is None or before["valid_to"] != key.valid_to):
        changes.append(("revoked", key.valid_to))
    if changes:
        now: datetime = await tx.fetchval("SELECT clock_timestamp() + $1::interval", offset)
        for action, since in changes:
            facts = _announced(bank["programme"], uri, key.public_key, action, since)
            await queue_leaf(tx, key_leaf(facts, now, fresh.random(NONCE_BYTES)))


def _announced(programme: str, uri: str, public_key: str, action: str, since: datetime) -> KeyFacts:
    algorithm, public = raw_public_key(public_key)
    mark = thumbprint(public_key).hex()
    return KeyFacts(programme, action, "bank", uri, mark, algorithm, public.hex(), since)


async def set_bank_state(tx: Connection, uri: str, action: Action, reason: str | None, offset: timedelta) -> None:
    """Suspend a bank or resume it; again the same changes nothing.

    reason   a code, for the history

    The caller shuts postings out first (service.participants), so that none holds points for a bank that is suspended
    already. Raises BankNotFound.
    """
    bank = await tx.fetchrow(_LOCK, uri)
    if bank is None:
        raise BankNotFound
    if await tx.fetchval(_SET_STATE, bank["bank_id"], "suspended" if action == "suspended" else "active"):
        await tx.execute(_CHANGED, bank["bank_id"], offset, action, reason)
