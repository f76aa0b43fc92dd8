"""What was measured, out of an evidence document: the bytes that a credit's leaf commits to (docs/audit.md)."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from service.quantification.model import ActivityData
from service.quantification.readings import Readings, parse_readings


def activity_data(document: Mapping[str, Any]) -> ActivityData:
    """What was measured, by the document's fields. Raises KeyError, TypeError, ValueError, ArithmeticError and
    ReadingsInvalid for what no intake has written."""
    return ActivityData(
        datetime.fromisoformat(document["started_at"]),
        datetime.fromisoformat(document["ended_at"]),
        {name: Decimal(value) for name, value in document["inputs"].items()},
        _readings(document["readings"]) if "readings" in document else {},
        _readings(document["baseline"]) if "baseline" in document else {},
    )


def _readings(series: Mapping[str, Any]) -> dict[str, Readings]:
    return {name: parse_readings(value) for name, value in series.items()}
