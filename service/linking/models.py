"""The tables of linking: requests for a link, the ids that parties know a person by, links of banks, agreements."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
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


class ExchangedToken(ServiceTable, table=True):
    """That a token of the identity provider was exchanged; it cannot be again while it is good."""

    __tablename__ = "exchanged_token"
    tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("exchanged_token_expires_index", "expires_at"),)


class AgreementRow(ServiceTable, table=True):
    """What a person agreed to beside the reports of sources: the terms, or the link of a bank under its link's id."""

    __tablename__ = "agreement"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    agreement_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    purpose: str = Field(sa_column=Column(Text, primary_key=True))
    bank_id: int | None = Field(sa_column=Column(Integer))
    text_version: str = Field(sa_column=Column(Text, primary_key=True))
    given_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class PairwiseRow(ServiceTable, table=True):
    """The random part of the id by which one party knows a person (pairwise.py)."""

    __tablename__ = "pairwise"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    party: str = Field(sa_column=Column(Text, primary_key=True))
    seed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    made_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class BankLinkRow(ServiceTable, table=True):
    """A bank's id for a person, as HMAC, and whom it stands for; keyed by itself, and live until withdrawn."""

    __tablename__ = "bank_link"
    bank_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    subject_tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    link_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    linked_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    withdrawn_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (
        Index(
            "bank_link_live_key", "bank_id", "subject_tag", unique=True, postgresql_where=text("withdrawn_at IS NULL")
        ),
        Index("bank_link_participant_index", "participant_id"),
    )


class LinkRequestRow(ServiceTable, table=True):
    """What a client asked a person for, what the person said, and the code by which the client learns it (asking.py).

    handle_hash   SHA-256 of what the person's app shows to read and to decide it
    state         the client's own, given back to it; swept with the row
    code_hash     SHA-256 of the code; `used_at` when it was shown, rightly or not
    made          the code was answered with a new link, `link_id`
    """

    __tablename__ = "link_request"
    request_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    handle_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    client_id: str = Field(sa_column=Column(Text, nullable=False))
    party: str = Field(sa_column=Column(Text, nullable=False))
    scope: str = Field(sa_column=Column(Text, nullable=False))
    redirect_uri: str = Field(sa_column=Column(Text, nullable=False))
    code_challenge: str = Field(sa_column=Column(Text, nullable=False))
    state: str | None = Field(sa_column=Column(Text))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    participant_id: UUID | None = Field(sa_column=Column(Uuid))
    decision: str | None = Field(sa_column=Column(Text))
    decided_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    text_version: str | None = Field(sa_column=Column(Text))
    code_hash: bytes | None = Field(sa_column=Column(LargeBinary))
    code_expires_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    used_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    link_id: UUID | None = Field(sa_column=Column(Uuid))
    made: bool = Field(sa_column=Column(Boolean, nullable=False, server_default="false"))
    __table_args__ = (
        UniqueConstraint("handle_hash", name="link_request_handle_hash_key"),
        UniqueConstraint("code_hash", name="link_request_code_hash_key"),
        Index("link_request_expires_index", "expires_at"),
        Index(
            "link_request_participant_index",
            "participant_id",
            postgresql_where=text("participant_id IS NOT NULL"),
        ),
    )
