"""The tables of signed reports: who must sign, used nonces, what was signed, and keys that were compromised."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Column, DateTime, Index, Integer, LargeBinary, SmallInteger, Text, Uuid, text
from sqlmodel import Field

from service.database import ServiceTable


class SourcePolicy(ServiceTable, table=True):
    """Whether a source's calls must be signed. A source without a row follows its grade and the platform's mode."""

    __tablename__ = "source_policy"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    signing: str = Field(sa_column=Column(Text, nullable=False))
    set_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class SourceNonce(ServiceTable, table=True):
    """The nonce of a signature, which nobody may use again while the signature is young enough to be taken."""

    __tablename__ = "source_nonce"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    nonce: str = Field(sa_column=Column(Text, primary_key=True))
    seen_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("source_nonce_seen_index", "seen_at"),)


class SignedReport(ServiceTable, table=True):
    """A call as its source signed it: signature base (RFC 9421, 2.5), signature, and the body while it is kept.

    body             sealed under a key of this row's own, which `body_key` is, wrapped under `kek_version`
    activities       the ids under which its events are stored, where they were new and were judged
    subject_tags     tags of the people it tells of, for as long as there is a body to be taken out
    body_erased_at   when the body was taken out; the signature stays, and shows nothing of what was in it
    """

    __tablename__ = "signed_report"
    call_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    source_id: int = Field(sa_column=Column(Integer, nullable=False))
    key_id: str = Field(sa_column=Column(Text, nullable=False))
    method: str = Field(sa_column=Column(Text, nullable=False))
    path: str = Field(sa_column=Column(Text, nullable=False))
    signature_base: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    signature: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    content_digest: str = Field(sa_column=Column(Text, nullable=False))
    body: bytes | None = Field(sa_column=Column(LargeBinary))
    body_key: bytes | None = Field(sa_column=Column(LargeBinary))
    kek_version: int | None = Field(sa_column=Column(SmallInteger))
    activities: list[UUID] = Field(sa_column=Column(ARRAY(Uuid), nullable=False))
    subject_tags: list[bytes] = Field(sa_column=Column(ARRAY(LargeBinary), nullable=False))
    received_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    body_erased_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True)))
    __table_args__ = (
        Index("signed_report_activities_index", "activities", postgresql_using="gin"),
        Index(
            "signed_report_subjects_index",
            "subject_tags",
            postgresql_using="gin",
            postgresql_where=text("body IS NOT NULL"),
        ),
        Index("signed_report_body_index", "received_at", postgresql_where=text("body IS NOT NULL")),
    )


class KeyRevocation(ServiceTable, table=True):
    """That a source's key was in wrong hands from a moment on, and which operator decided so."""

    __tablename__ = "key_revocation"
    source_id: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    key_id: str = Field(sa_column=Column(Text, primary_key=True))
    revoked_from: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    decided_by: str = Field(sa_column=Column(Text, nullable=False))
    decided_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
