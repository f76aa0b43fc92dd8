"""`tanpuhui publisher`: the log's publisher."""

from typing import Annotated

import typer

from api.commands.environment import read_settings
from api.processes.publishing import run_log_publisher


def publisher(
    leash: Annotated[int | None, typer.Option(help="关闭时退出。 Stop when this closes.", hidden=True)] = None,
) -> None:
    """只运行发布进程。 Run the log's publisher.

    签署并发布日志检查点；只有它需要签名私钥。

    With TANPUHUI_DATABASE_URL for the sequencer role: makes the log's tiles and signs its checkpoints. It alone has
    the signing key.
    """
    run_log_publisher(read_settings(), leash=leash)
