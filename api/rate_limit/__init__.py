"""Rate limits: two quotas a client, one script, a local limiter when the server is away, headers that say so."""

from api.rate_limit.limiter import RateLimiter
from api.rate_limit.quota import Decision, Limits, LocalQuotas, Policy
from service.settings import Settings

__all__ = ["Decision", "Limits", "LocalQuotas", "Policy", "RateLimiter", "build_rate_limiter"]


def build_rate_limiter(settings: Settings) -> RateLimiter:
    """The limiter these settings describe; `start` it in the process that serves, `close` it at the end."""
    return RateLimiter(
        Limits.from_settings(settings),
        settings.redis_url,
        processes=settings.api_processes,
        timeout=settings.redis_timeout_ms / 1000,
        retry=settings.redis_retry_ms / 1000,
    )
