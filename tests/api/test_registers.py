"""Registers of covered entities and of installations claimed elsewhere: imported whole or not at all, also by file."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import uvicorn
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from api.commands.coverage import coverage_app, elsewhere_app
from api.v1.registers import MOST_ROWS
from service.activities.claims import register_tag
from service.database import open_pool
from service.eligibility import Entry, read_entries, read_organisations
from tests.conftest import Database
from tests.running import Api, Person, credit_code, problem_of, ride

pytestmark = pytest.mark.anyio


def row(code: str | None = None, first: str = "2026-01-01", last: str | None = "2026-12-31") -> dict[str, Any]:
    return {"unified_social_credit_code": code or credit_code(), "valid_from": first, "valid_to": last}


async def send(api: Api, rows: list[Any], register: str = "coverage", **changes: Any) -> httpx.Response:
    body: dict[str, Any] = {"scheme": "national", "source": "环办气候〔2026〕1号", "rows": rows}
    headers = api.bearer("operator") | {"Accept-Language": "en"}
    return await api.client.post(f"/v1/registers/{register}/imports", headers=headers, json=body | changes)


async def imported(api: Api, rows: list[Any], register: str = "coverage", **changes: Any) -> tuple[int, int, int]:
    answer = await send(api, rows, register, **changes)
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert (done["register"], done["rows"]) == (register, len(rows))
    return done["added"], done["unchanged"], done["withdrawn"]


async def known(api: Api, subject: str | None = None, register: str = "coverage") -> list[dict[str, Any]]:
    params = {} if subject is None else {"subject": subject}
    answer = await api.client.get(f"/v1/registers/{register}", headers=api.bearer("operator"), params=params)
    assert answer.status_code == 200, answer.text
    schemes: list[dict[str, Any]] = answer.json()["schemes"]
    return schemes


async def test_the_same_import_again_changes_nothing(fresh_api: Api) -> None:
    rows = [row(), row(last=None), row(first="2025-01-01", last="2025-12-31")]
    assert await imported(fresh_api, rows, dry_run=True) == (3, 0, 0)
    assert await known(fresh_api) == []
    assert await imported(fresh_api, rows) == (3, 0, 0)
    assert await imported(fresh_api, rows[::-1]) == (0, 3, 0)
    assert await imported(fresh_api, [rows[0], row()]) == (1, 1, 0)
    (scheme,) = await known(fresh_api)
    assert (scheme["scheme"], scheme["entries"]) == ("national", 4)
    assert (scheme["valid_from"], scheme["valid_to"], scheme["source"]) == ("2025-01-01", None, "环办气候〔2026〕1号")


async def test_replacing_withdraws_what_its_scheme_no_longer_has(fresh_api: Api) -> None:
    stays, goes, elsewhere = row(), row(), row()
    await imported(fresh_api, [stays, goes])
    await imported(fresh_api, [elsewhere], scheme="shanghai")
    assert await imported(fresh_api, [stays, row()], replace=True, dry_run=True) == (1, 1, 1)
    assert await imported(fresh_api, [stays], replace=True) == (0, 1, 1)
    assert await imported(fresh_api, [stays], replace=True) == (0, 1, 0)
    code = "unified_social_credit_code"
    assert [len(await known(fresh_api, each[code])) for each in (stays, goes, elsewhere)] == [1, 0, 1]
    changed = stays | {"valid_to": "2026-06-30"}
    assert await imported(fresh_api, [changed], replace=True) == (1, 0, 1)
    assert [each["valid_to"] for each in await known(fresh_api, stays[code])] == ["2026-06-30"]
    assert await imported(fresh_api, [changed], replace=True, source="a later notice") == (1, 0, 1)
    assert await imported(fresh_api, [goes]) == (1, 0, 0)  # withdrawn is not forgotten, and may stand again


async def test_imports_at_once_add_each_entry_once(fresh_api: Api) -> None:
    rows = [row() for _ in range(20)]
    done = await asyncio.gather(*(imported(fresh_api, rows) for _ in range(8)))
    assert sorted(done) == [(0, 20, 0)] * 7 + [(20, 0, 0)]
    assert [each["entries"] for each in await known(fresh_api)] == [20]


async def test_every_fault_of_every_row_is_named_and_nothing_is_imported(api: Api) -> None:
    good, code = row(), credit_code()
    wrong = [
        good,
        row("91350100M000100Y44"),
        row("91350100M000100Y4"),
        row(code, "2026-02-30"),
        row(code, "2026-01-02", "2026-01-01"),
        {"unified_social_credit_code": "9I350100M000100Y43", "valid_from": "20260101", "valid_to": "soon"},
        {"valid_from": "2026-01-01", "name": "某公司"},
        "row",
        good | {"unified_social_credit_code": good["unified_social_credit_code"].lower()},
    ]
    found = problem_of(await send(api, wrong * 3), "malformed-request")["errors"]
    expected = [
        ("/rows/1/unified_social_credit_code", "code-check"),
        ("/rows/2/unified_social_credit_code", "code-length"),
        ("/rows/3/valid_from", "bad-format"),
        ("/rows/4/valid_to", "too-small"),
        ("/rows/5/unified_social_credit_code", "code-character"),
        ("/rows/5/valid_from", "bad-format"),
        ("/rows/5/valid_to", "bad-format"),
        ("/rows/6/unified_social_credit_code", "missing"),
        ("/rows/6/name", "unexpected"),
        ("/rows/7", "wrong-type"),
        ("/rows/8", "repeated"),
    ]
    assert [(fault["pointer"], fault["code"]) for fault in found[: len(expected)]] == expected
    assert len(found) == 3 * len(expected) + 2  # of the copies the good row is a repetition too
    assert "91350100M" not in str(found)
    assert await known(api, good["unified_social_credit_code"]) == []


@pytest.mark.parametrize(
    "change",
    [
        {"rows": []},
        {"rows": [row()] * (MOST_ROWS + 1)},
        {"rows": "all"},
        {"scheme": "National"},
        {"source": ""},
        {"replace": "yes"},
        {"colour": "green"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_import_must_be_whole(api: Api, change: dict[str, Any]) -> None:
    assert problem_of(await send(api, **({"rows": [row()]} | change)), "malformed-request")["errors"]


async def test_five_thousand_rows_are_one_import(fresh_api: Api) -> None:
    rows = [{"installation": f"PV-{number}", "valid_from": "2026-01-01"} for number in range(MOST_ROWS)]
    assert await imported(fresh_api, rows, "elsewhere", scheme="gec") == (MOST_ROWS, 0, 0)
    assert await known(fresh_api) == []  # the other register
    assert [each["entries"] for each in await known(fresh_api, register="elsewhere")] == [MOST_ROWS]
    assert [each["entries"] for each in await known(fresh_api, "PV-7", "elsewhere")] == [1]


async def test_registers_are_the_operators(api: Api) -> None:
    for headers in (api.bearer("auditor"), api.bearer("provider", source="urn:tests:some")):
        problem_of(await api.client.get("/v1/registers/coverage", headers=headers), "forbidden")
    operator = api.bearer("operator")
    problem_of(await api.client.get("/v1/registers/others", headers=operator), "malformed-request")
    asked = await api.client.get("/v1/registers/coverage?subject=91350100M000100Y44", headers=operator)
    (fault,) = problem_of(asked, "malformed-request")["errors"]
    assert (fault["parameter"], fault["code"]) == ("subject", "code-check")


async def test_the_database_holds_no_code_and_no_installation(fresh_api: Api, fresh_database: Database) -> None:
    code = credit_code()
    await imported(fresh_api, [row(code)])
    await imported(fresh_api, [{"installation": "PV-310104-0007", "valid_from": "2026-01-01"}], "elsewhere")
    connection = await asyncpg.connect(fresh_database.admin)
    held = " ".join(str(each) for each in await connection.fetch("SELECT t::text FROM service.register_entry AS t"))
    await connection.close()
    assert "national" in held
    for text in (code, "PV-310104-0007"):
        assert text not in held
        assert text.encode().hex() not in held


async def test_postings_look_entries_up_by_register_and_tag(fresh_api: Api, fresh_database: Database) -> None:
    code, keyring = credit_code(), fresh_api.platform.keyring
    firm = await fresh_api.person(kind="firm", code=code)
    citizen = await fresh_api.person()
    await imported(fresh_api, [row(code), row(code, "2027-01-01", None), row()], source="notice 1")
    await imported(fresh_api, [row(code, "2025-01-01", "2025-12-31")], scheme="shanghai", source="notice 2")
    await imported(fresh_api, [row(code)], replace=True, source="notice 1")
    plant = {"installation": "PV-1", "valid_from": "2026-01-01"}
    await imported(fresh_api, [plant], "elsewhere", scheme="gec", source="registry")
    pool = await open_pool(fresh_database.app, name="tests", size=1)
    async with pool.acquire() as connection:
        ids = [UUID(firm.participant_id), UUID(citizen.participant_id)]
        organisations = await read_organisations(connection, ids)
        assert list(organisations) == [ids[0]]
        site, plant_tag = organisations[ids[0]], register_tag(keyring, "installation", "PV-1")
        assert site == register_tag(keyring, "site", code)
        found = await read_entries(connection, ("coverage", "elsewhere"), [site, plant_tag, bytes(32)])
        assert found == {
            ("coverage", site): [
                Entry("shanghai", date(2025, 1, 1), date(2025, 12, 31), "notice 2"),
                Entry("national", date(2026, 1, 1), date(2026, 12, 31), "notice 1"),
            ],
            ("elsewhere", plant_tag): [Entry("gec", date(2026, 1, 1), None, "registry")],
        }
        assert await read_entries(connection, ("elsewhere",), [site]) == {}
        assert await read_entries(connection, (), [site]) == await read_entries(connection, ("coverage",), []) == {}
        assert await read_organisations(connection, []) == {}
    await pool.close()


async def test_the_day_of_an_activity_decides_whether_an_entry_counts(api: Api) -> None:
    code, site = credit_code(), credit_code()
    firm, citizen = await api.person(kind="firm", code=code), await api.person()
    await imported(api, [row(code, "2026-05-02", "2026-05-03"), row(site, "2026-05-02", None)], source="名单 7")
    await imported(api, [{"installation": code, "valid_from": "2026-05-02"}], "elsewhere", scheme="gec")

    async def answers(person: Person, **data: Any) -> list[httpx.Response]:
        days = ("01", "02", "03", "04")
        times = [
            {"started_at": f"2026-05-{day}T09:00:00+08:00", "ended_at": f"2026-05-{day}T09:12:00+08:00"} for day in days
        ]
        return [
            await api.report_one(person.source, ride(person.source, person.subject, **time, **data)) for time in times
        ]

    first, *covered, last = await answers(firm)
    assert (first.status_code, last.status_code) == (201, 201)
    for answer in covered:
        refused = problem_of(answer, "participant-covered")
        assert "national" in refused["detail"]
        assert "名单 7" in refused["detail"]
    first, *covered = await answers(citizen, references={"site": site.lower()})
    assert first.status_code == 201
    for answer in covered:
        problem_of(answer, "site-covered")
    first, *claimed = await answers(await api.person(), references={"installation": code})
    assert first.status_code == 201
    for answer in claimed:
        problem_of(answer, "claimed-elsewhere")


async def test_a_site_is_named_by_its_code(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject, references={"site": "91350100M000100Y44"})
    (fault,) = problem_of(await api.report_one(person.source, event), "malformed-event")["errors"]
    assert (fault["pointer"], fault["code"]) == ("/data/references", "code-check")


days = st.dates(date(2026, 1, 1), date(2026, 1, 20))


@given(days, st.none() | days, days, days)
def test_an_entry_touches_a_period_when_it_covers_one_of_its_days(
    first: date, last: date | None, one: date, other: date
) -> None:
    assume(last is None or first <= last)
    period = [date.fromordinal(day) for day in range(min(one, other).toordinal(), max(one, other).toordinal() + 1)]
    covered = [day for day in period if first <= day and (last is None or day <= last)]
    assert Entry("national", first, last, "notice").touches(period[0], period[-1]) == bool(covered)


# The command, against the API on a socket


@contextlib.asynccontextmanager
async def listening(api: Api) -> AsyncIterator[str]:
    """The API's address while it is served to others."""
    transport = api.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    config = uvicorn.Config(transport.app, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def run(api: Api, url: str, *arguments: str, app: Any = coverage_app) -> Result:
    token = api.bearer("operator")["Authorization"].removeprefix("Bearer ")
    words = [*arguments, "--url", url, "--token", token, "--json"]
    return await asyncio.to_thread(CliRunner().invoke, app, words)


def last_line(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


HEADING = "unified_social_credit_code,name,valid_from,valid_to\n"
FROM = ("--scheme", "national", "--source", "环办气候〔2026〕1号")


async def test_a_file_is_imported_by_the_command(fresh_api: Api, tmp_path: Path) -> None:
    codes = [credit_code() for _ in range(3)]
    file = tmp_path / "covered.csv.gz"
    lines = "".join(f"{code},某公司,2026-01-01,{'' if n else '2026-12-31'}\n" for n, code in enumerate(codes))
    file.write_bytes(gzip.compress(("\ufeff" + HEADING + lines).encode()))
    async with listening(fresh_api) as url:
        dry = await run(fresh_api, url, "import", str(file), *FROM, "--dry-run")
        assert last_line(dry) | {"added": 3, "dry_run": True} == last_line(dry)
        first = await run(fresh_api, url, "import", str(file), *FROM)
        assert (first.exit_code, last_line(first)["added"]) == (0, 3)
        file.write_bytes(gzip.compress((HEADING + lines.partition("\n")[0]).encode()))
        second = await run(fresh_api, url, "import", str(file), *FROM, "--replace")
        assert {name: last_line(second)[name] for name in ("added", "unchanged", "withdrawn")} == {
            "added": 0,
            "unchanged": 1,
            "withdrawn": 2,
        }
        shown = await run(fresh_api, url, "list")
        assert [scheme["entries"] for scheme in last_line(shown)["schemes"]] == [1]
        asked = await run(fresh_api, url, "list", "--code", codes[1])
        assert last_line(asked)["schemes"] == []
        refused = await run(fresh_api, url, "list", "--code", "91350100M000100Y44")
        assert refused.exit_code == 1
        assert "第 18 位校验码应为 3" in refused.stderr
        plants = tmp_path / "plants.csv"
        plants.write_text("installation,valid_from,valid_to\nPV-1,2026-01-01,\n")
        done = await run(fresh_api, url, "import", str(plants), *FROM, app=elsewhere_app)
        assert last_line(done)["added"] == 1


async def test_a_file_with_faults_is_not_sent_and_every_fault_is_listed(tmp_path: Path) -> None:
    good = credit_code()
    file = tmp_path / "covered.csv"
    file.write_text(
        HEADING
        + f"{good},甲,2026-01-01,2026-12-31\n"
        + "91350100M000100Y44,乙,2026-01-01,2025-12-31\n"
        + "\n"
        + f"{credit_code()},丙,2026/01/01\n"
        + f"{credit_code()},丁,2026/01/01,\n"
        + f" {good.lower()} ,甲,2026-01-01,2026-12-31\n"
    )
    arguments = ["import", str(file), *FROM, "--url", "http://127.0.0.1:9", "--json"]
    result = CliRunner().invoke(coverage_app, arguments)
    assert result.exit_code == 1
    assert [(each["row"], each["line"], each["column"]) for each in last_line(result)["problems"]] == [
        (2, 3, "unified_social_credit_code"),
        (2, 3, "valid_to"),
        (3, 5, ""),
        (4, 6, "valid_from"),
        (5, 7, ""),
    ]
    assert "repeats row 1" in result.stderr
    assert "与第 1 条相同" in result.stderr
    assert "5 faults; nothing was imported" in result.stderr


@pytest.mark.parametrize(
    "heading",
    [
        "unified_social_credit_code,valid_from",
        "unified_social_credit_code,valid_from,valid_to,valid_until",
        "unified_social_credit_code,valid_from,valid_to,valid_to",
    ],
)
def test_a_heading_must_be_the_registers(tmp_path: Path, heading: str) -> None:
    file = tmp_path / "covered.csv"
    file.write_text(heading + "\n")
    result = CliRunner().invoke(coverage_app, ["import", str(file), *FROM])
    assert result.exit_code == 1
    assert "expected the columns unified_social_credit_code, name, valid_from, valid_to" in result.stderr


@pytest.mark.parametrize("rows", [0, MOST_ROWS + 1])
def test_a_file_has_rows_and_not_too_many(tmp_path: Path, rows: int) -> None:
    file = tmp_path / "plants.csv"
    file.write_text("installation,valid_from,valid_to\n" + "".join(f"PV-{n},2026-01-01,\n" for n in range(rows)))
    result = CliRunner().invoke(elsewhere_app, ["import", str(file), *FROM])
    assert result.exit_code == 1
    assert f"expected 1 to {MOST_ROWS} rows; came {rows}" in result.stderr


def test_without_a_platform_the_command_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "plants.csv"
    file.write_text("installation,valid_from,valid_to\nPV-1,2026-01-01,\n")
    nowhere = {"TANPUHUI_DATA_DIR": str(tmp_path / "none")}
    result = CliRunner().invoke(elsewhere_app, ["import", str(file), *FROM], env=nowhere)
    assert (result.exit_code, "no platform runs from this data directory" in result.stderr) == (1, True)
    arguments = ["import", str(file), *FROM, "--url", "http://127.0.0.1:9"]
    result = CliRunner().invoke(elsewhere_app, arguments, env=nowhere)
    assert (result.exit_code, "gave no usable answer" in result.stderr) == (1, True)
