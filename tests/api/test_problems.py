"""Problems: the table is complete in both languages, rendering is pure, every error of the framework becomes one."""

import inspect
import string
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from api.body import media_type, parse_json, read_body
from api.problems import (
    ORDER_OF_CHECKS,
    PROBLEM_TYPES,
    Fault,
    Language,
    Problem,
    ProblemType,
    describe_checks,
    describe_problem,
    describe_problems,
    install_problem_handlers,
    negotiate,
    openapi_problems,
    pointer,
    render,
)
from service.quantification import refusals

CONDITION = {
    "condition": "max-speed",
    "title_zh": "平均速度",
    "title_en": "mean speed",
    "value": "45.2",
    "unit": "km/h",
    "comparison": "at_most",
    "limit": "25",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("kind", PROBLEM_TYPES.values(), ids=list(PROBLEM_TYPES))
def test_each_type_is_complete_in_both_languages(kind: ProblemType) -> None:
    named = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in kind.detail]
    assert named[0] == named[1]
    for text in (kind.title, kind.detail, kind.remedy):
        assert any("\u4e00" <= letter <= "\u9fff" for letter in text.zh)
        assert text.en.isprintable()
        assert not any("\u4e00" <= letter <= "\u9fff" for letter in text.en)
    assert 400 <= kind.status < 600
    assert not {"type", "title", "status", "detail", "instance"} & set(kind.shown)  # a parameter hides no member
    assert all(len(name) >= 3 for name in kind.shown)  # RFC 9457, 3.2


def test_every_type_has_one_place_in_the_order_of_checks() -> None:
    slugs = [slug for step in ORDER_OF_CHECKS for slug in step.slugs]
    assert sorted(slugs) == sorted(PROBLEM_TYPES)
    assert len(describe_checks("zh")) == len(ORDER_OF_CHECKS)


def _rule_refusals() -> Iterator[type[refusals.Refusal]]:
    for _, kind in inspect.getmembers(refusals, inspect.isclass):
        if issubclass(kind, refusals.Refusal) and "slug" in vars(kind) and kind is not refusals.Refusal:
            yield kind


@pytest.mark.parametrize("kind", list(_rule_refusals()))
def test_what_the_rules_refuse_is_documented_and_can_be_told(kind: type[refusals.Refusal]) -> None:
    given = {field.name.removesuffix("_zh").removesuffix("_en") for field in fields(kind)}
    assert PROBLEM_TYPES[kind.slug].parameters <= given


def test_only_refusals_of_the_activity_itself_are_final() -> None:
    final = {slug for slug, kind in PROBLEM_TYPES.items() if kind.final}
    assert final == {
        "already-claimed",
        "already-corrected",
        "activity-too-long",
        "baseline-differs",
        "cap-reached",
        "claim-window-closed",
        "claimed-elsewhere",
        "condition-not-met",
        "ends-before-start",
        "input-out-of-range",
        "no-reduction",
        "not-computable",
        "not-one-day",
        "not-whole-period",
        "overlaps-activity",
        "overlaps-claim",
        "participant-covered",
        "participant-kind-not-eligible",
        "period-too-long",
        "readings-incomplete",
        "site-covered",
    }


def test_a_code_is_told_as_a_word_and_shown_as_the_code() -> None:
    claimed = {"what": "operator+order", "earlier": "01a20387-19a7-797d-a28b-45fa850205ce"}
    zh, en = (render("already-claimed", claimed, language) for language in ("zh", "en"))
    assert "每个运营方与订单只计入一次" in zh["detail"]
    assert en["detail"].startswith("One operator and order counts once; the earlier activity 01a20387-")
    assert zh["what"] == en["what"] == "operator+order"
    cap = {"cap": "rides-per-day", "per": "day", "at_most": "4", "used": "4"}
    assert "每日 4" in render("cap-reached", cap, "zh")["detail"]
    kinds = {"kind": "citizen", "eligible": "firm, public_institution"}
    assert "企业、事业单位" in render("participant-kind-not-eligible", kinds, "zh")["detail"]
    assert "a firm, public institution" not in render("participant-kind-not-eligible", kinds, "en")["detail"]
    assert "firm, public institution" in render("participant-kind-not-eligible", kinds, "en")["detail"]


def test_a_refusal_names_condition_value_and_limit_in_the_readers_language() -> None:
    zh, en = (render("condition-not-met", CONDITION, language) for language in ("zh", "en"))
    assert zh["detail"] == "条件“平均速度”未满足：实际为 45.2 km/h，应不大于 25 km/h。"
    assert en["detail"] == "The condition “mean speed” is not met: it is 45.2 km/h and must be at most 25 km/h."
    assert en["type"] == "urn:tanpuhui:problem:condition-not-met"
    assert (en["condition"], en["value"], en["limit"], en["unit"]) == ("max-speed", "45.2", "25", "km/h")
    assert {key: zh[key] for key in zh if key not in ("title", "detail")} == {
        key: en[key] for key in en if key not in ("title", "detail")
    }


def test_a_number_without_a_unit_leaves_no_gap() -> None:
    assert (
        "it is 45.2 and must be at most 25." in render("condition-not-met", {**CONDITION, "unit": ""}, "en")["detail"]
    )


def test_what_is_stored_can_always_be_shown() -> None:
    assert render("condition-not-met", {}, "en")["detail"].startswith("The condition “—” is not met")


def test_a_problem_cannot_be_made_without_its_parameters() -> None:
    with pytest.raises(TypeError, match="needs the parameter scenario"):
        Problem("unknown-scenario")
    with pytest.raises(KeyError):
        Problem("no-such-problem")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("a\0b", "a�b"), ("\ud800", "�"), ("x" * 201, "x" * 200 + "…"), ("{0.__class__}{name}", "{0.__class__}{name}")],
)
def test_what_a_client_sent_is_shown_harmlessly(sent: str, shown: str) -> None:
    problem = Problem("unknown-scenario", scenario=sent)
    assert problem.params == {"scenario": shown}
    assert shown in problem.render("en")["detail"]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "zh"),
        ("", "zh"),
        ("*", "zh"),
        ("fr", "zh"),
        ("en", "en"),
        ("EN-gb", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.5,zh;q=0.4", "en"),
        ("zh;q=0.2, en;q=0.3", "en"),
        ("en, zh", "en"),
        ("zh, en", "zh"),
        ("fr, en;q=0.1", "en"),
        ("fr, *;q=0.5", "zh"),
        ("zh;q=0, *", "en"),
        ("en;q=0", "zh"),
        ("en;q=x", "zh"),
        ("en;q=2, zh;q=0.1", "zh"),
        ("zh-HK;q=0.3, en;q=0.2", "zh"),
        ("en," * 10_000, "en"),
    ],
)
def test_language_follows_quality_values_and_is_chinese_otherwise(header: str | None, language: Language) -> None:
    assert negotiate(header) == language


def test_every_type_has_a_page() -> None:
    assert [page.slug for page in describe_problems("en", "https://p.example/")] == list(PROBLEM_TYPES)
    page = describe_problem("not-found", "zh", "https://p.example/")
    assert page is not None
    assert (page.type, page.title, page.final) == ("https://p.example/not-found", "没有此地址", False)
    assert describe_problem("nothing", "zh") is None


def test_a_pointer_escapes_and_cuts() -> None:
    assert pointer() == ""
    assert pointer("data", "a/b~c", 0) == "/data/a~1b~0c/0"
    assert len(pointer("x" * 1000)) == 101


def test_openapi_groups_problems_by_status() -> None:
    answers = openapi_problems("not-found", "transfer-not-found", "forbidden")
    assert sorted(answers, key=str) == [403, 404]
    assert "transfer-not-found" in answers[404]["description"]


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    kind: str
    links: Annotated[list[int], Field(max_length=1)] = []


class DomainError(Exception):
    pass


def application() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/things")
    async def things(body: Body, limit: int = Query(ge=1, le=10)) -> None:
        return None

    @app.get("/domain")
    async def domain() -> None:
        raise DomainError

    @app.post("/raw")
    async def raw(request: Request) -> dict[str, str]:
        body = await read_body(request, 100)
        return {"type": media_type(request.headers), "body": str(parse_json(body))}

    @app.get("/faulty")
    async def faulty() -> None:
        raise Problem("malformed-event", faults=[Fault("/data/inputs", "wrong-type", {"expected": "object"})])

    install_problem_handlers(
        app, "https://p.example/", {DomainError: lambda _: Problem("participant-not-found", headers={"X-A": "1"})}
    )
    return app


@pytest.fixture
async def client(anyio_backend: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=application())
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers={"Accept-Language": "en"})


def told(answer: httpx.Response, slug: str) -> dict[str, object]:
    """The document, checked for what every problem has."""
    document: dict[str, object] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-language"] == "en"
    assert answer.headers["vary"] == "Accept-Language"
    assert document["type"] == "https://p.example/" + slug
    assert document["status"] == answer.status_code == PROBLEM_TYPES[slug].status
    return document


@pytest.mark.anyio
async def test_the_frameworks_own_errors_are_problems(client: httpx.AsyncClient) -> None:
    told(await client.get("/nowhere"), "not-found")
    wrong_method = await client.put("/things")
    assert told(wrong_method, "method-not-allowed")["detail"] == "This address does not take PUT."
    assert wrong_method.headers["allow"] == "POST"
    broken = await client.post(
        "/things", params={"limit": 1}, content="{", headers={"Content-Type": "application/json"}
    )
    told(broken, "malformed-json")
    domain = await client.get("/domain")
    told(domain, "participant-not-found")
    assert domain.headers["x-a"] == "1"


@pytest.mark.anyio
async def test_a_request_that_does_not_fit_is_told_where_and_not_what(client: httpx.AsyncClient) -> None:
    secret = {"kind": 13912345678, "links": [1, 2], "phone": "13912345678"}
    answer = await client.post("/things", params={"limit": 11}, json=secret)
    document = told(answer, "malformed-request")
    assert "13912345678" not in answer.text
    assert document["errors"] == [
        {"detail": "is too large; at most 10", "parameter": "limit", "where": "query", "code": "too-large"},
        {"detail": "must be string", "pointer": "/kind", "where": "body", "code": "wrong-type"},
        {"detail": "is too long; at most 1", "pointer": "/links", "where": "body", "code": "too-long"},
        {"detail": "is not expected here", "pointer": "/phone", "where": "body", "code": "unexpected"},
    ]
    chinese = await client.post("/things", params={"limit": 1}, json={}, headers={"Accept-Language": "zh-CN"})
    assert chinese.headers["content-language"] == "zh-CN"
    assert chinese.json()["errors"][0]["detail"] == "缺少此项"


@pytest.mark.anyio
async def test_faults_of_an_event_are_listed(client: httpx.AsyncClient) -> None:
    document = told(await client.get("/faulty"), "malformed-event")
    assert document["detail"] == "Faults in the event: 1; see errors. Nothing was kept."
    assert document["errors"] == [
        {"detail": "must be object", "pointer": "/data/inputs", "where": "body", "code": "wrong-type"}
    ]


@pytest.mark.anyio
async def test_a_body_is_bounded_in_one_piece_and_in_many(client: httpx.AsyncClient) -> None:
    async def pieces(size: int) -> AsyncIterator[bytes]:
        yield b"["
        yield b" " * (size - 2)
        yield b"]"

    assert (await client.post("/raw", content=b'"' + b"a" * 98 + b'"')).status_code == 200
    told(await client.post("/raw", content=b'"' + b"a" * 99 + b'"'), "payload-too-large")
    assert (await client.post("/raw", content=pieces(100))).status_code == 200
    told(await client.post("/raw", content=pieces(101)), "payload-too-large")
    told(await client.post("/raw", content=b"", headers={"Content-Length": "9" * 30}), "payload-too-large")
    for strange in ({"Content-Encoding": "gzip"}, {"Content-Type": "application/json; charset=gbk"}):
        told(await client.post("/raw", content=b"[]", headers=strange), "unsupported-media-type")


@pytest.mark.anyio
async def test_json_is_exact_and_strict(client: httpx.AsyncClient) -> None:
    exact = await client.post("/raw", content=b"[2.350, 1e2, 12345678901234567890]")
    assert exact.json()["body"] == "[Decimal('2.350'), Decimal('1E+2'), 12345678901234567890]"
    for body in (
        b"",
        b"{",
        b"[NaN]",
        b"[Infinity]",
        b'{"a":1,"a":2}',
        b'"\xff"',
        b"[" * 99,
        b"\xef\xbb\xbf[]",
        b"[1,]",
    ):
        told(await client.post("/raw", content=body), "malformed-json")


def test_deep_nesting_and_endless_numbers_are_refused() -> None:
    for body in (b"[" * 200_000, b"9" * 5_000):
        with pytest.raises(Problem):
            parse_json(body)
