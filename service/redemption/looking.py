"""Read, under the participants' locks, what the redemption commands of a batch are decided by, and lock the pools."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, time
from uuid import UUID

from ledger.store import read_lines
from service.clock import SHANGHAI
from service.posting.batch import Batch
from service.products.facts import read_many_facts
from service.products.standing import standing
from service.redemption.commands import PlaceHold, RedemptionCommand, RefundCapture
from service.redemption.pools import BUDGET, Window, Wish, lock_windows, read_pools
from service.redemption.store import (
    lock_wishes,
    read_approved,
    read_captures,
    read_drawn,
    read_grams,
    read_queued,
    read_standing,
    read_steps,
)
from service.rights.standing import read_barred
from service.signals.withheld import read_withheld


async def look_at_redemptions(batch: Batch, commands: Sequence[RedemptionCommand]) -> None:
    """Have at hand what these commands are decided by."""
    if not commands:
        return
    redeeming, tx = batch.redeeming, batch.tx
    people = {command.participant_id for command in commands} & batch.accounts.keys()
    repeated = {answer.redemption_id for answer in redeeming.answers.values() if answer.refusal is None}
    named = {command.redemption_id for command in commands} | repeated
    redeeming.states, redeeming.holds = await read_standing(tx, people, named)
    if repeated:
        redeeming.steps = await read_steps(tx, people, repeated)
    new = [
        one for one in commands if isinstance(one, PlaceHold) and _is_new(batch, one) and one.participant_id in people
    ]
    captures = {one.capture_id: one.participant_id for one in commands if isinstance(one, RefundCapture)}
    if captures:
        redeeming.captures = await read_captures(tx, people, captures.keys())
    await _read_lines(batch, commands, captures)
    await _look_at_offers(batch, new)


def _is_new(batch: Batch, command: RedemptionCommand) -> bool:
    return command.order.call is None or command.order.call.tag not in batch.redeeming.answers


async def _read_lines(batch: Batch, commands: Sequence[RedemptionCommand], captures: dict[UUID, UUID]) -> None:
    states = batch.redeeming.states
    touched = {one.redemption_id for one in commands if not isinstance(one, PlaceHold)} & states.keys()
    touched |= {state.redemption_id for state in states.values() if state.is_dead(batch.at)}
    wanted = [(states[each].participant_id, each) for each in touched]
    wanted += [(participant_id, capture_id) for capture_id, participant_id in captures.items()]
    if wanted:
        batch.redeeming.lines = await read_lines(batch.tx, wanted)


async def _look_at_offers(batch: Batch, new: Sequence[PlaceHold]) -> None:
    """What holds are decided by: the board, the pools, and of each person what the offers ask."""
    if not new:
        return
    redeeming, tx = batch.redeeming, batch.tx
    await batch.have_keys(one.participant_id for one in new)  # their terms are sealed
    redeeming.barred = await read_barred(tx, {one.participant_id for one in new}, batch.today)
    for offer in {(one.offer.id, one.offer.version): one.offer for one in new}.values():
        why = await standing(tx, offer.id, offer.version, day=batch.today)
        redeeming.standing[offer.id, offer.version] = why
    redeeming.pools = {pool.terms.pool: pool for pool in await read_pools(tx, sorted({one.offer.pool for one in new}))}
    weighed = [(one.participant_id, one.offer.id, one.offer.weighs_grams) for one in new]
    redeeming.facts = await read_many_facts(tx, weighed, batch.at)
    redeeming.withheld = await read_withheld(tx, {one.participant_id for one in new}, batch.at)
    asked = {one.request_id for one in new if one.request_id is not None}
    redeeming.approved = await read_approved(tx, asked) if asked else ()
    if any(pool.terms.shortage != "stop" for pool in redeeming.pools.values()):
        redeeming.queued = await read_queued(tx, redeeming.pools.keys())
        wishes = [(one.participant_id, one.wish_id) for one in new if one.wish_id is not None]
        redeeming.wishes = await lock_wishes(tx, wishes) if wishes else ()
    passing = {one.participant_id for one in new if one.offer.grams_mg_per_point}
    if passing:
        redeeming.grams = await read_grams(tx, passing)
    if any(pool.terms.points_per_person_per_day for pool in redeeming.pools.values()):
        midnight = datetime.combine(batch.today, time(), SHANGHAI)
        redeeming.drawn = await read_drawn(tx, {one.participant_id for one in new}, midnight, batch.at)


async def lock_pools(batch: Batch, commands: Sequence[RedemptionCommand]) -> None:
    """Lock as much of the pools as these holds could draw at most: the last locks of a batch that wait."""
    redeeming = batch.redeeming
    wishes: dict[Window, Wish] = defaultdict(Wish)
    for one in commands:
        facts = redeeming.facts.get((one.participant_id, one.offer.id)) if isinstance(one, PlaceHold) else None
        if not isinstance(one, PlaceHold) or facts is None:
            continue
        pool = redeeming.pools.get(one.offer.pool)
        if pool is None or one.points != one.offer.points(one.units, facts):  # refused: it is to lock nothing
            continue
        budget = wishes[one.offer.pool, BUDGET]
        budget.points += one.points
        budget.fen += one.offer.value_fen(one.units)
        if pool.terms.points_per_day is not None:
            today = wishes[one.offer.pool, batch.today]
            today.points += one.points
            today.opens = pool.terms.points_per_day
    redeeming.slots = await lock_windows(batch.tx, wishes)
