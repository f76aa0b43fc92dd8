"""A Parquet file as rows of cells, one batch of a row group at a time.

A cell is the text that the same value would have in a CSV file, so that everything after this is the same for both.
Needs pyarrow, the optional extra `parquet`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from service.feeds.errors import Bilingual, FeedFileError

_ROWS_AT_ONCE = 8_192  # some megabytes of cells


@contextmanager
def open_parquet(
    path: Path, wanted: Sequence[str], check: Callable[[list[str]], None]
) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str] | Bilingual]]]]:
    """The wanted columns, and the rows with their numbers in the file; `check` is given the names of all columns.

    Raises FeedFileError: no Parquet, not readable, a wanted column of lists or structures, pyarrow missing.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as missing:
        raise FeedFileError(
            en=f"{path}: reading Parquet needs pyarrow, which is not installed. Install the extra: "
            "pip install 'tanpuhui[parquet]' (in a checkout: python3 bootstrap.py dev), or export the data as CSV.",
            zh=f"{path}：读取 Parquet 需要 pyarrow，但尚未安装。请安装可选依赖：pip install 'tanpuhui[parquet]'"
            "（源码目录中：python3 bootstrap.py dev），或将数据导出为 CSV。",
        ) from missing
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            check(names)
            kinds = [file.schema_arrow.field(name).type for name in wanted]
            for name, kind in zip(wanted, kinds, strict=True):
                if pyarrow.types.is_nested(kind) or pyarrow.types.is_binary(kind):
                    raise FeedFileError(
                        en=f"{path}: expected numbers, texts or times in the column {name}; it holds {kind}. "
                        "Export it as plain values.",
                        zh=f"{path}：列 {name} 应为数字、文本或时间，实为 {kind}。请导出为普通值。",
                    )
            yield list(wanted), _rows(file, list(wanted))
    except (OSError, pyarrow.ArrowException) as error:
        raise FeedFileError(
            en=f"{path}: expected a readable Parquet file; reading it failed ({str(error)[:200]}). "
            "Check the path and the feed's format, or fetch the file again.",
            zh=f"{path}：应为可读取的 Parquet 文件，读取失败（{str(error)[:200]}）。请检查路径与映射的 format，"
            "或重新获取文件。",
        ) from error


def _rows(file: Any, wanted: list[str]) -> Iterator[tuple[int, list[str] | Bilingual]]:
    number = 0
    for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
        columns = [_texts(batch.column(name)) for name in wanted]
        for cells in zip(*columns, strict=True):
            number += 1
            yield number, list(cells)


def _texts(column: Any) -> list[str]:
    """The values of one column as texts; what is missing is an empty cell."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_timestamp(kind) and kind.unit == "ns":  # Python knows no nanoseconds
        column = column.cast(pyarrow.timestamp("us", kind.tz), safe=False)
    return [_text(value) for value in column.to_pylist()]


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case datetime():
            return value.isoformat(" ")
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case float() if value != value:  # not a number stands for no value
            return ""
        case _:
            return str(value)
