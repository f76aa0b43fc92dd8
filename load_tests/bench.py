"""`make bench`: rates and latencies of the whole platform on this machine, as ratios to a bare FastAPI echo.

Everything shares the machine: this load generator, the API, PostgreSQL, the log's worker and the limiter. Stretches of
the echo stand before and after every measured stretch, and each rate is divided by the mean of its two neighbours, so
that a machine whose speed drifts gives steady ratios.

Two platforms are measured, one after the other. The first has one API process, as the echo has: what is held against
the echo. The second has one for each core, as who runs the platform for a city has: what is held against a rate.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx
import uvloop

from api.supervisor import CannotStart, start_platform
from load_tests.client import LoadFailed
from load_tests.echo import running_echo
from load_tests.measuring import BATCH_ITEMS, Bench, Options, Part, say
from load_tests.mixed import RULES_DIR
from load_tests.report import SUFFIX, Figures, with_rates, write_results
from service.embedded import EmbeddedServersError
from service.settings import PREFIX, Settings

RESULTS = Path(__file__).resolve().parent / "results"
_EACH = ("singles", "batches", "mixed", "balance", "holds", "captures")
_IN_BATCHES = ("batches", "mixed")


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ[PREFIX + "RULES_DIR"] = str(RULES_DIR)  # the platform's children read it too
    parts = Part(1, _EACH), Part(options.processes, _IN_BATCHES, SUFFIX)
    try:
        figures = with_rates(*(_measure(part, options) for part in parts))
    except KeyboardInterrupt:
        sys.exit(130)
    except (LoadFailed, CannotStart, EmbeddedServersError, httpx.HTTPError) as error:
        sys.exit(f"bench: {error}")
    write_results(figures, options.results)
    say(f"结果写入 {options.results}", f"results are in {options.results}")
    print(json.dumps(figures.as_json(), ensure_ascii=False))


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--seconds", type=float, default=12, help="of each journey, all rounds together")
    parser.add_argument("--rounds", type=int, default=3, help="stretches of each journey, echoes between them")
    parser.add_argument("--participants", type=int, default=100_000, help="enrolled before anything is measured")
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        help="API processes, and echo processes, of the second platform (default: one for each core)",
    )
    parser.add_argument("--clients", type=int, default=64, help="connections of single posts and balance reads")
    parser.add_argument("--batch-clients", type=int, default=8, help=f"connections that post batches of {BATCH_ITEMS}")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(os.environ.get(PREFIX + "DATA_DIR", ".data")),
        help="the databases lie in a new directory below it, removed afterwards (default: %(default)s, on the disk)",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where latest.md and latest.svg are written")
    return Options(**vars(parser.parse_args()))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def data_directory(parent: Path) -> Iterator[Path]:
    parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    directory.chmod(0o711)  # started by root, the database may run as another user, who must be able to pass
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _measure(part: Part, options: Options) -> Figures:
    os.environ[PREFIX + "API_PROCESSES"] = str(part.processes)
    with data_directory(options.data_dir) as directory:
        platform = start_platform(Settings(data_dir=directory, host="127.0.0.1"), say)
        try:
            with (
                running_echo(part.processes) as (echo_port, echo_pids),
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                return runner.run(Bench(platform, part, options, echo_port, echo_pids).run())
        finally:
            platform.stop()


if __name__ == "__main__":
    main()
