"""What a verification says, as text in English and Chinese and as stable JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ledger.verify.draws import Sum, SumKey
from ledger.verify.findings import CODES, LEFT, LEFT_TO_REPLAY, MOST_SHOWN, Findings, Left
from ledger.verify.keys import Key

VERSION = "1"


@dataclass(slots=True)
class Report:
    """What was looked at, what was found and what stays open.

    log      of the checkpoint that was verified: origin, epoch, size, root
    checked  how many of what
    source_keys  what the log says of each key of a source, by the source and the key's thumbprint
    redeemed what was held, captured, released and refunded, by programme, pool, bank and month
    """

    bundle: str
    log: Mapping[str, str]
    checked: dict[str, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    left: list[Left] = field(default_factory=list)
    remembered: str | None = None
    redeemed: Mapping[SumKey, Sum] = field(default_factory=dict)
    source_keys: Mapping[tuple[str, str], Key] = field(default_factory=dict)

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
            "redeemed": [_redeemed(key, report.redeemed[key]) for key in sorted(report.redeemed)],
        },
        ensure_ascii=False,
    )


def _redeemed(key: SumKey, amount: Sum) -> dict[str, str]:
    named = dict(zip(("programme", "pool", "bank", "month", "kind"), key, strict=True))
    counted = {"steps": amount.steps, "units": amount.units, "points": amount.points, "value_fen": amount.value_fen}
    return named | {name: str(count) for name, count in counted.items()}


def as_text(report: Report) -> Iterator[str]:
    """The lines for people."""
    log = report.log
    yield f"bundle 审计包 {report.bundle}"
    yield f"log 日志 {log['origin']}, epoch 纪元 {log['epoch']}, size 条目 {int(log['size']):,}"
    yield f"root 根哈希 {log['root']}"
    yield "checked 已核对: " + ", ".join(f"{name} {count:,}" for name, count in report.checked.items())
    for key in sorted(report.redeemed):
        one = report.redeemed[key]
        yield (
            f"redeemed 兑换: {' '.join(key)}: steps 笔 {one.steps:,}, units 份 {one.units:,}, "
            f"points 积分 {one.points:,}, value 金额 {one.value_fen:,} fen 分"
        )
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
