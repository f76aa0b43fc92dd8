"""What a newcomer types, each command a process of its own: demonstrate, serve, import, ask for a token, mistype."""

import contextlib
import csv
import gzip
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import typer.main
from typer.testing import CliRunner

from api.auth import ROLE_SCOPES
from api.cli import app
from api.redemption_demonstration import REDEMPTIONS
from service.feeds import SHIPPED_RIDES
from tests.story.clients import ROOT, Served, environment, gone, room, run_command

DEFAULT_PORT = 8000
FIRST, RIDES = 5000, 150  # a cut of the shipped rides in which most are sound
PERSON = "5f0c6a52-3b1e-4b7a-9d0e-0c9f1a2b3c4d"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """`tanpuhui serve` on a data directory with a space in its path, ended by Ctrl-C."""
    with room() as directory, Served(directory / "my data") as platform:
        yield platform
        below = platform.everyone()
        platform.process.send_signal(signal.SIGINT)
        assert platform.process.wait(60) == 130
        assert gone(below), "a process remains after Ctrl-C"
        assert "Traceback" not in platform.output.read_text("utf-8")


@contextlib.contextmanager
def default_port_taken() -> Iterator[bool]:
    """Whether this test could take it; if not, somebody else has it, who may give it back at any moment."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", DEFAULT_PORT))
            taken.listen()
        except OSError:
            yield False
        else:
            yield True


def some_rides(path: Path, first: int = FIRST, count: int = RIDES) -> Path:
    with gzip.open(SHIPPED_RIDES, "rt", encoding="utf-8") as shipped:
        path.write_text(next(shipped) + "".join(islice(shipped, first, first + count)), encoding="utf-8")
    return path


def mobike_rides(path: Path) -> Path:
    """Made-up rides in the form of the Mobike files, one of them without an end."""
    heading = (
        "orderid,bikeid,userid,start_time,start_location_x,start_location_y,"
        "end_time,end_location_x,end_location_y,track"
    )
    rows = [
        '1,70001,90001,2016-08-03 08:00,121.400,31.200,2016-08-03 08:12,121.420,31.200,"121.400,31.200#121.420,31.200"',
        '2,70002,90002,2016-08-03 18:30,121.450,31.230,2016-08-03 18:41,121.450,31.245,"121.450,31.230#121.450,31.245"',
        "3,70003,90001,2016-08-04 09:00,121.400,31.200,,,,",
    ]
    path.write_text("\n".join([heading, *rows, ""]), encoding="utf-8")
    return path


def last_object(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object on the last line of a command that succeeded."""
    assert finished.returncode == 0, finished.stderr
    document: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return document


def imported(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    result = last_object(finished)
    assert list(result)[:6] == ["posted", "credited", "refused", "reduction_mg", "points", "seconds"]
    assert result["posted"] == result["credited"] + sum(result["refused"].values())
    return result


def refused_with(finished: subprocess.CompletedProcess[str], *words: str) -> None:
    """Status 1, and a sentence in each language instead of a traceback."""
    said = finished.stdout + finished.stderr
    assert finished.returncode == 1, said
    assert "Traceback" not in said
    assert any("\u4e00" <= character <= "\u9fff" for character in finished.stderr)
    for word in words:
        assert word in finished.stderr


def test_the_demonstration_credits_once_and_serves_where_a_port_is_free() -> None:
    with room() as directory, default_port_taken() as taken:
        data_dir, rides = directory / "my data", some_rides(directory / "some rides.csv")
        first = imported(run_command(data_dir, "demo", "--exit", "--json", "--file", str(rides)))
        assert list(first)[6:] == ["redemptions", "reconciled", "reconciliation"]
        assert (first["redemptions"]["captured"], first["reconciled"]) == (8, True)
        redeemed = first["reconciliation"]["entries"]
        assert redeemed > sum(first["redemptions"].values()) == REDEMPTIONS
        assert first["posted"] == RIDES
        assert first["credited"] > RIDES / 4
        assert first["points"] > 0
        with demonstrating(data_dir, rides) as (second, shown):
            assert (second["posted"], second["credited"], second["refused"]) == (RIDES, 0, {"duplicate": RIDES})
            assert (second["redemptions"], second["reconciled"]) == (first["redemptions"], True)
            steps = requests_shown(shown)
            assert [step.method for step in steps] == ["POST", "GET", "GET"]
            with httpx.Client(timeout=30) as client:
                for step in steps:
                    assert not taken or step.url.port != DEFAULT_PORT
                    assert client.send(step).is_success
            checked = last_object(run_here(data_dir, "ledger", "check", "--json"))
            assert (checked["transfers"], checked["findings"]) == (first["credited"] + redeemed + 1, [])


@contextlib.contextmanager
def demonstrating(data_dir: Path, rides: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """`tanpuhui demo --json`, which goes on serving: its result and all that it showed; ended by Ctrl-C."""
    command = [sys.executable, "-m", "api.cli", "demo", "--json", "--file", str(rides)]
    with (
        (data_dir.parent / "shown").open("w+", encoding="utf-8") as shown,
        subprocess.Popen(
            command, cwd=ROOT, env=environment(data_dir), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=shown
        ) as process,
    ):
        try:
            assert process.stdout is not None
            result = json.loads(process.stdout.readline())
            text, give_up = "", time.monotonic() + 60
            while "Ctrl-C" not in text:
                assert time.monotonic() < give_up, text
                time.sleep(0.05)
                text = Path(shown.name).read_text("utf-8")
            yield result, text
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130


def requests_shown(text: str) -> list[httpx.Request]:
    """The curl commands to paste, as requests: their options are -s, -H and -d, the address comes last."""
    requests = []
    for line in text.splitlines():
        if line.startswith("curl "):
            words = shlex.split(line)
            options = [(flag, value) for flag, value in pairwise(words) if flag in ("-H", "-d")]
            headers = dict(value.split(": ", 1) for flag, value in options if flag == "-H")
            body = next((value for flag, value in options if flag == "-d"), None)
            requests.append(httpx.Request("POST" if body else "GET", words[-1], headers=headers, content=body))
    return requests


def test_a_second_platform_on_the_same_directory_is_refused(served: Served) -> None:
    refused_with(run_command(served.data_dir, "serve"), f"process id {served.process.pid}", str(served.data_dir))
    assert httpx.get(f"{served.url}/v1/health/ready", timeout=30).status_code == 200


def test_a_file_is_imported_into_the_platform_that_runs(served: Served) -> None:
    rides = str(some_rides(served.data_dir.parent / "valleybike.csv", FIRST + RIDES, 40))
    refused = served.data_dir.parent / "refused.csv"
    first = imported(
        run_command(served.data_dir, "import", rides, "--feed", "valleybike", "--json", "--refused", str(refused))
    )
    assert first["posted"] == 40
    assert first["credited"] > 0
    with refused.open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == sum(first["refused"].values()) > 0
    again = imported(run_here(served.data_dir, "import", rides, "--feed", "valleybike", "--json"))
    assert again["refused"] == {"duplicate": 40}
    checked = last_object(run_here(served.data_dir, "ledger", "check", "--json"))
    assert (checked["transfers"], checked["findings"]) == (first["credited"], [])


def test_a_file_is_imported_where_no_platform_runs() -> None:
    with room() as directory:
        rides = mobike_rides(directory / "mobike.csv")
        result = imported(run_command(directory / "data", "import", str(rides), "--feed", "mobike-shanghai", "--json"))
    assert (result["posted"], result["credited"], result["refused"]) == (3, 2, {"malformed-row": 1})
    # The haversine of 0.020 degrees of longitude at 31.2 N and of 0.015 of latitude: 1.902 km and 1.668 km, at 33.88 g
    assert result["reduction_mg"] == 1902 * 3388 // 100 + 1668 * 3388 // 100


def test_a_file_or_a_feed_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    page, cut, feed = tmp_path / "page.csv", tmp_path / "cut.csv.gz", tmp_path / "feed.yaml"
    page.write_text("<html><body>404 Not Found</body></html>", encoding="utf-8")
    cut.write_bytes(SHIPPED_RIDES.read_bytes()[:3000])
    feed.write_text("id: [", encoding="utf-8")
    rides = some_rides(tmp_path / "rides.csv", count=2)
    for arguments, named in (
        ([str(tmp_path / "nothing.csv"), "--feed", "valleybike"], "nothing.csv"),
        ([str(page), "--feed", "valleybike"], "web page"),
        ([str(cut), "--feed", "valleybike"], "breaks off"),
        ([str(rides), "--feed", "mobike-shanghai"], "orderid"),
        ([str(rides), "--feed", "valley"], "valleybike"),
        ([str(rides), "--feed", str(feed)], "feed.yaml"),
    ):
        refused_with(run_here(tmp_path / "data", "import", *arguments), named)
    assert not (tmp_path / "data").exists(), "servers were started for nothing"


def test_a_token_for_every_role_and_for_no_other(served: Served) -> None:
    source, address = "urn:tanpuhui:source:valleybike", f"{served.url}/v1/participants/{PERSON}/balance"
    for arguments, scope, status in (
        (["provider", "--source", source], "activities:write events:read manifests:read settlements:read", 403),
        (["provider", "--feed", "valleybike"], "activities:write events:read manifests:read settlements:read", 403),
        (
            ["participant", PERSON],
            "balance:read events:read profile:read profile:write redemptions:read redemptions:write waivers:write",
            404,
        ),
        (["bank", "--bank", "https://bank.example/green"], " ".join(sorted(ROLE_SCOPES["bank"])), 403),
        (["operator"], " ".join(sorted(ROLE_SCOPES["operator"])), 404),
        (["auditor"], " ".join(sorted(ROLE_SCOPES["auditor"])), 404),
    ):
        issued = run_here(served.data_dir, "token", *arguments)
        assert issued.returncode == 0, issued.stderr
        claims = jwt.decode(issued.stdout.strip(), options={"verify_signature": False})
        assert " ".join(sorted(claims["scope"].split())) == scope
        assert claims["role"] == arguments[0]
        assert claims.get("source") == (source if arguments[0] == "provider" else None)
        answer = httpx.get(address, headers={"Authorization": f"Bearer {issued.stdout.strip()}"}, timeout=30)
        assert answer.status_code == status, answer.text  # known by its signature; the person is nobody's
    refused_with(run_here(served.data_dir, "token", "king"), "provider, participant, bank, operator, auditor", "'king'")
    refused_with(run_here(served.data_dir, "token", "provider"), "--source", "--feed")
    refused_with(run_here(served.data_dir, "token", "participant", "me"), "UUID")
    refused_with(run_here(served.data_dir, "token", "participant"), "UUID")


def test_every_command_has_a_help_text_in_both_languages(tmp_path: Path) -> None:
    assert run_command(tmp_path / "data", "--help").returncode == 0
    texts = dict(commands(typer.main.get_command(app)))
    assert {("demo",), ("serve",), ("import",), ("token",), ("ledger", "check"), ("feed", "list")} <= texts.keys()
    for path, text in texts.items():
        shown = run_here(tmp_path / "data", *path, "--help")
        assert shown.returncode == 0, shown.stderr
        assert any("\u4e00" <= character <= "\u9fff" for character in shown.stdout), path
        assert sum(word.isascii() and word.isalpha() for word in text.split()) >= 2, path
    assert not (tmp_path / "data").exists()


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every command, itself included, by the words that are typed; and its help text."""
    yield path, group.help
    for name in group.list_commands(None) if hasattr(group, "list_commands") else ():  # loaded when asked for
        yield from commands(group.get_command(None, name), (*path, name))


def run_here(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in this process: for those that end at once, where starting an interpreter is most of the time."""
    finished = CliRunner().invoke(app, arguments, env=environment(data_dir))
    if finished.exception is not None and not isinstance(finished.exception, SystemExit):
        raise finished.exception
    return subprocess.CompletedProcess(arguments, finished.exit_code, finished.stdout, finished.stderr)
