"""What stands before the routes: strict heads and queries, safe headers on every answer, no secret in any log line."""

import asyncio
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from api.hardening.guard import LARGEST_HEADERS, LONGEST_ADDRESS, MOST_HEADERS
from api.hardening.headers import policy_of_page
from api.observability import configure_logging
from service.settings import Settings
from tests.api.test_openapi import CALLS, PUBLIC
from tests.conftest import Database
from tests.running import Api, problem_of, ride, running_api

pytestmark = pytest.mark.anyio

PLANTED = "planted-7c1d9e"  # in every value that must not be told


def path_of(length: int) -> str:
    """An address of so many bytes, path and query."""
    return "/v1/problems?x=".ljust(length + 1, "y")  # the question mark belongs to neither


async def test_an_address_may_be_as_long_as_the_limit(api: Api) -> None:
    assert (await api.client.get(path_of(LONGEST_ADDRESS))).status_code == 200
    assert problem_of(await api.client.get(path_of(LONGEST_ADDRESS + 1)), "address-too-long")["limit"] == "4096"


async def test_headers_may_be_as_many_and_as_large_as_the_limits(api: Api) -> None:
    async def ask(*headers: tuple[str, str]) -> httpx.Response:
        request = httpx.Request("GET", "http://tests/v1/problems", headers=headers)
        return await api.client.send(request)

    many = [(f"x-{number}", "") for number in range(MOST_HEADERS - 1)]  # and Host
    assert (await ask(*many)).status_code == 200
    problem_of(await ask(*many, ("x-more", "")), "headers-too-large")
    room = LARGEST_HEADERS - len("hosttests") - len("x")
    assert (await ask(("x", "y" * room))).status_code == 200
    problem_of(await ask(("x", "y" * (room + 1))), "headers-too-large")


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ("limit=5&page=2", [("page", "unexpected")]),
        ("limit=5&limit=6", [("limit", "repeated")]),
        ("Limit=5", [("Limit", "unexpected")]),
        ("limit=5&", []),
        ("&".join(f"a{n}=1" for n in range(40)), [("", "too-long")]),
    ],
)
async def test_a_query_is_known_and_said_once(api: Api, query: str, faults: list[tuple[str, str]]) -> None:
    person = await api.person()
    answer = await api.read(person.participant_id, f"statement?{query}")
    if not faults:
        assert answer.status_code == 200
        return
    errors = problem_of(answer, "malformed-request")["errors"]
    assert [(each["parameter"], each["code"]) for each in errors] == faults
    assert {each["where"] for each in errors} == {"query"}


SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.mark.parametrize("path", [*PUBLIC, "/nowhere", "/v1/sources/me", "/v1/liability", path_of(5000)])
async def test_every_answer_has_the_security_headers(api: Api, path: str) -> None:
    answer = await api.client.get(path)
    assert {name: answer.headers.get(name) for name in SAFE} == SAFE
    assert "strict-transport-security" not in answer.headers
    assert "server" not in answer.headers


async def test_what_is_about_a_person_is_in_no_cache(api: Api) -> None:
    person = await api.person()
    for rest in ("balance", "statement", "redemptions", "waivers"):
        assert (await api.read(person.participant_id, rest)).headers["cache-control"] == "no-store"


async def test_transport_security_is_said_over_tls_alone(database: Database, tmp_path: Any) -> None:
    async with running_api(database.app, None, tmp_path, trusted_proxies="10.0.0.0/8") as api:
        app = api.client._transport.app  # type: ignore[attr-defined]  # httpx keeps it to itself

        async def said(host: str, url: str, **headers: str) -> bool:
            transport = httpx.ASGITransport(app=app, client=(host, 1))
            async with httpx.AsyncClient(transport=transport, base_url=url, headers=headers) as client:
                return "strict-transport-security" in (await client.get("/v1/problems")).headers

        forwarded = {"X-Forwarded-Proto": "https"}
        assert await said("192.0.2.1", "https://tests")
        assert not await said("192.0.2.1", "http://tests")
        assert not await said("192.0.2.1", "http://tests", **forwarded)  # nobody's word
        assert await said("10.0.0.1", "http://tests", **forwarded)
        assert not await said("10.0.0.1", "https://tests", **{"X-Forwarded-Proto": "http"})


async def test_the_pages_policy_names_the_script_that_stands_in_it(api: Api) -> None:
    answer = await api.client.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert policy == policy_of_page(answer.content)
    assert "'sha256-" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert answer.headers["content-security-policy"] != policy_of_page(
        answer.content.replace(b"<script>", b"<script> ")
    )
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert (await api.client.get(f"/docs/assets/{asset}")).headers["x-content-type-options"] == "nosniff"


def nested(depth: int, opening: str, closing: str) -> bytes:
    return (opening * depth + "1" + closing * depth).encode("ascii")


async def test_no_body_however_deep_breaks_a_call(api: Api) -> None:
    provider = api.bearer("provider", source=await api.source())
    for method, path in CALLS:
        if method not in ("POST", "PUT", "PATCH"):
            continue
        caller = provider if CALLS[method, path] == "activities:write" else api.bearer("operator")
        for body in (nested(900, '{"a":', "}"), nested(100_000, "[", "]")):
            headers = caller | {"Content-Type": "application/json"}
            answer = await api.client.request(method, path, headers=headers, content=body)
            assert 400 <= answer.status_code < 500, (method, path, answer.text)
        files = {"file": ("a.csv", b"1,2", "text/csv")}
        answer = await api.client.request(method, path, headers=caller, files=files)
        assert 400 <= answer.status_code < 500, (method, path, answer.text)


async def test_a_deep_place_in_a_good_event_is_a_fault_of_its_form(api: Api) -> None:
    person = await api.person()
    event = orjson.dumps(ride(person.source, person.subject))
    for depth, slug in ((60, "malformed-event"), (100_000, "malformed-json")):
        deep = event.replace(b'"2.35"', nested(depth, '{"a":', "}"))
        headers = api.bearer("provider", source=person.source) | {"Content-Type": "application/cloudevents+json"}
        problem_of(await api.client.post("/v1/activities", headers=headers, content=deep), slug)


@pytest.fixture
def lines() -> Iterator[io.BytesIO]:
    """Everything that is logged, at the level that says most."""
    stream = io.BytesIO()
    configure_logging(Settings(log_level="debug"), stream)
    yield stream
    configure_logging(Settings(log_level="error"))


async def test_nothing_planted_in_any_call_is_in_a_log_line(api: Api, lines: io.BytesIO) -> None:
    """Tokens, bodies, queries, ids in paths and headers, of calls that succeed, are refused and break."""
    person = await api.person(subject=f"rider {PLANTED}")
    event = ride(person.source, person.subject, f"order-{PLANTED}")
    assert (await api.report_one(person.source, event)).status_code == 201
    assert (await api.report_one(person.source, event | {"data": event["data"] | {"x": PLANTED}})).status_code == 422
    secrets = {
        "Authorization": f"Bearer {PLANTED}.{PLANTED}.{PLANTED}",
        "Idempotency-Key": f'"{PLANTED}"',
        "Signature": f"sig1=:{PLANTED}:",
        "Signature-Input": f'sig1=("@method");keyid="{PLANTED}"',
        "DPoP": PLANTED,
        "Cookie": f"session={PLANTED}",
    }
    body = json.dumps({"subject": PLANTED, "code": PLANTED, "words": PLANTED, "x": {PLANTED: PLANTED}})
    for method, path in CALLS:
        place = f"{path}{'&' if '?' in path else '?'}after={PLANTED}"
        for who in ({}, api.bearer("operator"), api.bearer("participant", person.participant_id)):
            headers = secrets | who | {"Content-Type": "application/json"}
            await api.client.request(method, place, headers=headers, content=body)
    await api.client.get(f"/v1/{PLANTED}", headers=secrets)
    written = lines.getvalue()
    assert PLANTED.encode() not in written
    assert person.participant_id.encode() not in written
    for token in api._tokens.values():
        assert token.encode() not in written
    for secret in (api.platform.settings.database_url, api.platform.settings.redis_url):
        assert secret
        assert secret.split("@")[0].rpartition(":")[2].encode() not in written


async def test_an_error_is_logged_without_what_the_database_says_of_rows(lines: io.BytesIO) -> None:
    import asyncpg
    import structlog

    error = asyncpg.UniqueViolationError("duplicate key value violates unique constraint")
    error.__dict__["detail"] = f"Key (words)=({PLANTED}) already exists."
    told = f"postgresql://tanpuhui:{PLANTED}@db.internal/d Bearer {PLANTED}.abc.def"
    try:
        raise RuntimeError(told) from error
    except RuntimeError as failed:
        structlog.get_logger("tests").error("it broke", exc_info=failed, because=told)
    line = lines.getvalue()
    assert b"duplicate key value" in line
    assert PLANTED.encode() not in line


async def test_no_secret_is_in_a_settings_text(tmp_path: Any) -> None:
    secret = os.urandom(8).hex()
    settings = Settings(database_url=f"postgresql://u:{secret}@h/d", redis_url=f"redis://:{secret}@h")
    assert secret not in repr(settings)
    assert secret not in str(settings)


async def test_half_a_request_is_a_line_and_no_error(api: Api, lines: io.BytesIO) -> None:
    """Whoever goes away, or is cut off, in the middle of a body."""
    app = api.client._transport.app  # type: ignore[attr-defined]  # httpx keeps it to itself
    token = api.bearer("provider", source=await api.source())["Authorization"].encode()
    headers = [(b"authorization", token), (b"content-type", b"application/cloudevents+json"), (b"content-length", b"9")]
    place = {"method": "POST", "path": "/v1/activities", "raw_path": b"/v1/activities", "query_string": b""}
    scope = {"type": "http", "http_version": "1.1", "scheme": "http", "root_path": "", "headers": headers} | place
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent == []
    await asyncio.sleep(0.2)  # request lines are gathered for a moment
    written = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line for line in written if line["level"] == "error"] == []
