"""Checkpoints: the log's own, every earlier one, and the one the auditor remembers from the last time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger.bundle import Bundle, FileUnreadable, parse_lines
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import NoteInvalid, PolicyInvalid
from ledger.notes import ED25519, Verified, VerifierKey, parse_note, parse_verifier, verify_note
from ledger.policy import Policy, parse_policy, read_policy
from ledger.verify.findings import Findings

CHECKPOINT, KEY, EARLIER, POLICY = "checkpoint", "log.vkey", "checkpoints.jsonl", "witness.policy"
REMEMBERED = ".checkpoint"


@dataclass(slots=True)
class Log:
    """One epoch's log in the bundle: its folder, ending in `/`, its key and its checkpoint, as far as they are good."""

    epoch: int
    folder: str
    key: VerifierKey | None = None
    note: str = ""
    verified: Verified | None = None
    checkpoint: Checkpoint | None = None
    earlier: dict[int, tuple[bytes, str]] = field(default_factory=dict)
    """By size: the root that was signed, and where that is written."""

    def promised(self, checkpoint: Checkpoint, where: str, findings: Findings) -> None:
        """Note what was signed. Two roots of one size are two histories."""
        root, before = self.earlier.setdefault(checkpoint.size, (checkpoint.root, where))
        if root != checkpoint.root:
            expected = f"root {root.hex()} of the first {checkpoint.size} entries, as in {before}"
            findings.add("history-rewritten", expected, checkpoint.root.hex(), None, where)


def read_policy_of(bundle: Bundle, own: Path | None, findings: Findings) -> Policy | None:
    """The witness policy: the auditor's own, else the bundle's, if there is one. Raises PolicyInvalid for one's own."""
    if own is not None:
        return read_policy(own)
    if POLICY not in bundle.files:
        return None
    raw = read_checked(bundle, POLICY, findings)
    try:
        return None if raw is None else parse_policy(raw.decode("utf-8"))
    except (UnicodeDecodeError, PolicyInvalid) as error:
        findings.add("file-form", "a witness policy", error, None, POLICY)
        return None


def read_logs(bundle: Bundle, keys: Sequence[VerifierKey], policy: Policy | None, findings: Findings) -> list[Log]:
    """The logs of all epochs in the bundle, the current one last; its checkpoint is held against the policy. `keys` are
    the log's by keys.json."""
    logs = []
    for epoch in range(1, bundle.epoch + 1):
        current = epoch == bundle.epoch
        root = "" if current else f"epochs/{epoch}/"
        if not current and not bundle.under(root):
            continue
        log = Log(epoch, f"{root}log/")
        log.key = _key(bundle, root + KEY, findings)
        trusted = policy.keys if policy and current else ()
        known = [key for key in dict.fromkeys((log.key, *keys, *trusted)) if key is not None]
        _read_checkpoint(bundle, log, known, findings)
        if policy and current and log.verified:
            try:
                policy.check(log.verified)
            except NoteInvalid as error:
                findings.add(
                    "witness-quorum", policy.quorum or "a log of the policy", error, None, log.folder + CHECKPOINT
                )
        logs.append(log)
    return logs


def _key(bundle: Bundle, path: str, findings: Findings) -> VerifierKey | None:
    raw = read_checked(bundle, path, findings)
    if raw is None:
        return None
    try:
        return parse_verifier(raw.decode("utf-8").removesuffix("\n"))
    except (UnicodeDecodeError, NoteInvalid) as error:
        findings.add("log-key", "a verifier key", error, None, path)
        return None


def _read_checkpoint(bundle: Bundle, log: Log, keys: Sequence[VerifierKey], findings: Findings) -> None:
    path = log.folder + CHECKPOINT
    raw = read_checked(bundle, path, findings)
    if raw is None:
        return
    try:
        note = parse_note(raw)
        log.note, log.checkpoint = raw.decode("utf-8"), parse_checkpoint(note.text)
        log.verified = verify_note(note, keys)
    except NoteInvalid as error:
        findings.add("checkpoint-signature", "a checkpoint signed by the log's key", error, None, path)
        return
    if log.key is not None and log.key not in log.verified.signers:
        findings.add("checkpoint-signature", f"signed by {log.key}", "another key", None, path)
    origin = origin_of(bundle.origin, bundle.epoch, log.epoch)
    if log.checkpoint.origin != origin:
        findings.add("checkpoint-origin", origin, log.checkpoint.origin, None, path)
    for signer in log.verified.signers:
        if signer.kind == ED25519 and signer.name != log.checkpoint.origin:
            findings.add("checkpoint-origin", f"a key of {log.checkpoint.origin}", signer.name, None, path)


def origin_of(origin: str, current: int, epoch: int) -> str:
    """The name of an epoch's log, given that of the current one."""
    first = origin.removesuffix(f"/epoch-{current}") if current > 1 else origin
    return first if epoch == 1 else f"{first}/epoch-{epoch}"


def read_earlier(bundle: Bundle, logs: Sequence[Log], keys: Iterable[VerifierKey], findings: Findings) -> int:
    """Note for each log what its earlier checkpoints promised, signatures verified; how many there are."""
    raw = read_checked(bundle, EARLIER, findings)
    if raw is None:
        return 0
    by_epoch = {log.epoch: log for log in logs}
    known = list({*keys, *(log.key for log in logs if log.key is not None)})
    last, count = (0, -1), 0
    try:
        for number, fields in parse_lines(raw):
            where = f"{EARLIER} line {number}"
            count += 1
            epoch, size = _promise(fields)
            if (epoch, size) <= last:
                findings.add("file-form", "checkpoints in order of epoch and size", f"{epoch}, {size}", None, where)
            last = (epoch, size)
            try:
                note = parse_note(fields["note"])
                checkpoint = parse_checkpoint(note.text)
                verify_note(note, known)
            except NoteInvalid as error:
                findings.add("checkpoint-signature", "signed by the log's key", error, None, where)
                continue
            origin = origin_of(bundle.origin, bundle.epoch, epoch)
            if checkpoint.origin != origin:
                findings.add("checkpoint-origin", origin, checkpoint.origin, None, where)
            if checkpoint.size != size:
                findings.add("file-form", f"size {checkpoint.size}", size, None, where)
            if epoch in by_epoch:
                by_epoch[epoch].promised(checkpoint, where, findings)
    except FileUnreadable as error:
        findings.add("file-form", "one checkpoint a line", error, None, EARLIER)
    own = logs[-1].checkpoint
    if own is not None and own.size not in logs[-1].earlier:
        findings.add("file-form", f"the bundle's own checkpoint, of size {own.size}", "none", None, EARLIER)
    return count


def _promise(fields: Any) -> tuple[int, int]:
    try:
        epoch, size, note = (fields[name] for name in ("epoch", "size", "note"))
        if len(fields) == 3 and isinstance(note, str) and epoch.isdecimal() and size.isdecimal():
            return int(epoch), int(size)
    except (AttributeError, KeyError, TypeError):
        pass
    raise FileUnreadable('{"epoch", "size", "note"} of texts is expected')


def compare_roots(log: Log, size: int, roots: Mapping[int, bytes], findings: Findings) -> None:
    """Hold what was promised earlier against the log as it is. Both signed notes are the evidence."""
    for promised, (root, where) in sorted(log.earlier.items()):
        if promised > size:
            found = f"a log of {size} entries"
            findings.add("history-rewritten", f"at least {promised} entries", found, None, where)
        elif roots[promised] != root:
            expected = f"root {root.hex()} of the first {promised} entries"
            findings.add("history-rewritten", expected, roots[promised].hex(), None, where)


def read_remembered(path: Path, logs: Sequence[Log], keys: Iterable[VerifierKey], findings: Findings) -> bool:
    """Note what the auditor's own last checkpoint promised; whether there is one. Raises OSError."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return False
    known = list({*keys, *(log.key for log in logs if log.key is not None)})
    try:
        note = parse_note(raw)
        checkpoint = parse_checkpoint(note.text)
        verify_note(note, known)
    except NoteInvalid as error:
        findings.add(
            "checkpoint-signature", "the remembered checkpoint, signed by a key of this log", error, None, path.name
        )
        return True
    log = next((log for log in logs if log.checkpoint and log.checkpoint.origin == checkpoint.origin), None)
    if log is None:
        findings.add("history-rewritten", f"the log {checkpoint.origin}", "none of that name", None, path.name)
    else:
        log.promised(checkpoint, path.name, findings)
    return True


def signed_alone(log: Log, note: str) -> str:
    """SHA-256, hex, of a note as its log alone signed it: cosignatures are left out."""
    head, _, lines = note.rpartition("\n\n")
    own = [line for line in lines.splitlines(keepends=True) if log.key and line.startswith(f"\u2014 {log.key.name} ")]
    return sha256(f"{head}\n\n{''.join(own)}".encode()).hexdigest()


def read_checked(bundle: Bundle, path: str, findings: Findings) -> bytes | None:
    """A file the bundle must have, held against its list; None where it is missing."""
    content = bundle.read(path)
    if content is None:
        findings.add("file-missing", "a file of the bundle", "none", None, path)
        return None
    difference = bundle.unlike(path, content)
    if difference is not None:
        listed = bundle.files.get(path)
        findings.add("file-differs", listed.digest if listed else "listed in bundle.json", difference, None, path)
    return content
