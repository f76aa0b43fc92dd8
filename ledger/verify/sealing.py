"""Seals recomputed: the tree of all balances as the entries before a seal leave them.

From one seal to the next only some participants change; their records come from the partitions. The order is that of
the pseudonyms, so a newcomer moves everybody behind it: the tree itself is built anew each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.merkle import HASH_BYTES
from ledger.verify.chunks import root_of_level

_ID_LENGTH = 36  # of a UUID as text


@dataclass(frozen=True, slots=True)
class SealsJob:
    """Which of the marks' trees to build.

    programmes  by mark: whose participants a seal covers; None where the mark is no seal
    wanted      the marks whose trees this job builds; it has to read those before them, too
    """

    scratch: Path
    partitions: int
    programmes: Sequence[str | None]
    wanted: frozenset[int]


def write_sealed(
    scratch: Path, partition: int, mark: int, sealed: Mapping[str, tuple[Sequence[str], Sequence[bytes]]]
) -> None:
    """Leave, by programme, the participants whose records changed before a mark, and the records' leaf hashes."""
    for programme, (participants, leaves) in sealed.items():
        if participants:
            content = "".join(participants).encode("ascii") + b"".join(leaves)
            _path(scratch, programme, partition, mark).write_bytes(content)


def build_seals(job: SealsJob) -> dict[int, tuple[bytes, int]]:
    """Root and number of participants of the wanted marks."""
    trees: dict[str, _Tree] = {programme: _Tree() for programme in job.programmes if programme is not None}
    found: dict[int, tuple[bytes, int]] = {}
    for mark in range(max(job.wanted, default=-1) + 1):
        for programme, tree in trees.items():
            for partition in range(job.partitions):
                path = _path(job.scratch, programme, partition, mark)
                if path.exists():
                    tree.change(path.read_bytes())
        sealed = job.programmes[mark]
        if mark in job.wanted and sealed is not None:
            found[mark] = trees[sealed].root(), len(trees[sealed].leaves)
    return found


class _Tree:
    """The leaf hashes of a programme's balances, by participant."""

    def __init__(self) -> None:
        self.leaves: dict[str, bytes] = {}
        self._order: list[str] = []

    def change(self, content: bytes) -> None:
        """Take in what write_sealed() left."""
        count = len(content) // (_ID_LENGTH + HASH_BYTES)
        texts, hashes = content[: count * _ID_LENGTH].decode("ascii"), content[count * _ID_LENGTH :]
        names = [texts[at : at + _ID_LENGTH] for at in range(0, len(texts), _ID_LENGTH)]
        self._order += [name for name in names if name not in self.leaves]
        self.leaves.update(
            zip(names, [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)], strict=True)
        )

    def root(self) -> bytes:
        self._order.sort()  # sorted but for the newcomers behind
        return root_of_level(b"".join([self.leaves[name] for name in self._order]))


def _path(scratch: Path, programme: str, partition: int, mark: int) -> Path:
    return scratch / f"sealed-{programme}-{partition:03}-{mark:06}"
