"""The states of a bank day and of a dispute, and the steps between them (both tables: docs/settlement.md). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

DayState = Literal["open", "issued", "disputed", "agreed", "closed"]
DAY_STATES: tuple[DayState, ...] = ("open", "issued", "disputed", "agreed", "closed")

ANSWER_WITHIN = timedelta(days=15)
"""A bank decides a consumer's complaint within 15 days of receiving it: 银行业保险业消费投诉处理管理办法 (2020)."""

DECIDE_WITHIN = timedelta(days=15)
"""The operator takes no longer than it grants the bank."""

DISPUTE_REASONS = ("benefit_missing", "benefit_smaller", "not_requested", "charged_twice")
DISPUTE_STATES = ("opened", "answered", "overdue", "resolved_for_participant", "resolved_for_bank", "withdrawn")
ENDED = frozenset({"resolved_for_participant", "resolved_for_bank", "withdrawn"})

STEPS: Mapping[tuple[str, str], str] = {
    ("opened", "answer"): "answered",
    ("opened", "lapse"): "overdue",
    ("opened", "withdraw"): "withdrawn",
    ("overdue", "answer"): "answered",
    ("overdue", "withdraw"): "withdrawn",
    ("overdue", "resolve_for_participant"): "resolved_for_participant",
    ("overdue", "resolve_for_bank"): "resolved_for_bank",
    ("answered", "withdraw"): "withdrawn",
    ("answered", "resolve_for_participant"): "resolved_for_participant",
    ("answered", "resolve_for_bank"): "resolved_for_bank",
}
"""What each step makes of a dispute; a step that is not here is refused. The operator decides once the bank was heard,
or let its time pass."""


class StepRefused(Exception):
    """A dispute in this state does not take this step."""

    def __init__(self, state: str, step: str) -> None:
        super().__init__(f"{step} from {state}")
        self.state, self.step = state, step


def day_state(*, issued: bool, differences: int | None, closed_by: frozenset[str]) -> DayState:
    """The state of a bank day.

    differences  of the bank's last file, None while there is no file
    closed_by    the sides that have closed it: `bank`, `platform`
    """
    if not issued:
        return "open"
    if closed_by >= {"bank", "platform"}:
        return "closed"
    if differences is None:
        return "issued"
    return "disputed" if differences else "agreed"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a dispute stands on a day.

    state      of DISPUTE_STATES
    waits_for  whose turn it is: `bank` or `operator`; None once it has ended
    due_on     the last day of that turn; None once it has ended
    late       that day has passed
    """

    state: str
    waits_for: Literal["bank", "operator"] | None
    due_on: date | None
    late: bool


def answer_due(opened_on: date) -> date:
    """The last day for the bank's answer."""
    return opened_on + ANSWER_WITHIN


def decision_due(since: date) -> date:
    """The last day for the decision, from the day of the bank's answer or the last day for it."""
    return since + DECIDE_WITHIN


def standing(state: str, *, answer_by: date, decide_by: date, today: date) -> Standing:
    """A dispute's state as of today: a deadline counts from the day after it, whether or not that was written down."""
    if state in ENDED:
        return Standing(state, None, None, late=False)
    if state == "opened" and today <= answer_by:
        return Standing("opened", "bank", answer_by, late=False)
    now = "overdue" if state == "opened" else state
    return Standing(now, "operator", decide_by, late=today > decide_by)


def after(state: str, step: str) -> str:
    """The state after a step. Raises StepRefused."""
    try:
        return STEPS[state, step]
    except KeyError:
        raise StepRefused(state, step) from None
