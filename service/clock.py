"""Time and fresh values, handed in as arguments so that decisions stay pure."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg.pgproto import pgproto

SHANGHAI = ZoneInfo("Asia/Shanghai")

Clock = Callable[[], datetime]


def system_clock(offset: timedelta = timedelta(0)) -> Clock:
    """The machine's clock in UTC, moved by `offset` (zero, but in tests)."""
    return lambda: datetime.now(UTC) + offset


def uuid7(moment: datetime, random: bytes) -> UUID:
    """A UUIDv7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, then 74 of the 80 random bits; later ones sort later.

    Of the class that the driver reads ids as: a UUID like any other, whose text and hash cost a tenth.
    """
    milliseconds = int(moment.timestamp() * 1000)
    bits = int.from_bytes(random[:10], "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | bits
    return pgproto.UUID((value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62).to_bytes(16, "big"))


@dataclass(frozen=True, slots=True)
class Fresh:
    """Where new ids and nonces come from."""

    clock: Clock
    random: Callable[[int], bytes] = os.urandom

    def id(self) -> UUID:
        return uuid7(self.clock(), self.random(10))


@lru_cache(maxsize=256)  # a whole batch is judged and posted at one moment
def shanghai_day(moment: datetime) -> date:
    """The day of this moment in Asia/Shanghai: the platform's only kind of day."""
    return moment.astimezone(SHANGHAI).date()
