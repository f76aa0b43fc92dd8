"""Listings and statements: what belongs to a board of offers and to banks' days, each held against its own rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.verify.findings import Findings, Left
from ledger.verify.moments import days_between, shanghai_day

Notices = Sequence[tuple[int, dict[str, Any]]]

# What may become of a document from where it stands. Taken down it stays: what is mended is a new version.
_NEXT = {
    "listed": (None,),
    "suspended": ("listed", "resumed"),
    "resumed": ("suspended",),
    "taken_down": ("listed", "resumed", "suspended"),
}
_OPEN = ("listed", "resumed")
CLOSING_AUTHORITIES = ("rule", "operator")  # for the platform; the bank's own closing is a signed call


def check_listings(notices: Notices, findings: Findings) -> dict[str, list[tuple[int, bool]]]:
    """What happened to documents on the board; of each offer, by digest, from which entry on it could be held."""
    stands: dict[tuple[str, str, str], str] = {}
    digests: dict[tuple[str, str, str, str], str] = {}
    offers: dict[str, list[tuple[int, bool]]] = {}
    current: dict[tuple[str, str, str], str] = {}
    """By programme, kind and id: the digest that is on the board, suspended or not."""
    for index, fields in notices:
        if fields["kind"] != "listing":
            continue
        programme, kind, digest, action = (fields[name] for name in ("programme", "document_kind", "digest", "action"))
        where = f"{kind} {fields['id']} {fields['version']}"
        before = stands.get((programme, kind, digest))
        if before not in _NEXT[action]:
            wanted = " or ".join(str(one or "new") for one in _NEXT[action])
            findings.add("listing", f"a document that is {wanted}, to be {action}", before or "new", index, where)
        stands[programme, kind, digest] = action
        known = digests.setdefault((programme, kind, fields["id"], fields["version"]), digest)
        if known != digest:
            findings.add("listing", f"the digest {known} of this version", digest, index, where)
        there = current.setdefault((programme, kind, fields["id"]), digest)
        if there != digest and action == "listed":
            findings.add("listing", f"the version before it taken down, {there}", "on the board", index, where)
            current[programme, kind, fields["id"]] = digest
        if action == "taken_down" and there == digest:
            del current[programme, kind, fields["id"]]
        if kind == "offer":
            offers.setdefault(digest, []).append((index, action in _OPEN))
    return offers


def documents_of(notices: Notices) -> set[str]:
    """The digests of the documents that listings, pools and statements name; those of holds are listed."""
    names = {"listing": "digest", "pool": "terms", "statement": "digest"}
    return {fields[names[fields["kind"]]] for _, fields in notices if fields["kind"] in names}


@dataclass(slots=True)
class _Stated:
    """A bank's statements so far: the last number, its day, and those that were issued and not closed yet, by day."""

    number: int = 0
    day: str = ""
    open: dict[str, tuple[str, ...]] = field(default_factory=dict)


def check_statements(
    notices: Notices, last: Mapping[tuple[str, str], int], today: str, findings: Findings
) -> list[Left]:
    """A bank's statements are numbered, of one day after the other, and cover all entries of a day that is over; a
    statement is closed as it was issued, once.

    last   by bank and day: the log's last entry of that day
    today  the day on which the bundle was made
    """
    banks: dict[str, _Stated] = {}
    firsts: dict[str, str] = {}
    for index, fields in notices:
        if fields["kind"] != "statement":
            continue
        bank, day = fields["bank"], fields["day"]
        stated, where = banks.setdefault(bank, _Stated()), f"{bank} {day}"
        same = tuple(fields[name] for name in ("programme", "sequence", "digest", "size"))
        if fields["state"] == "closed":
            issued = stated.open.pop(day, None)
            if issued != same:
                findings.add("statement", " ".join(issued or ("issued before",)), " ".join(same), index, where)
            if fields["authority"] not in CLOSING_AUTHORITIES:
                wanted = f"closed by {' or '.join(CLOSING_AUTHORITIES)}"
                findings.add("statement", wanted, fields["authority"], index, where)
            continue
        firsts.setdefault(bank, day)
        if fields["sequence"] != str(stated.number + 1):
            findings.add("statement", f"sequence {stated.number + 1}", fields["sequence"], index, where)
        if stated.day and days_between(stated.day, day) != 1:
            findings.add("statement", f"the day after {stated.day}", day, index, where)
        stated.number, stated.day = int(fields["sequence"]), day
        stated.open[day] = same
        _check_size(index, fields, last.get((bank, day), -1), where, findings)
    awaited = []
    for (bank, day), entry in last.items():
        if day < firsts.get(bank, ""):
            findings.add("statement", f"one from {day} on", f"the first is of {firsts[bank]}", entry, bank)
        elif day < today and (bank not in banks or day > banks[bank].day):
            awaited.append((day, bank))
    return [Left("day-not-stated", len(awaited), " ".join(min(awaited)))] if awaited else []


def _check_size(index: int, fields: Mapping[str, Any], last: int, where: str, findings: Findings) -> None:
    size, posted = int(fields["size"]), shanghai_day(fields["at"])
    if size > index:
        findings.add("statement", f"at most the {index} entries before it", size, index, where)
    if last >= size:
        findings.add("statement", f"all of the day, to entry {last}", f"{size} entries", index, where)
    if fields["day"] >= posted:
        findings.add("statement", f"a day before {posted}", fields["day"], index, where)
