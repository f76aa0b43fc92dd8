"""Hostile input: wrong media types, huge or broken bodies, poison. It harms no neighbour and no process."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.body import parse_json
from api.problems import Problem
from api.v1.activities import BATCH, BINARY, STRUCTURED
from tests.running import Api, problem_of, ride

pytestmark = pytest.mark.anyio


async def post(api: Api, source: str, body: bytes, kind: str, **headers: str) -> httpx.Response:
    sent = {**api.bearer("provider", source=source), "Content-Type": kind, **headers}
    return await api.client.post("/v1/activities", headers=sent, content=body)


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("text/plain", {}),
        ("application/cloudevents+xml", {}),
        ("", {}),
        ("application/cloudevents+json; charset=gb18030", {}),
        (BATCH, {"Content-Encoding": "gzip"}),
    ],
)
async def test_other_media_types_are_refused(api: Api, kind: str, headers: dict[str, str]) -> None:
    answer = await post(api, await api.source(), b"[]", kind, **headers)
    assert problem_of(answer, "unsupported-media-type")["accepted"]


async def test_a_body_may_have_the_limit_and_not_a_byte_more(api: Api) -> None:
    person = await api.person()
    limit = api.platform.settings.max_body_bytes
    event = orjson.dumps(ride(person.source, person.subject))
    assert (await post(api, person.source, event.ljust(limit), STRUCTURED)).status_code == 201
    refused = problem_of(await post(api, person.source, event.ljust(limit + 1), STRUCTURED), "payload-too-large")
    assert refused["limit"] == str(limit)

    async def without_length() -> AsyncIterator[bytes]:
        for _ in range(limit // 65_536 + 1):
            yield b" " * 65_536

    headers = {**api.bearer("provider", source=person.source), "Content-Type": STRUCTURED}
    problem_of(await api.client.post("/v1/activities", headers=headers, content=without_length()), "payload-too-large")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b'{"id": NaN}',
        b'{"id": -Infinity}',
        b'{"id": 1, "id": 2}',
        b'[{"a": {"b": 1, "b": 1}}]',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 100_000,
        b"[1e99999999999999999999]",
        b"[-0.1e-99999999999999999999]",
        b'"\xff\xfe"',
        b'{"id": "\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b"'single'",
        b"\x00",
        b'{"id": "raw \x00 control"}',
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("kind", [STRUCTURED, BATCH, BINARY])
async def test_what_is_not_json_is_refused_as_a_whole(api: Api, body: bytes, kind: str) -> None:
    problem_of(await post(api, await api.source(), body, kind), "malformed-json")


async def test_a_batch_has_one_to_a_thousand_events(api: Api) -> None:
    person = await api.person()
    for body in (b"{}", b"null", b'"text"', b"3"):
        problem_of(await post(api, person.source, body, BATCH), "malformed-request")
    problem_of(await post(api, person.source, b"[]", BATCH), "batch-empty")
    events = [ride(person.source, person.subject, km="0.5") for _ in range(1001)]
    refused = problem_of(await post(api, person.source, orjson.dumps(events), BATCH), "batch-too-large")
    assert refused["limit"] == "1000"
    assert (await api.balance(person.participant_id))["transfers"] == 0
    answer = await post(api, person.source, orjson.dumps(events[:1000]), BATCH)
    assert answer.json()["counts"] == {"credited": 1000, "duplicate": 0, "refused": 0}


def _with(**data: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda event: event | {"data": event["data"] | data}


# What is put in place of one event, as JSON text where Python's own encoder would not write it.
POISON: dict[str, Any] = {
    "null character in the id": lambda event: event | {"id": "ride\u0000"},
    "null character in the subject": lambda event: event | {"subject": "\u0000"},
    "null character in the vehicle": _with(vehicle="13\u000081"),
    "null character in the scenario": _with(scenario="shared-ebike\u0000"),
    "null character in a name": _with(inputs={"distance_km\u0000": "1"}),
    "null character in a value": _with(inputs={"distance_km": "1\u0000"}),
    "null character in the basis": _with(basis={"distance_km": "track\u0000"}),
    "lone surrogate in the id": '"id": "\\ud800"',
    "lone surrogate in the subject": '"subject": "a\\udfffb"',
    "lone surrogate in the vehicle": '"vehicle": "\\udc00"',
    "lone surrogate in a name": '"inputs": {"\\ud800": 1}',
    "lone surrogate in an unknown name": '"\\ud800": 1',
    "lone surrogate in an attribute": '"\\ud800\\ud800": {"\\udbff": "\\udc00 "}',
    "number of 401 digits": '"inputs": {"distance_km": 1e400}',
    "number of a million digits": '"inputs": {"distance_km": 1e1000000}',
    "number of a million zeros": '"inputs": {"distance_km": 1e-1000000}',
    "number of a billion digits": '"inputs": {"distance_km": 1e999999999999}',
    "number as text, of ten thousand digits": _with(inputs={"distance_km": "1e9999"}),
    "number beyond 64 bits": '"inputs": {"distance_km": 1000000000000000000000000000000}',
    "number of 4300 digits": f'"inputs": {{"distance_km": {"9" * 4300}}}',
    "number with a long tail": f'"inputs": {{"distance_km": 2.{"3" * 5000}}}',
    "negative zero": '"inputs": {"distance_km": -0.0}',
    "full-width digits": _with(inputs={"distance_km": "２.３５"}),
    "full-width digits in a time": _with(started_at="２026-05-01T08:00:00+08:00"),
    "Arabic digits": _with(inputs={"distance_km": "٢.٣"}),
    "digits with underscores": _with(inputs={"distance_km": "1_0"}),
    "infinity as text": _with(inputs={"distance_km": "Infinity"}),
    "NaN as text": _with(inputs={"distance_km": "NaN"}),
    "signalling NaN as text": _with(inputs={"distance_km": "sNaN123"}),
    "boolean for a number": _with(inputs={"distance_km": True}),
    "list for a number": _with(inputs={"distance_km": [2.35]}),
    "null for a number": _with(inputs={"distance_km": None}),
    "too many inputs": _with(inputs={f"input_{number}": 1 for number in range(10_000)}),
    "name of a megabyte": _with(inputs={"x" * 1_000_000: 1}),
    "first year": _with(started_at="0001-01-01T00:00:00+23:59", ended_at="0001-01-01T00:10:00+23:59"),
    "last year": _with(started_at="9999-12-31T23:59:59-23:59", ended_at="9999-12-31T23:59:59-23:59"),
    "year zero": _with(started_at="0000-01-01T00:00:00Z"),
    "leap second": _with(ended_at="2016-12-31T23:59:60Z"),
    "offset of four days": _with(started_at="2026-05-01T08:00:00+99:00"),
    "time without an offset": _with(started_at="2026-05-01T08:00:00"),
    "time as a number": _with(started_at=1777593600),
    "id as a number": lambda event: event | {"id": 7},
    "id of spaces": lambda event: event | {"id": "\u2028"},
    "id of 201 letters": lambda event: event | {"id": "x" * 201},
    "id of nothing": lambda event: event | {"id": ""},
    "data as a list": lambda event: event | {"data": []},
    "data as text": lambda event: event | {"data": "{}"},
    "data in base64": lambda event: {**event, "data": None, "data_base64": "e30="},
    "another version": lambda event: event | {"specversion": "0.3"},
    "another type": lambda event: event | {"type": "org.tanpuhui.activity.v2"},
    "another content type": lambda event: event | {"datacontenttype": "text/xml"},
    "nested": lambda event: event | {"data": {"inputs": {"a": {"b": {"c": []}}}}},
    "null": None,
    "a list": [],
    "a number": 10**30,
}


@pytest.mark.parametrize("name", POISON)
async def test_one_poisonous_item_harms_no_neighbour(api: Api, name: str) -> None:
    person = await api.person()
    before, poisonous, after = (ride(person.source, person.subject) for _ in range(3))
    poison = POISON[name]
    text = b"null"
    if isinstance(poison, str):  # the last of two equal keys would win, so the one that is replaced goes
        key = poison.partition('"')[2].partition('"')[0]
        place = poisonous["data"] if key in ("inputs", "vehicle") or "unknown" in name else poisonous
        place.pop(key, None)
        text = orjson.dumps(poisonous).replace(
            orjson.dumps(place), b"{" + poison.encode() + b"," + orjson.dumps(place)[1:]
        )
    elif poison is not None:
        text = _dumps(poison(poisonous) if callable(poison) else poison)
    body = b"[" + orjson.dumps(before) + b"," + text + b"," + orjson.dumps(after) + b"]"
    answer = await post(api, person.source, body, BATCH)
    assert answer.status_code == 200, answer.text
    outcomes = [outcome["outcome"] for outcome in answer.json()["outcomes"]]
    harmless = ("lone surrogate in an attribute", "id of spaces")  # what nobody reads, and a space like any other
    assert outcomes == ["credited", "credited" if name in harmless else "refused", "credited"]
    single = await post(api, person.source, text, STRUCTURED)
    assert single.status_code in ((200,) if name in harmless else (422,)), single.text


def _dumps(value: Any) -> bytes:
    return b"1" + b"0" * 30 if value == 10**30 else orjson.dumps(value)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


async def test_no_json_at_all_ends_in_a_fault_of_ours(api: Api) -> None:
    person = await api.person()
    good = ride(person.source, person.subject)
    bodies: list[bytes] = []

    @given(
        whole=_JSON,
        place=st.sampled_from(["id", "source", "subject", "type", "time", "data"]),
        inside=st.sampled_from(["scenario", "started_at", "ended_at", "inputs", "basis", "vehicle"]),
    )
    @settings(max_examples=100, deadline=None, database=None)
    def collect(whole: Any, place: str, inside: str) -> None:
        for event in (whole, good | {place: whole}, good | {"data": {**good["data"], inside: whole}}):
            bodies.append(orjson.dumps(event))

    collect()
    for start in range(0, len(bodies), 60):
        answer = await post(api, person.source, b"[" + b",".join(bodies[start : start + 60]) + b"]", BATCH)
        assert answer.status_code == 200, answer.text
        slugs = {outcome.get("problem", {}).get("type", "").rpartition(":")[2] for outcome in answer.json()["outcomes"]}
        assert "posting-failed" not in slugs


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_json_or_a_problem(body: bytes) -> None:
    with contextlib.suppress(Problem):  # anything else that is raised would end in 500
        parse_json(body)


def test_numbers_stay_exact() -> None:
    read = parse_json(b'{"a": 0.1, "b": 1e-7, "c": 9007199254740993, "d": 1.10}')
    assert {name: str(value) for name, value in read.items()} == {
        "a": "0.1",
        "b": "1E-7",
        "c": "9007199254740993",
        "d": "1.10",
    }
