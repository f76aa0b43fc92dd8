"""Seals recomputed: the tree of all balances as the entries before a seal leave them.

From one seal to the next only some participants change; their records come from the partitions. The order is that of
the pseudonyms, so a newcomer moves everybody behind it: the tree itself is built anew each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.verify.chunks import root_of_level


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


def write_sealed(scratch: Path, partition: int, mark: int, records: list[str]) -> None:
    """Leave the records that changed before a mark: programme, participant and leaf hash, parted by tabs."""
    if records:
        _path(scratch, partition, mark).write_bytes("\n".join(records).encode("ascii"))


def build_seals(job: SealsJob) -> dict[int, tuple[bytes, int]]:
    """Root and number of participants of the wanted marks."""
    hashes: dict[str, dict[str, bytes]] = {}
    orders: dict[str, list[str]] = {}
    found: dict[int, tuple[bytes, int]] = {}
    for mark in range(max(job.wanted, default=-1) + 1):
        for partition in range(job.partitions):
            path = _path(job.scratch, partition, mark)
            if path.exists():
                for record in path.read_bytes().decode("ascii").split("\n"):
                    programme, participant, leaf = record.split("\t")
                    known = hashes.setdefault(programme, {})
                    if participant not in known:
                        orders.setdefault(programme, []).append(participant)
                    known[participant] = bytes.fromhex(leaf)
        sealed = job.programmes[mark]
        if mark in job.wanted and sealed is not None:
            order = orders.get(sealed, [])
            order.sort()  # sorted but for the newcomers behind
            known = hashes.get(sealed, {})
            found[mark] = root_of_level(b"".join([known[participant] for participant in order])), len(order)
    return found


def _path(scratch: Path, partition: int, mark: int) -> Path:
    return scratch / f"sealed-{partition:03}-{mark:06}"
