"""Quotas by GCRA (a leaky bucket that counts time): policies, decisions and what a client is told. Pure.

A client has two quotas, requests and items. Each keeps how much of it is used, in nanoseconds: a unit costs 1/rate
seconds, time gives it back, and a quota is full at burst/rate seconds. Whole numbers throughout, so that the limit is
exact, and the script in the server and this code decide alike.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from api.problems import Problem
from service.settings import Settings

SECOND = 1_000_000_000  # nanoseconds
REQUESTS, ITEMS = 1, 2  # bits of Decision.violated
MOST_CLIENTS = 100_000  # that the local limiter keeps, about 200 bytes each


@dataclass(frozen=True, slots=True)
class Policy:
    """A lasting rate and a burst: at most `burst` units at once, given back at `per_second`."""

    name: str
    per_second: int
    burst: int

    @property
    def unit_ns(self) -> int:
        return math.ceil(SECOND / self.per_second)

    @property
    def full_ns(self) -> int:
        return self.burst * self.unit_ns

    def shared_by(self, processes: int) -> "Policy":
        """What one of several processes grants when they cannot ask each other."""
        return Policy(self.name, max(1, self.per_second // processes), max(1, self.burst // processes))


class Limits(NamedTuple):
    """The two policies of a client, with the numbers every decision needs worked out once."""

    requests: Policy
    items: Policy
    request_ns: int
    item_ns: int
    requests_full: int
    items_full: int
    header: str

    @classmethod
    def of(cls, requests: Policy, items: Policy) -> "Limits":
        header = ", ".join(
            f'"{policy.name}";q={policy.burst};w={math.ceil(policy.full_ns / SECOND)}' for policy in (requests, items)
        )
        return cls(requests, items, requests.unit_ns, items.unit_ns, requests.full_ns, items.full_ns, header)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Limits":
        return cls.of(
            Policy("requests", settings.rate_requests_per_second, settings.rate_requests_burst),
            Policy("items", settings.rate_items_per_second, settings.rate_items_burst),
        )

    def shared_by(self, processes: int) -> "Limits":
        return Limits.of(self.requests.shared_by(processes), self.items.shared_by(processes))


class Use(NamedTuple):
    """How much of each quota is used, in nanoseconds."""

    requests: int
    items: int


class Decision(NamedTuple):
    """Whether one request with its items may pass, and what is left. Either both quotas are charged, or none.

    violated   bits REQUESTS and ITEMS; 0 when the request may pass
    use        after the decision
    local      decided by this process alone, because the shared limiter did not answer
    """

    limits: Limits
    cost: int
    violated: int
    use: Use
    local: bool

    @property
    def allowed(self) -> bool:
        return self.violated == 0

    @property
    def never(self) -> bool:
        """The request alone is larger than the quota, so waiting does not help."""
        return bool(self.violated) and self.cost > self.limits.items.burst

    @property
    def retry_after(self) -> int:
        """Whole seconds until the same request would pass, at least 1; of no meaning where `never`."""
        limits, use = self.limits, self.use
        wait = max(
            use.requests + limits.request_ns - limits.requests_full if self.violated & REQUESTS else 0,
            use.items + self.cost * limits.item_ns - limits.items_full if self.violated & ITEMS else 0,
        )
        return max(1, -(-wait // SECOND))

    def headers(self) -> dict[str, str]:
        """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers), of every answer, passed or not.

        `RateLimit-Scope: local` is our own: the quota shown is this process's share.
        """
        limits, use = self.limits, self.use
        requests_left = (limits.requests_full - use.requests) // limits.request_ns
        items_left = (limits.items_full - use.items) // limits.item_ns
        headers = {
            "RateLimit-Policy": limits.header,
            "RateLimit": (
                f'"{limits.requests.name}";r={max(0, requests_left)};t={-(-use.requests // SECOND)}, '
                f'"{limits.items.name}";r={max(0, items_left)};t={-(-use.items // SECOND)}'
            ),
        }
        if self.local:
            headers["RateLimit-Scope"] = "local"
        return headers

    def problem(self) -> Problem:
        """The 429 of a request that may not pass."""
        headers = self.headers()
        if not self.never:
            headers["Retry-After"] = str(self.retry_after)
        violated = [
            policy
            for bit, policy in ((REQUESTS, self.limits.requests), (ITEMS, self.limits.items))
            if self.violated & bit
        ]
        return Problem(
            "quota-exceeded",
            members={"violated-policies": [policy.name for policy in violated]},
            headers=headers,
            policies_zh="、".join(
                f"{_CHINESE.get(policy.name, policy.name)}（{_rate(policy)}）" for policy in violated
            ),
            policies_en=", ".join(f"{policy.name} ({_rate(policy)})" for policy in violated),
        )


_CHINESE = {"requests": "请求数", "items": "条数"}


def _rate(policy: Policy) -> str:
    return f"{policy.per_second}/s, ≤ {policy.burst}"


def decide(limits: Limits, use: Use, cost: int) -> tuple[int, Use]:
    """Charge one request and `cost` items if both quotas have room: (violated, use afterwards)."""
    requests = use.requests + limits.request_ns
    items = use.items + cost * limits.item_ns
    violated = REQUESTS if requests > limits.requests_full else 0
    if cost and items > limits.items_full:
        violated |= ITEMS
    return violated, use if violated else Use(requests, items)


class LocalQuotas:
    """What this process alone remembers of its clients, for when the shared limiter is away."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._uses: OrderedDict[str, tuple[int, Use]] = OrderedDict()

    def check(self, client: str, cost: int, now: int) -> Decision:
        """Decide at `now`, nanoseconds of a clock that never goes back."""
        at, use = self._uses.get(client, (now, Use(0, 0)))
        back = now - at
        current = Use(max(0, use.requests - back), max(0, use.items - back))
        violated, after = decide(self._limits, current, cost)
        self._uses[client] = (now, after)
        self._uses.move_to_end(client)
        if len(self._uses) > MOST_CLIENTS:
            self._uses.popitem(last=False)
        return Decision(self._limits, cost, violated, after, True)
