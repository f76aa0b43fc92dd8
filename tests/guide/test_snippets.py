"""Every step of the guide (docs/connect.md) in every language, run as its reader runs it: against a real platform, and
compared with what the guide shows."""

import asyncio
import csv
import shutil
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from tests.guide.conftest import Platform
from tests.guide.workshop import (
    WITHIN_S,
    Answer,
    BadLine,
    Workshop,
    answers_in,
    assert_shown,
    bad_line,
    kill,
)

pytestmark = pytest.mark.anyio

PYTHON, JAVA = "python3 python/{}.py", "java java/{}.java"
SENDERS = {"python": PYTHON.format("send_rides"), "java": JAVA.format("SendRides")}
LANGUAGES = tuple(SENDERS)
SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    for program, package in (("java", "default-jdk-headless"), ("curl", "curl"), ("openssl", "openssl")):
        assert shutil.which(program), f"the guide's snippets need {program}: on Debian, apt install {package}"


async def test_curl(platform: Platform, tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "rides", {"PLATFORM": platform.url, "TANPUHUI_DATA_DIR": str(platform.data_dir)})
    await workshop.read_in("docs/snippets/curl/sandbox.sh")
    assert workshop.environment["SOURCE"] == "urn:example:rides"
    registered = await workshop.ask("sh curl/register.sh")
    assert [answer.status for answer in registered] == [200, 201, 201, 201]
    (first,) = await workshop.ask("sh curl/first_ride.sh")
    assert_shown("first_ride.http", first)
    seen = {"PARTICIPANT": registered[1].body["participant_id"], "TRANSFER": first.body["transfer_id"]}
    balance, explained = await workshop.ask("sh curl/look.sh", **seen)
    assert_shown("balance.http", balance)
    assert_shown("explained.en.http", explained)
    zh = await platform.api.read(seen["PARTICIPANT"], f"transfers/{seen['TRANSFER']}", **{"Accept-Language": "zh-CN"})
    assert_shown("explained.zh.http", Answer(zh.status_code, zh.json()))
    for language, read_in in (("en", "en"), ("zh", "zh-CN")):
        (refused,) = await workshop.ask("sh curl/refused.sh", READ_IN=read_in)
        assert_shown(f"refused.{language}.http", refused)
        (too_short,) = await workshop.ask("sh curl/too_short.sh", READ_IN=read_in)
        assert_shown(f"too_short.{language}.http", too_short)
    sent = [first, too_short]
    for name in ("mended", "batch", "meter", "settle"):
        (answer,) = await workshop.ask(f"sh curl/{name}.sh")
        assert_shown(f"{name}.http", answer)
        sent.append(answer)
    rehearsed, again = [await workshop.ask("sh curl/dry_run.sh") for _ in range(2)]
    assert rehearsed[0].status == again[0].status == 201  # not 200: the first one left nothing behind
    corrected, retracted = await workshop.ask("sh curl/correct.sh")
    assert_shown("correct.http", corrected)
    assert_shown("retract.http", retracted)
    await _closed_by_hand(workshop, platform, [*sent, corrected])


async def _closed_by_hand(workshop: Workshop, platform: Platform, sent: list[Answer]) -> None:
    """The day, from the answers that came: an outcome of a batch is an answer too."""
    await workshop.ask("sh curl/register_key.sh")
    answers = [outcome for answer in sent for outcome in answer.body.get("outcomes", [answer.body])]
    rows = ["id,scenario,outcome,reduction_mg,points,at"]
    for answer in answers:
        if answer.get("outcome") == "credited":
            scenario = "demo-home-electricity" if answer["pending"] else "shared-ebike"
            amounts = f"{answer['reduction_mg']},{answer['points']}"
            rows.append(f"{answer['id']},{scenario},credited,{amounts},{_moment(answer['transfer_id'])}")
        elif "activity_id" in answer:
            rows.append(f"order-1003,shared-ebike,refused,,,{_moment(answer['activity_id'])}")
    outcomes = workshop.directory / "outcomes.csv"
    outcomes.write_text("\n".join([*rows, ""]), "utf-8")
    for day in _days(outcomes):
        (received,) = await workshop.ask(f"sh curl/close_day.sh {day} outcomes.csv", PLATFORM=platform.url_later)
        assert received.body["closable"]
        headers = platform.api.bearer("provider", source=workshop.environment["SOURCE"])
        (manifest,) = (await platform.api.client.get(f"/v1/manifests?day={day}", headers=headers)).json()["manifests"]
        assert manifest["agrees"], manifest


def _moment(stored: str) -> str:
    """When this was stored: a UUIDv7 begins with its milliseconds."""
    return datetime.fromtimestamp((UUID(stored).int >> 80) / 1000, UTC).isoformat()


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_same_steps_in(language: str, platform: Platform, tmp_path: Path) -> None:
    workshop = platform.workshop(tmp_path / "rides", f"urn:example:steps-{language}")
    await workshop.run("sh curl/register.sh")
    program = PYTHON if language == "python" else JAVA
    names = ("first_ride", "refused", "meter", "correct")
    commands = [program.format(name if language == "python" else _class_name(name)) for name in names]
    (first,) = await workshop.ask(commands[0])
    assert_shown("first_ride.http", first)
    said = await workshop.run(commands[1])
    for name, answer in zip(("refused.en", "mended", "too_short.en"), answers_in(said), strict=True):
        assert_shown(f"{name}.http", answer)
    for place in ("/data/started_at", "/data/inputs/distance_km"):
        assert said.count(place) == 2  # in the answer, and read out of it
    assert "malformed-event, not final" in said
    assert "condition-not-met, final" in said
    for command, shown in ((commands[2], ("meter", "settle")), (commands[3], ("correct", "retract"))):
        for name, answer in zip(shown, await workshop.ask(command), strict=True):
            assert_shown(f"{name}.http", answer)


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_file_of_rides_after_lost_answers_and_a_crash(
    language: str, platform: Platform, tmp_path: Path
) -> None:
    workshop = platform.workshop(tmp_path / "rides", f"urn:example:file-{language}")
    await workshop.run("sh curl/register.sh")
    command = f"{SENDERS[language]} rides.csv outcomes.csv"
    said = await workshop.run(f"{command} --dry-run")
    assert "credited" in said
    assert len(workshop.lines("outcomes.csv")) == 1
    await _interrupted(workshop, platform, f"{command} --batch 2")
    outcomes = workshop.directory / "outcomes.csv"
    with outcomes.open("a", encoding="utf-8") as file:
        file.write("order-1105,shared-eb")  # a line that the crash cut off
    await workshop.run(command)
    rows = _rows(outcomes)
    assert [row["id"] for row in rows] == [f"order-{number}" for number in (1101, 1102, 1103, 1104, 1105, 1106, 1108)]
    assert [row["outcome"] for row in rows] == ["credited"] * 2 + ["refused"] + ["credited"] * 2 + [
        "unkept",
        "credited",
    ]
    assert [row["reason"] for row in rows if row["reason"]] == ["condition-not-met", "subject-not-linked"]
    await platform.api.person(workshop.environment["SOURCE"], subject="rider-10")
    await workshop.run(command)  # of those that are settled nothing is sent again
    later = _rows(outcomes)[len(rows) :]
    assert [(row["id"], row["outcome"]) for row in later] == [("order-1106", "credited")]
    await _closed(workshop, platform, language, outcomes)


async def _interrupted(workshop: Workshop, platform: Platform, command: str) -> None:
    """Three batches on a line that loses the second answer; while the third answer is on its way the program is
    killed."""
    line = BadLine(platform.url, loses=frozenset({2}), hangs_at=4)
    async with bad_line(line) as address:
        process = await workshop.start(command, PLATFORM=address)
        ends = [asyncio.create_task(waiting) for waiting in (line.hanging.wait(), process.wait())]
        await asyncio.wait(ends, timeout=WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        await kill(process)
        await asyncio.wait(ends[1:])
        ends[0].cancel()
    assert line.hanging.is_set(), "the program ended before its third batch was answered"
    assert len(workshop.lines("outcomes.csv")) == 1 + 4  # the heading, and two batches that were answered
    assert line.reports == 4


async def _closed(workshop: Workshop, platform: Platform, language: str, outcomes: Path) -> None:
    """The day is over, and one ride of it was sent by hand: both sides see it, and the second list tells it."""
    await platform.register_key(workshop)
    program = PYTHON.format("close_day") if language == "python" else JAVA.format("CloseDay")
    (first,) = await workshop.ask("sh curl/first_ride.sh")
    (day,) = _days(outcomes)
    (said,) = await workshop.ask(f"{program} {day} outcomes.csv", PLATFORM=platform.url_later)
    assert_shown("close_day.http", said)
    with outcomes.open("a", encoding="utf-8") as file:
        file.write(f"{first.body['id']},shared-ebike,credited,{first.body['reduction_mg']},{first.body['points']}")
        file.write(f",{day}T12:00:00+08:00,\n")
    (corrected,) = await workshop.ask(f"{program} {day} outcomes.csv 2", PLATFORM=platform.url_later)
    assert corrected.status == 201
    assert (corrected.body["manifest"]["sequence"], corrected.body["manifest"]["agrees"]) == (2, True)


async def test_a_feed_reads_the_file_that_a_provider_has(platform: Platform, tmp_path: Path) -> None:
    source = "urn:example:feed"
    workshop = platform.workshop(tmp_path / "rides", source)
    await workshop.run("sh curl/register.sh")
    feed = workshop.directory / "my-rides.yaml"
    feed.write_text(feed.read_text("utf-8").replace("urn:example:rides", source), "utf-8")
    await workshop.run("sh -e curl/import.sh")
    outcomes = _rows(workshop.directory / "outcomes-may.csv")
    assert [(row["id"], row["outcome"]) for row in outcomes] == [
        ("2001", "credited"),
        ("2002", "credited"),
        ("2003", "refused"),
        ("2004", "unkept"),
    ]
    assert outcomes[0]["reduction_mg"] == "114132"  # 3.26 km x 35.01 g/km = 114.1326 g
    refused = {row["event_id"]: row["reason"] for row in _rows(workshop.directory / "refused.csv")}
    assert refused == {
        "2003": "condition-not-met/min-duration",
        "2004": "subject-not-linked",
        "2005": "malformed-row",
    }


def _days(outcomes: Path) -> list[str]:
    """The days of Shanghai on which these arrived."""
    moments = (datetime.fromisoformat(row["at"]) for row in _rows(outcomes))
    return sorted({moment.astimezone(SHANGHAI).date().isoformat() for moment in moments})


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))
