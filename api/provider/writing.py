"""CSV files that grow as an import goes on, and that a resumed import continues where its state says."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

from api.provider.report import ImportStopped

_MARK = b"\xef\xbb\xbf"  # without which a spreadsheet shows Chinese as noise


@contextmanager
def writing(path: Path | None) -> Iterator[None]:
    """Whatever keeps a file from being written, such as a full disk, is said as ImportStopped."""
    try:
        yield
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path | None, error: OSError) -> ImportStopped:
    why = error.strerror or type(error).__name__
    return ImportStopped(
        en=f"{path}: it cannot be written ({why}). Free some space or make it writable, then go on with --resume, or "
        "start again: what was credited is not credited twice.",
        zh=f"{path}：无法写入（{why}）。请腾出空间或更正权限，然后以 --resume 继续，或重新开始：已入账的不会重复入账。",
    )


class GrowingCsv:
    """A CSV written row by row, UTF-8 with a byte order mark; nothing when no path is given.

    keep   of a file that is continued, how many bytes of it stay; None to begin anew
    """

    heading: Sequence[str] = ()

    def __init__(self, path: Path | None, *, keep: int | None = None) -> None:
        self.path, self._keep = path, keep
        self._raw: BinaryIO | None = None
        self._file: io.TextIOWrapper | None = None
        self._writer: Any = None

    def open(self) -> None:
        """Raises ImportStopped when it cannot be written, or is shorter than what should be kept."""
        if self.path is None:
            return
        with writing(self.path):
            raw = self.path.open("wb" if self._keep is None else "r+b")
        self._raw = raw
        self._file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        if self._keep is None:
            raw.write(_MARK)
            self._writer.writerow(self.heading)
        elif raw.seek(0, io.SEEK_END) < self._keep:
            self.close()
            raise ImportStopped(
                en=f"{self.path}: expected the file as the import left it, at least {self._keep} bytes; it is shorter. "
                "Put it back, or leave --resume out to begin anew: what was credited is not credited twice.",
                zh=f"{self.path}：应为导入中断时的文件（至少 {self._keep} 字节），现在更短。"
                "请恢复该文件，或去掉 --resume 重新开始：已入账的不会重复入账。",
            )
        else:
            raw.seek(self._keep)
            raw.truncate()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def row(self, cells: Sequence[object]) -> None:
        """Write a row. Raises ImportStopped when it cannot be written, once: what follows is not written either."""
        if self._writer is None:
            return
        try:
            self._writer.writerow(cells)
        except OSError as error:
            self._writer = None
            raise _cannot_write(self.path, error) from error

    def flush(self) -> int | None:
        """Hand everything to the system; the file's length in bytes then, None without a file. Raises
        ImportStopped."""
        if self._file is None or self._raw is None:
            return None
        with writing(self.path):
            self._file.flush()
            return self._raw.tell()

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # flush has said it
                self._file.close()
