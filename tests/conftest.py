"""One pair of real servers for the whole run, one migrated database per process, and an API over it.

Nothing is cleaned up, because the journal refuses it: a test opens its own sources and participants; one that needs an
empty log takes `fresh_database`, a clone of the migrated template.
"""

import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from service.embedded import EmbeddedServers, start_embedded
from service.migrations import migrate
from tests.running import Api, running_api

# No deadline: a busy machine is not a failure. The blob repeats a failing example anywhere.
settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")

_SERVERS = pytest.StashKey[tuple[EmbeddedServers, Path]]()
_URLS = "TANPUHUI_TEST_URLS"
_ROOM_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Database:
    """One migrated database, by role; `admin` is the superuser."""

    admin: str
    owner: str
    app: str
    sequencer: str
    auditor: str
    redis: str

    def named(self, name: str) -> "Database":
        """The same roles on another database of the server."""
        urls = {
            role: _with_path(getattr(self, role), name) for role in ("admin", "owner", "app", "sequencer", "auditor")
        }
        return replace(self, **urls)


def _with_path(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def pytest_configure(config: pytest.Config) -> None:
    """The controlling process starts the servers; xdist's workers find them by the environment."""
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    room = Path("/dev/shm")  # noqa: S108 - a disk in memory: cloning a database takes milliseconds there, not tenths
    roomy = room.is_dir() and os.access(room, os.W_OK) and shutil.disk_usage(room).free > _ROOM_BYTES
    data_dir = Path(tempfile.mkdtemp(prefix="tanpuhui tests ", dir=room if roomy else None))
    data_dir.chmod(0o711)
    servers = start_embedded(data_dir)
    config.stash[_SERVERS] = servers, data_dir
    migrate(servers.urls.owner)
    password = json.loads((data_dir / "servers" / "servers.json").read_bytes())["passwords"]["postgres"]
    parts = urlsplit(servers.urls.owner)
    admin = urlunsplit(parts._replace(netloc=f"postgres:{password}@{parts.hostname}:{parts.port}"))
    urls = servers.urls
    found = Database(admin, urls.owner, urls.app, urls.sequencer, urls.auditor, urls.redis)
    os.environ[_URLS] = json.dumps({role: getattr(found, role) for role in Database.__slots__})


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SERVERS in config.stash:
        servers, data_dir = config.stash[_SERVERS]
        servers.stop()
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture(scope="session")
def template() -> Database:
    """The migrated, empty database that others are cloned from; nobody connects to it but to clone."""
    return Database(**json.loads(os.environ[_URLS]))


def clone(template: Database, name: str) -> Database:
    """An empty database of this name."""
    with psycopg.connect(_with_path(template.admin, "postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER tanpuhui_owner").format(
                sql.Identifier(name), sql.Identifier(urlsplit(template.admin).path[1:])
            )
        )
    return template.named(name)


@pytest.fixture(scope="session")
def database(template: Database, worker_id: str) -> Database:
    """This process's database."""
    return clone(template, f"tests_{worker_id}_{os.getpid()}")


@pytest.fixture
def fresh_database(template: Database, worker_id: str) -> Iterator[Database]:
    """A database of the test's own, with an empty log."""
    name = f"fresh_{worker_id}_{os.urandom(6).hex()}"
    yield clone(template, name)
    with psycopg.connect(_with_path(template.admin, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop the API runs on in production."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """The API in this process, over the real servers, without a network in between."""
    async with running_api(database.app, database.redis, tmp_path_factory.mktemp("data")) as running:
        yield running


@pytest.fixture
async def fresh_api(fresh_database: Database, tmp_path: Path) -> AsyncIterator[Api]:
    """An API over a database of the test's own."""
    async with running_api(fresh_database.app, fresh_database.redis, tmp_path) as running:
        yield running
