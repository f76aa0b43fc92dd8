"""Keys: as key leaves announce and revoke them, as keys.json lists them, and who may sign a day's manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.verify.checkpoints import Log, origin_of
from ledger.verify.findings import Findings
from ledger.verify.jwk import public_of, thumbprint
from ledger.verify.moments import seconds_back
from ledger.verify.papers import KEYS

_LISTED_HOLDERS = ("source", "bank")
HOLDERS = frozenset({"log", "source", "bank"})
CLOCK_SLACK_S = 60  # a signature is verified before its entry's moment is read, perhaps on another machine
_KEY_FIELDS = {"kid", "jwk", "from", "to"}
_APPROVER_FIELDS = ("approver", "role", "kid", "public_key")

Notices = Sequence[tuple[int, dict[str, Any]]]


@dataclass(slots=True)
class Key:
    """What the log says of one key of one holder, by its leaves' indexes.

    added, revoked  since when it counts, or no longer does
    """

    holder: str
    programme: str
    added: list[tuple[int, str]] = field(default_factory=list)
    revoked: list[tuple[int, str]] = field(default_factory=list)


Announced = Mapping[tuple[str, str], Key]
"""By the holder's name and the key's thumbprint."""


def check_keys(notices: Notices, log: Log, created_at: str, findings: Findings) -> Announced:
    """Keys as they were announced and revoked; the log's own must count by now."""
    standing: dict[tuple[str, str], Key] = {}
    origins, programme = _origins(log), _programme(notices)
    for index, fields in notices:
        if fields["kind"] != "key":
            continue
        if thumbprint(fields["algorithm"], bytes.fromhex(fields["public_key"])) != fields["key"]:
            findings.add("key", "the thumbprint of its public_key", fields["key"], index)
        if fields["holder"] not in HOLDERS:
            findings.add("key", f"a holder of {', '.join(sorted(HOLDERS))}", fields["holder"], index)
        if fields["holder"] == "log" and log.checkpoint is not None:
            if fields["name"] not in origins:
                findings.add("key", f"a log's name, {', '.join(sorted(origins))}", fields["name"], index)
            if fields["programme"] != programme:
                findings.add("key", f"the log's programme, {programme}", fields["programme"], index)
        key = standing.setdefault((fields["name"], fields["key"]), Key(fields["holder"], fields["programme"]))
        if (fields["holder"], fields["programme"]) != (key.holder, key.programme):
            told = f"{fields['holder']} {fields['programme']}"
            findings.add("key", f"{key.holder} {key.programme}, as before", told, index)
        if fields["action"] == "added":
            key.added.append((index, fields["since"]))
        elif not key.added:
            findings.add("key", "revokes a key that was announced", fields["key"], index)
        else:
            key.revoked.append((index, fields["since"]))
    _check_own(standing, log, created_at, findings)
    return standing


def _origins(log: Log) -> frozenset[str]:
    origin = log.checkpoint.origin if log.checkpoint is not None else ""
    return frozenset(origin_of(origin, log.epoch, epoch) for epoch in range(1, log.epoch + 1))


def _programme(notices: Notices) -> str | None:
    return next((fields["programme"] for _, fields in notices if fields["kind"] == "epoch"), None)


def _check_own(standing: Announced, log: Log, created_at: str, findings: Findings) -> None:
    if log.key is None or log.checkpoint is None:
        return
    own = standing.get((log.checkpoint.origin, thumbprint("ed25519", log.key.public)))
    if own is None or own.holder != "log" or not own.added:
        findings.add("key-unannounced", f"a key leaf of {log.key}", "none")
    elif own.revoked:
        since = min(since for _, since in own.revoked)
        findings.add("key-unannounced", f"a key that stands: {log.key}", f"revoked from {since} on")
    elif (since := min(since for _, since in own.added)) > created_at:
        findings.add("key-unannounced", f"a key that counts at {created_at}: {log.key}", f"from {since} on")


def check_signer(index: int, manifest: Mapping[str, Any], announced: Announced, findings: Findings) -> None:
    """A manifest is signed by a key that an earlier leaf announced for its source, which counted at the time.

    One key under several ids is announced as often: which of them a revocation means cannot be told.
    """
    key, at, where = announced.get((manifest["source"], manifest["key"])), manifest["at"], manifest["source"]
    added = [] if key is None or key.holder != "source" else [each for each in key.added if each[0] < index]
    if key is None or not added:
        findings.add("manifest-key", "a key of the source that was announced before", manifest["key"], index, where)
        return
    if manifest["programme"] != key.programme:
        findings.add("manifest-key", f"the programme of its key, {key.programme}", manifest["programme"], index, where)
    since = min(since for _, since in added)
    if seconds_back(since, at) > CLOCK_SLACK_S:
        findings.add("manifest-key", f"a key that counts at {at}", f"from {since} on", index, where)
    ended = [since for place, since in key.revoked if place < index and seconds_back(at, since) > CLOCK_SLACK_S]
    if ended and len(added) == 1:
        findings.add("manifest-key", f"a key that stands at {at}", f"revoked from {min(ended)} on", index, where)


def stands(key: Key, index: int, at: str) -> bool:
    """Whether a key that leaves before this entry announced counts at its moment; see check_signer()."""
    added = [since for place, since in key.added if place < index]
    ended = [since for place, since in key.revoked if place < index]
    counts = any(seconds_back(since, at) <= CLOCK_SLACK_S for since in added)
    over = len(added) == 1 and any(seconds_back(at, since) > CLOCK_SLACK_S for since in ended)
    return counts and not over


def keys_of_banks(announced: Announced) -> dict[str, list[Key]]:
    """By bank: the keys that were announced for it."""
    found: dict[str, list[Key]] = {}
    for (name, _), key in announced.items():
        if key.holder == "bank":
            found.setdefault(name, []).append(key)
    return found


def check_key_list(papers: Mapping[str, Any], announced: Announced, notices: Notices, findings: Findings) -> None:
    """keys.json against the leaves: every key of a source or a bank, as announced, and approvers that rules name."""
    listed: set[tuple[str, str]] = set()
    for holder in _LISTED_HOLDERS:
        for one in papers[f"{holder}s"]:
            found = _check_listed(one, holder, announced, findings)
            if found is not None:
                listed.add(found)
    for (name, mark), key in announced.items():
        if key.holder in _LISTED_HOLDERS and key.added and (name, mark) not in listed:
            findings.add(f"{key.holder}-key", f"the key {mark} of {name}", "none", None, KEYS)
    approvers = {
        (each["approver"], each["role"], each["key"], each["public_key"])
        for _, fields in notices
        if fields["kind"] == "rule"
        for each in fields["approvals"]
    }
    known = [dict(zip(_APPROVER_FIELDS, each, strict=True)) for each in approvers]
    for one in papers["approvers"]:
        if one not in known:
            findings.add("file-form", "approvers whom a rule's leaf names", one, None, f"{KEYS} approvers")


def _check_listed(one: Any, holder: str, announced: Announced, findings: Findings) -> tuple[str, str] | None:
    """One key of keys.json; its holder's name and its thumbprint where the log announces it."""
    if not isinstance(one, dict) or one.keys() != _KEY_FIELDS | {holder}:
        findings.add("file-form", f"of each key {', '.join(sorted(_KEY_FIELDS | {holder}))}", one, None, KEYS)
        return None
    code, where = f"{holder}-key", f"{KEYS} {one[holder]} {one['kid']}"
    try:
        mark = thumbprint(*public_of(one["jwk"]))
    except ValueError as error:
        findings.add(code, "a public key", error, None, where)
        return None
    key = announced.get((str(one[holder]), mark))
    if key is None or key.holder != holder:
        findings.add(code, "a key that a leaf announces", mark, None, where)
        return None
    if one["from"] not in (moments := [since for _, since in key.added]):
        findings.add(code, f"from {', '.join(moments)}", one["from"], None, where)
    # Ended after the checkpoint, or earlier than the log knows so far, may be so; later than it says may not.
    if key.revoked and len(key.added) == 1:
        last = min(since for _, since in key.revoked)
        if not isinstance(one["to"], str) or one["to"] > last:
            findings.add(code, f"to {last}", one["to"], None, where)
    return str(one[holder]), mark
