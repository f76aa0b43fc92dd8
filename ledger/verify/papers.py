"""The papers beside the log: keys, rule documents, manifests and published totals, held against the log's entries."""

import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from ledger.bundle import Bundle, FileUnreadable, canonical, parse_json, parse_lines
from ledger.errors import NoteInvalid
from ledger.journal import SYSTEM_ACCOUNTS
from ledger.notes import VerifierKey, parse_verifier
from ledger.verify.checkpoints import read_checked
from ledger.verify.findings import Findings
from ledger.verify.holdings import Totals
from ledger.verify.jwk import public_of, thumbprint, verify_jws

KEYS, MANIFESTS, TOTALS = "keys.json", "manifests.jsonl", "totals.json"
_TOTAL_FIELDS = {"programme", "asset", "account", "amount"}


def read_keys(bundle: Bundle, findings: Findings) -> tuple[list[VerifierKey], Mapping[str, Any] | None]:
    """The log's verifier keys by keys.json, and all of it; None where it cannot be read."""
    raw = read_checked(bundle, KEYS, findings)
    if raw is None:
        return [], None
    try:
        fields = parse_json(raw)
        if not isinstance(fields, dict) or fields.keys() | {"banks"} != {"approvers", "banks", "log", "sources"}:
            raise FileUnreadable("log, sources, banks and approvers are expected")
        fields.setdefault("banks", [])  # bundles from before there were banks
        logs = [parse_verifier(text) for text in fields["log"]]
        if not all(isinstance(fields[name], list) for name in ("sources", "banks", "approvers")):
            raise FileUnreadable("sources, banks and approvers are lists")
    except (FileUnreadable, NoteInvalid, TypeError) as error:
        findings.add("file-form", "the keys of log, sources, banks and approvers", error, None, KEYS)
        return [], None
    return logs, fields


def check_documents(bundle: Bundle, paths: Iterable[str], findings: Findings) -> None:
    """Every document that the log names is there, and each is what its name says."""
    for path in sorted(paths):
        digest = path.rpartition("/")[2].removesuffix(".json")
        document = read_checked(bundle, path, findings)
        if document is not None and sha256(document).hexdigest() != digest:
            code = "rule-document" if path.startswith("rules/") else "named-document"
            findings.add(code, digest, sha256(document).hexdigest(), None, path)


def check_manifest_texts(bundle: Bundle, manifests: Mapping[int, Mapping[str, Any]], findings: Findings) -> None:
    """manifests.jsonl: what had been received, and the signed text where it was not erased."""
    if not manifests and bundle.read(MANIFESTS) is None:
        return
    raw = read_checked(bundle, MANIFESTS, findings)
    if raw is None:
        return
    missing = set(manifests)
    try:
        for number, fields in parse_lines(raw):
            where = f"{MANIFESTS} line {number}"
            index = _index(fields)
            leaf = manifests.get(index)
            if leaf is not None and index not in missing:
                findings.add("manifest-text", "one line for each manifest", "another", index, where)
            missing.discard(index)
            if leaf is None:
                findings.add("manifest-text", "the index of a manifest's entry", index, None, where)
                continue
            received = sha256(canonical(fields.get("received"))).hexdigest()
            if received != leaf["received"]:
                findings.add("manifest-text", leaf["received"], received, index, where)
            if fields.get("jws") is not None:
                _check_jws(fields, leaf, index, where, findings)
    except FileUnreadable as error:
        findings.add("file-form", "one manifest a line", error, None, MANIFESTS)
    for index in sorted(missing):
        findings.add("manifest-text", "a line for the manifest", "none", index, MANIFESTS)


def _index(fields: Any) -> int:
    if not isinstance(fields, dict) or fields.keys() != {"index", "jwk", "jws", "received"}:
        raise FileUnreadable("index, received, jws and jwk are expected")
    index = fields["index"]
    if not isinstance(index, str) or not index.isdecimal():
        raise FileUnreadable("index is a count, as text")
    return int(index)


def _check_jws(fields: Mapping[str, Any], leaf: Mapping[str, Any], index: int, where: str, findings: Findings) -> None:
    try:
        text = str(fields["jws"])
        digest = sha256(text.encode("ascii")).hexdigest()
        if digest != leaf["digest"]:
            findings.add("manifest-text", leaf["digest"], digest, index, where)
        algorithm, public = public_of(fields.get("jwk"))
        if thumbprint(algorithm, public) != leaf["key"]:
            findings.add("manifest-text", f"the key {leaf['key']}", thumbprint(algorithm, public), index, where)
        said = verify_jws(text, algorithm, public)
        for name in ("source", "day", "sequence"):
            if str(said.get(name)) != leaf[name]:
                findings.add("manifest-text", f"{name} {leaf[name]}", said.get(name), index, where)
    except ValueError as error:
        findings.add("manifest-text", "a text signed by the source's key", error, index, where)


def read_totals(bundle: Bundle, findings: Findings) -> tuple[int, Totals] | None:
    """The published totals and how many entries they count."""
    raw = read_checked(bundle, TOTALS, findings)
    if raw is None:
        return None
    try:
        fields = parse_json(raw)
        if fields.keys() != {"folded_to", "totals"}:
            raise FileUnreadable("no other field is expected")
        folded_to, listed = int(fields["folded_to"]), fields["totals"]
        totals: Totals = Totals()
        for one in listed:
            key = one["programme"], one["asset"], one["account"]
            if one.keys() != _TOTAL_FIELDS or key in totals or one["account"] not in SYSTEM_ACCOUNTS:
                raise FileUnreadable(f"each system account once, not {one}")
            totals[key] = int(one["amount"])
    except (AttributeError, FileUnreadable, KeyError, TypeError, ValueError) as error:
        findings.add("file-form", "folded_to and the totals of system accounts", error, None, TOTALS)
        return None
    return folded_to, totals


def compare_totals(published: Totals, computed: Totals, findings: Findings) -> None:
    """Hold the published totals of system accounts against the lines; what is zero may be left out."""
    for key in sorted(published.keys() | computed.keys()):
        if key[2] in SYSTEM_ACCOUNTS and published[key] != computed[key]:
            findings.add("published-totals", computed[key], published[key], None, " ".join(key))


def unread(bundle: Bundle, known: Sequence[str]) -> list[str]:
    """Files in the folder that the bundle does not list."""
    found = []
    for folder, _, names in os.walk(bundle.directory):
        inside = Path(folder).relative_to(bundle.directory).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        found += [prefix + name for name in names if prefix + name not in bundle.files and prefix + name not in known]
    return sorted(found)
