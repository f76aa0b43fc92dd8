"""Decide one reported activity on what is locked: who may earn, what is taken, how much a cap leaves, what it becomes.

The order is fixed: the participant's kind, the registers, what the thing is claimed by, caps, and only then the credit.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import timedelta
from uuid import UUID

from ledger.errors import LedgerInvariantBroken
from ledger.journal import Account, credit_lines
from ledger.leaves import CreditFacts, credit_leaf, evidence_commitment
from ledger.records import record
from ledger.units import Points
from service.activities.claims import Demands
from service.activities.counting import Wanted
from service.activities.intake import Refusal, Report, Worth
from service.activities.provisional import Provisional
from service.activities.store import Recorded
from service.posting.batch import Batch
from service.posting.commands import Credited
from service.posting.reversing import supersede
from service.quantification.earning import MATCH, CapReached, Earned, capped, caps_of, window_start
from service.quantification.model import Cap
from service.quantification.points import PointsRule, campaign_points, points_for


@record
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
    wanted: Wanted | None = None
    outranked: Mapping[UUID, UUID] = {}
    if demands.takes and refusal is None:
        wanted = Wanted(participant_id, report.activity_id, demands)
        replaced, outranked = _replaced_by(batch, report, worth, wanted), outranked_by(batch, report, worth, wanted)
        refusal = _taken(batch, wanted, replaced | outranked.keys())
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
        for activity_id, holder in sorted(outranked.items()):
            await supersede(batch, holder, activity_id)
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


def _replaced_by(batch: Batch, report: Report, worth: Worth, wanted: Wanted) -> set[UUID]:
    """What an operator's record takes the place of, if nothing else stands against it: what the person's phone reported
    of the same thing and that still waits for a match."""
    if not _matches(batch, report, worth):
        return set()
    holders = [batch.counted.holder(tag) for tag, _ in wanted.demands.claims]
    mine = {holder[1] for holder in holders if holder and holder[0] == wanted.participant_id}
    return (mine | set(batch.counted.overlapping(wanted))) & batch.matchable


def outranked_by(batch: Batch, report: Report, worth: Worth, wanted: Wanted) -> dict[UUID, UUID]:
    """What other people's phones reported of the same thing, and whose it is: once an operator's record is credited, no
    match will ever come for it, and it is taken back."""
    if not _matches(batch, report, worth):
        return {}
    holders = [batch.counted.holder(tag) for tag, _ in wanted.demands.claims]
    others = [holder for holder in holders if holder and holder[0] != wanted.participant_id]
    return {activity_id: holder for holder, activity_id in others if activity_id in batch.matchable}


def _matches(batch: Batch, report: Report, worth: Worth) -> bool:
    """Whether the report is an operator's record, and something waits for one."""
    return bool(batch.matchable) and worth.awaits != MATCH and report.licence.grade == "A"


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
    methodology, day, counted = worth.demands.methodology, worth.demands.first_day, batch.counted
    participant_id = account.participant_id
    earned = capped(methodology, worth.co2e, rule, lambda name, cap: counted.room(participant_id, cap, name, day))
    if isinstance(earned, Earned) and counted.carried:
        earned = _whole_or_refused(
            worth,
            rule,
            earned,
            [
                (cap, counted.used[key])
                for name, cap in caps_of(methodology).items()
                if (key := (participant_id, name, window_start(cap.per, day))) in counted.carried
            ],
        )
    if isinstance(earned, CapReached):
        cap = earned.cap
        told = {"per": cap.per, "at_most": str(cap.at_most), "used": str(earned.used), "of": cap.of}
        return _final("cap-reached", cap.id, cap=cap.id, **told)
    for name, cap in caps_of(methodology).items():
        if earned.counted(cap.of):
            counted.count(participant_id, name, window_start(cap.per, day), earned.counted(cap.of))
    funded = 0
    if rule is not None and rule.campaigns:
        offered = campaign_points(rule, Points(earned.points), report.scenario, account.region, day)
        funded = batch.draw((rule.id, offered[0]), offered[1].n) if offered else 0
    return _Amounts(earned.co2e_mg, earned.points, funded)


def _whole_or_refused(
    worth: Worth, rule: PointsRule | None, earned: Earned, carried: Sequence[tuple[Cap, int]]
) -> Earned | CapReached:
    """What is credited under caps of which some was used before the person was erased and came back: all of it or
    nothing. Of that use the log of the new account says nothing, and a credit that it cut could not be recomputed."""
    whole = Earned(worth.co2e.mg, points_for(rule, worth.co2e).n if rule is not None else 0)
    return CapReached(*carried[0]) if carried and earned != whole else earned


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
        signature=report.signature,
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
