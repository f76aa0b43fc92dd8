"""`tanpuhui methodology lint`: what an author is told about a draft of a methodology, a points rule or a factor set."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from api.commands.environment import Json, fail, read_settings
from api.commands.known_rules import KnownRules, known_rules
from api.demonstration import Terminal
from api.problems import word
from api.v1.factor_sets import pinned_by
from service.activities.rules import name_of, own_beside, own_points_beside, read_factor_sets
from service.database import FAULTS
from service.impact import Impact, measure_impact
from service.quantification.document import DocumentInvalid, Node, read_document, read_file
from service.quantification.factor_sets import FactorSet, parse_factor_set
from service.quantification.methodology import MethodologyInvalid, catalogue_of, load_catalogue, parse_methodology
from service.quantification.model import Methodology
from service.quantification.points import (
    PointsRule,
    load_points_rules,
    parse_points_rule,
    points_catalogue_of,
    require_budgets_kept,
)
from service.rule_changes import Change, changes
from service.settings import Settings
from service.vault import Vault, VaultError

LIMIT = 100_000  # recorded activities that lint computes again: a few seconds

_Rule = TypeVar("_Rule", Methodology, PointsRule)


def lint(
    file: Annotated[Path, typer.Argument(help="规则文档 YAML 文件。 The rule document's YAML file.")],
    as_json: Json = False,
    limit: Annotated[
        int, typer.Option(min=1, help="至多重算多少条已记录行为。 The most recorded activities to compute again.")
    ] = LIMIT,
) -> None:
    """检查规则文档。 Check a rule document.

    方法学、积分规则或因子集，种类由文档自明。检查语法、单位、范围、来源、所引用的因子集并重算算例；列出与上一版本的差异；
    能连接数据库时，重算上一版本下已记录的行为，说明结果会有多少不同。有误时以状态 1 结束。

    A methodology, points rule or factor set; the document says which. Syntax, units, ranges, sources, pinned factor
    sets, and every worked example recomputed; what differs from the previous version; and, where a database can be
    asked, what it would have changed in recorded activities. Status 1 when it is refused.
    """
    terminal, settings = Terminal(as_json), read_settings()
    try:
        source = read_file(file)
        told = _checked(source, settings, limit, terminal)
    except DocumentInvalid as error:
        _refused(file, error, terminal)
    terminal.finish({"ok": True} | told)


def _checked(source: bytes, settings: Settings, limit: int, terminal: Terminal) -> dict[str, Any]:
    """Read the document by itself before the others are, which may have faults of their own. Raises DocumentInvalid."""
    root = read_document(source)
    fields = root.mapping()
    if "kind" in fields:
        return _factor_set(parse_factor_set(source), settings, terminal)
    if "points_per_gram" in fields:
        return _points_rule(parse_points_rule(source), settings, terminal)
    factor_sets = read_factor_sets(settings.rules_dir)
    new = parse_methodology(source, factor_sets)
    _require_sets(new, factor_sets, root)
    return _methodology(new, settings, limit, terminal)


def _require_sets(new: Methodology, factor_sets: Mapping[str, FactorSet], root: Node) -> None:
    """Raises MethodologyInvalid where a pin cannot be looked up; a registered document may do without its set."""
    for name, factor in new.factors.items():
        for value in factor.values:
            if value.pinned is None or value.pinned.set in factor_sets:
                continue
            written = root.mapping()["factors"].mapping()[name].mapping()["values"].items()
            pins = [item.mapping()["pinned"] for item in written if "pinned" in item.mapping()]
            line = next(pin.line for pin in pins if pin.mapping()["set"].text() == value.pinned.set)
            reason = (
                f"{name} is pinned to the factor set {value.pinned.set}, which is not here: put it into factor_sets/ "
                f"of the rules directory, or pin one of {', '.join(factor_sets) or 'none'}"
            )
            raise MethodologyInvalid(line, reason)


def _methodology(new: Methodology, settings: Settings, limit: int, terminal: Terminal) -> dict[str, Any]:
    terminal.say(
        f"{new.id} 第 {new.version} 版：文档正确，{len(new.examples)} 个算例已重算；摘要 {new.digest}",
        f"{new.id} version {new.version} is well formed; {len(new.examples)} examples recomputed",
    )
    known = asyncio.run(known_rules(settings))
    methodologies = known.rules.methodologies.all()
    _require_new(new, methodologies)
    own, shipped = _apart(methodologies, load_catalogue().digests, new)
    catalogue_of([*own, *own_beside(shipped, [*own, new]), new])
    previous = _previous(new, methodologies)
    recorded, note = asyncio.run(_recorded(new, previous, known, limit, terminal))
    told = _compared(new, previous, terminal)
    _tell_recorded(recorded, note, terminal)
    why_not = known.rules.cannot_credit(new)
    tell_standing(why_not, terminal)
    if new.status != new.credited_as:
        terminal.say(
            f"文档状态为“{word(new.status, 'zh')}”，但含推算内容，只能按演示计入",
            f"its status is {new.status}, but it rests on what was inferred: credited as a demonstration at best",
        )
    return {
        "kind": "methodology",
        **told,
        "status": new.status,
        "credited_as": new.credited_as,
        "examples": len(new.examples),
        "recorded": recorded and recorded.as_json(),
        "recorded_note": note,
        "can_credit": not why_not,
        "why_not": list(why_not),
    }


def _points_rule(new: PointsRule, settings: Settings, terminal: Terminal) -> dict[str, Any]:
    terminal.say(
        f"{new.id} 第 {new.version} 版：文档正确；摘要 {new.digest}", f"{new.id} version {new.version} is well formed"
    )
    known = asyncio.run(known_rules(settings))
    rules = known.rules.points_rules.all()
    _require_new(new, rules)
    own, shipped = _apart(rules, load_points_rules().digests, new)
    points_catalogue_of([*own, *own_points_beside(shipped, [*own, new]), new])
    note = asyncio.run(_promised(new, known))
    told = _compared(new, _previous(new, rules), terminal)
    terminal.say("积分按记录当日的规则计，已记录的不受影响", escape(note))
    why_not = known.rules.cannot_credit(new)
    tell_standing(why_not, terminal)
    return {
        "kind": "points",
        **told,
        "status": new.status,
        "recorded": None,
        "recorded_note": note,
        "can_credit": not why_not,
        "why_not": list(why_not),
    }


def _factor_set(new: FactorSet, settings: Settings, terminal: Terminal) -> dict[str, Any]:
    unknown = [one.name for one in new.figures.values() if one.value is None]
    terminal.say(
        f"{new.id}：文档正确，{len(new.figures)} 个数值，其中 {len(unknown)} 个未知；摘要 {new.digest}",
        f"{new.id} is well formed; {len(new.figures)} figures, {len(unknown)} of them unknown",
    )
    rules = asyncio.run(known_rules(settings)).rules
    there = rules.factor_sets.get(new.id)
    if there is not None and there.digest != new.digest:
        reason = f"{new.id} is there with other content: a set never changes, so give another announcement another id"
        raise DocumentInvalid(1, reason)
    pinned = pinned_by(rules, new)
    listed = ", ".join(sorted({f"{one['methodology']} {one['version']}" for one in pinned})) or "–"
    terminal.say(f"引用它的方法学：{listed}", "the methodologies that pin it")
    return {
        "kind": "factor_set",
        "id": new.id,
        "digest": new.digest,
        "figures": len(new.figures),
        "unknown": unknown,
        "pinned_by": pinned,
    }


def _require_new(new: Methodology | PointsRule, known: tuple[Methodology | PointsRule, ...]) -> None:
    """Raises DocumentInvalid where the version is there with other content."""
    if any((one.id, one.version) == (new.id, new.version) and one.digest != new.digest for one in known):
        raise _taken(new)


def _apart(
    known: tuple[_Rule, ...], shipped: Collection[str], new: Methodology | PointsRule
) -> tuple[list[_Rule], list[_Rule]]:
    """The deployment's own documents and the shipped ones, without the draft: only shipped ones step aside for it."""
    others = [one for one in known if one.digest != new.digest]
    own = [one for one in others if one.digest not in shipped]
    return own, [one for one in others if one.digest in shipped]


def _taken(new: Methodology | PointsRule) -> DocumentInvalid:
    reason = f"version {new.version} of {new.id} is there with other content: give the changed document a new version"
    return DocumentInvalid(1, reason)


def _previous(new: _Rule, known: tuple[_Rule, ...]) -> _Rule | None:
    """The highest version below this one."""
    older = [one for one in known if one.id == new.id and one.version < new.version]
    return older[-1] if older else None


async def _recorded(
    new: Methodology, previous: Methodology | None, known: KnownRules, limit: int, terminal: Terminal
) -> tuple[Impact | None, str | None]:
    """What would have changed in recorded activities, or why nobody can tell.

    Raises DocumentInvalid when the version is registered there with other content.
    """
    if known.database is None:
        return None, known.fault
    try:
        connection = await asyncpg.connect(known.database, timeout=10)
    except FAULTS as error:
        return None, _unasked(error)
    try:
        await _require_unregistered(connection, new)
        if previous is None:
            return None, "there is no earlier version"
        vault = Vault(read_settings().vault_key_file)
        with _progress(terminal, limit) as advance:
            points = known.rules.points_rules
            return await measure_impact(
                connection, vault, previous, new, points, limit=limit, on_progress=advance
            ), None
    except FAULTS as error:
        return None, _unasked(error)
    except VaultError as error:
        return None, f"the evidence cannot be opened: {error}"
    finally:
        await connection.close()


async def _promised(new: PointsRule, known: KnownRules) -> str:
    """Hold the rule against those that were ever registered; what to tell about recorded activities.

    Raises DocumentInvalid when the version is registered with other content, or a budget falls below what was promised.
    """
    note = "points are given by the rule of the day of recording: a later rule changes nothing that is recorded"
    if known.database is None:
        return f"{note}; registered rules were not looked at: {known.fault}"
    try:
        connection = await asyncpg.connect(known.database, timeout=10)
    except FAULTS as error:
        return f"{note}; registered rules were not looked at: {_unasked(error)}"
    try:
        await _require_unregistered(connection, new)
        rows = await connection.fetch(
            "SELECT document FROM service.rule_document WHERE kind = 'points' AND digest <> $1",
            bytes.fromhex(new.digest),
        )
    except FAULTS as error:
        return f"{note}; registered rules were not looked at: {_unasked(error)}"
    finally:
        await connection.close()
    require_budgets_kept([*(parse_points_rule(row["document"]) for row in rows), new])
    return note


async def _require_unregistered(
    connection: "asyncpg.Connection[asyncpg.Record]", new: Methodology | PointsRule
) -> None:
    name = name_of(new)
    if await connection.fetchval(_REGISTERED, name.kind, name.id, name.version, bytes.fromhex(name.digest)):
        raise _taken(new)


_REGISTERED = """
    SELECT EXISTS (SELECT FROM service.rule_document
        WHERE kind = $1 AND name = $2 AND version = $3 AND digest <> $4)
"""


def _unasked(error: Exception) -> str:
    return f"the database cannot be asked: {error or type(error).__name__}"


@contextmanager
def _progress(terminal: Terminal, limit: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal while recorded activities are computed again."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=terminal.console, transient=True) as bars:
        bar = bars.add_task("重算 computing again", total=limit)
        yield lambda done: bars.update(bar, completed=done)


def _refused(file: Path, error: DocumentInvalid, terminal: Terminal) -> NoReturn:
    terminal.finish({"ok": False, "file": str(file), "line": error.line, "reason": error.reason})
    where = f" ({error.document})" if error.document else ""
    fail(f"{file} 第 {error.line} 行有误，文档不被接受。", f"{file} line {error.line}{where}: {error.reason}")


def _compared(
    new: Methodology | PointsRule, previous: Methodology | PointsRule | None, terminal: Terminal
) -> dict[str, Any]:
    differences = changes(previous.document, new.document) if previous else ()
    if previous is None:
        terminal.say("没有更早的版本可比较", "there is no earlier version to compare with")
    else:
        _tell_changes(differences, previous.version, terminal)
    return {
        "id": new.id,
        "version": new.version,
        "digest": new.digest,
        "previous": previous and {"version": previous.version, "digest": previous.digest},
        "changes": [_change(one) for one in differences],
        "figures": [_change(one) for one in differences if one.figure],
    }


def _change(change: Change) -> dict[str, str | None]:
    return {"path": change.path, "old": change.old, "new": change.new}


def _tell_changes(differences: tuple[Change, ...], version: int, terminal: Terminal) -> None:
    figures = [one for one in differences if one.figure]
    terminal.say(
        f"与第 {version} 版相比：{len(differences)} 处不同，其中 {len(figures)} 个数值",
        f"compared with version {version}: {len(differences)} fields differ, {len(figures)} of them figures",
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


def tell_standing(why_not: tuple[str, ...], terminal: Terminal) -> None:
    """Whether this deployment could credit under a document, and why not."""
    if not why_not:
        terminal.say("本部署可据此计入", "this deployment could credit under it")
        return
    terminal.say(
        f"本部署不能据此计入：{'；'.join(word(code, 'zh') for code in why_not)}",
        f"this deployment could not credit under it: {'; '.join(word(code, 'en') for code in why_not)}",
    )
