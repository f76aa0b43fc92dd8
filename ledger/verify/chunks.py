"""The first pass: a chunk of the log, its bundles against its tiles, every entry taken apart and handed on.

A chunk is what lies under one tile of level 1, 65,536 entries, so that chunks can be read in any order and by several
processes: each gives the root of its part, and the hashes on its edge at every size that was ever signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger.bundle import Listed
from ledger.errors import TileInvalid
from ledger.journal import KINDS
from ledger.merkle import EMPTY_ROOT, HASH_BYTES, Edge
from ledger.tiles import WIDTH, Tile, decode_bundle
from ledger.verify.canonical import (
    ALIKE,
    CREDIT,
    STANDING,
    claims_in_order,
    fault_of,
    is_plain,
)
from ledger.verify.draws import Draws
from ledger.verify.findings import Findings
from ledger.verify.spill import Spill
from ledger.verify.transfers import CREDIT_KIND, HOLD_KIND, Profile, take_apart

CHUNK = WIDTH * WIDTH
FLUSH_EACH = 32  # bundles: 8,192 entries, of which the records take 4 MB
PARTICIPANTS, CLAIMS = "participants", "claims"
_TWO = 2 * HASH_BYTES
AUTHORITIES = ("operator", "source", "rule")  # a rule's is where an operator's own record takes another's place
_ACTIVITY = slice(13, 49)  # of a credit's leaf: its first value
_ONE_CLAIM = 80  # characters: longer is more than one


# A record is the fields of one transfer's entry that its profile does not have, as texts: index, profile, at, counter,
# day, participant, transfer, and five more. These are grams, class, vintage, points and expires of a plain credit; else
# the lines as they are written, what is named (transfers.py), units, value and end of a hold or a step.


@dataclass(frozen=True, slots=True)
class ChunkJob:
    """What to read.

    log         the folder of the log within the bundle, ending in `/`
    size        of the whole log
    wanted      sizes, of this chunk alone, at which the edge is asked for
    listed      what the bundle lists of the chunk's files
    partitions  where the entries go; None where only the tree is looked at
    """

    directory: Path
    log: str
    number: int
    size: int
    wanted: frozenset[int]
    listed: Mapping[str, Listed]
    scratch: Path
    partitions: int | None


@dataclass(slots=True)
class ChunkRead:
    """What a chunk gave.

    bundle_roots  of its full bundles, as found in the entries
    edges         by wanted size: the complete subtrees of the chunk's part, largest first
    profiles      what many of its entries have in common
    uses          by programme, role and digest of a document: the first entry under it
    replaces      of credits that replace one: index, transfer that is replaced, source
    ended         transfers that reversals, maturities and refunds name
    draws         what holds and their steps do to pools and banks' days
    notices       the fields of leaves that tell of no transfer, by index
    """

    number: int
    bundle_roots: list[bytes] = field(default_factory=list)
    edges: dict[int, list[bytes]] = field(default_factory=dict)
    uses: dict[tuple[str, str, str], int] = field(default_factory=dict)
    profiles: list[Profile] = field(default_factory=list)
    replaces: list[tuple[int, str, str]] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    notices: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    draws: Draws = field(default_factory=Draws)
    kinds: dict[str, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def read_chunk(job: ChunkJob) -> ChunkRead:
    """Read one chunk: hash it, compare it with its tiles, hand its entries on."""
    return _Reader(job).read()


class _Reader:
    def __init__(self, job: ChunkJob) -> None:
        self.job = job
        self.found = ChunkRead(job.number)
        self.edge = Edge()  # over the roots of bundles
        self.seen: dict[tuple[bytes, ...] | Profile, bytes] = {}
        """By what entries have in common: the place of their profile, as it is written."""
        self.wanted: dict[int, list[int]] = {}
        """By bundle: the sizes within it at which the edge is asked for."""
        for size in job.wanted:
            self.wanted.setdefault((size - 1) // WIDTH, []).append(size)
        self.participants = self.claims = None
        if job.partitions is not None:
            self.participants = Spill(job.scratch, PARTICIPANTS, job.number, job.partitions)
            self.claims = Spill(job.scratch, CLAIMS, job.number, job.partitions)

    def read(self) -> ChunkRead:
        job, first = self.job, self.job.number * CHUNK
        end = min(job.size, first + CHUNK)
        for number in range(first // WIDTH, -(-end // WIDTH)):
            self._bundle(number, min(WIDTH, job.size - number * WIDTH))
            if number % FLUSH_EACH == FLUSH_EACH - 1:
                self._flush()
        self._flush()
        width = len(self.found.bundle_roots)
        if width:
            compare_tile(job, self.found.findings, Tile(1, job.number, width), self.found.bundle_roots)
        return self.found

    def _flush(self) -> None:
        for spill in (self.participants, self.claims):
            if spill is not None:
                spill.flush()

    def _bundle(self, number: int, width: int) -> None:
        """One entry bundle. Where it cannot be read, its tile stands for it in the tree above."""
        findings, first = self.found.findings, number * WIDTH
        tile = Tile(0, number, width)
        hashed = read_listed(self.job, findings, tile)
        content = read_listed(self.job, findings, tile._replace(level=None))
        entries: list[bytes] = []
        if content is not None:
            try:
                entries = _split(content, width)
            except TileInvalid as invalid:
                findings.add("entries-form", f"a bundle of {width} entries", invalid, first)
        row = [sha256(b"\x00" + entry).digest() for entry in entries]
        given = _row(hashed, width)
        if not row:
            row = given or [bytes(HASH_BYTES)] * width
        elif hashed is not None and b"".join(row) != hashed:
            self._unlike(tile, row, given)
        self._grow(first, row)
        if self.participants is not None:
            self._take_apart(first, entries)

    def _unlike(self, tile: Tile, row: list[bytes], given: list[bytes] | None) -> None:
        findings, first = self.found.findings, tile.number * WIDTH
        if given is None:
            findings.add("tile-differs", f"{len(row)} hashes", "another length", None, self.job.log + tile.path)
            return
        for place, (computed, stored) in enumerate(zip(row, given, strict=True)):
            if computed != stored:
                findings.add("leaf-hash", stored.hex(), computed.hex(), first + place, self.job.log + tile.path)

    def _grow(self, first: int, row: list[bytes]) -> None:
        edges, below = self.found.edges, self.edge.roots
        levels = [row]  # of the binary tree over the bundle, as far as it is complete
        while len(levels[-1]) > 1:
            lower = levels[-1]
            pairs = zip(lower[::2], lower[1::2], strict=False)
            levels.append([sha256(b"\x01" + left + right).digest() for left, right in pairs])
        for size in self.wanted.get(first // WIDTH, ()):
            inside, at = size - first, 0
            edges[size] = list(below)
            for level in range(len(levels) - 1, -1, -1):
                if inside >> level & 1:
                    edges[size].append(levels[level][at >> level])
                    at += 1 << level
        if len(row) == WIDTH:
            root = levels[-1][0]
            self.edge.append(root)
            self.found.bundle_roots.append(root)
            if first + WIDTH in edges:
                edges[first + WIDTH] = list(self.edge.roots)

    def _take_apart(self, first: int, entries: list[bytes]) -> None:  # the one hot loop: a call less is a second less
        assert self.participants is not None
        assert self.claims is not None
        credit_form, to_participant, to_claim = ALIKE.fullmatch, self.participants.to, self.claims.to
        seen, credits = self.seen, 0
        for index, entry in enumerate(entries, start=first):
            match = credit_form(entry)
            if match is None or b"\x7f" in entry:
                self._other(index, entry)
                continue
            (
                at, claims, counter, day, grade, grams, credit_class, vintage, points, expires, lines, methodology,
                participant, standing, replaces, source, transfer,
            ) = match.groups()  # fmt: skip
            common = (standing, source, grade, methodology)
            profile = seen.get(common)
            if profile is None:
                if CREDIT.fullmatch(entry.decode("latin-1")) is None:
                    self._other(index, entry)
                    continue
                profile = self._profile_of_credit(common, index)
            number = b"%d" % index
            if entry[_ACTIVITY] != transfer:
                activity = entry[_ACTIVITY].decode()
                self.found.findings.add("credit-activity", activity, transfer.decode(), index)
            if len(claims) <= _ONE_CLAIM:
                if claims:
                    to_claim[claims[-3:-1]](claims + b"\t" + number)
                else:
                    self.found.findings.add("credit-claim", "at least the event's own tag", "none", index)
            elif claims_in_order(claims.decode()):
                for claim in claims.split(b","):
                    to_claim[claim[-3:-1]](claim + b"\t" + number)
            else:
                self._other(index, entry)
                continue
            credits += 1
            if replaces is not None:
                self.found.replaces.append((index, replaces.decode(), source.decode()))
            if lines is None:
                record = (
                    number, profile, at, counter, day, participant, transfer,
                    grams, credit_class, vintage, points, expires,
                )  # fmt: skip
            else:
                record = (number, profile, at, counter, day, participant, transfer, lines, b"", b"", b"", b"")
            to_participant[participant[-2:]](b"\t".join(record))
        self._count("credit", credits)

    def _count(self, kind: str, number: int) -> None:
        self.found.kinds[kind] = self.found.kinds.get(kind, 0) + number

    def _profile_of_credit(self, common: tuple[bytes, bytes, bytes, bytes], index: int) -> bytes:
        """The place of a new profile, and the documents that are used from here on."""
        standing, source, grade, methodology = (text.decode() for text in common)
        match = STANDING.fullmatch(standing)
        assert match is not None
        kind, points_rule, programme, region = match.groups()
        for role, digest in (("methodology", methodology), ("points", points_rule)):
            if digest is not None:
                self.found.uses.setdefault((programme, role, digest), index)
        return self._profile(common, Profile(CREDIT_KIND, (kind, programme, region), points_rule, source, grade))

    def _profile(self, common: tuple[bytes, ...] | Profile, profile: Profile) -> bytes:
        found = self.seen[common] = b"%d" % len(self.found.profiles)
        self.found.profiles.append(profile)
        return found

    def _other(self, index: int, entry: bytes) -> None:
        """An entry that is not the leaf of a credit: another transfer's, a notice, or none at all."""
        text = entry.decode("latin-1")
        if is_plain(text) and self._transfer(index, text):
            return
        fields = fault_of(entry)
        if isinstance(fields, str):
            self.found.findings.add("leaf-form", "a canonical leaf", fields, index)
            return
        self.found.notices.append((index, fields))
        self.found.draws.notice(index, fields)
        self._count(fields["kind"], 1)

    def _transfer(self, index: int, text: str) -> bool:
        """Hand on the entry of a transfer that is no credit; whether it is one."""
        one = take_apart(text)
        if one is None:
            return False
        assert self.participants is not None
        profile, found = one.profile, self.found
        if profile.authority and profile.kind < HOLD_KIND and profile.authority not in AUTHORITIES:
            found.findings.add("authority", f"one of {', '.join(AUTHORITIES)}", profile.authority, index)
        if profile.kind >= HOLD_KIND:
            found.draws.step(index, one)
        place = self.seen.get(profile) or self._profile(profile, profile)
        self._count(KINDS[profile.kind], 1)
        if one.named:
            found.ended.add(one.named)
        head = (str(index), place.decode(), one.at, one.counter, one.day, one.participant, one.transfer)
        record = "\t".join((*head, one.lines, one.named, one.units, one.value, one.expires_at))
        self.participants.to[one.participant[-2:].encode()](record.encode())
        return True


def _split(bundle: bytes, width: int) -> list[bytes]:
    """The entries of a bundle, as decode_bundle() gives them, in half the time. Raises TileInvalid, as that says it."""
    entries: list[bytes] = []
    at, end = 0, len(bundle)
    while at + 1 < end:
        begin = at + 2
        at = begin + (bundle[at] << 8 | bundle[at + 1])
        entries.append(bundle[begin:at])
    if at != end or len(entries) != width or b"" in entries:
        return decode_bundle(bundle, width)
    return entries


def root_of_level(level: bytes) -> bytes:
    """The root of a tree of these leaf hashes, one behind the other: a node without a neighbour goes up as it is, which
    is the tree of RFC 6962."""
    if not level:
        return EMPTY_ROOT
    while len(level) > HASH_BYTES:
        paired = len(level) // _TWO * _TWO
        above = [sha256(b"\x01" + level[at : at + _TWO]).digest() for at in range(0, paired, _TWO)]
        level = b"".join(above) + level[paired:]
    return level


def read_listed(job: ChunkJob, findings: Findings, tile: Tile) -> bytes | None:
    """The bytes of a tile or bundle, held against the list."""
    path = job.log + tile.path
    listed = job.listed.get(path)
    try:
        content = (job.directory / path).read_bytes()
    except OSError:
        findings.add("file-missing", "a file of the log", "none", None, path)
        return None
    if listed is None:
        findings.add("file-differs", "listed in bundle.json", "not listed", None, path)
    elif len(content) != listed.length:
        findings.add("file-differs", f"{listed.length} bytes", f"{len(content)} bytes", None, path)
    elif (digest := sha256(content).hexdigest()) != listed.digest:
        findings.add("file-differs", listed.digest, digest, None, path)
    return content


def compare_tile(job: ChunkJob, findings: Findings, tile: Tile, row: list[bytes]) -> None:
    """Hold a tile above the lowest level against the hashes it must have."""
    content = read_listed(job, findings, tile)
    given = _row(content, tile.width)
    if content is None or content == b"".join(row):
        return
    if given is None:
        findings.add("tile-differs", f"{tile.width} hashes", f"{len(content)} bytes", None, job.log + tile.path)
        return
    for place, (computed, stored) in enumerate(zip(row, given, strict=True)):
        if computed != stored:
            where = f"{job.log}{tile.path} hash {place}"
            findings.add("tile-differs", computed.hex(), stored.hex(), None, where)


def _row(tile: bytes | None, width: int) -> list[bytes] | None:
    if tile is None or len(tile) != width * HASH_BYTES:
        return None
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]
