"""Which methodology is in force: the catalogue of a deployment's documents. Reading one document is in parsing.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from service.quantification.document import Span, read_file
from service.quantification.factor_sets import NO_FACTOR_SETS, FactorSet
from service.quantification.model import Methodology
from service.quantification.parsing import MethodologyInvalid, parse_methodology
from service.quantification.refusals import NoMethodologyInForce, UnknownScenario, shown

__all__ = [
    "DIRECTORY",
    "Catalogue",
    "Methodology",
    "MethodologyInvalid",
    "NoMethodologyInForce",
    "UnknownMethodology",
    "UnknownScenario",
    "catalogue_of",
    "load_catalogue",
    "parse_methodology",
    "parse_once",
]

DIRECTORY = Path(__file__).parent / "methodologies"
BY_THE_HOUR = ("trip", "boarding")  # triggers whose activities are claimed by their hours
_FORM = {False: "by whole days, without a use", True: "with a use, or by the hour"}


class UnknownMethodology(LookupError):
    """No methodology of this catalogue has the digest."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The methodologies of a deployment: never two in force for one scenario on one day, never a version twice."""

    methodologies: tuple[Methodology, ...]
    scenarios: Mapping[str, tuple[Methodology, ...]]
    digests: Mapping[str, Methodology]

    def in_force(self, scenario: str, day: date) -> Methodology:
        """Raises UnknownScenario, NoMethodologyInForce."""
        candidates = self.scenarios.get(scenario)
        if candidates is None:
            raise UnknownScenario(shown(scenario), tuple(self.scenarios))
        for methodology in reversed(candidates):  # by version: the newest that covers the day
            if methodology.covers(day):
                return methodology
        raise NoMethodologyInForce(scenario, day.isoformat(), tuple(one.in_force_shown for one in candidates))

    def by_digest(self, digest: str) -> Methodology:
        """Raises UnknownMethodology."""
        if digest not in self.digests:
            raise UnknownMethodology(f"no methodology here has the digest {digest[:64]!r}")
        return self.digests[digest]

    def all(self) -> tuple[Methodology, ...]:
        """By id, then version."""
        return self.methodologies


def catalogue_of(methodologies: Iterable[Methodology]) -> Catalogue:
    """Raises MethodologyInvalid when two documents are one version, when two methodologies cover one scenario on one
    day, or claim one thing over time in ways that never meet.

    Versions of one methodology may overlap, since an approved document is never edited to end: on a day that several
    cover, the highest version is in force.
    """
    ordered = tuple(sorted(methodologies, key=lambda one: (one.id, one.version)))
    versions: set[tuple[str, int]] = set()
    scenarios: dict[str, tuple[Methodology, ...]] = {}
    for one in ordered:
        name = f"{one.id} version {one.version}"
        if (one.id, one.version) in versions:
            raise MethodologyInvalid(1, "stands in two documents; a correction is a new version", name)
        versions.add((one.id, one.version))
        earlier = scenarios.get(one.scenario.id, ())
        for other in earlier:
            if one.id != other.id and _meet(one.in_force, other.in_force):
                reason = (
                    f"in force for {one.scenario.id} on days of {other.id} version {other.version}: end that one first"
                )
                raise MethodologyInvalid(1, reason, name)
        scenarios[one.scenario.id] = (*earlier, one)
    _require_claims_to_meet(ordered)
    return Catalogue(ordered, scenarios, {one.digest: one for one in ordered})


def _require_claims_to_meet(methodologies: Sequence[Methodology]) -> None:
    """A claim over time is counted day by day, or with a use, and wherever hours are reported, as a span: the two do
    not see each other, and what one methodology counted the other would count again. Raises MethodologyInvalid.

    A methodology's own versions share no day, and what is incomplete counts nothing.
    """
    told: dict[tuple[str, ...], list[tuple[Methodology, bool]]] = {}
    for one in methodologies:
        for claim in () if one.missing else one.claims:
            if not claim.over_time:
                continue
            as_span = claim.use is not None or one.trigger in BY_THE_HOUR
            earlier = told.setdefault(claim.of, [])
            for other, other_as_span in earlier:
                if as_span != other_as_span and one.id != other.id and _meet(one.in_force, other.in_force):
                    reason = (
                        f"claims {'+'.join(claim.of)} over time {_FORM[as_span]}, and {other.id} version "
                        f"{other.version} {_FORM[other_as_span]}: the two never meet, and one thing would count twice; "
                        "write a use in both, or in none"
                    )
                    raise MethodologyInvalid(1, reason, f"{one.id} version {one.version}")
            earlier.append((one, as_span))


def _meet(one: Span | None, other: Span | None) -> bool:
    """Whether both are in force on some day; what is in force since nobody knows when never is."""
    return one is not None and other is not None and one.overlaps(other)


def load_catalogue(directory: Path | None = None, factor_sets: Mapping[str, FactorSet] = NO_FACTOR_SETS) -> Catalogue:
    """Read every *.yaml of the directory (default: those that ship). Raises MethodologyInvalid: file, line, reason.

    factor_sets   by id: what is pinned to one of them has to agree with it
    """
    sets = tuple(factor_sets.values())
    return catalogue_of(_load(path, sets) for path in sorted((directory or DIRECTORY).glob("*.yaml")))


def _load(path: Path, factor_sets: tuple[FactorSet, ...]) -> Methodology:
    try:
        return parse_once(read_file(path), factor_sets)
    except MethodologyInvalid as error:
        raise MethodologyInvalid(error.line, error.reason, path.name) from error


@lru_cache(maxsize=512)
def parse_once(source: bytes, factor_sets: tuple[FactorSet, ...] = ()) -> Methodology:
    """A document, read the first time only: the same bytes are the same document, and reading them takes a hundredth of
    a second. A command needs the shipped documents more than once, and a process that starts many platforms needs them
    for each. Raises MethodologyInvalid."""
    return parse_methodology(source, {one.id: one for one in factor_sets})
