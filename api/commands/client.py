"""`tanpuhui client`: an operator registers clients and their keys; a client's engineer fetches a token."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.markup import escape

from api.commands.asking import (
    TIMEOUT_S,
    GivenToken,
    PlatformUrl,
    ask,
    bearer,
    key_registration,
    platform_address,
    require_done,
)
from api.commands.bank import read_signing_key
from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal
from api.oauth.proving import dpop_proof, token_form

app = typer.Typer(
    help="客户端：登记、密钥、暂停、吊销；取得令牌。 Clients that may ask for tokens, and their keys.",
    no_args_is_help=True,
)

_Id = Annotated[str, typer.Argument(metavar="CLIENT_ID", help="客户端编号。 The client's id.")]


@app.command("register")
def register(
    client_id: _Id,
    role: Annotated[str, typer.Argument(help="provider | participant | bank | auditor | funder | assurer | authority")],
    title_zh: Annotated[str, typer.Option(help="中文名称。 Its Chinese name.")],
    title_en: Annotated[str, typer.Option(help="英文名称。 Its English name.")],
    uri: Annotated[
        str | None, typer.Option(help="所代表的数据方、银行或出资方。 The source, bank or funder it speaks for.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="权限，可多次给出；缺省为角色的全部。 A scope; else all of the role.")
    ] = None,
    redirect_uri: Annotated[
        list[str] | None, typer.Option(help="关联后返回的地址，可多次给出。 Where people are sent back to.")
    ] = None,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """登记客户端。 Register a client.

    再次登记同一编号则更新名称、权限与返回地址。 The same id again gives it other names, scopes and addresses.
    """
    body: dict[str, Any] = {"client_id": client_id, "role": role, "title_zh": title_zh, "title_en": title_en}
    body |= {"uri": uri} if uri else {}
    body |= {"scopes": scope} if scope else {}
    body |= {"redirect_uris": redirect_uri} if redirect_uri else {}
    _shown(_operator("PUT", "/v1/clients", body, url, token), Terminal(as_json))


@app.command("key")
def key(
    client_id: _Id,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="公钥 (JWK，含 kid)。 A public key as JWK, with kid.")],
    valid_from: Annotated[
        str | None, typer.Option(help="生效时间 (RFC 3339)，缺省为现在。 From when on; by default now.")
    ] = None,
    valid_to: Annotated[str | None, typer.Option(help="失效时间。 Until when.")] = None,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """登记客户端公钥。 Register a client's public key.

    可同时有数个有效公钥，以便轮换；再次登记可设定或提前失效时间，须给出原生效时间。

    Several may count at once, for a change without a gap. Again, with its first --valid-from, it can be ended.
    """
    body = {"client_id": client_id} | key_registration(file, valid_from, valid_to)
    _shown(_operator("PUT", "/v1/clients/keys", body, url, token), Terminal(as_json))


@app.command("list")
def list_clients(url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """列出客户端。 List clients.

    角色、状态与密钥。 Their roles, state and keys.
    """
    terminal = Terminal(as_json)
    found = _operator("GET", "/v1/clients", None, url, token)
    for client in found["clients"]:
        _say(client, terminal)
    terminal.finish(found)


@app.command("suspend")
def suspend(client_id: _Id, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """立即暂停客户端。 Suspend a client at once.

    不再签发令牌，已签发的令牌一秒内失效。 No new tokens, and those it has are refused within a second.
    """
    _shown(_operator("POST", "/v1/clients/suspend", {"client_id": client_id}, url, token), Terminal(as_json))


@app.command("resume")
def resume(client_id: _Id, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """恢复客户端。 Resume a client.

    重新签发令牌。 It is given tokens again.
    """
    _shown(_operator("POST", "/v1/clients/resume", {"client_id": client_id}, url, token), Terminal(as_json))


@app.command("revoke")
def revoke(client_id: _Id, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """吊销客户端的全部令牌。 Revoke all tokens of a client.

    一秒内失效；客户端可重新申请。 Refused within a second; it may ask for new ones.
    """
    _shown(_operator("POST", "/v1/clients/revoke-tokens", {"client_id": client_id}, url, token), Terminal(as_json))


@app.command("token")
def token(
    client_id: _Id,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="私钥文件 (PEM)。 A private key, PEM.")],
    kid: Annotated[str, typer.Option(help="密钥编号。 The key's id.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="权限，可多次给出；缺省为登记的全部。 A scope; else all of the client.")
    ] = None,
    unbound: Annotated[
        bool, typer.Option("--unbound", help="不绑定密钥（生产环境通常不接受）。 A bearer token, bound to no key.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="仅输出令牌本身。 Print the token alone.")] = False,
    url: PlatformUrl = None,
) -> None:
    """取得令牌。 Get a token.

    以 private_key_jwt 证明身份，并以同一密钥绑定令牌 (DPoP)；输出答复 (JSON)。其他命令以环境变量 TANPUHUI_CLIENT_KEY
    指定该私钥即可使用此令牌。

    The client proves itself by private_key_jwt, and the token is bound to the same key (DPoP). Prints the answer.
    Other commands use the token where the environment names the key, as TANPUHUI_CLIENT_KEY.
    """
    address = platform_address(url, read_settings())
    signing = read_signing_key(file, kid)
    metadata = require_done(ask("GET", f"{address}/.well-known/oauth-authorization-server", {}))
    endpoint = f"{address}/v1/oauth/token"
    form = token_form(signing, client_id, metadata["issuer"], **({"scope": " ".join(scope)} if scope else {}))
    proof = {} if unbound else {"DPoP": dpop_proof(signing, "POST", metadata["token_endpoint"])}
    answer = _posted(endpoint, form, proof)
    if not answer.is_success:
        said = answer.json()
        fail("令牌端点拒绝了请求。", f"{said.get('error', answer.status_code)}: {said.get('error_description', '')}")
    sys.stdout.write((answer.json()["access_token"] if raw else json.dumps(answer.json())) + "\n")


def _posted(endpoint: str, form: dict[str, str], headers: dict[str, str]) -> httpx.Response:
    try:
        return httpx.post(endpoint, data=form, headers=headers, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"无法访问 {endpoint}。", f"{endpoint} cannot be asked: {error}")


def _operator(method: str, path: str, body: dict[str, Any] | None, url: str | None, token: str | None) -> Any:
    settings = read_settings()
    address = platform_address(url, settings)
    return require_done(ask(method, address + path, bearer("operator", token, settings), json=body))


def _shown(client: dict[str, Any], terminal: Terminal) -> None:
    _say(client, terminal)
    terminal.finish(client)


def _say(client: dict[str, Any], terminal: Terminal) -> None:
    state = {"active": "正常", "suspended": "已暂停"}[client["state"]]
    named = f"{client['client_id']} · {client['role']}" + (f" · {client['uri']}" if client["uri"] else "")
    terminal.say(
        escape(f"{client['title_zh']}（{named}）：{state}"), escape(f"{client['title_en']}: {client['state']}")
    )
    for each in client["keys"]:
        until_zh, until_en = (
            (f"，至 {each['valid_to']}", f" until {each['valid_to']}") if each["valid_to"] else ("", "")
        )
        terminal.say(
            f"  密钥 {each['key']['kid']}，自 {each['valid_from']}{until_zh}",
            f"{each['key']['crv']} from {each['valid_from']}{until_en}",
        )
