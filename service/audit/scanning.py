"""What the entries of a log name: rule documents, the log's keys, those who approve, manifests.

Read off the bytes: a leaf's values hold no quotation mark, so a name with its quotation marks is a field and nothing
else. What is no leaf names nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from ledger.notes import ED25519, Note, VerifierKey
from ledger.tiles import decode_bundle

_APPLIED = re.compile(rb'"(?:methodology|points_rule)":"([0-9a-f]{64})"')
_OFFERED = re.compile(rb'"offer":"([0-9a-f]{64})"')
_NOTICE = re.compile(rb'"kind":"(?:rule|key|manifest|pool|listing|statement)"')
_LOG = "log"
_PUBLIC_BYTES = 32


@dataclass(slots=True)
class Named:
    """What was named so far, in the order of the log.

    rules       digests of rule documents
    documents   digests of products, offers, terms of pools and statements
    log_keys    keys of the log, as key leaves announce them
    approvers   by all of its fields: an approver's code, role, key id and public key, once each
    manifests   indexes of the leaves of manifests
    """

    rules: set[str] = field(default_factory=set)
    documents: set[str] = field(default_factory=set)
    log_keys: dict[VerifierKey, None] = field(default_factory=dict)
    approvers: dict[tuple[str, str, str, str], None] = field(default_factory=dict)
    manifests: list[int] = field(default_factory=list)

    def scan(self, first: int, bundle: bytes, width: int) -> None:
        """Look through an entry bundle of `width` entries from index `first` on. Raises TileInvalid."""
        self.rules.update(digest.decode("ascii") for digest in set(_APPLIED.findall(bundle)))
        self.documents.update(digest.decode("ascii") for digest in set(_OFFERED.findall(bundle)))
        if _NOTICE.search(bundle):
            for index, entry in enumerate(decode_bundle(bundle, width), start=first):
                if _NOTICE.search(entry):
                    self._notice(index, entry)

    def _notice(self, index: int, entry: bytes) -> None:
        try:
            fields = orjson.loads(entry)
            match fields["kind"]:
                case "manifest":
                    self.manifests.append(index)
                case "rule":
                    self.rules.add(bytes.fromhex(fields["digest"]).hex())
                    for one in fields["approvals"]:
                        named = one["approver"], one["role"], one["key"], one["public_key"]
                        self.approvers[named] = None
                case "listing" | "statement":
                    self.documents.add(bytes.fromhex(fields["digest"]).hex())
                case "pool":
                    self.documents.add(bytes.fromhex(fields["terms"]).hex())
                case "key" if fields["holder"] == _LOG and fields["algorithm"] == "ed25519":
                    public = bytes.fromhex(fields["public_key"])
                    if len(public) == _PUBLIC_BYTES:
                        self.log_keys[VerifierKey(fields["name"], ED25519, public)] = None
        except (ValueError, KeyError, TypeError):  # no leaf: a verification says so
            return

    def approvers_listed(self) -> list[dict[str, Any]]:
        """As keys.json lists them."""
        names = ("approver", "role", "kid", "public_key")
        return [dict(zip(names, each, strict=True)) for each in sorted(self.approvers)]


def key_of(note: Note, known: Iterable[VerifierKey]) -> VerifierKey | None:
    """The first of these keys whose signature stands under a checkpoint; whether it verifies is not looked at."""
    signed = {(signature.name, signature.key_id) for signature in note.signatures}
    return next((key for key in known if (key.name, key.id) in signed), None)
