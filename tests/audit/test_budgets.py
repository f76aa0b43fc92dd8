"""A campaign gives all that it promises while its budget lasts, then what is left of it, then nothing."""

import pytest

from ledger.verify.findings import Findings
from service.audit.budgets import check_budgets
from service.audit.histories import Draw

CAMPAIGN = ("points", "spring")


def _found(*draws: tuple[int, int], budgets: tuple[int, ...] = (), promised: int = 100) -> list[int]:
    findings = Findings()
    listed = [
        Draw(entry, CAMPAIGN, wanted, drawn, budgets[entry] if budgets else promised)
        for entry, (wanted, drawn) in enumerate(draws)
    ]
    check_budgets(reversed(listed), {CAMPAIGN: promised}, findings)
    return [one.index for one in findings.shown if one.index is not None]


@pytest.mark.parametrize(
    ("draws", "found"),
    [
        ([(60, 60), (60, 40), (60, 0)], []),
        ([(60, 60), (60, 39), (60, 1)], [1]),
        ([(60, 60), (60, 41)], [1]),
        ([(60, 60), (60, 40), (0, -30), (60, 30)], []),
        ([(60, 60), (60, 40), (0, -30), (60, 31)], [3]),
        ([(60, 59)], [0]),
    ],
)
def test_what_is_left_decides(draws: list[tuple[int, int]], found: list[int]) -> None:
    assert _found(*draws) == found


def test_a_later_version_may_raise_the_budget() -> None:
    assert _found((60, 60), (60, 40), (60, 60), budgets=(100, 100, 160), promised=160) == []
    assert _found((60, 60), (60, 40), (60, 0), budgets=(100, 100, 160), promised=160) == [2]
