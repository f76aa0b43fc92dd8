"""People who ride, and a worker that looks for signals as its own role."""

import itertools
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from service.clock import Fresh, system_clock
from service.database import Pool
from service.signals.looking import look_through
from service.worker import drain
from tests.conftest import Database
from tests.running import Api, Person, pooled, ride

SERIES = ("2.101", "3.207", "1.703")  # kilometres that nobody rides twice in this order
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Looker:
    """The API that people report through, and the worker's connections."""

    api: Api
    pool: Pool
    hours: Iterator[int] = field(default_factory=itertools.count)

    async def look(self, shift: timedelta = timedelta(0)) -> int:
        """Everything that was credited by now; how many leaves were looked at."""
        await drain(self.pool)
        return await look_through(self.pool, Fresh(system_clock(shift)))

    async def person(self) -> Person:
        """Somebody new, at a source of docked bicycles."""
        return await self.api.person(await self.api.source(scenarios=["docked-ebike"]))

    async def rode(self, person: Person, kilometres: Sequence[str]) -> list[str]:
        """Credits of these rides, each half an hour after the one before it; the transfers."""
        begins = [morning() + timedelta(minutes=30 * next(self.hours)) for _ in kilometres]
        about = zip(begins, kilometres, strict=True)
        events = [docked(person.source, person.subject, at, 1200, km=km) for at, km in about]
        outcomes = await self.api.report(person.source, events)
        assert {outcome["outcome"] for outcome in outcomes} == {"credited"}, outcomes
        return [outcome["transfer_id"] for outcome in outcomes]

    async def suspicious(self, repeats: int = 2) -> Person:
        """Somebody new who told the same distances again and again; the worker has looked."""
        person = await self.person()
        await self.rode(person, SERIES * repeats)
        await self.look()
        return person

    async def reviews(self, person: Person) -> list[dict[str, Any]]:
        """What the person reads of their reviews, in English."""
        headers = self.api.bearer("participant", person.participant_id) | {"Accept-Language": "en"}
        answer = await self.api.client.get("/v1/me/reviews", headers=headers)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["reviews"]
        return found

    async def signals(self, person: Person) -> list[tuple[str, str, UUID | None]]:
        """What was found of somebody: the rule, its strength, and the review."""
        rows = await self.pool.fetch(
            "SELECT rule, strength, review_id FROM service.signal WHERE participant_id = $1 ORDER BY found_at, rule",
            UUID(person.participant_id),
        )
        return [tuple(row) for row in rows]


@asynccontextmanager
async def looking(api: Api, database: Database) -> AsyncIterator[Looker]:
    async with pooled(database.sequencer) as pool:
        yield Looker(api, pool)


def docked(
    source: str, subject: str, begins: datetime, seconds: int, *, km: str = "1.234", vehicle: str | None = None
) -> dict[str, Any]:
    """A ride whose hours and whose bicycle are kept."""
    times = {"started_at": begins.isoformat(), "ended_at": (begins + timedelta(seconds=seconds)).isoformat()}
    about: dict[str, Any] = {"scenario": "docked-ebike", "references": {"operator": "tests"}} | times
    named = vehicle or f"{next(_numbers)}-{os.urandom(3).hex()}"
    return ride(source, subject, km=km, vehicle=named, **about)


def morning() -> datetime:
    """An early hour of a day three weeks ago."""
    day = datetime.now(UTC).date() - timedelta(days=21)
    return datetime(day.year, day.month, day.day, 1, tzinfo=UTC)
