"""The page's part on redemptions: points by month and step, and what each bank and each pool took and gave back."""

from collections import Counter
from collections.abc import Iterator, Mapping

from ledger.verify.draws import Sum, SumKey
from service.audit.charts import SERIES, Bar, Series, bars, columns, grouped
from service.audit.page_parts import MOST_ROWS, Cell, both, escaped, legend, table

_STEPS = {
    "hold": ("冻结", "held"),
    "capture": ("扣减", "captured"),
    "release": ("解冻", "released"),
    "refund": ("退回", "refunded"),
}
_STANDING, _REFUNDED = 1, 3  # colours, those of captures and refunds
Parties = Mapping[tuple[str, str], Counter[str]]
"""By bank and pool: points of each step, and its fen under `step fen`."""


def redeemed_part(sums: Mapping[SumKey, Sum]) -> Iterator[str]:
    """Nothing where nothing was redeemed."""
    if not sums:
        return
    names = grouped(sorted({month for _, _, _, month, _ in sums}))
    places = sorted(set(names.values()))
    values = {kind: [0] * len(places) for kind in _STEPS}
    parties: dict[tuple[str, str], Counter[str]] = {}
    for (_, pool, bank, month, kind), one in sums.items():
        values[kind][places.index(names[month])] += one.points
        parties.setdefault((bank, pool), Counter()).update({kind: one.points, f"{kind} fen": one.value_fen})
    yield f"<figure><figcaption>{both('按月份与步骤', 'By month and step')}</figcaption>"
    yield columns(places, [Series(number, kind, values[kind]) for number, kind in enumerate(_STEPS)], "points")
    yield legend([(number, both(*words)) for number, words in enumerate(_STEPS.values())]) + "</figure>"
    for place, title in enumerate((("按银行：扣减的积分", "By bank: points captured"), ("按资金池", "By pool"))):
        yield f"<figure><figcaption>{both(*title)}</figcaption>{bars(_party_bars(parties, place))}"
        yield legend([(_STANDING, both("有效", "standing")), (_REFUNDED, both("已退回", "refunded"))]) + "</figure>"
    amounts = [(f"{zh}（积分 / 元）", f"{en}: points / yuan") for zh, en in _STEPS.values()]
    yield table(
        (("银行", "Bank"), ("资金池", "Pool"), *amounts),
        (
            [Cell(escaped(bank), "wide"), Cell(escaped(pool)), *(Cell(_amount(mine, kind), "n") for kind in _STEPS)]
            for (bank, pool), mine in sorted(parties.items())[:MOST_ROWS]
        ),
        len(parties),
    )


def _party_bars(parties: Parties, place: int) -> list[Bar]:
    """The largest by what was captured; `place` says whether of banks or of pools."""
    sums: dict[str, Counter[str]] = {}
    for key, mine in parties.items():
        sums.setdefault(key[place], Counter()).update(mine)
    rows = sorted(sums.items(), key=lambda each: (-each[1]["capture"], each[0]))[: 2 * SERIES]
    made = []
    for name, mine in rows:
        standing, back = mine["capture"] - mine["refund"], mine["refund"]
        parts = [(_STANDING, standing, f"{standing:,}"), (_REFUNDED, back, f"{back:,}")]
        made.append(Bar(name, parts, f"{mine['capture']:,}"))
    return made


def _amount(mine: Counter[str], kind: str) -> str:
    fen = mine[f"{kind} fen"]
    return f"{mine[kind]:,} / {fen // 100:,}.{fen % 100:02}"
