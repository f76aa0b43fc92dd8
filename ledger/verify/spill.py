"""What one pass over the log leaves for the next, in files of a folder that is deleted at the end.

Two million entries do not fit into a gigabyte as objects. So the first pass writes what the second needs into
partitions, by the last digits of a participant's or a claim's random value; each partition fits. A record is a line of
text, its fields parted by tabs, which no canonical leaf contains: that is faster to write and to take apart than any
encoding of tuples.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

ENTRIES_EACH = 65_536  # of a partition, about: some 60 MB, which one process holds at a time
MOST_PARTITIONS = 256


def partitions_for(entries: int) -> int:
    """How many partitions a log of this size is taken apart into: a power of two."""
    wanted = -(-entries // ENTRIES_EACH)
    return min(MOST_PARTITIONS, 1 << max(0, wanted - 1).bit_length())


class Spill:
    """Where the records of one chunk of the log go, by partition. They are read in the order they were put."""

    def __init__(self, folder: Path, name: str, chunk: int, partitions: int) -> None:
        self._folder, self._name, self._chunk = folder, name, chunk
        self._lists: list[list[bytes]] = [[] for _ in range(partitions)]
        self.to: dict[bytes, Callable[[bytes], None]] = {
            b"%02x" % value: self._lists[value % partitions].append for value in range(256)
        }
        """By two hexadecimal digits: where a record is put."""

    def flush(self) -> None:
        """Write what was put since the last time."""
        for partition, records in enumerate(self._lists):
            if records:
                with _path(self._folder, self._name, partition, self._chunk).open("ab", buffering=0) as file:
                    file.write(b"\n".join(records) + b"\n")
                records.clear()


def spilled(folder: Path, name: str, partition: int, chunks: int) -> Iterator[tuple[int, list[str]]]:
    """The records of a partition in the order of the log, chunk by chunk with its number."""
    for chunk in range(chunks):
        path = _path(folder, name, partition, chunk)
        if path.exists():
            records = path.read_bytes().decode("ascii").split("\n")  # read_text() looks for other line ends
            records.pop()
            path.unlink()
            yield chunk, records


def _path(folder: Path, name: str, partition: int, chunk: int) -> Path:
    return folder / f"{name}-{partition:03}-{chunk:06}"
