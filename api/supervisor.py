"""Run the whole platform on one machine: embedded servers, migrations, API processes and the worker, watched and
restarted.
 The supervisor owns the listening socket, so a restarted API process loses no connection that was waiting. Every child
holds the read end of a pipe that closes when the supervisor dies, however it dies, and then stops by itself; the
embedded servers live on and are adopted.
"""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from api.auth import DevelopmentIssuer
from api.observability import metrics_environment
from service.embedded import EmbeddedServers, EmbeddedUrls, start_embedded
from service.keyring import create_keyring
from service.migrations import migrate
from service.settings import PREFIX, Settings
from service.vault import create_master_file

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 40.0  # the poster waits up to 20 s for a lost database before it gives its requests up
LOG_STOPS_WITHIN_S = 15.0  # each of the log's processes finishes what waits, for five seconds at most
ORPHANS_END_WITHIN_S = 10.0
WATCH_EVERY_S = 0.3
RESTART_PAUSE_S = 1.0
PORTS_TRIED = 20

Say = Callable[[str, str], None]
"""Tell the user, in Chinese and in English."""


class CannotStart(Exception):
    """The platform does not start; the message says what was expected and what to do."""


@dataclass(slots=True)
class _Child:
    name: str
    command: list[str]
    environment: Mapping[str, str]
    process: "subprocess.Popen[bytes]"
    restarted_at: float = 0.0


@dataclass(slots=True)
class RunningPlatform:
    """The platform while it runs. `stop` ends it in order: nothing that was accepted is lost."""

    url: str
    settings: Settings
    issuer: DevelopmentIssuer
    urls: EmbeddedUrls
    _servers: EmbeddedServers
    _listening: socket.socket
    _leash: int  # the read end, which the children inherit
    _held: int  # the write end, held by the supervisor alone
    _children: list[_Child] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None
    _metrics: dict[str, str] = field(default_factory=dict)

    def start_children(self) -> None:
        """Start the API processes, the worker and the publisher, and wait until the platform answers."""
        self._metrics = metrics_environment(self.settings.data_dir)
        fd = str(self._listening.fileno())
        for number in range(self.settings.api_processes):
            self._start(f"api {number + 1}", ["api", "--fd", fd], self.urls.app)
        self._start("worker", ["worker"], self.urls.sequencer)
        self._start("publisher", ["publisher"], self.urls.sequencer)
        self._wait_ready()
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def _start(self, name: str, arguments: list[str], database_url: str) -> None:
        command = [sys.executable, "-m", "api.cli", *arguments, "--leash", str(self._leash)]
        environment = (
            os.environ
            | self._metrics
            | {
                PREFIX + "DATABASE_URL": database_url,
                PREFIX + "REDIS_URL": self.urls.redis,
                PREFIX + "DATA_DIR": str(self.settings.data_dir.absolute()),
                PREFIX + "PORT": str(self.settings.port),
                PREFIX + "LOG_LEVEL": self.settings.log_level,
                PREFIX + "GUARD_FILE": str(self.settings.guard_file.absolute()),
            }
        )
        self._children.append(_Child(name, command, environment, self._spawn(command, environment)))

    def _spawn(self, command: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C reaches the supervisor alone, which then stops its children in order.
        log = self.settings.data_dir / "platform.log"
        with log.open("ab") as out:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(self._listening.fileno(), self._leash),
                start_new_session=True,
            )

    def _wait_ready(self) -> None:
        give_up = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < give_up:
            dead = next((child for child in self._children if child.process.poll() is not None), None)
            if dead:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/v1/health/ready", timeout=2).status_code == 200:
                    return
            time.sleep(0.05)
        raise CannotStart(
            f"the platform did not become ready; the end of {self.settings.data_dir / 'platform.log'} says why:\n"
            f"{self._log_end()}"
        )

    def _log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self.settings.data_dir / "platform.log").read_text("utf-8", "replace").splitlines()[-15:])
        return ""

    def _watch(self) -> None:
        """Bring back what died: the embedded servers at their old addresses, then the children."""
        while not self._ending.wait(WATCH_EVERY_S):
            with contextlib.suppress(Exception):  # tried again a moment later; the servers' own logs say what is wrong
                self._servers.revive()
            for child in self._children:
                now = time.monotonic()
                if child.process.poll() is not None and now - child.restarted_at > RESTART_PAUSE_S:
                    child.restarted_at = now
                    child.process = self._spawn(child.command, child.environment)

    def pids(self) -> dict[str, int]:
        """Process ids by name, the embedded servers' included: for operators, and for tests that kill them."""
        return {child.name: child.process.pid for child in self._children} | self._servers.pids()

    def wait(self) -> None:
        """Until somebody interrupts."""
        while not self._ending.wait(3600):
            pass

    def stop(self) -> None:
        """Stop the children, let them finish what they accepted, then stop the servers."""
        self._ending.set()
        if self._watcher:
            self._watcher.join()
        # In this order what was answered gets its place in the log, and then comes under a last checkpoint.
        for verb, within_s in (
            ("api", STOP_WITHIN_S),
            ("worker", LOG_STOPS_WITHIN_S),
            ("publisher", LOG_STOPS_WITHIN_S),
        ):
            _end([child.process for child in self._children if child.name.split()[0] == verb], within_s)
        self._listening.close()
        os.close(self._leash)
        os.close(self._held)
        (self.settings.data_dir / "platform.json").unlink(missing_ok=True)
        self._servers.stop()


def _end(processes: "Sequence[subprocess.Popen[bytes]]", within_s: float) -> None:
    """Let them finish, and kill what has not ended by then."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    give_up = time.monotonic() + within_s
    for process in processes:
        try:
            process.wait(max(0.1, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start_platform(settings: Settings, say: Say) -> RunningPlatform:
    """Start everything in `settings.data_dir`. Raises CannotStart, EmbeddedServersError."""
    if settings.mode == "production" or settings.database_url:
        raise CannotStart(
            "this command runs the embedded servers, for development. With a PostgreSQL of your own run "
            "`tanpuhui migrate`, then `tanpuhui api`, `tanpuhui worker` and `tanpuhui publisher`, each with "
            "TANPUHUI_DATABASE_URL for its own role (docs/operations.md)."
        )
    _put_old_guard_aside(settings, say)
    say("启动内置 PostgreSQL 与 Valkey", "starting the embedded PostgreSQL and Valkey")
    servers = start_embedded(settings.data_dir)
    try:
        say("建立数据库结构", "bringing the database to this version's schema")
        migrate(servers.urls.owner)
        if not settings.keyring_file.exists():
            create_keyring(settings.keyring_file)
        if not settings.vault_key_file.exists():
            create_master_file(settings.vault_key_file)
        listening = _listen(settings)
    except BaseException:
        servers.stop()
        raise
    port = listening.getsockname()[1]
    settings = settings.model_copy(update={"port": port})
    leash, held = os.pipe()  # nobody writes into it: the children wait for its end
    issuer = DevelopmentIssuer(settings.data_dir)
    platform = RunningPlatform(
        f"http://{settings.host}:{port}", settings, issuer, servers.urls, servers, listening, leash, held
    )
    say("启动接口、日志与发布进程", "starting the API, the log's worker and its publisher")
    try:
        platform.start_children()
    except BaseException:
        platform.stop()
        raise
    _remember(platform)
    return platform


def _put_old_guard_aside(settings: Settings, say: Say) -> None:
    """The guard of a platform whose whole directory was removed, log included, guards nothing any more: whoever starts
    afresh gets a new log. Where anything is left of the old one, it stands."""
    guard = settings.guard_file
    if guard.exists() and not (settings.data_dir / "servers").exists() and not settings.log_dir.exists():
        aside = guard.with_name(f"{guard.name}.former-{time.time_ns()}")
        guard.replace(aside)
        say(f"此前的平台已移除，其防分叉记录移至 {aside}", "the guard of a platform that was removed is put aside")


def _listen(settings: Settings) -> socket.socket:
    """The API's socket. When the default port is taken the next free one is used; a port that was asked for is that
    port."""
    asked = "port" in settings.model_fields_set
    _await_orphans(settings)
    for port in range(settings.port, settings.port + (1 if asked else PORTS_TRIED)):
        listening = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, port))
            listening.listen(2048)
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise CannotStart(
                    f"cannot listen on {settings.host}:{port}: {error.strerror}. Set TANPUHUI_HOST or TANPUHUI_PORT."
                ) from error
            continue
        return listening
    raise CannotStart(
        f"port {settings.port} on {settings.host} is taken: stop the program that has it, "
        "or set TANPUHUI_PORT to another."
    )


def _await_orphans(settings: Settings) -> None:
    """After a supervisor was killed its children end by themselves: wait for them to let go of the port."""
    try:
        document = json.loads((settings.data_dir / "platform.json").read_bytes())
        os.kill(document["pid"], 0)
    except ProcessLookupError:
        give_up = time.monotonic() + ORPHANS_END_WITHIN_S
        while time.monotonic() < give_up:
            with socket.socket() as probe:
                if probe.connect_ex((settings.host, settings.port)) != 0:
                    return
            time.sleep(0.1)
    except (OSError, ValueError, KeyError):
        return


def _remember(platform: RunningPlatform) -> None:
    """Where the platform runs, for the other commands: `import` finds its address, `ledger check` its database. Mode
    0600."""
    path = platform.settings.data_dir / "platform.json"
    urls = {f"{role}_url": getattr(platform.urls, role) for role in ("app", "auditor", "sequencer")}
    document = {"url": platform.url, "pid": os.getpid(), **urls}
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file)


@dataclass(frozen=True, slots=True)
class KnownPlatform:
    """A platform that runs from a data directory."""

    url: str
    app_url: str
    auditor_url: str
    sequencer_url: str


def find_platform(data_dir: Path) -> KnownPlatform | None:
    """The platform that runs from this directory, if one answers."""
    try:
        document = json.loads((data_dir / "platform.json").read_bytes())
        known = KnownPlatform(**{name: document[name] for name in KnownPlatform.__slots__})
        httpx.get(f"{document['url']}/v1/health/alive", timeout=5).raise_for_status()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return known
