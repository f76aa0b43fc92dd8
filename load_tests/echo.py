"""The yardstick of `make bench`: a bare FastAPI application that parses a JSON body and sends it back.

It runs with the settings of the platform's own API processes (api/processes/serving.py), so a ratio to it says what the
platform's work costs, on whatever machine.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

ROOT = Path(__file__).resolve().parent.parent

app = FastAPI()


@app.post("/echo")
async def echo(body: dict[str, Any]) -> dict[str, Any]:
    """The body again."""
    return body


def serve(fd: int) -> None:
    """Serve on an open socket until told to stop, or until whoever started this process is gone."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 * 1024,
        backlog=2048,
    )
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


def _stop_at_end_of_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def running_echo(processes: int) -> Iterator[tuple[int, list[int]]]:
    """The echo in so many processes on one port of 127.0.0.1, for the length of a `with` block: port and process
    ids."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        command = [sys.executable, "-m", "load_tests.echo", str(listening.fileno())]
        started: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(processes):
                started.append(
                    subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, pass_fds=(listening.fileno(),))
                )
            yield listening.getsockname()[1], [process.pid for process in started]
        finally:
            for process in started:
                assert process.stdin is not None
                process.stdin.close()
            for process in started:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
