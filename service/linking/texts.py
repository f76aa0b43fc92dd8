"""The texts that people agree to, as data: one document, a version for each purpose, both languages.

A document is read strictly (service.quantification.document): `schema`, then `terms`, `activities` and `bank`, each
with `text_version` and `text`, the last two with `learns` as well. In `text` and `learns`, `{party}` is who asks.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.quantification.document import Bilingual, DocumentInvalid, Node, read_document, read_file

Asking = Literal["activities", "bank"]

SHIPPED = Path(__file__).parent / "texts.yaml"
LONGEST = 20_000  # characters of one text
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PARTY = "{party}"


@dataclass(frozen=True, slots=True)
class ConsentText:
    """One text under its version; `learns` is what the party that asks gets to know, None of the terms."""

    text_version: str
    text: Bilingual
    learns: Bilingual | None

    def named(self, party: Bilingual) -> "ConsentText":
        """The same with the name of who asks in it."""
        return ConsentText(
            self.text_version, _named(self.text, party), None if self.learns is None else _named(self.learns, party)
        )


@dataclass(frozen=True, slots=True)
class ConsentTexts:
    """Every text that is agreed to now."""

    terms: ConsentText
    activities: ConsentText
    bank: ConsentText

    def of(self, asking: Asking) -> ConsentText:
        """The text of a link to a source or to a bank."""
        return self.activities if asking == "activities" else self.bank


def load_texts(path: Path | None) -> ConsentTexts:
    """The deployment's own texts, or the sample that ships. Raises DocumentInvalid with the line, OSError."""
    return parse_texts(read_file(path or SHIPPED))


def parse_texts(source: bytes) -> ConsentTexts:
    """Read one document. Raises DocumentInvalid with the line."""
    fields = read_document(source).fields("schema terms activities bank")
    fields["schema"].one_of(("1",))
    return ConsentTexts(
        terms=_read(fields["terms"]),
        activities=_read(fields["activities"], asking=True),
        bank=_read(fields["bank"], asking=True),
    )


def _read(node: Node, *, asking: bool = False) -> ConsentText:
    fields = node.fields("text_version text learns" if asking else "text_version text")
    version = fields["text_version"].text()
    if not _VERSION.fullmatch(version):
        raise DocumentInvalid(fields["text_version"].line, "a version is letters, digits, '.', '_' and '-', 1 to 100")
    return ConsentText(
        version, _bilingual(fields["text"], asking), _bilingual(fields["learns"], False) if asking else None
    )


def _bilingual(node: Node, party: bool) -> Bilingual:
    read = node.bilingual()
    for text in (read.zh, read.en):
        if not 1 <= len(text) <= LONGEST:
            raise DocumentInvalid(node.line, f"a text has 1 to {LONGEST} characters")
        if party and _PARTY not in text:
            raise DocumentInvalid(node.line, f"a consent to somebody names them: put {_PARTY} into both languages")
    return read


def _named(text: Bilingual, party: Bilingual) -> Bilingual:
    return Bilingual(text.zh.replace(_PARTY, party.zh), text.en.replace(_PARTY, party.en))
