"""The Merkle tree of the log: hashes, roots, and proofs that an entry is in it and that it only grew.

RFC 6962, section 2.1, with SHA-256: a leaf is hashed behind a byte 0x00, two children behind 0x01, and the left of n
entries is the largest power of two below n. Proofs are verified by the algorithms of RFC 9162, sections 2.1.3.2 and
2.1.4.2. A complete subtree is named by its level and number: (level, number) covers the entries from
number x 2^level on, 2^level of them.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from ledger.errors import ProofInvalid

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
MAX_SIZE = (1 << 63) - 1

Subtree = Callable[[int, int], bytes]
"""The hash of a complete subtree, by level and number."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry's bytes."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two children."""
    return sha256(b"\x01" + left + right).digest()


class Edge:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first. 63 hashes hold any tree."""

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        if size.bit_count() != len(roots):
            raise ValueError(f"a tree of {size} entries has {size.bit_count()} complete subtrees, not {len(roots)}")
        self.size = size
        self._roots = list(roots)

    @property
    def roots(self) -> tuple[bytes, ...]:
        return tuple(self._roots)

    def append(self, leaf: bytes) -> None:
        """Add one entry by its leaf hash."""
        carried, size = leaf, self.size
        while size & 1:
            carried = node_hash(self._roots.pop(), carried)
            size >>= 1
        self._roots.append(carried)
        self.size += 1

    def root(self) -> bytes:
        """The root hash of the tree as it is now."""
        if not self._roots:
            return EMPTY_ROOT
        *earlier, folded = self._roots
        for left in reversed(earlier):
            folded = node_hash(left, folded)
        return folded


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root of a tree of these leaf hashes."""
    edge = Edge()
    for leaf in leaves:
        edge.append(leaf)
    return edge.root()


def edge_of(size: int, subtree: Subtree) -> Edge:
    """The edge of a tree of this size, from its complete subtrees."""
    return Edge(size, [subtree(level, number) for level, number in _complete(0, size)])


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The proof that entry `index` is in the tree of `size` entries, from the leaf upwards. Raises ValueError outside
    the tree."""
    if not 0 <= index < size:
        raise ValueError(f"entry {index} is not in a tree of {size}")
    low, high, proof = 0, size, []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(_range_hash(middle, high, subtree))
            high = middle
        else:
            proof.append(_range_hash(low, middle, subtree))
            low = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """The proof that the tree of `new` entries begins with the tree of `old`; empty for equal sizes and for old 0.

    Raises ValueError when old is larger than new.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} entries does not begin with one of {old}")
    if old in (0, new):
        return []
    low, high, proof, whole = 0, new, [], True  # whole: the old tree itself is the part in view, and known
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            proof.append(_range_hash(middle, high, subtree))
            high = middle
        else:
            proof.append(_range_hash(low, middle, subtree))
            low, whole = middle, False
    if not whole:
        proof.append(_range_hash(low, high, subtree))
    return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """That the entry with this leaf hash is the one at `index` of the tree with this root. Raises ProofInvalid."""
    if not 0 <= index < size <= MAX_SIZE:
        raise ProofInvalid(f"entry {index} is not in a tree of {size}")
    number, last, folded = index, size - 1, leaf
    for step in proof:
        if last == 0:
            raise ProofInvalid("the inclusion proof is longer than the tree is high")
        if number & 1 or number == last:
            folded = node_hash(step, folded)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            folded = node_hash(folded, step)
        number, last = number >> 1, last >> 1
    if last or folded != root:
        raise ProofInvalid(f"the inclusion proof does not lead from entry {index} to the root of the tree of {size}")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """That the tree of `new` entries begins with the tree of `old`. Raises ProofInvalid, also for an old size of 0: as
    every tree begins with the empty one, such a proof would show nothing."""
    if not 0 < old <= new <= MAX_SIZE:
        raise ProofInvalid(f"consistency is shown from a size of 1 or more to one no smaller, not from {old} to {new}")
    if old == new:
        if proof or old_root != new_root:
            raise ProofInvalid(f"two trees of {old} entries with different roots, or a proof where none is needed")
        return
    steps = list(proof) if old & (old - 1) else [old_root, *proof]  # a complete old tree is its own first step
    if not steps:
        raise ProofInvalid("the consistency proof is empty")
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise ProofInvalid("the consistency proof is longer than the tree is high")
        if number & 1 or number == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            after = node_hash(after, step)
        number, last = number >> 1, last >> 1
    if last or before != old_root or after != new_root:
        raise ProofInvalid(f"the consistency proof does not lead from the tree of {old} to the tree of {new}")


def _split(count: int) -> int:
    """The largest power of two below `count`, which is 2 or more."""
    return 1 << (count - 1).bit_length() - 1


def _complete(low: int, high: int) -> list[tuple[int, int]]:
    """The complete subtrees of the entries from `low`, where a tree begins, to `high`, largest first."""
    found = []
    while low < high:
        level = (high - low).bit_length() - 1
        found.append((level, low >> level))
        low += 1 << level
    return found


def _range_hash(low: int, high: int, subtree: Subtree) -> bytes:
    *earlier, folded = [subtree(level, number) for level, number in _complete(low, high)]
    for left in reversed(earlier):
        folded = node_hash(left, folded)
    return folded
