"""The one form of a reference, and the tags made of it: what is one thing is one tag, what is another never is."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.activities.claims import reference_tag, register_tag
from service.activities.references import REFERENCES, ReferenceInvalid, canonical_reference
from service.keyring import Keyring

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "references.json").read_text("utf-8"))
KEYRING = Keyring(1, {1: bytes(range(32))})
words = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
names = st.sampled_from([name for name in REFERENCES if name != "operator"])


@pytest.mark.parametrize("vector", VECTORS["canonical"], ids=lambda vector: repr(vector["text"]))
def test_the_forms_are_those_that_tags_were_made_of(vector: dict[str, Any]) -> None:
    assert canonical_reference(vector["name"], vector["text"]) == vector["canonical"]


@pytest.mark.parametrize("vector", VECTORS["tags"], ids=lambda vector: vector["kind"])
def test_the_tags_are_those_that_were_released(vector: dict[str, Any]) -> None:
    tag = reference_tag(KEYRING, vector["kind"], vector["names"], vector["values"], *vector["also"])
    assert tag.hex() == vector["tag"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("order", ""),
        ("order", " - "),
        ("order", "A1\u200b"),
        ("order", "A1\u00ad"),
        ("meter", "1\n2"),
        ("order", "a" * 300 + "é"),
        ("operator", "Hello Bike"),
        ("operator", "哈啰"),
        ("operator", "-a"),
        ("operator", "a" * 65),
        ("operator", ""),
    ],
)
def test_what_names_nothing_is_refused(name: str, text: str) -> None:
    with pytest.raises(ReferenceInvalid):
        canonical_reference(name, text)


@given(names, st.text(alphabet="aBc019 -_/·é沪", min_size=1, max_size=20))
def test_the_form_of_a_form_is_itself_and_so_is_that_of_any_spelling(name: str, text: str) -> None:
    try:
        form = canonical_reference(name, text)
    except ReferenceInvalid:
        assert not any(letter.isalnum() for letter in text)
        return
    assert canonical_reference(name, form) == form
    assert canonical_reference(name, f" {text.lower()}- ") == form


@given(
    st.lists(st.tuples(st.sampled_from(REFERENCES), words), min_size=1, max_size=3),
    st.lists(words, max_size=2),
)
def test_no_two_things_share_a_tag(pairs: list[tuple[str, str]], also: list[str]) -> None:
    told, values = [name for name, _ in pairs], [value for _, value in pairs]
    tag = reference_tag(KEYRING, "claim/1", told, values, *also)
    assert tag == reference_tag(KEYRING, "claim/1", told, values, *also)
    others = [
        reference_tag(KEYRING, "span/1", told, values, *also),
        reference_tag(KEYRING, "claim/1", told, values, *also, "x"),
        reference_tag(KEYRING, "claim/1", [*told, "order"], [*values, "x"], *also),
    ]
    if also:  # a pair is never taken for what narrows it
        others.append(reference_tag(KEYRING, "claim/1", [*told, "order"], [*values, also[-1]], *also[:-1]))
    assert tag not in others
    assert len(set(others)) == len(others)


def test_an_organisation_in_a_register_is_none_in_the_log() -> None:
    code = "91310000MA1FL0LR4A"
    assert register_tag(KEYRING, "site", code) != reference_tag(KEYRING, "claim/1", ("site",), (code,))
