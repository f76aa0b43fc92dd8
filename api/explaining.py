"""Transfers and credits as a person reads them, in Chinese and English: names beside codes, figures beside their
sources."""

from collections.abc import Mapping
from typing import Any

from api.problems import Language, Text
from ledger.journal import Line, Transfer
from service.quantification.expression import plain
from service.quantification.model import Methodology
from service.quantification.quantify import Explanation
from service.reading import ExplainedTransfer

WORDS: Mapping[str, Text] = {
    "credit": Text("减排入账", "credit"),
    "reversal": Text("冲正", "reversal"),
    "lapse": Text("积分到期", "lapse"),
    "available": Text("可用", "available"),
    "pending": Text("待确认", "pending"),
    "held": Text("冻结", "held"),
    "debt": Text("待偿还", "debt"),
    "issuance": Text("签发", "issuance"),
    "lapsed": Text("已过期", "lapsed"),
    "retired": Text("已注销", "retired"),
    "clearing": Text("清算", "clearing"),
    "partner": Text("合作方", "partner"),
    "co2e_mg": Text("减排量（毫克二氧化碳当量）", "reduction in milligrams CO2e"),
    "points": Text("碳积分", "points"),
    "source_retracted": Text("数据方撤回", "retracted by the source"),
    "evidence_disproved": Text("证据被推翻", "evidence disproved"),
    "posted_in_error": Text("入账有误", "posted in error"),
    "official": Text("官方方法学", "official methodology"),
    "group_standard": Text("团体标准", "group standard"),
    "platform_table": Text("平台积分表", "platform table"),
    "demonstration": Text("演示用途，非官方", "demonstration only, not official"),
    "confirmed": Text("两个独立来源一致", "two independent sources agree"),
    "single": Text("单一来源", "one source only"),
    "inferred": Text("推算得出", "inferred"),
    "at_least": Text("不小于", "at least"),
    "at_most": Text("不大于", "at most"),
    "above": Text("大于", "above"),
    "below": Text("小于", "below"),
    "metered": Text("计量", "metered"),
    "track": Text("轨迹", "track"),
    "straight_line": Text("起终点直线距离", "straight line between start and end"),
    "station_distance": Text("站点间距离", "distance between stations"),
    "declared": Text("自行申报", "declared"),
}


def word(code: str, language: Language) -> str:
    """A code in the reader's language; the code itself when it has no other name."""
    text = WORDS.get(code)
    return code if text is None else str(getattr(text, language))


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
    return view


def line_view(line: Line, language: Language) -> dict[str, Any]:
    view: dict[str, Any] = {
        "from": line.from_account,
        "to": line.to_account,
        "asset": line.asset,
        "amount": line.amount,
        "title": f"{word(line.asset, language)}：{word(line.from_account, 'zh')} → {word(line.to_account, 'zh')}"
        if language == "zh"
        else f"{word(line.asset, language)}: {line.from_account} → {line.to_account}",
    }
    if line.credit_class:
        view["class"], view["vintage"] = line.credit_class, line.vintage
    if line.expires_on:
        view["expires_on"] = line.expires_on.isoformat()
    return view


def methodology_view(methodology: Methodology, language: Language) -> dict[str, Any]:
    """Which document it is, and how far it may be relied on."""
    return {
        "id": methodology.id,
        "version": methodology.version,
        "digest": methodology.digest,
        "title": getattr(methodology.title, language),
        "status": methodology.status,
        "status_title": word(methodology.status, language),
        "jurisdiction": methodology.jurisdiction,
    }


def explanation_view(explained: ExplainedTransfer, language: Language) -> dict[str, Any]:
    """A transfer and, for a credit, everything it rests on."""
    posted = explained.posted
    view = transfer_view(posted.transfer, language)
    view["programme"], view["region"] = posted.transfer.programme, posted.transfer.region
    view["log_index"] = explained.log_index
    view["reversed_by"] = str(posted.reversed_by) if posted.reversed_by else None
    if explained.activity is None or explained.methodology is None or explained.points_rule is None:
        return view
    activity, methodology, rule = explained.activity, explained.methodology, explained.points_rule
    titles = {"zh": activity.source_title_zh, "en": activity.source_title_en}
    view["source"] = {"uri": activity.source_uri, "title": titles[language], "grade": activity.grade}
    view["activity"] = dict(activity.document) if activity.document else None
    view["methodology"] = methodology_view(methodology, language) | {
        "scenario": getattr(methodology.scenario.title, language)
    }
    view["points_rule"] = {
        "id": rule.id,
        "version": rule.version,
        "digest": rule.digest,
        "title": getattr(rule.title, language),
        "points_per_gram": plain(rule.points_per_gram),
        "steps": [_points_step(posted.transfer, plain(rule.points_per_gram))],
    }
    view["arithmetic"] = explained.explanation and _arithmetic(explained.explanation, activity.document or {}, language)
    return view


def _points_step(credit: Transfer, points_per_gram: str) -> str:
    amounts = {
        asset: sum(line.amount for line in credit.lines if line.asset == asset) for asset in ("co2e_mg", "points")
    }
    return f"⌊{amounts['co2e_mg']} mg ÷ 1000 mg/g × {points_per_gram}⌋ = {amounts['points']}"


def _arithmetic(explanation: Explanation, document: Mapping[str, Any], language: Language) -> dict[str, Any]:
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
        "factors": [
            {
                "name": factor.name,
                "value": plain(factor.used.value),
                "unit": factor.unit,
                "meaning": getattr(factor.meaning, language),
                "in_force": str(factor.used.span),
                "confidence": factor.used.confidence,
                "confidence_title": word(factor.used.confidence, language),
                "source": {
                    "title": getattr(factor.used.source.title, language),
                    "publisher": getattr(factor.used.source.publisher, language),
                    "published": factor.used.source.published,
                    "url": factor.used.source.url,
                },
            }
            for factor in explanation.factors
        ],
        "conditions": [
            {
                "id": shown.condition.id,
                "title": getattr(shown.condition.title, language),
                "value": plain(shown.value),
                "unit": shown.condition.formula.unit,
                "must_be": f"{word(shown.condition.comparison, language)} {plain(shown.condition.limit)}",
                "because": getattr(shown.condition.because, language),
            }
            for shown in explanation.conditions
        ],
    }
