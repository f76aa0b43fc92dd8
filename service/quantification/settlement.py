"""Settlement: what is only known later decides whether a provisional credit matures. Pure, like quantify."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from service.quantification.model import Settlement
from service.quantification.quantify import ConditionShown, admitted, explain_conditions


def settle(settlement: Settlement, facts: Mapping[str, Decimal]) -> None:
    """Return when every condition holds over these facts, in the units the document declares.

    Raises ConditionNotMet for the first that does not: the credit is withdrawn. Raises UnknownInput, MissingInput,
    ImproperNumber, InputOutOfRange, NotComputable: the facts are at fault and nothing is settled.
    """
    explain_settlement(settlement, facts)


def explain_settlement(settlement: Settlement, facts: Mapping[str, Decimal]) -> tuple[ConditionShown, ...]:
    """The conditions in the order of the document, with their values and arithmetic. Raises what settle raises."""
    return explain_conditions(settlement.conditions, admitted(facts, settlement.facts))
