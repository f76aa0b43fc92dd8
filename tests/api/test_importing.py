"""`tanpuhui import` against the real platform: every row is accounted for, and the totals are those of SQL over the
file."""

import asyncio
import csv
import json
import os
import sys
from asyncio.subprocess import DEVNULL
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from load_tests import importing
from load_tests.importing import expected_totals
from service.feeds import SHIPPED_RIDES
from tests.running import Api, served

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
RULE = ["docked-ebike"]


class Provider:
    """A data provider with a feed, a token and a file of its own."""

    def __init__(self, api: Api, source: str, folder: Path) -> None:
        self.api, self.source, self.folder = api, source, folder
        self.feed, self.token = folder / "feed.yaml", folder / "token"
        shipped = (ROOT / "service/feeds/valleybike.yaml").read_text("utf-8")
        self.feed.write_text(shipped.replace("urn:tanpuhui:source:valleybike", source), "utf-8")
        self.renew()

    def renew(self) -> None:
        held = self.api.bearer("provider", source=self.source)["Authorization"].removeprefix("Bearer ")
        self.token.write_text(held + "\n", "utf-8")

    def words(self, url: str, *files: Path, **options: Any) -> list[str]:
        chosen = {"refused": self.folder / "refused.csv", **options}
        words = ["import", *map(str, files), "--feed", str(self.feed), "--url", url, "--token-file", str(self.token)]
        for name, value in chosen.items():
            flag = f"--{name.replace('_', '-')}"
            words += [flag] if value is True else [] if value is None else [flag, str(value)]
        return [*words, "--json"]

    async def run(self, *files: Path, url: str | None = None, **options: Any) -> Result:
        if url is not None:
            return await asyncio.to_thread(CliRunner().invoke, app, self.words(url, *files, **options))
        async with served(self.api) as found:
            return await self.run(*files, url=found, **options)

    def refused(self) -> list[dict[str, str]]:
        with (self.folder / "refused.csv").open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
async def provider(api: Api, tmp_path: Path) -> Provider:
    return Provider(api, await api.source(scenarios=RULE), tmp_path)


def rides(path: Path, rows: int, people: int) -> None:
    """One in ten is faulty; the bicycles are nobody else's in this database."""
    importing.write_rides(path, rows, people, faulty_one_in=10, bicycles=os.urandom(6).hex())


async def enrol(provider: Provider, people: int) -> None:
    consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2018-01-01T08:00:00+08:00"}
    wanted = [
        {
            "kind": "citizen",
            "links": [{"source": provider.source, "subject": f"person-{n}", "consent": consent}],
        }
        for n in range(people)
    ]
    answer = await provider.api.client.post(
        "/v1/participants/batch", headers=provider.api.bearer("operator"), json={"participants": wanted}
    )
    assert answer.json()["counts"]["refused"] == 0


def result_of(done: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


async def test_an_import_comes_to_what_sql_over_the_file_comes_to(provider: Provider) -> None:
    file = provider.folder / "rides.csv"
    rides(file, 2400, 60)
    await enrol(provider, 60)
    done = await provider.run(file)
    assert done.exit_code == 0, done.stderr
    first = result_of(done)
    assert (first["credited"], first["reduction_mg"]) == expected_totals(file)
    assert sum(first["rows"].values()) == first["posted"] == 2400
    for name in ("credited", "reduction_mg", "points"):
        assert first[name] == sum(day[name] for day in first["days"].values())
    reasons = Counter(line["reason"] for line in provider.refused())
    assert reasons == first["refused"]
    assert {"malformed-row", "condition-not-met/max-distance", "condition-not-met/min-duration"} <= reasons.keys()
    assert all(line["mend"] and line["detail"] for line in provider.refused())
    rows = [int(line["row"]) for line in provider.refused()]
    assert rows == sorted(rows)
    again = result_of(await provider.run(file))
    assert (again["credited"], again["reduction_mg"]) == (0, 0)
    assert again["refused"]["duplicate"] + again["refused"]["malformed-row"] == 2400
    balances = 0
    for n in range(60):
        link = {"source": provider.source, "subject": f"person-{n}"}
        consent = {"purpose": "carbon-credit", "text_version": "tests-1", "given_at": "2018-01-01T08:00:00+08:00"}
        body = {"kind": "citizen", "links": [link | {"consent": consent}]}
        headers = provider.api.bearer("operator")
        found = (await provider.api.client.post("/v1/participants", headers=headers, json=body)).json()
        balances += (await provider.api.balance(found["participant_id"]))["reduction"]["credited_mg"]
    assert balances == first["reduction_mg"]


async def test_people_who_are_not_enrolled_are_refused_with_what_to_do(provider: Provider) -> None:
    file = provider.folder / "rides.csv"
    rides(file, 40, 10)
    for language, words in (("en", "Ask the operator to enrol"), ("zh", "请平台运营方凭该用户的授权")):
        done = await provider.run(file, language=language)
        assert done.exit_code == 0, done.stderr
        told = [line for line in provider.refused() if line["reason"] == "subject-not-linked"]
        assert len(told) == result_of(done)["refused"]["subject-not-linked"] > 30
        assert all(words in line["mend"] and "/v1/participants/batch" in line["mend"] for line in told)
        assert "/v1/participants/batch" in done.stderr
    await enrol(provider, 10)
    assert result_of(await provider.run(file))["credited"] == expected_totals(file)[0]


async def test_a_dry_run_reads_all_asks_a_little_and_stores_nothing(provider: Provider) -> None:
    file = provider.folder / "rides.csv"
    rides(file, 900, 30)
    await enrol(provider, 30)
    told = result_of(await provider.run(file, dry_run=True, batch=50))
    assert told["dry_run"] is True
    assert told["rows"]["not_asked"] > 600
    assert sum(told["rows"].values()) == 900
    assert 150 < told["credited"] < 200
    assert not (provider.folder / "refused.csv.state.json").exists()
    real = result_of(await provider.run(file))
    assert (real["credited"], real["reduction_mg"]) == expected_totals(file)
    assert real["refused"]["malformed-row"] == told["refused"]["malformed-row"]
    belongs = await provider.run(file, dry_run=True)
    assert belongs.exit_code == 1
    assert "belongs to a real import" in belongs.stderr


async def test_an_import_that_was_killed_goes_on(provider: Provider) -> None:
    """kill -9 in the middle, a word about another file, then on to the same totals; once more finds nothing left."""
    file, other = provider.folder / "rides.csv", provider.folder / "april.csv"
    rides(file, 4000, 100)
    rides(other, 10, 10)
    await enrol(provider, 100)
    state = provider.folder / "refused.csv.state.json"
    async with served(provider.api) as url:
        words = [sys.executable, "-m", "api.cli", *provider.words(url, file, batch=100)]
        process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=DEVNULL, stderr=DEVNULL)
        for _ in range(6000):
            if state.exists() and json.loads(state.read_bytes())["done"] >= 600:
                break
            assert process.returncode is None
            await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
        held = json.loads(state.read_bytes())
        assert not held["finished"]
        wrong = await provider.run(other, url=url, resume=True)
        done = await provider.run(file, url=url, resume=True, batch=70)
        left = await provider.run(file, url=url, resume=True)
    assert wrong.exit_code == 1
    assert "the state of another import" in wrong.stderr
    assert "april.csv" in wrong.stderr
    assert done.exit_code == 0, done.stderr
    assert f"going on: {held['rows']:,} rows" in done.stderr
    told = result_of(done)
    assert told["resumed_after"] == held["done"]
    assert (told["credited"], told["reduction_mg"]) == expected_totals(file)
    assert sum(told["rows"].values()) == 4000
    assert Counter(line["reason"] for line in provider.refused()) == told["refused"]
    assert "nothing is left" in left.stderr
    assert result_of(left)["credited"] == told["credited"]


async def test_an_import_that_stops_says_how_to_go_on(provider: Provider) -> None:
    file = provider.folder / "rides.csv"
    rides(file, 50, 10)
    provider.token.write_text("nonsense", "utf-8")
    async with served(provider.api) as url:
        done = await provider.run(file, url=url)
        provider.renew()
        again = await provider.run(file, url=url, resume=True)
    assert done.exit_code == 1
    assert "Get a new token" in done.stderr
    assert "--resume" in done.stderr
    assert result_of(done)["stopped"]
    assert again.exit_code == 0, again.stderr
    assert result_of(again)["posted"] == 50


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"refused": None, "resume": True}, "--resume needs the --refused FILE"),
        ({"resume": True, "dry_run": True}, "exclude each other"),
        ({"refused": "nowhere/refused.csv"}, "there is no directory"),
        ({"outcomes": "rides.csv"}, "must all differ"),
        ({"token_file": "nothing"}, "expected the provider's access token"),
        ({"language": "fr"}, "'fr'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_sent(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    file = tmp_path / "rides.csv"
    rides(file, 2, 1)
    content = file.read_bytes()
    (tmp_path / "token").write_text("t", "utf-8")
    chosen = {"refused": "refused.csv", "token_file": "token"} | options
    words = ["import", str(file), "--feed", "valleybike", "--url", "http://127.0.0.1:9"]
    for name, value in chosen.items():
        flag = f"--{name.replace('_', '-')}"
        path = value if name == "language" else str(tmp_path / str(value))
        words += [flag] if value is True else [] if value is None else [flag, path]
    done = CliRunner().invoke(app, words, env={"TANPUHUI_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "200"})
    assert done.exit_code != 0
    assert told in done.stderr
    assert file.read_bytes() == content


def test_a_dry_run_without_a_platform_reads_the_file_and_starts_nothing(tmp_path: Path) -> None:
    environment: dict[str, str | None] = {name: None for name in os.environ if name.startswith("TANPUHUI_")}
    words = ["import", str(SHIPPED_RIDES), "--feed", "valleybike", "--dry-run", "--json"]
    done = CliRunner().invoke(app, words, env=environment | {"TANPUHUI_DATA_DIR": str(tmp_path / "data")})
    assert done.exit_code == 0, done.stderr
    told = result_of(done)
    assert (told["rows"]["not_asked"], told["credited"]) == (12000, 0)
    assert not (tmp_path / "data").exists()
