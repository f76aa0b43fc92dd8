"""The tables of banks: registration, keys, nonces, signed calls and what a bank asks a person to approve."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlmodel import Field

from service.database import ServiceTable


class Bank(ServiceTable, table=True):
    """A partner bank. A suspended one is given no new holds; those it has, it can still capture or void."""

    __tablename__ = "bank"
    bank_id: int = Field(sa_column=Column(Integer, Identity(always=True), primary_key=True))
    uri: str = Field(sa_column=Column(Text, nullable=False))
    title_zh: str = Field(sa_column=Column(Text, nullable=False))
    title_en: str = Field(sa_column=Column(Text, nullable=False))
    programme: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False, server_default="active"))
    registered_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (UniqueConstraint("uri", name="bank_uri_key"),)


class BankChange(ServiceTable, table=True):
    """That a bank was suspended, for a reason given as a code, or resumed."""

    __tablename__ = "bank_change"
    bank_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    action: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text))


class BankKey(ServiceTable, table=True):
    """A bank's public key as JWK text, and when its signatures count. A key id stands for one key for ever."""

    __tablename__ = "bank_key"
    bank_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    key_id: str = Field(sa_column=Column(Text, primary_key=True))
    public_key: str = Field(sa_column=Column(Text, nullable=False))
    valid_from: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    valid_to: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    registered_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class BankNonce(ServiceTable, table=True):
    """The nonce of a signature, which nobody may use again while the signature is young enough to be taken."""

    __tablename__ = "bank_nonce"
    bank_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    nonce: str = Field(sa_column=Column(Text, primary_key=True))
    seen_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("bank_nonce_seen_index", "seen_at"),)


class SignedCallRow(ServiceTable, table=True):
    """A call as the bank signed it, kept for the auditor: signature base (RFC 9421, 2.5), signature, and the body."""

    __tablename__ = "signed_call"
    call_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    bank_id: int = Field(sa_column=Column(Integer, nullable=False))
    key_id: str = Field(sa_column=Column(Text, nullable=False))
    method: str = Field(sa_column=Column(Text, nullable=False))
    path: str = Field(sa_column=Column(Text, nullable=False))
    signature_base: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    signature: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    content_digest: str = Field(sa_column=Column(Text, nullable=False))
    body: bytes | None = Field(sa_column=Column(LargeBinary))
    received_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class SignedWordRow(ServiceTable, table=True):
    """The same of a call that carries what somebody wrote or a bank's whole book, and that no leaf names: erasable."""

    __tablename__ = "signed_word"
    call_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    bank_id: int = Field(sa_column=Column(Integer, nullable=False))
    key_id: str = Field(sa_column=Column(Text, nullable=False))
    method: str = Field(sa_column=Column(Text, nullable=False))
    path: str = Field(sa_column=Column(Text, nullable=False))
    signature_base: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    signature: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    content_digest: str = Field(sa_column=Column(Text, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class BankRequest(ServiceTable, table=True):
    """A bank asks a person to redeem so many units of an offer. An approval is the redemption that names the request.

    call_id         the bank's signed call, as it is kept
    attempt         how often an approval was begun, refusals included
    code_hash       SHA-256 of the code that the bank hands to the person; whoever has the code may decide, once
    participant_id  who has begun to approve, or has declined; nobody else can from then on
    addressed_to    whom the bank asked by its own id for them; the code is then nobody's
    """

    __tablename__ = "bank_request"
    request_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    bank_id: int = Field(sa_column=Column(Integer, nullable=False))
    offer: str = Field(sa_column=Column(Text, nullable=False))
    offer_version: int = Field(sa_column=Column(Integer, nullable=False))
    units: int = Field(sa_column=Column(BigInteger, nullable=False))
    reference: str | None = Field(sa_column=Column(Text))
    code_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    call_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    attempt: int = Field(sa_column=Column(Integer, nullable=False, server_default="1"))
    participant_id: UUID | None = Field(sa_column=Column(Uuid))
    declined_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    addressed_to: UUID | None = Field(sa_column=Column(Uuid))
    __table_args__ = (
        UniqueConstraint("code_hash", name="bank_request_code_hash_key"),
        Index(
            "bank_request_addressed_index",
            "addressed_to",
            "expires_at",
            postgresql_where=text("addressed_to IS NOT NULL"),
        ),
    )
