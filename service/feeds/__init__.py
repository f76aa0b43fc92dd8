"""Feeds: how a data provider's file becomes activities.

A feed is one small YAML document (feed.py) that names the provider's columns, units, time zone and ids; reading.py
reads files by it, a module for each kind of feed. Nothing here knows the network, the platform's database or the clock.
"""

from service.feeds.cells import MALFORMED_ROW
from service.feeds.errors import Bilingual, FeedDocumentError, FeedError, FeedFileError
from service.feeds.feed import SHIPPED_RIDES, list_feeds, load_feed
from service.feeds.kinds import Feed
from service.feeds.model import Constant
from service.feeds.reading import read_rows
from service.feeds.rows import BadRow, Row, Summary, to_event
from service.feeds.sheets import count_rows

__all__ = [
    "MALFORMED_ROW",
    "SHIPPED_RIDES",
    "BadRow",
    "Bilingual",
    "Constant",
    "Feed",
    "FeedDocumentError",
    "FeedError",
    "FeedFileError",
    "Row",
    "Summary",
    "count_rows",
    "list_feeds",
    "load_feed",
    "read_rows",
    "to_event",
]
