"""Registering clients and their keys, suspending and resuming them, revoking what they were given.

All of this lives by the real time of the database, as tokens do, wherever the platform's clock has been moved for a
test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from service.database import Connection

Action = Literal["registered", "changed", "key-added", "key-ended", "suspended", "resumed", "tokens-revoked"]

URI_OF = {"provider": "source", "bank": "bank", "funder": "funder"}
"""The claim that names who a client of this role speaks for; the other roles speak for themselves."""

CLIENT_ROLES = ("provider", "participant", "bank", "auditor", "funder", "assurer", "authority")
"""Not `operator`: an operator is a person, and two machines are not two people."""


class ClientNotFound(Exception):
    """No client is registered under this id."""


class ClientConflict(Exception):
    """The id stands for a client of another role, or that speaks for somebody else."""


class ClientKeyConflict(Exception):
    """The key id stands for another key of this client, or for this one from another moment on or to an earlier end;
    or the key is another client's; or the client is an app of people, which has no key."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A client's public key as JWK text, and when its assertions count: from `valid_from`, before `valid_to`."""

    kid: str
    public_key: str
    valid_from: datetime
    valid_to: datetime | None

    def counts(self, at: datetime) -> bool:
        """Whether an assertion shown at this moment counts."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """A client as it is registered now, with every key it has had.

    uri           of the source, bank or funder that it speaks for
    tokens_from   tokens issued before this moment are refused; None refuses none
    """

    client_id: str
    role: str
    uri: str | None
    title_zh: str
    title_en: str
    scopes: frozenset[str]
    redirect_uris: tuple[str, ...]
    state: str
    tokens_from: datetime | None
    keys: Mapping[str, ClientKey]

    @property
    def active(self) -> bool:
        """Whether it is given tokens, and those it has are taken."""
        return self.state == "active"

    @property
    def public(self) -> bool:
        """An app of people, which keeps no secret (RFC 6749, 2.1) and so has no key."""
        return self.role == "participant"


@dataclass(frozen=True, slots=True)
class Registration:
    """What a client is registered with; role and URI are for good."""

    client_id: str
    role: str
    uri: str | None
    title_zh: str
    title_en: str
    scopes: frozenset[str]
    redirect_uris: tuple[str, ...]


_REGISTER = """
    INSERT INTO service.oauth_client AS c
        (client_id, role, uri, title_zh, title_en, scopes, redirect_uris, registered_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())
    ON CONFLICT (client_id) DO UPDATE SET title_zh = excluded.title_zh, title_en = excluded.title_en,
        scopes = excluded.scopes, redirect_uris = excluded.redirect_uris
        WHERE c.role = excluded.role AND c.uri IS NOT DISTINCT FROM excluded.uri
    RETURNING xmax = 0 AS added
"""
_CLIENTS = """
    SELECT client_id, role, uri, title_zh, title_en, scopes, redirect_uris, state, tokens_from FROM service.oauth_client
    WHERE $1::text IS NULL OR client_id = $1 ORDER BY client_id
"""
_KEYS = """
    SELECT client_id, kid, public_key, valid_from, valid_to FROM service.client_key
    WHERE client_id = ANY($1) ORDER BY valid_from DESC, kid
"""
_LOCK = "SELECT role, state FROM service.oauth_client WHERE client_id = $1 FOR UPDATE"
_HOLD = "SELECT FROM service.oauth_client WHERE client_id = $1 FOR KEY SHARE"
_KEY = "SELECT valid_to FROM service.client_key WHERE client_id = $1 AND kid = $2"
_REGISTER_KEY = """
    INSERT INTO service.client_key AS k (client_id, kid, public_key, valid_from, valid_to, registered_at)
    SELECT $1, $2, $3, $4, $5, clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM service.client_key o WHERE o.public_key = $3 AND (o.client_id, o.kid) <> ($1, $2))
    ON CONFLICT (client_id, kid) DO UPDATE SET valid_to = excluded.valid_to
        WHERE k.public_key = excluded.public_key AND k.valid_from = excluded.valid_from
            AND (k.valid_to IS NULL OR excluded.valid_to <= k.valid_to)
    RETURNING true
"""
_KEYS_LOCK = 7262041  # the advisory lock of key registrations: two clients must not register one key at once
_SET_STATE = "UPDATE service.oauth_client SET state = $2 WHERE client_id = $1 AND state <> $2 RETURNING true"
# A token's `iat` is in whole seconds: the moment is the next whole one, so that a token of this very second is refused.
_TOKENS_FROM = """
    UPDATE service.oauth_client
    SET tokens_from = greatest(tokens_from, date_trunc('second', clock_timestamp()) + interval '1 s')
    WHERE client_id = $1
"""
_CHANGED = """
    INSERT INTO service.client_change (client_id, number, changed_at, action, kid, by_operator)
    SELECT $1, coalesce(max(number), 0) + 1, clock_timestamp(), $2, $3, $4
    FROM service.client_change WHERE client_id = $1
"""  # the caller has the client's row locked, so no two take one number


async def register_client(tx: Connection, wanted: Registration, *, by: str) -> None:
    """Register a client by its id, or give it other titles, scopes and addresses to redirect to.

    by   the operator's code

    Raises ClientConflict.
    """
    added = await tx.fetchval(
        _REGISTER,
        wanted.client_id,
        wanted.role,
        wanted.uri,
        wanted.title_zh,
        wanted.title_en,
        sorted(wanted.scopes),
        list(wanted.redirect_uris),
    )
    if added is None:
        raise ClientConflict
    await _record(tx, wanted.client_id, "registered" if added else "changed", None, by)


async def read_clients(tx: Connection, client_id: str | None = None) -> list[OAuthClient]:
    """The client of this id, or all, by id; an unknown one is absent."""
    rows = await tx.fetch(_CLIENTS, client_id)
    keys: dict[str, dict[str, ClientKey]] = {row["client_id"]: {} for row in rows}
    for owner, *key in await tx.fetch(_KEYS, list(keys)):
        keys[owner][key[0]] = ClientKey(*key)
    return [
        OAuthClient(
            **{
                **dict(row),
                "scopes": frozenset(row["scopes"]),
                "redirect_uris": tuple(row["redirect_uris"]),
                "keys": keys[row["client_id"]],
            }
        )
        for row in rows
    ]


async def read_client(tx: Connection, client_id: str) -> OAuthClient | None:
    """The client of this id, None when there is none."""
    return next(iter(await read_clients(tx, client_id)), None)


async def read_client_locked(tx: Connection, client_id: str) -> OAuthClient | None:
    """The same, inside a transaction: nobody changes the client or its keys before the transaction's end."""
    await tx.execute(_HOLD, client_id)
    return await read_client(tx, client_id)


async def register_client_key(tx: Connection, client_id: str, key: ClientKey, *, by: str) -> None:
    """Register a client's public key, or end it, or let it end earlier: never later, and never again without an end.
    Call it inside a transaction.

    Raises ClientNotFound, ClientKeyConflict.
    """
    await tx.execute("SELECT pg_advisory_xact_lock($1)", _KEYS_LOCK)
    client = await _locked(tx, client_id)
    if client == "participant":
        raise ClientKeyConflict
    before = await tx.fetchrow(_KEY, client_id, key.kid)
    wanted = (client_id, key.kid, key.public_key, key.valid_from, key.valid_to)
    if not await tx.fetchval(_REGISTER_KEY, *wanted):
        raise ClientKeyConflict
    if before is None:
        await _record(tx, client_id, "key-added", key.kid, by)
    if key.valid_to is not None and (before is None or before["valid_to"] != key.valid_to):
        await _record(tx, client_id, "key-ended", key.kid, by)


async def set_client_state(tx: Connection, client_id: str, action: Literal["suspended", "resumed"], *, by: str) -> None:
    """Suspend a client, whose tokens are refused from now on, for good; or resume it, and it may ask for new ones.

    Again the same changes nothing. Call it inside a transaction. Raises ClientNotFound.
    """
    await _locked(tx, client_id)
    if await tx.fetchval(_SET_STATE, client_id, "suspended" if action == "suspended" else "active"):
        await tx.execute(_TOKENS_FROM, client_id)
        await _record(tx, client_id, action, None, by)


async def revoke_tokens(tx: Connection, client_id: str, *, by: str) -> None:
    """Refuse every token that the client was given until now. Call it inside a transaction. Raises ClientNotFound."""
    await _locked(tx, client_id)
    await tx.execute(_TOKENS_FROM, client_id)
    await _record(tx, client_id, "tokens-revoked", None, by)


async def _locked(tx: Connection, client_id: str) -> str:
    row = await tx.fetchrow(_LOCK, client_id)
    if row is None:
        raise ClientNotFound
    role: str = row["role"]
    return role


async def _record(tx: Connection, client_id: str, action: Action, kid: str | None, by: str) -> None:
    await tx.execute(_CHANGED, client_id, action, kid, by)
