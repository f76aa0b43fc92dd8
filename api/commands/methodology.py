"""`tanpuhui methodology`: what an author and the approvers do with rule documents."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import asyncpg
import httpx
import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.markdown import Markdown
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from api.commands.environment import Json, KnownRules, development_issuer, fail, known_rules, read_settings
from api.demonstration import Terminal
from api.methodology_page import page
from api.problems import PROBLEM_TYPES, Language, word
from api.supervisor import find_platform
from api.v1.methodologies import methodology_summary, points_rule_summary
from service.activities.rules import RuleBook, name_of, own_beside
from service.approvals import ROLES, DocumentKind, RuleName, public_entry, sign_approval
from service.clock import shanghai_day, system_clock
from service.database import FAULTS
from service.impact import Impact, measure_impact
from service.keyring import create_private_file, readable_by_others
from service.quantification.document import read_file
from service.quantification.methodology import MethodologyInvalid, catalogue_of, parse_methodology
from service.quantification.model import Methodology
from service.quantification.points import PointsRule, parse_points_rule
from service.rule_changes import Change, changes
from service.settings import Settings

app = typer.Typer(
    help="方法学：检查、查看、审批。 Lint methodologies, show and list them, and approve them.", no_args_is_help=True
)

_LANGUAGES: Mapping[str | None, tuple[Language, ...]] = {None: ("zh", "en"), "zh": ("zh",), "en": ("en",)}
LIMIT = 100_000  # recorded activities that lint computes again: a few seconds


@app.command("lint")
def lint(
    file: Annotated[Path, typer.Argument(help="方法学 YAML 文件。 The methodology's YAML file.")],
    as_json: Json = False,
    limit: Annotated[
        int, typer.Option(min=1, help="至多重算多少条已记录行为。 The most recorded activities to compute again.")
    ] = LIMIT,
) -> None:
    """检查方法学文档。 Check a methodology document.

    检查语法、单位、范围、来源并重算算例；列出与上一版本的差异；能连接数据库时，重算上一版本下已记录的行为，说明结果会有多少不同。
    有误时以状态 1 结束。

    Syntax, units, ranges, sources, and every worked example recomputed; what differs from the previous version; and,
    where a database can be asked, what it would have changed in recorded activities. Status 1 when it is refused.
    """
    terminal, settings = Terminal(as_json), read_settings()
    known = asyncio.run(known_rules(settings))
    try:
        new = parse_methodology(read_file(file))
        _fit(new, known.rules)
        previous = _previous(new, known.rules)
        recorded, note = asyncio.run(_recorded(new, previous, known, limit, terminal))
    except MethodologyInvalid as error:
        _refused(file, error, terminal)
    _report(new, previous, recorded, note, known.rules, terminal)


def _fit(new: Methodology, rules: RuleBook) -> None:
    """Raises MethodologyInvalid for a document that cannot stand beside those there are."""
    others = [one for one in own_beside(rules.methodologies.all(), [new]) if one.digest != new.digest]
    if any((one.id, one.version) == (new.id, new.version) for one in others):
        raise _taken(new)
    catalogue_of([*others, new])


def _taken(new: Methodology) -> MethodologyInvalid:
    reason = f"version {new.version} of {new.id} is there with other content: give the changed document a new version"
    return MethodologyInvalid(1, reason)


def _previous(new: Methodology, rules: RuleBook) -> Methodology | None:
    """The highest version below this one."""
    older = [one for one in rules.methodologies.all() if one.id == new.id and one.version < new.version]
    return older[-1] if older else None


async def _recorded(
    new: Methodology, previous: Methodology | None, known: KnownRules, limit: int, terminal: Terminal
) -> tuple[Impact | None, str | None]:
    """What would have changed in recorded activities, or why nobody can tell.

    Raises MethodologyInvalid when the version is registered there with other content.
    """
    if known.database is None:
        return None, known.fault
    try:
        connection = await asyncpg.connect(known.database, timeout=10)
    except FAULTS as error:
        return None, f"the database cannot be asked: {error or type(error).__name__}"
    try:
        if await connection.fetchval(_REGISTERED, new.id, new.version, bytes.fromhex(new.digest)):
            raise _taken(new)
        if previous is None:
            return None, "there is no earlier version"
        with _progress(terminal, limit) as advance:
            points = known.rules.points_rules
            return await measure_impact(connection, previous, new, points, limit=limit, on_progress=advance), None
    except FAULTS as error:
        return None, f"the database cannot be asked: {error or type(error).__name__}"
    finally:
        await connection.close()


_REGISTERED = """
    SELECT EXISTS (SELECT FROM service.rule_document
        WHERE kind = 'methodology' AND name = $1 AND version = $2 AND digest <> $3)
"""


@contextmanager
def _progress(terminal: Terminal, limit: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal while recorded activities are computed again."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=terminal.console, transient=True) as bars:
        bar = bars.add_task("重算 computing again", total=limit)
        yield lambda done: bars.update(bar, completed=done)


def _refused(file: Path, error: MethodologyInvalid, terminal: Terminal) -> NoReturn:
    terminal.finish({"ok": False, "file": str(file), "line": error.line, "reason": error.reason})
    where = f" ({error.document})" if error.document else ""
    fail(f"{file} 第 {error.line} 行有误，文档不被接受。", f"{file} line {error.line}{where}: {error.reason}")


def _report(
    new: Methodology,
    previous: Methodology | None,
    recorded: Impact | None,
    note: str | None,
    rules: RuleBook,
    terminal: Terminal,
) -> None:
    differences = changes(previous.document, new.document) if previous else ()
    why_not = rules.cannot_credit(new)
    terminal.say(
        f"{new.id} 第 {new.version} 版：文档正确，{len(new.examples)} 个算例已重算；摘要 {new.digest}",
        f"{new.id} version {new.version} is well formed; {len(new.examples)} examples recomputed",
    )
    if previous is None:
        terminal.say("没有更早的版本可比较", "there is no earlier version to compare with")
    else:
        _tell_changes(differences, previous, terminal)
    _tell_recorded(recorded, note, terminal)
    _tell_standing(why_not, terminal)
    terminal.finish(
        {
            "ok": True,
            "id": new.id,
            "version": new.version,
            "digest": new.digest,
            "status": new.status,
            "examples": len(new.examples),
            "previous": previous and {"version": previous.version, "digest": previous.digest},
            "changes": [_change(one) for one in differences],
            "figures": [_change(one) for one in differences if one.figure],
            "recorded": recorded and recorded.as_json(),
            "recorded_note": note,
            "can_credit": not why_not,
            "why_not": list(why_not),
        }
    )


def _change(change: Change) -> dict[str, str | None]:
    return {"path": change.path, "old": change.old, "new": change.new}


def _tell_changes(differences: tuple[Change, ...], previous: Methodology, terminal: Terminal) -> None:
    figures = [one for one in differences if one.figure]
    terminal.say(
        f"与第 {previous.version} 版相比：{len(differences)} 处不同，其中 {len(figures)} 个数值",
        f"compared with version {previous.version}: {len(differences)} fields differ, {len(figures)} of them figures",
    )
    for one in differences:
        shown = f"{_cut(one.old)} → {_cut(one.new)}"
        terminal.console.print(f"  {'*' if one.figure else ' '} {one.path}: {shown}", markup=False)


def _cut(text: str | None) -> str:
    if text is None:
        return "–"
    return text if len(text) <= 60 else text[:59] + "…"


def _tell_recorded(recorded: Impact | None, note: str | None, terminal: Terminal) -> None:
    if recorded is None:
        terminal.say("未能查看已记录的行为", f"recorded activities were not looked at: {escape(str(note))}")
        return
    rest = ("", "") if recorded.complete else ("，尚有更多未看", ", and there are more")
    terminal.say(
        f"重算已记录的行为 {recorded.looked_at} 条{rest[0]}：不变 {recorded.unchanged}，增加 {recorded.more}，减少 "
        f"{recorded.less}，新被拒绝 {recorded.newly_refused.total()}，新可计入 {recorded.newly_credited}",
        f"{recorded.looked_at} recorded activities computed again{rest[1]}: {recorded.unchanged} unchanged, "
        f"{recorded.more} more, {recorded.less} less, {recorded.newly_refused.total()} newly refused, "
        f"{recorded.newly_credited} newly credited",
    )
    for reason, count in recorded.newly_refused.most_common():
        terminal.say(f"  新被拒绝 {count} 条：{reason}", f"newly refused: {count} for {reason}")
    if recorded.not_in_force or recorded.erased:
        terminal.say(
            f"  新版本不适用之日 {recorded.not_in_force} 条，证据已删除 {recorded.erased} 条",
            f"{recorded.not_in_force} on days the new version does not cover, {recorded.erased} without evidence",
        )
    terminal.say(
        f"合计差异：{recorded.difference_mg:+} 毫克，{recorded.difference_points:+} 分",
        f"difference in all: {recorded.difference_mg:+} mg CO2e, {recorded.difference_points:+} points",
    )


def _tell_standing(why_not: tuple[str, ...], terminal: Terminal) -> None:
    if not why_not:
        terminal.say("本部署可据此计入", "this deployment could credit under it")
        return
    terminal.say(
        f"本部署不能据此计入：{'；'.join(word(code, 'zh') for code in why_not)}",
        f"this deployment could not credit under it: {'; '.join(word(code, 'en') for code in why_not)}",
    )


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
        _tell_standing(tuple(row["why_not"]), terminal)
        _tell_approvals(row["approvals"], terminal)
    if known.fault:
        terminal.say("审批情况未知", f"approvals are not known: {escape(known.fault)}")
    approvals_known = known.fault is None
    terminal.finish({"methodologies": methodologies, "points_rules": points_rules, "approvals_known": approvals_known})


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
    _tell_standing(tuple(answer["why_not"]), terminal)
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
