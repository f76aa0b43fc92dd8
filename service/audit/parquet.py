"""The entries of a bundle as Parquet tables, for people's own SQL. Needs pyarrow, the optional extra `parquet`.

Nothing is judged here: an entry that is no leaf is a row with its index and nothing else, and a verification names it.
"""

from collections.abc import Sequence
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from ledger.errors import LeafInvalid
from ledger.journal import KINDS
from ledger.leaf_reading import read_leaf
from ledger.verify.canonical import fits
from service.audit.evidence import read_entries
from service.audit.source import ExportStopped

TABLES = ("entries", "lines", "claims")
ROWS_AT_ONCE = 16_384  # entries: some 40 MB of cells

_TRANSFERS = frozenset(KINDS)
_TEXTS = (
    "kind", "programme", "region", "participant", "participant_kind", "transfer", "source", "grade", "methodology",
    "points_rule", "evidence", "replaces", "reverses", "matures", "reason", "authority", "awaited", "facts", "decision",
    "hold", "bank", "pool", "offer",
)  # fmt: skip
"""Columns of `entries` that are the leaf's field of the same name, as text; null where the kind has none."""

Columns = list[list[Any]]


def table_path(table: str, number: int) -> str:
    """The file of one table of a range. All lie in one folder, so that one pattern names them."""
    return f"parquet/{table}-{number:03d}.parquet"


def require_parquet() -> None:
    """Raises ExportStopped where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401 - whether it is there
    except ImportError:
        raise ExportStopped(
            "导出 Parquet 需要 pyarrow：pip install 'tanpuhui[parquet]'（源码目录中：python3 bootstrap.py dev），"
            "或加上 --no-parquet。",
            "the tables need pyarrow, which is not installed: pip install 'tanpuhui[parquet]' (in a checkout: python3 "
            "bootstrap.py dev), or leave them out with --no-parquet.",
        ) from None


def write_tables(directory: Path, size: int, number: int, into: Path) -> list[Path]:
    """Make the tables of one range of a bundle's entries in another folder; the files, in the order of TABLES."""
    import pyarrow
    import pyarrow.parquet

    schemas = _schemas(pyarrow)
    made = [into / f"{table}.parquet" for table in TABLES]
    writers = [
        pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")
        for path, schema in zip(made, schemas, strict=True)
    ]
    try:
        entries = read_entries(directory, size, number)
        while some := list(islice(entries, ROWS_AT_ONCE)):
            for writer, schema, columns in zip(writers, schemas, _tables(some), strict=True):
                arrays = [pyarrow.array(cells, kind) for cells, kind in zip(columns, schema.types, strict=True)]
                writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
    finally:
        for writer in writers:
            writer.close()
    return made


def _schemas(pyarrow: Any) -> list[Any]:
    """Names and types of the columns; docs/audit.md describes them."""
    text, number, short, day = pyarrow.string(), pyarrow.int64(), pyarrow.int16(), pyarrow.date32()
    index = ("index", number)
    entries = [index, ("at", pyarrow.timestamp("ms", "UTC")), ("day", day), ("counter", number)]
    entries += [(name, text) for name in (*_TEXTS, "notice")]
    lines = [index, ("line", short), ("asset", text), ("amount", number), ("from_account", text), ("to_account", text)]
    lines += [("class", text), ("vintage", short), ("expires", day)]
    claims = [index, ("key_version", pyarrow.int32()), ("tag", text)]
    return [pyarrow.schema(fields) for fields in (entries, lines, claims)]


def _tables(entries: Sequence[tuple[int, bytes | None]]) -> tuple[Columns, Columns, Columns]:
    """The cells of the three tables, by column."""
    rows: list[tuple[Any, ...]] = []
    lines: list[tuple[Any, ...]] = []
    claims: list[tuple[Any, ...]] = []
    days = _Days()
    for index, entry in entries:
        fields = _fields(entry)
        if fields is None:
            rows.append((index, *[None] * (len(_TEXTS) + 4)))
            continue
        notice = None
        if fields["kind"] in _TRANSFERS:
            lines += [
                (
                    index, place, line["asset"], int(line["amount"]), line["from"], line["to"], line.get("class"),
                    int(line["vintage"]) if "vintage" in line else None, days[line.get("expires")],
                )
                for place, line in enumerate(fields["lines"])
            ]  # fmt: skip
            claims += [(index, int(version), tag) for version, _, tag in map(_partition, fields.get("claims", ()))]
        else:
            assert entry is not None
            notice = entry.decode("ascii")
        at = datetime.fromisoformat(fields["at"])
        head = index, at, days[fields.get("day")], int(fields["counter"]) if "counter" in fields else None
        rows.append((*head, *map(fields.get, _TEXTS), notice))
    return _turned(rows, len(_TEXTS) + 5), _turned(lines, 9), _turned(claims, 3)


def _partition(claim: str) -> tuple[str, str, str]:
    return claim.partition(":")


def _fields(entry: bytes | None) -> dict[str, Any] | None:
    """The fields of a leaf; None for an entry that is none."""
    if entry is None:
        return None
    if fits(entry.decode("latin-1")):  # what is not ASCII fits no form
        found: dict[str, Any] = orjson.loads(entry)
        return found
    try:
        return read_leaf(entry)
    except LeafInvalid:
        return None


class _Days(dict[str | None, date | None]):
    """Days by their text, each parsed once."""

    def __missing__(self, text: str | None) -> date | None:
        self[text] = found = None if text is None else date.fromisoformat(text)
        return found


def _turned(rows: Sequence[tuple[Any, ...]], width: int) -> Columns:
    """Rows as columns."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
