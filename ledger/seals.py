"""Daily seals: what the entries of the tree of a day's balances are, and their sums. Pure.

The leaf of a seal names the root of a tree (RFC 6962) whose entries are the records of everybody with a transfer among
the first so many entries of the log, sorted by pseudonym. So one path proves a balance, without a replay.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from ledger.errors import LeafInvalid, LedgerInvariantBroken
from ledger.journal import AMOUNT_MAX, ASSETS, PARTICIPANT_ACCOUNTS, Balances, Buckets, no_balances
from ledger.leaves import VERSION, plain
from ledger.notices import SealTotal

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_COUNT = re.compile(r"0|[1-9][0-9]{0,18}")
_ACCOUNTS = tuple(sorted(PARTICIPANT_ACCOUNTS))


@dataclass(frozen=True, slots=True)
class SealedBalance:
    """What one participant has after so many entries of the log.

    counter   how many transfers they had by then, one at least
    balances  by asset and account; `debt` is what they owe, not negative
    buckets   available points by the last day on which they can be used; those of zero are left out
    """

    participant: UUID
    counter: int
    balances: Balances
    buckets: Buckets


def sealed_record(balance: SealedBalance) -> bytes:
    """The entry of the tree: canonical JSON as a leaf is, of text alone.

    Raises LedgerInvariantBroken for a balance that nobody can have: below zero, or points in buckets that are not those
    available.
    """
    buckets = {day: points for day, points in sorted(balance.buckets.items()) if points}
    amounts = [*balance.balances.values(), *buckets.values()]
    if not all(0 <= amount <= AMOUNT_MAX for amount in amounts) or balance.counter < 1:
        raise LedgerInvariantBroken(f"nobody has such a balance: {balance}")
    if sum(buckets.values()) != balance.balances["points", "available"]:
        raise LedgerInvariantBroken(f"the buckets do not add up to what is available: {balance}")
    assets = ",".join(f'"{asset}":{{{_accounts(balance.balances, asset)}}}' for asset in sorted(ASSETS))
    points = ",".join(f'"{day}":"{left}"' for day, left in buckets.items())
    return plain(
        f'{{"balances":{{{assets}}},"buckets":{{{points}}},"counter":"{balance.counter}",'
        f'"participant":"{balance.participant}","v":"{VERSION}"}}'
    )


def _accounts(balances: Balances, asset: str) -> str:
    return ",".join(f'"{account}":"{balances[asset, account]}"' for account in _ACCOUNTS)


def read_sealed_record(record: bytes) -> SealedBalance:
    """The balance that a record states. Raises LeafInvalid for bytes that are not the one form of a balance."""
    try:
        fields = json.loads(record.decode("ascii"))
        balance = SealedBalance(_participant(fields), _count(fields["counter"]), _balances(fields), _buckets(fields))
        again = sealed_record(balance)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, LedgerInvariantBroken) as error:
        raise LeafInvalid(f"these bytes are no sealed balance: {error or type(error).__name__}") from None
    if again != record:
        raise LeafInvalid("the bytes of a sealed balance are not the canonical form of their fields")
    return balance


def _participant(fields: Any) -> UUID:
    if not _UUID.fullmatch(fields["participant"]):
        raise ValueError("participant is an id in lower case")
    return UUID(fields["participant"])


def _count(text: object) -> int:
    if not isinstance(text, str) or not _COUNT.fullmatch(text):
        raise ValueError("an amount is a text of digits")
    return int(text)


def _balances(fields: Any) -> Balances:
    return {
        (asset, account): _count(fields["balances"][asset][account])
        for asset in ASSETS
        for account in PARTICIPANT_ACCOUNTS
    }


def _buckets(fields: Any) -> Buckets:
    return {date.fromisoformat(day): _count(points) for day, points in fields["buckets"].items()}


@dataclass(slots=True)
class Totals:
    """Sums over everybody, for the leaf of a seal."""

    amounts: dict[tuple[str, str], int] = field(default_factory=no_balances)

    def add(self, balance: SealedBalance) -> None:
        for key, amount in balance.balances.items():
            self.amounts[key] += amount

    def with_system(self, system: Mapping[tuple[str, str], int]) -> tuple[SealTotal, ...]:
        """Together with the system accounts' totals at the same entry, those that are not zero.

        Raises LedgerInvariantBroken unless both add up to zero for each asset, debt counted negative: what everybody
        has came from somewhere.
        """
        for asset in ASSETS:
            held = sum(
                -amount if key[1] == "debt" else amount for key, amount in self.amounts.items() if key[0] == asset
            )
            given = sum(amount for key, amount in system.items() if key[0] == asset)
            if held + given:
                raise LedgerInvariantBroken(
                    f"{asset} does not add up to zero: {held} of participants, {given} of the rest"
                )
        together: Iterable[tuple[tuple[str, str], int]] = (*self.amounts.items(), *system.items())
        return tuple(SealTotal(account, asset, amount) for (asset, account), amount in sorted(together) if amount)
