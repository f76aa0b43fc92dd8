"""The whole verification, pass by pass; see ledger/verify/chunks.py and accounts.py for the two that take the time."""

import gc
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from ledger.bundle import MANIFEST, Bundle, Listed, read_bundle
from ledger.errors import TileInvalid
from ledger.journal import KINDS
from ledger.merkle import edge_of
from ledger.tiles import WIDTH, Tile, new_bundles, subtree_reader, tiles_of
from ledger.verify.accounts import AccountsJob, AccountsRead, read_accounts
from ledger.verify.checkpoints import (
    CHECKPOINT,
    EARLIER,
    KEY,
    POLICY,
    REMEMBERED,
    Log,
    compare_roots,
    read_earlier,
    read_logs,
    read_policy_of,
    read_remembered,
)
from ledger.verify.chunks import ChunkJob, ChunkRead, read_chunk
from ledger.verify.claims import ClaimsJob, check_claims, read_claims
from ledger.verify.draws import check_pools, last_of_days, sums_of
from ledger.verify.findings import Findings, Left
from ledger.verify.keys import check_key_list, check_keys, keys_of_banks
from ledger.verify.listings import check_listings, check_statements, documents_of
from ledger.verify.moments import shanghai_day
from ledger.verify.notices import check_epochs, check_manifests, check_rules, kept_sizes
from ledger.verify.papers import (
    KEYS,
    MANIFESTS,
    TOTALS,
    check_documents,
    check_manifest_texts,
    compare_totals,
    read_keys,
    read_totals,
    unread,
)
from ledger.verify.redemptions import Board
from ledger.verify.report import Report
from ledger.verify.sealing import SealsJob, build_seals
from ledger.verify.seals import compare_seal, marks_of, read_seals, totals_at
from ledger.verify.spill import partitions_for
from ledger.verify.tree import chunks_of, compare_upper_tiles, roots_of, wanted_by_chunk

NOTICE_KINDS = ("rule", "manifest", "key", "epoch", "pool", "listing", "statement", "seal")
Job, Done = TypeVar("Job"), TypeVar("Done")
Work = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]
"""Do each of some jobs, in any order and perhaps in several processes; what they gave, in their order."""


def verify(directory: Path, *, processes: int = 1, previous: Path | None = None, policy: Path | None = None) -> Report:
    """Look at everything a bundle can show by itself.

    previous  the auditor's own checkpoint of the last time; by default it lies beside the bundle. After a verification
              that found nothing it is replaced by the bundle's
    policy    a witness policy that the auditor prefers to the bundle's own

    Raises BundleUnreadable, OSError, PolicyInvalid for a policy of the auditor's own that cannot be read.
    """
    bundle = read_bundle(directory)
    remembered = previous or directory.parent / (directory.resolve().name + REMEMBERED)
    with _uncollected(), tempfile.TemporaryDirectory(prefix="tanpuhui-verify-") as scratch, _workers(processes) as work:
        return _Verification(bundle, Path(scratch), work, max(1, processes)).run(remembered, policy)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No search for cycles of garbage meanwhile: the passes make none, and keep objects by the million, through which
    every search would go again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def _workers(processes: int) -> Iterator[Work]:
    if processes <= 1:
        yield lambda function, jobs: [function(job) for job in jobs]
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), gc.disable) as pool:
        yield lambda function, jobs: list(pool.map(function, jobs))


class _Verification:
    """One run: what is known so far."""

    def __init__(self, bundle: Bundle, scratch: Path, work: Work, processes: int) -> None:
        self.bundle, self.scratch, self.work, self.processes = bundle, scratch, work, processes
        self.findings = Findings()
        self.left: list[Left] = []
        self.checked: dict[str, int] = {}
        self.files = {KEYS, EARLIER, POLICY}

    def run(self, remembered: Path, policy: Path | None) -> Report:
        bundle, findings = self.bundle, self.findings
        keys, papers = read_keys(bundle, findings)
        trusted = read_policy_of(bundle, policy, findings)
        logs = read_logs(bundle, keys, trusted, findings)
        current = logs[-1]
        if current.key is not None and current.key not in keys:
            findings.add("log-key", "among the log's keys of keys.json", current.key, None, KEY)
        self._compare_fields(current)
        self.checked["witnesses"] = len(current.verified.seen_at) if current.verified else 0
        self.checked["checkpoints"] = read_earlier(bundle, logs, keys, findings)
        read_remembered(remembered, logs, keys, findings)
        chunks = {log.epoch: self._read_log(log) for log in logs}
        notices = [notice for chunk in chunks[current.epoch] for notice in chunk.notices]
        for kind in (*KINDS, *NOTICE_KINDS):
            self.checked[kind] = sum(chunk.kinds.get(kind, 0) for chunk in chunks[current.epoch])
        uses = _uses(chunks[current.epoch])
        announced = check_keys(notices, current, bundle.created_at, findings)
        board = Board(check_listings(notices, findings), keys_of_banks(announced))
        self._accounts(current, chunks[current.epoch], notices, board)
        self.left += check_rules(notices, uses, findings)
        draws = [chunk.draws for chunk in chunks[current.epoch]]
        check_pools(draws, notices, findings)
        self.left += check_statements(notices, last_of_days(draws), shanghai_day(bundle.created_at), findings)
        if papers is not None:
            check_key_list(papers, announced, notices, findings)
        self._compare_programme(notices)
        self.left += check_epochs(notices, logs, self._kept_roots(logs, notices), findings)
        named = {digest for _, _, digest in uses}
        named |= {fields["digest"] for _, fields in notices if fields["kind"] == "rule"}
        paths = {f"rules/{digest}.json" for digest in named}
        paths |= {f"documents/{digest}.json" for digest in documents_of(notices)}
        self.checked["documents"] = len(paths)
        check_documents(bundle, paths, findings)
        check_manifest_texts(bundle, check_manifests(notices, announced, findings), findings)
        self._other_files(paths)
        report = Report(str(bundle.directory), _log_of(bundle, current), self.checked, findings, self.left)
        report.redeemed = sums_of(draws)
        report.source_keys = {which: key for which, key in announced.items() if key.holder == "source"}
        if report.clean:
            remembered.write_text(current.note, "utf-8")
            report.remembered = str(remembered)
        return report

    def _compare_fields(self, log: Log) -> None:
        if log.checkpoint is None:
            return
        is_so = (log.checkpoint.origin, log.checkpoint.size, log.checkpoint.root.hex())
        said = (self.bundle.origin, self.bundle.size, self.bundle.root)
        for name, value, told in zip(("origin", "size", "root"), is_so, said, strict=True):
            if value != told:
                self.findings.add("bundle-field", value, told, None, f"{MANIFEST} {name}")

    def _compare_programme(self, notices: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """The bundle's programme is the one whose log began."""
        began = [fields["programme"] for _, fields in notices if fields["kind"] == "epoch"]
        if began and began[-1] != self.bundle.programme:
            self.findings.add("bundle-field", began[-1], self.bundle.programme, None, f"{MANIFEST} programme")

    def _size(self, log: Log) -> int:
        """How many entries are looked at: those that were signed, unless that many cannot be there."""
        signed = log.checkpoint.size if log.checkpoint is not None else self.bundle.size
        return min(signed, WIDTH * len(self.bundle.under(f"{log.folder}tile/entries/")))

    def _read_log(self, log: Log) -> list[ChunkRead]:
        """Pass one over an epoch's log; the entries of the current one are handed on."""
        size = self._size(log)
        current = log.epoch == self.bundle.epoch
        if log.checkpoint is not None and size != log.checkpoint.size:
            self.findings.add("entries-form", f"{log.checkpoint.size} entries", f"at most {size}", None, log.folder)
        wanted = wanted_by_chunk([size, *log.earlier], size)
        paths = self._tiles(log, size)
        self.files.update((log.folder + CHECKPOINT, log.folder.removesuffix("log/") + KEY), *paths)
        jobs = [
            ChunkJob(
                self.bundle.directory,
                log.folder,
                number,
                size,
                wanted.get(number, frozenset()),
                {path: self.bundle.files[path] for path in paths[number] if path in self.bundle.files},
                self.scratch,
                partitions_for(size) if current else None,
            )
            for number in range(chunks_of(size))
        ]
        chunks: list[ChunkRead] = self.work(read_chunk, jobs)
        for chunk in chunks:
            self.findings.merge(chunk.findings)
        if jobs:
            whole = ChunkJob(
                self.bundle.directory, log.folder, 0, size, frozenset(), self.bundle.files, self.scratch, None
            )
            self.findings.merge(compare_upper_tiles(whole, chunks))
        roots = roots_of(chunks)
        if log.checkpoint is not None and roots[size] != log.checkpoint.root:
            found, where = roots[size].hex(), log.folder + CHECKPOINT
            self.findings.add("root", log.checkpoint.root.hex(), found, None, where)
        compare_roots(log, size, roots, self.findings)
        self.checked["entries"] = size if current else self.checked.get("entries", 0)
        self.checked["tiles"] = self.checked.get("tiles", 0) + sum(map(len, paths))
        return chunks

    def _tiles(self, log: Log, size: int) -> list[list[str]]:
        """The paths of a log's tiles and bundles, by chunk; those above chunks are the last."""
        paths: list[list[str]] = [[] for _ in range(chunks_of(size) + 1)]
        for tile in (*tiles_of(size), *new_bundles(0, size)):
            level = tile.level or 0
            place = tile.number // WIDTH if level == 0 else tile.number if level == 1 else -1
            paths[place].append(log.folder + tile.path)
        return paths

    def _accounts(
        self, log: Log, chunks: Sequence[ChunkRead], notices: Sequence[tuple[int, dict[str, Any]]], board: Board
    ) -> None:
        """Pass two: claims, then participants, then the trees of the seals."""
        size, findings = self._size(log), self.findings
        partitions = range(partitions_for(size))
        published = read_totals(self.bundle, findings)
        self.files.add(TOTALS)
        seals = read_seals(notices, size, findings)
        if published is not None and published[0] != size:
            self.left.append(
                Left("totals-ahead" if published[0] > size else "totals-behind", 1, f"folded_to {published[0]}")
            )
            published = None if published[0] > size else published
        marks = marks_of(seals, published[0] if published else None)
        repeated: dict[str, list[int]] = {}
        for part in self.work(read_claims, [ClaimsJob(self.scratch, each, len(chunks)) for each in partitions]):
            repeated.update(part)
        replaces = [one for chunk in chunks for one in chunk.replaces]
        watched = frozenset(index for entries in repeated.values() for index in entries)
        asked = frozenset(transfer for _, transfer, _ in replaces)
        profiles = [chunk.profiles for chunk in chunks]
        ended = frozenset(transfer for chunk in chunks for transfer in chunk.ended)
        givers = frozenset(participant for chunk in chunks for participant in chunk.draws.givers)
        jobs = [
            AccountsJob(self.scratch, each, profiles, marks, ended, watched, asked, givers, board, size)
            for each in partitions
        ]
        parts: list[AccountsRead] = self.work(read_accounts, jobs)
        fates = {index: fate for part in parts for index, fate in part.watched.items()}
        for part in parts:
            findings.merge(part.findings)
        self.checked["participants"] = sum(part.participants for part in parts)
        awaited = sorted(index for part in parts for index in part.awaited)
        if awaited:
            self.left.append(Left("lapse-awaited", len(awaited), f"entry {awaited[0]}"))
        self.left += check_claims(repeated, fates, findings)
        _check_replaces(replaces, parts, findings)
        self._seals(seals, marks, parts, len(partitions))
        if published is not None:
            place = next(number for number, mark in enumerate(marks) if mark.seal is None)
            compare_totals(published[1], totals_at(place, parts), findings)

    def _seals(self, seals: Any, marks: Any, parts: Sequence[AccountsRead], partitions: int) -> None:
        numbers = [number for number, mark in enumerate(marks) if mark.seal is not None]
        programmes = [mark.programme for mark in marks]
        shares = [frozenset(numbers[share :: self.processes]) for share in range(self.processes)]
        jobs = [SealsJob(self.scratch, partitions, programmes, share) for share in shares if share]
        for built in self.work(build_seals, jobs):
            for number, (root, participants) in built.items():
                index, fields = seals[marks[number].seal]
                compare_seal(index, fields, root, participants, totals_at(number, parts), self.findings)

    def _kept_roots(
        self, logs: Sequence[Log], notices: Sequence[tuple[int, dict[str, Any]]]
    ) -> dict[int, dict[int, bytes]]:
        """The roots of what each epoch kept, in its own log's tiles and the former one's."""
        roots: dict[int, dict[int, bytes]] = {log.epoch: {} for log in logs}
        for epoch, kept in kept_sizes(notices).items():
            for log in logs:
                if log.epoch in (epoch - 1, self.bundle.epoch) and kept <= self._size(log):
                    read = subtree_reader(self._size(log), partial(_tile, self.bundle, log.folder))
                    try:
                        roots[log.epoch][kept] = edge_of(kept, read).root()
                    except TileInvalid:  # found before, where the tile was compared
                        continue
        return roots

    def _other_files(self, named: Iterable[str]) -> None:
        """Every file that was not read above, held against the list; the rest of the folder is named."""
        self.files |= {*named, MANIFESTS}
        others = sorted(set(self.bundle.files) - self.files)
        listed = [(self.bundle.directory / path, self.bundle.files[path]) for path in others]
        differences = self.work(_differs, listed)
        for path, difference in zip(others, differences, strict=True):
            if difference == "missing":
                self.findings.add("file-missing", "a file of the bundle", "none", None, path)
            elif difference:
                self.findings.add("file-differs", self.bundle.files[path].digest, difference, None, path)
        self.checked["files"] = len(self.bundle.files)
        strange = unread(self.bundle, [MANIFEST])
        if strange:
            self.left.append(Left("files-not-read", len(strange), strange[0]))


def _tile(bundle: Bundle, folder: str, tile: Tile) -> bytes:
    content = bundle.read(folder + tile.path)
    if content is None:
        raise TileInvalid(f"{folder}{tile.path} is missing")
    return content


def _differs(file: tuple[Path, Listed]) -> str | None:
    """How a file differs from what is listed of it."""
    path, listed = file
    digest, length = sha256(), 0
    try:
        with path.open("rb") as content:
            while part := content.read(1 << 20):
                digest.update(part)
                length += len(part)
    except OSError:
        return "missing"
    if length != listed.length:
        return f"{length} bytes"
    return None if digest.hexdigest() == listed.digest else digest.hexdigest()


def _uses(chunks: Sequence[ChunkRead]) -> dict[tuple[str, str, str], int]:
    """The documents that credits name: the first entry under each."""
    found: dict[tuple[str, str, str], int] = {}
    for chunk in chunks:
        for key, first in chunk.uses.items():
            found.setdefault(key, first)
    return found


def _check_replaces(
    replaces: Sequence[tuple[int, str, str]], parts: Sequence[AccountsRead], findings: Findings
) -> None:
    """A credit that replaces another comes after that one was corrected by its source or superseded, and alone."""
    fates = {transfer: fate for part in parts for transfer, fate in part.asked.items()}
    replaced: dict[str, int] = {}
    for index, transfer, source in replaces:
        fate = fates.get(transfer)
        if fate is None or fate.reversed_at is None or fate.reversed_at > index:
            findings.add("replaces", f"{transfer}, a credit reversed before", "none such", index)
        elif fate.reason not in ("corrected", "superseded"):
            findings.add("replaces", "a credit that was corrected or superseded", fate.reason, index)
        elif fate.reason == "corrected" and fate.source != source:
            findings.add("replaces", fate.source, source, index)
        if transfer in replaced:
            findings.add("replaces", f"replaced by entry {replaced[transfer]} alone", transfer, index)
        replaced.setdefault(transfer, index)


def _log_of(bundle: Bundle, log: Log) -> dict[str, str]:
    checkpoint = log.checkpoint
    return {
        "origin": checkpoint.origin if checkpoint else bundle.origin,
        "epoch": str(bundle.epoch),
        "size": str(checkpoint.size if checkpoint else bundle.size),
        "root": checkpoint.root.hex() if checkpoint else bundle.root,
        "key": str(log.key or ""),
    }
