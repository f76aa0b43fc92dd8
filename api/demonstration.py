"""How a command speaks, and what `tanpuhui demo` shows once its rides are posted."""

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from api.supervisor import RunningPlatform
from service.feeds import Constant, Feed, Row, read_rows


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


def show_next_steps(platform: RunningPlatform, terminal: Terminal, feed: Feed, file: Path) -> None:
    """Addresses to open, and three commands to paste: each carries a token that is good for a day."""
    rider = _first_credited(platform, feed, file)
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
    with httpx.Client(base_url=platform.url, headers=operator, timeout=30) as client:
        for subject, participant_id in enrolled_riders(client, feed, file):
            statement = client.get(f"/v1/participants/{participant_id}/statement").json()
            for transfer in statement["transfers"]:
                if transfer["kind"] == "credit":
                    return _Rider(subject, participant_id, transfer["transfer_id"])
    return None


def enrolled_riders(operator: httpx.Client, feed: Feed, file: Path) -> Iterator[tuple[str, str]]:
    """Riders of the file who are enrolled, in its order: the provider's id of them, and the participant id."""
    given = {"purpose": "carbon-credit", "text_version": "demonstration-1", "given_at": datetime.now(UTC).isoformat()}
    seen: set[str] = set()
    for row in read_rows(feed, [file]):
        if not isinstance(row, Row) or row.subject in seen:
            continue
        seen.add(row.subject)
        link = {"source": feed.source.uri, "subject": row.subject, "consent": given}
        found = operator.post("/v1/participants", json={"kind": "citizen", "links": [link]})
        if found.status_code == 200:
            yield row.subject, found.json()["participant_id"]
