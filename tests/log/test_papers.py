"""Keys, who signed, authorities and the members of files: each change to one honest bundle is found, and named.

The first half needs the log's key, the second half nothing but the files.
"""

import base64
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.verify.run import verify
from tests.log.bundles import entries_of, relist, rewrite, signer_of
from tests.log.histories import canonical, jwk_of, thumbprint
from tests.log.test_tampering import Leaves, bundle, codes, copied, edit_json, edit_lines, leaves_of, looked_at

__all__ = ["bundle"]  # the fixture

pytestmark = pytest.mark.anyio

Change = Callable[[Path, Leaves], object]


def of(leaves: Leaves, kind: str, **fields: str) -> dict[str, Any]:
    """The first entry of a kind with these fields."""
    return next(leaf for leaf in leaves if leaf["kind"] == kind and fields.items() <= leaf.items())


def signed_by_nobody(folder: Path, leaves: Leaves) -> None:
    """The log's operator signs a source's day with a key that no leaf announced."""
    key = Ed25519PrivateKey.from_private_bytes(b"z" * 32)
    public, leaf = key.public_key().public_bytes_raw(), of(leaves, "manifest")

    def sign(rows: list[dict[str, Any]]) -> None:
        row = next(each for each in rows if each["index"] == str(leaves.index(leaf)))
        signed = row["jws"].rpartition(".")[0]
        signature = base64.urlsafe_b64encode(key.sign(signed.encode())).rstrip(b"=").decode()
        row.update(jws=f"{signed}.{signature}", jwk=jwk_of(public))
        leaf.update(digest=sha256(row["jws"].encode()).hexdigest(), key=thumbprint(public))

    edit_lines(folder, "manifests.jsonl", sign)


def key_of_manifest(leaves: Leaves) -> dict[str, Any]:
    return of(leaves, "key", holder="source", name=of(leaves, "manifest")["source"])


def move_manifests(folder: Path, by: int) -> None:
    """The rows of manifests.jsonl follow their entries."""

    def move(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["index"] = str(int(row["index"]) + by)

    edit_lines(folder, "manifests.jsonl", move)


def signed_when_revoked(folder: Path, leaves: Leaves) -> None:
    key = key_of_manifest(leaves)
    leaves.insert(
        leaves.index(key) + 1, key | {"action": "revoked", "since": "2026-02-01T00:00:00Z", "nonce": "ab" * 16}
    )
    move_manifests(folder, 1)


def signed_before_announced(folder: Path, leaves: Leaves) -> None:
    key = key_of_manifest(leaves)
    leaves.remove(key)
    leaves.append(key)
    move_manifests(folder, -1)


def stated_again(folder: Path, leaves: Leaves) -> None:
    """One signed statement, which names its own sequence, stands for two manifests of the day."""
    leaf = of(leaves, "manifest")
    row = {"index": str(len(leaves))}
    leaves.append(leaf | {"sequence": "2", "nonce": "ab" * 16})
    edit_lines(folder, "manifests.jsonl", lambda rows: rows.append(rows[0] | row))


def stranger(keys: dict[str, Any]) -> None:
    keys["sources"].append(keys["sources"][0] | {"source": "urn:example:nobody", "jwk": jwk_of(b"\x58" + b"f" * 31)})


def listed_as_standing(folder: Path, leaves: Leaves) -> None:
    """The log tells of a key's end, of years to come; keys.json goes on without one."""
    key = key_of_manifest(leaves)
    leaves.append(key | {"action": "revoked", "since": "2030-01-01T00:00:00Z", "nonce": "ab" * 16})


def note_beside(keys: dict[str, Any]) -> None:
    keys["sources"][0]["note"] = ["x"]


APPROVER = {"approver": "x", "role": "technical_body", "kid": "1", "public_key": "ab" * 32}

CHANGES: dict[tuple[str, str], Change] = {
    # with the log's key
    ("a manifest signed by a key that no leaf announced", "manifest-key"): signed_by_nobody,
    ("a manifest signed by a key that was revoked", "manifest-key"): signed_when_revoked,
    ("a manifest signed by a key that was announced later", "manifest-key"): signed_before_announced,
    ("a statement that stands for a second manifest", "manifest-text"): stated_again,
    ("a log's key that counts from a later year on", "key-unannounced"): lambda _, leaves: of(
        leaves, "key", holder="log"
    ).update(since="2030-01-01T00:00:00Z"),
    ("a source's key announced as the log's", "key"): lambda _, leaves: of(leaves, "key", holder="source").update(
        holder="log"
    ),
    ("a source's key announced under another name", "manifest-key"): lambda _, leaves: of(
        leaves, "key", holder="source"
    ).update(name="urn:example:nobody"),
    ("a reversal on nobody's authority", "authority"): lambda _, leaves: of(leaves, "reversal").update(
        authority="nobody"
    ),
    ("a manifest of another programme", "manifest-key"): lambda _, leaves: of(leaves, "manifest").update(
        programme="other"
    ),
    ("a key of another programme", "key"): lambda _, leaves: of(leaves, "key").update(programme="other"),
    ("a credit of another programme", "participant"): lambda _, leaves: of(leaves, "credit").update(programme="other"),
    ("an activity that is not its transfer", "credit-activity"): lambda _, leaves: of(leaves, "credit").update(
        activity="019de0e8-34b9-7000-8000-000000000000"
    ),
    # without it
    ("a source's key left out", "source-key"): lambda folder, _: edit_json(
        folder, "keys.json", lambda keys: keys["sources"].pop()
    ),
    ("a key of a source that announced none", "source-key"): lambda folder, _: edit_json(folder, "keys.json", stranger),
    ("a source's key from another day on", "source-key"): lambda folder, _: edit_json(
        folder, "keys.json", lambda keys: keys["sources"][0].update({"from": "2026-12-31T16:00:00Z"})
    ),
    ("a key's end left out", "source-key"): listed_as_standing,
    ("a manifest signed by a key of later years", "manifest-key"): lambda _, leaves: key_of_manifest(leaves).update(
        since="2030-01-01T00:00:00Z"
    ),
    ("a field more beside a source's key", "file-form"): lambda folder, _: edit_json(folder, "keys.json", note_beside),
    ("an approver that is none", "file-form"): lambda folder, _: edit_json(
        folder, "keys.json", lambda keys: keys["approvers"].append({"approver": ["x"]})
    ),
    ("a field more beside totals", "file-form"): lambda folder, _: edit_json(
        folder, "totals.json", lambda totals: totals.update(note="x")
    ),
    ("a field more beside a manifest", "file-form"): lambda folder, _: edit_lines(
        folder, "manifests.jsonl", lambda rows: rows[0].update(note="x")
    ),
    ("a key of an approver that no rule names", "file-form"): lambda folder, _: edit_json(
        folder, "keys.json", lambda keys: keys["approvers"].append(APPROVER)
    ),
    ("no key of the log", "log-key"): lambda folder, _: edit_json(
        folder, "keys.json", lambda keys: keys["log"].clear()
    ),
    ("a manifest's row twice", "manifest-text"): lambda folder, _: edit_lines(
        folder, "manifests.jsonl", lambda rows: rows.append(rows[0])
    ),
    ("a field more beside evidence", "evidence-extra"): lambda folder, _: edit_lines(
        folder, "evidence/000.jsonl", lambda rows: rows[0].update(note="x")
    ),
    ("a salt in capitals", "evidence-extra"): lambda folder, _: edit_lines(
        folder, "evidence/000.jsonl", lambda rows: rows[0].update(salt=rows[0]["salt"].upper())
    ),
}


@pytest.mark.parametrize(("name", "code"), CHANGES)
async def test_papers_and_names(name: str, code: str, bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    before = entries_of(folder)
    leaves = leaves_of(folder)
    CHANGES[name, code](folder, leaves)
    if list(map(canonical, leaves)) != before:
        rewrite(folder, tmp_path / "forged", lambda _: list(map(canonical, leaves)), signer_of())
        folder = tmp_path / "forged"
    relist(folder)
    assert code in codes(looked_at(folder))


async def test_totals_of_the_first_entries_alone_are_told(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    (folder / "totals.json").write_bytes(canonical({"folded_to": "0", "totals": []}))
    relist(folder)
    found = verify(folder)
    assert (found.clean, [left.code for left in found.left if left.code != "not-approved"]) == (True, ["totals-behind"])


async def test_a_list_of_checkpoints_without_the_bundles_own(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    (folder / "checkpoints.jsonl").write_bytes(b"")
    relist(folder)
    assert "file-form" in codes(looked_at(folder))


async def test_a_key_that_was_ended_after_the_checkpoint_is_no_finding(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    edit_json(folder, "keys.json", lambda keys: keys["sources"][0].update(to="2026-12-31T16:00:00Z"))
    relist(folder)
    assert looked_at(folder).clean
