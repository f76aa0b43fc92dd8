"""Whatever is done to entries, evidence, rules, records or manifests is found and named.

Each bundle is made consistent in itself after the change: its tree, its checkpoint and its list fit it, and where it
helps the forger the commitment, too. So what gives the change away is the replay.
"""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger.leaves import evidence_commitment, settlement_commitment
from service.audit.findings import CODES
from service.audit.page import as_html
from service.audit.replay import Replay, replay
from service.audit.report import undecided
from tests.audit.history import Audited, evidence_of, put_evidence, put_rule
from tests.audit.redeemed import OF_REDEMPTIONS
from tests.audit.test_reports import FORGERIES as OF_REPORTS
from tests.log.bundles import entries_of, relist, rewrite, signer_of
from tests.log.histories import canonical

pytestmark = pytest.mark.anyio


@dataclass
class Forgery:
    """A copy of the bundle, to be changed."""

    audited: Audited
    directory: Path
    entries: list[dict[str, Any]]
    evidence: dict[int, dict[str, str]]
    _edits: list[Callable[[], None]] = field(default_factory=list)

    def index(self, name: str, kind: str = "credit") -> int:
        """The entry of an activity's credit, or of what ended it."""
        activity = str(self.audited.correction if name == "correction" else self.audited.activities[name])
        named = {"credit": "transfer", "maturity": "matures", "reversal": "reverses"}[kind]
        return next(
            number for number, leaf in enumerate(self.entries) if leaf["kind"] == kind and leaf[named] == activity
        )

    def leaf(self, name: str, kind: str = "credit") -> dict[str, Any]:
        return self.entries[self.index(name, kind)]

    def line(self, name: str, asset: str, giver: str = "issuance") -> dict[str, str]:
        lines: list[dict[str, str]] = self.leaf(name)["lines"]
        return next(line for line in lines if (line["asset"], line["from"]) == (asset, giver))

    def document(self, name: str, *, commit: bool = True, **changes: Any) -> None:
        """Put other fields into the evidence; None takes one out."""
        index = self.index(name)
        fields = json.loads(self.evidence[index]["document"]) | changes
        text = canonical({key: value for key, value in fields.items() if value is not None}).decode()
        self.evidence[index]["document"] = text
        if commit:
            self.entries[index]["evidence"] = evidence_commitment(self._salt(index), text.encode())

    def record(self, name: str, kind: str, *, commit: bool = True, **changes: Any) -> None:
        """The same of a settlement record."""
        index = self.index(name, kind)
        text = canonical(json.loads(self.evidence[index]["record"]) | changes).decode()
        self.evidence[index]["record"] = text
        if commit:
            named = "facts" if kind == "maturity" else "decision"
            self.entries[index][named] = settlement_commitment(self._salt(index), text.encode())

    def rule(self, name: str, *changes: tuple[bytes, bytes], of: str = "methodology") -> None:
        """Let a credit be under another document than it was."""
        leaf = self.leaf(name)
        leaf[of] = put_rule(self.directory, leaf[of], *changes)

    def _salt(self, index: int) -> bytes:
        return bytes.fromhex(self.evidence[index]["salt"])


def _raise(forgery: Forgery, name: str, asset: str, by: int, giver: str = "issuance") -> None:
    line = forgery.line(name, asset, giver)
    line["amount"] = str(int(line["amount"]) + by)


def _drop(forgery: Forgery, name: str) -> None:
    """Take an entry out, and its evidence; what stands behind it moves up."""
    index = forgery.index(name)
    del forgery.entries[index]
    del forgery.evidence[index]
    moved = {number - (number > index): line for number, line in forgery.evidence.items()}
    forgery.evidence = {number: line | {"index": str(number)} for number, line in moved.items()}
    path = forgery.directory / "manifests.jsonl"
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines = [canonical(row | {"index": str(int(row["index"]) - (int(row["index"]) > index))}) for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")


def _claim_more(forgery: Forgery) -> None:
    """What a source says it sent is more than was received: signed by nobody, which the verification finds as well."""
    path = forgery.directory / "manifests.jsonl"
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    head, payload, signature = rows[0]["jws"].split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    next(iter(said["scenarios"].values()))["credited"] += 1
    forged = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    rows[0]["jws"] = f"{head}.{forged}.{signature}"
    path.write_bytes(b"".join(canonical(row) + b"\n" for row in rows))


def _swap_rule(forgery: Forgery) -> None:
    """Other bytes under a document's old name."""
    path = forgery.directory / "rules" / f"{forgery.leaf('ride')['methodology']}.json"
    path.write_bytes(path.read_bytes().replace(b'"value":"10"', b'"value":"11"'))


def _stray(forgery: Forgery) -> None:
    """Evidence beside an entry that commits to none."""
    index = forgery.index("bonus", "reversal")
    forgery.evidence[index] = forgery.evidence[forgery.index("bonus")] | {"index": str(index)}


def _swallow(forgery: Forgery, name: str, **fields: Any) -> None:
    forgery.leaf(name).update(fields)


_LONGER = {"distance_km": "3"}
_REDUCED = (b'"value":"10"', b'"value":"9"'), (b'"expected_mg":"10000"', b'"expected_mg":"9000"')
_ENDED = (
    (b'"from":"2024-01-01"},"inputs"', b'"from":"2024-01-01","to":"2026-03-29"},"inputs"'),
    (b"2026-03-30T", b"2026-03-29T"),
)
_LOW = (b'"from":"2024-01-01","source"', b'"from":"2024-01-01","quality":"low","source"')
_LATER = (b'"from":"2024-01-01"', b'"from":"2027-01-01"')

FORGERIES: dict[str, tuple[str, Callable[[Forgery], object]]] = {
    "evidence of another ride": ("evidence", lambda one: one.document("ride", commit=False, inputs=_LONGER)),
    "evidence that is no document": ("evidence-form", lambda one: one.document("ride", inputs={"distance_km": [1]})),
    "an entry of no known day": ("entry", lambda one: _swallow(one, "ride", day="the first")),
    "an entry of a day in another form": ("entry", lambda one: _swallow(one, "ride", day="20260330")),
    "a ride at the end of all days": (
        "activity-ahead",
        lambda one: one.document("bonus", started_at="9999-12-31T15:59:59Z", ended_at="9999-12-31T23:59:59.999999Z"),
    ),
    "a settlement of no days": ("settlement-of", lambda one: one.record("home", "maturity", first_day=[], last_day=7)),
    "evidence without its times": ("evidence-form", lambda one: one.document("bonus", started_at=None)),
    "evidence beside a reversal": ("evidence-extra", _stray),
    "a document under another's name": ("rule-form", _swap_rule),
    "a document with a low-quality figure": (
        "rule-incomplete",
        lambda one: one.rule("bonus", _LOW),
    ),
    "a document of a later day": ("in-force", lambda one: one.rule("bonus", *_ENDED)),
    "another scenario": ("scenario", lambda one: one.document("bonus", scenario="counting-walk")),
    "another day": ("activity-day", lambda one: _swallow(one, "ride", day="2026-03-29")),
    "a closed claim window": (
        "activity-late",
        lambda one: one.rule("bonus", (b'"claim_window":"none"', b'"claim_window":{"days":"7"}')),
    ),
    "an activity of tomorrow": ("activity-ahead", lambda one: _swallow(one, "ride", at="2026-03-29T23:50:00Z")),
    "a firm's ride": ("participant-kind", lambda one: _swallow(one, "ride", participant_kind="firm")),
    "another class": ("credit-class", lambda one: one.line("bonus", "co2e_mg").update({"class": "scenario"})),
    "another vintage": ("credit-class", lambda one: one.line("bonus", "co2e_mg").update({"vintage": "2025"})),
    "a milligram too many": ("reduction", lambda one: _raise(one, "bonus", "co2e_mg", 1)),
    "a milligram too many under caps": ("reduction", lambda one: _raise(one, "ride", "co2e_mg", 1)),
    "a milligram too few": ("reduction", lambda one: _raise(one, "roof", "co2e_mg", -1)),
    "evidence of a longer ride": ("reduction", lambda one: one.document("bonus", inputs=_LONGER)),
    "evidence of a ride that earns nothing": (
        "reduction",
        lambda one: one.document("bonus", inputs={"distance_km": "0.05"}),
    ),
    "another factor": ("reduction", lambda one: one.rule("bonus", *_REDUCED)),
    "grams beyond a cap": ("cap", lambda one: _raise(one, "clipped ride", "co2e_mg", 10_000)),
    "points beyond a cap": ("cap", lambda one: _raise(one, "clipped boarding", "points", 3)),
    "a ride more than a day has": ("cap", lambda one: one.rule("clipped ride", (b'"at_most":"2"', b'"at_most":"1"'))),
    "a point too many": ("points", lambda one: _raise(one, "bonus", "points", 1)),
    "a point too many under caps": ("points", lambda one: _raise(one, "ride", "points", 1)),
    "a points rule of another year": ("points-rule", lambda one: one.rule("bonus", _LATER, of="points_rule")),
    "no points rule": ("points-rule", lambda one: _swallow(one, "bonus", points_rule=None)),
    "a campaign that gives more": ("campaign", lambda one: _raise(one, "late bonus", "points", 1, "partner")),
    "a campaign that gives less": ("campaign", lambda one: _raise(one, "late bonus", "points", -1, "partner")),
    "points for a diary": (
        "grade",
        lambda one: _swallow(one, "diary", points_rule=one.leaf("ride")["points_rule"]),
    ),
    "available before its match": ("pending", lambda one: one.line("waiting", "co2e_mg").update({"to": "available"})),
    "pending for nothing": ("pending", lambda one: one.line("bonus", "co2e_mg").update({"to": "pending"})),
    "a bucket of another month": ("expiry", lambda one: one.line("bonus", "points").update({"expires": "2029-12-31"})),
    "a tag too few": ("claims", lambda one: _swallow(one, "ride", claims=one.leaf("ride")["claims"][:-1])),
    "a tag too many": (
        "claims",
        lambda one: _swallow(one, "bonus", claims=sorted([*one.leaf("bonus")["claims"], "1:" + "ab" * 32])),
    ),
    "no order": ("references", lambda one: one.document("ride", references={"operator": "bikes"})),
    "two rides at once": (
        "person-overlap",
        lambda one: one.document("boarding", started_at="2026-03-30T00:05:00Z", ended_at="2026-03-30T00:15:00Z"),
    ),
    "one payment twice": (
        "thing-repeated",
        lambda one: one.document(
            "clipped boarding", references=json.loads(one.evidence[one.index("boarding")]["document"])["references"]
        ),
    ),
    "one vehicle at two places": (
        "thing-repeated",
        lambda one: one.document(
            "diary",
            started_at="2026-03-30T00:30:00Z",
            ended_at="2026-03-30T00:40:00Z",
            vehicle=json.loads(one.evidence[one.index("clipped ride")]["document"])["vehicle"],
        ),
    ),
    "another settlement record": ("settlement", lambda one: one.record("home", "maturity", commit=False, v="2")),
    "facts that withdraw what matured": (
        "settlement-facts",
        lambda one: one.record("home", "maturity", facts={"tier": "3"}),
    ),
    "facts that mature what was withdrawn": (
        "settlement-facts",
        lambda one: one.record("heavy home", "reversal", facts={"tier": "1"}),
    ),
    "facts of another year": ("settlement-of", lambda one: one.record("home", "maturity", last_day="2025-12-31")),
    "a settlement by another source": (
        "settlement-of",
        lambda one: one.leaf("home", "maturity").update(source="urn:example:somebody"),
    ),
    "a firm credit superseded": (
        "superseded",
        lambda one: one.leaf("bonus", "reversal").update(reason="superseded"),
    ),
    "a credit left out": ("manifest-received", lambda one: _drop(one, "late bonus")),
    "a source that says it sent more": ("manifest-claimed", _claim_more),
}


def forge(audited: Audited, folder: Path, change: Callable[[Forgery], object]) -> Replay:
    """Change a copy, make it consistent, and replay it."""
    copied, target = folder / "copied", folder / "forged"
    folder.mkdir(exist_ok=True)
    shutil.copytree(audited.directory, copied)
    forgery = Forgery(audited, copied, list(map(json.loads, entries_of(copied))), evidence_of(copied))
    change(forgery)
    put_evidence(copied, forgery.evidence)
    rewrite(copied, target, lambda _: list(map(canonical, forgery.entries)), signer_of())
    relist(target)
    return replay(target)


async def test_a_forgery_of_nothing_is_found_clean(audited: Audited, tmp_path: Path) -> None:
    found = forge(audited, tmp_path, lambda one: None)
    assert found.clean, (found.findings.shown, found.verified.findings.shown)


@pytest.mark.parametrize("name", FORGERIES)
async def test_every_forgery_is_found_and_named(audited: Audited, tmp_path: Path, name: str) -> None:
    code, change = FORGERIES[name]
    found = forge(audited, tmp_path, change)
    assert code in found.findings.counts, found.findings.shown
    assert not found.clean


def test_every_code_has_a_forgery() -> None:
    """Those of redemptions are found in test_redemptions.py, those of what sources signed in test_reports.py."""
    assert {code for code, _ in FORGERIES.values()} == set(CODES) - set(OF_REDEMPTIONS) - set(OF_REPORTS.values())


JUNK: list[Any] = [None, "", "x", "-1", "0", "9" * 30, [], {}, ["1"], "9999-12-31", "1990-01-01T00:00:00Z", 7, True]


async def test_nothing_in_an_entry_is_taken_on_trust(audited: Audited, tmp_path: Path) -> None:
    """Any field of any entry replaced by anything: the replay goes on, and something is found."""
    random = Random(1)

    def spoil(one: Forgery) -> None:
        leaf = random.choice([leaf for leaf in one.entries if leaf["kind"] not in ("epoch", "key")])
        place = random.choice([leaf, leaf, *leaf.get("lines", ())])
        name = random.choice(list(place))
        junk = random.choice([value for value in JUNK if value != place[name]])
        place[name] = junk

    for number in range(60):
        folder = tmp_path / str(number)
        assert not forge(audited, folder, spoil).clean
        shutil.rmtree(folder)


async def test_no_evidence_stops_the_replay(audited: Audited, tmp_path: Path) -> None:
    """Evidence that was committed to in whatever form is told of, or computed."""
    random = Random(2)

    def spoil(one: Forgery) -> None:
        name = random.choice(["ride", "home", "roof", "boarding", "diary"])
        fields = json.loads(one.evidence[one.index(name)]["document"])
        one.document(name, **{random.choice(list(fields)): random.choice(JUNK)})

    for number in range(40):
        folder = tmp_path / str(number)
        as_html(forge(audited, folder, spoil))
        shutil.rmtree(folder)


async def test_claims_of_what_waits_are_decided_by_its_rule(audited: Audited, tmp_path: Path) -> None:
    """An older entry that waits for its match holds its claims against nobody; another one does."""

    def leave_pending(one: Forgery) -> None:
        del one.entries[one.index("phone", "reversal")]
        one.evidence = {}

    found = forge(audited, tmp_path / "waits", leave_pending)
    assert "waiting-claim" in {left.code for left in found.verified.left}
    assert "waiting-claim" not in {one.code for one in undecided(found)}
    assert "thing-repeated" not in found.findings.counts

    def leave_settling(one: Forgery) -> None:
        leave_pending(one)
        one.leaf("phone")["methodology"] = one.leaf("home")["methodology"]

    found = forge(audited, tmp_path / "settles", leave_settling)
    assert "waiting-claim" in {left.code for left in found.verified.left}
    assert found.findings.counts["thing-repeated"] == 1


async def test_erased_evidence_is_told_and_no_finding(audited: Audited, tmp_path: Path) -> None:
    def erase(one: Forgery) -> None:
        for name in ("ride", "clipped ride", "boarding"):
            del one.evidence[one.index(name)]
        del one.evidence[one.index("home", "maturity")]

    found = forge(audited, tmp_path, erase)
    assert found.clean, found.findings.shown
    assert found.open.counts == {"evidence-erased": 3, "settlement-erased": 1}
