"""`tanpuhui demo` and `tanpuhui serve`: the whole platform on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from api.commands.environment import Json, read_settings
from api.commands.import_summary import summarize_import
from api.commands.importing import Import, import_files
from api.commands.running import running
from api.demonstration import Terminal, show_next_steps
from api.redemption_demonstration import demonstrate_redemption
from service.feeds import SHIPPED_RIDES, count_rows, load_feed


def demo(
    exit_after: Annotated[
        bool, typer.Option("--exit", help="导入后退出。 Stop after the import instead of serving.")
    ] = False,
    as_json: Json = False,
    file: Annotated[Path | None, typer.Option(help="换用此文件。 Post this file instead of the shipped rides.")] = None,
    feed: Annotated[str, typer.Option(help="该文件的接入模板。 The feed of that file.")] = "valleybike",
) -> None:
    """启动平台并导入真实骑行。 Start everything and post real rides.

    以演示数据方身份经公开接口报送随附的真实骑行，说明结果；若干骑行者以积分兑换权益，由模拟银行结算并对账；然后持续服务。
    重复执行不会重复入账，也不会重复兑换。

    Starts everything, registers a demonstration provider, enrols its riders with demonstration consents, posts real
    rides through the public HTTP API, prints what became of them, lets some riders redeem and a simulated bank settle
    and reconcile, and serves until Ctrl-C. Running it again credits nothing twice and redeems nothing twice.
    """
    terminal, settings = Terminal(as_json), read_settings()
    wanted = Import((file or SHIPPED_RIDES,), load_feed(feed))
    total = count_rows(wanted.feed, wanted.files)  # a file that cannot be used is said before anything is started
    with running(settings, terminal) as platform:
        done = import_files(platform.url, lambda: platform.issuer, terminal, wanted, total=total)
        summarize_import(terminal, done.report, done.summary.passed_over, by_day=False)
        redeemed = demonstrate_redemption(platform, terminal, wanted.feed, *wanted.files)
        result = done.report.as_json() | redeemed
        if not exit_after:
            show_next_steps(platform, terminal, wanted.feed, *wanted.files)
            terminal.finish(result)
            platform.wait()
    terminal.finish(result)


def serve() -> None:
    """在本机启动整个平台。 Run the platform on this machine.

    使用内置数据库，仅供开发；按 Ctrl-C 停止。 With the embedded servers, for development, until Ctrl-C.
    """
    terminal = Terminal(as_json=False)
    with running(read_settings(), terminal) as platform:
        terminal.say(f"平台已就绪：{platform.url}/docs", f"the platform is ready: {platform.url}/docs")
        platform.wait()
