"""What an operator sees of the API: logs, metrics, and the middleware that writes both."""

from api.observability.logs import configure_logging
from api.observability.metrics import count_activities, metrics_environment, observe_licences, render_metrics
from api.observability.middleware import ObservabilityMiddleware

__all__ = [
    "ObservabilityMiddleware",
    "configure_logging",
    "count_activities",
    "metrics_environment",
    "observe_licences",
    "render_metrics",
]
