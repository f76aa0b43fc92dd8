"""A witness cosigns what goes on from what it saw, answers as the protocol says, and never goes back."""

import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.checkpoint import Checkpoint
from ledger.errors import NoteInvalid
from ledger.notes import parse_note, verify_note
from service.witness.memory import Memory, WitnessUnusable
from service.witness.protocol import MOST_BYTES, SIZE_TYPE, encode_submission, parse_submission
from service.witness.witness import Answer, Witness
from tests.witness.worlds import History, history, signer_of, witness_key

NOW = 1_790_000_000
OWN = witness_key("bank.example/witness", 9)


def witness_in(directory: Path, *logs: History) -> Witness:
    return Witness(OWN, [log.signer.verifier for log in logs or (history(),)], Memory(directory))


def ask(witness: Witness, body: bytes, now: int = NOW) -> Answer:
    return witness.add_checkpoint(body, now)


def require_cosigned(answer: Answer, log: History, size: int, now: int = NOW) -> None:
    assert answer.status == 200
    verified = verify_note(parse_note(f"{log.note(size)}{answer.body}"), [OWN.verifier])
    assert verified.text == log.text(size)
    assert verified.seen_at == {OWN.name: now}


def test_a_log_that_grows_is_cosigned(tmp_path: Path) -> None:
    log, witness = history(), witness_in(tmp_path)
    sizes = [0, 0, 1, 2, 2, 3, 8, 13, 40, 40]
    for old, new in zip([0, *sizes], sizes, strict=False):
        require_cosigned(ask(witness, log.submission(old, new)), log, new)
        assert Memory(tmp_path).read(log.signer.name) == Checkpoint(log.signer.name, new, log.root(new))
    require_cosigned(ask(witness_in(tmp_path), log.submission(40, 40), NOW + 5), log, 40, NOW + 5)  # after a restart


def test_a_log_met_late_is_cosigned_from_there(tmp_path: Path) -> None:
    log = history()
    require_cosigned(ask(witness_in(tmp_path), log.submission(0, 17)), log, 17)


def test_every_refusal_has_its_status(tmp_path: Path) -> None:
    log, witness = history(), witness_in(tmp_path)
    fork, stranger = log.forked(5), history(signer=signer_of("other.example/log"))
    impostor = history(signer=signer_of(seed=2))
    require_cosigned(ask(witness, log.submission(0, 10)), log, 10)

    def refused(body: bytes, status: int, text: str) -> None:
        answer = ask(witness, body)
        assert (answer.status, answer.media_type) == (
            status,
            SIZE_TYPE if status == 409 else "text/plain; charset=utf-8",
        )
        assert text in answer.body
        assert Memory(tmp_path).read(log.signer.name) == Checkpoint(log.signer.name, 10, log.root(10))

    refused(stranger.submission(0, 3), 404, "does not know the log other.example/log")
    refused(impostor.submission(10, 12), 403, "none of the keys")
    elsewhere = log.note(12).replace(log.text(12), log.text(11))
    refused(encode_submission(10, log.proof(10, 11), elsewhere), 403, "is not over this text")
    refused(log.submission(13, 12), 400, "old 13 is larger")
    for old in (0, 3, 9, 11):
        answer = ask(witness, log.submission(old, 12))
        assert (answer.status, answer.body, answer.media_type) == (409, "10\n", "text/x.tlog.size")
    refused(log.submission(3, 5), 409, "10")  # never back, however it is asked
    refused(log.submission(0, 5), 409, "10")
    refused(log.submission(10, 12, []), 422, "proof")
    refused(log.submission(10, 12, log.proof(9, 12)), 422, "proof")
    refused(log.submission(10, 12, [*log.proof(10, 12), bytes(32)]), 422, "proof")
    refused(log.submission(10, 10, [bytes(32)]), 422, "a proof where none is needed")
    refused(fork.submission(10, 12), 422, "does not lead")
    refused(fork.submission(10, 10), 422, "different roots")
    assert ask(witness, fork.submission(10, 10)).evidence == fork.note(10)  # one of two histories, signed
    require_cosigned(ask(witness, log.submission(10, 12)), log, 12)


def test_old_0_needs_no_proof_and_an_empty_log_has_one_root(tmp_path: Path) -> None:
    log, witness = history(), witness_in(tmp_path)
    answer = ask(witness, log.submission(0, 4, [bytes(32)]))
    assert (answer.status, "send none" in answer.body) == (422, True)
    text = str(Checkpoint(log.signer.name, 0, bytes(32)))
    assert ask(witness, encode_submission(0, [], f"{text}\n{log.signer.sign(text)}")).status == 422
    assert Memory(tmp_path).read(log.signer.name) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old 0\n\n",
        b"\n\n",
        b"\xff",
        history().submission(0, 3).replace(b"old 0", b"old 00"),
        history().submission(0, 3).replace(b"old 0", b"old +0"),
        history().submission(0, 3).replace(b"old 0", b"old  0"),
        history().submission(0, 3).replace(b"old 0", b"Old 0"),
        history().submission(0, 3).replace(b"old 0", b"old 0\r"),
        history().submission(0, 3).replace(b"old 0", b"old 9223372036854775808"),
        history().submission(0, 3).replace(b"old 0\n\n", b"old 0\n"),
        history().submission(0, 3).replace(b"\n3\n", b"\n03\n"),
        history().submission(0, 3)[:-1],
        history().submission(2, 3, [bytes(31)]),
        history().submission(2, 3, [bytes(32)] * 64),
        history().submission(2, 3).replace(b"=\n\n", b"\n\n", 1),
        history().submission(0, 3) + b"x\n",
    ],
)
def test_what_is_no_request_is_answered_400(body: bytes, tmp_path: Path) -> None:
    answer = ask(witness_in(tmp_path), body)
    assert (answer.status, answer.evidence) == (400, None)
    assert answer.body.endswith("\n")


def test_a_request_is_read_as_it_was_written() -> None:
    log = history()
    for old, new in ((0, 0), (0, 40), (3, 40), (40, 40)):
        read = parse_submission(log.submission(old, new))
        assert (read.old, list(read.proof), read.text) == (old, log.proof(old, new), log.note(new))
        assert read.checkpoint == Checkpoint(log.signer.name, new, log.root(new))
    hashes = [bytes([n] * 32) for n in range(63)]
    most = encode_submission(1, hashes, log.note(40) + signer_of("x" * 200).sign(log.text(40)) * 99)
    assert len(parse_submission(most).proof) == 63
    assert len(most) < MOST_BYTES


def test_several_logs_and_several_keys_of_one(tmp_path: Path) -> None:
    one, other = history(), history(20, signer_of("other.example/log", seed=5))
    successor = history(signer=signer_of(seed=6))
    witness = witness_in(tmp_path, one, other, successor)
    require_cosigned(ask(witness, one.submission(0, 4)), one, 4)
    require_cosigned(ask(witness, other.submission(0, 9)), other, 9)
    require_cosigned(ask(witness, successor.submission(4, 5)), successor, 5)  # the same log, with its next key
    assert ask(witness, one.submission(4, 6)).body == "5\n"
    with pytest.raises(NoteInvalid, match="give the log's verifier key"):
        Witness(OWN, [OWN.verifier], Memory(tmp_path))


def test_of_two_requests_with_one_old_size_exactly_one_wins(tmp_path: Path) -> None:
    log, witness = history(), witness_in(tmp_path)
    size = 0
    for new in (2, 5, 9, 17, 30):
        bodies = [log.submission(size, new), log.forked(size).submission(size, new - 1 if new - 1 > size else new)]
        with ThreadPoolExecutor(len(bodies)) as pool:
            answers = list(pool.map(partial(ask, witness), bodies))
        assert sorted(answer.status for answer in answers) == [200, 409]
        seen = Memory(tmp_path).read(log.signer.name)
        assert seen is not None
        assert next(answer for answer in answers if answer.status == 409).body == f"{seen.size}\n"
        if answers[1].status == 200:  # the fork was first: it is the history from now on
            log = log.forked(size)
        size = seen.size


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, int, str]:
    """History, old, new, and what is done to the request."""
    new = draw(st.integers(0, 12))
    return draw(st.integers(0, 2)), draw(st.integers(0, 13)), new, draw(st.sampled_from(("", "", "", "key", "proof")))


@settings(max_examples=80)
@given(st.lists(requests(), max_size=12), st.booleans())
def test_any_sequence_of_requests_is_answered_as_the_model_says(
    sequence: list[tuple[int, int, int, str]], honest: bool
) -> None:
    base = history(13)
    histories = [base, base.forked(4, b"x"), base.forked(0, b"y")]
    seen: tuple[bytes, ...] = ()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        for number, old, new, change in sequence:
            log = histories[number]
            asked = len(seen) if honest else old
            body = log.submission(asked, new, [bytes(32)] if change == "proof" else None)
            if change == "key":
                body = encode_submission(asked, [], History(log.entries, signer_of(seed=8)).note(new))
            answer = ask(witness_in(directory), body)
            goes_on = log.entries[:new][: len(seen)] == seen
            sound = change != "proof" and (goes_on or not seen)
            if change == "key":
                expected = 403
            elif asked > new:
                expected = 400
            elif asked != len(seen):
                expected = 409
            else:
                expected = 200 if sound else 422
            assert answer.status == expected
            if expected == 200:
                seen = log.entries[:new]
                require_cosigned(answer, log, new)
            kept = Memory(directory).read(base.signer.name)
            if kept is not None:
                expected_root = History(seen, base.signer).root(len(seen))
                assert (kept.size, kept.root) == (len(seen), expected_root)
            else:
                assert not seen


_KILLED = """
import os, signal, sys
from pathlib import Path
from ledger.notes import Signer
from tests.witness.test_witness import witness_in
Signer.cosign = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
witness_in(Path(sys.argv[1])).add_checkpoint(sys.stdin.buffer.read(), 1)
"""


def test_killed_between_what_it_keeps_and_its_answer(tmp_path: Path) -> None:
    log = history()
    require_cosigned(ask(witness_in(tmp_path), log.submission(0, 4)), log, 4)
    done = subprocess.run([sys.executable, "-c", _KILLED, tmp_path], input=log.submission(4, 9), check=False)
    assert done.returncode == -signal.SIGKILL
    witness = witness_in(tmp_path)
    assert ask(witness, log.forked(4).submission(4, 9)).body == "9\n"  # what was kept binds it, answered or not
    assert ask(witness, log.forked(4).submission(9, 12)).status == 422
    assert ask(witness, log.submission(4, 9)).body == "9\n"
    require_cosigned(ask(witness, log.submission(9, 9)), log, 9)


def test_what_it_saw_is_never_begun_anew(tmp_path: Path) -> None:
    log, witness = history(), witness_in(tmp_path)
    require_cosigned(ask(witness, log.submission(0, 4)), log, 4)
    path = Memory(tmp_path).path(log.signer.name)
    for damaged in (b"", b"x", path.read_bytes()[:40], history(signer=signer_of("other")).note(4).encode()):
        path.write_bytes(damaged)
        with pytest.raises(WitnessUnusable, match=r"restore it|put it back"):
            ask(witness, log.submission(0, 9))
        with pytest.raises(WitnessUnusable):
            witness.require_memory()


def test_nothing_is_cosigned_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, witness = history(), witness_in(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            ask(witness, log.submission(0, 4))
    assert Memory(tmp_path).read(log.signer.name) is None
    require_cosigned(ask(witness, log.submission(0, 3)), log, 3)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [Memory(tmp_path).path(log.signer.name).name]


def test_one_witness_alone_works_in_a_folder(tmp_path: Path) -> None:
    with Memory(tmp_path).held(), pytest.raises(WitnessUnusable, match="stop it first"), Memory(tmp_path).held():
        pass
    with Memory(tmp_path).held():
        pass
