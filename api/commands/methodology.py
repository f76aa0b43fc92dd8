"""`tanpuhui methodology`: what an author and the approvers do with rule documents."""

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.markdown import Markdown
from rich.markup import escape

from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.commands.known_rules import KnownRules, known_rules
from api.commands.lint import lint, tell_standing
from api.demonstration import Terminal
from api.factor_set_page import factor_set_page
from api.methodology_page import page
from api.problems import PROBLEM_TYPES, Language, word
from api.supervisor import find_platform
from api.v1.factor_sets import factor_set_view
from api.v1.methodologies import methodology_summary, points_rule_summary
from service.activities.rules import name_of, read_rulebook
from service.approvals import ROLES, DocumentKind, RuleName, public_entry, sign_approval
from service.clock import shanghai_day, system_clock
from service.keyring import create_private_file, readable_by_others
from service.quantification.document import read_file
from service.quantification.methodology import parse_methodology
from service.quantification.model import Methodology
from service.quantification.points import PointsRule, parse_points_rule
from service.settings import Settings

app = typer.Typer(
    help="方法学：检查、查看、审批。 Lint methodologies, show and list them, and approve them.", no_args_is_help=True
)

_LANGUAGES: Mapping[str | None, tuple[Language, ...]] = {None: ("zh", "en"), "zh": ("zh",), "en": ("en",)}


app.command("lint")(lint)


@app.command("show")
def show(
    methodology: Annotated[str, typer.Argument(help="方法学编号。 The methodology's id.")],
    version: Annotated[int | None, typer.Option(min=1, help="版本，缺省为最新。 The version; else the newest.")] = None,
    lang: Annotated[str | None, typer.Option(help="zh 或 en，缺省两种。 zh or en; by default both.")] = None,
) -> None:
    """查看一个方法学。 Read a methodology.

    一页说明：适用范围、输入、因子及其来源与可信度、条件、上限、公式、算例、版本与审批。输出到管道时为 Markdown。

    One page: scope, inputs, factors with sources and confidence, conditions, caps, formula, worked examples, versions
    and approvals. Into a pipe it is Markdown.
    """
    languages = _LANGUAGES.get(lang)
    if languages is None:
        fail(f"--lang 应为 zh 或 en，得到 {lang!r}。", f"--lang is zh or en, not {lang!r}.")
    known = asyncio.run(known_rules(read_settings()))
    versions = [one for one in known.rules.methodologies.all() if one.id == methodology]
    shown = [one for one in versions if version in (None, one.version)]
    if not shown:
        ids = sorted({one.id for one in known.rules.methodologies.all()})
        fail(
            f"没有方法学 {methodology} 或该版本；现有：{'、'.join(ids)}。",
            f"there is no methodology {methodology} of that version; there are {', '.join(ids)}.",
        )
    lines = [*page(versions, shown[-1], languages), *_approvals_part(shown[-1], known, languages)]
    _print(lines)


def _print(lines: Iterable[str]) -> None:
    """A page: on a terminal as it reads best, into a pipe as Markdown."""
    text = "\n".join(lines) + "\n"
    if sys.stdout.isatty():
        Terminal(as_json=False).console.print(Markdown(text))
    else:
        sys.stdout.write(text)


def _approvals_part(rule: Methodology, known: KnownRules, languages: tuple[Language, ...]) -> Iterator[str]:
    for language in languages:
        yield from ("", "## 在本部署" if language == "zh" else "## In this deployment", "")
        why_not = known.rules.cannot_credit(rule)
        if why_not:
            told = ("；" if language == "zh" else "; ").join(word(code, language) for code in why_not)
            yield f"- 不能计入：{told}" if language == "zh" else f"- It cannot credit: {told}"
        else:
            yield "- 可以计入" if language == "zh" else "- It can credit"
        if known.fault:
            yield f"- 审批情况未知：{known.fault}" if language == "zh" else f"- Approvals are not known: {known.fault}"
        for one in known.rules.approvals.signed.get(rule.digest, ()):
            yield f"- {word(one.role, language)}: {one.approver}, {one.key_id}, {one.signed_on}"


@app.command("list")
def list_rules(as_json: Json = False) -> None:
    """列出方法学与积分规则。 List methodologies and points rules.

    编号、版本、状态、计入单元、摘要、施行日期、适用地区、审批，以及本部署能否据此计入、为何不能。

    Id, version, status, trigger, digest, days in force, jurisdiction, approvals; whether this deployment credits under
    it, and why not.
    """
    terminal = Terminal(as_json)
    known = asyncio.run(known_rules(read_settings()))
    rules = known.rules
    methodologies = [methodology_summary(rules, one, "zh") for one in rules.methodologies.all()]
    points_rules = [points_rule_summary(rules, one, "zh") for one in rules.points_rules.all()]
    for row in (*methodologies, *points_rules):
        kind = row.get("trigger", f"{row.get('points_per_gram')} /g")
        terminal.console.print(
            f"[bold]{row['id']} {row['version']}[/bold]  {row['status']} · {kind} · {row['in_force']} · "
            f"{row['jurisdiction']}  [dim]{row['digest']}[/dim]"
        )
        if row["status"] != row.get("credited_as", row["status"]):
            terminal.say("  只能按演示计入", "credited as a demonstration at best")
        tell_standing(tuple(row["why_not"]), terminal)
        _tell_approvals(row["approvals"], terminal)
    if known.fault:
        terminal.say("审批情况未知", f"approvals are not known: {escape(known.fault)}")
    approvals_known = known.fault is None
    terminal.finish({"methodologies": methodologies, "points_rules": points_rules, "approvals_known": approvals_known})


@app.command("factors")
def factors(
    factor_set: Annotated[str | None, typer.Argument(metavar="[ID]", help="因子集编号。 A factor set's id.")] = None,
    as_json: Json = False,
) -> None:
    """查看因子集。 Read the factor sets.

    不带编号时列出全部；带编号时列出一个因子集的全部数值、可信度、来源，以及引用它的方法学。

    Lists all of them; of one, every figure with its confidence and source, and the methodologies that pin it.
    """
    terminal, rules = Terminal(as_json), read_rulebook(read_settings())
    if factor_set is None:
        for one in rules.factor_sets.values():
            terminal.console.print(
                f"[bold]{one.id}[/bold]  {one.published} · {one.unit} · {len(one.figures)}  [dim]{one.digest}[/dim]"
            )
            terminal.say(f"  {escape(one.title.zh)}", escape(one.title.en))
        terminal.finish({"factor_sets": [factor_set_view(rules, one, "zh") for one in rules.factor_sets.values()]})
        return
    if factor_set not in rules.factor_sets:
        fail(
            f"没有因子集 {factor_set}；现有：{'、'.join(rules.factor_sets)}。",
            f"there is no factor set {factor_set}; there are {', '.join(rules.factor_sets)}.",
        )
    shown = rules.factor_sets[factor_set]
    if as_json:
        terminal.finish(factor_set_view(rules, shown, "zh"))
    else:
        title = f"# {shown.title.zh} · {shown.title.en}"
        _print([title, "", *factor_set_page(shown, rules.methodologies.all(), "##")])


def _tell_approvals(approvals: list[dict[str, Any]], terminal: Terminal) -> None:
    for one in approvals:
        terminal.say(
            f"  已签署：{word(one['role'], 'zh')} {one['approver']}",
            f"signed by the {word(one['role'], 'en')} on {one['signed_on']}",
        )


@app.command("approve")
def approve(
    rule_id: Annotated[str, typer.Argument(metavar="ID", help="规则文档编号。 The document's id.")],
    version: Annotated[int, typer.Option(min=1, help="版本。 Its version.")],
    role: Annotated[str, typer.Option(help="competent_authority | technical_body")],
    key: Annotated[Path, typer.Option(help="签署人私钥 (PEM)。 The approver's private key, PEM.")],
    url: Annotated[
        str | None, typer.Option(help="平台地址，缺省为本数据目录正在运行的平台。 The platform; else the one here.")
    ] = None,
    points: Annotated[bool, typer.Option("--points", help="签署积分规则。 Sign a points rule.")] = False,
    file: Annotated[
        Path | None, typer.Option(help="文档文件，不在规则目录时用。 The document, if it is in no rules directory.")
    ] = None,
    key_id: Annotated[
        str | None,
        typer.Option("--kid", help="登记的密钥编号，缺省为公钥指纹。 Its registered id; else its thumbprint."),
    ] = None,
    programme: Annotated[
        str | None,
        typer.Option(help="为哪个计划签署，缺省为本机设置。 For which programme; else the one of the settings here."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="TANPUHUI_TOKEN", help="运营方令牌。 An operator's token with rules:approve.")
    ] = None,
    as_json: Json = False,
) -> None:
    """签署一个规则文档。 Sign a rule document.

    在本机以私钥对文档摘要、计划代码与当日日期签名并提交；主管部门与技术机构均签署后生效，并记入日志。

    Signs the digest of the document as it is on this machine, the programme and today's date, here, and posts the
    signature. Once the competent authority and the technical body have both signed, it is in force, and the log has a
    leaf of it.
    """
    terminal, settings = Terminal(as_json), read_settings()
    if role not in ROLES:
        fail(f"角色应为 {' 或 '.join(ROLES)}。", f"the role is {' or '.join(ROLES)}, not {role!r}.")
    rule = _document("points" if points else "methodology", rule_id, version, file, settings)
    signing, wanted = _private_key(key), programme or settings.programme
    today = shanghai_day(system_clock(settings.clock_offset)())
    body = {
        "role": role,
        "key": key_id or public_entry(signing.public_key())["kid"],
        "signature": sign_approval(signing, wanted, rule, role, today).hex(),
        "signed_on": today.isoformat(),
    }
    terminal.say(
        f"为计划 {wanted} 签署 {rule.id} 第 {rule.version} 版，摘要 {rule.digest}",
        f"signing {rule.id} version {rule.version} for the programme {wanted}, digest {rule.digest}",
    )
    answer = _post(_address(url, settings), rule, body, token, settings)
    _tell_approvals(answer["approvals"], terminal)
    tell_standing(tuple(answer["why_not"]), terminal)
    terminal.finish(answer)


def _document(kind: DocumentKind, rule_id: str, version: int, file: Path | None, settings: Settings) -> RuleName:
    """What is to be signed: the document as this machine has it, never a digest that a server names."""
    found: list[Methodology | PointsRule]
    if file is not None:
        found = [parse_points_rule(read_file(file)) if kind == "points" else parse_methodology(read_file(file))]
    else:
        rules = asyncio.run(known_rules(settings)).rules
        found = [*(rules.points_rules.all() if kind == "points" else rules.methodologies.all())]
    meant = next((rule for rule in found if (rule.id, rule.version) == (rule_id, version)), None)
    if meant is None:
        fail(
            f"本机没有 {rule_id} 第 {version} 版；请以 --file 给出文档。",
            f"there is no {rule_id} version {version} here: give the document with --file.",
        )
    return name_of(meant)


def _private_key(path: Path) -> Ed25519PrivateKey:
    if readable_by_others(path):
        fail(f"私钥 {path} 对其他用户可读，请 chmod 600。", f"every user may read {path}: chmod 600 it.")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        fail(f"{path} 不是未加密的 PEM 私钥。", f"{path} is no PEM private key without a password: {error}")
    if not isinstance(key, Ed25519PrivateKey):
        fail(f"{path} 不是 Ed25519 私钥。", f"{path} holds another kind of key than Ed25519.")
    return key


def _address(url: str | None, settings: Settings) -> str:
    known = url or getattr(find_platform(settings.data_dir), "url", None)
    if known is None:
        fail("没有正在运行的平台，请以 --url 给出地址。", "no platform runs from here: give its address with --url.")
    return str(known).rstrip("/")


def _post(url: str, rule: RuleName, body: dict[str, str], token: str | None, settings: Settings) -> dict[str, Any]:
    if token is None:
        token = development_issuer(settings).issue("operator", "approver", scopes=["rules:approve"])
    kind = "points-rules" if rule.kind == "points" else "methodologies"
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": "en"}
    try:
        answer = httpx.post(
            f"{url}/v1/{kind}/{rule.id}/versions/{rule.version}/approvals", json=body, headers=headers, timeout=30
        )
        document = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        fail(f"无法访问 {url}。", f"{url} cannot be asked: {error}")
    if not answer.is_success:
        slug = str(document.get("type", "")).rpartition(":")[2]
        zh = PROBLEM_TYPES[slug].title.zh if slug in PROBLEM_TYPES else "平台拒绝了该请求"
        fail(f"{zh}。", f"{document.get('title', answer.status_code)}: {document.get('detail', '')}")
    found: dict[str, Any] = document
    return found


@app.command("approver-key")
def approver_key(
    file: Annotated[Path, typer.Argument(help="新私钥的位置 (PEM)。 Where to put the new private key, PEM.")],
    role: Annotated[str | None, typer.Option(help="competent_authority | technical_body")] = None,
    person: Annotated[str | None, typer.Option(help="人员代码，不写姓名。 A code of whose it is; no name.")] = None,
) -> None:
    """新建审批人密钥。 Make a key pair for an approver.

    私钥权限 0600，绝不覆盖已有文件；输出应加入 approvers_file 的公钥条目。

    The private key has mode 0600, and an existing file is never replaced. Prints the public entry for the approvers'
    file (TANPUHUI_APPROVERS_FILE), to which role and person belong.
    """
    if role not in (None, *ROLES):
        fail(f"角色应为 {' 或 '.join(ROLES)}。", f"the role is {' or '.join(ROLES)}, not {role!r}.")
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = create_private_file(file, pem)
    terminal = Terminal(as_json=True)  # for people on standard error: the entry stands alone
    zh, en = ("已创建", "created") if made else ("已存在，未改动", "was there, left as it is")
    terminal.say(f"{zh}：{file}", f"{en}: {file}")
    entry = public_entry(_private_key(file).public_key()) | {
        name: value for name, value in (("role", role), ("person", person)) if value
    }
    sys.stdout.write(json.dumps(entry) + "\n")
