"""What was found in sources' days, as it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import orjson

from service.database import Connection
from service.quantification.document import Bilingual
from service.signals.reviews import describe

_LATEST = """
    SELECT s.uri, g.day, g.rule, g.version, g.document, g.found_at
    FROM service.source_signal g JOIN service.source s USING (source_id)
    ORDER BY g.day DESC, s.uri, g.rule LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class SourceFinding:
    """A day on which a source was unlike its own past, with the rule that says so and its figures."""

    source: str
    day: date
    rule: str
    version: int
    title: Bilingual
    told: Bilingual
    values: Mapping[str, str]
    found_at: datetime


async def list_source_signals(tx: Connection, limit: int) -> list[SourceFinding]:
    """The latest days first."""
    found = []
    for source, day, rule, version, document, found_at in await tx.fetch(_LATEST, limit):
        values = orjson.loads(document)
        found.append(SourceFinding(source, day, rule, version, *describe(rule, version, values), values, found_at))
    return found
