"""What tests of settlement draw: entries of a bank day, and files of a bank that tell of them."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st

from service.settlement.bank_file import BankFile, Line
from service.settlement.statement import KINDS, DayStatement, Entry

BANK, DAY = "https://bank.example/green", date(2026, 5, 1)
MIDNIGHT = datetime(2026, 4, 30, 16, tzinfo=UTC)  # in Asia/Shanghai

ids = st.integers(0, 2**128 - 1).map(lambda number: UUID(int=number))
amounts = st.integers(0, 10**12)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """One step of one redemption."""
    kind = draw(st.sampled_from(KINDS))
    return Entry(
        transfer_id=draw(ids),
        redemption_id=draw(ids),
        kind=kind,
        reason=draw(st.sampled_from(["cancelled", "lapsed"])) if kind in ("release", "refund") else None,
        offer=draw(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)),
        offer_version=draw(st.integers(1, 99)),
        units=draw(st.integers(1, 10**6)),
        points=draw(amounts),
        value_fen=draw(amounts),
        co2e_mg=draw(amounts),
        reference=draw(st.none() | texts),
        log_index=draw(st.integers(0, 10**9)),
        recorded_at=MIDNIGHT + timedelta(microseconds=draw(st.integers(0, 86_400 * 10**6 - 1))),
    )


days_entries = st.lists(entries(), max_size=8, unique_by=lambda entry: entry.transfer_id)


@st.composite
def statements(draw: st.DrawFn) -> DayStatement:
    """A statement of DAY."""
    found = draw(days_entries)
    placed = sorted((replace(entry, log_index=place * 3) for place, entry in enumerate(found)), key=_place)
    previous = draw(st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex))
    return DayStatement(BANK, "demo", DAY, draw(st.integers(1, 10**6)), previous, len(found) * 3, tuple(placed))


def _place(entry: Entry) -> int:
    return entry.log_index


def line_of(entry: Entry, number: int, *, brief: bool = False) -> Line:
    """What a bank that agrees has of an entry; a brief one states no points and no grams."""
    return Line(
        number,
        entry.transfer_id,
        entry.redemption_id,
        entry.kind,
        entry.units,
        entry.value_fen,
        None if brief else entry.points,
        None if brief else entry.co2e_mg,
    )


def file_of(found: list[Entry], *, brief: bool = False) -> BankFile:
    """The file of a bank that agrees."""
    return BankFile(tuple(line_of(entry, number, brief=brief) for number, entry in enumerate(found, 2)), {})
