"""What the commands of a data provider share: whose token, a CSV read row by row, the platform asked until it answers,
and a summary by outcome and reason."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import httpx
import orjson
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.commands.environment import fail, read_settings
from api.commands.issuing import development_issuer
from api.demonstration import Terminal
from api.problems import PROBLEM_TYPES
from api.provider import MALFORMED_ROW, Patience
from api.provider.sending import headers_of, send
from api.provider.signing import ReportSigning, signing_with
from api.supervisor import find_platform
from service.feeds import Bilingual, load_feed
from service.feeds.records import open_lines, read_heading, records

T = TypeVar("T")

SHOWN_ROWS = 10  # refused rows that are named one by one; the summary counts them all

File = Annotated[Path, typer.Argument(help="CSV 或 CSV.gz 文件，UTF-8。 A CSV or CSV.gz file in UTF-8.")]
FeedName = Annotated[
    str | None, typer.Option("--feed", help="接入模板名，取其数据方。 A feed's name: its source is meant.")
]
SourceUri = Annotated[str | None, typer.Option("--source", help="登记的数据方标识。 The provider's registered URI.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="只说明会有何结果，不做任何改动。 Only say what would be; nothing is done.")
]
Url = Annotated[
    str | None,
    typer.Option(help="平台地址；缺省为本数据目录正在运行的平台。 The platform; by default the one running from here."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="数据方令牌文件；缺省签发开发令牌。 A file with the provider's token; by default one for development."
    ),
]


SigningKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="签名私钥 (JWK)，平台要求签名时必需。 The private key (JWK) that signs, where the platform asks for it.",
    ),
]


class Row(NamedTuple):
    """A row of the file: its cells by column, and the line it begins on."""

    line: int
    cells: Mapping[str, str]


class BadRow(NamedTuple):
    """A row that cannot be read, and why."""

    line: int
    why: Bilingual


@dataclass(slots=True)
class Refused:
    """What was not done, counted by reason; the first ones by line."""

    reasons: Counter[str] = field(default_factory=Counter)
    first: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, line: int, reason: str, detail: str) -> None:
        self.reasons[reason] += 1
        if len(self.first) < SHOWN_ROWS:
            self.first.append((line, reason, detail))

    def bad(self, row: BadRow) -> None:
        self.add(row.line, MALFORMED_ROW, row.why.en)


@dataclass(frozen=True, slots=True)
class Provider:
    """A data provider at a platform; `signing` signs its calls, if it does."""

    url: str
    source: str
    token: str
    signing: ReportSigning | None = None

    async def post(self, client: httpx.AsyncClient, path: str, content: object) -> httpx.Response:
        """The answer to this, sent until there is one. Raises ImportStopped."""
        headers = headers_of(self.token, "application/json") | {"Accept-Language": "en"}
        return (await send(client, "POST", path, orjson.dumps(content), headers, Patience())).response


def provider_of(
    feed: str | None, source: str | None, url: str | None, token_file: Path | None, key: Path | None
) -> Provider:
    """Who is meant, and where; ends the command when that is not said."""
    if (feed is None) == (source is None):
        fail("请给出 --feed 或 --source 之一。", "give either --feed NAME or --source URI.")
    uri = source or load_feed(str(feed)).source.uri
    settings = read_settings()
    known = url or getattr(find_platform(settings.data_dir), "url", None)
    if known is None:
        fail(
            "本数据目录没有正在运行的平台：请先启动（make run），或用 --url 指明平台地址。",
            "no platform runs from this data directory: start one (make run), or name its address with --url.",
        )
    if token_file is not None:
        return Provider(known, uri, token_file.read_text("utf-8").strip(), signing_with(key, settings.clock_offset))
    issued = development_issuer(settings).issue("provider", "this-machine", source=uri, ttl=timedelta(hours=24))
    return Provider(known, uri, issued, signing_with(key, settings.clock_offset))


def read_rows(file: Path, needed: tuple[str, ...]) -> Iterator[Row | BadRow]:
    """The rows of a CSV, cells without the spaces around them. Ends the command when a column is missing or stands
    twice. Raises FeedFileError for what is no such file."""
    with open_lines(file) as lines:
        heading = read_heading(file, lines)
        if not set(needed) <= set(heading) or len(set(heading)) < len(heading):
            expected, came = ", ".join(needed), ", ".join(heading)[:300]
            fail(
                f"{file} 第 1 行：应有列 {expected}，每列一次；实为 {came}。请更正表头。",
                f"{file} line 1: expected the columns {expected}, each once; came {came}. Mend the heading.",
            )
        for line, cells in records(lines, len(heading)):
            if isinstance(cells, Bilingual):
                yield BadRow(line, cells)
                continue
            row = {name: cell.strip() for name, cell in zip(heading, cells, strict=True)}
            empty = [name for name in needed if not row[name]]
            if empty:
                named = ", ".join(empty)
                yield BadRow(line, Bilingual(zh=f"{named} 为空，请填写。", en=f"{named} is empty: fill it in."))
            else:
                yield Row(line, row)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in their order, `size` at a time."""
    remaining = iter(items)
    while found := list(islice(remaining, size)):
        yield found


def progress(terminal: Terminal, title: str, total: int) -> tuple[Progress, Callable[[int], None]]:
    """A bar to be entered, and how to move it on by some rows."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bars = Progress(*columns, console=terminal.console, transient=True)
    task = bars.add_task(title, total=total)
    return bars, lambda rows: bars.advance(task, rows)


def summarize(terminal: Terminal, title: str, rows: list[tuple[str, str, str]], refused: Refused) -> None:
    """A table of what became of the rows, and the first of those that were refused."""
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    for row in rows:
        table.add_row(*row)
    for reason, count in refused.reasons.most_common():
        table.add_row(f"未受理 refused · {reason_title(reason)}", f"{count:,}", reason)
    terminal.console.print(table)
    for line, reason, detail in refused.first:
        terminal.console.print(f"第 {line} 行 line {line}: {reason}: {detail}", style="dim", markup=False)


def reason_title(reason: str) -> str:
    """A refusal's reason in Chinese; its code, in English, stands beside it."""
    known = PROBLEM_TYPES.get(reason.partition("/")[0])
    return known.title.zh if known else {MALFORMED_ROW: "该行无法解读"}.get(reason, reason)


def finish(terminal: Terminal, document: dict[str, Any], refused: Refused) -> None:
    """End with the result for a program; with status 1 if anything was refused."""
    terminal.finish(document | {"refused": dict(refused.reasons.most_common())})
    if refused.reasons:
        raise typer.Exit(1)
