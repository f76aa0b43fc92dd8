"""The states of a bank day and of a dispute: every step that is not in the table is refused, deadlines count by days,
and docs/settlement.md shows these tables."""

import re
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settlement.states import (
    DAY_STATES,
    DISPUTE_REASONS,
    DISPUTE_STATES,
    ENDED,
    STEPS,
    StepRefused,
    after,
    answer_due,
    day_state,
    decision_due,
    standing,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "settlement.md"
OPENED = date(2026, 5, 1)
BOTH = frozenset({"bank", "platform"})
STEP_NAMES = sorted({step for _, step in STEPS})


def table(title: str) -> list[list[str]]:
    """The rows of the table behind a title of the document, without its head."""
    text = DOCUMENT.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in text.splitlines() if line.startswith("| `")]
    assert rows, f"docs/settlement.md has no table under {title}"
    return rows


@pytest.mark.parametrize(("state", "step"), list(product(DISPUTE_STATES, STEP_NAMES)))
def test_a_dispute_takes_the_steps_of_the_table_and_no_other(state: str, step: str) -> None:
    if (state, step) in STEPS:
        assert after(state, step) == STEPS[state, step]
    else:
        with pytest.raises(StepRefused) as refused:
            after(state, step)
        assert (refused.value.state, refused.value.step) == (state, step)


def test_what_has_ended_takes_no_step() -> None:
    assert not [state for state, _ in STEPS if state in ENDED]
    assert {state for _, state in STEPS.items()} | {"opened"} == {*DISPUTE_STATES}


def test_the_documents_tables_are_those_of_the_code() -> None:
    shown = {(row[0], row[1]): row[2] for row in table("Disputes · 争议")}
    assert shown == dict(STEPS)
    text = DOCUMENT.read_text("utf-8")
    assert [row[0] for row in table("The states of a day · 日状态")] == list(DAY_STATES)
    for reason in DISPUTE_REASONS:
        assert f"`{reason}`" in text


def test_a_deadline_counts_from_the_day_after_it() -> None:
    answer_by = answer_due(OPENED)
    decide_by = decision_due(answer_by)
    assert (answer_by - OPENED, decide_by - answer_by) == (timedelta(days=15), timedelta(days=15))
    last = standing("opened", answer_by=answer_by, decide_by=decide_by, today=answer_by)
    assert (last.state, last.waits_for, last.due_on, last.late) == ("opened", "bank", answer_by, False)
    late = standing("opened", answer_by=answer_by, decide_by=decide_by, today=answer_by + timedelta(days=1))
    assert (late.state, late.waits_for, late.due_on, late.late) == ("overdue", "operator", decide_by, False)
    for state in ("answered", "overdue"):
        assert not standing(state, answer_by=answer_by, decide_by=decide_by, today=decide_by).late
        assert standing(state, answer_by=answer_by, decide_by=decide_by, today=decide_by + timedelta(days=1)).late


@given(st.sampled_from(sorted(ENDED)), st.dates())
def test_what_has_ended_waits_for_nobody(state: str, today: date) -> None:
    stands = standing(state, answer_by=OPENED, decide_by=OPENED, today=today)
    assert (stands.state, stands.waits_for, stands.due_on, stands.late) == (state, None, None, False)


@pytest.mark.parametrize(
    ("issued", "differences", "closed_by", "expected"),
    [
        (False, None, frozenset(), "open"),
        (True, None, frozenset(), "issued"),
        (True, None, frozenset({"bank"}), "issued"),
        (True, 0, frozenset(), "agreed"),
        (True, 0, frozenset({"bank"}), "agreed"),
        (True, 1, frozenset({"bank"}), "disputed"),
        (True, 1, frozenset({"platform"}), "disputed"),
        (True, 1, BOTH, "closed"),
        (True, 0, BOTH, "closed"),
        (True, None, BOTH, "closed"),
    ],
)
def test_a_day_is_closed_when_both_sides_closed_it(
    issued: bool, differences: int | None, closed_by: frozenset[str], expected: str
) -> None:
    assert day_state(issued=issued, differences=differences, closed_by=closed_by) == expected
