"""What a batch has decided so far, and what it will write."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from uuid import UUID

from ledger.journal import Account, Line, Transfer, buckets_after, lapse_lines, posted
from ledger.leaves import NONCE_BYTES, lapse_leaf
from ledger.store import Posted, read_buckets, read_transfer
from service.activities.counting import Counted, Key, read_tally
from service.activities.provisional import Provisional, SettledRow
from service.activities.rules import RuleBook
from service.activities.store import Recorded
from service.campaigns import CampaignKey, Slot, lock_any_slot
from service.clock import Fresh, shanghai_day
from service.database import Connection
from service.eligibility import Entry
from service.quantification.points import PointsRule, expires_on
from service.redemption.redeeming import Redeeming
from service.vault import DataKey, Vault, read_keys


@dataclass(slots=True)
class Standing:
    """What the registers say of those who report organisations' activities, and of the things they name."""

    organisations: dict[UUID, bytes] = field(default_factory=dict)
    entries: dict[tuple[str, bytes], list[Entry]] = field(default_factory=dict)
    waivers: set[tuple[UUID, bytes]] = field(default_factory=set)


@dataclass(slots=True)
class Batch:
    """Accounts and buckets are as after the transfers listed.

    keys       the data keys of those whose texts this batch seals
    buckets    only of participants whose buckets a decision looks at
    matchable  activities that wait for an operator's record
    slots      the locked parts of campaigns' budgets, with what is left of them
    """

    tx: Connection
    rules: RuleBook
    fresh: Fresh
    at: datetime
    accounts: dict[UUID, Account]
    counted: Counted
    standing: Standing
    vault: Vault
    keys: dict[UUID, DataKey]
    buckets: dict[UUID, dict[date, int]] = field(default_factory=dict)
    matchable: set[UUID] = field(default_factory=set)
    transfers: list[Transfer] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    reports: list[Recorded] = field(default_factory=list)
    provisional: list[Provisional] = field(default_factory=list)
    settled: list[SettledRow] = field(default_factory=list)
    no_longer_provisional: list[tuple[UUID, UUID]] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    redeeming: Redeeming = field(default_factory=Redeeming)
    today: date = field(init=False)
    _expiries: dict[str, date] = field(default_factory=dict)
    _points_rules: dict[str, PointsRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.today = shanghai_day(self.at)

    def points_rule(self, programme: str) -> PointsRule:
        """The rule for points that are recorded in this batch. Raises NoPointsRuleInForce."""
        found = self._points_rules.get(programme)
        if found is None:
            found = self._points_rules[programme] = self.rules.points_rule(self.at, programme)
        return found

    def expiry(self, rule: PointsRule) -> date:
        """The last day of points that are recorded in this batch."""
        found = self._expiries.get(rule.digest)
        if found is None:
            found = self._expiries[rule.digest] = expires_on(rule, self.today)
        return found

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

    def lapse(self, participant_id: UUID) -> None:
        """Post what of a participant's buckets has run out by today; their buckets are at hand."""
        lines = lapse_lines(self.buckets[participant_id], self.today)
        if lines:
            transfer = self.draft(participant_id, "lapse", self.fresh.id(), self.today, lines)
            nonce = self.fresh.random(NONCE_BYTES)
            self.post(transfer, lapse_leaf(transfer, self.account(participant_id).kind, nonce))

    def draw(self, campaign: CampaignKey, points: int) -> int:
        """Take points from a campaign's budget, as many as are left there."""
        drawn = 0
        for slot in self.slots:
            if slot.campaign == campaign:
                taken = min(points - drawn, slot.left)
                slot.left -= taken
                drawn += taken
        return drawn

    async def give_back(self, campaign: CampaignKey, points: int) -> None:
        """Return points to a campaign's budget. Raises BudgetMoved."""
        slot = next((slot for slot in self.slots if slot.campaign == campaign), None)
        if slot is None:
            slot = await lock_any_slot(self.tx, campaign)
            self.slots.append(slot)
        slot.left += points

    async def have_tally(self, key: Key) -> None:
        """Know how much of a cap is used; the participant is locked."""
        if key not in self.counted.used:
            self.counted.used[key] = await read_tally(self.tx, key)

    async def posted(self, participant_id: UUID, transfer_id: UUID) -> Posted:
        """A transfer of a locked participant with what took it back or freed it, in this batch too.

        Raises TransferNotFound.
        """
        found = None
        for transfer in self.transfers:
            if transfer.transfer_id == transfer_id and transfer.participant_id == participant_id:
                found = Posted(transfer, None, None)
        found = found or await read_transfer(self.tx, participant_id, transfer_id)
        for transfer in self.transfers:
            if transfer.reverses == transfer_id:
                found = replace(found, reversed_by=transfer.transfer_id)
            if transfer.matures == transfer_id:
                found = replace(found, matured_by=transfer.transfer_id)
        return found

    async def have_keys(self, participant_ids: Iterable[UUID]) -> None:
        """Have the data keys of these participants at hand; of those whose key was destroyed there is none."""
        missing = set(participant_ids) - self.keys.keys()
        self.keys.update(await read_keys(self.tx, self.vault, missing))

    async def read_buckets(self, participant_ids: Sequence[UUID]) -> None:
        """Have the buckets of these participants at hand; those that are, are as decided."""
        missing = [each for each in participant_ids if each not in self.buckets]
        if not missing:
            return
        found = await read_buckets(self.tx, missing)
        for participant_id in missing:
            buckets = found.get(participant_id, {})
            for transfer in self.transfers:
                if transfer.participant_id == participant_id:
                    buckets = buckets_after(buckets, transfer.lines)
            self.buckets[participant_id] = buckets
