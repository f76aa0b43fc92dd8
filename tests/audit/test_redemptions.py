"""A bundle with redemptions: whole, replayed without a finding, and whatever is done to one of them is named."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ledger.hold_leaves import terms_commitment
from service.audit.page import as_html
from service.audit.replay import Replay, replay
from service.audit.report import as_text, document
from tests.audit.redeemed import OF_REDEMPTIONS, make_redeemed
from tests.conftest import Database, clone
from tests.log.bundles import relist, rewrite
from tests.log.histories import canonical, jwk_of

pytestmark = pytest.mark.anyio

_COUNTED = ("hold", "capture", "release", "refund", "terms", "decisions", "calls")
Leaf = dict[str, Any]
Leaves = list[Leaf]


@pytest.fixture(scope="module")
async def bundle(template: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = clone(template, f"redeemed_{os.urandom(6).hex()}")
    return await make_redeemed(database, tmp_path_factory.mktemp("redeemed") / "history")


def looked_at(folder: Path, *, processes: int = 1) -> Replay:
    folder.with_name(f"{folder.name}.checkpoint").unlink(missing_ok=True)
    return replay(folder, processes=processes)


def codes(found: Replay) -> set[str]:
    return set(found.verified.findings.counts) | set(found.findings.counts)


async def test_a_bundle_with_redemptions_is_clean(bundle: Path) -> None:
    found = looked_at(bundle)
    assert found.clean, (found.verified.findings.shown, found.findings.shown)
    assert {name: found.checked[name] for name in _COUNTED} == {
        "hold": 4, "capture": 4, "release": 2, "refund": 2, "terms": 4, "decisions": 1, "calls": 11,
    }  # fmt: skip
    assert found.open.counts == {"day-not-closed": 2}
    assert {one["kind"]: one["points"] for one in document(found)["redemptions"]} == {
        "hold": "174", "capture": "124", "release": "50", "refund": "60",
    }  # fmt: skip
    assert any("yuan" in line for line in as_text(found))


async def test_two_processes_say_what_one_says(bundle: Path) -> None:
    assert document(looked_at(bundle, processes=2)) == document(looked_at(bundle))


def edited(change: Callable[[Leaf], object], kind: str, place: int = 0) -> Callable[[Leaves], Leaves]:
    def edit(leaves: Leaves) -> Leaves:
        change([leaf for leaf in leaves if leaf["kind"] == kind][place])
        return leaves

    return edit


def taken_down(leaves: Leaves) -> Leaves:
    """Products left the board as soon as they were listed."""
    gone = []
    for leaf in leaves:
        gone.append(leaf)
        if leaf.get("document_kind") == "product":
            gone.append(leaf | {"action": "taken_down", "reason": "x", "approvers": []})
    return gone


def told(**values: object) -> Callable[[Leaf], object]:
    return lambda leaf: leaf.update(values)


AB = "ab" * 32

ENTRIES: dict[str, tuple[Callable[[Leaves], Leaves], str]] = {
    "other terms": (edited(told(terms=AB), "hold"), "terms"),
    "another end": (edited(told(expires_at="2031-01-01T00:00:00Z"), "hold"), "offer-terms"),
    "another value": (edited(told(value="600"), "hold"), "offer-terms"),
    "an end that was not agreed to": (edited(told(expires_at="2031-01-01T00:00:00Z"), "hold", 1), "terms-of"),
    "another signature": (edited(told(signature=AB), "capture"), "signed-call"),
    "another capture's signature": (edited(told(hold="019de0e8-34b9-7000-8000-000000000000"), "capture"), "hold"),
    "another reason than was signed": (edited(told(reason="posted_in_error"), "refund"), "signed-call"),
    "another decision": (edited(told(decision=AB), "refund", 1), "decision"),
    "a decision that nobody made": (edited(told(decision=None), "refund", 1), "evidence-extra"),
    "a decision about another capture": (
        edited(told(reverses="019de0e8-34b9-7000-8000-000000000000"), "refund", 1),
        "decision-of",
    ),
    "other units than were signed": (edited(told(units="1"), "capture"), "signed-call"),
    "another kind of participant": (edited(told(participant_kind="firm"), "hold"), "participant"),
    "another statement": (edited(told(digest=AB), "statement"), "file-missing"),
    "another sequence": (edited(told(sequence="2"), "statement"), "statement-entries"),
    "another closing": (edited(told(signature=AB), "statement", 1), "signed-call"),
    "a closing on another file": (edited(told(file=AB), "statement", 1), "signed-call"),
    "a closing by an operator that the bank did not sign": (edited(told(signature=None), "statement", 1), "call-extra"),
    "a void in place of a rest": (edited(told(reason="voided"), "release"), "signed-call"),
    "a rest in place of a void": (edited(told(reason="rest"), "release", 1), "signed-call"),
    "units that the bank did not ask for": (edited(told(units="3"), "hold"), "signed-call"),
    "another listing": (edited(told(version="7"), "listing", -1), "listing-document"),
    "a product that was taken down": (taken_down, "offer-product"),
}


@pytest.mark.parametrize("name", ENTRIES)
async def test_a_changed_entry_is_found(name: str, bundle: Path, tmp_path: Path) -> None:
    change, code = ENTRIES[name]
    rewrite(
        bundle, tmp_path / "bundle", lambda entries: map(canonical, change([json.loads(entry) for entry in entries]))
    )
    assert code in codes(looked_at(tmp_path / "bundle")), codes(looked_at(tmp_path / "bundle"))


def cheaper(leaves: Leaves) -> Leaves:
    """The first hold takes one point less for each unit, and so does everything that came of it."""
    hold = next(leaf for leaf in leaves if leaf["kind"] == "hold")
    for leaf in leaves:
        if leaf["kind"] in ("hold", "capture", "release", "refund") and hold["participant"] == leaf["participant"]:
            for line in leaf["lines"]:
                if line["asset"] == "points" and hold["transfer"] in (leaf["transfer"], leaf.get("hold")):
                    line["amount"] = str(int(line["amount"]) - int(leaf["units"]))
    return leaves


async def test_another_price_is_found(bundle: Path, tmp_path: Path) -> None:
    rewrite(bundle, tmp_path / "bundle", lambda entries: map(canonical, cheaper([json.loads(one) for one in entries])))
    assert {"offer-price", "terms-of", "statement-entries"} <= codes(looked_at(tmp_path / "bundle"))


def credits_gone(leaves: Leaves) -> Leaves:
    """All but one credit of everybody are of two years ago: nobody saved enough for the second offer."""
    for leaf in leaves:
        if leaf["kind"] == "credit":
            leaf["day"] = "2024-05-01"
    return leaves


async def test_who_may_not_redeem_is_found(bundle: Path, tmp_path: Path) -> None:
    rewrite(
        bundle, tmp_path / "bundle", lambda entries: map(canonical, credits_gone([json.loads(one) for one in entries]))
    )
    assert "eligible" in codes(looked_at(tmp_path / "bundle"))


def copied(bundle: Path, folder: Path) -> Path:
    shutil.copytree(bundle, folder / "bundle")
    return folder / "bundle"


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def put_lines(path: Path, values: list[Any]) -> None:
    path.write_bytes(b"".join(canonical(value) + b"\n" for value in values))


def changed_call(**values: object) -> Callable[[list[Any]], object]:
    return lambda calls: calls[1].update(values)


CALLS: dict[str, tuple[Callable[[list[Any]], object], str]] = {
    "left out": (lambda calls: calls.pop(1), "signed-call"),
    "another body": (changed_call(body="e30="), "signed-call"),
    "another path": (changed_call(path="/v1/bank/redemptions/x/capture"), "signed-call"),
    "another signature": (changed_call(signature="00" * 64), "signed-call"),
    "another key": (changed_call(jwk=jwk_of(bytes(32))), "signed-call"),
    "another's": (lambda calls: calls[1].update(calls[0] | {"index": calls[1]["index"]}), "signed-call"),
    "one too many": (lambda calls: calls.append(calls[0] | {"index": "0"}), "call-extra"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
async def test_a_changed_call_is_found(name: str, bundle: Path, tmp_path: Path) -> None:
    folder, (change, code) = copied(bundle, tmp_path), CALLS[name]
    calls = lines_of(folder / "calls/000.jsonl")
    change(calls)
    put_lines(folder / "calls/000.jsonl", calls)
    relist(folder)
    assert codes(looked_at(folder)) == {code}


async def test_an_erased_decision_is_told_and_another_found(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    evidence = lines_of(folder / "evidence/000.jsonl")
    (place,) = (number for number, line in enumerate(evidence) if "decision" in line)
    put_lines(folder / "evidence/000.jsonl", [*evidence[:place], *evidence[place + 1 :]])
    relist(folder)
    found = looked_at(folder)
    assert (found.clean, found.open.counts["decision-erased"]) == (True, 1)
    evidence[place]["decision"] = evidence[place]["decision"].replace("benefit_missing", "charged_twice")
    put_lines(folder / "evidence/000.jsonl", evidence)
    relist(folder)
    assert codes(looked_at(folder)) == {"decision"}


async def test_changed_terms_are_found_and_erased_ones_are_told(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    evidence = lines_of(folder / "evidence/000.jsonl")
    place = next(number for number, line in enumerate(evidence) if "terms" in line)
    put_lines(folder / "evidence/000.jsonl", [*evidence[:place], *evidence[place + 1 :]])
    relist(folder)
    found = looked_at(folder)
    assert (found.clean, found.open.counts["terms-erased"]) == (True, 1)
    evidence[place]["terms"] = evidence[place]["terms"].replace('"units":"5"', '"units":"4"')
    put_lines(folder / "evidence/000.jsonl", evidence)
    relist(folder)
    assert codes(looked_at(folder)) == {"terms"}


def reterm(folder: Path, bundle: Path, place: int, **changes: Any) -> Replay:
    """Replay the bundle with other terms of a hold, to which the log commits again."""
    evidence = lines_of(bundle / "evidence/000.jsonl")
    line = [each for each in evidence if "terms" in each][place]
    line["terms"] = canonical(json.loads(line["terms"]) | changes).decode()
    committed = terms_commitment(bytes.fromhex(line["salt"]), line["terms"].encode())

    def change(entries: list[bytes]) -> Iterable[bytes]:
        leaves = [json.loads(entry) for entry in entries]
        leaves[int(line["index"])]["terms"] = committed
        return map(canonical, leaves)

    rewrite(bundle, folder, change)
    put_lines(folder / "evidence/000.jsonl", evidence)
    relist(folder)
    return looked_at(folder)


GROUNDS = {
    "available_points": "200",
    "covered": False,
    "redeemed_before": False,
    "redeemed_units_this_year": "0",
    "verified_g": "400",
}
TERMS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "another bank's": ({"bank": "https://other.example"}, {"terms-of"}),
    "another's": ({"redemption": "019de0e8-34b9-7000-8000-000000000000"}, {"terms-of"}),
    "other grams": ({"co2e_mg": "1"}, {"terms-of"}),
    "another pool": ({"pool": "x"}, {"terms-of"}),
    "other units": ({"units": "7"}, {"terms-of"}),
    "other points": ({"points": "7"}, {"terms-of"}),
    "another value": ({"value_fen": "7"}, {"terms-of"}),
    "another person's register": ({"facts": GROUNDS | {"covered": True}}, {"eligible"}),
    "enough points": ({"facts": GROUNDS | {"available_points": "20"}}, set()),
    "too few points": ({"facts": GROUNDS | {"available_points": "19"}}, {"eligible"}),
    "no facts": ({"facts": {}}, {"entry", "call-extra", "statement-entries"}),
}


@pytest.mark.parametrize("name", TERMS)
async def test_terms_are_held_against_their_hold(name: str, bundle: Path, tmp_path: Path) -> None:
    changes, wanted = TERMS[name]
    found = reterm(tmp_path / "bundle", bundle, 3, **changes)
    assert codes(found) == wanted, found.findings.shown


async def test_what_the_register_said_is_open_once_the_terms_are_erased(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    evidence = lines_of(folder / "evidence/000.jsonl")
    assert sum("terms" in line for line in evidence) == 4
    put_lines(folder / "evidence/000.jsonl", [line for line in evidence if "terms" not in line])
    relist(folder)
    found = looked_at(folder)
    assert (found.clean, found.open.counts["terms-erased"], found.open.counts["eligibility"]) == (True, 4, 2)


async def test_a_changed_document_is_found(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    for path in sorted((folder / "documents").iterdir()):
        before = path.read_bytes()
        path.write_bytes(before.replace(b'"', b" ", 1))
        relist(folder)
        assert {"named-document", "document-form"} <= codes(looked_at(folder)), path
        path.unlink()
        relist(folder)
        assert "file-missing" in codes(looked_at(folder))
        path.write_bytes(before)


async def test_a_banks_key_in_the_list_of_keys(bundle: Path, tmp_path: Path) -> None:
    folder = copied(bundle, tmp_path)
    keys = json.loads((folder / "keys.json").read_bytes())
    keys["banks"] = []
    (folder / "keys.json").write_bytes(canonical(keys))
    relist(folder)
    assert {"bank-key", "signed-call"} == codes(looked_at(folder))


def test_every_code_of_redemptions_is_found_by_some_test() -> None:
    here = Path(__file__).read_text("utf-8") + (Path(__file__).parent / "test_redemption_limits.py").read_text("utf-8")
    for code in OF_REDEMPTIONS:
        assert f'"{code}"' in here, f"{code}: no test finds it"


async def test_the_page_tells_of_redemptions_by_bank_and_pool(bundle: Path) -> None:
    page = as_html(looked_at(bundle))
    found = page.partition("Redemptions</span></h2>")[2].partition("<h2>")[0]
    assert found.count("<svg") == 3
    for told_of in ("174 / 17.00", "124 / 12.00", "50 / 5.00", "60 / 5.60"):
        assert told_of in found, found[-600:]
    assert "https://" in found
    assert "By pool" in found
