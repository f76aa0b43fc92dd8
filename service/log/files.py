"""The log as files: written once, durable before anybody may see them, read as they are.

A tile or bundle appears under its name whole or not at all: it is written beside, flushed to the disk and renamed, and
then its folder is flushed. What is there is never written again with other bytes.
"""

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ledger.errors import TileInvalid
from ledger.merkle import HASH_BYTES
from ledger.tiles import WIDTH, Tile, decode_bundle, encode_bundle

CHECKPOINT = "checkpoint"
VERIFIER_KEY = "log.vkey"  # beside the epochs


class FilesDiffer(Exception):
    """Other bytes stand where these should: two writers disagree, or somebody changed a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} holds other bytes than the ledger gives: nothing is overwritten. See docs/operations.md"
        )
        self.path = path


class LogFiles:
    """The files of one epoch's log, or of one seal's tree."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, tile: Tile) -> bytes:
        """A tile's or bundle's bytes. Where only a wider one is left it is cut. Raises FileNotFoundError."""
        try:
            return (self.directory / tile.path).read_bytes()
        except FileNotFoundError:
            wider = self._wider(tile)
            if wider is None:
                raise
        content = (self.directory / wider.path).read_bytes()
        if tile.level is None:
            return encode_bundle(decode_bundle(content, wider.width)[: tile.width])
        return content[: tile.width * HASH_BYTES]

    def _wider(self, tile: Tile) -> Tile | None:
        """The full one, else the widest partial one of the same place, if it holds what `tile` asks for."""
        if tile.width == WIDTH or (self.directory / tile.whole.path).exists():
            return None if tile.width == WIDTH else tile.whole
        folder = (self.directory / tile.path).parent
        widths = (path.name for path in folder.iterdir()) if folder.is_dir() else iter(())
        widest = max((int(name) for name in widths if name.isdecimal()), default=0)
        return tile._replace(width=widest) if widest > tile.width else None

    def write(self, files: Iterable[tuple[Tile, bytes]]) -> None:
        """Make tiles and bundles durable. Again with the same bytes is fine. Raises FilesDiffer."""
        folders = set()
        for tile, content in files:
            path = self.directory / tile.path
            if not path.exists():
                folders.update(write_durably(path, content, flush=False))
            elif path.read_bytes() == content:  # whoever wrote it may have been killed before the folder was flushed
                folders.update(above for above in path.parents if above.is_relative_to(self.directory))
            else:
                raise FilesDiffer(path)
        for folder in folders:
            flush_folder(folder)

    def drop_partial(self, tile: Tile) -> None:
        """Take the partial ones of a full tile away; a reader is given the full one."""
        folder = (self.directory / tile.whole.path).with_name((self.directory / tile.whole.path).name + ".p")
        with suppress(FileNotFoundError):
            for partial in folder.iterdir():
                partial.unlink()
            folder.rmdir()

    def read_checkpoint(self) -> str | None:
        """The checkpoint as it is served, or None before the first."""
        try:
            return (self.directory / CHECKPOINT).read_text("utf-8")
        except FileNotFoundError:
            return None

    def write_checkpoint(self, note: str) -> None:
        """Show this checkpoint from now on."""
        write_durably(self.directory / CHECKPOINT, note.encode())


def read_entries(files: LogFiles, tile: Tile) -> list[bytes]:
    """The entries of a bundle. Raises FileNotFoundError, TileInvalid."""
    if tile.level is not None:
        raise TileInvalid(f"{tile.path} is a tile of hashes, not an entry bundle")
    return decode_bundle(files.read(tile), tile.width)


def write_durably(path: Path, content: bytes, *, flush: bool = True) -> set[Path]:
    """Put a file under its name, whole and flushed; the folders that changed by it, flushed too where `flush`."""
    changed = {path.parent}
    missing = path.parent
    while not missing.exists():
        missing = missing.parent
        changed.add(missing)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if flush:
        for folder in changed:
            flush_folder(folder)
    return changed


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
