"""Endpoints: where a bank has its events sent, under which secrets, and how far they have been queued."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from service.database import Connection
from service.keyring import Keyring
from service.webhooks.signing import new_secret, seal_secret, secret_text

MOST_OF_A_BANK = 10
LONGEST_URL = 500
OVERLAP = timedelta(hours=24)
"""How long a former secret signs beside the new one unless something else is asked for."""

_COLUMNS = "webhook_id, bank, url, kinds, state, because, taken_to, created_at, changed_at"
_LOCK_BANK = "SELECT pg_advisory_xact_lock(hashtextextended('webhooks of ' || $1, 0))"
_COUNT = "SELECT count(*) FROM service.webhook WHERE bank = $1"
_LAST_PLACE = "SELECT size - 1 FROM ledger.log_head"
_INSERT = f"""
    INSERT INTO service.webhook ({_COLUMNS}) VALUES ($1, $2, $3, $4, 'active', NULL, $5, $6, $6) RETURNING {_COLUMNS}
"""
_OF_BANK = f"SELECT {_COLUMNS} FROM service.webhook WHERE bank = $1 ORDER BY webhook_id"
_READ = f"SELECT {_COLUMNS} FROM service.webhook WHERE bank = $1 AND webhook_id = $2"
_LOCK = f"{_READ} FOR NO KEY UPDATE"
_CHANGE = f"""
    UPDATE service.webhook SET url = $3, kinds = $4, state = $5, taken_to = $6, changed_at = $7,
        because = CASE WHEN $5 = 'disabled' THEN because END
    WHERE bank = $1 AND webhook_id = $2 RETURNING {_COLUMNS}
"""
_DELETE = "DELETE FROM service.webhook WHERE bank = $1 AND webhook_id = $2"
_PARTS = ("webhook_secret", "webhook_message", "webhook_attempt")
_ADD_SECRET = """
    INSERT INTO service.webhook_secret (webhook_id, number, key_version, sealed, created_at)
    SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4 FROM service.webhook_secret WHERE webhook_id = $1
"""
# Of the former secrets only the newest lives on: two at most sign.
_END_SECRETS = """
    UPDATE service.webhook_secret s SET ends_at = least(coalesce(s.ends_at, $3), CASE WHEN s.number = newest THEN $3
        ELSE $2 END)
    FROM (SELECT max(number) AS newest FROM service.webhook_secret WHERE webhook_id = $1) AS of_all
    WHERE s.webhook_id = $1
"""


class WebhookNotFound(Exception):
    """The bank has no endpoint of this id."""


class TooManyWebhooks(Exception):
    """The bank has as many endpoints as it may have."""


class UrlRefused(Exception):
    """No events are sent to such an address; `reason` is a code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of service.webhook (service/webhooks/models.py)."""

    webhook_id: UUID
    bank: str
    url: str
    kinds: tuple[str, ...]
    state: str
    because: str | None
    taken_to: int
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be changed of an endpoint; None leaves it."""

    url: str | None = None
    kinds: Sequence[str] | None = None
    state: str | None = None


def checked_url(url: str, *, plain_allowed: bool) -> tuple[str, int]:
    """Host and port of an address that events may be sent to, as far as its text tells.

    plain_allowed   whether http:// is, as in development

    Raises UrlRefused.
    """
    if len(url) > LONGEST_URL or not all("!" <= letter <= "~" for letter in url):
        raise UrlRefused("not-a-url")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlRefused("not-a-url") from None
    if parts.scheme != "https" and not (plain_allowed and parts.scheme == "http"):
        raise UrlRefused("not-https")
    if not parts.hostname or port == 0:
        raise UrlRefused("not-a-url")
    if "@" in parts.netloc:
        raise UrlRefused("carries-credentials")
    if "#" in url:
        raise UrlRefused("has-fragment")
    return parts.hostname, port or (443 if parts.scheme == "https" else 80)


async def create(
    tx: Connection,
    keyring: Keyring,
    webhook_id: UUID,
    bank: str,
    url: str,
    kinds: Sequence[str],
    from_index: int | None,
    at: datetime,
) -> tuple[Endpoint, str]:
    """A new endpoint and its secret, which is shown once.

    from_index   the first place of the log whose events are sent; None for what is logged from now on

    Raises TooManyWebhooks.
    """
    await tx.execute(_LOCK_BANK, bank)
    if await tx.fetchval(_COUNT, bank) >= MOST_OF_A_BANK:
        raise TooManyWebhooks(bank)
    taken_to = await _place_before(tx, from_index)
    row = await tx.fetchrow(_INSERT, webhook_id, bank, url, list(kinds), taken_to, at)
    assert row is not None
    return _endpoint(row), await _add_secret(tx, keyring, webhook_id, at)


async def read_all(tx: Connection, bank: str) -> list[Endpoint]:
    """A bank's endpoints, the oldest first."""
    return [_endpoint(row) for row in await tx.fetch(_OF_BANK, bank)]


async def read(tx: Connection, bank: str, webhook_id: UUID) -> Endpoint:
    """One of the bank's endpoints. Raises WebhookNotFound."""
    return _found(await tx.fetchrow(_READ, bank, webhook_id))


async def change(tx: Connection, bank: str, webhook_id: UUID, wanted: Change, at: datetime) -> Endpoint:
    """The endpoint as it is from now on. Made active again, it goes on where it was. Raises WebhookNotFound."""
    known = _found(await tx.fetchrow(_LOCK, bank, webhook_id))
    url, state = wanted.url or known.url, wanted.state or known.state
    kinds = known.kinds if wanted.kinds is None else wanted.kinds
    return _found(await tx.fetchrow(_CHANGE, bank, webhook_id, url, list(kinds), state, known.taken_to, at))


async def replay(tx: Connection, bank: str, webhook_id: UUID, from_index: int, at: datetime) -> Endpoint:
    """Queue everything from a place of the log on once more, whatever became of it before. Raises WebhookNotFound."""
    known = _found(await tx.fetchrow(_LOCK, bank, webhook_id))
    # Never forwards: what was not queued yet would be left out.
    taken_to = min(known.taken_to, await _place_before(tx, from_index))
    row = await tx.fetchrow(_CHANGE, bank, webhook_id, known.url, list(known.kinds), known.state, taken_to, at)
    return _found(row)


async def delete(tx: Connection, bank: str, webhook_id: UUID) -> None:
    """The endpoint with its secrets, its queue and its history. Raises WebhookNotFound."""
    if await tx.execute(_DELETE, bank, webhook_id) == "DELETE 0":
        raise WebhookNotFound(webhook_id)
    for part in _PARTS:
        await tx.execute(f"DELETE FROM service.{part} WHERE webhook_id = $1", webhook_id)


async def rotate(
    tx: Connection, keyring: Keyring, bank: str, webhook_id: UUID, overlap: timedelta, at: datetime
) -> tuple[str, datetime]:
    """A new secret, shown once, and until when the former one signs beside it. Raises WebhookNotFound."""
    _found(await tx.fetchrow(_LOCK, bank, webhook_id))
    until = at + overlap
    await tx.execute(_END_SECRETS, webhook_id, at, until)
    return await _add_secret(tx, keyring, webhook_id, at), until


async def _add_secret(tx: Connection, keyring: Keyring, webhook_id: UUID, at: datetime) -> str:
    secret = new_secret()
    version, sealed = seal_secret(keyring, webhook_id, secret)
    await tx.execute(_ADD_SECRET, webhook_id, version, sealed, at)
    return secret_text(secret)


async def _place_before(tx: Connection, from_index: int | None) -> int:
    last: int = await tx.fetchval(_LAST_PLACE)
    return last if from_index is None else min(last, from_index - 1)


def _found(row: asyncpg.Record | None) -> Endpoint:
    if row is None:
        raise WebhookNotFound
    return _endpoint(row)


def _endpoint(row: asyncpg.Record) -> Endpoint:
    values = dict(row)
    return Endpoint(**values | {"kinds": tuple(values["kinds"])})
