"""What of a bundle comes out of the database: evidence, checkpoints, manifests, rules, keys, totals; and an export from
a database and the log's files on this machine.

The API answers an auditor with the same bytes, so a bundle fetched over HTTP equals one written beside the database.
Nothing is held open between two pieces: a slow reader burdens nobody.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from ledger.bundle import canonical
from ledger.errors import TileInvalid
from ledger.leaves import utc_second
from ledger.tiles import Tile
from service.audit.redeemed import call_lines, read_bank_keys, read_document
from service.audit.reporting import report_lines
from service.audit.source import RANGE, ExportStopped, Keys, Offer
from service.database import Connection, Pool
from service.log.files import VERIFIER_KEY, LogFiles
from service.vault import DataKey, Vault, open_decision, open_evidence, open_facts, open_terms, read_keys
from service.vault.evidence import opened_or_alarm

AT_ONCE = 256  # entries of evidence in memory: 100 kB of rides, 30 MB of a year's metered half-hours each
CHECKPOINTS_AT_ONCE = 1_000
FOLDED_AT_ONCE = 20_000

# Each look-up by key, whatever the planner believes of tables that grow this fast (OFFSET 0).
_EVIDENCE = """
    SELECT l.log_index, l.participant_id, l.transfer_id AS sealed_of, e.sealed, NULL::bytea AS leaf, 'document' AS name
    FROM ledger.leaf l,
    LATERAL (SELECT sealed FROM service.evidence
        WHERE participant_id = l.participant_id AND activity_id = l.transfer_id OFFSET 0) AS e
    WHERE l.log_index >= $1 AND l.log_index < $2
    UNION ALL
    SELECT l.log_index, l.participant_id, t.credit, s.sealed, l.leaf, 'record'
    FROM ledger.leaf l,
    LATERAL (SELECT coalesce(matures, reverses) AS credit FROM ledger.transfer
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id
            AND kind IN ('maturity', 'reversal') OFFSET 0) AS t,
    LATERAL (SELECT sealed FROM service.settlement
        WHERE participant_id = l.participant_id AND activity_id = t.credit AND sealed IS NOT NULL OFFSET 0) AS s
    WHERE l.log_index >= $1 AND l.log_index < $2
    UNION ALL
    SELECT l.log_index, l.participant_id, l.transfer_id, r.sealed, NULL, 'terms'
    FROM ledger.leaf l,
    LATERAL (SELECT sealed FROM service.redemption_terms
        WHERE participant_id = l.participant_id AND redemption_id = l.transfer_id OFFSET 0) AS r
    WHERE l.log_index >= $1 AND l.log_index < $2 AND position('"kind":"hold"'::bytea IN l.leaf) > 0
    UNION ALL
    SELECT l.log_index, l.participant_id, d.dispute_id, d.sealed, l.leaf, 'decision'
    FROM ledger.leaf l,
    LATERAL (SELECT redemption_id FROM service.redemption_entry
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id OFFSET 0) AS e,
    LATERAL (SELECT dispute_id, sealed FROM service.dispute_decision
        WHERE participant_id = l.participant_id AND redemption_id = e.redemption_id OFFSET 0) AS d
    WHERE l.log_index >= $1 AND l.log_index < $2 AND position('"kind":"refund"'::bytea IN l.leaf) > 0
    ORDER BY 1
"""

_RULE = "SELECT document FROM service.rule_document WHERE digest = $1"

_CHECKPOINTS = f"""
    SELECT epoch, size, note FROM ledger.checkpoint
    WHERE (epoch, size) > ($1, $2) AND (epoch, size) <= ($3, $4)
    ORDER BY epoch, size LIMIT {CHECKPOINTS_AT_ONCE}
"""

_NOTICES = """
    SELECT log_index, leaf FROM ledger.leaf
    WHERE log_index >= $1 AND log_index < $2 AND participant_id IS NULL ORDER BY log_index
"""
_MANIFEST = """
    SELECT m.received, t.jws, k.public_key
    FROM service.source s JOIN service.manifest m USING (source_id)
    LEFT JOIN service.manifest_text t USING (source_id, day, sequence)
    LEFT JOIN service.source_key k ON k.source_id = m.source_id AND k.key_id = m.key_id
    WHERE s.uri = $1 AND m.day = $2 AND m.sequence = $3
"""

_KEYS = """
    SELECT s.uri, k.key_id, k.public_key, k.valid_from, k.valid_to
    FROM service.source_key k JOIN service.source s USING (source_id) ORDER BY s.uri, k.valid_from, k.key_id
"""

_TOTALS = "SELECT programme, asset, account, amount FROM ledger.system_total"
_MOVED = """
    SELECT t.programme, m.asset, side.account, sum(side.change)::int8 AS amount
    FROM ledger.leaf l,
    LATERAL (SELECT programme FROM ledger.transfer
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id OFFSET 0) AS t,
    LATERAL (SELECT asset, from_account, to_account, amount FROM ledger.movement
        WHERE participant_id = l.participant_id AND transfer_id = l.transfer_id OFFSET 0) AS m,
    LATERAL (VALUES (m.to_account, m.amount), (m.from_account, -m.amount)) AS side (account, change)
    WHERE l.log_index >= $1 AND l.log_index < $2 AND side.account NOT IN ('available', 'pending', 'held', 'debt')
    GROUP BY t.programme, m.asset, side.account
"""

_COUNTS = """
    SELECT (SELECT count(*) FROM service.rule_document) AS rules, (SELECT count(*) FROM service.manifest) AS manifests,
           (SELECT count(*) FROM service.source_key) AS source_keys,
           (SELECT count(*) FROM service.bank_key) AS bank_keys
"""
_EPOCH = "SELECT epoch FROM ledger.log_state"


async def evidence_lines(pool: Pool, vault: Vault, number: int, size: int) -> AsyncIterator[bytes]:
    """What is left of the evidence of one range, of entries below `size`: a line for each that was not erased."""
    first, end = number * RANGE, min((number + 1) * RANGE, size)
    while first < end:
        upto = min(end, first + AT_ONCE)
        async with pool.acquire() as connection:
            rows = await connection.fetch(_EVIDENCE, first, upto)
            keys = await read_keys(connection, vault, {row["participant_id"] for row in rows})
        lines = [line for row in rows if (line := _evidence_line(row, keys.get(row["participant_id"]))) is not None]
        if lines:
            yield b"".join(lines)
        first = upto


_OPEN = {"document": open_evidence, "record": open_facts, "terms": open_terms, "decision": open_decision}


def _evidence_line(row: asyncpg.Record, key: DataKey | None) -> bytes | None:
    """The line of a credit's document, of a hold's terms, or of the record that a maturity, a reversal or a refund
    rests on; None for one that rests on none, and where the key was destroyed."""
    if key is None:
        return None
    if row["leaf"] is not None:
        fields = _fields(row["leaf"])
        if not (fields.get("facts") or fields.get("decision")):
            return None
    # As it is stored, for it is the bytes that were committed to. What is not UTF-8 was never committed to, and what
    # stands for it here shows that.
    opened = opened_or_alarm(lambda: _OPEN[row["name"]](key, row["sealed_of"], row["sealed"]))
    if opened is None:
        return None
    text = opened.document.decode("utf-8", "replace")
    line = {"index": str(row["log_index"]), "salt": opened.salt.hex(), row["name"]: text}
    return orjson.dumps(line, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


async def checkpoint_lines(pool: Pool, after: tuple[int, int], to: tuple[int, int]) -> AsyncIterator[bytes]:
    """Every checkpoint that was signed behind `after` up to `to`, each by epoch and size: one line each, in order."""
    while after < to:
        async with pool.acquire() as connection:
            rows = await connection.fetch(_CHECKPOINTS, *after, *to)
        if not rows:
            return
        named = ({"epoch": str(row["epoch"]), "note": row["note"], "size": str(row["size"])} for row in rows)
        yield b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in named)
        after = rows[-1]["epoch"], rows[-1]["size"]


async def manifest_lines(pool: Pool, after: int, size: int) -> AsyncIterator[bytes]:
    """What is stored of the manifests whose leaves stand behind `after` and below `size`."""
    first = after + 1
    while first < size:
        upto = min(size, first + RANGE)
        async with pool.acquire() as connection:
            notices = await connection.fetch(_NOTICES, first, upto)
            told = [(row["log_index"], _fields(row["leaf"])) for row in notices]
            lines = [
                await _manifest_line(connection, index, fields)
                for index, fields in told
                if fields.get("kind") == "manifest"
            ]
        if lines:
            yield b"".join(lines)
        first = upto


async def _manifest_line(connection: Connection, index: int, leaf: Mapping[str, Any]) -> bytes:
    row = await connection.fetchrow(_MANIFEST, leaf["source"], date.fromisoformat(leaf["day"]), int(leaf["sequence"]))
    received, jws, key = (b"null", None, None) if row is None else row
    line = {
        "index": str(index),
        "jwk": None if key is None else orjson.loads(key),
        "jws": jws,
        "received": orjson.loads(received),
    }
    return orjson.dumps(line, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _fields(leaf: bytes) -> Mapping[str, Any]:
    """A leaf's fields, none where it is no leaf: what is wrong with it is for a verification to say."""
    try:
        fields = orjson.loads(leaf)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


async def read_rule(tx: Connection, digest: str) -> bytes | None:
    """The bytes of a rule document that was registered; None when there is none of this digest."""
    document: bytes | None = await tx.fetchval(_RULE, bytes.fromhex(digest))
    return document


async def read_source_keys(tx: Connection) -> list[dict[str, Any]]:
    """Every public key of every data provider, and from when to when its signatures count."""
    return [
        {
            "source": row["uri"],
            "kid": row["key_id"],
            "jwk": orjson.loads(row["public_key"]),
            "from": utc_second(row["valid_from"]),
            "to": None if row["valid_to"] is None else utc_second(row["valid_to"]),
        }
        for row in await tx.fetch(_KEYS)
    ]


async def read_totals(tx: Connection, size: int) -> bytes:
    """totals.json: the published totals of system accounts, brought to exactly the first `size` entries.

    They are folded behind the log, so that they may be some entries ahead or behind. Call it in a transaction that
    sees one moment.
    """
    totals: dict[tuple[str, str, str], int] = defaultdict(int)
    folded_to: int = await tx.fetchval("SELECT folded_to FROM ledger.fold_head")
    for row in await tx.fetch(_TOTALS):
        totals[row["programme"], row["asset"], row["account"]] += row["amount"]
    first, end, sign = (size, folded_to, -1) if folded_to > size else (folded_to, size, 1)
    while first < end:
        upto = min(end, first + FOLDED_AT_ONCE)
        for row in await tx.fetch(_MOVED, first, upto):
            totals[row["programme"], row["asset"], row["account"]] += sign * row["amount"]
        first = upto
    listed = [
        {"account": account, "amount": str(amount), "asset": asset, "programme": programme}
        for (programme, asset, account), amount in sorted(totals.items())
        if amount
    ]
    return canonical({"folded_to": str(size), "totals": listed}) + b"\n"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is beside the log: rule documents, manifests, public keys of data providers and banks."""

    rules: int
    manifests: int
    source_keys: int
    bank_keys: int


async def read_counts(tx: Connection) -> Counts:
    """Counts as of this statement."""
    row = await tx.fetchrow(_COUNTS)
    assert row is not None
    return Counts(**row)


async def read_epoch(tx: Connection) -> int:
    """The number of the log that is being written; 0 before the first."""
    epoch: int = await tx.fetchval(_EPOCH)
    return epoch


@dataclass(frozen=True, slots=True)
class Stored:
    """A platform by its database, as the role of auditors, and the files of its log on this machine.

    vault    opens the evidence
    policy   the witness policy's file, where there is one
    """

    pool: Pool
    vault: Vault
    log_dir: Path
    programme: str
    policy: Path | None = None

    async def offer(self) -> Offer:
        async with self.pool.acquire() as connection:
            epoch = await read_epoch(connection)
        return Offer(self.programme, epoch, read_policy(self.policy))

    async def checkpoint(self, epoch: int) -> str | None:
        return epoch_files(self.log_dir, epoch).read_checkpoint()

    async def tile(self, epoch: int, tile: Tile) -> bytes:
        try:
            return await asyncio.to_thread(epoch_files(self.log_dir, epoch).read, tile)
        except (FileNotFoundError, TileInvalid) as error:
            raise ExportStopped(
                f"日志文件 {tile.path} 缺失或损坏：{error}。请核对 TANPUHUI_LOG_DIR，并见 docs/operations.md。",
                f"the log's file {tile.path} is missing or damaged: {error}. Check TANPUHUI_LOG_DIR, and see "
                "docs/operations.md.",
            ) from error

    def evidence(self, number: int, size: int) -> AsyncIterator[bytes]:
        return evidence_lines(self.pool, self.vault, number, size)

    async def rule(self, digest: str) -> bytes | None:
        async with self.pool.acquire() as connection:
            return await read_rule(connection, digest)

    async def document(self, digest: str) -> bytes | None:
        async with self.pool.acquire() as connection:
            return await read_document(connection, digest)

    def calls(self, number: int, size: int) -> AsyncIterator[bytes]:
        return call_lines(self.pool, number, size)

    def reports(self, number: int, size: int) -> AsyncIterator[bytes]:
        return report_lines(self.pool, self.vault, number, size)

    def checkpoints(self, after: tuple[int, int], to: tuple[int, int]) -> AsyncIterator[bytes]:
        return checkpoint_lines(self.pool, after, to)

    def manifests(self, after: int, size: int) -> AsyncIterator[bytes]:
        return manifest_lines(self.pool, after, size)

    async def keys(self) -> Keys:
        async with self.pool.acquire() as connection:
            sources, banks = await read_source_keys(connection), await read_bank_keys(connection)
        return Keys(read_log_keys(self.log_dir), sources, banks)

    async def totals(self, size: int) -> bytes:
        async with (
            self.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await read_totals(connection, size)


def epoch_files(log_dir: Path, epoch: int) -> LogFiles:
    """The files of one epoch's log."""
    return LogFiles(log_dir / f"epoch-{epoch}")


def read_policy(path: Path | None) -> str | None:
    """The text of the witness policy, where there is one. Raises ExportStopped when it cannot be read."""
    try:
        return None if path is None else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportStopped(
            f"无法读取见证策略 {path}：{error}。请核对 TANPUHUI_WITNESS_POLICY。",
            f"the witness policy {path} cannot be read: {error}. Check TANPUHUI_WITNESS_POLICY.",
        ) from None


def read_log_keys(log_dir: Path) -> list[str]:
    """The log's verifier keys as its publisher shows them, the current one first. Raises ExportStopped when it shows
    none."""
    try:
        return (log_dir / VERIFIER_KEY).read_text("utf-8").split()
    except FileNotFoundError:
        raise ExportStopped(
            f"{log_dir} 中没有 {VERIFIER_KEY}：发布进程尚未运行，或 TANPUHUI_LOG_DIR 有误。",
            f"there is no {VERIFIER_KEY} in {log_dir}: no publisher has run yet, or TANPUHUI_LOG_DIR is another.",
        ) from None
