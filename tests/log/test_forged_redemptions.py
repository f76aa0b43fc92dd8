"""Redemptions written anew around a change, by somebody who holds the log's key: each is found, and named."""

import json
import shutil
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from ledger.verify.findings import Left
from ledger.verify.run import verify
from tests.log.bundles import BundleWriter, entries_of, relist, rewrite
from tests.log.histories import History, Person, canonical
from tests.log.redeeming import BANK, Redeeming, digest_of
from tests.log.test_forged import (
    AB,
    NOWHERE,
    Entries,
    Forge,
    Leaf,
    begun,
    edit,
    first_of,
    itself,
    line,
    repeated,
    require_found,
    told,
)


def because(reason: str) -> Forge:
    """Another reason for the first release."""
    return edit("release", 0, told(reason=reason))


def of_reason(reason: str) -> Callable[[Leaf], object]:
    return lambda leaf: leaf["reason"] == reason


def resumes(leaf: Leaf) -> bool:
    return bool(leaf["action"] == "resumed")


def closes(leaf: Leaf) -> bool:
    return bool(leaf["state"] == "closed")


def suspended_again(leaf: Leaf) -> None:
    leaf.update(action="suspended", reason="x")


def with_grams(leaf: Leaf) -> bool:
    return any(each["asset"] == "co2e_mg" for each in leaf["lines"])


def more_of_all(leaf: Leaf) -> None:
    leaf["units"] = str(int(leaf["units"]) + 1)


def last_of_all(mark: bytes) -> Forge:
    """The first entry with this in it comes at the very end."""

    def forge(entries: Entries) -> Iterable[bytes]:
        place = next(n for n, entry in enumerate(entries) if mark in entry)
        return [*entries[:place], *entries[place + 1 :], entries[place]]

    return forge


def revoked(entries: Entries) -> Iterable[bytes]:
    """The bank's key is revoked as soon as it was announced."""
    place = next(n for n, entry in enumerate(entries) if b'"holder":"bank"' in entry)
    ended = json.loads(entries[place]) | {"action": "revoked", "since": "2026-05-01T00:00:00Z"}
    return [*entries[: place + 1], canonical(ended), *entries[place + 1 :]]


def again(kind: str) -> Forge:
    """The first notice of a kind twice."""

    def forge(entries: Entries) -> Iterable[bytes]:
        place = first_of(kind, entries)
        return [*entries[: place + 1], *entries[place:]]

    return forge


def without(kind: str) -> Forge:
    """Without the first entry of a kind."""

    def forge(entries: Entries) -> Iterable[bytes]:
        place = first_of(kind, entries)
        return [*entries[:place], *entries[place + 1 :]]

    return forge


FORGED: dict[str, tuple[Forge, str]] = {
    "a hold of fewer points": (edit("hold", 0, line(0, amount="1")), "hold-share"),
    "a hold of a later bucket": (edit("hold", 0, line(0, expires="2031-01-31")), "hold-lines"),
    "a hold of more grams": (edit("hold", 0, line(-1, amount="9000000000"), with_grams), "hold-lines"),
    "a hold of younger grams": (edit("hold", 0, line(-1, vintage="2031"), with_grams), "hold-lines"),
    "points that go elsewhere": (edit("hold", 0, line(0, to="redeemed")), "line-accounts"),
    "a hold without its bucket": (edit("hold", 0, line(0, expires=None)), "line-bucket"),
    "a hold for more units": (edit("hold", 0, more_of_all), "hold-share"),
    "a hold for more money": (edit("hold", 0, told(value="151")), "hold-share"),
    "a hold that ends before it begins": (edit("hold", 0, told(expires_at="2026-05-01T00:00:00Z")), "leaf-form"),
    "a hold of what nobody listed": (edit("hold", 0, told(offer=AB)), "hold-offer"),
    "a hold of what is listed later": (last_of_all(b'"document_kind":"offer"'), "hold-offer"),
    "a hold at another bank": (edit("hold", 0, told(bank="https://other.example")), "hold-bank"),
    "a bank that comes later": (last_of_all(b'"holder":"bank"'), "hold-bank"),
    "a bank whose key had been revoked": (revoked, "hold-bank"),
    "a hold out of another pool": (edit("hold", 0, told(pool="another-pool")), "pool"),
    "a capture of more units": (edit("capture", 0, more_of_all), "hold-share"),
    "a capture of more money": (edit("capture", 0, told(value="1")), "hold-share"),
    "a capture of more points": (edit("capture", 0, line(0, amount="9000000")), "capture-lines"),
    "a capture of another bucket": (edit("capture", 0, line(0, expires="2031-01-31")), "capture-lines"),
    "a capture into a pocket": (edit("capture", 0, line(0, to="partner")), "line-accounts"),
    "a capture by another bank": (edit("capture", 0, told(bank="https://other.example")), "hold"),
    "a capture out of another pool": (edit("capture", 0, told(pool="another-pool")), "hold"),
    "a capture of nothing": (edit("capture", 0, itself("hold")), "hold"),
    "a capture that nobody signed": (edit("capture", 0, told(signature=None)), "leaf-form"),
    "a capture too late": (edit("capture", 0, told(at="2039-05-01T00:00:00Z")), "hold-time"),
    "a capture twice": (repeated("capture"), "hold-share"),
    "a release twice": (repeated("release"), "hold"),
    "a release of less": (edit("release", 0, line(0, amount="1")), "release-lines"),
    "a release of fewer units": (edit("release", 0, told(units="7777")), "hold-share"),
    "a release for no reason": (because("because"), "release"),
    "a release lapsed too early": (edit("release", 0, told(reason="lapsed"), of_reason("voided")), "hold-time"),
    "a cancellation by the bank": (edit("release", 0, told(reason="voided"), of_reason("cancelled")), "step-authority"),
    "a signature in another's name": (
        edit("release", 0, told(signature=AB), of_reason("cancelled")),
        "leaf-form",
    ),
    "a release that its bank did not sign": (
        edit("release", 0, told(signature=None), of_reason("voided")),
        "leaf-form",
    ),
    "a refund that its bank did not sign": (edit("refund", 0, told(authority="bank", signature=None)), "leaf-form"),
    "a cancellation that the bank signed": (
        edit("release", 0, told(authority="bank", signature=AB), of_reason("cancelled")),
        "step-authority",
    ),
    "a refund twice": (repeated("refund"), "refund"),
    "a refund of nothing": (edit("refund", 0, itself("reverses")), "refund"),
    "a refund for no reason": (edit("refund", 0, told(reason="because")), "refund"),
    "a refund of more": (edit("refund", 0, line(0, amount="9")), "refund-lines"),
    "a refund of more money": (edit("refund", 0, told(value="9")), "hold-share"),
    "a refund by another bank": (edit("refund", 0, told(bank="https://other.example")), "refund"),
    "a refund on nobody's authority": (edit("refund", 0, told(authority="rule", signature=None)), "step-authority"),
    "a hold on another day": (edit("hold", 0, told(day="2026-04-01")), "day"),
    "a pool that was never opened": (without("pool"), "pool-overdrawn"),
    "a pool that is opened twice": (again("pool"), "pool"),
    "a pool of less": (edit("pool", 0, told(points="10")), "pool-overdrawn"),
    "a pool of less money": (edit("pool", 0, told(value="10")), "pool-overdrawn"),
    "a pool of another funder": (edit("pool", 1, told(funder="https://other.example")), "pool"),
    "a pool that is lowered too far": (edit("pool", 0, told(action="lowered")), "pool-overdrawn"),
    "a product listed twice": (again("listing"), "listing"),
    "an offer that was never listed": (edit("listing", 1, told(document_kind="product")), "hold-offer"),
    "a version with two texts": (edit("listing", 1, told(id="offer-b")), "listing"),
    "an offer suspended twice": (edit("listing", 0, suspended_again, resumes), "listing"),
    "a statement left out": (without("statement"), "statement"),
    "a statement of what is to come": (edit("statement", 0, told(size="9000000")), "statement"),
    "a statement of a day to come": (edit("statement", 0, told(day="2039-01-01")), "statement"),
    "a day that is closed at once": (edit("statement", 0, told(state="closed")), "statement"),
    "an offer of two versions": (edit("listing", 2, told(id="offer-a", version="2")), "listing"),
    "a day that the bank closed alone": (edit("statement", 0, told(authority="bank"), closes), "statement"),
    "a day that nobody closed": (edit("statement", 0, told(authority=None), closes), "leaf-form"),
    "a pool suspended for no reason": (edit("pool", 0, told(action="suspended", points="0", value="0")), "leaf-form"),
    "a pool under other terms": (edit("pool", 1, told(terms=AB)), "pool"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_redemption_is_found(name: str, redeemed: Path, tmp_path: Path) -> None:
    change, code = FORGED[name]
    require_found(redeemed, tmp_path, change, code)


def test_everything_happens_in_the_bundle_that_is_tampered_with(redeemed: Path) -> None:
    report = verify(redeemed, previous=redeemed.parent / NOWHERE)
    assert report.clean, report.findings.shown
    assert all(
        report.checked[kind] for kind in ("hold", "capture", "release", "refund", "pool", "listing", "statement")
    )
    steps: dict[str, int] = {}
    for (*_, kind), amount in report.redeemed.items():
        steps[kind] = steps.get(kind, 0) + amount.steps
        assert amount.points == 20 * amount.units
        assert amount.value_fen == 150 * amount.units
    assert steps == {kind: report.checked[kind] for kind in steps}


def rich(folder: Path, *, units: int = 100) -> tuple[BundleWriter, History, Redeeming, Person]:
    """A participant with 4,000 points, a bank, and a pool for so many units."""
    writer, history = begun(folder)
    person = history.join()
    history.credit(person, 4_000_000)
    bank = Redeeming(history)
    bank.open(units)
    return writer, history, bank, person


def found(folder: Path) -> tuple[set[str], list[Left]]:
    report = verify(folder, previous=folder.with_name(f"{folder.name} of nobody"))
    return set(report.findings.counts), report.left


@pytest.mark.parametrize(("late_s", "codes"), [(-1, set()), (0, {"hold-time"})])
def test_a_hold_is_dead_from_its_end_on(late_s: int, codes: set[str], tmp_path: Path) -> None:
    writer, history, bank, person = rich(tmp_path / "bundle")
    held = bank.hold(person, 3)
    history.now = held.facts.expires_at + timedelta(seconds=late_s)
    bank.capture(held, 1)
    writer.close(history)
    assert found(tmp_path / "bundle")[0] == codes


@pytest.mark.parametrize(("late_s", "codes"), [(-1, {"hold-time"}), (0, set())])
def test_a_hold_lapses_from_its_end_on(late_s: int, codes: set[str], tmp_path: Path) -> None:
    writer, history, bank, person = rich(tmp_path / "bundle")
    held = bank.hold(person, 3)
    history.now = held.facts.expires_at + timedelta(seconds=late_s)
    bank.release(held, "lapsed")
    writer.close(history)
    assert found(tmp_path / "bundle")[0] == codes


@pytest.mark.parametrize(("units", "codes"), [(2, set()), (1, {"pool-overdrawn"})])
def test_a_pool_is_never_below_zero_wherever_the_log_stands(units: int, codes: set[str], tmp_path: Path) -> None:
    writer, history, bank, person = rich(tmp_path / "bundle", units=units)
    bank.hold(person, 1)
    held = bank.hold(person, 1)
    bank.release(held, "cancelled")
    writer.close(history)
    assert found(tmp_path / "bundle")[0] == codes


SHUT: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "suspended": (("suspended",), {"pool"}),
    "closed": (("closed",), {"pool"}),
    "closed while it was suspended": (("suspended", "closed"), {"pool"}),
    "suspended while it was closed": (("closed", "suspended"), {"pool"}),
    "resumed": (("suspended", "resumed"), set()),
    "opened again": (("closed", "resumed"), set()),
    "raised while it was suspended": (("suspended", "raised"), {"pool"}),
}


@pytest.mark.parametrize("name", SHUT)
def test_nothing_is_held_out_of_a_pool_that_is_shut(name: str, tmp_path: Path) -> None:
    (actions, codes), (writer, history, bank, person) = SHUT[name], rich(tmp_path / "bundle")
    held = bank.hold(person, 2)
    for action in actions:
        bank.pool(action)
    bank.capture(held, 1, final=True)  # what is held goes on
    bank.refund(held)
    assert found_of(writer, history, tmp_path / "bundle") == set()
    bank.hold(person, 1)
    assert found_of(writer, history, tmp_path / "bundle") == codes


def found_of(writer: BundleWriter, history: History, folder: Path) -> set[str]:
    writer.close(history)
    return found(folder)[0]


@pytest.mark.parametrize("actions", [("resumed",), ("suspended", "suspended"), ("closed", "closed"),
                                     ("suspended", "resumed", "resumed")])  # fmt: skip
def test_pools_are_suspended_and_resumed_in_turn(actions: tuple[str, ...], tmp_path: Path) -> None:
    writer, history, bank, _ = rich(tmp_path / "bundle")
    for action in actions:
        bank.pool(action)
    writer.close(history)
    assert found(tmp_path / "bundle")[0] == {"pool"}


@pytest.mark.parametrize("field", ["points", "value"])
def test_a_pool_that_is_suspended_keeps_its_budget(field: str, tmp_path: Path) -> None:
    writer, history, bank, _ = rich(tmp_path / "honest")
    bank.pool("suspended")
    bank.pool("resumed")
    writer.close(history)
    for place in (1, 2):
        folder = tmp_path / str(place)
        rewrite(tmp_path / "honest", folder, edit("pool", place, told(**{field: "5"})))
        assert found(folder)[0] == {"pool"}


def test_a_suspended_offer_is_not_held_and_what_was_held_goes_on(tmp_path: Path) -> None:
    writer, history, bank, person = rich(tmp_path / "bundle")
    held = bank.hold(person, 2)
    bank.list("suspended")
    bank.capture(held, 1, final=True)
    bank.hold(person, 2, with_grams=True)
    writer.close(history)
    assert found(tmp_path / "bundle")[0] == set()
    writer, history, bank, person = rich(tmp_path / "other")
    bank.list("suspended")
    bank.hold(person, 2)
    writer.close(history)
    assert found(tmp_path / "other")[0] == {"hold-offer"}


def test_a_rest_is_what_a_capture_left(tmp_path: Path) -> None:
    writer, history, bank, person = rich(tmp_path / "bundle")
    bank.release(bank.hold(person, 2), "rest")
    writer.close(history)
    assert found(tmp_path / "bundle")[0] == {"release"}


def stated(folder: Path) -> tuple[History, BundleWriter]:
    """A day with a hold, its statement, and both sides' closing of it; then two days with nothing."""
    writer, history, bank, person = rich(folder)
    bank.hold(person, 2)
    history.now += timedelta(days=1)
    bank.statement()
    bank.close()
    history.now += timedelta(days=2)
    bank.statement()
    writer.close(history)
    return history, writer


@pytest.mark.parametrize(("back", "codes"), [(0, set()), (1, {"statement"})])
def test_a_statement_covers_all_of_its_day(back: int, codes: set[str], tmp_path: Path) -> None:
    stated(tmp_path / "honest")
    size = next(leaf["size"] for leaf in map(json.loads, entries_of(tmp_path / "honest")) if "size" in leaf)
    other = told(size=str(int(size) - back))

    def both(entries: Entries) -> Iterable[bytes]:
        return edit("statement", 1, other)([*edit("statement", 0, other)(entries)])

    rewrite(tmp_path / "honest", tmp_path / "bundle", both)
    assert found(tmp_path / "bundle")[0] == codes


CHANGED: dict[str, Forge] = {
    "another sequence": edit("statement", -1, told(sequence="7")),
    "another day": edit("statement", -1, told(day="2026-05-02")),
    "closed otherwise": edit("statement", 1, told(size="0")),
    "closed on another text": edit("statement", 1, told(digest=digest_of("offer-a"))),
    "closed as another": edit("statement", 1, told(sequence="9")),
    "closed by nobody known": edit("statement", 1, told(authority="participant")),
    "closed twice": lambda entries: [*entries, next(one for one in entries if b'"state":"closed"' in one)],
    "left out": lambda entries: [one for one in entries if b'"day":"2026-05-02","digest"' not in one],
    "begun too late": lambda entries: [one for one in entries if b'"day":"2026-05-01","digest"' not in one],
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_banks_days_follow_one_another(name: str, tmp_path: Path) -> None:
    stated(tmp_path / "honest")
    assert found(tmp_path / "honest")[0] == set()
    rewrite(tmp_path / "honest", tmp_path / "bundle", CHANGED[name])
    assert found(tmp_path / "bundle")[0] == {"statement"}


def test_a_day_without_its_statement_is_told(tmp_path: Path) -> None:
    writer, history, bank, person = rich(tmp_path / "bundle")
    bank.hold(person, 2)
    writer.close(history)
    codes, left = found(tmp_path / "bundle")
    assert (codes, [(one.code, one.first) for one in left if one.code == "day-not-stated"]) == (
        set(),
        [("day-not-stated", f"2026-05-01 {BANK}")],
    )


def returned(folder: Path, *, drop: int | None = None, later: bool = False) -> tuple[set[str], list[Left]]:
    """Points come back after their bucket has run out, and lapse at once; `drop` entries at the end are left out."""
    writer, history, bank, person = rich(folder / "honest")
    held = bank.hold(person, 3, lasts=timedelta(days=3_000))
    history.now += timedelta(days=1_000)
    bank.release(held, "cancelled")
    if later:
        history.credit(person, 5_000)
    writer.close(history)
    assert found(folder / "honest")[0] == set()
    rewrite(folder / "honest", folder / "bundle", lambda entries: entries[: drop and -drop])
    return found(folder / "bundle")


def test_points_that_come_back_too_late_lapse_at_once(tmp_path: Path) -> None:
    codes, left = returned(tmp_path / "1")
    assert (codes, "lapse-awaited" in [one.code for one in left]) == (set(), False)
    codes, left = returned(tmp_path / "2", drop=1)
    assert codes == set()
    assert "lapse-awaited" in [one.code for one in left]


def test_a_lapse_of_what_came_back_is_of_the_same_moment(tmp_path: Path) -> None:
    returned(tmp_path, later=True)
    for change in (edit("lapse", -1, told(at="2029-02-01T00:00:00Z", day="2029-02-01")), last_lapse_dropped):
        folder = tmp_path / change.__name__
        folder.mkdir()
        require_found(tmp_path / "honest", folder, change, "lapse-returned")


def last_lapse_dropped(entries: Entries) -> Iterable[bytes]:
    place = max(n for n, entry in enumerate(entries) if b'"kind":"lapse"' in entry)
    return [*entries[:place], *entries[place + 1 :]]


def test_what_comes_back_repays_what_is_owed_first(tmp_path: Path) -> None:
    writer, history, bank, person = rich(tmp_path / "honest", units=200)
    bank.hold(person, 190)
    held = bank.held[0]
    history.reverse(person, person.standing()[0])
    bank.capture(held, 10)
    bank.release(held, "voided")
    bank.refund(held)
    writer.close(history)
    assert found(tmp_path / "honest")[0] == set()

    def unpaid(leaf: Leaf) -> None:
        leaf["lines"] = [each | {"to": "available"} for each in leaf["lines"]]

    require_found(tmp_path / "honest", tmp_path, edit("release", 0, unpaid), "debt-first")


def with_papers(redeemed: Path, tmp_path: Path, change: Callable[[Path], object]) -> set[str]:
    """What is found when something beside the log is changed, and listed anew."""
    folder = tmp_path / "bundle"
    shutil.copytree(redeemed, folder)
    change(folder)
    relist(folder)
    return found(folder)[0]


def test_the_banks_keys_are_those_that_were_announced(redeemed: Path, tmp_path: Path) -> None:
    def another(folder: Path) -> None:
        keys = json.loads((folder / "keys.json").read_bytes())
        keys["banks"][0]["bank"] = "https://other.example"
        (folder / "keys.json").write_bytes(canonical(keys))

    assert with_papers(redeemed, tmp_path, another) == {"bank-key"}


def test_a_list_of_keys_from_before_there_were_banks_is_read(honest: Path, tmp_path: Path) -> None:
    def older(folder: Path) -> None:
        keys = json.loads((folder / "keys.json").read_bytes())
        del keys["banks"]
        (folder / "keys.json").write_bytes(canonical(keys))

    assert with_papers(honest, tmp_path, older) == set()


@pytest.mark.parametrize("code", ["named-document", "file-missing"])
def test_the_documents_are_those_that_the_log_names(code: str, redeemed: Path, tmp_path: Path) -> None:
    def changed(folder: Path) -> None:
        path = min((folder / "documents").iterdir())
        if code == "file-missing":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes() + b" ")

    assert with_papers(redeemed, tmp_path, changed) == {code}
