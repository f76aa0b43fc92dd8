"""Metrics for Prometheus, right with one API process and with several.

Several processes share one port, so a scrape reaches any of them: each keeps its numbers in files of one directory, and
whichever is asked adds all of them up (prometheus_client's multiprocess mode); the log's worker, which has no port,
writes there too. That library chooses where numbers live when it is imported, so the choice is in the environment that
processes are started with.
"""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # a read to a loaded batch

REQUEST_SECONDS = Histogram(
    "tanpuhui_http_request_seconds",
    "Time from the request's arrival to the answer's last byte",
    ["route", "method", "status"],
    buckets=_BUCKETS,
)
ACTIVITIES = Counter("tanpuhui_activities", "Activities answered, by outcome and problem", ["outcome", "problem"])
LIMIT_DECISIONS = Counter("tanpuhui_rate_limit_decisions", "Rate limit decisions", ["scope", "outcome"])
LIMITER_LOCAL = Gauge(
    "tanpuhui_rate_limiter_local",
    "Processes that limit by themselves because Redis does not answer",
    multiprocess_mode="livesum",
)
PROOFS_LOCAL = Gauge(
    "tanpuhui_proofs_local",
    "Processes that remember proofs of possession by themselves because Redis does not answer",
    multiprocess_mode="livesum",
)
PROOFS_FORGOTTEN = Counter("tanpuhui_proofs_forgotten", "Proofs of possession forgotten before their minute was over")
LICENCE_DAYS_LEFT = Gauge(
    "tanpuhui_licence_days_left",
    "Days on which a source's licence for a scenario still covers something, today included, when it was last read",
    ["source", "scenario"],
    multiprocess_mode="livemostrecent",
)

# Looking a labelled series up costs more than counting in it.
_requests: dict[tuple[str, str, int], Histogram] = {}
_licensed: dict[str, set[str]] = {}
_decisions = {
    (scope, allowed): LIMIT_DECISIONS.labels(scope, "allowed" if allowed else "refused")
    for scope in ("shared", "local")
    for allowed in (True, False)
}


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count one request. The status is counted by class (2xx), the route by its template: the series stay few."""
    series = _requests.get((route, method, status // 100))
    if series is None:
        series = REQUEST_SECONDS.labels(route, method, f"{status // 100}xx")
        _requests[route, method, status // 100] = series
    series.observe(seconds)


def count_activities(outcome: str, count: int = 1, *, problem: str = "") -> None:
    """Count answered activities: credited, duplicate, or refused with the slug of its problem."""
    ACTIVITIES.labels(outcome, problem).inc(count)


def count_limit_decisions(scope: str, allowed: Iterable[bool]) -> None:
    """Count a batch of rate limit decisions; scope is shared or local."""
    outcomes = list(allowed)
    passed = sum(outcomes)
    if passed:
        _decisions[scope, True].inc(passed)
    if passed < len(outcomes):
        _decisions[scope, False].inc(len(outcomes) - passed)


def observe_licences(source: str, days_left: Mapping[str, int | None]) -> None:
    """Show how long a source's licences last, by scenario; None is without an end. One that was taken away has 0."""
    known = _licensed.setdefault(source, set())
    known.update(days_left)
    for scenario in known:
        days = days_left.get(scenario, 0)
        LICENCE_DAYS_LEFT.labels(source, scenario).set(float("inf") if days is None else days)


def metrics_environment(data_dir: Path) -> dict[str, str]:
    """What the processes of one machine are started with so that any of them shows the numbers of all; earlier numbers
    are dropped."""
    directory = data_dir / "metrics"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return {_DIRECTORY: str(directory.resolve())}


def render_metrics() -> tuple[bytes, str]:
    """The body and the Content-Type of GET /metrics, over all processes."""
    directory = os.environ.get(_DIRECTORY)
    if directory is None:
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    _forget_dead_processes(Path(directory))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]  # no types there
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_dead_processes(directory: Path) -> None:
    """A process that was killed still has its last gauges in the directory: its queue is not waiting any more."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]  # no types there
        except PermissionError:
            continue
