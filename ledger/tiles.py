"""Where the log's hashes and entries lie: tiles and entry bundles, their paths and bytes (C2SP tlog-tiles).

A tile holds up to 256 hashes of one level: hash i of tile n at level l is the Merkle hash of the 256^l entries from
(256 n + i) x 256^l on. A bundle holds the entries under one tile of level 0, each behind its length in two bytes, big
endian. A tile or bundle of fewer than 256 is partial, and its width is in its path: `tile/0/x001/234.p/17`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ledger.errors import TileInvalid
from ledger.merkle import HASH_BYTES, MAX_SIZE, Subtree, node_hash, root_of

WIDTH = 256
LEVEL_BITS = 8  # a tile's hashes are 8 levels of the binary tree above those of the tile below
ENTRY_MAX_BYTES = 65_535
HIGHEST_LEVEL = 7  # 256^8 entries are more than a size can say

_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class Tile(NamedTuple):
    """One tile, or with level None one entry bundle; `width` 256 is full."""

    level: int | None
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Its path under the log's prefix."""
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{'entries' if self.level is None else self.level}/{_grouped(self.number)}{partial}"

    @property
    def whole(self) -> "Tile":
        """The full tile of the same place."""
        return self._replace(width=WIDTH)


def _grouped(number: int) -> str:
    digits = str(number)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([*("x" + group for group in groups[:-1]), groups[-1]])


def parse_path(path: str) -> Tile:
    """The tile a path names. Raises TileInvalid: each tile has one path, without an extra zero anywhere."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise TileInvalid(f"a path such as tile/0/x001/234 or tile/entries/000.p/17 is expected, not {path[:100]!r}")
    level, number, width = found.groups()
    tile = Tile(
        None if level == "entries" else int(level), int(re.sub("[x/]", "", number)), int(width) if width else WIDTH
    )
    if (
        tile.path != path
        or tile.width > WIDTH
        or tile.number > MAX_SIZE >> LEVEL_BITS
        or (tile.level or 0) > HIGHEST_LEVEL
    ):
        raise TileInvalid(f"no tile has the path {path[:100]!r}")
    return tile


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of hashes of a tree of this size, level by level; the partial one of a level last."""
    return new_tiles(0, size)


def new_tiles(old: int, new: int) -> Iterator[Tile]:
    """The tiles of hashes that a tree of `new` entries has and one of `old` had not, level by level."""
    for level in range(HIGHEST_LEVEL + 1):
        had, have = old >> level * LEVEL_BITS, new >> level * LEVEL_BITS
        if had == have:
            return
        for number in range(had // WIDTH, have // WIDTH):
            yield Tile(level, number)
        if have % WIDTH:
            yield Tile(level, have // WIDTH, have % WIDTH)


def new_bundles(old: int, new: int) -> Iterator[Tile]:
    """The entry bundles that a log of `new` entries has and one of `old` had not."""
    return (tile._replace(level=None) for tile in new_tiles(old, new) if tile.level == 0)


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle. Raises TileInvalid: 1 to 256 entries, of 1 to 65,535 bytes each."""
    if not 1 <= len(entries) <= WIDTH or not all(0 < len(entry) <= ENTRY_MAX_BYTES for entry in entries):
        raise TileInvalid(f"a bundle holds 1 to {WIDTH} entries of 1 to {ENTRY_MAX_BYTES} bytes")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(bundle: bytes, width: int = WIDTH) -> list[bytes]:
    """The entries of a bundle of exactly `width`. Raises TileInvalid, also for an empty entry and bytes left over."""
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        length = int.from_bytes(bundle[at : at + 2], "big")
        entry = bundle[at + 2 : at + 2 + length]
        if not length or len(entry) != length:
            raise TileInvalid(f"entry {len(entries)} of the bundle is empty or cut off, at byte {at}")
        entries.append(entry)
        at += 2 + length
    if len(entries) != width:
        raise TileInvalid(f"a bundle of {width} entries is expected, this one holds {len(entries)}")
    return entries


def decode_tile(tile: bytes, width: int = WIDTH) -> list[bytes]:
    """The hashes of a tile of exactly `width`. Raises TileInvalid."""
    if len(tile) != width * HASH_BYTES:
        raise TileInvalid(f"a tile of {width} hashes has {width * HASH_BYTES} bytes, not {len(tile)}")
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]


def subtree_reader(size: int, read: Callable[[Tile], bytes]) -> Subtree:
    """Complete subtrees of a tree of `size` entries out of its tiles, which `read` gives as bytes.

    The widest tile of that size is asked for; where only the full one is left, `read` gives that. Raises TileInvalid.
    """

    def hashes(level: int, number: int) -> list[bytes]:
        width = min(WIDTH, (size >> level * LEVEL_BITS) - number * WIDTH)
        if width < 1:
            raise TileInvalid(f"a tree of {size} entries has no tile {number} at level {level}")
        found = read(Tile(level, number, width))
        return decode_tile(found[: width * HASH_BYTES], width)

    def subtree(level: int, number: int) -> bytes:
        tile_level, inside = divmod(level, LEVEL_BITS)
        first = number << inside  # of the hashes of the tile's level
        row = hashes(tile_level, first // WIDTH)[first % WIDTH : first % WIDTH + (1 << inside)]
        if len(row) != 1 << inside:
            raise TileInvalid(f"a tree of {size} entries has no complete subtree {number} at level {level}")
        while len(row) > 1:
            row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
        return row[0]

    return subtree


class Growth:
    """A tree that grows, as the tiles it makes: give it the leaf hashes in order, and take each tile once.

    rows   of every level the hashes of its last tile, as long as that is partial
    """

    def __init__(self, size: int, read: Callable[[Tile], bytes]) -> None:
        """Go on from a tree of `size` entries whose tiles `read` gives. Raises TileInvalid."""
        self.size = size
        self._rows: list[list[bytes]] = []
        for level in range(HIGHEST_LEVEL + 1):
            number, width = divmod(size >> level * LEVEL_BITS, WIDTH)
            self._rows.append(decode_tile(read(Tile(level, number, width)), width) if width else [])

    def add(self, leaf: bytes) -> list[tuple[Tile, bytes]]:
        """Add one entry by its leaf hash; the tiles that are full with it, from below."""
        full: list[tuple[Tile, bytes]] = []
        level, carried = 0, leaf
        self.size += 1
        while True:
            row = self._rows[level]
            row.append(carried)
            if len(row) < WIDTH:
                return full
            number = (self.size >> level * LEVEL_BITS) // WIDTH - 1
            full.append((Tile(level, number), b"".join(row)))
            self._rows[level] = []
            carried = root_of(row)
            level += 1

    def partial(self) -> list[tuple[Tile, bytes]]:
        """The partial tiles of the tree as it is now, one a level at most."""
        return [
            (Tile(level, (self.size >> level * LEVEL_BITS) // WIDTH, len(row)), b"".join(row))
            for level, row in enumerate(self._rows)
            if row
        ]
