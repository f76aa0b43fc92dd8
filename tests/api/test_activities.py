"""Reporting activities: outcomes item by item, repeats, conflicts, wrong input."""

import pytest

from tests.running import Api, ride

pytestmark = pytest.mark.anyio


async def test_a_ride_is_credited_once_and_its_repeat_gets_the_first_answer(api: Api) -> None:
    person = await api.person()
    event = ride(person.source, person.subject)
    first = await api.report_one(person.source, event)
    again = await api.report_one(person.source, event)
    assert first.status_code == 201
    assert first.json()["reduction_mg"] == 82273  # 35.01 g/km x 2.35 km = 82.2735 g, rounded down once
    assert first.json()["points"] == 82
    assert again.status_code == 200
    assert again.json() == {"id": event["id"], "outcome": "duplicate", "first": first.json()}
    balance = await api.balance(person.participant_id)
    assert balance["points"]["available"] == 82
    assert balance["reduction"]["credited_mg"] == 82273
