"""The files of a feed as rows of cells: numbered through, headings checked, rows that a rule passes over counted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from service.feeds.cells import LONGEST_ID, MALFORMED_ROW, MEND_ROW, BadCellError
from service.feeds.errors import Bilingual, FeedFileError
from service.feeds.kinds import Feed
from service.feeds.parquet import open_parquet
from service.feeds.records import open_lines, read_heading, records
from service.feeds.rows import BadRow, Summary

Cells: TypeAlias = list[str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One file: where it is and the names of its columns."""

    path: Path
    heading: list[str]

    def index(self, column: str) -> int:
        return self.heading.index(column)


def sheets(
    feed: Feed, paths: Sequence[Path], summary: Summary
) -> Iterator[tuple[Sheet, Iterator[tuple[int, int, Cells | Bilingual]]]]:
    """Each file with its rows: number, line, and the cells or why there are none.

    Raises FeedFileError, also midway if a file breaks off.
    """
    for path in paths:
        with open_sheet(feed, path) as (sheet, found):
            yield sheet, _numbered(feed, sheet, found, summary)


def count_rows(feed: Feed, paths: Sequence[Path]) -> int:
    """How many rows the files have: what the Row and BadRow of read_rows stand for and what it passes over.

    Reads the files to their end, so that one that breaks off raises FeedFileError here, before anything was posted.
    """
    count = 0
    for path in paths:
        with open_sheet(feed, path) as (_, found):
            count += sum(1 for _ in found)
    return count


@contextmanager
def open_sheet(feed: Feed, path: Path) -> Iterator[tuple[Sheet, Iterator[tuple[int, Cells | Bilingual]]]]:
    """The file's heading and its rows, each with its line. Raises FeedFileError."""
    wanted = feed.columns_read()
    if feed.format == "parquet":
        with open_parquet(path, wanted, lambda names: _require(feed, path, names, wanted)) as (heading, rows):
            yield Sheet(path, heading), rows
        return
    form = feed.csv
    with open_lines(path, form.encoding) as lines:
        for _ in range(form.pass_over_lines):
            next(lines, None)
        if form.heading is None:
            heading = read_heading(path, lines, form.delimiter, form.quote)
        else:
            heading = [name.strip() for name in form.heading]
        _require(feed, path, heading, wanted)
        yield Sheet(path, heading), records(lines, len(heading), form.delimiter, form.quote)


def malformed(number: int, line: int, why: Bilingual, sheet: Sheet) -> BadRow:
    """A row that has no cells."""
    return BadRow(number, line, None, MALFORMED_ROW, why, MEND_ROW, file=sheet.path.name)


def bad_row(number: int, line: int, bad: BadCellError, sheet: Sheet, event_id: str | None = None) -> BadRow:
    """A row with a cell that cannot be read."""
    known = event_id.strip()[:LONGEST_ID] if event_id else None
    return BadRow(number, line, known or None, bad.reason, bad.detail, bad.mend, file=sheet.path.name)


def _numbered(
    feed: Feed, sheet: Sheet, found: Iterator[tuple[int, Cells | Bilingual]], summary: Summary
) -> Iterator[tuple[int, int, Cells | Bilingual]]:
    rules = [(rule, sheet.index(rule.column)) for rule in feed.pass_over]
    for line, cells in found:
        summary.rows += 1
        if rules and isinstance(cells, list):
            passed = next((rule.id for rule, at in rules if rule.takes(cells[at])), None)
            if passed is not None:
                summary.passed_over[passed] += 1
                continue
        yield summary.rows, line, cells


def _require(feed: Feed, path: Path, names: list[str], wanted: list[str]) -> None:
    """Every column the feed maps must be there once; others are left alone. Raises FeedFileError."""
    missing = [name for name in wanted if name not in names]
    twice = [name for name in wanted if names.count(name) > 1]
    if missing or twice:
        found = ", ".join(names)[:300]
        fault_en = f"{', '.join(missing)} missing" if missing else f"{', '.join(twice)} standing twice"
        fault_zh = f"缺少 {'、'.join(missing)}" if missing else f"{'、'.join(twice)} 重复"
        line = feed.csv.pass_over_lines + 1
        raise FeedFileError(
            en=f"{path} line {line}: feed {feed.id} expects the columns {', '.join(wanted)}; came: {found} "
            f"({fault_en}). Choose the feed that fits, or mend the heading.",
            zh=f"{path} 第 {line} 行：映射 {feed.id} 需要列 {', '.join(wanted)}；实为 {found}（{fault_zh}）。"
            "请选用相符的映射或更正表头。",
        )
