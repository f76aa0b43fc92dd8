"""The check finds what was done to approvals and day manifests, and to the leaves that tell of them."""

from datetime import UTC, date, datetime, timedelta

import asyncpg
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.check import check_ledger
from service.activities.check import check_activities
from service.activities.rules import name_of
from service.approvals import approve, parse_approvers
from service.clock import shanghai_day
from service.worker import drain
from tests.conftest import Database, clone
from tests.documents import AUTHORITY, BODY, Signer, signer
from tests.ledger.test_check import keep_copies, planted
from tests.running import Api, pooled, running_api, vault_for_tests

pytestmark = pytest.mark.anyio

ALICE, BOB, CAROL = signer(AUTHORITY, "officer-1"), signer(BODY, "expert-1"), signer(BODY, "expert-2")
KEY = Ed25519PrivateKey.generate()

_TELL = (
    "UPDATE ledger.leaf SET leaf = convert_to(regexp_replace(convert_from(leaf, 'UTF8'), '{}', '{}'), 'UTF8') "
    'WHERE leaf LIKE \'%"kind":"{}"%\''
)
_AGAIN = (
    "INSERT INTO ledger.leaf SELECT (SELECT size FROM ledger.log_head), NULL, NULL, leaf FROM ledger.leaf "
    'WHERE leaf LIKE \'%"kind":"{}"%\' LIMIT 1'
)

# What an insider does, and the check that must name it.
PLANTS: dict[str, tuple[str, str]] = {
    "an approval forgotten": ("DELETE FROM service.approval WHERE role = 'competent_authority'", "approval"),
    "an approval that completed something forgotten": ("DELETE FROM service.approval WHERE completes", "approval"),
    "an approval of a later day": ("UPDATE service.approval SET signed_on = signed_on + 1", "approval"),
    "an approval by somebody else": ("UPDATE service.approval SET approver = 'nobody'", "approval"),
    "an approval with another signature": ("UPDATE service.approval SET signature = sha512(signature)", "approval"),
    "an approval of another document": ("UPDATE service.approval SET digest = sha256(digest)", "approval"),
    "an approval for another programme": ("UPDATE service.approval SET programme = 'other'", "approval"),
    "an approval recorded at another time": (
        "UPDATE service.approval SET approved_at = approved_at - interval '1 day'",
        "approval",
    ),
    "approvals that complete nothing": ("UPDATE service.approval SET completes = false", "approval"),
    "an approval that no leaf tells of": (
        "INSERT INTO service.approval SELECT programme, digest, role, key_id, sha512(signature), approver, signed_on, "
        "true, approved_at FROM service.approval WHERE completes",
        "approval",
    ),
    "a rule's leaf removed": ('DELETE FROM ledger.leaf WHERE leaf LIKE \'%"kind":"rule"%\'', "approval"),
    "a rule's leaf twice": (_AGAIN.format("rule"), "approval"),
    "a rule's leaf of another version": (_TELL.format('"version":"1"', '"version":"2"', "rule"), "approval"),
    "a rule's leaf of another moment": (_TELL.format('"at":"20', '"at":"19', "rule"), "approval"),
    "a manifest forgotten": ("DELETE FROM service.manifest", "manifest"),
    "a manifest of another day": ("UPDATE service.manifest SET day = day - 1", "manifest"),
    "a manifest under another key": ("UPDATE service.manifest SET key = sha256(key)", "manifest"),
    "a manifest of another text": ("UPDATE service.manifest SET digest = sha256(digest)", "manifest"),
    "what was received rewritten": ("UPDATE service.manifest SET received = received || ' '", "manifest"),
    "a manifest recorded at another time": (
        "UPDATE service.manifest SET recorded_at = recorded_at - interval '1 second'",
        "manifest",
    ),
    "a manifest's leaf removed": ('DELETE FROM ledger.leaf WHERE leaf LIKE \'%"kind":"manifest"%\'', "manifest"),
    "a manifest's leaf twice": (_AGAIN.format("manifest"), "manifest"),
    "a manifest's leaf of another source": (_TELL.format('"source":"urn:', '"source":"urx:', "manifest"), "manifest"),
    "a manifest's text rewritten": ("UPDATE service.manifest_text SET jws = jws || 'A'", "manifest text"),
    "a text without a manifest": ("UPDATE service.manifest_text SET sequence = sequence + 7", "manifest text"),
}


WITHOUT_ITS_TEXT = ("a manifest forgotten", "a manifest of another day", "a manifest of another text")


async def _approve(api: Api, one: Signer, *known: Signer) -> None:
    rule, on = api.platform.rules.methodologies.all()[0], shanghai_day(datetime.now(UTC))
    keys = orjson.dumps({"keys": [each.entry for each in known]})
    async with api.platform.pool.acquire() as tx, tx.transaction():
        await approve(
            tx,
            name_of(rule),
            one.role,
            one.kid,
            bytes.fromhex(one.body(name_of(rule), on=on)["signature"]),
            on,
            status=rule.status,
            approvers=parse_approvers(keys),
            programme="demo",
            fresh=api.platform.fresh,
        )


async def _close(api: Api, day: date) -> None:
    source = await api.source()
    x = jwt.get_algorithm_by_name("EdDSA").to_jwk(KEY.public_key(), as_dict=True)["x"]
    key = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}
    body = {"uri": source, "key": key, "valid_from": "2026-01-01T00:00:00+08:00"}
    put = await api.client.put("/v1/sources/keys", headers=api.bearer("operator"), json=body)
    assert put.status_code == 200, put.text
    headers = api.bearer("provider", source=source) | {"Content-Type": "application/jose"}
    for sequence in (1, 2):
        head = {"v": "1", "source": source, "day": str(day), "sequence": sequence}
        payload = orjson.dumps({**head, "scenarios": {}, "late": []})
        signed = jwt.PyJWS().encode(payload, KEY, "EdDSA", headers={"kid": "k1", "typ": None})
        answer = await api.client.post("/v1/manifests", headers=headers, content=signed.encode())
        assert answer.status_code == 201, answer.text


@pytest.fixture(scope="module")
async def ledger(template: Database, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A document that came into force twice, with one signature that completed nothing; a day closed twice."""
    database = clone(template, f"tests_of_the_signed_check_{worker_id}")
    folder, tomorrow = tmp_path_factory.mktemp("data"), timedelta(days=1)
    async with running_api(database.app, database.redis, folder, clock_offset=tomorrow) as api:
        for one, known in ((ALICE, (ALICE, BOB)), (BOB, (ALICE, BOB)), (CAROL, (ALICE, CAROL))):
            await _approve(api, one, *known)
        await _close(api, shanghai_day(datetime.now(UTC) + tomorrow) - tomorrow)
    async with pooled(database.sequencer) as pool:
        assert await drain(pool) == 5  # two of rules, the key, two of manifests
    await keep_copies(database)
    return database


async def test_what_nobody_touched_has_no_difference(ledger: Database) -> None:
    connection = await asyncpg.connect(ledger.auditor)
    assert await check_activities(connection, vault_for_tests()) == []
    assert (await check_ledger(connection)).findings == ()
    await connection.close()


async def test_what_is_still_in_the_queue_counts_and_an_erased_text_is_no_difference(ledger: Database) -> None:
    queued = (
        "INSERT INTO ledger.leaf_queue (leaf) SELECT leaf FROM ledger.leaf ORDER BY log_index; DELETE FROM ledger.leaf"
    )
    assert await planted(ledger, f"{queued}; DELETE FROM service.manifest_text", activities=True) == set()


@pytest.mark.parametrize("name", PLANTS)
async def test_each_planted_difference_is_named(ledger: Database, name: str) -> None:
    statements, check = PLANTS[name]
    besides = {"manifest text"} if name in WITHOUT_ITS_TEXT else set()
    assert await planted(ledger, statements, activities=True) == {check} | besides
