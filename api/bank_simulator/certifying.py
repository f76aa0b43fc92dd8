"""What a bank has shown in the sandbox, and what it has not yet: read over the public API, and nothing is changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from api.bank_simulator.calls import Bank, NoAnswer

MOST_READ = 200  # redemptions, the newest; a certification needs a handful


@dataclass(frozen=True, slots=True)
class Check:
    """One thing a bank must be able to do: whether it was seen, and what to do where it was not."""

    code: str
    passed: bool
    zh: str
    en: str
    mend_zh: str
    mend_en: str


async def certify(bank: Bank) -> tuple[Check, ...]:
    """Every check, in the order in which a bank comes to them. Raises NoAnswer."""
    registered = await bank.read("/v1/bank")
    if not registered.good:
        return (_registered(registered.body, active=False),)
    verdict = await bank.call("/v1/bank/sandbox/signature", {"units": 1}, "certification")
    redemptions = await _redemptions(bank)
    days = (await _good(bank, "/v1/statements?limit=366"))["days"]
    return (
        _registered(registered.body, active=registered.body["state"] == "active"),
        _signature(verdict.body if verdict.good else {"accepted": False, "detail": verdict.slug}),
        *_steps(redemptions),
        *_days(days),
    )


async def _good(bank: Bank, path: str) -> dict[str, Any]:
    answer = await bank.read(path)
    if not answer.good:
        raise NoAnswer(f"GET {path}: {answer.status} {answer.slug}")
    return answer.body


async def _redemptions(bank: Bank) -> list[dict[str, Any]]:
    page = await _good(bank, f"/v1/bank/redemptions?limit={MOST_READ}")
    return [await _good(bank, f"/v1/bank/redemptions/{one['redemption_id']}") for one in page["redemptions"]]


def _registered(answer: dict[str, Any], *, active: bool) -> Check:
    return Check(
        "registered",
        active,
        "已登记且未暂停",
        "registered and not suspended",
        "请运营方登记银行或恢复",
        f"ask the operator to register or resume you ({answer.get('title', answer.get('state'))})",
    )


def _signature(verdict: dict[str, Any]) -> Check:
    return Check(
        "signature",
        bool(verdict["accepted"]),
        "签名可被接受",
        "a signature that is taken",
        f"按沙箱的说明更正：{verdict['detail']}",
        f"mend what the sandbox says: {verdict['detail']}",
    )


def _steps(redemptions: Sequence[dict[str, Any]]) -> Iterator[Check]:
    steps = [step for one in redemptions for step in one["steps"]]
    reasons = {step["reason"] for step in steps}
    silent = [one["redemption_id"] for one in redemptions if one["units_captured"] and not one["fulfilments"]]
    left = [one["redemption_id"] for one in redemptions if one["state"] == "lapsed"]

    yield Check(
        "accepts", bool(redemptions), "接受凭证", "accepts an entitlement", "接受一份客户凭证", "accept a customer's"
    )
    whole = any(one["units_captured"] == one["units"] for one in redemptions)
    yield Check("captures", whole, "全部扣减", "captures all of a hold", "全部扣减一笔", "capture one with no `units`")
    yield Check(
        "captures-part",
        "rest" in reasons,
        "部分扣减并退回余下",
        "captures a part and gives the rest back",
        "以 units 与 final 扣减一笔",
        "capture one with `units` and `final`",
    )
    yield Check("voids", "voided" in reasons, "解冻", "voids a hold", "解冻一笔", "void one")
    refunds = any(step["kind"] == "refund" for step in steps)
    yield Check("refunds", refunds, "退回", "refunds a capture", "退回一笔扣减", "refund a capture")
    yield Check(
        "reports",
        bool(redemptions) and not silent,
        "每笔扣减均报告兑现",
        "reports the benefit of every capture",
        f"报告兑现：{'、'.join(silent[:5]) or '尚无扣减'}",
        f"report the benefit of {', '.join(silent[:5]) or 'a capture'}",
    )
    yield Check(
        "decides",
        not left,
        "不任由已接受的冻结失效",
        "lets no accepted hold lapse",
        f"应扣减或解冻：{'、'.join(left[:5])}",
        f"capture or void in time: {', '.join(left[:5])}",
    )


def _days(days: Sequence[dict[str, Any]]) -> Iterator[Check]:
    disputed = [day["day"] for day in days if day["state"] == "disputed"]
    yield Check(
        "closes",
        any(day["state"] == "closed" for day in days),
        "对账并关账",
        "reconciles and closes a day",
        "提交对账文件并关闭一日；可前移沙箱时钟",
        "send your file and close a day; the sandbox's clock can be moved ahead",
    )
    yield Check(
        "agrees",
        not disputed,
        "没有未决差异的日子",
        "leaves no day with differences",
        f"处理差异：{'、'.join(disputed)}",
        f"see to the differences of {', '.join(disputed)}",
    )
