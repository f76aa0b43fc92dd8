"""A cell of a file as a value: an id, a number, a moment. What cannot be one raises BadCellError."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact
from functools import lru_cache
from zoneinfo import ZoneInfo

from service.feeds.errors import Bilingual
from service.feeds.model import TimeColumn

LONGEST_ID = 200  # characters, as the API takes them
EXACT = Context(prec=120, traps=[Inexact])  # a unit conversion that would round is a bug
_LONGEST_NUMBER = 40  # characters: a binary double prints at most 24
_REMEMBERED = 1 << 15  # texts: rows of many meters share their times, and small readings recur

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"
)

MALFORMED_ROW = "malformed-row"
MEND_ROW = Bilingual(zh="请更正此行后重新导入。", en="Mend this row and import the file again.")


class BadCellError(Exception):
    """A row cannot be read because of this cell: `reason` a slug, `detail` what was expected and what came."""

    def __init__(self, *, zh: str, en: str, reason: str = MALFORMED_ROW, mend: Bilingual = MEND_ROW) -> None:
        super().__init__(en)
        self.detail, self.reason, self.mend = Bilingual(zh=zh, en=en), reason, mend


class SkippedTimeError(BadCellError):
    """A local time that the clock never showed."""


def id_of(column: str, cell: str, longest: int = LONGEST_ID) -> str:
    """The text of an id, without the spaces around it."""
    text = cell.strip()
    if not text or len(text) > longest or not text.isprintable():
        raise BadCellError(
            en=f"{column}: expected an id of 1 to {longest} printable characters; came {shown(cell)}.",
            zh=f"{column}：应为 1 至 {longest} 个可见字符的编号；实为 {shown(cell)}。",
        )
    return text


def number_of(column: str, cell: str, decimal_sign: str = ".") -> Decimal:
    """The number in a cell, exact."""
    text = cell.strip()
    if decimal_sign != ".":
        text = text.replace(".", "?").replace(decimal_sign, ".")  # a point would be a thousands separator there
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        example = f"2{decimal_sign}35"
        raise BadCellError(
            en=f"{column}: expected a number such as {example}, without unit or thousands separator; "
            f"came {shown(cell)}.",
            zh=f"{column}：应为不带单位和千位分隔符的数字，如 {example}；实为 {shown(cell)}。",
        )
    return Decimal(text)


def degrees_of(column: str, cell: str, bound: int, decimal_sign: str = ".") -> float:
    """Degrees of longitude (bound 180) or latitude (bound 90)."""
    degrees = float(number_of(column, cell, decimal_sign))
    if abs(degrees) > bound:
        raise BadCellError(
            en=f"{column}: expected degrees from -{bound} to {bound}; came {shown(cell)}.",
            zh=f"{column}：应为 -{bound} 到 {bound} 之间的度数；实为 {shown(cell)}。",
            mend=Bilingual(
                zh="请更正此行；若经纬度颠倒，请更正映射文档。",
                en="Mend this row, or the feed if it swaps longitude and latitude.",
            ),
        )
    return degrees


Instants = Callable[[str], tuple[datetime, ...]]


def instants_parser(spec: TimeColumn) -> Instants:
    """A function from a cell to the moments it may mean, earlier first: one, or two where the clock was set back. UTC.

    The function raises SkippedTimeError for a local time that the clock skipped, BadCellError for what is no time.
    """
    column, written, zone = spec.column, spec.format, ZoneInfo(spec.time_zone)

    @lru_cache(_REMEMBERED)
    def instants(cell: str) -> tuple[datetime, ...]:
        text = cell.strip()
        try:
            if written is not None:
                moment = datetime.strptime(text, written)  # noqa: DTZ007 - the zone is the column's, set below
            elif _TIME.fullmatch(text):
                moment = datetime.fromisoformat(text)
            else:
                raise ValueError(text)
            if moment.tzinfo is not None:
                return (moment.astimezone(UTC),)
            return moments_of(column, moment, zone)
        except (ValueError, OverflowError) as error:
            like = datetime(2016, 8, 19, 21, 41, 5, tzinfo=UTC).strftime(written) if written else "2016-08-19 21:41"
            more = ("", "") if written else (" or 2016-08-19T13:41:05Z", " 或 2016-08-19T13:41:05Z")
            raise BadCellError(
                en=f"{column}: expected a date and time such as {like}{more[0]}; came {shown(cell)}.",
                zh=f"{column}：应为日期时间，如 {like}{more[1]}；实为 {shown(cell)}。",
            ) from error

    return instants


def moments_of(column: str, local: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The moments a naive local time may mean, earlier first, UTC. Raises SkippedTimeError."""
    first, second = local.replace(tzinfo=zone), local.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    assert before is not None
    assert after is not None
    if before < after:
        text = local.isoformat(" ")
        raise SkippedTimeError(
            en=f"{column}: the local time {text} was skipped by the clock change in {zone.key}.",
            zh=f"{column}：当地时间 {text} 因 {zone.key} 时钟拨快而不存在。",
            reason="skipped-time",
            mend=Bilingual(zh="请提供带 UTC 偏移的时间。", en="Give the time with its offset from UTC."),
        )
    if before == after:
        return (first.astimezone(UTC),)
    return first.astimezone(UTC), second.astimezone(UTC)


def shown(cell: str) -> str:
    """A cell for a message: no control character reaches a terminal, and no kilobyte either."""
    return repr(cell if len(cell) <= 60 else cell[:57] + "...")
