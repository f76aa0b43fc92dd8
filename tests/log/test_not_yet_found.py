"""Changes to an honest bundle that neither the verification nor the replay finds: known, and each is to go.

Whoever makes one of them be found takes it off this list: the mark is strict, so it fails from then on.
"""

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.audit.replay import replay
from tests.log.bundles import entries_of, relist, rewrite, signer_of
from tests.log.histories import canonical, jwk_of, thumbprint
from tests.log.test_tampering import bundle, copied, edit_json, edit_lines

__all__ = ["bundle"]  # the fixture

pytestmark = pytest.mark.anyio

Leaves = list[dict[str, Any]]
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
    leaves.insert(leaves.index(key) + 1, key | {"action": "revoked", "since": key["at"], "nonce": "ab" * 16})
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


APPROVER = {"approver": "x", "role": "technical_body", "kid": "1", "public_key": "ab" * 32}

CHANGES: dict[str, Change] = {
    # with the log's key
    "a manifest signed by a key that no leaf announced": signed_by_nobody,
    "a manifest signed by a key that was revoked": signed_when_revoked,
    "a manifest signed by a key that was announced later": signed_before_announced,
    "a statement that stands for a second manifest": stated_again,
    "a log's key that counts from a later year on": lambda _, leaves: of(leaves, "key", holder="log").update(
        since="2030-01-01T00:00:00Z"
    ),
    "a source's key announced as the log's": lambda _, leaves: of(leaves, "key", holder="source").update(holder="log"),
    "a source's key announced under another name": lambda _, leaves: of(leaves, "key", holder="source").update(
        name="urn:example:nobody"
    ),
    "a reversal on nobody's authority": lambda _, leaves: of(leaves, "reversal").update(authority="nobody"),
    "a manifest of another programme": lambda _, leaves: of(leaves, "manifest").update(programme="other"),
    "a key of another programme": lambda _, leaves: of(leaves, "key").update(programme="other"),
    "a credit of another programme": lambda _, leaves: of(leaves, "credit").update(programme="other"),  # stops it
    "an activity that is not its transfer": lambda _, leaves: of(leaves, "credit").update(
        activity="019de0e8-34b9-7000-8000-000000000000"
    ),
    # without it
    "a source's key left out": lambda folder, _: edit_json(folder, "keys.json", lambda keys: keys["sources"].pop()),
    "a key of a source that announced none": lambda folder, _: edit_json(folder, "keys.json", stranger),
    "a source's key from another day on": lambda folder, _: edit_json(
        folder, "keys.json", lambda keys: keys["sources"][0].update({"from": "2026-12-31T16:00:00Z"})
    ),
    "a key of an approver that no rule names": lambda folder, _: edit_json(
        folder, "keys.json", lambda keys: keys["approvers"].append(APPROVER)
    ),
    "no key of the log": lambda folder, _: edit_json(folder, "keys.json", lambda keys: keys["log"].clear()),
    "a manifest's row twice": lambda folder, _: edit_lines(
        folder, "manifests.jsonl", lambda rows: rows.append(rows[0])
    ),
    "a field more beside evidence": lambda folder, _: edit_lines(
        folder, "evidence/000.jsonl", lambda rows: rows[0].update(note="x")
    ),
    "a salt in capitals": lambda folder, _: edit_lines(
        folder, "evidence/000.jsonl", lambda rows: rows[0].update(salt=rows[0]["salt"].upper())
    ),
    "totals of no entries": lambda folder, _: (folder / "totals.json").write_bytes(
        canonical({"folded_to": "0", "totals": []})
    ),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.xfail(strict=True, raises=(AssertionError, KeyError), reason="neither verify nor replay looks at it")
async def test_a_change_that_is_not_found(name: str, bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    before = entries_of(folder)
    leaves: Leaves = list(map(json.loads, before))
    CHANGES[name](folder, leaves)
    if list(map(canonical, leaves)) != before:
        rewrite(folder, tmp_path / "forged", lambda _: list(map(canonical, leaves)), signer_of())
        folder = tmp_path / "forged"
    relist(folder)
    found = replay(folder)
    assert not found.clean


@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="a list of checkpoints that leaves out the bundle's own passes"
)
async def test_no_checkpoints_at_all(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    (folder / "checkpoints.jsonl").write_bytes(b"")
    relist(folder)
    assert not replay(folder).clean
