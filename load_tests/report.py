"""What `make bench` found, as a Markdown table, a chart and a JSON object."""

import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

SUFFIX = ", an API process a core"  # of the journeys measured on a platform that has one for each core
TITLES = {
    "echo": ("回显 FastAPI（基准）", "bare FastAPI echo of the same body"),
    "singles": ("逐条报送", "single posts"),
    "batches": ("批量报送", "batches"),
    "mixed": ("混合批量，规则全开", "mixed batches, all rules on"),
    "balance": ("查询余额", "balance reads"),
    "holds": ("冻结积分", "holds"),
    "captures": ("扣减积分（验签）", "signed captures"),
}
TITLES |= {name + SUFFIX: (f"{zh}，每核一个接口进程", en + SUFFIX) for name, (zh, en) in TITLES.items()}
STORED = {  # what is stored for each activity is told of these two apart
    "plain": ("普通骑行", "plain rides"),
    "mixed": ("混合批量", "mixed batches"),
}
OUTCOMES = {
    "credited": ("入账", "credited"),
    "duplicate": ("重复报送", "sent again"),
    "already-claimed": ("重复申领", "already claimed"),
    "overlaps-claim": ("与他人占用时段重叠", "overlaps a claim"),
    "overlaps-activity": ("本人同时在两处", "overlaps an activity"),
    "cap-reached": ("已达上限", "cap reached"),
    "participant-covered": ("单位已纳管", "participant covered"),
    "site-covered": ("场所单位已纳管", "site covered"),
}
PROCESSES = {
    "generator": ("负载发生器", "load generator"),
    "api": ("接口", "API"),
    "echo": ("回显", "echo"),
    "PostgreSQL": ("PostgreSQL", "PostgreSQL"),
    "worker": ("日志进程", "log worker"),
    "Valkey": ("Valkey", "Valkey"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A floor this version is held to: of a journey's rate per second, or of its ratio to the echo."""

    journey: str
    of: Literal["rate", "ratio"]
    at_least: float


TARGETS = (
    Target("batches" + SUFFIX, "rate", 8_000),
    Target("batches", "ratio", 0.73),  # what that rate was of the echo's: docs/decisions/0015
    Target("mixed" + SUFFIX, "rate", 5_000),
    Target("singles", "ratio", 0.25),
    Target("balance", "ratio", 0.45),
    Target("holds", "ratio", 0.25),
    Target("captures", "ratio", 0.25),
)


@dataclass(frozen=True, slots=True)
class JourneyFigures:
    """One journey, on a platform of so many API processes. Rates are counted units per second, latencies seconds of a
    request, `cpu` processor seconds per counted unit; rate and ratio are medians of the rounds, with their range.
    `most_queued` is how many leaves waited for their place in the log when the load stopped, in the worst round.
    `outcomes` counts a batch's items, by what became of them."""

    name: str
    processes: int
    clients: int
    items: int
    requests: int
    rate: float
    rate_range: tuple[float, float]
    p50: float
    p99: float
    ratio: float
    ratio_range: tuple[float, float]
    cpu: Mapping[str, float]
    most_queued: int
    outcomes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stored:
    """How many activities were posted, and by how many bytes the tables grew for them, indexes included."""

    activities: int
    growth: Mapping[str, int]

    @property
    def bytes_per_activity(self) -> float:
        return sum(self.growth.values()) / self.activities if self.activities else 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One run on one machine."""

    date: datetime
    machine: Mapping[str, str]
    settings: Mapping[str, str]
    participants: int
    seconds: float
    rounds: int
    stored: Mapping[str, Stored]
    journeys: Sequence[JourneyFigures]
    targets: Sequence[Target]
    receipts: Sequence[float]  # seconds from a credit's answer to its receipt, each while batches were posted

    def reached(self, target: Target) -> tuple[float, bool]:
        """The figure a target is about, and whether it is high enough."""
        journey = next(journey for journey in self.journeys if journey.name == target.journey)
        found = journey.rate if target.of == "rate" else journey.ratio
        return found, found >= target.at_least

    def as_json(self) -> dict[str, Any]:
        return {
            "date": self.date.isoformat(timespec="seconds"),
            "machine": dict(self.machine),
            "settings": dict(self.settings),
            "participants": self.participants,
            "journeys": {journey.name: _rounded(asdict(journey)) for journey in self.journeys},
            "receipt_seconds": [round(seconds, 2) for seconds in self.receipts],
            "bytes_per_activity": {name: round(stored.bytes_per_activity) for name, stored in self.stored.items()},
            "targets": [
                {**asdict(target), "found": round(self.reached(target)[0], 4), "passed": self.reached(target)[1]}
                for target in self.targets
            ],
            "passed": all(self.reached(target)[1] for target in self.targets),
        }


def with_rates(first: Figures, second: Figures) -> Figures:
    """One run's figures: of the first platform all, of the second its journeys."""
    return replace(first, journeys=[*first.journeys, *second.journeys])


def _receipt_lines(seconds: Sequence[float]) -> tuple[str, str]:
    """How long a credit waited for its receipt while batches were posted; two seconds are allowed."""
    middle, most, count = statistics.median(seconds), max(seconds), len(seconds)
    return (
        f"批量报送期间，入账后 {middle:.2f} s 可取得回执（{count} 次，最慢 {most:.2f} s）；要求不超过 2 s。",
        f"While batches were posted, a credit had its receipt {middle:.2f} s after its answer, {most:.2f} s at most "
        f"of {count}; 2 s are allowed.",
    )


def _rounded(value: Any) -> Any:
    """Figures to six places: what a measurement can be trusted for, and more."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, tuple | list) else value


_RATE_HEADS = (
    "",
    "接口进程 API processes",
    "客户端 clients",
    "每秒 per second (min-max)",
    "p50 ms",
    "p99 ms",
    "与回显之比 per echo request",
    "停时未入日志 unlogged at the end",
)


def write_results(figures: Figures, directory: Path) -> None:
    """Write latest.md and latest.svg."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "latest.md").write_text(markdown(figures), "utf-8")
    draw(figures, directory / "latest.svg")


def markdown(figures: Figures) -> str:
    """The report."""
    machine = figures.machine
    settings = "".join(f" · {name} = {value}" for name, value in figures.settings.items()) or " · 默认 defaults"
    parts = [
        "# 性能测量 Measured on one machine",
        "",
        f"{figures.date:%Y-%m-%d %H:%M} UTC · {machine['cpu']}, {machine['cores']} cores, {machine['ram']} RAM · "
        f"{machine['system']} · {machine['python']} · PostgreSQL {machine['postgresql']} · {machine['file_system']}",
        "",
        f"{figures.participants:,} 名参与者，每项 {figures.seconds:g} 秒，分 {figures.rounds} 轮，前后各测一次回显  "
        f"{figures.participants:,} participants, each journey for {figures.seconds:g} s in {figures.rounds} rounds, "
        "the echo for half as long before and after every stretch",
        "",
        f"设置 settings{settings}",
        "",
        "负载发生器、接口、数据库、日志进程与限流同在本机  "
        "The generator, API, database, log worker and limiter share the machine.",
        "",
        "![rates](latest.svg)",
        "",
        "## 目标 Targets",
        "",
        *_table(("", "至少 at least", "实测 found", ""), [_target_row(figures, target) for target in figures.targets]),
        "## 速率与延迟 Rates and latencies",
        "",
        *_table(_RATE_HEADS, [_journey_row(journey) for journey in figures.journeys]),
        "## 回执 Receipts",
        "",
        *_receipt_lines(figures.receipts),
        "",
        "## 混合批量的结论 What became of the mixed batches",
        "",
        *_table(("", "条数 items", "占比 share"), _outcome_rows(figures)),
        "## 每条耗用处理器时间 Processor time per activity or request, µs",
        "",
        *_cpu_table(figures),
        "## 每条活动占用 Stored per activity, bytes",
        "",
        *_table(
            ("表 table, with its indexes", *(" ".join(title) for title in STORED.values())),
            _stored_rows(figures.stored),
        ),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def _target_row(figures: Figures, target: Target) -> tuple[str, str, str, str]:
    found, passed = figures.reached(target)
    verdict = "达到 reached" if passed else "**未达到 missed**"
    if target.of == "rate":
        return _title(target.journey), f"{target.at_least:,.0f}/s", f"{found:,.0f}/s", verdict
    return f"{_title(target.journey)} : echo", f"{target.at_least:.0%}", f"{found:.1%}", verdict


def _journey_row(journey: JourneyFigures) -> tuple[str, ...]:
    low, high = journey.rate_range
    least, most = journey.ratio_range
    batch = f" × {journey.items}" if journey.items > 1 else ""
    return (
        _title(journey.name) + batch,
        str(journey.processes),
        str(journey.clients),
        f"{journey.rate:,.0f} ({low:,.0f}-{high:,.0f})",
        f"{journey.p50 * 1000:.1f}",
        f"{journey.p99 * 1000:.1f}",
        f"{journey.ratio:.1%} ({least:.1%}-{most:.1%})" if not journey.name.startswith("echo") else "",
        f"{journey.most_queued:,}",
    )


def _outcome_rows(figures: Figures) -> list[tuple[str, str, str]]:
    outcomes = next(journey.outcomes for journey in figures.journeys if journey.name == "mixed")
    total = sum(outcomes.values())
    return [(" ".join(OUTCOMES[name]), f"{count:,}", f"{count / total:.2%}") for name, count in outcomes.items()]


def _stored_rows(stored: Mapping[str, Stored]) -> list[tuple[str, ...]]:
    tables = dict.fromkeys(table for one in stored.values() for table, grown in one.growth.items() if grown)
    rows = [
        (f"`{table}`", *(f"{one.growth.get(table, 0) / (one.activities or 1):,.0f}" for one in stored.values()))
        for table in tables
    ]
    totals = (f"**{one.bytes_per_activity:,.0f}**, {one.activities:,} activities" for one in stored.values())
    return [*rows, ("**合计 total**", *totals)]


def _cpu_table(figures: Figures) -> list[str]:
    names = [name for name in PROCESSES if any(name in journey.cpu for journey in figures.journeys)]
    rows = [
        (_title(journey.name), *(f"{journey.cpu.get(name, 0) * 1e6:,.0f}" for name in names))
        for journey in figures.journeys
    ]
    return _table(("", *(" ".join(dict.fromkeys(PROCESSES[name])) for name in names)), rows)


def _title(journey: str) -> str:
    return " ".join(TITLES[journey])


def draw(figures: Figures, path: Path) -> None:
    """The ratios with their floors, and the latencies; the same figures give the same file."""
    import matplotlib as mpl  # only here: it takes a second to load

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tanpuhui", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    _draw_rates(left, figures)
    _draw_latencies(right, figures)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # text stays text: the reader's fonts have the characters
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw_rates(axes: Any, figures: Figures) -> None:
    """Each rate as a share of the floor it is held to: on or beyond the line is reached."""
    for place, target in enumerate(reversed(figures.targets)):
        found, passed = figures.reached(target)
        share = found / target.at_least
        axes.barh(place, share, color="#2f7d4f" if passed else "#b5482f")
        text = f"{found:,.0f}/s" if target.of == "rate" else f"回显的 {found:.1%} of the echo"
        axes.text(min(share, 0.03), place, text, color="white", va="center")
    axes.axvline(1, color="black", linewidth=1)
    names = [_two_lines(target.journey) for target in reversed(figures.targets)]
    axes.set_yticks(range(len(names)), names)
    axes.set_title("相对目标 against the target (line)")


def _draw_latencies(axes: Any, figures: Figures) -> None:
    places = range(len(figures.journeys))
    shown = list(reversed(figures.journeys))
    axes.barh([place + 0.2 for place in places], [one.p50 * 1000 for one in shown], 0.38, color="#4c78a8", label="p50")
    axes.barh([place - 0.2 for place in places], [one.p99 * 1000 for one in shown], 0.38, color="#9ecae9", label="p99")
    axes.set_yticks(list(places), [_two_lines(one.name) for one in shown])
    axes.set_xscale("log")
    axes.legend()
    axes.set_title("延迟 latency, ms")


def _two_lines(journey: str) -> str:
    return "\n".join(TITLES[journey])
