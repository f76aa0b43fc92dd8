"""Register a feed's provider and enrol the people of its file, as the operator does; for development."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import httpx
import orjson

from api.provider.sending import Patience, headers_of, send, stop_unless_done
from service.feeds import Feed

MOST_PEOPLE = 1000  # in one call: the API's limit


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person agreed to, and when; a demonstration says so in the version of the text."""

    given_at: datetime
    purpose: str = "carbon-credit"
    text_version: str = "demonstration-1"


Enrol = Callable[[Collection[str]], Awaitable[object]]


async def register_source(
    client: httpx.AsyncClient, operator_token: str, feed: Feed, *, patience: Patience | None = None
) -> None:
    """Register the feed's data provider, as the operator does; again changes nothing. Raises ImportStopped."""
    source = feed.source
    body = {
        "uri": source.uri,
        "title_zh": source.title.zh,
        "title_en": source.title.en,
        "grade": source.grade,
        "scenarios": [feed.scenario],
        "valid_from": source.valid_from,
        "valid_to": source.valid_to,
    }
    headers = headers_of(operator_token, "application/json")
    sent = await send(client, "PUT", "/v1/sources", orjson.dumps(body), headers, patience or Patience())
    stop_unless_done(sent.response)


async def enrol_riders(
    client: httpx.AsyncClient,
    operator_token: str,
    feed: Feed,
    subjects: Collection[str],
    consent: Consent,
    *,
    patience: Patience | None = None,
) -> int:
    """Enrol each person as a citizen with a link and consent to the feed's source; returns how many were new.

    A person who cannot be enrolled is passed over: the refusals of their events say why. Raises ImportStopped.
    """
    new, remaining = 0, iter(subjects)
    headers = headers_of(operator_token, "application/json")
    given = {
        "purpose": consent.purpose,
        "text_version": consent.text_version,
        "given_at": consent.given_at.astimezone(UTC).isoformat(),
    }
    while chunk := list(islice(remaining, MOST_PEOPLE)):
        people = [
            {"kind": "citizen", "links": [{"source": feed.source.uri, "subject": subject, "consent": given}]}
            for subject in chunk
        ]
        body = orjson.dumps({"participants": people})
        sent = await send(client, "POST", "/v1/participants/batch", body, headers, patience or Patience(), _usable)
        stop_unless_done(sent.response)
        new += orjson.loads(sent.response.content)["counts"]["enrolled"]
    return new


def _usable(response: httpx.Response) -> bool:
    """Whether it is an answer to an enrolment, or one that says why there is none."""
    if not response.is_success:
        return True
    try:
        return isinstance(orjson.loads(response.content)["counts"]["enrolled"], int)
    except (ValueError, KeyError, TypeError):
        return False
