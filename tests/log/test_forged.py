"""A log written anew around a change, by somebody who holds its key: tiles, checkpoint and list all fit, and what gives
it away is what the entries say together."""

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger.verify.run import verify
from tests.log.bundles import BundleWriter, rewrite
from tests.log.histories import History, canonical

Leaf = dict[str, Any]
Entries = list[bytes]
Forge = Callable[[Entries], Iterable[bytes]]
NOWHERE = "no such checkpoint"


def edit(kind: str, place: int, change: Callable[[Leaf], object], where: Callable[[Leaf], object] = bool) -> Forge:
    """The entry of a kind, the `place`-th of which something is so, with other fields."""

    def forge(entries: Entries) -> Iterable[bytes]:
        marked = f'"kind":"{kind}"'.encode()
        places = [n for n, entry in enumerate(entries) if marked in entry and where(json.loads(entry))]
        fields = json.loads(entries[places[place]])
        change(fields)
        entries[places[place]] = canonical(fields)
        return entries

    return forge


def told(**values: object) -> Callable[[Leaf], object]:
    """Other values of fields."""
    return lambda leaf: leaf.update(values)


def itself(name: str) -> Callable[[Leaf], object]:
    """The field names the entry's own transfer."""
    return lambda leaf: leaf.update({name: leaf["transfer"]})


def line(number: int, **values: str | None) -> Callable[[Leaf], object]:
    """Other values in a line."""
    return lambda leaf: leaf["lines"][number].update(values)


def plain(leaf: Leaf) -> bool:
    return [each["to"] for each in leaf["lines"]] == ["available", "available"]


def of_points(leaf: Leaf) -> bool:
    return len(leaf["lines"]) > 1 and leaf["lines"][1].get("expires") is not None


def repeated(kind: str) -> Forge:
    """The first entry of a kind once more, behind itself, with an id of its own; the counters behind it go on."""

    def forge(entries: Entries) -> Iterable[bytes]:
        place = first_of(kind, entries)
        again = json.loads(entries[place])
        again["transfer"] = again["transfer"][:-12] + "0123456789ab"
        behind = [json.loads(entry) for entry in entries[place + 1 :]]
        for leaf in (again, *behind):
            if leaf.get("participant") == again["participant"]:
                leaf["counter"] = str(int(leaf["counter"]) + 1)
        return [*entries[: place + 1], canonical(again), *map(canonical, behind)]

    return forge


def first_of(kind: str, entries: Entries) -> int:
    return next(number for number, entry in enumerate(entries) if f'"kind":"{kind}"'.encode() in entry)


def same_again(entries: Entries) -> Iterable[bytes]:
    """A credit's very bytes twice."""
    place = first_of("credit", entries)
    return [*entries[: place + 1], *entries[place:]]


def own_claim_again(entries: Entries) -> Iterable[bytes]:
    """The last credit claims what the first one claims that is available at once."""
    credits = [number for number, entry in enumerate(entries) if b'"kind":"credit"' in entry]
    standing = next(number for number in credits if plain(json.loads(entries[number])))
    last = json.loads(entries[credits[-1]])
    last["claims"] = json.loads(entries[standing])["claims"]
    entries[credits[-1]] = canonical(last)
    return entries


def comes_last(kind: str) -> Forge:
    """The first leaf of a kind comes last of all."""

    def forge(entries: Entries) -> Iterable[bytes]:
        place = first_of(kind, entries)
        return [*entries[:place], *entries[place + 1 :], entries[place]]

    return forge


def log_key_revoked(entries: Entries) -> Iterable[bytes]:
    place = first_of("key", entries)
    return [*entries, canonical(json.loads(entries[place]) | {"action": "revoked"})]


def of_rule(leaf: Leaf) -> bool:
    return leaf["points_rule"] is not None


def small_order(leaf: Leaf) -> None:
    leaf["approvals"][0].update(public_key="01" + "00" * 31, signature="01" + "00" * 63)


AB = "ab" * 32

FORGED: dict[str, tuple[Forge, str]] = {
    "a number with a sign": (edit("credit", 0, line(0, amount="+1")), "leaf-form"),
    "a field more": (edit("credit", 0, told(note="x")), "leaf-form"),
    "an entry dropped": (lambda entries: [*entries[:300], *entries[301:]], "counter"),
    "an entry moved": (lambda entries: [*entries[:300], *entries[340:], *entries[300:340]], "counter"),
    "an entry repeated": (same_again, "transfer-repeated"),
    "a counter": (edit("credit", 5, told(counter="77")), "counter"),
    "another kind of participant": (edit("credit", 90, told(participant_kind="government_body")), "participant"),
    "another region": (edit("credit", 90, told(region="110000")), "participant"),
    "an activity of tomorrow": (edit("credit", 5, told(day="2027-01-01")), "day"),
    "a reversal on another day": (edit("reversal", 0, told(day="2026-01-01")), "day"),
    "a moment long before": (edit("credit", -5, told(at="2026-05-01T04:00:00Z")), "time-backwards"),
    "grams from nowhere": (edit("credit", 5, line(0, **{"from": "retired"})), "line-accounts"),
    "points to be held": (edit("credit", 5, line(1, to="held", expires=None), plain), "line-accounts"),
    "points without a bucket": (edit("credit", 5, line(1, expires=None), plain), "line-bucket"),
    "a bucket in the middle of a month": (edit("credit", 5, line(1, expires="2028-06-15"), plain), "line-bucket"),
    "a bucket that has run out": (edit("credit", 5, line(1, expires="2026-01-31"), plain), "line-bucket"),
    "another vintage": (edit("credit", 5, line(0, vintage="2025"), plain), "credit-lines"),
    "points alone": (edit("credit", 5, lambda leaf: leaf["lines"].pop(0), plain), "credit-lines"),
    "points under no rule": (edit("credit", 5, told(points_rule=None), plain), "credit-rule"),
    "no claim": (edit("credit", 5, told(claims=[])), "credit-claim"),
    "a claim twice": (own_claim_again, "claim-repeated"),
    "a credit that replaces a standing one": (edit("credit", -1, itself("replaces")), "replaces"),
    "a reversal repeated": (repeated("reversal"), "reversal"),
    "a reversal of nothing": (edit("reversal", 0, itself("reverses")), "reversal"),
    "a reversal for no reason": (edit("reversal", 0, told(reason="because")), "reversal"),
    "less taken back": (edit("reversal", 0, line(0, amount="1")), "reversal-lines"),
    "more taken back": (edit("reversal", 0, line(0, amount="9223372036854775807")), "negative-balance"),
    "more points than are there": (edit("reversal", 0, line(1, amount="9000000"), of_points), "bucket"),
    "a maturity repeated": (repeated("maturity"), "maturity"),
    "a maturity of nothing": (edit("maturity", 0, itself("matures")), "maturity"),
    "more than was pending": (edit("maturity", 0, line(0, amount="9")), "maturity-lines"),
    "a maturity under another rule": (
        edit("maturity", 0, told(points_rule=AB), of_rule),
        "maturity-rule",
    ),
    "a forged approval": (edit("rule", 0, told(version="2")), "rule-approval"),
    "an approval in one role": (edit("rule", 0, lambda leaf: leaf["approvals"].pop()), "rule-approval"),
    "an approval of long ago": (edit("rule", 0, told(at="2026-12-01T00:00:00Z")), "rule-approval"),
    "a key of small order": (edit("rule", 0, small_order), "rule-approval"),
    "approved too late": (comes_last("rule"), "rule-late"),
    "another document": (edit("credit", 5, told(methodology=AB)), "file-missing"),
    "another key under its name": (edit("key", 0, told(public_key=AB)), "key"),
    "a key of nobody": (edit("key", 0, told(holder="friend")), "key"),
    "a key revoked that nobody knows": (edit("key", 1, told(action="revoked")), "key"),
    "the log's key not announced": (edit("key", 0, told(name="other.example/log")), "key-unannounced"),
    "the log's key revoked": (log_key_revoked, "key-unannounced"),
    "another epoch": (edit("epoch", 0, told(origin="other.example/log")), "epoch"),
    "no epoch": (lambda entries: entries[1:], "epoch"),
    "another programme": (edit("epoch", 0, told(programme="other")), "bundle-field"),
    "a manifest dropped": (edit("manifest", 0, told(sequence="2")), "manifest"),
    "a manifest of a day to come": (edit("manifest", 0, told(day="2027-01-01")), "manifest"),
    "a manifest's digest": (edit("manifest", 0, told(digest=AB)), "manifest-text"),
    "what had been received": (edit("manifest", 0, told(received=AB)), "manifest-text"),
    "a manifest's key": (edit("manifest", 0, told(key=AB)), "manifest-text"),
    "a seal of what is to come": (edit("seal", 0, told(size="900")), "seal"),
    "a seal of the same day": (edit("seal", 5, told(day="2026-05-01")), "seal"),
    "a seal before the day's end": (edit("seal", 5, told(day="2027-05-01")), "seal"),
    "a seal of fewer people": (edit("seal", 5, told(participants="1")), "seal-participants"),
    "a seal's root": (edit("seal", 5, told(root=AB)), "seal-root"),
    "a seal's totals": (edit("seal", 5, lambda leaf: leaf["totals"][0].update(amount="5")), "seal-totals"),
    "a sum left out of a seal": (edit("seal", 5, lambda leaf: leaf["totals"].pop()), "seal-totals"),
    "a gram more": (edit("credit", -1, line(0, amount="399999"), plain), "published-totals"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_log_is_found_although_its_own_signature_is_good(name: str, honest: Path, tmp_path: Path) -> None:
    change, code = FORGED[name]
    require_found(honest, tmp_path, change, code)


def require_found(honest: Path, tmp_path: Path, change: Forge, code: str) -> None:
    rewrite(honest, tmp_path / "bundle", change)
    report = verify(tmp_path / "bundle", previous=tmp_path / NOWHERE)
    found = set(report.findings.counts)
    assert code in found, report.findings.shown
    assert not found & {"leaf-hash", "tile-differs", "root", "file-differs", "checkpoint-signature"}
    assert not (tmp_path / NOWHERE).exists()


def half_lapsed(entries: Entries) -> Iterable[bytes]:
    """The lapses of the first half are left out."""
    return [entry for n, entry in enumerate(entries) if b'"kind":"lapse"' not in entry or n > len(entries) // 2]


OLD: dict[str, tuple[Forge, str]] = {
    "less lapsed": (edit("lapse", 0, line(0, amount="1")), "lapse-lines"),
    "lapsed too early": (edit("lapse", 0, line(0, expires="2099-12-31")), "lapse-lines"),
    "into the issuer's pocket": (edit("lapse", 0, line(0, to="issuance")), "line-accounts"),
    "not lapsed": (half_lapsed, "lapse-due"),
}


@pytest.mark.parametrize("name", OLD)
def test_points_run_out_on_their_day(name: str, old: Path, tmp_path: Path) -> None:
    change, code = OLD[name]
    require_found(old, tmp_path, change, code)


def begun(folder: Path) -> tuple[BundleWriter, History]:
    writer = BundleWriter(folder)
    history = History(Random(1), writer.log.add)
    history.begin(writer.log.signer.verifier.public)
    return writer, history


@pytest.mark.parametrize(("back_s", "codes"), [(60, set()), (61, {"time-backwards"})])
def test_a_clock_may_be_a_minute_off(back_s: int, codes: set[str], tmp_path: Path) -> None:
    writer, history = begun(tmp_path / "bundle")
    person, other = history.join(), history.join()
    history.credit(person, 4_000)
    history.credit(other, 4_000)
    history.now -= timedelta(seconds=back_s)
    history.credit(person, 4_000)
    history.now -= timedelta(hours=5)  # across people no order is promised
    history.credit(history.join(), 4_000)
    writer.close(history)
    assert set(verify(tmp_path / "bundle").findings.counts) == codes


@pytest.mark.parametrize(("at", "found"), [("15:49:59", True), ("15:50:00", False), ("16:00:00", False)])
def test_an_activity_is_of_today_but_for_the_minutes_of_two_clocks(at: str, found: bool, tmp_path: Path) -> None:
    writer, history = begun(tmp_path / "honest")
    history.now = history.now.replace(hour=16)  # it is tomorrow in Shanghai
    history.credit(history.join(), 4_000)
    writer.close(history)
    rewrite(tmp_path / "honest", tmp_path / "bundle", edit("credit", 0, told(at=f"2026-05-01T{at}Z")))
    assert ("day" in verify(tmp_path / "bundle").findings.counts) == found


@pytest.mark.parametrize(
    "change",
    [
        edit("credit", -1, line(1, to="available", expires="2031-01-31")),
        edit("credit", -1, lambda leaf: leaf["lines"].reverse()),
        edit("credit", -1, lambda leaf: (leaf["lines"].pop(1), line(1, amount="9")(leaf))),
    ],
)
def test_what_is_owed_is_repaid_first(change: Forge, tmp_path: Path) -> None:
    writer, history = begun(tmp_path / "honest")
    person = history.join()
    credit = history.credit(person, 4_000)
    history.now += timedelta(days=1_000)
    history.lapse(person)
    history.reverse(person, credit)
    history.credit(person, 9_000)
    writer.close(history)
    assert verify(tmp_path / "honest").clean
    require_found(tmp_path / "honest", tmp_path, change, "credit-lines")
