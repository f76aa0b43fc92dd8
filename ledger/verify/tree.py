"""A log's tree over all its chunks: the tiles above them, and the root at every size that was ever signed."""

from collections.abc import Iterable, Sequence
from functools import reduce

from ledger.merkle import EMPTY_ROOT, Edge, node_hash
from ledger.tiles import HIGHEST_LEVEL, WIDTH, Tile
from ledger.verify.chunks import CHUNK, ChunkJob, ChunkRead, compare_tile, root_of_level
from ledger.verify.findings import Findings


def chunks_of(size: int) -> int:
    """How many chunks a log of this size has."""
    return -(-size // CHUNK)


def wanted_by_chunk(sizes: Iterable[int], size: int) -> dict[int, frozenset[int]]:
    """The sizes at which a root is asked for, by the chunk that holds the last entry. Sizes beyond the log are none."""
    found: dict[int, set[int]] = {}
    for each in sizes:
        if 0 < each <= size:
            found.setdefault((each - 1) // CHUNK, set()).add(each)
    return {chunk: frozenset(each) for chunk, each in found.items()}


def roots_of(chunks: Sequence[ChunkRead]) -> dict[int, bytes]:
    """The root at every size that was wanted, 0 included."""
    roots = {0: EMPTY_ROOT}
    edge = Edge()  # over the roots of chunks
    for chunk in chunks:
        for size, inner in chunk.edges.items():
            *earlier, last = [*edge.roots, *inner]
            roots[size] = reduce(lambda folded, left: node_hash(left, folded), reversed(earlier), last)
        if len(chunk.bundle_roots) == WIDTH:
            edge.append(root_of_level(b"".join(chunk.bundle_roots)))
    return roots


def compare_upper_tiles(job: ChunkJob, chunks: Sequence[ChunkRead]) -> Findings:
    """Hold every tile from level 2 on against the chunks; `job` is any of the log's."""
    findings = Findings()
    row = [root_of_level(b"".join(chunk.bundle_roots)) for chunk in chunks if len(chunk.bundle_roots) == WIDTH]
    for level in range(2, HIGHEST_LEVEL + 1):
        for number in range(-(-len(row) // WIDTH)):
            hashes = row[number * WIDTH : (number + 1) * WIDTH]
            compare_tile(job, findings, Tile(level, number, len(hashes)), hashes)
        row = [root_of_level(b"".join(row[at : at + WIDTH])) for at in range(0, len(row) // WIDTH * WIDTH, WIDTH)]
    return findings
