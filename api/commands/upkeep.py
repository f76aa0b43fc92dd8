"""`tanpuhui migrate`, `keyring` and `settings`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from api.commands.environment import fail
from api.demonstration import Terminal
from service.keyring import create_keyring
from service.migrations import migrate
from service.settings import PREFIX, describe_settings


def migrate_command() -> None:
    """升级数据库结构。 Bring a database to this version's schema.

    连接 TANPUHUI_DATABASE_URL（属主角色）。 The database of TANPUHUI_DATABASE_URL, as the owner role.
    """
    url = os.environ.get(PREFIX + "DATABASE_URL")  # alone: a migration needs no keyring and no issuer
    if not url:
        fail(
            "请设置 TANPUHUI_DATABASE_URL（属主角色）。",
            "set TANPUHUI_DATABASE_URL to the database, as the owner role.",
        )
    migrate(url)
    Terminal(as_json=False).say("数据库结构已是最新", "the database is at this version's schema")


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


def settings_command() -> None:
    """列出全部设置。 List every setting.

    环境变量、缺省值与含义。 Environment variable, default and meaning.
    """
    for row in describe_settings():
        sys.stdout.write(f"{row.variable}  [{row.default}]\n    {row.zh}\n    {row.en}\n")
