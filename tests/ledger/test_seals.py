"""The record of a sealed balance has one form, and the sums of everybody agree with the system's."""

import json
from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LeafInvalid, LedgerInvariantBroken
from ledger.journal import ASSETS, PARTICIPANT_ACCOUNTS, no_balances
from ledger.notices import SealTotal
from ledger.seals import SealedBalance, Totals, read_sealed_record, sealed_record

WHO = UUID("7b0f9c1e-2f4d-4c6a-9e53-1d0c8a7b6e5f")
EXAMPLE = (
    b'{"balances":{"co2e_mg":{"available":"82273","debt":"0","held":"0","pending":"0"},"points":{"available":"82",'
    b'"debt":"0","held":"0","pending":"0"}},"buckets":{"2028-05-31":"82"},"counter":"1",'
    b'"participant":"7b0f9c1e-2f4d-4c6a-9e53-1d0c8a7b6e5f","v":"1"}'
)

amounts = st.integers(0, 2**60)


@st.composite
def balances(draw: st.DrawFn) -> SealedBalance:
    buckets = draw(st.dictionaries(st.dates(date(2000, 1, 1), date(2999, 12, 31)), st.integers(1, 2**40), max_size=4))
    found = {(asset, account): draw(amounts) for asset in ASSETS for account in PARTICIPANT_ACCOUNTS}
    found["points", "available"] = sum(buckets.values())
    return SealedBalance(draw(st.uuids()), draw(st.integers(1, 2**40)), found, buckets)


def test_the_record_of_the_documents() -> None:
    points = {("co2e_mg", "available"): 82273, ("points", "available"): 82}
    balance = SealedBalance(WHO, 1, no_balances() | points, {date(2028, 5, 31): 82, date(2028, 6, 30): 0})
    assert sealed_record(balance) == EXAMPLE
    assert read_sealed_record(EXAMPLE) == SealedBalance(WHO, 1, balance.balances, {date(2028, 5, 31): 82})


@given(balances())
def test_a_record_is_canonical_json_and_is_read_back(balance: SealedBalance) -> None:
    record = sealed_record(balance)
    fields = json.loads(record)
    assert json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() == record
    assert read_sealed_record(record) == balance


@pytest.mark.parametrize(
    "change",
    [
        (b'"82273"', b'"082273"'),
        (b'"82273"', b'"-1"'),
        (b'"82273"', b"82273"),
        (b'"82273"', b'"9223372036854775808"'),
        (b'"debt":"0","held"', b'"held"'),
        (b'"held":"0"', b'"held":"0","more":"0"'),
        (b'"counter":"1"', b'"counter":"0"'),
        (b'"2028-05-31":"82"', b'"2028-05-31":"81"'),
        (b'"2028-05-31":"82"', b'"2028-05-31":"82","2028-06-30":"0"'),
        (b'"2028-05-31"', b'"20280531"'),
        (b"7b0f9c1e", b"7B0F9C1E"),
        (b'"v":"1"', b'"v":"2"'),
        (b',"v":"1"', b""),
        (b"{", b" {"),
        (EXAMPLE, b"[]"),
        (EXAMPLE, b"\xff"),
        (EXAMPLE, b"null"),
    ],
)
def test_another_form_is_refused(change: tuple[bytes, bytes]) -> None:
    assert change[0] in EXAMPLE
    with pytest.raises(LeafInvalid):
        read_sealed_record(EXAMPLE.replace(*change, 1))


@pytest.mark.parametrize(
    "wrong",
    [
        SealedBalance(WHO, 0, no_balances(), {}),
        SealedBalance(WHO, 1, no_balances() | {("points", "held"): -1}, {}),
        SealedBalance(WHO, 1, no_balances() | {("points", "held"): 2**63}, {}),
        SealedBalance(WHO, 1, no_balances(), {date(2028, 5, 31): 1}),
    ],
)
def test_a_balance_that_nobody_can_have_is_a_bug(wrong: SealedBalance) -> None:
    with pytest.raises(LedgerInvariantBroken):
        sealed_record(wrong)


def test_what_everybody_has_came_from_somewhere() -> None:
    totals = Totals()
    for pending, debt in ((30, 0), (0, 12)):
        changed = {("points", "pending"): pending, ("points", "debt"): debt}
        totals.add(SealedBalance(WHO, 1, no_balances() | changed, {}))
    system = {("points", "issuance"): -20, ("points", "lapsed"): 2, ("co2e_mg", "issuance"): 0}
    assert totals.with_system(system) == (
        SealTotal("debt", "points", 12),
        SealTotal("issuance", "points", -20),
        SealTotal("lapsed", "points", 2),
        SealTotal("pending", "points", 30),
    )
    with pytest.raises(LedgerInvariantBroken, match="add up to zero"):
        totals.with_system(system | {("points", "lapsed"): 3})
