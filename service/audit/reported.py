"""Events as a source sent them, turned into the evidence documents that the platform made of them.

Written a second time, apart from the intake (service/activities/intake.py), so that whoever replays a bundle does not
take the platform's word for it; a test holds one against the other.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from service.quantification.readings import parse_readings

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
_VERSION = "1"
_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_AS_REPORTED = ("basis", "references", "vehicle", "replaces")
_SERIES = ("readings", "baseline")


def events_of(body: bytes, kind: str) -> Iterator[Mapping[str, Any]]:
    """The events of a call, as CloudEvents; those that are no objects are left out, for nothing was made of them.

    kind   the media type that was signed, without its parameters

    Raises ValueError for a body that is no JSON, or of another kind.
    """
    content = json.loads(body, parse_float=Decimal)
    if kind == BATCH:
        yield from (event for event in content if isinstance(event, dict))
    elif kind == STRUCTURED:
        yield from [content] if isinstance(content, dict) else []
    else:
        raise ValueError(f"signed events come as {STRUCTURED} or {BATCH}, not {kind[:100]}")


def evidence_of(event: Mapping[str, Any]) -> bytes:
    """The evidence document of one event. Raises KeyError, TypeError, ValueError, ArithmeticError, AttributeError and
    ReadingsInvalid for what no intake would have taken."""
    data = event["data"]
    fields: dict[str, Any] = {
        "ended_at": _moment(data["ended_at"]),
        "event": event["id"],
        "inputs": {name: _figure(value) for name, value in data["inputs"].items()},
        "scenario": data["scenario"],
        "started_at": _moment(data["started_at"]),
        "v": _VERSION,
    }
    fields |= {name: data[name] for name in _AS_REPORTED if data.get(name)}
    if "site" in fields.get("references", {}):
        site = fields["references"]["site"].strip(" ").translate(_UPPER)  # as GB 32100-2015 writes it
        fields["references"] = fields["references"] | {"site": site}
    for name in _SERIES:
        if data.get(name):
            fields[name] = {series: parse_readings(value).as_json() for series, value in data[name].items()}
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _moment(text: str) -> str:
    """In UTC, with a point only where there are parts of a second."""
    return datetime.fromisoformat(text.upper()).astimezone(UTC).isoformat().replace("+00:00", "Z")


def _figure(value: object) -> str:
    """The shortest plain text of a number: `2.50` and `2.5` are one figure."""
    number = Decimal(value) if isinstance(value, str | int | Decimal) else None
    if number is None or isinstance(value, bool):
        raise ValueError("a figure is a number or a text")
    text = format(number, "f")
    if not number:
        return "0"
    return text.rstrip("0").rstrip(".") if "." in text else text
