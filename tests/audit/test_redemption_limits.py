"""What a pool's terms allow a day, in all and for one person, and at what rate: computed again from the log's steps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ledger.verify.findings import Findings
from service.audit.documents import Documents
from service.audit.redemptions import check_limits
from service.audit.steps import Step
from service.redemption.terms import PoolTerms

TERMS = PoolTerms("pool", "demo", "https://funder.example", "池", "A pool", 10, 1, "stop")
HOLD = Step(
    0, "hold", "p1", "h1", "", "demo", "https://bank.example", "pool", "ab", "2026-05-01", "2026-05-01T04:00:00Z", None,
    1, 100, 1_000, 0,
)  # fmt: skip
OPENED = [(0, {"kind": "pool", "programme": "demo", "pool": "pool", "terms": "t"})]


def step(number: int, kind: str = "hold", points: int = 100, **changes: Any) -> Step:
    made = HOLD._replace(entry=number, transfer=f"t{number}", kind=kind, points=points, value_fen=10 * points)
    return made._replace(**changes)


def found(steps: Sequence[Step], terms: PoolTerms = TERMS) -> list[int | None]:
    findings = Findings()
    check_limits(steps, OPENED, Documents(pools={"t": terms}), findings)
    assert findings.counts.keys() <= {"pool-limit"}
    return [one.index for one in findings.shown]


@pytest.mark.parametrize(("fen", "entries"), [(1_000, []), (1_001, [1])])
def test_a_pool_pays_its_rate_at_most(fen: int, entries: list[int]) -> None:
    assert found([step(1, value_fen=fen)]) == entries


@pytest.mark.parametrize(("points", "entries"), [(100, []), (101, [2])])
def test_a_day_has_its_limit(points: int, entries: list[int]) -> None:
    limited = replace(TERMS, points_per_day=200)
    assert found([step(1), step(2, points=points, participant="p2")], limited) == entries


@pytest.mark.parametrize(("points", "entries"), [(100, []), (101, [2])])
def test_a_person_has_a_limit_of_the_day(points: int, entries: list[int]) -> None:
    limited = replace(TERMS, points_per_person_per_day=200)
    assert found([step(1), step(2, points=points)], limited) == entries
    assert found([step(1), step(2, points=points, participant="p2")], limited) == []
    assert found([step(1), step(2, points=points, day="2026-05-02")], limited) == []


def test_what_comes_back_the_same_day_may_be_drawn_again() -> None:
    limited = replace(TERMS, points_per_day=100)
    back = step(2, "release", named="t1")
    assert found([step(1), back, step(3)], limited) == []
    assert found([step(1), step(2, "capture", named="t1"), step(3)], limited) == [3]
    taken = [step(1), step(2, "capture", named="t1"), step(3, "refund", named="t2"), step(4)]
    assert found(taken, limited) == []
    late = [step(1), step(2, day="2026-05-02"), step(3, "release", named="t1", day="2026-05-02")]
    assert found([*late, step(4, day="2026-05-02")], limited) == [4]
