"""The embedded servers, the real ones: kills, adoption, two supervisors, and both ways in which root hands over."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from service.embedded import EmbeddedServers, EmbeddedServersError, start_embedded
from service.embedded.processes import processes_in

ROOT = Path(__file__).resolve().parents[2]
# Runs as a process of its own: starts the servers, says so, and waits to be killed.
SUPERVISOR = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from service.embedded import start_embedded
    servers = start_embedded(Path(sys.argv[1]))
    print(*servers.pids().values(), servers.urls.owner, flush=True)
    time.sleep(600 if len(sys.argv) == 3 else 0)
    servers.stop()
""")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory whose path has a space and a Chinese character; in memory where there is room, as disks are slow."""
    memory = Path("/dev/shm")  # noqa: S108 - only a faster place for a private directory
    fast = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    with tempfile.TemporaryDirectory(prefix="tanpuhui 碳 ", dir=memory if fast else None) as directory:
        Path(directory).chmod(0o711)
        yield Path(directory) / "data"


@pytest.fixture
def servers(data_dir: Path) -> Iterator[EmbeddedServers]:
    with start_embedded(data_dir) as running:
        yield running


def supervise(data_dir: Path, *, user: str | None = None, once: bool = False) -> subprocess.Popen[str]:
    account = pwd.getpwnam(user) if user else None
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(data_dir), str(ROOT), *(["once"] if once else [])],
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def revived(servers: EmbeddedServers, *killed: int) -> list[str]:
    """Kill these processes and revive what died; a killed process is gone a moment after the signal, not at once."""
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not (names := servers.revive()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return names


def test_each_role_and_redis_can_be_reached_and_nothing_is_open(servers: EmbeddedServers, data_dir: Path) -> None:
    for role in ("owner", "app", "sequencer", "auditor"):
        url: str = getattr(servers.urls, role)
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT current_user, current_database(), pg_has_role('postgres', 'member')")
            assert row.fetchone() == (f"tanpuhui_{role}", "tanpuhui", False)
    with psycopg.connect(servers.urls.owner) as connection:
        names = ("fsync", "synchronous_commit", "data_checksums", "listen_addresses", "server_encoding")
        values = [connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
        assert values == [("on",), ("on",), ("on",), ("127.0.0.1",), ("UTF8",)]
        provider = connection.execute("SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'tanpuhui'")
        assert provider.fetchone() == ("b", "C.UTF-8")
        connection.execute("CREATE SCHEMA owned")
    with (
        psycopg.connect(servers.urls.app) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE SCHEMA mine")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(servers.urls.app.replace("tanpuhui_app:", "tanpuhui_app:not"))
    with redis.Redis.from_url(servers.urls.redis) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "volatile-ttl"}
    without_password = "redis://" + servers.urls.redis.split("@")[1]
    with redis.Redis.from_url(without_password) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    secret_files = [path for path in (data_dir / "servers").iterdir() if path.is_file()]
    assert secret_files
    assert {path.stat().st_mode & 0o077 for path in secret_files} == {0}


def test_a_second_supervisor_is_refused_and_told_by_whom(servers: EmbeddedServers, data_dir: Path) -> None:
    with pytest.raises(EmbeddedServersError, match=f"in use by the running tanpuhui with process id {os.getpid()}"):
        start_embedded(data_dir)
    assert servers.revive() == []


def test_what_is_killed_is_revived_at_the_same_address_with_every_committed_row(servers: EmbeddedServers) -> None:
    with psycopg.connect(servers.urls.owner, autocommit=True) as connection:
        connection.execute("CREATE TABLE ride (n int)")
        connection.execute("INSERT INTO ride SELECT generate_series(1, 1000)")
    urls, first = servers.urls, servers.pids()

    # the postmaster alone: its children are orphans for a moment
    assert revived(servers, first["PostgreSQL"]) == ["PostgreSQL"]
    assert revived(servers, first["Valkey"]) == ["Valkey"]

    assert servers.urls == urls
    assert servers.pids().keys() == first.keys()
    assert not set(servers.pids().values()) & set(first.values())
    with redis.Redis.from_url(servers.urls.redis) as client:
        assert client.ping()
    with psycopg.connect(servers.urls.owner) as connection:
        assert connection.execute("SELECT count(*) FROM ride").fetchone() == (1000,)


def test_a_postmaster_killed_while_a_backend_is_stopped_comes_back(servers: EmbeddedServers, data_dir: Path) -> None:
    """A stopped backend cannot notice that its postmaster died and keeps the shared memory: the start ends it."""
    postmaster = servers.pids()["PostgreSQL"]
    with psycopg.connect(servers.urls.app) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        assert revived(servers, postmaster) == ["PostgreSQL"]
        assert backend not in processes_in(data_dir / "servers" / "postgresql", "postgres")
        connection.close()


def test_every_postgres_process_killed_at_once(servers: EmbeddedServers, data_dir: Path) -> None:
    everyone = processes_in(data_dir / "servers" / "postgresql", "postgres")
    assert len(everyone) > 3
    assert revived(servers, *everyone) == ["PostgreSQL"]
    with psycopg.connect(servers.urls.app) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_servers_of_a_killed_supervisor_are_adopted_or_started_again(data_dir: Path) -> None:
    with supervise(data_dir) as supervisor:
        assert supervisor.stdout is not None
        postgresql, valkey, url = supervisor.stdout.readline().split()
        with pytest.raises(EmbeddedServersError, match=f"process id {supervisor.pid}"):
            start_embedded(data_dir)
        supervisor.kill()
    with start_embedded(data_dir) as adopted:
        assert adopted.pids() == {"PostgreSQL": int(postgresql), "Valkey": int(valkey)}
        assert adopted.urls.owner == url
        os.kill(int(valkey), signal.SIGSTOP)  # alive, so not revived: clients have to live with a slow Redis
        assert revived(adopted, int(postgresql)) == ["PostgreSQL"]
        os.kill(int(valkey), signal.SIGCONT)
    assert processes_in(data_dir / "servers" / "postgresql", "postgres") == []
    assert processes_in(data_dir / "servers" / "valkey", "valkey-server") == []


def test_a_process_id_given_to_another_program_does_not_block_the_start(data_dir: Path) -> None:
    """After a power cut, postmaster.pid names a process that may by now be anything, such as this test."""
    with start_embedded(data_dir) as servers:
        left_behind = (data_dir / "servers" / "postgresql" / "postmaster.pid").read_bytes()
        old = servers.pids()["PostgreSQL"]
    stranger = left_behind.replace(str(old).encode(), str(os.getpid()).encode(), 1)
    (data_dir / "servers" / "postgresql" / "postmaster.pid").write_bytes(stranger)
    with start_embedded(data_dir) as servers:
        assert servers.pids()["PostgreSQL"] != os.getpid()


def test_data_of_another_major_version_or_without_its_passwords_is_refused(data_dir: Path) -> None:
    start_embedded(data_dir).stop()
    version = data_dir / "servers" / "postgresql" / "PG_VERSION"
    right = version.read_text()
    version.write_text("9\n")
    with pytest.raises(EmbeddedServersError, match="made by PostgreSQL 9, but"):
        start_embedded(data_dir)
    version.write_text(right)
    (data_dir / "servers" / "servers.json").unlink()
    with pytest.raises(EmbeddedServersError, match="with the passwords is missing"):
        start_embedded(data_dir)


def test_a_named_program_directory_must_hold_the_programs(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANPUHUI_PG_BIN", str(ROOT))
    with pytest.raises(EmbeddedServersError, match="has no programs postgres and initdb"):
        start_embedded(data_dir)
    monkeypatch.delenv("TANPUHUI_PG_BIN")
    monkeypatch.setenv("TANPUHUI_REDIS_BIN", str(ROOT))
    with pytest.raises(EmbeddedServersError, match="No valkey-server or redis-server"):
        start_embedded(data_dir)


def test_another_account_runs_the_servers_where_root_starts_them(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root without user namespaces hands over to nobody; an ordinary user has nothing to hand over."""
    monkeypatch.setenv("PATH", "/nowhere")  # no unshare
    with start_embedded(data_dir) as servers:
        expected = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        for pid in servers.pids().values():
            assert Path(f"/proc/{pid}").stat().st_uid == expected
        assert revived(servers, servers.pids()["PostgreSQL"]) == ["PostgreSQL"]


def test_a_directory_that_the_servers_may_not_enter_is_named(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root meets its own closed parent directory, an ordinary user a directory that is not its own."""
    monkeypatch.setenv("PATH", "/nowhere")
    data_dir.parent.chmod(0o700 if os.geteuid() == 0 else 0o500)
    with pytest.raises(EmbeddedServersError, match="may not enter it" if os.geteuid() == 0 else "is not open to user"):
        start_embedded(data_dir)


def test_an_ordinary_user_starts_and_stops_them(data_dir: Path) -> None:
    """As nobody if this is root and nobody may reach the interpreter; an ordinary user tests it as itself."""
    user = "nobody" if os.geteuid() == 0 and nobody_can_import() else None
    if user:
        shutil.chown(data_dir.parent, user)
    with supervise(data_dir, user=user, once=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.read().split()[-1].startswith("postgresql://tanpuhui_owner:")
    assert supervisor.returncode == 0


def nobody_can_import() -> bool:
    try:
        command = [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); import service.embedded",
            str(ROOT),
        ]
        return subprocess.run(command, user="nobody", cwd="/", capture_output=True, check=False).returncode == 0
    except PermissionError:
        return False
