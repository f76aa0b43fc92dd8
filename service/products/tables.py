"""The tables of the board: documents as they were submitted, what became of them, where they stand."""

from datetime import date, datetime

from sqlalchemy import BigInteger, Column, Date, DateTime, Identity, Index, Integer, LargeBinary, Text, text
from sqlmodel import Field

from service.database import ServiceTable


class ListingDocument(ServiceTable, table=True):
    """One version of a product or an offer, by its canonical bytes.

    product       the id of an offer's product
    submitted_by  an operator's code
    """

    __tablename__ = "listing_document"
    kind: str = Field(sa_column=Column(Text, primary_key=True))
    id: str = Field(sa_column=Column(Text, primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    bank: str = Field(sa_column=Column(Text, nullable=False))
    product: str | None = Field(sa_column=Column(Text))
    document: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    submitted_by: str = Field(sa_column=Column(Text, nullable=False))
    submitted_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (Index("listing_document_digest_key", "digest", unique=True),)


class ListingChange(ServiceTable, table=True):
    """One step: what happened to a document, by whom (an operator's code, or `rule`), and why where it went down."""

    __tablename__ = "listing_change"
    change_id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    id: str = Field(sa_column=Column(Text, nullable=False))
    version: int = Field(sa_column=Column(Integer, nullable=False))
    action: str = Field(sa_column=Column(Text, nullable=False))
    operator: str = Field(sa_column=Column(Text, nullable=False))
    reason: str | None = Field(sa_column=Column(Text))
    recorded_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (
        Index("listing_change_document_index", "kind", "id", "version"),
        Index(
            "listing_change_approved_key",
            "kind",
            "id",
            "version",
            "operator",
            unique=True,
            postgresql_where=text("action = 'approved'"),
        ),
    )


class Listing(ServiceTable, table=True):
    """Where a document stands now: a projection of its steps, and the last day its evidence carries it."""

    __tablename__ = "listing"
    kind: str = Field(sa_column=Column(Text, primary_key=True))
    id: str = Field(sa_column=Column(Text, primary_key=True))
    version: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    state: str = Field(sa_column=Column(Text, nullable=False))
    good_through: date | None = Field(sa_column=Column(Date))
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    __table_args__ = (
        Index(
            "listing_current_key",
            "kind",
            "id",
            unique=True,
            postgresql_where=text("state IN ('listed', 'suspended')"),
        ),
    )
