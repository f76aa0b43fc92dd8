"""What may be asked of the poster, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from hashlib import sha256
from uuid import UUID

from ledger.journal import Transfer
from ledger.records import record
from service.activities.intake import Refusal, Report
from service.redemption.commands import Redeemed, RedemptionCommand


@dataclass(frozen=True, slots=True)
class Reverse:
    """Take a credit back, on the authority of an `operator`. `reversal_id` and `nonce` are fresh."""

    participant_id: UUID
    transfer_id: UUID
    reason: str
    authority: str
    reversal_id: UUID
    nonce: bytes

    @property
    def key(self) -> bytes:
        return self.transfer_id.bytes

    @property
    def home(self) -> bytes:
        return self.participant_id.bytes[::-1]  # its first bytes are a time

    @property
    def order_tags(self) -> tuple[bytes, ...]:
        return ()

    @property
    def names(self) -> bytes | None:
        return None


@dataclass(frozen=True, slots=True)
class Retract:
    """A source takes back what was credited for one of its events; `event` is the event's key."""

    event: bytes
    reversal_id: UUID
    nonce: bytes

    @property
    def key(self) -> bytes:
        return self.reversal_id.bytes

    @property
    def home(self) -> bytes:
        return self.event

    @property
    def order_tags(self) -> tuple[bytes, ...]:
        return (self.event,)

    @property
    def names(self) -> bytes | None:
        return self.event


@dataclass(frozen=True, slots=True)
class Settle:
    """A source reports the facts on which a person's provisional credits of a scenario and some days depend.

    facts      by name, in the methodology's units
    document   the record as canonical JSON: what the commitments in the log cover, under `salt`. The same document of
               the same source is the same settlement, sent again
    settled_by  the settlement's own id, fresh; one that is sent again has its first
    """

    source_id: int
    source: str
    subject_tag: bytes
    scenario: str
    first: date
    last: date
    facts: Mapping[str, Decimal]
    document: bytes
    salt: bytes
    settled_by: UUID

    @property
    def key(self) -> bytes:
        return sha256(b"%d %b %b" % (self.source_id, self.subject_tag, self.document)).digest()

    @property
    def subject(self) -> tuple[int, bytes]:
        return self.source_id, self.subject_tag

    @property
    def home(self) -> bytes:
        return self.subject_tag

    @property
    def order_tags(self) -> tuple[bytes, ...]:
        return ()

    @property
    def names(self) -> bytes | None:
        return None


Command = Report | Reverse | Retract | Settle | RedemptionCommand


@record
class Credited:
    """The activity was credited under this transfer.

    pending   the credit waits for its maturity: none of it can be used yet
    """

    transfer_id: UUID
    co2e_mg: int
    points: int
    pending: bool = False


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same event came before; this is its first answer."""

    first: Credited | Refusal


@dataclass(frozen=True, slots=True)
class Reversed:
    """The reversal as it stands in the journal; `repeated` when it was there before."""

    transfer: Transfer
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class SettledCredit:
    """What became of one provisional credit: `matured`, or `withdrawn` because of something."""

    activity_id: UUID
    outcome: str
    co2e_mg: int
    points: int
    because: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """Every provisional credit that the settlement decided, now or when it was sent before, oldest first; none when
    others had decided all."""

    settled_by: UUID
    credits: tuple[SettledCredit, ...]


Outcome = Credited | Refusal | Duplicate | Reversed | Settled | Redeemed
