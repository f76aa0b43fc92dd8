"""Planted fraud in real rides: bots, shared accounts, replayed distances, riders who jump; and how much of it the
signals find.

`.venv/bin/python -m tests.service.signals.planted TRIPS.csv.gz … --seeds 1 2 3` prints the table of
docs/abuse-signals.md. Without files it takes the shipped rides. Every real rider that is found counts as a mistake,
although nobody knows what some of them did.
"""

import argparse
import csv
import gzip
import io
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from uuid import UUID

from service.clock import shanghai_day
from service.feeds import SHIPPED_RIDES
from service.signals.finding import Act, Found, Person, find, find_shared
from service.signals.rules import shipped_rules

SCENARIO = "docked-ebike"
KINDS = ("bot", "patient bot", "lazy bot", "shared account", "replayed", "copied", "jumping")
PLANTED = 25  # accounts of each kind


@dataclass(frozen=True, slots=True)
class Ride:
    """A ride as its provider tells it."""

    rider: str
    vehicle: str
    started_at: datetime
    ended_at: datetime
    metres: int


def read_rides(paths: Sequence[Path]) -> list[Ride]:
    """The rides of these files that meet the conditions of demo-docked-ebike."""
    rides = []
    for path in paths:
        with gzip.open(path) as packed, io.TextIOWrapper(packed, "utf-8") as text:
            for row in csv.DictReader(text):
                try:
                    started, ended = (
                        datetime.fromisoformat(row[name]).astimezone(UTC) for name in ("start_time_utc", "end_time_utc")
                    )
                except ValueError:
                    continue
                metres, seconds = int(Decimal(row["track_km"]) * 1000), (ended - started) // timedelta(seconds=1)
                slow = metres * 3600 <= 25_000 * seconds
                if 60 <= seconds <= 10_800 and 100 <= metres <= 30_000 and slow and started.year >= 2018:
                    rides.append(Ride(row["user_id"], row["bike_id"], started, ended, metres))
    return rides


def plant(real: Sequence[Ride], random: Random) -> tuple[list[Ride], dict[str, str]]:
    """The real rides with planted ones among them; the kind of each planted account."""
    by_rider: dict[str, list[Ride]] = defaultdict(list)
    for ride in real:
        by_rider[ride.rider].append(ride)
    days = sorted({ride.started_at.date() for ride in real})
    rides, kinds = list(real), {}
    frequent = sorted(rider for rider, own in by_rider.items() if len(own) >= 6)
    taken = set()
    for number in range(PLANTED):
        for kind in KINDS:
            account = f"planted {kind} {number}"
            kinds[account] = kind
            if kind == "bot":
                rides += _bot(account, real, days, random, (30, 120))
            elif kind == "patient bot":
                rides += _bot(account, real, days, random, (6, 14))
            elif kind == "lazy bot":
                rides += _bot(account, real, days, random, (4, 8), step_m=500)
            elif kind == "shared account":
                members = random.sample([rider for rider in frequent if rider not in taken], random.randint(4, 6))
                taken.update(members)
                rides += [replace(ride, rider=account) for member in members for ride in by_rider[member]]
            elif kind == "replayed":
                rides += _replayed(account, by_rider[random.choice(frequent)], days, random)
            elif kind == "copied":
                rides += _copied(account, by_rider[random.choice(frequent)], random)
            else:
                rides += _jumping(account, real, days, random)
    return [ride for ride in rides if ride.rider not in taken], kinds


def _ride(account: str, vehicle: str, begins: datetime, metres: int, random: Random) -> Ride:
    seconds = max(60, metres * 36 // (10 * random.randint(9, 19)))  # at 9 to 19 km/h
    return Ride(account, vehicle, begins, begins + timedelta(seconds=seconds), metres)


def _morning(day: date, random: Random) -> datetime:
    return datetime(day.year, day.month, day.day, 22, tzinfo=UTC) + timedelta(seconds=random.randint(0, 7200))


def _bot(
    account: str, real: Sequence[Ride], days: Sequence[date], random: Random, a_day: tuple[int, int], step_m: int = 1
) -> list[Ride]:
    """A script that invents rides of believable lengths, one after another, all day; a lazy one invents round ones."""
    rides = []
    for day in random.sample(days, 3):
        at, many = _morning(day, random), random.randint(*a_day)
        pause = 16 * 3600 // many
        for _ in range(many):
            metres = random.choice(real).metres * random.randint(80, 120) // 100
            metres = metres if metres < 3_000 else random.randint(500, 3_000)
            metres = max(step_m, metres // step_m * step_m)
            rides.append(ride := _ride(account, f"invented {random.randint(0, 999)}", at, metres, random))
            at = max(ride.ended_at + timedelta(seconds=30), at + timedelta(seconds=random.randint(pause // 2, pause)))
    return rides


def _replayed(account: str, own: Sequence[Ride], days: Sequence[date], random: Random) -> list[Ride]:
    """One's own rides of a good day, told again on other days."""
    told = sorted(own, key=lambda ride: ride.started_at)[: random.randint(4, 6)]
    rides = [replace(ride, rider=account) for ride in told]
    first = told[-1].ended_at.date()
    for day in range(2, 2 + random.randint(2, 5)):
        at = _morning(first + timedelta(days=day), random)
        for ride in told:
            rides.append(one := _ride(account, f"invented {random.randint(0, 999)}", at, ride.metres, random))
            at = one.ended_at + timedelta(seconds=random.randint(300, 5000))
    return rides


def _copied(account: str, others: Sequence[Ride], random: Random) -> list[Ride]:
    """Somebody else's rides told under another account, each a little later, on another bicycle."""
    told = sorted(others, key=lambda ride: ride.started_at)[: random.randint(5, 10)]
    late = timedelta(seconds=random.randint(60, 900))
    return [
        replace(
            ride,
            rider=account,
            vehicle=f"invented {random.randint(0, 999)}",
            started_at=ride.started_at + late,
            ended_at=ride.ended_at + late,
        )
        for ride in told
    ]


def _jumping(account: str, real: Sequence[Ride], days: Sequence[date], random: Random) -> list[Ride]:
    """Rides that begin seconds after the last one ended, on a bicycle at the other end of the city."""
    rides = []
    for day in random.sample(days, 2):
        at = _morning(day, random)
        for _ in range(random.randint(5, 12)):
            metres = random.choice(real).metres
            rides.append(ride := _ride(account, f"invented {random.randint(0, 999)}", at, metres, random))
            at = ride.ended_at + timedelta(seconds=random.randint(0, 9))
    return rides


def judge(rides: Iterable[Ride]) -> tuple[dict[str, Person], dict[UUID, str]]:
    """What the platform would keep of these rides: nobody, and no bicycle, in two places at once."""
    last_of_rider: dict[str, datetime] = {}
    last_of_vehicle: dict[str, datetime] = {}
    acts: dict[str, list[Act]] = defaultdict(list)
    ridden: dict[tuple[bytes, date], int] = defaultdict(int)
    whose: dict[UUID, str] = {}
    never = datetime(1970, 1, 1, tzinfo=UTC)
    for number, ride in enumerate(sorted(rides, key=lambda one: (one.started_at, one.rider, one.metres))):
        reason = None
        if last_of_vehicle.get(ride.vehicle, never) > ride.started_at:
            reason = "overlaps-claim"
        elif last_of_rider.get(ride.rider, never) > ride.started_at:
            reason = "overlaps-activity"
        day, vehicle = shanghai_day(ride.started_at), ride.vehicle.encode()
        activity_id = UUID(int=number)
        whose[activity_id] = ride.rider
        if reason is None:
            last_of_rider[ride.rider] = last_of_vehicle[ride.vehicle] = ride.ended_at
            ridden[vehicle, day] += 1
        mg, times = ride.metres * 35_010 // 1000, (ride.started_at, ride.ended_at)
        kept = Act(activity_id, 1, SCENARIO, day, None, mg, *times, vehicle)
        refused = Act(activity_id, 1, SCENARIO, day, reason, 0)
        acts[ride.rider].append(kept if reason is None else refused)
    people = {rider: Person(own, min(act.day for act in own), {}, ridden) for rider, own in acts.items()}
    return people, whose


def find_everybody(people: Mapping[str, Person]) -> dict[str, list[Found]]:
    """By account, everything that the shipped rules find, in one person's activities and between people."""
    rules = shipped_rules()
    found = {rider: windowed(person) for rider, person in people.items()}
    (shared,) = [rule for rule in rules if rule.kind == "shared-series"]
    by_day: dict[date, dict[UUID, list[Act]]] = defaultdict(lambda: defaultdict(list))
    riders = {UUID(int=number): rider for number, rider in enumerate(people)}
    for participant_id, rider in riders.items():
        for act in people[rider].acts:
            by_day[act.day][participant_id].append(act)
    for day, each in by_day.items():
        for participant_id, one in find_shared(shared, each, day).items():
            found[riders[participant_id]].append(one)
    return found


def windowed(person: Person) -> list[Found]:
    """What is found of one person as the days go by."""
    person = replace(person, acts=sorted(person.acts, key=lambda act: act.day))
    found: dict[tuple[str, str], Found] = {}
    for day in sorted({act.day for act in person.acts}):
        for one in find(shipped_rules(), person, day):
            found.setdefault((one.rule.id, one.about), one)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Score:
    """Of a rule or of all strong ones: accounts found that were planted, accounts found that were not, and of each
    planted kind how many of how many."""

    right: int
    wrong: int
    caught: Mapping[str, int]

    @property
    def precision_permille(self) -> int:
        return self.right * 1000 // (self.right + self.wrong) if self.right + self.wrong else 1000


def score(found: Mapping[str, Sequence[Found]], kinds: Mapping[str, str]) -> dict[str, Score]:
    """The score of each rule, and of `strong`: all rules that open a review."""
    flagged: dict[str, set[str]] = {rule.id: set() for rule in shipped_rules() if "drift" not in rule.kind}
    flagged["strong"] = set()
    for rider, signals in found.items():
        for one in signals:
            flagged[one.rule.id].add(rider)
            if one.rule.strength == "strong":
                flagged["strong"].add(rider)
    return {
        name: Score(
            len(riders & kinds.keys()),
            len(riders - kinds.keys()),
            {kind: sum(kinds.get(rider) == kind for rider in riders) for kind in KINDS},
        )
        for name, riders in flagged.items()
    }


def main() -> None:
    """Print the table: precision of each rule, and what it catches of each kind, summed over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trips", nargs="*", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    wanted = parser.parse_args()
    real = read_rides(wanted.trips or [SHIPPED_RIDES])
    riders = len({ride.rider for ride in real})
    sys.stdout.write(f"{len(real)} rides of {riders} riders, seeds {wanted.seeds}, {PLANTED} accounts of each kind\n\n")
    sums: dict[str, list[Score]] = defaultdict(list)
    for seed in wanted.seeds:
        rides, kinds = plant(real, Random(seed))
        people, _ = judge(rides)
        for name, one in score(find_everybody(people), kinds).items():
            sums[name].append(one)
    sys.stdout.write(
        f"| rule | precision | real riders found | {' | '.join(KINDS)} |\n|{' --- |' * (3 + len(KINDS))}\n"
    )
    for name, scores in sums.items():
        right, wrong = sum(one.right for one in scores), sum(one.wrong for one in scores)
        most = PLANTED * len(scores)
        caught = " | ".join(f"{sum(one.caught[kind] for one in scores) * 100 // most} %" for kind in KINDS)
        share = f"{right * 100 // (right + wrong)} %" if right + wrong else "–"
        sys.stdout.write(f"| `{name}` | {share} | {wrong} | {caught} |\n")


if __name__ == "__main__":
    main()
