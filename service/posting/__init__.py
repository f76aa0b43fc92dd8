"""Post one batch of commands in one transaction, in the one lock order: event keys, participants, then inserts, a
statement per table.
 Everything is decided on locked rows by the pure functions of ledger/journal.py. A command is answered by an outcome,
and nothing is answered to anybody before the poster has committed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from uuid import UUID

from ledger.errors import LedgerInvariantBroken, TransferNotFound
from ledger.journal import (
    Account,
    Line,
    Transfer,
    buckets_after,
    credit_lines,
    lapse_lines,
    posted,
    reversal_lines,
)
from ledger.leaves import (
    NONCE_BYTES,
    CreditFacts,
    credit_leaf,
    evidence_commitment,
    lapse_leaf,
    reversal_leaf,
)
from ledger.store import append_transfers, lock_accounts, read_buckets, read_transfer
from ledger.units import Points
from service.activities.intake import Refusal, Report, Worth
from service.activities.rules import RuleBook
from service.activities.store import Recorded, StoredAnswer, append_activities, claim_event_keys, read_answers
from service.clock import Fresh, shanghai_day
from service.database import Connection
from service.participants import hold_withdrawals, read_links
from service.quantification.points import PointsRule, expires_on, points_for


@dataclass(frozen=True, slots=True)
class Reverse:
    """Take a credit back, on the authority of `operator` or `source`. `reversal_id` and `nonce` are fresh."""

    participant_id: UUID
    transfer_id: UUID
    reason: str
    authority: str
    reversal_id: UUID
    nonce: bytes

    @property
    def key(self) -> bytes:
        return self.transfer_id.bytes

    @property
    def home(self) -> bytes:
        return self.participant_id.bytes[::-1]  # its first bytes are a time


Command = Report | Reverse


@dataclass(frozen=True, slots=True)
class Credited:
    """The activity was credited under this transfer."""

    transfer_id: UUID
    co2e_mg: int
    points: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same event came before; this is its first answer."""

    first: Credited | Refusal


@dataclass(frozen=True, slots=True)
class Reversed:
    """The reversal as it stands in the journal; `repeated` when it was there before."""

    transfer: Transfer
    repeated: bool = False


Outcome = Credited | Refusal | Duplicate | Reversed


@dataclass(slots=True)
class _Batch:
    """What has been decided so far: accounts and buckets are as after the transfers listed."""

    at: datetime
    accounts: dict[UUID, Account]
    buckets: dict[UUID, dict[date, int]]  # only of participants whose buckets a decision looks at
    transfers: list[Transfer] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    reports: list[Recorded] = field(default_factory=list)

    def account(self, participant_id: UUID) -> Account:
        return self.accounts[participant_id]

    def draft(
        self, participant_id: UUID, kind: str, transfer_id: UUID, effective_on: date, lines: tuple[Line, ...]
    ) -> Transfer:
        account = self.accounts[participant_id]
        return Transfer(
            transfer_id,
            participant_id,
            kind,
            account.counter + 1,
            account.programme,
            account.region,
            lines,
            effective_on,
            self.at,
        )

    def post(self, transfer: Transfer, leaf: bytes) -> None:
        participant_id = transfer.participant_id
        account = posted(self.accounts[participant_id], transfer.lines)
        if participant_id in self.buckets:
            buckets = self.buckets[participant_id] = buckets_after(self.buckets[participant_id], transfer.lines)
            account = replace(account, next_expiry=min((day for day, left in buckets.items() if left), default=None))
        self.accounts[participant_id] = account
        self.transfers.append(transfer)
        self.leaves.append(leaf)


async def post_batch(
    tx: Connection, commands: Sequence[Command], rules: RuleBook, fresh: Fresh, clock_offset: timedelta
) -> list[Outcome]:
    """Decide and write one batch inside the caller's transaction; outcomes stand in the order of the commands.

    The keys of a batch's commands are distinct: the poster puts a repeat into a later batch.
    """
    reports = [command for command in commands if isinstance(command, Report)]
    await hold_withdrawals(tx)
    owners = await _owners(tx, reports)
    answers = await _claim_or_find(tx, reports, owners)
    posting = {owners[report.subject] for report in reports if _is_posted(report, owners) and report.key not in answers}
    reversing = {command.participant_id for command in commands if isinstance(command, Reverse)}
    accounts, at = await lock_accounts(tx, posting | reversing, clock_offset=clock_offset)
    batch = _Batch(at or fresh.clock(), accounts, {})
    await _close_lapsed(tx, batch, reversing, fresh)
    outcomes: list[Outcome] = []
    for command in commands:
        if isinstance(command, Reverse):
            outcomes.append(await _reverse(tx, batch, command))
        elif command.key in answers:
            outcomes.append(_repeated(command, answers[command.key]))
        else:
            outcomes.append(_report(batch, command, owners.get(command.subject), rules))
    await append_activities(tx, batch.reports, at=batch.at)
    await append_transfers(tx, batch.transfers, batch.leaves, batch.accounts)
    return outcomes


async def _owners(tx: Connection, reports: Sequence[Report]) -> dict[tuple[int, bytes], UUID]:
    if not reports:
        return {}
    return await read_links(
        tx, [report.licence.source_id for report in reports], [report.subject_tag for report in reports]
    )


def _is_posted(report: Report, owners: Mapping[tuple[int, bytes], UUID]) -> bool:
    return not report.stores_nothing and report.subject in owners


async def _claim_or_find(
    tx: Connection, reports: Sequence[Report], owners: Mapping[tuple[int, bytes], UUID]
) -> dict[bytes, StoredAnswer]:
    """Take the event keys that are new; return the stored answers of those that were there before."""
    wanted = [(report, owners[report.subject]) for report in reports if _is_posted(report, owners)]
    taken = await claim_event_keys(tx, wanted)
    others = [report.key for report in reports if report.key not in taken]
    answers = await read_answers(tx, others) if others else {}
    lost = {report.key for report, _ in wanted} - taken - answers.keys()
    if lost:  # a key that is there without its answer says "credited or refused, unknown which": never credit it again
        raise LedgerInvariantBroken(f"{len(lost)} events are known, and what they were answered is not stored")
    return answers


async def _close_lapsed(tx: Connection, batch: _Batch, reversing: set[UUID], fresh: Fresh) -> None:
    """Post what has run out by today for whoever is locked; read the buckets of those a reversal will draw on."""
    today = shanghai_day(batch.at)
    due = {
        account.participant_id
        for account in batch.accounts.values()
        if account.next_expiry and account.next_expiry < today
    }
    looked_at = due | (reversing & batch.accounts.keys())
    if not looked_at:
        return
    found = await read_buckets(tx, looked_at)
    for participant_id in sorted(looked_at):
        batch.buckets[participant_id] = found.get(participant_id, {})
        lines = lapse_lines(batch.buckets[participant_id], today)
        if lines:
            transfer = batch.draft(participant_id, "lapse", fresh.id(), today, lines)
            batch.post(transfer, lapse_leaf(transfer, batch.account(participant_id).kind, fresh.random(NONCE_BYTES)))


def _repeated(report: Report, answer: StoredAnswer) -> Outcome:
    if answer.fingerprint != report.fingerprint:
        return Refusal("event-conflict", {})
    first = answer.refusal or Credited(answer.activity_id, answer.co2e_mg, answer.points)
    # The same activity id: our own earlier attempt did commit, only its answer was lost with the connection.
    return first if answer.activity_id == report.activity_id else Duplicate(first)


def _report(batch: _Batch, report: Report, participant_id: UUID | None, rules: RuleBook) -> Outcome:
    verdict = report.verdict
    if isinstance(verdict, Refusal) and not verdict.final:
        return verdict
    if participant_id is None:
        return Refusal("subject-not-linked", {})
    if participant_id not in batch.accounts:
        raise LedgerInvariantBroken(f"participant {participant_id} is linked and has no account")
    if isinstance(verdict, Worth):
        rule = rules.points_rule(batch.at)
        points = points_for(rule, verdict.co2e)
        batch.reports.append(Recorded(report, participant_id, rules.refs[rule.digest]))
        _credit(batch, report, verdict, points, rule, participant_id)
        return Credited(report.activity_id, verdict.co2e.mg, points.n)
    batch.reports.append(Recorded(report, participant_id, None))
    return verdict


def _credit(
    batch: _Batch, report: Report, worth: Worth, points: Points, rule: PointsRule, participant_id: UUID
) -> None:
    account, methodology, day = batch.account(participant_id), report.methodology, report.day
    if methodology is None or day is None:
        raise LedgerInvariantBroken(f"activity {report.activity_id} has a worth and was judged by no rule")
    lines = credit_lines(
        account,
        co2e_mg=worth.co2e.mg,
        points=points.n,
        credit_class=worth.credit_class,
        vintage=worth.vintage,
        expires_on=expires_on(rule, shanghai_day(batch.at)),
    )
    transfer = batch.draft(participant_id, "credit", report.activity_id, day, lines)
    facts = CreditFacts(
        activity=report.activity_id,
        source=report.licence.uri,
        grade=report.licence.grade,
        methodology=methodology.digest,
        points_rule=rule.digest,
        evidence=evidence_commitment(report.salt, report.document),
        claims=(f"{report.key_version}:{report.key.hex()}",),
    )
    batch.post(transfer, credit_leaf(transfer, account.kind, facts, report.nonce))


async def _reverse(tx: Connection, batch: _Batch, command: Reverse) -> Outcome:
    participant_id = command.participant_id
    if participant_id not in batch.accounts:
        return Refusal("participant-not-found", {})
    try:
        found = await read_transfer(tx, participant_id, command.transfer_id)
    except TransferNotFound:
        return Refusal("transfer-not-found", {})
    credit = found.transfer
    if credit.kind != "credit":
        return Refusal("not-reversible", {"kind": credit.kind})
    if found.reversed_by:
        earlier = (await read_transfer(tx, participant_id, found.reversed_by)).transfer
        if earlier.reason != command.reason:
            return Refusal("already-reversed", {"reversal": str(earlier.transfer_id), "reason": str(earlier.reason)})
        return Reversed(earlier, repeated=earlier.transfer_id != command.reversal_id)
    account = batch.account(participant_id)
    lines = reversal_lines(account, batch.buckets[participant_id], credit.lines)
    transfer = replace(
        batch.draft(participant_id, "reversal", command.reversal_id, shanghai_day(batch.at), lines),
        reverses=credit.transfer_id,
        reason=command.reason,
    )
    batch.post(transfer, reversal_leaf(transfer, account.kind, command.authority, command.nonce))
    return Reversed(transfer)
