"""`tanpuhui feed`: every shipped feed can be listed, read and checked; what does not fit ends with status 1."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.cli import app
from service.feeds import list_feeds
from tests.service.feeds.making import FEEDS, written

HEADING = "route_id,user_id,bike_id,start_time_utc,end_time_utc,track_km"
RIDE = "r{0},u1,7,2018-07-04T14:00:0{0}Z,2018-07-04T14:20:00Z,{1}"


@pytest.fixture
def feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Feed":
    monkeypatch.setenv("TANPUHUI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    return Feed()


class Feed:
    """The command."""

    def __call__(self, *words: str | Path) -> Result:
        return CliRunner().invoke(app, ["feed", *map(str, words)])

    def json(self, *words: str | Path) -> dict[str, object]:
        found: dict[str, object] = json.loads(self(*words, "--json").stdout.splitlines()[-1])
        return found


def test_every_shipped_feed_is_listed_and_has_a_page(feed: Feed) -> None:
    listed = feed.json("list")["feeds"]
    assert isinstance(listed, list)
    assert [one["id"] for one in listed] == [one.id for one in list_feeds()]
    for one in list_feeds():
        shown = feed("show", one.id)
        assert shown.exit_code == 0
        for text in (one.source.uri, one.scenario, one.title.zh, one.notes.en, one.notes.zh, *one.inputs):
            assert text in shown.stdout
        assert one.id in feed("list").stdout


def test_a_feed_with_its_data(feed: Feed, tmp_path: Path) -> None:
    data = written(tmp_path / "rides.csv", HEADING, RIDE.format(1, "2.5"), RIDE.format(2, "far"), RIDE.format(3, "1"))
    checked = feed("lint", "valleybike", "--data", data)
    assert checked.exit_code == 0, checked.output
    assert "rides.csv:3" in checked.stdout
    assert "came 'far'" in checked.stdout
    result = feed.json("lint", "valleybike", "--data", data)
    assert result["findings"] == []
    assert result["methodologies"] == [{"id": "demo-docked-ebike", "version": 1}]
    found = result["data"]
    assert isinstance(found, dict)
    assert (found["activities"], found["rows"], found["refused"]) == (2, 2, {"malformed-row": 1})
    assert [event["id"] for event in found["first"]] == ["r1", "r3"]
    assert [(one["row"], one["line"]) for one in found["first_refused"]] == [(2, 3)]
    assert "the first 1 activities" in feed("lint", "valleybike", "--data", data, "--rows", "1").stdout


def test_what_does_not_fit_ends_with_status_1(feed: Feed, tmp_path: Path) -> None:
    text = (FEEDS / "valleybike.yaml").read_text(encoding="utf-8")
    for old, new, said in (
        ("scenario: docked-ebike", "scenario: rocket", "no methodology covers the scenario rocket"),
        ("grade: A", "grade: Z", "line 12: source.grade: expected"),
    ):
        assert old in text
        path = written(tmp_path / "my.yaml", text.replace(old, new))
        checked = feed("lint", path)
        assert checked.exit_code == 1
        assert said in checked.output
    absent = feed("lint", "valleybike", "--data", tmp_path / "absent.csv")
    assert absent.exit_code == 1
    assert "reading it failed" in absent.output
    assert feed("show", "no-such-feed").exit_code == 1
