"""The entries that belong to nobody: approved rules, keys, epochs and manifests, each kind held against its own rules.

They are few, so they are looked at one after another, in the order of the log.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature

from ledger.ed25519 import read_ed25519
from ledger.verify.checkpoints import Log, origin_of, signed_alone
from ledger.verify.findings import Findings, Left
from ledger.verify.keys import Announced, check_signer
from ledger.verify.moments import days_between, shanghai_day

Notices = Sequence[tuple[int, dict[str, Any]]]
Uses = Mapping[tuple[str, str, str], int]
"""By programme, role and digest of a document: the first entry under it."""

ROLES = ("competent_authority", "technical_body")
OLDEST_DAYS = 90  # between the day of signing and the day on which an approval is recorded


def check_rules(notices: Notices, uses: Uses, findings: Findings) -> list[Left]:
    """Approvals, and that they came before what was credited under them."""
    approved: dict[tuple[str, str, str], int] = {}
    for index, fields in notices:
        if fields["kind"] == "rule" and _approved(index, fields, findings):
            approved.setdefault((fields["programme"], fields["document_kind"], fields["digest"]), index)
    open_ones = []
    for key, first in uses.items():
        at = approved.get(key)
        if at is None:
            open_ones.append((first, key[2]))
        elif at > first:
            findings.add("rule-late", f"approved before entry {first}", f"approved by entry {at}", first, key[2])
    if not open_ones:
        return []
    first, digest = min(open_ones)
    return [Left("not-approved", len(open_ones), f"{digest} from entry {first} on")]


def _approved(index: int, fields: Mapping[str, Any], findings: Findings) -> bool:
    """Whether every approval of a rule's leaf holds."""
    roles = tuple(approval["role"] for approval in fields["approvals"])
    good = roles == ROLES
    if not good:
        findings.add("rule-approval", ROLES, roles, index)
    today = shanghai_day(fields["at"])
    for approval in fields["approvals"]:
        lines = (
            "tanpuhui/approve/1",
            *(fields[name] for name in ("programme", "document_kind", "id", "version", "digest")),
            approval["role"],
            approval["signed_on"],
        )
        signed = "".join(f"{line}\n" for line in lines).encode("ascii")
        try:
            key = read_ed25519(bytes.fromhex(approval["public_key"]))
            key.verify(bytes.fromhex(approval["signature"]), signed)
        except (InvalidSignature, ValueError):
            findings.add("rule-approval", f"a signature by {approval['key']}", "none that verifies", index)
            good = False
        if not 0 <= days_between(approval["signed_on"], today) <= OLDEST_DAYS:
            expected = f"signed in the {OLDEST_DAYS} days to {today}"
            findings.add("rule-approval", expected, approval["signed_on"], index)
            good = False
    return good


def check_epochs(
    notices: Notices, logs: Sequence[Log], roots: Mapping[int, Mapping[int, bytes]], findings: Findings
) -> list[Left]:
    """Epochs by their leaves in the current log, and the former logs as far as the bundle has them.

    roots   of each epoch's log, by size
    """
    current = logs[-1]
    left: list[Left] = []
    leaves = [(index, fields) for index, fields in notices if fields["kind"] == "epoch"]
    numbers = [int(fields["number"]) for _, fields in leaves]
    if not numbers or numbers != sorted(set(numbers)) or numbers[-1] != current.epoch:
        findings.add("epoch", f"epoch leaves up to number {current.epoch}", numbers)
    by_epoch = {log.epoch: log for log in logs}
    for index, fields in leaves:
        epoch, former = int(fields["number"]), fields["former"]
        if current.checkpoint is not None:
            origin = origin_of(current.checkpoint.origin, current.epoch, epoch)
            if fields["origin"] != origin:
                findings.add("epoch", origin, fields["origin"], index)
        before = by_epoch.get(epoch - 1)
        if former is None or before is None or before.checkpoint is None:
            continue
        kept, size, checkpoint = int(former["kept"]), int(former["size"]), before.checkpoint
        said = (former["origin"], size, former["root"], former["checkpoint"])
        alone = signed_alone(before, before.note)
        found = (checkpoint.origin, checkpoint.size, checkpoint.root.hex(), alone)
        if said != found:
            findings.add("epoch", map(str, found), " ".join(map(str, said)), index)
        mine, theirs = roots[current.epoch].get(kept), roots[before.epoch].get(kept)
        if kept > index:
            findings.add("epoch-kept", f"at most the {index} entries before it", kept, index)
        elif mine is None or mine != theirs:
            expected = theirs.hex() if theirs else f"{kept} entries"
            findings.add("epoch-kept", expected, mine.hex() if mine else "none", index, before.folder)
        if size > kept:
            left.append(Left("entries-lost", size - kept, f"entry {kept} of {former['origin']}"))
    return left


def kept_sizes(notices: Notices) -> dict[int, int]:
    """By epoch how many entries of the one before it were kept."""
    return {
        int(fields["number"]): int(fields["former"]["kept"])
        for _, fields in notices
        if fields["kind"] == "epoch" and fields["former"]
    }


def check_manifests(notices: Notices, announced: Announced, findings: Findings) -> dict[int, dict[str, Any]]:
    """Manifests are numbered within their source and day, and under a key of their source; they are given by index."""
    last: dict[tuple[str, str], int] = {}
    found: dict[int, dict[str, Any]] = {}
    for index, fields in notices:
        if fields["kind"] != "manifest":
            continue
        found[index] = fields
        key = fields["source"], fields["day"]
        expected = last.get(key, 0) + 1
        if int(fields["sequence"]) != expected:
            findings.add("manifest", f"sequence {expected}", fields["sequence"], index)
        last[key] = int(fields["sequence"])
        check_signer(index, fields, announced, findings)
        if fields["day"] >= shanghai_day(fields["at"]):
            findings.add("manifest", f"a day before {shanghai_day(fields['at'])}", fields["day"], index)
    return found
