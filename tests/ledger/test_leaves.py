"""The bytes of leaf version 1. The stored vectors were written once and are never written again.

Whoever changes a byte of an encoding has made another version, and brings vectors of its own.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LeafInvalid
from ledger.journal import AMOUNT_MAX, PARTICIPANT_KINDS, Line, Transfer
from ledger.leaf_reading import read_leaf
from ledger.leaves import (
    LEAF_MAX_BYTES,
    CreditFacts,
    MaturityFacts,
    credit_leaf,
    evidence_commitment,
    lapse_leaf,
    maturity_leaf,
    reversal_leaf,
    settlement_commitment,
)
from ledger.notices import ManifestFacts, RuleApproval, RuleFacts, manifest_leaf, rule_leaf
from tests.ledger import test_hold_leaves
from tests.strategies import credit_facts, manifest_facts, maturity_facts, moments, nonces, rule_facts, transfers

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "leaves.json").read_text("utf-8"))

RIDER = UUID("5b0f6c1e-7d3a-4c57-9a36-0d4f4b2c9a11")
CREDIT_ID = UUID("01936f5a-8c00-7abc-8def-0123456789ab")
REVERSAL_ID = UUID("01936f5b-0000-7000-8000-000000000001")
NONCE = bytes(range(16))
SALT = bytes(range(32))
DOCUMENT = b'{"basis":{},"event":"ride-1","inputs":{"distance_km":"2.35"}}'
FACTS = CreditFacts(
    activity=CREDIT_ID,
    source="https://rides.example/feed",
    grade="A",
    methodology="11" * 32,
    points_rule="22" * 32,
    evidence=evidence_commitment(SALT, DOCUMENT),
    claims=("1:" + "ab" * 32,),
)
CREDIT = Transfer(
    CREDIT_ID,
    RIDER,
    "credit",
    1,
    "demo",
    "310000",
    (
        Line("issuance", "available", "co2e_mg", 82273, "behaviour", 2026),
        Line("issuance", "available", "points", 82, expires_on=date(2028, 11, 30)),
    ),
    date(2026, 11, 22),
    datetime(2026, 11, 21, 16, 30, 7, 999_999, UTC),
)
REVERSAL = replace(
    CREDIT,
    transfer_id=REVERSAL_ID,
    kind="reversal",
    counter=2,
    lines=(
        Line("available", "issuance", "co2e_mg", 82273, "behaviour", 2026),
        Line("available", "issuance", "points", 60, expires_on=date(2028, 11, 30)),
        Line("available", "issuance", "points", 12, expires_on=date(2028, 2, 29)),
        Line("debt", "issuance", "points", 10),
    ),
    reverses=CREDIT_ID,
    reason="posted_in_error",
)
LAPSE = replace(
    CREDIT,
    kind="lapse",
    counter=AMOUNT_MAX,
    lines=tuple(
        Line("available", "lapsed", "points", points, expires_on=date(2028, month, 29))
        for points, month in ((1, 2), (AMOUNT_MAX, 12))
    ),
)
PENDING = replace(
    CREDIT,
    lines=(
        Line("issuance", "pending", "co2e_mg", 412_000_000, "scenario", 2026),
        Line("issuance", "pending", "points", 412_000),
        Line("partner", "pending", "points", 41_200),
    ),
)
MATURITY = replace(
    PENDING,
    transfer_id=REVERSAL_ID,
    kind="maturity",
    counter=2,
    lines=(
        Line("pending", "available", "co2e_mg", 412_000_000, "scenario", 2026),
        Line("pending", "debt", "points", 200),
        Line("pending", "available", "points", 453_000, expires_on=date(2029, 12, 31)),
    ),
    matures=CREDIT_ID,
)
RECORD = b'{"facts":{"has_pv":"0","tier":"2"},"v":"1"}'
SETTLED = MaturityFacts(
    authority="operator",
    awaited="settlement",
    facts=settlement_commitment(SALT, RECORD),
    points_rule="22" * 32,
)
WITHDRAWAL = replace(
    REVERSAL,
    lines=tuple(replace(line, from_account="pending", to_account=line.from_account) for line in PENDING.lines),
    reason="not_eligible_at_settlement",
)
RULE = RuleFacts(
    programme="demo",
    document_kind="methodology",
    id="shared-ebike",
    version=2,
    status="group_standard",
    digest="11" * 32,
    approvals=(
        RuleApproval("technical_body", "office-7", "_kid-2", "44" * 32, "55" * 64, date(2026, 11, 22)),
        RuleApproval("competent_authority", "bureau-3", "Kid1", "66" * 32, "77" * 64, date(2026, 9, 1)),
    ),
)
MANIFEST = ManifestFacts(
    source="https://rides.example/feed",
    programme="demo",
    region="310000",
    day=date(2026, 11, 21),
    sequence=1,
    digest="88" * 32,
    received="99" * 32,
    key="bb" * 32,
)
AT = CREDIT.recorded_at

# How each stored leaf is made.
MADE: dict[str, Callable[[], bytes]] = {
    "credit": lambda: credit_leaf(CREDIT, "citizen", FACTS, NONCE),
    "credit that repays a debt, with claims and a signature": lambda: credit_leaf(
        replace(
            CREDIT,
            lines=(
                Line("issuance", "debt", "co2e_mg", 1, "project", 2016),
                Line("issuance", "debt", "points", 5),
                Line("issuance", "available", "points", 77, expires_on=date(2028, 2, 29)),
            ),
        ),
        "firm",
        replace(
            FACTS,
            grade="C",
            claims=("2:" + "ff" * 32, "10:" + "00" * 32, "2:" + "0f" * 32),
            signature="33" * 32,
            replaces=REVERSAL_ID,
        ),
        bytes(16),
    ),
    "credit without points": lambda: credit_leaf(
        replace(CREDIT, lines=CREDIT.lines[:1]),
        "social_organisation",
        replace(FACTS, points_rule=None, claims=()),
        NONCE,
    ),
    "reversal": lambda: reversal_leaf(REVERSAL, "citizen", "operator", NONCE),
    "lapse": lambda: lapse_leaf(LAPSE, "citizen", NONCE),
    "credit that is pending, partly out of a campaign's budget": lambda: credit_leaf(PENDING, "firm", FACTS, NONCE),
    "reversal of a pending credit at its settlement": lambda: reversal_leaf(
        WITHDRAWAL, "firm", "source", NONCE, settlement_commitment(SALT, RECORD)
    ),
    "maturity": lambda: maturity_leaf(MATURITY, "firm", SETTLED, NONCE),
    "maturity of grams alone, at their registration": lambda: maturity_leaf(
        replace(MATURITY, lines=MATURITY.lines[:1]),
        "citizen",
        MaturityFacts(
            authority="source",
            awaited="registration",
            facts="aa" * 32,
            source="https://registry.example/",
            signature="33" * 32,
        ),
        bytes(16),
    ),
    "rule": lambda: rule_leaf(RULE, AT, NONCE),
    "manifest": lambda: manifest_leaf(MANIFEST, AT, NONCE),
    **test_hold_leaves.MADE,
}


def test_every_stored_vector_is_made_and_every_made_one_is_stored() -> None:
    assert VECTORS["version"] == "1"
    assert list(VECTORS["leaves"]) == list(MADE)


@pytest.mark.parametrize("name", MADE)
def test_the_bytes_are_those_that_were_frozen(name: str) -> None:
    stored = VECTORS["leaves"][name]
    leaf = MADE[name]()
    assert leaf.decode("ascii") == stored["leaf"]
    assert hashlib.sha256(leaf).hexdigest() == stored["sha256"]
    assert read_leaf(leaf) == json.loads(leaf)
    assert rfc8785.dumps(json.loads(leaf)) == leaf


def test_the_evidence_commitment_is_the_one_that_was_frozen() -> None:
    stored = VECTORS["evidence"]
    assert (stored["salt"], stored["document"]) == (SALT.hex(), DOCUMENT.decode())
    assert evidence_commitment(SALT, DOCUMENT) == stored["commitment"]
    by_hand = hashlib.sha256(b"tanpuhui/evidence/1\n" + SALT + DOCUMENT).hexdigest()
    assert by_hand == stored["commitment"]
    for length in (31, 33, 0):
        with pytest.raises(ValueError, match=f"32 bytes, not {length}"):
            evidence_commitment(bytes(length), DOCUMENT)


def test_a_settlement_record_is_committed_to_under_a_prefix_of_its_own() -> None:
    stored = VECTORS["settlement"]
    assert (stored["salt"], stored["record"]) == (SALT.hex(), RECORD.decode())
    by_hand = hashlib.sha256(b"tanpuhui/settlement/1\n" + SALT + RECORD).hexdigest()
    assert settlement_commitment(SALT, RECORD) == stored["commitment"] == by_hand
    assert settlement_commitment(SALT, RECORD) != evidence_commitment(SALT, RECORD)
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        settlement_commitment(bytes(31), RECORD)


def test_a_time_is_cut_to_its_second_and_told_in_utc() -> None:
    assert read_leaf(MADE["credit"]())["at"] == "2026-11-21T16:30:07Z"
    assert read_leaf(MADE["credit"]())["day"] == "2026-11-22"


def test_claims_are_sorted_and_named_once() -> None:
    leaf = read_leaf(MADE["credit that repays a debt, with claims and a signature"]())
    assert leaf["claims"] == sorted(leaf["claims"])
    with pytest.raises(ValueError, match="once"):
        credit_leaf(CREDIT, "citizen", replace(FACTS, claims=FACTS.claims * 2), NONCE)


def test_a_maturity_names_the_points_rule_of_the_points_that_mature() -> None:
    for lines, points_rule in ((MATURITY.lines, None), (MATURITY.lines[:1], "22" * 32)):
        with pytest.raises(ValueError, match="points rule where, and only where"):
            maturity_leaf(replace(MATURITY, lines=lines), "citizen", replace(SETTLED, points_rule=points_rule), NONCE)


def test_a_rule_is_approved_in_each_role_once_and_by_nobody_twice() -> None:
    fields = read_leaf(MADE["rule"]())
    assert [approval["role"] for approval in fields["approvals"]] == ["competent_authority", "technical_body"]
    one, two = RULE.approvals
    for approvals in ((), (one, one), (one, replace(two, role=one.role)), (one, replace(two, approver=one.approver))):
        with pytest.raises(ValueError, match="another role and by another approver"):
            rule_leaf(replace(RULE, approvals=approvals), AT, NONCE)


def test_a_text_that_would_need_an_escape_makes_no_leaf() -> None:
    for name in ("ausschuß", "局", 'a"b', "a\\b", "a\nb"):
        with pytest.raises((ValueError, LeafInvalid)):
            read_leaf(rule_leaf(replace(RULE, approvals=(replace(RULE.approvals[0], approver=name),)), AT, NONCE))


def _accepts(leaf: bytes, kind: str, transfer: Transfer, participant_kind: str) -> dict[str, Any]:
    fields = read_leaf(leaf)
    assert rfc8785.dumps(fields) == leaf
    assert (fields["kind"], fields["participant_kind"]) == (kind, participant_kind)
    assert UUID(fields["transfer"]) == transfer.transfer_id
    assert [(line["from"], line["to"], int(line["amount"])) for line in fields["lines"]] == [
        (line.from_account, line.to_account, line.amount) for line in transfer.lines
    ]
    assert int(fields["counter"]) == transfer.counter
    assert datetime.fromisoformat(fields["at"]) == transfer.recorded_at.replace(microsecond=0)
    return fields


@given(transfers("credit"), st.sampled_from(PARTICIPANT_KINDS), credit_facts(), nonces)
def test_what_is_written_about_a_credit_is_read_back(
    transfer: Transfer, kind: str, facts: CreditFacts, nonce: bytes
) -> None:
    fields = _accepts(credit_leaf(transfer, kind, facts, nonce), "credit", transfer, kind)
    assert (fields["source"], fields["evidence"], fields["points_rule"]) == (
        facts.source,
        facts.evidence,
        facts.points_rule,
    )
    assert set(fields["claims"]) == set(facts.claims)
    assert fields["nonce"] == nonce.hex()


@given(transfers("reversal"), transfers("lapse"), st.sampled_from(PARTICIPANT_KINDS), nonces)
def test_what_is_written_about_a_reversal_and_a_lapse_is_read_back(
    reversal: Transfer, lapse: Transfer, kind: str, nonce: bytes
) -> None:
    fields = _accepts(reversal_leaf(reversal, kind, "operator", nonce), "reversal", reversal, kind)
    assert (fields["reverses"], fields["reason"]) == (str(reversal.reverses), reversal.reason)
    _accepts(lapse_leaf(lapse, kind, nonce), "lapse", lapse, kind)


@given(transfers("maturity"), st.sampled_from(PARTICIPANT_KINDS), st.data(), nonces)
def test_what_is_written_about_a_maturity_is_read_back(
    maturity: Transfer, kind: str, data: st.DataObject, nonce: bytes
) -> None:
    facts = data.draw(maturity_facts(points=any(line.asset == "points" for line in maturity.lines)))
    fields = _accepts(maturity_leaf(maturity, kind, facts, nonce), "maturity", maturity, kind)
    assert fields["matures"] == str(maturity.matures)
    for name in ("authority", "awaited", "facts", "points_rule", "signature", "source"):
        assert fields[name] == getattr(facts, name)


@given(rule_facts(), manifest_facts(), moments, nonces)
def test_what_is_written_about_a_rule_and_a_manifest_is_read_back(
    rule: RuleFacts, manifest: ManifestFacts, at: datetime, nonce: bytes
) -> None:
    for leaf, facts in ((rule_leaf(rule, at, nonce), rule), (manifest_leaf(manifest, at, nonce), manifest)):
        fields = read_leaf(leaf)
        assert rfc8785.dumps(fields) == leaf
        assert datetime.fromisoformat(fields["at"]) == at.replace(microsecond=0)
        assert fields["nonce"] == nonce.hex()
        for name in fields.keys() - {"approvals", "at", "kind", "nonce", "v"}:
            assert fields[name] == str(getattr(facts, name))
    told = [[entry[name] for name in ("role", "approver", "key", "public_key", "signature", "signed_on")]
            for entry in read_leaf(rule_leaf(rule, at, nonce))["approvals"]]  # fmt: skip
    assert told == sorted([each.role, each.approver, each.key, each.public_key, each.signature, str(each.signed_on)]
                          for each in rule.approvals)  # fmt: skip


_UUIDS = [str(RIDER).upper(), "{" + str(RIDER) + "}", RIDER.hex, str(RIDER) + "\n", "", 7, None, [str(RIDER)]]
_SORTED = [*_UUIDS, str(RIDER), "01936f5a-8c00-7abc-7def-0123456789ab"]
_DIGESTS = ["11" * 31, "11" * 33, "AB" * 32, "0x" + "11" * 31, "", 11, "11" * 32 + "\n", ["11" * 32]]
_CODES = ["", "Demo", "a b", "-a", "x" * 65, "碳", None, 3, "demo\n"]
_NUMBERS = [
    "0",
    "-1",
    "01",
    "+1",
    "1.0",
    "1e3",
    "",
    " 1",
    "１",
    "1_0",
    str(AMOUNT_MAX + 1),
    "9" * 5000,
    1,
    1.5,
    True,
    None,
]
_DAYS = ["2026-2-3", "2026-02-30", "20260203", "2026-02-03Z", "２０２６-02-03", "", 20260203, ["2026-02-03"]]
_TAG = "1:" + "ab" * 32
_MOMENTS = ["2026-11-21T16:30:07", "2026-11-21T16:30:07.5Z", "2026-11-21T24:00:00Z", "2026-11-21 16:30:07Z",
            "2026-11-21T16:30:07+00:00", "2026-11-21t16:30:07z", "2026-11-21T16:30:60Z", "", 0, None]  # fmt: skip
_URIS = ["", "rides", "1a:b", "urn:", "urn:a b", 'urn:"', "urn:\\", "urn:骑行", "urn:" + "x" * 501, None, 1]
_NAMES: list[Any] = ["", "nobody", "Citizen", None, 1, [], {}]

# Values that each field refuses, beside a missing one.
BAD: dict[str, list[Any]] = {
    "activity": _SORTED,
    "approvals": [None, [], {}, "approved", [None], [[]], [{}]],
    "at": _MOMENTS,
    "authority": _CODES,
    "awaited": _CODES,
    "bank": _URIS,
    "claims": [None, {}, _TAG, [None], [""], ["ab" * 32], ["0:" + "ab" * 32], ["1:" + "AB" * 32], [_TAG, _TAG],
               ["2:" + "ab" * 32, _TAG], ["123456:" + "ab" * 32]],
    "counter": _NUMBERS,
    "day": [*_DAYS, None],
    "decision": _DIGESTS,
    "digest": [*_DIGESTS, None],
    "document_kind": ["rule", "", "Methodology", None, 1],
    "expires_at": _MOMENTS,
    "facts": _DIGESTS,
    "evidence": [*_DIGESTS, None],
    "hold": _SORTED,
    "grade": ["D", "a", "", "AB", None, 1, ["A"]],
    "id": _CODES,
    "key": [*_DIGESTS, None],
    "kind": ["transfer", "", "Credit", None, 1, ["credit"]],
    "lines": [[], None, {}, "line", [None], ["line"], [[]], [{}]],
    "matures": _SORTED,
    "methodology": [*_DIGESTS, None],
    "nonce": ["00" * 15, "00" * 17, "AB" * 16, "", None, 0],
    "offer": [*_DIGESTS, None],
    "participant": _UUIDS,
    "participant_kind": _NAMES,
    "points_rule": _DIGESTS,
    "pool": _CODES,
    "programme": _CODES,
    "reason": _CODES,
    "received": [*_DIGESTS, None],
    "region": _CODES,
    "replaces": [value for value in _SORTED if value is not None],
    "reverses": _SORTED,
    "sequence": _NUMBERS,
    "signature": _DIGESTS,
    "source": _URIS,
    "status": _CODES,
    "terms": [*_DIGESTS, None],
    "transfer": _SORTED,
    "units": _NUMBERS,
    "value": _NUMBERS[1:],
    "version": _NUMBERS,
    "v": ["2", "", 1, None, "01"],
    "amount": _NUMBERS,
    "asset": ["yuan", "", None, 1, ["points"], {}],
    "from": _NAMES,
    "to": _NAMES,
    "expires": _DAYS,
    "class": ["", "official", None, 1],
    "vintage": ["026", "20260", "3026", "", None, 2026, "２０２６"],
}  # fmt: skip


# One leaf of each kind, and the fields that it leaves null where others may not.
KINDS_OF_LEAF = ("credit", "reversal", "lapse", "maturity", "hold", "capture", "release", "refund", "rule", "manifest")
MAY_BE_NULL = {("maturity", "source")}


def _fields_of(leaf: str) -> list[tuple[str, int | None]]:
    fields = json.loads(leaf)
    own = [(name, None) for name in fields]
    return own + [(name, number) for number, line in enumerate(fields.get("lines", ())) for name in line]


@pytest.mark.parametrize("name", KINDS_OF_LEAF)
def test_every_bad_value_of_every_field_is_refused_by_name(name: str) -> None:
    stored = VECTORS["leaves"][name]["leaf"]
    for field, number in _fields_of(stored):
        for bad in BAD[field]:
            if bad is None and (name, field) in MAY_BE_NULL:
                continue
            fields = json.loads(stored)
            (fields if number is None else fields["lines"][number])[field] = bad
            with pytest.raises(LeafInvalid) as refused:
                read_leaf(rfc8785.dumps(fields))
            if field not in ("v", "kind", "asset", "lines"):  # those say which values there are
                expected = f"{field} cannot be" if json.dumps(bad, ensure_ascii=False).isascii() else "in ASCII"
                assert expected in str(refused.value)


def test_every_bad_value_of_an_approval_is_refused() -> None:
    stored = VECTORS["leaves"]["rule"]["leaf"]
    bad_values: dict[str, list[Any]] = {
        "approver": _CODES,
        "key": ["", "a b", "a" * 129, ".a", 'a"', "键", None, 1],
        "public_key": [*_DIGESTS, None],
        "role": [*_CODES, "technical_body", "zzz"],  # twice; out of order
        "signature": ["55" * 63, "55" * 65, "AB" * 64, "", None, 5, "55" * 32],
        "signed_on": [*_DAYS, None],
        "more": ["x"],
    }
    for field, values in bad_values.items():
        for bad in values:
            fields = json.loads(stored)
            fields["approvals"][0][field] = bad
            with pytest.raises(LeafInvalid, match=r"approvals cannot be|in ASCII"):
                read_leaf(rfc8785.dumps(fields))
        fields = json.loads(stored)
        fields["approvals"][0].pop(field, None)
        if field != "more":
            with pytest.raises(LeafInvalid, match="approvals cannot be"):
                read_leaf(rfc8785.dumps(fields))
    fields = json.loads(stored)
    fields["approvals"][1]["approver"] = fields["approvals"][0]["approver"]
    with pytest.raises(LeafInvalid, match="approvals cannot be"):
        read_leaf(rfc8785.dumps(fields))


@pytest.mark.parametrize("name", KINDS_OF_LEAF)
def test_no_field_is_optional_and_none_is_added(name: str) -> None:
    stored = VECTORS["leaves"][name]["leaf"]
    for field, number in _fields_of(stored):
        fields = json.loads(stored)
        del (fields if number is None else fields["lines"][number])[field]
        with pytest.raises(LeafInvalid):
            read_leaf(rfc8785.dumps(fields))
    for place in (None, 0) if "lines" in json.loads(stored) else (None,):
        fields = json.loads(stored)
        (fields if place is None else fields["lines"][place])["more"] = None
        with pytest.raises(LeafInvalid, match=r"unknown fields \['more'\]"):
            read_leaf(rfc8785.dumps(fields))


@pytest.mark.parametrize("name", MADE)
def test_one_fact_has_one_byte_form(name: str) -> None:
    leaf = MADE[name]()
    fields = json.loads(leaf)
    backwards = dict(reversed(fields.items()))
    others = [
        json.dumps(fields).encode(),
        json.dumps(backwards, separators=(",", ":")).encode(),
        leaf + b"\n",
        b" " + leaf,
        b"\xef\xbb\xbf" + leaf,
        leaf.replace(b'"v":"1"', b'"v":"1","v":"1"'),
        leaf.replace(b'"demo"', b'"\\u0064emo"'),
        leaf.replace(b"/", b"\\/") if b"/" in leaf else leaf + leaf,
        leaf[:-1],
        leaf + b"}",
    ]
    for other in others:
        with pytest.raises(LeafInvalid):
            read_leaf(other)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"null",
        b"[]",
        b'""',
        b"1",
        b"{}",
        b'{"v":"1"}',
        b"[" * 60_000,
        b"\xff",
        "碳".encode(),
        b"{" * 65_536,
        b"1" * 60_000,
    ],
    ids=lambda other: repr(other[:12]),
)
def test_what_is_no_leaf_is_refused(other: bytes) -> None:
    with pytest.raises(LeafInvalid):
        read_leaf(other)


def test_a_leaf_fits_sixteen_bits_of_length() -> None:
    line = CREDIT.lines[0]
    one = len(lapse_leaf(replace(LAPSE, lines=(line,)), "citizen", NONCE))
    each = len(lapse_leaf(replace(LAPSE, lines=(line,) * 2), "citizen", NONCE)) - one
    most = (LEAF_MAX_BYTES - one) // each + 1
    read_leaf(lapse_leaf(replace(LAPSE, lines=(line,) * most), "citizen", NONCE))
    with pytest.raises(LeafInvalid, match="65535"):
        read_leaf(lapse_leaf(replace(LAPSE, lines=(line,) * (most + 1)), "citizen", NONCE))


def with_claims(number: int) -> CreditFacts:
    """As long as its values can be: the widest key version, the longest source."""
    claims = tuple(f"65535:{claim:064x}" for claim in range(number))
    return replace(FACTS, source="urn:" + "x" * 500, claims=claims, signature="33" * 32, replaces=REVERSAL_ID)


@pytest.mark.parametrize("claims", [367, 801])  # a leap year of a meter's days; as many as a document may ask for
def test_as_many_claims_as_a_document_may_ask_for_fit_into_a_leaf(claims: int) -> None:
    """One more is the event's own."""
    widest = replace(CREDIT, lines=PENDING.lines * 2, counter=AMOUNT_MAX)
    leaf = credit_leaf(widest, "social_organisation", with_claims(claims), NONCE)
    assert len(read_leaf(leaf)["claims"]) == claims


def test_a_credit_with_more_claims_than_fit_is_refused_before_it_is_queued() -> None:
    one = len(credit_leaf(CREDIT, "citizen", with_claims(1), NONCE))
    each = len(credit_leaf(CREDIT, "citizen", with_claims(2), NONCE)) - one
    most = (LEAF_MAX_BYTES - one) // each + 1
    read_leaf(credit_leaf(CREDIT, "citizen", with_claims(most), NONCE))
    with pytest.raises(LeafInvalid, match=f"{most + 1} claims"):
        credit_leaf(CREDIT, "citizen", with_claims(most + 1), NONCE)


@given(st.sampled_from(sorted(MADE)), st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_says_something_else(name: str, place: int, byte: int) -> None:
    leaf = bytearray(MADE[name]())
    before, place = leaf[place % len(leaf)], place % len(leaf)
    leaf[place] = byte
    try:
        fields = read_leaf(bytes(leaf))
    except LeafInvalid:
        return
    assert (fields == json.loads(MADE[name]())) == (byte == before)
