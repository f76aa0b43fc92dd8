"""Take credits back: by an operator's order, by their source, by a correction, by a better record of the same thing."""

from dataclasses import replace
from uuid import UUID

from ledger.errors import LedgerInvariantBroken, TransferNotFound
from ledger.journal import Transfer, reversal_lines
from ledger.leaves import NONCE_BYTES, reversal_leaf
from service.activities.intake import Refusal
from service.activities.store import read_points_rule, read_rule_and_day
from service.posting.batch import Batch
from service.posting.commands import Retract, Reverse, Reversed
from service.quantification.earning import cap_name, window_start
from service.quantification.points import campaign_of


async def reverse(batch: Batch, command: Reverse) -> Reversed | Refusal:
    """Reverse a credit by order; the same order again answers what it did."""
    if command.participant_id not in batch.accounts:
        return Refusal("participant-not-found", {})
    return await _reverse_once(batch, command.participant_id, command.transfer_id, command)


async def retract(batch: Batch, command: Retract, known: dict[bytes, tuple[UUID, UUID]]) -> Reversed | Refusal:
    """Reverse what was credited for a source's event. `known` are the events this batch names, with whose they are."""
    if command.event not in known:
        return Refusal("activity-not-found", {})
    participant_id, activity_id = known[command.event]
    order = Reverse(participant_id, activity_id, "source_retracted", "source", command.reversal_id, command.nonce)
    answer = await _reverse_once(batch, participant_id, activity_id, order)
    if isinstance(answer, Refusal) and answer.slug == "transfer-not-found":
        return Refusal("nothing-to-retract", {})  # it was refused when it came
    return answer


async def supersede(batch: Batch, participant_id: UUID, activity_id: UUID) -> None:
    """Take back a credit that still waited for its match, because a better record of the same thing has come. The
    participant is locked; what waits was never in a bucket, so that none is looked at."""
    await _post(batch, participant_id, activity_id, "superseded", "rule", batch.fresh.id(), None)


async def correct(batch: Batch, participant_id: UUID, activity_id: UUID) -> UUID | Refusal | None:
    """Take back what a corrected event was credited; its credit's id, or None when it had been refused.

    Refused for good when it was taken back before: a correction corrects what stands.
    """
    try:
        found = await batch.posted(participant_id, activity_id)
    except TransferNotFound:
        return None
    if found.reversed_by:
        return Refusal("already-corrected", {"reversal": str(found.reversed_by)}, final=True)
    await batch.read_buckets([participant_id])
    await _post(batch, participant_id, activity_id, "corrected", "source", batch.fresh.id(), None)
    return activity_id


async def withdraw(batch: Batch, participant_id: UUID, activity_id: UUID, decision: str) -> Transfer:
    """Take back a provisional credit that its settlement found not eligible."""
    reason = "not_eligible_at_settlement"
    return await _post(batch, participant_id, activity_id, reason, "source", batch.fresh.id(), None, decision)


async def _reverse_once(batch: Batch, participant_id: UUID, transfer_id: UUID, order: Reverse) -> Reversed | Refusal:
    try:
        found = await batch.posted(participant_id, transfer_id)
    except TransferNotFound:
        return Refusal("transfer-not-found", {})
    if found.transfer.kind != "credit":
        return Refusal("not-reversible", {"kind": found.transfer.kind})
    if found.reversed_by:
        earlier = (await batch.posted(participant_id, found.reversed_by)).transfer
        if earlier.reason != order.reason:
            return Refusal("already-reversed", {"reversal": str(earlier.transfer_id), "reason": str(earlier.reason)})
        return Reversed(earlier, repeated=earlier.transfer_id != order.reversal_id)
    await batch.read_buckets([participant_id])
    transfer = await _post(
        batch, participant_id, transfer_id, order.reason, order.authority, order.reversal_id, order.nonce
    )
    return Reversed(transfer)


async def _post(
    batch: Batch,
    participant_id: UUID,
    credit_id: UUID,
    reason: str,
    authority: str,
    reversal_id: UUID,
    nonce: bytes | None,
    decision: str | None = None,
) -> Transfer:
    found = await batch.posted(participant_id, credit_id)
    matured = (await batch.posted(participant_id, found.matured_by)).transfer.lines if found.matured_by else ()
    account = batch.account(participant_id)
    lines = reversal_lines(account, batch.buckets.get(participant_id, {}), found.transfer.lines, matured)
    transfer = replace(
        batch.draft(participant_id, "reversal", reversal_id, batch.today, lines),
        reverses=credit_id,
        reason=reason,
    )
    leaf = reversal_leaf(transfer, account.kind, authority, nonce or batch.fresh.random(NONCE_BYTES), decision)
    batch.post(transfer, leaf)
    batch.counted.release(participant_id, credit_id)
    batch.no_longer_provisional.append((participant_id, credit_id))
    await _give_back_caps(batch, participant_id, found.transfer, always=reason in ("corrected", "superseded"))
    returned = sum(line.amount for line in lines if line.to_account == "partner")
    if returned:
        await _give_back_budget(batch, found.transfer, returned)
    return transfer


async def _give_back_budget(batch: Batch, credit: Transfer, points: int) -> None:
    """What the credit had of a campaign's budget: a lock of its own, after all others and never waited for."""
    recorded = next((each for each in batch.reports if each.report.activity_id == credit.transfer_id), None)
    if recorded and recorded.points_rule:
        found: tuple[str, str] | None = (recorded.report.scenario, recorded.points_rule.digest)
    else:
        found = await read_points_rule(batch.tx, credit.participant_id, credit.transfer_id)
    rule = batch.rules.posted_points_rules[found[1]] if found else None
    campaign = rule and found and campaign_of(rule, found[0], credit.region, credit.effective_on)
    if not (rule and campaign):
        raise LedgerInvariantBroken(f"credit {credit.transfer_id} has points of a campaign, and no campaign")
    await batch.give_back((rule.id, campaign.id), points)


async def _give_back_caps(batch: Batch, participant_id: UUID, credit: Transfer, *, always: bool) -> None:
    """What the credit used of those caps that its rule restores; of all, where the same act is counted anew."""
    judged = [each.report for each in batch.reports if each.report.activity_id == credit.transfer_id]
    if judged:
        ref, day = judged[0].methodology, judged[0].day
        digest = ref.digest if ref else None
    else:
        digest, day = await read_rule_and_day(batch.tx, participant_id, credit.transfer_id)
    if digest is None or day is None:
        raise LedgerInvariantBroken(f"credit {credit.transfer_id} has no activity")
    rule = batch.rules.posted_methodologies[digest]
    grams = sum(line.amount for line in credit.lines if line.asset == "co2e_mg")
    points = sum(line.amount for line in credit.lines if line.asset == "points" and line.from_account == "issuance")
    amounts = {"actions": 1, "grams": grams, "points": points}
    for cap in rule.caps:
        if cap.restored or always:
            key = (participant_id, cap_name(rule, cap), window_start(cap.per, day))
            await batch.have_tally(key)
            batch.counted.count(*key, -amounts[cap.of])
