"""What the ledger raises, drawn once:

LedgerError
├── LedgerInvariantBroken    a rule the database also enforces was about to be broken: a bug, never a refusal
├── LeafInvalid              bytes that are not a leaf of the stated version
├── ProofInvalid             a proof that does not show what it should
├── TileInvalid              a tile, an entry bundle or a path of one that is not as the format says
├── NoteInvalid              a signed note, a key or a checkpoint that cannot be accepted
├── PolicyInvalid            a witness policy that cannot be read
└── TransferNotFound         no such transfer for this participant
"""

from uuid import UUID


class LedgerError(Exception):
    """Everything the ledger can say no with."""


class LedgerInvariantBroken(LedgerError):
    """A posting would break a rule that was decided before; nothing is posted and an operator must look."""


class LeafInvalid(LedgerError):
    """The bytes are not a canonical leaf: the message says which field, what was expected and what came."""


class ProofInvalid(LedgerError):
    """A Merkle proof does not lead to the root it should; nothing may be concluded from it."""


class TileInvalid(LedgerError):
    """Bytes or a path that are no tile or entry bundle of the log."""


class NoteInvalid(LedgerError):
    """A signed note, a verifier key, a checkpoint or a signature under one: the message says what is wrong."""


class PolicyInvalid(LedgerError):
    """A witness policy's file: the message says which line, what was expected and what to do."""


class TransferNotFound(LedgerError):
    """This participant has no transfer of this id."""

    def __init__(self, transfer_id: UUID) -> None:
        super().__init__(f"no transfer {transfer_id}")
        self.transfer_id = transfer_id
