"""What keeps a thing from being counted twice: a claim comes again only after the credit that held it was reversed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ledger.verify.accounts import Fate
from ledger.verify.chunks import CLAIMS
from ledger.verify.findings import Findings, Left
from ledger.verify.spill import spilled

_MOST_WAITING = 16  # that hold one claim at a time and are remembered


@dataclass(frozen=True, slots=True)
class ClaimsJob:
    """Which partition."""

    scratch: Path
    partition: int
    chunks: int


def read_claims(job: ClaimsJob) -> dict[str, list[int]]:
    """The claims of a partition that several credits name, with these credits' entries in order."""
    first: dict[str, str] = {}
    again: dict[str, list[int]] = {}
    for _, records in spilled(job.scratch, CLAIMS, job.partition, job.chunks):
        for record in records:
            claim, index = record.split("\t")
            earlier = first.setdefault(claim, index)
            if earlier is not index:
                again.setdefault(claim, [int(earlier)]).append(int(index))
    return again


def check_claims(repeated: Mapping[str, list[int]], fates: Mapping[int, Fate], findings: Findings) -> list[Left]:
    """Hold repeated claims against what became of the credits that named them before.

    A credit that waits for its match gives way to an operator's record, and older logs have some that were left pending
    then; whether one waited for a match or for its settlement, only its methodology says.
    """
    undecided: list[int] = []
    for claim, entries in repeated.items():
        holders: list[Fate] = []
        for index in entries:
            holders = [one for one in holders if one.reversed_at is None or one.reversed_at > index]
            firm = next((one for one in holders if not _waited(one, index)), None)
            if firm is not None:
                expected = f"the credit of entry {firm.index} reversed before"
                findings.add("claim-repeated", expected, claim.strip('"'), index)
                holders.remove(firm)
            elif holders:
                undecided.append(index)
            if index in fates:
                holders = [*holders[-_MOST_WAITING:], fates[index]]
    return [Left("waiting-claim", len(undecided), f"entry {min(undecided)}")] if undecided else []


def _waited(fate: Fate, index: int) -> bool:
    return fate.waits and (fate.matured_at is None or fate.matured_at > index)
