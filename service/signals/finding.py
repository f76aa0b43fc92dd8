"""What the rules find in one person's activities: pure, exact, and explained by the figures it returns.

Nothing here knows where anybody was. Times, the vehicle's tag and grams are what is there; of a scenario whose grams
are a multiple of its kilometres they tell the distance.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from service.clock import shanghai_day
from service.signals.rules import SignalRule

OVERLAPS = ("overlaps-activity", "overlaps-claim")
"""Refusals that say: this person, or this vehicle, was somewhere else at the time."""
_HOUR_S, _METRES = 3600, 1000
_UNTIMED = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Act:
    """One activity as it is recorded outside of its evidence.

    reason      why it was refused; None when it was credited
    mg          what was credited
    vehicle     the keyed tag of its vehicle, where it has one
    started_at  None where the rule it was judged by keeps no times
    """

    activity_id: UUID
    source_id: int
    scenario: str
    day: date
    reason: str | None
    mg: int
    started_at: datetime | None = None
    ended_at: datetime | None = None
    vehicle: bytes | None = None

    @property
    def credited(self) -> bool:
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Found:
    """Something unusual. `about` names it within its rule, so that it is told once; `activities` are the credits that
    are concerned."""

    rule: SignalRule
    about: str
    values: Mapping[str, str]
    activities: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """What the rules are held against.

    acts          by their days, the earliest first
    enrolled_on   None where it is not known
    usual         by source: credits a day that 99 in 100 of its people stay within
    vehicles      by vehicle and day: how many rides of anybody
    """

    acts: Sequence[Act]
    enrolled_on: date | None = None
    usual: Mapping[int, int] = field(default_factory=dict)
    vehicles: Mapping[tuple[bytes, date], int] = field(default_factory=dict)


def find(rules: Iterable[SignalRule], person: Person, day: date) -> list[Found]:
    """Everything that the rules about one person find in the days up to this one, each rule in its own window."""
    found: list[Found] = []
    days = [act.day for act in person.acts]
    end = bisect_right(days, day)
    for rule in rules:
        if rule.kind in _KINDS:
            begin = bisect_right(days, day - timedelta(days=rule.window_days))
            found += _KINDS[rule.kind](rule, replace(person, acts=person.acts[begin:end]))
    return found


def told(rule: SignalRule, about: str, count: int, limit: int, acts: Iterable[Act], **values: object) -> Found:
    """A finding. Its name ends with the magnitude of the count: it is told again when that has doubled, so that what is
    added to a day that somebody looked at is not waved through."""
    named = {name: str(value) for name, value in (values | {"count": count, "limit": limit}).items()}
    return Found(rule, f"{about}/{count.bit_length()}", named, tuple(sorted(act.activity_id for act in acts)))


def _credits_by_day(person: Person) -> dict[date, list[Act]]:
    days: dict[date, list[Act]] = defaultdict(list)
    for act in person.acts:
        if act.credited:
            days[act.day].append(act)
    return days


def _timed(person: Person) -> list[tuple[datetime, datetime, Act]]:
    """Credits whose hours are known, by their beginning."""
    timed = [
        (act.started_at, act.ended_at, act) for act in person.acts if act.credited and act.started_at and act.ended_at
    ]
    return sorted(timed, key=lambda each: (each[0], each[2].activity_id))


def _acts_a_day(rule: SignalRule, person: Person) -> Iterator[Found]:
    for day, acts in _credits_by_day(person).items():
        usual = max((person.usual.get(act.source_id, 0) for act in acts), default=0)
        limit = max(rule.limits["more_than"], rule.limits["times_usual"] * usual)
        if len(acts) > limit:
            yield told(rule, str(day), len(acts), limit, acts, day=day, usual=usual)


def _acts_an_hour(rule: SignalRule, person: Person) -> Iterator[Found]:
    limit, hour = rule.limits["more_than"], timedelta(seconds=_HOUR_S)
    timed, last = _timed(person), 0
    dense: dict[date, tuple[int, dict[UUID, Act]]] = {}
    for first, (begins, _, _) in enumerate(timed):
        last = max(last, first)
        while last < len(timed) and timed[last][0] - begins < hour:
            last += 1
        if last - first > limit:
            day = shanghai_day(begins)
            most, acts = dense.get(day, (0, {}))
            acts |= {act.activity_id: act for _, _, act in timed[first:last]}
            dense[day] = max(most, last - first), acts
    for day, (most, acts) in dense.items():
        yield told(rule, str(day), most, limit, acts.values(), day=day)


def _vehicle_a_day(rule: SignalRule, person: Person) -> Iterator[Found]:
    limit = rule.limits["more_than"]
    ridden: dict[tuple[bytes, date], list[Act]] = defaultdict(list)
    for act in person.acts:
        if act.credited and act.vehicle:
            ridden[act.vehicle, act.day].append(act)
    for (vehicle, day), acts in ridden.items():
        count = person.vehicles.get((vehicle, day), 0)
        if count > limit:
            yield told(rule, f"{day}/{vehicle.hex()[:16]}", count, limit, acts, day=day)


def _two_places(rule: SignalRule, person: Person) -> Iterator[Found]:
    limit, credits = rule.limits["at_least"], _credits_by_day(person)
    refused: dict[date, int] = defaultdict(int)
    for act in person.acts:
        if act.reason in OVERLAPS:
            refused[act.day] += 1
    for day, count in refused.items():
        if count >= limit and day in credits:  # which of them is the true one nobody can tell
            yield told(rule, str(day), count, limit, credits[day], day=day)


def _no_time_between(rule: SignalRule, person: Person) -> Iterator[Found]:
    limit, seconds = rule.limits["at_least"], rule.limits["seconds"]
    changes: dict[date, list[tuple[Act, Act]]] = defaultdict(list)
    for (_, ended, before), (started, _, after) in pairwise(_timed(person)):
        elsewhere = before.source_id != after.source_id or (
            before.vehicle is not None and after.vehicle is not None and before.vehicle != after.vehicle
        )
        if elsewhere and started - ended < timedelta(seconds=seconds):
            changes[after.day].append((before, after))
    for day, pairs in changes.items():
        if len(pairs) >= limit:
            acts = {act.activity_id: act for pair in pairs for act in pair}
            yield told(rule, str(day), len(pairs), limit, acts.values(), day=day, seconds=seconds)


def _too_fast(rule: SignalRule, person: Person) -> Iterator[Found]:
    limit = rule.limits["at_least"]
    fast: dict[tuple[date, str], list[Act]] = defaultdict(list)
    for started, ended, act in _timed(person):
        distance = rule.distances.get(act.scenario)
        if distance is None or distance.km_per_hour is None:
            continue
        seconds = (ended - started) // timedelta(seconds=1)
        # mg / mg_per_km / seconds * 3600 > km_per_hour, without a division
        if act.mg * _HOUR_S > distance.km_per_hour * distance.mg_per_km * seconds:
            fast[act.day, act.scenario].append(act)
    for (day, scenario), acts in fast.items():
        if len(acts) >= limit:
            kmh = rule.distances[scenario].km_per_hour
            yield told(rule, f"{day}/{scenario}", len(acts), limit, acts, day=day, km_per_hour=kmh)


def by_distance(rule: SignalRule, acts: Iterable[Act]) -> list[Act]:
    """The credits of the scenarios that this rule names, in the order in which they happened."""
    measured = [act for act in acts if act.credited and act.scenario in rule.distances]
    return sorted(measured, key=lambda act: (act.day, act.started_at or _UNTIMED, act.activity_id))


def runs(rule: SignalRule, acts: Sequence[Act]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Every run of so many distances, with where it begins, that tells enough to be known again: no distance is in it
    twice, and not all are whole multiples of the grain to which some providers round."""
    length, grain = rule.limits["length"], rule.limits["grain_m"]
    coarse = [_is_whole(act.mg, rule.distances[act.scenario].mg_per_km * grain) for act in acts]
    for at in range(len(acts) - length + 1):
        series = tuple(act.mg for act in acts[at : at + length])
        if len(set(series)) == length and not all(coarse[at : at + length]):
            yield at, series


def _replayed_series(rule: SignalRule, person: Person) -> Iterator[Found]:
    length, limit = rule.limits["length"], rule.limits["at_least"]
    acts = by_distance(rule, person.acts)
    seen: dict[tuple[int, ...], int] = {}
    again: dict[UUID, Act] = {}
    repeats, skip_to, day = 0, 0, None
    for at, series in runs(rule, acts):
        before = seen.setdefault(series, at)
        if before + length <= at and at >= skip_to:
            repeats, skip_to, day = repeats + 1, at + length, acts[at].day
            again |= {act.activity_id: act for act in acts[at : at + length]}
    if day is not None and repeats >= limit:
        yield told(
            rule, f"{min(act.day for act in again.values())}", repeats, limit, again.values(), day=day, length=length
        )


def _round_figures(rule: SignalRule, person: Person) -> Iterator[Found]:
    step, least = rule.limits["step_m"], rule.limits["at_least"]
    acts = by_distance(rule, person.acts)
    # whole steps: mg is a multiple of mg_per_km * step / 1000, rounded down as a reduction is
    even = [act for act in acts if _is_whole(act.mg, rule.distances[act.scenario].mg_per_km * step)]
    if len(even) >= least and len(even) * 1000 >= rule.limits["share_permille"] * len(acts):
        days = sorted(act.day for act in even)
        yield told(rule, str(days[0]), len(even), least, even, day=days[-1], of=len(acts), step_m=step)


def _same_figure(rule: SignalRule, person: Person) -> Iterator[Found]:
    acts, least = by_distance(rule, person.acts), rule.limits["at_least"]
    by_figure: dict[int, list[Act]] = defaultdict(list)
    for act in acts:
        by_figure[act.mg].append(act)
    for same in by_figure.values():
        if len(same) >= least and len(same) * 1000 >= rule.limits["share_permille"] * len(acts):
            yield told(rule, str(same[0].day), len(same), least, same, day=same[-1].day, of=len(acts))


def _is_whole(mg: int, step_mg_m: int) -> bool:
    steps = -(-mg * _METRES // step_mg_m)  # rounded up: the reduction was rounded down
    return steps > 0 and steps * step_mg_m // _METRES == mg


def _new_account(rule: SignalRule, person: Person) -> Iterator[Found]:
    if person.enrolled_on is None:
        return
    end = person.enrolled_on + timedelta(days=rule.limits["days"])
    acts = [act for act in person.acts if act.credited and person.enrolled_on <= act.day < end]
    if len(acts) > rule.limits["more_than"]:
        days, day = rule.limits["days"], person.enrolled_on
        yield told(rule, str(day), len(acts), rule.limits["more_than"], acts, day=day, days=days)


_KINDS: Mapping[str, Callable[[SignalRule, Person], Iterator[Found]]] = {
    "acts-a-day": _acts_a_day,
    "acts-an-hour": _acts_an_hour,
    "vehicle-a-day": _vehicle_a_day,
    "two-places": _two_places,
    "no-time-between": _no_time_between,
    "too-fast": _too_fast,
    "replayed-series": _replayed_series,
    "round-figures": _round_figures,
    "same-figure": _same_figure,
    "new-account": _new_account,
}


def find_shared(rule: SignalRule, people: Mapping[UUID, Sequence[Act]], day: date) -> dict[UUID, Found]:
    """Who of these people told the same figures in the same order as somebody else before them on this day: a list that
    is played for many accounts. Whoever told them first is left alone: it may be their way that was copied."""
    length, limit = rule.limits["length"], rule.limits["people"]
    told_by: dict[tuple[int, ...], dict[UUID, list[Act]]] = defaultdict(lambda: defaultdict(list))
    for participant_id, all_acts in people.items():
        acts = by_distance(rule, all_acts)
        for at, series in runs(rule, acts):
            told_by[series][participant_id] += acts[at : at + length]
    concerned: dict[UUID, dict[UUID, Act]] = defaultdict(dict)
    most: dict[UUID, int] = defaultdict(int)
    for tellers in told_by.values():
        if len(tellers) >= limit:
            first = min(tellers, key=lambda each: min(act.activity_id for act in tellers[each]))
            for participant_id, acts in tellers.items():
                if participant_id == first:
                    continue
                concerned[participant_id] |= {act.activity_id: act for act in acts}
                most[participant_id] = max(most[participant_id], len(tellers))
    return {
        participant_id: told(rule, str(day), most[participant_id], limit, acts.values(), day=day, length=length)
        for participant_id, acts in concerned.items()
    }
