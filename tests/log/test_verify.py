"""An auditor's verification: it finds nothing in an honest bundle, and names what anybody changed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.__main__ import main
from ledger.checkpoint import Checkpoint
from ledger.notes import COSIGNATURE, generate_signer
from ledger.verify.findings import CODES, LEFT
from ledger.verify.report import Report, as_json, as_text
from ledger.verify.run import verify
from tests.log.bundles import (
    BundleWriter,
    entries_of,
    random_bundles,
    relist,
    rewrite,
    signer_of,
    write_further_epoch,
    write_history,
)
from tests.log.histories import ORIGIN, History, canonical
from tests.log.test_forged import edit, told

ROOT = Path(__file__).parents[2]


def codes(report: Report) -> set[str]:
    return set(report.findings.counts)


def looked_at(folder: Path, **options: Any) -> Report:
    return verify(folder, previous=folder.parent / "no such checkpoint", **options)


@given(random_bundles(), st.sampled_from([1, 1, 1, 2]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_an_honest_bundle_is_clean(
    tmp_path_factory: pytest.TempPathFactory, write: Callable[[Path], tuple[History, BundleWriter]], processes: int
) -> None:
    folder = tmp_path_factory.mktemp("random") / "bundle"
    history, _ = write(folder)
    report = verify(folder, processes=processes)
    assert report.findings.shown == []
    assert report.checked["entries"] == history.size
    assert report.checked["participants"] == sum(1 for person in history.people if person.account.counter)
    shutil.rmtree(folder.parent)


def test_everything_happens_in_the_bundles_that_are_tampered_with(honest: Path, old: Path) -> None:
    for folder, kinds in (
        (honest, ("credit", "reversal", "maturity", "rule", "manifest", "key", "epoch", "seal")),
        (old, ("lapse",)),
    ):
        report = looked_at(folder)
        assert report.clean, report.findings.shown
        assert all(report.checked[kind] for kind in kinds), report.checked


def test_two_processes_say_what_one_says(honest: Path, tmp_path: Path) -> None:
    rewrite(honest, tmp_path / "bundle", edit("credit", 3, told(day="2020-01-01")))
    assert as_json(looked_at(tmp_path / "bundle", processes=2)) == as_json(looked_at(tmp_path / "bundle"))


# What somebody does to the files.


def test_any_changed_byte_is_found(honest: Path, tmp_path: Path) -> None:
    random, folder = Random(3), tmp_path / "bundle"
    shutil.copytree(honest, folder)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        before = path.read_bytes()
        content = bytearray(before)
        place = random.randrange(len(content))
        content[place] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        if path.name != "bundle.json":
            report = looked_at(folder)
            assert "file-differs" in codes(report), path
        path.write_bytes(before)
    assert looked_at(folder).clean


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("log/checkpoint", "checkpoint-signature"),
        ("log/tile/0/000", "leaf-hash"),
        ("log/tile/1/000.p/3", "tile-differs"),
        ("log/tile/entries/001", "leaf-hash"),
        ("checkpoints.jsonl", "checkpoint-signature"),
    ],
)
def test_a_changed_byte_that_was_listed_anew_is_named(path: str, code: str, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    content = bytearray((folder / path).read_bytes())
    content[60] ^= 1
    (folder / path).write_bytes(content)
    relist(folder)
    report = looked_at(folder)
    assert code in codes(report), report.findings.shown
    if path == "log/tile/entries/001":
        assert [one.index for one in report.findings.shown if one.code == "leaf-hash"] == [256]
        assert "root" in codes(report)


def test_a_bundle_of_entries_that_cannot_be_read(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    content = (folder / "log/tile/entries/001").read_bytes()
    (folder / "log/tile/entries/001").write_bytes(content[:-1])
    (folder / "log/tile/0/002").write_bytes(b"x" * 31)
    relist(folder)
    assert {"entries-form", "tile-differs"} <= codes(looked_at(folder))


def test_a_missing_file_and_a_strange_one(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    rule = next((folder / "rules").iterdir())
    for path in (rule, folder / "log/tile/entries/000", folder / "log/tile/1/000.p/3", folder / "keys.json"):
        content = path.read_bytes()
        path.unlink()
        assert "file-missing" in codes(looked_at(folder)), path
        path.write_bytes(content)
    (folder / "notes.txt").write_text("mine")
    report = looked_at(folder)
    assert (report.clean, [left.code for left in report.left]) == (True, ["files-not-read"])


def test_a_document_under_another_name(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    next((folder / "rules").iterdir()).write_bytes(b"{}")
    relist(folder)
    assert codes(looked_at(folder)) == {"rule-document"}


@pytest.mark.parametrize(
    ("path", "content", "code"),
    [
        ("log.vkey", "nonsense", "log-key"),
        ("log.vkey", str(signer_of(seed=1).verifier), "log-key"),
        ("keys.json", "[]", "file-form"),
        ("checkpoints.jsonl", '{"epoch":1}\n', "file-form"),
        ("manifests.jsonl", "x\n", "file-form"),
        ("manifests.jsonl", "", "manifest-text"),
        ("manifests.jsonl", '{"index":"0","jwk":null,"jws":null,"received":null}\n', "manifest-text"),
        ("totals.json", "{}", "file-form"),
        ("totals.json", '{"folded_to":"300","totals":[]}', "published-totals"),
        ("witness.policy", "nonsense\n", "file-form"),
        ("log/checkpoint", "nonsense", "checkpoint-signature"),
    ],
)  # fmt: skip
def test_papers_that_are_not_of_their_form(path: str, content: str, code: str, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    (folder / path).write_text(content)
    relist(folder)
    assert code in codes(looked_at(folder)), looked_at(folder).findings.shown


def test_a_source_key_that_no_leaf_announces(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    keys = json.loads((folder / "keys.json").read_bytes())
    keys["sources"][0]["jwk"]["x"] = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    (folder / "keys.json").write_bytes(canonical(keys))
    relist(folder)
    assert codes(looked_at(folder)) == {"source-key"}


@pytest.mark.parametrize("name", ["programme", "origin", "size", "root", "epoch"])
def test_a_list_that_says_something_else_than_the_log(name: str, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    relist(folder, {name: {"size": "5", "epoch": "2"}.get(name, "other")})
    assert codes(looked_at(folder)) & {"bundle-field", "checkpoint-origin"}


# Two histories.


def test_two_signed_histories_contradict_each_other(honest: Path, tmp_path: Path) -> None:
    """The forged log comes with the checkpoints that were signed for the true one."""
    folder = tmp_path / "bundle"
    rewrite(honest, folder, lambda entries: entries[:500] + entries[501:])
    (folder / "checkpoints.jsonl").write_bytes((honest / "checkpoints.jsonl").read_bytes())
    relist(folder)
    assert "history-rewritten" in codes(looked_at(folder))


def test_one_size_was_signed_twice(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    rows = (folder / "checkpoints.jsonl").read_bytes().splitlines(keepends=True)
    text = str(Checkpoint(ORIGIN, int(json.loads(rows[2])["size"]), bytes(32)))
    second = {"epoch": "1", "size": json.loads(rows[2])["size"], "note": f"{text}\n{signer_of().sign(text)}"}
    (folder / "checkpoints.jsonl").write_bytes(b"".join([*rows[:3], canonical(second) + b"\n", *rows[3:]]))
    relist(folder)
    assert "history-rewritten" in codes(looked_at(folder))


def test_the_auditor_remembers_the_last_checkpoint(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    write_history(first, Random(1), 60, people=2)
    write_history(second, Random(1), 90, people=2)
    write_history(third, Random(2), 90, people=2)
    memory = tmp_path / "memory"
    assert verify(first, previous=memory).remembered == str(memory)
    assert memory.read_text() == (first / "log/checkpoint").read_text()
    assert verify(second, previous=memory).clean
    kept = memory.read_text()
    for other in (third, first):  # another history, and one that is shorter than what was seen
        assert codes(verify(other, previous=memory)) == {"history-rewritten"}
        assert memory.read_text() == kept
    assert verify(second).remembered == str(tmp_path / "second.checkpoint")
    memory.write_text(kept.replace(ORIGIN, "log.example.org/lag"))
    assert codes(verify(second, previous=memory)) == {"checkpoint-signature"}


# Further epochs, witnesses, what stays open.


@pytest.mark.parametrize("kept", [0, 40, 10_000])
def test_a_further_epoch_goes_on_from_what_it_kept(kept: int, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_further_epoch(folder, Random(4), before=60, kept=kept, after=50)
    report = looked_at(folder)
    assert report.clean, report.findings.shown
    lost = len(entries_of(folder / "epochs/1")) - kept
    assert [(left.code, left.count) for left in report.left] == ([("entries-lost", lost)] if lost > 0 else [])


def test_an_epoch_that_kept_other_entries(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_further_epoch(folder, Random(4), before=60, kept=40, after=50)
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other/epochs/1/log/checkpoint").write_text((folder / "log/checkpoint").read_text())
    relist(tmp_path / "other")
    assert {"checkpoint-origin", "checkpoint-signature", "epoch"} & codes(looked_at(tmp_path / "other"))
    signer = signer_of(f"{ORIGIN}/epoch-2", 10)
    rewrite(folder, tmp_path / "forged", lambda entries: [entries[0], entries[2], entries[1], *entries[3:]], signer)
    relist(tmp_path / "forged", {"epoch": "2"})
    rows = json.loads((tmp_path / "forged/checkpoints.jsonl").read_bytes()) | {"epoch": "2"}
    (tmp_path / "forged/checkpoints.jsonl").write_bytes(canonical(rows) + b"\n")
    relist(tmp_path / "forged")
    assert "epoch-kept" in codes(looked_at(tmp_path / "forged"))


def test_witnesses_are_held_against_the_policy(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    witness = generate_signer("witness.example.org", COSIGNATURE, bytes([5] * 32))
    policy = f"log {signer_of().verifier}\nwitness one {witness.verifier}\nquorum one\n"
    (folder / "witness.policy").write_text(policy)
    relist(folder)
    assert codes(looked_at(folder)) == {"witness-quorum"}
    path = folder / "log/checkpoint"
    note = path.read_text()
    path.write_text(note + witness.cosign(note.rpartition("\n\n")[0] + "\n", 1_790_000_000))
    relist(folder)
    report = looked_at(folder)
    assert (report.clean, report.checked["witnesses"]) == (True, 1)
    own = tmp_path / "own.policy"
    own.write_text(f"log {signer_of(seed=1).verifier}\nquorum none\n")
    assert codes(looked_at(folder, policy=own)) == {"witness-quorum"}


def test_a_claim_that_an_earlier_credit_may_have_waited_with_is_left_to_the_replay(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    writer = BundleWriter(folder)
    history = History(Random(1), writer.log.add)
    history.begin(writer.log.signer.verifier.public)
    phone, operator = history.join(), history.join()
    waiting = history.credit(phone, 5_000, pending=True, claims=(history.tag(),), grade="B")
    history.credit(operator, 5_000, claims=waiting.claims[1:])
    writer.close(history)
    report = looked_at(folder)
    assert report.clean, report.findings.shown
    assert {left.code: left.count for left in report.left} == {"waiting-claim": 1, "not-approved": 3}


def test_totals_that_are_ahead_of_the_checkpoint_are_left_open(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    totals = json.loads((folder / "totals.json").read_bytes()) | {"folded_to": "1000000"}
    (folder / "totals.json").write_bytes(canonical(totals))
    relist(folder)
    report = looked_at(folder)
    assert (report.clean, [left.code for left in report.left]) == (True, ["totals-ahead"])


# The command.


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ledger", "verify", *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", env=environment, check=False)


def test_the_command_says_by_its_status_whether_anything_was_found(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    done = run(folder, "--json", "--processes", "2")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert list(told) == [
        "v", "bundle", "clean", "log", "checked", "findings", "counts", "left", "remembered", "redeemed",
    ]  # fmt: skip
    assert (told["v"], told["clean"], told["findings"]) == ("1", True, [])
    assert told["log"]["origin"] == ORIGIN
    (folder / "totals.json").write_text("{}")
    done = run(folder)
    assert done.returncode == 1
    assert "file-differs" in done.stdout
    assert "发现" in done.stdout
    assert run(tmp_path).returncode == 2
    assert run(folder, "--policy", tmp_path / "none").returncode == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"v":"2"}', b"[" * 10_000])
def test_what_is_no_bundle_is_refused(content: bytes, honest: Path, tmp_path: Path) -> None:
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    (folder / "bundle.json").write_bytes(content)
    assert main(["verify", str(folder)]) == 2


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a//b", "bundle.json", "a/../b", ".hidden"])
def test_a_list_names_no_file_outside(path: str, honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(honest, folder)
    told = json.loads((folder / "bundle.json").read_bytes())
    told["files"][path] = {"bytes": "0", "sha256": "ab" * 32}
    (folder / "bundle.json").write_bytes(canonical(told))
    assert main(["verify", str(folder)]) == 2


def test_the_text_is_in_both_languages_and_limits_itself(honest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    rewrite(honest, folder, lambda entries: [entry.replace(b'"grade":"A"', b'"grade":"D"') for entry in entries])
    report = looked_at(folder)
    text = "\n".join(as_text(report))
    assert all(part in text for part in CODES["leaf-form"])
    assert len([line for line in text.split("\n") if "cannot be 'D'" in line]) == 100
    assert report.findings.counts["leaf-form"] > 100
    assert "more / 另有" in text


def test_every_code_is_found_by_some_test_and_described() -> None:
    names = ("test_verify.py", "test_forged.py", "test_forged_redemptions.py", "test_papers.py")
    here = "".join((ROOT / "tests/log" / name).read_text("utf-8") for name in names)
    described = (ROOT / "docs/audit.md").read_text("utf-8")
    for code, (english, chinese) in (*CODES.items(), *LEFT.items()):
        assert f'"{code}"' in here, f"{code}: no test finds it"
        row = f"| `{code}` | {english} · {chinese} |\n"
        assert row in described, f"docs/audit.md lacks the row\n{row}"


def test_the_words_are_in_both_languages() -> None:
    texts: Sequence[tuple[str, str]] = (*CODES.values(), *LEFT.values())
    for english, chinese in texts:
        assert english.isascii() or "…" in english
        assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)
