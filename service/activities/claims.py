"""What makes an activity unique: keyed tags of the order, the payment, the vehicle, the meter or the address behind it.

A tag is made of the names and the values of references, never of the rule or the source that used them, so that two
sources, two apps or two methodologies that mean one thing meet in one tag. A thing claimed over time is claimed day by
day where whole days are reported (a meter), and as a span where hours are (a vehicle) or where the same use may be
reported twice (an address).
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import reduce
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, LargeBinary, SmallInteger, Text, Uuid
from sqlmodel import Field

from ledger.records import record
from service.activities.references import canonical_reference
from service.database import ServiceTable
from service.keyring import Keyring
from service.quantification.expression import OPERATIONS, plain
from service.quantification.model import ClaimRule, Methodology
from service.quantification.periods import INSTANT, LONGEST_TRIP, SHANGHAI, WHOLE_DAYS
from service.quantification.readings import Measured, Readings


class Claim(ServiceTable, table=True):
    """A thing that counts once, by its tag, and the activity that was credited for it."""

    __tablename__ = "claim"
    tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    activity_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    __table_args__ = (Index("claim_activity_index", "activity_id"),)


class ClaimSubject(ServiceTable, table=True):
    """A thing whose spans are looked at: the lock under which they are."""

    __tablename__ = "claim_subject"
    tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))


class ClaimSpan(ServiceTable, table=True):
    """A time over which a thing was claimed, and for which use; without a use, no other span may overlap."""

    __tablename__ = "claim_span"
    subject_tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    started_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    ended_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    use: str | None = Field(sa_column=Column(Text))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    activity_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    __table_args__ = (Index("claim_span_activity_index", "activity_id"),)


class ReadingTotal(ServiceTable, table=True):
    """What a meter showed over a month, as HMAC, for each credit that rests on it: as long as one stands, it cannot be
    told otherwise, neither as a use nor as a baseline."""

    __tablename__ = "reading_total"
    tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    activity_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    __table_args__ = (Index("reading_total_activity_index", "activity_id"),)


class Presence(ServiceTable, table=True):
    """When a person did something that nobody does twice at the same time."""

    __tablename__ = "presence"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    exclusive_group: str = Field(sa_column=Column(Text, primary_key=True))
    started_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    ended_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    activity_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))


class ReferenceMissing(Exception):
    """The rule makes the thing unique by a reference that the report does not carry. `name` is the reference."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class TooLong(Exception):
    """What is claimed hour by hour lasted longer than LONGEST_TRIP."""


@record
class Span:
    """A thing to be claimed over the activity's time; `names` says by which references, without their values."""

    subject: bytes
    names: str
    use: str | None


@record
class Demands:
    """What an activity takes for itself if it is credited.

    until      the first moment after it; an instant lasts a microsecond
    claims     tag and the names of its references, for each thing that has one holder
    totals     tag, fingerprint and name, as told, of each meter's month (or day, where days are counted)
    meter      the subject under whose lock its totals are told
    site, installation   whose registers are looked up, as tags
    """

    methodology: Methodology
    since: datetime
    until: datetime
    first_day: date
    last_day: date
    claims: tuple[tuple[bytes, str], ...] = ()
    spans: tuple[Span, ...] = ()
    totals: tuple[tuple[bytes, bytes, str], ...] = ()
    meter: bytes | None = None
    site: bytes | None = None
    installation: bytes | None = None

    @property
    def takes(self) -> bool:
        """Whether it takes anything that could be taken twice."""
        return bool(self.claims or self.spans or self.totals or self.methodology.exclusive)

    @property
    def order_tags(self) -> tuple[bytes, ...]:
        """Whatever another person's activity could want too: of two in one batch, the first in the list comes
        first."""
        if not (self.claims or self.spans or self.totals):
            return ()
        return (
            *(tag for tag, _ in self.claims),
            *(span.subject for span in self.spans),
            *(tag for tag, _, _ in self.totals),
        )


def reference_tag(keyring: Keyring, kind: str, names: Sequence[str], values: Sequence[str], *also: str) -> bytes:
    """The tag of what these references name together, each in its one form; `also` narrows it, to a day for example.

    kind   what the tag is for: no tag of one kind is ever equal to one of another

    Raises ReferenceInvalid.
    """
    named = zip(names, values, strict=True)
    told = [part for name, value in named for part in (name, canonical_reference(name, value))]
    parts = [part.encode() for part in (kind, str(len(names)), *told, *also)]
    return keyring.tag("claim", b"".join([len(part).to_bytes(4, "big") + part for part in parts]))


def register_tag(keyring: Keyring, name: str, value: str) -> bytes:
    """The tag under which an organisation (`site`, its unified social credit code) or an `installation` stands in its
    enrolment, in the registers and in waivers, and under which a report's are looked up."""
    return reference_tag(keyring, "register/1", (name,), (value,))


def demands_of(
    keyring: Keyring,
    methodology: Methodology,
    since: datetime,
    until: datetime,
    days: tuple[date, date],
    references: Mapping[str, str],
    readings: Sequence[tuple[str, str, Readings]],
) -> Demands:
    """What this activity takes for itself under this rule.

    days      its first and last Asia/Shanghai day
    readings  what its meter showed, then and at the time it is compared with: the name of the quantity, under which it
              was told, and the series

    Raises ReferenceMissing, TooLong.
    """
    first, last = days
    by_the_hour = methodology.trigger not in WHOLE_DAYS
    if "elsewhere" in methodology.registers and "installation" not in references:
        raise ReferenceMissing("installation")
    if not (methodology.claims or methodology.exclusive or references):
        return Demands(methodology, since, until, first, last)
    until = max(until, since + INSTANT)
    claims: list[tuple[bytes, str]] = []
    spans: list[Span] = []
    for rule in methodology.claims:
        values = _values(rule, references)
        if values is None:
            continue
        names = "+".join(rule.of)
        if not rule.over_time:
            claims.append((reference_tag(keyring, "claim/1", rule.of, values), names))
        elif by_the_hour or rule.use:
            spans.append(Span(reference_tag(keyring, "span/1", rule.of, values), names, rule.use))
        else:
            days_claimed = _days(first, last)
            claims += [(reference_tag(keyring, "day/1", rule.of, values, str(day)), names) for day in days_claimed]
    if by_the_hour and (spans or methodology.exclusive) and until - since > LONGEST_TRIP:
        raise TooLong
    return Demands(
        methodology,
        since,
        until,
        first,
        last,
        tuple(dict(claims).items()),
        tuple(spans),
        _totals(keyring, references["meter"], readings, methodology) if "meter" in references else (),
        reference_tag(keyring, "span/1", ("meter",), (references["meter"],))
        if readings and "meter" in references
        else None,
        _one(keyring, "site", references),
        _one(keyring, "installation", references),
    )


def _values(rule: ClaimRule, references: Mapping[str, str]) -> tuple[str, ...] | None:
    missing = [name for name in rule.of if name not in references]
    if not missing:
        return tuple(references[name] for name in rule.of)
    if rule.optional:
        return None
    raise ReferenceMissing(missing[0])


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _totals(
    keyring: Keyring, meter: str, readings: Sequence[tuple[str, str, Readings]], methodology: Methodology
) -> tuple[tuple[bytes, bytes, str], ...]:
    """Of the quantity, whatever it was told as: a use of last year is the baseline of this one.

    A fingerprint is of the sum and of the time it was measured in: the same sum over less time is another use, once its
    gaps are filled.
    """
    unit = "%F" if methodology.period and methodology.period.unit == "day" else "%Y-%m"
    told: dict[tuple[str, str, str], list[Measured]] = {}
    for quantity, name, series in readings:
        for span in series.spans:
            told.setdefault((quantity, name, _stretch(span.begins, span.ends, unit)), []).append(span)
    return tuple(
        (
            reference_tag(keyring, "total/1", ("meter",), (meter,), quantity, stretch),
            reference_tag(keyring, "reading/1", ("meter",), (meter,), quantity, stretch, *_measured(spans)),
            name,
        )
        for (quantity, name, stretch), spans in told.items()
    )


def _subject(keyring: Keyring, meter: str) -> bytes:
    return reference_tag(keyring, "span/1", ("meter",), (meter,))


def _measured(spans: Sequence[Measured]) -> tuple[str, ...]:
    """The sum, the seconds it was measured in, and the first and last of them."""
    total = reduce(OPERATIONS["+"], (span.value for span in spans))
    covered = sum(span.ends - span.begins for span in spans)
    return plain(total), str(covered), str(spans[0].begins), str(spans[-1].ends)


def _stretch(begins: int, ends: int, unit: str) -> str:
    """The Asia/Shanghai month or day of a span in seconds since 1970, or both its ends where it is longer than that."""
    first, last = (datetime.fromtimestamp(moment, SHANGHAI) for moment in (begins, ends - 1))
    return f"{first:{unit}}" if f"{first:{unit}}" == f"{last:{unit}}" else f"{first:%F}/{last:%F}"


def _one(keyring: Keyring, name: str, references: Mapping[str, str]) -> bytes | None:
    return register_tag(keyring, name, references[name]) if name in references else None
