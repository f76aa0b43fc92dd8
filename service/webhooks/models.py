"""The tables of webhooks. Migration 0007 creates them; a test compares the two.

None of this is a record: what happened stands in the log, and whatever is lost here is read there again.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from service.database import ServiceTable


class Webhook(ServiceTable, table=True):
    """An address that a bank has its events sent to.

    bank      its registered URI
    kinds     of events that are wanted; all when empty
    state     active; paused by the bank; disabled by its own answer 410, `because` says so
    taken_to  the last place of the log whose events are queued; -1 for none
    """

    __tablename__ = "webhook"
    webhook_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    bank: str = Field(sa_column=Column(Text, nullable=False))
    url: str = Field(sa_column=Column(Text, nullable=False))
    kinds: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    because: str | None = Field(sa_column=Column(Text))
    taken_to: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("webhook_bank_index", "bank"),)


class WebhookSecret(ServiceTable, table=True):
    """A secret of a webhook, encrypted under a version of the keyring; `ends_at` is None for the newest."""

    __tablename__ = "webhook_secret"
    webhook_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    ends_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class WebhookMessage(ServiceTable, table=True):
    """An event that is to be delivered, was, or no longer is.

    place    of the log; -1 for a test
    lane     what it is in order with, the endpoint's id and a redemption, an offer or a day: nothing else holds it up
    state    waiting, delivered, or dead: given up after the last attempt
    failed   attempts since it was queued, or queued again
    due_at   when it is tried next; while an attempt is under way, when another worker may take it over; None while it
             waits for an earlier one in its lane, so that what is held up costs nothing
    fault    of the last attempt, a code
    """

    __tablename__ = "webhook_message"
    webhook_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    message_id: str = Field(sa_column=Column(Text, primary_key=True))
    place: int = Field(sa_column=Column(BigInteger, nullable=False))
    lane: str = Field(sa_column=Column(Text, nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    failed: int = Field(sa_column=Column(Integer, nullable=False))
    due_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    status: int | None = Field(sa_column=Column(SmallInteger))
    fault: str | None = Field(sa_column=Column(Text))
    queued_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    ended_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (
        Index("webhook_message_due_index", "webhook_id", "due_at", "place", postgresql_where=text("state = 'waiting'")),
        Index("webhook_message_order_index", "lane", "place", postgresql_where=text("state = 'waiting'")),
        Index("webhook_message_delivered_index", "webhook_id", "place", postgresql_where=text("state = 'delivered'")),
        Index("webhook_message_dead_index", "webhook_id", "place", postgresql_where=text("state = 'dead'")),
    )


class WebhookAttempt(ServiceTable, table=True):
    """What a receiver answered, or why there was no answer. The last ones are kept."""

    __tablename__ = "webhook_attempt"
    webhook_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    attempt_id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    message_id: str = Field(sa_column=Column(Text, nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    attempted_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    number: int = Field(sa_column=Column(Integer, nullable=False))
    delivered: bool = Field(sa_column=Column(Boolean, nullable=False))
    status: int | None = Field(sa_column=Column(SmallInteger))
    fault: str | None = Field(sa_column=Column(Text))
    duration_ms: int = Field(sa_column=Column(Integer, nullable=False))
