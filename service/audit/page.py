"""The report as one HTML file: it opens offline, loads nothing, runs nothing, and is read in Chinese or English, in
light or dark. Whatever comes out of a bundle is escaped, for nobody vouches for it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from service.audit.charts import SERIES, Bar, Series, bars, columns, grouped, largest
from service.audit.completeness import Closing, Compared, Counts
from service.audit.findings import LIMITS
from service.audit.page_parts import MOST_ROWS, Cell, both, escaped, in_words, legend, table
from service.audit.redeemed_part import redeemed_part
from service.audit.replay import Replay, Total
from service.audit.report import grams, told, undecided

OTHERS = "…"
_STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def as_html(replay: Replay) -> str:
    """The whole page."""
    return "".join(_page(replay))


def _page(replay: Replay) -> Iterator[str]:
    style = _STYLE.read_text("utf-8")
    yield '<!doctype html>\n<html lang="zh-CN"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>审计重放报告 · Replay: {escaped(replay.verified.log['origin'])}</title>"
    yield f"<style>{style}</style></head><body>"
    yield '<input class="language" type="radio" name="language" id="in-zh" checked>'
    yield '<input class="language" type="radio" name="language" id="in-en">'
    yield '<nav><label for="in-zh">中文</label> <label for="in-en">English</label></nav><main>'
    yield from _head(replay)
    for title, part in (
        (("发现的问题", "Findings"), _findings(replay)),
        (("未能核对", "Not checked"), _undecided(replay)),
        (("入账减排量", "Reductions credited"), _charts(replay)),
        (("合计", "Totals"), _totals(replay)),
        (("兑换", "Redemptions"), redeemed_part(replay.verified.redeemed)),
        (("完整性：日清单", "Completeness: day manifests"), _completeness(replay)),
        (("规则文档", "Rules"), _rules(replay)),
        (("抽样", "Samples"), _samples(replay)),
        (("审计包不能证明的", "What no bundle shows"), _limits()),
    ):
        body = "".join(part)
        if body:
            yield f"<h2>{both(*title)}</h2>{body}"
    yield "</main></body></html>\n"


def _head(replay: Replay) -> Iterator[str]:
    log, found = replay.verified.log, told(replay)
    yield f"<h1>{both('审计重放报告', 'Replay of an auditor’s bundle')}</h1>"
    if found:
        total = sum(one.times for one in found)
        verdict = both(f"发现 {total:,} 处问题，涉及 {len(found)} 类", f"{total:,} findings under {len(found)} codes")
    else:
        verdict = both("未发现问题", "Nothing was found")
    rest = both("未能核对的见下。", "What could not be checked is listed below.") if undecided(replay) else ""
    yield f'<div class="verdict{" bad" if found else ""}"><strong>{verdict}</strong><p>{rest}</p></div><dl>'
    for name, value in (
        (("项目", "Programme"), replay.bundle.programme),
        (("日志", "Log"), f"{log['origin']}, {log['epoch']}"),
        (("条目", "Entries"), f"{replay.size:,}"),
        (("根哈希", "Root"), log["root"]),
        (("导出于", "Exported"), replay.bundle.created_at),
        (("已核对", "Checked"), _checked({**replay.verified.checked, **replay.checked})),
    ):
        yield f"<dt>{both(*name)}</dt><dd><code>{escaped(value)}</code></dd>"
    yield "</dl>"


def _checked(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)


def _findings(replay: Replay) -> Iterator[str]:
    for each in told(replay):
        yield f"<h3><code>{escaped(each.code)}</code> × {each.times:,}: {in_words(each.words)}</h3>"
        yield table(
            (("条目", "Entry"), ("何处", "Where"), ("应为", "Expected"), ("实为", "Found")),
            (
                [
                    Cell("" if one.index is None else str(one.index), "n"),
                    Cell(escaped(one.where), "wide"),
                    Cell(escaped(one.expected), "wide"),
                    Cell(escaped(one.found), "wide bad"),
                ]
                for one in each.shown
            ),
            each.times,
        )


def _undecided(replay: Replay) -> Iterator[str]:
    found = undecided(replay)
    if found:
        yield table(
            (("内容", "What"), ("次数", "How often"), ("首处", "First")),
            (
                [Cell(in_words(one.words)), Cell(f"{one.times:,}", "n"), Cell(escaped(one.first), "wide")]
                for one in found
            ),
            len(found),
        )


def _charts(replay: Replay) -> Iterator[str]:
    if not replay.totals:
        return
    scenarios, names = _by_scenario(replay.totals), grouped(sorted({one.month for one in replay.totals}))
    own = largest(scenarios)
    places = sorted(set(names.values()))
    unit, name = _unit(replay.totals)
    values = {scenario: [0] * len(places) for scenario in [*own, ""]}
    for one in replay.totals:
        row = values[one.scenario if one.scenario in own else ""]
        row[places.index(names[one.month])] += one.reduction_mg
    series = [
        Series(number if scenario else SERIES, scenario or OTHERS, [mg // unit for mg in values[scenario]])
        for number, scenario in enumerate([*own, ""])
        if any(values[scenario])
    ]
    yield f"<figure><figcaption>{both('按行为月份与场景', 'By month of the activity and scenario')}</figcaption>"
    yield columns(places, series, name)
    yield legend([(each.colour, _scenario(replay, each.name)) for each in series])
    yield "</figure>"
    yield f"<figure><figcaption>{both('按数据方', 'By source')}</figcaption>{bars(_source_bars(replay.totals))}"
    yield legend([(0, both("有效", "standing")), (5, both("已冲正", "taken back"))])
    yield "</figure>"


def _scenario(replay: Replay, name: str) -> str:
    title = replay.scenarios.get(name)
    if title is not None:
        return both(title.zh, title.en)
    return both("其他", "others") if name == OTHERS else escaped(name)


def _by_scenario(totals: Iterable[Total]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for one in totals:
        sums[one.scenario] = sums.get(one.scenario, 0) + one.reduction_mg
    return sums


def _unit(totals: Iterable[Total]) -> tuple[int, str]:
    """Milligrams in the unit of a chart, and its name: tonnes, kilograms or grams."""
    most = max((one.reduction_mg for one in totals), default=0)
    for unit, name in ((10**9, "t CO2e"), (10**6, "kg CO2e")):
        if most >= 100 * unit:
            return unit, name
    return 10**3, "g CO2e"


def _source_bars(totals: Iterable[Total]) -> list[Bar]:
    sums: dict[str, list[int]] = {}
    for one in totals:
        mine = sums.setdefault(one.source, [0, 0])
        mine[0] += one.reduction_mg
        mine[1] += one.reversed_mg
    rows = sorted(sums.items(), key=lambda each: (-each[1][0], each[0]))[: 2 * SERIES]
    return [
        Bar(source, [(0, mg - back, grams(mg - back)), (5, back, grams(back))], grams(mg))
        for source, (mg, back) in rows
    ]


def _totals(replay: Replay) -> Iterator[str]:
    if not replay.totals:
        return
    yield table(
        (
            ("场景", "Scenario"),
            ("数据方", "Source"),
            ("月份", "Month"),
            ("入账", "Credits"),
            ("减排量", "Reduction"),
            ("积分", "Points"),
            ("活动加分", "Of campaigns"),
            ("冲正", "Reversals"),
            ("冲正减排量", "Taken back"),
            ("冲正积分", "Points taken back"),
            ("转为可用", "Matured"),
        ),
        (
            [
                Cell(escaped(one.scenario)),
                Cell(escaped(one.source), "wide"),
                Cell(escaped(one.month)),
                *(Cell(f"{count:,}", "n") for count in (one.credits,)),
                Cell(grams(one.reduction_mg), "n"),
                *(Cell(f"{count:,}", "n") for count in (one.points, one.campaign_points, one.reversals)),
                Cell(grams(one.reversed_mg), "n"),
                *(Cell(f"{count:,}", "n") for count in (one.reversed_points, one.maturities)),
            ]
            for one in replay.totals[:MOST_ROWS]
        ),
        len(replay.totals),
    )


def _completeness(replay: Replay) -> Iterator[str]:
    if not replay.closings:
        return
    yield f"<figure><figcaption>{both('有入账的日子', 'Days with credits')}</figcaption>"
    yield bars(
        [
            Bar(one.source, [(2, one.closed, f"{one.closed:,}"), (1, len(one.open), f"{len(one.open):,}")], _days(one))
            for one in replay.closings[: 2 * SERIES]
        ]
    )
    yield legend([(2, both("已报日清单", "with a manifest")), (1, both("未报", "without one"))])
    yield "</figure>"
    rows = sorted(replay.days, key=lambda one: (one.agrees, one.source, one.day, one.scenario))
    yield table(
        (
            ("数据方", "Source"),
            ("日期", "Day"),
            ("序号", "Number"),
            ("场景", "Scenario"),
            ("数据方所报", "Claimed"),
            ("平台接收", "Received"),
            ("日志", "In the log"),
        ),
        (_day(one) for one in rows[:MOST_ROWS]),
        len(rows),
    )


def _days(one: Closing) -> str:
    return f"{one.closed:,} / {one.closed + len(one.open):,}"


def _day(one: Compared) -> list[Cell]:
    kind = "n" if one.agrees else "n bad"
    counts = [Cell(_counts(each), kind) for each in (one.claimed, one.received, one.logged)]
    return [
        Cell(escaped(one.source), "wide"),
        Cell(escaped(one.day)),
        Cell(str(one.sequence), "n"),
        Cell(escaped(one.scenario)),
        *counts,
    ]


def _counts(counts: Counts | None) -> str:
    if counts is None:
        return both("原文已删除", "erased")
    refused = "" if counts.refused is None else both(f"；拒 {counts.refused:,}", f"; {counts.refused:,} refused")
    return f"{counts.credited:,} · {grams(counts.reduction_mg)} · {counts.points:,}{refused}"


def _rules(replay: Replay) -> Iterator[str]:
    if replay.rules:
        yield table(
            (("文档", "Document"), ("版本", "Version"), ("状态", "Status"), ("入账", "Credits"), ("摘要", "Digest")),
            (
                [
                    Cell(escaped(one.id)),
                    Cell(str(one.version), "n"),
                    Cell(escaped(one.status)),
                    Cell(f"{one.credits:,}", "n"),
                    Cell(f"<code>{escaped(one.digest)}</code>", "wide"),
                ]
                for one in replay.rules
            ),
            len(replay.rules),
        )


def _samples(replay: Replay) -> Iterator[str]:
    if not replay.samples:
        return
    drawn = both(
        "由检查点的根哈希抽取：SHA-256（根哈希，后接十进制序号），对条目数取余。请按事件编号向数据方查证。",
        "Drawn from the checkpoint’s root: SHA-256 of the root and the number in decimal, modulo the size. Ask the "
        "source for each event.",
    )
    yield f"<p>{drawn}</p>"
    yield table(
        (
            ("序号", "Number"),
            ("条目", "Entry"),
            ("类别", "Kind"),
            ("日期", "Day"),
            ("数据方", "Source"),
            ("事件", "Event"),
            ("参与者", "Participant"),
        ),
        (
            [
                Cell(str(one.number), "n"),
                Cell(str(one.entry), "n"),
                *(Cell(escaped(text or "")) for text in (one.kind, one.day)),
                *(Cell(escaped(text or ""), "wide") for text in (one.source, one.event, one.participant)),
            ]
            for one in replay.samples
        ),
        len(replay.samples),
    )


def _limits() -> Iterator[str]:
    for words in LIMITS:
        yield f"<p>{in_words(words)}</p>"
