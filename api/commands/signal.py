"""`tanpuhui signal`: look for signals now, the queue of reviews, one review."""

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from api.commands.asking import GivenToken, PlatformUrl, ask, bearer, platform_address, require_done
from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal
from api.supervisor import find_platform
from service.clock import Fresh, system_clock
from service.database import open_pool, require_schema
from service.migrations import expected_version
from service.settings import Settings
from service.signals.looking import look_through

app = typer.Typer(help="异常信号与复核。 Signals of abuse, and reviews.", no_args_is_help=True)

ReviewId = Annotated[str, typer.Argument(help="复核编号。 The id of the review.")]
OpenOnly = Annotated[bool, typer.Option("--open", help="仅列未结束者。 Those that have not ended.")]


@app.command("run")
def run_command(as_json: Json = False) -> None:
    """立即检查日志中尚未检查的入账。 Look at what nobody has looked at yet.

    工作进程本就持续检查；此命令不停顿地查到最新为止，需 sequencer 角色的数据库地址。

    The worker looks all the time and rests in between; this goes on until nothing is left. It needs the database's
    URL as the sequencer role.
    """
    terminal, settings = Terminal(as_json), read_settings()
    url = settings.database_url or getattr(find_platform(settings.data_dir), "sequencer_url", None)
    if url is None:
        fail("未设置数据库地址。", "no database: set TANPUHUI_DATABASE_URL to it, as the sequencer role.")
    leaves = asyncio.run(_look(url, settings))
    terminal.say(f"已检查 {leaves} 条日志", f"{leaves} leaves of the log were looked at")
    terminal.finish({"leaves": leaves})


async def _look(url: str, settings: Settings) -> int:
    async with await open_pool(url, name="tanpuhui signal", size=2) as pool:
        async with pool.acquire() as connection:
            await require_schema(connection, expected_version())
        return await look_through(pool, Fresh(system_clock(settings.clock_offset)))


@app.command("list")
def list_command(
    open_only: OpenOnly = False, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False
) -> None:
    """复核队列、最近的信号与数据方的异常日。 The queue of reviews, the latest signals, and sources' unusual days."""
    terminal, settings = Terminal(as_json), read_settings()
    address, headers = platform_address(url, settings), bearer("operator", token, settings)
    reviews: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        query = f"?open={str(open_only).lower()}" + (f"&after={after}" if after else "")
        page = require_done(ask("GET", f"{address}/v1/reviews{query}", headers))
        reviews += page["reviews"]
        after = page["next"]
    sources = require_done(ask("GET", f"{address}/v1/signals/sources", headers))["signals"]
    latest = require_done(ask("GET", f"{address}/v1/signals", headers))["signals"]
    queue = Table(title="复核 reviews", title_justify="left", box=None)
    for title in ("编号 review", "状态 state", "积分 points", "期限 due", "信号 signals"):
        queue.add_column(title)
    for one in reviews:
        rules = ", ".join(signal["rule"] for signal in one["signals"])
        queue.add_row(one["review_id"], one["state"], f"{one['points']:,}", one["due_at"][:10], rules)
    terminal.console.print(queue)
    days = Table(title="数据方 sources", title_justify="left", box=None)
    for title in ("日期 day", "数据方 source", "说明 what"):
        days.add_column(title)
    for one in sources:
        days.add_row(one["day"], one["source"], one["told"])
    terminal.console.print(days)
    found = Table(title="最近的信号 latest signals", title_justify="left", box=None)
    for title in ("规则 rule", "强度 strength", "说明 what"):
        found.add_column(title)
    for one in latest:
        found.add_row(one["rule"], one["strength"], one["told"])
    terminal.console.print(found)
    terminal.finish({"reviews": reviews, "signals": latest, "sources": sources})


@app.command("show")
def show_command(review_id: ReviewId, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """一项复核：信号、申辩与裁定。 One review: what was found, what was answered, what was decided."""
    terminal, settings = Terminal(as_json), read_settings()
    address, headers = platform_address(url, settings), bearer("operator", token, settings)
    found = require_done(ask("GET", f"{address}/v1/reviews/{review_id}", headers))
    english = f"{found['points']} points of {len(found['credits'])} credits, {found['state']}, due {found['due_at']}"
    terminal.say(f"{len(found['credits'])} 笔入账，{found['points']} 分，期限 {found['due_at']}", english)
    for signal in found["signals"]:
        terminal.console.print(f"  {signal['rule']} {signal['version']}: {signal['told']}")
    for step in found["steps"]:
        words = f": {step['words']}" if step["words"] else ""
        terminal.console.print(f"  {step['recorded_at']} {step['title']}{words}")
    terminal.finish(found)
