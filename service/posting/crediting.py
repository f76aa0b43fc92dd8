"""Decide one reported activity on what is locked: who may earn, what is taken, how much a cap leaves, what it becomes.

The order is fixed: the participant's kind, the registers, what the thing is claimed by, caps, and only then the credit.
"""

from collections.abc import Set
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from ledger.errors import LedgerInvariantBroken
from ledger.journal import Account, credit_lines
from ledger.leaves import CreditFacts, credit_leaf, evidence_commitment
from ledger.units import CO2e, Points
from service.activities.claims import Demands
from service.activities.counting import Wanted, caps_of, window_start
from service.activities.intake import MATCH, Refusal, Report, Worth
from service.activities.provisional import Provisional
from service.activities.store import Recorded
from service.posting.batch import Batch
from service.posting.commands import Credited
from service.posting.reversing import supersede
from service.quantification.points import PointsRule, campaign_points, points_for


@dataclass(frozen=True, slots=True)
class _Amounts:
    """What is credited after all caps; `funded` are a campaign's points."""

    co2e_mg: int
    points: int
    funded: int


async def credit(
    batch: Batch, report: Report, worth: Worth, participant_id: UUID, corrects: UUID | None
) -> Credited | Refusal:
    """Credit a judged activity, or refuse it for good. `corrects` is the credit that this one replaces, reversed by
    now."""
    account, demands = batch.account(participant_id), worth.demands
    refusal = _ineligible(batch, account, demands)
    wanted, outranked = None, set[UUID]()
    if demands.takes and refusal is None:
        wanted = Wanted(participant_id, report.activity_id, demands)
        replaced, outranked = _giving_way(batch, report, worth, wanted)
        refusal = _taken(batch, wanted, replaced | outranked)
        if refusal is None:
            for activity_id in sorted(replaced):
                await supersede(batch, participant_id, activity_id)
            corrects = min(replaced, default=corrects)
    if refusal is not None:
        return _refused(batch, report, participant_id, refusal)
    rule = batch.points_rule(account.programme)
    earning = _may_earn(batch, report, worth, participant_id)
    amounts = _within_caps(batch, report, worth, account, rule if earning else None)
    if isinstance(amounts, Refusal):
        return _refused(batch, report, participant_id, amounts)
    if wanted is not None:
        batch.counted.outranked |= outranked
        batch.counted.take(wanted)
    return _post(batch, report, worth, amounts, rule if earning else None, participant_id, corrects)


def _refused(batch: Batch, report: Report, participant_id: UUID, refusal: Refusal) -> Refusal:
    batch.reports.append(Recorded(report, participant_id, None, refusal))
    return refusal


def _final(slug: str, about: str = "", **params: str) -> Refusal:
    return Refusal(slug, params, final=True, about=about)


def _ineligible(batch: Batch, account: Account, demands: Demands) -> Refusal | None:
    rule = demands.methodology
    if account.kind not in rule.participants:
        return _final("participant-kind-not-eligible", kind=account.kind, eligible=", ".join(sorted(rule.participants)))
    if account.kind == "citizen" and demands.site is None and demands.installation is None:
        return None
    standing = batch.standing
    code = standing.organisations.get(account.participant_id)
    looked_up = [("coverage", code, "participant-covered"), ("coverage", demands.site, "site-covered")]
    looked_up += [("elsewhere", demands.installation, "claimed-elsewhere")]
    for register, tag, slug in looked_up:
        if tag is None:
            continue
        for entry in standing.entries.get((register, tag), ()):
            if entry.touches(demands.first_day, demands.last_day):
                return _final(
                    slug,
                    scheme=entry.scheme,
                    valid_from=entry.valid_from.isoformat(),
                    valid_to=str(entry.valid_to or "…"),
                    first_day=demands.first_day.isoformat(),
                    last_day=demands.last_day.isoformat(),
                    source=entry.source,
                )
    return None


def _taken(batch: Batch, wanted: Wanted, yielding: Set[UUID]) -> Refusal | None:
    collision = batch.counted.collision(wanted, yielding)
    if collision is None:
        return None
    slug, about, earlier = collision
    return _final(slug, about, what=about, earlier=str(earlier or "…"))


def _giving_way(batch: Batch, report: Report, worth: Worth, wanted: Wanted) -> tuple[set[UUID], set[UUID]]:
    """What an operator's record takes the place of, if nothing else stands against it: what the person's phone reported
    of the same thing and that still waits for a match; and what other people's phones did.

    Other people are outranked: their credits stay pending for ever, and hold nothing. They are not locked, and need not
    be.
    """
    if not batch.matchable or worth.awaits == MATCH or report.licence.grade != "A":
        return set(), set()
    holders = [batch.counted.holder(tag) for tag, _ in wanted.demands.claims]
    mine = {holder[1] for holder in holders if holder and holder[0] == wanted.participant_id}
    mine |= set(batch.counted.overlapping(wanted))
    others = {holder[1] for holder in holders if holder and holder[0] != wanted.participant_id}
    return mine & batch.matchable, others & batch.matchable


def _may_earn(batch: Batch, report: Report, worth: Worth, participant_id: UUID) -> bool:
    """Whether points come with the grams: never for what people declare of themselves; for a project only where its
    owner gave up trading what it saves."""
    if report.licence.grade == "C":
        return False
    if worth.credit_class != "project":
        return True
    installation = worth.demands.installation
    return installation is not None and (participant_id, installation) in batch.standing.waivers


def _within_caps(
    batch: Batch, report: Report, worth: Worth, account: Account, rule: PointsRule | None
) -> _Amounts | Refusal:
    if not worth.demands.methodology.caps and not (rule and rule.campaigns):
        return _Amounts(worth.co2e.mg, points_for(rule, worth.co2e).n if rule else 0, 0)
    caps, day, counted = caps_of(worth.demands), worth.demands.first_day, batch.counted
    participant_id = account.participant_id
    amounts = {"actions": 1, "grams": worth.co2e.mg, "points": 0}
    for what in ("actions", "grams", "points"):
        if what == "points" and rule is not None:
            amounts["points"] = points_for(rule, CO2e(amounts["grams"])).n
        for name, cap in caps.items():
            if cap.of != what:
                continue
            room = counted.room(participant_id, cap, name, day)
            if amounts[what] <= room:
                continue
            if cap.beyond == "refuse" or (room == 0 and what == "grams"):
                used = cap.at_most - room
                told = {"per": cap.per, "at_most": str(cap.at_most), "used": str(used), "of": cap.of}
                return _final("cap-reached", cap.id, cap=cap.id, **told)
            amounts[what] = room
    for name, cap in caps.items():
        if amounts[cap.of]:
            counted.count(participant_id, name, window_start(cap.per, day), amounts[cap.of])
    funded = 0
    if rule is not None and rule.campaigns:
        offered = campaign_points(rule, Points(amounts["points"]), report.scenario, account.region, day)
        funded = batch.draw((rule.id, offered[0]), offered[1].n) if offered else 0
    return _Amounts(amounts["grams"], amounts["points"], funded)


def _post(
    batch: Batch,
    report: Report,
    worth: Worth,
    amounts: _Amounts,
    rule: PointsRule | None,
    participant_id: UUID,
    corrects: UUID | None,
) -> Credited:
    account, methodology = batch.account(participant_id), report.methodology
    if methodology is None or report.day is None:
        raise LedgerInvariantBroken(f"activity {report.activity_id} has a worth and was judged by no rule")
    traded = worth.credit_class == "project"
    pending = worth.awaits is not None and not (traded and rule is not None)
    lines = credit_lines(
        account,
        co2e_mg=amounts.co2e_mg,
        points=amounts.points,
        credit_class=worth.credit_class,
        vintage=worth.vintage,
        expires_on=batch.expiry(rule) if rule else batch.today,
        pending=pending,
        grams_pending=True if traded else None,
        funded_points=amounts.funded,
    )
    transfer = batch.draft(participant_id, "credit", report.activity_id, report.day, lines)
    tags = (report.key, *(tag for tag, _ in worth.demands.claims))
    facts = CreditFacts(
        activity=report.activity_id,
        source=report.licence.uri,
        grade=report.licence.grade,
        methodology=methodology.digest,
        points_rule=rule.digest if rule else None,
        evidence=evidence_commitment(report.salt, report.document),
        claims=tuple(f"{report.key_version}:{tag.hex()}" for tag in tags),
        replaces=corrects,
    )
    batch.post(transfer, credit_leaf(transfer, account.kind, facts, report.nonce))
    batch.reports.append(Recorded(report, participant_id, batch.rules.refs[rule.digest] if rule else None, None))
    if worth.awaits == MATCH:
        batch.matchable.add(report.activity_id)
    if worth.awaits:
        settlement = worth.demands.methodology.settlement
        due = worth.demands.last_day + timedelta(days=settlement.due_days) if settlement else None
        batch.provisional.append(
            Provisional(
                participant_id,
                report.activity_id,
                report.licence.source_id,
                report.scenario,
                report.day,
                worth.awaits,
                due,
            )
        )
    return Credited(report.activity_id, amounts.co2e_mg, amounts.points + amounts.funded, pending)
