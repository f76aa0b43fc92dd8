"""Auditors' bundles made in tests, honest or not: any entries, tiles and checkpoint of theirs, and the papers beside.

`BundleWriter` streams, so that millions of entries fit. Whoever tampers gives it other entries, or edits the files and
calls `relist`, so that only what the log itself shows can give the change away.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.journal import PARTICIPANT_ACCOUNTS
from ledger.merkle import Edge, leaf_hash
from ledger.notes import ED25519, Signer, generate_signer
from ledger.notices import FormerLog
from ledger.tiles import WIDTH, Growth, Tile, encode_bundle
from tests.log.histories import ORIGIN, PROGRAMME, Document, History, canonical
from tests.log.playing import play

CREATED = "2026-11-22T08:00:00Z"
EVIDENCE_EACH = WIDTH * WIDTH


def signer_of(origin: str = ORIGIN, seed: int = 9) -> Signer:
    """A log's key, the same each time."""
    return generate_signer(origin, ED25519, bytes([seed] * 32))


class LogWriter:
    """A log's files, entry by entry; a checkpoint at any size. `folder` ends up as `log/` in a bundle."""

    def __init__(self, folder: Path, signer: Signer) -> None:
        self.folder, self.signer = folder, signer
        self.size = 0
        self.notes: list[tuple[int, str]] = []
        self._growth = Growth(0, lambda tile: b"")
        self._edge = Edge()
        self._entries: list[bytes] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, entry: bytes) -> None:
        """The next entry."""
        leaf = leaf_hash(entry)
        for tile, content in self._growth.add(leaf):
            self._write(tile, content)
        self._edge.append(leaf)
        self._entries.append(entry)
        self.size += 1
        if len(self._entries) == WIDTH:
            self._write(Tile(None, self.size // WIDTH - 1), encode_bundle(self._entries))
            self._entries = []

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.signer.name, self.size, self._edge.root())

    def sign(self) -> str:
        """Sign the log as it is; kept as one of its checkpoints."""
        text = str(self.checkpoint)
        note = f"{text}\n{self.signer.sign(text)}"
        if not self.notes or self.notes[-1][0] != self.size:
            self.notes.append((self.size, note))
        return note

    def close(self) -> None:
        """Write the partial tiles and the checkpoint."""
        for tile, content in self._growth.partial():
            self._write(tile, content)
        if self._entries:
            tile = Tile(None, self.size // WIDTH, len(self._entries))
            self._write(tile, encode_bundle(self._entries))
        (self.folder / "checkpoint").write_text(self.sign(), "utf-8")

    def _write(self, tile: Tile, content: bytes) -> None:
        path = self.folder / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class BundleWriter:
    """A bundle on the way: its log, and the evidence beside."""

    def __init__(self, directory: Path, signer: Signer | None = None) -> None:
        self.directory = directory
        self.log = LogWriter(directory / "log", signer or signer_of())
        self._evidence: dict[int, list[dict[str, str]]] = {}

    def evidence(self, index: int, name: str, salt: bytes, content: bytes) -> None:
        """What an entry commits to; `name` is `document` or `record`."""
        row = {"index": str(index), "salt": salt.hex(), name: content.decode()}
        part = self._evidence.setdefault(index // EVIDENCE_EACH, [])
        part.append(row)
        for number in [number for number in self._evidence if number < index // EVIDENCE_EACH]:
            self._write_evidence(number)

    def _write_evidence(self, number: int) -> None:
        path = self.directory / f"evidence/{Tile(None, number).path.removeprefix('tile/entries/')}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_lines(self._evidence.pop(number)))

    def close(
        self,
        history: History,
        *,
        epoch: int = 1,
        former: Iterable[tuple[int, int, str]] = (),
        totals_to: int | None = None,
    ) -> None:
        """Write everything that stands beside the log, and the list. `former` are earlier epochs' checkpoints."""
        log, root = self.log, self.directory
        log.close()
        for number in list(self._evidence):
            self._write_evidence(number)
        (root / "log.vkey").write_text(f"{log.signer.verifier}\n")
        keys = {
            "approvers": [],
            "banks": history.bank_keys,
            "log": [str(log.signer.verifier)],
            "sources": history.source_keys,
        }
        (root / "keys.json").write_bytes(canonical(keys))
        notes = [*former, *((epoch, size, note) for size, note in log.notes)]
        rows = [{"epoch": str(number), "size": str(size), "note": note} for number, size, note in notes]
        (root / "checkpoints.jsonl").write_bytes(_lines(rows))
        write_documents(root, history.documents)
        (root / "documents").mkdir(exist_ok=True)
        for content in history.papers:
            (root / "documents" / f"{sha256(content).hexdigest()}.json").write_bytes(content)
        (root / "manifests.jsonl").write_bytes(_lines(history.manifests))
        totals = [
            {"programme": PROGRAMME, "asset": asset, "account": account, "amount": str(amount)}
            for (asset, account), amount in sorted(history.totals.items())
        ]
        folded_to = history.size if totals_to is None else totals_to
        (root / "totals.json").write_bytes(canonical({"folded_to": str(folded_to), "totals": totals}))
        fields = {
            "v": "1",
            "programme": PROGRAMME,
            "origin": log.signer.name,
            "epoch": str(epoch),
            "size": str(log.size),
            "root": log.checkpoint.root.hex(),
            "created_at": CREATED,
            "files": {},
        }
        (root / "bundle.json").write_bytes(canonical(fields))
        relist(root)


def write_documents(root: Path, documents: Mapping[str, Document]) -> None:
    """The rule documents by their digests."""
    (root / "rules").mkdir(exist_ok=True)
    for digest, document in documents.items():
        (root / "rules" / f"{digest}.json").write_bytes(document.content)


def relist(root: Path, fields: Mapping[str, Any] | None = None) -> None:
    """Write bundle.json again over the files as they are, with these fields changed."""
    path = root / "bundle.json"
    told = json.loads(path.read_bytes()) | dict(fields or {})
    told["files"] = {
        file.relative_to(root).as_posix(): _listed(file) for file in root.rglob("*") if file.is_file() and file != path
    }
    path.write_bytes(canonical(told))


def _listed(file: Path) -> dict[str, str]:
    content = file.read_bytes()
    return {"bytes": str(len(content)), "sha256": sha256(content).hexdigest()}


def _lines(rows: Iterable[object]) -> bytes:
    return b"".join(canonical(row) + b"\n" for row in rows)


def write_history(
    directory: Path,
    random: Random,
    steps: int,
    *,
    people: int = 5,
    mean_s: float = 20_000,
    sign_each: int = 100,
    redeemed: float = 0.0,
) -> tuple[History, BundleWriter]:
    """A bundle of a played history."""
    writer = BundleWriter(directory)
    history = History(random, writer.log.add, writer.evidence)
    history.begin(writer.log.signer.verifier.public)
    last = 0
    for size in play(history, steps, people=people, mean_s=mean_s, redeemed=redeemed):
        if size >= last + sign_each:
            writer.log.sign()
            last = size
    writer.close(history)
    return history, writer


def rewrite(
    source: Path, target: Path, change: Callable[[list[bytes]], Iterable[bytes]], signer: Signer | None = None
) -> None:
    """The bundle with other entries, consistent in itself: tiles, checkpoint and list fit the change; earlier
    checkpoints are left out, as who forges a log leaves them out."""
    shutil.copytree(source, target)
    entries = list(change(entries_of(source)))
    shutil.rmtree(target / "log")
    log = LogWriter(target / "log", signer or signer_of())
    for entry in entries:
        log.add(entry)
    log.close()
    rows = [{"epoch": "1", "size": str(log.size), "note": log.notes[-1][1]}]
    (target / "checkpoints.jsonl").write_bytes(_lines(rows))
    relist(target, {"size": str(log.size), "root": log.checkpoint.root.hex()})


def entries_of(directory: Path) -> list[bytes]:
    """Every entry of a bundle's log."""
    found: list[bytes] = []
    for path in sorted((directory / "log/tile/entries").rglob("*")):
        content, at = path.read_bytes() if path.is_file() else b"", 0
        while at < len(content):
            length = int.from_bytes(content[at : at + 2], "big")
            found.append(content[at + 2 : at + 2 + length])
            at += 2 + length
    return found


def write_further_epoch(directory: Path, random: Random, *, before: int, kept: int, after: int) -> History:
    """A bundle of epoch 2: of the `before` steps of the first log all but the last entries were kept."""
    first = LogWriter(directory / "epochs/1/log", signer_of())
    entries: list[bytes] = []

    def put(entry: bytes) -> None:
        entries.append(entry)
        first.add(entry)

    lost = History(random, put)
    lost.begin(first.signer.verifier.public)
    for _ in play(lost, before, people=3, daily=False):
        pass
    first.close()
    (directory / "epochs/1/log.vkey").write_text(f"{first.signer.verifier}\n")
    writer = BundleWriter(directory, signer_of(f"{ORIGIN}/epoch-2", 10))
    history = History(random, writer.log.add, writer.evidence)
    history.go_on_from(lost)
    for entry in entries[:kept]:
        writer.log.add(entry)
        history.size += 1
        for line in json.loads(entry).get("lines", ()):
            for name, sign in ((line["from"], -1), (line["to"], 1)):
                if name not in PARTICIPANT_ACCOUNTS:
                    history.totals[line["asset"], name] += sign * int(line["amount"])
    checkpoint, note = first.checkpoint, first.notes[-1][1]
    former = FormerLog(
        ORIGIN, checkpoint.size, checkpoint.root.hex(), sha256(note.encode()).hexdigest(), min(kept, len(entries))
    )
    history.begin_further(2, former, writer.log.signer.verifier.public)
    for _ in play(history, after, people=3, daily=False):
        pass
    writer.close(history, epoch=2, former=[(1, size, text) for size, text in first.notes])
    return history


@st.composite
def random_bundles(draw: st.DrawFn) -> Callable[[Path], tuple[History, BundleWriter]]:
    """How a small honest bundle is written: given an empty folder, it is made there."""
    random = draw(st.randoms(use_true_random=False))
    steps, people = draw(st.integers(0, 120)), draw(st.integers(1, 6))
    mean_s = draw(st.sampled_from([60.0, 20_000.0, 2_000_000.0]))  # minutes; a few a day; points run out
    redeemed = draw(st.sampled_from([0.0, 0.5]))
    return lambda directory: write_history(directory, random, steps, people=people, mean_s=mean_s, redeemed=redeemed)
