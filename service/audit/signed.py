"""The calls that sources signed, as they lie beside the log: each held against the credits that rest on it."""

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from ledger.tiles import Tile
from ledger.verify.jwk import public_of, thumbprint, verify_bytes
from ledger.verify.keys import Key, stands
from service.audit.calls import is_of
from service.audit.findings import Open
from service.audit.reported import events_of, evidence_of
from service.quantification.readings import ReadingsInvalid

TAG = "tanpuhui-source"
LONGEST_WAY_S = 3_600  # from the signature to the entry: five minutes to arrive, and what the platform may wait
AHEAD_S = 90  # so far may the source's clock be ahead, and those of the platform's machines apart

_FIELDS = {"base", "body", "content_digest", "entries", "jwk", "kid", "method", "path", "signature"}
_REQUIRED = ("@method", "@authority", "@path", "content-digest", "content-type")
_ENTRIES = "tile/entries/"
_CREATED = re.compile(r";created=([1-9][0-9]{0,14})(?:;|$)")
_MALFORMED = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, binascii.Error, ReadingsInvalid)

SourceKeys = Mapping[tuple[str, str], Key]
"""By the source's URI and the key's thumbprint: what the log says of it."""


def reports_path(number: int) -> str:
    """The file of a chunk's signed reports, grouped as the paths of tiles are."""
    return f"reports/{Tile(None, number).path.removeprefix(_ENTRIES)}.jsonl"


@dataclass(slots=True)
class _Report:
    """A call, looked at once.

    mark       thumbprint of the key that signed it
    digest     what the entry of a credit says of it, where it is about one event
    documents  SHA-256 of the evidence that its events give; None where its body was taken out
    """

    mark: str
    digest: str
    alone: bool
    created: datetime
    documents: frozenset[bytes] | None


class Reports:
    """Of one chunk. Its credits are to be asked for in the order of the log.

    find      takes a finding
    suspects  entries signed by a key after the moment from which it was revoked later
    """

    def __init__(
        self, directory: Path, number: int, keys: SourceKeys, find: Callable[..., None], open_: Open,
        checked: Counter[str],
    ) -> None:  # fmt: skip
        self._keys, self._find, self._open, self._checked = keys, find, open_, checked
        self._where = reports_path(number)
        self._lines = self._read(directory / self._where)
        self._next = next(self._lines, None)
        self._behind: dict[int, _Report | None] = {}
        self.suspects: list[int] = []

    def take(self, index: int, leaf: Mapping[str, Any], line: Mapping[str, Any] | None) -> None:
        """Look at a credit with its evidence, None where that was erased."""
        self._read_to(index)
        if index not in self._behind:
            if leaf["signature"] is not None:
                self._find("signed-report", f"the call {leaf['signature']}", "none", index, self._where)
            return
        report = self._behind.pop(index)
        if report is not None:
            fault = self._fault(report, index, leaf, line)
            if fault is not None:
                self._find("signed-report", "the source's signed call for this", fault, index, self._where)

    def skip(self, index: int) -> None:
        """Pass by an entry that cannot be read."""
        self._read_to(index)
        self._behind.pop(index, None)

    def _read_to(self, index: int) -> None:
        while self._next is not None and self._next[0][0] <= index:
            entries, fields = self._next
            report = self._looked_at(entries[0], fields)
            for entry in entries:
                if entry < index or entry in self._behind:
                    self._stray(entry)
                else:
                    self._behind[entry] = report
            self._next = next(self._lines, None)

    def finish(self) -> None:
        """What lies there and belongs to no credit."""
        for entry in self._behind:
            self._stray(entry)
        while self._next is not None:
            self._stray(self._next[0][0])
            self._next = next(self._lines, None)

    def _stray(self, entry: int) -> None:
        self._find("report-extra", "a call behind each credit that it names", f"index {entry}", None, self._where)

    def _fault(
        self, report: _Report, index: int, leaf: Mapping[str, Any], line: Mapping[str, Any] | None
    ) -> str | None:
        if leaf["signature"] != (report.digest if report.alone else None):
            return "another call than the entry names"
        key, at = self._keys.get((leaf["source"], report.mark)), leaf["at"]
        if key is None or key.holder != "source":
            return "a key that is not the source's"
        posted = datetime.fromisoformat(at)
        way_s = (posted - report.created).total_seconds()
        if not -AHEAD_S <= way_s <= LONGEST_WAY_S:
            return f"a call that was signed at {report.created.isoformat()}"
        if not stands(key, index, at):
            return f"a key that does not count at {at}"
        if any(place > index and at >= since for place, since in key.revoked):
            self.suspects.append(index)
        document = None if line is None else line.get("document")
        if report.documents is None or not isinstance(document, str):
            return None
        given = sha256(document.encode()).digest() in report.documents
        return None if given else "no event that gives this evidence"

    def _looked_at(self, index: int, call: Mapping[str, Any]) -> _Report | None:
        """What a call is; None where it is none, which is found here."""
        self._checked["reports"] += 1
        try:
            return _report(call, lambda: self._open.add("report-erased", f"entry {index}"))
        except _MALFORMED as error:
            self._find("signed-report", "a call that its source signed", error, index, self._where)
            return None

    def _read(self, path: Path) -> Iterator[tuple[list[int], Mapping[str, Any]]]:
        try:
            file = path.open("rb")
        except OSError:
            return
        before = -1
        with file:
            for number, text in enumerate(file, start=1):
                try:
                    fields = orjson.loads(text)
                    entries = [int(entry) for entry in fields["entries"]]
                    if fields.keys() != _FIELDS or entries != sorted(set(entries)) or entries[0] < before:
                        raise ValueError
                except (*_MALFORMED, IndexError):
                    self._find("report-extra", "a call with the entries that it is behind", f"line {number}", None,
                        self._where)  # fmt: skip
                    continue
                before = entries[0]
                yield entries, fields


def _report(call: Mapping[str, Any], erased: Callable[[], None]) -> _Report:
    """Look at a call by itself: signature, what it covers, body. Raises what is raised of what is none."""
    base, signature = str(call["base"]).encode("ascii"), bytes.fromhex(call["signature"])
    algorithm, public = public_of(call["jwk"])
    verify_bytes(algorithm, public, signature, base)
    covered = dict(line.split(": ", 1) for line in base.decode("ascii").split("\n"))
    missing = [name for name in _REQUIRED if f'"{name}"' not in covered]
    if missing:
        raise ValueError(f"{', '.join(missing)} was not signed")
    path, question, query = str(call["path"]).partition("?")
    told = {"@method": call["method"], "@path": path, "content-digest": call["content_digest"]}
    for name, mine in (told | ({"@query": question + query} if question else {})).items():
        if covered.get(f'"{name}"') != mine:
            raise ValueError(f"{name} is not the one that was signed")
    parameters = covered['"@signature-params"']
    if f';tag="{TAG}"' not in parameters or (created := _CREATED.search(parameters)) is None:
        raise ValueError(f"a signature with created and the tag {TAG} is expected")
    if call["method"] != "POST" or unquote(path) != "/v1/activities":
        raise ValueError(f"a call for something else, {call['method']} {path}")
    kind = covered['"content-type"'].partition(";")[0].strip().lower()
    documents = None
    if call["body"] is None:
        erased()
    else:
        body = base64.b64decode(call["body"], validate=True)
        if not is_of(call["content_digest"], body):
            raise ValueError("another body than the one that was signed")
        documents = frozenset(_documents(body, kind))
    return _Report(
        thumbprint(algorithm, public),
        sha256(base + b"\n" + signature).hexdigest(),
        "-batch" not in kind,
        datetime.fromtimestamp(int(created[1]), UTC),
        documents,
    )


def _documents(body: bytes, kind: str) -> Iterator[bytes]:
    """SHA-256 of the evidence that each event gives; one that gives none was refused."""
    for event in events_of(body, kind):
        try:
            yield sha256(evidence_of(event)).digest()
        except _MALFORMED:
            continue
