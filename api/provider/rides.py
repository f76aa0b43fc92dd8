"""Register the provider, enrol its riders, post its rides."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import httpx
import orjson

from api.provider.closing import OutcomesFile
from api.provider.outcomes import (
    MALFORMED_ROW,
    Counted,
    Fate,
    ImportReport,
    ImportStopped,
    RefusedFile,
    add,
    answers,
    fates,
)
from api.provider.sending import Patience, headers_of, send, stop_unless_done
from service.feeds import BadRow, Feed, FeedError, Row, to_event

_BATCH_BYTES = 2_000_000  # under the API's limit of 2 MiB
_MOST_ITEMS = 1000  # the API's limit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person agreed to, and when; a demonstration says so in the version of the text."""

    given_at: datetime
    purpose: str = "carbon-credit"
    text_version: str = "demonstration-1"


Progress = Callable[[ImportReport], None]
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
    concurrency: int = 16,
    patience: Patience | None = None,
) -> int:
    """Enrol each rider as a citizen with a link and consent to the feed's source; returns how many were new.

    A rider who cannot be enrolled (400, 409, 422) is passed over: the refusals of their rides say why.
    Raises ImportStopped.
    """
    new = 0
    headers = headers_of(operator_token, "application/json")
    given = {
        "purpose": consent.purpose,
        "text_version": consent.text_version,
        "given_at": consent.given_at.astimezone(UTC).isoformat(),
    }

    async def enrol(subject: str) -> None:
        nonlocal new
        link = {"source": feed.source.uri, "subject": subject, "consent": given}
        body = orjson.dumps({"kind": "citizen", "links": [link]})
        sent = await send(client, "POST", "/v1/participants", body, headers, patience or Patience())
        if sent.response.status_code not in (400, 409, 422):
            stop_unless_done(sent.response)
        new += sent.response.status_code == 201

    await _together(iter(subjects), enrol, concurrency)
    return new


async def post_rides(
    client: httpx.AsyncClient,
    token: str,
    feed: Feed,
    rows: Iterable[Row | BadRow],
    *,
    enrol: Enrol | None = None,
    batch_size: int = 500,
    concurrency: int = 2,
    on_progress: Progress | None = None,
    refused_to: Path | None = None,
    outcomes_to: Path | None = None,
    language: Literal["zh", "en"] = "en",
    patience: Patience | None = None,
) -> ImportReport:
    """Post the rows as batches of CloudEvents, begun in order, `concurrency` at a time, in bounded memory.

    enrol        called before a batch is posted with those of its riders not seen before, who are then remembered
    on_progress  called after each batch, with a report that goes on changing
    refused_to   a CSV of the refused: row, line, event_id, reason, detail (in `language`)
    outcomes_to  a CSV of every answer, from which `tanpuhui manifest make` closes a day

    Raises ImportStopped, whose report counts the batches that were answered. Posting the rows again credits none twice.
    """
    if not 1 <= batch_size <= _MOST_ITEMS:
        raise ValueError(f"batch_size is 1 to {_MOST_ITEMS}, not {batch_size}")
    report, began = ImportReport(), time.monotonic()
    counted = Counted()
    known: set[str] = set()
    enrolling = asyncio.Lock()  # no batch may go out while another is still enrolling one of its riders
    headers = headers_of(token, "application/cloudevents-batch+json") | {"Accept-Language": language}

    with RefusedFile(refused_to, language) as refused, OutcomesFile(outcomes_to) as outcomes:

        async def post(batch: _Batch) -> None:
            if enrol is not None:
                async with enrolling:
                    new = {item.row.subject for item in batch.items} - known
                    if new:
                        await enrol(sorted(new))
                    known.update(new)
            fates = await _post_batch(client, batch, headers, patience or Patience(), counted)
            for bad in batch.bad:
                report.refused[MALFORMED_ROW] += 1
                refused.write(bad, MALFORMED_ROW, getattr(bad.detail, language))
            for item, fate in zip(batch.items, fates, strict=True):
                add(report, fate)
                outcomes.write(item.row.event_id, feed.scenario, fate, datetime.now(UTC))
                if fate.reason:
                    refused.write(item.row, fate.reason, fate.detail)
            report.seconds = time.monotonic() - began
            if on_progress is not None:
                on_progress(report)

        try:
            await _together(_batches(feed, rows, batch_size), post, concurrency)
        except (ImportStopped, FeedError) as stop:
            report.seconds = time.monotonic() - began
            raise ImportStopped(zh=stop.text.zh, en=stop.text.en, report=report) from stop
    report.seconds = time.monotonic() - began
    return report


async def _together(items: Iterator[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """Workers that share the items. When one fails, the others finish and so count what they hold, and stop."""
    failures: list[Exception] = []

    async def worker() -> None:
        try:
            for item in items:
                await work(item)
                if failures:
                    return
        except Exception as failure:
            failures.append(failure)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    if failures:
        raise failures[0]


class _Item(NamedTuple):
    row: Row
    body: bytes


@dataclass(slots=True)
class _Batch:
    """Rows that travel together; the bad ones are only counted."""

    items: list[_Item] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    size: int = 2  # bytes of the JSON array

    def __len__(self) -> int:
        return len(self.items) + len(self.bad)


def _batches(feed: Feed, rows: Iterable[Row | BadRow], batch_size: int) -> Iterator[_Batch]:
    batch = _Batch()
    for row in rows:
        if isinstance(row, BadRow):
            batch.bad.append(row)
        else:
            body = orjson.dumps(to_event(feed, row))
            if batch.size + len(body) + 1 > _BATCH_BYTES and batch.items:
                yield batch
                batch = _Batch()
            batch.items.append(_Item(row, body))
            batch.size += len(body) + 1
        if len(batch) >= batch_size:
            yield batch
            batch = _Batch()
    if len(batch):
        yield batch


async def _post_batch(
    client: httpx.AsyncClient, batch: _Batch, headers: dict[str, str], patience: Patience, counted: Counted
) -> list[Fate]:
    if not batch.items:
        return []
    body = b"[" + b",".join(item.body for item in batch.items) + b"]"
    began_ms = int(time.time() * 1000)

    def usable(response: httpx.Response) -> bool:
        return not response.is_success or answers(response.content, len(batch.items)) is not None

    sent = await send(client, "POST", "/v1/activities", body, headers, patience, usable)
    stop_unless_done(sent.response)
    answered = answers(sent.response.content, len(batch.items))
    assert answered is not None  # or it would not have been usable
    ids = [item.row.event_id for item in batch.items]
    return fates(ids, answered, began_ms if sent.attempts > 1 else None, counted)
