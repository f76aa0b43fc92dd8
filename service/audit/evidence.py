"""The entries of a chunk of the log with the evidence that lies beside them in the bundle."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ledger.errors import TileInvalid
from ledger.tiles import WIDTH, Tile, decode_bundle

CHUNK = WIDTH * WIDTH  # entries: as many as one file of evidence is of
_LOG = "log/"
_ENTRIES = "tile/entries/"
_COMMON = {"index", "salt"}
_KINDS = {"document", "record", "terms", "decision"}
_HEX = re.compile(r"[0-9a-f]{64}").fullmatch


def evidence_path(number: int) -> str:
    """The file of a chunk's evidence, grouped as the paths of tiles are."""
    return f"evidence/{Tile(None, number).path.removeprefix(_ENTRIES)}.jsonl"


def entry_of(directory: Path, size: int, index: int) -> bytes | None:
    """One entry of the log; None where its bundle cannot be read."""
    number, place = divmod(index, WIDTH)
    entries = _entries(directory, number, min(WIDTH, size - number * WIDTH))
    return entries[place] if entries else None


def read_entries(directory: Path, size: int, chunk: int) -> Iterator[tuple[int, bytes | None]]:
    """The entries of a chunk with their indexes; None for those of a bundle that cannot be read."""
    end = min(size, (chunk + 1) * CHUNK)
    for number in range(chunk * WIDTH, -(-end // WIDTH)):
        first = number * WIDTH
        width = min(WIDTH, size - first)
        entries = _entries(directory, number, width)
        yield from enumerate(entries or [None] * width, start=first)


def _entries(directory: Path, number: int, width: int) -> list[bytes] | None:
    try:
        return decode_bundle((directory / _LOG / Tile(None, number, width).path).read_bytes(), width)
    except (OSError, TileInvalid):
        return None


class EvidenceLines:
    """The lines of a chunk's evidence, to be asked for in the order of the log."""

    def __init__(self, path: Path) -> None:
        self.strays: list[str] = []
        """Lines that belong to no entry that was asked for, as `index 12`, or that are of no such form."""
        self._next = self._lines(path)
        self._index, self._fields = self._advance(-1)

    def of(self, index: int) -> dict[str, Any] | None:
        """The line of an entry; None where there is none: what is asked for rises."""
        while self._index < index:
            self.strays.append(f"index {self._index}")
            self._index, self._fields = self._advance(self._index)
        if self._index != index:
            return None
        found = self._fields
        self._index, self._fields = self._advance(index)
        return found

    def finish(self) -> list[str]:
        """Everything that stood there and belonged to nothing."""
        while self._fields is not None:
            self.strays.append(f"index {self._index}")
            self._index, self._fields = self._advance(self._index)
        return self.strays

    def _advance(self, before: int) -> tuple[int, dict[str, Any] | None]:
        for fields in self._next:
            index = fields["index"]
            if index > before:
                return index, fields
            self.strays.append(f"index {index} after {before}")
        return 1 << 63, None

    def _lines(self, path: Path) -> Iterator[dict[str, Any]]:
        try:
            file = path.open("rb")
        except OSError:
            return
        with file:
            for number, line in enumerate(file, start=1):
                try:
                    fields = orjson.loads(line)
                    kinds = fields.keys() - _COMMON
                    if not _HEX(fields["salt"]) or len(fields) != len(_COMMON) + 1 or not kinds <= _KINDS:
                        raise ValueError
                    fields["index"] = int(fields["index"])
                    fields["salt"] = bytes.fromhex(fields["salt"])
                except (ValueError, TypeError, KeyError, AttributeError):
                    self.strays.append(f"line {number}")
                    continue
                yield fields
