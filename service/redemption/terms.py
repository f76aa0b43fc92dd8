"""The terms of a reward pool: a value that a replay reads from the bundle as the platform reads it from its table."""

from dataclasses import dataclass
from typing import Literal

import orjson

Shortage = Literal["stop", "queue", "pro_rata"]


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """What a funder states before anybody draws, and never changes.

    rate_fen, rate_points       it pays at most so many fen for so many points
    shortage                    what happens when it is short: nobody gets anything (`stop`), who came first is served
                                first when there is more (`queue`), or those who wait share alike (`pro_rata`)
    points_per_day              in all, on one Asia/Shanghai day; None is no limit
    points_per_person_per_day   the same for one person
    """

    pool: str
    programme: str
    funder: str
    title_zh: str
    title_en: str
    rate_fen: int
    rate_points: int
    shortage: Shortage
    points_per_day: int | None = None
    points_per_person_per_day: int | None = None

    @property
    def document(self) -> bytes:
        """The terms as canonical JSON: what the digest in the log is of."""
        members = {
            "funder": self.funder,
            "points_per_day": _number(self.points_per_day),
            "points_per_person_per_day": _number(self.points_per_person_per_day),
            "pool": self.pool,
            "programme": self.programme,
            "rate_fen": str(self.rate_fen),
            "rate_points": str(self.rate_points),
            "shortage": self.shortage,
            "title_en": self.title_en,
            "title_zh": self.title_zh,
        }
        return orjson.dumps(members, option=orjson.OPT_SORT_KEYS)

    def pays(self, points: int, fen: int) -> bool:
        """Whether its rate allows so many fen for so many points."""
        return fen * self.rate_points <= points * self.rate_fen


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)
