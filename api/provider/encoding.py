"""Rows as the bytes of their events: what orjson.dumps(to_event(feed, row)) says, member for member, at half the
processor time, because what all rows share is encoded once."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from service.feeds import Feed, Row, to_event

Encode = Callable[[Row], bytes]


def encoder(feed: Feed) -> Encode:
    """How the rows of this feed are encoded."""
    shared: dict[tuple[str, ...], tuple[bytes, bytes]] = {}  # by the names of inputs: before the id, after the inputs

    def encode(row: Row) -> bytes:
        names = tuple(row.inputs)
        if row.readings or row.baseline or not names:  # long series, which orjson does best, or next to nothing
            return orjson.dumps(to_event(feed, row))
        if names not in shared:
            shared[names] = _shared(to_event(feed, row))
        head, tail = shared[names]
        text = f'"started_at":"{_utc(row.started_at)}","ended_at":"{_utc(row.ended_at)}",{_inputs(row)}'
        parts = [head, orjson.dumps(row.event_id), b',"subject":', orjson.dumps(row.subject), b',"data":{']
        parts += (text.encode("ascii"), tail)
        if row.vehicle is not None:
            parts += (b',"vehicle":', orjson.dumps(row.vehicle))
        if row.references:
            parts += (b',"references":', orjson.dumps(dict(row.references)))
        parts.append(b"}}")
        return b"".join(parts)

    return encode


def _shared(event: dict[str, Any]) -> tuple[bytes, bytes]:
    """What stands before the id, and what follows the inputs, in every event of this kind."""
    head = {name: event[name] for name in ("specversion", "type", "source")}
    data = {name: event["data"][name] for name in ("scenario", "basis")}
    return orjson.dumps(head)[:-1] + b',"id":', b"," + orjson.dumps(data)[1:-1]


def _utc(moment: datetime) -> str:
    """A moment of UTC as to_event writes it."""
    return moment.isoformat()[:-6] + "Z"


def _inputs(row: Row) -> str:
    """Names are of a-z, 0-9 and underscores, and figures of digits: neither needs an escape."""
    return '"inputs":{' + ",".join([f'"{name}":"{value:f}"' for name, value in row.inputs.items()]) + "}"
