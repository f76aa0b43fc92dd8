"""The command `tanpuhui`: every verb with a help text a newcomer understands."""

import asyncio
import os
import sys
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_args
from uuid import UUID

import asyncpg
import typer
from sqlalchemy.exc import SQLAlchemyError
from typer.core import TyperGroup

from api.auth import Role
from api.commands import (
    audit,
    coverage,
    importing,
    log,
    manifest,
    methodology,
    quantify,
    receipt,
    retract,
    settle,
    witness,
)
from api.commands.environment import Json
from api.commands.environment import development_issuer as _issuer
from api.commands.environment import fail as _fail
from api.commands.environment import read_settings as _settings
from api.commands.feed import feed_app
from api.commands.import_summary import summarize_import
from api.commands.importing import Import, import_files
from api.commands.running import running
from api.demonstration import Terminal, show_next_steps
from api.processes import run_api, run_log_publisher, run_log_worker
from api.provider import ImportStopped
from api.supervisor import CannotStart, find_platform
from ledger.check import Checked, Finding, check_ledger
from service.activities.check import check_activities
from service.activities.rules import RuleChanged, RulesInvalid
from service.approvals import ApproversInvalid
from service.database import FAULTS, SchemaOutdated, require_schema
from service.embedded import EmbeddedServersError, start_embedded
from service.feeds import SHIPPED_RIDES, FeedError, count_rows, load_feed
from service.keyring import KeyringError, create_keyring, load_keyring
from service.keyring_check import keyring_faults, read_check_values
from service.log.keys import SigningKeyUnusable
from service.migrations import RolesMissing, expected_version, migrate
from service.settings import PREFIX, describe_settings

_UNUSABLE: tuple[type[Exception], ...] = (*FAULTS, SQLAlchemyError)


class _Explaining(TyperGroup):
    """Whatever a command ends with that is not a bug is said in a sentence, with status 1; Ctrl-C is status 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except (ImportStopped, FeedError) as stop:
            _fail(stop.text.zh, stop.text.en)
        except (
            CannotStart,
            EmbeddedServersError,
            KeyringError,
            SchemaOutdated,
            RuleChanged,
            RulesInvalid,
            ApproversInvalid,
            RolesMissing,
            SigningKeyUnusable,
        ) as error:
            _fail("无法继续，原因见下。", str(error))
        except _UNUSABLE as error:
            _fail("无法使用数据库或文件，原因见下。", f"a database or a file cannot be used: {error}")


app = typer.Typer(
    name="tanpuhui",
    cls=_Explaining,
    help="碳普惠积分平台：让每一克减排、每一分积分都可核验。\n\n"
    "A carbon-inclusion points platform whose every gram and point can be checked.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ledger_app = typer.Typer(help="账本核对。 Check the ledger.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
app.add_typer(feed_app, name="feed")
app.add_typer(coverage.coverage_app, name="coverage")
app.add_typer(coverage.elsewhere_app, name="elsewhere")
app.add_typer(methodology.app, name="methodology")
app.add_typer(manifest.app, name="manifest")
app.add_typer(receipt.app, name="receipt")
app.add_typer(witness.app, name="witness")
app.add_typer(audit.app, name="audit")
app.add_typer(log.app, name="log")
app.command("import")(importing.import_command)
app.command("quantify")(quantify.quantify)
app.command("retract")(retract.retract)
app.command("settle")(settle.settle)


@app.command()
def demo(
    exit_after: Annotated[
        bool, typer.Option("--exit", help="导入后退出。 Stop after the import instead of serving.")
    ] = False,
    as_json: Json = False,
    file: Annotated[Path | None, typer.Option(help="换用此文件。 Post this file instead of the shipped rides.")] = None,
    feed: Annotated[str, typer.Option(help="该文件的接入模板。 The feed of that file.")] = "valleybike",
) -> None:
    """启动平台并导入真实骑行。 Start everything and post real rides.

    以演示数据方身份经公开接口报送随附的真实骑行，说明结果，然后持续服务；重复执行不会重复入账。

    Starts everything, registers a demonstration provider, enrols its riders with demonstration consents, posts real
    rides through the public HTTP API, prints what became of them, and serves until Ctrl-C. Running it again credits
    nothing twice.
    """
    terminal, settings = Terminal(as_json), _settings()
    wanted = Import((file or SHIPPED_RIDES,), load_feed(feed))
    total = count_rows(wanted.feed, wanted.files)  # a file that cannot be used is said before anything is started
    with running(settings, terminal) as platform:
        done = import_files(platform.url, lambda: platform.issuer, terminal, wanted, total=total)
        summarize_import(terminal, done.report, done.summary.passed_over, by_day=False)
        if not exit_after:
            show_next_steps(platform, terminal, wanted.feed, *wanted.files)
            terminal.finish(done.report.as_json())
            platform.wait()
    terminal.finish(done.report.as_json())


@app.command()
def serve() -> None:
    """在本机启动整个平台。 Run the platform on this machine.

    使用内置数据库，仅供开发；按 Ctrl-C 停止。 With the embedded servers, for development, until Ctrl-C.
    """
    terminal = Terminal(as_json=False)
    with running(_settings(), terminal) as platform:
        terminal.say(f"平台已就绪：{platform.url}/docs", f"the platform is ready: {platform.url}/docs")
        platform.wait()


@app.command()
def token(
    role: Annotated[str, typer.Argument(help="provider | participant | operator | auditor")],
    subject: Annotated[
        str | None, typer.Argument(help="participant：参与者编号。 For a participant: the participant id.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="provider：登记的数据方标识。 For a provider: its registered URI.")
    ] = None,
    feed: Annotated[
        str | None, typer.Option(help="provider：取该模板的数据方。 For a provider: the source of this feed.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="有效分钟数。 Minutes it is valid.")] = 60,
) -> None:
    """签发开发用令牌。 Issue a token for development.

    放入 Authorization: Bearer 请求头；生产模式不接受。

    A token to be sent as `Authorization: Bearer …`; production mode accepts none of these.
    """
    settings = _settings()
    if role not in get_args(Role):
        _fail(
            f"角色应为 {', '.join(get_args(Role))}，得到 {role!r}。",
            f"a role is one of {', '.join(get_args(Role))}, not {role!r}.",
        )
    if role == "provider":
        source = source or (load_feed(feed).source.uri if feed else None)
        if source is None:
            _fail("provider 令牌需要 --source 或 --feed。", "a provider's token needs --source URI or --feed NAME.")
    elif role == "participant" and not _is_uuid(subject):
        _fail("participant 令牌需要参与者编号 (UUID)。", "a participant's token needs the participant id, a UUID.")
    chosen: Role = next(known for known in get_args(Role) if known == role)
    subject = subject or source or f"{role}@this-machine"
    sys.stdout.write(_issuer(settings).issue(chosen, subject, source=source, ttl=timedelta(minutes=minutes)) + "\n")


@app.command("migrate")
def migrate_command() -> None:
    """升级数据库结构。 Bring a database to this version's schema.

    连接 TANPUHUI_DATABASE_URL（属主角色）。 The database of TANPUHUI_DATABASE_URL, as the owner role.
    """
    url = os.environ.get(PREFIX + "DATABASE_URL")  # alone: a migration needs no keyring and no issuer
    if not url:
        _fail(
            "请设置 TANPUHUI_DATABASE_URL（属主角色）。",
            "set TANPUHUI_DATABASE_URL to the database, as the owner role.",
        )
    migrate(url)
    Terminal(as_json=False).say("数据库结构已是最新", "the database is at this version's schema")


@app.command()
def api(
    fd: Annotated[int | None, typer.Option(help="已监听的套接字。 A listening socket to use.", hidden=True)] = None,
    leash: Annotated[int | None, typer.Option(help="关闭时退出。 Stop when this closes.", hidden=True)] = None,
) -> None:
    """只运行接口进程。 Run one API process.

    自备 PostgreSQL 与 Redis 时使用。 With a PostgreSQL and Redis of your own.
    """
    run_api(_settings(), fd=fd, leash=leash)


@app.command()
def worker(
    leash: Annotated[int | None, typer.Option(help="关闭时退出。 Stop when this closes.", hidden=True)] = None,
) -> None:
    """只运行日志进程。 Run the log's worker.

    为账本记录排定日志序号，汇总系统账户。

    With TANPUHUI_DATABASE_URL for the sequencer role: places leaves in the log, folds the system
    totals.
    """
    run_log_worker(_settings(), leash=leash)


@app.command()
def publisher(
    leash: Annotated[int | None, typer.Option(help="关闭时退出。 Stop when this closes.", hidden=True)] = None,
) -> None:
    """只运行发布进程。 Run the log's publisher.

    签署并发布日志检查点；只有它需要签名私钥。

    With TANPUHUI_DATABASE_URL for the sequencer role: makes the log's tiles and signs its checkpoints. It alone has
    the signing key.
    """
    run_log_publisher(_settings(), leash=leash)


@app.command("keyring")
def keyring_command(
    path: Annotated[Path, typer.Argument(help="新密钥文件的位置。 Where to put the new keyring.")],
) -> None:
    """新建密钥文件。 Create the platform's keyring.

    权限 0600，绝不覆盖已有文件。 Mode 0600; an existing file is never replaced.
    """
    existed = path.exists()
    create_keyring(path)
    Terminal(as_json=False).say(
        f"{'已存在，未改动' if existed else '已创建'}：{path}",
        f"{'was there, left as it is' if existed else 'created'}: {path}",
    )


@app.command("settings")
def settings_command() -> None:
    """列出全部设置。 List every setting.

    环境变量、缺省值与含义。 Environment variable, default and meaning.
    """
    for row in describe_settings():
        sys.stdout.write(f"{row.variable}  [{row.default}]\n    {row.zh}\n    {row.en}\n")


@ledger_app.command("check")
def ledger_check(as_json: Json = False) -> None:
    """由流水重算并逐项比对。 Recompute and compare.

    全部余额、积分批次、序号、日志与系统汇总；有差异时以状态 1 结束。

    Every balance, bucket, counter, leaf and total from the journal and compare; exit status 1 if anything
    differs.
    """
    terminal, settings = Terminal(as_json), _settings()
    url = settings.database_url
    if url is None and (known := find_platform(settings.data_dir)):
        url = known.auditor_url
    if url is not None:
        named = settings.database_url is None or "keyring_file" in settings.model_fields_set
        checked = asyncio.run(_check(url, settings.keyring_file if named else None))
    else:
        with start_embedded(settings.data_dir) as servers:
            checked = asyncio.run(_check(servers.urls.auditor, settings.keyring_file))
    _report(checked, terminal)
    raise typer.Exit(1 if checked.findings else 0)


async def _check(url: str, keyring_file: Path | None) -> Checked:
    """Everything that differs; without a keyring its own check is left out: whoever checks from elsewhere has none."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await require_schema(connection, expected_version())
        checked = await check_ledger(connection)
        findings = [*checked.findings, *await check_activities(connection)]
        known = await read_check_values(connection)
        if keyring_file and known:
            faults = keyring_faults(load_keyring(keyring_file), known)
            findings += [Finding("keyring", fault, str(keyring_file), "the platform's keyring") for fault in faults]
        return replace(checked, findings=tuple(findings))
    finally:
        await connection.close()


def _report(checked: Checked, terminal: Terminal) -> None:
    counts = checked.counts
    terminal.say(
        "账户 {accounts}，划转 {transfers}，分录 {lines}，日志 {log_size}（待排 {queued}）".format_map(counts),
        "{accounts} accounts, {transfers} transfers, {lines} lines, a log of {log_size} ({queued} waiting)".format_map(
            counts
        ),
    )
    for finding in checked.findings:
        terminal.say(
            f"差异 [{finding.check}] {finding.about}：现存 {finding.stored}，账本 {finding.journal}",
            f"difference [{finding.check}] {finding.about}: stored {finding.stored}, journal {finding.journal}",
        )
    if not checked.findings:
        terminal.say("全部一致，未发现差异", "everything agrees: no difference found")
    terminal.finish({**counts, "findings": [asdict(finding) for finding in checked.findings]})


def _is_uuid(text: str | None) -> bool:
    try:
        UUID(text or "")
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    app()
