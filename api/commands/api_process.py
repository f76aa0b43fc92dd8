"""`tanpuhui api`: one API process."""

from typing import Annotated

import typer

from api.commands.environment import read_settings
from api.processes.serving import run_api


def api(
    fd: Annotated[int | None, typer.Option(help="已监听的套接字。 A listening socket to use.", hidden=True)] = None,
    leash: Annotated[int | None, typer.Option(help="关闭时退出。 Stop when this closes.", hidden=True)] = None,
) -> None:
    """只运行接口进程。 Run one API process.

    自备 PostgreSQL 与 Redis 时使用。 With a PostgreSQL and Redis of your own.
    """
    run_api(read_settings(), fd=fd, leash=leash)
