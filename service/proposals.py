"""Two people: what one operator proposes, another approves by asking for the very same.

A proposal is known by its request: method, path with query, and SHA-256 of the body. It can be approved once, within a
day, and never by whoever proposed it. Both are on record for good, by the codes of operators.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Column, DateTime, LargeBinary, Text, Uuid
from sqlmodel import Field

from service.database import Connection, ServiceTable

LIFE = timedelta(hours=24)


class OperatorProposal(ServiceTable, table=True):
    """What an operator wants done: the method, path and query of a request, and SHA-256 of its body."""

    __tablename__ = "operator_proposal"
    proposal_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    method: str = Field(sa_column=Column(Text, nullable=False))
    target: str = Field(sa_column=Column(Text, nullable=False))
    body_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    proposed_by: str = Field(sa_column=Column(Text, nullable=False))
    proposed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class OperatorApproval(ServiceTable, table=True):
    """That another operator asked for the same, upon which it was tried, once."""

    __tablename__ = "operator_approval"
    proposal_id: UUID = Field(sa_column=Column(Uuid, primary_key=True))
    approved_by: str = Field(sa_column=Column(Text, nullable=False))
    approved_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class ProposalRefused(Exception):
    """A proposal that does not stand for this request; `reason` is `unknown`, `other`, `own`, `used` or `expired`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the request by its method, path with query and SHA-256 of its body; and by whom, a code."""

    method: str
    target: str
    body_digest: bytes
    by: str


# The real time of the database: a clock that was moved for a test ends no proposal.
_PROPOSE = """
    INSERT INTO service.operator_proposal
        (proposal_id, method, target, body_digest, proposed_by, proposed_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp() + $6::interval) RETURNING expires_at
"""
_READ = """
    SELECT method, target, body_digest, proposed_by, expires_at <= clock_timestamp() AS expired
    FROM service.operator_proposal WHERE proposal_id = $1
"""
_APPROVE = """
    INSERT INTO service.operator_approval (proposal_id, approved_by, approved_at)
    VALUES ($1, $2, clock_timestamp()) ON CONFLICT (proposal_id) DO NOTHING RETURNING true
"""  # of two that approve at once, one does


async def propose(tx: Connection, proposal_id: UUID, asked: Asked) -> datetime:
    """Record what an operator wants done; until when another may approve it."""
    row = (proposal_id, asked.method, asked.target, asked.body_digest, asked.by, LIFE)
    expires_at: datetime = await tx.fetchval(_PROPOSE, *row)
    return expires_at


async def approve(tx: Connection, proposal_id: UUID, asked: Asked) -> None:
    """Use up a proposal of somebody else for this very request; whoever is not refused carries it out.

    It is used up even if what is then tried is refused: the two propose and approve again. Raises ProposalRefused.
    """
    found = await tx.fetchrow(_READ, proposal_id)
    if found is None:
        raise ProposalRefused("unknown")
    if (found["method"], found["target"], found["body_digest"]) != (asked.method, asked.target, asked.body_digest):
        raise ProposalRefused("other")
    if found["proposed_by"] == asked.by:
        raise ProposalRefused("own")
    if found["expired"]:
        raise ProposalRefused("expired")
    if not await tx.fetchval(_APPROVE, proposal_id, asked.by):
        raise ProposalRefused("used")
