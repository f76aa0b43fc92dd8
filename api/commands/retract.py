"""`tanpuhui retract`: a provider takes back what was credited for the events of a file."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
    summarize,
)
from api.demonstration import Terminal
from api.oauth.bound import ASYNC_HOOKS
from api.provider.outcomes import reason_of
from api.provider.sending import stop_unless_done

BATCH = 500  # ids in a call: under a second of the platform's work


@dataclass(slots=True)
class _Report:
    """What became of the ids so far; `again` are those that stand in the file twice and are asked for once."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Refused = field(default_factory=Refused)
    again: int = 0
    reduction_mg: int = 0
    points: int = 0


def retract(
    file: File,
    feed: FeedName = None,
    source: SourceUri = None,
    dry_run: DryRun = False,
    url: Url = None,
    token_file: TokenFile = None,
    key: SigningKeyFile = None,
    as_json: Json = False,
) -> None:
    """撤回文件所列事件的入账。 Take back what was credited for the events of a file.

    CSV 须有列 id（事件 id），其余列忽略；逐批撤回，可安全重复执行。有未受理的行时以状态 1 结束。

    A CSV with a column id, the events' own ids; other columns are ignored. Repeating it is safe: an event is retracted
    once. Exit status 1 if anything was refused.
    """
    terminal = Terminal(as_json)
    provider = provider_of(feed, source, url, token_file, key)
    began, report = time.monotonic(), _Report()
    try:
        asyncio.run(_retract(provider, file, dry_run, terminal, report))
    finally:
        _summary(report, dry_run, terminal)
    outcomes = {name: report.outcomes[name] for name in ("reversed", "repeated")}
    taken = {"reduction_mg": report.reduction_mg, "points": report.points}
    seconds = round(time.monotonic() - began, 3)
    finish(terminal, {"dry_run": dry_run, **outcomes, **taken, "seconds": seconds}, report.refused)


async def _retract(provider: Provider, file: Path, dry_run: bool, terminal: Terminal, report: _Report) -> None:
    bars, move = progress(terminal, "撤回 retracting", sum(1 for _ in read_rows(file, ("id",))))
    async with httpx.AsyncClient(base_url=provider.url, auth=provider.signing, event_hooks=ASYNC_HOOKS) as client:
        with bars:
            for rows in batches(_once(file, report, move), BATCH):
                response = await provider.post(
                    client, "/v1/retractions", {"ids": [row.cells["id"] for row in rows], "dry_run": dry_run}
                )
                stop_unless_done(response)
                _add(report, rows, response.json()["outcomes"])
                move(len(rows))


def _once(file: Path, report: _Report, move: Any) -> Iterator[Row]:
    """The rows to ask for, each id the first time it stands in the file."""
    seen: set[str] = set()
    for row in read_rows(file, ("id",)):
        if isinstance(row, BadRow):
            report.refused.bad(row)
        elif row.cells["id"] in seen:
            report.again += 1
        else:
            seen.add(row.cells["id"])
            yield row
            continue
        move(1)


def _add(report: _Report, rows: Sequence[Row], outcomes: Sequence[dict[str, Any]]) -> None:
    for row, outcome in zip(rows, outcomes, strict=True):
        report.outcomes[outcome["outcome"]] += 1
        if outcome["outcome"] == "refused":
            report.refused.add(row.line, reason_of(outcome["problem"]), outcome["problem"]["detail"])
        elif outcome["outcome"] == "reversed":
            report.reduction_mg += outcome["reduction_mg"]
            report.points += outcome["points"]


def _summary(report: _Report, dry_run: bool, terminal: Terminal) -> None:
    title = "试运行，未做任何改动 A dry run: nothing was done" if dry_run else "撤回结果 What became of the events"
    rows = [
        ("撤回 reversed", f"{report.outcomes['reversed']:,}", ""),
        ("此前已撤回 retracted before", f"{report.outcomes['repeated']:,}", ""),
        ("文件内重复 repeated in the file", f"{report.again:,}", ""),
        ("收回减排量 reduction", f"{report.reduction_mg:,}", "mg CO2e"),
        ("收回碳积分 points", f"{report.points:,}", ""),
    ]
    summarize(terminal, title, rows, report.refused)
