"""Unified social credit codes after GB 32100-2015: what the standard publishes, what its check character catches."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.organisations import ALPHABET, LENGTH, CodeMalformed, check_character, parse_code

digits, letters = st.sampled_from("0123456789"), st.sampled_from(ALPHABET)


@st.composite
def codes(draw: st.DrawFn) -> str:
    """Any code of the standard's form."""
    first = [draw(letters) for _ in range(2)] + [draw(digits) for _ in range(6)] + [draw(letters) for _ in range(9)]
    return "".join(first) + check_character("".join(first))


def wrong(text: str) -> CodeMalformed:
    with pytest.raises(CodeMalformed) as caught:
        parse_code(text)
    return caught.value


def test_the_alphabet_is_the_standards() -> None:
    assert len(ALPHABET) == 31
    assert set("ABCDEFGHIJKLMNOPQRSTUVWXYZ") - set(ALPHABET) == set("IOSVZ")


def test_the_worked_example_of_the_standard() -> None:
    """The values times the weights 1 3 9 27 19 26 16 17 20 29 25 13 8 24 10 30 28 are 1640 in sum, 28 by 31: 3."""
    assert check_character("91350100M000100Y4") == "3"
    assert parse_code("91350100M000100Y43") == "91350100M000100Y43"


@pytest.mark.parametrize("code", ["91110000600037341L", "11320000MB151840XJ", "91110108551385082Q"])
def test_published_codes(code: str) -> None:
    assert parse_code(f"  {code.lower()} ") == code


@given(codes())
def test_a_code_has_one_form(code: str) -> None:
    assert parse_code(code) == parse_code(code.lower()) == code


@given(codes(), st.integers(0, LENGTH - 1), letters)
def test_one_mistyped_character_is_always_noticed(code: str, place: int, other: str) -> None:
    assume(code[place] != other)
    assert wrong(code[:place] + other + code[place + 1 :]).position in (place + 1, LENGTH)


@given(codes(), st.integers(0, LENGTH - 1), st.integers(0, LENGTH - 1))
def test_two_characters_that_changed_places_are_always_noticed(code: str, one: int, other: int) -> None:
    assume(code[one] != code[other])
    assume({one, other} != {0, LENGTH - 1})  # 3^0 is the weight of the first, and 1 that of the check character
    swapped = list(code)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    assert wrong("".join(swapped)).code in ("code-check", "code-character")


@given(codes())
def test_of_31_check_characters_one_is_right(code: str) -> None:
    for letter in ALPHABET.replace(code[-1], ""):
        malformed = wrong(code[:-1] + letter)
        assert (malformed.code, malformed.position, malformed.expected) == ("code-check", LENGTH, code[-1])


@given(codes(), st.text(max_size=40))
def test_whatever_comes_is_a_code_or_refused_without_being_repeated(code: str, text: str) -> None:
    for candidate in (text, code + text, text + code, code[:9] + text + code[9:]):
        try:
            said = parse_code(candidate)
        except CodeMalformed as malformed:
            said = str(malformed)
        assert len(said) == LENGTH or len(said) < 100


@pytest.mark.parametrize(
    ("text", "code", "position", "expected"),
    [
        ("", "code-length", 0, "18"),
        ("91350100M000100Y4", "code-length", 0, "18"),
        ("91350100M000100Y433", "code-length", 0, "18"),
        ("91350I00M000100Y43", "code-character", 6, "0-9"),
        ("9135010AM000100Y43", "code-character", 8, "0-9"),
        ("91350100O000100Y43", "code-character", 9, "0-9 A-H J-N P-R T U W X Y"),
        ("91350100M000100Y4Z", "code-character", 18, "0-9 A-H J-N P-R T U W X Y"),
        ("９1350100M000100Y43", "code-character", 1, "0-9 A-H J-N P-R T U W X Y"),
        ("91350100M000100Yﬀ3", "code-character", 17, "0-9 A-H J-N P-R T U W X Y"),
        ("91350100M000100Y44", "code-check", 18, "3"),
    ],
)
def test_the_error_says_what_was_expected_where(text: str, code: str, position: int, expected: str) -> None:
    malformed = wrong(text)
    assert (malformed.code, malformed.position, malformed.expected) == (code, position, expected)
