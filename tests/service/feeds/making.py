"""Feeds and files for these tests: shipped feeds with parts replaced, invented rows."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import yaml

from service.feeds import BadRow, Feed, Row, Summary, count_rows, read_rows
from service.feeds import feed as shipped
from service.feeds.feed import parse_feed

FEEDS = Path(shipped.__file__).parent


def feed_like(name: str, *replacements: tuple[str, str], **fields: object) -> Feed:
    """A shipped feed with texts replaced, each of which must be there, and with top-level fields set anew."""
    text = (FEEDS / f"{name}.yaml").read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    if fields:
        text = yaml.safe_dump(yaml.safe_load(text) | fields, allow_unicode=True)
    return parse_feed(text, f"{name}.yaml", FEEDS)


def written(path: Path, *lines: str, packed: bool = False, encoding: str = "utf-8") -> Path:
    """A file of these lines."""
    content = ("\n".join(lines) + "\n").encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def read(feed: Feed, paths: Sequence[Path]) -> tuple[list[Row], list[BadRow], Summary]:
    """What the files become; every row of them is in exactly one place."""
    summary = Summary()
    found = list(read_rows(feed, paths, summary))
    good = [one for one in found if isinstance(one, Row)]
    bad = [one for one in found if isinstance(one, BadRow)]
    stood_for = [number for one in found for number in (one.rows or (one.number,))]
    assert len(stood_for) == len(set(stood_for)) == sum(one.stands_for for one in found)
    assert len(stood_for) + summary.passed_over.total() == summary.rows == count_rows(feed, paths)
    assert all(one.detail.zh and one.detail.en and one.mend.zh and one.mend.en for one in bad)
    assert len({one.event_id for one in good}) == len(good)
    return good, bad, summary
