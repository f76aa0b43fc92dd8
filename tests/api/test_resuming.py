"""An import that is interrupted and goes on: whatever happened, it comes to what an uninterrupted one comes to."""

import asyncio
from collections import Counter, deque
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.provider import Bearer, ImportReport, ImportStopped, Patience, Recorder, post_rows
from api.provider.resuming import State, describe, read_state, state_path
from service.feeds import BadRow, Row
from tests.api.stand_in import FEED, SHORT, Platform, bad, post, ride, serving, with_platform

_COUNTED = ("credited", "posted", "refused", "reduction_mg", "points")
OF: dict[str, Any] = {"files": [], "feed": {"id": "f", "sha256": "0"}, "platform": None, "outcomes": None}


def rows_of(kinds: list[str]) -> list[Row | BadRow]:
    """Rows with ids of their own, but for `same`, which stand for one event."""
    return [
        bad(n + 1)
        if kind == "bad"
        else ride(n + 1, km="60" if kind == "far" else "2", event_id="same" if kind == "same" else None)
        for n, kind in enumerate(kinds)
    ]


def without_time(report: ImportReport) -> dict[str, Any]:
    return report.in_full() | {"seconds": 0}


def credited_by(platform: Platform) -> set[str]:
    """The events that the platform has credited."""
    return {event_id for event_id, answer in platform.first.items() if answer["outcome"] == "credited"}


def attempt(platform: Platform, rows: list[Row | BadRow], folder: Path, name: str, **options: Any) -> ImportReport:
    """One run of the command, in a process that knows nothing but the state of the run before."""
    refused, outcomes = folder / f"{name}.csv", folder / f"{name}-outcomes.csv"
    state = read_state(state_path(refused), OF) or State(state_path(refused), OF)
    recorder = Recorder(refused, outcomes, scenario="s", state=state)
    return post(platform, rows, recorder=recorder, state=state, **options)


def lines_of(path: Path, columns: int) -> list[list[str]]:
    """The first cells of a CSV's lines; the times of answers differ from run to run."""
    return [line.split(",")[:columns] for line in path.read_text("utf-8-sig").splitlines()]


@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["good", "good", "good", "same", "far", "bad"]), max_size=40),
    faults=st.lists(st.sampled_from(["", "", "after-drop", "after-502", "503", "401", "after-401"]), max_size=12),
    concurrency=st.integers(1, 3),
)
def test_however_often_it_is_interrupted_it_comes_to_the_same(
    kinds: list[str], faults: list[str], concurrency: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, rows = tmp_path_factory.mktemp("resumed"), rows_of(kinds)
    undisturbed, platform = Platform(), Platform(deque(faults))
    whole = attempt(undisturbed, rows, folder, "whole")
    for _ in range(len(faults) + 1):
        try:
            report = attempt(platform, rows, folder, "cut", concurrency=concurrency)
            break
        except ImportStopped:
            continue
    told, wanted = without_time(report), without_time(whole)
    assert credited_by(platform) == credited_by(undisturbed)
    if "same" in kinds and concurrency > 1:
        # Of two equal events in batches that cross either may be the one that is credited, and the other the repeat.
        assert {name: told[name] for name in _COUNTED} == {name: wanted[name] for name in _COUNTED}
    else:
        assert told == wanted
        assert lines_of(folder / "cut.csv", 5) == lines_of(folder / "whole.csv", 5)
        assert lines_of(folder / "cut-outcomes.csv", 5) == lines_of(folder / "whole-outcomes.csv", 5)
    state = read_state(state_path(folder / "cut.csv"), OF)
    assert state is not None
    assert (state.finished, state.done, state.rows) == (True, len(rows), len(rows))


def test_what_is_recorded_is_not_sent_again(tmp_path: Path) -> None:
    rows = rows_of(["good"] * 40)
    platform = Platform(deque(["", "", "401"]))
    with pytest.raises(ImportStopped):
        attempt(platform, rows, tmp_path, "cut", concurrency=1)
    state = read_state(state_path(tmp_path / "cut.csv"), OF)
    assert state is not None
    assert (state.done, state.rows, state.finished) == (8, 8, False)
    platform.requests.clear()
    assert attempt(platform, rows, tmp_path, "cut", concurrency=1).credited == 40
    sent = Counter(event["id"] for *_, body in platform.requests for event in body)
    assert sent == Counter(f"event-{n}" for n in range(9, 41))


def test_a_run_that_ends_without_a_word_can_be_resumed(tmp_path: Path) -> None:
    """Cancelled while answers are on their way, as by a kill: no handler of ours has its say."""
    rows, platform = rows_of(["good", "far", "good", "bad"] * 20), Platform(pause_s=0.01)

    async def cut() -> None:
        state = State(state_path(tmp_path / "cut.csv"), OF)
        async with serving(platform) as client:
            with Recorder(tmp_path / "cut.csv", state=state) as recorder:
                await post_rows(
                    client, "t", FEED, rows, recorder, batch_size=4, concurrency=3, state=state, patience=SHORT
                )

    async def killed() -> None:
        running = asyncio.create_task(cut())
        while len(platform.first) < 30:  # noqa: ASYNC110 - what it waits for is the other side's
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(killed())
    before = len(platform.first)
    assert 30 <= before < 60
    again = attempt_plain(platform, rows, tmp_path)
    assert (again.credited, again.reduction_mg) == (40, 40 * 200)
    assert dict(again.refused) == {"condition-not-met/max-distance": 20, "malformed-row": 20}


def attempt_plain(platform: Platform, rows: list[Row | BadRow], folder: Path) -> ImportReport:
    state = read_state(state_path(folder / "cut.csv"), OF)
    assert state is not None
    return post(platform, rows, recorder=Recorder(folder / "cut.csv", state=state), state=state)


def test_a_slow_batch_does_not_let_answers_pile_up(tmp_path: Path) -> None:
    platform = Platform(deque(["after-slow"]))
    recorder, most = Recorder(), 0

    def look(_: ImportReport) -> None:
        nonlocal most
        most = max(most, recorder.behind)

    rows = rows_of(["good"] * 400)
    report = post(platform, rows, recorder=recorder, concurrency=3, on_progress=look)
    assert report.credited == 400
    assert 1 <= most <= 11  # eight, and what two workers had under way


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("files", [{"name": "may.csv", "bytes": 7, "sha256": "b" * 64}]),
        ("feed", {"id": "f", "sha256": "1"}),
        ("platform", "https://other.example"),
        ("outcomes", "/elsewhere.csv"),
    ],
)
def test_the_state_of_something_else_is_refused(tmp_path: Path, part: str, value: Any) -> None:
    state = State(tmp_path / "state", OF | {"files": [{"name": "april.csv", "bytes": 7, "sha256": "a" * 64}]})
    state.save()
    same = state.of | {"files": [{"name": "moved.csv", "bytes": 7, "sha256": "a" * 64}]}
    assert read_state(state.path, same) is not None
    with pytest.raises(ImportStopped, match="the state of another import") as stop:
        read_state(state.path, state.of | {part: value})
    assert "leave --resume out" in stop.value.text.en
    assert "去掉 --resume" in stop.value.text.zh


@pytest.mark.parametrize("content", [b"", b"{}", b'{"schema": 2}', b"PK\x03\x04", b"[]"])
def test_what_is_no_state_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ImportStopped, match="it cannot be read"):
        read_state(tmp_path / "state", OF)
    assert read_state(tmp_path / "nothing", OF) is None


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    one, other = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_bytes(b"x" * 100)
    other.write_bytes(b"x" * 100)
    first, second = (describe([path], FEED, None, None) for path in (one, other))
    assert [first["files"][0][name] == second["files"][0][name] for name in ("name", "bytes", "sha256")] == [
        False, True, True,
    ]  # fmt: skip
    assert first["feed"] == second["feed"]
    changed = FEED.model_copy(update={"scenario": "shared-ebike"})
    assert describe([one], changed, None, None)["feed"] != first["feed"]


def test_a_refused_file_that_was_cut_is_not_continued(tmp_path: Path) -> None:
    rows = rows_of(["far"] * 20)
    with pytest.raises(ImportStopped):
        attempt(Platform(deque(["", "", "401"])), rows, tmp_path, "cut", concurrency=1)
    (tmp_path / "cut.csv").write_text("", "utf-8")
    with pytest.raises(ImportStopped, match="it is shorter"):
        attempt(Platform(), rows, tmp_path, "cut")


def test_a_full_disk_stops_the_import_with_a_sentence() -> None:
    platform = Platform()
    with pytest.raises(ImportStopped, match=r"(?s)/dev/full: it cannot be written \(No space left.*--resume") as stop:
        post(platform, rows_of(["far"] * 40), recorder=Recorder(Path("/dev/full")), concurrency=2)
    assert stop.value.report is not None
    assert len(platform.requests) <= 3


def test_a_state_that_cannot_be_written_stops_the_import(tmp_path: Path) -> None:
    (tmp_path / "no room").mkdir()
    state = State(tmp_path / "no room" / "state", OF)
    state.save()
    state.path.unlink()
    (tmp_path / "no room" / "state.new").mkdir()
    with pytest.raises(ImportStopped, match="it cannot be written"):
        post(Platform(), rows_of(["good"]), recorder=Recorder(state=state), state=state)


# tokens


def test_a_token_that_ends_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    platform = Platform(deque(["", "", "ended"]), tokens=deque(["one", "two"]))

    def renew() -> str:
        file.write_text("two")  # as whoever renews it does
        return file.read_text()

    report = post(platform, rows_of(["good"] * 40), token=Bearer("one", renew), concurrency=2)
    assert (report.credited, report.duplicates) == (40, 0)


def test_an_import_waits_for_a_token_and_says_so() -> None:
    platform, told, held = Platform(deque(["", "ended"]), tokens=deque(["one", "two"])), 0, "one"

    def waits() -> None:
        nonlocal told, held
        told += 1
        held = "two"

    report = post(platform, rows_of(["good"] * 40), token=Bearer("one", lambda: held, waits), concurrency=3)
    assert (report.credited, told) == (40, 1)


def test_a_token_that_was_never_taken_is_not_waited_for() -> None:
    platform = Platform(tokens=deque(["right"]))

    async def use(client: httpx.AsyncClient) -> None:
        await post_rows(client, Bearer("wrong", lambda: "wrong"), FEED, rows_of(["good"]), Recorder())

    with pytest.raises(ImportStopped, match="Get a new token"):
        with_platform(platform, use)
    assert len(platform.requests) == 1


def test_patience_for_a_token_ends() -> None:
    platform = Platform(deque(["", "ended"]), tokens=deque(["one", "two"]))
    patience = Patience(first_s=0.001, longest_s=0.01, total_s=0.2, timeout_s=1)
    with pytest.raises(ImportStopped, match="Get a new token"):
        post(platform, rows_of(["good"] * 40), token=Bearer("one", lambda: ""), patience=patience, concurrency=1)


def test_the_state_is_whole_at_every_moment(tmp_path: Path) -> None:
    refused = tmp_path / "cut.csv"
    seen = []

    def look(_: ImportReport) -> None:
        document = orjson.loads(state_path(refused).read_bytes())
        seen.append((document["done"], document["refused_bytes"]))

    state = State(state_path(refused), OF)
    rows = rows_of(["far", "good"] * 20)
    recorder = Recorder(refused, state=state)
    post(Platform(), rows, recorder=recorder, state=state, on_progress=look, concurrency=1)
    assert [done for done, _ in seen] == list(range(4, 41, 4))
    content = refused.read_bytes()
    for done, length in seen:
        assert content[:length].count(b",condition-not-met/") == done // 2
