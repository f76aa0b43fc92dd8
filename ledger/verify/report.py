"""What a verification says, as text in English and Chinese and as stable JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ledger.verify.findings import CODES, LEFT, LEFT_TO_REPLAY, MOST_SHOWN, Findings, Left

VERSION = "1"


@dataclass(slots=True)
class Report:
    """What was looked at, what was found and what stays open.

    log      of the checkpoint that was verified: origin, epoch, size, root
    checked  how many of what
    """

    bundle: str
    log: Mapping[str, str]
    checked: dict[str, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    left: list[Left] = field(default_factory=list)
    remembered: str | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings.counts


def as_json(report: Report) -> str:
    """One line of JSON. Fields are added, never renamed; the version goes up where one changes its meaning."""
    return json.dumps(
        {
            "v": VERSION,
            "bundle": report.bundle,
            "clean": report.clean,
            "log": report.log,
            "checked": report.checked,
            "findings": [
                {"code": one.code, "index": one.index, "expected": one.expected, "found": one.found, "where": one.where}
                for one in report.findings.in_order()
            ],
            "counts": dict(sorted(report.findings.counts.items())),
            "left": [{"code": one.code, "count": one.count, "first": one.first} for one in report.left],
            "remembered": report.remembered,
        },
        ensure_ascii=False,
    )


def as_text(report: Report) -> Iterator[str]:
    """The lines for people."""
    log = report.log
    yield f"bundle 审计包 {report.bundle}"
    yield f"log 日志 {log['origin']}, epoch 纪元 {log['epoch']}, size 条目 {int(log['size']):,}"
    yield f"root 根哈希 {log['root']}"
    yield "checked 已核对: " + ", ".join(f"{name} {count:,}" for name, count in report.checked.items())
    counts = report.findings.counts
    for code, count in ((code, counts[code]) for code in CODES if counts[code]):
        english, chinese = CODES[code]
        yield ""
        yield f"{code} × {count:,}: expected that {english} / 应当：{chinese}"
        yield from _shown(report, code)
        if count > MOST_SHOWN:
            yield f"  … {count - MOST_SHOWN:,} more / 另有 {count - MOST_SHOWN:,} 处"
    if report.left:
        yield ""
        yield "not decided here / 此处无法判定:"
        for left in report.left:
            english, chinese = LEFT[left.code]
            yield f"  {left.code} × {left.count:,} ({left.first}): {english} / {chinese}"
    english, chinese = LEFT_TO_REPLAY
    yield f"for the replay / 留待重放: {english} / {chinese}"
    yield ""
    if report.clean:
        yield f"nothing was found / 未发现问题{_remembered(report)}"
    else:
        total = sum(counts.values())
        yield f"{total:,} findings under {len(counts)} codes / 发现 {total:,} 处问题，涉及 {len(counts)} 类"


def _shown(report: Report, code: str) -> Sequence[str]:
    lines = []
    for one in report.findings.in_order():
        if one.code == code:
            place = f"entry 条目 {one.index}" if one.index is not None else ""
            lines.append(
                f"  {' '.join(filter(None, (place, one.where)))}: expected 应为 {one.expected}; found 实为 {one.found}"
            )
    return lines


def _remembered(report: Report) -> str:
    return f"; checkpoint remembered in / 检查点已记入 {report.remembered}" if report.remembered else ""
