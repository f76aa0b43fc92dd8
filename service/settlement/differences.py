"""Where a bank's file of a day and our statement differ, each difference with its reason. Pure.

The differences account for the whole gap: their `value_fen` add up to what the bank's lines say beyond our entries.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any
from uuid import UUID

import orjson

from service.settlement.bank_file import BankFile, Line, Words, sums_of
from service.settlement.statement import MEASURES, Entry

REASONS: Mapping[str, Words] = {
    "missing-here": Words(
        "银行有此笔，平台没有这一划转；请核对编号，或重发该请求",
        "the bank has it and we have no such transfer: check the id, or send that call again",
    ),
    "missing-there": Words(
        "平台有此笔，银行文件没有；请补记", "we have it and the bank's file has not: book it on your side"
    ),
    "amount-differs": Words("同一划转，数额不同；以平台记录核对", "the same transfer, another amount: look at both"),
    "kind-differs": Words("同一划转，类别不同", "the same transfer under another kind"),
    "redemption-differs": Words("同一划转，属于另一笔兑换", "the same transfer under another redemption"),
    "duplicate-line": Words(
        "同一划转在银行文件中出现多次；请去掉重复", "the bank's file has this transfer more than once: keep one line"
    ),
    "wrong-day": Words(
        "该划转属于平台的另一营业日；请移至该日", "we recorded this transfer on another day: move it to that day's file"
    ),
    "unknown-redemption": Words(
        "平台没有该银行的这一笔兑换", "there is no redemption of this id with this bank"
    ),
    "control-total-differs": Words(
        "文件的合计与其各行之和不符；文件可能不完整", "the file's total is not the sum of its lines: it may be cut off"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs.

    reason      a key of REASONS
    line        the place in the bank's file, None for what the file does not have
    measure     of an amount or a control total, else None
    ours, theirs  the two values as text, None where a side has none; for a control total `ours` is the sum of the
                  file's own lines
    value_fen   by so much the bank's lines exceed our entries through this
    """

    reason: str
    transfer_id: UUID | None
    redemption_id: UUID | None
    kind: str | None
    line: int | None
    measure: str | None
    ours: str | None
    theirs: str | None
    value_fen: int


def compare(
    ours: Iterable[Entry], theirs: BankFile, *, other_days: Mapping[UUID, date], known: Set[UUID]
) -> tuple[Difference, ...]:
    """Every difference, in the order of the bank's file, then of our statement; none when both say the same.

    other_days   on which other day we recorded transfers of this bank that its lines name
    known        redemptions of this bank, of those that its lines name
    """
    entries = {entry.transfer_id: entry for entry in ours}
    seen: set[UUID] = set()
    found: list[Difference] = []
    for line in theirs.lines:
        if line.transfer_id in seen:
            found.append(_only_there("duplicate-line", line))
            continue
        seen.add(line.transfer_id)
        entry = entries.get(line.transfer_id)
        if entry is not None:
            found += _between(entry, line)
        elif line.transfer_id in other_days:
            found.append(_only_there("wrong-day", line, ours=other_days[line.transfer_id].isoformat()))
        else:
            reason = "missing-here" if line.redemption_id in known else "unknown-redemption"
            found.append(_only_there(reason, line))
    found += (_only_here(entry) for entry in entries.values() if entry.transfer_id not in seen)
    found += _totals(theirs)
    return tuple(found)


def _between(entry: Entry, line: Line) -> Iterator[Difference]:
    def differs(
        reason: str, ours: object, theirs: object, measure: str | None = None, value_fen: int = 0
    ) -> Difference:
        return Difference(
            reason,
            entry.transfer_id,
            entry.redemption_id,
            entry.kind,
            line.number,
            measure,
            str(ours),
            str(theirs),
            value_fen,
        )

    if entry.redemption_id != line.redemption_id:
        yield differs("redemption-differs", entry.redemption_id, line.redemption_id)
    if entry.kind != line.kind:
        yield differs("kind-differs", entry.kind, line.kind)
    for measure in MEASURES:
        here, there = getattr(entry, measure), getattr(line, measure)
        if there is not None and here != there:
            yield differs("amount-differs", here, there, measure, there - here if measure == "value_fen" else 0)


def _only_there(reason: str, line: Line, ours: str | None = None) -> Difference:
    day = reason == "wrong-day"
    return Difference(
        reason,
        line.transfer_id,
        line.redemption_id,
        line.kind,
        line.number,
        None if day else "value_fen",
        ours,
        None if day else str(line.value_fen),
        line.value_fen,
    )


def _only_here(entry: Entry) -> Difference:
    return Difference(
        "missing-there",
        entry.transfer_id,
        entry.redemption_id,
        entry.kind,
        None,
        "value_fen",
        str(entry.value_fen),
        None,
        -entry.value_fen,
    )


def _totals(theirs: BankFile) -> Iterator[Difference]:
    """The totals that the file states, against its own lines: what the lines leave apart from ours is named above."""
    sums = sums_of(theirs.lines)
    for kind, stated in theirs.totals.items():
        for measure, amount in stated.items():
            summed = getattr(sums[kind], measure)
            if amount != summed:
                yield Difference("control-total-differs", None, None, kind, None, measure, str(summed), str(amount), 0)


def differences_document(differences: Iterable[Difference]) -> bytes:
    """The differences as they are kept: JSON in sorted keys, whole numbers as strings."""
    records = [{name: _text(value) for name, value in asdict(each).items()} for each in differences]
    return orjson.dumps(records, option=orjson.OPT_SORT_KEYS)


def read_differences(document: bytes) -> tuple[Difference, ...]:
    """The differences from the bytes that were kept."""
    records: list[dict[str, Any]] = orjson.loads(document)
    return tuple(
        Difference(
            **record
            | {
                "transfer_id": _uuid(record["transfer_id"]),
                "redemption_id": _uuid(record["redemption_id"]),
                "line": None if record["line"] is None else int(record["line"]),
                "value_fen": int(record["value_fen"]),
            }
        )
        for record in records
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
