"""The leaves of holds and of what becomes of them. They are of the encoding that leaves.py describes; docs/audit.md
states every field and byte."""

from dataclasses import dataclass
from datetime import datetime

from ledger.journal import Transfer
from ledger.leaves import VERSION, commitment, lines_text, or_null, participant_text, plain, utc_second

TERMS_PREFIX = b"tanpuhui/terms/1\n"
DECISION_PREFIX = b"tanpuhui/decision/1\n"


@dataclass(frozen=True, slots=True)
class HoldFacts:
    """What a hold's leaf states beside the transfer: for whom it is, and what was agreed.

    bank        the registered URI of the bank that may capture it
    offer       SHA-256 of the offer's document, hex
    pool        the code of the pool that pays
    units       whole units of the offer
    value_fen   what the pool pays for them, in fen
    terms       terms_commitment() of what the participant was shown and agreed to, hex
    expires_at  dead from this moment on; a whole second
    signature   SHA-256 of the bank's signed request, hex, where the bank began; None where the participant did
    """

    bank: str
    offer: str
    pool: str
    units: int
    value_fen: int
    terms: str
    expires_at: datetime
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What the leaf of a capture, a release or a refund states beside the transfer.

    bank, pool   as the hold's
    units        so many of the hold's units
    value_fen    so much of the hold's value, in the same proportion
    authority    who wanted it: `bank`, `participant`, `operator`, or `rule`; a capture is the bank's alone
    signature    SHA-256 of the bank's signed request, hex; None where, and only where, the bank did not ask
    decision     decision_commitment() of the record that decided it, hex; None where there is none, and for a capture
    """

    bank: str
    pool: str
    units: int
    value_fen: int
    authority: str = "bank"
    signature: str | None = None
    decision: str | None = None


def terms_commitment(salt: bytes, document: bytes) -> str:
    """SHA-256 of a fixed prefix, a 32-byte random salt and what was agreed, in hex: says nothing once the salt is
    erased."""
    return commitment(TERMS_PREFIX, salt, document)


def decision_commitment(salt: bytes, document: bytes) -> str:
    """The same of the record that decided a release or a refund, of a dispute for example, under a prefix of its
    own."""
    return commitment(DECISION_PREFIX, salt, document)


def _require_word(facts: StepFacts) -> None:
    """Whoever wanted a step has said so: the bank by its signature, and nobody else by a bank's."""
    if (facts.authority == "bank") != (facts.signature is not None):
        raise ValueError(f"a step on the authority of {facts.authority!r} with the signature {facts.signature!r}")


def hold_leaf(transfer: Transfer, participant_kind: str, facts: HoldFacts, nonce: bytes) -> bytes:
    """The leaf of a hold. Its transfer's id is the redemption's."""
    if facts.expires_at.microsecond:
        raise ValueError(f"a hold ends on a whole second, not at {facts.expires_at}")
    if facts.expires_at <= transfer.recorded_at.replace(microsecond=0):
        raise ValueError(f"a hold ends after it began, not at {facts.expires_at}")
    return plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","bank":"{facts.bank}","counter":"{transfer.counter}",'
        f'"day":"{transfer.effective_on}","expires_at":"{utc_second(facts.expires_at)}","kind":"hold",'
        f'{lines_text(transfer)},"nonce":"{nonce.hex()}","offer":"{facts.offer}",'
        f'{participant_text(transfer, participant_kind)},"pool":"{facts.pool}","programme":"{transfer.programme}",'
        f'"region":"{transfer.region}","signature":{or_null(facts.signature)},"terms":"{facts.terms}",'
        f"{_step_end(transfer, facts)}"
    )


def capture_leaf(transfer: Transfer, participant_kind: str, facts: StepFacts, nonce: bytes) -> bytes:
    """The leaf of a capture: the hold that it draws on. Nobody but the bank captures."""
    _require_word(facts)
    return plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","bank":"{facts.bank}","counter":"{transfer.counter}",'
        f'"day":"{transfer.effective_on}","hold":"{transfer.hold_id}","kind":"capture",{lines_text(transfer)},'
        f'"nonce":"{nonce.hex()}",{participant_text(transfer, participant_kind)},"pool":"{facts.pool}",'
        f'"programme":"{transfer.programme}","region":"{transfer.region}",'
        f'"signature":"{facts.signature}",{_step_end(transfer, facts)}'
    )


def release_leaf(transfer: Transfer, participant_kind: str, facts: StepFacts, nonce: bytes) -> bytes:
    """The leaf of a release: the hold whose rest goes back, and why."""
    _require_word(facts)
    return plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","authority":"{facts.authority}","bank":"{facts.bank}",'
        f'"counter":"{transfer.counter}","day":"{transfer.effective_on}","decision":{or_null(facts.decision)},'
        f'"hold":"{transfer.hold_id}","kind":"release",{lines_text(transfer)},"nonce":"{nonce.hex()}",'
        f'{participant_text(transfer, participant_kind)},"pool":"{facts.pool}","programme":"{transfer.programme}",'
        f'"reason":"{transfer.reason}","region":"{transfer.region}","signature":{or_null(facts.signature)},'
        f"{_step_end(transfer, facts)}"
    )


def refund_leaf(transfer: Transfer, participant_kind: str, facts: StepFacts, nonce: bytes) -> bytes:
    """The leaf of a refund: the capture that is taken back, and why."""
    _require_word(facts)
    return plain(
        f'{{"at":"{utc_second(transfer.recorded_at)}","authority":"{facts.authority}","bank":"{facts.bank}",'
        f'"counter":"{transfer.counter}","day":"{transfer.effective_on}","decision":{or_null(facts.decision)},'
        f'"kind":"refund",{lines_text(transfer)},"nonce":"{nonce.hex()}",'
        f'{participant_text(transfer, participant_kind)},"pool":"{facts.pool}",'
        f'"programme":"{transfer.programme}","reason":"{transfer.reason}","region":"{transfer.region}",'
        f'"reverses":"{transfer.reverses}","signature":{or_null(facts.signature)},{_step_end(transfer, facts)}'
    )


def _step_end(transfer: Transfer, facts: HoldFacts | StepFacts) -> str:
    return f'"transfer":"{transfer.transfer_id}","units":"{facts.units}","v":"{VERSION}","value":"{facts.value_fen}"}}'
