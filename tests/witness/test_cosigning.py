"""The publisher and its witnesses: what it shows, when, and that no witness holds it up."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, MutableSequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import LogCapture
from typer.testing import CliRunner, Result

from api.cli import app as cli
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.errors import NoteInvalid
from ledger.log_store import sequence
from ledger.notes import ED25519, Signer, Verified, generate_signer, parse_note, verify_note
from ledger.policy import Policy, parse_policy
from ledger.receipts import verify_receipt
from service.database import Connection
from service.log import cosigning as cosigning_of_the_log
from service.log.cosigning import show_cosigned
from service.log.guard import Guard
from service.log.loop import step
from service.log.publish import Log, publish
from service.receipts import receipt_of
from service.witness import asking
from service.witness.app import witness_app
from service.witness.asking import Witnesses
from service.witness.memory import Memory
from service.witness.protocol import SIZE_TYPE, parse_submission
from service.witness.witness import Witness
from tests.test_docs import example_leaves
from tests.witness.worlds import history, witness_key

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
ORIGIN = "log.example.org/log"
LOG = generate_signer(ORIGIN, ED25519, bytes([7] * 32))
GOOD, ALSO, LIAR = (witness_key(f"{name}.example/witness", seed) for seed, name in enumerate(("good", "also", "liar")))
KEYS = {"good": GOOD, "also": ALSO, "liar": LIAR}
TIMEOUT_S = 1.0

Answering = Callable[[httpx.Request], Awaitable[httpx.Response]]


class Fake(httpx.AsyncBaseTransport):
    """A witness that answers as the test has it, and counts how often it is asked."""

    def __init__(self, answer: Answering) -> None:
        self.answer, self.asked = answer, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return await self.answer(request)


async def hang(_: httpx.Request) -> httpx.Response:
    await asyncio.sleep(600)
    raise AssertionError


async def refuse(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("All connection attempts failed")


def answering(status: int, content: bytes, media_type: str = "text/plain") -> Answering:
    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=content, headers={"Content-Type": media_type})

    return answer


def cosigning(change: Callable[[str], str], signer: Signer = LIAR) -> Answering:
    """Cosign something else than what was asked."""

    async def answer(request: httpx.Request) -> httpx.Response:
        text = parse_submission(await request.aread()).note.text
        return httpx.Response(200, text=signer.cosign(change(text), 1_790_000_000))

    return answer


def honest(directory: Path, signer: Signer) -> httpx.ASGITransport:
    return httpx.ASGITransport(witness_app(Witness(signer, [LOG.verifier], Memory(directory)), lambda: 1_790_000_000))


def policy_of(quorum: str, names: tuple[str, ...] = ("good", "liar", "also")) -> Policy:
    lines = [f"witness {name} {KEYS[name].verifier} http://{name}.example" for name in names]
    groups = ["group two 2 good liar also"] if quorum == "two" else []
    return parse_policy("\n".join([*lines, *groups, f"quorum {quorum}", ""]))


@pytest.fixture(autouse=True)
async def begun(connection: Connection, tmp_path: Path) -> None:
    """Two entries are signed, and nobody was asked."""
    log = Log(ORIGIN, tmp_path / "log", Guard(tmp_path / "elsewhere" / "guard"), LOG)
    for _ in range(2):
        await stepped(connection, log, 0)
    assert shown(log)[0].size == 2


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> MutableSequence[MutableMapping[str, Any]]:
    """What is said. A logger that was used before is bound for good, and its level may be any."""
    capture = LogCapture()
    for module in (asking, cosigning_of_the_log):
        monkeypatch.setattr(module, "_log", structlog.wrap_logger(None, [capture], structlog.stdlib.BoundLogger))
    return capture.entries


@asynccontextmanager
async def log_with(
    tmp_path: Path, policy: Policy, transports: Mapping[str, httpx.AsyncBaseTransport], timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Log]:
    mounts = {f"all://{name}.example": transport for name, transport in transports.items()}
    async with httpx.AsyncClient(mounts=mounts) as client:
        guard = Guard(tmp_path / "elsewhere" / "guard")
        yield Log(ORIGIN, tmp_path / "log", guard, LOG, (), Witnesses(policy, timeout_s, client))


async def stepped(connection: Connection, log: Log, count: int = 3) -> float:
    """Leaves that are nobody's, and a step of the publisher; its seconds."""
    leaves = [(secrets.token_bytes(40),) for _ in range(count)]
    await connection.executemany("INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)", leaves)
    async with connection.transaction():
        await sequence(connection)
    started = asyncio.get_running_loop().time()
    assert (await step(connection, log, "demo", lambda: NOW)).refused is None
    return asyncio.get_running_loop().time() - started


def shown(log: Log) -> tuple[Checkpoint, Verified]:
    note = log.files_of(1).read_checkpoint()
    assert note is not None
    verified = verify_note(parse_note(note), [LOG.verifier, *(key.verifier for key in KEYS.values())])
    assert LOG.verifier in verified.signers
    return parse_checkpoint(verified.text), verified


def cosigners(log: Log) -> list[str]:
    """In the order of the lines."""
    names = {signer.name: name for name, signer in KEYS.items()}
    return [names[key.name] for key in shown(log)[1].signers if key.name in names]


def lines_below(log: Log) -> str:
    """The lines of witnesses as they are shown."""
    note = log.files_of(1).read_checkpoint()
    assert note is not None
    return note.partition("\n\n")[2].partition("\n")[2]


async def test_lines_of_witnesses_stand_below_in_the_order_of_the_policy(
    connection: Connection, tmp_path: Path
) -> None:
    transports = {name: honest(tmp_path / name, KEYS[name]) for name in KEYS}
    async with log_with(tmp_path, policy_of("two"), transports) as log:
        for count in (1, 200, 300, 0, 1):
            await stepped(connection, log, count)
            assert cosigners(log) == ["good", "liar", "also"]
            assert log.guard.read() is not None
            for name in KEYS:
                assert Memory(tmp_path / name).read(ORIGIN) == shown(log)[0]
        kept = await connection.fetch("SELECT note FROM ledger.checkpoint")
        assert all(len(parse_note(row["note"]).signatures) == 1 for row in kept)  # as the log alone signed it
    # a publisher that starts anew knows nothing of what they hold
    async with log_with(tmp_path, policy_of("two"), transports) as log:
        before = log.files_of(1).read_checkpoint()
        await stepped(connection, log, 0)
        assert log.files_of(1).read_checkpoint() == before
        await stepped(connection, log, 5)
        assert cosigners(log) == ["good", "liar", "also"]
    # a witness that is no longer in the policy is no longer shown, and a new one is asked at once
    async with log_with(tmp_path, policy_of("good", ("also", "good")), transports) as log:
        await stepped(connection, log, 0)
        assert cosigners(log) == ["also", "good"]


@pytest.mark.parametrize(
    "answer",
    [
        cosigning(lambda text: text.replace("\n", "x\n", 1)),
        cosigning(lambda text: text, ALSO),
        cosigning(lambda text: text, witness_key(LIAR.name, 77)),
        answering(200, b""),
        answering(200, b"\xff\n"),
        answering(200, b"\n\n\xe2\x80\x94 x AAAA\n"),
        answering(200, f"\u2014 {LIAR.name} AAAA\n".encode()),
        answering(200, b"x" * 70_000),
        answering(409, b"", SIZE_TYPE),
        answering(409, b"01\n", SIZE_TYPE),
        answering(409, b"999999\n", SIZE_TYPE),
        answering(409, b"1\n", SIZE_TYPE),
        answering(409, b"1\n"),
        answering(302, b""),
        answering(403, b"unknown key\n"),
        answering(500, b"\xff"),
        refuse,
    ],
)
async def test_a_witness_that_lies_or_fails_is_not_shown_and_stops_nothing(
    connection: Connection, tmp_path: Path, answer: Answering, logs: MutableSequence[MutableMapping[str, Any]]
) -> None:
    fake = Fake(answer)
    transports = {"good": honest(tmp_path / "good", GOOD), "liar": fake, "also": Fake(hang)}
    async with log_with(tmp_path, policy_of("good"), transports, 0.3) as log:
        await stepped(connection, log)
        assert cosigners(log) == ["good"]
        assert {line["witness"] for line in logs if line["event"] == "a witness did not cosign"} == {"liar", "also"}
        assert 1 <= fake.asked <= 3
        before = fake.asked
        assert await stepped(connection, log) < 0.3  # both rest
        assert (cosigners(log), fake.asked) == (["good"], before)


async def test_a_cosignature_without_a_time_is_none(connection: Connection, tmp_path: Path) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=LIAR.cosign(parse_submission(await request.aread()).note.text, 0))

    async with log_with(tmp_path, policy_of("none", ("liar",)), {"liar": Fake(answer)}) as log:
        await stepped(connection, log)
        assert cosigners(log) == []


async def test_without_a_quorum_nobody_waits(connection: Connection, tmp_path: Path) -> None:
    seen: list[int] = []
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        seen.append(shown(log)[0].size)  # it is shown before anybody is asked
        assert connection.is_in_transaction() is False
        with log.guard.held():  # and nobody holds the guard
            pass
        asked.set()
        await release.wait()
        return await honest(tmp_path / "good", GOOD).handle_async_request(request)

    async with log_with(tmp_path, policy_of("none", ("good",)), {"good": Fake(slow)}, 10) as log:
        running = asyncio.create_task(stepped(connection, log))
        await asked.wait()
        assert cosigners(log) == []
        release.set()
        await running
        assert cosigners(log) == ["good"]
        assert set(seen) == {5}


async def test_a_checkpoint_is_shown_as_soon_as_the_quorum_saw_it(connection: Connection, tmp_path: Path) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def last(request: httpx.Request) -> httpx.Response:
        asked.set()
        await release.wait()
        return await honest(tmp_path / "also", ALSO).handle_async_request(request)

    transports = {"good": honest(tmp_path / "g", GOOD), "liar": honest(tmp_path / "l", LIAR), "also": Fake(last)}
    async with log_with(tmp_path, policy_of("two"), transports, 10) as log:
        running = asyncio.create_task(stepped(connection, log))
        await asked.wait()
        for _ in range(1_000):
            if shown(log)[0].size == 5:
                break
            assert cosigners(log) == []  # the one before stays until then
            await asyncio.sleep(0.01)
        assert cosigners(log) == ["good", "liar"]
        release.set()
        await running
        assert cosigners(log) == ["good", "liar", "also"]


async def test_without_its_quorum_a_checkpoint_is_shown_when_the_time_is_over(
    connection: Connection, tmp_path: Path, logs: MutableSequence[MutableMapping[str, Any]]
) -> None:
    also = Fake(hang)
    transports = {"good": honest(tmp_path / "good", GOOD), "liar": Fake(refuse), "also": also}
    async with log_with(tmp_path, policy_of("two"), transports) as log:
        assert await stepped(connection, log) >= TIMEOUT_S
        assert (cosigners(log), shown(log)[0].size) == (["good"], 5)
        assert await stepped(connection, log) < TIMEOUT_S  # too few are awake to wait for
        assert (cosigners(log), shown(log)[0].size) == (["good"], 8)
        told = [line for line in logs if line["event"] == "the checkpoint is shown without its quorum of witnesses"]
        assert [(line["quorum"], line["cosigned"], line["log_level"]) for line in told] == [("two", ["good"], "error")]
        # it comes back, and is asked again about the checkpoint that stands
        also.answer = honest(tmp_path / "also", ALSO).handle_async_request
        for _ in range(100):
            await stepped(connection, log, 0)
            if len(cosigners(log)) == 2:
                break
            await asyncio.sleep(0.05)
        assert (cosigners(log), shown(log)[0].size) == (["good", "also"], 8)


async def test_what_another_publisher_signed_meanwhile_stays_shown(connection: Connection, tmp_path: Path) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        answer = await honest(tmp_path / "good", GOOD).handle_async_request(request)
        asked.set()
        await release.wait()
        return answer

    transports = {"good": Fake(slow)}
    async with (
        log_with(tmp_path, policy_of("good", ("good",)), transports, 10) as first,
        log_with(tmp_path, policy_of("good", ("good",)), {"good": honest(tmp_path / "good", GOOD)}) as second,
    ):
        await stepped(connection, second)
        await connection.execute("INSERT INTO ledger.leaf_queue (leaf) VALUES ('a leaf')")
        async with connection.transaction():
            await sequence(connection)
        await publish(connection, first, NOW)
        late = asyncio.create_task(show_cosigned(first))
        await asked.wait()
        await stepped(connection, second)  # goes on from what the first one signed
        latest = second.files_of(1).read_checkpoint()
        assert (cosigners(second), shown(second)[0].size) == (["good"], 9)
        release.set()
        await late
        assert first.files_of(1).read_checkpoint() == latest


async def test_a_fork_of_the_log_is_cosigned_by_nobody(connection: Connection, tmp_path: Path) -> None:
    good = honest(tmp_path / "good", GOOD)
    async with log_with(tmp_path, policy_of("good", ("good",)), {"good": good}) as log:
        await stepped(connection, log, 30)
        assert cosigners(log) == ["good"]
    fork = history(50, LOG)  # under the same name and key
    async with httpx.AsyncClient(transport=good, base_url="http://good.example") as client:
        for old, new, status in ((0, 40, 409), (32, 40, 422), (32, 32, 422)):
            answer = await client.post("/add-checkpoint", content=fork.submission(old, new))
            assert answer.status_code == status


async def test_a_receipt_holds_under_a_policy_only_with_its_quorum(connection: Connection, tmp_path: Path) -> None:
    entry = example_leaves()["credit"]
    await connection.execute("INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)", entry)
    one, two = policy_of("good", ("good",)), policy_of("two")
    transports: dict[str, httpx.AsyncBaseTransport] = {"good": honest(tmp_path / "good", GOOD), "also": Fake(refuse)}
    transports["liar"] = honest(tmp_path / "liar", LIAR)
    async with log_with(tmp_path, one, transports) as log:
        await stepped(connection, log)
        receipt = str(receipt_of(log.files_of(1), 2, entry))
        told = verify_receipt(receipt, [LOG.verifier, *one.keys], one.check)
        assert (told.index, told.seen_at) == (2, {GOOD.name: 1_790_000_000})
        with pytest.raises(NoteInvalid, match="asks for two; cosigned by good, not by liar, also"):
            verify_receipt(receipt, [LOG.verifier, *two.keys], two.check)
        without = receipt.replace(lines_below(log), "")
        assert verify_receipt(without, [LOG.verifier]).seen_at == {}
        with pytest.raises(NoteInvalid, match="cosigned by nobody"):
            verify_receipt(without, [LOG.verifier, *one.keys], one.check)
    async with log_with(tmp_path, two, transports) as log:
        await stepped(connection, log, 0)  # the same checkpoint, under another policy
        told = verify_receipt(str(receipt_of(log.files_of(1), 2, entry)), [LOG.verifier, *two.keys], two.check)
        assert set(told.seen_at) == {GOOD.name, LIAR.name}


async def test_the_command_verifies_a_receipt_under_a_policy(connection: Connection, tmp_path: Path) -> None:
    entry = example_leaves()["credit"]
    await connection.execute("INSERT INTO ledger.leaf_queue (leaf) VALUES ($1)", entry)
    file, policy = tmp_path / "receipt.tlog-proof", tmp_path / "policy"
    async with log_with(tmp_path, policy_of("good", ("good",)), {"good": honest(tmp_path / "good", GOOD)}) as log:
        await stepped(connection, log)
        file.write_text(str(receipt_of(log.files_of(1), 2, entry)), "utf-8")
    good = f"witness good {GOOD.verifier}\n"

    def verified(text: str, *more: str) -> Result:
        policy.write_text(text, "utf-8")
        return CliRunner().invoke(cli, ["receipt", "verify", str(file), "--policy", str(policy), "--json", *more])

    told = verified(f"log {LOG.verifier}\n{good}quorum good\n")  # its log is the one to trust
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout.splitlines()[-1])["witnesses"] == {GOOD.name: 1_790_000_000}
    assert verified(f"{good}quorum good\n", "--vkey", str(LOG.verifier)).exit_code == 0
    assert verified("quorum none\n", "--vkey", str(LOG.verifier)).exit_code == 0
    told = verified(f"log {LOG.verifier}\n{good}witness also {ALSO.verifier}\ngroup g all good also\nquorum g\n")
    assert (told.exit_code, json.loads(told.stdout.splitlines()[-1])["verified"]) == (1, False)
    told = verified(f"log {LIAR.name}+00000000+AAAA\n")
    assert (told.exit_code, "line 1 of the witness policy" in told.output) == (1, True)
    other = generate_signer(ORIGIN, ED25519, bytes([8] * 32)).verifier
    assert verified(f"log {other}\n{good}quorum good\n").exit_code == 1
    assert verified(f"log {other}\n{good}quorum good\n", "--vkey", str(LOG.verifier)).exit_code == 1
