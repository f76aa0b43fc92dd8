"""`tanpuhui source`: an operator says whether a data provider must sign, registers its keys, revokes a stolen one."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from api.commands.asking import GivenToken, PlatformUrl, ask, bearer, key_registration, platform_address, require_done
from api.commands.environment import Json, fail, read_settings
from api.demonstration import Terminal

app = typer.Typer(
    help="数据方：签名要求、密钥、失窃密钥的处置。 Data providers: who must sign, keys, what a stolen key signed.",
    no_args_is_help=True,
)
keys = typer.Typer(help="数据方密钥。 Keys of a data provider.", no_args_is_help=True)
app.add_typer(keys, name="key")

_Uri = Annotated[str, typer.Argument(metavar="URI", help="登记的数据方标识。 The provider's registered URI.")]


@app.command("policy")
def policy(
    uri: _Uri,
    signing: Annotated[Literal["required", "optional"], typer.Argument(help="required | optional")],
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """设定是否必须签名。 Say whether a provider must sign.

    适用于报送、结算与撤回；一秒内生效。 Of its reports, settlements and retractions; within a second.
    """
    terminal = Terminal(as_json)
    done = _operator("PUT", "/v1/sources/policy", {"uri": uri, "signing": signing}, url, token)
    zh = {"required": "必须签名", "optional": "可不签名"}[done["signing"]]
    terminal.say(escape(f"{uri}：{zh}"), escape(f"{uri}: {done['signing']}"))
    terminal.finish(done)


@keys.command("add")
def add(
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
    """登记公钥。 Register a public key.

    每次变更都记入日志；再次登记可设定或提前失效时间，须给出原生效时间。

    The log has a leaf of each change. Again, with its first --valid-from, it can be ended or end earlier.
    """
    body = {"uri": uri} | key_registration(file, valid_from, valid_to)
    done = _operator("PUT", "/v1/sources/keys", body, url, token)
    terminal = Terminal(as_json)
    named = done["key"]["kid"]
    terminal.say(escape(f"已登记密钥 {named}（{uri}）"), escape(f"the key {named} of {uri} is registered"))
    terminal.finish(done)


@keys.command("revoke")
def revoke(
    uri: _Uri,
    kid: Annotated[str, typer.Argument(metavar="KID", help="密钥编号。 The key's id.")],
    since: Annotated[
        str, typer.Option("--from", help="自何时起不可信 (RFC 3339)。 From when on it may have been somebody else's.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="只列出，不改动。 Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="确认执行。 Do it.")] = False,
    url: PlatformUrl = None,
    token: GivenToken = None,
    as_json: Json = False,
) -> None:
    """撤销失窃密钥并冲正其入账。 Revoke a stolen key, and take back what it signed.

    密钥自该时刻起失效并记入日志，其后由它签署的入账全部冲正；可安全重复执行。先用 --dry-run 查看，再以 --yes 执行。

    The key does not count from that moment on, the log says so, and every credit that it signed since is reversed.
    Repeating it is safe. Look at it with --dry-run first; nothing is done without --yes.
    """
    if dry_run == yes:
        fail("请给出 --dry-run 或 --yes 之一。", "give either --dry-run, to look, or --yes, to do it.")
    terminal = Terminal(as_json)
    body = {"uri": uri, "kid": kid, "from": since, "dry_run": dry_run}
    found = _operator("POST", "/v1/sources/keys/revocation", body, url, token)
    taken = dict(found["reversed"])
    while not dry_run and found["left"] and found["reversed"]["credits"]:  # what a call may take back is bounded
        found = _operator("POST", "/v1/sources/keys/revocation", body, url, token)
        taken = {name: taken[name] + amount for name, amount in found["reversed"].items()}
    _say(found, taken, terminal)
    terminal.finish(found | {"reversed": taken})
    if not dry_run and found["left"]:
        raise typer.Exit(1)


def _say(found: dict[str, Any], taken: dict[str, int], terminal: Terminal) -> None:
    since = found["from"]
    terminal.say(
        f"自 {since} 起由该密钥签署：报送 {found['calls']} 次，入账 {found['credited']} 笔",
        f"signed since {since}: {found['calls']} reports, which led to {found['credited']} credits",
    )
    zh, en = ("将冲正", "would be taken back") if found["dry_run"] else ("已冲正", "taken back")
    terminal.say(
        f"{zh} {taken['credits']} 笔（{taken['reduction_mg']:,} 毫克，{taken['points']:,} 积分）",
        f"{en}: {taken['credits']} credits, {taken['reduction_mg']:,} mg, {taken['points']:,} points",
    )
    for slug, count in found["refused"].items():
        terminal.say(f"未能冲正 {count} 笔：{slug}", f"not taken back: {count}, because of {slug}")
    if found["left"]:
        terminal.say(f"仍有 {found['left']} 笔未冲正", f"still standing: {found['left']}")
    for call in found["others"]:
        terminal.say(
            f"须人工核对：{call['path']}，{call['received_at']}",
            f"to be looked at: {call['path']} {call['received_at']}",
        )
    for manifest in found["manifests"]:
        told = f"{manifest['day']} / {manifest['sequence']}"
        terminal.say(f"须以新密钥重报日清单：{told}", f"to be closed anew under another key: manifest {told}")


def _operator(method: str, path: str, body: dict[str, Any], url: str | None, token: str | None) -> Any:
    settings = read_settings()
    address = platform_address(url, settings)
    return require_done(ask(method, address + path, bearer("operator", token, settings), json=body))
