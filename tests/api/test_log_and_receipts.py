"""The log over HTTP, receipts that anybody verifies, and events out of the log."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.checkpoint import parse_checkpoint
from ledger.errors import LedgerError
from ledger.merkle import leaf_hash, root_of
from ledger.notes import ED25519, Signer, generate_signer, parse_note, verify_note
from ledger.receipts import verify_receipt
from ledger.tiles import decode_bundle, decode_tile
from service.clock import system_clock
from service.database import open_pool
from service.log.guard import Guard
from service.log.loop import step
from service.log.publish import Log
from service.worker import drain
from tests.conftest import Database
from tests.running import Api, Person, problem_of, ride, running_api

pytestmark = pytest.mark.anyio

ORIGIN = "localhost/log"


@dataclass(frozen=True, slots=True)
class Published:
    """An API over a log of its own, and the publisher's hand on it."""

    api: Api
    log: Log
    database: Database

    async def publish(self) -> int:
        """Sequence and sign everything; the size that is signed."""
        async with await open_pool(self.database.sequencer, name="tests", size=1) as pool:
            await drain(pool)
            async with pool.acquire() as connection:
                await step(connection, self.log, "demo", system_clock())
            await drain(pool)
            async with pool.acquire() as connection:
                return (await step(connection, self.log, "demo", system_clock())).size

    @property
    def signer(self) -> Signer:
        return self.log.signer


@pytest.fixture
async def published(fresh_database: Database, tmp_path: Path) -> AsyncIterator[Published]:
    async with running_api(fresh_database.app, fresh_database.redis, tmp_path) as api:
        signer = generate_signer(ORIGIN, ED25519, secrets.token_bytes(32))
        log = Log(ORIGIN, api.platform.settings.log_dir, Guard(tmp_path / "guard"), signer)
        yield Published(api, log, fresh_database)


async def credited(api: Api, person: Person, km: str = "2.35") -> str:
    answer = await api.report_one(person.source, ride(person.source, person.subject, km=km))
    assert answer.status_code == 201, answer.text
    transfer: str = answer.json()["transfer_id"]
    return transfer


async def test_checkpoints_and_tiles_are_anybodys_and_entries_an_auditors(published: Published) -> None:
    api = published.api
    problem_of(await api.client.get("/log/checkpoint"), "log-not-found")
    person = await api.person()
    for _ in range(3):
        await credited(api, person)
    size = await published.publish()
    answer = await api.client.get("/log/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=2"
    checkpoint = parse_checkpoint(verify_note(parse_note(answer.content), [published.signer.verifier]).text)
    assert (checkpoint.origin, checkpoint.size) == (ORIGIN, size)
    tile = await api.client.get(f"/log/tile/0/000.p/{size}")
    assert (tile.status_code, tile.headers["content-type"]) == (200, "application/octet-stream")
    assert tile.headers["cache-control"] == "public, max-age=31536000, immutable"
    hashes = decode_tile(tile.content, size)
    assert root_of(hashes) == checkpoint.root

    path = f"/log/tile/entries/000.p/{size}"
    problem_of(await api.client.get(path), "unauthenticated")
    for headers in (
        api.bearer("provider", source=person.source),
        api.bearer("participant", person.participant_id),
        api.bearer("operator"),
    ):
        problem_of(await api.client.get(path, headers=headers), "forbidden")
    bundle = await api.client.get(path, headers=api.bearer("auditor"))
    assert bundle.headers["cache-control"].startswith("private")
    assert [leaf_hash(entry) for entry in decode_bundle(bundle.content, size)] == hashes
    head = await api.client.head("/log/checkpoint")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/log/tile/0/00", "/log/tile/0/1000", "/log/tile/00/000", "/log/tile/64/000", "/log/tile/0/000.p/256",
     "/log/tile/0/000.p/0", "/log/tile/0/x000/000", "/log/tile/0/999", "/log/tile/entries/x001", "/log/tile/../log.key",
     "/log/tile/0/%2e%2e/000", "/log/epoch-1/checkpoint", "/log/epoch-0/checkpoint", "/log/epoch-2/checkpoint",
     "/log/epoch-2/tile/0/000"],
)  # fmt: skip
async def test_what_the_log_does_not_have_is_said_to_be_missing(api: Api, path: str) -> None:
    answer = await api.client.get(path)
    assert answer.status_code == 404
    assert answer.json()["type"].rpartition(":")[2] in ("log-not-found", "not-found")


async def test_a_receipt_waits_for_its_checkpoint_and_is_verified_by_itself(published: Published) -> None:
    api = published.api
    person, other = await api.person(), await api.person()
    transfer = await credited(api, person)
    path = f"transfers/{transfer}/receipt"
    early = problem_of(await api.read(person.participant_id, path), "receipt-not-ready")
    assert early["status"] == 404
    waiting = asyncio.create_task(api.read(person.participant_id, path, Prefer="wait=8, return=minimal"))
    await asyncio.sleep(0.3)
    await published.publish()
    answer = await waiting
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=8"
    assert answer.headers["content-disposition"].endswith(f'{transfer}.tlog-proof"')
    receipt = verify_receipt(answer.text, [published.signer.verifier])
    assert (receipt.fields["transfer"], receipt.fields["kind"]) == (transfer, "credit")
    assert receipt.checkpoint.origin == ORIGIN
    # later receipts of the same credit rest on later checkpoints, and the old one stays good
    await credited(api, other)
    await published.publish()
    later = verify_receipt((await api.read(person.participant_id, path)).text, [published.signer.verifier])
    assert later.checkpoint.size > receipt.checkpoint.size
    assert verify_receipt(answer.text, [published.signer.verifier]) == receipt

    stranger = generate_signer(ORIGIN, ED25519, secrets.token_bytes(32))
    with pytest.raises(LedgerError, match="none of the keys"):
        verify_receipt(answer.text, [stranger.verifier])
    with pytest.raises(LedgerError, match="does not lead"):
        verify_receipt(answer.text, [published.signer.verifier], entry=receipt.entry + b" ")
    for at in range(0, len(answer.text), 7):
        changed = answer.text[:at] + ("A" if answer.text[at] != "A" else "B") + answer.text[at + 1 :]
        with pytest.raises(LedgerError):
            verify_receipt(changed, [published.signer.verifier])

    theirs = f"/v1/participants/{person.participant_id}/{path}"
    problem_of(await api.client.get(theirs, headers=api.bearer("participant", other.participant_id)), "forbidden")
    problem_of(await api.read(person.participant_id, f"transfers/{person.link_id}/receipt"), "transfer-not-found")


async def events(api: Api, headers: dict[str, str], after: int = -1, limit: int = 1000) -> tuple[list[Any], int]:
    answer = await api.client.get(f"/v1/events?after={after}&limit={limit}", headers=headers)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    return page["events"], page["next"]


async def test_each_subscriber_sees_what_it_may_and_nothing_else(published: Published) -> None:
    api = published.api
    one, other = await api.person(), await api.person()
    first = await credited(api, one)
    second = await credited(api, other)
    await api.reverse(one.participant_id, first)
    await published.publish()
    everything, _ = await events(api, api.bearer("auditor"))
    assert [event["data"]["entry"]["kind"] for event in everything][:3] == ["credit", "credit", "reversal"]
    assert [event["id"] for event in everything] == [str(number) for number in range(len(everything))]
    paged: list[Any] = []
    after = -1
    for _ in everything:
        page, after = await events(api, api.bearer("operator"), after, limit=1)
        paged += page
    assert paged == everything

    mine, _ = await events(api, api.bearer("participant", one.participant_id))
    assert mine[0]["data"]["entry"]["transfer"] == first
    assert {event["data"]["entry"]["participant"] for event in mine} == {one.participant_id}
    assert len(mine) == 2

    reported, after = await events(api, api.bearer("provider", source=one.source))
    assert [event["type"] for event in reported] == ["org.tanpuhui.log.credit.v1", "org.tanpuhui.log.reversal.v1"]
    assert {event["data"]["activity_id"] for event in reported} == {first}
    assert reported[0]["data"]["reduction_mg"] == "82273"
    assert reported[1]["data"]["reason"] == "posted_in_error"
    assert one.participant_id not in json.dumps(reported)
    assert after == len(everything) - 1
    theirs, _ = await events(api, api.bearer("provider", source=other.source))
    assert [event["data"]["transfer_id"] for event in theirs] == [second]
    unknown, _ = await events(api, api.bearer("provider", source="urn:tests:nobody"))
    assert unknown == []
    problem_of(await api.client.get("/v1/events"), "unauthenticated")
    problem_of(await api.client.get("/v1/events?limit=0", headers=api.bearer("auditor")), "malformed-request")


async def test_who_waits_is_told_at_once_and_a_stream_goes_on_where_it_broke_off(published: Published) -> None:
    api = published.api
    person = await api.person()
    await credited(api, person)
    await published.publish()
    headers = api.bearer("participant", person.participant_id)
    _, after = await events(api, headers)
    waiting = asyncio.create_task(api.client.get(f"/v1/events?after={after}", headers=headers | {"Prefer": "wait=9"}))
    await asyncio.sleep(0.3)
    latest = await credited(api, person)
    await published.publish()
    answer = (await waiting).json()
    assert [event["data"]["entry"]["transfer"] for event in answer["events"]] == [latest]
    stopping = asyncio.get_running_loop().call_later(1.5, _stop, api)
    stream = await api.client.get("/v1/events/stream", headers=headers | {"Last-Event-ID": "0"})
    stopping.cancel()
    assert stream.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in stream.text.strip().split("\n\n")]
    assert [block[1] for block in blocks] == ["event: credit"]
    assert json.loads(blocks[0][2].removeprefix("data: "))["data"]["entry"]["transfer"] == latest


def _stop(api: Api) -> None:
    """As the server does when it is told to stop."""
    transport = api.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    app: Any = transport.app
    app.state.stopping.set()
