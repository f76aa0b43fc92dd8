"""Decide each step of a redemption on what is locked, and post it: place, capture, release, refund.

What there is to decide with stands in the batch's Redeeming, read under the participants' locks; what was decided goes
back there, and is written with the rest of the batch.
"""

from dataclasses import replace
from datetime import date, timedelta
from uuid import UUID

from ledger.errors import LedgerInvariantBroken, TransferNotFound
from ledger.hold_leaves import (
    HoldFacts,
    StepFacts,
    capture_leaf,
    hold_leaf,
    refund_leaf,
    release_leaf,
    terms_commitment,
)
from ledger.holds import Hold, capture_lines, hold_lines, passing, refund_lines, release_lines, still_held
from ledger.journal import Transfer
from ledger.leaves import NONCE_BYTES
from service.activities.intake import Refusal
from service.clock import shanghai_day
from service.posting.batch import Batch
from service.products.model import reasons
from service.redemption.commands import (
    CaptureHold,
    Order,
    PlaceHold,
    Redeemed,
    RedemptionCommand,
    RedemptionState,
    RefundCapture,
    ReleaseHold,
    Step,
)
from service.redemption.placing import grounded_terms
from service.redemption.pools import BUDGET, Window, draw, lock_any
from service.redemption.store import Answered, Entry, step_id


async def decide(batch: Batch, command: RedemptionCommand) -> Redeemed | Refusal:
    """One command; the same call again is answered as the first time."""
    call = command.order.call
    if call is not None and call.tag in batch.redeeming.answers:
        return await _repeated(batch, command, batch.redeeming.answers[call.tag])
    if isinstance(command, PlaceHold):
        outcome = await _place(batch, command)
    elif isinstance(command, CaptureHold):
        outcome = await _capture(batch, command)
    elif isinstance(command, ReleaseHold):
        outcome = await _release_wanted(batch, command)
    else:
        outcome = await _refund(batch, command)
    if call is not None and isinstance(outcome, Refusal):
        batch.redeeming.refused.append((call, outcome))
    return outcome


async def release_dead(batch: Batch) -> None:
    """Write down that holds are dead, of everybody whose redemptions this batch looks at."""
    for state in sorted(batch.redeeming.states.values(), key=lambda one: one.redemption_id):
        if state.is_dead(batch.at):
            await _release(batch, state, "lapsed", Order("rule"), batch.fresh.id())


async def _place(batch: Batch, command: PlaceHold) -> Redeemed | Refusal:
    redeeming, offer, participant_id = batch.redeeming, command.offer, command.participant_id
    if participant_id in redeeming.barred:
        return Refusal(redeeming.barred[participant_id], {})
    if participant_id not in batch.accounts or participant_id not in batch.keys:  # or who was erased
        return Refusal("participant-not-found", {})
    account = batch.account(participant_id)
    if command.wish_id is not None and command.wish_id not in redeeming.wishes:
        return Refusal("wish-ended", {})
    if command.request_id in redeeming.approved:
        return Refusal("approval-ended", {"state": "approved"})
    why = redeeming.standing[offer.id, offer.version]
    if why is not None:
        return Refusal("offer-not-listed", {"offer": offer.id, "because": why})
    pool = redeeming.pools.get(offer.pool)
    if pool is None or pool.state != "open" or pool.terms.programme != account.programme:
        return Refusal("pool-not-open", {"pool": offer.pool})
    available = account.balance("points", "available")
    facts = replace(redeeming.facts[participant_id, offer.id], available_points=available)
    against = reasons(offer, facts, command.units)
    if against:
        first = against[0]
        return Refusal("not-eligible", {"reason": first.code, "reason_zh": first.zh, "reason_en": first.en})
    points, fen = offer.points(command.units, facts), offer.value_fen(command.units)
    if points != command.points:
        return Refusal("price-changed", {"points": str(points), "agreed": str(command.points)})
    if points > available:
        return Refusal("points-not-enough", {"points": str(points), "available": str(available)})
    withheld = min(available, redeeming.withheld.get(participant_id, 0))
    if points > available - withheld:
        told = {"points": str(points), "available": str(available), "withheld": str(withheld)}
        return Refusal("under-review", told)
    co2e_mg, grams = offer.co2e_mg(points), redeeming.grams.get(participant_id, {})
    if co2e_mg > passing(grams):
        return Refusal("grams-not-enough", {"wanted": str(co2e_mg), "available": str(passing(grams))})
    if not pool.terms.pays(points, fen):
        return Refusal("pool-not-open", {"pool": offer.pool})
    refusal = _draw(batch, command, points, fen)
    if refusal is not None:
        return refusal
    hold_id = command.redemption_id
    lines = hold_lines(batch.buckets[participant_id], grams, points=points, co2e_mg=co2e_mg)
    transfer = batch.draft(participant_id, "hold", hold_id, batch.today, lines)
    expires_at = batch.at.replace(microsecond=0) + timedelta(seconds=offer.hold_seconds)
    document = grounded_terms(command.terms, hold_id, co2e_mg, facts)
    terms = terms_commitment(command.salt, document)
    hold_facts = HoldFacts(
        offer.bank, offer.digest, offer.pool, command.units, fen, terms, expires_at, command.order.signature
    )
    batch.post(transfer, hold_leaf(transfer, account.kind, hold_facts, batch.fresh.random(NONCE_BYTES)))
    from_bank = command.request_id is not None
    state = RedemptionState(
        participant_id,
        hold_id,
        command.bank_id,
        offer.bank,
        offer.id,
        offer.version,
        offer.digest,
        offer.pool,
        command.units,
        points,
        fen,
        co2e_mg,
        units_left=command.units,
        units_captured=0,
        units_refunded=0,
        state="held",
        started_by="bank" if from_bank else "participant",
        request_id=command.request_id,
        created_at=batch.at,
        expires_at=expires_at,
        accepted_at=batch.at if from_bank else None,
        ended_at=None,
        accepted_call=command.order.call_id if from_bank else None,
    )
    hold = Hold(participant_id, hold_id, expires_at, points, co2e_mg)
    redeeming.states[hold_id], redeeming.holds[hold_id], redeeming.lines[hold_id] = state, hold, lines
    redeeming.new.append((state, hold, command.salt, document))
    if command.wish_id is not None:
        redeeming.granted.append((participant_id, command.wish_id, hold_id))
    key = (participant_id, offer.pool)
    redeeming.drawn[key] = redeeming.drawn.get(key, 0) + points
    return Redeemed(state, _stepped(batch, state, transfer, command.units, fen, command.order))


def _draw(batch: Batch, command: PlaceHold, points: int, fen: int) -> Refusal | None:
    """Take points and fen from the pool, or say why not; the person's own limit first, then the day's."""
    redeeming, pool = batch.redeeming, batch.redeeming.pools[command.offer.pool]
    code, most = command.offer.pool, pool.terms.points_per_person_per_day
    if most is not None:
        left = max(0, most - redeeming.drawn.get((command.participant_id, code), 0))
        if points > left:
            return Refusal("pool-person-limit", {"pool": code, "limit": str(most), "left": str(left)})
    short = Refusal("pool-exhausted", {"pool": code, "shortage": pool.terms.shortage})
    if code in redeeming.queued and command.wish_id is None:
        return short
    today: Window = (code, batch.today)
    limited = pool.terms.points_per_day is not None
    if limited and not draw(redeeming.slots, today, points, 0):
        left = sum(slot.points for slot in redeeming.slots if slot.window == today)
        return Refusal("pool-daily-limit", {"pool": code, "limit": str(pool.terms.points_per_day), "left": str(left)})
    if not draw(redeeming.slots, (code, BUDGET), points, fen):
        if limited:
            _put_back(batch, today, points, 0)
        return short
    return None


def _put_back(batch: Batch, window: Window, points: int, fen: int) -> bool:
    slot = next((slot for slot in batch.redeeming.slots if slot.window == window), None)
    if slot is None:
        return False
    slot.points += points
    slot.fen += fen
    return True


async def _give_back(batch: Batch, state: RedemptionState, points: int, fen: int) -> None:
    """Return to the pool what a redemption does not take from it after all; a day's limit as long as that day lasts."""
    windows: list[tuple[Window, int]] = [((state.pool, BUDGET), fen)]
    if shanghai_day(state.created_at) == batch.today:
        windows.append(((state.pool, batch.today), 0))
    for window, money in windows:
        if _put_back(batch, window, points, money):
            continue
        slot = await lock_any(batch.tx, window)
        if slot is not None:
            batch.redeeming.slots.append(slot)
            _put_back(batch, window, points, money)
        elif window[1] == BUDGET:
            raise LedgerInvariantBroken(f"points were drawn from {state.pool}, which has no budget")


def _found(batch: Batch, command: CaptureHold | ReleaseHold | RefundCapture) -> RedemptionState | None:
    """The redemption, if it is this participant's and, where a bank asks, this bank's."""
    state = batch.redeeming.states.get(command.redemption_id)
    if state is None or state.participant_id != command.participant_id:
        return None
    return state if command.bank_id in (None, state.bank_id) else None


async def _capture(batch: Batch, command: CaptureHold) -> Redeemed | Refusal:
    state = _found(batch, command)
    if state is None:
        return Refusal("redemption-not-found", {})
    if state.state != "held":
        return Refusal("hold-ended", {"state": state.state})
    if state.accepted_at is None:
        return Refusal("not-accepted", {})
    units = state.units_left if command.units is None else command.units
    if units > state.units_left:
        return Refusal("units-beyond-hold", {"units": str(units), "left": str(state.units_left)})
    redeeming, hold = batch.redeeming, batch.redeeming.holds[state.redemption_id]
    points, fen, co2e_mg = state.share(units)
    held = still_held(redeeming.lines[state.redemption_id], points=hold.points_left, co2e_mg=hold.co2e_left)
    lines = capture_lines(held, points=points, co2e_mg=co2e_mg)
    transfer = replace(
        batch.draft(state.participant_id, "capture", command.transfer_id, batch.today, lines),
        hold_id=state.redemption_id,
    )
    account, order = batch.account(state.participant_id), command.order
    facts = StepFacts(state.bank, state.pool, units, fen, order.authority, order.signature)
    batch.post(transfer, capture_leaf(transfer, account.kind, facts, batch.fresh.random(NONCE_BYTES)))
    redeeming.lines[transfer.transfer_id] = lines
    left = state.units_left - units
    state = replace(
        state,
        units_left=left,
        units_captured=state.units_captured + units,
        state="held" if left else "captured",
        ended_at=None if left else batch.at,
    )
    hold = replace(hold, points_left=hold.points_left - points, co2e_left=hold.co2e_left - co2e_mg)
    _changed(batch, state, hold)
    step = _stepped(batch, state, transfer, units, fen, order)
    if not (command.final and left):
        return Redeemed(state, step)
    state, rest = await _release(batch, state, "rest", order, batch.fresh.id())
    return Redeemed(state, step, rest)


async def _release_wanted(batch: Batch, command: ReleaseHold) -> Redeemed | Refusal:
    state = _found(batch, command)
    if state is None:
        return Refusal("redemption-not-found", {})
    if state.state != "held":
        return Refusal("hold-ended", {"state": state.state})
    if command.reason in ("cancelled", "withdrawn") and state.accepted_at is not None:
        return Refusal("not-cancellable", {"bank": state.bank})
    if command.reason == "voided" and state.accepted_at is None:
        return Refusal("not-accepted", {})
    if command.reason == "lapsed":  # its time is not over, or release_dead would have ended it
        return Refusal("hold-not-over", {"expires_at": state.expires_at.isoformat()})
    state, step = await _release(batch, state, command.reason, command.order, command.transfer_id)
    return Redeemed(state, step)


async def _release(
    batch: Batch, state: RedemptionState, reason: str, order: Order, transfer_id: UUID
) -> tuple[RedemptionState, Step]:
    redeeming, hold = batch.redeeming, batch.redeeming.holds[state.redemption_id]
    held = still_held(redeeming.lines[state.redemption_id], points=hold.points_left, co2e_mg=hold.co2e_left)
    account = batch.account(state.participant_id)
    lines = release_lines(account, held)
    units = state.units_left
    points, fen, _ = state.share(units)
    transfer = replace(
        batch.draft(state.participant_id, "release", transfer_id, batch.today, lines),
        hold_id=state.redemption_id,
        reason=reason,
    )
    facts = StepFacts(state.bank, state.pool, units, fen, order.authority, order.signature)
    batch.post(transfer, release_leaf(transfer, account.kind, facts, batch.fresh.random(NONCE_BYTES)))
    await _give_back(batch, state, points, fen)
    state = replace(state, units_left=0, state=state.ended(reason), ended_at=batch.at)
    _changed(batch, state, replace(hold, points_left=0, co2e_left=0))
    step = _stepped(batch, state, transfer, units, fen, order)
    batch.lapse(state.participant_id)
    return state, step


async def _refund(batch: Batch, command: RefundCapture) -> Redeemed | Refusal:
    state, redeeming = _found(batch, command), batch.redeeming
    capture = redeeming.captures.get(command.capture_id)
    if state is None or capture is None or capture.redemption_id != state.redemption_id:
        return Refusal("redemption-not-found", {})
    if capture.refunded_by is not None:
        return Refusal("already-refunded", {"refund": str(capture.refunded_by)})
    account, order = batch.account(state.participant_id), command.order
    lines = refund_lines(account, redeeming.lines[command.capture_id])
    points, fen, _ = state.share(capture.units)
    transfer = replace(
        batch.draft(state.participant_id, "refund", command.transfer_id, batch.today, lines),
        reverses=command.capture_id,
        reason=command.reason,
    )
    facts = StepFacts(state.bank, state.pool, capture.units, fen, order.authority, order.signature, command.decision)
    batch.post(transfer, refund_leaf(transfer, account.kind, facts, batch.fresh.random(NONCE_BYTES)))
    await _give_back(batch, state, points, fen)
    refunded = state.units_refunded + capture.units
    over = state.state == "captured" and refunded == state.units_captured
    state = replace(state, units_refunded=refunded, state="refunded" if over else state.state)
    redeeming.captures[command.capture_id] = replace(capture, refunded_by=command.transfer_id)
    _changed(batch, state, redeeming.holds[state.redemption_id])
    step = _stepped(batch, state, transfer, capture.units, fen, order)
    batch.lapse(state.participant_id)
    return Redeemed(state, step)


def _changed(batch: Batch, state: RedemptionState, hold: Hold) -> None:
    batch.redeeming.states[state.redemption_id] = state
    batch.redeeming.holds[state.redemption_id] = hold
    batch.redeeming.changed.add(state.redemption_id)


def _stepped(batch: Batch, state: RedemptionState, transfer: Transfer, units: int, fen: int, order: Order) -> Step:
    """Note a step for the bank's day."""
    step = step_of(transfer, units, fen)
    batch.redeeming.entries.append(
        Entry(
            state.participant_id,
            transfer.transfer_id,
            state.redemption_id,
            state.bank_id,
            transfer.kind,
            transfer.reason,
            units,
            step.points,
            fen,
            step.co2e_mg,
            transfer.effective_on,
            transfer.recorded_at,
            order.call_id,
        )
    )
    return step


def step_of(transfer: Transfer, units: int, fen: int) -> Step:
    """A step as its transfer tells it. What came back to a bucket that had run out by then lapsed in the same
    transaction."""
    day: date = shanghai_day(transfer.recorded_at)
    points = [line for line in transfer.lines if line.asset == "points"]
    lapsed = [line for line in points if line.to_account == "available" and line.expires_on and line.expires_on < day]
    return Step(
        transfer.kind,
        transfer.transfer_id,
        transfer.reason,
        units,
        sum(line.amount for line in points),
        fen,
        sum(line.amount for line in transfer.lines if line.asset == "co2e_mg"),
        transfer.recorded_at,
        repaid_points=sum(line.amount for line in points if line.to_account == "debt"),
        lapsed_points=sum(line.amount for line in lapsed),
    )


async def _repeated(batch: Batch, command: RedemptionCommand, answer: Answered) -> Redeemed | Refusal:
    assert command.order.call is not None
    if answer.fingerprint != command.order.call.fingerprint:
        return Refusal("idempotency-conflict", {})
    if answer.refusal is not None:
        return answer.refusal
    redeeming = batch.redeeming
    steps = redeeming.steps.get(answer.redemption_id, [])
    try:
        mine = next(one for one in steps if one.transfer_id == answer.transfer_id)
        step = await _read_step(batch, mine)
    except (StopIteration, TransferNotFound):
        raise LedgerInvariantBroken(f"call {answer.transfer_id} is known, and what it did is not") from None
    rest = None
    if mine.kind == "capture":
        after = (one for one in steps if one.reason == "rest" and one.recorded_at == mine.recorded_at)
        left = next(after, None)
        rest = await _read_step(batch, left) if left else None
    # The same transfer id: our own earlier attempt did commit, only its answer was lost with the connection.
    repeated = answer.transfer_id != step_id(command)
    return Redeemed(redeeming.states[answer.redemption_id], step, rest, repeated)


async def _read_step(batch: Batch, entry: Entry) -> Step:
    transfer = (await batch.posted(entry.participant_id, entry.transfer_id)).transfer
    return step_of(transfer, entry.units, entry.value_fen)
