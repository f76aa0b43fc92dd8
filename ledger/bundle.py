"""Reading an auditor's bundle: what is in it by its own list, and the JSON of its files, strictly.

Nothing that is read here is believed: `ledger.verify` holds it against the log. docs/audit.md describes the layout.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

MANIFEST = "bundle.json"
VERSION = "1"
LARGEST_JSON = 256 * 1024 * 1024  # bytes of one JSON file read whole: a list of a million files is 150 MB

_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COUNT = re.compile(r"0|[1-9][0-9]{0,18}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class BundleUnreadable(Exception):
    """There is no bundle here that could be looked at; the message says what was expected and what came."""


class FileUnreadable(Exception):
    """One file of the bundle is not of its form; the message says where."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What the bundle says of one of its files."""

    length: int
    digest: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle by its own words.

    origin, epoch, size, root   of the log in it, as the exporter read them off the checkpoint
    files                       every file but bundle.json, by its path with `/`
    """

    directory: Path
    programme: str
    origin: str
    epoch: int
    size: int
    root: str
    created_at: str
    files: Mapping[str, Listed]

    def read(self, path: str) -> bytes | None:
        """A file's bytes; None where there is none, whatever the list says."""
        try:
            return (self.directory / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def unlike(self, path: str, content: bytes) -> str | None:
        """How these bytes differ from what the list says of the file; None when they are those."""
        listed = self.files.get(path)
        if listed is None:
            return "not listed"
        if len(content) != listed.length:
            return f"{len(content)} bytes"
        digest = sha256(content).hexdigest()
        return None if digest == listed.digest else digest

    def under(self, folder: str) -> list[str]:
        """The listed files under a folder, whose name ends in `/`."""
        return sorted(path for path in self.files if path.startswith(folder))


def read_bundle(directory: Path) -> Bundle:
    """Read bundle.json. Raises BundleUnreadable."""
    path = directory / MANIFEST
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise BundleUnreadable(f"{path} is larger than {LARGEST_JSON} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise BundleUnreadable(f"{path} cannot be read ({error.strerror}): a bundle's folder is expected") from None
    try:
        fields = parse_json(raw)
        return _bundle(directory, raw, fields)
    except FileUnreadable as error:
        raise BundleUnreadable(f"{path}: {error}") from None


def _bundle(directory: Path, raw: bytes, fields: Any) -> Bundle:
    names = {"created_at", "epoch", "files", "origin", "programme", "root", "size", "v"}
    if not isinstance(fields, dict) or fields.get("v") != VERSION or fields.keys() != names:
        raise FileUnreadable(f'expected an object with "v":"{VERSION}" and {", ".join(sorted(names))}')
    listed = fields["files"]
    texts = [fields[name] for name in names - {"files"}]
    if not isinstance(listed, dict) or not all(isinstance(text, str) for text in texts):
        raise FileUnreadable("files is an object, every other field a text")
    if not _COUNT.fullmatch(fields["size"]) or not _COUNT.fullmatch(fields["epoch"]) or fields["epoch"] == "0":
        raise FileUnreadable("size is a count and epoch a number from 1 on, as text")
    if not _MOMENT.fullmatch(fields["created_at"]):
        raise FileUnreadable("created_at is a moment such as 2026-11-22T08:00:00Z")
    if canonical(fields) != raw.removesuffix(b"\n"):
        raise FileUnreadable("the bytes are not the canonical JSON of their fields")
    files = {path: _listed(path, entry) for path, entry in listed.items()}
    return Bundle(
        directory,
        fields["programme"],
        fields["origin"],
        int(fields["epoch"]),
        int(fields["size"]),
        fields["root"],
        fields["created_at"],
        files,
    )


def _listed(path: str, entry: Any) -> Listed:
    if not _PATH.fullmatch(path) or path == MANIFEST:
        raise FileUnreadable(f"a file of the bundle cannot have the path {path[:100]!r}")
    length, digest = (entry.get("bytes"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    if not isinstance(length, str) or not isinstance(digest, str) or len(entry) != 2:
        raise FileUnreadable(f"{path}: bytes and sha256 are expected")
    if not _COUNT.fullmatch(length) or not _DIGEST.fullmatch(digest):
        raise FileUnreadable(f"{path}: bytes is a count, sha256 is hexadecimal")
    return Listed(int(length), digest)


def canonical(value: Any) -> bytes:
    """A value as the canonical JSON of bundles and leaves: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text in which no member is named twice. Raises FileUnreadable."""
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise FileUnreadable(f"JSON is expected: {error}") from None


def parse_lines(raw: bytes) -> Iterator[tuple[int, Any]]:
    """The values of a JSON Lines file with their line numbers, from 1. Raises FileUnreadable."""
    for number, line in enumerate(raw.removesuffix(b"\n").split(b"\n") if raw else [], start=1):
        try:
            yield number, parse_json(line)
        except FileUnreadable as error:
            raise FileUnreadable(f"line {number}: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is named twice")
    return found
