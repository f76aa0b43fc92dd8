"""The same act under every document about it, as a person reads it: what each gives, and why it differs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from api.explaining import factor_view
from api.problems import Language, Problem, Text, word
from api.v1.methodologies import methodology_summary
from service.activities.rules import RuleBook
from service.quantification.comparing import TIMES, Outcome, Told, acts_of, compare
from service.quantification.document import Bilingual
from service.quantification.expression import plain
from service.quantification.model import Methodology
from service.quantification.quantify import FactorUsed
from service.quantification.refusals import MethodologyIncomplete, Refusal

_TIMES_MEANT = Text("开始与结束时间", "when it began and ended")


def comparison(rules: RuleBook, act: str, told: Told, now: datetime, language: Language) -> dict[str, Any]:
    """The answer. Raises Problem act-not-covered, or outside-calendar for a time that falls on no day."""
    methodologies = rules.methodologies.all()
    acts = acts_of(methodologies)
    if act not in acts:  # the member is the whole list; a parameter is cut where it is long
        raise Problem("act-not-covered", act=act, acts=", ".join(acts), members={"acts": list(acts)})
    try:
        outcomes = compare(methodologies, act, told, now.replace(microsecond=0))
    except Refusal as refusal:
        raise Problem(refusal.slug, **dict[str, Any](refusal.params)) from None
    return comparison_view(rules, act, outcomes, language)


def comparison_view(rules: RuleBook, act: str, outcomes: Sequence[Outcome], language: Language) -> dict[str, Any]:
    """What every document gives; `median_mg` is of those that give something, rounded down to a milligram."""
    speech = _Speech(outcomes, language)
    return {
        "act": act,
        "act_title": word(act, language, "act"),
        "computed": len(speech.computed),
        "median_mg": speech.median_mg,
        "documents": [_document(rules, one, speech) for one in outcomes],
    }


def _document(rules: RuleBook, outcome: Outcome, speech: "_Speech") -> dict[str, Any]:
    methodology, language = outcome.methodology, speech.language
    summary = methodology_summary(rules, methodology, language)
    explanation, formula = outcome.explanation, methodology.reduction
    identity = ("version", "digest", "title", "jurisdiction", "scenario", "part_of")
    standing = ("status", "status_title", "credited_as", "credited_as_title", "confidence", "confidence_title")
    return {
        "methodology": methodology.id,
        **{name: summary[name] for name in identity},
        "issuer": getattr(methodology.issuer, language),
        **{name: summary[name] for name in standing},
        "can_credit": summary["can_credit"],
        "why_not": summary["why_not"],
        "why_not_titles": summary["why_not_titles"],
        "trigger": methodology.trigger,
        "trigger_title": word(methodology.trigger, language),
        "period": methodology.period and {"unit": methodology.period.unit, "at_most": methodology.period.at_most},
        "credit_class": methodology.credit_class,
        "day": outcome.day.isoformat(),
        "in_force": outcome.in_force,
        "days_in_force": methodology.in_force_shown,
        "baseline_scenario": summary["baseline_scenario"],
        "reduction_mg": outcome.mg,
        "ratio_to_median": speech.ratio(outcome),
        "refusal": _refusal(outcome, language),
        "formula": formula and formula.expression.source,
        "steps": list(explanation.steps) if explanation else [],
        "factors": [factor_view(one, language) for one in _factors(outcome)],
        "not_used": list(outcome.not_used),
        "not_checked": list(outcome.not_checked),
        "because": list(speech.because(outcome)),
    }


def _factors(outcome: Outcome) -> tuple[FactorUsed, ...]:
    """Those the result came from; of a document without one, what it knows for the day."""
    if outcome.explanation is not None:
        return outcome.explanation.factors
    return tuple(
        FactorUsed(name, factor.unit, factor.meaning, used)
        for name, factor in outcome.methodology.factors.items()
        if (used := factor.on(outcome.day)) is not None
    )


def _refusal(outcome: Outcome, language: Language) -> dict[str, Any] | None:
    """Why a document gives nothing: what it does not know, what nobody told, or what a report is refused with."""
    if outcome.explanation is not None:
        return None
    methodology, refusal = outcome.methodology, outcome.refusal
    lacking = [_lacking(methodology, name, language) for name in outcome.lacking]
    if refusal is None:
        reason, detail = "missing-input", _listed((one["name"] for one in lacking), language)
    else:
        problem = Problem(refusal.slug, **dict[str, Any](refusal.params))
        reason, detail = refusal.reason, str(problem.render(language)["detail"])
    missing = [getattr(one, language) for one in methodology.missing]
    return {"reason": reason, "detail": detail, "lacking": lacking, "missing": missing}


def _lacking(methodology: Methodology, name: str, language: Language) -> dict[str, str]:
    if name in TIMES:
        return {"name": name, "unit": "", "meaning": getattr(_TIMES_MEANT, language)}
    kinds: Mapping[str, Any] = {**methodology.inputs, **methodology.readings, **methodology.baseline}
    declared = kinds[name]
    unit = methodology.readings[declared.of].unit if name in methodology.baseline else declared.unit
    return {"name": name, "unit": unit, "meaning": getattr(declared.meaning, language)}


def _listed(names: Iterator[str], language: Language) -> str:
    return ("、" if language == "zh" else ", ").join(names)


class _Speech:
    """Why one outcome differs from the others, in one language."""

    def __init__(self, outcomes: Sequence[Outcome], language: Language) -> None:
        self.language: Language = language
        self.computed = tuple(one for one in outcomes if one.mg is not None)
        amounts = sorted(one.mg for one in self.computed if one.mg is not None)
        middle = len(amounts) // 2
        self.median_mg = (amounts[~middle] + amounts[middle]) // 2 if amounts else None

    def ratio(self, outcome: Outcome) -> str | None:
        """To the median, in hundredths, half up; None without a result or another to compare it with."""
        if outcome.mg is None or not self.median_mg or len(self.computed) == 1:
            return None
        hundredths = (outcome.mg * 200 + self.median_mg) // (2 * self.median_mg)
        return f"{hundredths // 100}.{hundredths % 100:02}"

    def because(self, outcome: Outcome) -> Iterator[str]:
        if outcome.mg is None:
            yield self._without(outcome)
            yield from self._known(outcome)
        else:
            yield from self._amount(outcome)
            yield from self._counted(outcome)
            yield from self._baseline(outcome)
            yield from self._figures(outcome)
        yield from self._standing(outcome)

    def _say(self, zh: str, en: str) -> str:
        return zh if self.language == "zh" else en

    def _join(self, words: Sequence[str]) -> str:
        return self._say("、", ", ").join(words)

    def _word(self, code: str) -> str:
        return word(code, self.language)

    def _text(self, text: Bilingual) -> str:
        """A text of the document, without the full stop that it may end with: the sentence goes on."""
        return str(getattr(text, self.language)).rstrip("。.")

    def _without(self, outcome: Outcome) -> str:
        if isinstance(outcome.refusal, MethodologyIncomplete):
            told = self._say("；", "; ").join(self._text(one) for one in outcome.methodology.missing)
            return self._say(f"没有结果，文档写明尚有未知：{told}", f"no result, the document itself lacks: {told}")
        lacking = [_lacking(outcome.methodology, name, self.language) for name in outcome.lacking]
        if lacking:
            told = self._join([f"{one['name']} {one['unit']} ({one['meaning']})" for one in lacking])
            return self._say(f"没有结果，它还需要：{told}", f"no result, it also needs {told}")
        refusal = _refusal(outcome, self.language)
        detail = refusal["detail"].rstrip("。.") if refusal else ""
        return self._say(f"没有结果：{detail}", f"no result: {detail}")

    def _known(self, outcome: Outcome) -> Iterator[str]:
        figures = [f"{one.name} = {_measured(plain(one.used.value), one.unit)}" for one in _factors(outcome)]
        if figures:
            told = self._join(figures)
            yield self._say(f"已知的数值：{told}", f"known figures: {told}")

    def _amount(self, outcome: Outcome) -> Iterator[str]:
        ratio, count = self.ratio(outcome), len(self.computed)
        if ratio is None or self.median_mg is None:
            yield self._say("只有这一个文档给出结果", "the only document that gives a result")
            return
        median = f"{grams(self.median_mg)} g"
        yield self._say(
            f"是 {count} 个有结果的文档的中位数 {median} 的 {ratio} 倍",
            f"{ratio} times the median of the {count} documents that give a result, {median}",
        )
        same = [one.methodology.id for one in self.computed if one.mg == outcome.mg and one is not outcome]
        if same:
            yield self._say(f"与 {self._join(same)} 结果相同", f"the same result as {self._join(same)}")

    def _counted(self, outcome: Outcome) -> Iterator[str]:
        """By what and how often it counts, where the others do otherwise."""
        ways = Counter(_way(one) for one in self.computed)
        mine = ways.pop(_way(outcome))
        if not ways:
            return
        told = self._way(*_way(outcome))
        others = self._say("、", "; ").join(f"{self._way(*way)} ({count})" for way, count in ways.items())
        alone = self._say("只有它", ", as no other does") if mine == 1 else ""
        yield self._say(f"{alone}{told}；其他：{others}", f"counted {told}{alone}; others {others}")

    def _way(self, trigger: str, names: tuple[str, ...]) -> str:
        title, by = word(trigger, self.language, "way"), self._join(names)
        if names:
            return self._say(f"{title}按 {by} 计", f"{title} by {by}")
        return self._say(f"{title}计固定的量", f"{title} as one fixed amount")

    def _baseline(self, outcome: Outcome) -> Iterator[str]:
        """What it is counted against, where the documents do not all say the same."""
        if len({one.methodology.baseline_scenario for one in self.computed}) == 1:
            return
        against = outcome.methodology.baseline_scenario
        if against is None:
            yield self._say("文档没有写明与何相比", "it does not say what it is counted against")
        else:
            yield self._say(f"与何相比：{self._text(against)}", f"counted against: {self._text(against)}")

    def _figures(self, outcome: Outcome) -> Iterator[str]:
        """Its factors; the only one of a formula beside the only ones of others in the same unit."""
        mine = _factors(outcome)
        rivals = {one.methodology.id: _factors(one) for one in self.computed if one is not outcome}
        figures = {(factor.used.value, factor.unit) for factor in mine}
        if all({(factor.used.value, factor.unit) for factor in other} == figures for other in rivals.values()):
            return
        told = self._join([f"{one.name} = {_measured(plain(one.used.value), one.unit)}" for one in mine])
        confidence = self._join(sorted({self._word(one.used.confidence) for one in mine}))
        others = [one[0].used.value for one in rivals.values() if len(one) == 1 and one[0].unit == mine[0].unit]
        if len(mine) != 1 or not others:
            yield self._say(f"因子 {told}（{confidence}）", f"its factors {told} ({confidence})")
            return
        low, high = plain(min(others)), plain(max(others))
        span = _measured(low if low == high else f"{low}–{high}", mine[0].unit)
        yield self._say(
            f"因子 {told}（{confidence}）；其他文档同单位的因子：{span}",
            f"its factor {told} ({confidence}); those of others in this unit: {span}",
        )

    def _standing(self, outcome: Outcome) -> Iterator[str]:
        one = outcome.methodology
        if outcome.mg is not None and outcome.not_used:
            told = self._join(outcome.not_used)
            yield self._say(f"没有用到：{told}", f"not used: {told}")
        if not outcome.in_force:
            days = self._word(one.in_force_shown)
            computed = self._say("，按最近的数值计算", "; computed with its nearest figures") if outcome.mg else ""
            yield self._say(
                f"{outcome.day} 不在施行期（{days}）{computed}", f"not in force on {outcome.day} ({days}){computed}"
            )
        if outcome.mg is not None and one.faults:
            faults = self._say("；", "; ").join(self._word(code) for code in one.faults)
            yield self._say(f"从不计入：{faults}", f"it never credits: {faults}")
        if outcome.mg is not None and one.credited_as != one.status:
            why = self._say("；", "; ").join(self._word(code) for code in one.inferred)
            yield self._say(f"状态：{self._word(one.status)}；{why}", f"{self._word(one.status)}, but {why}")


def _way(outcome: Outcome) -> tuple[str, tuple[str, ...]]:
    """How often a document counts, and by what."""
    period = outcome.methodology.period
    return period.unit if period else outcome.methodology.trigger, _quantities(outcome.methodology)


def _quantities(methodology: Methodology) -> tuple[str, ...]:
    """What of an activity enters the formula."""
    if methodology.reduction is None:
        return ()
    told = {*methodology.inputs, *methodology.readings, *methodology.baseline, "duration_s"}
    told |= {window for rule in methodology.readings.values() for window in rule.windows}
    return tuple(sorted(told & set(methodology.reduction.expression.names)))


def _measured(value: str, unit: str) -> str:
    return value if unit == "1" else f"{value} {unit}"


def grams(milligrams: int) -> str:
    """Grams of whole milligrams, without trailing zeros."""
    return f"{milligrams // 1000}.{milligrams % 1000:03}".rstrip("0").rstrip(".")
