"""Migrations: applied once by whoever comes first, refused without the roles, never undone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from alembic import command
from alembic.config import Config

import service.migrations
from service.activities.licences import Days
from service.activities.store import read_licence
from service.database import SchemaOutdated, require_schema
from service.migrations import DataInTheClear, RolesMissing, expected_version, migrate
from tests.conftest import Database
from tests.running import pooled

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = Path(service.migrations.__file__).parent


@pytest.fixture
def empty(template: Database) -> Iterator[Database]:
    """A database of the owner's with nothing in it."""
    name = f"empty_{os.urandom(6).hex()}"
    with psycopg.connect(template.named("postgres").admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER tanpuhui_owner TEMPLATE template0")
    yield template.named(name)
    with psycopg.connect(template.named("postgres").admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def schemas(database: Database) -> set[str]:
    with psycopg.connect(database.admin) as connection:
        rows = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname IN ('ledger', 'service')").fetchall()
    return {name for (name,) in rows}


def test_processes_that_start_at_once_migrate_once(empty: Database) -> None:
    program = "import sys; from service.migrations import migrate; migrate(sys.argv[1])"
    processes = [subprocess.Popen([sys.executable, "-c", program, empty.owner], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    migrate(empty.owner)
    with psycopg.connect(empty.app) as connection:
        assert connection.execute("SELECT version_num FROM schema_version").fetchall() == [(expected_version(),)]
        assert connection.execute("SELECT size FROM ledger.log_head").fetchall() == [(0,)]


async def test_a_process_says_what_to_do_about_another_schema(empty: Database) -> None:
    async with pooled(empty.app) as pool, pool.acquire() as connection:
        with pytest.raises(SchemaOutdated, match=r"at schema none, this version needs .* run `tanpuhui migrate`"):
            await require_schema(connection, expected_version())
    migrate(empty.owner)
    async with pooled(empty.app) as pool, pool.acquire() as connection:
        await require_schema(connection, expected_version())
        with pytest.raises(SchemaOutdated, match=f"at schema {expected_version()}, this version needs 9999"):
            await require_schema(connection, "9999")


def test_only_the_owner_migrates(empty: Database) -> None:
    for url in (empty.app, empty.sequencer, empty.auditor):
        with pytest.raises(Exception, match="permission denied"):
            migrate(url)
    assert schemas(empty) == set()


def _copied(target: Path, url: str, old: str, new: str) -> Config:
    """The migrations in a folder of their own, with one word of the first replaced."""
    shutil.copytree(MIGRATIONS, target, ignore=shutil.ignore_patterns("__pycache__"))
    (first,) = (target / "versions").glob("0001*.py")
    text = first.read_text("utf-8")
    assert old in text
    first.write_text(text.replace(old, new), "utf-8")
    config = Config()
    config.set_main_option("script_location", str(target).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = url
    return config


def test_without_the_roles_nothing_is_created_and_the_operator_is_told(empty: Database, tmp_path: Path) -> None:
    config = _copied(tmp_path / "migrations", empty.owner, "tanpuhui_auditor", "tanpuhui_absent")
    with pytest.raises(RolesMissing, match=r"roles tanpuhui_absent do not exist.* CREATE ROLE tanpuhui_absent LOGIN"):
        command.upgrade(config, "head")
    assert schemas(empty) == set()


def test_a_migration_that_fails_leaves_nothing_behind(empty: Database, tmp_path: Path) -> None:
    broken = _copied(tmp_path / "migrations", empty.owner, "REVOKE ALL ON SCHEMA", "REVOKE NONSENSE ON SCHEMA")
    with pytest.raises(Exception, match="NONSENSE"):
        command.upgrade(broken, "head")
    assert schemas(empty) == set()
    migrate(empty.owner)
    assert schemas(empty) == {"ledger", "service"}


def test_history_is_not_undone(template: Database, tmp_path: Path) -> None:
    config = _copied(tmp_path / "migrations", template.owner, "history", "history")
    with pytest.raises(NotImplementedError, match="forward migration"):
        command.downgrade(config, "base")


async def test_a_path_with_a_percent_sign_is_a_path(empty: Database, tmp_path: Path) -> None:
    config = _copied(tmp_path / "100 % 碳", empty.owner, "history", "history")
    command.upgrade(config, "head")
    connection = await asyncpg.connect(empty.auditor)
    assert await connection.fetchval("SELECT count(*) FROM ledger.transfer") == 0
    await connection.close()
    assert urlsplit(empty.owner).path[1:].startswith("empty_")


def test_what_lies_in_the_clear_is_not_sealed_in_place(empty: Database) -> None:
    """The pages and backups of the database would keep it as it was."""
    command.upgrade(service.migrations._config(empty.owner), "0011")
    with psycopg.connect(empty.owner) as connection:
        connection.execute(
            "INSERT INTO service.participant VALUES (gen_random_uuid(), 'citizen', 'demo', '310000', now())"
        )
    with pytest.raises(DataInTheClear, match="begin with an empty database"):
        migrate(empty.owner)
    with psycopg.connect(empty.owner) as connection:
        assert connection.execute("SELECT version_num FROM schema_version").fetchall() == [("0011",)]


async def test_licences_of_the_first_schema_are_carried_over(empty: Database) -> None:
    command.upgrade(service.migrations._config(empty.owner), "0001")
    with psycopg.connect(empty.app) as connection:
        connection.execute(
            "INSERT INTO service.source (uri, title_zh, title_en, grade, scenarios, programme, region, valid_from, "
            "valid_to, registered_at) VALUES ('urn:a', '甲', 'A', 'A', '{metro,bus,metro}', 'demo', '310000', "
            "'2026-01-01', '2026-12-31', now()), ('urn:b', '乙', 'B', 'B', '{metro}', 'demo', '310000', "
            "'2026-02-01', NULL, now())"
        )
    migrate(empty.owner)
    year = (Days(date(2026, 1, 1), date(2026, 12, 31)),)
    async with pooled(empty.app) as pool, pool.acquire() as connection:
        one, other = [await read_licence(connection, uri, date(2026, 5, 1)) for uri in ("urn:a", "urn:b")]
    assert one is not None
    assert other is not None
    assert one.spans == {"bus": year, "metro": year}
    assert other.spans == {"metro": (Days(date(2026, 2, 1), None),)}
