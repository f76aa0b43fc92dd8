"""What an export reads a platform's log from: a database with the log's files, or the API."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.errors import TileInvalid
from ledger.tiles import WIDTH, Tile, parse_path

RANGE = WIDTH * WIDTH
"""Entries of one file of evidence, or of one set of tables: what lies under one tile of level 1."""

_ENTRIES = "tile/entries/"
_MARK = re.compile(r"([1-9][0-9]{0,8}):(0|[1-9][0-9]{0,18})")


class ExportStopped(Exception):
    """The export cannot go on; says in both languages why, and what to do. What is written stays and is continued."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh, self.en = zh, en


class Interrupted(Exception):
    """What was being read broke off; it may be read again from its beginning."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to export.

    epoch    of the log that is being written; 0 before the first
    policy   the text of the witness policy, where there is one
    """

    programme: str
    epoch: int
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """Public keys as the platform shows them.

    log      verifier keys of the log, the current one first; those that are no longer in use, too
    sources  of each data provider's key `source`, `kid`, `jwk`, `from` and `to`
    banks    the same of each bank's key, with `bank`
    """

    log: Sequence[str]
    sources: Sequence[Mapping[str, Any]]
    banks: Sequence[Mapping[str, Any]] = ()


class Source(Protocol):
    """Reads a platform. Lines are JSON, each with its line feed; of a stream any piece may end anywhere.

    Every method raises ExportStopped; those that stream raise Interrupted too.
    """

    async def offer(self) -> Offer: ...

    async def checkpoint(self, epoch: int) -> str | None:
        """The checkpoint of an epoch's log as it is served now; None where there is none."""

    async def tile(self, epoch: int, tile: Tile) -> bytes:
        """A tile or an entry bundle of an epoch's log."""

    def evidence(self, number: int, size: int) -> AsyncIterator[bytes]:
        """The lines of evidence of one range, of entries below `size`."""

    async def rule(self, digest: str) -> bytes | None:
        """The bytes of a rule document; None where it is not known."""

    async def document(self, digest: str) -> bytes | None:
        """The bytes of a product, an offer, a pool's terms or a statement; None where it is not known."""

    def calls(self, number: int, size: int) -> AsyncIterator[bytes]:
        """The lines of the signed calls of one range, of entries below `size`."""

    def reports(self, number: int, size: int) -> AsyncIterator[bytes]:
        """The lines of the calls that sources signed, behind the credits of one range, of entries below `size`."""

    def checkpoints(self, after: tuple[int, int], to: tuple[int, int]) -> AsyncIterator[bytes]:
        """The lines of the checkpoints behind one up to another, each named by epoch and size."""

    def manifests(self, after: int, size: int) -> AsyncIterator[bytes]:
        """The lines of the manifests with an index above `after` and below `size`."""

    async def keys(self) -> Keys: ...

    async def totals(self, size: int) -> bytes:
        """totals.json, for the first `size` entries."""


def ranges_of(size: int) -> int:
    """How many ranges a log of this size has."""
    return -(-size // RANGE)


def is_full(number: int, size: int) -> bool:
    """Whether nothing is added to this range any more in a log of this size."""
    return (number + 1) * RANGE <= size


def range_path(number: int) -> str:
    """A range's number as a path, grouped as that of a tile: 0 is `000`, 1234 is `x001/234`."""
    return Tile(None, number).path.removeprefix(_ENTRIES)


def parse_range(path: str) -> int:
    """The number in a range's path. Raises TileInvalid."""
    tile = parse_path(_ENTRIES + path)
    if tile.width != WIDTH:
        raise TileInvalid(f"a range is named by a path such as 000 or x001/234, not {path[:100]!r}")
    return tile.number


def mark(epoch: int, size: int) -> str:
    """A checkpoint's place as text, such as `1:2557`."""
    return f"{epoch}:{size}"


def parse_mark(text: str) -> tuple[int, int]:
    """Epoch and size of a checkpoint's place. Raises ValueError."""
    found = _MARK.fullmatch(text)
    if found is None:
        raise ValueError(f"a checkpoint is named by epoch:size, such as 1:2557, not {text[:40]!r}")
    return int(found[1]), int(found[2])
