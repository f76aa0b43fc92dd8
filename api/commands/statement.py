"""`tanpuhui statement`: a bank's days, for the bank and for the operator; two of its commands need no platform."""

import hashlib
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import jwt
import orjson
import typer
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.table import Table

from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.demonstration import Terminal
from api.oauth.bound import HOOKS
from api.provider.closing import read_private_key
from api.signatures import SigningKey, sign_call
from api.supervisor import find_platform
from service.settlement.bank_file import BankFileInvalid, Form, read_bank_file
from service.settlement.differences import REASONS, Difference, compare
from service.settlement.statement import DayStatement, digest_of, read_statement, statement_document

app = typer.Typer(
    help="对账单：银行逐日核对与关账。 Statements: a bank reconciles and closes its days.", no_args_is_help=True
)

TIMEOUT_S = 120.0  # a busy day takes the platform seconds to compare
Bank = Annotated[str, typer.Option(help="登记的银行标识。 The bank's registered URI.")]
Day = Annotated[str, typer.Argument(help="YYYY-MM-DD，Asia/Shanghai。 A day in Asia/Shanghai that is over.")]
Key = Annotated[
    Path | None,
    typer.Option(help="银行私钥 JWK 文件；不给则以运营方身份。 The bank's private JWK; without it as the operator."),
]
Url = Annotated[
    str | None,
    typer.Option(help="平台地址；缺省为本数据目录正在运行的平台。 The platform; by default the one running from here."),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="令牌文件；缺省签发开发令牌。 A file with the token; by default one for development."),
]


class _Asking:
    """Where to ask, as whom, and how a call is signed."""

    def __init__(
        self, bank: str, url: str | None, token_file: Path | None, key: Path | None, *, operator: bool
    ) -> None:
        settings = read_settings()
        known = url or getattr(find_platform(settings.data_dir), "url", None)
        if known is None:
            fail("没有正在运行的平台：请给出 --url。", "no platform runs from this data directory: give --url.")
        self.bank, self.operator, self._url = bank, operator, known.rstrip("/")
        self._key = None if key is None else _signing_key(key)
        if token_file is not None:
            self._token = token_file.read_text("utf-8").strip()
        elif operator:
            self._token = development_issuer(settings).issue("operator", "operator@this-machine")
        else:
            self._token = development_issuer(settings).issue("bank", bank, bank=bank)

    def ask(self, method: str, path: str, body: bytes = b"", *, signed: bool = False, **headers: str) -> httpx.Response:
        """The answer; ends the command on a problem, with what it says."""
        address = f"{self._url}{path}"
        sent = {"Authorization": f"Bearer {self._token}", "Accept-Language": "en"} | headers
        if signed:
            if self._key is None:
                fail("请给出银行私钥：--key。", "the bank signs this call: give its private key, --key.")
            nonce = os.urandom(16).hex()
            sent |= sign_call(self._key, method, address, body, created=datetime.now(UTC), nonce=nonce)
        try:
            with httpx.Client(timeout=TIMEOUT_S, event_hooks=HOOKS) as client:
                answer = client.request(method, address, content=body, headers=sent)
        except httpx.HTTPError as error:
            fail(f"无法访问 {self._url}。", f"{self._url} cannot be asked: {type(error).__name__} {error}")
        if not answer.is_success:
            self._refused(answer)
        return answer

    def _refused(self, answer: httpx.Response) -> None:
        try:
            document: dict[str, Any] = orjson.loads(answer.content)
        except ValueError:
            document = {}
        places = "".join(
            f"\n    line {each['line']}, {each['column']}: {each['detail']}"
            for each in document.get("errors", ())
            if "line" in each
        )
        said = f"{document.get('title', '')}: {document.get('detail', '')}{places}"
        fail(f"平台答复 {answer.status_code}，原因见下。", f"the platform answered {answer.status_code}. {said}")

    def of_bank(self, path: str) -> str:
        """The path of a bank's days: an operator names the bank."""
        return f"{path}?{httpx.QueryParams({'bank': self.bank})}" if self.operator else path


@app.command("list")
def list_command(
    bank: Bank,
    operator: Annotated[bool, typer.Option("--operator", help="以运营方身份。 As the operator.")] = False,
    url: Url = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """列出各营业日的状态。 List days and where each stands."""
    terminal, asking = Terminal(as_json), _Asking(bank, url, token_file, None, operator=operator)
    found: dict[str, Any] = asking.ask("GET", asking.of_bank("/v1/statements")).json()
    table = Table(title=bank, title_justify="left", box=None)
    for title in ("日期 day", "序号 sequence", "日志 size", "状态 state", "差异 differences"):
        table.add_column(title)
    for day in found["days"]:
        differences = "-" if day["differences"] is None else str(day["differences"])
        table.add_row(day["day"], str(day["sequence"]), str(day["size"]), day["state"], differences)
    terminal.console.print(table)
    terminal.finish(found)


@app.command("fetch")
def fetch_command(
    bank: Bank,
    day: Day,
    out: Annotated[Path, typer.Option(help="写入此文件。 The file to write.")],
    form: Annotated[Literal["json", "csv"], typer.Option("--format", help="json | csv")] = "json",
    operator: Annotated[bool, typer.Option("--operator", help="以运营方身份。 As the operator.")] = False,
    url: Url = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """下载某日的对账单。 Download a day's statement."""
    terminal, wanted = Terminal(as_json), _day(day)
    asking = _Asking(bank, url, token_file, None, operator=operator)
    kind = "text/csv" if form == "csv" else "application/json"
    answer = asking.ask("GET", asking.of_bank(f"/v1/statements/{wanted}"), Accept=kind)
    out.write_bytes(answer.content)
    mark = hashlib.sha256(answer.content).hexdigest()
    terminal.say(f"已写入 {out}，SHA-256 {mark}", f"written: {out}, SHA-256 {mark}")
    terminal.finish({"day": str(wanted), "file": str(out), "sha256": mark})


@app.command("send")
def send_command(
    bank: Bank,
    day: Day,
    file: Annotated[Path, typer.Argument(help="银行自己的文件，.csv 或 .json。 The bank's own file, .csv or .json.")],
    key: Key = None,
    url: Url = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """提交银行文件并显示差异。 Send the bank's file and see where it differs."""
    terminal, wanted = Terminal(as_json), _day(day)
    asking = _Asking(bank, url, token_file, key, operator=False)
    kind = "text/csv" if _form(file) == "csv" else "application/json"
    path, body = f"/v1/statements/{wanted}/files", file.read_bytes()
    found: dict[str, Any] = asking.ask("POST", path, body, signed=True, **{"Content-Type": kind}).json()
    _show(terminal, found["differences"], found["differing"])
    terminal.finish(found)


@app.command("close")
def close_command(
    bank: Bank, day: Day, key: Key = None, url: Url = None, token_file: TokenFile = None, as_json: Json = False
) -> None:
    """对某日关账。 Close a day.

    以当前的对账单与银行文件为准；无差异时平台随之关账，有差异时须双方各自关账。

    On the statement and the bank's file that count now. Without differences the platform closes with the bank; with
    differences both accept them, the bank first.
    """
    terminal, wanted = Terminal(as_json), _day(day)
    asking = _Asking(bank, url, token_file, key, operator=key is None)
    path = f"/v1/statements/{wanted}"
    stands: dict[str, Any] = asking.ask("GET", asking.of_bank(f"{path}/reconciliation")).json()
    body: dict[str, Any] = {
        "statement": stands["digest"],
        "file": stands["files"][-1]["digest"] if stands["files"] else None,
    }
    if asking.operator:
        body["bank"] = bank
    kind = {"Content-Type": "application/json"}
    answer = asking.ask("POST", f"{path}/closing", orjson.dumps(body), signed=not asking.operator, **kind)
    found: dict[str, Any] = answer.json()
    terminal.say(f"{wanted} 现为 {found['state']}", f"{wanted} is {found['state']} now")
    terminal.finish(found)


@app.command("compare")
def compare_command(
    statement: Annotated[Path, typer.Argument(help="对账单 JSON。 The statement, its JSON.")],
    file: Annotated[Path, typer.Argument(help="银行自己的文件，.csv 或 .json。 The bank's own file, .csv or .json.")],
    as_json: Json = False,
) -> None:
    """离线比对对账单与银行文件。 Compare the two on this machine.

    不连接平台；有差异时以状态 1 结束。平台另能分辨归入他日的记录。

    Asks no platform, and ends with status 1 where they differ. What lies on another day the platform alone can tell.
    """
    terminal, ours = Terminal(as_json), _statement(statement)
    try:
        theirs = read_bank_file(file.read_bytes(), _form(file), bank=ours.bank, day=ours.day)
    except BankFileInvalid as invalid:
        fail(f"{file} 无法读取，原因见下。", f"{file} cannot be read: {invalid}")
    known = {line.redemption_id for line in theirs.lines}
    differences = compare(ours.entries, theirs, other_days={}, known=known)
    shown = [_plain(difference) for difference in differences]
    _show(terminal, shown, len(shown))
    terminal.finish({"day": str(ours.day), "differing": len(shown), "differences": shown})
    raise typer.Exit(1 if differences else 0)


@app.command("verify")
def verify_command(
    statement: Annotated[Path, typer.Argument(help="对账单 JSON。 The statement, its JSON.")], as_json: Json = False
) -> None:
    """重算对账单的合计与摘要。 Recompute a statement's totals and digest.

    摘要应与日志中该日 statement 条目的 digest 相同。 The digest is the one in the log's leaf of the day.
    """
    terminal, found = Terminal(as_json), _statement(statement)
    content = statement.read_bytes()
    if statement_document(found) != content:
        fail(
            f"{statement} 的合计或写法与其各行不符。",
            f"{statement}: its totals or its form do not follow from its lines.",
        )
    mark = digest_of(content).hex()
    terminal.say(
        f"{found.bank} {found.day} 第 {found.sequence} 号：{len(found.entries)} 笔，合计相符，摘要 {mark}",
        f"statement {found.sequence}: {len(found.entries)} entries, totals agree, digest {mark}",
    )
    terminal.finish({"day": str(found.day), "sequence": found.sequence, "size": found.size, "digest": mark})


def _show(terminal: Terminal, differences: list[dict[str, Any]], differing: int) -> None:
    if not differing:
        terminal.say("双方一致", "both sides agree")
        return
    terminal.say(f"共 {differing} 处差异", f"{differing} differences")
    for each in differences:
        about = each["transfer_id"] or each["kind"]
        place = "" if each["line"] is None else f" (line {each['line']})"
        words = REASONS[each["reason"]]
        sides = f"{each['ours'] or '-'} / {each['theirs'] or '-'}"
        terminal.console.print(f"  {each['reason']} {about}{place}: {sides}", markup=False)
        terminal.console.print(f"      {words.zh}。{words.en}.", markup=False)


def _plain(difference: Difference) -> dict[str, Any]:
    plain = {name: getattr(difference, name) for name in difference.__slots__}
    return plain | {name: plain[name] and str(plain[name]) for name in ("transfer_id", "redemption_id")}


def _statement(path: Path) -> DayStatement:
    try:
        return read_statement(path.read_bytes())
    except (ValueError, KeyError, TypeError):
        fail(f"{path} 不是对账单 JSON。", f"{path} is no statement in JSON: `tanpuhui statement fetch` writes one.")


def _form(path: Path) -> Form:
    if path.suffix not in (".csv", ".json"):
        fail("文件名应以 .csv 或 .json 结尾。", f"a bank's file ends in .csv or .json, not {path.suffix!r}.")
    return "csv" if path.suffix == ".csv" else "json"


def _signing_key(path: Path) -> SigningKey:
    jwk = read_private_key(path)
    private = jwt.get_algorithm_by_name("EdDSA" if jwk["kty"] == "OKP" else "ES256").from_jwk(dict(jwk))
    assert isinstance(private, Ed25519PrivateKey | EllipticCurvePrivateKey)
    return SigningKey(jwk["kid"], private)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        fail(f"日期应为 YYYY-MM-DD，得到 {text!r}。", f"a day is YYYY-MM-DD, not {text!r}.")
