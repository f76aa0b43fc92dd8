"""Read a provider's files by their feed, whatever its kind.

A file that cannot be trusted as a whole (an error page, a cut-off gzip, another encoding, a heading without the feed's
columns) raises FeedFileError. A row that cannot be read is a BadRow, and its neighbours are unharmed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from service.feeds.kinds import Feed, PositionsFeed, ReadingsFeed, TapsFeed, TripsFeed
from service.feeds.meters import read_meters
from service.feeds.positions import read_positions
from service.feeds.rows import BadRow, Row, Summary
from service.feeds.taps import read_taps
from service.feeds.trips import read_trips


def read_rows(feed: Feed, paths: Sequence[Path], summary: Summary | None = None) -> Iterator[Row | BadRow]:
    """What the rows of the files become; blank lines are not rows. `summary` learns where they all went.

    Every row is in exactly one Row or BadRow, or passed over by a rule of the feed. Trips come in the order of the
    file; other kinds are put in order first, in a temporary file, so their first Row comes after the last row was read.

    Raises FeedFileError, also midway if a file breaks off.
    """
    summary = Summary() if summary is None else summary
    match feed:
        case TripsFeed():
            return read_trips(feed, paths, summary)
        case TapsFeed():
            return read_taps(feed, paths, summary)
        case ReadingsFeed():
            return read_meters(feed, paths, summary)
        case PositionsFeed():
            return read_positions(feed, paths, summary)
        case _:
            raise TypeError(f"no kind of feed: {type(feed).__name__}")
