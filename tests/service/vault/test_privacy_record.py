"""docs/privacy.md is the record of processing: every column of the database stands in it with its class and its
readers, and what it says of the classes is what the job does."""

import re
from pathlib import Path

import asyncpg
import pytest

from service.retention import STEPS, read_classes
from tests.conftest import Database

pytestmark = pytest.mark.anyio

RECORD = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text("utf-8")
ROLES = {
    "app": "tanpuhui_app",
    "self": "tanpuhui_self",
    "sequencer": "tanpuhui_sequencer",
    "auditor": "tanpuhui_auditor",
}
_ROW = re.compile(r"\| `([a-z]+\.[a-z_]+)` \| (`[a-z0-9_]+`(?:, `[a-z0-9_]+`)*) \| ([a-z-]+) \| ([a-z, ]+|—) \|")
_COLUMNS = """
    SELECT n.nspname || '.' || c.relname AS name, a.attname AS column,
        ARRAY(SELECT r.rolname::text FROM pg_roles r
              WHERE r.rolname = ANY($1) AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')) AS readers
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname || '.' || c.relname <> 'public.schema_version'
"""


def recorded() -> list[tuple[str, list[str], str, set[str]]]:
    """The rows of the record: table, columns, class, readers. Every line of the table is one."""
    lines = RECORD.split("<!-- columns -->")[1].split("<!-- /columns -->")[0].strip().splitlines()[2:]
    rows = []
    for line in lines:
        found = _ROW.fullmatch(line)
        assert found, line
        readers = set() if found[4] == "—" else set(found[4].split(", "))
        rows.append((found[1], found[2].replace("`", "").split(", "), found[3], readers))
    return rows


async def test_every_column_stands_in_the_record_with_those_who_may_read_it(database: Database) -> None:
    connection = await asyncpg.connect(database.admin)
    stored = {
        (row["name"], row["column"]): set(row["readers"])
        for row in await connection.fetch(_COLUMNS, list(ROLES.values()))
    }
    await connection.close()
    rows = recorded()
    named = [(table, column) for table, columns, _, _ in rows for column in columns]
    assert sorted(named) == sorted(stored)
    for table, columns, _, readers in rows:
        may = set().union(*(stored[table, column] for column in columns))
        assert {ROLES[reader] for reader in readers} == may, (table, columns)


def test_every_class_is_described_with_the_days_that_it_is_kept() -> None:
    classes = read_classes()
    assert {kind for _, _, kind, _ in recorded()} | {"request-log"} == classes.keys()
    described = {
        cells[1]: cells for line in RECORD.splitlines() if len(cells := [one.strip() for one in line.split("|")]) == 8
    }
    for name, one in classes.items():
        cells = described[name]
        assert cells[2] == f"{one.zh}<br>{one.en}"
        assert one.days is None or cells[5] == f"{one.days} 天 / {one.days} days"
        assert all(re.search(r"[\u4e00-\u9fff]", cell) for cell in cells[2:7]), name
    assert STEPS.keys() == {name for name, one in classes.items() if one.days is not None}
