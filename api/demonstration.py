"""What `tanpuhui demo` and `tanpuhui import` do and say: a provider's file through the public API, and what became of
it."""

import asyncio
import json
import shlex
import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.auth import DevelopmentIssuer
from api.problems import PROBLEM_TYPES
from api.provider import (
    DUPLICATE,
    MALFORMED_ROW,
    Consent,
    ImportReport,
    enrol_riders,
    post_rides,
    register_source,
)
from api.supervisor import RunningPlatform
from service.feeds import Constant, Feed, Row, count_rows, load_feed, read_rows

_OWN_REASONS = {
    DUPLICATE: "此前已报送",
    MALFORMED_ROW: "该行无法解读",
}


class Terminal:
    """Where a command speaks. With --json everything for people goes to standard error, and the object is the last line
    of all."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        stream = sys.stderr if as_json else sys.stdout
        width = None if stream.isatty() else 120  # a pipe has no width of its own, and 80 would cut the reasons
        self.console = Console(stderr=as_json, highlight=False, soft_wrap=True, width=width)

    def say(self, zh: str, en: str) -> None:
        self.console.print(f"{zh}  [dim]{en}[/dim]", markup=True)

    def finish(self, document: dict[str, Any]) -> None:
        """The result for a program, where one asked for it."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
            sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Import:
    """A file to post: by which feed, in batches of how many, whether its riders are enrolled, where refused rows and
    the outcomes of all are written."""

    file: Path
    feed_name: str
    enrol: bool = True
    batch: int = 500
    refused: Path | None = None
    outcomes: Path | None = None


def import_file(url: str, issuer: DevelopmentIssuer, terminal: Terminal, wanted: Import) -> ImportReport:
    """Post a file and report. Raises ImportStopped, FeedError."""
    feed = load_feed(wanted.feed_name)
    terminal.say(f"数据方：{feed.title.zh}", f"provider: {feed.title.en}")
    if feed.notes is not None:
        terminal.say(f"说明：{feed.notes.zh}", f"note: {feed.notes.en}")
    if wanted.enrol:
        terminal.say("以演示同意书登记骑行者", "riders are enrolled with demonstration consents")
    report = asyncio.run(_import(url, issuer, terminal, wanted, feed))
    _summary(report, terminal)
    return report


async def _import(url: str, issuer: DevelopmentIssuer, terminal: Terminal, wanted: Import, feed: Feed) -> ImportReport:
    total = count_rows(feed, wanted.file)
    provider = issuer.issue("provider", feed.id, source=feed.source.uri, ttl=timedelta(hours=24))
    operator = issuer.issue("operator", "demonstration", ttl=timedelta(hours=24))
    consent = Consent(given_at=datetime.now(UTC))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        if wanted.enrol:
            await register_source(client, operator, feed)
        with Progress(*columns, console=terminal.console, transient=True) as bars:
            bar = bars.add_task("报送骑行 posting rides", total=total)

            async def enrol(subjects: Collection[str]) -> object:
                return await enrol_riders(client, operator, feed, subjects, consent)

            return await post_rides(
                client,
                provider,
                feed,
                read_rows(feed, wanted.file),
                enrol=enrol if wanted.enrol else None,
                batch_size=wanted.batch,
                on_progress=lambda report: bars.update(bar, completed=report.posted),
                refused_to=wanted.refused,
                outcomes_to=wanted.outcomes,
            )


def _summary(report: ImportReport, terminal: Terminal) -> None:
    table = Table(title="报送结果 What became of the rides", title_justify="left", box=None, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    table.add_row("报送 posted", f"{report.posted:,}")
    table.add_row("入账 credited", f"{report.credited:,}")
    for reason, count in report.refused.most_common():
        zh = _reason_title(reason)
        table.add_row(f"未入账 refused · {zh}", f"{count:,}", reason)
    kilograms = report.reduction_mg / 1_000_000  # for the eye only: the exact milligrams are in the JSON and the ledger
    table.add_row("减排量 reduction", f"{report.reduction_mg:,}", f"mg CO2e = {kilograms:,.3f} kg")
    table.add_row("碳积分 points", f"{report.points:,}")
    table.add_row("用时 time", f"{report.seconds:.1f}", "s")
    if report.seconds:
        table.add_row("速率 rate", f"{report.posted / report.seconds:,.0f}", "rides/s")
    terminal.console.print(table)


def _reason_title(reason: str) -> str:
    """A refusal's reason in Chinese; its code, in English, stands beside it."""
    known = PROBLEM_TYPES.get(reason.partition("/")[0])
    return known.title.zh if known else _OWN_REASONS.get(reason, reason)


def show_next_steps(platform: RunningPlatform, terminal: Terminal, wanted: Import) -> None:
    """Addresses to open, and three commands to paste: each carries a token that is good for a day."""
    feed = load_feed(wanted.feed_name)
    rider = _first_credited(platform, feed, wanted.file)
    url, issuer = platform.url, platform.issuer
    terminal.console.print()
    for zh, en, address in (
        ("接口文档", "the API's documentation", f"{url}/docs"),
        ("错误类型", "problem types", f"{url}/v1/problems"),
        ("方法学", "methodologies", f"{url}/v1/methodologies"),
        ("日志进度", "how far the log is", f"{url}/v1/health/lag"),
    ):
        terminal.say(f"{zh}：{address}", en)
    if rider is None:
        return
    day = timedelta(hours=24)
    provider = issuer.issue("provider", feed.id, source=feed.source.uri, ttl=day)
    citizen = issuer.issue("participant", rider.participant_id, ttl=day)
    now = datetime.now(UTC).replace(microsecond=0)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"try-{now:%Y%m%d%H%M%S}",
        "source": feed.source.uri,
        "type": "org.tanpuhui.activity.v1",
        "subject": rider.subject,
        "data": {
            "scenario": feed.scenario,
            "started_at": (now - timedelta(minutes=12)).isoformat(),
            "ended_at": now.isoformat(),
            "inputs": {"distance_km": "2.35"},
            "vehicle": "try",
        },
    }
    named = {name: spec.constant for name, spec in feed.references.items() if isinstance(spec, Constant)}
    if named:
        event["data"]["references"] = named
    person = f"{url}/v1/participants/{rider.participant_id}"
    kind = "Content-Type: application/cloudevents+json"
    for zh, en, arguments in (
        (
            "报送一次骑行",
            "post one ride",
            ["-H", f"Authorization: Bearer {provider}", "-H", kind, "-d", json.dumps(event), f"{url}/v1/activities"],
        ),
        ("查看余额", "read a balance", ["-H", f"Authorization: Bearer {citizen}", f"{person}/balance"]),
        (
            "解释一笔入账",
            "explain a credit",
            ["-H", f"Authorization: Bearer {citizen}", f"{person}/transfers/{rider.transfer_id}"],
        ),
    ):
        terminal.console.print(f"\n{zh}  [dim]{en}[/dim]")
        terminal.console.print(shlex.join(["curl", "-s", *arguments]), markup=False)
    terminal.console.print()
    terminal.say("服务中，按 Ctrl-C 停止", "serving; Ctrl-C stops it")


@dataclass(frozen=True, slots=True)
class _Rider:
    subject: str
    participant_id: str
    transfer_id: str


def _first_credited(platform: RunningPlatform, feed: Feed, file: Path) -> _Rider | None:
    """The first rider of the file who has a credit."""
    operator = {"Authorization": f"Bearer {platform.issuer.issue('operator', 'demonstration')}"}
    given = {"purpose": "carbon-credit", "text_version": "demonstration-1", "given_at": datetime.now(UTC).isoformat()}
    seen: set[str] = set()
    with httpx.Client(base_url=platform.url, headers=operator, timeout=30) as client:
        for row in read_rows(feed, file):
            if not isinstance(row, Row) or row.subject in seen:
                continue
            seen.add(row.subject)
            link = {"source": feed.source.uri, "subject": row.subject, "consent": given}
            found = client.post("/v1/participants", json={"kind": "citizen", "links": [link]})
            if found.status_code != 200:
                continue
            participant_id = found.json()["participant_id"]
            statement = client.get(f"/v1/participants/{participant_id}/statement").json()
            for transfer in statement["transfers"]:
                if transfer["kind"] == "credit":
                    return _Rider(row.subject, participant_id, transfer["transfer_id"])
    return None
