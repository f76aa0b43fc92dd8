"""The trees of the daily seals as files: `seals/<programme>/<day>/tile/…` below the log's directory.

A day's folder appears whole or not at all. It holds hashes alone; the records can be made again from the journal.
"""

import secrets
import shutil
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from uuid import UUID

from ledger.errors import TileInvalid
from ledger.merkle import HASH_BYTES, edge_of
from ledger.tiles import WIDTH, Growth, Tile, subtree_reader
from service.log.files import LogFiles, flush_folder

_AT_ONCE = 64


def seal_files(log_dir: Path, programme: str, day: date) -> LogFiles:
    """The tiles of one day's tree."""
    return LogFiles(log_dir / "seals" / programme / day.isoformat())


def has_tree(files: LogFiles, size: int, root: bytes) -> bool:
    """Whether the tree of this size and root is there."""
    try:
        return files.directory.is_dir() and edge_of(size, subtree_reader(size, files.read)).root() == root
    except (FileNotFoundError, TileInvalid):
        return False


def write_tree(files: LogFiles, leaves: Sequence[bytes], root: bytes) -> None:
    """Make a day's tree durable, unless it is there. Another tree in its place, of a history that was given up, is put
    aside and kept."""
    if has_tree(files, len(leaves), root):
        return
    target = files.directory
    draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    draft.mkdir(parents=True)
    try:
        made: list[tuple[Tile, bytes]] = []
        growth = Growth(0, lambda _: b"")
        for leaf in leaves:
            made += growth.add(leaf)
            if len(made) >= _AT_ONCE:
                LogFiles(draft).write(made)
                made = []
        LogFiles(draft).write(made + growth.partial())
        if target.exists() and not has_tree(files, len(leaves), root):
            target.replace(target.with_name(f"{target.name}.former-{secrets.token_hex(4)}"))
        if not target.exists():
            draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for folder in target.parents[:3]:  # the programme's, seals, the log's
        flush_folder(folder)


def find_leaf(files: LogFiles, size: int, leaf: bytes, participant: UUID) -> int | None:
    """The place of a leaf hash in a tree of this size; None when it is not there.

    The entries are sorted by random pseudonyms, so it is looked for around where it should be.
    """
    tiles = -(-size // WIDTH)
    for number in _outwards(participant.int * tiles >> 128, tiles):
        content = files.read(Tile(0, number, min(WIDTH, size - number * WIDTH)))
        at = content.find(leaf)
        while at != -1 and at % HASH_BYTES:
            at = content.find(leaf, at + 1)
        if at != -1:
            return number * WIDTH + at // HASH_BYTES
    return None


def _outwards(middle: int, count: int) -> Iterator[int]:
    """0 to count - 1, from the middle outwards."""
    for distance in range(count):
        for number in dict.fromkeys((middle - distance, middle + distance)):
            if 0 <= number < count:
                yield number
