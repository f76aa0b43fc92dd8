"""Compare the bank's book with the platform's, and close the days that are over.

A day that is over has a statement: the bank sends its own file, reads every difference, and closes the day when there
is none. The day that still runs has no statement yet. Its entries stand in the log already, of which the statement will
be made after midnight, and the book is compared with those: a preliminary result, and it is called so.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from api.bank_simulator.book import Book, Entry, foreign
from api.bank_simulator.calls import Bank, NoAnswer
from api.bank_simulator.playing import Finding

STEPS = ("hold", "capture", "release", "refund")
PAGE = 1000
WRITTEN_WITHIN_S = 30.0  # an entry gets its place in the log within a second
MOST_PAGES = 10_000


@dataclass(slots=True)
class Reconciled:
    """What came of comparing.

    preliminary  days without a statement, compared with the log, and how many steps each has; the others were compared
                 with their statements
    agreed       days whose statement the bank's file agrees with; `closed` of them are closed by both sides
    entries      how many steps were compared
    log_size     how far the log was read
    """

    preliminary: dict[str, int] = field(default_factory=dict)
    agreed: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    entries: int = 0
    log_size: int = 0
    findings: list[Finding] = field(default_factory=list)


async def reconcile(bank: Bank, book: Book) -> Reconciled:
    """Read what the platform has, compare, and close what can be closed. Raises NoAnswer."""
    found = Reconciled()
    await _listen(bank, book, found)
    found.entries = len(book.entries())
    found.findings += _differences(book)
    stated = await _statements(bank)
    for day, state in sorted(stated.items()):
        if state == "closed":
            found.agreed.append(day)
            found.closed.append(day)
        else:
            await _close(bank, book, day, found)
    open_days = Counter(entry.day for entry in book.entries().values() if entry.day not in stated)
    found.preliminary = dict(sorted(open_days.items()))
    return found


async def _listen(bank: Bank, book: Book, found: Reconciled) -> None:
    """Read the log's events on, until every step that the bank believes in was told of, or for a while."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + WRITTEN_WITHIN_S
    for _ in range(MOST_PAGES):
        page = await bank.read(f"/v1/events?after={book.after}&limit={PAGE}")
        if not page.good:
            raise NoAnswer(f"GET /v1/events: {page.status} {page.body}")
        for event in page.body["events"]:
            kind = event["type"].split(".")[-2]  # org.tanpuhui.….capture.v1
            if kind in STEPS:
                book.enter("told", _entry(kind, event["data"]))
        found.log_size = int(page.body["log_size"])
        book.was_told(int(page.body["next"]))
        if book.after < found.log_size - 1:
            continue
        if book.own.keys() <= book.told.keys() or loop.time() > give_up:
            return
        await asyncio.sleep(0.2)


def _entry(kind: str, told: dict[str, Any]) -> Entry:
    return Entry(
        kind,
        told["transfer_id"],
        told["redemption_id"],
        int(told["units"]),
        int(told["points"]),
        int(told["value_fen"]),
        told["day"],
        told.get("authority"),
    )


def _differences(book: Book) -> Iterable[Finding]:
    """Where the book and the log differ, both ways."""
    for name, entry in book.own.items():
        told = book.told.get(name)
        if told is None:
            yield _finding("missing-there", entry, "账簿有此笔，平台日志没有", "the book has it, the log has not")
        elif told.amounts != entry.amounts:
            en = f"the book has {entry.amounts}, the log {told.amounts}"
            yield _finding("amount-differs", entry, "同一划转，内容不同", en)
    for name, entry in book.told.items():
        if name not in book.own and not foreign(entry):
            yield _finding("missing-here", entry, "平台日志有此笔，账簿没有", "the log has it, the book has not")


def _finding(code: str, entry: Entry, zh: str, en: str) -> Finding:
    return Finding(code, entry.redemption_id, zh, f"{entry.kind} {entry.transfer_id}: {en}")


async def _statements(bank: Bank) -> dict[str, str]:
    """The state of every day that has a statement."""
    days: dict[str, str] = {}
    before = ""
    while True:
        page = await bank.read(f"/v1/statements?limit=366{before}")
        if not page.good:
            raise NoAnswer(f"GET /v1/statements: {page.status} {page.body}")
        days |= {each["day"]: each["state"] for each in page.body["days"]}
        if page.body["next"] is None:
            return days
        before = f"&before={page.body['next']}"


async def _close(bank: Bank, book: Book, day: str, found: Reconciled) -> None:
    """Send the file of a day that is over, and close it when nothing differs."""
    document = await bank.fetch(f"/v1/statements/{day}")
    size = int(json.loads(document)["size"])
    if book.after < size - 1:  # the log was read beyond it, or the platform told less than it stated
        found.findings.append(
            Finding("log-behind", None, "日志未及对账单", f"the statement of {day} is ahead of the log")
        )
        return
    answer = await bank.call(f"/v1/statements/{day}/files", book.day_file(day), kind="text/csv")
    if not answer.good:
        found.findings.append(Finding("file-refused", None, "对账文件被拒", f"{day}: {answer.slug} {answer.body}"))
        return
    for each in answer.body["differences"]:
        en = f"{day}: {each['reason']}: {each['said']} (ours {each['theirs']}, the platform's {each['ours']})"
        found.findings.append(Finding(each["reason"], each["redemption_id"], "与对账单不符", en))
    if answer.body["differing"]:
        return
    found.agreed.append(day)
    closing = {"statement": sha256(document).hexdigest(), "file": answer.body["files"][-1]["digest"]}
    closed = await bank.call(f"/v1/statements/{day}/closing", closing)
    if closed.good and closed.body["state"] == "closed":
        found.closed.append(day)
    else:
        found.findings.append(Finding("not-closed", None, "未能关账", f"{day}: {closed.slug or closed.body['state']}"))
