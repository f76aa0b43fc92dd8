"""What is sealed beside the journal: the evidence of activities, the facts of settlements, the terms of redemptions and
the words of disputes. The only module that knows what is inside.

A salt and the document that the log commits to under it are one sealed text: salt, length of the document, document,
and of evidence the values that refused it. Whoever erases one row, or the owner's data key, erases both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog
from prometheus_client import Counter

from ledger.leaves import SALT_BYTES
from service.vault.vault import DataKey, SealBroken, Vault

_log = structlog.get_logger(__name__)

BROKEN = Counter("tanpuhui_broken_seals", "Sealed rows that did not open: each was changed by somebody")

_EVIDENCE, _FACTS, _TERMS, _WORDS = b"evidence", b"facts", b"terms", b"words"
_DECISION = b"decision"
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class OpenedEvidence:
    """What was committed to, with its salt.

    refusal   of evidence: the values that refused the activity, as JSON; None when it was credited
    """

    salt: bytes
    document: bytes
    refusal: bytes | None = None


def seal_evidence(key: DataKey, activity_id: UUID, salt: bytes, document: bytes, refusal: bytes | None) -> bytes:
    """The evidence of an activity."""
    return key.seal(_EVIDENCE, activity_id.bytes, _packed(salt, document) + (refusal or b""))


def open_evidence(key: DataKey, activity_id: UUID, sealed: bytes) -> OpenedEvidence:
    """Raises SealBroken."""
    return _unpacked(key.open(_EVIDENCE, activity_id.bytes, sealed))


def seal_facts(key: DataKey, activity_id: UUID, salt: bytes, document: bytes) -> bytes:
    """The facts that settled a credit."""
    return key.seal(_FACTS, activity_id.bytes, _packed(salt, document))


def open_facts(key: DataKey, activity_id: UUID, sealed: bytes) -> OpenedEvidence:
    """Raises SealBroken."""
    return _unpacked(key.open(_FACTS, activity_id.bytes, sealed))


def seal_terms(key: DataKey, redemption_id: UUID, salt: bytes, document: bytes) -> bytes:
    """The terms of a redemption."""
    return key.seal(_TERMS, redemption_id.bytes, _packed(salt, document))


def open_terms(key: DataKey, redemption_id: UUID, sealed: bytes) -> OpenedEvidence:
    """Raises SealBroken."""
    return _unpacked(key.open(_TERMS, redemption_id.bytes, sealed))


def seal_decision(key: DataKey, dispute_id: UUID, salt: bytes, document: bytes) -> bytes:
    """The record of a dispute's decision."""
    return key.seal(_DECISION, dispute_id.bytes, _packed(salt, document))


def open_decision(key: DataKey, dispute_id: UUID, sealed: bytes) -> OpenedEvidence:
    """Raises SealBroken."""
    return _unpacked(key.open(_DECISION, dispute_id.bytes, sealed))


def seal_words(key: DataKey, dispute_id: UUID, number: int, words: str) -> bytes:
    """What somebody wrote in a step of a dispute."""
    return key.seal(_WORDS, dispute_id.bytes + number.to_bytes(4, "big"), words.encode())


def open_words(key: DataKey, dispute_id: UUID, number: int, sealed: bytes) -> str:
    """Raises SealBroken."""
    return key.open(_WORDS, dispute_id.bytes + number.to_bytes(4, "big"), sealed).decode()


def key_beside(vault: Vault, owner: UUID, kek_version: int | None, wrapped: bytes | None) -> DataKey | None:
    """The data key that a statement read beside a row (keys.KEY_JOIN); None where it was destroyed."""
    return None if wrapped is None or kek_version is None else vault.key(owner, kek_version, wrapped)


def opened_beside(vault: Vault, row: asyncpg.Record) -> OpenedEvidence | None:
    """The evidence of a row that has `participant_id`, `activity_id`, `sealed`, and of the owner's key `kek_version`
    and `wrapped`; None where either is gone. What does not open alarms and is as if it were gone, so that nobody stops
    a subscriber or an export by writing into one row. Raises VaultError."""
    key = key_beside(vault, row["participant_id"], row["kek_version"], row["wrapped"])
    if key is None or row["sealed"] is None:
        return None
    return opened_or_alarm(lambda: open_evidence(key, row["activity_id"], row["sealed"]))


def opened_or_alarm(opens: Callable[[], OpenedEvidence]) -> OpenedEvidence | None:
    """What `opens` returns; None, with an alarm, where what was stored was changed."""
    try:
        return opens()
    except SealBroken as broken:
        BROKEN.inc()
        _log.error("what was sealed does not open: somebody changed it", detail=str(broken))
        return None


def _packed(salt: bytes, document: bytes) -> bytes:
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return salt + len(document).to_bytes(_LENGTH_BYTES, "big") + document


def _unpacked(text: bytes) -> OpenedEvidence:
    begins = SALT_BYTES + _LENGTH_BYTES
    ends = begins + int.from_bytes(text[SALT_BYTES:begins], "big")
    if len(text) < ends:
        raise SealBroken("what is sealed ends before its document does")
    return OpenedEvidence(text[:SALT_BYTES], text[begins:ends], text[ends:] or None)
