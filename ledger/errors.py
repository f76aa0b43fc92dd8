"""What the ledger raises, drawn once:

LedgerError
├── LedgerInvariantBroken    a rule the database also enforces was about to be broken: a bug, never a refusal
├── LeafInvalid              bytes that are not a leaf of the stated version
└── TransferNotFound         no such transfer for this participant
"""

from uuid import UUID


class LedgerError(Exception):
    """Everything the ledger can say no with."""


class LedgerInvariantBroken(LedgerError):
    """A posting would break a rule that was decided before; nothing is posted and an operator must look."""


class LeafInvalid(LedgerError):
    """The bytes are not a canonical leaf: the message says which field, what was expected and what came."""


class TransferNotFound(LedgerError):
    """This participant has no transfer of this id."""

    def __init__(self, transfer_id: UUID) -> None:
        super().__init__(f"no transfer {transfer_id}")
        self.transfer_id = transfer_id
