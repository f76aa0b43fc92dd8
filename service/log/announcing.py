"""The log's own keys are leaves of the log: each is announced before it signs, and revoked when it no longer does.

What has been announced is read off the last checkpoint, which every key that counts has signed. Whoever queues a leaf
and is killed before the next checkpoint finds that leaf behind the entries that were signed, and does not queue it
again.
"""

import secrets
from datetime import datetime

from ledger.leaf_reading import read_leaf
from ledger.leaves import NONCE_BYTES
from ledger.notes import VerifierKey, parse_note, parse_verifier
from ledger.notices import KeyFacts, key_leaf
from ledger.store import Connection
from service.jws import ed25519_jwk, thumbprint
from service.log.files import VERIFIER_KEY
from service.log.guard import Signed
from service.log.keys import SigningKeyUnusable, under
from service.log.publish import Log

_BEHIND = """
    SELECT leaf FROM ledger.leaf
    WHERE log_index >= $1 AND participant_id IS NULL AND position('"kind":"key"'::bytea IN leaf) > 0
    UNION ALL
    SELECT leaf FROM ledger.leaf_queue WHERE participant_id IS NULL AND position('"kind":"key"'::bytea IN leaf) > 0
"""
_QUEUE = "INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)"


async def announce_keys(connection: Connection, log: Log, programme: str, now: datetime) -> None:
    """Queue the leaves of keys that sign from now on, and of those that no longer do.

    Raises SigningKeyUnusable when a key signed the last checkpoint that the key's file does not know, GuardHeld,
    GuardUnusable.
    """
    last = log.guard.read()
    if last is None or last.note is None or last.key_ids == log.key_ids(last.epoch, now):
        return
    with log.guard.held():
        last = log.guard.read()
        if last is None or last.note is None:
            return
        signing = {signer.verifier.id: signer.verifier for signer in log.signers(last.epoch, now)}
        signed = {key.id: key for key in _signed(log, last)}
        known = await _behind(connection, last.size)
        for key_id in signing.keys() - signed.keys():
            await _queue(connection, known, signing[key_id], programme, "added", now, now)
        origin = log.origin_of(last.epoch)
        ended = {under(key.signer, origin).verifier.id: key.until for key in log.former}
        for key_id in signed.keys() - signing.keys():
            await _queue(connection, known, signed[key_id], programme, "revoked", ended.get(key_id, now), now)


def key_notice(key: VerifierKey, programme: str, action: str, since: datetime, now: datetime) -> bytes:
    """The leaf that announces or revokes a key of the log."""
    name = thumbprint(ed25519_jwk(key.public)).hex()
    facts = KeyFacts(programme, action, "log", key.name, name, "ed25519", key.public.hex(), since)
    return key_leaf(facts, now, secrets.token_bytes(NONCE_BYTES))


def shown_keys(log: Log, signed: Signed) -> list[VerifierKey]:
    """The keys under the checkpoint that was last signed, as far as the verifier keys beside its log show them."""
    assert signed.note is not None
    path = log.files_of(signed.epoch).directory / VERIFIER_KEY
    known = map(parse_verifier, path.read_text("utf-8").split()) if path.exists() else ()
    ids = {(line.name, line.key_id) for line in parse_note(signed.note).signatures}
    return [key for key in known if (key.name, key.id) in ids]


def _signed(log: Log, last: Signed) -> list[VerifierKey]:
    """The keys that signed the last checkpoint; each is one of the file."""
    origin = log.origin_of(last.epoch)
    ours = [under(signer, origin).verifier for signer in (log.signer, *(key.signer for key in log.former))]
    unknown = last.key_ids - {key.id for key in ours}
    if unknown:
        raise SigningKeyUnusable(
            f"the log {origin} was signed with the key {', '.join(sorted(key.hex() for key in unknown))}, which the "
            "key's file does not hold: restore the file from its backup. If the key is lost, make another with "
            "`tanpuhui log key new` and run `tanpuhui log epoch new --reason key-lost`"
        )
    return [key for key in ours if key.id in last.key_ids]


async def _behind(connection: Connection, size: int) -> set[tuple[str, str, str]]:
    """Action, name and thumbprint of the log's keys that leaves behind the last checkpoint name already."""
    leaves = (read_leaf(row["leaf"]) for row in await connection.fetch(_BEHIND, size))
    return {(leaf["action"], leaf["name"], leaf["key"]) for leaf in leaves if leaf["holder"] == "log"}


async def _queue(
    connection: Connection,
    known: set[tuple[str, str, str]],
    key: VerifierKey,
    programme: str,
    action: str,
    since: datetime,
    now: datetime,
) -> None:
    if (action, key.name, thumbprint(ed25519_jwk(key.public)).hex()) not in known:
        await connection.execute(_QUEUE, key_notice(key, programme, action, since, now))
