"""What a reported activity is worth, decided in pure code before any lock: a Report the poster can post, whatever its
verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import orjson

from ledger.leaves import NONCE_BYTES, SALT_BYTES
from ledger.units import CO2e
from service.activities.rules import RuleBook, RuleRef
from service.clock import Fresh
from service.keyring import Keyring
from service.quantification.model import ActivityData
from service.quantification.quantify import activity_day, quantify
from service.quantification.refusals import (
    ImproperNumber,
    MissingFactor,
    MissingInput,
    NotCredited,
    NotRuled,
    OutsideCalendar,
    UnknownInput,
)
from service.quantification.refusals import Refusal as RuleRefusal

EVIDENCE_VERSION = "1"
LONGEST_FIGURE = 80  # digits, and places before or after the point: twice what the edge lets in
CLOCK_SKEW = timedelta(minutes=5)  # a provider's clock may run ahead of ours by this much

# The report is faulty or a rule is: nothing was judged, so nothing is stored and it may be sent again under the same
# id.
_UNJUDGED = (NotRuled, UnknownInput, MissingInput, ImproperNumber, OutsideCalendar, MissingFactor)


@dataclass(frozen=True, slots=True)
class Licence:
    """A registered source as it stands now: what it may report, from when to when, and how far its evidence is
    trusted."""

    source_id: int
    uri: str
    grade: str
    scenarios: frozenset[str]
    programme: str
    region: str
    valid_from: date
    valid_to: date | None


@dataclass(frozen=True, slots=True)
class ReportedActivity:
    """One well-formed event of a provider: times aware, figures exact, `basis` saying how each figure was obtained."""

    event_id: str
    subject: str
    type: str
    time: datetime | None
    scenario: str
    started_at: datetime
    ended_at: datetime
    inputs: Mapping[str, Decimal]
    basis: Mapping[str, str]
    vehicle: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is credited: a documented problem and its parameters. A final one is stored and stays the answer.

    about   what completes the reason and names nothing personal: the condition, the input
    """

    slug: str
    params: Mapping[str, str]
    final: bool = False
    about: str = ""

    @property
    def reason(self) -> str:
        """For example `condition-not-met/min-duration`: what outlives the erasure of the values."""
        return f"{self.slug}/{self.about}" if self.about else self.slug

    @classmethod
    def stored(cls, reason: str, params: Mapping[str, str]) -> "Refusal":
        """A final refusal, read back."""
        slug, _, about = reason.partition("/")
        return cls(slug, params, final=True, about=about)


@dataclass(frozen=True, slots=True)
class Worth:
    """What an activity earns: a reduction with its class and vintage. Its points follow from the day of recording."""

    co2e: CO2e
    credit_class: str
    vintage: int


@dataclass(frozen=True, slots=True)
class Report:
    """An assessed activity on its way to the ledger.

    key, subject_tag, fingerprint   HMACs under the keyring's current key: the bare values stop here
    verdict    its worth, or why it earns nothing
    methodology   what it was judged by; None when it was not judged
    document   the evidence as canonical JSON: what the commitment in the log covers
    """

    key: bytes
    subject_tag: bytes
    fingerprint: bytes
    key_version: int
    licence: Licence
    activity_id: UUID
    scenario: str
    day: date | None
    verdict: Worth | Refusal
    methodology: RuleRef | None
    document: bytes
    salt: bytes
    nonce: bytes

    @property
    def subject(self) -> tuple[int, bytes]:
        return self.licence.source_id, self.subject_tag

    @property
    def home(self) -> bytes:
        return self.subject_tag

    @property
    def stores_nothing(self) -> bool:
        return isinstance(self.verdict, Refusal) and not self.verdict.final


def assess(
    activity: ReportedActivity, licence: Licence, rules: RuleBook, keyring: Keyring, fresh: Fresh, now: datetime
) -> Report:
    """Judge one activity by the rules of its day. No lock, no database.

    The order is fixed: calendar, licence for the scenario, licence on the day, time, methodology in force, its status
    here, then the activity's own figures and the methodology's conditions.
    """
    methodology: RuleRef | None = None
    day: date | None = None
    try:
        day = activity_day(activity.started_at)
        refused = _refused_by_licence(activity, licence, day, now)
        if refused is None:
            verdict, methodology = _judged(activity, day, rules, now)
        else:
            verdict = refused
    except RuleRefusal as refusal:
        verdict = _refusal(refusal)
    source, document = licence.uri.encode(), evidence_document(activity)
    random = fresh.random(SALT_BYTES + NONCE_BYTES)
    return Report(
        key=keyring.tag("event", source + b"\0" + activity.event_id.encode()),
        subject_tag=keyring.tag("subject", source + b"\0" + activity.subject.encode()),
        fingerprint=keyring.tag("fingerprint", _body(activity, document)),
        key_version=keyring.lasting,
        licence=licence,
        activity_id=fresh.id(),
        scenario=activity.scenario,
        day=day,
        verdict=verdict,
        methodology=methodology,
        document=document,
        salt=random[:SALT_BYTES],
        nonce=random[SALT_BYTES:],
    )


def _refused_by_licence(activity: ReportedActivity, licence: Licence, day: date, now: datetime) -> Refusal | None:
    if activity.scenario not in licence.scenarios:
        return Refusal("scenario-not-licensed", {"scenario": activity.scenario})
    if day < licence.valid_from or (licence.valid_to and day > licence.valid_to):
        span = {"valid_from": licence.valid_from.isoformat(), "valid_to": str(licence.valid_to or "…")}
        return Refusal("source-licence-not-valid", {**span, "day": day.isoformat()})
    if activity.ended_at > now + CLOCK_SKEW:
        return Refusal("activity-in-future", {"ended_at": _utc(activity.ended_at), "now": _utc(now)})
    return None


def _judged(
    activity: ReportedActivity, day: date, rules: RuleBook, now: datetime
) -> tuple[Worth | Refusal, RuleRef | None]:
    methodology = rules.methodology(activity.scenario, day)
    rules.points_rule(now)  # refuses when there is none; the one that counts is that of the moment of recording
    if methodology.status not in rules.allowed_statuses:
        return Refusal("methodology-not-allowed", {"methodology": methodology.id, "status": methodology.status}), None
    ref = rules.refs[methodology.digest]
    try:
        reduction = quantify(methodology, ActivityData(activity.started_at, activity.ended_at, activity.inputs))
    except NotCredited as refusal:
        return _refusal(refusal), ref
    return Worth(reduction.co2e, methodology.credit_class, reduction.vintage), ref


def _refusal(refusal: RuleRefusal) -> Refusal:
    about = refusal.reason.partition("/")[2]
    return Refusal(refusal.slug, refusal.params, final=not isinstance(refusal, _UNJUDGED), about=about)


def subject_tag(keyring: Keyring, source_uri: str, subject: str) -> bytes:
    """The tag under which a provider's own id for a person is kept."""
    return keyring.tag("subject", source_uri.encode() + b"\0" + subject.encode())


def evidence_document(activity: ReportedActivity) -> bytes:
    """The evidence as RFC 8785 JSON of strings only: sorted keys, times in UTC, figures in their shortest plain form.

    What was not reported is left out, never null: a field that a later version adds changes nothing for events without
    it, so that a repeat of an old event keeps its fingerprint. It names no person: the provider's id for its rider is
    left out, the event's own id is what an auditor asks the provider about.
    """
    fields: dict[str, object] = {
        "ended_at": _utc(activity.ended_at),
        "event": activity.event_id,
        "inputs": {name: figure(value) for name, value in activity.inputs.items()},
        "scenario": activity.scenario,
        "started_at": _utc(activity.started_at),
        "v": EVIDENCE_VERSION,
    }
    if activity.basis:
        fields["basis"] = dict(activity.basis)
    if activity.vehicle is not None:
        fields["vehicle"] = activity.vehicle
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _body(activity: ReportedActivity, document: bytes) -> bytes:
    """Everything that makes two events under one id the same, unambiguously joined."""
    time = _utc(activity.time) if activity.time else None
    return orjson.dumps([activity.type, activity.subject, time]) + document


def figure(value: Decimal) -> str:
    """The shortest plain text of a number: `2.50` and `2.5` are one figure, and so are `0` and `0.00`.

    A number that no rule takes (not finite, or of absurd size) keeps its own text, cut.
    """
    if not value.is_finite() or len(value.as_tuple().digits) > LONGEST_FIGURE or abs(value.adjusted()) > LONGEST_FIGURE:
        return str(value)[:64]
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _utc(moment: datetime) -> str:
    try:
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:  # the first or last hours of the calendar
        return moment.isoformat()
