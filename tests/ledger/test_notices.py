"""The bytes of the leaves by which the log speaks of itself, of pools, listings and statements: keys, epochs, seals.

The stored vectors were written once and are never written again.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import LeafInvalid
from ledger.journal import AMOUNT_MAX
from ledger.leaf_reading import read_leaf
from ledger.notices import (
    POOL_ACTIONS,
    EpochFacts,
    FormerLog,
    KeyFacts,
    ListingFacts,
    PoolFacts,
    SealFacts,
    SealTotal,
    StatementFacts,
    epoch_leaf,
    key_leaf,
    listing_leaf,
    pool_leaf,
    seal_leaf,
    statement_leaf,
)
from tests.strategies import codes, days, digests, moments, nonces, uris

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "notices.json").read_text("utf-8"))

NONCE = bytes(range(16))
AT = datetime(2026, 11, 21, 16, 30, 7, 999_999, UTC)
KEY = KeyFacts("demo", "added", "log", "log.example.org/log", "11" * 32, "ed25519", "22" * 32, AT)
FIRST = EpochFacts("demo", 1, "log.example.org/log")
FORMER = FormerLog("log.example.org/log", 70_000, "33" * 32, "44" * 32, 69_000)
SECOND = EpochFacts("demo", 2, "log.example.org/log/epoch-2", FORMER, "restored-backup")
SEAL = SealFacts(
    "demo",
    date(2026, 11, 21),
    70_000,
    2,
    "55" * 32,
    (
        SealTotal("issuance", "points", -AMOUNT_MAX),
        SealTotal("available", "points", AMOUNT_MAX),
        SealTotal("issuance", "co2e_mg", -1),
        SealTotal("pending", "co2e_mg", 1),
    ),
)

POOL = PoolFacts("demo", "opened", "demo-pool", "https://funder.example", 40_000, 300_000, "77" * 32)
SUSPENDED = replace(POOL, action="suspended", points=0, value_fen=0, reason="by_operator")
LISTING = ListingFacts("demo", "listed", "offer", "demo-offer", 2, "88" * 32, ("office-7", "bureau-3"))
STATEMENT = StatementFacts("demo", "https://bank.example/green", date(2026, 11, 21), "issued", 1, "99" * 32, 70_000)
CLOSED = replace(STATEMENT, state="closed", authority="operator", file="aa" * 32, signature="bb" * 32)

MADE: dict[str, Callable[[], bytes]] = {
    "key": lambda: key_leaf(KEY, AT, NONCE),
    "key of P-256 that is revoked": lambda: key_leaf(
        replace(KEY, action="revoked", holder="source", name="urn:example:rides", algorithm="p256",
                public_key="66" * 64, since=datetime(2026, 11, 1, tzinfo=UTC)),
        AT, bytes(16),
    ),
    "epoch": lambda: epoch_leaf(SECOND, AT, NONCE),
    "first epoch": lambda: epoch_leaf(FIRST, AT, NONCE),
    "epoch that keeps nothing": lambda: epoch_leaf(replace(SECOND, former=replace(FORMER, kept=0)), AT, NONCE),
    "seal": lambda: seal_leaf(SEAL, AT, NONCE),
    "seal of an empty log": lambda: seal_leaf(replace(SEAL, size=0, participants=0, totals=()), AT, NONCE),
    "pool": lambda: pool_leaf(POOL, AT, NONCE),
    "pool that is lowered by money alone": lambda: pool_leaf(replace(POOL, action="lowered", points=0), AT, bytes(16)),
    "pool that is suspended": lambda: pool_leaf(SUSPENDED, AT, bytes(16)),
    "pool that is resumed": lambda: pool_leaf(replace(SUSPENDED, action="resumed", reason=None), AT, bytes(16)),
    "pool that is closed": lambda: pool_leaf(replace(SUSPENDED, action="closed"), AT, bytes(16)),
    "listing": lambda: listing_leaf(LISTING, AT, NONCE),
    "listing of a product that is taken down": lambda: listing_leaf(
        replace(LISTING, action="taken_down", document_kind="product", approvers=(), reason="evidence-expired"),
        AT, bytes(16),
    ),
    "statement": lambda: statement_leaf(STATEMENT, AT, NONCE),
    "statement that is closed": lambda: statement_leaf(
        replace(STATEMENT, state="closed", sequence=AMOUNT_MAX, size=0, authority="rule"), AT, bytes(16)
    ),
    "statement that is closed on a file": lambda: statement_leaf(CLOSED, AT, bytes(16)),
}  # fmt: skip


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


_COUNTS = ["-1", "01", "+1", "1.0", "", " 1", "１", str(AMOUNT_MAX + 1), 1, None]
_DIGESTS = ["11" * 31, "11" * 33, "AB" * 32, "", 11, None]
_NAMES = ["", "a b", 'a"', "a\\b", "键", "x" * 501, None, 1]
_CODES = ["", "Log", "a b", "-a", "x" * 65, 3]
_MOMENTS = ["2026-11-21T16:30:07", "2026-11-21T24:00:00Z", "2026-11-21", "", None]
_OF_FORMER: dict[str, list[Any]] = {
    "checkpoint": _DIGESTS,
    "kept": [*_COUNTS, "70001"],
    "origin": _NAMES,
    "root": _DIGESTS,
    "size": _COUNTS,
}
_URIS = ["", "rides", "1a:b", "urn:", "urn:a b", 'urn:"', "urn:\\", "urn:骑行", "urn:" + "x" * 501, None, 1]
_DAYS = ["2026-2-3", "2026-02-30", "", None]
_TOTAL: dict[str, Any] = {"account": "available", "amount": "1", "asset": "points"}
_OF_TOTAL: dict[str, list[Any]] = {
    "account": ["", "nobody", None],
    "amount": ["0", "-0", "+1", "01", str(AMOUNT_MAX + 1), f"-{AMOUNT_MAX + 1}", 1, None],
    "asset": ["yuan", None],
}
BAD: dict[str, dict[str, list[Any]]] = {
    "key": {
        "action": ["", "Added", None],
        "algorithm": ["ES256", "", None, "p256"],
        "holder": [*_CODES, None],
        "key": _DIGESTS,
        "name": _NAMES,
        "public_key": ["22" * 31, "22" * 64, "AB" * 32, "", None],
        "since": _MOMENTS,
    },
    "epoch": {
        "former": [None, [], "x", {}]
        + [json.loads(MADE["epoch"]())["former"] | {name: bad} for name, values in _OF_FORMER.items() for bad in values]
        + [json.loads(MADE["epoch"]())["former"] | {"more": "1"}],
        "number": [*_COUNTS, "0", "1"],
        "origin": _NAMES,
        "reason": [*_CODES, None],
    },
    "pool": {
        "action": ["", "Opened", "suspended", "closed", None],
        "funder": _URIS,
        "points": _COUNTS,
        "pool": [*_CODES, None],
        "reason": [*_CODES, "by_operator"],
        "signature": [each for each in _DIGESTS if each is not None],
        "terms": _DIGESTS,
        "value": _COUNTS,
    },
    "listing": {
        "action": ["", "Listed", "suspended", "taken_down", None],
        "approvers": [None, {}, [], "a", ["a"], ["b", "a"], ["a", "a"], ["A", "b"], ["a", None]],
        "digest": _DIGESTS,
        "document_kind": ["", "methodology", "Offer", None],
        "id": [*_CODES, None],
        "reason": [*_CODES, "evidence-expired"],
        "version": [*_COUNTS, "0"],
    },
    "statement": {
        "authority": [*_CODES, "rule"],
        "bank": _URIS,
        "day": _DAYS,
        "digest": _DIGESTS,
        "file": [*(each for each in _DIGESTS if each is not None), "11" * 32],
        "sequence": [*_COUNTS, "0"],
        "signature": [*(each for each in _DIGESTS if each is not None), "11" * 32],
        "size": _COUNTS,
        "state": ["", "Issued", "open", "closed", None],
    },
    "seal": {
        "day": _DAYS,
        "participants": _COUNTS,
        "root": _DIGESTS,
        "size": _COUNTS,
        "totals": [
            None,
            {},
            [None],
            [{}],
            [_TOTAL, _TOTAL],
            [_TOTAL, _TOTAL | {"asset": "co2e_mg"}],
            *([_TOTAL | {name: bad}] for name, values in _OF_TOTAL.items() for bad in values),
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, fields in BAD.items() for field in fields])
def test_every_bad_value_of_every_field_is_refused_by_name(kind: str, field: str) -> None:
    for bad in BAD[kind][field]:
        fields = json.loads(VECTORS["leaves"][kind]["leaf"]) | {field: bad}
        with pytest.raises(LeafInvalid) as refused:
            read_leaf(rfc8785.dumps(fields))
        assert kind in str(refused.value) or "in ASCII" in str(refused.value)


@pytest.mark.parametrize("kind", BAD)
def test_a_field_too_few_or_too_many_is_refused(kind: str) -> None:
    stored = json.loads(VECTORS["leaves"][kind]["leaf"])
    assert BAD[kind].keys() == stored.keys() - {"at", "kind", "nonce", "programme", "v"}
    for field in BAD[kind]:
        with pytest.raises(LeafInvalid, match=f"missing fields \\['{field}'\\]"):
            read_leaf(rfc8785.dumps({name: value for name, value in stored.items() if name != field}))
    with pytest.raises(LeafInvalid, match="unknown fields \\['more'\\]"):
        read_leaf(rfc8785.dumps(stored | {"more": "1"}))


def test_an_epoch_has_a_reason_where_and_only_where_it_has_a_former_log() -> None:
    for facts in (replace(FIRST, reason="x"), replace(FIRST, number=2), replace(SECOND, former=None),
                  replace(SECOND, reason=None), replace(SECOND, number=1)):  # fmt: skip
        with pytest.raises(ValueError, match="first epoch"):
            epoch_leaf(facts, AT, NONCE)


names = st.from_regex(r"[!#-\[\]-~]{1,60}", fullmatch=True)
counts = st.integers(0, AMOUNT_MAX)


@given(codes, codes, names, digests, st.sampled_from([("ed25519", 32), ("p256", 64)]), st.data(), moments, nonces)
def test_what_is_written_about_a_key_is_read_back(
    programme: str,
    holder: str,
    name: str,
    key: str,
    kind: tuple[str, int],
    data: st.DataObject,
    at: datetime,
    nonce: bytes,
) -> None:
    public = data.draw(st.binary(min_size=kind[1], max_size=kind[1])).hex()
    action, since = data.draw(st.sampled_from(["added", "revoked"])), data.draw(moments)
    facts = KeyFacts(programme, action, holder, name, key, kind[0], public, since)
    fields = read_leaf(key_leaf(facts, at, nonce))
    assert datetime.fromisoformat(fields["since"]) == since.replace(microsecond=0)
    for field in fields.keys() - {"at", "kind", "nonce", "v", "since"}:
        assert fields[field] == getattr(facts, field)


@given(codes, days, counts, counts, digests, st.data(), moments, nonces)
def test_what_is_written_about_a_seal_is_read_back(
    programme: str, day: date, size: int, participants: int, root: str, data: st.DataObject, at: datetime, nonce: bytes
) -> None:
    amounts = st.integers(-AMOUNT_MAX, AMOUNT_MAX).filter(bool)
    accounts = st.sampled_from(["available", "pending", "held", "debt", "issuance", "partner"])
    keyed = data.draw(st.dictionaries(st.tuples(accounts, st.sampled_from(["points", "co2e_mg"])), amounts))
    totals = tuple(SealTotal(account, asset, amount) for (account, asset), amount in keyed.items())
    fields = read_leaf(seal_leaf(SealFacts(programme, day, size, participants, root, totals), at, nonce))
    told = {(entry["account"], entry["asset"]): int(entry["amount"]) for entry in fields["totals"]}
    assert told == keyed
    assert (fields["size"], fields["participants"], fields["root"]) == (str(size), str(participants), root)


@given(codes, st.integers(2, 10**6), names, names, counts, counts, digests, digests, codes, moments, nonces)
def test_what_is_written_about_an_epoch_is_read_back(
    programme: str, number: int, origin: str, before: str, size: int, kept: int, root: str, checkpoint: str,
    reason: str, at: datetime, nonce: bytes,
) -> None:  # fmt: skip
    former = FormerLog(before, max(size, kept), root, checkpoint, min(size, kept))
    fields = read_leaf(epoch_leaf(EpochFacts(programme, number, origin, former, reason), at, nonce))
    assert (fields["number"], fields["origin"], fields["reason"]) == (str(number), origin, reason)
    assert fields["former"] == {
        "checkpoint": checkpoint, "kept": str(former.kept), "origin": before, "root": root, "size": str(former.size),
    }  # fmt: skip


def test_two_people_approve_a_listing_and_whoever_takes_down_says_why() -> None:
    with pytest.raises(ValueError, match="two people"):
        listing_leaf(replace(LISTING, approvers=("bureau-3", "bureau-3")), AT, NONCE)
    for action, reason in (("listed", "x"), ("resumed", "x"), ("suspended", None), ("taken_down", None)):
        with pytest.raises(ValueError, match="says why"):
            listing_leaf(replace(LISTING, action=action, reason=reason), AT, NONCE)


def test_whoever_suspends_or_closes_a_pool_says_why() -> None:
    for action in POOL_ACTIONS:
        shut = action in ("suspended", "closed")
        facts = replace(SUSPENDED, action=action, reason="by_operator" if shut else None)
        fields = json.loads(pool_leaf(facts, AT, NONCE))
        assert read_leaf(rfc8785.dumps(fields)) == fields
        wrong = None if shut else "by_operator"
        with pytest.raises(ValueError, match="says why"):
            pool_leaf(replace(facts, reason=wrong), AT, NONCE)
        with pytest.raises(LeafInvalid, match="pool: a reason"):
            read_leaf(rfc8785.dumps(fields | {"reason": wrong}))
    signed = json.loads(pool_leaf(POOL, AT, NONCE)) | {"signature": "11" * 32}
    assert read_leaf(rfc8785.dumps(signed)) == signed


@pytest.mark.parametrize(("state", "authority"), [("issued", "rule"), ("issued", "operator"), ("closed", None)])
def test_a_closed_statement_has_an_authority_and_an_issued_one_has_none(state: str, authority: str | None) -> None:
    with pytest.raises(ValueError, match="authority"):
        statement_leaf(replace(STATEMENT, state=state, authority=authority), AT, NONCE)
    fields = json.loads(statement_leaf(STATEMENT, AT, NONCE)) | {"state": state, "authority": authority}
    with pytest.raises(LeafInvalid, match="statement: authority"):
        read_leaf(rfc8785.dumps(fields))


@pytest.mark.parametrize("field", ["file", "signature"])
def test_an_issued_statement_has_no_file_and_no_signature(field: str) -> None:
    fields = json.loads(statement_leaf(STATEMENT, AT, NONCE)) | {field: "11" * 32}
    with pytest.raises(LeafInvalid, match="statement: an issued one"):
        read_leaf(rfc8785.dumps(fields))


@given(codes, codes, uris, counts, counts, digests, moments, nonces)
def test_what_is_written_about_a_pool_is_read_back(
    programme: str, pool: str, funder: str, points: int, value_fen: int, terms: str, at: datetime, nonce: bytes
) -> None:
    for action in POOL_ACTIONS:
        reason = "x" if action in ("suspended", "closed") else None
        facts = PoolFacts(programme, action, pool, funder, points, value_fen, terms, reason)
        fields = read_leaf(pool_leaf(facts, at, nonce))
        assert (fields["points"], fields["value"]) == (str(points), str(value_fen))
        for name in ("programme", "action", "pool", "funder", "terms", "reason"):
            assert fields[name] == getattr(facts, name)


@given(codes, codes, st.integers(1, AMOUNT_MAX), digests, st.lists(codes, min_size=2, unique=True), moments, nonces)
def test_what_is_written_about_a_listing_is_read_back(
    programme: str, name: str, version: int, digest: str, approvers: list[str], at: datetime, nonce: bytes
) -> None:
    facts = ListingFacts(programme, "listed", "product", name, version, digest, tuple(approvers))
    fields = read_leaf(listing_leaf(facts, at, nonce))
    assert (fields["id"], fields["version"], fields["digest"]) == (name, str(version), digest)
    assert (fields["approvers"], fields["reason"]) == (sorted(approvers), None)


@given(codes, uris, days, st.integers(1, AMOUNT_MAX), digests, counts, st.none() | digests, st.none() | digests, nonces)
def test_what_is_written_about_a_statement_is_read_back(
    programme: str, bank: str, day: date, sequence: int, digest: str, size: int, file: str | None,
    signature: str | None, nonce: bytes,
) -> None:  # fmt: skip
    issued = StatementFacts(programme, bank, day, "issued", sequence, digest, size)
    fields = read_leaf(statement_leaf(issued, AT, nonce))
    assert (fields["state"], fields["authority"], fields["file"], fields["signature"]) == ("issued", None, None, None)
    closed = replace(issued, state="closed", authority="operator", file=file, signature=signature)
    fields = read_leaf(statement_leaf(closed, AT, nonce))
    told = (fields["state"], fields["authority"], fields["file"], fields["signature"])
    assert told == ("closed", "operator", file, signature)
    assert (fields["bank"], fields["day"]) == (bank, str(day))
    assert (fields["sequence"], fields["digest"], fields["size"]) == (str(sequence), digest, str(size))
