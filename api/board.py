"""What anyone is shown of the board 绿色产品名录: products and offers, where they stand, and why."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Literal

from api.problems import Language, Text
from service.products.catalogue import Entry, Offers
from service.products.evidence import TAXONOMIES
from service.products.listing import Change
from service.products.model import ClaimedBenefit, Label, Offer, Product, Reason
from service.quantification.document import Bilingual
from service.quantification.expression import plain

CATEGORY_TITLES: Mapping[str, Text] = {
    "green_loan": Text("绿色贷款", "green loan"),
    "deposit": Text("绿色存款", "green deposit"),
    "bond": Text("绿色债券", "green bond"),
    "abs": Text("绿色资产支持证券", "green asset-backed security"),
    "fund": Text("绿色基金", "green fund"),
    "etf": Text("绿色交易型开放式指数基金", "green exchange-traded fund"),
    "reit": Text("绿色不动产投资信托基金", "green real-estate investment trust"),
    "wealth_product": Text("绿色理财产品", "green wealth-management product"),
    "insurance": Text("绿色保险", "green insurance"),
    "leasing": Text("绿色租赁", "green leasing"),
    "carbon_finance": Text("碳金融产品", "carbon finance"),
}
BENEFIT_TITLES: Mapping[str, Text] = {
    "rate_discount": Text("利率优惠", "rate discount"),
    "interest_coupon": Text("加息券", "interest coupon"),
    "fee_discount": Text("费用减免", "fee discount"),
    "premium_discount": Text("保费优惠", "premium discount"),
    "limit_uplift": Text("额度提升", "credit-limit uplift"),
    "fund_fee_waiver": Text("基金费率优惠", "fund-fee waiver"),
    "voucher": Text("代金券", "voucher"),
    "donation": Text("公益捐赠", "donation"),
}
STATE_TITLES: Mapping[str, Text] = {
    "submitted": Text("待批准", "waiting for approval"),
    "listed": Text("已上架", "listed"),
    "suspended": Text("已暂停", "suspended"),
    "taken_down": Text("已下架", "taken down"),
}
ACTION_TITLES: Mapping[str, Text] = {
    "submitted": Text("提交", "submitted"),
    "approved": Text("批准", "approved"),
    "listed": Text("上架", "listed"),
    "suspended": Text("暂停", "suspended"),
    "resumed": Text("恢复", "resumed"),
    "taken_down": Text("下架", "taken down"),
}
# Why an operator suspends or takes down.
StopReason = Literal[
    "evidence_disproved",
    "misleading",
    "complaints",
    "bank_request",
    "funder_request",
    "pool_short",
    "listed_in_error",
]
# And why a rule takes down by itself.
REASON_TITLES: Mapping[str, Text] = {
    "evidence_disproved": Text("证据被推翻", "its evidence was disproved"),
    "misleading": Text("宣传有误导", "it misleads"),
    "complaints": Text("投诉待查", "complaints are looked into"),
    "bank_request": Text("银行要求", "the bank asked for it"),
    "funder_request": Text("出资方要求", "the funder asked for it"),
    "pool_short": Text("资金池不足", "the reward pool is short"),
    "listed_in_error": Text("误上架", "listed in error"),
    "superseded": Text("由新版本取代", "replaced by a newer version"),
    "ended": Text("有效期结束", "it ended"),
    "check-overdue": Text("逾期未核查", "its check is overdue"),
    "assessor-expired": Text("评估机构资质到期", "the assessor's qualification ended"),
    "report-overdue": Text("募集资金用途报告逾期", "a report on the use of proceeds is overdue"),
}


def title(titles: Mapping[str, Text], code: str, language: Language) -> str:
    """A code in the reader's language; itself where it has no name."""
    text = titles.get(code)
    return code if text is None else str(getattr(text, language))


def _said(text: Bilingual, language: Language) -> str:
    return str(getattr(text, language))


def told(reasons: Iterable[Reason], language: Language) -> list[dict[str, str]]:
    """Reasons as a list of codes and sentences."""
    return [{"code": reason.code, "text": reason.zh if language == "zh" else reason.en} for reason in reasons]


def product_view(offers: Offers, entry: Entry, day: date, language: Language) -> dict[str, Any]:
    """A product with its evidence, whether it is on the board on this day, and why not."""
    product = entry.document
    assert isinstance(product, Product)
    catalogue = TAXONOMIES.get((product.taxonomy.name, product.taxonomy.version))
    return (
        _head(product, language)
        | {
            "status": product.status,
            "category": product.category,
            "category_title": title(CATEGORY_TITLES, product.category, language),
            "summary": _said(product.summary, language),
            "taxonomy": {
                "name": product.taxonomy.name,
                "title": _said(catalogue[0], language) if catalogue else None,
                "version": product.taxonomy.version,
                "code": product.taxonomy.code,
            },
            "label": product.label and _label_view(product.label, language),
            "claimed_benefit": product.claimed and _claimed_view(product.claimed, language),
            "checked_on": product.checked_on.isoformat(),
            "next_check_on": product.next_check_on.isoformat(),
            "use_of_proceeds": [
                {"on": report.on.isoformat(), "digest": report.digest, "url": report.url}
                for report in product.use_of_proceeds
            ],
            "lists": [
                {
                    "kind": check.kind,
                    "list": _said(check.list, language),
                    "source": check.source,
                    "version": check.version,
                    "on": check.on.isoformat(),
                    "found": check.found,
                }
                for check in product.lists
            ],
        }
        | _standing_view(offers, entry, day, language)
    )


def _label_view(label: Label, language: Language) -> dict[str, Any]:
    return {
        "basis": _said(label.basis, language),
        "labelled_on": label.labelled_on.isoformat(),
        "assessor": _said(label.assessor, language),
        "assessor_valid_to": label.assessor_valid_to.isoformat(),
        "evidence_digest": label.evidence_digest,
        "evidence_url": label.evidence_url,
    }


def _claimed_view(claimed: ClaimedBenefit, language: Language) -> dict[str, Any]:
    return {
        "quantity": plain(claimed.quantity),
        "unit": claimed.unit,
        "verified_quantity": None if claimed.verified_quantity is None else plain(claimed.verified_quantity),
        "verified_by": claimed.verified_by and _said(claimed.verified_by, language),
    }


def offer_view(offers: Offers, entry: Entry, day: date, language: Language) -> dict[str, Any]:
    """An offer with its price, its conditions and what the bank will learn; whether it is on the board, and why not."""
    offer = entry.document
    assert isinstance(offer, Offer)
    return (
        _head(offer, language)
        | {
            "product": offer.product,
            "pool": offer.pool,
            "benefit": {
                "kind": offer.benefit.kind,
                "kind_title": title(BENEFIT_TITLES, offer.benefit.kind, language),
                "per_unit": offer.benefit.per_unit,
                "unit": offer.benefit.unit,
                "cause": offer.benefit.cause and _said(offer.benefit.cause, language),
            },
            "points_per_unit": offer.points_per_unit,
            "value_fen_per_unit": offer.value_fen_per_unit,
            "min_units": offer.min_units,
            "max_units": offer.max_units,
            "grams_mg_per_point": offer.grams_mg_per_point,
            "hold_seconds": offer.hold_seconds,
            "per_person_per_year": offer.per_person_per_year,
            "kinds": list(offer.kinds),
            "regions": list(offer.regions),
            "conditions": [
                {
                    "id": condition.id,
                    "title": _said(condition.title, language),
                    "value": condition.formula.expression.source,
                    condition.comparison: plain(condition.limit),
                    "unit": condition.formula.unit,
                    "because": _said(condition.because, language),
                }
                for condition in offer.conditions
            ],
            "tiers": [
                {
                    "name": _said(tier.name, language),
                    "min_verified_g": tier.min_verified_g,
                    "points_per_unit": tier.points_per_unit,
                }
                for tier in offer.tiers
            ],
            "discloses": _said(offer.discloses, language),
            "consent": {"text_version": offer.text_version, "text": _said(offer.consent_text, language)},
        }
        | _standing_view(offers, entry, day, language)
    )


def _head(document: Product | Offer, language: Language) -> dict[str, Any]:
    last = document.valid.last
    return {
        "id": document.id,
        "version": document.version,
        "digest": document.digest,
        "bank": document.bank,
        "title": _said(document.title, language),
        "valid_from": document.valid.first.isoformat(),
        "valid_to": last and last.isoformat(),
    }


def _standing_view(offers: Offers, entry: Entry, day: date, language: Language) -> dict[str, Any]:
    why_not = offers.why_not(entry, day)
    return {
        "state": entry.state,
        "state_title": title(STATE_TITLES, entry.state, language),
        "reason": entry.reason,
        "reason_title": entry.reason and title(REASON_TITLES, entry.reason, language),
        "good_through": entry.good_through and entry.good_through.isoformat(),
        "on_board": not why_not,
        "why_not": told(why_not, language),
    }


def change_view(change: Change, language: Language) -> dict[str, Any]:
    """One step of the history."""
    return {
        "version": change.version,
        "action": change.action,
        "action_title": title(ACTION_TITLES, change.action, language),
        "operator": change.operator,
        "reason": change.reason,
        "reason_title": change.reason and title(REASON_TITLES, change.reason, language),
        "recorded_at": change.recorded_at.isoformat().replace("+00:00", "Z"),
    }
