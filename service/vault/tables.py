"""The vault's tables, in a schema of their own."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, LargeBinary, SmallInteger, Text, Uuid
from sqlmodel import Field

from service.database import ServiceTable

SCHEMA = {"schema": "vault"}


class KeyEncryptionKey(ServiceTable, table=True):
    """密钥加密密钥: a version of the file of key-encryption keys, by its check value. The newest that was not retired
    wraps new data keys."""

    __tablename__ = "kek"
    __table_args__ = SCHEMA
    kek_version: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    check_value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    adopted_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    retired_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    destroyed_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))


class PersonKey(ServiceTable, table=True):
    """个人数据密钥: a participant's data key, wrapped. Without its row nothing sealed of them opens."""

    __tablename__ = "person_key"
    __table_args__ = SCHEMA
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    kek_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    wrapped: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class KeyDestroyed(ServiceTable, table=True):
    """That a participant's data key was destroyed. Append-only."""

    __tablename__ = "key_destroyed"
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    destroyed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("key_destroyed_at_index", "destroyed_at"), SCHEMA)


class PersonRow(ServiceTable, table=True):
    """自然人: who somebody is at the identity provider, as HMAC, and whom it stands for."""

    __tablename__ = "person"
    __table_args__ = SCHEMA
    person_tag: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    key_version: int = Field(sa_column=Column(SmallInteger, nullable=False))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False, unique=True))
    state: str = Field(sa_column=Column(Text, nullable=False))


class SealedIdentity(ServiceTable, table=True):
    """身份信息: what is known of who a participant is, sealed under their data key."""

    __tablename__ = "identity"
    __table_args__ = SCHEMA
    participant_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class IdentityRead(ServiceTable, table=True):
    """Whose identity was read, by which role, when and what for. Append-only."""

    __tablename__ = "identity_read"
    read_id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    participant_id: UUID = Field(sa_column=Column(Uuid, nullable=False))
    purpose: str = Field(sa_column=Column(Text, nullable=False))
    read_by: str = Field(sa_column=Column(Text, nullable=False))
    read_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("identity_read_participant_index", "participant_id"), SCHEMA)
