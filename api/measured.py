"""What the meter readings of an activity came to, as a person reads it: totals, windows, gaps and baselines."""

from typing import Any

from api.problems import Language, word
from service.quantification.expression import plain
from service.quantification.measuring import Compared
from service.quantification.model import ReadingRule
from service.quantification.quantify import Explanation
from service.quantification.totals import Total


def measured_view(explanation: Explanation, language: Language) -> dict[str, Any]:
    """What the meter readings came to; nothing where the rule counts no days."""
    measurement = explanation.measurement
    if measurement is None:
        return {}
    rules = explanation.methodology.readings
    return {
        "days": {"first": measurement.first.isoformat(), "last": measurement.last.isoformat()},
        "readings": [_total(total, rules[name], language) for name, total in measurement.readings.items()],
        "baseline": [_compared(one, rules[one.rule.of], language) for one in measurement.baseline.values()],
    }


def _total(total: Total, rule: ReadingRule, language: Language) -> dict[str, Any]:
    return {
        "name": total.name,
        "meaning": getattr(rule.meaning, language),
        "unit": total.unit,
        "first": total.first.isoformat(),
        "last": total.last.isoformat(),
        "measured": plain(total.measured),
        "value": plain(total.value),
        "covered_share": plain(total.covered_share),
        "longest_gap_s": total.longest_gap_s,
        "gaps": total.gaps,
        "gaps_title": word(total.gaps, language, "gaps"),
        "windows": [
            {
                "name": part.name or None,
                "meaning": getattr(rule.windows[part.name].meaning, language) if part.name else None,
                "measured": plain(part.measured),
                "value": plain(part.value),
                "covered_s": part.covered_s,
                "span_s": part.span_s,
            }
            for part in total.parts
            if rule.windows
        ],
    }


def _compared(compared: Compared, rule: ReadingRule, language: Language) -> dict[str, Any]:
    """A baseline: the readings of another time, and the mean of as many periods as it takes."""
    baseline = compared.rule
    return _total(compared.total, rule, language) | {
        "meaning": getattr(baseline.meaning, language),
        "of": baseline.of,
        "from": baseline.origin,
        "from_title": word(baseline.origin, language, "origin"),
        "periods": baseline.periods,
        "total": plain(compared.total.value),
        "value": plain(compared.value),
    }
