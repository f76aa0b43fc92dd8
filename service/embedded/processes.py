"""The server processes: as whom they run, how they are found again after their supervisor died, how they end."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_LOG_LIMIT = 16 * 1024 * 1024  # bytes; a longer log is set aside once, at the next start
# Below the range from which Linux (32768-) and macOS (49152-) take the local ports of outgoing connections: a client
# that reconnects in a loop while its server is down would otherwise now and then be given that very port and occupy it.
_PORTS = range(15_000, 30_000)


class EmbeddedServersError(RuntimeError):
    """The embedded servers cannot run here; the text says why and what to do."""


@dataclass(frozen=True)
class Account:
    """As whom the servers run: PostgreSQL refuses to run as root, so root hands it to an ordinary user.

    prefix   a command that opens a user namespace in which root appears as user 1000; no file changes hands
    owner    user and group to change to, where namespaces are forbidden
    """

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None

    def popen(self, command: Sequence[str | Path], *, cwd: Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, so that Ctrl-C in the terminal does not reach it."""
        if self.owner is not None:
            options |= {"user": self.owner[0], "group": self.owner[1], "extra_groups": []}
        argv = [*self.prefix, *map(str, command)]
        # The caller's PG* and locale variables must not bend a server; loader paths are kept for unusual installations.
        env = {name: value for name, value in os.environ.items() if name in {"PATH", "TMPDIR", "LD_LIBRARY_PATH"}}
        return subprocess.Popen(argv, cwd=cwd, env=env | {"LC_ALL": "C"}, start_new_session=True, **options)

    def output_of(self, command: Sequence[str | Path], *, cwd: Path) -> str:
        """Run a program to its end and return what it printed; EmbeddedServersError with that text when it fails."""
        with self.popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            text = process.communicate()[0].decode(errors="replace")
        if process.returncode != 0:
            raise EmbeddedServersError(f"{command[0]} ended with {process.returncode}:\n{text}")
        return text


def account_for(home: Path) -> Account:
    """Choose the account for the servers under `home`: whoever owns it, and never root.

    Raises EmbeddedServersError when root cannot hand over: no user namespace here and no user `nobody`.
    """
    if os.geteuid() != 0:
        return Account()
    owner = home.stat()
    if owner.st_uid != 0:
        return _who_may_enter(home, Account(owner=(owner.st_uid, owner.st_gid)))
    prefix = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
        return Account(prefix=prefix)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        nobody = None
    if nobody is None or (home / "postgresql").exists():
        raise EmbeddedServersError(
            f"PostgreSQL does not run as root, user namespaces are forbidden here, and {home} cannot be handed to the "
            "user nobody (its cluster is root's, or there is no such user). Run as an ordinary user, or name another "
            "data directory."
        )
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    try:
        return _who_may_enter(home, Account(owner=(nobody.pw_uid, nobody.pw_gid)))
    except EmbeddedServersError:
        os.chown(home, owner.st_uid, owner.st_gid)  # the next start may find a better way
        raise


def _who_may_enter(home: Path, account: Account) -> Account:
    try:
        account.output_of(["/bin/sh", "-c", 'cd "$1"', "sh", home], cwd=Path("/"))
    except EmbeddedServersError:
        raise EmbeddedServersError(
            f"The owner of {home} is to run the servers, since root must not, but may not enter it. Allow passage "
            "(chmod o+x) on its parent directories, name another data directory, or run as an ordinary user."
        ) from None
    return account


def reachable_copy(programs: Path, home: Path, account: Account, *beside: Path) -> Path:
    """The directory of the programs, or a copy below `home` when the account may not go where they are installed.

    beside   directories the programs need at the same relative place (shared libraries, time zones)
    """
    probe = next(path for path in sorted(programs.iterdir()) if os.access(path, os.X_OK))
    if account.owner is None or _may_run(account, probe, home):
        return programs
    root = Path(os.path.commonpath([programs, *beside]))
    copy = home / "programs" / root.name
    for directory in (programs, *beside):
        shutil.copytree(directory, copy / directory.relative_to(root), symlinks=True, dirs_exist_ok=True)
    copy.parent.chmod(0o755)  # whatever the umask
    return copy / programs.relative_to(root)


def _may_run(account: Account, program: Path, home: Path) -> bool:
    try:
        account.output_of([program, "--version"], cwd=home)
    except PermissionError:
        return False
    except EmbeddedServersError:
        pass  # it ran; what it answered does not matter
    return True


def processes_in(directory: Path, *programs: str) -> list[int]:
    """Live processes of these programs whose working directory is `directory`: their servers stay in their own.

    Needs /proc; without it (macOS) the list is empty. A process that ended but was not yet waited for does not count.
    """
    return [
        int(entry.name) for entry in _PROC.glob("[0-9]*") if directory.exists() and _is_one(entry, directory, programs)
    ]


def _is_one(entry: Path, directory: Path, programs: Sequence[str]) -> bool:
    try:
        title = (entry / "cmdline").read_bytes().split(b"\0", 1)[0].decode(errors="replace")
        # "postgres: checkpointer" and "valkey-server 127.0.0.1:15000" are titles the servers give themselves
        return Path(title.split(": ")[0].split(" 127.")[0]).name in programs and (entry / "cwd").samefile(directory)
    except OSError:
        return False  # it ended meanwhile, or is another user's


@dataclass(frozen=True)
class Server:
    """A running server. `process` is None when an earlier supervisor had started it and this one adopted it."""

    pid: int
    directory: Path
    programs: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        if self.process is not None:
            return self.process.poll() is None
        return is_server(self.pid, self.directory, *self.programs)

    def end(self, *steps: tuple[signal.Signals, float]) -> None:
        """Send each signal in turn and wait its seconds, until the process is gone."""
        for number, seconds in steps:
            if self.alive():
                os.kill(self.pid, number)
            deadline = time.monotonic() + seconds
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.02)


def is_server(pid: int, directory: Path, *programs: str) -> bool:
    """Whether `pid` is one of these programs at work in `directory`; without /proc, whether it is alive at all."""
    if _PROC.joinpath("self").exists():
        return directory.exists() and _is_one(_PROC / str(pid), directory, programs)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def port_is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(remembered: int | None) -> int:
    """The port of the last time if nobody took it, else any free one."""
    candidates = [remembered] if remembered else []
    candidates += random.sample(_PORTS, 200)
    for port in candidates:
        if port_is_free(port):
            return port
    raise EmbeddedServersError(f"None of 200 ports between {_PORTS.start} and {_PORTS.stop} of 127.0.0.1 is free.")


def open_log(path: Path) -> int:
    """A descriptor to append to a private log; what grew beyond the limit is set aside as `….1`."""
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def log_tail(path: Path) -> str:
    return "\n".join(path.read_text("utf-8", errors="replace").splitlines()[-15:])
