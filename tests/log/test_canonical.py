"""The expressions of the fast check accept the very bytes that the reader of leaves accepts."""

import json
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import LeafInvalid
from ledger.hold_leaves import capture_leaf, hold_leaf, refund_leaf, release_leaf
from ledger.journal import KINDS
from ledger.leaf_reading import read_leaf
from ledger.leaves import credit_leaf, lapse_leaf, maturity_leaf, reversal_leaf
from ledger.verify.canonical import fits, lines_of
from tests.log.histories import canonical
from tests.strategies import credit_facts, hold_facts, maturity_facts, nonces, step_facts, transfers

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "leaves.json").read_text("utf-8"))["leaves"]
TOLD = {name: stored["leaf"].encode() for name, stored in VECTORS.items()}
STEPS = {"capture": capture_leaf, "release": release_leaf, "refund": refund_leaf}
DAYS = ["2028-02-29", "2027-02-29", "2100-02-29", "2000-02-29", "0000-01-31", "0001-01-31", "0999-12-31", "9999-12-31"]
DAYS += ["2026-04-31", "2026-13-01", "2026-00-10", "2026-01-00", "2026-1-01", "2026-06-30", "1000-01-01"]
TIMES = ["00:00:00", "23:59:59", "24:00:00", "12:60:00", "12:00:60", "12:00:61", "1:00:00", "19:59:59"]
NUMBERS = ["0", "1", "01", "-1", "+1", "1.0", "1e3", "", " 1", "9223372036854775807", "9223372036854775808"]
NUMBERS += ["9223372036854775799", "9199999999999999999", "8999999999999999999", "9300000000000000000", "10" * 10]


def reads(leaf: bytes) -> bool:
    """Whether it is the leaf of a transfer, by the reader."""
    try:
        return read_leaf(leaf)["kind"] in KINDS
    except LeafInvalid:
        return False


def require_one_verdict(leaf: bytes) -> None:
    assert fits(leaf.decode("latin-1")) == reads(leaf), leaf


@st.composite
def leaves(draw: st.DrawFn) -> bytes:
    """The leaf of any transfer."""
    kind = draw(st.sampled_from(KINDS))
    transfer, nonce = draw(transfers(kind)), draw(nonces)
    if kind == "credit":
        return credit_leaf(transfer, "citizen", draw(credit_facts()), nonce)
    if kind == "reversal":
        return reversal_leaf(transfer, "firm", "operator", nonce, draw(st.none() | st.just("ab" * 32)))
    if kind == "lapse":
        return lapse_leaf(transfer, "citizen", nonce)
    if kind == "hold":
        return hold_leaf(transfer, "firm", draw(hold_facts()), nonce)
    if kind in STEPS:
        return STEPS[kind](transfer, "citizen", draw(step_facts(capture=kind == "capture")), nonce)
    points = any(line.asset == "points" for line in transfer.lines)
    return maturity_leaf(transfer, "citizen", draw(maturity_facts(points=points)), nonce)


@given(leaves())
def test_what_is_written_is_taken_with_its_lines(leaf: bytes) -> None:
    require_one_verdict(leaf)
    fields = read_leaf(leaf)
    text = leaf.decode()
    between = text[text.index('"lines":[') + 9 : text.index("}],") + 1]
    told = [
        (line["from"], line["to"], line["asset"], line["amount"], line.get("class"), line.get("vintage"),
         line.get("expires"))
        for line in fields["lines"]
    ]  # fmt: skip
    assert [tuple(None if part is None else str(part) for part in astuple(line)) for line in lines_of(between)] == told


@pytest.mark.parametrize("name", TOLD)
def test_the_vectors(name: str) -> None:
    require_one_verdict(TOLD[name])


@given(st.sampled_from(sorted(TOLD)) | st.none(), leaves(), st.data())
def test_a_changed_leaf_has_one_verdict(name: str | None, made: bytes, data: st.DataObject) -> None:
    leaf = bytearray(TOLD[name] if name else made)
    place = data.draw(st.integers(0, len(leaf) - 1))
    how = data.draw(st.sampled_from(["byte", "drop", "double", "insert", "cut", "swap"]))
    byte = data.draw(st.integers(0, 255) | st.sampled_from(b'0159af":,[]{}\x7f Z-'))
    if how == "byte":
        leaf[place] = byte
    elif how == "drop":
        del leaf[place]
    elif how == "double":
        leaf[place:place] = leaf[place : place + data.draw(st.integers(1, 80))]
    elif how == "insert":
        leaf.insert(place, byte)
    elif how == "cut":
        del leaf[place:]
    else:
        leaf[place : place + 2] = leaf[place : place + 2][::-1]
    require_one_verdict(bytes(leaf))


@pytest.mark.parametrize("name", ["hold", "capture", "release", "release of a hold that lapsed", "refund"])
def test_what_two_fields_say_together_has_one_verdict(name: str) -> None:
    fields = json.loads(TOLD[name])
    taken = []
    for authority in ("bank", "banks", "participant", "operator", "rule"):
        for signature in (None, "ab" * 32):
            for at in ("0999-12-31T23:59:59Z", fields["at"], fields.get("expires_at", fields["at"])):
                told = {"authority": authority, "signature": signature, "at": at}
                leaf = canonical(fields | {one: value for one, value in told.items() if one in fields})
                require_one_verdict(leaf)
                taken.append(reads(leaf))
    assert any(taken)
    assert not all(taken)


@given(leaves(), st.data())
@example(TOLD["credit"], None)
def test_another_value_has_one_verdict(leaf: bytes, data: st.DataObject | None) -> None:
    if data is None:
        for key, value in (("nonce", "\x7f" * 32), ("evidence", "\x7f" * 64), ("region", "é"), ("day", DAYS[0])):
            require_one_verdict(with_value(leaf, (key,), value))
        return
    fields = json.loads(leaf)
    path: tuple[str | int, ...] = (data.draw(st.sampled_from(sorted(fields))),)
    if path == ("lines",):
        place = data.draw(st.integers(0, len(fields["lines"]) - 1))
        path += (place, data.draw(st.sampled_from(sorted(fields["lines"][place]))))
    moments = [f"{day}T{time}Z" for day in ("2028-02-29", "0999-01-01", "2026-04-31") for time in TIMES]
    values: st.SearchStrategy[object] = (
        st.sampled_from([*DAYS, *moments, *NUMBERS, None, [], {}, "x", "A", "points", "co2e_mg", "é", "\x7f" * 32])
        | st.from_regex(r"[0-9a-f]{31,33}|[0-9a-f]{63,65}|[a-z0-9._-]{64,65}|[12]?[0-9]{3}", fullmatch=True)
        | st.lists(st.from_regex(r"[0-9]{1,6}:[0-9a-f]{64}", fullmatch=True), max_size=3)
    )
    require_one_verdict(with_value(leaf, path, data.draw(values)))


def with_value(leaf: bytes, path: tuple[str | int, ...], value: object) -> bytes:
    """The leaf with another value in one place, written canonically."""
    fields = json.loads(leaf)
    inside = fields
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
