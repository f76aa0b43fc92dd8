"""`tanpuhui privacy retain`: remove what has been kept long enough."""

import asyncio
from typing import Annotated

import typer

from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal
from api.supervisor import find_platform
from service.clock import Fresh, system_clock
from service.database import open_pool, require_schema
from service.migrations import expected_version
from service.retention import Removed, RetentionInvalid, read_classes, retain
from service.settings import Settings


def retain_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="只统计，不删除。 Count what would be removed, and remove nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """删除已满保存期限的数据。 Remove what has been kept as long as its class is kept.

    各类期限见 docs/privacy.md；接口进程每日自动执行一次，仅记录类别与条数。

    The periods are in docs/privacy.md. The API processes do this once a day; only classes and counts are written down.
    """
    terminal, settings = Terminal(as_json), read_settings()
    done = asyncio.run(_retain(settings, dry_run))
    if not done:
        terminal.say("另有一次清理正在进行，本次未执行", "another run is under way: nothing was done")
    for one in done:
        terminal.say(
            f"{one.data_class}：{'可删除' if dry_run else '已删除'} {one.rows} 条，早于 {one.older_than.date()}",
            f"{one.data_class}: {one.rows} rows from before {one.older_than.date()} "
            f"{'would be removed' if dry_run else 'removed'}",
        )
    terminal.finish({"dry_run": dry_run, "removed": {one.data_class: one.rows for one in done}})


async def _retain(settings: Settings, dry_run: bool) -> list[Removed]:
    url = settings.database_url or getattr(find_platform(settings.data_dir), "app_url", None)
    if url is None:
        fail(
            "没有正在运行的平台：请设置 TANPUHUI_DATABASE_URL（应用角色）。",
            "no platform runs from here: set TANPUHUI_DATABASE_URL (the role tanpuhui_app).",
        )
    try:
        classes = read_classes(settings.retention_file)
    except RetentionInvalid as error:
        fail("保存期限文件有误，原因见下。", str(error))
    async with await open_pool(url, name="tanpuhui retention", size=2) as pool:
        async with pool.acquire() as connection:
            await require_schema(connection, expected_version())
        return await retain(pool, classes, Fresh(system_clock(settings.clock_offset)), dry_run=dry_run)
