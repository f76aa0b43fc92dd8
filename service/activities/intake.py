"""What a reported activity is worth, decided in pure code before any lock: a Report the poster can post, whatever its
verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from uuid import UUID

import orjson

from ledger.leaves import NONCE_BYTES, SALT_BYTES
from ledger.records import record
from ledger.units import CO2e
from service.activities.claims import Demands, ReferenceMissing, TooLong, demands_of
from service.activities.licences import Licence
from service.activities.rules import RuleBook, RuleRef
from service.clock import Fresh, shanghai_day
from service.keyring import Keyring
from service.quantification.earning import awaited
from service.quantification.model import ActivityData, Methodology
from service.quantification.periods import WHOLE_DAYS
from service.quantification.quantify import activity_day, quantify
from service.quantification.readings import Readings
from service.quantification.refusals import (
    ImproperNumber,
    MissingBaseline,
    MissingFactor,
    MissingInput,
    MissingReading,
    NotCredited,
    NotRuled,
    OutsideCalendar,
    ReadingsNotValid,
    UnknownInput,
    UnknownReading,
)
from service.quantification.refusals import Refusal as RuleRefusal

EVIDENCE_VERSION = "1"
LONGEST_FIGURE = 80  # digits, and places before or after the point: twice what the edge lets in
CLOCK_SKEW = timedelta(minutes=5)  # a provider's clock may run ahead of ours by this much

# The report is faulty or a rule is: nothing was judged, so nothing is stored and it may be sent again under the same
# id.
_UNJUDGED = (
    NotRuled,
    UnknownInput,
    MissingInput,
    ImproperNumber,
    OutsideCalendar,
    MissingFactor,
    UnknownReading,
    MissingReading,
    MissingBaseline,
    ReadingsNotValid,
)


@record
class ReportedActivity:
    """One well-formed event of a provider: times aware, figures exact, `basis` saying how each figure was obtained.

    references         what names the thing behind it: an order, a payment, a meter (claims.REFERENCES)
    readings, baseline  meter readings, by the methodology's names
    replaces           the id of an earlier event of this source that this one corrects
    """

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
    references: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[str, Readings] = field(default_factory=dict)
    baseline: Mapping[str, Readings] = field(default_factory=dict)
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is credited: a documented problem and its parameters. A final one is stored and stays the answer.

    about         what completes the reason and names nothing personal: the condition, the input
    activity_id   under which it is stored, once it is
    """

    slug: str
    params: Mapping[str, str]
    final: bool = False
    about: str = ""
    activity_id: UUID | None = None

    @property
    def reason(self) -> str:
        """For example `condition-not-met/min-duration`: what outlives the erasure of the values."""
        return f"{self.slug}/{self.about}" if self.about else self.slug

    @classmethod
    def stored(cls, reason: str, params: Mapping[str, str], activity_id: UUID) -> "Refusal":
        """A final refusal, read back."""
        slug, _, about = reason.partition("/")
        return cls(slug, params, True, about, activity_id)


@record
class Worth:
    """What an activity earns: a reduction with its class and vintage. Its points follow from the day of recording.

    demands   what it takes for itself, so that nothing counts twice
    awaits    what its credit waits for, pending: a match, a settlement or a registration
    late      the refusal if it takes the place of no credit: it came after its claim window had closed
    """

    co2e: CO2e
    credit_class: str
    vintage: int
    demands: Demands
    awaits: str | None = None
    late: Refusal | None = None


@record
class Report:
    """An assessed activity on its way to the ledger.

    key, fingerprint   HMACs under the keyring's current key: the bare values stop here
    subject            the source's id, and the HMAC of its own id for the person
    verdict    its worth, or why it earns nothing
    methodology   what it was judged by; None when it was not judged
    replaces   the key of the event that this one corrects
    document   the evidence as canonical JSON: what the commitment in the log covers
    signature  SHA-256 of the source's signature over this event alone, hex; None where it signed none or several
    """

    key: bytes
    subject: tuple[int, bytes]
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
    replaces: bytes | None = None
    signature: str | None = None

    @property
    def names(self) -> bytes | None:
        """The key of another event that this one is about."""
        return self.replaces

    @property
    def order_tags(self) -> tuple[bytes, ...]:
        """What another person's command in the same request could want too."""
        also = () if self.replaces is None else (self.replaces,)
        if isinstance(self.verdict, Worth):
            return (self.key, *also, *self.verdict.demands.order_tags)
        return (self.key, *also)

    @property
    def home(self) -> bytes:
        return self.subject[1]

    @property
    def stores_nothing(self) -> bool:
        return isinstance(self.verdict, Refusal) and not self.verdict.final


def assess(
    activity: ReportedActivity,
    licence: Licence,
    rules: RuleBook,
    keyring: Keyring,
    fresh: Fresh,
    now: datetime,
    signature: str | None = None,
) -> Report:
    """Judge one activity by the rules of its day. No lock, no database.

    signature   SHA-256 of the source's signature over this event alone, hex

    The order is fixed: calendar, licence for the scenario, licence on the day, time, methodology in force, its status
    here, then the activity's own figures and the methodology's conditions.
    """
    methodology: RuleRef | None = None
    day: date | None = None
    try:
        day = activity_day(activity.started_at)
        refused = _refused_by_licence(activity, licence, day, now)
        if refused is None:
            verdict, methodology = _judged(activity, day, licence, rules, keyring, now)
        else:
            verdict = refused
    except RuleRefusal as refusal:
        verdict = refusal_of(refusal)
    document = evidence_document(activity)
    random = fresh.random(SALT_BYTES + NONCE_BYTES)
    return Report(
        key=event_key(keyring, licence.uri, activity.event_id),
        subject=(licence.source_id, subject_tag(keyring, licence.uri, activity.subject)),
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
        replaces=event_key(keyring, licence.uri, activity.replaces) if activity.replaces else None,
        signature=signature,
    )


def event_key(keyring: Keyring, source_uri: str, event_id: str) -> bytes:
    """The key under which an event of a source is known for ever."""
    return keyring.tag("event", source_uri.encode() + b"\0" + event_id.encode())


def correction_key(event: bytes) -> bytes:
    """The key under which the one correction of an event is known for ever, made of the event's own, which nobody can
    guess."""
    return sha256(b"tanpuhui/correction/1:" + event).digest()


def _refused_by_licence(activity: ReportedActivity, licence: Licence, day: date, now: datetime) -> Refusal | None:
    spans = licence.spans.get(activity.scenario)
    if spans is None:
        return Refusal("scenario-not-licensed", {"scenario": activity.scenario})
    if not any(span.covers(day) for span in spans):
        shown = licence.span_shown(activity.scenario, day)
        valid = {"valid_from": shown.first.isoformat(), "valid_to": str(shown.last or "…")}
        return Refusal("source-licence-not-valid", {**valid, "day": day.isoformat()})
    if activity.ended_at > now + CLOCK_SKEW:
        return Refusal("activity-in-future", {"ended_at": _utc(activity.ended_at), "now": _utc(now)})
    return None


def _judged(
    activity: ReportedActivity, day: date, licence: Licence, rules: RuleBook, keyring: Keyring, now: datetime
) -> tuple[Worth | Refusal, RuleRef | None]:
    methodology = rules.methodology(activity.scenario, day)
    rules.points_rule(
        now, licence.programme
    )  # refuses when there is none; the one that counts is that of the moment of recording
    because = rules.cannot_credit(methodology)
    if because:
        named = {"methodology": methodology.id, "status": methodology.status, "because": because[0]}
        return Refusal("methodology-not-allowed", named), None
    ref = rules.refs[methodology.digest]
    last_day = _last_day(activity, day, methodology)
    window = methodology.claim_window_days
    late = None
    if window is not None and (shanghai_day(now) - last_day).days > window:
        told = {"last_day": last_day.isoformat(), "days": str(window), "reported": shanghai_day(now).isoformat()}
        late = Refusal("claim-window-closed", told, final=True)
        # A correction keeps the window of what it corrects: closing it here would take a credit and give none.
        if activity.replaces is None:
            return late, ref
    data = ActivityData(activity.started_at, activity.ended_at, activity.inputs, activity.readings, activity.baseline)
    try:
        reduction = quantify(methodology, data)
    except NotCredited as refusal:
        return refusal_of(refusal), ref
    try:
        demands = demands_of(
            keyring,
            methodology,
            activity.started_at,
            activity.ended_at,
            (day, last_day),
            _references(activity) if methodology.claims else activity.references,
            _told(activity, methodology),
        )
    except ReferenceMissing as missing:
        named = {"name": missing.name, "methodology": methodology.id}
        return Refusal("missing-reference", named, about=missing.name), None
    except TooLong:
        return Refusal("activity-too-long", {"hours": "48"}, final=True), ref
    awaits = awaited(methodology, licence.grade)
    return Worth(reduction.co2e, methodology.credit_class, reduction.vintage, demands, awaits, late), ref


def _told(activity: ReportedActivity, methodology: Methodology) -> list[tuple[str, str, Readings]]:
    """What the meter showed, where a baseline is asked for: the quantity, the name it was told under, the series."""
    if not methodology.baseline:
        return []
    told = [(name, name, series) for name, series in activity.readings.items()]
    return told + [(methodology.baseline[name].of, name, series) for name, series in activity.baseline.items()]


def _last_day(activity: ReportedActivity, day: date, methodology: Methodology) -> date:
    """The last Asia/Shanghai day of a day or a period, which end at a midnight; any other activity is of its first."""
    if methodology.trigger not in WHOLE_DAYS:
        return day
    return max(day, shanghai_day(activity.ended_at - timedelta(microseconds=1)))


def _references(activity: ReportedActivity) -> Mapping[str, str]:
    if activity.vehicle is None:
        return activity.references
    return {**activity.references, "vehicle": activity.vehicle}


def refusal_of(refusal: RuleRefusal) -> Refusal:
    """A rule's refusal as an answer; it is final if the activity was judged."""
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
        "ended_at": _moment(activity.ended_at),
        "event": activity.event_id,
        "inputs": {name: figure(value) for name, value in activity.inputs.items()},
        "scenario": activity.scenario,
        "started_at": _moment(activity.started_at),
        "v": EVIDENCE_VERSION,
    }
    if activity.basis:
        fields["basis"] = dict(activity.basis)
    if activity.vehicle is not None:
        fields["vehicle"] = activity.vehicle
    if activity.references:
        fields["references"] = dict(activity.references)
    if activity.readings:
        fields["readings"] = {name: readings.as_json() for name, readings in activity.readings.items()}
    if activity.baseline:
        fields["baseline"] = {name: readings.as_json() for name, readings in activity.baseline.items()}
    if activity.replaces is not None:
        fields["replaces"] = activity.replaces
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def _body(activity: ReportedActivity, document: bytes) -> bytes:
    """Everything that makes two events under one id the same, unambiguously joined."""
    time = _moment(activity.time) if activity.time else None
    return orjson.dumps([activity.type, activity.subject, time], option=orjson.OPT_UTC_Z) + document


def figure(value: Decimal) -> str:
    """The shortest plain text of a number: `2.50` and `2.5` are one figure, and so are `0` and `0.00`.

    A number that no rule takes (not finite, or of absurd size) keeps its own text, cut.
    """
    text = str(value)
    if "E" in text or len(text) > LONGEST_FIGURE or not value.is_finite():
        if _is_absurd(value):
            return text[:64]
        text = format(value, "f")
    if not value:
        return "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _is_absurd(value: Decimal) -> bool:
    if not value.is_finite():
        return True
    return len(value.as_tuple().digits) > LONGEST_FIGURE or abs(value.adjusted()) > LONGEST_FIGURE


def _moment(moment: datetime) -> datetime | str:
    """What orjson writes, given OPT_UTC_Z, as `_utc` says it, at a fifth of the price."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _utc(moment)


def _utc(moment: datetime) -> str:
    try:
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:  # the first or last hours of the calendar
        return moment.isoformat()
