"""Reading documents: one byte form for one value, and nothing surprising gets in."""

import json
from contextlib import suppress
from time import perf_counter

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from service.quantification.document import MAX_BYTES, MAX_DEPTH, DocumentInvalid, Node, digest_of, read_document

keys = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
characters = st.characters(exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="\u2028\u2029\ufeff\ufffe\uffff")
texts = (
    st.text(st.one_of(characters, st.just("\n")), min_size=1)
    .map(str.strip)
    .filter(bool)
    .filter(lambda text: not any(0x202A <= ord(mark) <= 0x202E or 0x2066 <= ord(mark) <= 0x2069 for mark in text))
)
trees = st.recursive(texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@given(trees)
def test_the_canonical_form_is_rfc_8785_and_reads_back_to_itself(tree: object) -> None:
    canonical = read_document(json.dumps(tree, ensure_ascii=False, indent=1).encode()).canonical()
    assert canonical == rfc8785.dumps(tree)  # type: ignore[arg-type]
    assert read_document(canonical).canonical() == canonical


def test_how_a_value_was_written_does_not_change_the_digest_and_what_was_written_does() -> None:
    one = read_document(b"# a comment\nb: 35.01\na: {zh: '\xe7\xa2\xb3', en: text}\n")
    other = read_document(b'{"a": {"en": "text", "zh": "\xe7\xa2\xb3"}, "b": "35.01"}')
    assert one.canonical() == other.canonical() == '{"a":{"en":"text","zh":"碳"},"b":"35.01"}'.encode()
    assert digest_of(one.canonical()) == "94b59ae48cec135c30ec90a4df85b377f92f08ec49d1facc39dd49ee44393ad0"
    assert read_document(b"b: 35.010").canonical() != read_document(b"b: 35.01").canonical()


def test_no_scalar_is_anything_but_text() -> None:
    found = read_document(b"a: 1e3\nb: yes\nc: 2016-01-01\nd: 0x10\ne: .inf\nf: 1_000\n")
    assert {name: node.value for name, node in found.mapping().items()} == {
        "a": "1e3",
        "b": "yes",
        "c": "2016-01-01",
        "d": "0x10",
        "e": ".inf",
        "f": "1_000",
    }


DEEP = "".join(f"{' ' * level}a:\n" for level in range(200)) + " " * 200 + "a: 1"


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("", 1, "empty"),
        ("# nothing\n", 1, "empty"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands here twice"),
        ('{"a": "1",\n "a": "2"}', 2, "'a' stands here twice"),
        ("a: &x 1\nb: *x\n", 1, "anchors"),
        ("a: 1\nb: *x\n", 2, "aliases"),
        ("a: 1\n<<: {b: 2}\n", 2, "field name"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tags"),
        ("a: !!float 1\n", 1, "tags"),
        ("%YAML 1.1\n---\na: 1\n", 1, "directives"),
        ("a: 1\n---\nb: 2\n", 2, "one document"),
        ("a: 1\nb:\n", 2, "leave the field out"),
        ("a: null\n", 1, "leave the field out"),
        ("a: ~\n", 1, "leave the field out"),
        ("a: ''\n", 1, "empty"),
        ("a: 'x '\n", 1, "white space"),
        ("a: |\n  x\n", 1, "white space"),
        ("a: [1, 2\n", 2, "not YAML"),
        ("a: 1\n\tb: 2\n", 2, "not YAML"),
        ("? [a]\n: 1\n", 1, "field name"),
        ("Ä: 1\n", 1, "field name"),
        ("a: 1\nb: \x00\n", 2, "printed"),
        ('a: "\\0"\n', 1, "U+0000 cannot be printed"),
        ('a: "\\u202e"\n', 1, "U+202E cannot be printed"),
        ('a: "\\ud800"\n', 1, "U+D800 cannot be printed"),
        (DEEP, MAX_DEPTH + 1, "nested deeper"),
        ("[" * 100_000, 1, "nested deeper"),
        ("{a: " * 60_000, 1, "nested deeper"),
        ("- " * 100_000, 1, "nested deeper"),
        ("a" * 10_000_000, 1, "262144 bytes"),
        ("a: '" + '"' * 200_000 + "'", 1, "canonical form"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_documents_made_to_harm_are_refused_with_line_and_reason(source: str, line: int, reason: str) -> None:
    begun = perf_counter()
    with pytest.raises(DocumentInvalid) as caught:
        read_document(source.encode())
    assert (caught.value.line, reason in caught.value.reason) == (line, True), str(caught.value)
    assert perf_counter() - begun < 2


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(DocumentInvalid, match="line 2: this is not UTF-8"):
        read_document(b"a: 1\nb: \xff\n")


@pytest.mark.parametrize(
    "item", ["a", "- a\n", "{a: 1}, ", "'a'\n\n", "k: v\n", "a:\n", "[],", "&a ", "*a ", "? ", "! "]
)
def test_a_document_of_any_repeated_thing_takes_bounded_time(item: str) -> None:
    begun = perf_counter()
    for source in (item, f"[{item}", f"a: {item}"):
        text = (source + item * MAX_BYTES)[:MAX_BYTES]
        with suppress(DocumentInvalid):
            read_document(text.encode())
    assert perf_counter() - begun < 10


@pytest.mark.parametrize("text", ["1e3", "+1", ".5", "5.", "01", "-0", "-0.0", "1_000", "NaN", "0x1", "1" * 19, "٣"])
def test_a_number_has_one_form(text: str) -> None:
    with pytest.raises(DocumentInvalid, match="line 7: expected a decimal number"):
        Node(7, text).number()


@pytest.mark.parametrize("text", ["2025-02-30", "20250131", "2025-1-31", "2025-W01-1", "today"])
def test_a_day_has_one_form(text: str) -> None:
    with pytest.raises(DocumentInvalid, match="expected a day"):
        Node(1, text).day()
