"""The tables of the person's rights. Migration 0013 creates them; a test compares the two."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, DateTime, Index, Integer, LargeBinary, Text, Uuid, text
from sqlmodel import Field

from service.database import ServiceTable


class ErasureRow(ServiceTable, table=True):
    """That a participant asked to be forgotten, and how far that has come. It stays: the pseudonym is nobody's now."""

    __tablename__ = "erasure"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    asked_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    asked_by: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    ended_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (
        Index("erasure_open_index", "asked_at", postgresql_where=text("state <> 'done'")),
        Index("erasure_asked_index", "asked_at"),
    )


class ErasureStep(ServiceTable, table=True):
    """How many rows of a class of data were removed for a participant."""

    __tablename__ = "erasure_step"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    class_: str = Field(sa_column=Column("class", Text, primary_key=True))
    removed: int = Field(sa_column=Column(BigInteger, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Tombstone(ServiceTable, table=True):
    """Under which tombstone the caps of a person are remembered, by the keyed tag of the person (`person`, of source 0)
    or of a provider's subject (`subject`). It does not name the pseudonym that was theirs."""

    __tablename__ = "tombstone"
    kind: str = Field(sa_column=Column(Text, primary_key=True))
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    tombstone_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    expires_on: date = Field(sa_column=Column(Date, nullable=False))
    __table_args__ = (Index("tombstone_id_index", "tombstone_id"),)


class TombstoneTally(ServiceTable, table=True):
    """How much of a cap was used in a window by whoever is remembered under a tombstone."""

    __tablename__ = "tombstone_tally"
    tombstone_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    cap: str = Field(sa_column=Column(Text, primary_key=True))
    window_start: date = Field(sa_column=Column(Date, primary_key=True))
    used: int = Field(sa_column=Column(BigInteger, nullable=False))


class Returned(ServiceTable, table=True):
    """A tombstone that a participant came back under: it was added to their tallies, once."""

    __tablename__ = "returned"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    tombstone_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))


class Correction(ServiceTable, table=True):
    """That something known of a person was corrected. Values that identify are not repeated here."""

    __tablename__ = "correction"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    field: str = Field(sa_column=Column(Text, nullable=False))
    before: str | None = Field(sa_column=Column(Text))
    after: str | None = Field(sa_column=Column(Text))
    corrected_by: str = Field(sa_column=Column(Text, nullable=False))
    corrected_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Minor(ServiceTable, table=True):
    """Who needs a guardian's consent, and the first day on which no longer."""

    __tablename__ = "minor"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    until: date = Field(sa_column=Column(Date, nullable=False))


class GuardianCode(ServiceTable, table=True):
    """A code that a child hands to a guardian, by its SHA-256."""

    __tablename__ = "guardian_code"
    code_hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (Index("guardian_code_participant_index", "participant_id"),)


class Guardianship(ServiceTable, table=True):
    """A guardian's consent for a child: who gave it, by pseudonym and person's tag, to which text, until when."""

    __tablename__ = "guardianship"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    guardianship_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    guardian_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    guardian_tag: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    text_version: str = Field(sa_column=Column(Text, nullable=False))
    given_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (
        Index("guardianship_live_key", "participant_id", unique=True, postgresql_where=text("withdrawn_at IS NULL")),
        Index("guardianship_guardian_index", "guardian_id"),
    )
