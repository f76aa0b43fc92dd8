"""`tanpuhui webhook`: a bank's engineer adds webhooks, tries them, sees what became of them, and listens."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
import uvicorn
from rich.markup import escape
from rich.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.commands.asking import GivenToken, PlatformUrl, ask, bearer, platform_address, require_done
from api.commands.environment import Json, read_settings
from api.demonstration import Terminal
from service.webhooks.receiving import NotVerified, verify_delivery

app = typer.Typer(help="事件推送：端点、密钥、重放、记录。 Webhooks of a bank.", no_args_is_help=True)

Bank = Annotated[str, typer.Option(help="登记的银行标识。 The bank's registered URI.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="端点编号。 The webhook's id.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        help="hold | capture | release | refund | listing | statement；缺省为全部。 Repeatable; by default all.",
    ),
]
FromIndex = Annotated[int, typer.Option(min=0, help="起始日志序号。 The first place of the log.")]
MOST_BYTES = 64 * 1024


@app.command("add")
def add(
    address: Annotated[str, typer.Argument(metavar="URL", help="接收地址。 Where events are sent.")],
    bank: Bank,
    kind: Kinds = None,
    from_index: Annotated[
        int | None, typer.Option(min=0, help="起始日志序号；缺省为此后的事件。 By default what comes from now on.")
    ] = None,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """添加推送端点。 Add a webhook.

    输出的密钥仅此一次显示。 Prints the secret, which is not shown again.
    """
    terminal = Terminal(as_json)
    body: dict[str, Any] = {"url": address, "kinds": kind or []}
    made = _ask("POST", "", bank, url, token, body | ({} if from_index is None else {"from_index": from_index}))
    _say(made, terminal)
    terminal.say(f"密钥（仅此一次）：{made['secret']}", "the secret, shown this once")
    terminal.finish(made)


@app.command("list")
def list_webhooks(bank: Bank, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """列出推送端点。 List webhooks.

    状态与待推送数。 Their states and queues.
    """
    terminal, found = Terminal(as_json), _ask("GET", "", bank, url, token)
    for webhook in found["webhooks"]:
        _say(webhook, terminal)
    terminal.finish(found)


@app.command("pause")
def pause(webhook: Id, bank: Bank, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """暂停推送。 Pause a webhook.

    事件不会丢失。 Nothing is lost meanwhile.
    """
    _change(webhook, bank, {"state": "paused"}, url, token, as_json)


@app.command("resume")
def resume(webhook: Id, bank: Bank, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """恢复推送。 Have a webhook go on.

    自停下处继续；因 410 停用的端点亦以此恢复。 Where it stopped, also after an answer 410 disabled it.
    """
    _change(webhook, bank, {"state": "active"}, url, token, as_json)


@app.command("delete")
def delete(webhook: Id, bank: Bank, url: PlatformUrl = None, token: GivenToken = None) -> None:
    """删除推送端点。 Delete a webhook.

    连同其密钥、队列与记录。 With its secrets, its queue and its history.
    """
    _ask("DELETE", f"/{webhook}", bank, url, token)
    Terminal(as_json=False).say("已删除", "deleted")


@app.command("rotate")
def rotate(
    webhook: Id,
    bank: Bank,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=168, help="旧密钥继续签名的小时数。 Hours in which the former one signs too.")
    ] = 24,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """更换密钥。 Rotate a webhook's secret.

    期间每次推送带两个签名。 Deliveries carry both signatures for a while.
    """
    terminal = Terminal(as_json)
    made = _ask("POST", f"/{webhook}/secrets", bank, url, token, {"overlap_hours": overlap_hours})
    terminal.say(f"新密钥（仅此一次）：{made['secret']}", f"the former one signs until {made['former_until']}")
    terminal.finish(made)


@app.command("test")
def send_test(
    webhook: Id, bank: Bank, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False
) -> None:
    """发送测试事件。 Send a test event.

    以 attempts 查看结果。 `attempts` shows what became of it.
    """
    terminal, made = Terminal(as_json), _ask("POST", f"/{webhook}/test", bank, url, token)
    terminal.say(f"已排队：{made['message_id']}", "queued")
    terminal.finish(made)


@app.command("replay")
def replay(
    webhook: Id,
    bank: Bank,
    from_index: FromIndex,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """自某一日志序号起重放。 Send everything from a place of the log on once more.

    编号不变，接收方可据此去重。 Under the ids it had, by which a receiver knows what it has.
    """
    terminal = Terminal(as_json)
    found = _ask("POST", f"/{webhook}/replay", bank, url, token, {"from_index": from_index})
    _say(found, terminal)
    terminal.finish(found)


@app.command("messages")
def list_messages(
    webhook: Id,
    bank: Bank,
    state: Annotated[str | None, typer.Option(help="waiting | delivered | dead；缺省为全部。 By default all.")] = None,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """列出消息。 List messages.

    state=dead 即死信。 Dead letters with --state dead.
    """
    query = f"?state={state}" if state else ""
    found = _ask("GET", f"/{webhook}/messages{query}", bank, url, token)
    columns = {"place": "序号 place", "kind": "类型 kind", "state": "状态 state", "failed": "失败 failed"}
    _table(found["messages"], columns | {"fault": "原因 fault", "message_id": "编号 id"}, Terminal(as_json))
    Terminal(as_json).finish(found)


@app.command("retry")
def retry(
    webhook: Id,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="消息编号。 The message's id.")],
    bank: Bank,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """重发一条消息。 Send a message again.

    死信亦可。 A dead letter too.
    """
    terminal, made = Terminal(as_json), _ask("POST", f"/{webhook}/messages/{message}/retry", bank, url, token)
    terminal.say(f"已排队：{made['message_id']}", "queued")
    terminal.finish(made)


@app.command("attempts")
def list_attempts(
    webhook: Id,
    bank: Bank,
    limit: Annotated[int, typer.Option(min=1, max=500, help="条数。 How many.")] = 20,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """查看推送记录。 What became of the last attempts.

    时间、事件、答复与耗时。 When, which event, the answer, how long it took.
    """
    found = _ask("GET", f"/{webhook}/attempts?limit={limit}", bank, url, token)
    columns = {"attempted_at": "时间 at", "kind": "类型 kind", "number": "次 number", "status": "答复 status"}
    columns |= {"fault": "原因 fault", "duration_ms": "毫秒 ms", "message_id": "编号 id"}
    _table(found["attempts"], columns, Terminal(as_json))
    Terminal(as_json).finish(found)


@app.command("listen")
def listen(
    secret: Annotated[list[str], typer.Option(envvar="TANPUHUI_WEBHOOK_SECRET", help="whsec_…；可重复。 Repeatable.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="监听端口。 Port to listen on.")] = 8099,
    host: Annotated[str, typer.Option(help="监听地址。 Address to listen on.")] = "127.0.0.1",
) -> None:
    """在本机接收并验证推送。 Receive deliveries here and verify them.

    每个事件输出一行 JSON；验证不通过者答 401。 One line of JSON for each; what does not verify is answered with 401.
    """
    config = uvicorn.Config(listener(secret), host=host, port=port, access_log=False, log_level="warning")
    Terminal(as_json=True).say(f"接收地址：http://{host}:{port}/", "listening")
    uvicorn.Server(config).run()


def listener(secrets: list[str]) -> Starlette:
    """What `listen` serves: any path, POST alone."""

    async def take(request: Request) -> Response:
        body = bytearray()
        async with asyncio.timeout(10):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    return Response(None, 413)
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            message_id = verify_delivery(secrets, headers, bytes(body), datetime.now(UTC))
            line = {"message_id": message_id, "verified": True, **json.loads(body)}
        except (NotVerified, ValueError) as error:
            sys.stdout.write(json.dumps({"verified": False, "because": str(error)}) + "\n")
            sys.stdout.flush()
            return Response(None, 401)
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return Response(None, 204)

    return Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])


def _ask(
    method: str, path: str, bank: str, url: str | None, token: str | None, body: dict[str, Any] | None = None
) -> Any:
    settings = read_settings()
    address = f"{platform_address(url, settings)}/v1/webhooks{path}"
    content = {} if body is None else {"json": body}
    answer = ask(method, address, bearer("bank", token, settings, bank), **content)
    return None if answer.status_code == 204 else require_done(answer)


def _change(webhook: str, bank: str, body: dict[str, Any], url: str | None, token: str | None, as_json: bool) -> None:
    terminal, found = Terminal(as_json), _ask("PATCH", f"/{webhook}", bank, url, token, body)
    _say(found, terminal)
    terminal.finish(found)


_STATES = {"active": "推送中", "paused": "已暂停", "disabled": "已停用"}


def _say(webhook: dict[str, Any], terminal: Terminal) -> None:
    because = f"（{webhook['because']}）" if webhook["because"] else ""
    queue = f"待推送 {webhook['waiting']}，死信 {webhook['dead']}"
    terminal.say(
        escape(f"{webhook['webhook_id']} {webhook['url']}：{_STATES[webhook['state']]}{because}，{queue}"),
        f"{webhook['state']}, {webhook['waiting']} waiting, {webhook['dead']} dead",
    )


def _table(rows: list[dict[str, Any]], columns: dict[str, str], terminal: Terminal) -> None:
    table = Table(box=None)
    for title in columns.values():
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*("" if row[name] is None else escape(str(row[name])) for name in columns))
    terminal.console.print(table)
