"""The witness over HTTP, and as a partner runs it: `tanpuhui witness`."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from api.cli import app as cli
from api.processes.publishing import run_log_publisher
from ledger.checkpoint import Checkpoint
from ledger.notes import COSIGNATURE, parse_note, parse_verifier, verify_note
from ledger.policy import parse_policy
from service.settings import Settings
from service.witness import app as serving
from service.witness.app import witness_app
from service.witness.asking import Question, open_witnesses
from service.witness.keys import create_witness_key, load_witness_key
from service.witness.memory import Memory, WitnessUnusable
from service.witness.protocol import MOST_BYTES
from service.witness.witness import Witness
from tests.witness.worlds import ORIGIN, History, history, witness_key

pytestmark = pytest.mark.anyio

NOW = 1_790_000_000.75
OWN = witness_key("bank.example/witness", 9)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = witness_app(Witness(OWN, [history().signer.verifier], Memory(tmp_path)), lambda: NOW)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://witness.example") as client:
        yield client


async def test_it_answers_over_http_as_the_protocol_says(client: httpx.AsyncClient) -> None:
    log = history()
    told = await client.get("/")
    assert (told.status_code, told.text) == (200, f"{OWN.verifier}\n")
    good = await client.post("/add-checkpoint", content=log.submission(0, 9))
    assert (good.status_code, good.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert verify_note(parse_note(log.note(9) + good.text), [OWN.verifier]).seen_at == {OWN.name: 1_790_000_000}
    stale = await client.post("/add-checkpoint", content=log.submission(0, 12))
    assert (stale.status_code, stale.text, stale.headers["content-type"]) == (409, "9\n", "text/x.tlog.size")
    assert (await client.post("/add-checkpoint", content=log.forked(2).submission(9, 12))).status_code == 422
    assert (await client.get("/add-checkpoint")).status_code == 405
    assert (await client.post("/", content=b"")).status_code == 405


async def test_of_requests_that_come_together_one_wins(client: httpx.AsyncClient) -> None:
    log = history()
    bodies = [log.submission(0, size) for size in range(5, 13)]
    answers = await asyncio.gather(*(client.post("/add-checkpoint", content=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]


async def test_a_body_is_bounded_in_size_and_time(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "BODY_WITHIN_S", 0.2)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1024)

    async def slow() -> AsyncIterator[bytes]:
        yield b"old 0\n"
        await asyncio.sleep(30)

    assert (await client.post("/add-checkpoint", content=bytes(MOST_BYTES))).status_code == 400
    assert (await client.post("/add-checkpoint", content=bytes(MOST_BYTES + 1))).status_code == 413
    assert (await client.post("/add-checkpoint", content=endless())).status_code == 413
    assert (await client.post("/add-checkpoint", content=slow())).status_code == 408


async def test_a_witness_that_cannot_remember_says_so(client: httpx.AsyncClient, tmp_path: Path) -> None:
    path = Memory(tmp_path).path(history().signer.name)
    path.parent.mkdir()
    path.write_text("damaged")
    answer = await client.post("/add-checkpoint", content=history().submission(0, 9))
    assert (answer.status_code, "its operator must look" in answer.text) == (500, True)


def test_a_key_is_made_once_and_read_strictly(tmp_path: Path) -> None:
    with pytest.raises(WitnessUnusable, match="witness key new"):
        load_witness_key(tmp_path)
    signer = create_witness_key(tmp_path, "bank.example/witness")
    assert signer.verifier.kind == COSIGNATURE
    assert load_witness_key(tmp_path).verifier == signer.verifier
    with pytest.raises(WitnessUnusable, match="there already"):
        create_witness_key(tmp_path, "bank.example/witness")
    path = tmp_path / "witness.key"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    for wrong in ("", text * 2, text.replace("bank", "tank"), f" {text}"):
        path.write_text(wrong)
        with pytest.raises(WitnessUnusable, match="not a witness's key") as error:
            load_witness_key(tmp_path)
        assert text[-20:-1] not in str(error.value)
    path.write_text(text)
    path.chmod(0o644)
    with pytest.raises(WitnessUnusable, match="chmod 600"):
        load_witness_key(tmp_path)


@contextmanager
def served(directory: Path, log: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The command as a partner runs it; its process and address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    alone = "from api.commands.witness import app; app()"  # the other commands take seconds to load
    arguments = ["serve", "--dir", str(directory), "--log", log, "--port", str(port)]
    process = subprocess.Popen([sys.executable, "-c", alone, *arguments], stderr=subprocess.PIPE)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            try:
                httpx.get(address)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield process, address
    finally:
        process.kill()
        process.communicate()


async def asked_as_the_publisher_does(address: str, witness: str, log: History, size: int) -> str:
    policy = parse_policy(f"{witness.strip()} {address}\nquorum none\n")
    question = Question(Checkpoint(ORIGIN, size, log.root(size)), log.note(size), lambda old: log.proof(old, size))
    async with open_witnesses(policy, 30) as witnesses:
        assert [each async for each in witnesses.ask(question, witnesses.awake())] == list(policy.witnesses)
        return witnesses.lines_over(log.text(size))[policy.witnesses[0]]


def test_the_command_survives_kill_9_and_runs_once(tmp_path: Path) -> None:
    made = CliRunner().invoke(cli, ["witness", "key", "new", "bank.example/witness", "--dir", str(tmp_path / "w")])
    assert made.exit_code == 0
    policy = parse_policy(f"{made.stdout.strip()} http://127.0.0.1\nquorum bank.example/witness\n")
    log, key = history(), policy.witnesses[0].key
    vkeys = tmp_path / "log.vkey"
    vkeys.write_text(f"{log.signer.verifier}\n")
    with served(tmp_path / "w", str(vkeys)) as (process, address):
        assert parse_verifier(httpx.get(address).text.strip()) == key
        line = asyncio.run(asked_as_the_publisher_does(address, made.stdout, log, 9))
        policy.check(verify_note(parse_note(log.note(9) + line), [log.signer.verifier, key]))
        second = CliRunner().invoke(cli, ["witness", "serve", "--dir", str(tmp_path / "w"), "--log", str(vkeys)])
        assert (second.exit_code, "another witness works in" in second.output) == (1, True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with Memory(tmp_path / "w").held():  # the lock went with it
        again = Witness(load_witness_key(tmp_path / "w"), [log.signer.verifier], Memory(tmp_path / "w"))
        assert again.add_checkpoint(log.submission(0, 12), 1).body == "9\n"
        assert again.add_checkpoint(log.forked(3).submission(9, 12), 1).status == 422
        assert again.add_checkpoint(log.submission(9, 12), 1).status == 200


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    log = str(history().signer.verifier)
    told = CliRunner().invoke(cli, ["witness", "serve", "--dir", str(tmp_path), "--log", log])
    assert (told.exit_code, "witness key new" in told.output) == (1, True)
    create_witness_key(tmp_path, "bank.example/witness")
    for wrong, text in (("no-such-file", "no verifier key"), ("a+b+c", "name+id+key"), (str(OWN.verifier), "a log's")):
        told = CliRunner().invoke(cli, ["witness", "serve", "--dir", str(tmp_path), "--log", wrong])
        assert (told.exit_code, text in told.output) == (1, True)
    told = CliRunner().invoke(cli, ["witness", "key", "new", "a b", "--dir", str(tmp_path / "other")])
    assert (told.exit_code, "neither spaces" in told.output) == (1, True)


def test_the_publisher_does_not_start_with_a_policy_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.processes.publishing.configure_logging", lambda _: None)
    policy = tmp_path / "policy"
    settings = Settings(
        data_dir=tmp_path / "data", database_url="postgresql://nobody@127.0.0.1:1/none", witness_policy=policy
    )
    with pytest.raises(SystemExit, match=r"TANPUHUI_WITNESS_POLICY cannot be used: .* cannot be read"):
        run_log_publisher(settings, leash=None)
    policy.write_text("quorum nobody\n")
    with pytest.raises(SystemExit, match="line 1 of the witness policy: nobody is no witness"):
        run_log_publisher(settings, leash=None)
