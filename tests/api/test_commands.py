"""`tanpuhui methodology …` and `tanpuhui quantify`: what an author, an approver and a curious citizen type."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner, Result

from api.cli import app
from service.approvals import parse_approvers
from service.quantification.methodology import DIRECTORY
from tests.conftest import Database
from tests.documents import AUTHORITY, BODY, DEMO, DEMO_POINTS, changed, signer, write_approvers
from tests.running import Api, ride, running_api

pytestmark = pytest.mark.anyio

RIDE = ("--started", "2026-05-01T08:00:00+08:00", "--ended", "2026-05-01T08:12:00+08:00")


def run(folder: Path, *arguments: str, **variables: str) -> Result:
    """A command in this process, with a data directory of its own and nothing else set."""
    quiet = {name: None for name in os.environ if name.startswith("TANPUHUI_")}
    environment: dict[str, str | None] = {**quiet, "TANPUHUI_DATA_DIR": str(folder / "data"), **variables}
    return CliRunner().invoke(app, arguments, env=environment)


async def run_beside(folder: Path, *arguments: str, **variables: str) -> Result:
    """The same from a test that runs a loop of its own."""
    return await asyncio.to_thread(run, folder, *arguments, **variables)


def last_line(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def written(folder: Path, content: bytes, name: str = "draft.yaml") -> str:
    path = folder / name
    path.write_bytes(content)
    return str(path)


# lint


def test_a_good_document_is_told_with_its_digest_and_its_standing(tmp_path: Path) -> None:
    draft = written(tmp_path, changed(DEMO, ("id: demo-", "id: our-")))
    done = run(tmp_path, "methodology", "lint", draft, "--json")
    assert done.exit_code == 0, done.stderr
    told = last_line(done)
    assert (told["ok"], told["id"], told["version"], told["examples"]) == (True, "our-shared-ebike", 1, 2)
    assert (told["previous"], told["changes"], told["recorded"]) == (None, [], None)
    assert "no database" in told["recorded_note"]
    assert (told["can_credit"], told["why_not"]) == (True, [])
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("content", "line", "told"),
    [
        (changed(DEMO, ("unit: g/km", "unit: g/mile")), 38, "unknown unit"),
        (changed(DEMO, ("* distance_km\nreduction_unit", "+ distance_km\nreduction_unit")), 93, "joins"),
        (changed(DEMO, ("expected_mg: 82273", "expected_mg: 82274")), 106, "gives 82273 mg"),
        (changed(DEMO, ("        source: hello-2022\n", "")), 43, "'source' is missing"),
        (b"schema: 1\nid: &a x\n", 2, "anchors"),
        (b"[" * 100_000, 1, "deeper"),
        (b"a: 1\n" * 10**6, 1, "at most"),
    ],
)
def test_a_faulty_document_is_refused_with_line_and_reason(
    tmp_path: Path, content: bytes, line: int, told: str
) -> None:
    draft = written(tmp_path, content)
    done = run(tmp_path, "methodology", "lint", draft, "--json")
    assert done.exit_code == 1
    refused = last_line(done)
    assert refused["ok"] is False
    assert told in refused["reason"]
    assert refused["line"] == line
    assert f"line {line}" in done.stderr


def test_a_version_that_is_there_with_other_content_is_refused(tmp_path: Path) -> None:
    draft = written(
        tmp_path, changed(DEMO, ('value: "35.01"', 'value: "35.02"'), ("82273", "82297"), ("mg: 3501", "mg: 3502"))
    )
    done = run(tmp_path, "methodology", "lint", draft)
    assert done.exit_code == 1
    assert "new version" in done.stderr


def test_the_difference_to_the_version_before_is_told(tmp_path: Path) -> None:
    own = tmp_path / "rules"
    for kind in ("methodologies", "points"):
        (own / kind).mkdir(parents=True)
    first = changed(DEMO, ("id: demo-", "id: our-"))
    written(own / "methodologies", first, "first.yaml")
    draft = written(tmp_path, second_of(first, "40", 94000, 4000))
    done = run(tmp_path, "methodology", "lint", draft, "--json", TANPUHUI_RULES_DIR=str(own))
    told = last_line(done)
    assert told["previous"]["version"] == 1
    figure = {"path": "factors.reduction_g_per_pkm.values[2016-01-01].value", "old": "35.01", "new": "40"}
    assert told["figures"] == [figure]
    assert figure in told["changes"]
    assert "35.01 → 40" in done.stderr


def second_of(first: bytes, value: str, *expected_mg: int, conditions: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A second version with another factor."""
    long, short = expected_mg
    return changed(
        first.decode(),
        ("version: 1", "version: 2"),
        ('value: "35.01"', f'value: "{value}"'),
        ("expected_mg: 82273", f"expected_mg: {long}"),
        ("expected_mg: 3501", f"expected_mg: {short}"),
        *conditions,
    )


@asynccontextmanager
async def own_rules(database: Database, folder: Path) -> AsyncIterator[tuple[Api, dict[str, str]]]:
    """A platform whose e-bike rides are counted by a document of its own; and the environment of its commands."""
    own = folder / "rules"
    for kind in ("methodologies", "points"):
        (own / kind).mkdir(parents=True)
    written(own / "methodologies", changed(DEMO, ("id: demo-", "id: our-")), "first.yaml")
    async with running_api(database.app, None, folder / "platform", rules_dir=own) as api:
        masters = str(api.platform.settings.vault_key_file)
        yield (
            api,
            {
                "TANPUHUI_RULES_DIR": str(own),
                "TANPUHUI_DATABASE_URL": database.auditor,
                "TANPUHUI_VAULT_KEY_FILE": masters,
            },
        )


async def test_what_a_new_version_would_have_changed(fresh_database: Database, tmp_path: Path) -> None:
    first = changed(DEMO, ("id: demo-", "id: our-"))
    async with own_rules(fresh_database, tmp_path) as (api, environment):
        person = await api.person()
        rides = [ride(person.source, person.subject, km=km) for km in ("1", "2", "2.5", "4", "0.05")]
        outcomes = await api.report(person.source, rides)
        assert [one["outcome"] for one in outcomes] == ["credited"] * 4 + ["refused"]
        await api.reverse(person.participant_id, outcomes[3]["transfer_id"])
        draft = written(
            tmp_path,
            second_of(
                first,
                "40.01",
                94023,
                4001,
                conditions=(('at_least: "0.1"', 'at_least: "0.04"'), ("at_most: 30\n", 'at_most: "2.4"\n')),
            ),
        )
        done = await run_beside(tmp_path, "methodology", "lint", draft, "--json", **environment)
        assert done.exit_code == 0, done.stderr
        recorded = last_line(done)["recorded"]
        fewer = await run_beside(tmp_path, "methodology", "lint", draft, "--json", "--limit", "2", **environment)
    # 1 km and 2 km earn more; 2.5 km is beyond the new limit; 50 m counts now; 4 km was taken back and is not looked at
    assert recorded == {
        "looked_at": 4,
        "complete": True,
        "unchanged": 0,
        "more": 2,
        "less": 0,
        "newly_credited": 1,
        "newly_refused": 1,
        "newly_refused_by_reason": {"condition-not-met/max-distance": 1},
        "not_in_force": 0,
        "erased": 0,
        "difference_mg": 5000 + 10000 - 87525 + 2000,
        "difference_points": (40 - 35) + (80 - 70) - 87 + 2,
    }
    assert (last_line(fewer)["recorded"]["looked_at"], last_line(fewer)["recorded"]["complete"]) == (2, False)
    assert "there are more" in fewer.stderr


async def test_a_version_that_changes_nothing_says_so(fresh_database: Database, tmp_path: Path) -> None:
    first = changed(DEMO, ("id: demo-", "id: our-"))
    async with own_rules(fresh_database, tmp_path) as (api, environment):
        person = await api.person()
        await api.report(person.source, [ride(person.source, person.subject) for _ in range(3)])
        draft = written(tmp_path, changed(first.decode(), ("version: 1", "version: 2")))
        done = await run_beside(tmp_path, "methodology", "lint", draft, "--json", **environment)
        recorded = last_line(done)["recorded"]
        assert (recorded["looked_at"], recorded["unchanged"], recorded["difference_mg"]) == (3, 3, 0)
        later = changed(
            first.decode(),
            ("version: 1", "version: 2"),
            ("in_force: {from: 2016-01-01}", "in_force: {from: 2016-01-01, to: 2025-12-31}"),
        )
        done = await run_beside(tmp_path, "methodology", "lint", written(tmp_path, later), "--json", **environment)
        assert last_line(done)["recorded"]["not_in_force"] == 3


async def test_a_version_the_database_knows_with_other_content_is_refused(
    api: Api, database: Database, tmp_path: Path
) -> None:
    name = f"tests-{os.urandom(6).hex()}"
    document = changed(DEMO, ("id: demo-shared-ebike", f"id: {name}"))
    await api.platform.pool.execute(
        "INSERT INTO service.rule_document (digest, kind, name, version, document) "
        "VALUES ($1, 'methodology', $2, 1, $3)",
        os.urandom(32),
        name,
        next(iter(api.platform.rules.posted_methodologies.values())).document,
    )
    url = {"TANPUHUI_DATABASE_URL": database.auditor}
    done = await run_beside(tmp_path, "methodology", "lint", written(tmp_path, document), **url)
    assert done.exit_code == 1
    assert "new version" in done.stderr


def test_a_database_that_cannot_be_asked_is_said(tmp_path: Path) -> None:
    draft = written(tmp_path, changed(DEMO, ("id: demo-", "id: our-")))
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    done = run(tmp_path, "methodology", "lint", draft, "--json", TANPUHUI_DATABASE_URL=url)
    assert done.exit_code == 0
    assert "cannot be asked" in last_line(done)["recorded_note"]


# show and list


@pytest.mark.parametrize(("lang", "there", "not_there"), [("zh", "适用范围", "Scope"), ("en", "Scope", "适用范围")])
def test_a_page_is_in_one_language(tmp_path: Path, lang: str, there: str, not_there: str) -> None:
    done = run(tmp_path, "methodology", "show", "demo-shared-ebike", "--version", "1", "--lang", lang)
    assert done.exit_code == 0
    assert f"## {there}" in done.stdout
    assert not_there not in done.stdout
    for text in ("35.01 g/km × 2.35 km = 82.2735 g", "duration_s", "hello-2022", "3064008b1504841c"):
        assert text in done.stdout


def test_a_page_is_in_both_languages_unless_one_is_asked_for(tmp_path: Path) -> None:
    done = run(tmp_path, "methodology", "show", "demo-shared-ebike")
    assert "## 中文" in done.stdout
    assert "## English" in done.stdout


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for arguments in (("nothing",), ("demo-shared-ebike", "--version", "9999"), ("demo-shared-ebike", "--lang", "fr")):
        done = run(tmp_path, "methodology", "show", *arguments)
        assert done.exit_code == 1
        assert done.stderr


def test_the_list_says_which_documents_could_credit(tmp_path: Path) -> None:
    told = last_line(run(tmp_path, "methodology", "list", "--json"))
    assert all(row["can_credit"] for row in told["points_rules"])
    (row,) = [row for row in told["methodologies"] if (row["id"], row["version"]) == ("demo-shared-ebike", 1)]
    for name in ("status", "trigger", "digest", "in_force", "jurisdiction", "can_credit", "why_not"):
        assert name in row
    assert told["approvals_known"] is False
    strict = {"TANPUHUI_ALLOWED_STATUSES": "official", "TANPUHUI_REQUIRE_APPROVALS": "true"}
    told = last_line(run(tmp_path, "methodology", "list", "--json", **strict))
    for row in told["methodologies"]:
        assert row["why_not"][-1] == "not-approved"
        assert ("status-not-allowed" in row["why_not"]) == ("official" not in (row["status"], row["credited_as"]))


# quantify


def test_a_citizen_sees_what_a_ride_would_earn(tmp_path: Path) -> None:
    arguments = ("quantify", "demo-shared-ebike", "--version", "1", "--input", "distance_km=2.35", *RIDE)
    told = last_line(run(tmp_path, *arguments, "--json"))
    assert (told["methodology"], told["version"], told["reduction_mg"], told["points"]) == (
        "demo-shared-ebike",
        1,
        82273,
        82,
    )
    assert told["trace"][0] == "35.01 g/km × 2.35 km = 82.2735 g"
    shown = run(tmp_path, *arguments)
    assert "35.01 g/km × 2.35 km = 82.2735 g" in shown.stdout
    assert "82273" in shown.stdout
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--input", "distance_km=2.35", "--started", "2026-05-01T08:00:00+08:00"), "times-needed"),
        (("--input", "distance=2.35"), "unknown-input"),
        (("--input", "distance_km=2.35", "--version", "9999"), "rule-not-found"),
        (("--input", "distance_km=far", *RIDE), "malformed-request"),
        (("--input", "distance_km=0.01", *RIDE), "condition-not-met"),
        (RIDE, "missing-input"),
    ],
)
def test_wrong_questions_get_the_documented_problems(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    done = run(tmp_path, "quantify", "demo-shared-ebike", *arguments, "--json")
    assert done.exit_code == 1
    assert last_line(done)["type"].endswith(f":{told}")
    assert done.stderr


def test_readings_come_from_a_file(tmp_path: Path) -> None:
    readings = {
        "use_kwh": {"kind": "interval", "spans": [["2026-04-01T00:00:00+08:00", "2026-05-01T00:00:00+08:00", "900"]]}
    }
    baseline = {
        "baseline_kwh": {
            "kind": "interval",
            "spans": [["2025-04-01T00:00:00+08:00", "2025-05-01T00:00:00+08:00", "1000"]],
        }
    }
    file = written(tmp_path, json.dumps({"readings": readings, "baseline": baseline}).encode(), "readings.json")
    times = ("--started", "2026-04-01T00:00:00+08:00", "--ended", "2026-05-01T00:00:00+08:00")
    told = last_line(run(tmp_path, "quantify", "office-electricity", "--readings", file, *times, "--json"))
    assert told["reduction_mg"] == 42_000_000
    for content in (b"[]", b'{"more": 1}'):
        done = run(
            tmp_path, "quantify", "office-electricity", "--readings", written(tmp_path, content, "no.json"), *times
        )
        assert done.exit_code == 1
    done = run(tmp_path, "quantify", "office-electricity", "--input", "novalue")
    assert "name=value" in done.stderr


# approve


def test_a_key_pair_is_made_once_and_its_public_half_is_told(tmp_path: Path) -> None:
    file = tmp_path / "alice.pem"
    done = run(tmp_path, "methodology", "approver-key", str(file), "--role", AUTHORITY, "--person", "officer-1")
    entry = json.loads(done.stdout)
    (approver,) = parse_approvers(json.dumps({"keys": [entry]}).encode()).values()
    assert (approver.key_id, approver.role, approver.person) == (entry["kid"], AUTHORITY, "officer-1")
    assert file.stat().st_mode & 0o777 == 0o600
    content = file.read_bytes()
    again = run(tmp_path, "methodology", "approver-key", str(file))
    assert json.loads(again.stdout)["x"] == entry["x"]
    assert file.read_bytes() == content
    assert run(tmp_path, "methodology", "approver-key", str(tmp_path / "b.pem"), "--role", "king").exit_code == 1


@asynccontextmanager
async def on_a_port(api: Api) -> AsyncIterator[str]:
    """The API on a real socket, for commands that know it by its address."""
    server = uvicorn.Server(
        uvicorn.Config(api.client._transport.app, port=0, lifespan="off", log_config=None, ws="none")  # type: ignore[attr-defined]
    )
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it offers nothing to wait for
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def test_two_people_sign_and_the_document_is_in_force(fresh_database: Database, tmp_path: Path) -> None:
    own = tmp_path / "rules"
    for kind in ("methodologies", "points"):
        (own / kind).mkdir(parents=True)
    written(own / "methodologies", changed(DEMO, ("id: demo-", "id: our-")), "own.yaml")
    written(own / "points", changed(DEMO_POINTS, ("id: demo-", "id: our-")), "own.yaml")
    alice, bob = signer(AUTHORITY, "officer-1"), signer(BODY, "expert-1")
    keys = {one.role: str(one.write(tmp_path / f"{one.person}.pem")) for one in (alice, bob)}
    approvers = write_approvers(tmp_path / "approvers.json", alice.entry, bob.entry)
    settings = {"rules_dir": own, "approvers_file": approvers, "require_approvals": True}
    async with running_api(fresh_database.app, None, tmp_path / "platform", **settings) as api, on_a_port(api) as url:
        environment = {
            "TANPUHUI_RULES_DIR": str(own),
            "TANPUHUI_TOKEN": api.issuer.issue("operator", "approver"),
            "TANPUHUI_REQUIRE_APPROVALS": "true",
            "TANPUHUI_APPROVERS_FILE": str(approvers),
            "TANPUHUI_DATABASE_URL": fresh_database.auditor,
        }

        async def sign(rule: str, role: str, key: str, *more: str, version: str = "1") -> Result:
            arguments = (
                "methodology",
                "approve",
                rule,
                "--version",
                version,
                "--role",
                role,
                "--key",
                key,
                "--url",
                url,
            )
            return await run_beside(tmp_path, *arguments, "--json", *more, **environment)

        first = await sign("our-shared-ebike", AUTHORITY, keys[AUTHORITY])
        assert first.exit_code == 0, first.stderr
        assert last_line(first)["why_not"] == ["not-approved"]
        second = await sign("our-shared-ebike", BODY, keys[BODY])
        assert last_line(second)["can_credit"] is True
        for role in (AUTHORITY, BODY):
            last = await sign("our-points", role, keys[role], "--points")
        assert [one["approver"] for one in last_line(last)["approvals"]] == ["officer-1", "expert-1"]
        listed = last_line(await run_beside(tmp_path, "methodology", "list", "--json", **environment))
        assert listed["approvals_known"] is True
        assert [row["id"] for row in listed["methodologies"] if row["can_credit"]] == ["our-shared-ebike"]
        shown = await run_beside(tmp_path, "methodology", "show", "our-shared-ebike", **environment)
        assert "expert-1" in shown.stdout

        wrong = await sign("our-shared-ebike", BODY, keys[AUTHORITY])
        assert wrong.exit_code == 1
        assert "registered for the other role" in wrong.stderr
        assert (await sign("our-shared-ebike", AUTHORITY, keys[AUTHORITY], version="7")).exit_code == 1
        assert (await sign("our-shared-ebike", "king", keys[AUTHORITY])).exit_code == 1
        other = written(
            tmp_path,
            changed(DEMO, ("id: demo-", "id: our-"), ("jurisdiction: demonstration", "jurisdiction: elsewhere")),
        )
        tampered = await sign("our-shared-ebike", AUTHORITY, keys[AUTHORITY], "--file", other)
        assert tampered.exit_code == 1
        assert "does not verify" in tampered.stderr


@pytest.mark.parametrize("content", [b"no key", None])
def test_a_key_that_cannot_be_used_is_said(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key.pem"
    signer(AUTHORITY, "officer-1").write(path)
    if content is None:
        path.chmod(0o604)
    else:
        path.write_bytes(content)
    arguments = (
        "demo-shared-ebike",
        "--version",
        "1",
        "--role",
        AUTHORITY,
        "--key",
        str(path),
        "--url",
        "http://127.0.0.1:1",
    )
    done = run(tmp_path, "methodology", "approve", *arguments)
    assert done.exit_code == 1
    assert str(path.name) in done.stderr


def test_without_a_platform_its_address_is_asked_for(tmp_path: Path) -> None:
    key = str(signer(AUTHORITY, "officer-1").write(tmp_path / "key.pem"))
    arguments = ("demo-shared-ebike", "--version", "1", "--role", AUTHORITY, "--key", key)
    assert "--url" in run(tmp_path, "methodology", "approve", *arguments).stderr
    done = run(tmp_path, "methodology", "approve", *arguments, "--url", "http://127.0.0.1:1")
    assert "cannot be asked" in done.stderr


def test_the_shipped_documents_pass_their_own_lint(tmp_path: Path) -> None:
    for path in DIRECTORY.glob("*.yaml"):
        assert run(tmp_path, "methodology", "lint", str(path)).exit_code == 0, path.name
