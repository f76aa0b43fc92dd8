"""Whoever asks for what is not theirs learns nothing: it is answered as what is not there."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import Database
from tests.running import Api, problem_of, ride
from tests.service.signals.riding import Looker, looking

pytestmark = pytest.mark.anyio


@pytest.fixture
async def looker(api: Api, database: Database) -> AsyncIterator[Looker]:
    async with looking(api, database) as looker:
        yield looker


def said(answer: httpx.Response) -> dict[str, Any]:
    """What is told, without the number of the request."""
    document: dict[str, Any] = answer.json()
    return {name: value for name, value in document.items() if name not in ("instance", "request_id")}


async def test_another_participant_and_nobody_at_all_are_answered_alike(api: Api) -> None:
    person, somebody = await api.person(), await api.person()
    headers = api.bearer("participant", person.participant_id)
    for rest in ("balance", "statement", "redemptions", "wishes", "waivers"):
        there, nowhere = [
            await api.client.get(f"/v1/participants/{who}/{rest}", headers=headers)
            for who in (somebody.participant_id, str(uuid4()))
        ]
        assert (there.status_code, said(there)) == (nowhere.status_code, said(nowhere)), rest


async def test_another_review_and_none_are_answered_alike(looker: Looker) -> None:
    person, stranger = await looker.suspicious(), await looker.api.person()
    (review,) = await looker.reviews(person)
    headers = looker.api.bearer("participant", stranger.participant_id)
    answers = [
        await looker.api.client.post(f"/v1/me/reviews/{which}/answer", headers=headers, json={"words": "mine?"})
        for which in (review["review_id"], str(uuid4()))
    ]
    problem_of(answers[0], "review-not-found")
    assert said(answers[0]) == said(answers[1])


async def test_a_provider_cannot_ask_who_is_a_participant(api: Api) -> None:
    """A subject that somebody else knows, one that was unlinked and one that nobody knows are refused alike."""
    mine, other = await api.person(), await api.person()
    gone = await api.person(mine.source)
    await api.unlink(gone)
    events = [ride(mine.source, subject) for subject in (other.subject, gone.subject, "nobody at all")]
    outcomes = await api.report(mine.source, events)
    assert {outcome["problem"]["type"].rpartition(":")[2] for outcome in outcomes} == {"subject-not-linked"}
    assert len({outcome["problem"]["detail"] for outcome in outcomes}) == 1
