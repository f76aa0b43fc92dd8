"""Settle provisional credits: those whose facts meet their rule's conditions mature, the others are withdrawn."""

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from ledger.journal import Transfer, maturity_lines
from ledger.leaves import NONCE_BYTES, MaturityFacts, maturity_leaf, settlement_commitment
from service.activities.intake import Refusal, refusal_of
from service.activities.provisional import Awaiting, SettledBefore, SettledRow, read_awaiting, read_settled_before
from service.posting.batch import Batch
from service.posting.commands import Settle, Settled, SettledCredit
from service.posting.reversing import withdraw
from service.quantification.earning import SETTLEMENT
from service.quantification.refusals import ConditionNotMet
from service.quantification.refusals import Refusal as RuleRefusal
from service.quantification.settlement import settle as settle_facts
from service.vault import seal_facts


async def settle(batch: Batch, command: Settle, participant_id: UUID | None, *, consents: bool) -> Settled | Refusal:
    """Decide every provisional credit of the person, the scenario and the days by these facts, or none of them. What
    the same facts decided before is answered as it was then.

    consents   whether the person's consent is in force. After its withdrawal what was credited before is still brought
               to its end; where there is nothing of the kind, nothing is said of the person
    """
    if participant_id is None:
        return Refusal("subject-not-linked", {})
    of = (participant_id, command.source_id, command.scenario, command.first, command.last)
    await batch.have_keys([participant_id])
    before = await read_settled_before(batch.tx, batch.keys.get(participant_id), *of, command.document)
    awaiting = await read_awaiting(batch.tx, *of)
    awaiting = sorted([*awaiting, *_awaiting_here(batch, command, participant_id)], key=lambda one: one.day)
    ended = {activity_id for _, activity_id in batch.no_longer_provisional}
    awaiting = [one for one in awaiting if one.activity_id not in ended]
    if not (consents or before or awaiting):
        return Refusal("subject-not-linked", {})
    try:
        verdicts = _verdicts(
            batch, command, [*(one.methodology for one in before), *(one.methodology for one in awaiting)]
        )
    except RuleRefusal as refusal:  # the facts are not what the rule asks for: nothing is settled
        return replace(refusal_of(refusal), final=False)
    command = replace(command, settled_by=min((one.settled_by for one in before), default=command.settled_by))
    decided = [(one.day, await _repeated(batch, participant_id, one, verdicts[one.methodology])) for one in before]
    for one in awaiting:
        decided.append((one.day, await _decide(batch, command, participant_id, one, verdicts[one.methodology])))
    decided.sort(key=lambda each: (each[0], each[1].activity_id))
    return Settled(command.settled_by, tuple(credit for _, credit in decided))


def _verdicts(batch: Batch, command: Settle, methodologies: Iterable[str]) -> dict[str, Refusal | None]:
    """By methodology: why the facts withdraw its credits, or None where they mature. Raises what settle_facts raises
    of facts that are at fault."""
    verdicts: dict[str, Refusal | None] = {}
    for digest in methodologies:
        settlement = batch.rules.posted_methodologies[digest].settlement
        if settlement is None or digest in verdicts:
            continue
        try:
            settle_facts(settlement, command.facts)
            verdicts[digest] = None
        except ConditionNotMet as refusal:
            verdicts[digest] = refusal_of(refusal)
    return verdicts


def _awaiting_here(batch: Batch, command: Settle, participant_id: UUID) -> list[Awaiting]:
    """The credits of this batch that wait for the settlement: it came after them."""
    judged = {recorded.report.activity_id: recorded for recorded in batch.reports}
    found = []
    for one in batch.provisional:
        mine = (one.participant_id, one.source_id, one.scenario, one.awaits)
        if mine != (participant_id, command.source_id, command.scenario, SETTLEMENT):
            continue
        recorded = judged[one.activity_id]
        if command.first <= one.day <= command.last and recorded.report.methodology:
            rule = recorded.points_rule
            found.append(
                Awaiting(one.activity_id, one.day, recorded.report.methodology.digest, rule.digest if rule else None)
            )
    return found


async def _decide(
    batch: Batch, command: Settle, participant_id: UUID, one: Awaiting, because: Refusal | None
) -> SettledCredit:
    record = settlement_commitment(command.salt, command.document)
    credit = (await batch.posted(participant_id, one.activity_id)).transfer
    outcome = "withdrawn" if because else "matured"
    if because:
        await withdraw(batch, participant_id, one.activity_id, record)
    else:
        _mature(batch, command, participant_id, one, record, credit)
        batch.no_longer_provisional.append((participant_id, one.activity_id))
    key = batch.keys.get(participant_id)  # of who was erased nothing more is kept than what was decided
    sealed = seal_facts(key, one.activity_id, command.salt, command.document) if key else None
    batch.settled.append(SettledRow(participant_id, one.activity_id, command.settled_by, outcome, batch.at, sealed))
    return _settled(credit, outcome, because)


async def _repeated(batch: Batch, participant_id: UUID, one: SettledBefore, because: Refusal | None) -> SettledCredit:
    credit = (await batch.posted(participant_id, one.activity_id)).transfer
    return _settled(credit, one.outcome, because)


def _settled(credit: Transfer, outcome: str, because: Refusal | None) -> SettledCredit:
    co2e_mg = sum(line.amount for line in credit.lines if line.asset == "co2e_mg")
    points = sum(line.amount for line in credit.lines if line.asset == "points")
    return SettledCredit(credit.transfer_id, outcome, co2e_mg, points, because)


def _mature(batch: Batch, command: Settle, participant_id: UUID, one: Awaiting, record: str, credit: Transfer) -> None:
    account = batch.account(participant_id)
    rule = batch.rules.posted_points_rules[one.points_rule] if one.points_rule else None
    lines = maturity_lines(account, credit.lines, expires_on=batch.expiry(rule) if rule else batch.today)
    transfer = replace(
        batch.draft(participant_id, "maturity", batch.fresh.id(), batch.today, lines), matures=one.activity_id
    )
    earns = any(line.asset == "points" for line in lines)
    facts = MaturityFacts(
        authority="source",
        awaited="settlement",
        facts=record,
        source=command.source,
        points_rule=one.points_rule if earns else None,
    )
    batch.post(transfer, maturity_leaf(transfer, account.kind, facts, batch.fresh.random(NONCE_BYTES)))
