"""One credit with its arithmetic, computed again from its evidence; what it awaits, how it was settled, what replaced
it. Reads decide nothing and lock nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg
import orjson

from ledger.store import Posted, read_transfer
from service.activities.rules import RuleBook
from service.activities.store import RecordedActivity, read_activity
from service.database import Connection
from service.quantification.evidence import activity_data
from service.quantification.model import Methodology
from service.quantification.points import PointsRule
from service.quantification.quantify import ConditionShown, Explanation, explain
from service.quantification.refusals import ConditionNotMet
from service.quantification.settlement import explain_settlement
from service.reading import Awaited
from service.vault import OpenedEvidence, Vault, key_beside, open_facts


@dataclass(frozen=True, slots=True)
class SettledCredit:
    """How a provisional credit was settled: matured or withdrawn, by which facts, while those are not erased.

    conditions   those that the facts were held against, up to the one that was not met
    not_met      the condition for which it was withdrawn
    """

    outcome: str
    recorded_at: datetime
    facts: Mapping[str, Decimal] | None
    conditions: tuple[ConditionShown, ...]
    not_met: ConditionNotMet | None


@dataclass(frozen=True, slots=True)
class ExplainedTransfer:
    """One transfer and, for a credit, how its amount came about.

    log_index     its place in the transparency log; None while the sequencer has not come to it
    activity, methodology   None unless it is a credit
    points_rule   None where it earned no points by its nature
    explanation   None also when the evidence was erased
    awaited       what it waits for, while it is pending
    replaces, replaced_by   credits of the same participant: the one it corrects or supersedes, the one that did so
    """

    posted: Posted
    log_index: int | None
    activity: RecordedActivity | None = None
    methodology: Methodology | None = None
    points_rule: PointsRule | None = None
    explanation: Explanation | None = None
    awaited: Awaited | None = None
    settled: SettledCredit | None = None
    replaces: UUID | None = None
    replaced_by: UUID | None = None


_WAITING = """
    SELECT p.awaits, p.due_on, s.outcome, s.recorded_at, s.sealed, k.kek_version, k.wrapped
    FROM (VALUES ($1::uuid, $2::uuid)) AS w (participant_id, activity_id)
    LEFT JOIN service.provisional p USING (participant_id, activity_id)
    LEFT JOIN service.settlement s USING (participant_id, activity_id)
    LEFT JOIN vault.person_key k USING (participant_id)
"""

GIVING_WAY = ("corrected", "superseded")  # reasons of reversals that a credit of the same batch follows
NEAR = 32  # transfers: a correction or a record gives way to few, and they stand side by side in the journal
_NEIGHBOURS = """
    SELECT transfer_id, counter, kind, reverses, reason, recorded_at FROM ledger.transfer
    WHERE participant_id = $1 AND counter BETWEEN $2 AND $3 ORDER BY counter
"""
_LEAF = "SELECT leaf FROM ledger.leaf WHERE participant_id = $1 AND transfer_id = $2"
_QUEUED_LEAF = "SELECT leaf FROM ledger.leaf_queue WHERE participant_id = $1 AND transfer_id = $2"


async def explain_transfer(
    tx: Connection, vault: Vault, participant_id: UUID, transfer_id: UUID, rules: RuleBook
) -> ExplainedTransfer:
    """One transfer, explained by computing it again from its evidence under the rules it was posted under.

    Raises TransferNotFound.
    """
    posted = await read_transfer(tx, participant_id, transfer_id)
    log_index = await tx.fetchval(
        "SELECT log_index FROM ledger.leaf WHERE participant_id = $1 AND transfer_id = $2", participant_id, transfer_id
    )
    activity = await read_activity(tx, vault, participant_id, transfer_id) if posted.transfer.kind == "credit" else None
    if activity is None:
        return ExplainedTransfer(posted, log_index)
    methodology = rules.posted_methodologies[activity.methodology_digest]
    (waiting,) = await tx.fetch(_WAITING, participant_id, transfer_id)
    key = key_beside(vault, participant_id, waiting["kek_version"], waiting["wrapped"])
    settled_by = open_facts(key, transfer_id, waiting["sealed"]) if key and waiting["sealed"] else None
    return ExplainedTransfer(
        posted,
        log_index,
        activity,
        methodology,
        rules.posted_points_rules.get(activity.points_rule_digest or ""),
        explain(methodology, activity_data(activity.document)) if activity.document else None,
        Awaited(waiting["awaits"], waiting["due_on"]) if waiting["awaits"] else None,
        _settled(waiting, settled_by, methodology) if waiting["outcome"] else None,
        *await _replacements(tx, posted),
    )


def _settled(row: asyncpg.Record, settled_by: OpenedEvidence | None, methodology: Methodology) -> SettledCredit:
    """The settlement, with its conditions computed again as far as they were met."""
    outcome, recorded_at, settlement = row["outcome"], row["recorded_at"], methodology.settlement
    if settlement is None or settled_by is None:
        return SettledCredit(outcome, recorded_at, None, (), None)
    facts = {name: Decimal(value) for name, value in orjson.loads(settled_by.document)["facts"].items()}
    try:
        return SettledCredit(outcome, recorded_at, facts, explain_settlement(settlement, facts), None)
    except ConditionNotMet as not_met:
        return SettledCredit(outcome, recorded_at, facts, (), not_met)


async def _replacements(tx: Connection, posted: Posted) -> tuple[UUID | None, UUID | None]:
    """What this credit replaces, and what replaced it: credits of the same person alone."""
    credit = posted.transfer
    replaces, _ = await _gave_way(tx, credit.participant_id, credit.transfer_id, credit.counter, credit.recorded_at)
    if posted.reversed_by is None:
        return replaces, None
    reversal = (await read_transfer(tx, credit.participant_id, posted.reversed_by)).transfer
    if reversal.reason not in GIVING_WAY:
        return replaces, None
    first, last = reversal.counter + 1, reversal.counter + NEAR
    for row in await tx.fetch(_NEIGHBOURS, credit.participant_id, first, last):
        if row["kind"] == "credit":
            _, gave_way = await _gave_way(
                tx, credit.participant_id, row["transfer_id"], row["counter"], row["recorded_at"]
            )
            return replaces, row["transfer_id"] if credit.transfer_id in gave_way else None
    return replaces, None


async def _gave_way(
    tx: Connection, participant_id: UUID, credit_id: UUID, counter: int, recorded_at: datetime
) -> tuple[UUID | None, set[UUID]]:
    """The credit that this one's leaf says it replaces, and all that were reversed for it.

    They are reversed right before it, in the same batch. Not every such reversal is followed by the credit it was made
    for, which may have been refused: the leaf tells.
    """
    gave_way: set[UUID] = set()
    for row in reversed(await tx.fetch(_NEIGHBOURS, participant_id, counter - NEAR, counter - 1)):
        if row["reason"] not in GIVING_WAY or row["recorded_at"] != recorded_at:
            break
        gave_way.add(row["reverses"])
    if not gave_way:
        return None, gave_way
    named = await _named_in_leaf(tx, participant_id, credit_id)
    return (named, gave_way) if named in gave_way else (None, set())


async def _named_in_leaf(tx: Connection, participant_id: UUID, credit_id: UUID) -> UUID | None:
    """What a credit's leaf says it replaces; of one that waits for its place in the log, the waiting leaf."""
    for query in (_LEAF, _QUEUED_LEAF, _LEAF):  # once more, since it may have been placed in between
        leaf = await tx.fetchval(query, participant_id, credit_id)
        if leaf is not None:
            named = orjson.loads(leaf).get("replaces")
            return UUID(named) if named else None
    return None
