"""What one pass hands to the next: tuples in files of a folder that is deleted at the end.

Everything two million credits bring does not fit into a gigabyte at once. So each pass puts records into partitions, by
the last digits of a random value; each partition fits. `ledger.verify.spill` does the same with text; here records hold
numbers.
"""

import marshal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LENGTH_BYTES = 8


class Handing:
    """Where the records of one chunk of the log go, by partition. They are read in the order they were put."""

    def __init__(self, folder: Path, name: str, chunk: int, partitions: int) -> None:
        self._folder, self._name, self._chunk = folder, name, chunk
        self._lists: list[list[tuple[Any, ...]]] = [[] for _ in range(partitions)]
        self.to = {f"{value:02x}": self._lists[value % partitions].append for value in range(256)}
        """By two hexadecimal digits: where a record is put."""

    def flush(self) -> None:
        """Write what was put since the last time."""
        for partition, records in enumerate(self._lists):
            if records:
                packed = marshal.dumps(records)
                with _path(self._folder, self._name, partition, self._chunk).open("ab") as file:
                    file.write(len(packed).to_bytes(_LENGTH_BYTES, "big") + packed)
                records.clear()


def handed(folder: Path, name: str, partition: int, chunks: int) -> Iterator[list[tuple[Any, ...]]]:
    """The records of a partition, in the order of the log, a list at a time."""
    for chunk in range(chunks):
        path = _path(folder, name, partition, chunk)
        if not path.exists():
            continue
        with path.open("rb") as file:
            while length := file.read(_LENGTH_BYTES):
                yield marshal.loads(file.read(int.from_bytes(length, "big")))
        path.unlink()


def _path(folder: Path, name: str, partition: int, chunk: int) -> Path:
    return folder / f"{name}-{partition:03}-{chunk:06}"
