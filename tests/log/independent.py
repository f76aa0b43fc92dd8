"""A second reader of logs and bundles, written from the published formats alone: it shares no code with the ledger.

Trees are those of RFC 6962, section 2.1, as its recursive definitions stand there; notes, checkpoints, cosignatures and
tiles those of C2SP; leaves, seals and bundles as docs/audit.md describes them. It is slow on purpose: what it says has
to be seen to be right. `cryptography` serves for Ed25519 only.
"""

import base64
import binascii
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PERSONAL = ("available", "debt", "held", "pending")
COMMITTED = {  # what a line of evidence holds: the prefix under which it is hashed, and the leaf's fields for the hash
    "document": (b"tanpuhui/evidence/1\n", ("evidence",)),
    "record": (b"tanpuhui/settlement/1\n", ("facts", "decision")),
    "terms": (b"tanpuhui/terms/1\n", ("terms",)),
}


class Wrong(Exception):
    """Something is not as its format says."""


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def leaf(entry: bytes) -> bytes:
    return sha(b"\0", entry)


def below(size: int) -> int:
    """The k of RFC 6962: the largest power of two smaller than `size`, by counting up."""
    k = 1
    while k * 2 < size:
        k *= 2
    return k


class Tree:
    """MTH, PATH and PROOF of RFC 6962, section 2.1, over leaf hashes; D[a:b] is remembered."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves
        self._known: dict[tuple[int, int], bytes] = {}

    def hash(self, a: int, b: int) -> bytes:
        """MTH(D[a:b])."""
        if (a, b) not in self._known:
            if a == b:
                made = sha()
            elif b - a == 1:
                made = self.leaves[a]
            else:
                k = below(b - a)
                made = sha(b"\1", self.hash(a, a + k), self.hash(a + k, b))
            self._known[a, b] = made
        return self._known[a, b]

    def root(self, size: int) -> bytes:
        return self.hash(0, size)

    def path(self, m: int, n: int, a: int = 0) -> list[bytes]:
        """PATH(m, D[n])."""
        if n == 1:
            return []
        k = below(n)
        if m < k:
            return [*self.path(m, k, a), self.hash(a + k, a + n)]
        return [*self.path(m - k, n - k, a + k), self.hash(a, a + k)]

    def proof(self, m: int, n: int) -> list[bytes]:
        """PROOF(m, D[n])."""
        return self._subproof(m, n, 0, True)

    def _subproof(self, m: int, n: int, a: int, known: bool) -> list[bytes]:
        if m == n:
            return [] if known else [self.hash(a, a + n)]
        k = below(n)
        if m <= k:
            return [*self._subproof(m, k, a, known), self.hash(a + k, a + n)]
        return [*self._subproof(m - k, n - k, a + k, False), self.hash(a, a + k)]


def root_by_path(m: int, n: int, hashed: bytes, path: Sequence[bytes]) -> bytes:
    """The root that a path leads to: the definition of PATH, read backwards. Raises Wrong for another length."""
    if not 0 <= m < n:
        raise Wrong(f"{m} is not below {n}")
    if n == 1:
        if path:
            raise Wrong("the path is too long")
        return hashed
    if not path:
        raise Wrong("the path is too short")
    k, sibling = below(n), path[-1]
    if m < k:
        return sha(b"\1", root_by_path(m, k, hashed, path[:-1]), sibling)
    return sha(b"\1", sibling, root_by_path(m - k, n - k, hashed, path[:-1]))


def roots_by_proof(m: int, n: int, old_root: bytes, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The old and the new root that a consistency proof leads to. Raises Wrong for another length."""
    if not 0 < m <= n:
        raise Wrong(f"nothing is shown from {m} to {n}")
    return _roots(m, n, old_root, proof, True)


def _roots(m: int, n: int, old_root: bytes, proof: Sequence[bytes], known: bool) -> tuple[bytes, bytes]:
    if m == n:
        if len(proof) != (0 if known else 1):
            raise Wrong("the proof is of another length")
        return (old_root, old_root) if known else (proof[0], proof[0])
    if not proof:
        raise Wrong("the proof is too short")
    k, sibling = below(n), proof[-1]
    if m <= k:
        old, new = _roots(m, k, old_root, proof[:-1], known)
        return old, sha(b"\1", new, sibling)
    old, new = _roots(m - k, n - k, old_root, proof[:-1], False)
    return sha(b"\1", sibling, old), sha(b"\1", sibling, new)


def includes(m: int, n: int, hashed: bytes, path: Sequence[bytes], root: bytes) -> bool:
    try:
        return root_by_path(m, n, hashed, path) == root
    except Wrong:
        return False


def continues(m: int, n: int, old: bytes, new: bytes, proof: Sequence[bytes]) -> bool:
    try:
        return roots_by_proof(m, n, old, proof) == (old, new)
    except Wrong:
        return False


def un64(text: str) -> bytes:
    """Standard base64 in its one form. Raises Wrong."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Wrong(f"no base64: {text}") from None
    if base64.b64encode(raw).decode() != text:
        raise Wrong(f"base64 with bits left over: {text}")
    return raw


@dataclass(frozen=True)
class Key:
    """A verifier key: `kind` 1 signs notes, 4 cosigns checkpoints."""

    name: str
    id: bytes
    kind: int
    public: bytes


def key(text: str) -> Key:
    """`name+id+base64(kind ‖ public key)`. Raises Wrong."""
    parts = text.split("+", 2)
    if len(parts) != 3 or not re.fullmatch("[0-9a-f]{8}", parts[1]):
        raise Wrong("a key is name+id+key")
    name, raw = parts[0], un64(parts[2])
    if not name or any(letter.isspace() for letter in name) or len(raw) != 33 or raw[0] not in (1, 4):
        raise Wrong("a name without spaces, and an Ed25519 key of 32 bytes")
    key_id = sha(name.encode(), b"\n", raw)[:4]
    if key_id.hex() != parts[1]:
        raise Wrong("the id is another key's")
    return Key(name, key_id, raw[0], raw[1:])


def split_note(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """The text with its last line feed, and of each signature line the name and the bytes. Raises Wrong."""
    if len(note) > 1_000_000:
        raise Wrong("too long")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong("not UTF-8") from None
    if any(ord(letter) < 32 and letter != "\n" for letter in whole):
        raise Wrong("a control character")
    at = whole.rfind("\n\n")
    if at < 0 or not whole.endswith("\n") or at + 2 == len(whole):
        raise Wrong("no signatures")
    signatures = []
    for line in whole[at + 2 : -1].split("\n"):
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "\u2014" or not parts[1] or "+" in parts[1]:
            raise Wrong(f"no signature line: {line}")
        if any(letter.isspace() for letter in parts[1]) or len(un64(parts[2])) < 5:
            raise Wrong(f"no signature line: {line}")
        signatures.append((parts[1], un64(parts[2])))
    if len(signatures) > 100:
        raise Wrong("too many signatures")
    return whole[: at + 1], signatures


def open_note(note: bytes, keys: Iterable[Key]) -> tuple[str, dict[Key, int | None]]:
    """The text, and which of the keys signed it, a witness's with its time. Raises Wrong if none did, or one badly."""
    text, signatures = split_note(note)
    found: dict[Key, int | None] = {}
    for one in keys:
        mine = [raw[4:] for name, raw in signatures if (name, raw[:4]) == (one.name, one.id)]
        if not mine:
            continue
        signature, signed, time = mine[0], text.encode(), None
        if one.kind == 4:
            time = int.from_bytes(signature[:8], "big")
            signature, signed = signature[8:], b"cosignature/v1\ntime %d\n" % time + signed
        try:
            Ed25519PublicKey.from_public_bytes(one.public).verify(signature, signed)
        except InvalidSignature:
            raise Wrong(f"{one.name} did not sign this") from None
        found[one] = time
    if not found:
        raise Wrong("nobody that is known signed this")
    return text, found


def checkpoint(text: str) -> tuple[str, int, bytes]:
    """Name, size and root. Raises Wrong."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "" or not all(lines):
        raise Wrong("a checkpoint has three lines and more")
    if not re.fullmatch("0|[1-9][0-9]*", lines[1], re.ASCII) or int(lines[1]) >= 1 << 63:
        raise Wrong(f"no size: {lines[1]}")
    root = un64(lines[2])
    if len(root) != 32:
        raise Wrong("a root has 32 bytes")
    return lines[0], int(lines[1]), root


def tile_path(level: int | str, number: int, width: int = 256) -> str:
    """The path of a tile of hashes, or with the level "entries" of a bundle."""
    groups = f"{number % 1000:03}"
    while number := number // 1000:
        groups = f"x{number % 1000:03}/{groups}"
    return f"tile/{level}/{groups}" + ("" if width == 256 else f".p/{width}")


def tiles(entries: Sequence[bytes]) -> dict[str, bytes]:
    """Every tile and bundle of a log of these entries, by path."""
    made: dict[str, bytes] = {}
    for at in range(0, len(entries), 256):
        part = entries[at : at + 256]
        content = b"".join(len(one).to_bytes(2, "big") + one for one in part)
        made[tile_path("entries", at // 256, len(part))] = content
    row, level = [leaf(one) for one in entries], 0
    while row:
        for at in range(0, len(row), 256):
            part = row[at : at + 256]
            made[tile_path(level, at // 256, len(part))] = b"".join(part)
        row = [Tree(row[at : at + 256]).root(256) for at in range(0, len(row) - 255, 256)]
        level += 1
    return made


def split_entries(content: bytes) -> list[bytes]:
    """The entries of a bundle. Raises Wrong."""
    found = []
    while content:
        length = int.from_bytes(content[:2], "big")
        one, content = content[2 : 2 + length], content[2 + length :]
        if not one or len(one) != length:
            raise Wrong("an entry that is empty or cut off")
        found.append(one)
    return found


@dataclass
class Read:
    """A log as it was read: `wrong` says what does not hold."""

    origin: str = ""
    size: int = 0
    root: bytes = b""
    entries: list[bytes] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def fsck(folder: Path, vkey: str) -> Read:
    """Look at a log's files: its checkpoint is signed, and every tile and bundle there is is that of its entries."""
    read = Read()
    try:
        text, _ = open_note((folder / "checkpoint").read_bytes(), [key(vkey)])
        read.origin, read.size, read.root = checkpoint(text)
        for at in range(0, read.size, 256):
            path = tile_path("entries", at // 256, min(256, read.size - at))
            read.entries += split_entries((folder / path).read_bytes())
    except (Wrong, OSError) as error:
        read.wrong.append(str(error))
        return read
    if len(read.entries) != read.size:
        read.wrong.append(f"{len(read.entries)} entries, not {read.size}")
    if Tree([leaf(one) for one in read.entries]).root(len(read.entries)) != read.root:
        read.wrong.append("the entries do not lead to the root")
    wanted = tiles(read.entries)
    read.wrong += [f"{path} is missing" for path in wanted if not (folder / path).is_file()]
    for file in (one for one in (folder / "tile").rglob("*") if one.is_file()):
        path = file.relative_to(folder).as_posix()
        whole, _, width = path.partition(".p/")
        larger = next((one for one in wanted if one.partition(".p/")[0] == whole), None)
        content = wanted[larger] if larger else b""
        if width and path not in wanted:  # of an earlier size
            content = _first(content, int(width), entries="/entries/" in path)
        if larger is None or file.read_bytes() != content:
            read.wrong.append(f"{path} holds other bytes")
    return read


def _first(content: bytes, width: int, *, entries: bool) -> bytes:
    if not entries:
        return content[: 32 * width]
    return b"".join(len(one).to_bytes(2, "big") + one for one in split_entries(content)[:width])


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sealed_root(transfers: Iterable[dict[str, Any]]) -> tuple[bytes, int, dict[tuple[str, str], int]]:
    """What a seal over these transfers says: root, participants, and the totals that are not zero."""
    balances: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    buckets: defaultdict[str, Counter[str]] = defaultdict(Counter)
    counters: Counter[str] = Counter()
    totals: Counter[tuple[str, str]] = Counter()
    for one in transfers:
        who = one["participant"]
        counters[who] += 1
        for line in one["lines"]:
            for account, amount in ((line["from"], -int(line["amount"])), (line["to"], int(line["amount"]))):
                change = -amount if account == "debt" else amount  # what is owed goes down when something is put there
                totals[line["asset"], account] += change
                if account in PERSONAL:
                    balances[who][line["asset"], account] += change
                if account == "available" and line["asset"] == "points":
                    buckets[who][line["expires"]] += amount
    records = [
        canonical(
            {
                "v": "1",
                "participant": who,
                "counter": str(counters[who]),
                "buckets": {day: str(left) for day, left in buckets[who].items() if left},
                "balances": {
                    asset: {account: str(balances[who][asset, account]) for account in PERSONAL}
                    for asset in ("co2e_mg", "points")
                },
            }
        )
        for who in sorted(counters)
    ]
    root = Tree([leaf(one) for one in records]).root(len(records))
    return root, len(records), {name: amount for name, amount in totals.items() if amount}


def look_at(bundle: Path) -> list[str]:
    """What is wrong with a bundle of a first epoch: list, log, earlier checkpoints, counters, seals, totals, rules."""
    wrong: list[str] = []
    told = json.loads((bundle / "bundle.json").read_bytes())
    for path, listed in told["files"].items():
        content = (bundle / path).read_bytes() if (bundle / path).is_file() else None
        if content is None or (str(len(content)), hashlib.sha256(content).hexdigest()) != (
            listed["bytes"],
            listed["sha256"],
        ):
            wrong.append(f"{path} is not the file that is listed")
    vkey = (bundle / "log.vkey").read_text("utf-8").strip()
    read = fsck(bundle / "log", vkey)
    wrong += read.wrong
    if (told["origin"], told["size"], told["root"]) != (read.origin, str(read.size), read.root.hex()):
        wrong.append("bundle.json is of another log")
    tree = Tree([leaf(one) for one in read.entries])
    for line in (bundle / "checkpoints.jsonl").read_bytes().splitlines():
        try:
            origin, size, root = checkpoint(open_note(json.loads(line)["note"].encode(), [key(vkey)])[0])
        except Wrong as error:
            wrong.append(f"checkpoints.jsonl: {error}")
            continue
        if origin != read.origin or size > read.size or tree.root(size) != root:
            wrong.append(f"the checkpoint of {size} entries is of another history")
    return wrong + _entries(bundle, [json.loads(one) for one in read.entries], read.entries)


def _entries(bundle: Path, leaves: Sequence[dict[str, Any]], entries: Sequence[bytes]) -> list[str]:
    wrong = [f"entry {at} is not canonical" for at, one in enumerate(leaves) if canonical(one) != entries[at]]
    counters: Counter[str] = Counter()
    for at, one in enumerate(leaves):
        if "participant" in one:
            counters[one["participant"]] += 1
            if one["counter"] != str(counters[one["participant"]]):
                wrong.append(f"entry {at}: its counter is not {counters[one['participant']]}")
        elif one["kind"] == "seal":
            root, people, totals = sealed_root(each for each in leaves[: int(one["size"])] if "participant" in each)
            said = {(each["asset"], each["account"]): int(each["amount"]) for each in one["totals"]}
            if (one["root"], one["participants"], said) != (root.hex(), str(people), totals):
                wrong.append(f"entry {at}: the seal is of other balances")
        for name in ("methodology", "points_rule"):
            digest = one.get(name)
            if digest is not None:
                path = bundle / "rules" / f"{digest}.json"
                if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                    wrong.append(f"entry {at}: {path.name} is not there, or another")
        named = one.get("offer") if one["kind"] == "hold" else one.get({"pool": "terms"}.get(one["kind"], "digest"))
        if one["kind"] in ("hold", "pool", "listing", "statement"):
            path = bundle / "documents" / f"{named}.json"
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != named:
                wrong.append(f"entry {at}: {path.name} is not there, or another")
    for file in sorted((bundle / "evidence").rglob("*.jsonl")):
        for line in map(json.loads, file.read_bytes().splitlines()):
            name = "document" if "document" in line else "record"
            prefix, fields = COMMITTED[name]
            made = sha(prefix, bytes.fromhex(line["salt"]), line[name].encode()).hex()
            if made not in [leaves[int(line["index"])].get(each) for each in fields]:
                wrong.append(f"entry {line['index']}: its {name} is another")
    published = json.loads((bundle / "totals.json").read_bytes())
    *_, totals = sealed_root(each for each in leaves if "participant" in each)
    said = {
        (each["asset"], each["account"]): int(each["amount"]) for each in published["totals"] if each["amount"] != "0"
    }
    if said != {name: amount for name, amount in totals.items() if name[1] not in PERSONAL}:
        wrong.append("totals.json does not add up")
    return wrong
