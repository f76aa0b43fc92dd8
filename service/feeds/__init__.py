"""Feeds: how a data provider's file becomes activities.

A feed is one small YAML document (feed.py) that names the provider's columns, units, time zone and ids; rows.py reads a
file by it, row by row. Nothing here knows the network, the database or the clock.
"""

from service.feeds.feed import (
    SHIPPED_RIDES,
    Bilingual,
    Constant,
    Feed,
    FeedDocumentError,
    FeedError,
    FeedFileError,
    list_feeds,
    load_feed,
)
from service.feeds.rows import BadRow, Row, count_rows, read_rows, to_event

__all__ = [
    "SHIPPED_RIDES",
    "BadRow",
    "Bilingual",
    "Constant",
    "Feed",
    "FeedDocumentError",
    "FeedError",
    "FeedFileError",
    "Row",
    "count_rows",
    "list_feeds",
    "load_feed",
    "read_rows",
    "to_event",
]
