"""`tanpuhui token`: tokens for development."""

import sys
from datetime import timedelta
from typing import Annotated, get_args
from uuid import UUID

import typer

from api.auth import Role
from api.commands.environment import fail, read_settings
from api.commands.issuing import development_issuer
from service.feeds import load_feed


def token(
    role: Annotated[str, typer.Argument(help=" | ".join(get_args(Role)))],
    subject: Annotated[
        str | None, typer.Argument(help="participant：参与者编号。 For a participant: the participant id.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="provider：登记的数据方标识。 For a provider: its registered URI.")
    ] = None,
    feed: Annotated[
        str | None, typer.Option(help="provider：取该模板的数据方。 For a provider: the source of this feed.")
    ] = None,
    bank: Annotated[str | None, typer.Option(help="bank：登记的银行标识。 For a bank: its registered URI.")] = None,
    funder: Annotated[str | None, typer.Option(help="funder：出资方标识。 For a funder: its URI.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="有效分钟数。 Minutes it is valid.")] = 60,
) -> None:
    """签发开发用令牌。 Issue a token for development.

    放入 Authorization: Bearer 请求头；生产模式不接受。

    A token to be sent as `Authorization: Bearer …`; production mode accepts none of these.
    """
    settings = read_settings()
    if role not in get_args(Role):
        fail(
            f"角色应为 {', '.join(get_args(Role))}，得到 {role!r}。",
            f"a role is one of {', '.join(get_args(Role))}, not {role!r}.",
        )
    if role == "provider":
        source = source or (load_feed(feed).source.uri if feed else None)
        if source is None:
            fail("provider 令牌需要 --source 或 --feed。", "a provider's token needs --source URI or --feed NAME.")
    elif role == "participant" and not _is_uuid(subject):
        fail("participant 令牌需要参与者编号 (UUID)。", "a participant's token needs the participant id, a UUID.")
    elif role == "bank" and bank is None:
        fail("bank 令牌需要 --bank。", "a bank's token needs --bank URI.")
    elif role == "funder" and funder is None:
        fail("funder 令牌需要 --funder。", "a funder's token needs --funder URI.")
    chosen: Role = next(known for known in get_args(Role) if known == role)
    subject, life = subject or source or bank or funder or f"{role}@this-machine", timedelta(minutes=minutes)
    issued = development_issuer(settings).issue(chosen, subject, source=source, bank=bank, funder=funder, ttl=life)
    sys.stdout.write(issued + "\n")


def _is_uuid(text: str | None) -> bool:
    try:
        UUID(text or "")
    except ValueError:
        return False
    return True
