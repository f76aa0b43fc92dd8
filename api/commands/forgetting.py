"""`tanpuhui privacy export` and `privacy erase`: what an operator does when a person asks them to."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal
from api.supervisor import find_platform
from service.clock import Fresh, system_clock
from service.database import Pool, open_pool, require_schema
from service.keyring import load_keyring
from service.migrations import expected_version
from service.participants import ParticipantNotFound, require_enrolled
from service.rights.erasure import Erasure, NotAPerson, ask_erasure, finish, read_erasure, read_unaccepted, remove_all
from service.rights.export import export_person
from service.settings import Settings
from service.vault import Vault

Participant = Annotated[UUID, typer.Argument(help="参与者的假名。 The participant's pseudonym.")]


def export_command(
    participant: Participant,
    out: Annotated[Path, typer.Option(help="写入的新文件。 The file to write; one that is there is not replaced.")],
    as_json: Json = False,
) -> None:
    """导出一人的全部信息。 Everything that is kept of somebody, as one JSON document.

    内容与 GET /v1/me/export 相同；读取身份会被记录。文件只有本用户可读，交付后请删除。

    The same as GET /v1/me/export; that the identity was read is written down. The file is its owner's alone: delete it
    once it was handed over.
    """
    terminal, settings = Terminal(as_json), read_settings()
    try:
        size = asyncio.run(_export(settings, participant, out))
    except ParticipantNotFound:
        fail("没有此参与者。", f"nobody is enrolled under {participant}.")
    except FileExistsError:
        fail(f"{out} 已存在，未改动。", f"{out} is there already and was left as it is.")
    terminal.say(f"已写入 {out}，{size} 字节", f"written to {out}, {size} bytes")
    terminal.finish({"participant": str(participant), "file": str(out), "bytes": size})


def erase_command(
    participant: Participant,
    yes: Annotated[bool, typer.Option("--yes", help="确认：不可撤销。 It cannot be taken back.")] = False,
    as_json: Json = False,
) -> None:
    """应本人请求注销账户并删除其信息。 Forget somebody who asked for it.

    立即终止一切关联；银行已受理的冻结积分仍可由银行扣减或解冻，其后全部删除。可重复执行以查看进度。

    Every link ends at once. Points that a bank has accepted may still be captured or voided; then everything goes. Run
    it again to see how far it has come.
    """
    terminal, settings = Terminal(as_json), read_settings()
    if not yes:
        fail(
            "此操作不可撤销：确认本人请求后加 --yes。",
            "this cannot be taken back: add --yes once you are sure the person asked.",
        )
    try:
        done = asyncio.run(_erase(settings, participant))
    except ParticipantNotFound:
        fail("没有此参与者。", f"nobody is enrolled under {participant}.")
    except NotAPerson:
        fail("单位账户不适用。", f"{participant} is an organisation, which has no right to be forgotten.")
    words = {
        "asked": ("已登记，由运行中的平台继续", "asked for; the running platform goes on with it"),
        "waiting": ("银行仍持有冻结积分，其后自动完成", "a bank still holds points; it goes on by itself then"),
        "erasing": ("正在删除", "being removed"),
        "done": ("已全部删除", "everything is removed"),
    }
    terminal.say(*words[done.state])
    told = {"participant": str(participant), "state": done.state, "asked_at": done.asked_at.isoformat()}
    terminal.finish(told | {"ended_at": done.ended_at and done.ended_at.isoformat()})


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Pool]:
    url = settings.database_url or getattr(find_platform(settings.data_dir), "app_url", None)
    if url is None:
        fail(
            "没有正在运行的平台：请设置 TANPUHUI_DATABASE_URL（应用角色）。",
            "no platform runs from here: set TANPUHUI_DATABASE_URL (the role tanpuhui_app).",
        )
    async with await open_pool(url, name="tanpuhui privacy", size=2) as pool:
        async with pool.acquire() as connection:
            await require_schema(connection, expected_version())
        yield pool


async def _export(settings: Settings, participant: UUID, out: Path) -> int:
    async with _opened(settings) as pool:
        async with pool.acquire() as connection:
            await require_enrolled(connection, participant)
        made_at = system_clock(settings.clock_offset)()
        size = 0
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            async for piece in export_person(pool, Vault(settings.vault_key_file), participant, made_at):
                size += file.write(piece)
        return size


async def _erase(settings: Settings, participant: UUID) -> Erasure:
    fresh = Fresh(system_clock(settings.clock_offset))
    async with _opened(settings) as pool, pool.acquire() as connection:
        async with connection.transaction():
            await ask_erasure(connection, Vault(settings.vault_key_file), participant, "operator", fresh)
        if not await read_unaccepted(connection, participant):  # else the platform gives those back first
            async with connection.transaction():
                await remove_all(connection, participant)
            async with connection.transaction():
                await finish(connection, participant, load_keyring(settings.keyring_file))
        return await read_erasure(connection, participant)
