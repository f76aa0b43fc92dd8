"""What a pending credit waits for, and how it was settled, as a person reads it."""

from collections.abc import Mapping
from typing import Any

from api.problems import Language, word
from ledger.journal import Transfer
from service.explaining import SettledCredit
from service.quantification.expression import plain
from service.quantification.model import Condition, Methodology
from service.quantification.quantify import ConditionShown
from service.reading import Awaited


def pending_amounts(credit: Transfer) -> dict[str, int]:
    """What a credit left pending when it was posted: whole milligrams and whole points."""
    return {
        name: sum(line.amount for line in credit.lines if line.asset == asset and line.to_account == "pending")
        for name, asset in (("reduction_mg", "co2e_mg"), ("points", "points"))
    }


def awaited_view(awaited: Awaited, credit: Transfer, language: Language) -> dict[str, Any]:
    """What a credit waits for, until when, and how much of it does; `due_on` is an Asia/Shanghai day, or null."""
    return {
        "awaits": awaited.awaits,
        "title": word(awaited.awaits, language, "awaits"),
        "due_on": awaited.due_on and awaited.due_on.isoformat(),
        **pending_amounts(credit),
    }


def settlement_wanted(methodology: Methodology, language: Language) -> dict[str, Any]:
    """The facts a settlement needs and what they will be held against; nothing where the rule knows no settlement."""
    settlement = methodology.settlement
    if settlement is None:
        return {}
    return {
        "facts": [
            {
                "name": fact.name,
                "unit": fact.unit,
                "meaning": getattr(fact.meaning, language),
                "limits": fact.limits,
            }
            for fact in settlement.facts.values()
        ],
        "conditions": [_wanted(condition, language) for condition in settlement.conditions],
    }


def settled_view(
    settled: SettledCredit, by: str | None, methodology: Methodology, language: Language
) -> dict[str, Any]:
    """How a credit was settled. `by` is the transfer that freed it or took it back; the facts are null once erased."""
    return {
        "outcome": settled.outcome,
        "title": word(settled.outcome, language, "settled"),
        "transfer_id": by,
        "recorded_at": settled.recorded_at.isoformat().replace("+00:00", "Z"),
        "facts": None if settled.facts is None else {name: plain(value) for name, value in settled.facts.items()},
        "conditions": [condition_view(shown, language) for shown in settled.conditions],
        "not_met": _not_met(settled, methodology, language),
    }


def condition_view(shown: ConditionShown, language: Language) -> dict[str, Any]:
    """A condition that was met, with its value."""
    return {**_wanted(shown.condition, language), "value": plain(shown.value)}


def _wanted(condition: Condition, language: Language) -> dict[str, Any]:
    return {
        "id": condition.id,
        "title": getattr(condition.title, language),
        "unit": condition.formula.unit,
        "must_be": f"{word(condition.comparison, language)} {plain(condition.limit)}",
        "because": getattr(condition.because, language),
    }


def _not_met(settled: SettledCredit, methodology: Methodology, language: Language) -> Mapping[str, Any] | None:
    if settled.not_met is None or methodology.settlement is None:
        return None
    (condition,) = (one for one in methodology.settlement.conditions if one.id == settled.not_met.condition)
    return {**_wanted(condition, language), "value": settled.not_met.value}
