"""Transfers and credits as a person reads them, in Chinese and English: names beside codes, figures beside their
sources."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from api.awaiting import awaited_view, condition_view, settled_view, settlement_wanted
from api.measured import measured_view
from api.problems import Language, word
from ledger.journal import Line, Transfer
from ledger.units import CO2e, Points
from service.explaining import ExplainedTransfer
from service.quantification.expression import plain
from service.quantification.model import Methodology, Source
from service.quantification.points import PointsRule, campaign_points, points_for
from service.quantification.quantify import Explanation, FactorUsed
from service.reading import StatedTransfer

__all__ = [
    "arithmetic_view",
    "explanation_view",
    "factor_view",
    "methodology_view",
    "source_view",
    "stated_view",
    "transfer_view",
    "word",
]


def transfer_view(transfer: Transfer, language: Language) -> dict[str, Any]:
    """A transfer with its lines; `effective_on` is an Asia/Shanghai day, `recorded_at` UTC."""
    view: dict[str, Any] = {
        "transfer_id": str(transfer.transfer_id),
        "counter": transfer.counter,
        "kind": transfer.kind,
        "title": word(transfer.kind, language),
        "effective_on": transfer.effective_on.isoformat(),
        "recorded_at": transfer.recorded_at.isoformat().replace("+00:00", "Z"),
        "lines": [line_view(line, language) for line in transfer.lines],
    }
    if transfer.reverses:
        view["reverses"] = str(transfer.reverses)
        view["reason"] = transfer.reason
        view["reason_title"] = word(str(transfer.reason), language)
    if transfer.matures:
        view["matures"] = str(transfer.matures)
    return view


def line_view(line: Line, language: Language) -> dict[str, Any]:
    """One line. Points that a campaign's budget adds are a line of their own, which says so."""
    funded = line.asset == "points" and line.from_account == "partner"
    asset = word("campaign" if funded else line.asset, language)
    view: dict[str, Any] = {
        "from": line.from_account,
        "to": line.to_account,
        "asset": line.asset,
        "amount": line.amount,
        "title": f"{asset}：{word(line.from_account, 'zh')} → {word(line.to_account, 'zh')}"
        if language == "zh"
        else f"{asset}: {line.from_account} → {line.to_account}",
    }
    if funded:
        view["funded_by"] = "campaign"
    if line.credit_class:
        view["class"], view["vintage"] = line.credit_class, line.vintage
    if line.expires_on:
        view["expires_on"] = line.expires_on.isoformat()
    return view


def stated_view(stated: StatedTransfer, language: Language) -> dict[str, Any]:
    """A transfer of a statement; of a credit also the standing of its rule, and what has become of it since."""
    posted = stated.posted
    view = transfer_view(posted.transfer, language)
    if stated.methodology is None:
        return view
    methodology = methodology_view(stated.methodology, language)
    view["methodology"] = {name: methodology[name] for name in ("id", "version", "title", *_STANDING)}
    return (
        view
        | _become(posted.reversed_by, posted.matured_by)
        | {"pending": stated.awaited and awaited_view(stated.awaited, posted.transfer, language)}
    )


def _become(reversed_by: UUID | None, matured_by: UUID | None) -> dict[str, Any]:
    return {"reversed_by": reversed_by and str(reversed_by), "matured_by": matured_by and str(matured_by)}


_STANDING = ("status", "status_title", "credited_as", "credited_as_title", "confidence", "confidence_title")


def methodology_view(methodology: Methodology, language: Language) -> dict[str, Any]:
    """Which document it is, and how far it may be relied on: `credited_as` is the status its credits have, `confidence`
    the formula's."""
    return {
        "id": methodology.id,
        "version": methodology.version,
        "digest": methodology.digest,
        "title": getattr(methodology.title, language),
        "status": methodology.status,
        "status_title": word(methodology.status, language),
        "credited_as": methodology.credited_as,
        "credited_as_title": word(methodology.credited_as, language),
        "confidence": methodology.formula_confidence,
        "confidence_title": word(methodology.formula_confidence, language),
        "jurisdiction": methodology.jurisdiction,
    }


def explanation_view(explained: ExplainedTransfer, language: Language) -> dict[str, Any]:
    """A transfer and, for a credit, everything it rests on and what has become of it."""
    posted, activity, methodology = explained.posted, explained.activity, explained.methodology
    credit = posted.transfer
    view = transfer_view(credit, language) | _become(posted.reversed_by, posted.matured_by)
    view["programme"], view["region"] = credit.programme, credit.region
    view["log_index"] = explained.log_index
    if activity is None or methodology is None:
        return view
    titles = {"zh": activity.source_title_zh, "en": activity.source_title_en}
    view["source"] = {"uri": activity.source_uri, "title": titles[language], "grade": activity.grade}
    view["activity"] = activity.document and _activity_view(activity.document)
    view["methodology"] = methodology_view(methodology, language) | {
        "scenario": getattr(methodology.scenario.title, language)
    }
    view["points_rule"] = explained.points_rule and _points_view(explained.points_rule, explained, language)
    if explained.points_rule is None:
        view["no_points_title"] = word("declared" if activity.grade == "C" else "project", language, "no-points")
    view["arithmetic"] = explained.explanation and arithmetic_view(
        explained.explanation, activity.document or {}, language
    )
    view["clipped"] = _clipped(explained, methodology, language)
    view["pending"] = explained.awaited and awaited_view(explained.awaited, credit, language)
    if explained.awaited and explained.awaited.awaits == "settlement":
        view["pending"] |= settlement_wanted(methodology, language)
    by = posted.matured_by or posted.reversed_by
    view["settlement"] = explained.settled and settled_view(
        explained.settled, str(by) if by else None, methodology, language
    )
    view["replaces"] = explained.replaces and str(explained.replaces)
    view["replaced_by"] = explained.replaced_by and str(explained.replaced_by)
    return view


def _activity_view(document: Mapping[str, Any]) -> dict[str, Any]:
    """The evidence; of meter readings only how many there are, since the arithmetic shows what they come to."""
    shown = dict(document)
    for name in ("readings", "baseline"):
        if name in document:
            shown[name] = {series: _counted(values) for series, values in document[name].items()}
    return shown


def _counted(series: Mapping[str, Any]) -> dict[str, Any]:
    values = next(series[name] for name in ("values", "spans", "at") if name in series)
    return {"kind": series["kind"], "values": len(values)}


def _amount(credit: Transfer, asset: str, from_account: str = "issuance") -> int:
    return sum(line.amount for line in credit.lines if line.asset == asset and line.from_account == from_account)


def _points_view(rule: PointsRule, explained: ExplainedTransfer, language: Language) -> dict[str, Any]:
    credit = explained.posted.transfer
    co2e, credited, funded = _amount(credit, "co2e_mg"), _amount(credit, "points"), _amount(credit, "points", "partner")
    computed = points_for(rule, CO2e(co2e)).n
    steps = [f"⌊{co2e} mg ÷ 1000 mg/g × {plain(rule.points_per_gram)}⌋ = {computed}"]
    if credited < computed:
        steps.append(f"min({computed}, {credited}) = {credited}")
    return {
        "id": rule.id,
        "version": rule.version,
        "digest": rule.digest,
        "title": getattr(rule.title, language),
        "status": rule.status,
        "status_title": word(rule.status, language),
        "points_per_gram": plain(rule.points_per_gram),
        "steps": steps,
        "campaign": _campaign_view(rule, explained, credited, funded, language) if funded else None,
    }


def _campaign_view(
    rule: PointsRule, explained: ExplainedTransfer, points: int, funded: int, language: Language
) -> dict[str, Any]:
    """The campaign that added points; `offered` is what it would have added had its budget been large enough."""
    credit, activity = explained.posted.transfer, explained.activity
    scenario = activity.scenario if activity else ""
    found = campaign_points(rule, Points(points), scenario, credit.region, credit.effective_on)
    named = [one for one in rule.campaigns if found and one.id == found[0]]
    return {
        "id": named[0].id if named else None,
        "title": getattr(named[0].title, language) if named else None,
        "because": getattr(named[0].because, language) if named else None,
        "multiplier": plain(named[0].multiplier) if named else None,
        "offered": found[1].n if found else funded,
        "points": funded,
    }


def _clipped(explained: ExplainedTransfer, methodology: Methodology, language: Language) -> list[dict[str, Any]]:
    """Where a cap left less than was computed: both amounts, and the caps of the rule that can have done it."""
    credit, rule = explained.posted.transfer, explained.points_rule
    co2e = _amount(credit, "co2e_mg")
    compared = {
        "grams": (explained.explanation.co2e.mg if explained.explanation else co2e, co2e, "mg"),
        "points": (points_for(rule, CO2e(co2e)).n if rule else 0, _amount(credit, "points"), "points"),
    }
    return [
        {
            "of": of,
            "unit": unit,
            "computed": computed,
            "credited": credited,
            "caps": [
                {
                    "id": cap.id,
                    "at_most": cap.at_most,
                    "per": cap.per,
                    "per_title": word(cap.per, language, "per"),
                    "because": getattr(cap.because, language),
                }
                for cap in methodology.caps
                if cap.of == of and cap.beyond == "clip"
            ],
        }
        for of, (computed, credited, unit) in compared.items()
        if credited < computed
    ]


def arithmetic_view(explanation: Explanation, document: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """Formula, steps, inputs, readings, factors and conditions of one computation; `document` says how figures were
    obtained."""
    basis = document.get("basis", {})
    return {
        "reduction_mg": explanation.co2e.mg,
        "formula": explanation.formula,
        "steps": list(explanation.steps),
        "inputs": [
            {
                "name": used.name,
                "value": plain(used.value),
                "unit": used.unit,
                "meaning": getattr(used.meaning, language),
                "basis": word(basis[used.name], language) if used.name in basis else None,
            }
            for used in explanation.inputs
        ],
        "factors": [factor_view(factor, language) for factor in explanation.factors],
        "conditions": [condition_view(shown, language) for shown in explanation.conditions],
        **measured_view(explanation, language),
    }


def factor_view(factor: FactorUsed, language: Language) -> dict[str, Any]:
    """A figure with what stands behind it; `pinned` names the factor set it was taken from."""
    used = factor.used
    return {
        "name": factor.name,
        "value": plain(used.value),
        "unit": factor.unit,
        "meaning": getattr(factor.meaning, language),
        "in_force": str(used.span),
        "confidence": used.confidence,
        "confidence_title": word(used.confidence, language),
        "source": source_view(used.source, language),
        "pinned": used.pinned and {"set": used.pinned.set, "figure": used.pinned.figure, "digest": used.pinned.digest},
    }


def source_view(source: Source, language: Language) -> dict[str, Any]:
    """Where a figure comes from."""
    return {
        "title": getattr(source.title, language),
        "publisher": getattr(source.publisher, language),
        "published": source.published,
        "url": source.url,
    }
