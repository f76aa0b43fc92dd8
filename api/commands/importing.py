"""`tanpuhui import`: post a provider's files through the public API, and say what became of every row."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from api.auth import DevelopmentIssuer
from api.commands.environment import Json, fail, read_settings
from api.commands.import_summary import summarize_import
from api.commands.issuing import development_issuer
from api.commands.providing import SigningKeyFile
from api.commands.running import running
from api.demonstration import Terminal
from api.oauth.bound import ASYNC_HOOKS
from api.provider import (
    Bearer,
    Consent,
    ImportReport,
    ImportStopped,
    Recorder,
    enrol_riders,
    post_rows,
    register_source,
)
from api.provider.recording import Language
from api.provider.resuming import State, describe, read_state, state_path
from api.provider.signing import signing_with
from api.supervisor import find_platform
from service.feeds import Feed, count_rows, load_feed, read_rows

REHEARSED_BATCHES = 4  # of a dry run: enough to see what is wrong with a file, too few to burden a platform
LARGE = 20_000  # rows from which it is worth saying that an import can be resumed

_URL_HELP = (
    "平台地址；缺省为本数据目录正在运行的平台，没有则临时启动。 "
    "The platform; by default the one running from this data directory, or one started for the import."
)
_TOKEN_HELP = (
    "数据方令牌文件，失效时重读；缺省签发开发令牌。 "
    "A file with the provider's token, read again when it ends; by default one for development."
)
_ENROL_HELP = (
    "以演示同意书登记新用户（仅开发；给出 --token-file 时缺省为否）。 "
    "Enrol new people with demonstration consents; for development, and by default not with --token-file."
)
_REFUSED_HELP = (
    "被拒行、原因与处理办法写入此 CSV，旁边保存可续传的状态。 "
    "Write refused rows, why, and what to mend to this CSV; beside it stands the state to resume from."
)
_RESUME_HELP = "从 --refused 旁的状态继续。 Go on from the state beside --refused."
_DRY_RUN_HELP = (
    f"通读文件，仅就前 {REHEARSED_BATCHES} 批询问平台，不保存任何内容。 "
    f"Read all of it, ask the platform about the first {REHEARSED_BATCHES} batches only, and store nothing."
)


@dataclass(frozen=True, slots=True)
class Import:
    """Files to post: by which feed, in batches of how many, whether their people are enrolled, what is written where.

    token_file   holds the provider's access token, read again when the platform takes it no longer; None: a development
                 token is issued
    key_file     holds the private JWK that signs what is posted; None: nothing is signed
    """

    files: tuple[Path, ...]
    feed: Feed
    enrol: bool = True
    batch: int = 500
    refused: Path | None = None
    outcomes: Path | None = None
    token_file: Path | None = None
    language: Language = "en"
    key_file: Path | None = None


def import_files(
    url: str,
    issuer: Callable[[], DevelopmentIssuer],
    terminal: Terminal,
    wanted: Import,
    *,
    total: int,
    state: State | None = None,
    dry_run: bool = False,
) -> Recorder:
    """Post the files, `total` rows; the recorder of what became of them. Raises ImportStopped, FeedError."""
    feed = wanted.feed
    terminal.say(f"数据方：{feed.title.zh}", f"provider: {feed.title.en}")
    if feed.notes is not None:
        terminal.say(f"说明：{feed.notes.zh}", f"note: {feed.notes.en}")
    if wanted.enrol and not dry_run:
        terminal.say("以演示同意书登记用户", "people are enrolled with demonstration consents")
    recorder = Recorder(wanted.refused, wanted.outcomes, scenario=feed.scenario, language=wanted.language, state=state)
    with recorder:
        asyncio.run(_import(url, issuer, terminal, wanted, recorder, total, state, dry_run=dry_run))
    return recorder


async def _import(
    url: str,
    issuer: Callable[[], DevelopmentIssuer],
    terminal: Terminal,
    wanted: Import,
    recorder: Recorder,
    total: int,
    state: State | None,
    *,
    dry_run: bool,
) -> None:
    feed, summary = wanted.feed, recorder.summary
    rows = read_rows(feed, wanted.files, summary)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    signing = signing_with(wanted.key_file, read_settings().clock_offset)
    async with httpx.AsyncClient(base_url=url, timeout=60, auth=signing, event_hooks=ASYNC_HOOKS) as client:
        enrol = None
        if wanted.enrol and not dry_run:
            operator = issuer().issue("operator", "demonstration", ttl=timedelta(hours=24))
            await register_source(client, operator, feed)
            consent = Consent(given_at=datetime.now(UTC))

            async def enrol(subjects: Collection[str]) -> object:
                return await enrol_riders(client, operator, feed, subjects, consent)

        bars = Progress(*columns, TimeRemainingColumn(), console=terminal.console, transient=True)
        with bars:
            bar = bars.add_task("报送 posting", total=total)

            def move(report: ImportReport) -> None:
                bars.update(bar, completed=report.answered + summary.passed_over.total())

            asked = islice(rows, REHEARSED_BATCHES * wanted.batch) if dry_run else rows
            await post_rows(
                client,
                _bearer(issuer, terminal, wanted),
                feed,
                asked,
                recorder,
                enrol=enrol,
                batch_size=wanted.batch,
                on_progress=move,
                language=wanted.language,
                state=state,
                dry_run=dry_run,
            )
            for number, row in enumerate(rows):  # of a dry run: the rest is only read
                recorder.look_at(row)
                if number % wanted.batch == 0:
                    move(recorder.report)
            recorder.finish()


def _bearer(issuer: Callable[[], DevelopmentIssuer], terminal: Terminal, wanted: Import) -> Bearer:
    file = wanted.token_file
    if file is None:

        def issue() -> str:
            return issuer().issue("provider", wanted.feed.id, source=wanted.feed.source.uri, ttl=timedelta(hours=24))

        return Bearer(issue(), issue)

    def waits() -> None:
        terminal.say(
            f"访问令牌已失效：请将新令牌写入 {file}，导入将自动继续",
            f"the access token is not taken any longer: write a new one into {file}, and the import goes on",
        )

    def renew() -> str:
        try:
            return _token_in(file)
        except ImportStopped:  # it is being written just now
            return ""

    return Bearer(_token_in(file), renew, waits)


def _token_in(file: Path) -> str:
    """The token that a file holds now. Raises ImportStopped."""
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImportStopped(
            en=f"{file}: expected the provider's access token; it cannot be read ({error}). Mend the path or the file.",
            zh=f"{file}：应为数据方的访问令牌，但无法读取（{error}）。请更正路径或文件。",
        ) from error
    if not token or not token.isascii() or any(letter.isspace() for letter in token):
        raise ImportStopped(
            en=f"{file}: expected one access token and nothing else; the file is empty or holds more. Mend it.",
            zh=f"{file}：应只含一个访问令牌，文件为空或有其他内容。请更正。",
        )
    return token


def import_command(
    files: Annotated[list[Path], typer.Argument(help="数据文件。 The data files, in order.")],
    feed: Annotated[
        str, typer.Option(help="接入模板名或其 YAML 文件。 A feed's name (`tanpuhui feed list`) or YAML file.")
    ],
    url: Annotated[str | None, typer.Option(help=_URL_HELP)] = None,
    as_json: Json = False,
    token_file: Annotated[Path | None, typer.Option(help=_TOKEN_HELP)] = None,
    enrol: Annotated[bool | None, typer.Option("--enrol/--no-enrol", help=_ENROL_HELP, show_default=False)] = None,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="每批事件数。 Events in a batch.")] = 500,
    refused: Annotated[Path | None, typer.Option(help=_REFUSED_HELP)] = None,
    resume: Annotated[bool, typer.Option("--resume", help=_RESUME_HELP)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_DRY_RUN_HELP)] = False,
    outcomes: Annotated[
        Path | None,
        typer.Option(help="全部结果写入此 CSV，供日清单使用。 Write every outcome to this CSV, to close the day from."),
    ] = None,
    language: Annotated[
        Language, typer.Option(help="被拒原因的语言。 The language in which refused rows are told.")
    ] = "en",
    key: SigningKeyFile = None,
) -> None:
    """报送数据文件。 Post a provider's files through the public API.

    按接入模板读取文件并逐批报送，可安全重复执行；中断后以 --resume 继续。每一行都有去向，被拒行说明原因与处理办法。

    Reads a provider's files by a feed and posts them through the public API. Repeating it is safe: nothing is credited
    twice; what was interrupted goes on with --resume. Every row is accounted for; refused rows say why and what to
    mend.
    """
    terminal, settings = Terminal(as_json), read_settings()
    chosen = load_feed(feed)
    enrolled = token_file is None if enrol is None else enrol
    wanted = Import(tuple(files), chosen, enrolled, batch, refused, outcomes, token_file, language, key)
    _require_places(wanted, resume=resume, dry_run=dry_run)
    total = count_rows(chosen, wanted.files)
    state = None if dry_run else _state(wanted, url, terminal, resume=resume, total=total)
    if state is not None and resume and state.finished:
        terminal.say("此文件已全部导入，没有剩余", "this was imported to its end before: nothing is left")
        summarize_import(terminal, state.report, {})
        terminal.finish(_document(wanted, state.report, dry_run=False, resumed=state.done))
        return
    known = url or getattr(find_platform(settings.data_dir), "url", None)
    resumed = 0 if state is None else state.done
    if known:
        _run(known, lambda: development_issuer(settings), terminal, wanted, total, state, dry_run, resumed)
        return
    if dry_run:
        _read_only(terminal, wanted)
        return
    if token_file is not None:
        fail(
            "给出 --token-file 时须以 --url 指明平台地址。",
            "--token-file is for a platform: name its address with --url.",
        )
    with running(settings, terminal) as platform:
        _run(platform.url, lambda: platform.issuer, terminal, wanted, total, state, dry_run, resumed)


def _run(
    url: str,
    issuer: Callable[[], DevelopmentIssuer],
    terminal: Terminal,
    wanted: Import,
    total: int,
    state: State | None,
    dry_run: bool,
    resumed: int,
) -> None:
    """Import, and say what became of it, also when it is stopped."""
    try:
        done = import_files(url, issuer, terminal, wanted, total=total, state=state, dry_run=dry_run)
    except ImportStopped as stop:
        if stop.report is not None:
            summarize_import(terminal, stop.report, {})
            terminal.finish(
                _document(wanted, stop.report, dry_run=dry_run, resumed=resumed) | {"stopped": stop.text.en}
            )
        _say_how_to_go_on(terminal, wanted, state)
        raise
    except KeyboardInterrupt:
        _say_how_to_go_on(terminal, wanted, state)
        raise
    summarize_import(terminal, done.report, done.summary.passed_over, done.first, dry_run=dry_run)
    if dry_run:
        asked = REHEARSED_BATCHES * wanted.batch
        terminal.say(
            f"仅就前 {asked:,} 个事件询问了平台，其余只通读；试运行不登记用户，未关联者会显示为未入账",
            f"the platform was asked about the first {asked:,} events, the rest was only read; a dry run enrols "
            "nobody, so who is not linked yet shows as refused",
        )
    elif done.report.refused and wanted.refused is None:
        terminal.say(
            "用 --refused FILE 可得到全部被拒行、原因与处理办法",
            "--refused FILE gives every refused row, why, and what to mend",
        )
    terminal.finish(_document(wanted, done.report, dry_run=dry_run, resumed=resumed))


def _read_only(terminal: Terminal, wanted: Import) -> None:
    """A dry run where no platform runs: the file is read to its end and nobody is asked."""
    with Recorder(wanted.refused, language=wanted.language) as recorder:
        for row in read_rows(wanted.feed, wanted.files, recorder.summary):
            recorder.look_at(row)
        recorder.finish()
    summarize_import(terminal, recorder.report, recorder.summary.passed_over, recorder.first, dry_run=True)
    terminal.say(
        "没有正在运行的平台：只通读了文件，未询问平台",
        "no platform runs from here: the file was only read, nobody was asked",
    )
    terminal.finish(_document(wanted, recorder.report, dry_run=True, resumed=0))


def _document(wanted: Import, report: ImportReport, *, dry_run: bool, resumed: int) -> dict[str, Any]:
    """The result for a program."""
    state = None if wanted.refused is None or dry_run else str(state_path(wanted.refused))
    return report.in_full() | {
        "dry_run": dry_run,
        "resumed_after": resumed,
        "refused_file": None if wanted.refused is None else str(wanted.refused),
        "state_file": state,
    }


def _require_places(wanted: Import, *, resume: bool, dry_run: bool) -> None:
    """End the command when what it should write has no place, or is something else's."""
    written = [path for path in (wanted.refused, wanted.outcomes) if path is not None]
    for path in written:
        if not path.absolute().parent.is_dir():
            fail(f"目录 {path.parent} 不存在，请先创建。", f"there is no directory {path.parent}: make it first.")
    taken = [path.resolve() for path in (*wanted.files, *written)]
    if len(set(taken)) < len(taken):
        fail(
            "数据文件、--refused 与 --outcomes 须各不相同。",
            "the data files, --refused and --outcomes must all differ.",
        )
    if resume and wanted.refused is None:
        fail(
            "--resume 需要中断时所用的 --refused FILE：状态保存在其旁。",
            "--resume needs the --refused FILE of the import that was interrupted: its state stands beside it.",
        )
    if resume and dry_run:
        fail("--dry-run 与 --resume 不能同用。", "--dry-run and --resume exclude each other.")
    if dry_run and wanted.refused is not None and state_path(wanted.refused).exists():
        fail(
            f"{wanted.refused} 属于一次真实导入，试运行请换一个文件。",
            f"{wanted.refused} belongs to a real import: name another file for the dry run.",
        )


def _state(wanted: Import, url: str | None, terminal: Terminal, *, resume: bool, total: int) -> State | None:
    """The state to go on from, or a new one; None when nothing is written that it could stand beside."""
    if wanted.refused is None:
        if total >= LARGE:
            terminal.say(
                f"共 {total:,} 行；加上 --refused FILE 后，中断时可用 --resume 继续",
                f"{total:,} rows: with --refused FILE, an import that is interrupted can go on with --resume",
            )
        return None
    path = state_path(wanted.refused)
    of = describe(wanted.files, wanted.feed, url, wanted.outcomes)
    if not resume:
        if path.exists():
            terminal.say(
                f"{path} 的旧状态将被替换；已入账的不会重复入账",
                f"the state in {path} is replaced; nothing is credited twice",
            )
        return State(path, of)
    found = read_state(path, of)
    if found is None:
        terminal.say(f"没有 {path}：从头开始", f"there is no {path}: beginning at the first row")
        return State(path, of)
    if found.done and not found.finished:
        terminal.say(
            f"继续：已有结论的 {found.rows:,} 行不再报送",
            f"going on: {found.rows:,} rows that have their answer are passed by",
        )
    return found


def _say_how_to_go_on(terminal: Terminal, wanted: Import, state: State | None) -> None:
    if state is not None:
        terminal.say(
            f"已记录 {state.rows:,} 行；加上 --resume 再执行一次即可继续",
            f"{state.rows:,} rows are recorded: the same command with --resume goes on after them",
        )
    elif wanted.refused is None:
        terminal.say(
            "可从头再执行一次：已入账的不会重复入账", "the same command may be given again: nothing is credited twice"
        )
