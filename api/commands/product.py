"""`tanpuhui product`: the documents of green products and offers, checked here and taken to the board."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.markup import escape

from api.board import STATE_TITLES, StopReason
from api.commands.asking import GivenToken, PlatformUrl, ask, platform_address, require_done
from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.demonstration import Terminal
from service.clock import shanghai_day, system_clock
from service.products.evidence import faults, good_through
from service.products.model import DOCUMENT_KINDS, Offer, Product
from service.products.parsing import ListingInvalid, parse_listing
from service.quantification.document import read_file

app = typer.Typer(
    help="绿色产品与权益：检查、提交、批准、暂停、查看。 Green products and offers: lint, submit, approve, stop, show.",
    no_args_is_help=True,
)

_File = Annotated[Path, typer.Argument(help="产品或权益文档 (YAML)。 The document of a product or an offer, YAML.")]
_Id = Annotated[str, typer.Argument(metavar="ID", help="编号。 Its id.")]
_Kind = Annotated[str, typer.Option(help="product | offer")]
_Version = Annotated[int, typer.Option(min=1, help="版本。 Its version.")]
_Reason = Annotated[str, typer.Option(help="原因代码，对外公布。 A reason's code, told to everybody.")]
_Operator = Annotated[
    str, typer.Option("--as", help="开发模式下以谁的身份；上架须两人。 In development, as whom: a listing needs two.")
]


@app.command("lint")
def lint(file: _File, as_json: Json = False) -> None:
    """检查文档。 Check a document.

    检查语法与各字段；产品还检查证据今日是否齐全、有效、不矛盾，以及有效至何日。有误时以状态 1 结束。

    Syntax and every field; of a product also whether its evidence is whole, valid and without contradiction today, and
    until when. Status 1 where it could not be listed.
    """
    terminal = Terminal(as_json)
    document = _read(file, terminal)
    today = shanghai_day(system_clock(read_settings().clock_offset)())
    found = faults(document, today) if isinstance(document, Product) else ()
    terminal.say(
        f"{document.id} 第 {document.version} 版，摘要 {document.digest}",
        f"{document.kind} {document.id} version {document.version}",
    )
    for reason in found:
        terminal.say(f"  不能上架：{escape(reason.zh)}", f"it cannot be listed: {escape(reason.en)}")
    if isinstance(document, Product) and not found:
        last = good_through(document)
        terminal.say(f"  证据有效至 {last}", f"its evidence carries it through {last}")
    told = {"kind": document.kind, "id": document.id, "version": document.version, "digest": document.digest}
    terminal.finish({"ok": not found, **told, "reasons": [reason.code for reason in found]})
    if found:
        raise typer.Exit(1)


@app.command("submit")
def submit(
    file: _File,
    operator: _Operator = "operator",
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """提交文档。 Submit a document.

    按摘要保存；由两位操作人员批准后上架。 It is kept by its digest, and listed once two operators approve it.
    """
    terminal = Terminal(as_json)
    document = _read(file, terminal)
    content = {"document": document.document.decode("utf-8")}
    _told(_ask("PUT", "/v1/products/documents", url, token, operator, json=content), terminal)


@app.command("approve")
def approve(
    document_id: _Id,
    version: _Version = 1,
    kind: _Kind = "product",
    operator: _Operator = "operator",
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """批准上架。 Approve a listing.

    第二人批准后即上架，并记入日志。 The second person's approval lists it, and the log has a leaf of it.
    """
    _step("approve", kind, document_id, version, operator, url, token, None, Terminal(as_json))


@app.command("suspend")
def suspend(
    document_id: _Id,
    reason: _Reason,
    version: _Version = 1,
    kind: _Kind = "product",
    operator: _Operator = "operator",
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """立即暂停。 Suspend at once.

    不再接受新的兑换；已冻结的仍可扣减。 No new holds; those that stand can still be captured.
    """
    _step("suspend", kind, document_id, version, operator, url, token, reason, Terminal(as_json))


@app.command("resume")
def resume(
    document_id: _Id,
    version: _Version = 1,
    kind: _Kind = "product",
    operator: _Operator = "operator",
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """恢复上架。 Put what was suspended back on the board."""
    _step("resume", kind, document_id, version, operator, url, token, None, Terminal(as_json))


@app.command("take-down")
def take_down(
    document_id: _Id,
    reason: _Reason,
    version: _Version = 1,
    kind: _Kind = "product",
    operator: _Operator = "operator",
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """永久下架。 Take it off the board for good."""
    _step("take-down", kind, document_id, version, operator, url, token, reason, Terminal(as_json))


@app.command("board")
def board(url: PlatformUrl = None, as_json: Json = False) -> None:
    """查看绿色产品名录与权益。 Show the board: products, their offers, and why some are not on it."""
    terminal = Terminal(as_json)
    products = _ask("GET", "/v1/products", url, None, None)["products"]
    offers = _ask("GET", "/v1/offers", url, None, None)["offers"]
    for product in products:
        _line(product, f"{product['category']} · {product['bank']}", terminal)
        for offer in offers:
            if offer["product"] == product["id"]:
                price = f"{offer['points_per_unit']} points · {offer['benefit']['kind']} · {offer['pool']}"
                _line(offer, price, terminal, "  ")
    terminal.finish({"products": products, "offers": offers})


def _line(document: dict[str, Any], about: str, terminal: Terminal, indent: str = "") -> None:
    terminal.console.print(
        f"{indent}[bold]{escape(document['id'])} {document['version']}[/bold]  {escape(document['title'])} · "
        f"{escape(about)}  [dim]{document['state']}[/dim]"
    )
    for reason in document["why_not"]:
        terminal.say(f"{indent}  未在名录：{escape(reason['text'])}", f"not on the board: {reason['code']}")


def _read(file: Path, terminal: Terminal) -> Product | Offer:
    """The document; ends the command with what is wrong and where."""
    try:
        return parse_listing(read_file(file))
    except ListingInvalid as error:
        terminal.finish({"ok": False, "line": error.line, "reason": error.reason})
        fail(f"{file} 第 {error.line} 行有误：", f"{file} line {error.line}: {error.reason}")


def _step(
    name: Literal["approve", "suspend", "resume", "take-down"],
    kind: str,
    document_id: str,
    version: int,
    operator: str,
    url: str | None,
    token: str | None,
    reason: str | None,
    terminal: Terminal,
) -> None:
    if kind not in DOCUMENT_KINDS:
        fail(f"--kind 应为 product 或 offer，得到 {kind!r}。", f"--kind is product or offer, not {kind!r}.")
    if reason is not None and reason not in get_args(StopReason):
        codes = ", ".join(get_args(StopReason))
        fail(f"原因应为 {codes} 之一。", f"the reason is one of {codes}, not {reason!r}.")
    path = f"/v1/products/documents/{kind}/{document_id}/{version}/{name}"
    _told(_ask("POST", path, url, token, operator, json=None if reason is None else {"reason": reason}), terminal)


def _told(answer: dict[str, Any], terminal: Terminal) -> None:
    terminal.say(
        f"{answer['id']} 第 {answer['version']} 版：{STATE_TITLES[answer['state']].zh}，{answer['approvals']} 人批准",
        f"{answer['kind']} {answer['id']} version {answer['version']}: {answer['state']}, "
        f"approvals: {answer['approvals']}",
    )
    for reason in answer["why_not"]:
        terminal.say(f"  未在名录：{reason['code']}", f"not on the board: {escape(reason['text'])}")
    terminal.finish(answer)


def _ask(
    method: str,
    path: str,
    url: str | None,
    token: str | None,
    operator: str | None,
    *,
    json: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What the platform answers, to an operator unless `operator` is None; ends the command with what it refuses."""
    settings = read_settings()
    headers = {"Accept-Language": "zh"} if method == "GET" else {}  # of a board, people read the reasons
    if operator is not None:
        issued = token or development_issuer(settings).issue("operator", f"{operator}@this-machine")
        headers["Authorization"] = f"Bearer {issued}"
    answer = ask(method, platform_address(url, settings) + path, headers, json=json)
    document: dict[str, Any] = require_done(answer)
    return document
