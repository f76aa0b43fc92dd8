"""`tanpuhui coverage` and `elsewhere`: registers from CSV files, checked row by row before anything is sent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import httpx
import typer
from rich.markup import escape
from rich.table import Table

from api.commands.environment import Json, fail, read_settings
from api.commands.issuing import development_issuer
from api.demonstration import Terminal
from api.problems import Fault
from api.supervisor import find_platform
from api.v1.registers import MOST_ROWS, check_rows
from service.feeds import Bilingual
from service.feeds.records import open_lines, read_heading, records
from service.registers import Register

coverage_app = typer.Typer(
    help="碳市场纳管名录。 The register of entities covered by emission trading.", no_args_is_help=True
)
elsewhere_app = typer.Typer(
    help="他处主张名录。 The register of installations claimed in other schemes.", no_args_is_help=True
)

# The columns of a file: the subject, what else may stand there and is not sent, and the days.
_SUBJECT: dict[Register, str] = {"coverage": "unified_social_credit_code", "elsewhere": "installation"}
_NOT_STORED: dict[Register, tuple[str, ...]] = {"coverage": ("name",), "elsewhere": ()}
_DAYS = ("valid_from", "valid_to")

_File = Annotated[Path, typer.Argument(help="CSV 或 CSV.gz 文件，UTF-8。 A CSV or CSV.gz file in UTF-8.")]
_Scheme = Annotated[
    str, typer.Option(help="机制代码，如 national、shanghai。 The scheme's code, such as national or shanghai.")
]
_Source = Annotated[str, typer.Option(help="依据文件的名称、文号或网址。 The document it is written in.")]
_Replace = Annotated[
    bool,
    typer.Option("--replace", help="撤销该机制中文件未列出的条目。 Withdraw the scheme's entries not in the file."),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="只说明会有何变化。 Only say what would change.")]
_Url = Annotated[
    str | None,
    typer.Option(help="平台地址；缺省为本数据目录正在运行的平台。 The platform; by default the one running from here."),
]
_Token = Annotated[
    str | None,
    typer.Option(
        envvar="TANPUHUI_TOKEN",
        help="运营方令牌；开发模式可省略。 An operator's token; in development one is made.",
    ),
]


class Problem(NamedTuple):
    """What is wrong with one row of a file: its number, the heading not counted, and the line it begins on."""

    row: int
    line: int
    column: str
    text: Bilingual

    def as_json(self) -> dict[str, Any]:
        return {"row": self.row, "line": self.line, "column": self.column, "zh": self.text.zh, "en": self.text.en}


class Rows(NamedTuple):
    """A file that was read: its rows as the API takes them, and everything that is wrong with it."""

    rows: list[dict[str, str | None]]
    problems: list[Problem]


@coverage_app.command("import")
def import_coverage(
    file: _File,
    scheme: _Scheme,
    source: _Source,
    replace: _Replace = False,
    dry_run: _DryRun = False,
    url: _Url = None,
    token: _Token = None,
    as_json: Json = False,
) -> None:
    """导入碳市场纳管单位名录。 Import the entities covered by emission trading.

    列：unified_social_credit_code、name（可选，不保存）、valid_from、valid_to。逐行检查，有误则列出全部问题且不导入；重复导入不产生变化。

    Columns: unified_social_credit_code, name (optional, not stored), valid_from, valid_to (may be empty). Every row is
    checked; with a fault anywhere all faults are listed and nothing is imported. The same import again changes nothing.
    """
    _import("coverage", file, scheme, source, replace, dry_run, url, token, Terminal(as_json))


@elsewhere_app.command("import")
def import_elsewhere(
    file: _File,
    scheme: _Scheme,
    source: _Source,
    replace: _Replace = False,
    dry_run: _DryRun = False,
    url: _Url = None,
    token: _Token = None,
    as_json: Json = False,
) -> None:
    """导入已在其他机制中主张的设施名录。 Import the installations claimed in other schemes.

    列：installation、valid_from、valid_to；规则同 coverage import。

    Columns: installation, valid_from, valid_to (may be empty); otherwise as `coverage import`.
    """
    _import("elsewhere", file, scheme, source, replace, dry_run, url, token, Terminal(as_json))


_Code = Annotated[str | None, typer.Option(help="只看此统一社会信用代码。 Only of this unified social credit code.")]
_Installation = Annotated[str | None, typer.Option(help="只看此设施。 Only of this installation.")]


@coverage_app.command("list")
def list_coverage(code: _Code = None, url: _Url = None, token: _Token = None, as_json: Json = False) -> None:
    """查看碳市场纳管名录。 Show what the register of covered entities holds.

    按机制与依据汇总；代码只以密钥摘要保存，可用 --code 查询某一单位。

    By scheme and source. Codes are kept as keyed tags alone; --code asks about one entity.
    """
    _list("coverage", code, url, token, Terminal(as_json))


@elsewhere_app.command("list")
def list_elsewhere(
    installation: _Installation = None, url: _Url = None, token: _Token = None, as_json: Json = False
) -> None:
    """查看他处主张名录。 Show what the register of installations claimed elsewhere holds."""
    _list("elsewhere", installation, url, token, Terminal(as_json))


def read_register(register: Register, file: Path) -> Rows:
    """The rows of a file and everything that is wrong with them. Raises FeedFileError for what is no such file."""
    subject, rows, lines, problems = _SUBJECT[register], [], [], []
    with open_lines(file) as opened:
        heading = read_heading(file, opened)
        _require_columns(register, heading)
        for number, (line, cells) in enumerate(records(opened, len(heading)), start=1):
            if isinstance(cells, Bilingual):
                problems.append(Problem(number, line, "", cells))
                continue
            named = {name: cell.strip() for name, cell in zip(heading, cells, strict=True)}
            rows.append({name: named[name] or None for name in (subject, *_DAYS)})
            lines.append((number, line))
    _, faults = check_rows(register, rows)
    problems += [_problem(fault, lines) for fault in faults]
    return Rows(rows, sorted(problems, key=lambda problem: problem.row))


def _require_columns(register: Register, heading: Sequence[str]) -> None:
    needed, known = {_SUBJECT[register], *_DAYS}, {_SUBJECT[register], *_DAYS, *_NOT_STORED[register]}
    if needed <= set(heading) <= known and len(set(heading)) == len(heading):
        return
    expected, came = ", ".join((_SUBJECT[register], *_NOT_STORED[register], *_DAYS)), ", ".join(heading)[:300]
    fail(
        f"第 1 行：应有列 {expected}（name 可省略），各一次；实为 {came}。请更正表头。",
        f"line 1: expected the columns {expected} (name may be left out), each once; came {came}. Mend the heading.",
    )


def _problem(fault: Fault, lines: Sequence[tuple[int, int]]) -> Problem:
    _, _, place, *column = fault.pointer.split("/")
    row, line = lines[int(place)]
    if fault.code == "repeated":
        other, _ = lines[int(fault.limits["other"].rpartition("/")[2])]
        return Problem(row, line, "", Bilingual(zh=f"与第 {other} 条相同", en=f"repeats row {other}"))
    zh, en = fault.render("zh")["detail"], fault.render("en")["detail"]
    return Problem(row, line, "/".join(column), Bilingual(zh=zh, en=en))


def _import(
    register: Register,
    file: Path,
    scheme: str,
    source: str,
    replace: bool,
    dry_run: bool,
    url: str | None,
    token: str | None,
    terminal: Terminal,
) -> None:
    found = read_register(register, file)
    if found.problems:
        _say_problems(found, terminal)
    if not 0 < len(found.rows) <= MOST_ROWS:
        fail(
            f"应有 1 至 {MOST_ROWS} 条，实为 {len(found.rows)} 条。请拆分文件，分次导入（不加 --replace）。",
            f"expected 1 to {MOST_ROWS} rows; came {len(found.rows)}. Split the file, and import its parts without "
            "--replace.",
        )
    body = {"scheme": scheme, "source": source, "rows": found.rows, "replace": replace, "dry_run": dry_run}
    done = _ask("POST", f"/v1/registers/{register}/imports", url, token, json=body)
    would = ("将", "would be ") if dry_run else ("已", "")
    terminal.say(
        f"{would[0]}新增 {done['added']} 条，撤销 {done['withdrawn']} 条；{done['unchanged']} 条原已在册",
        f"{done['added']} {would[1]}added, {done['withdrawn']} {would[1]}withdrawn; {done['unchanged']} were there",
    )
    terminal.finish(done)


def _say_problems(found: Rows, terminal: Terminal) -> None:
    for problem in found.problems:
        terminal.say(
            f"第 {problem.row} 条（第 {problem.line} 行）{problem.column}：{problem.text.zh}",
            f"row {problem.row} (line {problem.line}) {problem.column}: {problem.text.en}",
        )
    terminal.finish({"problems": [problem.as_json() for problem in found.problems]})
    fail(
        f"共 {len(found.problems)} 处问题，未导入任何条目。请更正后重新导入。",
        f"{len(found.problems)} faults; nothing was imported. Mend them and import again.",
    )


def _list(register: Register, subject: str | None, url: str | None, token: str | None, terminal: Terminal) -> None:
    found = _ask("GET", f"/v1/registers/{register}", url, token, params={"subject": subject} if subject else {})
    table = Table(box=None)
    for title in ("机制 scheme", "条数 entries", "起 from", "止 to", "导入 imported", "依据 source"):
        table.add_column(title, overflow="fold")
    for each in found["schemes"]:
        days = (each["valid_from"], each["valid_to"] or "…", each["imported_at"][:10])
        table.add_row(each["scheme"], str(each["entries"]), *days, escape(each["source"]))
    if found["schemes"]:
        terminal.console.print(table)
    else:
        terminal.say("没有条目", "no entries")
    terminal.finish(found)


def _ask(
    method: str, path: str, url: str | None, token: str | None, *, json: object = None, params: Mapping[str, str] = {}
) -> dict[str, Any]:
    """The platform's answer; ends the command with what the platform says when it is another than success."""
    settings = read_settings()
    base = url or getattr(find_platform(settings.data_dir), "url", None)
    if base is None:
        fail(
            "本数据目录没有正在运行的平台：请先启动（make run），或用 --url 指明平台地址。",
            "no platform runs from this data directory: start one (make run), or name its address with --url.",
        )
    token = token or development_issuer(settings).issue("operator", "operator@this-machine")
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": "zh;q=0.9, en;q=0.8"}
    try:
        answer = httpx.request(method, f"{base}{path}", headers=headers, json=json, params=params, timeout=60)
        document: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        fail(
            f"{base} 没有可用的应答（{error}）。请检查地址，以及平台是否在运行。",
            f"{base} gave no usable answer ({error}). Check the address, and that the platform runs.",
        )
    if not answer.is_success:
        said = "; ".join([str(document.get("detail", "")), *_faults(document)])
        fail(
            f"平台未接受（{answer.status_code} {document.get('title', '')}）：{said}",
            f"the platform did not accept it ({answer.status_code}, {document.get('type', '')}): {said}",
        )
    return document


def _faults(document: Mapping[str, Any]) -> list[str]:
    faults = document.get("errors", [])
    return [f"{fault.get('pointer', fault.get('parameter', ''))} {fault.get('detail', '')}" for fault in faults]
