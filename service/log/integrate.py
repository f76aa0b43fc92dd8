"""From numbered leaves to tiles: a pure function of the leaves, so it may run twice, stop anywhere and start again."""

from collections.abc import AsyncIterator

from ledger.merkle import leaf_hash
from ledger.store import Connection
from ledger.tiles import WIDTH, Growth, Tile, decode_tile, encode_bundle
from service.log.files import LogFiles

AT_ONCE = 4_096  # leaves in memory: 4 MB as they are, 256 MB if every one were as long as a leaf may be

_LEAVES = "SELECT leaf FROM ledger.leaf WHERE log_index >= $1 AND log_index < $2 ORDER BY log_index"


class LeavesMissing(Exception):
    """The log has a gap, or is shorter than its head says: the database is damaged."""


class LeavesDiffer(Exception):
    """The database has other leaves than those whose hashes were signed."""


async def integrate(tx: Connection, files: LogFiles, old: int, new: int) -> None:
    """Make the tiles and bundles of the log of `new` entries durable, given those of `old`.

    Raises LeavesMissing, LeavesDiffer for an entry of the last bundle, FilesDiffer, FileNotFoundError when a tile of
    the old size is gone.
    """
    growth = Growth(old, files.read)
    bundle, width = divmod(old, WIDTH)
    entries = [entry async for entry in read_leaves(tx, bundle * WIDTH, old)]
    if width and list(map(leaf_hash, entries)) != decode_tile(files.read(Tile(0, bundle, width)), width):
        raise LeavesDiffer(f"the leaves {bundle * WIDTH} to {old - 1} are not those that were signed")
    made: list[tuple[Tile, bytes]] = []
    async for leaf in read_leaves(tx, old, new):
        made += growth.add(leaf_hash(leaf))
        entries.append(leaf)
        if len(entries) == WIDTH:
            made.append((Tile(None, bundle), encode_bundle(entries)))
            bundle, entries = bundle + 1, []
        if len(made) >= 64:
            _write(files, made)
            made = []
    made += growth.partial()
    if entries:
        made.append((Tile(None, bundle, len(entries)), encode_bundle(entries)))
    _write(files, made)


def _write(files: LogFiles, made: list[tuple[Tile, bytes]]) -> None:
    files.write(made)
    for tile, _ in made:
        if tile.width == WIDTH:
            files.drop_partial(tile)


async def read_leaves(tx: Connection, first: int, end: int) -> AsyncIterator[bytes]:
    """The leaves from `first` to before `end`, all of them."""
    while first < end:
        upto = min(end, first + AT_ONCE)
        rows = await tx.fetch(_LEAVES, first, upto)
        if len(rows) != upto - first:
            raise LeavesMissing(f"the log has {len(rows)} of the leaves {first} to {upto - 1}")
        for row in rows:
            yield row["leaf"]
        first = upto
