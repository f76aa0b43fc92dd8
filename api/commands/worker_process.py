"""`tanpuhui worker`: the log's worker."""

from typing import Annotated

import typer

from api.commands.environment import read_settings
from api.processes.working import run_log_worker


def worker(
    leash: Annotated[int | None, typer.Option(help="关闭时退出。 Stop when this closes.", hidden=True)] = None,
) -> None:
    """只运行日志进程。 Run the log's worker.

    为账本记录排定日志序号，汇总系统账户。

    With TANPUHUI_DATABASE_URL for the sequencer role: places leaves in the log, folds the system
    totals.
    """
    run_log_worker(read_settings(), leash=leash)
