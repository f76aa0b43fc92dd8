"""`tanpuhui manifest`: a provider closes its days."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import httpx
import jwt
import orjson
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.table import Table

from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.demonstration import Terminal
from api.oauth.bound import ASYNC_HOOKS
from api.provider import Patience
from api.provider.closing import read_outcomes, read_private_key, sign
from api.provider.sending import headers_of, send
from api.supervisor import find_platform
from service.jws import payload_of, read_public_key
from service.keyring import create_private_file
from service.manifests import Counts, Statement, compare, statement_payload

app = typer.Typer(help="日清单：数据方逐日报送清单。 Day manifests: a provider closes its days.", no_args_is_help=True)

Source = Annotated[str, typer.Option(help="登记的数据方标识。 The provider's registered URI.")]
Url = Annotated[
    str | None,
    typer.Option(
        help="平台地址；缺省为本数据目录正在运行的平台。 The platform; by default the one of this data directory."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="数据方令牌文件；缺省签发开发令牌。 A file with the provider's token; by default one for development."
    ),
]
_PATIENCE = Patience(total_s=120, timeout_s=100)  # counting the day of a large source takes its time


@dataclass(frozen=True, slots=True)
class _Platform:
    """Where to ask, and as whom."""

    url: str
    source: str
    token: str

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/jose") -> dict[str, Any]:
        """The answer's document; ends the command on a problem."""
        async with httpx.AsyncClient(base_url=self.url, event_hooks=ASYNC_HOOKS) as client:
            headers = headers_of(self.token, kind) | {"Accept-Language": "en"}
            response = (await send(client, method, path, body, headers, _PATIENCE)).response
        try:
            document: dict[str, Any] = orjson.loads(response.content)
        except ValueError:
            document = {}
        if not response.is_success:
            said = f"{document.get('title', '')}: {document.get('detail', '')}"
            fail(
                f"平台答复 {response.status_code}，原因见下。", f"the platform answered {response.status_code}. {said}"
            )
        return document


@app.command("key")
def key_command(
    path: Annotated[Path, typer.Argument(help="新私钥文件的位置。 Where to put the new private key.")],
    kid: Annotated[str | None, typer.Option(help="密钥编号；缺省为其指纹。 Its id; by default its thumbprint.")] = None,
) -> None:
    """新建签名密钥。 Create a signing key.

    Ed25519 私钥（JWK，权限 0600）；输出公钥，供运营方登记。

    An Ed25519 private key as a JWK, mode 0600; prints the public one for the operator to register.
    """
    if path.exists():
        fail(f"{path} 已存在，未改动。", f"{path} is there already and was left as it is.")
    made: dict[str, str] = jwt.get_algorithm_by_name("EdDSA").to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
    public = {name: made[name] for name in ("crv", "kty", "x")}
    thumbprint = sha256(read_public_key(public).encode("ascii")).digest()  # RFC 7638
    public["kid"] = kid or urlsafe_b64encode(thumbprint).rstrip(b"=").decode("ascii")
    create_private_file(path, json.dumps({**public, "d": made["d"]}, indent=2).encode("ascii") + b"\n")
    typer.echo(json.dumps(public))


@app.command("make")
def make_command(
    source: Source,
    day: Annotated[str, typer.Option(help="YYYY-MM-DD，Asia/Shanghai。 A day in Asia/Shanghai that is over.")],
    key: Annotated[Path, typer.Option(help="私钥 JWK 文件。 The private key, a JWK file.")],
    outcomes: Annotated[
        Path,
        typer.Option(
            help="结果 CSV：id,scenario,outcome,reduction_mg,points[,at]。 The outcomes the provider kept, a CSV."
        ),
    ],
    late: Annotated[
        Path | None,
        typer.Option(help="迟报事件 id，每行一个。 Ids of late events, one a line; from the second manifest on."),
    ] = None,
    url: Url = None,
    token_file: TokenFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="只比对，不报送。 Compare, and post nothing.")] = False,
    as_json: Json = False,
) -> None:
    """签署并报送日清单。 Sign a day's manifest and post it.

    由数据方自存的结果汇总，与平台的接收情况比对后签名报送；已报送而内容有变时，自动使用下一个序号。

    Adds up the outcomes the provider kept, shows where they differ from what the platform received, signs and posts
    them. If the day was closed before and the figures have changed, the next sequence number corrects it.
    """
    terminal, closing = Terminal(as_json), _day(day)
    private = read_private_key(key)
    events = tuple(filter(None, late.read_text("utf-8").splitlines())) if late else ()
    statement = Statement(source, closing, 1, read_outcomes(outcomes, closing), events)
    platform = _platform(source, url, token_file)
    document = asyncio.run(_make(platform, statement, private, terminal, dry_run=dry_run))
    terminal.finish(document)


async def _make(
    platform: _Platform, statement: Statement, key: Mapping[str, str], terminal: Terminal, *, dry_run: bool
) -> dict[str, Any]:
    receipt = await platform.ask("GET", f"/v1/manifests/receipt?day={statement.day}")
    known = (await platform.ask("GET", f"/v1/manifests?day={statement.day}"))["manifests"]
    gaps = _show(terminal, statement, _received(receipt))
    numbered = _numbered(statement, known)
    if dry_run:
        terminal.say("仅比对，未报送", "compared only, nothing was posted")
        return {"day": str(statement.day), "sequence": numbered.sequence, "gaps": gaps, "posted": False}
    posted = await platform.ask("POST", "/v1/manifests", sign(numbered, key))
    manifest = posted["manifest"]
    terminal.say(
        f"{manifest['day']} 日清单第 {manifest['sequence']} 号已记录，摘要 {manifest['digest']}",
        f"manifest {manifest['sequence']} of {manifest['day']} is recorded, digest {manifest['digest']}",
    )
    _say_open(terminal, posted["days_without_manifest"])
    return {"day": manifest["day"], "sequence": manifest["sequence"], "gaps": gaps, "posted": True}


def _numbered(statement: Statement, known: list[dict[str, Any]]) -> Statement:
    """With the sequence number it belongs under: that of the last manifest when it says the same, else the next."""
    if not known:
        if statement.late:
            fail(
                "当日首份日清单没有迟报事件：请去掉 --late。",
                "a day's first manifest has no late events: leave out --late.",
            )
        return statement
    last = known[-1]["sequence"]
    same = replace(statement, sequence=last)
    text = known[-1]["jws"]  # null once it was erased: what it said is not known any more
    if text is not None and orjson.loads(payload_of(text)) == statement_payload(same):
        return same
    return replace(statement, sequence=last + 1)


@app.command("show")
def show_command(
    source: Source,
    day: Annotated[str | None, typer.Option(help="YYYY-MM-DD；缺省为最近各日。 By default the latest days.")] = None,
    url: Url = None,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """查看日清单与差异。 Show manifests, gaps, and open days.

    指定日期时，另与平台此刻的接收情况比对。 Of one day, also whether what was received is still what was recorded.
    """
    terminal, wanted = Terminal(as_json), None if day is None else _day(day)
    terminal.finish(asyncio.run(_show_days(_platform(source, url, token_file), wanted, terminal)))


_AGREES = {
    True: ("双方一致", "both sides agree"),
    False: ("存在差异", "there are gaps"),
    None: ("正文已删除，无从比对", "its text was erased, so nothing is compared"),
}


async def _show_days(platform: _Platform, day: date | None, terminal: Terminal) -> dict[str, Any]:
    found = await platform.ask("GET", "/v1/manifests" + (f"?day={day}" if day else ""))
    for manifest in found["manifests"]:
        zh, en = _AGREES[manifest["agrees"]]
        terminal.say(
            f"{manifest['day']} 第 {manifest['sequence']} 号：{zh}",
            f"{manifest['day']}, manifest {manifest['sequence']}: {en}",
        )
        for scenario in manifest["scenarios"]:
            if not scenario["agrees"]:
                terminal.console.print(f"    {scenario['scenario']}: {scenario['said']}", markup=False)
        if manifest["late"]["not_received"]:
            events = ", ".join(manifest["late"]["not_received"])
            terminal.console.print(f"    迟报事件当日未收到 late, not received on that day: {events}", markup=False)
    _say_open(terminal, found["days_without_manifest"])
    if day is None:
        return found
    receipt = await platform.ask("GET", f"/v1/manifests/receipt?day={day}")
    now = _received(receipt)
    changed = [m["sequence"] for m in found["manifests"] if m["jws"] is not None and _recorded(m) != now]
    if changed:
        terminal.say(
            "平台当前的接收情况与清单记录时不同，请联系运营方",
            f"what was received is no longer what was recorded with {changed}: ask the operator why",
        )
    return found | {"receipt": receipt, "receipt_changed": changed}


def _show(terminal: Terminal, statement: Statement, received: Mapping[str, Counts]) -> list[dict[str, Any]]:
    """A table of both sides; returns the gaps."""
    table = Table(title=f"{statement.day} {statement.source}", title_justify="left", box=None)
    for title in ("场景 scenario", "项目 measure", "清单 claimed", "收到 received", "差异 difference"):
        table.add_column(title, justify="left" if len(table.columns) < 2 else "right")
    gaps = []
    claimed = {scenario: claim.counts for scenario, claim in statement.scenarios.items()}
    for scenario, compared in compare(claimed, received).items():
        for gap in compared:
            table.add_row(
                scenario,
                gap.measure,
                f"{gap.claimed:,}",
                f"{gap.received:,}",
                f"{gap.difference:+,}" if gap.difference else "0",
            )
            if gap.difference:
                gaps.append({"scenario": scenario, "measure": gap.measure, "difference": gap.difference})
    terminal.console.print(table)
    return gaps


def _received(receipt: Mapping[str, Any]) -> dict[str, Counts]:
    return {
        each["scenario"]: Counts(each["credited"], each["refused"], each["reduction_mg"], each["points"])
        for each in receipt["scenarios"]
    }


def _recorded(manifest: Mapping[str, Any]) -> dict[str, Counts]:
    """What had been received by a manifest; a scenario that only the source knows is none of it."""
    counts = {
        each["scenario"]: Counts(
            *(each[name]["received"] for name in ("credited", "refused", "reduction_mg", "points"))
        )
        for each in manifest["scenarios"]
    }
    return {scenario: found for scenario, found in counts.items() if found != Counts()}


def _say_open(terminal: Terminal, days: Mapping[str, Any]) -> None:
    if days["count"]:
        shown = ", ".join(days["latest"][:10]) + (" …" if days["count"] > 10 else "")
        terminal.say(f"尚有 {days['count']} 日没有日清单：{shown}", f"{days['count']} days have no manifest: {shown}")


def _platform(source: str, url: str | None, token_file: Path | None) -> _Platform:
    settings = read_settings()
    known = url or getattr(find_platform(settings.data_dir), "url", None)
    if known is None:
        fail("没有正在运行的平台：请给出 --url。", "no platform runs from this data directory: give --url.")
    if token_file is not None:
        return _Platform(known, source, token_file.read_text("utf-8").strip())
    return _Platform(known, source, development_issuer(settings).issue("provider", source, source=source))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        fail(f"日期应为 YYYY-MM-DD，得到 {text!r}。", f"a day is YYYY-MM-DD, not {text!r}.")
