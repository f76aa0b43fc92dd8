"""One honest bundle of a platform, and everything somebody might do to it: each is found, and named.

Who tampers may hold the log's key or not, may compute the tree anew or not, and always lists the files anew: only what
the log itself shows can give the change away. What the key's holder does to the meaning of entries is tried one by one
in tests/log/test_forged.py and tests/audit/test_tampering.py; here it is tried at random.
"""

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger.checkpoint import Checkpoint
from ledger.verify.run import verify
from service.audit.replay import Replay, replay
from tests.audit.history import Audited, make_history
from tests.audit.redeemed import make_redeemed
from tests.conftest import Database, clone
from tests.log.bundles import entries_of, relist, rewrite, signer_of
from tests.log.histories import ORIGIN, canonical, jwk_of, thumbprint

pytestmark = pytest.mark.anyio

SOAK_EDITS = int(os.environ.get("TANPUHUI_SOAK_EDITS", "1000"))
STRANGER = signer_of(seed=77)
Leaves = list[dict[str, Any]]


@pytest.fixture(scope="module")
async def bundle(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a platform's operator exported, and nothing is wrong with it."""
    database = clone(template, f"tampered_{os.urandom(6).hex()}")
    audited: Audited = await make_history(database, tmp_path_factory.mktemp("tampered") / "history")
    return audited.directory


@pytest.fixture(scope="module")
async def redemptions(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a platform on which points were redeemed."""
    database = clone(template, f"tampered_{os.urandom(6).hex()}")
    return await make_redeemed(database, tmp_path_factory.mktemp("redeemed") / "history")


def looked_at(folder: Path) -> Replay:
    """Verified and computed again, by an auditor who remembers nothing of before."""
    folder.with_name(f"{folder.name}.checkpoint").unlink(missing_ok=True)
    return replay(folder)


def codes(found: Replay) -> set[str]:
    return set(found.verified.findings.counts) | set(found.findings.counts)


def copied(bundle: Path, folder: Path) -> Path:
    shutil.copytree(bundle, folder / "copy")
    return folder / "copy"


def edit_json(folder: Path, path: str, change: Callable[[Any], object]) -> None:
    value = json.loads((folder / path).read_bytes())
    change(value)
    (folder / path).write_bytes(canonical(value))


def edit_lines(folder: Path, path: str, change: Callable[[list[Any]], object]) -> None:
    values = [json.loads(line) for line in (folder / path).read_bytes().splitlines()]
    change(values)
    (folder / path).write_bytes(b"".join(canonical(value) + b"\n" for value in values))


def leaves_of(folder: Path) -> Leaves:
    return [json.loads(entry) for entry in entries_of(folder)]


async def test_the_bundle_is_clean(bundle: Path) -> None:
    found = looked_at(bundle)
    assert found.clean
    assert found.open.counts == {}


# Without the key: files are changed, and listed anew.

NAMED = {
    "log.vkey": {"log-key"},
    "log/checkpoint": {"checkpoint-signature", "bundle-field", "checkpoint-origin"},
    "log/tile/0": {"leaf-hash", "tile-differs"},
    "log/tile/entries": {"leaf-hash", "entries-form"},
    "checkpoints.jsonl": {"checkpoint-signature", "file-form"},
    "rules": {"rule-document"},
    "manifests.jsonl": {"manifest-text", "file-form"},
    "totals.json": {"published-totals", "file-form"},
    "evidence": {"evidence", "evidence-form", "evidence-extra", "settlement", "terms"},
    "calls": {"signed-call", "call-extra"},
    "documents": {"named-document"},
}


def kind_of(path: str) -> str:
    return next(name for name in NAMED if path.startswith(name))


def told_files(folder: Path) -> list[Path]:
    """Files with something in them, but for the lists of files and of keys."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.stat().st_size]
    return [file for file in files if file.name not in ("bundle.json", "keys.json")]


async def test_a_flipped_byte_is_found_and_named_in_every_file(bundle: Path, redemptions: Path, tmp_path: Path) -> None:
    kinds = flipped(bundle, tmp_path / "credits") | flipped(redemptions, tmp_path / "redemptions")
    assert kinds == set(NAMED)


def flipped(bundle: Path, tmp_path: Path) -> set[str]:
    """Flip bytes of every file, each of which must be found; the kinds of files there were."""
    folder, random = copied(bundle, tmp_path), Random(11)
    files = told_files(folder)
    for file in files:
        path, before = file.relative_to(folder).as_posix(), file.read_bytes()
        for _ in range(4):
            content, at = bytearray(before), random.randrange(len(before) - 1)
            content[at] ^= 1 << random.choice((0, 1, 2, 3, 4, 6))  # not the bit that makes a capital of a letter
            file.write_bytes(content)
            relist(folder)
            found = looked_at(folder)
            assert codes(found) & NAMED[kind_of(path)], (path, at, codes(found))
        file.write_bytes(before)
    return {kind_of(file.relative_to(folder).as_posix()) for file in files}


def flip(leaves: Leaves) -> Leaves:
    line = next(leaf for leaf in leaves if leaf["kind"] == "credit")["lines"][0]
    line["amount"] = str(int(line["amount"]) + 1)
    return leaves


def first_credit(leaves: Leaves) -> int:
    return next(number for number, leaf in enumerate(leaves) if leaf["kind"] == "credit")


def drop(leaves: Leaves) -> Leaves:
    del leaves[first_credit(leaves)]
    return leaves


def drop_last(leaves: Leaves) -> Leaves:
    return leaves[:-1]


def insert(leaves: Leaves) -> Leaves:
    at = first_credit(leaves)
    made = leaves[at] | {"transfer": leaves[at]["transfer"][:-12] + "0123456789ab", "claims": ["1:" + "ab" * 32]}
    return [*leaves[: at + 1], made, *leaves[at + 1 :]]


def swap(leaves: Leaves) -> Leaves:
    at = first_credit(leaves)
    return [*leaves[:at], leaves[at + 1], leaves[at], *leaves[at + 2 :]]


def repeat(leaves: Leaves) -> Leaves:
    at = first_credit(leaves)
    return [*leaves[: at + 1], *leaves[at:]]


ENTRY_EDITS = (flip, drop, drop_last, insert, swap, repeat)


def write_entries(folder: Path, leaves: Leaves) -> None:
    """Other entries in the bundle's only entry file; tiles and checkpoint stay as they were."""
    (file,) = [path for path in (folder / "log/tile/entries").rglob("*") if path.is_file()]
    raw = [canonical(leaf) for leaf in leaves]
    file.write_bytes(b"".join(len(one).to_bytes(2, "big") + one for one in raw))
    relist(folder)


@pytest.mark.parametrize("edit", ENTRY_EDITS)
async def test_entries_changed_under_the_old_tree(
    edit: Callable[[Leaves], Leaves], bundle: Path, tmp_path: Path
) -> None:
    folder = copied(bundle, tmp_path)
    write_entries(folder, edit(leaves_of(folder)))
    assert codes(looked_at(folder)) & {"leaf-hash", "entries-form"}


def rewritten(
    bundle: Path, folder: Path, edit: Callable[[Leaves], Leaves], *, key: Any = None, told: bool = False
) -> Path:
    """The tree computed anew. `told`: the checkpoints that were signed before are handed on as well."""
    rewrite(bundle, folder / "made", lambda entries: list(map(canonical, edit(list(map(json.loads, entries))))), key)
    if told:
        shutil.copyfile(bundle / "checkpoints.jsonl", folder / "made/checkpoints.jsonl")
        relist(folder / "made")
    return folder / "made"


@pytest.mark.parametrize("edit", ENTRY_EDITS)
async def test_a_tree_that_a_stranger_signs(edit: Callable[[Leaves], Leaves], bundle: Path, tmp_path: Path) -> None:
    """Step by step the stranger's key is put wherever the log's is told; at last only the auditor knows better."""
    folder = rewritten(bundle, tmp_path, edit, key=STRANGER)
    assert "checkpoint-signature" in codes(looked_at(folder))
    (folder / "log.vkey").write_text(f"{STRANGER.verifier}\n")
    relist(folder)
    assert "log-key" in codes(looked_at(folder))
    edit_json(folder, "keys.json", lambda keys: keys.update(log=[str(STRANGER.verifier)]))
    relist(folder)
    assert "key-unannounced" in codes(looked_at(folder))


async def test_a_log_that_is_a_strangers_throughout_is_known_by_what_the_auditor_remembers(
    bundle: Path, tmp_path: Path
) -> None:
    def announced(leaves: Leaves) -> Leaves:
        leaf = next(each for each in leaves if each["kind"] == "key" and each["holder"] == "log")
        public = STRANGER.verifier.public
        leaf.update(public_key=public.hex(), key=thumbprint(public))
        return leaves

    folder = rewritten(bundle, tmp_path, announced, key=STRANGER)
    (folder / "log.vkey").write_text(f"{STRANGER.verifier}\n")
    edit_json(folder, "keys.json", lambda keys: keys.update(log=[str(STRANGER.verifier)]))
    relist(folder)
    assert looked_at(folder).clean  # a log of its own: compare its key with one from a source you trust
    memory = tmp_path / "memory"
    shutil.copyfile(bundle / "log/checkpoint", memory)
    assert verify(folder, previous=memory).findings.counts.keys() & {"checkpoint-signature", "history-rewritten"}


@pytest.mark.parametrize("edit", ENTRY_EDITS)
async def test_two_signed_histories(edit: Callable[[Leaves], Leaves], bundle: Path, tmp_path: Path) -> None:
    """The key's holder signs another history: the first checkpoint gives it away, in the bundle or remembered."""
    folder = rewritten(bundle, tmp_path, edit, told=True)
    assert "history-rewritten" in codes(looked_at(folder))
    memory = tmp_path / "memory"
    shutil.copyfile(bundle / "log/checkpoint", memory)
    folder = rewritten(bundle, tmp_path / "again", edit)
    assert "history-rewritten" in verify(folder, previous=memory).findings.counts


async def test_one_size_signed_with_two_roots(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    text = str(Checkpoint(ORIGIN, len(entries_of(bundle)), sha256(b"another").digest()))
    note = f"{text}\n{signer_of().sign(text)}"
    edit_lines(folder, "checkpoints.jsonl", lambda rows: rows.insert(0, rows[-1] | {"note": note}))
    relist(folder)
    assert "history-rewritten" in codes(looked_at(folder))


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (flip, "reduction"),
        (drop, "counter"),
        (insert, "counter"),
        (swap, "evidence"),
        (repeat, "transfer-repeated"),
    ],
)
async def test_a_history_that_the_key_signs_alone(
    edit: Callable[[Leaves], Leaves], code: str, bundle: Path, tmp_path: Path
) -> None:
    """No earlier checkpoint is told of: what the entries say still does not hold together."""
    assert code in codes(looked_at(rewritten(bundle, tmp_path, edit)))


# Papers beside the log.


async def test_a_factor_in_a_rule(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    for file in sorted((folder / "rules").iterdir()):
        before = file.read_bytes()
        if b'"value":"' in before:
            file.write_bytes(before.replace(b'"value":"', b'"value":"9', 1))
            relist(folder)
            found = looked_at(folder)
            assert {"rule-document"} <= codes(found)
            assert any(file.name in one.where for one in found.verified.findings.shown)
            file.write_bytes(before)


async def test_each_published_total(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    honest_totals = json.loads((bundle / "totals.json").read_bytes())
    for number in range(len(honest_totals["totals"])):
        told = json.loads(json.dumps(honest_totals))
        told["totals"][number]["amount"] = "7"
        (folder / "totals.json").write_bytes(canonical(told))
        relist(folder)
        assert "published-totals" in codes(looked_at(folder))


async def test_a_balance_in_a_seal(honest: Path, tmp_path: Path) -> None:
    """A played log, as it has seals; the root is one of balances that differ by a point, the totals follow."""

    def sealed(leaves: Leaves, **fields: Any) -> Leaves:
        next(leaf for leaf in reversed(leaves) if leaf["kind"] == "seal").update(fields)
        return leaves

    folder = rewritten(honest, tmp_path, lambda leaves: sealed(leaves, root=sha256(b"another balance").hexdigest()))
    assert "seal-root" in verify(folder).findings.counts
    totals = next(leaf for leaf in reversed(leaves_of(honest)) if leaf["kind"] == "seal")["totals"]
    totals[0]["amount"] = str(int(totals[0]["amount"]) + 1)
    folder = rewritten(honest, tmp_path / "again", lambda leaves: sealed(leaves, totals=totals))
    assert "seal-totals" in verify(folder).findings.counts


async def test_a_sources_key_in_the_list_of_keys(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    edit_json(folder, "keys.json", lambda keys: keys["sources"][0].update(jwk=jwk_of(STRANGER.verifier.public)))
    relist(folder)
    assert codes(looked_at(folder)) == {"source-key"}


# Erasure is a right: it is told, and is no finding.


async def test_erased_evidence_is_left_open(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    edit_lines(folder, "evidence/000.jsonl", lambda rows: rows.clear())
    edit_lines(folder, "manifests.jsonl", lambda rows: rows[0].update(jws=None))
    relist(folder)
    found = looked_at(folder)
    rows = (bundle / "evidence/000.jsonl").read_bytes().splitlines()
    documents = sum(b'"document":' in row for row in rows)
    assert found.clean, codes(found)
    assert found.open.counts["evidence-erased"] == documents
    assert found.open.counts["settlement-erased"] == len(rows) - documents
    assert found.open.counts["manifest-erased"] == 1


async def test_evidence_whose_salt_alone_was_replaced_is_a_finding(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    edit_lines(folder, "evidence/000.jsonl", lambda rows: rows[0].update(salt="00" * 32))
    relist(folder)
    assert codes(looked_at(folder)) & {"evidence", "settlement"}


# At random.

CHECKED = {  # fields of which a change is found even where the key's holder writes everything anew
    "credit": ("counter", "day", "evidence", "methodology", "lines"),
    "reversal": ("counter", "reverses", "lines"),
    "maturity": ("counter", "matures", "lines", "facts"),
    "manifest": ("digest", "received", "sequence", "key"),
    "hold": ("counter", "expires_at", "lines", "offer", "terms", "units", "value"),
    "capture": ("counter", "hold", "lines", "signature", "units", "value"),
    "release": ("counter", "hold", "lines", "units", "value"),
    "refund": ("counter", "reverses", "lines", "signature", "units", "value"),
    "listing": ("digest", "version"),
    "statement": ("digest", "sequence", "size"),
}


def digit(random: Random, text: str) -> str:
    """The text with another figure in it."""
    places = [at for at, letter in enumerate(text) if letter in "0123456789"]
    at = random.choice(places)
    return text[:at] + random.choice([one for one in "123456789" if one != text[at]]) + text[at + 1 :]


def meaning(random: Random, leaves: Leaves) -> Leaves:
    """Change one figure of one entry that something else depends on."""
    leaf = random.choice([each for each in leaves if each["kind"] in CHECKED])
    name = random.choice(CHECKED[leaf["kind"]])
    if name == "lines":
        line = random.choice(leaf["lines"])
        line["amount"] = digit(random, line["amount"])
    elif leaf[name] is not None:
        leaf[name] = digit(random, leaf[name])
    else:
        leaf["counter"] = digit(random, leaf["counter"])
    return leaves


def shuffled(random: Random, leaves: Leaves) -> Leaves:
    """Drop, move or repeat an entry of a participant's: the last one is not dropped, which only others can know."""
    places = [at for at, leaf in enumerate(leaves) if "counter" in leaf]
    later = [
        at
        for at in places
        if any(leaves[other]["participant"] == leaves[at]["participant"] for other in places if other > at)
    ]
    at = random.choice(later)
    match random.randrange(3):
        case 0:
            del leaves[at]
        case 1:
            other = next(o for o in places if o > at and leaves[o]["participant"] == leaves[at]["participant"])
            leaves[at], leaves[other] = leaves[other], leaves[at]
        case _:
            leaves.insert(at + 1, leaves[at])
    return leaves


def edit_bytes(random: Random, folder: Path) -> str:
    """Change the bytes of a file, and list it anew; which file."""
    file = random.choice(told_files(folder))
    content = file.read_bytes()
    at = random.randrange(len(content) - 1)
    match random.randrange(3):
        case 0:
            content = content[:at] + bytes([content[at] ^ random.choice((1, 2, 4, 64))]) + content[at + 1 :]
        case 1:
            content = content[:at] + content[at + 1 :]
        case _:
            content = content[:at] + b"x" + content[at:]
    file.write_bytes(content)
    relist(folder)
    return f"{file.relative_to(folder)} at {at}"


def tampered(random: Random, bundle: Path, folder: Path) -> tuple[Path, str]:
    """One edit of any kind; where the bundle is, and what was done."""
    match random.randrange(4):
        case 0:
            return folder / "copy", edit_bytes(random, copied(bundle, folder))
        case 1:
            made = rewritten(bundle, folder, lambda leaves: meaning(random, leaves), key=STRANGER)
            return made, "a stranger's tree"
        case 2:
            return rewritten(bundle, folder, lambda leaves: meaning(random, leaves)), "the key's own figures"
        case _:
            return rewritten(bundle, folder, lambda leaves: shuffled(random, leaves)), "the key's own order"


def missed(bundle: Path, folder: Path, seeds: range) -> list[str]:
    """The edits that nobody noticed."""
    found = []
    for seed in seeds:
        place, done = tampered(Random(seed), bundle, folder / str(seed))
        if looked_at(place).clean:
            found.append(f"seed {seed}: {done}")
        shutil.rmtree(folder / str(seed))
    return found


async def test_a_few_random_edits_are_all_found(bundle: Path, tmp_path: Path) -> None:
    assert missed(bundle, tmp_path, range(12)) == []


async def test_a_few_random_edits_of_redemptions_are_all_found(redemptions: Path, tmp_path: Path) -> None:
    assert missed(redemptions, tmp_path, range(3_000, 3_012)) == []


@pytest.mark.soak
async def test_a_thousand_random_edits_are_all_found(bundle: Path, tmp_path: Path) -> None:
    assert missed(bundle, tmp_path, range(1_000, 1_000 + SOAK_EDITS)) == []


@pytest.mark.soak
async def test_a_thousand_random_edits_of_redemptions_are_all_found(redemptions: Path, tmp_path: Path) -> None:
    assert missed(redemptions, tmp_path, range(5_000, 5_000 + SOAK_EDITS)) == []
