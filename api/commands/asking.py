"""Ask a platform for something as an operator or a bank: where it is, whose token, and what a refusal says.

Where two operators are needed, the first command proposes; the second operator gives the very same one with the
proposal in the environment, as `TANPUHUI_APPROVES=<proposal_id> tanpuhui …`.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
from rich.console import Console

from api.auth import Role
from api.commands.environment import fail
from api.commands.issuing import development_issuer
from api.oauth.bound import HOOKS
from api.problems import PROBLEM_TYPES
from api.supervisor import find_platform
from service.settings import Settings

TIMEOUT_S = 30
APPROVES = "TANPUHUI_APPROVES"
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})  # members of a JWK that nobody is sent

PlatformUrl = Annotated[
    str | None,
    typer.Option("--url", help="平台地址；缺省为本数据目录运行的平台。 The platform; else the one here."),
]
GivenToken = Annotated[
    str | None,
    typer.Option("--token", envvar="TANPUHUI_TOKEN", help="令牌；开发模式可省略。 A token; not in development."),
]


def platform_address(url: str | None, settings: Settings) -> str:
    """Where the platform is, without a slash at the end; ends the command when none is known."""
    known = url or getattr(find_platform(settings.data_dir), "url", None)
    if known is None:
        fail("没有正在运行的平台，请以 --url 给出地址。", "no platform runs from here: give its address with --url.")
    return str(known).rstrip("/")


def bearer(role: Role, token: str | None, settings: Settings, bank: str | None = None) -> dict[str, str]:
    """The header of a token that was given, or of one for development."""
    if token is None:
        token = development_issuer(settings).issue(role, bank or f"{role}@this-machine", bank=bank)
    proposal = os.environ.get(APPROVES)
    return {"Authorization": f"Bearer {token}"} | ({"Approves": proposal} if proposal and role == "operator" else {})


def ask(method: str, address: str, headers: dict[str, str], **content: Any) -> httpx.Response:
    """The platform's answer, whatever it is; ends the command when there is none."""
    try:
        with httpx.Client(timeout=TIMEOUT_S, event_hooks=HOOKS) as client:
            return client.request(method, address, headers={"Accept-Language": "en"} | headers, **content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"无法访问 {address}。", f"{address} cannot be asked: {error}")


def key_registration(file: Path, valid_from: str | None, valid_to: str | None) -> dict[str, Any]:
    """The body by which the public key of a JWK file is registered, from now on where no time is named. Of a file that
    holds the private key too, that stays where it is. Ends the command for what is no JWK."""
    try:
        jwk = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        fail(f"{file} 不是 JWK。", f"{file} holds no JWK: {error}")
    if not isinstance(jwk, dict):
        fail(f"{file} 不是 JWK。", f"{file} holds no JWK: expected an object, found {type(jwk).__name__}")
    public = {name: value for name, value in jwk.items() if name not in _PRIVATE}
    begins = valid_from or datetime.now(UTC).isoformat(timespec="seconds")
    return {"key": public, "valid_from": begins} | ({"valid_to": valid_to} if valid_to else {})


def require_done(answer: httpx.Response) -> Any:
    """What a good answer holds; ends the command with what a refusal says, in both languages."""
    try:
        document = answer.json()
    except ValueError:
        fail("平台的答复无法识别。", f"the answer, with status {answer.status_code}, is no JSON.")
    if not answer.is_success:
        slug = str(document.get("type", "")).rpartition(":")[2]
        zh = PROBLEM_TYPES[slug].title.zh if slug in PROBLEM_TYPES else "平台拒绝了该请求"
        lines = [f"{document.get('title', answer.status_code)}: {document.get('detail', '')}"]
        for fault in document.get("errors", ()):
            lines.append(f"  {fault.get('pointer', fault.get('parameter', ''))} {fault['detail']}")
        fail(f"{zh}。", "\n".join(lines))
    if answer.status_code == httpx.codes.ACCEPTED and "proposal_id" in document:
        _say_proposed(document)
    return document


def _say_proposed(document: dict[str, str]) -> NoReturn:
    """Nothing is done yet: another operator is needed."""
    proposal, until = document["proposal_id"], document["expires_at"]
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"已提出，尚未执行：请另一名运营人员在 {until} 前以 {APPROVES}={proposal} 执行同一命令。\n"
        f"Proposed, not done: another operator gives the same command with {APPROVES}={proposal} before {until}."
    )
    raise typer.Exit(0)
