"""Holds and their steps in the first pass: each against its offer, what was agreed, and the call its bank signed."""

from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ledger.hold_leaves import decision_commitment, terms_commitment
from ledger.leaves import utc_second
from service.audit.calls import Shown, calls_path, fault_of, is_erased, read_calls, shown_for
from service.audit.documents import Documents
from service.audit.evidence import EvidenceLines, evidence_path
from service.audit.findings import Open
from service.products.model import Offer

HOLD = "hold"


class Step(NamedTuple):
    """A hold, or a step of one, as its entry tells it.

    named    the hold that a capture or a release draws on, or the capture that a refund takes back
    offer    the digest of a hold's offer
    covered, available_points   of its person, as the terms of a hold say; `covered` is None where they are not there
    """

    entry: int
    kind: str
    participant: str
    transfer: str
    named: str
    programme: str
    bank: str
    pool: str
    offer: str
    day: str
    at: str
    reason: str | None
    units: int
    points: int
    value_fen: int
    co2e_mg: int
    covered: bool | None = None
    available_points: int = 0


class Steps:
    """Of one chunk.

    find    takes a finding
    shown   the calls of its entries
    """

    def __init__(
        self,
        directory: Path,
        number: int,
        documents: Documents,
        evidence: EvidenceLines,
        find: Callable[..., None],
        open_: Open,
        checked: Counter[str],
    ) -> None:
        self._documents, self._evidence, self._number = documents, evidence, number
        self._find, self._open, self._checked = find, open_, checked
        self._calls, self._strays = read_calls(directory / calls_path(number))
        self.shown: list[Shown] = []

    def take(self, index: int, leaf: dict[str, Any]) -> Step:
        """Look at one. Raises what is raised of fields that are none."""
        amounts = {"points": 0, "co2e_mg": 0}
        for line in leaf["lines"]:
            amounts[line["asset"]] += int(line["amount"])
        step = Step(
            index,
            leaf["kind"],
            leaf["participant"],
            leaf["transfer"],
            leaf.get("hold") or leaf.get("reverses") or "",
            leaf["programme"],
            leaf["bank"],
            leaf["pool"],
            leaf.get("offer", ""),
            leaf["day"],
            leaf["at"],
            leaf.get("reason"),
            int(leaf["units"]),
            amounts["points"],
            int(leaf["value"]),
            amounts["co2e_mg"],
        )
        offer = self._documents.offers.get(step.offer)
        if step.kind == HOLD:
            step = self._terms(index, leaf, step)
            if offer is None:
                self._open.add("offer-missing", f"entry {index}")
            else:
                self._offered(index, leaf, step, offer)
        elif leaf.get("decision") is not None:
            self._decided(index, leaf)
        self.call(index, leaf, None if offer is None else offer.id)
        return step

    def finish(self) -> None:
        """What lies there and belongs to nothing."""
        for stray in (*self._strays, *(f"index {index}" for index in self._calls)):
            self._find("call-extra", "the call of an entry that names it", stray, None, calls_path(self._number))

    def call(self, index: int, leaf: dict[str, Any], offer: str | None = None) -> None:
        """Look at the call that a step, or the closing of a statement, names. `offer` is the id of a hold's offer."""
        if leaf["signature"] is None:
            return
        call, where = self._calls.pop(index, None), calls_path(self._number)
        if call is None:
            self._find("signed-call", f"the call {leaf['signature']}", "none", index, where)
        else:
            self._checked["calls"] += 1
            fault = fault_of(call, leaf, self._documents.keys, offer)
            if fault is not None:
                self._find("signed-call", "the bank's signed call for this", fault, index, where)
                call = None
            elif is_erased(call):
                self._open.add("call-erased", f"entry {index}")
        self.shown.append(shown_for(index, call, leaf))

    def _terms(self, index: int, leaf: dict[str, Any], step: Step) -> Step:
        """Hold one against what was agreed; with what that says of the person."""
        line, where = self._evidence.of(index), evidence_path(self._number)
        if line is None:
            self._open.add("terms-erased", f"entry {index}")
            return step
        terms = line.get("terms")
        if not isinstance(terms, str):
            self._find("evidence-form", "the terms of a hold", "another record", index, where)
            return step
        self._checked["terms"] += 1
        committed = terms_commitment(line["salt"], terms.encode())
        if committed != leaf["terms"]:
            self._find("terms", leaf["terms"], committed, index, where)
            return step
        said = orjson.loads(terms)
        ends = datetime.fromisoformat(leaf["expires_at"]) - datetime.fromisoformat(leaf["at"])
        agreed = {
            "bank": step.bank,
            "co2e_mg": str(step.co2e_mg),
            "hold_seconds": str(round(ends.total_seconds())),
            "offer_digest": step.offer,
            "points": str(step.points),
            "pool": step.pool,
            "redemption": step.transfer,
            "units": str(step.units),
            "value_fen": str(step.value_fen),
        }
        for name, value in agreed.items():
            if said.get(name) != value:
                self._find("terms-of", f"{name} {value}", said.get(name), index, where)
        covered, points = said["facts"]["covered"], int(said["facts"]["available_points"])
        if not isinstance(covered, bool) or points < 0:
            raise ValueError("the facts of a hold's terms")
        return step._replace(covered=covered, available_points=points)

    def _decided(self, index: int, leaf: dict[str, Any]) -> None:
        """Hold a refund against the decision that it rests on."""
        line, where = self._evidence.of(index), evidence_path(self._number)
        if line is None:
            self._open.add("decision-erased", f"entry {index}")
            return
        record = line.get("decision")
        if not isinstance(record, str):
            self._find("evidence-form", "the record of a decision", "another record", index, where)
            return
        self._checked["decisions"] += 1
        committed = decision_commitment(line["salt"], record.encode())
        if committed != leaf["decision"]:
            self._find("decision", leaf["decision"], committed, index, where)
            return
        said = orjson.loads(record)
        told = said["outcome"], leaf["authority"], leaf.get("reverses") in said["captures"]
        if told != ("participant", "operator", True):
            expected = f"a decision of the operator's to refund {leaf.get('reverses')}"
            self._find("decision-of", expected, f"{record}, on the authority of {leaf['authority']}", index, where)

    def _offered(self, index: int, leaf: dict[str, Any], step: Step, offer: Offer) -> None:
        """What the offer says of any hold of it; what depends on the person comes in the second pass."""
        ends = datetime.fromisoformat(leaf["at"]) + timedelta(seconds=offer.hold_seconds)
        expected = {
            "bank": (offer.bank, step.bank),
            "pool": (offer.pool, step.pool),
            "value": (offer.value_fen(step.units), step.value_fen),
            "grams": (offer.co2e_mg(step.points), step.co2e_mg),
            "end": (utc_second(ends), leaf["expires_at"]),
        }
        for name, (wanted, found) in expected.items():
            if wanted != found:
                self._find("offer-terms", f"{name} {wanted}", found, index)
        prices = {offer.points_per_unit, *(tier.points_per_unit for tier in offer.tiers)}
        if step.points not in {price * step.units for price in prices}:
            told = " or ".join(map(str, sorted(prices)))
            self._find("offer-price", f"{told} points for each of {step.units} units", step.points, index)
        if date.fromisoformat(step.day) not in offer.valid:
            self._find("eligible", f"a day of {offer.valid}", step.day, index)
