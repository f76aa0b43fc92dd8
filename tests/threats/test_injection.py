"""Text stays text: whatever somebody writes is neither a statement, a line of a log, a header nor a template."""

from collections.abc import AsyncIterator

import orjson
import pytest

from tests.conftest import Database
from tests.running import BATCH, Api, ride
from tests.service.signals.riding import Looker, looking

pytestmark = pytest.mark.anyio

HOSTILE = (
    "'; DROP TABLE service.activity; --",
    "$1 $$ $body$ \\'; COPY (SELECT 1) TO PROGRAM 'id'",
    "{values.__class__} {0} {} %s %(name)s ${jndi:ldap://x}",
    "<script>alert(1)</script> =HYPERLINK(1) @SUM(1)",
    "../../etc/passwd %2e%2e%2f",
    "\u202etxt.exe \u2028 \ufeff",
    '{"$ne": null} || true',
    "*) (uid=*",
)


@pytest.fixture
async def looker(api: Api, database: Database) -> AsyncIterator[Looker]:
    async with looking(api, database) as looker:
        yield looker


@pytest.mark.parametrize("text", HOSTILE)
async def test_names_that_are_statements_are_names(api: Api, text: str) -> None:
    subject = f"{text} {HOSTILE.index(text)}"
    person = await api.person(subject=subject)
    headers = api.bearer("provider", source=person.source) | {"Content-Type": BATCH}
    content = orjson.dumps([ride(person.source, subject, f"{text} event", vehicle=text)])
    first, again = [
        (await api.client.post("/v1/activities", headers=headers, content=content)).json()["outcomes"][0]
        for _ in range(2)
    ]
    if first["outcome"] == "credited":
        assert (again["outcome"], again["first"]["transfer_id"]) == ("duplicate", first["transfer_id"])
    else:
        assert first["problem"]["type"].endswith("malformed-event")


@pytest.mark.parametrize("text", HOSTILE)
async def test_words_of_an_answer_come_back_as_they_were_written(looker: Looker, text: str) -> None:
    person = await looker.suspicious()
    (review,) = await looker.reviews(person)
    headers = looker.api.bearer("participant", person.participant_id)
    path = f"/v1/me/reviews/{review['review_id']}/answer"
    answer = await looker.api.client.post(path, headers=headers, json={"words": text})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["steps"][-1]["words"] == text


@pytest.mark.parametrize("text", HOSTILE)
async def test_cursors_ids_and_queries_are_judged_before_they_are_used(api: Api, text: str) -> None:
    operator = api.bearer("operator")
    for path, params in (
        ("/v1/reviews", {"after": text}),
        ("/v1/reviews", {"open": text}),
        (f"/v1/reviews/{text}", {}),
        ("/v1/disputes", {"after": text}),
        ("/v1/events", {"after": text}),
        (f"/v1/methodologies/{text}", {}),
    ):
        answer = await api.client.get(path, params=params, headers=operator)
        assert 400 <= answer.status_code < 500, (path, params, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "\n" not in "".join(f"{name}{value}" for name, value in answer.headers.items())
