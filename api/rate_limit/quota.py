"""Quotas by GCRA (a leaky bucket that counts time): policies, decisions and what a client is told. Pure.

A client has two quotas, requests and items; a call that costs more than others is charged as so many requests. Each
quota keeps how much of it is used, in nanoseconds: a unit costs 1/rate seconds, time gives it back, and a quota is full
at burst/rate seconds. Whole numbers throughout, so that the limit is exact, and the script in the server and this code
decide alike.
"""

import base64
import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from api.problems import Problem

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

    @property
    def header(self) -> str:
        return f'"{self.name}";q={self.burst};w={math.ceil(self.full_ns / SECOND)}'


class Limits(NamedTuple):
    """The policies of a client, with the numbers every decision needs worked out once.

    items   None: whoever has these limits sends no items, and what it sends all the same is not counted
    """

    requests: Policy
    items: Policy | None
    request_ns: int
    item_ns: int
    requests_full: int
    items_full: int
    headers: tuple[str, str]

    @classmethod
    def of(cls, requests: Policy, items: Policy | None = None) -> "Limits":
        item_ns, items_full = (items.unit_ns, items.full_ns) if items else (0, 0)
        headers = (requests.header, items.header if items else "")
        return cls(requests, items, requests.unit_ns, item_ns, requests.full_ns, items_full, headers)

    def shared_by(self, processes: int) -> "Limits":
        return _shared(self, processes)

    @property
    def policies(self) -> tuple[Policy, ...]:
        return (self.requests,) if self.items is None else (self.requests, self.items)


@lru_cache(maxsize=1024)
def _shared(limits: Limits, processes: int) -> Limits:
    items = limits.items
    return Limits.of(limits.requests.shared_by(processes), items and items.shared_by(processes))


@lru_cache(maxsize=20_000)
def partition_of(client: str) -> str:
    """The `pk` parameter by which a client knows whose quota it is told of: opaque, and the same for as long as the
    name is. It says nothing of anybody who does not hold the name."""
    digest = hashlib.sha256(b"tanpuhui/partition/" + client.encode("utf-8")).digest()
    return f";pk=:{base64.b64encode(digest[:6]).decode('ascii')}:"


class Use(NamedTuple):
    """How much of each quota is used, in nanoseconds."""

    requests: int
    items: int


class Decision(NamedTuple):
    """Whether one request with its items may pass, and what is left. Either both quotas are charged, or none.

    items      in the request
    violated   bits REQUESTS and ITEMS; 0 when the request may pass
    use        after the decision
    local      decided by this process alone, because the shared limiter did not answer
    units      of the quota of requests that the call costs
    client     whose quotas they are
    """

    limits: Limits
    items: int
    violated: int
    use: Use
    local: bool
    units: int = 1
    client: str = ""

    @property
    def allowed(self) -> bool:
        return self.violated == 0

    @property
    def never(self) -> bool:
        """The request alone is larger than the quota, so waiting does not help."""
        items = self.limits.items
        return bool(self.violated) and items is not None and self.items > items.burst

    @property
    def retry_after(self) -> int:
        """Whole seconds until the same request would pass, at least 1; of no meaning where `never`."""
        limits, use = self.limits, self.use
        asked = request_cost(limits, self.units)
        wait = max(
            use.requests + asked - limits.requests_full if self.violated & REQUESTS else 0,
            use.items + self.items * limits.item_ns - limits.items_full if self.violated & ITEMS else 0,
        )
        return max(1, -(-wait // SECOND))

    def headers(self) -> dict[str, str]:
        """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10), of every answer, passed or not;
        `pk` names the partition, whose quota it is.

        `RateLimit-Scope: local` is our own: the quota shown is this process's share.
        """
        limits, use = self.limits, self.use
        partition = partition_of(self.client)
        requests_left = (limits.requests_full - use.requests) // limits.request_ns
        policy = f"{limits.headers[0]}{partition}"
        left = f'"{limits.requests.name}";r={max(0, requests_left)};t={-(-use.requests // SECOND)}{partition}'
        if limits.items is not None:
            items_left = (limits.items_full - use.items) // limits.item_ns
            policy += f", {limits.headers[1]}{partition}"
            left += f', "{limits.items.name}";r={max(0, items_left)};t={-(-use.items // SECOND)}{partition}'
        headers = {"RateLimit-Policy": policy, "RateLimit": left}
        if self.local:
            headers["RateLimit-Scope"] = "local"
        return headers

    def problem(self) -> Problem:
        """The 429 of a request that may not pass."""
        headers = self.headers()
        if not self.never:
            headers["Retry-After"] = str(self.retry_after)
        both = ((REQUESTS, self.limits.requests), (ITEMS, self.limits.items))
        violated = [policy for bit, policy in both if self.violated & bit and policy is not None]
        return Problem(
            "quota-exceeded",
            members={
                "violated-policies": [policy.name for policy in violated],
                "partition": partition_of(self.client).removeprefix(";pk=:").removesuffix(":"),
            },
            headers=headers,
            policies_zh="、".join(
                f"{_CHINESE.get(policy.name, policy.name)}（{_rate(policy)}）" for policy in violated
            ),
            policies_en=", ".join(f"{policy.name} ({_rate(policy)})" for policy in violated),
        )


_CHINESE = {"requests": "请求数", "items": "条数", "address": "同一网络地址未带令牌或令牌无效的请求数"}


def _rate(policy: Policy) -> str:
    return f"{policy.per_second}/s, ≤ {policy.burst}"


def request_cost(limits: Limits, units: int) -> int:
    """What a call of so many units takes of the quota of requests, in nanoseconds: never more than all of it, so that
    the dearest call can be made under the smallest quota, after a pause."""
    return limits.request_ns if units == 1 else min(units * limits.request_ns, limits.requests_full)


def decide(limits: Limits, use: Use, items: int, units: int = 1) -> tuple[int, Use]:
    """Charge one request and its items if both quotas have room: (violated, use afterwards)."""
    requests_used = use.requests + request_cost(limits, units)
    items_used = use.items + items * limits.item_ns
    violated = REQUESTS if requests_used > limits.requests_full else 0
    if items and items_used > limits.items_full:
        violated |= ITEMS
    return violated, use if violated else Use(requests_used, items_used)


class LocalQuotas:
    """What this process alone remembers of its clients, for when the shared limiter is away.

    limits_of   the limits of a client, already this process's share
    """

    def __init__(self, limits_of: Callable[[str], Limits]) -> None:
        self._limits_of = limits_of
        self._uses: OrderedDict[str, tuple[int, Use]] = OrderedDict()

    def check(self, client: str, items: int, now: int, units: int = 1) -> Decision:
        """Decide at `now`, nanoseconds of a clock that never goes back."""
        limits = self._limits_of(client)
        at, use = self._uses.get(client, (now, Use(0, 0)))
        back = now - at
        current = Use(max(0, use.requests - back), max(0, use.items - back))
        violated, after = decide(limits, current, items, units)
        self._uses[client] = (now, after)
        self._uses.move_to_end(client)
        if len(self._uses) > MOST_CLIENTS:
            self._uses.popitem(last=False)
        return Decision(limits, items, violated, after, True, units, client)
