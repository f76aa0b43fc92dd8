"""docs/abuse-signals.md, in both languages, tells of every rule and of its limits."""

import re
from pathlib import Path

import pytest

from service.signals.reviews import CONFIRM_REASONS, RELEASE_REASONS, STATES
from service.signals.rules import shipped_rules

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["abuse-signals.md", "abuse-signals.zh.md"])
def test_every_rule_stands_there_with_its_limits(name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (?:(?:strong|weak|强|弱) \|)(.*)\|$", text, re.MULTILINE))
    assert rows.keys() == {rule.id for rule in shipped_rules()}
    for rule in shipped_rules():
        strength = {"strong": "(strong|强)", "weak": "(weak|弱)"}[rule.strength]
        assert re.search(rf"^\| `{rule.id}` \| {strength} \|", text, re.MULTILINE)
        said = {int(number) for number in re.findall(r"\d+", rows[rule.id])}
        assert {limit for key, limit in rule.limits.items() if key not in _ELSEWHERE} <= said, rule.id
    for state in STATES:
        assert f"`{state}`" in text


_ELSEWHERE = {"days_at_least", "credits_at_least", "length", "share_permille"}
"""Told once for several rules, or in words: three distances, half of all."""


def test_every_reason_stands_there() -> None:
    text = (DOCS / "abuse-signals.md").read_text("utf-8")
    for reason in (*RELEASE_REASONS, *CONFIRM_REASONS):
        assert f"`{reason}`" in text
