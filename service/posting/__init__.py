"""Post one batch of commands in one transaction, in the one lock order: event keys, participants, the subjects of
claims, claims, campaign budgets, reward pools; then inserts, a statement per table.

Everything is decided on locked rows by pure functions, ledger/journal.py's and those of this package. A command is
answered by an outcome, and nothing is answered to anybody before the poster has committed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from ledger.errors import LedgerInvariantBroken
from ledger.store import append_transfers, lock_accounts
from service.activities.claims import Demands
from service.activities.counting import Counted, HoldersToLock, Wanted, look, write
from service.activities.intake import Refusal, Report, Worth
from service.activities.provisional import read_matchable, write_provisional
from service.activities.rules import RuleBook
from service.activities.store import (
    Recorded,
    StoredAnswer,
    append_activities,
    claim_corrections,
    claim_event_keys,
    read_answers,
    read_events,
)
from service.campaigns import CampaignKey, Offer, open_slots, write_slots
from service.clock import Fresh
from service.database import Connection
from service.eligibility import read_entries, read_organisations, read_waivers
from service.participants import hold_withdrawals, read_ended_links, read_links
from service.posting.batch import Batch, Standing
from service.posting.commands import (
    Command,
    Credited,
    Duplicate,
    Outcome,
    Retract,
    Reverse,
    Reversed,
    Settle,
    Settled,
    SettledCredit,
)
from service.posting.crediting import credit, outranked_by
from service.posting.reversing import correct, retract, reverse
from service.posting.settling import settle
from service.quantification.earning import caps_of, window_start
from service.quantification.points import campaign_points, points_for
from service.redemption.commands import RedemptionCommand
from service.redemption.deciding import decide, release_dead
from service.redemption.looking import lock_pools, look_at_redemptions
from service.redemption.store import claim_calls
from service.vault import DataKey, Vault

__all__ = [
    "Command",
    "Credited",
    "Duplicate",
    "Outcome",
    "Retract",
    "Reverse",
    "Reversed",
    "Settle",
    "Settled",
    "SettledCredit",
    "post_batch",
]

Owners = Mapping[tuple[int, bytes], UUID]
Known = dict[bytes, tuple[UUID, UUID]]
"""By event key: whose event it was, and its activity."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read before the participants were locked, and stays as it was.

    owners     whom the subjects stand for
    settlers   the same for settlements, those included whose consent has ended
    known      the events that commands name
    answers    what events that came before were answered, by their keys
    corrected  of corrections that came too late, by their keys: the activity that corrected the event before
    """

    owners: Owners
    settlers: Owners
    known: Known
    answers: Mapping[bytes, StoredAnswer]
    corrected: Mapping[bytes, UUID]


async def post_batch(
    tx: Connection,
    commands: Sequence[Command],
    rules: RuleBook,
    vault: Vault,
    fresh: Fresh,
    clock_offset: timedelta,
    holders: Collection[UUID] = (),
) -> list[Outcome]:
    """Decide and write one batch inside the caller's transaction; outcomes stand in the order of the commands.

    The keys of a batch's commands are distinct, and none names an event of another: the poster puts those into a later
    batch. `holders` are participants to lock besides: those whom an earlier attempt has named by HoldersToLock.
    """
    reports = [command for command in commands if isinstance(command, Report)]
    others = [] if len(reports) == len(commands) else [each for each in commands if not isinstance(each, Report)]
    settles = [command for command in others if isinstance(command, Settle)]
    redemptions = [command for command in others if isinstance(command, RedemptionCommand)]
    await hold_withdrawals(tx)
    owners, keys = await _owners(tx, vault, [*reports, *settles])
    settlers = await _settlers(tx, settles, owners)
    named = [report.names for report in reports if report.names]
    named += [command.event for command in others if isinstance(command, Retract)]
    known = await read_events(tx, named)
    posting = [report for report in reports if _is_posted(report, owners, known)]
    answers = await _claim_or_find(tx, vault, reports, posting, owners)
    posting = [report for report in posting if report.key not in answers]
    answered = await claim_calls(tx, redemptions)
    corrected = await claim_corrections(tx, [(one, owners[one.subject]) for one in posting if one.replaces])
    found = _Found(owners, settlers, known, answers, corrected)
    drawn_on = {command.participant_id for command in others if isinstance(command, Reverse)}
    drawn_on |= {participant_id for participant_id, _ in known.values()}
    drawn_on |= {command.participant_id for command in redemptions}
    locked = {owners[report.subject] for report in posting} | drawn_on | set(settlers.values()) | set(holders)
    accounts, at = await lock_accounts(tx, locked, clock_offset=clock_offset)
    batch = Batch(tx, rules, fresh, at or fresh.clock(), accounts, Counted(0), Standing(), vault, keys)
    batch.redeeming.answers = answered
    await _close_lapsed(batch, drawn_on)
    await look_at_redemptions(batch, redemptions)
    await _look_around(batch, posting, owners)
    await lock_pools(batch, redemptions)
    await release_dead(batch)
    # Redemptions first: what they are decided by was read before anything of this batch was credited or taken back.
    redeemed: dict[bytes, Outcome] = {command.key: await decide(batch, command) for command in redemptions}
    outcomes = [await _decide(batch, command, found, redeemed) for command in commands]
    await append_activities(tx, batch.reports, keys, at=batch.at)
    await append_transfers(tx, batch.transfers, batch.leaves, batch.accounts)
    await write(tx, batch.counted)
    await write_provisional(tx, batch.provisional, batch.no_longer_provisional, batch.settled)
    await write_slots(tx, batch.slots)
    await batch.redeeming.write(tx, batch.keys)
    return outcomes


async def _decide(batch: Batch, command: Command, found: _Found, redeemed: Mapping[bytes, Outcome]) -> Outcome:
    if isinstance(command, Report):
        if command.key in found.answers:
            return _repeated(command, found.answers[command.key])
        outcome = await _report(batch, command, found)
        if isinstance(outcome, Refusal) and outcome.final:
            return replace(outcome, activity_id=command.activity_id)
        return outcome
    if isinstance(command, RedemptionCommand):
        return redeemed[command.key]
    if isinstance(command, Reverse):
        return await reverse(batch, command)
    if isinstance(command, Retract):
        return await retract(batch, command, found.known)
    consents = command.subject in found.owners
    return await settle(batch, command, found.settlers.get(command.subject), consents=consents)


async def _owners(
    tx: Connection, vault: Vault, commands: Sequence[Report | Settle]
) -> tuple[Owners, dict[UUID, DataKey]]:
    if not commands:
        return {}, {}
    subjects = [command.subject for command in commands]
    return await read_links(tx, vault, [source_id for source_id, _ in subjects], [tag for _, tag in subjects])


async def _settlers(tx: Connection, commands: Sequence[Settle], owners: Owners) -> Owners:
    """Whom the subjects of settlements stand for: what was credited under a consent can be settled after its end."""
    ended = [command.subject for command in commands if command.subject not in owners]
    if not ended:
        return {command.subject: owners[command.subject] for command in commands}
    former = await read_ended_links(tx, [source_id for source_id, _ in ended], [tag for _, tag in ended])
    return former | {command.subject: owners[command.subject] for command in commands if command.subject in owners}


def _is_posted(report: Report, owners: Owners, known: Known) -> bool:
    """Whether anything of the report will be stored: not if its caller is to mend something and send it again."""
    return (
        not report.stores_nothing and report.subject in owners and (report.replaces is None or report.replaces in known)
    )


async def _claim_or_find(
    tx: Connection, vault: Vault, reports: Sequence[Report], posting: Sequence[Report], owners: Owners
) -> dict[bytes, StoredAnswer]:
    """Take the event keys that are new; return the stored answers of those that were there before."""
    taken = await claim_event_keys(tx, [(report, owners[report.subject]) for report in posting])
    others = [report.key for report in reports if report.key not in taken]
    answers = await read_answers(tx, vault, others) if others else {}
    lost = {report.key for report in posting} - taken - answers.keys()
    if lost:  # a key that is there without its answer says "credited or refused, unknown which": never credit it again
        raise LedgerInvariantBroken(f"{len(lost)} events are known, and what they were answered is not stored")
    return answers


async def _close_lapsed(batch: Batch, drawn_on: set[UUID]) -> None:
    """Post what has run out by today for whoever is locked; read the buckets of those a reversal will draw on."""
    today = batch.today
    due = {
        account.participant_id
        for account in batch.accounts.values()
        if account.next_expiry and account.next_expiry < today
    }
    looked_at = due | (drawn_on & batch.accounts.keys())
    await batch.read_buckets(sorted(looked_at))
    for participant_id in sorted(looked_at):
        batch.lapse(participant_id)


async def _look_around(batch: Batch, posting: Sequence[Report], owners: Owners) -> None:
    """Lock and read what the activities of this batch could meet: registers, claims, overlaps, caps, budgets."""
    wanted: list[tuple[Wanted, Worth, Report]] = []
    for report in posting:
        if isinstance(report.verdict, Worth):
            one = Wanted(owners[report.subject], report.activity_id, report.verdict.demands)
            wanted.append((one, report.verdict, report))
    if not wanted:
        return
    demands = [one.demands for one, _, _ in wanted]
    await _look_at_registers(batch, {one.participant_id for one, _, _ in wanted}, demands)
    tallies = {
        (one.participant_id, name, window_start(cap.per, one.demands.first_day))
        for one, _, _ in wanted
        if one.demands.methodology.caps
        for name, cap in caps_of(one.demands.methodology).items()
    }
    taking = [one for one, _, _ in wanted if one.demands.takes]
    batch.counted = await look(batch.tx, taking, tallies, wanted[0][2].key_version)
    batch.matchable = await read_matchable(batch.tx, batch.counted.met())
    if batch.matchable:
        _require_locked(batch, wanted)
    projects = {
        (one.participant_id, one.demands.installation)
        for one, worth, _ in wanted
        if worth.credit_class == "project" and one.demands.installation
    }
    batch.standing.waivers = await read_waivers(batch.tx, sorted(projects)) if projects else set()
    await _open_budgets(batch, wanted)


def _require_locked(batch: Batch, wanted: Sequence[tuple[Wanted, Worth, Report]]) -> None:
    """Raises HoldersToLock for people whose credits would give way to an operator's record and who are not locked: only
    now is it known who they are, and now their locks would come out of order."""
    holders = {who for one, worth, report in wanted for who in outranked_by(batch, report, worth, one).values()}
    if not holders <= batch.accounts.keys():
        raise HoldersToLock(holders)


async def _open_budgets(batch: Batch, wanted: Sequence[tuple[Wanted, Worth, Report]]) -> None:
    """Lock as much of the campaigns' budgets as these activities could draw at most."""
    programmes = {batch.account(one.participant_id).programme for one, _, _ in wanted}
    if not any(batch.points_rule(programme).campaigns for programme in programmes):
        return
    offered: dict[CampaignKey, Offer] = {}
    for one, worth, report in wanted:
        account = batch.account(one.participant_id)
        rule = batch.points_rule(account.programme)
        if not rule.campaigns:
            continue
        extra = campaign_points(
            rule, points_for(rule, worth.co2e), report.scenario, account.region, one.demands.first_day
        )
        if extra:
            budget = next(each.budget_points for each in rule.campaigns if each.id == extra[0])
            offer = offered.setdefault((rule.id, extra[0]), Offer(0, budget))
            offer.points += extra[1].n
            offer.budget = max(offer.budget, budget)  # programmes may be at different versions of a rule
    for campaign in sorted(offered):
        batch.slots += await open_slots(batch.tx, campaign, offered[campaign])


async def _look_at_registers(batch: Batch, participant_ids: set[UUID], demands: Sequence[Demands]) -> None:
    others = [each for each in participant_ids if batch.account(each).kind != "citizen"]
    if others:
        batch.standing.organisations = await read_organisations(batch.tx, others)
    wanted = {("coverage", tag) for tag in batch.standing.organisations.values()}
    wanted |= {("coverage", one.site) for one in demands if one.site}
    wanted |= {("elsewhere", one.installation) for one in demands if one.installation}
    if wanted:
        pairs = sorted(wanted)
        batch.standing.entries = await read_entries(batch.tx, [name for name, _ in pairs], [tag for _, tag in pairs])


def _repeated(report: Report, answer: StoredAnswer) -> Outcome:
    if answer.fingerprint != report.fingerprint:
        return Refusal("event-conflict", {})
    first = answer.refusal or Credited(answer.activity_id, answer.co2e_mg, answer.points, answer.pending)
    # The same activity id: our own earlier attempt did commit, only its answer was lost with the connection.
    return first if answer.activity_id == report.activity_id else Duplicate(first)


async def _report(batch: Batch, report: Report, found: _Found) -> Outcome:
    verdict, participant_id = report.verdict, found.owners.get(report.subject)
    if isinstance(verdict, Refusal) and not verdict.final:
        return verdict
    if participant_id is None:
        return Refusal("subject-not-linked", {})
    if report.replaces is not None and report.replaces not in found.known:
        return Refusal("activity-not-found", {})
    if participant_id not in batch.accounts:
        raise LedgerInvariantBroken(f"participant {participant_id} is linked and has no account")
    corrected: UUID | None = None
    if report.replaces is not None:
        answer = await correct(batch, *found.known[report.replaces])
        if answer is None:
            answer = await _corrected_before(batch, report, report.replaces, found)
        if isinstance(answer, Refusal):
            batch.reports.append(Recorded(report, participant_id, None, answer))
            return answer
        corrected = answer
    if isinstance(verdict, Worth) and verdict.late and corrected is None:
        verdict = verdict.late
    if isinstance(verdict, Worth):
        return await credit(batch, report, verdict, participant_id, corrected)
    batch.reports.append(Recorded(report, participant_id, None, verdict))
    return verdict


async def _corrected_before(batch: Batch, report: Report, event: bytes, found: _Found) -> Refusal | None:
    """Why a correction of an event that had been refused comes too late: an event has one correction, and what was
    refused for that reason has none."""
    if report.key in found.corrected:
        return Refusal("already-corrected", {"correction": str(found.corrected[report.key])}, final=True)
    refusal = (await read_answers(batch.tx, batch.vault, [event]))[event].refusal
    return replace(refusal, activity_id=None) if refusal and refusal.slug == "already-corrected" else None
