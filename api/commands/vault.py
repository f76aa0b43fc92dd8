"""`tanpuhui vault`: the keys that identities and evidence are sealed under."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer

from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal
from api.supervisor import find_platform
from service.database import require_schema
from service.migrations import expected_version
from service.settings import Settings
from service.vault import Vault, create_master_file
from service.vault.refreshing import require_vault
from service.vault.rotation import Rotated, prepare, read_status, rotate

app = typer.Typer(help="密钥库：身份与凭据的加密密钥。 The keys of the vault.", no_args_is_help=True)


@app.command("init")
def init(
    path: Annotated[Path, typer.Argument(help="新密钥文件的位置。 Where to put the new file.")],
) -> None:
    """新建密钥加密密钥文件。 Create the file of key-encryption keys.

    权限 0600，绝不覆盖已有文件；须与数据库及其备份分开存放。

    Mode 0600; an existing file is never replaced. Keep it apart from the database and its backups.
    """
    existed = path.exists()
    create_master_file(path)
    Terminal(as_json=False).say(
        f"{'已存在，未改动' if existed else '已创建'}：{path}",
        f"{'was there, left as it is' if existed else 'created'}: {path}",
    )


@app.command("status")
def status(as_json: Json = False) -> None:
    """各版本密钥的状态与用量。 Every key-encryption key: in use, retired, destroyed."""
    terminal, settings = Terminal(as_json), read_settings()
    rows = asyncio.run(_status(settings))
    for row in rows:
        zh, en = _standing(row)
        terminal.say(
            f"密钥 {row['kek_version']}：{zh}，封装 {row['data_keys']} 个数据密钥",
            f"key {row['kek_version']}: {en}, wraps {row['data_keys']} data keys",
        )
    terminal.finish({"keys": [{name: _shown(value) for name, value in row.items()} for row in rows]})


@app.command("rotate")
def rotate_command(
    only_prepare: Annotated[
        bool,
        typer.Option(
            "--prepare",
            help="只在文件中加入新密钥，分发到各台机器后再运行一次。 Only put a new key into the file; copy it to "
            "every machine, then run it again without this.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """更换密钥加密密钥并销毁旧密钥。 Wrap every data key under a new key and destroy the old one.

    可随时中断、重跑，平台无需停机；更早的数据库备份自此无法解读身份与凭据，请随即重新备份。

    May be stopped and run again; the platform keeps running. Older backups of the database no longer open: take a new
    one right after.
    """
    terminal, settings = Terminal(as_json), read_settings()
    if only_prepare:
        version = prepare(Vault(settings.vault_key_file))
        terminal.say(
            f"新密钥 {version} 已加入 {settings.vault_key_file}，尚未启用",
            f"key {version} is in {settings.vault_key_file} and not used yet",
        )
        terminal.finish({"prepared": version})
        return
    done = asyncio.run(_rotate(settings))
    terminal.say(
        f"密钥 {done.version} 已启用，重新封装 {done.wrapped} 个数据密钥，销毁 {_list(done.destroyed)}",
        f"key {done.version} is in use, wrapped {done.wrapped} data keys again, destroyed {_list(done.destroyed)}",
    )
    terminal.say("请立即备份数据库与新密钥文件", "now back up the database and, apart from it, the new file")
    terminal.finish({"version": done.version, "wrapped": done.wrapped, "destroyed": list(done.destroyed)})


async def _status(settings: Settings) -> list[dict[str, Any]]:
    url = settings.database_url or getattr(find_platform(settings.data_dir), "auditor_url", None)
    connection = await _connect(url)
    try:
        return [dict(row) for row in await read_status(connection, Vault(settings.vault_key_file))]
    finally:
        await connection.close()


async def _rotate(settings: Settings) -> Rotated:
    url = settings.database_url or getattr(find_platform(settings.data_dir), "app_url", None)
    vault = Vault(settings.vault_key_file)
    connection = await _connect(url)
    try:
        await require_vault(connection, vault)
        return await rotate(connection, vault)
    finally:
        await connection.close()


async def _connect(url: str | None) -> "asyncpg.Connection[asyncpg.Record]":
    if url is None:
        fail(
            "没有正在运行的平台：请设置 TANPUHUI_DATABASE_URL（应用角色）。",
            "no platform runs from here: set TANPUHUI_DATABASE_URL (the role tanpuhui_app).",
        )
    connection = await asyncpg.connect(url, timeout=10)
    await require_schema(connection, expected_version())
    return connection


def _standing(row: dict[str, Any]) -> tuple[str, str]:
    if row["destroyed_at"]:
        return "已销毁", "destroyed"
    if not row["in_file"]:
        return "文件中缺失", "missing in the file"
    return ("已停用", "retired") if row["retired_at"] else ("使用中", "in use")


def _list(versions: tuple[int, ...]) -> str:
    return ", ".join(map(str, versions)) or "—"


def _shown(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
