"""Limits per client, participant, address and cost of the call; limits as data; and through two API processes."""

import asyncio
import base64
import os
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.crc import key_slot

from api.rate_limit.book import LimitBook, limits_of
from api.rate_limit.costs import COSTS, ESTIMATE, FAILURE
from api.rate_limit.limiter import limit_key
from api.rate_limit.quota import Limits, LocalQuotas, Policy, Use, decide, partition_of, request_cost
from service.embedded.processes import free_port
from service.settings import Settings
from tests.conftest import Database
from tests.running import Api, problem_of, running_api

pytestmark = pytest.mark.anyio

HITS, LIMIT = 2_000, 100
_DEAR = "/v1/audit/keys"
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def processes(database: Database, directory: Path, count: int) -> Iterator[list[int]]:
    """So many API processes over one database and one limiter's server; their ports, once they answer."""
    ports = [free_port(None) for _ in range(count)]
    shared = {
        "TANPUHUI_DATABASE_URL": database.app,
        "TANPUHUI_REDIS_URL": database.redis,
        "TANPUHUI_DATA_DIR": str(directory),
        "TANPUHUI_KEYRING_FILE": str(directory / "keyring.json"),
        "TANPUHUI_API_PROCESSES": str(count),
        "TANPUHUI_REDIS_TIMEOUT_MS": "5000",  # on a busy machine a slow answer must not be taken for none
        "TANPUHUI_LOG_LEVEL": "error",
    }
    with ExitStack() as stack:
        running = []
        for port in ports:
            environment = os.environ | shared | {"TANPUHUI_PORT": str(port)}
            command = [sys.executable, "-m", "api.cli", "api"]
            process = stack.enter_context(subprocess.Popen(command, env=environment))
            stack.callback(process.terminate)
            running.append(process)
        for port in ports:
            _await_ready(port, running)
        yield ports


def _await_ready(port: int, running: "list[subprocess.Popen[bytes]]") -> None:
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        assert all(process.poll() is None for process in running), "an API process ended"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v1/health/ready", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError("an API process does not answer")


@asynccontextmanager
async def connected(ports: list[int], count: int) -> AsyncIterator[list[tuple[asyncio.StreamReader, Any]]]:
    """Open connections, shared out over the processes."""
    pairs = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", ports[n % len(ports)]) for n in range(count)))
    try:
        yield pairs
    finally:
        for _, writer in pairs:
            writer.close()


async def test_two_thousand_at_once_through_two_processes_leave_exactly_the_limit(api: Api, database: Database) -> None:
    """Each call costs twenty units and one unit comes back in a second, so nothing is given back meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    units = COSTS["GET", _DEAR]
    client = f"two-thousand-{os.urandom(4).hex()}"
    own = {"per_second": 1, "burst": LIMIT * units}
    await put_limit(api, f"auditor:{client}", {"requests": own, "items": own})
    with processes(database, api.platform.settings.data_dir, 2) as ports:
        token = api.issuer.issue("auditor", client)
        request = f"GET {_DEAR} HTTP/1.1\r\nHost: tests\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        async with connected(ports, HITS) as pairs:

            async def hit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, int]:
                writer.write(request.encode("ascii"))
                line = (await reader.readline()).split()
                return writer.get_extra_info("peername")[1], int(line[1])

            answers = Counter(await asyncio.gather(*(hit(*pair) for pair in pairs)))
    by_status = Counter[int]()
    for (_, status), count in answers.items():
        by_status[status] += count
    assert by_status.pop(429) == HITS - LIMIT
    assert sum(by_status.values()) == LIMIT, by_status
    assert not by_status.keys() & {401, 403, 500, 503}
    assert {port for port, _ in answers} == set(ports)


async def put_limit(api: Api, client: str, limits: object) -> httpx.Response:
    body = {"client": client, "limits": limits}
    return await api.client.put("/v1/limits", headers=api.bearer("operator"), json=body)


async def test_a_clients_limits_are_data_and_hold_within_a_second(api: Api) -> None:
    subject = f"limited-{os.urandom(4).hex()}"
    token = {"Authorization": f"Bearer {api.issuer.issue('auditor', subject)}"}
    own = {"requests": {"per_second": 1, "burst": 3}, "items": {"per_second": 1, "burst": 3}}
    path = f"/v1/sources/keys?source={await api.source()}"
    first = await api.client.get(path, headers=token)
    assert "q=20000;w=2;pk=" in first.headers["RateLimit-Policy"]
    answer = await put_limit(api, f"auditor:{subject}", own)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["client"], shown["limits"]) == (f"auditor:{subject}", own)
    assert shown["changed_by"].startswith("operator-")
    assert (await put_limit(api, f"auditor:{subject}", own)).json() == shown  # the same again changes nothing
    await until_policy(api, path, token, "q=3;")
    statuses = [(await api.client.get(path, headers=token)).status_code for _ in range(6)]
    assert 429 in statuses
    refused = await api.client.get(path, headers=token)
    document = problem_of(refused, "quota-exceeded")
    assert document["violated-policies"] == ["requests"]
    assert f"pk=:{document['partition']}:" in refused.headers["RateLimit"]
    listed = (await api.client.get("/v1/limits", headers=api.bearer("operator"))).json()
    assert shown in listed["limits"]
    assert listed["defaults"]["addresses"].keys() == {"address"}
    assert (await put_limit(api, f"auditor:{subject}", None)).json()["limits"] is None
    await until_policy(api, path, token, "q=20000;")


async def until_policy(api: Api, path: str, token: dict[str, str], part: str) -> None:
    give_up = time.monotonic() + 5
    while part not in (await api.client.get(path, headers=token)).headers["RateLimit-Policy"]:
        assert time.monotonic() < give_up
        await asyncio.sleep(0.1)


async def test_limits_are_listed_page_by_page(api: Api) -> None:
    own = {"requests": {"per_second": 5, "burst": 50}, "items": {"per_second": 5, "burst": 50}}
    mine = [f"bank:https://bank.example/{os.urandom(3).hex()}" for _ in range(3)]
    for client in mine:
        await put_limit(api, client, own)
    found, after = [], ""
    while True:
        answer = await api.client.get(f"/v1/limits?limit=2{after}", headers=api.bearer("operator"))
        page = answer.json()
        found += [each["client"] for each in page["limits"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert set(mine) <= set(found)
    assert found == sorted(found)
    assert len(found) == len(set(found))
    problem_of(await api.client.get("/v1/limits?after=AAAA", headers=api.bearer("operator")), "invalid-cursor")


@pytest.mark.parametrize(
    ("client", "limits"),
    [
        ("participant:0123456789abcdef", None),
        ("address:0123456789abcdef", None),
        ("nobody", None),
        ("provider:urn:a b", None),
        ("provider:urn:a", {"requests": {"per_second": 0, "burst": 1}, "items": {"per_second": 1, "burst": 1}}),
        ("provider:urn:a", {"requests": {"per_second": 1, "burst": 1}}),
        ("provider:urn:a", {"requests": {"per_second": 1.5, "burst": 1}, "items": {"per_second": 1, "burst": 1}}),
    ],
)
async def test_what_is_no_limit_is_refused(api: Api, client: str, limits: object) -> None:
    problem_of(await put_limit(api, client, limits), "malformed-request")


async def test_a_participant_has_a_smaller_quota_than_a_machine(api: Api) -> None:
    person = await api.person()
    answer = await api.read(person.participant_id, "balance")
    settings = api.platform.settings
    assert f'"requests";q={settings.participant_requests_burst};' in answer.headers["RateLimit-Policy"]
    other = await api.read((await api.person()).participant_id, "balance")
    assert answer.headers["RateLimit"].split("pk=")[1] != other.headers["RateLimit"].split("pk=")[1]


async def test_a_dear_call_costs_what_the_table_says(api: Api) -> None:
    person = await api.person()

    async def left(rest: str) -> int:
        headers = (await api.read(person.participant_id, rest)).headers
        return int(headers["RateLimit"].partition("r=")[2].partition(";")[0])

    burst = api.platform.settings.participant_requests_burst
    assert await left("statement") == burst - COSTS["GET", "/v1/participants/{participant_id}/statement"]


async def test_every_cost_is_of_a_call_that_there_is(api: Api) -> None:
    document = (await api.client.get("/openapi.json")).json()
    there = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert set(COSTS) <= there
    smallest = Settings().participant_requests_burst
    assert max(*COSTS.values(), ESTIMATE, FAILURE) <= smallest


def test_the_dearest_call_takes_the_whole_of_the_smallest_quota_and_no_more() -> None:
    smallest = Limits.of(Policy("requests", 1, 3))
    assert request_cost(smallest, 50) == smallest.requests_full
    violated, after = decide(smallest, Use(0, 0), 0, 50)
    assert (violated, after.requests) == (0, smallest.requests_full)
    assert decide(smallest, after, 0, 1)[0] == 1
    assert decide(smallest, Use(1, 0), 0, 50)[0] == 1


def test_items_of_who_sends_none_are_not_counted() -> None:
    quotas = LocalQuotas(lambda _: Limits.of(Policy("address", 1, 2)))
    assert quotas.check("address:x", 5, 0).allowed
    assert quotas.check("address:x", 0, 0).allowed


async def test_failures_are_charged_to_the_address_and_no_good_token_suffers(
    database: Database, tmp_path: Path
) -> None:
    burst = 4 * FAILURE
    limits = {"address_requests_per_second": 1, "address_requests_burst": burst}
    async with running_api(database.app, None, tmp_path, **limits) as api:
        bad = {"Authorization": "Bearer a.b.c", "Accept-Language": "en"}
        statuses = [(await api.client.get("/v1/sources/me", headers=bad)).status_code for _ in range(6)]
        assert statuses == [401, 401, 401, 401, 429, 429]
        refused = await api.client.get("/v1/sources/me", headers=bad)
        document = problem_of(refused, "quota-exceeded")
        assert document["violated-policies"] == ["address"]
        assert "www-authenticate" not in refused.headers  # whether the token was good is not told
        assert int(refused.headers["retry-after"]) >= 1
        problem_of(await api.client.get("/v1/problems"), "quota-exceeded")
        problem_of(await api.client.get("/v1/problems", headers=bad), "quota-exceeded")  # a header makes nobody known
        assert (await api.client.get("/v1/health/alive")).status_code == 200
        good = await api.client.get("/v1/banks?uri=https://bank.example/none", headers=api.bearer("operator"))
        assert good.status_code == 404, good.text
        transport = httpx.ASGITransport(app=api.client._transport.app, client=("192.0.2.9", 1))  # type: ignore[attr-defined]  # httpx keeps it to itself
        async with httpx.AsyncClient(transport=transport, base_url="http://tests") as elsewhere:
            assert (await elsewhere.get("/v1/problems")).status_code == 200


async def test_what_anybody_may_read_is_charged_once(database: Database, tmp_path: Path) -> None:
    limits = {"address_requests_per_second": 1, "address_requests_burst": 3}
    async with running_api(database.app, None, tmp_path, **limits) as api:
        statuses = [(await api.client.get("/v1/problems")).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize("client", ["provider:urn:x", "bank:https://b.example/{a}", "participant:0", "operator:}{"])
def test_a_script_call_touches_one_slot(client: str) -> None:
    """What stands between the first brace and the next is hashed: the whole name, for names differ in their ends."""
    key = limit_key(client)
    inner = key[key.index("{") + 1 : key.index("}")]
    assert inner == client.replace("{", "%7B").replace("}", "%7D")
    assert key_slot(key.encode()) == key_slot(inner.encode())


def test_names_have_partitions_of_their_own() -> None:
    partitions = {partition_of(f"provider:{number}") for number in range(100)}
    assert len(partitions) == 100
    for partition in partitions:
        assert len(base64.b64decode(partition.removeprefix(";pk=:").removesuffix(":"))) == 6


def test_a_book_knows_whose_limits_are_which() -> None:
    book = LimitBook.from_settings(Settings())
    assert book.of("provider:urn:x") is book.clients
    assert book.of("participant:0") is book.participants
    assert book.of("address:0") is book.addresses
    assert book.addresses.items is None
    assert limits_of(1, 2, 3, 4).shared_by(4) == limits_of(1, 1, 1, 1)


def test_the_document_lists_every_cost() -> None:
    rows = re.findall(r"^\| `([A-Z]+) (\S+)` \| (\d+) \|$", (ROOT / "docs/limits.md").read_text("utf-8"), re.MULTILINE)
    assert {(method, path): int(units) for method, path, units in rows} == COSTS


async def test_a_limit_is_set_by_two_operators(database: Database, tmp_path: Path) -> None:
    own = {"per_second": 7, "burst": 70}
    client = f"provider:urn:two-people-{os.urandom(4).hex()}"
    body = {"client": client, "limits": {"requests": own, "items": own}}
    async with running_api(database.app, None, tmp_path, two_person=True) as api:
        proposed = await api.client.put("/v1/limits", headers=api.bearer("operator", "one"), json=body)
        assert proposed.status_code == 202
        approves = {"Approves": proposed.json()["proposal_id"]}
        same = await api.client.put("/v1/limits", headers=api.bearer("operator", "one") | approves, json=body)
        problem_of(same, "proposal-refused")
        listed = await api.client.get("/v1/limits?limit=500", headers=api.bearer("operator", "one"))
        assert client not in {each["client"] for each in listed.json()["limits"]}
        done = await api.client.put("/v1/limits", headers=api.bearer("operator", "two") | approves, json=body)
        assert (done.status_code, done.json()["limits"]) == (200, body["limits"])
