"""The tables of clients, their keys, and what is used up or revoked."""

from datetime import datetime

from sqlalchemy import Column, DateTime, Index, Integer, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from service.database import ServiceTable


class OAuthClientRow(ServiceTable, table=True):
    """A client of the token endpoint.

    role           what its tokens say; `participant` is an app of people, which keeps no secret and has no key
    uri            of the source, bank or funder that it speaks for
    tokens_from    tokens issued before this moment are refused
    """

    __tablename__ = "oauth_client"
    client_id: str = Field(sa_column=Column(Text, primary_key=True))
    role: str = Field(sa_column=Column(Text, nullable=False))
    uri: str | None = Field(sa_column=Column(Text))
    title_zh: str = Field(sa_column=Column(Text, nullable=False))
    title_en: str = Field(sa_column=Column(Text, nullable=False))
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    redirect_uris: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    state: str = Field(sa_column=Column(Text, nullable=False, server_default="active"))
    tokens_from: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    registered_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class ClientChange(ServiceTable, table=True):
    """What was done to a client, and the code of the operator who did it; `kid` for what was done to a key."""

    __tablename__ = "client_change"
    client_id: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    action: str = Field(sa_column=Column(Text, nullable=False))
    kid: str | None = Field(sa_column=Column(Text))
    by_operator: str = Field(sa_column=Column(Text, nullable=False))


class ClientKeyRow(ServiceTable, table=True):
    """A client's public key as JWK text, and when its assertions count. A kid stands for one key for ever."""

    __tablename__ = "client_key"
    client_id: str = Field(sa_column=Column(Text, primary_key=True))
    kid: str = Field(sa_column=Column(Text, primary_key=True))
    public_key: str = Field(sa_column=Column(Text, nullable=False))
    valid_from: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    valid_to: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    registered_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class AssertionUsed(ServiceTable, table=True):
    """The id of an assertion, which nobody may send again before it expires."""

    __tablename__ = "assertion_used"
    client_id: str = Field(sa_column=Column(Text, primary_key=True))
    jti: str = Field(sa_column=Column(Text, primary_key=True))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("assertion_used_expires_index", "expires_at"),)


class TokenRevoked(ServiceTable, table=True):
    """The id of a token that is refused although it has not expired."""

    __tablename__ = "token_revoked"
    jti: str = Field(sa_column=Column(Text, primary_key=True))
    client_id: str = Field(sa_column=Column(Text, nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("token_revoked_expires_index", "expires_at"),)
