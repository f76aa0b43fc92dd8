"""Rows that make sense only in order, put in order in a temporary SQLite file: memory does not grow with them."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CACHE_KIB = 32_000
_TOGETHER = 5_000  # rows of one statement


class Staging:
    """One table of rows: `put` them, then read them `in_order`."""

    def __init__(self, connection: sqlite3.Connection, columns: str) -> None:
        self._connection = connection
        names = [column.split()[0] for column in columns.split(",")]
        connection.execute(f"CREATE TABLE staged ({columns})")
        self._insert = f"INSERT INTO staged VALUES ({', '.join('?' * len(names))})"
        self._waiting: list[tuple[Any, ...]] = []

    def put(self, row: tuple[Any, ...]) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= _TOGETHER:
            self._flush()

    def in_order(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """All rows, by these columns; SQLite sorts in its own temporary file."""
        self._flush()
        yield from self._connection.execute(f"SELECT * FROM staged ORDER BY {', '.join(columns)}")

    def _flush(self) -> None:
        self._connection.executemany(self._insert, self._waiting)
        self._waiting.clear()


@contextmanager
def staging(columns: str) -> Iterator[Staging]:
    """A table with these columns, such as `card TEXT, at INTEGER`, that is gone afterwards.

    Its file has no name any more once it is open: it may hold the positions of people, and whatever kills this process
    leaves none of them on the disk.
    """
    with tempfile.TemporaryDirectory(prefix="tanpuhui-feed-") as folder:
        path = Path(folder) / "staged.sqlite"
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            # It is thrown away whatever happens, so nothing of it need survive a crash
            for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")
            staged = Staging(connection, columns)
            path.unlink()
            yield staged
        finally:
            connection.close()
