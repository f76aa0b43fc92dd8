"""Waivers: given once, by the owner or an operator, for good, and said in both languages."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from service.activities.claims import register_tag
from service.database import open_pool
from service.eligibility import read_waivers
from tests.conftest import Database
from tests.running import Api, problem_of

pytestmark = pytest.mark.anyio

GIVEN: dict[str, Any] = {
    "installation": "PV-310104-0007",
    "text_version": "trading-1",
    "given_at": "2026-05-01T09:00:00+08:00",
}


async def give(api: Api, participant_id: str, headers: dict[str, str], **changes: Any) -> httpx.Response:
    path = f"/v1/participants/{participant_id}/waivers"
    return await api.client.post(path, headers=headers, json=GIVEN | changes)


async def listed(api: Api, participant_id: str) -> list[dict[str, Any]]:
    answer = await api.read(participant_id, "waivers")
    assert answer.status_code == 200, answer.text
    waivers: list[dict[str, Any]] = answer.json()["waivers"]
    return waivers


async def test_a_waiver_is_given_once_and_listed_with_what_it_gives_up(api: Api) -> None:
    person = await api.person()
    own, operator = api.bearer("participant", person.participant_id), api.bearer("operator")
    assert await listed(api, person.participant_id) == []
    first = await give(api, person.participant_id, own)
    again = await give(api, person.participant_id, operator, given_at="2026-06-01T09:00:00+08:00")
    other = await give(api, person.participant_id, operator, installation="PV-310104-0008")
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert again.json() == first.json()  # the first time counts
    assert await listed(api, person.participant_id) == [first.json(), other.json()]
    text = first.json()["text"]
    assert "不可撤回" in text["zh"]
    assert "irrevocably" in text["en"]
    tag = register_tag(api.platform.keyring, "installation", GIVEN["installation"])
    assert first.json()["installation_tag"] == f"1:{tag.hex()}"
    assert GIVEN["installation"] not in str(await listed(api, person.participant_id))


async def test_only_the_owner_or_an_operator_gives_up_what_is_theirs(api: Api) -> None:
    person, other = await api.person(), await api.person()
    stranger = api.bearer("participant", other.participant_id)
    problem_of(await give(api, person.participant_id, stranger), "forbidden")
    problem_of(await give(api, person.participant_id, api.bearer("provider", source=person.source)), "forbidden")
    problem_of(await give(api, person.participant_id, api.bearer("auditor")), "forbidden")
    problem_of(await give(api, str(uuid4()), api.bearer("operator")), "participant-not-found")
    path = f"/v1/participants/{uuid4()}/waivers"
    problem_of(await api.client.get(path, headers=api.bearer("auditor")), "participant-not-found")
    assert await listed(api, person.participant_id) == []


@pytest.mark.parametrize(
    "change", [{"installation": ""}, {"text_version": "trading-2"}, {"given_at": "2026-05-01"}, {"price": "1"}], ids=str
)
async def test_a_waiver_must_be_whole(api: Api, change: dict[str, Any]) -> None:
    person = await api.person()
    answer = await give(api, person.participant_id, api.bearer("operator"), **change)
    assert problem_of(answer, "malformed-request")["errors"]


async def test_a_waiver_given_many_times_at_once_is_one(api: Api) -> None:
    person, operator = await api.person(), api.bearer("operator")
    answers = await asyncio.gather(*(give(api, person.participant_id, operator) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len(await listed(api, person.participant_id)) == 1


async def test_there_is_no_way_back(api: Api, database: Database) -> None:
    person = await api.person()
    await give(api, person.participant_id, api.bearer("operator"))
    owner = await asyncpg.connect(database.owner)
    for change in ("DELETE FROM service.waiver", "UPDATE service.waiver SET text_version = 'other'"):
        with pytest.raises(asyncpg.RaiseError):
            await owner.execute(change)
    await owner.close()


async def test_postings_look_waivers_up_by_participant_and_installation(api: Api, database: Database) -> None:
    one, other = await api.person(), await api.person()
    await give(api, one.participant_id, api.bearer("operator"))
    tags = [register_tag(api.platform.keyring, "installation", name) for name in (GIVEN["installation"], "PV-2")]
    pairs = [(UUID(person.participant_id), tag) for person in (one, other) for tag in tags]
    pool = await open_pool(database.app, name="tests", size=1)
    async with pool.acquire() as connection:
        assert await read_waivers(connection, pairs) == {pairs[0]}
        assert await read_waivers(connection, []) == set()
    await pool.close()
