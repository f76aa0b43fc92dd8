"""`tanpuhui quantify`: what something would earn, with its arithmetic. Reads documents, writes nothing, needs no
platform."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from api.body import parse_json
from api.commands.comparing import show_comparison
from api.commands.environment import Json, fail, read_settings
from api.commands.known_rules import known_rules
from api.demonstration import Terminal
from api.dependencies import parsed
from api.problems import Language, Problem
from api.v1.quantify import LARGEST_BODY, WantedComparison, WantedEstimate, compared, estimate
from service.activities.rules import read_rulebook
from service.clock import system_clock


def quantify(
    methodology: Annotated[
        str | None, typer.Argument(help="方法学编号或场景。 A methodology's id, or a scenario.")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(metavar="ACT", help="行为，如 metro：按各地文档逐一试算。 An act: by every document about it."),
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option("--input", help="输入，形如 distance_km=2.35。 An input, as name=value.")
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="版本。 The version; else the one in force.")] = None,
    started: Annotated[str | None, typer.Option(help="开始时间，带时区偏移。 When it began, with its offset.")] = None,
    ended: Annotated[str | None, typer.Option(help="结束时间。 When it ended.")] = None,
    readings: Annotated[
        Path | None,
        typer.Option(help="读数 JSON，含 readings 与 baseline。 JSON with readings and baseline, as in a report."),
    ] = None,
    as_json: Json = False,
) -> None:
    """试算减排量与积分。 What would it earn?

    按方法学文档计算并列出每一步，不写入任何内容；不能计分的文档也照算并说明原因。以 --compare 给出行为时，
    按各地关于该行为的全部文档逐一试算，说明结果与差异的由来；电表读数可直接以 --input 给出总量。

    Computes by the document and shows every step; writes nothing. A document that cannot credit is computed too, and
    says why. --started and --ended are needed where the result depends on the duration. With --compare, one act by
    every document about it, and why the results differ; a meter's total may be given as an --input.
    """
    terminal, settings = Terminal(as_json), read_settings()
    if (methodology is None) == (compare is None):
        fail("请给出方法学，或以 --compare 给出行为。", "give either a methodology, or an act with --compare.")
    if compare is not None and version is not None:
        fail("--compare 时各文档取当日施行的版本。", "--compare takes the version in force: leave --version out.")
    # Only what is approved has to be asked for.
    rules = asyncio.run(known_rules(settings)).rules if settings.require_approvals else read_rulebook(settings)
    try:
        content: dict[str, Any] = {"inputs": dict(map(_named, given or [])), "started_at": started, "ended_at": ended}
        content |= _measured(readings)
        now = system_clock(settings.clock_offset)()
        if compare is not None:
            asked = parsed(WantedComparison, content | {"act": compare})
            found: dict[Language, dict[str, Any]] = {
                language: compared(rules, asked, now, language) for language in ("zh", "en")
            }
            show_comparison(found["zh"], found["en"], terminal)
            terminal.finish(found["en"])
            return
        wanted = parsed(WantedEstimate, content | {"methodology": methodology, "version": version})
        answers = {language: estimate(rules, wanted, now, settings.programme, language) for language in ("zh", "en")}
    except Problem as problem:
        _refuse(problem, terminal)
    _show(answers["zh"], answers["en"], terminal)
    terminal.finish(answers["en"])


def _named(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        fail(f"输入应形如 distance_km=2.35，得到 {text!r}。", f"an input is name=value, not {text!r}.")
    return name.strip(), value.strip()


def _measured(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    with path.open("rb") as file:
        content = parse_json(file.read(LARGEST_BODY + 1))
    if not isinstance(content, dict) or not content.keys() <= {"readings", "baseline"}:
        fail(
            f"{path} 应为含 readings 与 baseline 的 JSON 对象。",
            f"{path} is to be a JSON object with readings and baseline, and nothing beside them.",
        )
    return content


def _refuse(problem: Problem, terminal: Terminal) -> NoReturn:
    zh, en = problem.render("zh"), problem.render("en")
    terminal.finish(en)
    places = [
        " ".join(filter(None, (place.get("pointer") or place.get("parameter"), place["detail"])))
        for place in en.get("errors", ())
    ]
    acts = ", ".join(en.get("acts", ()))  # of an act that no document is about
    fail(zh["detail"], "\n".join(filter(None, [en["detail"], *places, acts])))


def _show(zh: dict[str, Any], en: dict[str, Any], terminal: Terminal) -> None:
    say = terminal.say
    say(
        f"{escape(zh['title'])}：{zh['methodology']} 第 {zh['version']} 版",
        f"{escape(en['title'])}: {en['methodology']} version {en['version']}",
    )
    say(f"状态：{zh['status_title']}；摘要 {zh['digest'][:16]}…", f"{en['status_title']}; digest {en['digest'][:16]}…")
    for step in en["trace"]:
        terminal.console.print(f"  {step}", markup=False)
    for chinese, english in zip(zh["factors"], en["factors"], strict=True):
        value = f"{english['name']} = {english['value']} {english['unit']}"
        say(
            f"  {value}，{chinese['confidence_title']}，{escape(chinese['source']['title'])}",
            f"{english['confidence_title']}, {escape(english['source']['title'])}",
        )
    points = "–" if en["points"] is None else en["points"]
    say(f"减排量 {en['reduction_mg']} 毫克，积分 {points}", f"{en['reduction_mg']} mg CO2e, {points} points")
    if en["not_checked"]:
        listed = ", ".join(en["not_checked"])
        say(f"未给时间，未核对的条件：{listed}", f"not checked, as no times were given: {listed}")
    if en["can_credit"]:
        say("本部署可据此计入", "this deployment credits under it")
    else:
        say(
            f"本部署不能据此计入：{'；'.join(zh['why_not_titles'])}",
            f"this deployment cannot credit under it: {'; '.join(en['why_not_titles'])}",
        )
