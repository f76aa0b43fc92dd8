"""Rate limits: quotas of clients, participants and addresses, one script, a local limiter when the server is away."""

from api.rate_limit.book import LimitBook, keep_limits_fresh
from api.rate_limit.limiter import RateLimiter
from api.rate_limit.quota import Decision, Limits, LocalQuotas, Policy
from service.settings import Settings

__all__ = [
    "Decision",
    "LimitBook",
    "Limits",
    "LocalQuotas",
    "Policy",
    "RateLimiter",
    "build_rate_limiter",
    "keep_limits_fresh",
]


def build_rate_limiter(settings: Settings) -> RateLimiter:
    """The limiter these settings describe; `start` it in the process that serves, `close` it at the end."""
    return RateLimiter(
        LimitBook.from_settings(settings),
        settings.redis_url,
        processes=settings.api_processes,
        timeout=settings.redis_timeout_ms / 1000,
        retry=settings.redis_retry_ms / 1000,
    )
