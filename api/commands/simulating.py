"""`tanpuhui bank simulate`: play a partner bank against a platform, and compare its book with the platform's.
`tanpuhui bank certify`: what a bank's own program has shown in the sandbox, and what it has not."""

import asyncio
import fcntl
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.markup import escape

from api.bank_simulator import MOODS, Bank, NoAnswer, play_bank
from api.bank_simulator.book import Book, open_book
from api.bank_simulator.certifying import Check
from api.bank_simulator.certifying import certify as look
from api.bank_simulator.running import Outcome
from api.commands.asking import GivenToken, PlatformUrl, bearer, platform_address
from api.commands.bank import read_signing_key
from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.demonstration import Terminal
from api.redemption_demonstration import (
    BANK,
    RehearsalFailed,
    open_market,
    present,
    rehearsal,
    sandbox_people,
)
from api.signatures import SigningKey
from service.clock import system_clock
from service.settings import Settings

TIMEOUT_S = 60
SHOWN_FINDINGS = 50

_MOOD_HELP = f"银行的表现。 How the bank behaves: {', '.join(MOODS)}."
_ENTITLEMENTS_HELP = (
    "客户出示的凭证，每行一个；缺省则在开发模式下由新建的测试用户兑换。 "
    "What customers present, one a line; else, in development, new test people redeem."
)


def simulate(
    mood: Annotated[str, typer.Option(help=_MOOD_HELP)] = "honest",
    redemptions: Annotated[
        int, typer.Option(min=1, max=10_000, help="新测试用户的兑换笔数。 Redemptions of new test people.")
    ] = 12,
    seed: Annotated[int, typer.Option(help="随机种子。 Seed of whatever is left to chance.")] = 1,
    bank: Annotated[str, typer.Option(help="登记的银行标识。 The bank's registered URI.")] = BANK,
    key: Annotated[Path | None, typer.Option(help="私钥文件 (PEM)。 The bank's private key, PEM.")] = None,
    kid: Annotated[str | None, typer.Option(help="密钥编号。 The key's id.")] = None,
    book: Annotated[Path | None, typer.Option(help="银行账簿文件。 The bank's own book.")] = None,
    entitlements: Annotated[Path | None, typer.Option(help=_ENTITLEMENTS_HELP)] = None,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """模拟一家合作银行。 Play a partner bank.

    只经公开接口：接受凭证，全部或部分扣减，解冻，报告兑现，退回；随后以自己的账簿核对平台的记录。账已结束的日子提交对账文件并关账，
    当日以日志中的条目初步核对。账目一致时以状态 0 结束。

    Over the public API alone it accepts entitlements, captures wholly or in part, voids, reports benefits, refunds;
    then it compares its own book with the platform's: days that are over by their statements, which it closes, and the
    running day, preliminarily, by the entries of the log. Status 0 only if they agree.
    """
    terminal, settings = Terminal(as_json), read_settings()
    if mood not in MOODS:
        fail(f"--mood 应为 {'、'.join(MOODS)} 之一。", f"--mood is one of {', '.join(MOODS)}, not {mood!r}.")
    address = platform_address(url, settings)
    shown = None if entitlements is None else _lines(entitlements)
    stage = rehearsal(address, settings.data_dir, development_issuer(settings)) if shown is None else None
    if stage is not None:
        if bank != BANK or key is not None:
            fail(
                "自有银行须以 --entitlements 给出客户凭证。",
                f"a bank of your own needs --entitlements FILE: new test people redeem with {BANK} alone.",
            )
        try:
            with stage.client:
                signing = open_market(stage)
                terminal.say(f"{redemptions} 位测试用户兑换", f"{redemptions} test people redeem")
                present(stage, sandbox_people(stage, redemptions), redemptions)
        except RehearsalFailed as error:
            fail("无法备妥测试用户。", str(error))
        shown = _lines(stage.entitlements_file)
    elif key is None or kid is None:
        fail("请以 --key 与 --kid 给出签名密钥。", "give the key that signs, with --key FILE and --kid ID.")
    else:
        signing = read_signing_key(key, kid)
    headers = bearer("bank", token, settings, bank)

    async def work(opened: Book) -> Outcome:
        async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT_S) as client:
            teller = _teller(bank, client, headers, signing, settings)
            return await play_bank(teller, opened, MOODS[mood], shown or (), random.Random(seed))

    try:
        with _opened(book or settings.data_dir / "demo-bank" / "book.jsonl") as opened:
            outcome = asyncio.run(work(opened))
    except NoAnswer as error:
        fail("平台没有给出可用的答复。", f"the platform gave no answer that can be used: {error}")
    _say(outcome, terminal)
    terminal.finish(outcome.as_json())
    if not outcome.agrees:
        raise typer.Exit(1)


def certify(
    bank: Annotated[str, typer.Argument(metavar="URI", help="登记的银行标识。 The bank's registered URI.")],
    key: Annotated[Path, typer.Argument(metavar="FILE", help="私钥文件 (PEM)。 The bank's private key, PEM.")],
    kid: Annotated[str, typer.Option(help="密钥编号。 The key's id.")],
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """检查银行接入还缺什么。 Say what a bank's integration still lacks.

    只读取银行在沙箱中做过的事：登记、签名、接受、扣减、解冻、退回、兑现、关账；逐项列出，并说明如何补做。
    全部做到时以状态 0 结束。

    It reads what the bank has done in the sandbox: registration, signature, accepting, capturing, voiding, refunding,
    reporting, closing a day; and says of what was not seen what to do. Status 0 only if everything was.
    """
    terminal, settings = Terminal(as_json), read_settings()
    signing = read_signing_key(key, kid)
    address, headers = platform_address(url, settings), bearer("bank", token, settings, bank)

    async def work() -> Sequence[Check]:
        async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT_S) as client:
            return await look(_teller(bank, client, headers, signing, settings))

    try:
        checks = asyncio.run(work())
    except NoAnswer as error:
        fail("平台没有给出可用的答复。", f"the platform gave no answer that can be used: {error}")
    for check in checks:
        mark = "[green]✓[/green]" if check.passed else "[red]✗[/red]"
        zh, en = (check.zh, check.en) if check.passed else (f"{check.zh}：{check.mend_zh}", check.mend_en)
        terminal.say(f"{mark} {escape(zh)}", escape(en))
    missing = [check.code for check in checks if not check.passed]
    terminal.finish({"certified": not missing, "missing": missing})
    if missing:
        raise typer.Exit(1)


def _teller(
    uri: str, client: httpx.AsyncClient, headers: dict[str, str], signing: SigningKey, settings: Settings
) -> Bank:
    """The bank's line, under the platform's clock."""
    token = headers["Authorization"].removeprefix("Bearer ")
    clock = system_clock(settings.clock_offset)
    return Bank(uri, client, token, signing.key_id, signing.private, clock)


def _lines(path: Path) -> Sequence[str]:
    try:
        return path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"无法读取 {path}。", f"{path} cannot be read: {error}")


@contextmanager
def _opened(path: Path) -> Iterator[Book]:
    """The book, for this process alone; ends the command when it cannot be used."""
    try:
        book, lock = open_book(path), path.open("rb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, ValueError, KeyError, TypeError) as error:
        fail(f"账簿 {path} 无法使用。", f"the book {path} cannot be used: {error}")
    with lock:
        yield book


def _say(outcome: Outcome, terminal: Terminal) -> None:
    counts, compared = outcome.redemptions, outcome.reconciled
    mood = MOODS[outcome.mood]
    terminal.say(f"银行（{mood.zh}）作了 {outcome.calls} 次调用", f"the {mood.name} bank made {outcome.calls} calls")
    terminal.say(
        "兑换：冻结中 {held}，已扣减 {captured}，已解冻 {voided}，已失效 {lapsed}".format_map(counts),
        "redemptions: {held} held, {captured} captured, {voided} voided, {lapsed} lapsed".format_map(counts),
    )
    for day in compared.agreed:
        closed_zh, closed_en = ("，已关账", ", and it is closed") if day in compared.closed else ("", "")
        terminal.say(f"{day}：银行文件与对账单一致{closed_zh}", f"the bank's file agrees with the statement{closed_en}")
    for day, entries in compared.preliminary.items() if outcome.agrees else ():
        terminal.say(
            f"{day}：尚无对账单；银行账簿的 {entries} 笔与日志条目逐笔一致（初步核对，次日出具对账单后正式关账）",
            f"no statement yet: the bank's {entries} entries are those of the log; preliminary until the statement "
            "comes after midnight in Shanghai",
        )
    for finding in outcome.findings[:SHOWN_FINDINGS]:
        about = f" {finding.redemption_id}" if finding.redemption_id else ""
        terminal.say(
            escape(f"差异 [{finding.code}]{about}：{finding.zh}"), escape(f"difference {finding.code}: {finding.en}")
        )
    if not outcome.findings and not outcome.agrees:
        terminal.say("没有可核对的内容", "there was nothing to compare")
