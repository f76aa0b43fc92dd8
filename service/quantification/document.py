"""Rule documents: YAML read strictly into text, and the one byte form an auditor hashes.

What is read: one document of mappings, lists and scalars. No tags, anchors, aliases, merge keys, duplicate keys, second
documents or empty values; every scalar stays the text that was written, so `35.01` and `"35.01"` are the same value and
no figure ever passes through a float.

The canonical form (RFC 8785 of a tree that holds nothing but objects, arrays and strings) is: UTF-8; keys sorted; no
white space between tokens; `"` and `\\` escaped by a backslash, newline as `\\n`, all other characters as themselves.
The digest is the SHA-256 of these bytes, written as 64 lower-case hexadecimal digits. JSON of this form is YAML too, so
the reader also takes the canonical bytes, and gives them back unchanged.

Reading is bounded: 256 KiB, 10 levels. The parser's events are consumed one by one, so depth is refused before it is
built.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import yaml

MAX_BYTES = 256 * 1024  # the longest published methodology, with its sources and examples, is a tenth of this
MAX_DEPTH = 10  # document → factors → name → values → item → note → zh is 6

_KEY = re.compile(r"[a-z][a-z0-9_-]{0,63}|[A-Z]")  # the one capital is a grade of evidence
_NUMBER = re.compile(r"(?:-(?!0(?:\.0+)?$))?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,17}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
# Control characters, line separators, byte-order marks, lone surrogates; marks that reorder text on a screen.
_UNPRINTABLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


class DocumentInvalid(Exception):
    """A rule document is refused. `line` counts from 1; `reason` says what was expected and what came."""

    def __init__(self, line: int, reason: str, document: str = "") -> None:
        super().__init__(line, reason, document)
        self.line, self.reason, self.document = line, reason, document

    def __str__(self) -> str:
        return f"{self.document or 'document'} line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Bilingual:
    """One text in Simplified Chinese and in English."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Span:
    """Days from `first` to `last`, both included; `last` None is open."""

    first: date
    last: date | None = None

    def __contains__(self, day: date) -> bool:
        return self.first <= day and (self.last is None or day <= self.last)

    def overlaps(self, other: Span) -> bool:
        return (other.last is None or self.first <= other.last) and (self.last is None or other.first <= self.last)

    def __str__(self) -> str:
        return f"{self.first} – {self.last or ''}".rstrip()


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the line it stands on; inside a mapping, the line of its key."""

    line: int
    value: str | list[Node] | dict[str, Node]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise DocumentInvalid(self.line, f"expected one value here, found a {self._kind()}")
        return self.value

    def items(self) -> list[Node]:
        if not isinstance(self.value, list):
            raise DocumentInvalid(self.line, f"expected a list here, found a {self._kind()}")
        if not self.value:
            raise DocumentInvalid(self.line, "expected at least one item in this list")
        return self.value

    def mapping(self) -> dict[str, Node]:
        if not isinstance(self.value, dict):
            raise DocumentInvalid(self.line, f"expected named fields here, found a {self._kind()}")
        return self.value

    def fields(self, required: str, optional: str = "") -> dict[str, Node]:
        """The mapping, when it has all required fields and at most the optional ones beside them (space separated)."""
        present, must, may = self.mapping(), required.split(), optional.split()
        for name, node in present.items():
            if name not in must and name not in may:
                raise DocumentInvalid(node.line, f"unknown field {name!r}; known here: {', '.join(must + may)}")
        for name in must:
            if name not in present:
                raise DocumentInvalid(self.line, f"the field {name!r} is missing here")
        return present

    def one_of(self, allowed: Collection[str]) -> str:
        if self.text() not in allowed:
            raise DocumentInvalid(self.line, f"expected one of {', '.join(allowed)}, found {self.text()[:64]!r}")
        return self.text()

    def identifier(self) -> str:
        if len(self.text()) > 64 or not _ID.fullmatch(self.text()):
            raise DocumentInvalid(self.line, f"an id is a-z, 0-9 and single hyphens, not {self.text()[:64]!r}")
        return self.text()

    def digest(self) -> str:
        if not _DIGEST.fullmatch(self.text()):
            reason = f"a digest is 64 hexadecimal digits in lower case, not {self.text()[:64]!r}"
            raise DocumentInvalid(self.line, reason)
        return self.text()

    def whole(self) -> int:
        if not _WHOLE.fullmatch(self.text()):
            raise DocumentInvalid(self.line, f"expected a whole number, found {self.text()[:64]!r}")
        return int(self.text())

    def number(self) -> Decimal:
        """An exact decimal as written: at most 18 digits before and 18 after the point, no exponent."""
        if not _NUMBER.fullmatch(self.text()):
            raise DocumentInvalid(
                self.line,
                f"expected a decimal number such as 35.01, without exponent, found {self.text()[:64]!r}",
            )
        return Decimal(self.text())

    def day(self) -> date:
        try:
            if _DATE.fullmatch(self.text()):
                return date.fromisoformat(self.text())
        except ValueError:
            pass  # 2025-02-30 has the form of a day; the message below is the same
        raise DocumentInvalid(self.line, f"expected a day such as 2025-01-31, found {self.text()[:64]!r}")

    def bilingual(self) -> Bilingual:
        named = self.fields("zh en")
        return Bilingual(named["zh"].text(), named["en"].text())

    def counted(self, most: int) -> int:
        if not 1 <= self.whole() <= most:
            raise DocumentInvalid(self.line, f"expected a whole number from 1 to {most}, found {self.text()}")
        return self.whole()

    def span(self, *, shared: bool = False) -> Span:
        """`from` and an optional `to`, both days included; `shared` when other fields stand beside them."""
        named = self.mapping() if shared else self.fields("from", optional="to")
        first, last = named["from"].day(), named["to"].day() if "to" in named else None
        if last is not None and last < first:
            raise DocumentInvalid(named["to"].line, f"ends on {last}, before it starts on {first}")
        return Span(first, last)

    def plain(self) -> object:
        """The value without its lines: texts, lists and objects, as JSON would give them."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {name: item.plain() for name, item in self.value.items()}
        return self.value

    def canonical(self) -> bytes:
        return json.dumps(self.plain(), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    def _kind(self) -> str:
        return {str: "single value", list: "list", dict: "mapping"}[type(self.value)]


def digest_of(document: bytes) -> str:
    """The digest that names a rule document for ever: SHA-256 of its canonical bytes, lower-case hexadecimal."""
    return hashlib.sha256(document).hexdigest()


def read_file(path: Path) -> bytes:
    """A document's bytes; of a file that is too long, just enough for read_document to refuse it."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def read_document(source: bytes) -> Node:
    """Read YAML (or canonical JSON) strictly, in time linear in its size. Raises DocumentInvalid with the line."""
    if len(source) > MAX_BYTES:
        raise DocumentInvalid(1, f"a document has at most {MAX_BYTES} bytes")
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentInvalid(source.count(b"\n", 0, error.start) + 1, "this is not UTF-8") from error
    try:
        root = _build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentInvalid(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentInvalid(line, "a character that cannot be printed; remove it") from error
    if len(root.canonical()) > MAX_BYTES:
        raise DocumentInvalid(1, f"a document has at most {MAX_BYTES} bytes in its canonical form")
    return root


class _Open:
    """A list or mapping whose end has not been read yet."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.key: str | None = None
        self.key_line = node.line

    def add(self, child: Node) -> None:
        if isinstance(self.node.value, list):
            self.node.value.append(child)
        elif isinstance(self.node.value, dict):
            if self.key is None:
                self._take_key(child)
            else:
                self.node.value[self.key] = Node(self.key_line, child.value)
                self.key = None

    def _take_key(self, child: Node) -> None:
        if not isinstance(child.value, str) or not _KEY.fullmatch(child.value):
            raise DocumentInvalid(child.line, f"a field name is a-z, 0-9, _ and -, not {str(child.value)[:64]!r}")
        assert isinstance(self.node.value, dict)
        if child.value in self.node.value:
            raise DocumentInvalid(child.line, f"the field {child.value!r} stands here twice")
        self.key, self.key_line = child.value, child.line


def _build(text: str) -> Node:
    # PyYAML's own Python scanner, never libyaml: which texts are a document must not depend on the machine.
    top = _Open(Node(1, []))
    stack = [top]
    documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1 or event.version or event.tags:
                raise DocumentInvalid(line, "one document without directives is expected")
        elif isinstance(event, yaml.AliasEvent):
            raise DocumentInvalid(line, f"aliases are not read here: write the value of *{str(event.anchor)[:64]} out")
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            if event.anchor is not None:
                raise DocumentInvalid(line, f"anchors are not read here: remove &{event.anchor[:64]}")
            if event.tag is not None:
                raise DocumentInvalid(line, f"tags are not read here: remove {event.tag[:64]}")
            if isinstance(event, yaml.ScalarEvent):
                stack[-1].add(Node(line, _scalar(event, line)))
                continue
            if len(stack) > MAX_DEPTH:
                raise DocumentInvalid(line, f"nested deeper than {MAX_DEPTH} levels")
            stack.append(_Open(Node(line, [] if isinstance(event, yaml.SequenceStartEvent) else {})))
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = stack.pop()
            stack[-1].add(closed.node)
    roots = top.node.value
    if not isinstance(roots, list) or not roots:
        raise DocumentInvalid(1, "the document is empty")
    return roots[0]


def _scalar(event: yaml.ScalarEvent, line: int) -> str:
    value: str = event.value
    if event.style is None and value in ("", "~", "null", "Null", "NULL"):
        raise DocumentInvalid(line, "a field without a value: leave the field out")
    if value != value.strip() or not value:
        raise DocumentInvalid(
            line, "text is empty or has white space at an end (write >- instead of >, |- instead of |)"
        )
    found = _UNPRINTABLE.search(value)
    if found:
        raise DocumentInvalid(line, f"the character U+{ord(found.group()):04X} cannot be printed; remove it")
    return value
