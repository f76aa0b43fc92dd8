"""docs/same-act-elsewhere.md: ten everyday acts under every document about them, Chinese and English, in Markdown.

Everything on it is computed from the documents, as `tanpuhui quantify --compare` and POST /v1/quantify/compare do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from api.comparing import comparison, grams
from api.problems import Language, Text
from service.activities.rules import RuleBook
from service.quantification.comparing import Told
from service.quantification.periods import SHANGHAI

# The page says the same whenever it is made: this is its now, a Wednesday after the newest table began.
NOW = datetime(2026, 5, 20, 12, tzinfo=SHANGHAI)
_MONTH = (datetime(2026, 4, 1, tzinfo=SHANGHAI), datetime(2026, 5, 1, tzinfo=SHANGHAI))
_LANGUAGES: tuple[Language, Language] = ("zh", "en")


@dataclass(frozen=True, slots=True)
class Act:
    """One act as it is told to every document; `minutes` from eight o'clock on, None for the month of April."""

    act: str
    title: Text
    minutes: int | None
    figures: Mapping[str, str] = field(default_factory=dict)

    @property
    def told(self) -> Told:
        times = _MONTH if self.minutes is None else (_at(0), _at(self.minutes))
        return Told(*times, {name: Decimal(value) for name, value in self.figures.items()})


def _at(minutes: int) -> datetime:
    return datetime(2026, 5, 20, 8 + minutes // 60, minutes % 60, tzinfo=SHANGHAI)


TYPICAL = (
    Act("metro", Text("乘地铁 10 公里", "Ten kilometres by metro"), 25, {"distance_km": "10", "proven": "1"}),
    Act("bus", Text("乘公交 5 公里，上车一次", "Five kilometres by bus, one boarding"), 20,
        {"distance_km": "5", "proven": "1"}),
    Act("shared-bike", Text("骑共享单车 2.5 公里", "2.5 km on a shared bike"), 15, {"distance_km": "2.5"}),
    Act("shared-ebike", Text("骑共享电单车 3 公里", "Three kilometres on a shared e-bike"), 12, {"distance_km": "3"}),
    Act("ride-hailing", Text("乘网约车 8 公里", "Eight kilometres by ride hailing"), 25, {"distance_km": "8"}),
    Act("rooftop-pv", Text("5 千瓦屋顶光伏一个月发电 450 千瓦时", "A month of 450 kWh from 5 kW on a roof"), None,
        {"generation_kwh": "450", "capacity_kw": "5", "months_since_connection": "12"}),
    Act("home-electricity",
        Text("家庭一个月用电 200 千瓦时，上年同月 230", "A household's month of 200 kWh, 230 a year before"), None,
        {"use_kwh": "200", "baseline_kwh": "230"}),
    Act("office-electricity",
        Text("办公场所一个月用电 9000 千瓦时，上年同月 10000", "An office's month of 9,000 kWh, 10,000 a year before"),
        None, {"use_kwh": "9000", "baseline_kwh": "10000"}),
    Act("clean-plate", Text("光盘一次", "A meal with a clean plate"), 0),
    Act("own-bag", Text("自带购物袋一次", "Shopping with an own bag once"), 0),
)  # fmt: skip


def same_act_page(rules: RuleBook) -> Iterator[str]:
    """The lines of the page."""
    yield "# 同一行为在各地 · The same act elsewhere"
    yield from (
        "",
        "十种日常行为，按随附的每一个相关文档各算一次。文档之间的差别来自计入单元、基准和因子，不是同一个量的不同精度；"
        "写明尚有未知的文档不给结果。倍数以有结果的文档的中位数为 1。日期取 2026 年 5 月 20 日，"
        "按月计的取 2026 年 4 月。",
        "",
        "Ten everyday acts, each computed by every shipped document about it. What differs is what a document counts, "
        "what it counts against and its factors; these are not the same quantity to different precision. A document "
        "that says what is not known gives no result. Ratios are to the median of those that give one. The day is 20 "
        "May 2026; for what is counted by the month, April 2026.",
        "",
        "`tanpuhui quantify --compare ACT --input NAME=VALUE` · `POST /v1/quantify/compare`",
    )
    for number, act in enumerate(TYPICAL, start=1):
        yield from ("", f"## {number}. {act.title.zh} · {act.title.en}", "")
        given = ", ".join(f"`{name}` = {value}" for name, value in act.figures.items())
        yield f"`{act.act}`" + (f": {given}" if given else "")
        yield ""
        zh, en = (comparison(rules, act.act, act.told, NOW, language) for language in _LANGUAGES)
        yield from _table(zh, en)


def _table(zh: dict[str, Any], en: dict[str, Any]) -> Iterator[str]:
    documents = list(zip(zh["documents"], en["documents"], strict=True))
    yield (
        "| 文档 document | 地区 where | 减排量 reduction | 倍数 × median | 计入单元 counted | 状态 status | "
        "计入时 credited as |"
    )
    yield "| --- | --- | ---: | ---: | --- | --- | --- |"
    for chinese, english in documents:
        amount = "–" if english["reduction_mg"] is None else f"{grams(english['reduction_mg'])} g"
        page = f"[{english['methodology']}](methodologies/{english['methodology']}.md) {english['version']}"
        yield (
            f"| {page} | {english['jurisdiction']} | {amount} | {english['ratio_to_median'] or '–'} | "
            f"{chinese['trigger_title']} {english['trigger_title']} | {english['status']} | {english['credited_as']} |"
        )
    yield ""
    for chinese, english in documents:
        told, said = "；".join(chinese["because"]), "; ".join(english["because"])
        yield f"- **{english['methodology']}** {' '.join(f'{told}。'.split())}<br>{' '.join(f'{said}.'.split())}"
