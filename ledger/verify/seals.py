"""Daily seals held against what the entries before them leave, and the sums at each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.verify.accounts import AccountsRead, Mark
from ledger.verify.findings import Findings
from ledger.verify.holdings import Totals
from ledger.verify.moments import shanghai_day

Seals = Sequence[tuple[int, dict[str, Any]]]


def read_seals(
    notices: Sequence[tuple[int, dict[str, Any]]], size: int, findings: Findings
) -> list[tuple[int, dict[str, Any]]]:
    """The seals whose size can be looked at, with their entries' indexes; what is wrong with their order is found."""
    last: dict[str, tuple[str, int]] = {}
    found = []
    for index, fields in notices:
        if fields["kind"] != "seal":
            continue
        covered, day = int(fields["size"]), fields["day"]
        before_day, before_size = last.get(fields["programme"], ("", 0))
        if covered > index:
            findings.add("seal", f"at most the {index} entries before it", covered, index)
        if day <= before_day:
            findings.add("seal", f"a day after {before_day}", day, index)
        if covered < before_size:
            findings.add("seal", f"at least {before_size} entries", covered, index)
        if day >= shanghai_day(fields["at"]):
            findings.add("seal", f"a day that had ended before {fields['at']}", day, index)
        last[fields["programme"]] = (day, covered)
        if covered <= size:
            found.append((index, fields))
    return found


def marks_of(seals: Seals, totals_to: int | None) -> list[Mark]:
    """Where the balances are asked for, in the order of the log."""
    marks = [Mark(int(fields["size"]), number, fields["programme"]) for number, (_, fields) in enumerate(seals)]
    if totals_to is not None:
        marks.append(Mark(totals_to, None))
    return sorted(marks, key=lambda mark: mark.size)


def totals_at(mark: int, parts: Sequence[AccountsRead]) -> Totals:
    """The sums over everybody after a mark's entries; those that are zero are left out."""
    totals = Totals()
    for part in parts:
        totals.update(part.totals[mark])
    return Totals({key: amount for key, amount in totals.items() if amount})


def compare_seal(
    index: int, fields: Mapping[str, Any], root: bytes, participants: int, totals: Totals, findings: Findings
) -> None:
    """Hold one seal against the balances recomputed."""
    day = fields["day"]
    if fields["participants"] != str(participants):
        findings.add("seal-participants", participants, fields["participants"], index, day)
    if fields["root"] != root.hex():
        findings.add("seal-root", root.hex(), fields["root"], index, day)
    said = {(one["asset"], one["account"]): int(one["amount"]) for one in fields["totals"]}
    mine = {key[1:]: amount for key, amount in totals.items() if key[0] == fields["programme"]}
    for key in sorted(said.keys() | mine.keys()):
        if said.get(key, 0) != mine.get(key, 0):
            where = f"{day} {' '.join(key)}"
            findings.add("seal-totals", mine.get(key, 0), said.get(key, 0), index, where)
