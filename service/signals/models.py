"""Tables of signals and of the reviews that they open (families of keys: docs/ledger.md)."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlmodel import Field

from service.database import ServiceTable


class SignalRow(ServiceTable, table=True):
    """异常信号: what a rule found in one person's activities, told once; `about` names it within its rule."""

    __tablename__ = "signal"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    signal_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    rule: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(Integer, nullable=False))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    strength: str = Field(sa_column=Column(Text, nullable=False))
    about: str = Field(sa_column=Column(Text, nullable=False))
    review_id: UUID | None = Field(sa_column=Column(Uuid))
    found_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (
        UniqueConstraint("participant_id", "rule", "version", "about", name="signal_about_key"),
        Index("signal_found_index", "found_at"),
    )


class SignalValues(ServiceTable, table=True):
    """The figures that were found, beside the limits: erasable."""

    __tablename__ = "signal_values"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    signal_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class SourceDayRow(ServiceTable, table=True):
    """What a source reported on one day of recording."""

    __tablename__ = "source_day"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    day: date = Field(sa_column=Column(Date, primary_key=True))
    credited: int = Field(sa_column=Column(BigInteger, nullable=False))
    refused: int = Field(sa_column=Column(BigInteger, nullable=False))
    mg: int = Field(sa_column=Column(BigInteger, nullable=False))
    usual_acts: int = Field(sa_column=Column(BigInteger, nullable=False))
    hours: list[int] = Field(sa_column=Column(ARRAY(BigInteger), nullable=False))


class SourceSignal(ServiceTable, table=True):
    """What a rule found in a source's day."""

    __tablename__ = "source_signal"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    rule: str = Field(sa_column=Column(Text, primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    day: date = Field(sa_column=Column(Date, primary_key=True))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    strength: str = Field(sa_column=Column(Text, nullable=False))
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    found_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class SignalHead(ServiceTable, table=True):
    """How far the log was looked at, and the last day whose sources were."""

    __tablename__ = "signal_head"
    only: bool = Field(sa_column=Column(Boolean, primary_key=True, server_default=text("true")))
    looked_to: int = Field(sa_column=Column(BigInteger, nullable=False))
    day: date | None = Field(sa_column=Column(Date))


class Review(ServiceTable, table=True):
    """复核: credits that cannot be spent until somebody has looked at them, or until `due_at`."""

    __tablename__ = "review"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    review_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    state: str = Field(sa_column=Column(Text, nullable=False))
    opened_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    due_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    ended_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (
        Index("review_open_key", "participant_id", unique=True, postgresql_where=text("state = 'open'")),
        Index("review_due_index", "due_at", postgresql_where=text("state = 'open'")),
        Index("review_id_index", "review_id"),
    )


class ReviewCredit(ServiceTable, table=True):
    """A credit that a review is about, with its points."""

    __tablename__ = "review_credit"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    review_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    activity_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    points: int = Field(sa_column=Column(BigInteger, nullable=False))
    added_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class ReviewStep(ServiceTable, table=True):
    """One step of a review; an operator's names the operator and the reason."""

    __tablename__ = "review_step"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    review_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    step: str = Field(sa_column=Column(Text, nullable=False))
    party: str = Field(sa_column=Column(Text, nullable=False))
    operator: str | None = Field(sa_column=Column(Text))
    reason: str | None = Field(sa_column=Column(Text))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class ReviewText(ServiceTable, table=True):
    """What the participant or an operator wrote with a step, sealed under the participant's data key: erasable."""

    __tablename__ = "review_text"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    review_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
