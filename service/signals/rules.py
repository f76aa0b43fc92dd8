"""The documents that say what is unusual: one YAML file for each rule, with its limits, its window and its words.

A rule that has found something is never edited: another limit is another version. Every figure is a whole number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Formatter
from typing import Literal

from service.quantification.document import Bilingual, DocumentInvalid, Node, digest_of, read_document

Strength = Literal["strong", "weak"]

MOST = 10**9
LONGEST_WINDOW_DAYS = 35  # how far back a person's activities are read

# Each kind with the limits its document states, and the values it finds, which its words may name.
PERSON_KINDS: Mapping[str, tuple[str, str]] = {
    "acts-a-day": ("more_than times_usual", "day count limit usual"),
    "acts-an-hour": ("more_than", "day count limit"),
    "vehicle-a-day": ("more_than", "day count limit"),
    "two-places": ("at_least", "day count limit"),
    "no-time-between": ("seconds at_least", "day count limit seconds"),
    "too-fast": ("at_least", "day count limit km_per_hour"),
    "replayed-series": ("length grain_m at_least", "day count limit length"),
    "round-figures": ("step_m at_least share_permille", "day count limit of step_m"),
    "same-figure": ("at_least share_permille", "day count limit of"),
    "new-account": ("days more_than", "day count limit days"),
}
DAY_KINDS: Mapping[str, tuple[str, str]] = {"shared-series": ("length grain_m people", "day count limit length")}
_STEADY = "days_at_least credits_at_least"
DRIFT_KINDS: Mapping[str, tuple[str, str]] = {
    "drift-credits": (f"{_STEADY} deviations permille", "day found usual limit"),
    "drift-grams": (f"{_STEADY} deviations permille", "day found usual limit"),
    "drift-refusals": (f"{_STEADY} deviations permille", "day found usual limit"),
    "drift-hours": (f"{_STEADY} permille", "day found limit"),
}
KINDS = {**PERSON_KINDS, **DAY_KINDS, **DRIFT_KINDS}
_BY_DISTANCE = ("too-fast", "replayed-series", "round-figures", "same-figure", "shared-series")
"""Kinds that look at distances: for the scenarios their documents name, of which grams are a multiple."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How a scenario's grams tell its distance, so that no evidence is opened: milligrams for each kilometre, and,
    where the rule is about speed, the kilometres an hour that nobody exceeds."""

    mg_per_km: int
    km_per_hour: int | None


@dataclass(frozen=True, slots=True)
class SignalRule:
    """One rule. `told` is what the person and the operator read, with the values that were found.

    window_days  Asia/Shanghai days, the last one included, that are looked at together
    limits       by name, whole numbers
    distances    by scenario, of kinds that look at distances
    digest       SHA-256 of the document's canonical bytes, in hex
    """

    id: str
    version: int
    kind: str
    strength: Strength
    window_days: int
    title: Bilingual
    told: Bilingual
    limits: Mapping[str, int]
    distances: Mapping[str, Distance]
    digest: str


def parse_rule(source: bytes) -> SignalRule:
    """Read one document strictly. Raises DocumentInvalid with the line."""
    root = read_document(source)
    named = root.fields("schema id version kind strength window_days title told limits", "scenarios")
    if named["schema"].text() != "1":
        raise DocumentInvalid(named["schema"].line, "expected schema 1")
    kind = named["kind"].one_of(KINDS)
    limit_names, values = KINDS[kind]
    limits = {name: node.counted(MOST) for name, node in named["limits"].fields(limit_names).items()}
    if (kind in _BY_DISTANCE) != ("scenarios" in named):
        raise DocumentInvalid(
            root.line, f"a rule of kind {kind} {'names' if kind in _BY_DISTANCE else 'has no'} scenarios"
        )
    told = named["told"].bilingual()
    for text in (told.zh, told.en):
        unknown = {name for _, name, _, _ in Formatter().parse(text) if name} - set(values.split())
        if unknown:
            raise DocumentInvalid(named["told"].line, f"{', '.join(sorted(unknown))} is no value of kind {kind}")
    strength: Strength = "strong" if named["strength"].one_of(("strong", "weak")) == "strong" else "weak"
    return SignalRule(
        named["id"].identifier(),
        named["version"].counted(10_000),
        kind,
        strength,
        named["window_days"].counted(LONGEST_WINDOW_DAYS),
        named["title"].bilingual(),
        told,
        limits,
        {name: _distance(node, fast=kind == "too-fast") for name, node in named["scenarios"].mapping().items()}
        if "scenarios" in named
        else {},
        digest_of(root.canonical()),
    )


def _distance(node: Node, *, fast: bool) -> Distance:
    named = node.fields("mg_per_km km_per_hour" if fast else "mg_per_km")
    return Distance(named["mg_per_km"].counted(MOST), named["km_per_hour"].counted(MOST) if fast else None)


@cache
def _every_version() -> Mapping[tuple[str, int], SignalRule]:
    folder = resources.files("service.signals") / "documents"
    rules = [parse_rule(file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".yaml")]
    return {(rule.id, rule.version): rule for rule in rules}


@cache
def shipped_rules() -> tuple[SignalRule, ...]:
    """Every rule that is looked by: of several versions the newest, in the order of their ids."""
    newest = {rule.id: rule for _, rule in sorted(_every_version().items())}
    return tuple(newest.values())


def rule_of(name: str, version: int) -> SignalRule | None:
    """A rule as it was when it found something; None when it is not shipped."""
    return _every_version().get((name, version))
