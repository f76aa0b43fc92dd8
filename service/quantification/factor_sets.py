"""Factor sets: the figures of one announcement, such as a year's electricity factors, that methodologies pin.

Documents, like methodologies. A set never changes: another announcement is another set, with an id of its own, and a
methodology names the one it was written with by its digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from service.quantification.document import Bilingual, DocumentInvalid, Node, digest_of, read_document, read_file
from service.quantification.model import CONFIDENCES, UNKNOWN, Source
from service.quantification.parsing_terms import read_published, read_sources, read_unit

DIRECTORY = Path(__file__).parent / "factor_sets"
KIND = "factor_set"
_FIELDS = "schema kind id title issuer document published quantity unit sources figures"


class FactorSetInvalid(DocumentInvalid):
    """A factor set is refused: `document`, `line`, `reason`."""


@dataclass(frozen=True, slots=True)
class SetFigure:
    """One figure of a set, in the set's unit. `value` and `confidence` are None where the figure was not found."""

    name: str
    meaning: Bilingual
    value: Decimal | None
    confidence: str | None
    source: Source | None
    quality: str | None
    note: Bilingual | None


@dataclass(frozen=True, slots=True, eq=False)
class FactorSet:
    """The figures of one announcement, pinned by the digest of the set's canonical document bytes.

    announcement   the number under which it was published
    published      a year, month or day, or unknown
    quantity       what the figures are: a statistical factor, the value of a scheme
    figures        by name, in the order of their names
    """

    id: str
    title: Bilingual
    issuer: Bilingual
    announcement: Bilingual
    published: str
    quantity: Bilingual
    unit: str
    sources: tuple[Source, ...]
    figures: Mapping[str, SetFigure]
    notes: tuple[Bilingual, ...]
    document: bytes = field(repr=False)
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FactorSet) and self.document == other.document

    def __hash__(self) -> int:
        return hash(self.document)


NO_FACTOR_SETS: Mapping[str, FactorSet] = MappingProxyType({})


def factor_sets_of(factor_sets: Iterable[FactorSet]) -> dict[str, FactorSet]:
    """By id. Raises FactorSetInvalid when two that differ have one id."""
    found: dict[str, FactorSet] = {}
    for one in sorted(factor_sets, key=lambda one: (one.id, one.digest)):
        if found.setdefault(one.id, one) != one:
            reason = "stands in two documents that differ; a set never changes: give another announcement another id"
            raise FactorSetInvalid(1, reason, one.id)
    return found


def load_factor_sets(directory: Path | None = None) -> dict[str, FactorSet]:
    """Read every *.yaml of the directory (default: those that ship). Raises FactorSetInvalid: file, line, reason."""
    return factor_sets_of(_load(path) for path in sorted((directory or DIRECTORY).glob("*.yaml")))


@lru_cache(maxsize=256)  # the same bytes are the same document
def parse_factor_set(source: bytes) -> FactorSet:
    """Read one document, YAML or its canonical JSON. Raises FactorSetInvalid with the line and what to do."""
    try:
        return _factor_set(read_document(source))
    except DocumentInvalid as error:
        raise FactorSetInvalid(error.line, error.reason) from error


def _load(path: Path) -> FactorSet:
    try:
        return parse_factor_set(read_file(path))
    except FactorSetInvalid as error:
        raise FactorSetInvalid(error.line, error.reason, path.name) from error


def _factor_set(root: Node) -> FactorSet:
    named = root.fields(_FIELDS, optional="notes")
    named["schema"].one_of(["1"])
    named["kind"].one_of([KIND])
    sources = read_sources(named["sources"])
    known = {source.id: source for source in sources}
    figures = {name: _figure(name, node, known) for name, node in sorted(named["figures"].mapping().items())}
    if not figures:
        raise DocumentInvalid(named["figures"].line, "expected at least one figure here")
    document = root.canonical()
    return FactorSet(
        id=named["id"].identifier(),
        title=named["title"].bilingual(),
        issuer=named["issuer"].bilingual(),
        announcement=named["document"].bilingual(),
        published=read_published(named["published"]),
        quantity=named["quantity"].bilingual(),
        unit=read_unit(named["unit"]),
        sources=sources,
        figures=figures,
        notes=tuple(note.bilingual() for note in named["notes"].items()) if "notes" in named else (),
        document=document,
        digest=digest_of(document),
    )


def _figure(name: str, node: Node, sources: Mapping[str, Source]) -> SetFigure:
    named = node.fields("meaning value", optional="confidence source quality note")
    value, confidence = None, None
    if named["value"].text() == UNKNOWN:
        node.fields("meaning value", optional="source note")  # what is not known has no confidence
    else:
        node.fields("meaning value confidence source", optional="quality note")
        value, confidence = named["value"].number(), named["confidence"].one_of(CONFIDENCES)
        if value < 0:
            raise DocumentInvalid(named["value"].line, f"expected a factor of 0 or more, found {value}")
    return SetFigure(
        name=name,
        meaning=named["meaning"].bilingual(),
        value=value,
        confidence=confidence,
        source=sources[named["source"].one_of(sources)] if "source" in named else None,
        quality=named["quality"].one_of(["low"]) if "quality" in named else None,
        note=named["note"].bilingual() if "note" in named else None,
    )
