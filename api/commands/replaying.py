"""`tanpuhui audit replay`: compute a bundle again, on any machine, without a platform."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from api.commands.environment import Json
from api.demonstration import Terminal
from ledger.bundle import BundleUnreadable
from service.audit.page import as_html
from service.audit.replay import Replay, replay
from service.audit.report import as_json, as_text

FOUND, UNREADABLE = 1, 2

_STEPS = {
    "verify": "验证 verifying",
    "entries": "重算 computing again",
    "histories": "参与者 participants",
    "things": "唯一性 things counted once",
}


def replay_command(
    directory: Annotated[Path, typer.Argument(help="审计包文件夹。 The bundle's folder.")],
    html: Annotated[
        Path | None, typer.Option(help="另存为一个可离线打开的网页。 Write one page, too, that opens offline.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="并行进程数。 How many processes share the work.")] = 1,
    as_json_: Json = False,
) -> None:
    """重放审计包：重算每一克与每一分。 Compute every gram and point of a bundle again.

    先作验证（同 python -m ledger verify），再按审计包内的规则文档由证据重算减排量、积分、上限、有效期与结算，
    核对日清单，给出合计与抽样。不需平台与数据库。未发现问题时退出码为 0，发现问题为 1，审计包无法读取为 2。

    First the verification (as python -m ledger verify), then reductions, points, caps, expiry and settlements out of
    the evidence, under the rules that the bundle carries; day manifests, totals and samples. No platform and no
    database is needed. The status is 0 only if nothing was found, 1 if something was, 2 where there is no bundle.
    """
    terminal = Terminal(as_json_)
    try:
        found = _replay(directory, processes, terminal)
        if html is not None:
            html.write_text(as_html(found), "utf-8")
    except (BundleUnreadable, OSError) as error:
        reason = escape(str(error))
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"[red]审计包无法读取：{reason}[/red]\nthe bundle cannot be read: {reason}"
        )
        raise typer.Exit(UNREADABLE) from None
    for line in [as_json(found)] if as_json_ else as_text(found):
        typer.echo(line)
    if html is not None:
        terminal.say(f"网页：{escape(str(html))}", "the page")
    if not found.clean:
        raise typer.Exit(FOUND)


def _replay(directory: Path, processes: int, terminal: Terminal) -> Replay:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=terminal.console, transient=True) as bars:
        known: dict[str, TaskID] = {}

        def move(step: str, done: int, total: int) -> None:
            if step not in known:
                known[step] = bars.add_task(_STEPS[step], total=total)
            bars.update(known[step], completed=done)

        return replay(directory, processes=processes, progress=move)
