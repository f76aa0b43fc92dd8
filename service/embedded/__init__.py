"""Start, adopt and stop the PostgreSQL and Valkey that come as wheels.

For development, tests and demonstrations, on loopback; production brings its own servers.
Everything lies under `DATA_DIR/servers/`: the cluster, both logs, the passwords (mode 0600) and the supervisor's lock.
The servers outlive a supervisor that is killed; the next one adopts them.
"""

import fcntl
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from service.embedded.postgresql import DATABASE, ROLES, SUPERUSER, Cluster
from service.embedded.processes import EmbeddedServersError, account_for, free_port
from service.embedded.valkey import Cache

__all__ = ["DATABASE", "EmbeddedServers", "EmbeddedServersError", "EmbeddedUrls", "start_embedded"]

_log = logging.getLogger(__name__)
_REDIS = "redis"


@dataclass(frozen=True)
class EmbeddedUrls:
    """Where the servers are, passwords included: one PostgreSQL URL per role (postgresql://…/tanpuhui), and Redis."""

    owner: str
    app: str
    sequencer: str
    auditor: str
    redis: str


class EmbeddedServers:
    """Both servers, running, and the lock that says who supervises them. Made by start_embedded()."""

    def __init__(self, cluster: Cluster, cache: Cache, lock: int) -> None:
        self._cluster = cluster
        self._cache = cache
        self._lock: int | None = lock
        owner, app, sequencer, auditor = map(cluster.url, ROLES)
        self.urls = EmbeddedUrls(owner, app, sequencer, auditor, cache.url)

    def revive(self) -> list[str]:
        """Start again whichever server died, at the same address; the names of those. Call it every second or so.

        Waits for crash recovery, so up to minutes after heavy writing. Not for two threads at once.
        """
        revived = []
        if self._cluster.server is None or not self._cluster.server.alive():
            self._cluster.server = None
            self._cluster.bring_up()
            revived.append("PostgreSQL")
        if self._cache.server is None or not self._cache.server.alive():
            self._cache.bring_up(keep_port=True)
            revived.append("Valkey")
        return revived

    def pids(self) -> dict[str, int]:
        """The process ids of the servers by name, for operators and for tests that kill them."""
        servers = {"PostgreSQL": self._cluster.server, "Valkey": self._cache.server}
        return {name: server.pid for name, server in servers.items() if server is not None}

    def stop(self) -> None:
        """Stop both servers and give up the data directory; within a minute if they hang. Twice does no harm."""
        if self._lock is None:
            return
        self._cache.stop()
        self._cluster.stop()
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_embedded(data_dir: Path) -> EmbeddedServers:
    """Start PostgreSQL and Valkey on `data_dir`, or adopt those that a killed supervisor left running there.

    Makes the directory, the cluster, the database and its roles when missing. Works as root too: the servers then run
    in a user namespace, or as the user nobody. TANPUHUI_PG_BIN and TANPUHUI_REDIS_BIN name other programs than the
    wheels'.

    Raises EmbeddedServersError: another supervisor holds the directory, its cluster is of another major version, no
    program for this platform, no account but root, or a server that does not start (with the end of its log).
    """
    home = data_dir.absolute() / "servers"
    try:
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)
        lock = _take_lock(home / "supervisor.lock")
    except PermissionError as error:
        raise EmbeddedServersError(
            f"{error.filename} is not open to user {os.geteuid()}: another user made it. Run it as that user, or "
            "name another data directory."
        ) from error
    except OSError as error:
        raise EmbeddedServersError(
            f"{error.filename or data_dir} cannot be used as the data directory ({error.strerror}): name another one."
        ) from error
    try:
        servers = _start(home, lock)
    except BaseException:
        os.close(lock)
        raise
    _log.warning(
        "embedded PostgreSQL and Valkey run on 127.0.0.1 from %s: for development and demonstration, not production",
        home,
    )
    return servers


def _start(home: Path, lock: int) -> EmbeddedServers:
    account = account_for(home)
    ports, passwords = _remembered(home)
    cluster = Cluster(home, account, ports.get(DATABASE) or free_port(None), passwords)
    cache = Cache(home, account, ports.get(_REDIS) or free_port(None), passwords[_REDIS])
    _remember(home, ports, passwords)
    try:
        cluster.ensure()
        if cluster.postmaster() is None:
            cluster.port = free_port(cluster.port)
        cluster.bring_up()
        cluster.provision()
        cache.bring_up(keep_port=False)
        _remember(home, {DATABASE: cluster.port, _REDIS: cache.port}, passwords)
    except BaseException:  # Ctrl-C included: nothing that this start began is left running
        for part in (cluster, cache):
            if part.server is not None and part.server.process is not None:
                part.stop()
        raise
    return EmbeddedServers(cluster, cache, lock)


def _take_lock(path: Path) -> int:
    """Hold the directory until this process ends, however it ends; the descriptor is not passed to child processes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode() or "unknown"
        os.close(descriptor)
        raise EmbeddedServersError(
            f"{path.parent.parent} is in use by the running tanpuhui with process id {holder}. Stop that one (Ctrl-C "
            f"in its terminal, or: kill {holder}), or name another data directory."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor


def _remembered(home: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Ports and passwords of the last time, or none and fresh ones."""
    path = home / "servers.json"
    if path.exists():
        document = json.loads(path.read_bytes())
        return document["ports"], document["passwords"]
    if (home / "postgresql").exists():
        raise EmbeddedServersError(
            f"{path} with the passwords is missing, but there is a cluster beside it. Restore that file, or name "
            "another data directory."
        )
    return {}, {name: secrets.token_urlsafe(24) for name in (SUPERUSER, *ROLES, _REDIS)}


def _remember(home: Path, ports: dict[str, int], passwords: dict[str, str]) -> None:
    """Write ports and passwords before the cluster is made with them, so that a crash never parts the two."""
    draft = home / "servers.json.new"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"ports": ports, "passwords": passwords}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(home / "servers.json")
    if os.geteuid() == 0:
        owner = home.stat()
        os.chown(home / "servers.json", owner.st_uid, owner.st_gid)
