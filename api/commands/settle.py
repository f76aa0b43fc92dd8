"""`tanpuhui settle`: a provider settles provisional credits by the facts of a file."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from api.commands.environment import Json
from api.commands.providing import (
    BadRow,
    DryRun,
    FeedName,
    File,
    Provider,
    Refused,
    Row,
    SigningKeyFile,
    SourceUri,
    TokenFile,
    Url,
    batches,
    finish,
    progress,
    provider_of,
    read_rows,
    reason_title,
    summarize,
)
from api.demonstration import Terminal
from api.oauth.bound import ASYNC_HOOKS
from api.provider.outcomes import reason_of
from api.provider.sending import stop_unless_done

COLUMNS = ("subject", "scenario", "first_day", "last_day")
TOGETHER = 8  # rows asked for at the same time
_OF_THE_ROW = {404, 409, 422}  # statuses of problems that are one row's own


@dataclass(slots=True)
class _Report:
    """What became of the rows so far: the credits they decided, and those that decided none."""

    matured: Counter[str] = field(default_factory=Counter)
    withdrawn: Counter[str] = field(default_factory=Counter)
    because: Counter[str] = field(default_factory=Counter)
    refused: Refused = field(default_factory=Refused)
    nothing: int = 0


def settle(
    file: File,
    feed: FeedName = None,
    source: SourceUri = None,
    dry_run: DryRun = False,
    url: Url = None,
    token_file: TokenFile = None,
    key: SigningKeyFile = None,
    as_json: Json = False,
) -> None:
    """按文件所列事实结算待确认入账。 Settle provisional credits by the facts of a file.

    CSV 列：subject、scenario、first_day、last_day，其余每列为一项事实（留空为未给出）。
    可安全重复执行；有未受理的行时以状态 1 结束。

    A CSV with the columns subject, scenario, first_day, last_day and one for each fact; an empty cell is a fact not
    given. Repeating it is safe: a credit is settled once. Exit status 1 if anything was refused.
    """
    terminal = Terminal(as_json)
    provider = provider_of(feed, source, url, token_file, key)
    began, report = time.monotonic(), _Report()
    try:
        asyncio.run(_settle(provider, file, dry_run, terminal, report))
    finally:
        _summary(report, dry_run, terminal)
    document = {
        "dry_run": dry_run,
        "matured": _totals(report.matured),
        "withdrawn": _totals(report.withdrawn),
        "because": dict(report.because.most_common()),
        "nothing_to_settle": report.nothing,
        "seconds": round(time.monotonic() - began, 3),
    }
    finish(terminal, document, report.refused)


async def _settle(provider: Provider, file: Path, dry_run: bool, terminal: Terminal, report: _Report) -> None:
    bars, move = progress(terminal, "结算 settling", sum(1 for _ in read_rows(file, COLUMNS)))
    async with httpx.AsyncClient(base_url=provider.url, auth=provider.signing, event_hooks=ASYNC_HOOKS) as client:
        with bars:
            for rows in batches(read_rows(file, COLUMNS), TOGETHER):
                for bad in rows:
                    if isinstance(bad, BadRow):
                        report.refused.bad(bad)
                good = [row for row in rows if isinstance(row, Row)]
                bodies = [_body(row, dry_run) for row in good]
                answers = await asyncio.gather(*(provider.post(client, "/v1/settlements", body) for body in bodies))
                for row, answer in zip(good, answers, strict=True):
                    _add(report, row, answer)
                move(len(rows))


def _body(row: Row, dry_run: bool) -> dict[str, Any]:
    facts = {name: cell for name, cell in row.cells.items() if name not in COLUMNS and cell}
    return {**{name: row.cells[name] for name in COLUMNS}, "facts": facts, "dry_run": dry_run}


def _add(report: _Report, row: Row, answer: httpx.Response) -> None:
    if not answer.is_success:
        problem = answer.json()
        reason = reason_of(problem)
        if answer.status_code not in _OF_THE_ROW and reason not in ("subject-not-linked", "posting-failed"):
            stop_unless_done(answer)
        report.refused.add(row.line, reason, "; ".join([problem["detail"], *_faults(problem)]))
        return
    found: Sequence[dict[str, Any]] = answer.json()["credits"]
    report.nothing += not found
    for credit in found:
        counted = report.matured if credit["outcome"] == "matured" else report.withdrawn
        counted.update(credits=1, reduction_mg=credit["reduction_mg"], points=credit["points"])
        if credit["because"]:
            report.because[reason_of(credit["because"])] += 1


def _faults(problem: dict[str, Any]) -> list[str]:
    return [f"{fault.get('pointer', '')} {fault['detail']}" for fault in problem.get("errors", [])]


def _totals(counted: Counter[str]) -> dict[str, int]:
    return {name: counted[name] for name in ("credits", "reduction_mg", "points")}


def _summary(report: _Report, dry_run: bool, terminal: Terminal) -> None:
    title = "试运行，未做任何改动 A dry run: nothing was done" if dry_run else "结算结果 What became of the credits"
    rows = []
    for name, counted in (("转为可用 matured", report.matured), ("收回 withdrawn", report.withdrawn)):
        amounts = f"{counted['reduction_mg']:,} mg CO2e, {counted['points']:,} 碳积分 points"
        rows.append((name, f"{counted['credits']:,}", amounts))
    rows += [(f"收回原因 because · {reason_title(why)}", f"{n:,}", why) for why, n in report.because.most_common()]
    rows.append(("没有待结算的行 rows with nothing to settle", f"{report.nothing:,}", ""))
    summarize(terminal, title, rows, report.refused)
