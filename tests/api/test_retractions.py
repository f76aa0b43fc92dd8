"""Retractions: a source takes back what was credited for its events, each once, in bulk, with a dry run."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import Api, Person, problem_of, ride, run_as_provider

pytestmark = pytest.mark.anyio


async def retract(api: Api, source: str, ids: list[str], **body: Any) -> httpx.Response:
    headers = api.bearer("provider", source=source) | {"Accept-Language": "en"}
    return await api.client.post("/v1/retractions", headers=headers, json={"ids": ids, **body})


async def rides(api: Api, person: Person, count: int = 3, km: str = "2") -> list[dict[str, Any]]:
    """Credited rides of one person."""
    events = [ride(person.source, person.subject, km=km) for _ in range(count)]
    outcomes = await api.report(person.source, events)
    assert {outcome["outcome"] for outcome in outcomes} == {"credited"}
    return outcomes


async def test_each_event_has_its_own_outcome_in_order(api: Api) -> None:
    person = await api.person()
    first, second = await rides(api, person, 2)
    refused = ride(person.source, person.subject, ended_at="2026-05-01T08:00:10+08:00")
    (answer,) = await api.report(person.source, [refused])
    assert answer["outcome"] == "refused"
    done = await retract(api, person.source, [first["id"], "never reported", refused["id"]])
    assert done.status_code == 200, done.text
    answer = done.json()
    assert answer["dry_run"] is False
    assert answer["counts"] == {"reversed": 1, "repeated": 0, "refused": 2}
    assert answer["totals"] == {"reduction_mg": 70020, "points": 70}
    reversed_, unknown, nothing = answer["outcomes"]
    assert (reversed_["id"], reversed_["outcome"]) == (first["id"], "reversed")
    assert (reversed_["reverses"], reversed_["reduction_mg"], reversed_["points"]) == (first["transfer_id"], 70020, 70)
    assert unknown["problem"]["type"] == "urn:tanpuhui:problem:activity-not-found"
    assert nothing["problem"]["type"] == "urn:tanpuhui:problem:nothing-to-retract"
    statement = await api.statement(person.participant_id)
    assert (statement[0]["transfer_id"], statement[0]["reason"]) == (reversed_["transfer_id"], "source_retracted")
    credit = next(each for each in statement if each["transfer_id"] == first["transfer_id"])
    assert credit["reversed_by"] == reversed_["transfer_id"]
    assert (await api.balance(person.participant_id))["points"]["available"] == 70
    again = next(each for each in statement if each["transfer_id"] == second["transfer_id"])
    assert again["reversed_by"] is None


async def test_again_it_is_the_first_answer(api: Api) -> None:
    person = await api.person()
    (event,) = await rides(api, person, 1)
    first = (await retract(api, person.source, [event["id"]])).json()
    again = (await retract(api, person.source, [event["id"]])).json()
    assert again["outcomes"] == [{"id": event["id"], "outcome": "repeated", "first": first["outcomes"][0]}]
    assert again["counts"] == {"reversed": 0, "repeated": 1, "refused": 0}
    assert again["totals"] == {"reduction_mg": 0, "points": 0}
    assert (await api.balance(person.participant_id))["transfers"] == 2


async def test_what_was_taken_back_for_another_reason_is_told(api: Api) -> None:
    person = await api.person()
    (event,) = await rides(api, person, 1)
    reversal = (await api.reverse(person.participant_id, event["transfer_id"])).json()["transfer_id"]
    (outcome,) = (await retract(api, person.source, [event["id"]])).json()["outcomes"]
    assert outcome["problem"]["type"] == "urn:tanpuhui:problem:already-reversed"
    assert (outcome["problem"]["reversal"], outcome["problem"]["reason"]) == (reversal, "posted_in_error")


@pytest.mark.parametrize("reason", ["corrected", "superseded", "not_eligible_at_settlement", "because"])
async def test_reasons_that_follow_from_what_happens_are_nobodys_to_give(api: Api, reason: str) -> None:
    person = await api.person()
    (event,) = await rides(api, person, 1)
    problem_of(await api.reverse(person.participant_id, event["transfer_id"], reason), "malformed-request")
    assert (await api.balance(person.participant_id))["transfers"] == 1


async def test_a_dry_run_says_what_would_be_and_does_nothing(api: Api) -> None:
    person = await api.person()
    events = await rides(api, person, 2)
    done = await retract(api, person.source, [events[0]["id"]])
    before = await api.statement(person.participant_id)
    dry = (await retract(api, person.source, [event["id"] for event in events] + ["nowhere"], dry_run=True)).json()
    assert dry["dry_run"] is True
    repeated, would, refused = dry["outcomes"]
    assert repeated["first"] == done.json()["outcomes"][0]
    assert would == {
        "id": events[1]["id"],
        "outcome": "reversed",
        "transfer_id": None,
        "reverses": events[1]["transfer_id"],
        "reduction_mg": 70020,
        "points": 70,
    }
    assert refused["outcome"] == "refused"
    assert dry["totals"] == {"reduction_mg": 70020, "points": 70}
    assert await api.statement(person.participant_id) == before


async def test_a_source_touches_its_own_events_alone(api: Api) -> None:
    person, other = await api.person(), await api.source()
    (event,) = await rides(api, person, 1)
    (outcome,) = (await retract(api, other, [event["id"]])).json()["outcomes"]
    assert outcome["problem"]["type"] == "urn:tanpuhui:problem:activity-not-found"
    assert person.participant_id not in str(outcome)
    for headers in (api.bearer("operator"), api.bearer("participant", person.participant_id)):
        answer = await api.client.post("/v1/retractions", headers=headers, json={"ids": [event["id"]]})
        assert problem_of(answer, "forbidden")["missing_scope"] == "activities:write"
    assert (await api.balance(person.participant_id))["points"]["available"] == 70


async def test_an_id_stands_once_in_a_body(api: Api) -> None:
    source = await api.source()
    answer = problem_of(await retract(api, source, ["a", "b", "a", "b", "c"]), "malformed-request")
    assert [(fault["pointer"], fault["code"]) for fault in answer["errors"]] == [
        ("/ids/2", "repeated"),
        ("/ids/3", "repeated"),
    ]
    assert answer["errors"][0]["detail"] == "repeats /ids/0"


@pytest.mark.parametrize(
    "body",
    [
        {"ids": []},
        {"ids": ["x" * 201]},
        {"ids": [""]},
        {"ids": [1]},
        {"ids": "a"},
        {},
        [],
        {"ids": ["a"], "dry_run": "true"},
        {"ids": ["a"], "reason": "because"},
        {"ids": [str(number) for number in range(1001)]},
    ],
)
async def test_a_body_that_does_not_fit_is_refused(api: Api, body: object) -> None:
    headers = api.bearer("provider", source=await api.source())
    problem_of(await api.client.post("/v1/retractions", headers=headers, json=body), "malformed-request")


async def test_hundreds_at_once_from_many_sides_are_each_taken_back_once(api: Api) -> None:
    source = await api.source()
    people = [await api.person(source) for _ in range(4)]
    events = [ride(person.source, person.subject) for person in people for _ in range(75)]
    credited = await api.report(source, events)
    ids = [outcome["id"] for outcome in credited]
    answers = await asyncio.gather(*(retract(api, source, ids if side % 2 else ids[::-1]) for side in range(6)))
    counted = [answer.json()["counts"] for answer in answers]
    assert sum(counts["reversed"] for counts in counted) == 300
    assert sum(counts["repeated"] for counts in counted) == 1_500
    assert sum(answer.json()["totals"]["points"] for answer in answers) == sum(each["points"] for each in credited)
    for person in people:
        balance = await api.balance(person.participant_id)
        assert (balance["points"]["available"], balance["reduction"]["credited_mg"]) == (0, 0)
        assert balance["points"]["debt"] == 0


async def test_a_file_is_retracted_by_the_command_and_again_nothing_more(api: Api, tmp_path: Path) -> None:
    person = await api.person()
    events = await rides(api, person, 3)
    ids = [event["id"] for event in events]
    file = tmp_path / "wrong.csv"
    lines = ["note,id", *(f"因故障,{event_id}" for event_id in ids), f"again,{ids[0]}", "?,nowhere", "no id,", "a,b,c"]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    expected = {
        "dry_run": True,
        "reversed": 3,
        "repeated": 0,
        "reduction_mg": 3 * 70020,
        "points": 210,
        "refused": {"malformed-row": 2, "activity-not-found": 1},
    }
    dry = await run_as_provider(api, person.source, tmp_path, "retract", str(file), "--dry-run")
    found = json.loads(dry.stdout.splitlines()[-1])
    assert (dry.exit_code, found | {"seconds": 0}) == (1, expected | {"seconds": 0})
    assert "A dry run: nothing was done" in dry.stderr
    assert "line 6: activity-not-found" in dry.stderr
    assert (await api.balance(person.participant_id))["points"]["available"] == 210
    done = await run_as_provider(api, person.source, tmp_path, "retract", str(file))
    assert json.loads(done.stdout.splitlines()[-1]) | {"seconds": 0} == expected | {"dry_run": False, "seconds": 0}
    assert (await api.balance(person.participant_id))["points"]["available"] == 0
    file.write_text("id\n" + "\n".join(ids), "utf-8")
    again = await run_as_provider(api, person.source, tmp_path, "retract", str(file))
    found = json.loads(again.stdout.splitlines()[-1])
    assert (again.exit_code, found["reversed"], found["repeated"], found["points"]) == (0, 0, 3, 0)


async def test_the_command_says_what_a_file_and_a_caller_lack(api: Api, tmp_path: Path) -> None:
    source = await api.source()
    file = tmp_path / "wrong.csv"
    file.write_text("event\nx\n", "utf-8")
    done = await run_as_provider(api, source, tmp_path, "retract", str(file))
    assert (done.exit_code, "expected the columns id, each once; came event" in done.stderr) == (1, True)
    file.write_text("id\nx\n", "utf-8")
    both = await run_as_provider(api, source, tmp_path, "retract", str(file), "--feed", "valleybike")
    assert (both.exit_code, "either --feed NAME or --source URI" in both.stderr) == (1, True)
    other = await run_as_provider(api, source, tmp_path, "settle", str(file))
    assert (other.exit_code, "subject, scenario, first_day, last_day" in other.stderr) == (1, True)
