"""`tanpuhui receipt`: fetch the proof that a credit is in the signed log, and verify one, offline."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import httpx
import typer
from rich.markup import escape

from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.demonstration import Terminal
from api.supervisor import find_platform
from ledger.errors import LedgerError, NoteInvalid, PolicyInvalid
from ledger.notes import VerifierKey, parse_verifier
from ledger.policy import Policy, read_policy
from ledger.receipts import BalanceReceipt, Receipt, verify_any
from service.clock import SHANGHAI
from service.log.files import VERIFIER_KEY

app = typer.Typer(
    help="回执：证明一笔入账已在签名日志中。 Receipts: proof that a credit is in the signed log.", no_args_is_help=True
)

_KINDS = {
    "credit": ("入账", "a credit"),
    "reversal": ("冲正", "a reversal"),
    "lapse": ("积分过期", "points that lapsed"),
    "maturity": ("待定转正", "a credit that matured"),
}
_ACCOUNTS = {"available": "可用", "pending": "待确认", "held": "冻结", "debt": "待偿还"}
WAIT_S = 10


@app.command("get")
def get(
    participant: Annotated[str, typer.Argument(help="参与者编号 (UUID)。 The participant's id.")],
    transfer: Annotated[str, typer.Argument(help="划转编号 (UUID)。 The transfer's id.")],
    out: Annotated[Path | None, typer.Option(help="存为此文件。 Where to put it.")] = None,
    url: Annotated[str | None, typer.Option(help="平台地址。 The platform; by default the one running here.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="本人令牌文件。 A file with the person's token.")] = None,
) -> None:
    """下载一笔划转的回执。 Fetch the receipt of a transfer.

    存为 .tlog-proof 文件，可离线验证。 A .tlog-proof file, to be verified offline at any time.
    """
    path = f"transfers/{transfer}/receipt"
    _fetch(participant, path, out or Path(f"{transfer}.tlog-proof"), url, token_file)


@app.command("balance")
def balance(
    participant: Annotated[str, typer.Argument(help="参与者编号 (UUID)。 The participant's id.")],
    day: Annotated[
        str | None, typer.Option(help="某日 (YYYY-MM-DD)，缺省为最近封存之日。 A day; by default the latest sealed.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="存为此文件。 Where to put it.")] = None,
    url: Annotated[str | None, typer.Option(help="平台地址。 The platform; by default the one running here.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="本人令牌文件。 A file with the person's token.")] = None,
) -> None:
    """下载某日终余额的回执。 Fetch the receipt of a balance.

    证明该日结束时的余额在日终封存之中，而封存在签名日志之中；无需重放账本。

    Proves that the balance at the end of a day is among those sealed, and the seal in the signed log, without a replay.
    """
    name = f"{participant}{f'-{day}' if day else ''}.tlog-proof"
    query = f"?{urlencode({'day': day})}" if day else ""
    _fetch(participant, f"receipt{query}", out or Path(name), url, token_file)


def _fetch(participant: str, path: str, out: Path, url: str | None, token_file: Path | None) -> None:
    settings = read_settings()
    address = url or getattr(find_platform(settings.data_dir), "url", None)
    if address is None:
        fail("没有正在运行的平台，请用 --url 指明地址。", "no platform runs from here: name its address with --url.")
    if token_file:
        token = token_file.read_text("utf-8").strip()
    else:
        token = development_issuer(settings).issue("participant", participant, ttl=timedelta(minutes=5))
    headers = {"Authorization": f"Bearer {token}", "Prefer": f"wait={WAIT_S}", "Accept-Language": "zh"}
    try:
        answer = httpx.get(
            f"{address}/v1/participants/{quote(participant)}/{path}", headers=headers, timeout=WAIT_S + 20
        )
    except httpx.HTTPError as error:
        fail(f"无法访问 {address}：{error}", f"{address} cannot be asked: {error}")
    if not answer.is_success:
        fail(f"平台答复 {answer.status_code}：{answer.text[:500]}", f"the platform answered {answer.status_code}")
    out.write_text(answer.text, "utf-8")
    Terminal(as_json=False).say(
        f"已存为 {escape(str(out))}；验证：tanpuhui receipt verify {escape(str(out))}", "stored; verify it like this"
    )


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="回执文件 (.tlog-proof)。 The receipt.")],
    vkey: Annotated[
        str | None,
        typer.Option(
            help="日志公钥，或存有公钥的文件；缺省为策略所列或本机平台的公钥。 The log's verifier key, or a file of it."
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="见证策略文件：所列见证方须达法定数。 A witness policy, whose quorum must have cosigned."),
    ] = None,
    as_json: Json = False,
) -> None:
    """离线验证回执。 Verify a receipt, offline.

    划转回执与余额回执皆可。以您信任的日志公钥核对签名，再由条目逐层算到已签名的根；不需要平台。

    Holds the checkpoint's signature against a key that you trust, then computes the path from the entry to the signed
    root. It needs no platform. With --policy, enough witnesses must have cosigned the checkpoint as well.
    """
    terminal = Terminal(as_json)
    witnesses = _policy(policy)
    logs = [log.key for log in witnesses.logs] if witnesses else []
    keys = logs if logs and vkey is None else _keys(vkey)
    try:
        if witnesses is None:
            receipt = verify_any(file.read_text("utf-8"), keys)
        else:
            receipt = verify_any(file.read_text("utf-8"), [*keys, *witnesses.keys], witnesses.check)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"无法读取 {file}：{error}", f"{file} cannot be read: {error}")
    except LedgerError as error:
        if as_json:
            terminal.finish({"verified": False, "because": str(error)})
            raise typer.Exit(1) from None
        fail(f"回执无效：{error}", f"this receipt proves nothing: {error}")
    terminal.say("[green]回执有效[/green]", "this receipt is good")
    if witnesses is not None:
        quorum = witnesses.quorum or "none"
        terminal.say(f"  符合见证策略：{escape(quorum)}", "the witness policy is met")
    if isinstance(receipt, BalanceReceipt):
        _explain_balance(receipt, terminal)
        terminal.finish(_document(receipt.seal) | {"balance": json.loads(receipt.record)})
    else:
        _explain(receipt, terminal)
        terminal.finish(_document(receipt))


def _policy(path: Path | None) -> Policy | None:
    try:
        return None if path is None else read_policy(path)
    except PolicyInvalid as error:
        fail("见证策略文件无法使用。", str(error))


def _keys(given: str | None) -> list[VerifierKey]:
    """The keys one line each; those of a file, or of the platform whose log is on this machine."""
    if given is not None and "+" in given:
        texts = [given]
    else:
        path = Path(given) if given else read_settings().log_dir / VERIFIER_KEY
        try:
            texts = path.read_text("utf-8").split()
        except OSError:
            fail(
                f"没有日志公钥：{path} 不存在。请以 --vkey 给出您从可信渠道得到的公钥。",
                f"no verifier key: there is no {path}. Give the one you got from a source you trust with --vkey.",
            )
    try:
        return [parse_verifier(text) for text in texts]
    except NoteInvalid as error:
        fail(f"公钥无效：{error}", f"this is no verifier key: {error}")


def _explain(receipt: Receipt, terminal: Terminal) -> None:
    fields = receipt.fields
    zh, en = _KINDS.get(fields["kind"], (fields["kind"], fields["kind"]))
    terminal.say(
        f"第 {receipt.index:,} 条，{zh}，{fields.get('day', '')} 的行为，{_local(fields['at'])} 入账",
        f"entry {receipt.index:,}: {en} of {fields.get('day', fields['at'])}, posted {fields['at']}",
    )
    for line in fields.get("lines", ()):
        unit = "mg CO2e" if line["asset"] == "co2e_mg" else "积分 points"
        terminal.console.print(f"  {int(line['amount']):,} {unit}  {line['from']} → {line['to']}", markup=False)
    for name, zh_name, en_name in (
        ("source", "数据方", "data provider"),
        ("methodology", "方法学摘要", "digest of the methodology"),
        ("points_rule", "积分规则摘要", "digest of the points rule"),
        ("participant", "参与者代号", "pseudonym of the participant"),
    ):
        if fields.get(name):
            terminal.say(f"  {zh_name}：{escape(str(fields[name]))}", en_name)
    _explain_proof(receipt, terminal)
    terminal.say(
        "未证明：行为确实发生（由数据方负责），以及此后未被冲正（请查询明细）。",
        "not proved: that it took place (the provider answers for that), nor that it was not reversed later",
    )


def _explain_balance(receipt: BalanceReceipt, terminal: Terminal) -> None:
    balance, seal = receipt.balance, receipt.seal.fields
    terminal.say(
        f"参与者代号 {balance.participant}，{seal['day']} 日终余额，截至日志第 {int(seal['size']):,} 条、"
        f"本人第 {balance.counter:,} 笔划转",
        f"the balance at the end of {seal['day']}, after {balance.counter:,} transfers of this pseudonym",
    )
    for asset, unit in (("co2e_mg", "mg CO2e"), ("points", "积分 points")):
        for account, zh in _ACCOUNTS.items():
            amount = balance.balances[asset, account]
            if amount or account == "available":
                terminal.say(f"  {zh} {amount:,} {unit}", account)
    for day, points in balance.buckets.items():
        terminal.say(f"  其中 {points:,} 积分可用至 {day}", f"{points:,} of the points can be used until {day}")
    terminal.say(
        f"已证明：它是该日封存的 {int(seal['participants']):,} 份余额之一，封存的根哈希为 {seal['root'][:16]}…，"
        f"封存记录是日志第 {receipt.seal.index:,} 条。",
        "proved: it is one of the balances sealed that day, and the seal is this entry of the log",
    )
    _explain_proof(receipt.seal, terminal)
    terminal.say(
        "未证明：封存之后的变动，以及余额由哪些划转构成（请查询明细，或由审计方重放）。",
        "not proved: what changed since, nor which transfers it is made of (the statement lists them)",
    )


def _explain_proof(receipt: Receipt, terminal: Terminal) -> None:
    checkpoint = receipt.checkpoint
    terminal.say(
        f"已证明：该条目在日志 {escape(checkpoint.origin)} 的前 {checkpoint.size:,} 条之中，该日志以其密钥签署了根哈希 "
        f"{checkpoint.root.hex()[:16]}…；此后不能抹去或改动而不被发现。",
        "proved: the entry is among these of the log, whose root is signed; it cannot be changed or dropped unseen",
    )
    for name, seen in receipt.seen_at.items():
        moment = datetime.fromtimestamp(seen, UTC).isoformat()
        terminal.say(f"  见证方 {escape(name)} 于 {moment} 签署", "a witness cosigned it")


def _document(receipt: Receipt) -> dict[str, Any]:
    return {
        "verified": True,
        "index": receipt.index,
        "origin": receipt.checkpoint.origin,
        "size": receipt.checkpoint.size,
        "root": receipt.checkpoint.root.hex(),
        "witnesses": receipt.seen_at,
        "entry": receipt.fields,
    }


def _local(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M:%S")
