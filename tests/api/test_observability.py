"""Logs, metrics and the middleware: what is written, what never is, and the last answer when everything fails."""

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from api.observability import (
    ObservabilityMiddleware,
    configure_logging,
    count_activities,
    metrics_environment,
    render_metrics,
)
from api.observability.logs import _RequestLines
from api.problems import Problem, install_problem_handlers
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "eyJ-very-secret-token"
PERSON = "0b0e7a3c-0000-4000-8000-000000000000"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def lines() -> Iterator[io.BytesIO]:
    """Everything logged, as it would be written."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    written = io.BytesIO()
    configure_logging(Settings(), written)
    yield written
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


async def logged(lines: io.BytesIO) -> list[dict[str, Any]]:
    """What is written once the moment that gathers request lines is over."""
    await asyncio.sleep(0.15)
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def application(**options: Any) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.add_middleware(ObservabilityMiddleware, **options)

    router = APIRouter(prefix="/participants/{participant_id}")

    @router.get("/balance")
    async def balance(participant_id: str, request: Request) -> dict[str, str]:
        request.state.client = "provider:urn:x"
        return {"id": request.state.request_id}

    @app.get("/cached")
    async def cached() -> Response:
        return Response(headers={"Cache-Control": "public, max-age=60"})

    @app.get("/refused")
    async def refused() -> None:
        raise Problem("not-found")

    @app.post("/broken")
    async def broken() -> None:
        raise RuntimeError("password=hunter2")

    app.include_router(router, prefix="/v1")
    install_problem_handlers(app)
    return app


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def test_a_request_is_one_line_without_secrets(lines: io.BytesIO) -> None:
    async with client_of(application()) as client:
        answer = await client.get(
            f"/v1/participants/{PERSON}/balance?after={TOKEN}",
            headers={"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "client-chose-1"},
        )
    assert answer.headers["x-request-id"] == answer.json()["id"] == "client-chose-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    (line,) = await logged(lines)
    assert {key: line[key] for key in line if key not in ("ms", "timestamp")} == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "route": "/v1/participants/{participant_id}/balance",
        "status": 200,
        "client": "provider:urn:x",
        "request_id": "client-chose-1",
    }
    assert TOKEN not in lines.getvalue().decode()
    assert PERSON not in lines.getvalue().decode()


@pytest.mark.parametrize("sent", ["short", "x" * 65, 'with"quote', "with space"])
async def test_a_strange_request_id_is_replaced(lines: io.BytesIO, sent: str) -> None:
    async with client_of(application()) as client:
        answer = await client.get("/cached", headers={"X-Request-Id": sent})
    assert re.fullmatch(r"[0-9a-f]{16}-1", answer.headers["x-request-id"])
    assert answer.headers["cache-control"] == "public, max-age=60"


async def test_an_unexpected_error_is_told_by_reference_only(lines: io.BytesIO) -> None:
    async with client_of(application(problem_base="https://p.example/")) as client:
        answer = await client.post("/broken", headers={"Accept-Language": "en", "X-Request-Id": "reference-1"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "https://p.example/internal-error",
        "title": "Internal error",
        "status": 500,
        "detail": "Something failed inside; instance is its reference.",
        "instance": "urn:tanpuhui:request:reference-1",
    }
    error, request = await logged(lines)
    assert (error["level"], error["request_id"]) == ("error", "reference-1")
    assert "hunter2" in error["exception"]  # for the operator alone
    assert (request["status"], request["route"]) == (500, "/broken")


async def test_half_an_answer_is_cut_off_not_completed(lines: io.BytesIO) -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        async with client_of(ObservabilityMiddleware(half)) as client:
            await client.get("/")
    assert (await logged(lines))[0]["event"] == "unexpected error"


async def test_successes_are_sampled_and_failures_are_not(lines: io.BytesIO) -> None:
    async with client_of(application(log_every=10)) as client:
        for _ in range(20):
            await client.get("/cached")
        for _ in range(3):
            await client.get("/refused")
        await client.get("/nowhere/" + PERSON)
    written = await logged(lines)
    assert [line["status"] for line in written] == [200, 200, 404, 404, 404, 404]
    assert written[-1]["route"] == "unknown"


async def test_lines_are_written_in_pieces_that_a_pipe_takes_whole() -> None:
    pieces: list[bytes] = []
    writer = _RequestLines(pieces.append)
    for number in range(100):
        writer.add({"route": "/v1/activities", "client": "x" * 200, "request_id": number})
    await asyncio.sleep(writer.MOMENT + 0.05)
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 4096
    assert [json.loads(line)["request_id"] for piece in pieces for line in piece.splitlines()] == list(range(100))


async def test_a_client_that_leaves_is_counted_and_its_cancellation_passed_on(lines: io.BytesIO) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(asyncio.CancelledError):
        await ObservabilityMiddleware(slow)(scope, None, None)  # type: ignore[arg-type]
    assert (await logged(lines))[0]["status"] == 499


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_metrics_are_by_template_and_class_of_status(lines: io.BytesIO) -> None:
    route = "/v1/participants/{participant_id}/balance"
    labels = {"route": route, "method": "GET", "status": "2xx"}
    before = sample("tanpuhui_http_request_seconds_count", **labels)
    async with client_of(application()) as client:
        await client.get(f"/v1/participants/{PERSON}/balance")
        await client.request("BREW", "/nowhere")
    assert sample("tanpuhui_http_request_seconds_count", **labels) == before + 1
    assert sample("tanpuhui_http_request_seconds_count", route="unknown", method="other", status="4xx") >= 1
    credited = sample("tanpuhui_activities_total", outcome="credited", problem="")
    count_activities("credited", 3)
    count_activities("refused", problem="condition-not-met")
    assert sample("tanpuhui_activities_total", outcome="credited", problem="") == credited + 3
    body, kind = render_metrics()
    assert b"tanpuhui_activities_total" in body
    assert PERSON.encode() not in body
    assert kind.startswith("text/plain")


async def test_libraries_log_through_the_same_lines(lines: io.BytesIO) -> None:
    logging.getLogger("uvicorn.error").warning("started %s", "well")
    logging.getLogger("uvicorn.access").info("GET /v1/participants/secret")
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("library").exception("failed")
    first, second = await logged(lines)
    assert (first["event"], first["level"], first["logger"]) == ("started well", "warning", "uvicorn.error")
    assert "ValueError: x" in second["exception"]


_TWO_PROCESSES = """
import os, sys
from api.observability import count_activities, render_metrics
from api.observability.metrics import LIMITER_LOCAL
if child := os.fork():
    os.waitpid(child, 0)
LIMITER_LOCAL.set(1)
count_activities("credited", 2 if child else 3)
if child:
    sys.stdout.buffer.write(render_metrics()[0])
"""


def test_several_processes_are_added_up_and_the_dead_forgotten(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "counter_1.db").write_bytes(b"of an earlier start")
    shared = metrics_environment(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _TWO_PROCESSES],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **shared, "PYTHONPATH": str(ROOT)},
    )
    assert 'tanpuhui_activities_total{outcome="credited",problem=""} 5.0' in done.stdout
    assert "tanpuhui_rate_limiter_local 1.0" in done.stdout
