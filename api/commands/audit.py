"""`tanpuhui audit`: take the auditor's bundle away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.commands.replaying import replay_command
from api.demonstration import Terminal
from api.remote_log import RemoteLog
from api.supervisor import find_platform
from service.audit.export import Stored
from service.audit.source import ExportStopped, Source
from service.audit.writing import Exported, export_bundle
from service.database import open_pool, require_schema
from service.migrations import expected_version
from service.settings import Settings
from service.vault import Vault
from service.vault.refreshing import require_vault

app = typer.Typer(help="审计：导出并核对审计包。 Audit: take the bundle away and check it.", no_args_is_help=True)

app.command("replay")(replay_command)

_PHASES = {
    "check": "核对已有文件 checking what is there",
    "log": "日志 the log",
    "evidence": "证据 evidence",
    "tables": "数据表 tables",
}


@app.command("export")
def export(
    directory: Annotated[Path, typer.Argument(help="审计包文件夹：新的，或此前导出、现在续导的。 The folder.")],
    url: Annotated[str | None, typer.Option(help="经接口导出：平台地址。 Over HTTP: the platform's address.")] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="审计方令牌文件，失效时重读。 A file with an auditor's token, read again when it ends."),
    ] = None,
    parquet: Annotated[
        bool, typer.Option("--parquet/--no-parquet", help="附带 Parquet 数据表。 Parquet tables beside the log.")
    ] = True,
    as_json: Json = False,
) -> None:
    """导出审计包。 Take the auditor's bundle away, or bring one up to date.

    以最新检查点为准，导出日志、证据、规则、清单、公钥与合计；读取本数据目录运行的平台，或 TANPUHUI_DATABASE_URL
    （审计角色）与 TANPUHUI_LOG_DIR 所指，或以 --url 经接口读取。中断后重复执行即可继续；已有的不再导出。

    Up to the newest checkpoint: log, evidence, rules, manifests, keys, totals. From the platform that runs from the
    data directory, from TANPUHUI_DATABASE_URL (the role tanpuhui_auditor) with TANPUHUI_LOG_DIR, or over HTTP with
    --url. The same command again goes on where it was interrupted, and fetches only what is new.
    """
    terminal, settings = Terminal(as_json), read_settings()
    if token_file is not None and url is None:
        fail("--token-file 须与 --url 同用。", "--token-file is for --url: name the platform's address.")
    try:
        done = asyncio.run(_export(settings, terminal, directory, url, token_file, parquet=parquet))
    except ExportStopped as stop:
        fail(stop.zh, stop.en)
    _summarize(terminal, directory, done)
    terminal.finish({"directory": str(directory), **asdict(done)})


async def _export(
    settings: Settings, terminal: Terminal, directory: Path, url: str | None, token_file: Path | None, *, parquet: bool
) -> Exported:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=terminal.console, transient=True) as bars:
        known: dict[str, TaskID] = {}

        def move(phase: str, done: int, total: int) -> None:
            if phase not in known:
                known[phase] = bars.add_task(_PHASES[phase], total=total)
            bars.update(known[phase], completed=done)

        async with _source(settings, url, token_file) as source:
            return await export_bundle(source, directory, datetime.now(UTC), parquet=parquet, on_progress=move)


@asynccontextmanager
async def _source(settings: Settings, url: str | None, token_file: Path | None) -> AsyncIterator[Source]:
    """Where to read from. Ends the command when nothing is known."""
    if url is not None:

        def token() -> str:
            if token_file is None:
                return development_issuer(settings).issue("auditor", "auditor@this-machine", ttl=timedelta(hours=24))
            return _token_in(token_file)

        async with RemoteLog(url, token) as remote:
            yield remote
        return
    database = settings.database_url or getattr(find_platform(settings.data_dir), "auditor_url", None)
    if database is None:
        fail(
            "没有正在运行的平台：请用 --url 与 --token-file 经接口导出，或设置 TANPUHUI_DATABASE_URL（审计角色）与 "
            "TANPUHUI_LOG_DIR。",
            "no platform runs from here: export over HTTP with --url and --token-file, or set TANPUHUI_DATABASE_URL "
            "(the role tanpuhui_auditor) and TANPUHUI_LOG_DIR.",
        )
    pool = await open_pool(database, name="tanpuhui audit", size=1)
    try:
        async with pool.acquire() as connection:
            await require_schema(connection, expected_version())
            vault = Vault(settings.vault_key_file)
            await require_vault(connection, vault)
        yield Stored(pool, vault, settings.log_dir, settings.programme, settings.witness_policy)
    finally:
        await pool.close()


def _token_in(file: Path) -> str:
    """The token that a file holds now."""
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ExportStopped(
            f"{file}：应为审计方的访问令牌，但无法读取（{error}）。",
            f"{file}: expected the auditor's access token; it cannot be read ({error}).",
        ) from error
    if not token or not token.isascii() or any(letter.isspace() for letter in token):
        raise ExportStopped(
            f"{file}：应只含一个访问令牌。", f"{file}: expected one access token and nothing else. Mend the file."
        )
    return token


def _summarize(terminal: Terminal, directory: Path, done: Exported) -> None:
    name = escape(str(directory))
    terminal.say(
        f"[green]审计包已完成[/green]：{name}，日志 {escape(done.origin)} 的前 {done.size:,} 条，"
        f"{done.files:,} 个文件，{done.bytes / 1e6:,.1f} MB",
        f"the bundle is there: the first {done.size:,} entries of the log",
    )
    if done.before:
        terminal.say(
            f"续自 {done.before:,} 条：保留 {done.kept:,} 个文件，新写 {done.written:,} 个",
            f"continued from {done.before:,} entries: {done.kept:,} files kept, {done.written:,} written",
        )
    for digest in done.unknown_rules:
        terminal.say(
            f"[yellow]平台没有条目所引用的规则文档 {digest}[/yellow]",
            "entries name this rule document, and the platform does not know it",
        )
    terminal.say(
        f"下一步：python -m ledger verify {name}", "next: verify it, with nothing but Python and `cryptography`"
    )
