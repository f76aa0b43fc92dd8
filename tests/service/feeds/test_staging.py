"""Rows wait in a file that nobody finds, for they may be the positions of people."""

import tempfile
from pathlib import Path

import pytest

from service.feeds.staging import staging


def test_what_waits_has_no_name_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = [(f"ride {n % 7}", n, 121.47 + n / 1e6) for n in range(60_000)]  # more than SQLite keeps in memory
    with staging("ride TEXT, at INTEGER, lon REAL") as staged:
        for row in rows:
            staged.put(row)
        read = list(staged.in_order("at"))
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert read == rows
    assert list(tmp_path.iterdir()) == []
