"""Which methodology is in force: the catalogue of a deployment's documents. Reading one document is in parsing.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from service.quantification.document import read_file
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
]

DIRECTORY = Path(__file__).parent / "methodologies"


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
            if day in methodology.in_force:
                return methodology
        raise NoMethodologyInForce(scenario, day.isoformat(), tuple(str(one.in_force) for one in candidates))

    def by_digest(self, digest: str) -> Methodology:
        """Raises UnknownMethodology."""
        if digest not in self.digests:
            raise UnknownMethodology(f"no methodology here has the digest {digest[:64]!r}")
        return self.digests[digest]

    def all(self) -> tuple[Methodology, ...]:
        """By id, then version."""
        return self.methodologies


def catalogue_of(methodologies: Iterable[Methodology]) -> Catalogue:
    """Raises MethodologyInvalid when two documents are one version, or two methodologies cover one scenario on one day.

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
            if one.id != other.id and one.in_force.overlaps(other.in_force):
                reason = (
                    f"in force for {one.scenario.id} on days of {other.id} version {other.version}: end that one first"
                )
                raise MethodologyInvalid(1, reason, name)
        scenarios[one.scenario.id] = (*earlier, one)
    return Catalogue(ordered, scenarios, {one.digest: one for one in ordered})


def load_catalogue(directory: Path | None = None) -> Catalogue:
    """Read every *.yaml of the directory (default: those that ship). Raises MethodologyInvalid: file, line, reason."""
    return catalogue_of(_load(path) for path in sorted((directory or DIRECTORY).glob("*.yaml")))


def _load(path: Path) -> Methodology:
    try:
        return parse_methodology(read_file(path))
    except MethodologyInvalid as error:
        raise MethodologyInvalid(error.line, error.reason, path.name) from error
