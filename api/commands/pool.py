"""`tanpuhui pool`: how the reward pools stand, and what is owed in points."""

from typing import Any

import httpx
import typer
from rich.table import Table

from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.commands.statement import TokenFile, Url
from api.demonstration import Terminal
from api.supervisor import find_platform

app = typer.Typer(help="权益资金池与负债。 Reward pools, and what is owed.", no_args_is_help=True)

TIMEOUT_S = 300.0  # every open bucket is read
SHOWN_DAYS = 12  # of expiry; a year of month ends


@app.command("status")
def status_command(url: Url = None, token_file: TokenFile = None, as_json: Json = False) -> None:
    """资金池余额、消耗与预计用尽日，未使用积分的到期分布。 Balances, burn, forecast, and points by expiry."""
    terminal, settings = Terminal(as_json), read_settings()
    known = url or getattr(find_platform(settings.data_dir), "url", None)
    if known is None:
        fail("没有正在运行的平台：请给出 --url。", "no platform runs from this data directory: give --url.")
    if token_file is None:
        token = development_issuer(settings).issue("operator", "operator@this-machine")
    else:
        token = token_file.read_text("utf-8").strip()
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": "en"}
    try:
        answer = httpx.get(f"{known.rstrip('/')}/v1/liability", headers=headers, timeout=TIMEOUT_S)
    except httpx.HTTPError as error:
        fail(f"无法访问 {known}。", f"{known} cannot be asked: {type(error).__name__} {error}")
    if not answer.is_success:
        fail(f"平台答复 {answer.status_code}。", f"the platform answered {answer.status_code}: {answer.text}")
    found: dict[str, Any] = answer.json()
    _show(terminal, found)
    terminal.finish(found)


def _show(terminal: Terminal, found: dict[str, Any]) -> None:
    pools = Table(title="权益资金池 pools", title_justify="left", box=None)
    for title in ("代码 pool", "状态 state", "余额 left", "冻结 held", "已付 paid", "消耗 burnt", "用尽 empty on"):
        pools.add_column(title)
    for status in found["pools"]:
        pool = status["pool"]
        burnt = f"{_amount(status['burnt'])} / {status['burn_days']} d"
        row = (_amount(pool["left"]), _amount(status["held"]), _amount(status["paid"]), burnt)
        pools.add_row(pool["pool"], pool["state"], *row, status["empty_on"] or "-")
    terminal.console.print(pools)
    owed = Table(title="未使用积分 points outstanding", title_justify="left", box=None)
    owed.add_column("到期 expires on")
    owed.add_column("积分 points", justify="right")
    for bucket in found["by_expiry"][:SHOWN_DAYS]:
        owed.add_row(bucket["expires_on"], f"{bucket['points']:,}")
    for zh, en in (("可用", "available"), ("待确认", "pending"), ("冻结", "held"), ("待偿还", "debt")):
        owed.add_row(f"{zh} {en}", f"{found[en]:,}")
    terminal.console.print(owed)


def _amount(amount: dict[str, int]) -> str:
    """Points, and yuan with two places: the fen are whole, so this is a comma moved and no rounding."""
    yuan, fen = divmod(abs(amount["fen"]), 100)
    sign = "-" if amount["fen"] < 0 else ""
    return f"{amount['points']:,} / {sign}¥{yuan:,}.{fen:02d}"
