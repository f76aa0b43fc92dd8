"""Approvals: two roles, two people, the right digest; what a row in the database alone is worth; one leaf for each time
that a document comes into force."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.leaf_reading import read_leaf
from service.activities.rules import name_of
from service.approvals import (
    ApprovalConflict,
    ApprovalRefused,
    Approvals,
    ApproversInvalid,
    RuleName,
    approval_message,
    approve,
    keep_fresh,
    parse_approvers,
    public_entry,
    sign_approval,
)
from service.clock import Fresh, shanghai_day, system_clock
from service.database import Pool
from service.quantification.methodology import parse_methodology
from service.quantification.model import Methodology
from service.quantification.points import PointsRule, parse_points_rule
from tests.conftest import Database
from tests.documents import AUTHORITY, BODY, DEMO, DEMO_POINTS, Signer, changed, signer, write_approvers
from tests.running import pooled

pytestmark = pytest.mark.anyio

FRESH = Fresh(system_clock())
ALICE, BOB = signer(AUTHORITY, "officer-1"), signer(BODY, "expert-1")


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with pooled(database.app, size=8) as opened:
        yield opened


async def registered(pool: Pool, kind: Any = "methodology") -> RuleName:
    """A document of its own in the database."""
    new = ("id: demo-", f"id: tests-{os.urandom(8).hex()}-")
    rule: Methodology | PointsRule = (
        parse_methodology(changed(DEMO, new)) if kind == "methodology" else parse_points_rule(changed(DEMO_POINTS, new))
    )
    await pool.execute(
        "INSERT INTO service.rule_document (digest, kind, name, version, document) VALUES ($1, $2, $3, $4, $5)",
        bytes.fromhex(rule.digest),
        kind,
        rule.id,
        rule.version,
        rule.document,
    )
    return name_of(rule)


def approvers(*signers: Signer, **changes: Any) -> Any:
    return parse_approvers(json.dumps({"keys": [one.entry | changes for one in signers]}).encode())


def today() -> date:
    return shanghai_day(datetime.now(UTC))


async def give(
    pool: Pool,
    rule: RuleName,
    one: Signer,
    *known: Signer,
    role: str | None = None,
    on: date | None = None,
    programme: str = "demo",
) -> bool:
    """Approve as this signer; the keys known are those of Alice and Bob unless others are named."""
    body = one.body(rule, role, on, programme)
    async with pool.acquire() as connection, connection.transaction():
        return await approve(
            connection,
            rule,
            body["role"],
            body["key"],
            bytes.fromhex(body["signature"]),
            date.fromisoformat(body["signed_on"]),
            status="official",
            approvers=approvers(*(known or (ALICE, BOB))),
            programme="demo",
            fresh=FRESH,
        )


async def leaves(pool: Pool, rule: RuleName) -> list[dict[str, Any]]:
    rows = await pool.fetch("""
        SELECT leaf FROM (
            SELECT false AS queued, log_index AS place, leaf FROM ledger.leaf
            UNION ALL SELECT true, queue_id, leaf FROM ledger.leaf_queue
        ) AS every ORDER BY queued, place
    """)
    found = (read_leaf(row["leaf"]) for row in rows)
    return [leaf for leaf in found if leaf["kind"] == "rule" and leaf["digest"] == rule.digest]


def test_what_is_signed_is_eight_lines() -> None:
    rule, day = RuleName("methodology", "sh-metro", 2, "ab" * 32), date(2026, 5, 1)
    assert approval_message("shanghai", rule, "technical_body", day) == (
        b"tanpuhui/approve/1\nshanghai\nmethodology\nsh-metro\n2\n" + b"ab" * 32 + b"\ntechnical_body\n2026-05-01\n"
    )
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"  # RFC 8037, appendix A
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    assert public_entry(key.public_key()) == {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }
    signature = sign_approval(key, "shanghai", rule, AUTHORITY, day)
    key.public_key().verify(signature, approval_message("shanghai", rule, AUTHORITY, day))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"d": "secret"}, "private key"),
        ({"kty": "EC"}, "kty OKP"),
        ({"crv": "Ed448"}, "crv Ed25519"),
        ({"kid": ""}, "kid"),
        ({"kid": "a b"}, "kid"),
        ({"role": "operator"}, "competent_authority or technical_body"),
        ({"person": "王小明"}, "no name"),
        ({"person": None}, "no name"),
        ({"x": "AAAA"}, "32 bytes"),
        ({"x": 7}, "32 bytes"),
        ({"x": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbh"}, "32 bytes"),  # the same key in another text
        ({"x": "é" * 43}, "32 bytes"),
        ({"x": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, "small order"),
        ({"retired": "yes"}, "true or false"),
        ({"extra": 1}, "beside them"),
    ],
)
def test_an_entry_that_is_not_as_expected_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(ApproversInvalid, match=told):
        approvers(ALICE, **change)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [], "more": 1}', b'{"keys": [7]}', b"\xff"]
)
def test_what_is_no_set_of_keys_is_refused(text: bytes) -> None:
    with pytest.raises(ApproversInvalid):
        parse_approvers(text)


def test_a_key_belongs_to_one_person() -> None:
    again = Signer(ALICE.key, BODY, "somebody-else")
    for second in (again.entry, again.entry | {"kid": "another"}, BOB.entry | {"kid": ALICE.kid}):
        with pytest.raises(ApproversInvalid, match="twice"):
            parse_approvers(json.dumps({"keys": [ALICE.entry, second]}).encode())


async def test_both_roles_bring_a_document_into_force_with_one_leaf(pool: Pool) -> None:
    rule = await registered(pool)
    assert await give(pool, rule, ALICE)
    assert await leaves(pool, rule) == []
    assert await give(pool, rule, BOB)
    (leaf,) = await leaves(pool, rule)
    assert (leaf["id"], leaf["version"], leaf["document_kind"], leaf["status"], leaf["programme"]) == (
        rule.id,
        "1",
        "methodology",
        "official",
        "demo",
    )
    assert [(one["role"], one["approver"], one["key"]) for one in leaf["approvals"]] == [
        (AUTHORITY, "officer-1", ALICE.kid),
        (BODY, "expert-1", BOB.kid),
    ]
    for one, by in zip(leaf["approvals"], (ALICE, BOB), strict=True):
        assert one["public_key"] == by.key.public_key().public_bytes_raw().hex()
        assert one["signed_on"] == str(today())
        signed = approval_message("demo", rule, one["role"], today())
        by.key.public_key().verify(bytes.fromhex(one["signature"]), signed)


async def test_a_replay_changes_nothing(pool: Pool) -> None:
    rule = await registered(pool)
    assert [await give(pool, rule, one) for one in (ALICE, ALICE, BOB, BOB, ALICE)] == [True, False, True, False, False]
    assert len(await leaves(pool, rule)) == 1


async def test_both_approvals_at_once_make_one_leaf(pool: Pool) -> None:
    for _ in range(10):
        rule = await registered(pool, "points")
        done = await asyncio.gather(*(give(pool, rule, one) for one in (ALICE, BOB) * 3))
        assert sorted(done) == [False] * 4 + [True] * 2
        assert len(await leaves(pool, rule)) == 1


async def test_one_person_never_signs_in_both_roles(pool: Pool) -> None:
    rule, other_hand = await registered(pool), signer(BODY, "officer-1")
    assert await give(pool, rule, ALICE)
    with pytest.raises(ApprovalConflict, match="one-person"):
        await give(pool, rule, other_hand, ALICE, other_hand)
    with pytest.raises(ApprovalRefused, match="wrong-role"):
        await give(pool, rule, ALICE, role=BODY)
    assert await give(pool, rule, BOB)


async def test_of_one_person_with_both_keys_at_once_one_signature_stands(pool: Pool) -> None:
    rule, other_hand = await registered(pool), signer(BODY, "officer-1")
    signing = (give(pool, rule, one, ALICE, other_hand) for one in (ALICE, other_hand))
    done = await asyncio.gather(*signing, return_exceptions=True)
    assert {type(one) for one in done} == {bool, ApprovalConflict}
    assert await leaves(pool, rule) == []


async def test_a_role_signs_once(pool: Pool) -> None:
    rule, colleague = await registered(pool), signer(AUTHORITY, "officer-2")
    assert await give(pool, rule, ALICE)
    with pytest.raises(ApprovalConflict, match="role-signed"):
        await give(pool, rule, colleague, ALICE, colleague)
    assert not await give(pool, rule, ALICE, on=today() - timedelta(days=1))


@pytest.mark.parametrize("completed", [False, True])
@pytest.mark.parametrize("place", [0, 1])
async def test_a_colleague_signs_in_the_place_of_a_key_that_was_taken_out(
    pool: Pool, tmp_path: Path, place: int, completed: bool
) -> None:
    rule, gone, stays = await registered(pool), (ALICE, BOB)[place], (BOB, ALICE)[place]
    colleague = signer(gone.role, "a-colleague")
    for one in (gone, stays) if completed else (gone,):
        await give(pool, rule, one)
    assert await give(pool, rule, colleague, stays, colleague)
    if not completed:
        assert await give(pool, rule, stays, stays, colleague)
    last = (await leaves(pool, rule))[-1]
    assert len(await leaves(pool, rule)) == 1 + completed
    assert {one["approver"] for one in last["approvals"]} == {stays.person, colleague.person}
    approvals = Approvals(write_approvers(tmp_path / "approvers.json", stays.entry, colleague.entry), "demo")
    async with pool.acquire() as connection:
        await approvals.refresh(connection)
    assert rule.digest in approvals.digests
    assert [one.approver for one in approvals.signed[rule.digest]] in (
        [stays.person, colleague.person],
        [colleague.person, stays.person],
    )


async def test_who_lost_a_key_signs_again_with_another(pool: Pool) -> None:
    rule, again = await registered(pool), signer(AUTHORITY, ALICE.person)
    assert [await give(pool, rule, one) for one in (ALICE, BOB)] == [True, True]
    assert await give(pool, rule, again, again, BOB)
    assert not await give(pool, rule, again, again, BOB)
    assert [leaf["approvals"][0]["key"] for leaf in await leaves(pool, rule)] == [ALICE.kid, again.kid]


async def test_a_key_that_comes_back_completes_nothing_it_never_met(pool: Pool, tmp_path: Path) -> None:
    rule, path = await registered(pool), tmp_path / "approvers.json"
    yesterday = today() - timedelta(days=1)
    await give(pool, rule, ALICE, on=yesterday)
    assert await give(pool, rule, BOB, BOB)  # while Alice's key is out of the file
    approvals = Approvals(write_approvers(path, ALICE.entry, BOB.entry), "demo")
    async with pool.acquire() as connection:
        await approvals.refresh(connection)
        assert rule.digest not in approvals.digests
        assert await leaves(pool, rule) == []
        assert not await give(pool, rule, ALICE, on=yesterday)  # that signature is recorded already
        assert await give(pool, rule, ALICE)
        await approvals.refresh(connection)
    assert rule.digest in approvals.digests
    assert len(await leaves(pool, rule)) == 1


async def test_one_person_whose_first_key_comes_back_is_not_two(pool: Pool, tmp_path: Path) -> None:
    rule, other_hand, second = await registered(pool), signer(BODY, ALICE.person), signer(AUTHORITY, "officer-2")
    await give(pool, rule, ALICE)
    for one in (second, other_hand):  # while Alice's first key is out of the file
        assert await give(pool, rule, one, second, other_hand)
    assert len(await leaves(pool, rule)) == 1
    approvals = Approvals(write_approvers(tmp_path / "approvers.json", ALICE.entry, other_hand.entry), "demo")
    async with pool.acquire() as connection:
        await approvals.refresh(connection)
    assert rule.digest not in approvals.digests


async def test_a_signature_is_for_one_programme(pool: Pool, tmp_path: Path) -> None:
    rule = await registered(pool)
    with pytest.raises(ApprovalRefused, match="wrong-signature"):
        await give(pool, rule, ALICE, programme="elsewhere")
    for one in (ALICE, BOB):
        await give(pool, rule, one)
    path = write_approvers(tmp_path / "approvers.json", ALICE.entry, BOB.entry)
    for programme, approved in (("demo", True), ("elsewhere", False)):
        approvals = Approvals(path, programme)
        async with pool.acquire() as connection:
            await approvals.refresh(connection)
        assert (rule.digest in approvals.digests) == approved


async def test_the_day_of_signing_is_signed_and_lies_in_the_last_ninety(pool: Pool) -> None:
    rule = await registered(pool)
    for days, reason in ((1, "signed-ahead"), (-91, "signed-long-ago")):
        with pytest.raises(ApprovalRefused, match=reason):
            await give(pool, rule, ALICE, on=today() + timedelta(days=days))
    body = ALICE.body(rule)
    async with pool.acquire() as connection:
        with pytest.raises(ApprovalRefused, match="wrong-signature"):
            await approve(
                connection,
                rule,
                AUTHORITY,
                ALICE.kid,
                bytes.fromhex(body["signature"]),
                today() - timedelta(days=1),
                status="official",
                approvers=approvers(ALICE),
                programme="demo",
                fresh=FRESH,
            )
    assert await give(pool, rule, ALICE, on=today() - timedelta(days=90))


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"kind": "points"}, "wrong-signature"),
        ({"id": "other"}, "wrong-signature"),
        ({"version": 4}, "wrong-signature"),
        ({"digest": "00" * 32}, "wrong-signature"),
    ],
)
async def test_a_signature_is_of_one_document(pool: Pool, spoilt: dict[str, Any], reason: str) -> None:
    rule = await registered(pool)
    signature = sign_approval(ALICE.key, "demo", replace(rule, **spoilt), AUTHORITY, today())
    async with pool.acquire() as connection:
        for sent in (signature, bytes(64)):
            with pytest.raises(ApprovalRefused, match=reason):
                await approve(
                    connection,
                    rule,
                    AUTHORITY,
                    ALICE.kid,
                    sent,
                    today(),
                    status="official",
                    approvers=approvers(ALICE),
                    programme="demo",
                    fresh=FRESH,
                )


async def test_keys_that_are_unknown_or_retired_sign_nothing(pool: Pool) -> None:
    rule, body = await registered(pool), signer(AUTHORITY, "officer-9")
    with pytest.raises(ApprovalRefused, match="unknown-key"):
        await give(pool, rule, body)
    async with pool.acquire() as connection:
        with pytest.raises(ApprovalRefused, match="retired-key"):
            await approve(
                connection,
                rule,
                AUTHORITY,
                body.kid,
                sign_approval(body.key, "demo", rule, AUTHORITY, today()),
                today(),
                status="official",
                approvers=approvers(body, retired=True),
                programme="demo",
                fresh=FRESH,
            )


async def test_approvals_are_append_only(pool: Pool) -> None:
    rule = await registered(pool)
    await give(pool, rule, ALICE)
    for statement in ("UPDATE service.approval SET approver = 'x'", "DELETE FROM service.approval"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def forge(pool: Pool, rule: RuleName, one: Signer) -> None:
    """A row as the application's role could write it, with no signature."""
    await pool.execute(
        "INSERT INTO service.approval VALUES ('demo', $1, $2, $3, $4, $5, $6, true, now())",
        bytes.fromhex(rule.digest),
        one.role,
        one.kid,
        bytes(64),
        one.person,
        today(),
    )


async def test_a_row_in_the_database_alone_approves_nothing(pool: Pool, tmp_path: Path) -> None:
    rule = await registered(pool)
    approvals = Approvals(write_approvers(tmp_path / "approvers.json", ALICE.entry, BOB.entry), "demo")
    await give(pool, rule, ALICE)
    await forge(pool, rule, BOB)
    async with pool.acquire() as connection:
        await approvals.refresh(connection)
    assert rule.digest not in approvals.digests
    assert [one.role for one in approvals.signed[rule.digest]] == [AUTHORITY]


async def test_a_forged_row_takes_the_document_no_further_and_is_in_nobodys_way(pool: Pool) -> None:
    rule = await registered(pool)
    for one in (ALICE, BOB, signer(AUTHORITY, "officer-2")):
        await forge(pool, rule, one)
    assert await give(pool, rule, BOB)
    assert await leaves(pool, rule) == []
    assert await give(pool, rule, ALICE)
    assert len(await leaves(pool, rule)) == 1


async def test_what_is_approved_follows_the_database_and_the_file(pool: Pool, tmp_path: Path) -> None:
    rule, path = await registered(pool), tmp_path / "approvers.json"
    approvals = Approvals(write_approvers(path, ALICE.entry, BOB.entry), "demo")
    async with pool.acquire() as connection:
        await approvals.refresh(connection)
        before = approvals.digests
        assert rule.digest not in before
        await give(pool, rule, ALICE)
        await approvals.refresh(connection)
        assert approvals.digests is before  # nothing that was chosen has to be forgotten
        await give(pool, rule, BOB)
        await approvals.refresh(connection)
        assert rule.digest in approvals.digests
        write_approvers(path, ALICE.entry, BOB.entry | {"retired": True})
        await approvals.refresh(connection)
        assert rule.digest in approvals.digests  # what a retired key signed stays approved
        write_approvers(path, ALICE.entry)
        await approvals.refresh(connection)
        assert rule.digest not in approvals.digests  # a key that was taken out approves nothing
        path.write_text("broken")
        await approvals.refresh(connection)
        assert ALICE.kid in approvals.approvers


async def test_a_process_knows_by_itself(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.approvals.REFRESH_S", 0.02)
    rule = await registered(pool)
    approvals = Approvals(write_approvers(tmp_path / "approvers.json", ALICE.entry, BOB.entry), "demo")
    task = asyncio.create_task(keep_fresh(pool, approvals))
    await give(pool, rule, ALICE)
    await give(pool, rule, BOB)
    async with asyncio.timeout(5):
        while rule.digest not in approvals.digests:  # noqa: ASYNC110 - the event is in the database
            await asyncio.sleep(0.01)
    task.cancel()
    (first, second) = approvals.signed[rule.digest]
    assert first.approved_at <= second.approved_at <= datetime.now(UTC)


@pytest.mark.parametrize("content", [None, "broken", '{"keys": [7]}', "x" * 300_000])
def test_a_file_that_is_broken_at_the_start_stops_it(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "approvers.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ApproversInvalid, match=r"approvers\.json"):
        Approvals(path)
