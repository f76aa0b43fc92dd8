"""`tanpuhui feed`: which feeds there are, what one says, and whether it fits its methodology and a file."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal
from service.activities.rules import read_rulebook
from service.approvals import Approvals
from service.feeds import BadRow, Feed, FeedError, Row, Summary, list_feeds, load_feed, read_rows, to_event
from service.feeds.kinds import PositionsFeed, ReadingsFeed, TapsFeed
from service.feeds.lint import Finding, examine
from service.feeds.model import Constant, EventId, FileName, InputColumn, InputConstant, InputFromTable, StationDistance
from service.quantification.model import Methodology

feed_app = typer.Typer(help="数据接入模板。 Feeds: how a provider's file becomes activities.", no_args_is_help=True)

_SHOWN = 5  # refused rows, and activities, that are printed

_Name = Annotated[str, typer.Argument(help="模板名或其 YAML 文件。 A feed's name or its YAML document.")]


@feed_app.command("list")
def list_all(as_json: Json = False) -> None:
    """列出接入模板。 List the feeds that ship with the platform."""
    feeds = list_feeds()
    for feed in feeds if not as_json else ():
        sys.stdout.write(f"{feed.id}  {feed.title.zh} / {feed.title.en}\n    {feed.source.uri}\n")
    Terminal(as_json).finish({"feeds": [_described(feed) for feed in feeds]})


@feed_app.command("show")
def show(feed: _Name) -> None:
    """查看一个接入模板。 Read what a feed says.

    一页双语说明：数据方、场景、格式、列、时间、输入、凭据与说明。

    One page in both languages: the source, the scenario, the format, columns, times, inputs, references and notes.
    """
    sys.stdout.write("\n".join(_page(_load(feed))) + "\n")


@feed_app.command("lint")
def lint(
    feed: _Name,
    data: Annotated[
        list[Path] | None, typer.Option(help="用该模板读取的数据文件，可多次给出。 Data files of it; may be repeated.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="最多解读的活动数。 How many activities to read at most.")] = 1_000,
    as_json: Json = False,
) -> None:
    """检查接入模板。 Check a feed, its methodology, and the first rows of a file.

    检查文档、场景的方法学及其输入、单位、读数与凭据；给出数据文件时还解读前若干行，列出最先被拒绝的行。
    有错误时以状态 1 结束。

    Checks the document, its scenario's methodology with inputs, units, readings and references; with data files also
    reads the first rows and shows the first refusals. Ends with status 1 when there is an error.
    """
    terminal = Terminal(as_json)
    loaded = _load(feed)
    settings = read_settings()
    rules = read_rulebook(settings, Approvals(settings.approvers_file, settings.programme))
    covering = [one for one in rules.methodologies.all() if one.scenario.id == loaded.scenario]
    findings = examine(loaded, rules.methodologies.all())
    terminal.say(f"{loaded.id}：{escape(loaded.title.zh)}", escape(loaded.title.en))
    for one in covering:
        terminal.say(
            f"场景 {loaded.scenario}：{one.id} 第 {one.version} 版", f"scenario: {one.id} version {one.version}"
        )
    for finding in findings:
        _tell(finding, terminal)
    seen = None
    if data:
        try:
            seen = _look(loaded, data, rows)
        except FeedError as error:
            fail(error.text.zh, error.text.en)
        _tell_seen(seen, terminal)
    failed = any(finding.level == "error" for finding in findings)
    if not failed:
        terminal.say("[green]模板可用[/green]", "the feed can be used")
    terminal.finish(_result(loaded, covering, findings, seen))
    if failed:
        raise typer.Exit(1)


@dataclass(slots=True)
class _Seen:
    """What the first rows of a file became."""

    activities: int = 0
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    first: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    summary: Summary = field(default_factory=Summary)
    events: list[dict[str, Any]] = field(default_factory=list)


def _look(feed: Feed, data: list[Path], rows: int) -> _Seen:
    seen = _Seen()
    for row in _up_to(read_rows(feed, data, seen.summary), rows):
        if isinstance(row, BadRow):
            seen.refused[row.reason] += row.stands_for
            if len(seen.bad) < _SHOWN:
                seen.bad.append(row)
            continue
        seen.activities += 1
        seen.rows += row.stands_for
        if len(seen.first) < _SHOWN:
            seen.first.append(row)
            seen.events.append(to_event(feed, row))
    return seen


def _up_to(rows: Iterator[Row | BadRow], activities: int) -> Iterator[Row | BadRow]:
    """Rows until so many of them were activities; as many bad ones may come before."""
    for row in islice(rows, activities * 100):
        yield row
        activities -= isinstance(row, Row)
        if not activities:
            return


def _load(name: str) -> Feed:
    try:
        return load_feed(name)
    except FeedError as error:
        fail(error.text.zh, error.text.en)


def _tell(finding: Finding, terminal: Terminal) -> None:
    colour, zh = ("red", "错误") if finding.level == "error" else ("yellow", "注意")
    terminal.say(f"[{colour}]{zh}[/{colour}] {escape(finding.text.zh)}", f"{finding.level}: {escape(finding.text.en)}")


def _tell_seen(seen: _Seen, terminal: Terminal) -> None:
    terminal.say(
        f"前 {seen.activities} 项活动，来自 {seen.rows} 行",
        f"the first {seen.activities} activities, of {seen.rows} rows",
    )
    for rule, count in sorted(seen.summary.passed_over.items()):
        terminal.say(f"略过 {rule}：{count} 行", f"passed over: {count} rows")
    for reason, count in seen.refused.most_common():
        terminal.say(f"[yellow]{reason}[/yellow]：{count} 行", f"{count} rows")
    for bad in seen.bad:
        where = f"{bad.file}:{bad.line}"
        terminal.say(
            f"  {escape(where)} {escape(bad.detail.zh)}{escape(bad.mend.zh)}",
            f"{escape(bad.detail.en)} {escape(bad.mend.en)}",
        )


def _result(feed: Feed, covering: list[Methodology], findings: list[Finding], seen: _Seen | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        **_described(feed),
        "methodologies": [{"id": one.id, "version": one.version} for one in covering],
        "findings": [{"level": one.level, **one.text.model_dump()} for one in findings],
    }
    if seen is not None:
        result["data"] = {
            "activities": seen.activities,
            "rows": seen.rows,
            "refused": dict(seen.refused),
            "passed_over": dict(seen.summary.passed_over),
            "first": seen.events,
            "first_refused": [
                {
                    "row": bad.number,
                    "file": bad.file,
                    "line": bad.line,
                    "reason": bad.reason,
                    "detail": bad.detail.model_dump(),
                    "mend": bad.mend.model_dump(),
                }
                for bad in seen.bad
            ],
        }
    return result


def _described(feed: Feed) -> dict[str, Any]:
    return {
        "id": feed.id,
        "kind": getattr(feed, "kind", ""),
        "title": feed.title.model_dump(),
        "source": feed.source.uri,
        "grade": feed.source.grade,
        "scenario": feed.scenario,
        "format": feed.format,
    }


_KINDS = {
    "trips": ("一行为一次活动", "one row is one activity"),
    "taps": ("一行为一次刷卡，进出站配对", "one row is one tap of a card; entries are paired with exits"),
    "readings": (
        "一行为一次读数，按日历时段合并",
        "one row is one reading; those of a calendar period make one activity",
    ),
    "positions": ("一行为一个定位点，按行程合并", "one row is one position; those of one ride make one activity"),
}


def _page(feed: Feed) -> Iterator[str]:
    kind = getattr(feed, "kind", "")
    yield f"# {feed.id}: {feed.title.zh} / {feed.title.en}"
    yield ""
    yield f"- 数据方 source: {feed.source.title.zh} / {feed.source.title.en}, `{feed.source.uri}`"
    yield f"- 证据等级 grade: {feed.source.grade}; 自 from {feed.source.valid_from}"
    yield f"- 场景 scenario: `{feed.scenario}`"
    yield f"- 类别 kind: {kind}, {_KINDS[kind][0]} / {_KINDS[kind][1]}"
    yield f"- 格式 format: {_format(feed)}"
    yield f"- 列 columns: {', '.join(f'`{column}`' for column in feed.columns_read())}"
    for rule in feed.pass_over:
        yield f"- 略过 passed over: `{rule.id}`, `{rule.column}` {_test(rule)}"
    yield from (f"- 凭据 reference: {name} = {_text(text)}" for name, text in feed.references.items())
    yield from (f"- 输入 input: {name} ({spec.basis}) = {_input(spec)}" for name, spec in feed.inputs.items())
    yield from _own(feed)
    yield from ("", feed.notes.zh, "", feed.notes.en)


def _own(feed: Feed) -> Iterator[str]:
    """What only a feed of this kind says."""
    match feed:
        case TapsFeed() if feed.pairing is not None:
            yield f"- 配对 pairing: {feed.pairing.longest_min} min" + "".join(f", {one}" for one in feed.pairing.same)
        case ReadingsFeed():
            for name, quantity in feed.readings.items():
                register = ", 累计表底 register" if quantity.register_reading else ""
                yield f"- 读数 readings: {name} = {' + '.join(quantity.column)} ({quantity.unit}{register})"
            yield f"- 时段 period: {feed.period.unit}; 时区 time zone: {feed.time.time_zone}"
            for name, baseline in feed.baseline.items():
                yield f"- 基准 baseline: {name}, {baseline.of}, {baseline.origin} x {baseline.periods}"
        case PositionsFeed():
            yield f"- 输入 input: {feed.track.input} (track), {feed.track.datum}"


def _format(feed: Feed) -> str:
    if feed.format == "parquet":
        return "Parquet"
    form = feed.csv
    words = ["CSV, CSV.gz", form.encoding, f"`{form.delimiter}`", f"1{form.decimal}5"]
    return ", ".join(words)


def _test(rule: Any) -> str:
    if rule.contains is not None:
        return f"含 contains `{rule.contains}`"
    sign, words = ("=", rule.one_of) if rule.one_of is not None else ("≠", rule.none_of)
    return f"{sign} {', '.join(words)}"


def _text(spec: str | Constant | FileName | EventId) -> str:
    match spec:
        case str():
            return f"`{spec}`"
        case Constant():
            return spec.constant
        case FileName():
            return "文件名 the file's name"
        case EventId():
            return "事件编号 the event's id"


def _input(spec: Any) -> str:
    match spec:
        case InputColumn():
            return f"`{spec.column}` ({spec.unit})"
        case InputConstant():
            return f"{spec.constant} {spec.unit}"
        case InputFromTable():
            return f"{spec.table}.`{spec.column}` ({spec.unit})"
        case StationDistance():
            return f"`{spec.start}` → `{spec.end}`, {spec.stations}, {spec.along}"
        case _:
            return (
                f"`{spec.start.longitude}`, `{spec.start.latitude}` ({spec.start.datum}) → "
                f"`{spec.end.longitude}`, `{spec.end.latitude}` ({spec.end.datum})"
            )
