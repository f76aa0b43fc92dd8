"""The bytes of the leaves of holds and of their steps. Their vectors are in leaves.json with those of other transfers,
and tests/ledger/test_leaves.py holds both to the same rules."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LeafInvalid
from ledger.hold_leaves import (
    HoldFacts,
    StepFacts,
    capture_leaf,
    decision_commitment,
    hold_leaf,
    refund_leaf,
    release_leaf,
    terms_commitment,
)
from ledger.journal import AMOUNT_MAX, PARTICIPANT_KINDS, Line, Transfer
from ledger.leaf_reading import read_leaf
from ledger.leaves import evidence_commitment, settlement_commitment, utc_second
from tests.strategies import hold_facts, nonces, step_facts, transfers

RIDER = UUID("5b0f6c1e-7d3a-4c57-9a36-0d4f4b2c9a11")
HOLD_ID = UUID("01936f5c-0000-7000-8000-000000000002")
CAPTURE_ID = UUID("01936f5c-0000-7000-8000-000000000003")
NONCE, SALT = bytes(range(16)), bytes(range(32))
AT = datetime(2026, 11, 21, 16, 30, 7, 999_999, UTC)
TERMS = b'{"offer":"demo-offer","units":"4","v":"1"}'
HOLD = Transfer(
    HOLD_ID,
    RIDER,
    "hold",
    3,
    "demo",
    "310000",
    (
        Line("available", "held", "points", 60, expires_on=date(2028, 2, 29)),
        Line("available", "held", "points", 20, expires_on=date(2028, 11, 30)),
    ),
    date(2026, 11, 22),
    AT,
)
FACTS = HoldFacts(
    bank="https://bank.example/green",
    offer="11" * 32,
    pool="demo-green-pool",
    units=4,
    value_fen=600,
    terms=terms_commitment(SALT, TERMS),
    expires_at=datetime(2026, 11, 21, 17, 0, 7, tzinfo=UTC),
)
GRAMS = Line("available", "held", "co2e_mg", 240, "behaviour", 2026)
STEP = StepFacts(bank=FACTS.bank, pool=FACTS.pool, units=1, value_fen=150, signature="33" * 32)
DECISION = b'{"dispute":"01936f5c-0000-7000-8000-000000000004","v":"1"}'
DECIDED = replace(STEP, authority="operator", signature=None, decision=decision_commitment(SALT, DECISION))
CAPTURE = replace(
    HOLD,
    transfer_id=CAPTURE_ID,
    kind="capture",
    counter=4,
    lines=(
        Line("held", "redeemed", "points", 20, expires_on=date(2028, 2, 29)),
        Line("held", "partner", "co2e_mg", 60, "behaviour", 2026),
    ),
    hold_id=HOLD_ID,
)
RELEASE = replace(
    HOLD,
    kind="release",
    counter=5,
    lines=(
        Line("held", "debt", "points", 30, expires_on=date(2028, 2, 29)),
        Line("held", "available", "points", 10, expires_on=date(2028, 2, 29)),
        Line("held", "available", "points", 20, expires_on=date(2028, 11, 30)),
    ),
    reason="rest",
    hold_id=HOLD_ID,
)
REFUND = replace(
    HOLD,
    kind="refund",
    counter=AMOUNT_MAX,
    lines=(
        Line("redeemed", "available", "points", 20, expires_on=date(2028, 2, 29)),
        Line("partner", "debt", "co2e_mg", 60, "behaviour", 2026),
    ),
    reason="not_fulfilled",
    reverses=CAPTURE_ID,
)

MADE: dict[str, Callable[[], bytes]] = {
    "hold": lambda: hold_leaf(HOLD, "citizen", FACTS, NONCE),
    "hold that a bank began, with grams": lambda: hold_leaf(
        replace(HOLD, lines=(*HOLD.lines, GRAMS)), "firm", replace(FACTS, value_fen=0, signature="33" * 32), bytes(16)
    ),
    "capture": lambda: capture_leaf(CAPTURE, "citizen", STEP, NONCE),
    "release": lambda: release_leaf(RELEASE, "citizen", replace(STEP, units=3, value_fen=450), NONCE),
    "release of a hold that lapsed": lambda: release_leaf(
        replace(RELEASE, reason="lapsed"), "firm", replace(STEP, units=4, authority="rule", signature=None), bytes(16)
    ),
    "refund": lambda: refund_leaf(REFUND, "citizen", replace(STEP, authority="operator", signature=None), NONCE),
    "refund by a decision": lambda: refund_leaf(REFUND, "citizen", DECIDED, NONCE),
    "refund that the bank asked for": lambda: refund_leaf(replace(REFUND, reason="cancelled"), "firm", STEP, bytes(16)),
    "release by a decision": lambda: release_leaf(
        replace(RELEASE, reason="withdrawn"), "citizen", replace(DECIDED, units=3, value_fen=450), NONCE
    ),
}


def test_the_terms_are_committed_to_under_a_prefix_of_their_own() -> None:
    by_hand = hashlib.sha256(b"tanpuhui/terms/1\n" + SALT + TERMS).hexdigest()
    assert terms_commitment(SALT, TERMS) == by_hand
    decided = hashlib.sha256(b"tanpuhui/decision/1\n" + SALT + TERMS).hexdigest()
    assert decision_commitment(SALT, TERMS) == decided
    assert len({by_hand, decided, evidence_commitment(SALT, TERMS), settlement_commitment(SALT, TERMS)}) == 4
    for commitment in (terms_commitment, decision_commitment):
        with pytest.raises(ValueError, match="32 bytes, not 31"):
            commitment(bytes(31), TERMS)


def test_a_hold_ends_on_a_whole_second() -> None:
    with pytest.raises(ValueError, match="whole second"):
        hold_leaf(HOLD, "citizen", replace(FACTS, expires_at=AT), NONCE)


@pytest.mark.parametrize("later_s", [-1, 0, 1])
def test_a_hold_ends_after_it_began(later_s: int) -> None:
    began = AT.replace(microsecond=0)
    facts = replace(FACTS, expires_at=began + timedelta(seconds=later_s))
    fields = json.loads(hold_leaf(HOLD, "citizen", FACTS, NONCE)) | {"expires_at": utc_second(facts.expires_at)}
    if later_s > 0:
        assert read_leaf(hold_leaf(HOLD, "citizen", facts, NONCE)) == fields
        return
    with pytest.raises(ValueError, match="after it began"):
        hold_leaf(HOLD, "citizen", facts, NONCE)
    with pytest.raises(LeafInvalid, match="expires_at is not after at"):
        read_leaf(rfc8785.dumps(fields))


@pytest.mark.parametrize("kind", ["capture", "release", "refund"])
@pytest.mark.parametrize("authority", ["bank", "participant", "operator", "rule"])
def test_a_signature_is_there_where_and_only_where_the_bank_acts(kind: str, authority: str) -> None:
    write, transfer = {
        "capture": (capture_leaf, CAPTURE),
        "release": (release_leaf, RELEASE),
        "refund": (refund_leaf, REFUND),
    }[kind]
    if kind == "capture" and authority != "bank":
        return
    for signature in (None, "33" * 32):
        facts = replace(STEP, authority=authority, signature=signature)
        fields = json.loads(write(transfer, "citizen", STEP, NONCE)) | {"signature": signature}
        if kind != "capture":
            fields["authority"] = authority
        if (authority == "bank") == (signature is not None):
            assert read_leaf(write(transfer, "citizen", facts, NONCE)) == fields
            continue
        with pytest.raises(ValueError, match="authority"):
            write(transfer, "citizen", facts, NONCE)
        with pytest.raises(LeafInvalid, match="signature"):
            read_leaf(rfc8785.dumps(fields))


def _read_back(leaf: bytes, transfer: Transfer, kind: str, facts: HoldFacts | StepFacts) -> dict[str, Any]:
    fields = read_leaf(leaf)
    assert rfc8785.dumps(fields) == leaf
    assert (fields["kind"], fields["participant_kind"]) == (transfer.kind, kind)
    assert UUID(fields["transfer"]) == transfer.transfer_id
    assert [(line["from"], line["to"], int(line["amount"])) for line in fields["lines"]] == [
        (line.from_account, line.to_account, line.amount) for line in transfer.lines
    ]
    assert datetime.fromisoformat(fields["at"]) == transfer.recorded_at.replace(microsecond=0)
    assert (fields["bank"], fields["pool"], fields["signature"]) == (facts.bank, facts.pool, facts.signature)
    assert (fields["units"], fields["value"]) == (str(facts.units), str(facts.value_fen))
    return fields


@given(transfers("hold"), st.sampled_from(PARTICIPANT_KINDS), hold_facts(), nonces)
def test_what_is_written_about_a_hold_is_read_back(
    transfer: Transfer, kind: str, facts: HoldFacts, nonce: bytes
) -> None:
    fields = _read_back(hold_leaf(transfer, kind, facts, nonce), transfer, kind, facts)
    assert (fields["offer"], fields["terms"]) == (facts.offer, facts.terms)
    assert datetime.fromisoformat(fields["expires_at"]) == facts.expires_at


@given(
    transfers("capture"), transfers("release"), transfers("refund"), st.sampled_from(PARTICIPANT_KINDS),
    step_facts(capture=True), step_facts(), nonces,
)  # fmt: skip
def test_what_is_written_about_a_step_is_read_back(
    capture: Transfer, release: Transfer, refund: Transfer, kind: str, captured: StepFacts, facts: StepFacts,
    nonce: bytes,
) -> None:  # fmt: skip
    fields = _read_back(capture_leaf(capture, kind, captured, nonce), capture, kind, captured)
    assert fields["hold"] == str(capture.hold_id)
    fields = _read_back(release_leaf(release, kind, facts, nonce), release, kind, facts)
    said = fields["hold"], fields["reason"], fields["authority"], fields["decision"]
    assert said == (str(release.hold_id), release.reason, facts.authority, facts.decision)
    fields = _read_back(refund_leaf(refund, kind, facts, nonce), refund, kind, facts)
    said = fields["reverses"], fields["reason"], fields["authority"], fields["decision"]
    assert said == (str(refund.reverses), refund.reason, facts.authority, facts.decision)


def test_every_field_is_described_in_the_section_of_its_kind() -> None:
    root = Path(__file__).parents[2]
    described = (root / "docs/audit.md").read_text("utf-8")
    common = described.partition("### Fields of every kind")[2].partition("### credit")[0]
    for name in ("leaves", "notices"):
        vectors = json.loads((root / f"tests/vectors/{name}.json").read_text("utf-8"))["leaves"]
        for leaf in (json.loads(stored["leaf"]) for stored in vectors.values()):
            section = described.partition(f"### {leaf['kind']}\n")[2].partition("\n##")[0]
            assert section, f"docs/audit.md says nothing of the leaf of a {leaf['kind']}"
            for field in leaf:
                told = f"| `{field}` |"
                assert told in section or told in common, f"docs/audit.md says nothing of {field} of a {leaf['kind']}"
