"""What only all holds and steps together show: bank days against their statements, limits of pools, products behind
offers."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ledger.leaves import utc_second
from ledger.verify.findings import Findings
from service.audit.calls import Shown, calls_path
from service.audit.documents import Documents
from service.audit.evidence import CHUNK
from service.audit.findings import Open
from service.audit.steps import HOLD, Step
from service.redemption.terms import PoolTerms
from service.settlement.statement import DayStatement, Entry

Leaves = Sequence[tuple[int, dict[str, Any]]]
"""Of pools, listings and statements, by index."""

_TOLD = ("kind", "transfer_id", "redemption_id", "reason", "offer", "offer_version", "recorded_at")
_MEASURED = ("units", "points", "value_fen", "co2e_mg")


def check_redemptions(
    steps: Sequence[Step],
    leaves: Leaves,
    shown: Sequence[Shown],
    documents: Documents,
    findings: Findings,
    open_: Open,
) -> None:
    """Everything that is asked here.

    steps, shown   in the order of the log
    """
    for digest, reason in sorted(documents.unreadable.items()):
        findings.add("document-form", "a document that can be read", reason, None, f"documents/{digest}.json")
    check_statements(steps, leaves, documents, findings, open_)
    check_limits(steps, leaves, documents, findings)
    check_products(steps, leaves, documents, findings)
    check_calls(steps, shown, findings)


def check_calls(steps: Sequence[Step], shown: Sequence[Shown], findings: Findings) -> None:
    """A signed call is the ground of one entry only, but for a capture and the release of its rest. The call of a
    refund names the redemption of its capture, and a capture without units takes all that is left."""
    by_entry, by_transfer = {step.entry: step for step in steps}, {step.transfer: step for step in steps}
    calls = {one.entry: one for one in shown}
    left: Counter[str] = Counter()
    for step in steps:
        call, hold = calls.get(step.entry), hold_of(step, by_transfer)
        if call is not None and hold is not None:
            if step.kind == "capture" and call.whole and step.units != left[hold.transfer]:
                _find_call(findings, f"all {left[hold.transfer]} units that are left", step.units, call)
            if step.kind == "refund" and call.redemption not in ("", hold.transfer):
                _find_call(findings, f"a call about {hold.transfer}", call.redemption, call)
        if hold is not None and step.kind != "refund":
            left[hold.transfer] += step.units if step.kind == HOLD else -step.units
    first: dict[str, Shown] = {}
    rests: set[str] = set()
    for one in shown:
        before = first.setdefault(one.call, one)
        rest, captured = by_entry.get(one.entry), by_entry.get(before.entry)
        if rest is not None and rest.reason == "rest":
            of_it = captured is not None and (captured.kind, captured.named) == ("capture", rest.named)
            if not of_it or one.call in rests:
                _find_call(findings, "the call of its capture", f"the call of entry {before.entry}", one)
            rests.add(one.call)
        elif before is not one:
            _find_call(findings, "a call of its own", f"the call of entry {before.entry}", one)


def _find_call(findings: Findings, expected: str, found: object, call: Shown) -> None:
    findings.add("signed-call", expected, found, call.entry, calls_path(call.entry // CHUNK))


def check_statements(
    steps: Sequence[Step], leaves: Leaves, documents: Documents, findings: Findings, open_: Open
) -> None:
    """Each statement that was issued lists the entries of its bank's day, all of them and in their order."""
    days: dict[tuple[str, str], list[Step]] = defaultdict(list)
    by_transfer = {step.transfer: step for step in steps}
    for step in steps:
        days[step.bank, step.day].append(step)
    before: dict[str, str] = {}
    for index, fields in leaves:
        if fields["kind"] != "statement" or fields["state"] != "issued":
            continue
        digest, bank = fields["digest"], fields["bank"]
        statement = documents.statements.get(digest)
        if statement is None:
            open_.add("statement-missing", f"entry {index}")
            continue
        said = (statement.bank, statement.programme, str(statement.day), str(statement.sequence), str(statement.size))
        wanted = tuple(fields[name] for name in ("bank", "programme", "day", "sequence", "size"))
        if said != wanted:
            findings.add("statement-entries", " ".join(wanted), " ".join(said), index, f"documents/{digest}.json")
        if statement.previous != before.get(bank):
            findings.add("statement-entries", f"after {before.get(bank)}", f"after {statement.previous}", index)
        before[bank] = digest
        _compare(index, statement, days[bank, fields["day"]], by_transfer, documents, findings)


def _compare(
    index: int,
    statement: DayStatement,
    steps: Sequence[Step],
    by_transfer: Mapping[str, Step],
    documents: Documents,
    findings: Findings,
) -> None:
    told = {entry.log_index: entry for entry in statement.entries}
    if list(told) != [step.entry for step in steps]:
        mine = ", ".join(str(step.entry) for step in steps) or "none"
        findings.add("statement-entries", f"the entries {mine}", ", ".join(map(str, told)) or "none", index)
    for step in steps:
        entry = told.get(step.entry)
        hold = hold_of(step, by_transfer)
        if entry is None or hold is None:
            continue
        said, wanted = _of_entry(entry), _of_step(step, hold, documents)
        if said != wanted:
            findings.add("statement-entries", " ".join(wanted), " ".join(said), step.entry, f"statement {index}")


def _of_entry(entry: Entry) -> tuple[str, ...]:
    told = [getattr(entry, name) for name in (*_TOLD, *_MEASURED)]
    return tuple(utc_second(each) if name == "recorded_at" else str(each) for name, each in zip(
        (*_TOLD, *_MEASURED), told, strict=True))  # fmt: skip


def _of_step(step: Step, hold: Step, documents: Documents) -> tuple[str, ...]:
    offer = documents.offers.get(hold.offer)
    name, version = (offer.id, offer.version) if offer is not None else ("?", 0)
    told = (step.kind, step.transfer, hold.transfer, step.reason, name, version, step.at)
    return tuple(map(str, (*told, step.units, step.points, step.value_fen, step.co2e_mg)))


def hold_of(step: Step, by_transfer: Mapping[str, Step]) -> Step | None:
    """The hold that a step belongs to; a hold's own is itself."""
    for _ in range(2):
        if step.kind == HOLD:
            return step
        named = by_transfer.get(step.named)
        if named is None:
            return None
        step = named
    return step if step.kind == HOLD else None


def check_limits(steps: Sequence[Step], leaves: Leaves, documents: Documents, findings: Findings) -> None:
    """A pool pays no more than its rate, and no more a day, in all and for one person, than its terms say. What comes
    back on the day on which it was drawn may be drawn again."""
    terms = _terms(leaves, documents)
    drawn: Counter[tuple[str, ...]] = Counter()
    by_transfer = {step.transfer: step for step in steps}
    for step in steps:
        pool, hold = terms.get((step.programme, step.pool)), hold_of(step, by_transfer)
        if pool is None or hold is None or step.kind == "capture":
            continue
        keys = ((step.pool, hold.day), (step.pool, hold.day, step.participant))
        if step.kind != HOLD:
            if step.day == hold.day:
                drawn.subtract(dict.fromkeys(keys, step.points))
            continue
        if not pool.pays(step.points, step.value_fen):
            rate = f"at most {pool.rate_fen} fen for {pool.rate_points} points"
            findings.add("pool-limit", rate, f"{step.value_fen} fen for {step.points}", step.entry, step.pool)
        drawn.update(dict.fromkeys(keys, step.points))
        for key, most in zip(keys, (pool.points_per_day, pool.points_per_person_per_day), strict=True):
            if most is not None and drawn[key] > most:
                findings.add("pool-limit", f"at most {most} points a day", drawn[key], step.entry, " ".join(key))


def _terms(leaves: Leaves, documents: Documents) -> dict[tuple[str, str], PoolTerms]:
    return {
        (fields["programme"], fields["pool"]): documents.pools[fields["terms"]]
        for _, fields in leaves
        if fields["kind"] == "pool" and fields["terms"] in documents.pools
    }


def check_products(steps: Iterable[Step], leaves: Leaves, documents: Documents, findings: Findings) -> None:
    """The product behind an offer is on the board when the offer is held; and listings say what their documents say."""
    boards: dict[str, list[tuple[int, str, bool]]] = defaultdict(list)
    for index, fields in leaves:
        if fields["kind"] != "listing":
            continue
        digest = fields["digest"]
        known = documents.offers.get(digest) or documents.products.get(digest)
        if known is not None:
            said = fields["document_kind"], fields["id"], fields["version"]
            if said != (known.kind, known.id, str(known.version)):
                told = f"{known.kind} {known.id} {known.version}"
                findings.add("listing-document", told, " ".join(said), index)
        if fields["document_kind"] == "product":
            boards[fields["id"]].append((index, digest, fields["action"] in ("listed", "resumed")))
    for step in steps:
        offer = documents.offers.get(step.offer) if step.kind == HOLD else None
        if offer is None:
            continue
        changes = boards[offer.product]
        state: dict[str, bool] = {}
        for _, digest, there in changes[: bisect_left(changes, (step.entry,))]:
            state[digest] = there
        if not any(state.values()):
            findings.add("offer-product", f"{offer.product} on the board", "it is not", step.entry)
