"""`python -m load_tests.importing`: `tanpuhui import` at size, as a process of its own against the whole platform.

Says rows a second, processor time a row of client, API, PostgreSQL and worker, the client's largest memory, and the
rate as a ratio to the bare echo before and after. What the import says it credited must equal an independent count:
SQL in SQLite over the file, to the milligram; and importing the file again must credit nothing.
"""

import argparse
import asyncio
import csv
import json
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import uvloop

from api.supervisor import RunningPlatform, start_platform
from load_tests.bench import data_directory
from load_tests.client import drive, http_request
from load_tests.echo import ROOT, running_echo
from load_tests.events import encoded_rides
from load_tests.machine import cpu_seconds, describe_machine
from load_tests.measuring import say
from service.settings import PREFIX, Settings

ECHO_CLIENTS, ECHO_SECONDS = 64, 3.0
HEADING = ("route_id", "user_id", "bike_id", "start_time_utc", "end_time_utc", "points", "track_km")
_FIRST_DAY = datetime(2018, 7, 1, tzinfo=UTC)
_FAR_METRES, _FAST_KMH = 30_000, 25

# The conditions and the factor of demo-docked-ebike in whole numbers: metres, seconds, and 35.01 mg for a metre.
_EXPECTED = f"""
    SELECT count(*), sum(metres * 3501 / 100) FROM ride
    WHERE seconds BETWEEN 60 AND 10800 AND metres BETWEEN 100 AND {_FAR_METRES}
      AND metres * 3600 <= {_FAST_KMH} * 1000 * seconds
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """One run of the command: its JSON, seconds, and the processor time it and the platform took; the time of starting
    any command stands apart."""

    result: dict[str, Any]
    seconds: float
    cpu: dict[str, float]
    start: float
    most_memory_mib: float


def main() -> None:
    options = _options()
    os.environ[PREFIX + "API_PROCESSES"] = str(options.processes)
    with data_directory(options.data_dir) as directory, tempfile.TemporaryDirectory() as room:
        file = Path(room) / "rides.csv"
        write_rides(file, options.rows, options.people)
        settings = Settings(data_dir=directory, host="127.0.0.1")
        platform = start_platform(settings, say)
        try:
            with running_echo(options.processes) as (port, _):
                echoes = [_echo_rate(port)]
                first = _import(platform, file, directory, options.batch)
                echoes.append(_echo_rate(port))
                again = _import(platform, file, directory, options.batch)
        finally:
            platform.stop()
        expected = expected_totals(file)
    _require(first.result, again.result, options.rows, expected)
    rate = options.rows / first.seconds
    figures = {
        "machine": describe_machine(),
        "rows": options.rows,
        "people": options.people,
        "rows_per_second": round(rate),
        "ratio_to_echo": round(rate / (sum(echoes) / len(echoes)), 3),
        "cpu_us_per_row": {name: round(spent / options.rows * 1e6, 1) for name, spent in first.cpu.items()},
        "client_start_s": round(first.start, 2),
        "client_most_memory_mib": round(first.most_memory_mib),
        "again_rows_per_second": round(options.rows / again.seconds),
        "credited": first.result["credited"],
        "reduction_mg": first.result["reduction_mg"],
    }
    print(json.dumps(figures, ensure_ascii=False))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m load_tests.importing", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=10_000, help="none is enrolled before")
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        help="API processes, and echo processes: one for each core",
    )
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get(PREFIX + "DATA_DIR", ".data")))
    return parser.parse_args()


def write_rides(path: Path, rows: int, people: int, *, faulty_one_in: int = 200, bicycles: str = "bike") -> None:
    """Rides in the form of the feed `valleybike`: nobody rides two at a time, no bicycle carries two; one in so many is
    too far, too fast, too short, or cannot be read."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADING)
        writer.writerows(_rides(rows, people, faulty_one_in, bicycles, random.Random(rows)))


def _rides(rows: int, people: int, faulty_one_in: int, bicycles: str, chance: random.Random) -> Iterator[list[str]]:
    for number in range(rows):
        turn, person = divmod(number, people)
        started = _FIRST_DAY + timedelta(hours=4 * turn, seconds=chance.randrange(3600))
        metres = chance.randrange(300, 6000)
        seconds = metres * 3600 // (1000 * chance.randrange(9, 16)) + 1
        ended, km = started + timedelta(seconds=seconds), f"{metres // 1000}.{metres % 1000:03}"
        faulty = chance.randrange(faulty_one_in * 4)
        if faulty == 0:
            km = "none"
        elif faulty == 1:
            km = str(_FAR_METRES // 1000 + 1)
        elif faulty == 2:
            ended = started + timedelta(seconds=30)
        elif faulty == 3:
            ended = started + timedelta(seconds=metres * 3600 // (1000 * (_FAST_KMH + 5)))
        times = [moment.isoformat().replace("+00:00", "Z") for moment in (started, ended)]
        yield [f"ride-{number}", f"person-{person}", f"{bicycles}-{person}", *times, "100", km]


def expected_totals(path: Path) -> tuple[int, int]:
    """How many rides of the file count, and their milligrams, by SQL over the file."""
    with closing(sqlite3.connect(":memory:")) as book, path.open(encoding="utf-8", newline="") as file:
        book.execute("CREATE TABLE ride (seconds INTEGER, metres INTEGER)")
        book.executemany(
            "INSERT INTO ride SELECT strftime('%s', ?1) - strftime('%s', ?2), ?3",
            (
                (row["end_time_utc"], row["start_time_utc"], _metres(row["track_km"]))
                for row in csv.DictReader(file)
                if row["track_km"] != "none"
            ),
        )
        count, mg = book.execute(_EXPECTED).fetchone()
    return count, mg


def _metres(km: str) -> int:
    whole, _, part = km.partition(".")
    return int(whole) * 1000 + int(part.ljust(3, "0") or 0)


def _import(platform: RunningPlatform, file: Path, data_dir: Path, batch: int) -> Imported:
    command = [sys.executable, "-m", "api.cli", "import", str(file), "--feed", "valleybike", "--json"]
    command += ["--url", platform.url, "--batch", str(batch), "--refused", str(file.with_name("refused.csv"))]
    environment = os.environ | {PREFIX + "DATA_DIR": str(data_dir)}
    pids = {name: [pid] for name, pid in platform.pids().items()}
    own = _children_cpu()
    subprocess.run([*command[:3], "feed", "list"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    start = _children_cpu() - own
    before, own = cpu_seconds(pids), _children_cpu()
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - began
    after = cpu_seconds(pids)
    cpu = {"client": _children_cpu() - own - start} | {name: after[name] - before[name] for name in after}
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Imported(json.loads(done.stdout.splitlines()[-1]), seconds, cpu, start, memory)


def _children_cpu() -> float:
    """Processor time of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _echo_rate(port: int) -> float:
    """Requests a second of the echo, with a ride in each."""
    rides = encoded_rides(["rider"], seed=1)
    bodies = [
        http_request("POST", "/echo", token="none", content_type="application/json", body=next(rides))
        for _ in range(1000)
    ]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        measured = runner.run(drive(port, cycle(bodies), clients=ECHO_CLIENTS, seconds=ECHO_SECONDS, expected=(200,)))
    return len(measured.latencies) / measured.elapsed


def _require(first: dict[str, Any], again: dict[str, Any], rows: int, expected: tuple[int, int]) -> None:
    """Ends the program where the import and the file do not agree."""
    if (first["credited"], first["reduction_mg"]) != expected:
        sys.exit(f"expected {expected} credited and milligrams by SQL; the import says {first}")
    if sum(first["rows"].values()) != rows or sum(again["rows"].values()) != rows:
        sys.exit(f"expected every one of {rows} rows accounted for; came {first['rows']} and {again['rows']}")
    if again["credited"] or again["reduction_mg"]:
        sys.exit(f"expected nothing credited by the second run; came {again}")


if __name__ == "__main__":
    main()
