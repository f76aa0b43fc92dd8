"""`tanpuhui bank`: an operator registers banks and their keys; a bank's engineer makes keys and signed calls."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.markup import escape

from api.commands.asking import GivenToken, PlatformUrl, ask, bearer, key_registration, platform_address, require_done
from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal
from api.signatures.signing import SigningKey, public_jwk, sign_call
from service.banks.entitlements import (
    EntitlementKeyUnusable,
    create_entitlement_key,
    retire_entitlement_keys,
    rotate_entitlement_key,
)
from service.keyring import create_private_file, readable_by_others

app = typer.Typer(
    help="合作银行：登记、密钥、暂停；签名调用。 Partner banks: registration, keys, suspension; signed calls.",
    no_args_is_help=True,
)

_Uri = Annotated[str, typer.Argument(metavar="URI", help="登记的银行标识。 The bank's registered URI.")]
_KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="私钥文件 (PEM)。 A private key, PEM.")]
_Kid = Annotated[str, typer.Option(help="密钥编号。 The key's id.")]


@app.command("register")
def register(
    uri: _Uri,
    title_zh: Annotated[str, typer.Option(help="中文名称。 Its Chinese name.")],
    title_en: Annotated[str, typer.Option(help="英文名称。 Its English name.")],
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """登记银行。 Register a bank.

    再次登记同一标识则更新名称。 The same URI again gives it other names.
    """
    body = {"uri": uri, "title_zh": title_zh, "title_en": title_en}
    _shown(_operator("PUT", "/v1/banks", body, url, token), Terminal(as_json))


@app.command("key")
def key(
    uri: _Uri,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="公钥 (JWK，含 kid)。 A public key as JWK, with kid.")],
    valid_from: Annotated[
        str | None, typer.Option(help="生效时间 (RFC 3339)，缺省为现在。 From when on; by default now.")
    ] = None,
    valid_to: Annotated[str | None, typer.Option(help="失效时间。 Until when.")] = None,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """登记银行公钥。 Register a bank's public key.

    每次变更都记入日志；再次登记可设定或提前失效时间，须给出原生效时间。

    The log has a leaf of each change. Again, with its first --valid-from, it can be ended or end earlier.
    """
    body = {"bank": uri} | key_registration(file, valid_from, valid_to)
    _shown(_operator("PUT", "/v1/banks/keys", body, url, token), Terminal(as_json))


@app.command("list")
def list_banks(url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """列出银行。 List banks.

    状态与密钥。 Their state and keys.
    """
    terminal = Terminal(as_json)
    found = _operator("GET", "/v1/banks", None, url, token)
    for bank in found["banks"]:
        _say(bank, terminal)
    terminal.finish(found)


@app.command("suspend")
def suspend(
    uri: _Uri,
    reason: Annotated[str, typer.Option(help="原因代码。 Why, a code.")],
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """立即暂停银行。 Suspend a bank at once.

    不再为其冻结积分；已冻结的仍可扣减。 No new holds; those that stand can still be captured.
    """
    _shown(_operator("POST", "/v1/banks/suspend", {"uri": uri, "reason": reason}, url, token), Terminal(as_json))


@app.command("resume")
def resume(uri: _Uri, url: PlatformUrl = None, token: GivenToken = None, as_json: Json = False) -> None:
    """恢复银行。 Resume a bank.

    重新接受兑换。 Points can be held for it again.
    """
    _shown(_operator("POST", "/v1/banks/resume", {"uri": uri}, url, token), Terminal(as_json))


def _operator(method: str, path: str, body: dict[str, Any] | None, url: str | None, token: str | None) -> Any:
    settings = read_settings()
    address = platform_address(url, settings)
    return require_done(ask(method, address + path, bearer("operator", token, settings), json=body))


def _shown(bank: dict[str, Any], terminal: Terminal) -> None:
    _say(bank, terminal)
    terminal.finish(bank)


def _say(bank: dict[str, Any], terminal: Terminal) -> None:
    state = {"active": "正常", "suspended": "已暂停"}[bank["state"]]
    terminal.say(
        escape(f"{bank['title_zh']}（{bank['uri']}）：{state}"), escape(f"{bank['title_en']}: {bank['state']}")
    )
    for each in bank["keys"]:
        until_zh, until_en = (
            (f"，至 {each['valid_to']}", f" until {each['valid_to']}") if each["valid_to"] else ("", "")
        )
        terminal.say(
            f"  密钥 {each['key']['kid']}，自 {each['valid_from']}{until_zh}",
            f"{each['key']['crv']} from {each['valid_from']}{until_en}",
        )


@app.command("entitlement-key")
def entitlement_key(
    path: Annotated[Path, typer.Argument(help="私钥文件的位置。 Where the key is, or is to be.")],
    rotate: Annotated[
        bool, typer.Option("--rotate", help="换用新密钥，旧密钥仍可验证。 A new key signs; the former still verify.")
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="只保留现用密钥。 Keep none but the key that signs.")
    ] = False,
) -> None:
    """新建或轮换兑换凭证密钥。 Make or rotate the platform's key for entitlements.

    权限 0600；不带选项时绝不改动已有文件。 Mode 0600; without an option an existing file is left as it is.
    """
    if rotate or retire:
        try:
            key = rotate_entitlement_key(path) if rotate else None
            key = retire_entitlement_keys(path) if retire or key is None else key
        except EntitlementKeyUnusable as unusable:
            fail(f"兑换凭证密钥无法使用：{unusable}", str(unusable))
        former = len(key.former)
        Terminal(as_json=False).say(
            f"现用密钥：{key.key_id}；另有 {former} 个旧密钥仍可验证",
            f"signs now: {key.key_id}; {former} former keys still verify",
        )
        return
    made = create_entitlement_key(path)
    zh, en = ("已创建", "created") if made else ("已存在，未改动", "was there, left as it is")
    Terminal(as_json=False).say(f"{zh}：{path}", f"{en}: {path}")


@app.command("new-key")
def new_key(
    file: _KeyFile,
    kid: _Kid,
    p256: Annotated[bool, typer.Option("--p256", help="用 P-256 而非 Ed25519。 P-256 instead of Ed25519.")] = False,
) -> None:
    """新建银行签名密钥。 Make a bank's key pair.

    私钥权限 0600，绝不覆盖已有文件；输出公钥 (JWK)，交运营方登记。

    The private key has mode 0600, and an existing file is never replaced. Prints the public half as a JWK, for the
    operator to register.
    """
    private = generate_private_key(SECP256R1()) if p256 else Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = create_private_file(file, pem)
    zh, en = ("已创建", "created") if made else ("已存在，未改动", "was there, left as it is")
    Terminal(as_json=True).say(f"{zh}：{file}", f"{en}: {file}")  # for people on standard error: the JWK stands alone
    sys.stdout.write(json.dumps(public_jwk(read_signing_key(file, kid))) + "\n")


@app.command("call")
def call(
    uri: _Uri,
    file: _KeyFile,
    method: Annotated[str, typer.Argument(help="POST | PUT | GET")],
    path: Annotated[str, typer.Argument(help="以 / 开头的地址。 An address that begins with a slash.")],
    kid: _Kid,
    body: Annotated[str, typer.Option(help="请求体 (JSON)。 The body, JSON.")] = "{}",
    idempotency_key: Annotated[
        str | None, typer.Option(help="涉及积分的调用所需。 What a call that moves points needs.")
    ] = None,
    url: PlatformUrl = None,
    token: GivenToken = None,
) -> None:
    """以银行身份作一次签名调用。 Make a signed call as a bank.

    输出答复的内容；被拒绝时以状态 1 结束。 Prints the answer; status 1 when it is a refusal.
    """
    settings = read_settings()
    address = platform_address(url, settings) + path
    content, method = body.encode("utf-8"), method.upper()
    headers = bearer("bank", token, settings, uri)
    if method == "GET":
        answer = ask(method, address, headers)
    else:
        signed = sign_call(
            read_signing_key(file, kid),
            method,
            address,
            content,
            created=datetime.now(UTC) + settings.clock_offset,
            nonce=os.urandom(16).hex(),
            idempotency_key=idempotency_key,
        )
        answer = ask(method, address, headers | {"Content-Type": "application/json"} | signed, content=content)
    sys.stdout.write(json.dumps(require_done(answer), ensure_ascii=False, indent=2) + "\n")


def read_signing_key(path: Path, key_id: str) -> SigningKey:
    """A bank's private key from a PEM file; ends the command when it is none, or open to everybody."""
    try:
        if readable_by_others(path):
            fail(f"私钥 {path} 对其他用户可读，请 chmod 600。", f"every user may read {path}: chmod 600 it.")
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        fail(f"{path} 不是未加密的 PEM 私钥。", f"{path} is no PEM private key without a password: {error}")
    on_p256 = isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1)
    if not isinstance(private, Ed25519PrivateKey | EllipticCurvePrivateKey) or not (
        on_p256 or isinstance(private, Ed25519PrivateKey)
    ):
        fail(f"{path} 不是 Ed25519 或 P-256 私钥。", f"{path} holds another kind of key than Ed25519 or P-256.")
    return SigningKey(key_id, private)
