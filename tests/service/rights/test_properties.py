"""What holds whatever the values: the day on which a guardian is no longer needed, and the search for somebody."""

import base64
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rights.guardians import AGE, guardian_needed_until
from tests.story.searching import forms, search

values = st.one_of(st.binary(min_size=12, max_size=40), st.text(min_size=12, max_size=30).map(str.encode)).filter(
    lambda value: len(value) >= 12
)


@given(st.dates(date(1950, 1, 1), date(2080, 12, 31)))
def test_from_that_day_on_everybody_born_in_the_month_is_fourteen(born_on: date) -> None:
    until = guardian_needed_until(born_on.replace(day=1))
    leap_day = (born_on.month, born_on.day) == (2, 29)
    birthday = date(born_on.year + AGE, 3, 1) if leap_day else born_on.replace(year=born_on.year + AGE)
    assert birthday <= until
    assert until - timedelta(days=31) <= birthday  # and nobody is held to it for longer than their month


@given(value=values, before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_a_value_is_found_however_it_was_written(value: bytes, before: bytes, after: bytes) -> None:
    whole = before + value + after
    written = [whole, whole.hex().encode(), base64.b64encode(whole), base64.urlsafe_b64encode(whole)]
    for text in written:
        assert any(form in text for form in forms(value)), text
    try:
        shown = value.decode()
    except UnicodeDecodeError:
        return
    assert any(form in quote(shown, safe="").encode() for form in forms(value))


@pytest.mark.parametrize("place", [0, 5, 4 * 2**20 - 3, 4 * 2**20, 9_000_000])
def test_a_value_is_found_across_the_pieces_of_a_file(tmp_path: Path, place: int) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"\0" * place + b"somebody-in-particular" + b"\0" * 100)
    assert search([file], [b"somebody-in-particular"]) == [(str(file), b"somebody-in-particular")]
    assert search([file], [b"somebody-in-general"]) == []
