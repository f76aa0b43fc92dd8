"""A bank's working day: take what was presented, settle it in its mood, compare, and say what came of it."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jwt

from api.bank_simulator.book import Book
from api.bank_simulator.calls import Bank, NoAnswer
from api.bank_simulator.moods import Mood
from api.bank_simulator.playing import Finding, Play
from api.bank_simulator.reconciling import Reconciled, reconcile

STATES = ("held", "captured", "voided", "lapsed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a bank's day came to.

    redemptions  how many of those presented are still held, were captured (refunded since or not), voided, or lapsed
    calls        requests made
    """

    mood: str
    redemptions: dict[str, int]
    calls: int
    reconciled: Reconciled
    findings: tuple[Finding, ...]

    @property
    def agrees(self) -> bool:
        """Whether there was something to compare, and both books say the same."""
        return not self.findings and self.reconciled.entries > 0

    def as_json(self) -> dict[str, Any]:
        """The outcome for a program."""
        compared = self.reconciled
        return {
            "mood": self.mood,
            "redemptions": self.redemptions,
            "reconciled": self.agrees,
            "reconciliation": {
                "entries": compared.entries,
                "log_size": compared.log_size,
                "agreed": compared.agreed,
                "closed": compared.closed,
                "preliminary": [*compared.preliminary],
            },
            "calls": self.calls,
            "findings": [asdict(finding) for finding in self.findings],
        }


async def play_bank(bank: Bank, book: Book, mood: Mood, entitlements: Sequence[str], chance: random.Random) -> Outcome:
    """Settle everything that is presented or stands open in the book, then reconcile. Raises NoAnswer."""
    keys = await bank.read("/v1/bank/keys")
    if not keys.good:
        raise NoAnswer(f"GET /v1/bank/keys: {keys.status}")
    play = Play(bank, book, mood, chance, {key["kid"]: jwt.PyJWK(key) for key in keys.body["keys"]})
    play.present(entitlements)
    await play.settle()
    compared = await reconcile(bank, book)
    counts, against = await _states(bank, book)
    findings = (*play.findings, *compared.findings, *against)
    return Outcome(mood.name, counts, bank.calls, compared, findings)


async def _states(bank: Bank, book: Book) -> tuple[dict[str, int], list[Finding]]:
    """How the redemptions of the book stand at the platform, and where their units are not those of the book."""
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    used: Counter[str] = Counter()
    for entry in book.own.values():
        if entry.kind == "capture":
            used[entry.redemption_id] += entry.units
    after = ""
    while True:
        page = await bank.read(f"/v1/bank/redemptions?limit=200{after}")
        if not page.good:
            raise NoAnswer(f"GET /v1/bank/redemptions: {page.status} {page.body}")
        for each in page.body["redemptions"]:
            name = each["redemption_id"]
            if name not in book.cases:
                continue
            counts["captured" if each["state"] == "refunded" else each["state"]] += 1
            if each["units_captured"] != used[name]:
                en = f"the book captured {used[name]} units, the platform {each['units_captured']}"
                findings.append(Finding("units-differ", name, "扣减份数不符", en))
        if page.body["next"] is None:
            return {state: counts[state] for state in STATES}, findings
        after = f"&after={page.body['next']}"
