"""What may be asked of the poster about a redemption, and what it answers."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from ledger.records import record
from service.products.model import Offer


@dataclass(frozen=True, slots=True)
class MoneyCall:
    """The caller's own key for a call about money: the same call under it is answered as the first time.

    client       who calls, as the limiter names them
    fingerprint  SHA-256 of what was asked: another one under the same key is a conflict
    """

    client: str
    key: str
    fingerprint: bytes

    @property
    def tag(self) -> bytes:
        """One value for both names."""
        return sha256(b"%d %b %b" % (len(self.client), self.client.encode("utf-8"), self.key.encode("utf-8"))).digest()


@dataclass(frozen=True, slots=True)
class Order:
    """On whose word a step is taken.

    authority  `bank`, `participant`, `operator`, or `rule`
    call       the caller's key; None for what the platform does by itself
    call_id    the bank's signed call as it is kept, and `signature` its SHA-256 in hex; None where no bank signed
    """

    authority: str
    call: MoneyCall | None = None
    call_id: UUID | None = None
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class _OfOneParticipant:
    """A command that concerns one participant's redemptions: two of one person never share a batch, so that each reads
    what the other left."""

    participant_id: UUID
    redemption_id: UUID
    order: Order

    @property
    def key(self) -> bytes:
        return self.order.call.tag if self.order.call else self.redemption_id.bytes

    @property
    def home(self) -> bytes:
        return self.participant_id.bytes[::-1]  # its first bytes are a time

    @property
    def order_tags(self) -> tuple[bytes, ...]:
        return ()

    @property
    def names(self) -> bytes:
        return self.participant_id.bytes


@dataclass(frozen=True, slots=True)
class PlaceHold(_OfOneParticipant):
    """Reserve points for units of an offer; `redemption_id` is fresh.

    points       what was agreed: another price by now is a refusal, never a surprise
    bank_id      of the offer's bank
    terms, salt  what the participant was shown and agreed to, as canonical JSON; the decision adds on what grounds it
                 was made. The salt of its commitment
    request_id   the bank's request, where the bank began: then it has accepted already
    wish_id      whoever waits for the pool goes before everybody else: what they wait by, which ends with the hold
    """

    offer: Offer
    bank_id: int
    units: int
    points: int
    terms: bytes
    salt: bytes
    request_id: UUID | None = None
    wish_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CaptureHold(_OfOneParticipant):
    """Use a hold, in part or wholly; `transfer_id` is fresh.

    units   so many of what is left; None for all
    final   what is left then goes back at once
    """

    transfer_id: UUID
    bank_id: int
    units: int | None
    final: bool


@dataclass(frozen=True, slots=True)
class ReleaseHold(_OfOneParticipant):
    """Give back what is left of a hold: `reason` is one of ledger.holds.ReleaseReason; `transfer_id` is fresh.

    bank_id  the bank that voids; None where no bank does
    """

    transfer_id: UUID
    reason: str
    bank_id: int | None = None


@dataclass(frozen=True, slots=True)
class RefundCapture(_OfOneParticipant):
    """Take a capture back: `reason` is one of ledger.holds.RefundReason; `transfer_id` is fresh.

    bank_id   the bank that asks; None where an operator does
    decision  decision_commitment() of the record that decided it, hex; None where none did
    """

    transfer_id: UUID
    capture_id: UUID
    reason: str
    bank_id: int | None = None
    decision: str | None = None


RedemptionCommand = PlaceHold | CaptureHold | ReleaseHold | RefundCapture


@record
class RedemptionState:
    """A redemption as it stands: amounts of the whole hold, and how far its units have come.

    bank       the registered URI; bank_id is its row
    accepted_call  the signed call by which the bank accepted it
    value_fen  what the whole of it costs the pool
    co2e_mg    milligrams that pass to the funder with the whole of it
    """

    participant_id: UUID
    redemption_id: UUID
    bank_id: int
    bank: str
    offer: str
    offer_version: int
    offer_digest: str
    pool: str
    units: int
    points: int
    value_fen: int
    co2e_mg: int
    units_left: int
    units_captured: int
    units_refunded: int
    state: str
    started_by: str
    request_id: UUID | None
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    ended_at: datetime | None
    accepted_call: UUID | None = None

    def is_dead(self, at: datetime) -> bool:
        """Whether what is still held is dead by now."""
        return self.state == "held" and at >= self.expires_at

    def ended(self, reason: str) -> str:
        """The state once nothing is held: of the captures as far as there are any, else why it was given back."""
        if not self.units_captured:
            return reason
        return "refunded" if self.units_refunded == self.units_captured else "captured"

    def share(self, units: int) -> tuple[int, int, int]:
        """Points, fen and milligrams of so many units: exact, because the whole was a multiple of one unit's."""
        return (
            self.points // self.units * units,
            self.value_fen // self.units * units,
            self.co2e_mg // self.units * units,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a redemption that was taken: a `hold`, `capture`, `release` or `refund`.

    points      that moved; of those that came back, `repaid_points` repaid a debt and `lapsed_points` had run out
    """

    kind: str
    transfer_id: UUID
    reason: str | None
    units: int
    points: int
    value_fen: int
    co2e_mg: int
    recorded_at: datetime
    repaid_points: int = 0
    lapsed_points: int = 0


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What was done: the step, the release of the rest that a final capture leaves, and the redemption afterwards.

    repeated   the same call had done it before: the redemption is told as it stands now
    """

    redemption: RedemptionState
    step: Step
    rest: Step | None = None
    repeated: bool = False
