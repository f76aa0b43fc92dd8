"""The platform's answers to a batch, and how each event of it is counted."""

import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from api.provider.report import DUPLICATE, Fate

_CLOCK_SLACK_MS = 2_000  # by which the clocks of this machine and the platform may differ
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
REMEMBERED = 50_000  # transfers, or events; some 8 MB


class Answered(NamedTuple):
    """One item of the platform's answer; `again` when the event was known and `fate` is its first one."""

    fate: Fate
    again: bool


def answers(body: bytes, expected: int) -> list[Answered] | None:
    """The answer's items, or None when it is not an answer to that many events."""
    try:
        outcomes = orjson.loads(body)["outcomes"]
        return [_answered(outcome) for outcome in outcomes] if len(outcomes) == expected else None
    except (ValueError, KeyError, TypeError):
        return None


def _answered(outcome: Any) -> Answered:
    match outcome["outcome"]:
        case "credited":
            amounts = int(outcome["reduction_mg"]), int(outcome["points"])
            # A rehearsed credit has no transfer yet
            transfer_id = outcome["transfer_id"]
            if transfer_id is not None and not _UUID.fullmatch(transfer_id):
                raise ValueError("a transfer's id is a UUID")
            return Answered(Fate("", "", *amounts, transfer_id, outcome.get("pending", False) is True), again=False)
        case "refused":
            return Answered(Fate(reason_of(outcome["problem"]), str(outcome["problem"].get("detail", ""))), again=False)
        case "duplicate":
            return Answered(_answered(outcome["first"]).fate, again=True)
    raise ValueError("an outcome is credited, refused or duplicate")


def reason_of(problem: dict[str, Any]) -> str:
    """The slug that ends the problem's type, and the condition when it names one."""
    slug = re.split(r"[:/#]", str(problem["type"]).rstrip("/"))[-1]
    condition = problem.get("condition")
    return f"{slug}/{condition}" if condition is not None else slug


class Counted:
    """The transfers counted lately, so that each is counted once, also when an event stands twice in the file.

    Bounded: it forgets the oldest of 50,000, some seconds of the fastest import; after that, only an event that stands
    twice in the file and travels in a batch that was sent again for so long could count a second time.
    """

    def __init__(self) -> None:
        self._order: deque[str] = deque()
        self._known: set[str] = set()

    def add(self, transfer_id: str) -> bool:
        """Whether it was not counted before."""
        if transfer_id in self._known:
            return False
        self._known.add(transfer_id)
        self._order.append(transfer_id)
        if len(self._order) > REMEMBERED:
            self._known.remove(self._order.popleft())
        return True


def fates(
    event_ids: Sequence[str],
    answered: Sequence[Answered],
    resent_since_ms: int | None,
    counted: Counted,
    before: Collection[str] = (),
    crossed: Mapping[str, int] = MappingProxyType({}),
) -> list[Fate]:
    """How each event of a batch is counted.

    resent_since_ms  when a batch that had to be sent again was first sent (Unix time), else None. That first sending
                     may have been posted and only its answer lost: those events come back as known, and yet it was
                     this import that had them decided, so their first answer counts.
    before           ids of events that stood earlier in the file: those were decided there
    crossed          ids of events of other batches of this import without an answer, and since when (Unix time): an
                     equal event here may come back as known by one of those, whose answer is late or lost
    """
    decided = []
    seen: set[str] = set()  # the second of two equal events of one batch is a duplicate however often it is sent
    for event_id, (fate, again) in zip(event_ids, answered, strict=True):
        ours, since_ms = not again, crossed.get(event_id, resent_since_ms)
        if again and since_ms is not None:
            ours = event_id not in seen and event_id not in before and _made_since(fate, since_ms)
        if ours:  # a refusal that is no repeat may come twice: of what the platform does not keep each is its own
            first = counted.add(fate.transfer_id or f"refused {event_id}")
            ours = first or (fate.transfer_id is None and not again)
        seen.add(event_id)
        decided.append(fate if ours else Fate(DUPLICATE, fate.detail or f"transfer {fate.transfer_id}"))
    return decided


def _made_since(fate: Fate, since_ms: int) -> bool:
    """Whether the transfer was made since then: its id is a UUIDv7. A refusal has no time and is taken to be ours."""
    return fate.made_ms is None or fate.made_ms >= since_ms - _CLOCK_SLACK_MS
