"""A bank's file is read strictly: what is wrong is named with its place, and repeats nothing of the file."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settlement.bank_file import MOST_FAULTS, NEEDED, BankFileInvalid, Line, read_bank_file
from tests.service.settlement.drawing import BANK, DAY

HEADER = "transfer_id,redemption_id,kind,units,value_fen"
ONE, OTHER = UUID(int=1), UUID(int=2)
ROW = f"{ONE},{OTHER},capture,3,1500"


def read(text: str | bytes, form: str = "csv") -> tuple[Line, ...]:
    content = text.encode("utf-8") if isinstance(text, str) else text
    return read_bank_file(content, "csv" if form == "csv" else "json", bank=BANK, day=DAY).lines


def faults(text: str | bytes, form: str = "csv") -> list[tuple[int, str]]:
    with pytest.raises(BankFileInvalid) as caught:
        read(text, form)
    assert all(fault.expected.zh and fault.expected.en for fault in caught.value.faults)
    return [(fault.line, fault.column) for fault in caught.value.faults]


def test_five_columns_are_enough() -> None:
    expected = (Line(2, ONE, OTHER, "capture", 3, 1500, None, None),)
    for text in (f"{HEADER}\n{ROW}\n", f"{HEADER}\r\n{ROW}", "\ufeff" + f"{HEADER}\n{ROW}\n\n"):
        assert read(text) == expected
    assert read(f"value_fen,units,kind,redemption_id,transfer_id,points\n1500,3,capture,{OTHER},{ONE},30") == (
        Line(2, ONE, OTHER, "capture", 3, 1500, 30, None),
    )
    entry = f'{{"transfer_id":"{ONE}","redemption_id":"{OTHER}","kind":"capture","units":3,"value_fen":"1500"}}'
    assert read(f'{{"v":"1","entries":[{entry}]}}', "json") == (Line(1, ONE, OTHER, "capture", 3, 1500, None, None),)


def test_a_day_without_anything_is_a_file_of_its_header() -> None:
    assert read(HEADER) == ()
    assert read('{"v":"1","entries":[]}', "json") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [(1, name) for name in NEEDED]),
        (b"\xff\xfe", [(0, "")]),
        (HEADER.replace("units", "unit") + f"\n{ROW}", [(1, "units"), (1, "4")]),
        (f"{HEADER},kind\n{ROW},capture", [(1, "kind")]),
        (f"{HEADER}\n{ROW},7", [(2, "")]),
        (f"{HEADER}\n{ROW}\n{ROW.replace(',3,', ',-3,')}", [(3, "units")]),
        (f"{HEADER}\n{ROW.replace('1500', '15.00')}", [(2, "value_fen")]),
        (f"{HEADER}\n{ROW.replace('1500', '')}", [(2, "value_fen")]),
        (f"{HEADER}\n{ROW.replace('1500', '01500')}", [(2, "value_fen")]),
        (f"{HEADER}\n{ROW.replace('1500', '１５００')}", [(2, "value_fen")]),
        (f"{HEADER}\n{ROW.replace('1500', '9' * 19)}", [(2, "value_fen")]),
        (f"{HEADER}\n{ROW.replace('capture', 'spend')}", [(2, "kind")]),
        (f"{HEADER}\n{ROW.replace(str(ONE), 'A' * 32)}", [(2, "transfer_id")]),
        (f"{HEADER},record\n{ROW},line", [(2, "record")]),
        (f"{HEADER},day\n{ROW},2026-05-02", [(2, "day")]),
        (f"record,{HEADER},day\nstatement,,,,,,2026-05-02\nentry,{ROW},", [(2, "day")]),
        (f"record,{HEADER},bank\nstatement,,,,,,urn:other\nentry,{ROW},", [(2, "bank")]),
        (f"record,{HEADER}\ntotal,,,hold,3,5\ntotal,,,hold,3,5", [(3, "kind")]),
        (f'{HEADER}\n{ROW}\n"{ROW}', [(3, "")]),
    ],
)
def test_what_is_wrong_in_a_csv_is_named(text: str | bytes, expected: list[tuple[int, str]]) -> None:
    assert faults(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", [(0, "")]),
        ("{", [(0, "")]),
        ('{"v":"1","v":"1","entries":[]}', [(0, "")]),
        ('{"v":"1","entries":{}}', [(0, "entries")]),
        ('{"v":"2","entries":[]}', [(0, "v")]),
        ('{"v":"1","entries":[],"more":1}', [(0, "more")]),
        ('{"v":"1","entries":[],"day":"2026-05-02"}', [(0, "day")]),
        ('{"v":"1","entries":[7]}', [(1, "")]),
        (
            '{"v":"1","entries":[{"units":true}]}',
            [(1, name) for name in ("transfer_id", "redemption_id", "kind", "units", "value_fen")],
        ),
        ('{"v":"1","entries":[],"totals":{"hold":{"euros":"1"}}}', [(0, "totals")]),
        ('{"v":"1","entries":[],"totals":{"hold":{"units":1.5}}}', [(0, "units")]),
        ('{"v":"1","entries":[],"totals":{"all":{"units":1}}}', [(0, "kind")]),
        ('{"v":"1","entries":[{"units":' + "9" * 5000 + "}]}", [(0, "")]),
    ],
)  # fmt: skip
def test_what_is_wrong_in_json_is_named(text: str, expected: list[tuple[int, str]]) -> None:
    assert faults(text, "json") == expected


def test_a_file_that_is_wrong_everywhere_names_a_few_places() -> None:
    assert len(faults(f"{HEADER}\n" + "a,b,c,d,e\n" * 5000)) == MOST_FAULTS


@given(st.binary(max_size=300), st.sampled_from(["csv", "json"]))
def test_no_bytes_do_more_than_be_refused(content: bytes, form: str) -> None:
    try:
        read(content, form)
    except BankFileInvalid as invalid:
        seen = invalid.faults
        assert seen


@given(st.text(max_size=300), st.sampled_from(["csv", "json"]))
def test_no_text_under_a_good_header_does_more_than_be_refused(text: str, form: str) -> None:
    content = f"{HEADER}\n{text}" if form == "csv" else f'{{"v":"1","entries":[{text}]}}'
    try:
        read(content.encode("utf-8", "replace"), form)
    except BankFileInvalid as invalid:
        seen = invalid.faults
        assert seen
