"""What a product's evidence is worth on a day: why it may not be on the board, and until when it may.

Against greenwashing: a claim is bounded by what was verified, every look has its date, and what is missing, expired or
contradictory keeps a product off the board, or takes it down by itself. Pure: a document and a day, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

from service.products.model import ClaimedBenefit, Label, ListCheck, Offer, Product, Reason
from service.quantification.document import Bilingual, Span
from service.quantification.expression import plain

# The catalogues a green label may name, by id and version, and the days on which a label could be given under each.
# The one of 2025 replaced that of green bonds and covers loans too (PBC, NFRA and CSRC, in force from 1 October 2025).
TAXONOMIES: Mapping[tuple[str, str], tuple[Bilingual, Span]] = {
    ("green-finance-projects", "2025"): (
        Bilingual("绿色金融支持项目目录（2025年版）", "Green Finance Endorsed Projects Catalogue (2025)"),
        Span(date(2025, 10, 1)),
    ),
    ("green-bond-projects", "2021"): (
        Bilingual("绿色债券支持项目目录（2021年版）", "Green Bond Endorsed Projects Catalogue (2021)"),
        Span(date(2021, 7, 1), date(2025, 9, 30)),
    ),
    ("green-bond-projects", "2015"): (
        Bilingual("绿色债券支持项目目录（2015年版）", "Green Bond Endorsed Projects Catalogue (2015)"),
        Span(date(2015, 12, 22), date(2021, 6, 30)),
    ),
    ("green-industry", "2024"): (
        Bilingual("绿色低碳转型产业指导目录（2024年版）", "Green and Low-Carbon Transition Industries (2024)"),
        Span(date(2024, 2, 2)),
    ),
    ("green-industry", "2019"): (
        Bilingual("绿色产业指导目录（2019年版）", "Green Industry Guidance Catalogue (2019)"),
        Span(date(2019, 2, 14), date(2024, 2, 1)),
    ),
}

# Whoever sells a bond or a security tells every year what the money was used for, by the end of April: a year and four
# months pass at most between two reports, or until the first.
REPORTING = ("bond", "abs")
REPORTED_WITHIN = timedelta(days=486)


def faults(product: Product, day: date) -> tuple[Reason, ...]:
    """Why the product may not be on the board on this day; empty when it may."""
    return tuple(_faults(product, day))


def good_through(product: Product) -> date:
    """The last day on which a product without a fault has none, if nothing is added to its evidence."""
    ends = [product.next_check_on - timedelta(days=1)]
    if product.label is not None:
        ends.append(product.label.assessor_valid_to)
    if product.valid.last is not None:
        ends.append(product.valid.last)
    if product.category in REPORTING:
        ends.append(_reported_from(product) + REPORTED_WITHIN)
    return min(ends)


def offer_faults(offer: Offer, product: Product | None, day: date) -> tuple[Reason, ...]:
    """Why the offer may not be on the board on this day, as far as the documents say; `product` is the listed one."""
    found: list[Reason] = []
    if offer.valid.last is not None and day > offer.valid.last:
        found.append(_ended(offer.valid.last))
    if product is None:
        text = (f"产品 {offer.product} 未上架", f"its product {offer.product} is not listed")
        found.append(Reason("product-not-listed", *text))
    elif product.bank != offer.bank:
        text = ("权益与产品不属于同一银行", "the offer and its product belong to different banks")
        found.append(Reason("bank-differs", *text))
    return tuple(found)


def _faults(product: Product, day: date) -> Iterator[Reason]:
    if product.valid.last is not None and day > product.valid.last:
        yield _ended(product.valid.last)
    if product.label is None:
        yield Reason("no-label", "没有绿色标识的依据与评估机构", "it names no basis of a green label and no assessor")
    else:
        yield from _label_faults(product, product.label, day)
    if product.claimed is not None:
        yield from _claim_faults(product.claimed)
    if product.checked_on > day:
        text = (f"核查日 {product.checked_on} 尚未到来", f"the day of its check, {product.checked_on}, has not come")
        yield Reason("dated-ahead", *text)
    if day >= product.next_check_on:
        text = (f"应于 {product.next_check_on} 再次核查", f"it was to be checked again on {product.next_check_on}")
        yield Reason("check-overdue", *text)
    yield from _list_faults(product.lists, day)
    yield from _report_faults(product, day)


def _label_faults(product: Product, label: Label, day: date) -> Iterator[Reason]:
    known = TAXONOMIES.get((product.taxonomy.name, product.taxonomy.version))
    named = f"{product.taxonomy.name} {product.taxonomy.version}"
    if known is None:
        catalogues = ", ".join(" ".join(each) for each in TAXONOMIES)
        text = (f"未知的目录 {named}；已知：{catalogues}", f"no catalogue {named} is known; known are {catalogues}")
        yield Reason("taxonomy-unknown", *text)
    elif label.labelled_on not in known[1]:
        zh = f"标识日 {label.labelled_on} 不在{known[0].zh}的施行期内（{known[1]}）"
        en = f"it was labelled on {label.labelled_on}; {known[0].en} was in force {known[1]}"
        yield Reason("taxonomy-not-in-force", zh, en)
    if label.labelled_on > day:
        text = (f"标识日 {label.labelled_on} 尚未到来", f"the day of its label, {label.labelled_on}, has not come")
        yield Reason("dated-ahead", *text)
    if day > label.assessor_valid_to:
        text = (
            f"评估机构的资质已于 {label.assessor_valid_to} 到期",
            f"the assessor's qualification ended on {label.assessor_valid_to}",
        )
        yield Reason("assessor-expired", *text)


def _claim_faults(claimed: ClaimedBenefit) -> Iterator[Reason]:
    if claimed.verified_quantity is None:
        yield Reason("claim-not-verified", "所称环境效益未经核查", "nobody has verified what it claims")
    elif claimed.quantity > claimed.verified_quantity:
        quantity, verified = plain(claimed.quantity), plain(claimed.verified_quantity)
        zh = f"所称 {quantity} {claimed.unit} 大于经核查的 {verified}"
        en = f"it claims {quantity} {claimed.unit}; {verified} were verified"
        yield Reason("claim-exceeds-verified", zh, en)


def _list_faults(checks: tuple[ListCheck, ...], day: date) -> Iterator[Reason]:
    if not any(check.kind == "exclusion" for check in checks):
        text = ("没有查询排除名单的记录", "no look into an exclusion list is on record")
        yield Reason("exclusion-not-checked", *text)
    for check in checks:
        if check.on > day:
            text = (f"名单查询日 {check.on} 尚未到来", f"the day of a look into a list, {check.on}, has not come")
            yield Reason("dated-ahead", *text)
        if check.kind == "exclusion" and check.found:
            text = (f"已列入排除名单：{check.list.zh}", f"it stands on the exclusion list {check.list.en}")
            yield Reason("excluded", *text)
        if check.kind == "positive" and not check.found:
            text = (f"不在所称名单内：{check.list.zh}", f"it does not stand on the list it names, {check.list.en}")
            yield Reason("not-on-list", *text)


def _report_faults(product: Product, day: date) -> Iterator[Reason]:
    for report in product.use_of_proceeds:
        if report.on > day:
            text = (f"用途报告日 {report.on} 尚未到来", f"the day of a report, {report.on}, has not come")
            yield Reason("dated-ahead", *text)
    due = _reported_from(product) + REPORTED_WITHIN
    if product.category in REPORTING and day > due:
        text = (f"募集资金用途报告应于 {due} 前披露", f"a report on the use of proceeds was due by {due}")
        yield Reason("report-overdue", *text)


def _reported_from(product: Product) -> date:
    return max((report.on for report in product.use_of_proceeds), default=product.valid.first)


def _ended(last: date) -> Reason:
    return Reason("ended", f"已于 {last} 结束", f"it ended on {last}")
