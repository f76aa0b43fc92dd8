"""Writing a bundle: a platform's log up to one checkpoint, with all that an auditor needs beside it, into a folder.

What an earlier export of the same log left is kept as far as it does not change any more; a first one and a continued
one give the same bytes. Memory does not grow with the log, but for the list of files.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import orjson

from ledger.bundle import VERSION, canonical
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import NoteInvalid, TileInvalid
from ledger.leaves import utc_second
from ledger.merkle import HASH_BYTES, edge_of, leaf_hash
from ledger.notes import parse_note, parse_verifier
from ledger.tiles import WIDTH, Tile, decode_bundle, decode_tile, parse_path, subtree_reader, tiles_of
from service.audit.folder import Before, Folder
from service.audit.parquet import TABLES, require_parquet, table_path, write_tables
from service.audit.scanning import Named, key_of
from service.audit.source import RANGE, ExportStopped, Interrupted, Offer, Source, is_full, range_path, ranges_of

TILES_AT_ONCE = 16
TRIES = 3  # of a file whose reading broke off

CHECKPOINT, LOG_KEY = "log/checkpoint", "log.vkey"
CHECKPOINTS, MANIFESTS = "checkpoints.jsonl", "manifests.jsonl"
KEYS, TOTALS, POLICY = "keys.json", "totals.json", "witness.policy"
_OF_ONE_LOG = ("evidence", "calls", "reports", "parquet", MANIFESTS)  # these name entries by their index

Progress = Callable[[str, int, int], None]
"""Told of a phase (`check`, `log`, `evidence`, `tables`) how much is done, of how much."""


class Part(NamedTuple):
    """One epoch's log within the bundle: where it lies (`` or `epochs/1/`), and the checkpoint it is exported up to."""

    epoch: int
    prefix: str
    note: str
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Exported:
    """What is in the folder now, and what this export did for it.

    before         the size of the log as the folder had it, 0 in a new one
    unknown_rules  digests of documents that entries name and the platform does not know
    """

    programme: str
    origin: str
    epoch: int
    size: int
    root: str
    before: int
    files: int
    bytes: int
    kept: int
    written: int
    unknown_rules: tuple[str, ...]


async def export_bundle(
    source: Source, directory: Path, now: datetime, *, parquet: bool = True, on_progress: Progress | None = None
) -> Exported:
    """Write the bundle of the newest checkpoint into a folder, a new one or one to be continued.

    Raises ExportStopped, OSError; what was written till then is continued the next time.
    """
    if parquet:
        require_parquet()
    offer = await source.offer()
    parts = await _parts(source, offer.epoch)
    folder = Folder(directory)
    with folder.held():
        export = _Export(source, folder, offer, parts, on_progress or (lambda *_: None))
        return await export.run(now, parquet=parquet)


async def _parts(source: Source, epochs: int) -> list[Part]:
    """The logs of all epochs, the current one last."""
    parts = []
    for epoch in range(1, epochs + 1):
        note = await source.checkpoint(epoch)
        if note is None and epoch < epochs:
            continue  # its files are gone: what can be shown of it is in the current one's first leaf
        if note is None:
            break
        prefix = "" if epoch == epochs else f"epochs/{epoch}/"
        try:
            parts.append(Part(epoch, prefix, note, parse_checkpoint(parse_note(note).text)))
        except NoteInvalid as error:
            raise ExportStopped(f"第 {epoch} 纪元的检查点无效：{error}", f"epoch {epoch}: {error}") from None
    if not parts or parts[-1].epoch != epochs:
        raise ExportStopped(
            "日志尚无已签名的检查点，稍后再试；发布进程须在运行。",
            "nothing of the log is signed yet: try again in a moment. The publisher must run.",
        )
    return parts


class _Export:
    """One run."""

    def __init__(
        self, source: Source, folder: Folder, offer: Offer, parts: Sequence[Part], on_progress: Progress
    ) -> None:
        self.source, self.folder, self.offer, self.parts, self.on_progress = source, folder, offer, parts, on_progress
        self.current = parts[-1]
        self.size = self.current.checkpoint.size
        self.root = self.current.checkpoint.root.hex()
        self.named, self.former = Named(), Named()

    async def run(self, now: datetime, *, parquet: bool) -> Exported:
        before = await self._prepare()
        self.folder.write(TOTALS, await self.source.totals(self.size))  # while the checkpoint is young: see read_totals
        for part in self.parts:
            await self._log(part)
        await self._ranges(parquet=parquet)
        unknown = await self._named("rules", self.named.rules, self.source.rule)
        unknown += await self._named("documents", self.named.documents, self.source.document)
        await self._checkpoints()
        await self._manifests()
        await self._keys()
        for part in self.parts:
            self.folder.write(part.prefix + CHECKPOINT, part.note.encode())
        if self.offer.policy is None:
            self.folder.drop(POLICY)
        else:
            self.folder.write(POLICY, self.offer.policy.encode())
        origin, epoch = self.current.checkpoint.origin, self.current.epoch
        length = self.folder.finish(
            {
                "v": VERSION,
                "programme": self.offer.programme,
                "origin": origin,
                "epoch": str(epoch),
                "size": str(self.size),
                "root": self.root,
                "created_at": utc_second(now),
            }
        )
        counts = len(self.folder.files), length, self.folder.kept, self.folder.written
        had = before.size if before else 0
        return Exported(self.offer.programme, origin, epoch, self.size, self.root, had, *counts, tuple(unknown))

    async def _prepare(self) -> Before | None:
        """Look at what there is, and begin. Nothing is changed in a folder that is refused."""
        before = self.folder.read_before()
        if before is not None:
            await self._require_same_log(before)
            total, done = sum(listed.length for listed in before.files.values()), 0

            def step(length: int) -> None:
                nonlocal done
                done += length
                self.on_progress("check", done, total)

            self.folder.require_unchanged(before, lambda path: _stays(path, before.size), step)
            self.folder.begin(before.programme, before.origin, before.epoch, before.size, before.root)
            if before.epoch < self.current.epoch:
                self._make_room(before)
            elif before.size % RANGE:
                for path in _of_range(ranges_of(before.size) - 1):
                    self.folder.drop(path)
        origin = self.current.checkpoint.origin
        self.folder.begin(self.offer.programme, origin, self.current.epoch, self.size, self.root)
        return before

    async def _require_same_log(self, before: Before) -> None:
        """That what the folder holds is the beginning of the log that is offered. Raises ExportStopped."""
        part = next((part for part in self.parts if part.epoch == before.epoch), None)
        offered = (self.offer.programme, (part or self.current).checkpoint.origin)
        if part is None or (before.programme, before.origin) != offered:
            raise self._refused(
                f"其中是 {before.programme} 的日志 {before.origin}，平台的是 {offered[0]} 的 {offered[1]}",
                f"it holds the log {before.origin} of {before.programme}, the platform's is {offered[1]} of "
                f"{offered[0]}",
            )
        if before.size > part.checkpoint.size:
            raise self._refused(
                f"其中的日志有 {before.size} 条，平台的检查点只有 {part.checkpoint.size} 条",
                f"its log has {before.size} entries, the platform's checkpoint {part.checkpoint.size} only",
            )
        if await self._root_at(part, before.size) != before.root:
            raise self._refused(
                f"平台日志的前 {before.size} 条与其中的不同：历史已被改写",
                f"the first {before.size} entries of the platform's log are others: its history was rewritten",
            )

    def _refused(self, zh: str, en: str) -> ExportStopped:
        return ExportStopped(
            f"{self.folder.directory} 不能继续：{zh}。请保留此文件夹，另选一个空文件夹导出，再以其中的检查点核对："
            "python -m ledger verify 新文件夹 --previous 旧文件夹/log/checkpoint",
            f"{self.folder.directory} cannot be continued: {en}. Keep it as it is, export into an empty folder, and "
            "hold one against the other: python -m ledger verify NEW --previous OLD/log/checkpoint",
        )

    async def _root_at(self, part: Part, size: int) -> str:
        """The root of the first `size` entries by the platform's tiles, as hexadecimal."""
        tiles: dict[Tile, bytes] = {}
        while True:
            try:
                return edge_of(size, subtree_reader(part.checkpoint.size, tiles.__getitem__)).root().hex()
            except KeyError as missing:
                tile: Tile = missing.args[0]
                tiles[tile] = await self.source.tile(part.epoch, tile)
            except TileInvalid as error:
                raise _damaged(part, str(error)) from None

    def _make_room(self, before: Before) -> None:
        """A further epoch began: its log is another, and what names entries by their index is written anew."""
        for path in _OF_ONE_LOG:
            self.folder.drop(path)
        for name in ("log", LOG_KEY):
            self.folder.rename(name, f"epochs/{before.epoch}/{name}")

    async def _log(self, part: Part) -> None:
        """Tiles and entry bundles of one epoch, and what their entries name."""
        size, folder = part.checkpoint.size, f"{part.prefix}log/"
        named = self.former if part.prefix else self.named
        await self._fetch(part, (tile for tile in tiles_of(size) if tile.level))
        for first in range(0, -(-size // WIDTH), TILES_AT_ONCE):
            numbers = range(first, min(first + TILES_AT_ONCE, -(-size // WIDTH)))
            hashes = [Tile(0, number, min(WIDTH, size - number * WIDTH)) for number in numbers]
            await self._fetch(part, (one for tile in hashes for one in (tile, tile._replace(level=None))))
            for tile in hashes:
                content = self.folder.read(folder + tile._replace(level=None).path)
                assert content is not None
                named.scan(tile.number * WIDTH, content, tile.width)
            if not part.prefix:
                self.on_progress("log", min(size, numbers.stop * WIDTH), size)

    async def _fetch(self, part: Part, tiles: Iterable[Tile]) -> None:
        """Have these tiles in the folder: each level 0 tile with its bundle, so that one is held against the other."""
        folder = f"{part.prefix}log/"
        wanted = iter(tiles)
        while some := list(islice(wanted, 2 * TILES_AT_ONCE)):
            missing = [tile for tile in some if not self.folder.keeps(folder + tile.path)]
            missing = [tile for tile in missing if not (tile.width == WIDTH and self._adopts(part, tile))]
            answers = await asyncio.gather(
                *(self.source.tile(part.epoch, tile) for tile in missing), return_exceptions=True
            )  # each is waited for, so that none goes on behind the back of whoever is told of the first failure
            for tile, content in zip(missing, answers, strict=True):
                if isinstance(content, BaseException):
                    raise content
                if len(content) != tile.width * HASH_BYTES and tile.level is not None:
                    raise _damaged(part, f"{tile.path} has {len(content)} bytes")
                self.folder.write(folder + tile.path, content)
            for tile in missing:
                if tile.level is None and not self._fits(part, tile):
                    raise _damaged(part, f"{tile.path} holds other entries than its tile says")

    def _adopts(self, part: Part, tile: Tile) -> bool:
        """Whether a full tile is there already, from an export that was stopped, and is whole."""
        path = f"{part.prefix}log/{tile.path}"
        content = self.folder.read(path)
        if content is None or (tile.level is not None and len(content) != WIDTH * HASH_BYTES):
            return False
        if tile.level is None and not self._fits(part, tile):
            return False
        return self.folder.adopt(path)

    def _fits(self, part: Part, bundle: Tile) -> bool:
        """Whether the entries of a bundle have the hashes of its tile."""
        folder = f"{part.prefix}log/"
        entries, hashes = (
            self.folder.read(folder + bundle.path),
            self.folder.read(folder + bundle._replace(level=0).path),
        )
        try:
            found = [leaf_hash(entry) for entry in decode_bundle(entries or b"", bundle.width)]
            return found == decode_tile(hashes or b"", bundle.width)
        except TileInvalid:
            return False

    async def _ranges(self, *, parquet: bool) -> None:
        """Evidence, what banks and sources signed, and the tables where they are wanted."""
        if not parquet:
            self.folder.drop("parquet")
        count = ranges_of(self.size)
        for number in range(count):
            path = evidence_path(number)
            if not self._stands(path, number):
                await self._stream(path, partial(self.source.evidence, number, self.size))
            path = calls_path(number)
            if not self._stands(path, number):
                await self._stream(path, partial(self.source.calls, number, self.size))
            path = reports_path(number)
            if not self._stands(path, number):
                await self._stream(path, partial(self.source.reports, number, self.size))
            self.on_progress("evidence", number + 1, count)
        for number in range(count if parquet else 0):
            paths = _tables_of(number)
            if not all(self._stands(path, number) for path in paths):
                made = await asyncio.to_thread(
                    write_tables, self.folder.directory, self.size, number, self.folder.beside
                )
                for path, table in zip(paths, made, strict=True):
                    self.folder.place(path, table)
            self.on_progress("tables", number + 1, count)

    def _stands(self, path: str, number: int) -> bool:
        """Whether a file of a range is there and complete. Only a full range's was left there by `_prepare`."""
        return self.folder.keeps(path) or (is_full(number, self.size) and self.folder.adopt(path))

    async def _named(
        self, folder: str, digests: Iterable[str], read: Callable[[str], Awaitable[bytes | None]]
    ) -> list[str]:
        """The documents that entries name; the digests of those that the platform does not know."""
        unknown = []
        for digest in sorted(digests):
            path = f"{folder}/{digest}.json"
            content = None if self.folder.keeps(path) else self.folder.read(path)
            if path in self.folder.files:
                continue
            if content is not None and sha256(content).hexdigest() == digest:
                self.folder.adopt(path)
                continue
            content = await read(digest)
            if content is None:
                unknown.append(digest)
            else:
                self.folder.write(path, content)
        return unknown

    async def _checkpoints(self) -> None:
        """Every checkpoint that was signed. Those that the folder has stay as they are, whatever the platform says."""
        path, to, after = self.folder.directory / CHECKPOINTS, (self.current.epoch, self.size), (0, 0)
        for line in _lines(path):
            fields = orjson.loads(line)
            after = int(fields["epoch"]), int(fields["size"])
        await self._stream(CHECKPOINTS, lambda: self.source.checkpoints(after, to), lambda: _lines(path))

    async def _manifests(self) -> None:
        """What is stored of every manifest that has an entry. Those that the folder has stay, with their texts."""
        path = self.folder.directory / MANIFESTS
        present = {int(orjson.loads(line)["index"]) for line in _lines(path)}
        missing = [index for index in self.named.manifests if index not in present]
        if missing:
            after = missing[0] - 1  # behind all that are there: a file has every one below its size
            await self._stream(MANIFESTS, lambda: self.source.manifests(after, self.size), lambda: _lines(path))
        elif not self.folder.adopt(MANIFESTS):
            self.folder.write(MANIFESTS, b"")

    async def _stream(
        self, path: str, pieces: Callable[[], AsyncIterator[bytes]], before: Callable[[], Iterable[bytes]] = tuple
    ) -> None:
        """Write a file of lines: those of `before`, then what is read. What breaks off is read again."""
        for _ in range(TRIES):
            try:
                with self.folder.writing(path) as file:
                    file.writelines(before())
                    async for piece in pieces():
                        file.write(piece)
            except Interrupted:
                continue
            return
        raise ExportStopped(
            f"{path} 传输多次中断。请重新执行同一命令，已导出的部分不会重新下载。",
            f"reading {path} broke off again and again. Give the same command again: it goes on where it stopped.",
        )

    async def _keys(self) -> None:
        """keys.json, and the key of each log."""
        keys = await self.source.keys()
        try:
            shown = [parse_verifier(text) for text in keys.log]
        except NoteInvalid as error:
            raise ExportStopped(f"平台的日志公钥无效：{error}", f"the platform's log.vkey is no key: {error}") from None
        known = list(dict.fromkeys([*shown, *self.named.log_keys, *self.former.log_keys]))
        for part in self.parts:
            key = key_of(parse_note(part.note), known)
            if key is None:
                raise _damaged(part, f"no key is known that signed its checkpoint: {', '.join(map(str, known))}")
            self.folder.write(part.prefix + LOG_KEY, f"{key}\n".encode())
        document = {
            "approvers": self.named.approvers_listed(),
            "banks": list(keys.banks),
            "log": [str(key) for key in known],
            "sources": list(keys.sources),
        }
        self.folder.write(KEYS, canonical(document) + b"\n")


def evidence_path(number: int) -> str:
    """The file of a range's evidence."""
    return f"evidence/{range_path(number)}.jsonl"


def calls_path(number: int) -> str:
    """The file of a range's signed calls."""
    return f"calls/{range_path(number)}.jsonl"


def reports_path(number: int) -> str:
    """The file of what sources signed of a range."""
    return f"reports/{range_path(number)}.jsonl"


def _of_range(number: int) -> tuple[str, ...]:
    """The files of a range: its evidence, what was signed of it, then its tables."""
    return evidence_path(number), calls_path(number), reports_path(number), *_tables_of(number)


def _tables_of(number: int) -> tuple[str, ...]:
    return tuple(table_path(table, number) for table in TABLES)


def _stays(path: str, size: int) -> bool:
    """Whether a file of a bundle of this size never changes any more, however the log grows."""
    folder, _, rest = path.partition("/")
    if folder in ("log", "epochs"):
        try:
            return parse_path(rest[rest.find("tile/") :]).width == WIDTH
        except TileInvalid:  # the checkpoint, or a key
            return False
    if folder in ("evidence", "calls", "reports", "parquet"):
        return not size % RANGE or path not in _of_range(ranges_of(size) - 1)
    return folder in ("rules", "documents")


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, none where there is no file."""
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return


def _damaged(part: Part, en: str) -> ExportStopped:
    return ExportStopped(
        f"平台第 {part.epoch} 纪元的日志文件有误：{en}。请告知运营方。",
        f"the platform's log of epoch {part.epoch} is damaged: {en}. Tell its operator.",
    )
