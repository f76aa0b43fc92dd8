"""Post the rows of a file as batches of events, in bounded memory, and have every answer recorded."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import count, islice

import httpx

from api.provider.encoding import encoder
from api.provider.enrolling import Enrol
from api.provider.outcomes import REMEMBERED, Answered, Counted, answers, fates
from api.provider.recording import Batch, Item, Recorder
from api.provider.report import Fate, ImportReport, ImportStopped
from api.provider.resuming import State
from api.provider.sending import Bearer, Patience, headers_of, send, stop_unless_done
from service.feeds import BadRow, Feed, FeedError, Row

MOST_ITEMS = 1000  # in one batch: the API's limit
MOST_PEOPLE_KEPT = 500_000  # who were enrolled in this run; some 60 MB. Who is forgotten is enrolled again: found
_BATCH_BYTES = 2_000_000  # under the API's limit of 2 MiB
_AHEAD = 8  # batches that may be answered before one that is still being sent again

Progress = Callable[[ImportReport], None]


async def post_rows(
    client: httpx.AsyncClient,
    token: Bearer | str,
    feed: Feed,
    rows: Iterable[Row | BadRow],
    recorder: Recorder,
    *,
    enrol: Enrol | None = None,
    batch_size: int = 500,
    concurrency: int = 4,
    on_progress: Progress | None = None,
    language: str = "en",
    patience: Patience | None = None,
    state: State | None = None,
    dry_run: bool = False,
) -> ImportReport:
    """Post the rows as batches of CloudEvents, begun in order, `concurrency` at a time, in bounded memory.

    recorder     counts and writes what becomes of them
    enrol        called before a batch is posted with those of its people not seen before, who are then remembered
    on_progress  called after each batch, with a report that goes on changing
    state        of an import that is resumed: the rows it has recorded are passed over
    dry_run      have it decided, and store nothing

    Raises ImportStopped, whose report counts the batches that were answered. Posting the rows again credits none twice.
    """
    if not 1 <= batch_size <= MOST_ITEMS:
        raise ValueError(f"batch_size is 1 to {MOST_ITEMS}, not {batch_size}")
    posting = _Posting(client, token, feed, recorder, patience or Patience(), language, dry_run=dry_run)
    began, before = time.monotonic(), recorder.report.seconds
    skipped = recorder.done
    if state is not None:
        posting.unsure = (skipped, skipped + state.unsure, state.since_ms)
        state.unsure = batch_size * (_AHEAD + concurrency + 1)
    recorder.begin(int(time.time() * 1000))

    async def post(batch: Batch) -> None:
        if enrol is not None:
            await posting.enrol(batch, enrol)
        await posting.post(batch)
        recorder.report.seconds = before + time.monotonic() - began
        if on_progress is not None:
            on_progress(recorder.report)
        await posting.not_too_far_ahead()

    try:
        await _together(_batches(feed, posting.after(rows, skipped), batch_size, skipped), post, concurrency)
        recorder.report.seconds = before + time.monotonic() - began
        recorder.finish()
    except (ImportStopped, FeedError) as stop:
        recorder.give_up()
        recorder.report.seconds = before + time.monotonic() - began
        raise ImportStopped(zh=stop.text.zh, en=stop.text.en, report=recorder.report) from stop
    return recorder.report


class _Posting:
    """What the workers of one import share."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        token: Bearer | str,
        feed: Feed,
        recorder: Recorder,
        patience: Patience,
        language: str,
        *,
        dry_run: bool,
    ) -> None:
        self._client, self._feed, self._recorder, self._patience = client, feed, recorder, patience
        self._bearer = Bearer(token) if isinstance(token, str) else token
        self._headers = headers_of(self._bearer.text, "application/cloudevents-batch+json")
        self._headers["Accept-Language"] = language
        self._path = "/v1/activities" + ("?dry_run=true" if dry_run else "")
        self._counted = Counted()
        self._known: set[str] = set()
        self._enrolling = asyncio.Lock()  # no batch may go out while another still enrols one of its people
        self._moved = asyncio.Event()
        self._sent_ms: dict[int, int] = {}
        self._unanswered: dict[int, tuple[int, list[str]]] = {}  # batches: since when, and their events
        self.unsure = (0, 0, 0)  # rows from, to, that may have been sent before, and since when
        self.before: set[str] = set()  # of a resumed import: the events lately passed by, and those asked for again

    def after(self, rows: Iterable[Row | BadRow], skipped: int) -> Iterator[Row | BadRow]:
        """The rows after so many; the ids of the last of these are remembered."""
        remaining = iter(rows)
        passed = deque((row.event_id for row in islice(remaining, skipped) if row.event_id), maxlen=REMEMBERED)
        self.before = set(passed)
        return remaining

    async def enrol(self, batch: Batch, enrol: Enrol) -> None:
        async with self._enrolling:
            new = {item.row.subject for item in batch.items} - self._known
            if new:
                await enrol(sorted(new))
            if len(self._known) > MOST_PEOPLE_KEPT:
                self._known.clear()
            self._known |= new

    async def post(self, batch: Batch) -> None:
        """Send a batch until it is answered, and have it recorded. Raises ImportStopped."""
        began_ms = int(time.time() * 1000)
        self._sent_ms[batch.number] = began_ms
        try:
            decided = await self._decided(batch, began_ms)
            del self._sent_ms[batch.number]
            self._recorder.settle(batch, decided, min(self._sent_ms.values(), default=int(time.time() * 1000)))
        finally:
            self._sent_ms.pop(batch.number, None)
            self._moved.set()
            self._moved.clear()

    async def not_too_far_ahead(self) -> None:
        """Wait while too many answers wait for one before them: what they hold is in memory."""
        while self._recorder.behind > _AHEAD and self._sent_ms:
            await self._moved.wait()

    async def _decided(self, batch: Batch, began_ms: int) -> list[Fate]:
        items = batch.items
        if not items:
            return []
        ids = [item.row.event_id for item in items]
        self._unanswered[batch.number] = began_ms, ids
        body = b"[" + b",".join([item.body for item in items]) + b"]"
        found = None

        def usable(response: httpx.Response) -> bool:
            nonlocal found
            found = answers(response.content, len(items)) if response.is_success else None
            return found is not None or not response.is_success

        sent = await send(self._client, "POST", self._path, body, self._headers, self._patience, usable, self._bearer)
        stop_unless_done(sent.response)
        assert found is not None  # or it would not have been usable
        del self._unanswered[batch.number]  # one that never has an answer stays: others are still told of its events
        since_ms = began_ms if sent.attempts > 1 else None
        begin, end, unsure_ms = self.unsure
        if not begin <= batch.first < end:
            return fates(ids, found, since_ms, self._counted, crossed=self._crossed(ids, found))
        decided = fates(ids, found, unsure_ms, self._counted, self.before)
        self.before.update(ids)
        return decided

    def _crossed(self, ids: list[str], found: list[Answered]) -> dict[str, int]:
        """Of the events that came back as known, those that are on their way in another batch too."""
        known = {event_id for event_id, (_, again) in zip(ids, found, strict=True) if again}
        return {
            event_id: since_ms
            for since_ms, theirs in (self._unanswered.values() if known else ())
            for event_id in known.intersection(theirs)
        }


async def _together(items: Iterator[Batch], work: Callable[[Batch], Awaitable[None]], concurrency: int) -> None:
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


def _batches(feed: Feed, rows: Iterable[Row | BadRow], batch_size: int, first: int) -> Iterator[Batch]:
    numbers = count()
    batch = Batch(next(numbers), first)
    encode = encoder(feed)
    for row in rows:
        entry: Item | BadRow = row if isinstance(row, BadRow) else Item(row, encode(row))
        size = len(entry.body) + 1 if isinstance(entry, Item) else 0
        if batch.size + size > _BATCH_BYTES and batch.entries:
            yield batch
            batch = Batch(next(numbers), batch.first + len(batch.entries))
        batch.entries.append(entry)
        batch.size += size
        if len(batch.entries) >= batch_size:
            yield batch
            batch = Batch(next(numbers), batch.first + len(batch.entries))
    if batch.entries:
        yield batch
