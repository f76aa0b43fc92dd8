"""Which document is in force, which may credit, and what a deployment's own documents do to the shipped ones."""

import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from service.activities.rules import RuleBook, RulesInvalid, read_documents, read_rulebook
from service.approvals import Approvals
from service.quantification.methodology import NoMethodologyInForce, UnknownScenario, catalogue_of, parse_methodology
from service.quantification.points import NoPointsRuleInForce, parse_points_rule, points_catalogue_of
from service.settings import Settings
from tests.documents import DEMO, DEMO_POINTS, changed

DAY, NOW = date(2025, 5, 1), datetime(2026, 5, 1, tzinfo=UTC)
FIRST = parse_methodology(DEMO.encode())
SECOND = parse_methodology(changed(DEMO, ("version: 1", "version: 2")))
THIRD = parse_methodology(
    changed(DEMO, ("version: 1", "version: 3"), ("in_force: {from: 2016-01-01}", "in_force: {from: 2025-06-01}"))
)
POINTS = parse_points_rule(DEMO_POINTS.encode())
POINTS_2 = parse_points_rule(changed(DEMO_POINTS, ("version: 1", "version: 2")))


def book(*approved: str, required: bool = True, statuses: frozenset[str] = frozenset({"demonstration"})) -> RuleBook:
    """Three versions of a methodology and two of a points rule, of which these digests are approved."""
    approvals = Approvals()
    approvals.digests = frozenset(approved)
    methodologies, points = catalogue_of([FIRST, SECOND, THIRD]), points_catalogue_of([POINTS, POINTS_2])
    posted = (methodologies.digests, points.digests)
    return RuleBook(methodologies, points, {}, *posted, statuses, approvals, required)


def test_the_newest_version_in_force_counts() -> None:
    rules = book(required=False)
    assert rules.methodology("shared-ebike", DAY) is SECOND
    assert rules.methodology("shared-ebike", date(2025, 6, 1)) is THIRD
    assert rules.points_rule(NOW) is POINTS_2
    assert rules.cannot_credit(SECOND) == rules.cannot_credit(POINTS_2) == ()


def test_where_approvals_are_required_an_unapproved_version_displaces_no_approved_one() -> None:
    rules = book(FIRST.digest, POINTS.digest)
    assert rules.methodology("shared-ebike", DAY) is FIRST
    assert rules.methodology("shared-ebike", date(2025, 6, 1)) is FIRST
    assert rules.points_rule(NOW) is POINTS
    assert rules.cannot_credit(FIRST) == rules.cannot_credit(POINTS) == ()
    assert rules.cannot_credit(SECOND) == rules.cannot_credit(POINTS_2) == ("not-approved",)


def test_where_nothing_is_approved_the_refusal_can_say_so() -> None:
    rules = book()
    assert rules.cannot_credit(rules.methodology("shared-ebike", DAY)) == ("not-approved",)
    with pytest.raises(NoPointsRuleInForce):
        rules.points_rule(NOW)


def test_an_approval_is_in_force_at_once() -> None:
    rules = book(FIRST.digest)
    assert rules.methodology("shared-ebike", DAY) is FIRST
    rules.approvals.digests |= {SECOND.digest}
    assert rules.methodology("shared-ebike", DAY) is SECOND
    assert rules.cannot_credit(SECOND) == ()
    rules.approvals.digests = frozenset()
    assert rules.cannot_credit(SECOND) == ("not-approved",)


def test_every_reason_is_named_the_document_s_own_first() -> None:
    faulty = parse_methodology(
        changed(DEMO, ("        confidence: single\n", "        confidence: single\n        quality: low\n"))
    )
    assert book(statuses=frozenset({"official"})).cannot_credit(faulty) == (
        *faulty.faults,
        "status-not-allowed",
        "not-approved",
    )
    assert "low-quality-figure" in faulty.faults


def test_what_is_inferred_credits_only_where_a_demonstration_does() -> None:
    official = ("status: demonstration", "status: official\nformula_confidence: inferred")
    inferred = parse_methodology(changed(DEMO, official, ("confidence: single", "confidence: inferred")))
    weak = parse_methodology(
        changed(DEMO, official, ("        confidence: single\n", "        confidence: single\n        quality: low\n"))
    )
    both = ("inferred-formula", "inferred-figure")
    for statuses, refused in (
        ({"official", "demonstration"}, ()),
        ({"demonstration"}, ()),
        ({"official"}, both),
        ({"group_standard"}, (*both, "status-not-allowed")),
    ):
        assert book(required=False, statuses=frozenset(statuses)).cannot_credit(inferred) == refused, statuses
    assert book(required=False).cannot_credit(weak) == ("low-quality-figure",)
    assert book(required=False, statuses=frozenset({"official"})).cannot_credit(FIRST) == ("status-not-allowed",)


def test_what_does_not_exist_is_refused() -> None:
    for rules in (book(required=False), book(FIRST.digest)):
        with pytest.raises(UnknownScenario):
            rules.methodology("flying", DAY)
        with pytest.raises(NoMethodologyInForce):
            rules.methodology("shared-ebike", date(2015, 12, 31))


def test_a_choice_costs_a_look_up_and_made_up_days_fill_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.activities.rules.MOST_REMEMBERED", 100)
    rules = book(FIRST.digest)
    for number in range(1, 2001):
        assert rules.methodology("shared-ebike", date.fromordinal(736000 + number)) is FIRST
    assert len(rules._chosen.methodologies) <= 100
    started = time.perf_counter()
    for _ in range(10_000):
        rules.methodology("shared-ebike", DAY)
        rules.cannot_credit(FIRST)
    assert time.perf_counter() - started < 0.5  # a hundredth of a millisecond each is slow


def own(folder: Path, methodology: bytes | None = None, points: bytes | None = None) -> Path:
    for name, content in (("methodologies", methodology), ("points", points)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        if content is not None:
            (folder / name / "own.yaml").write_bytes(content)
    return folder


def test_a_deployment_s_documents_stand_beside_the_shipped_ones(tmp_path: Path) -> None:
    shipped = read_documents(None).methodologies
    newest = max(one.version for one in shipped.all() if one.id == FIRST.id)
    next_version = changed(DEMO, ("version: 1", f"version: {newest + 1}"))
    methodologies, points, _ = read_documents(own(tmp_path, next_version))
    assert set(shipped.digests) < set(methodologies.digests)
    assert methodologies.in_force("shared-ebike", DAY).version == newest + 1
    assert points.in_force(DAY).id == POINTS.id


def test_a_shipped_demonstration_steps_aside_for_the_deployment_s_own(tmp_path: Path) -> None:
    mine, points = changed(DEMO, ("id: demo-", "id: our-")), changed(DEMO_POINTS, ("id: demo-", "id: our-"))
    methodologies, points_rules, _ = read_documents(own(tmp_path, mine, points))
    assert methodologies.in_force("shared-ebike", DAY).id == "our-shared-ebike"
    assert all(one.id != "demo-shared-ebike" for one in methodologies.all())
    assert len(methodologies.all()) > 1
    assert [one.id for one in points_rules.all()] == ["our-points"]


def test_a_copy_of_a_shipped_document_is_that_document(tmp_path: Path) -> None:
    methodologies, points, _ = read_documents(own(tmp_path, DEMO.encode(), DEMO_POINTS.encode()))
    shipped, shipped_points, _ = read_documents(None)
    assert methodologies.digests.keys() == shipped.digests.keys()
    assert points.digests.keys() == shipped_points.digests.keys()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (changed(DEMO, ("jurisdiction: demonstration", "jurisdiction: elsewhere")), "version"),
        (changed(DEMO, ("unit: g/km", "unit: g/mile")), r"own\.yaml line"),
        (b"[", r"own\.yaml line"),
    ],
)
def test_documents_that_cannot_be_used_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(RulesInvalid, match=told):
        read_documents(own(tmp_path, content))


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RulesInvalid, match="TANPUHUI_RULES_DIR"):
        read_rulebook(Settings(rules_dir=tmp_path / "nowhere"))


def test_the_rules_of_a_machine_need_no_database(tmp_path: Path) -> None:
    rules = read_rulebook(Settings(rules_dir=own(tmp_path), require_approvals=True))
    assert rules.cannot_credit(rules.methodologies.by_digest(FIRST.digest)) == ("not-approved",)
    assert replace(rules, require_approvals=False).cannot_credit(FIRST) == ()
