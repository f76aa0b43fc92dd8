"""The record of a decision 裁定记录: what the operator decided of a dispute, committed to by the refunds it makes.

The document is canonical JSON (RFC 8785) with nothing in it but ids, codes and a time; what the parties wrote is not in
it. It is kept sealed under the participant's data key, and goes to the auditor as evidence does.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import orjson

from ledger.hold_leaves import decision_commitment
from ledger.leaves import SALT_BYTES, utc_second
from service.clock import Fresh
from service.database import Connection
from service.settlement.disputes import Which
from service.settlement.states import StepRefused
from service.vault import Vault, read_key, seal_decision

VERSION = "1"
FOR_PARTICIPANT = "participant"

_ADD = """
    INSERT INTO service.dispute_decision (participant_id, redemption_id, dispute_id, commitment, sealed, decided_at)
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (participant_id, redemption_id) DO NOTHING
"""  # one that is there was made by the same decision, which goes on
_FIND = """
    SELECT dispute_id, commitment FROM service.dispute_decision WHERE participant_id = $1 AND redemption_id = $2
"""
_REASON = "SELECT reason FROM service.dispute WHERE participant_id = $1 AND dispute_id = $2"


def decision_document(which: Which, reason: str, captures: Sequence[UUID], at: datetime) -> bytes:
    """The record of a decision for the participant.

    reason    of the dispute, a code
    captures  what is to be refunded by it
    """
    document = {
        "captures": sorted(map(str, captures)),
        "decided_at": utc_second(at),
        "dispute": str(which.dispute_id),
        "outcome": FOR_PARTICIPANT,
        "reason": reason,
        "redemption": str(which.redemption_id),
        "v": VERSION,
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


async def keep_decision(
    tx: Connection, vault: Vault, which: Which, captures: Sequence[UUID], fresh: Fresh
) -> str | None:
    """Keep the record of a decision for the participant before anything is refunded; its commitment, hex. That of one
    that was broken off is there already and is gone on with. None where the person's data key is gone: then nothing
    would be left to show."""
    key = await read_key(tx, vault, which.participant_id)
    if key is None:
        return None
    reason = await tx.fetchval(_REASON, which.participant_id, which.dispute_id)
    now, salt = fresh.clock(), fresh.random(SALT_BYTES)
    document = decision_document(which, reason, captures, now)
    sealed = seal_decision(key, which.dispute_id, salt, document)
    commitment = bytes.fromhex(decision_commitment(salt, document))
    place = (which.participant_id, which.redemption_id)
    await tx.execute(_ADD, *place, which.dispute_id, commitment, sealed, now)
    found = await tx.fetchrow(_FIND, *place)
    assert found is not None
    assert found["dispute_id"] == which.dispute_id  # of the disputes about a redemption that stand there is one
    return str(found["commitment"].hex())


async def require_undecided(tx: Connection, which: Which, outcome: str) -> None:
    """Raises StepRefused where a decision for the participant was begun, refunds and all, and this one is for the
    bank."""
    begun = outcome != FOR_PARTICIPANT and await tx.fetchrow(_FIND, which.participant_id, which.redemption_id)
    if begun:
        raise StepRefused("resolved_for_participant", f"resolve_for_{outcome}")
