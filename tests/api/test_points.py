"""Balance, statement, one credit explained; whose they are; reversal, debt and lapse."""

import asyncio
import base64
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.conftest import Database
from tests.running import Api, Person, problem_of, ride, running_api

pytestmark = pytest.mark.anyio

SHANGHAI = ZoneInfo("Asia/Shanghai")


def month_end(day: date, months: int = 0) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, monthrange(year, month + 1)[1])


def offset_to(day: date, hour: int = 12) -> timedelta:
    """The clock's offset that makes it this hour of this day in Shanghai."""
    return datetime(day.year, day.month, day.day, hour, tzinfo=SHANGHAI) - datetime.now(UTC)


async def earn(api: Api, person: Person, km: str = "1") -> str:
    """Ride some whole kilometres; the transfer's id."""
    answer = await api.report_one(person.source, ride(person.source, person.subject, km=km))
    assert answer.status_code == 201, answer.text
    transfer_id: str = answer.json()["transfer_id"]
    return transfer_id


async def points(api: Api, person: Person) -> dict[str, Any]:
    found: dict[str, Any] = (await api.balance(person.participant_id))["points"]
    return found


async def test_a_balance_names_points_by_state_and_by_the_day_they_run_out(api: Api) -> None:
    person = await api.person()
    await earn(api, person, "2")
    balance = await api.balance(person.participant_id)
    expiry = month_end(datetime.now(SHANGHAI).date(), 24)
    assert balance["points"] == {
        "available": 70,
        "held": 0,
        "pending": 0,
        "debt": 0,
        "under_review": 0,
        "expiring": [{"on": expiry.isoformat(), "points": 70}],
    }
    assert balance["reduction"] == {"credited_mg": 70020, "pending_mg": 0, "debt_mg": 0}
    assert balance["participant_id"] == person.participant_id


async def test_nobody_reads_what_is_anothers(api: Api) -> None:
    one, other = await api.person(), await api.person()
    transfer = await earn(api, one)
    for rest in ("balance", "statement", f"transfers/{transfer}"):
        path = f"/v1/participants/{one.participant_id}/{rest}"
        theirs = await api.client.get(path, headers=api.bearer("participant", other.participant_id))
        assert problem_of(theirs, "forbidden")["reason"] == "not-yours"
        provider = await api.client.get(path, headers=api.bearer("provider", source=one.source))
        assert problem_of(provider, "forbidden")["missing_scope"] == "balance:read"
        problem_of(await api.client.get(path), "unauthenticated")
        for role in ("operator", "auditor"):
            assert (await api.client.get(path, headers=api.bearer(role))).status_code == 200
    mine = f"/v1/participants/{other.participant_id}/transfers/{transfer}"
    problem_of(
        await api.client.get(mine, headers=api.bearer("participant", other.participant_id)), "transfer-not-found"
    )


async def test_an_unknown_participant_has_nothing_to_read(api: Api) -> None:
    path = f"/v1/participants/{uuid4()}"
    for rest, slug in (("balance", "participant-not-found"), ("statement", "participant-not-found")):
        problem_of(await api.client.get(f"{path}/{rest}", headers=api.bearer("operator")), slug)
    problem_of(
        await api.client.get("/v1/participants/not-an-id/balance", headers=api.bearer("operator")), "malformed-request"
    )
    person = await api.person()
    assert await api.statement(person.participant_id) == []


async def test_a_statement_covers_every_transfer_once_while_new_ones_arrive(api: Api) -> None:
    person = await api.person()
    await api.report(person.source, [ride(person.source, person.subject) for _ in range(23)])
    seen: list[int] = []
    after = ""
    while True:
        page = (await api.read(person.participant_id, f"statement?limit=5{after}")).json()
        seen += [transfer["counter"] for transfer in page["transfers"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
        await earn(api, person)
    assert seen == list(range(23, 0, -1))
    whole = await api.statement(person.participant_id, limit=200)
    assert [transfer["counter"] for transfer in whole] == list(range(len(whole), 0, -1))
    assert len({transfer["transfer_id"] for transfer in whole}) == len(whole)


async def test_a_cursor_is_one_lists_own_and_cannot_be_made(api: Api) -> None:
    one, other = await api.person(), await api.person()
    for person in (one, other):
        await api.report(person.source, [ride(person.source, person.subject) for _ in range(3)])
    cursor = (await api.read(one.participant_id, "statement?limit=1")).json()["next"]
    raw = base64.urlsafe_b64decode(cursor)
    forged = [
        base64.urlsafe_b64encode(raw[:7] + bytes([raw[7] ^ 1]) + raw[8:]).decode(),
        base64.urlsafe_b64encode(raw[:-1] + bytes([raw[-1] ^ 1])).decode(),
        base64.urlsafe_b64encode(raw[:8]).decode(),
        base64.urlsafe_b64encode(raw + b"\x00").decode(),
        "2",
        "",
        "é",
        "A" * 200,
    ]
    for text in forged:
        problem_of(await api.read(one.participant_id, f"statement?after={text}"), "invalid-cursor")
    problem_of(await api.read(other.participant_id, f"statement?after={cursor}"), "invalid-cursor")
    assert (await api.read(one.participant_id, f"statement?after={cursor}")).status_code == 200


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "1e1", ""])
async def test_a_page_has_one_to_two_hundred_transfers(api: Api, limit: str) -> None:
    person = await api.person()
    problem_of(await api.read(person.participant_id, f"statement?limit={limit}"), "malformed-request")


async def test_a_credit_is_explained_down_to_its_factor_in_both_languages(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject, basis={"distance_km": "track"}, vehicle="1381")
    transfer = (await api.report_one(person.source, event)).json()["transfer_id"]
    path = f"transfers/{transfer}"
    english = (await api.read(person.participant_id, path, **{"Accept-Language": "en"})).json()
    chinese = (await api.read(person.participant_id, path, **{"Accept-Language": "zh"})).json()
    (factor,) = english["arithmetic"]["factors"]
    assert (factor["value"], factor["unit"], factor["confidence"]) == ("35.01", "g/km", "single")
    assert "Hello" in factor["source"]["title"]
    assert english["arithmetic"]["reduction_mg"] == 82273
    assert "35.01" in " ".join(map(str, english["arithmetic"]["steps"]))
    assert english["arithmetic"]["inputs"][0]["basis"] == "track"
    assert chinese["arithmetic"]["inputs"][0]["basis"] == "轨迹"
    assert english["methodology"]["digest"] == chinese["methodology"]["digest"]
    assert (english["title"], chinese["title"]) == ("credit", "减排入账")
    assert english["source"] == {"uri": person.source, "title": "A test provider", "grade": "A"}
    assert chinese["activity"]["vehicle"] == "1381"
    assert chinese["reversed_by"] is None
    assert [line["amount"] for line in english["lines"]] == [82273, 82]


async def test_a_reversal_takes_a_credit_back_once(api: Api) -> None:
    person = await api.person()
    transfer = await earn(api, person, "2")
    first = await api.reverse(person.participant_id, transfer)
    assert first.status_code == 201
    assert (first.json()["kind"], first.json()["reverses"], first.json()["reason"]) == (
        "reversal",
        transfer,
        "posted_in_error",
    )
    again = await api.reverse(person.participant_id, transfer)
    assert (again.status_code, again.json()) == (200, first.json())
    refused = problem_of(await api.reverse(person.participant_id, transfer, "source_retracted"), "already-reversed")
    assert (refused["reversal"], refused["reason"]) == (first.json()["transfer_id"], "posted_in_error")
    assert (await points(api, person))["available"] == 0
    explained = (await api.read(person.participant_id, f"transfers/{transfer}")).json()
    assert explained["reversed_by"] == first.json()["transfer_id"]
    assert (await api.balance(person.participant_id))["reduction"]["credited_mg"] == 0


async def test_only_ones_own_credits_can_be_reversed(api: Api) -> None:
    one, other = await api.person(), await api.person()
    transfer = await earn(api, one)
    reversal = (await api.reverse(one.participant_id, transfer)).json()["transfer_id"]
    problem_of(await api.reverse(one.participant_id, reversal), "not-reversible")
    problem_of(await api.reverse(other.participant_id, transfer), "transfer-not-found")
    problem_of(await api.reverse(one.participant_id, str(uuid4())), "transfer-not-found")
    problem_of(await api.reverse(str(uuid4()), transfer), "participant-not-found")
    problem_of(await api.reverse(one.participant_id, transfer, "because"), "malformed-request")
    assert (await points(api, other))["debt"] == 0


async def test_reversals_of_one_credit_at_once_are_one(api: Api) -> None:
    person = await api.person()
    transfer = await earn(api, person)
    answers = await asyncio.gather(*(api.reverse(person.participant_id, transfer) for _ in range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len({answer.json()["transfer_id"] for answer in answers}) == 1
    assert (await api.balance(person.participant_id))["transfers"] == 2


async def test_a_reversal_draws_on_its_own_bucket_then_on_the_next_to_expire(
    fresh_database: Database, tmp_path: Path
) -> None:
    """Three buckets of one month each, and the credit of the middle one reversed."""
    days = [date(2027, 1, 15), date(2027, 2, 15), date(2027, 3, 15)]
    ends = [month_end(day, 24).isoformat() for day in days]
    transfers = []
    person: Person | None = None
    for day, km in zip(days, ("1", "3", "2"), strict=True):
        async with running_api(fresh_database.app, fresh_database.redis, tmp_path, clock_offset=offset_to(day)) as api:
            person = person or await api.person()
            transfers.append(await earn(api, person, km))
            expiring = (await points(api, person))["expiring"]
    assert expiring == [{"on": on, "points": amount} for on, amount in zip(ends, (35, 105, 70), strict=True)]
    assert person is not None
    async with running_api(fresh_database.app, fresh_database.redis, tmp_path, clock_offset=offset_to(days[2])) as api:
        own = (await api.reverse(person.participant_id, transfers[1])).json()["lines"]
        assert [(line["amount"], line.get("expires_on")) for line in own if line["asset"] == "points"] == [
            (105, ends[1])
        ]
        assert (await points(api, person))["expiring"] == [{"on": ends[0], "points": 35}, {"on": ends[2], "points": 70}]


async def test_points_lapse_at_the_month_end_of_shanghai(fresh_database: Database, tmp_path: Path) -> None:
    """Dead at once for readers; the next posting writes it down, and takes nothing else with it."""
    start = datetime.now(SHANGHAI).date()
    last_day = month_end(start, 24)
    settings = (fresh_database.app, fresh_database.redis, tmp_path)
    async with running_api(*settings) as api:
        person = await api.person()
        first = await earn(api, person, "2")
    async with running_api(*settings, clock_offset=offset_to(last_day, 23)) as api:  # 23:00 of the last day
        assert (await points(api, person))["available"] == 70
        await earn(api, person, "1")
        assert [bucket["points"] for bucket in (await points(api, person))["expiring"]] == [70, 35]
    async with running_api(*settings, clock_offset=offset_to(last_day + timedelta(days=1), 0)) as api:
        assert await points(api, person) == {
            "available": 35,
            "held": 0,
            "pending": 0,
            "debt": 0,
            "under_review": 0,
            "expiring": [{"on": month_end(last_day, 24).isoformat(), "points": 35}],
        }
        assert len(await api.statement(person.participant_id)) == 2  # nothing is posted yet
        await earn(api, person, "1")
        lapse, newest = (await api.statement(person.participant_id))[1::-1]
        assert (lapse["kind"], newest["kind"]) == ("lapse", "credit")
        assert [(line["from"], line["to"], line["amount"]) for line in lapse["lines"]] == [("available", "lapsed", 70)]
        assert lapse["effective_on"] == (last_day + timedelta(days=1)).isoformat()
        assert (await points(api, person))["available"] == 70
        problem_of(await api.reverse(person.participant_id, lapse["transfer_id"]), "not-reversible")
        back = (await api.reverse(person.participant_id, first)).json()  # its bucket is gone: the others give, in order
        taken = [(line["amount"], line["expires_on"]) for line in back["lines"] if line["asset"] == "points"]
        assert taken == [(35, month_end(last_day, months).isoformat()) for months in (24, 25)]


async def test_what_is_missing_becomes_debt_that_later_credits_repay(fresh_database: Database, tmp_path: Path) -> None:
    settings = (fresh_database.app, fresh_database.redis, tmp_path)
    async with running_api(*settings) as api:
        person = await api.person()
        credit = await earn(api, person, "2")
    last_day = month_end(datetime.now(SHANGHAI).date(), 24)
    async with running_api(*settings, clock_offset=offset_to(last_day + timedelta(days=1))) as api:
        reversal = (await api.reverse(person.participant_id, credit)).json()
        assert [(line["from"], line["amount"]) for line in reversal["lines"]] == [("available", 70020), ("debt", 70)]
        assert (await points(api, person))["debt"] == 70
        assert (await api.balance(person.participant_id))["reduction"]["debt_mg"] == 0
        part = await earn(api, person, "1")
        assert (await points(api, person))["debt"] == 35
        assert (await points(api, person))["available"] == 0
        await earn(api, person, "2")
        after = await points(api, person)
        assert (after["available"], after["debt"]) == (35, 0)
        await api.reverse(
            person.participant_id, part
        )  # its points went into the debt: they are taken from what is free
        assert (await points(api, person))["available"] == 0
        assert [transfer["kind"] for transfer in await api.statement(person.participant_id)] == [
            "reversal", "credit", "credit", "reversal", "lapse", "credit",
        ]  # fmt: skip
