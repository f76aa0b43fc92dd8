"""Tables of redemptions and of the pools that pay for them (families of keys: docs/ledger.md)."""

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


class RewardPool(ServiceTable, table=True):
    """权益资金池: a funder's budget, and the rules for drawing on it that were stated before anybody did.

    rate_fen, rate_points   it pays at most so many fen for so many points
    shortage                what happens when it is short: `stop`, `queue` or `pro_rata`
    terms, document         its terms as they were published, and their SHA-256
    """

    __tablename__ = "pool"
    pool: str = Field(sa_column=Column(Text, primary_key=True))
    programme: str = Field(sa_column=Column(Text, nullable=False))
    funder: str = Field(sa_column=Column(Text, nullable=False))
    title_zh: str = Field(sa_column=Column(Text, nullable=False))
    title_en: str = Field(sa_column=Column(Text, nullable=False))
    rate_fen: int = Field(sa_column=Column(BigInteger, nullable=False))
    rate_points: int = Field(sa_column=Column(BigInteger, nullable=False))
    shortage: str = Field(sa_column=Column(Text, nullable=False))
    points_per_day: int | None = Field(sa_column=Column(BigInteger))
    points_per_person_per_day: int | None = Field(sa_column=Column(BigInteger))
    state: str = Field(sa_column=Column(Text, nullable=False))
    terms: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    opened_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class PoolChange(ServiceTable, table=True):
    """A change of a pool: what was paid in, what was taken back, whether it may be drawn on; by an operator's code."""

    __tablename__ = "pool_change"
    pool: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    action: str = Field(sa_column=Column(Text, nullable=False))
    points: int = Field(sa_column=Column(BigInteger, nullable=False))
    value_fen: int = Field(sa_column=Column(BigInteger, nullable=False))
    changed_by: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text))
    call_key: str | None = Field(sa_column=Column(Text))
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (UniqueConstraint("pool", "call_key", name="pool_change_call_key"),)


class PoolSlot(ServiceTable, table=True):
    """A part of what is left of a pool's budget, or of its limit for one day; the budget's day is `-infinity`."""

    __tablename__ = "pool_slot"
    pool: str = Field(sa_column=Column(Text, primary_key=True))
    day: date = Field(sa_column=Column(Date, primary_key=True))
    slot: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    points_left: int = Field(sa_column=Column(BigInteger, nullable=False))
    fen_left: int = Field(sa_column=Column(BigInteger, nullable=False))
    __table_args__ = ({"postgresql_with": {"fillfactor": 70}},)


class Redemption(ServiceTable, table=True):
    """兑换: what a participant gets for points, and how far it has come. Its id is its hold's."""

    __tablename__ = "redemption"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    redemption_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    bank_id: int = Field(sa_column=Column(Integer, nullable=False))
    bank: str = Field(sa_column=Column(Text, nullable=False))
    offer: str = Field(sa_column=Column(Text, nullable=False))
    offer_version: int = Field(sa_column=Column(Integer, nullable=False))
    offer_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    pool: str = Field(sa_column=Column(Text, nullable=False))
    units: int = Field(sa_column=Column(BigInteger, nullable=False))
    points: int = Field(sa_column=Column(BigInteger, nullable=False))
    value_fen: int = Field(sa_column=Column(BigInteger, nullable=False))
    co2e_mg: int = Field(sa_column=Column(BigInteger, nullable=False))
    units_left: int = Field(sa_column=Column(BigInteger, nullable=False))
    units_captured: int = Field(sa_column=Column(BigInteger, nullable=False))
    units_refunded: int = Field(sa_column=Column(BigInteger, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    started_by: str = Field(sa_column=Column(Text, nullable=False))
    request_id: UUID | None = Field(sa_column=Column(Uuid))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    accepted_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    ended_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    accepted_call: UUID | None = Field(sa_column=Column(Uuid))
    __table_args__ = ({"postgresql_with": {"fillfactor": 70}},)


class RedemptionKey(ServiceTable, table=True):
    """Whose a redemption is, keyed by itself: a bank knows no participant. What a bank asked for is approved once."""

    __tablename__ = "redemption_key"
    redemption_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    bank_id: int = Field(sa_column=Column(Integer, nullable=False))
    request_id: UUID | None = Field(sa_column=Column(Uuid))
    __table_args__ = (
        Index("redemption_key_bank_index", "bank_id", "redemption_id"),
        Index("redemption_key_request_key", "request_id", unique=True, postgresql_where=text("request_id IS NOT NULL")),
    )


class RedemptionTerms(ServiceTable, table=True):
    """What the participant was shown and agreed to, and the salt of its commitment in the log: sealed under their data
    key, and erasable."""

    __tablename__ = "redemption_terms"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    redemption_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class RedemptionEntry(ServiceTable, table=True):
    """A step of a redemption as a bank's day counts it; its points and grams are its transfer's, of the same id."""

    __tablename__ = "redemption_entry"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    transfer_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    redemption_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    bank_id: int = Field(sa_column=Column(Integer, nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text))
    units: int = Field(sa_column=Column(BigInteger, nullable=False))
    points: int = Field(sa_column=Column(BigInteger, nullable=False))
    value_fen: int = Field(sa_column=Column(BigInteger, nullable=False))
    co2e_mg: int = Field(sa_column=Column(BigInteger, nullable=False))
    day: date = Field(sa_column=Column(Date, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    call_id: UUID | None = Field(sa_column=Column(Uuid))
    __table_args__ = (
        Index("redemption_entry_bank_day_index", "bank_id", "day"),
        Index("redemption_entry_redemption_index", "participant_id", "redemption_id"),
    )


class Fulfilment(ServiceTable, table=True):
    """A bank's word that the benefit reached its customer: its own reference, and the day."""

    __tablename__ = "fulfilment"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    redemption_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    reference: str = Field(sa_column=Column(Text, nullable=False))
    fulfilled_on: date = Field(sa_column=Column(Date, nullable=False))
    call_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class RedemptionWish(ServiceTable, table=True):
    """候补: somebody waits for a pool that is short, with what they agreed to; served in the order of the ids."""

    __tablename__ = "redemption_wish"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    wish_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    pool: str = Field(sa_column=Column(Text, nullable=False))
    offer: str = Field(sa_column=Column(Text, nullable=False))
    offer_version: int = Field(sa_column=Column(Integer, nullable=False))
    units: int = Field(sa_column=Column(BigInteger, nullable=False))
    points: int = Field(sa_column=Column(BigInteger, nullable=False))
    text_version: str = Field(sa_column=Column(Text, nullable=False))
    given_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text))
    redemption_id: UUID | None = Field(sa_column=Column(Uuid))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    ended_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (
        Index("redemption_wish_waiting_index", "pool", "wish_id", postgresql_where=text("state = 'waiting'")),
        Index(
            "redemption_wish_one_key",
            "participant_id",
            "pool",
            unique=True,
            postgresql_where=text("state = 'waiting'"),
        ),
    )


class MoneyCall(ServiceTable, table=True):
    """What a call about money was answered, under the caller's key for it; `refusal` where it was refused."""

    __tablename__ = "money_call"
    client: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    redemption_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    transfer_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    refusal: bytes | None = Field(sa_column=Column(LargeBinary))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
