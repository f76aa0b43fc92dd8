"""Entries to follow up by hand, drawn by nobody: the checkpoint's root decides which.

    entry of number n = SHA-256( root ‖ n in decimal ) as a big-endian number, modulo the log's size

Whoever signed the root could not choose them, and whoever has the checkpoint draws the same.
"""

from dataclasses import dataclass
from hashlib import sha256
from re import compile as pattern
from typing import Any

SAMPLES = 25
_ROOT = pattern(r"[0-9a-f]{64}")
_MOST_DRAWN = 4 * SAMPLES  # a small log gives the same entry again and again


@dataclass(frozen=True, slots=True)
class Sample:
    """An entry to ask about, and the event by which its source knows it (None: erased, or no credit's)."""

    number: int
    entry: int
    kind: str
    participant: str | None
    source: str | None
    day: str | None
    event: str | None


def draw(root: str, size: int) -> dict[int, int]:
    """The entries drawn, by index, with the number that drew each first. `root` is hexadecimal; one that is not, of a
    bundle without a checkpoint, draws none."""
    found: dict[int, int] = {}
    if not _ROOT.fullmatch(root):
        return found
    for number in range(_MOST_DRAWN if size else 0):
        drawn = int.from_bytes(sha256(bytes.fromhex(root) + str(number).encode("ascii")).digest(), "big") % size
        found.setdefault(drawn, number)
        if len(found) == SAMPLES:
            break
    return found


def sample_of(number: int, entry: int, leaf: dict[str, Any], event: str | None) -> Sample:
    """What to ask about, from a leaf."""
    participant, source, day = (
        text if isinstance(text := leaf.get(name), str) else None for name in ("participant", "source", "day")
    )
    return Sample(number, entry, leaf["kind"], participant, source, day, event)
