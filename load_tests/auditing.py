"""`python -m load_tests.auditing`: an auditor's verification at size, as the process that an auditor starts.

It writes an honest bundle of some million entries (once: `--bundle` keeps it), and verifies it with one process and
with two. Says entries a second, processor time an entry and the most memory all processes held together. The run ends
with status 1 when something was found.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from load_tests.machine import describe_machine
from tests.log.bundles import BundleWriter
from tests.log.histories import History
from tests.log.playing import play

ROOT = Path(__file__).resolve().parents[1]
MEAN_S = 0.5  # between two entries: 2 million are twelve days, each with its seal over everybody
UNUSUAL = 0.13  # one entry in twenty is no plain ride
SIGN_EACH = 1_000  # entries, of which the checkpoints are kept
TARGET, MOST_MEMORY_MIB = 60_000, 1_024


@dataclass(frozen=True, slots=True)
class Verified:
    """One run of the command: its status and JSON, seconds, processor seconds, and memory."""

    status: int
    report: dict[str, object]
    seconds: float
    cpu_seconds: float
    most_memory_mib: float


def main() -> None:
    options = _options()
    with _folder(options.bundle) as folder:
        if not (folder / "bundle.json").exists():
            began = time.monotonic()
            write_bundle(
                folder,
                options.entries,
                options.people,
                options.seed,
                evidence=options.evidence,
                redeemed=options.redeemed,
            )
            _say(f"{options.entries:,} entries written in {time.monotonic() - began:.0f} s")
        runs = {str(number): verify(folder, number) for number in options.processes}
    size = int(str(next(iter(runs.values())).report["checked"]["entries"]))  # type: ignore[index] # a report's JSON
    results = {
        name: {
            "entries_per_s": round(size / run.seconds),
            "us_per_entry": round(run.cpu_seconds / size * 1e6, 2),
            "entries_per_cpu_s": round(size / run.cpu_seconds),
            "seconds": round(run.seconds, 1),
            "most_memory_mib": round(run.most_memory_mib),
        }
        for name, run in runs.items()
    }
    for name, result in results.items():
        _say(f"{name} process(es): " + ", ".join(f"{key} {value:,}" for key, value in result.items()))
    clean = all(run.status == 0 for run in runs.values())
    print(json.dumps({"machine": describe_machine(), "entries": size, "clean": clean, "processes": results}))
    if not clean:
        sys.exit("an honest bundle was found fault with")


def write_bundle(
    folder: Path, entries: int, people: int, seed: int, *, evidence: bool = False, redeemed: float = 0.0
) -> None:
    """An honest bundle of about so many entries; `redeemed` of what happens is about a redemption."""
    writer = BundleWriter(folder)
    random = Random(seed)
    history = History(random, writer.log.add, writer.evidence if evidence else lambda *_: None)
    history.begin(writer.log.signer.verifier.public)
    signed = 0
    for size in play(history, entries, people=people, mean_s=MEAN_S, unusual=UNUSUAL, redeemed=redeemed):
        if size >= signed + SIGN_EACH:
            writer.log.sign()
            signed = size
        if size >= entries:
            break
    writer.close(history)


def verify(folder: Path, processes: int) -> Verified:
    """Run the command."""
    return watched(["ledger", "verify", str(folder), "--json", "--processes", str(processes)])


def watched(words: Sequence[str]) -> Verified:
    """Run a module of ours that answers in JSON, looking at its memory meanwhile."""
    command = [sys.executable, "-m", *words]
    began, before = time.monotonic(), os.times()
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    most = 0.0
    while running.poll() is None:
        most = max(most, _memory_mib(running.pid))
        time.sleep(0.2)
    assert running.stdout is not None
    answer, after = running.stdout.read(), os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    if not answer.strip():
        sys.exit(f"`python -m {' '.join(words)}` ended with status {running.returncode} and no report")
    return Verified(running.returncode, json.loads(answer), time.monotonic() - began, used, most)


def _memory_mib(session: int) -> float:
    """What the processes of a session hold of memory that is theirs alone or shared in part, all together."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[3]) == session:
                lines = (entry / "smaps_rollup").read_text("utf-8").splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, IndexError):  # it ended in between
            continue
    return total / 1024


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="tanpuhui-auditing-") as folder:
        yield Path(folder) / "bundle"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m load_tests.auditing", description=__doc__)
    parser.add_argument("--entries", type=int, default=2_000_000)
    parser.add_argument("--people", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--evidence", action="store_true", help="write the evidence, too")
    parser.add_argument("--redeemed", type=float, default=0.0, help="so much of what happens is about a redemption")
    parser.add_argument("--bundle", type=Path, help="a folder to keep the bundle in, or one written before")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
