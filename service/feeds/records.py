"""A provider's file as numbered records: bytes to lines to cells, in memory that does not grow with the file."""

import csv
import gzip
import io
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.feeds.errors import Bilingual, FeedFileError

_LONGEST_LINE = 1 << 20  # bytes; longer is not a CSV of rides, and must not be read into memory to find out
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OTHER_ARCHIVES = (b"PK\x03\x04", b"PAR1", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # zip, Parquet, bzip2, xz, zstd


class Lines:
    """The file's lines as text, numbered from 1; those of the current record are kept, to be read again if need be."""

    def __init__(self, path: Path, stream: io.BufferedIOBase, encoding: str = "utf-8") -> None:
        self._path, self._stream, self._encoding = path, stream, encoding
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.line = 0  # of the last line given

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        text = self._again.popleft() if self._again else self._read()
        self.line += 1
        self.taken.append(text)
        return text

    def give_back_all_but_the_first(self) -> None:
        self._again.extendleft(reversed(self.taken[1:]))
        self.line -= len(self.taken) - 1

    def _read(self) -> str:
        line = self.line + 1
        raw = self._stream.readline(_LONGEST_LINE + 1)
        if not raw:
            raise StopIteration
        if len(raw) > _LONGEST_LINE:
            raise FeedFileError(
                en=f"{self._path} line {line}: expected lines of at most 1 MiB; this one is longer. "
                "It is not a CSV file of rides: export it anew.",
                zh=f"{self._path} 第 {line} 行：每行应不超过 1 MiB，此行更长。该文件不是骑行 CSV，请重新导出。",
            )
        try:
            if line == 1:
                raw = raw.removeprefix(_BYTE_ORDER_MARK)
            return raw.decode(self._encoding)
        except UnicodeDecodeError as error:
            byte = f"0x{raw[error.start]:02x}"
            raise FeedFileError(
                en=f"{self._path} line {line}: expected text in {self._encoding.upper()}; byte {byte} is not. "
                f"Export the file as CSV in {self._encoding.upper()} and try again.",
                zh=f"{self._path} 第 {line} 行：应为 {self._encoding.upper()} 文本，字节 {byte} 不是。"
                f"请以 {self._encoding.upper()} 编码导出 CSV 后重试。",
            ) from error


@contextmanager
def open_lines(path: Path, encoding: str = "utf-8") -> Iterator[Lines]:
    """Open a plain or gzip file, told apart by its first bytes; what is no CSV at all raises FeedFileError."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = file
            if packed:  # buffered anew: a GzipFile's own readline is many times slower
                stream = io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"), 1 << 16)
            with stream:
                _refuse_what_is_no_csv(path, stream.peek(512)[:512])
                yield Lines(path, stream, encoding)
    except EOFError as error:
        raise FeedFileError(
            en=f"{path}: expected a whole gzip file; it breaks off. A download or copy was cut short: fetch it again.",
            zh=f"{path}：应为完整的 gzip 文件，但内容中断。下载或复制未完成，请重新获取。",
        ) from error
    except (OSError, zlib.error) as error:
        raise FeedFileError(
            en=f"{path}: expected a readable CSV file, plain or gzip; reading it failed ({error}). "
            "Check the path, or fetch the file again.",
            zh=f"{path}：应为可读取的 CSV 文件（可为 gzip 压缩），读取失败（{error}）。请检查路径或重新获取文件。",
        ) from error


def _refuse_what_is_no_csv(path: Path, head: bytes) -> None:
    """Name the usual mistakes, which would otherwise come out as a missing column."""
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if not text:
        came = Bilingual(en="an empty file", zh="空文件")
    elif text.startswith(b"<"):
        came = Bilingual(
            en="a web page, probably a server's error page saved as data",
            zh="网页（可能是被当作数据保存的服务器错误页）",
        )
    elif text.startswith(_OTHER_ARCHIVES):
        came = Bilingual(en="another kind of archive or a Parquet file", zh="其他压缩格式或 Parquet 文件")
    elif text.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in text:
        came = Bilingual(en="binary content, or text in UTF-16", zh="二进制内容或 UTF-16 文本")
    else:
        return
    raise FeedFileError(
        en=f"{path}: expected a CSV file in UTF-8, plain or gzip; this is {came.en}. Fetch or export the data again.",
        zh=f"{path}：应为 UTF-8 编码的 CSV 文件（可为 gzip 压缩），实为{came.zh}。请重新获取或导出数据。",
    )


def read_heading(path: Path, lines: Lines, delimiter: str = ",", quote: str = '"') -> list[str]:
    """The names of the columns, without the spaces around them. Raises FeedFileError."""
    try:
        return [name.strip() for name in next(csv.reader(lines, strict=True, delimiter=delimiter, quotechar=quote), [])]
    except csv.Error as error:
        raise FeedFileError(
            en=f"{path} line 1: expected a heading line of column names separated by commas; it is not CSV ({error}). "
            "Export the file anew.",
            zh=f"{path} 第 1 行：应为以逗号分隔的列名，但不是 CSV（{error}）。请重新导出文件。",
        ) from error


def records(
    lines: Lines, width: int, delimiter: str = ",", quote: str = '"'
) -> Iterator[tuple[int, list[str] | Bilingual]]:
    """Each record after the heading with the line it begins on: its `width` cells, or why not. Blank lines are none.

    A stray quotation mark swallows, by the rules of CSV, the lines after it. So of a faulty record of several lines
    only the first is refused, and the others are read again by themselves.
    """
    reader = csv.reader(lines, strict=True, delimiter=delimiter, quotechar=quote)
    while True:
        lines.taken.clear()
        fault: tuple[str, str] | None = None
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != width:
                fault = f"{len(cells)} cells", f"{len(cells)} 个单元格"
        except csv.Error as error:
            cells, fault = [], (str(error), str(error))
        begins = lines.line - len(lines.taken) + 1
        if fault is None:
            yield begins, cells
            continue
        lines.give_back_all_but_the_first()
        en = f"Expected {width} cells as in the heading; came {fault[0]}. Mend the line's commas and quotation marks."
        yield (
            begins,
            Bilingual(en=en, zh=f"应有与表头一致的 {width} 个单元格，实为：{fault[1]}。请更正此行的逗号和引号。"),
        )
