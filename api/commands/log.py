"""`tanpuhui log`: how the transparency log stands, its keys, and a further epoch after an incident."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal
from api.processes.publishing import open_log
from api.supervisor import find_platform
from ledger.errors import PolicyInvalid
from ledger.policy import read_policy
from service.clock import system_clock
from service.database import Connection, open_pool
from service.embedded import start_embedded
from service.log.epochs import EpochNotOpened, Opened, open_further
from service.log.guard import Guard, GuardHeld, GuardUnusable
from service.log.keys import SigningKeyUnusable, create_signing_key, load_signing_keys, rotate_signing_key
from service.log.refusals import GUARD_AHEAD, GUARD_BEHIND, GUARD_MISSING, GUARD_UNUSABLE, REFUSALS
from service.log.status import GuardReport, LogReport, read_guard, read_vkeys, report_guard, report_log
from service.settings import Settings

app = typer.Typer(help="透明日志。 The transparency log.", no_args_is_help=True)
key_app = typer.Typer(help="日志签名密钥。 The log's signing keys.", no_args_is_help=True)
epoch_app = typer.Typer(help="日志纪元。 The epochs of the log.", no_args_is_help=True)
app.add_typer(key_app, name="key")
app.add_typer(epoch_app, name="epoch")

_CODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_GUARD_WAIT_S = 5.0
_OF_GUARD = {
    "ahead": GUARD_AHEAD,
    "behind": GUARD_BEHIND,
    "missing": GUARD_MISSING,
    "unreadable": GUARD_UNUSABLE,
}


@app.command("status")
def status(as_json: Json = False) -> None:
    """查看日志状态。 How the log stands.

    大小、待签条目、最近检查点及其时间、纪元、防分叉记录是否一致、见证方。
    暂停签署与入账时说明原因与处理办法，并以状态 1 结束。

    Size, what waits, the last checkpoint and its age, the epoch, whether the guard agrees, witnesses; and while nothing
    is signed and posted, why and what to do, with exit status 1.
    """
    settings, terminal = read_settings(), Terminal(as_json)
    try:
        log, guard, now = asyncio.run(_read(settings))
    except PolicyInvalid as error:
        fail("见证策略文件无法使用。", str(error))
    _show(log, guard, now, terminal)
    code = log.refused or _OF_GUARD.get(guard.state)
    if code:
        why = REFUSALS.get(code)
        terminal.say(f"[red]暂停签署与入账：{code}[/red]", "nothing is signed or posted")
        if why:
            terminal.say(f"  {escape(why.zh)}", escape(why.en))
            terminal.say(f"  处理办法：{escape(why.remedy_zh)}", escape(why.remedy_en))
    terminal.finish(_document(log, guard, now, code))
    raise typer.Exit(1 if code else 0)


async def _read(settings: Settings) -> tuple[LogReport, GuardReport, datetime]:
    guard = Guard(settings.guard_file)
    policy = read_policy(settings.witness_policy) if settings.witness_policy else None
    async with _database(settings, "auditor") as connection:
        before = read_guard(guard)
        log = await report_log(connection, settings.log_origin, settings.log_dir, policy)
    return log, report_guard(guard, before, log), system_clock(settings.clock_offset)()


@asynccontextmanager
async def _database(settings: Settings, role: Literal["auditor", "sequencer"]) -> AsyncIterator[Connection]:
    """The database of the settings, else the one of the platform that runs from here, else the embedded one, started
    for as long as it is needed."""
    url = settings.database_url
    servers = None
    if url is None and (known := find_platform(settings.data_dir)):
        url = known.auditor_url if role == "auditor" else known.sequencer_url
    if url is None:
        servers = await asyncio.to_thread(start_embedded, settings.data_dir)
        url = servers.urls.auditor if role == "auditor" else servers.urls.sequencer
    try:
        async with await open_pool(url, name="tanpuhui log", size=1) as pool, pool.acquire() as connection:
            yield connection
    finally:
        if servers:
            await asyncio.to_thread(servers.stop)


def _show(log: LogReport, guard: GuardReport, now: datetime, terminal: Terminal) -> None:
    counts = log.counts
    terminal.say(f"日志 {escape(log.origin)}，第 {log.epoch} 纪元", "name and epoch of the log")
    terminal.say(f"  {counts.size:,} 条，待排 {counts.queued:,} 条", "entries, and leaves that wait for their place")
    if log.signed_at is None:
        terminal.say("  尚未签署检查点", "no checkpoint of this epoch was signed yet")
    else:
        terminal.say(
            f"  最近检查点：{log.signed:,} 条，{_age_s(log.signed_at, now):,} 秒前；未涵盖 {log.unsigned:,} 条",
            "last checkpoint, its age, and entries that wait for one",
        )
    for number, vkey in enumerate(log.vkeys):
        terminal.say(f"  {'公钥' if number == 0 else '旧公钥'}：{escape(vkey)}", "verifier key")
    witnesses = "、".join(map(escape, log.cosigners)) or "无"
    terminal.say(f"  联合签名的见证方：{witnesses}", "witnesses that cosigned the checkpoint shown")
    if log.policy is not None:
        met = "[green]已满足[/green]" if log.policy.met else "[red]未满足[/red]"
        lacking = "、".join(map(escape, log.policy.missing)) or "无"
        terminal.say(f"  见证策略{met}；未签署的见证方：{lacking}", "the witness policy, and who has not cosigned")
    words = {"agrees": "一致", "ahead": "超前", "behind": "落后", "missing": "不存在", "unreadable": "无法读取"}
    terminal.say(f"  防分叉记录 {escape(str(guard.path))}：{words[guard.state]}", f"the guard: {guard.state}")


def _age_s(signed_at: datetime, now: datetime) -> int:
    return max(0, int((now - signed_at).total_seconds()))


def _document(log: LogReport, guard: GuardReport, now: datetime, code: str | None) -> dict[str, Any]:
    why = REFUSALS.get(code or "")
    return {
        "origin": log.origin,
        "epoch": log.epoch,
        "vkeys": list(log.vkeys),
        "size": log.counts.size,
        "queued": log.counts.queued,
        "unsigned": log.unsigned,
        "checkpoint": None
        if log.signed_at is None
        else {"size": log.signed, "signed_at": log.signed_at.isoformat(), "age_s": _age_s(log.signed_at, now)},
        "witnesses": list(log.cosigners),
        "witness_policy": None if log.policy is None else asdict(log.policy),
        "guard": {"path": str(guard.path), "state": guard.state, "epoch": guard.epoch, "size": guard.size},
        "refused": code,
        "what_to_do": None if why is None else {"zh": why.remedy_zh, "en": why.remedy_en},
    }


@epoch_app.command("new")
def new_epoch(
    reason: Annotated[str, typer.Option(help="缘由代码，如 restored-backup。 A code, such as restored-backup.")],
    as_json: Json = False,
) -> None:
    """事故后开启新纪元。 Open a further epoch after an incident.

    旧日志保持其已签署的内容，不再增长；新日志另有名称，保留仍与已签署内容一致的条目，并在日志中写明缘由与保留数。不可撤销。
    以发布进程的用户、数据库角色与设置执行。

    The former log stays as it was signed and grows no more. The new one has a name of its own, begins with the entries
    that are still as they were signed, and says in the log why, and how many. It cannot be undone. Run it as the
    publisher's user, with its settings and its database role.
    """
    settings, terminal = read_settings(), Terminal(as_json)
    if not _CODE.fullmatch(reason):
        fail(
            f"缘由是一个代码（小写字母、数字、连字符），得到 {reason!r}。",
            f"a reason is a code of lower-case letters, digits and hyphens, not {reason!r}.",
        )
    try:
        opened = asyncio.run(_open(settings, reason))
    except (EpochNotOpened, GuardHeld, GuardUnusable, SigningKeyUnusable) as error:
        fail("未能开启新纪元，原因见下。", str(error))
    lost = opened.signed - opened.kept
    terminal.say(
        f"第 {opened.number} 纪元已开启：{escape(opened.origin)}；已签署的 {opened.signed:,} 条中"
        f"保留 {opened.kept:,} 条，失去 {lost:,} 条",
        "the epoch has begun: entries that were signed, kept and lost",
    )
    terminal.say("入账与签署随即恢复；请将新的名称与公钥告知见证方与审计方", "tell witnesses and auditors the new name")
    document = {"epoch": opened.number, "origin": opened.origin, "signed": opened.signed, "kept": opened.kept}
    terminal.finish(document | {"lost": lost, "reason": reason})


async def _open(settings: Settings, reason: str) -> Opened:
    log, clock = open_log(settings), system_clock(settings.clock_offset)
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _GUARD_WAIT_S
    async with _database(settings, "sequencer") as connection:
        while True:
            try:
                return await open_further(connection, log, settings.programme, reason, clock())
            except GuardHeld:  # the publisher is in the middle of a step
                if loop.time() > give_up:
                    raise
                await asyncio.sleep(0.1)


@key_app.command("new")
def new_key() -> None:
    """新建日志签名密钥。 Make the log's signing key.

    写入 TANPUHUI_LOG_KEY_FILE（权限 0600，绝不覆盖已有文件），输出公钥。以发布进程的用户执行。

    Into TANPUHUI_LOG_KEY_FILE, mode 0600; an existing file is never replaced. Prints the verifier key. Run it as the
    publisher's user.
    """
    settings = read_settings()
    existed = settings.log_key_file.exists()
    try:
        keys = create_signing_key(settings.log_key_file, settings.log_origin)
    except SigningKeyUnusable as error:
        fail("密钥文件无法使用。", str(error))
    Terminal(as_json=False).say(
        f"{'已存在，未改动' if existed else '已创建'}：{escape(str(settings.log_key_file))}",
        "was there, left as it is" if existed else "created; keep a copy apart from the machine",
    )
    typer.echo(str(keys.current.verifier))


@key_app.command("show")
def show_key(as_json: Json = False) -> None:
    """显示日志公钥。 Show the log's verifier keys.

    每行一个，现用的在前；可交给审计方、见证方与参与者核对。 One a line, the current one first.
    """
    settings = read_settings()
    vkeys = read_vkeys(settings.log_dir)
    if not vkeys:
        try:
            vkeys = (str(load_signing_keys(settings.log_key_file, settings.log_origin).current.verifier),)
        except SigningKeyUnusable as error:
            fail("还没有公钥：发布进程尚未启动过。", f"no key yet, the publisher has not run: {error}")
    if as_json:
        Terminal(as_json=True).finish({"vkeys": list(vkeys)})
    else:
        typer.echo("\n".join(vkeys))


@key_app.command("rotate")
def rotate_key(
    hours: Annotated[
        int,
        typer.Option(
            min=0, max=24 * 366, help="新旧密钥并签的小时数；密钥泄露时为 0。 How long both sign; 0 after a leak."
        ),
    ] = 24 * 7,
) -> None:
    """更换日志签名密钥。 Rotate the log's signing key.

    新密钥随即签署，旧密钥在所给时间内一并签署，此后停用；公告与停用都写入日志。发布进程自行读取改动，无需重启。
    密钥泄露时请随后执行 tanpuhui log epoch new --reason key-compromised。

    The new key signs from now on, the old one beside it for so long and then no more; both are announced in the log.
    The publisher sees the change by itself. After a leak also run `tanpuhui log epoch new --reason key-compromised`.
    """
    settings = read_settings()
    until = datetime.now(UTC) + settings.clock_offset + timedelta(hours=hours)
    try:
        keys = rotate_signing_key(settings.log_key_file, settings.log_origin, until)
    except SigningKeyUnusable as error:
        fail("密钥文件无法使用。", str(error))
    terminal = Terminal(as_json=False)
    terminal.say(f"旧密钥签署至 {until:%Y-%m-%d %H:%M:%S} UTC", "the old key signs until then")
    typer.echo(str(keys.current.verifier))
