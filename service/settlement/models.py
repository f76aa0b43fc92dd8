"""Tables of settlement: statements, banks' files, closings, disputes (families of keys: docs/ledger.md)."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
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


class BankStatement(ServiceTable, table=True):
    """对账单: everything of one bank on one Asia/Shanghai day, as the bytes whose digest is in the log."""

    __tablename__ = "bank_statement"
    bank_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    day: date = Field(sa_column=Column(Date, primary_key=True))
    sequence: int = Field(sa_column=Column(Integer, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    issued_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (UniqueConstraint("bank_id", "sequence", name="bank_statement_sequence_key"),)


class BankFileRecord(ServiceTable, table=True):
    """对账文件: that a bank sent its own file of a day, and where it differed. The bytes are those of its signed call;
    the last file of a day counts."""

    __tablename__ = "bank_file"
    bank_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    day: date = Field(sa_column=Column(Date, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    statement_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    lines: int = Field(sa_column=Column(Integer, nullable=False))
    differing: int = Field(sa_column=Column(Integer, nullable=False))
    differences: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    call_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    received_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class DayClosing(ServiceTable, table=True):
    """关账: that one side closed a day on a statement, and on a file of the bank's where there was one. After a further
    file it closes again, under the next number."""

    __tablename__ = "day_closing"
    bank_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    day: date = Field(sa_column=Column(Date, primary_key=True))
    side: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    authority: str = Field(sa_column=Column(Text, nullable=False))
    statement_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    file_digest: bytes | None = Field(sa_column=Column(LargeBinary))
    call_id: UUID | None = Field(sa_column=Column(Uuid))
    closed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Dispute(ServiceTable, table=True):
    """争议: a participant says that what was paid for with points never came. Its steps are the record."""

    __tablename__ = "dispute"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    dispute_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    redemption_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    bank_id: int = Field(sa_column=Column(Integer, nullable=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    opened_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    answer_by: date = Field(sa_column=Column(Date, nullable=False))
    decide_by: date = Field(sa_column=Column(Date, nullable=False))
    __table_args__ = (
        Index(
            "dispute_redemption_key",
            "participant_id",
            "redemption_id",
            unique=True,
            postgresql_where=text("state <> 'withdrawn'"),
        ),
        Index("dispute_bank_index", "bank_id", "opened_at"),
    )


class DisputeStep(ServiceTable, table=True):
    """One step of a dispute, whose it was, and the state that it made."""

    __tablename__ = "dispute_step"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    dispute_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    step: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    party: str = Field(sa_column=Column(Text, nullable=False))
    position: str | None = Field(sa_column=Column(Text))
    call_id: UUID | None = Field(sa_column=Column(Uuid))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class DisputeDecision(ServiceTable, table=True):
    """The record of a decision for the participant, sealed under their data key; refunds commit to it. It may be
    erased."""

    __tablename__ = "dispute_decision"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    redemption_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    dispute_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    commitment: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    decided_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class DisputeText(ServiceTable, table=True):
    """What was written with a step, sealed under the participant's data key whoever wrote it. It may be erased."""

    __tablename__ = "dispute_text"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    dispute_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
