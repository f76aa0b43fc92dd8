"""Tables of what is reported: sources, rules, event keys, activities and their erasable evidence (families of keys:
docs/ledger.md)."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Identity,
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


class Source(ServiceTable, table=True):
    """数据方: a registered data provider and the grade of its evidence. What it may report its licences say."""

    __tablename__ = "source"
    source_id: int = Field(sa_column=Column(Integer, Identity(always=True), primary_key=True))
    uri: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    title_zh: str = Field(sa_column=Column(Text, nullable=False))
    title_en: str = Field(sa_column=Column(Text, nullable=False))
    grade: str = Field(sa_column=Column(Text, nullable=False))
    programme: str = Field(sa_column=Column(Text, nullable=False))
    region: str = Field(sa_column=Column(Text, nullable=False))
    registered_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class LicenceGrant(ServiceTable, table=True):
    """许可: one scenario a source may report, from its first day to its last. Superseded, never deleted: what was
    licensed when can be looked up for ever."""

    __tablename__ = "licence"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    scenario: str = Field(sa_column=Column(Text, primary_key=True))
    valid_from: date = Field(sa_column=Column(Date, primary_key=True))
    valid_to: date | None = Field(sa_column=Column(Date))
    granted_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    superseded_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class RuleDocument(ServiceTable, table=True):
    """A methodology or points rule as it was when something was first posted under it: its bytes, found by their
    digest."""

    __tablename__ = "rule_document"
    rule_id: int = Field(sa_column=Column(Integer, Identity(always=True), primary_key=True))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    name: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(Integer, nullable=False))
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    registered_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=text("now()"))
    )
    __table_args__ = (UniqueConstraint("kind", "name", "version", name="rule_document_version_key"),)


class EventKey(ServiceTable, table=True):
    """HMAC of source and event id, keyed by itself; with the fingerprint that tells a repeat from a conflict.

    A correction has a second row, which an event has once: its key is made of the key of the event that it replaces
    (intake.correction_key), and that key is its fingerprint.
    """

    __tablename__ = "event_key"
    key: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    activity_id: UUID = Field(sa_column=Column(Uuid, nullable=False))


class Activity(ServiceTable, table=True):
    """低碳行为: one report and what became of it. Its reduction and points are its transfer's, of the same id."""

    __tablename__ = "activity"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    activity_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    source_id: int = Field(sa_column=Column(Integer, nullable=False))
    grade: str = Field(sa_column=Column(Text, nullable=False))
    scenario: str = Field(sa_column=Column(Text, nullable=False))
    day: date = Field(sa_column=Column(Date, nullable=False))
    outcome: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text))
    methodology_id: int = Field(sa_column=Column(Integer, nullable=False))
    points_rule_id: int | None = Field(sa_column=Column(Integer))
    programme: str = Field(sa_column=Column(Text, nullable=False))
    region: str = Field(sa_column=Column(Text, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Evidence(ServiceTable, table=True):
    """What was reported, the salt of its commitment in the log, and the values that refused it: sealed together under
    the participant's data key (service/vault/evidence.py), and erasable."""

    __tablename__ = "evidence"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    activity_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
