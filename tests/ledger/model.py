"""A reference model of the platform, written from its published rules and not from its code.

35.01 g/km rounded down to milligrams, one point a gram, points until the end of the twenty-fourth month after their
recording or their maturity, what waits until then, and what a reversal takes. It counts in plain integers.
"""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Answer = tuple[Any, ...]

SHANGHAI = ZoneInfo("Asia/Shanghai")


def month_end(index: int) -> date:
    """The last day of a month counted from the year 0."""
    year, month = divmod(index, 12)
    return date(year, month + 1, monthrange(year, month + 1)[1])


def offset_of(index: int) -> timedelta:
    """The clock's offset that makes it noon of the fifteenth of this month."""
    year, month = divmod(index, 12)
    return datetime(year, month + 1, 15, 12, tzinfo=SHANGHAI) - datetime.now(UTC)


@dataclass
class Credit:
    """A credit as the model remembers it.

    points   issued ones and those of a campaign's budget, `funded` of them
    bucket   of its points; None while they wait, and when all of them went into debt
    waiting  milligrams and points that are still pending
    """

    mg: int
    points: int
    bucket: int | None
    funded: int = 0
    waiting: tuple[int, int] = (0, 0)
    reason: str | None = None
    reversal: str | None = None


@dataclass
class Rider:
    """A participant of the model. Buckets are points by the month at whose end they lapse; `budget` is what campaigns
    have given them and not got back."""

    participant_id: str
    source: str
    subject: str
    link_id: str | None
    mg: int = 0
    mg_debt: int = 0
    mg_pending: int = 0
    debt: int = 0
    pending: int = 0
    budget: int = 0
    transfers: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    credits: dict[str, Credit] = field(default_factory=dict)

    def lapse(self, month: int) -> None:
        """Whoever is posted for first loses what has run out."""
        over = [end for end, points in self.buckets.items() if end < month and points]
        self.transfers += bool(over)
        self.buckets = {end: points for end, points in self.buckets.items() if end >= month}

    def earn(
        self,
        transfer_id: str,
        mg: int,
        points: int,
        month: int,
        *,
        funded: int = 0,
        mg_waits: bool = False,
        points_wait: bool = False,
    ) -> None:
        waiting = (mg if mg_waits else 0, points + funded if points_wait else 0)
        self.mg_pending += waiting[0]
        self.pending += waiting[1]
        bucket = self._receive(mg - waiting[0], points + funded - waiting[1], month)
        self.budget += funded
        self.transfers += 1
        self.credits[transfer_id] = Credit(mg, points + funded, bucket, funded, waiting)

    def mature(self, credit: Credit, month: int) -> None:
        """What waited is theirs; points have their months from now."""
        mg, points = credit.waiting
        self.mg_pending -= mg
        self.pending -= points
        bucket = self._receive(mg, points, month)
        credit.bucket = bucket if points else credit.bucket
        credit.waiting = (0, 0)
        self.transfers += 1

    def _receive(self, mg: int, points: int, month: int) -> int | None:
        """Debts are repaid first. Returns the bucket of the points that are left."""
        repaid_mg, repaid = min(mg, self.mg_debt), min(points, self.debt)
        self.mg_debt -= repaid_mg
        self.debt -= repaid
        self.mg += mg - repaid_mg
        bucket = month + 24 if points > repaid else None
        if bucket is not None:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + points - repaid
        return bucket

    def take_back(self, credit: Credit) -> None:
        """What still waits goes as it came; the rest out of what there is, and else into debt."""
        waiting_mg, waiting = credit.waiting
        self.mg_pending -= waiting_mg
        self.pending -= waiting
        taken = min(credit.mg - waiting_mg, self.mg)
        self.mg -= taken
        self.mg_debt += credit.mg - waiting_mg - taken
        owed = credit.points - waiting
        own = [credit.bucket] if credit.bucket in self.buckets else []
        for end in own + [end for end in sorted(self.buckets) if end != credit.bucket]:
            assert end is not None
            used = min(owed, self.buckets[end])
            self.buckets[end] -= used
            owed -= used
        self.debt += owed
        self.budget -= credit.funded
        credit.waiting = (0, 0)
        self.transfers += 1

    def balance(self, month: int) -> Answer:
        """What the balance route should say."""
        live = sorted((end, points) for end, points in self.buckets.items() if end >= month and points)
        expiring = [{"on": month_end(end).isoformat(), "points": points} for end, points in live]
        available = sum(points for _, points in live)
        return available, self.debt, self.pending, expiring, self.mg, self.mg_debt, self.mg_pending, self.transfers


def judged(metres: int, seconds: int) -> str | tuple[int, int]:
    """What a ride is worth in milligrams and points, or the condition it fails."""
    if seconds < 0:
        return "ends-before-start"
    failed = {
        "min-duration": seconds < 60,
        "max-duration": seconds > 3 * 3600,
        "min-distance": metres < 100,
        "max-distance": metres > 30_000,
        "max-mean-speed": metres * 3600 > 25_000 * seconds,
    }
    for name, failing in failed.items():
        if failing:
            return name
    mg = metres * 3501 // 100
    return mg, mg // 1000


@dataclass
class Model:
    """Everything the platform should remember."""

    month: int
    riders: dict[tuple[str, str], Rider] = field(default_factory=dict)
    events: dict[tuple[str, str], tuple[Any, Answer]] = field(default_factory=dict)

    def post(self, token: str, event: Mapping[str, Any], metres: int, seconds: int, transfer_id: str | None) -> Answer:
        """The answer to one event; `transfer_id` is the one the platform chose, where it credited."""
        if "data" not in event:
            return ("refused", "malformed-event")
        if event["source"] != token:
            return ("refused", "source-mismatch")
        key = (event["source"], event["id"])
        if key in self.events:
            body, first = self.events[key]
            return ("duplicate", first) if body == event else ("refused", "event-conflict")
        rider = self.riders.get((event["source"], event["subject"]))
        if rider is None or rider.link_id is None:
            return ("refused", "subject-not-linked")
        rider.lapse(self.month)
        worth = judged(metres, seconds)
        if isinstance(worth, str):
            answer: Answer = ("refused", worth)
        else:
            answer = ("credited", transfer_id, *worth)
            rider.earn(str(transfer_id), *worth, self.month)
        self.events[key] = (event, answer)
        return answer


def answer_of(outcome: Mapping[str, Any]) -> Answer:
    """An item of a batch's answer, as the model says it."""
    if outcome["outcome"] == "credited":
        return ("credited", outcome["transfer_id"], outcome["reduction_mg"], outcome["points"])
    if outcome["outcome"] == "duplicate":
        return ("duplicate", answer_of(outcome["first"]))
    problem = outcome["problem"]
    return ("refused", problem.get("condition") or problem["type"].rpartition(":")[2])
