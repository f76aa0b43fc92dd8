"""`tanpuhui token-key`: the keys that sign the platform's own tokens are made, changed and taken out of use."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from api.commands.environment import fail, read_settings
from api.demonstration import Terminal
from service.clients.token_keys import (
    TokenKey,
    TokenKeysUnusable,
    create_token_keys,
    read_token_keys,
    retire_token_key,
    rotate_token_key,
)

app = typer.Typer(
    help="签发令牌的密钥：新建、轮换、停用。 The keys that sign tokens: make, rotate, retire.", no_args_is_help=True
)

_File = Annotated[
    Path | None, typer.Argument(help="密钥文件；缺省取自设置。 The keys' file; else the one of the settings.")
]


@app.command("new")
def new(path: _File = None) -> None:
    """新建密钥文件。 Make the file with one key.

    权限 0600，绝不覆盖已有文件。 Mode 0600; an existing file is never replaced.
    """
    path = path or read_settings().token_key_file
    zh, en = ("已创建", "created") if create_token_keys(path) else ("已存在，未改动", "was there, left as it is")
    Terminal(as_json=False).say(f"{zh}：{path}", f"{en}: {path}")


@app.command("list")
def list_keys(path: _File = None) -> None:
    """列出密钥。 List the keys.

    自何时起签发，最新者在前。 From when each signs, the newest first.
    """
    for key in _keys(path or read_settings().token_key_file).values():
        Terminal(as_json=False).say(f"{key.kid}  自 {key.signs_from.isoformat()} 起签发", "from then on it signs")


@app.command("rotate")
def rotate(
    path: _File = None,
    minutes: Annotated[
        int, typer.Option(min=0, max=1440, help="公布后多久开始签发。 Minutes from being published to signing.")
    ] = 10,
) -> None:
    """加入新密钥。 Add a key that signs soon.

    立即公布，过后才签发；旧密钥签发的令牌仍有效，一小时后可停用旧密钥。

    It is published at once and signs later, so nobody is refused. The key before it can be retired an hour after that.
    """
    path = path or read_settings().token_key_file
    try:
        added = rotate_token_key(path, datetime.now(UTC) + timedelta(minutes=minutes))
    except TokenKeysUnusable as error:
        fail("无法轮换。", str(error))
    Terminal(as_json=False).say(f"{added.kid}  自 {added.signs_from.isoformat()} 起签发", "from then on it signs")


@app.command("retire")
def retire(
    kid: Annotated[str, typer.Argument(help="密钥编号。 The key's id.")],
    path: _File = None,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="已泄露：其令牌立即失效。 It was stolen: its tokens end at once.")
    ] = False,
) -> None:
    """停用密钥。 Believe a key no longer.

    一秒内生效；仍有有效令牌时拒绝，除非已泄露。 Within a second; refused while tokens of its are valid, unless stolen.
    """
    path = path or read_settings().token_key_file
    try:
        retire_token_key(path, kid, datetime.now(UTC), compromised=compromised)
    except TokenKeysUnusable as error:
        fail("无法停用。", str(error))
    Terminal(as_json=False).say(f"已停用 {kid}", "retired")


def _keys(path: Path) -> dict[str, TokenKey]:
    try:
        return read_token_keys(path)
    except TokenKeysUnusable as error:
        fail("密钥文件无法使用。", str(error))
