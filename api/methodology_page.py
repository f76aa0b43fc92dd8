"""A methodology as a page to read, in Markdown, Chinese and English: what `tanpuhui methodology show` prints and
docs/methodologies/ holds. Everything on it is in the document, or computed from it."""

import re
from collections.abc import Iterable, Iterator, Sequence

from api.problems import Language, Text, word
from service.quantification.document import Bilingual
from service.quantification.expression import plain
from service.quantification.model import (
    UNKNOWN,
    Cap,
    ClaimRule,
    Condition,
    Example,
    Factor,
    FactorValue,
    Input,
    Methodology,
)
from service.quantification.quantify import explain
from service.rule_changes import changes

# Codes of a document that only a page about one spells out, after the place they stand in.
_WORDS: dict[str, Text] = {
    "each/day": Text("每日", "per day"),
    "each/month": Text("每月", "per month"),
    "each/year": Text("每年", "per year"),
    "most/actions": Text("次", "actions"),
    "most/points": Text("分", "points"),
    "beyond/clip": Text("超出部分不计", "only what is left under it counts"),
    "beyond/refuse": Text("整条不计", "the item that crosses it earns nothing"),
    "grade/credit": Text("计入", "credited"),
    "grade/match": Text("待运营方记录核对", "pending until an operator's record matches"),
    "grade/grams": Text("仅计减排量，不计积分", "grams only, no points"),
    "register/coverage": Text("碳排放权交易纳入名录", "entities covered by emission trading"),
    "register/elsewhere": Text("在其他机制主张的名录", "claims under other schemes"),
}


def page(versions: Sequence[Methodology], shown: Methodology, languages: Sequence[Language]) -> Iterator[str]:
    """The lines of the page about `shown`, one of the `versions` of its id, in each of the languages.

    In both languages it is one page of two halves.
    """
    yield f"# {_both(shown.title, languages)}"
    for language in languages:
        if len(languages) > 1:
            yield from ("", f"## {'中文' if language == 'zh' else 'English'}")
        yield from _half(versions, shown, language, "###" if len(languages) > 1 else "##")


def _both(text: Bilingual, languages: Sequence[Language]) -> str:
    return " · ".join(getattr(text, language) for language in languages)


def _half(versions: Sequence[Methodology], shown: Methodology, language: Language, level: str) -> Iterator[str]:
    say = _Speech(language)
    yield from ("", *say.summary(shown))
    for title, lines in (
        (Text("说明", "Notes"), say.notes(shown)),
        (Text("尚未知道的内容", "What is not known"), say.missing(shown)),
        (Text("适用范围", "Scope"), say.scope(shown)),
        (Text("输入", "Inputs"), say.inputs(shown.inputs.values())),
        (Text("读数", "Readings"), say.readings(shown)),
        (Text("基准", "Baselines"), say.baselines(shown)),
        (Text("因子", "Factors"), say.factors(shown.factors.values())),
        (Text("公式", "Formula"), say.formula(shown)),
        (Text("条件", "Conditions"), say.conditions(shown.conditions)),
        (Text("上限", "Caps"), say.caps(shown.caps)),
        (Text("唯一性", "Counted once"), say.claims(shown)),
        (Text("结算", "Settlement"), say.settlement(shown)),
        (Text("算例", "Worked examples"), say.examples(shown)),
        (Text("来源", "Sources"), say.sources(shown)),
        (Text("版本", "Versions"), say.versions(versions)),
    ):
        found = list(lines)
        if found:
            yield from ("", f"{level} {say.text(title)}", "", *found)


class _Speech:
    """The parts of a page in one language; a part that the document does not have is empty."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self.colon = "：" if language == "zh" else ": "

    def text(self, text: Text | Bilingual) -> str:
        return str(getattr(text, self.language))

    def say(self, zh: str, en: str) -> str:
        return zh if self.language == "zh" else en

    def word(self, code: str, within: str = "") -> str:
        own = _WORDS.get(f"{within}/{code}")
        return self.text(own) if own else word(code, self.language, within)

    def words(self, codes: Iterable[str], within: str = "") -> str:
        return ("、" if self.language == "zh" else ", ").join(self.word(code, within) for code in codes)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
        found = [tuple(" ".join(cell.split()).replace("|", "\\|") for cell in row) for row in rows]
        if found:
            yield f"| {' | '.join(head)} |"
            yield f"|{' --- |' * len(head)}"
            yield from (f"| {' | '.join(row)} |" for row in found)

    def summary(self, one: Methodology) -> Iterator[str]:
        rows = [
            (self.say("编号与版本", "id and version"), f"`{one.id}` {self.say('第', 'version')} {one.version}"
             + self.say(" 版", "")),
            (self.say("摘要", "digest"), f"`{one.digest}`"),
            (self.say("状态", "status"), f"`{one.status}` {self.word(one.status)}"),
            (self.say("发布方", "issuer"), self.text(one.issuer)),
            (self.say("适用地区", "jurisdiction"), f"`{one.jurisdiction}`"),
            (self.say("施行日期", "days in force"), self.in_force(one)),
            (self.say("计入时的状态", "credited as"), self._credited_as(one)),
            (self.say("公式可信度", "confidence of the formula"), self._formula_confidence(one)),
        ]  # fmt: skip
        faults = [self.word(code) for code in one.faults]
        rows.append(
            (
                self.say("能否计入", "can it credit"),
                self.say("不能：", "no: ") + self.say("；", "; ").join(faults)
                if faults
                else self.say(
                    "文档本身没有障碍；是否计入取决于本部署允许的状态与审批",
                    "nothing in the document stands against it; status and approvals are the deployment's",
                ),
            )
        )
        yield from self.table(("", ""), rows)

    def _credited_as(self, one: Methodology) -> str:
        named = f"`{one.credited_as}` {self.word(one.credited_as)}"
        if one.credited_as == one.status:
            return named
        return named + self.say("：", ": ") + self.say("；", "; ").join(self.word(code) for code in one.inferred)

    def _formula_confidence(self, one: Methodology) -> str:
        if one.reduction is None:
            return self.say("没有可计算的公式", "there is no formula to compute with")
        return self.word(one.formula_confidence)

    def notes(self, one: Methodology) -> Iterator[str]:
        yield from (f"- {self.text(note)}" for note in one.notes)

    def missing(self, one: Methodology) -> Iterator[str]:
        yield from (f"- {self.text(what)}" for what in one.missing)

    def scope(self, one: Methodology) -> Iterator[str]:
        grades = ", ".join(f"{grade} {self.word(one.grades[grade], 'grade')}" for grade in sorted(one.grades))
        if one.act:
            yield f"- {self.say('行为', 'Act')}{self.colon}{self.word(one.act, 'act')} (`{one.act}`)"
        if one.part_of:
            yield f"- {self.say('出自', 'Part of')}{self.colon}{self.text(one.part_of.title)} (`{one.part_of.id}`)"
        if one.baseline_scenario:
            yield f"- {self.say('与何相比', 'Counted against')}{self.colon}{self.text(one.baseline_scenario)}"
        for zh, en, what in (
            ("场景", "Scenario", f"{self.text(one.scenario.title)} (`{one.scenario.id}`)"),
            ("计入单元", "Credited", self._trigger(one)),
            ("减排量类别", "Class of reduction", self.word(one.credit_class)),
            ("参与者", "Participants", self.words(sorted(one.participants) or [UNKNOWN])),
            ("证据等级", "Grades of evidence", grades),
            ("申报期限", "Claim window", self._claim_window(one)),
        ):
            yield f"- {self.say(zh, en)}{self.colon}{what}"
        if one.exclusive:
            yield "- " + self.say(
                f"同一人在 `{one.exclusive}` 组内的行为时间不得重叠",
                f"One person's activities of the group `{one.exclusive}` never overlap in time",
            )
        if one.registers:
            looked_up = self.words(sorted(one.registers), "register")
            yield f"- {self.say('核对名录', 'Registers looked up')}{self.colon}{looked_up}"

    def in_force(self, one: Methodology) -> str:
        return self.word(UNKNOWN) if one.in_force is None else str(one.in_force)

    def _trigger(self, one: Methodology) -> str:
        if one.period is None:
            unknown = self.say("，周期", ", of a period ") + self.word(UNKNOWN) if "period" in one.unknown else ""
            return self.word(one.trigger) + unknown
        unit, most = one.period.unit, one.period.at_most
        zh = {"day": "日", "month": "月", "year": "年"}[unit]
        return self.say(f"整{zh}，一次至多 {most} 个", f"whole calendar {unit}s, at most {most} in one report")

    def _claim_window(self, one: Methodology) -> str:
        if one.claim_window_days is None:
            return self.word(UNKNOWN) if "claim_window" in one.unknown else self.say("不限", "none")
        days = one.claim_window_days
        return self.say(f"行为日之后 {days} 日", f"{days} days after the activity's day")

    def inputs(self, inputs: Iterable[Input]) -> Iterator[str]:
        head = (self.say("输入", "input"), self.say("范围", "range"), self.say("含义", "meaning"))
        yield from self.table(head, ((f"`{one.name}`", _range(one), self.text(one.meaning)) for one in inputs))

    def readings(self, one: Methodology) -> Iterator[str]:
        head = (
            self.say("读数", "readings"),
            self.say("含义", "meaning"),
            self.say("最低覆盖", "coverage at least"),
            self.say("最长缺口", "longest gap"),
            self.say("缺口处理", "gaps"),
        )
        rows = []
        for rule in one.readings.values():
            cover, gap = f"{plain(rule.coverage_at_least)}", f"{plain(rule.longest_gap_h)} h"
            name = f"`{rule.name}` {rule.unit}"
            rows.append((name, self.text(rule.meaning), cover, gap, self.word(rule.gaps, "gaps")))
            for window in rule.windows.values():
                hours = f"{_clock(window.begins_s)}–{_clock(window.ends_s)}"
                rows.append((f"`{window.name}` {hours}", self.text(window.meaning), "", "", ""))
        yield from self.table(head, rows)

    def baselines(self, one: Methodology) -> Iterator[str]:
        head = (
            self.say("基准", "baseline"),
            self.say("对应读数", "of"),
            self.say("取自", "from"),
            self.say("含义", "meaning"),
        )
        yield from self.table(
            head,
            (
                (
                    f"`{rule.name}`",
                    f"`{rule.of}`",
                    self.word(rule.origin, "origin") + (f" ({rule.periods})" if rule.origin == "preceding" else ""),
                    self.text(rule.meaning),
                )
                for rule in one.baseline.values()
            ),
        )

    def factors(self, factors: Iterable[Factor]) -> Iterator[str]:
        head = (
            self.say("因子", "factor"),
            self.say("数值", "value"),
            self.say("日期", "days"),
            self.say("可信度", "confidence"),
            self.say("来源", "source"),
            self.say("含义与说明", "meaning and notes"),
        )
        rows = []
        for factor in factors:
            for value in factor.values:
                rows.append(self._factor_value(factor, value))
            for unknown in factor.unknown:
                source = unknown.source.id if unknown.source else "–"
                note = self.text(unknown.note) if unknown.note else ""
                found = (self.say("未找到", "not found"), str(unknown.span), "–", source)
                rows.append((f"`{factor.name}`", *found, f"{self.text(factor.meaning)} {note}"))
        yield from self.table(head, rows)

    def _factor_value(self, factor: Factor, value: FactorValue) -> tuple[str, ...]:
        confidence = self.word(value.confidence)
        if value.quality:
            confidence += self.say("；来源质量低", "; a source of low quality")
        unit = "" if factor.unit == "1" else f" {factor.unit}"
        note = f"; {self.text(value.note)}" if value.note else ""
        if value.pinned:
            pin = f"`{value.pinned.figure}` {self.say('，因子集', 'of the factor set')} `{value.pinned.set}`"
            note = f"; {pin} `{value.pinned.digest[:16]}…`{note}"
        return (
            f"`{factor.name}`",
            f"{plain(value.value)}{unit}",
            str(value.span),
            confidence,
            value.source.id,
            f"{self.text(factor.meaning)}{note}",
        )

    def formula(self, one: Methodology) -> Iterator[str]:
        if one.reduction is None:
            return
        result = self.say("减排量 (g)", "reduction (g)")
        yield from ("```text", f"{result} = {one.reduction.expression.source}", "```", "")
        yield self.say(
            "结果向下取整为整毫克，只取整一次；不足一毫克的不计入。",
            "Rounded down once, to a whole milligram; less than a milligram is refused.",
        )

    def conditions(self, conditions: Sequence[Condition]) -> Iterator[str]:
        if not conditions:
            return
        yield self.say(
            "依次检查，首个不满足者即为拒绝原因；取值等于“不小于”“不大于”的限值时仍满足。",
            "Checked in this order; the first that is not met is the refusal. A value equal to an “at least” or “at "
            "most” limit is still good.",
        )
        yield ""
        head = ("", self.say("要求", "requirement"), self.say("理由", "because"))
        yield from self.table(head, map(self._condition, conditions))

    def _condition(self, one: Condition) -> tuple[str, ...]:
        unit = "" if one.formula.unit == "1" else f" {one.formula.unit}"
        must = f"`{one.formula.expression.source}` {self.word(one.comparison)} {plain(one.limit)}{unit}"
        return f"`{one.id}` {self.text(one.title)}", must, self.text(one.because)

    def caps(self, caps: Sequence[Cap]) -> Iterator[str]:
        head = ("", self.say("上限", "at most"), self.say("超出时", "beyond"), self.say("理由", "because"))
        yield from self.table(head, map(self._cap, caps))

    def _cap(self, cap: Cap) -> tuple[str, ...]:
        most = f"{cap.at_most} mg" if cap.of == "grams" else f"{cap.at_most} {self.word(cap.of, 'most')}"
        beyond = self.word(cap.beyond, "beyond")
        beyond += self.say("；冲正后恢复", "; a reversal gives it back") if cap.restored else ""
        return f"`{cap.id}`", f"{self.word(cap.per, 'each')} {most}", beyond, self.text(cap.because)

    def claims(self, one: Methodology) -> Iterator[str]:
        yield from (f"- {self._claim(rule)}" for rule in one.claims)

    def _claim(self, rule: ClaimRule) -> str:
        things = self.words(rule.of, "reference")
        optional = self.say("（可缺）", " (may be absent)") if rule.optional else ""
        if not rule.over_time:
            return self.say(
                f"{things}{optional}：只计一次，不论由谁报送",
                f"{things}{optional}: counted once, whoever reports it",
            )
        if rule.use:
            return self.say(
                f"{things}{optional}：同一时间不得有 `{rule.use}` 以外用途的主张",
                f"{things}{optional}: no claim of another use than `{rule.use}` at the same time",
            )
        return self.say(
            f"{things}{optional}：同一时间只计一次", f"{things}{optional}: no two activities at the same time"
        )

    def settlement(self, one: Methodology) -> Iterator[str]:
        if one.settlement is None:
            return
        yield self.say(
            f"结算前为待确认；行为日之后 {one.settlement.due_days} 日仍未结算即为逾期。",
            f"Pending until settled; overdue {one.settlement.due_days} days after the activity's day.",
        )
        yield from ("", *self.inputs(one.settlement.facts.values()), "")
        yield from self.table(
            ("", self.say("要求", "requirement"), self.say("理由", "because")),
            map(self._condition, one.settlement.conditions),
        )

    def examples(self, one: Methodology) -> Iterator[str]:
        if one.missing:  # such a document computes nothing
            return
        for number, example in enumerate(one.examples, start=1):
            if number > 1:
                yield ""
            yield from self._example(one, example, number)

    def _example(self, one: Methodology, example: Example, number: int) -> Iterator[str]:
        activity = example.activity
        times = f"{activity.started_at.isoformat()} – {activity.ended_at.isoformat()}"
        yield f"**{number}. {self.text(example.title)}**{self.colon}{times}"
        given = ", ".join(f"`{name}` = {plain(value)}" for name, value in activity.inputs.items())
        yield from ("", given, "", "```text") if given else ("", "```text")
        yield from explain(one, activity).steps
        yield "```"

    def sources(self, one: Methodology) -> Iterator[str]:
        for source in one.sources:
            link = f" <{source.url}>" if source.url else ""
            published = self.word(source.published)
            yield f"- `{source.id}` {self.text(source.title)}, {self.text(source.publisher)}, {published}.{link}"

    def versions(self, versions: Sequence[Methodology]) -> Iterator[str]:
        head = (
            self.say("版本", "version"),
            self.say("施行日期", "days in force"),
            self.say("状态", "status"),
            self.say("摘要", "digest"),
            self.say("变化", "what changed"),
        )
        rows = []
        before: Methodology | None = None
        for one in versions:
            changed = self._changed(before, one)
            rows.append((str(one.version), self.in_force(one), one.status, f"`{one.digest}`", changed))
            before = one
        yield from self.table(head, rows)

    def _changed(self, before: Methodology | None, one: Methodology) -> str:
        if before is None:
            return self.say("首版", "first")
        found = changes(before.document, one.document)
        told = [f"`{one.path}` {one.old or '–'} → {one.new or '–'}" for one in found if one.figure]
        others = {re.split(r"[.\[]", change.path, maxsplit=1)[0] for change in found if not change.figure}
        told += [f"`{name}`" for name in sorted(others - {"version"})]
        return self.say("；", "; ").join(told)


def _range(one: Input) -> str:
    return one.limits.replace(" 1,", ",").removesuffix(" 1") if one.unit == "1" else one.limits


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds % 3600 // 60:02}"
