"""Campaigns' budgets, spent again in the order of the log."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ledger.verify.findings import Findings
from service.audit.histories import Draw


def check_budgets(draws: Iterable[Draw], promised: Mapping[tuple[str, str], int], findings: Findings) -> None:
    """A campaign adds all that its multiplier says, or what is left of its budget.

    promised  the largest budget of each campaign, over the versions of its rule: a later version may raise it
    """
    spent: defaultdict[tuple[str, str], int] = defaultdict(int)
    budget: defaultdict[tuple[str, str], int] = defaultdict(int)
    for draw in sorted(draws):
        key = draw.campaign
        budget[key] = max(budget[key], draw.budget)
        left = budget[key] - spent[key]
        if 0 <= draw.drawn < min(draw.wanted, left):
            findings.add("campaign", min(draw.wanted, left), draw.drawn, draw.entry, " ".join(key))
        spent[key] += draw.drawn
        if draw.drawn > 0 and spent[key] > promised.get(key, budget[key]):
            expected = f"at most {promised.get(key, budget[key])} points in all"
            findings.add("campaign", expected, f"{spent[key]} with this entry", draw.entry, " ".join(key))
