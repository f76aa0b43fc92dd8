"""Let a history happen by a random source: Hypothesis hands in one that it shrinks, a benchmark one with a seed."""

from collections.abc import Iterator
from datetime import timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.journal import PARTICIPANT_KINDS
from tests.log.histories import METERS, OPERATOR, PHONE, SEEDS, History, Person
from tests.log.redeeming import Redeeming


def play(
    history: History,
    steps: int,
    *,
    people: int,
    mean_s: float = 20_000,
    daily: bool = True,
    unusual: float = 1.0,
    redeemed: float = 0.0,
) -> Iterator[int]:
    """Let this much happen, everything that can; the size after each step.

    mean_s   the mean time between steps, in seconds: long ones let points run out
    daily    with manifests and seals
    unusual  of what is no plain ride, so much: 1 is for tests, where two things in five are
    redeemed so much of the steps is about a redemption; at 0 there is no bank
    """
    random = history.random
    history.rule(history.points)
    history.rule(history.rides)
    history.rule(history.metered)
    history.key(
        "source", OPERATOR, Ed25519PrivateKey.from_private_bytes(SEEDS[OPERATOR]).public_key().public_bytes_raw()
    )
    bank = Redeeming(history) if redeemed else None
    if bank:
        bank.open()
    day = history.today
    for _ in range(steps):
        history.now += timedelta(seconds=random.randint(0, max(1, round(2 * mean_s))))
        if history.today != day and daily:
            day = history.today
            history.manifest()
            history.seal()
            if bank:
                bank.statement()
                if bank.closable and random.random() < 0.5:
                    bank.close()
        if len(history.people) < people and (not history.people or random.random() < 0.3):
            history.join(random.choice(PARTICIPANT_KINDS) if random.random() < 0.1 else "citizen")
        if bank and random.random() < redeemed:
            bank.happen()
            yield history.size
            continue
        person = history.people[random.randrange(len(history.people))]
        step(history, person, random.random() if unusual == 1 or random.random() < unusual else 0.0)
        yield history.size


def step(history: History, person: Person, what: float) -> None:
    """One thing that happens to one person; the lower `what` is, from 0 to 1, the plainer."""
    random = history.random
    grams = random.randint(1_000, 400_000)
    if what < 0.6:
        claims = (history.tag(),) if random.random() < 0.1 else ()
        history.credit(person, grams, claims=claims)
    elif what < 0.63:
        history.credit(person, random.randint(1, 999))
    elif what < 0.66:
        history.credit(person, grams, funded=random.randint(1, 50))
    elif what < 0.7:
        history.credit(person, grams, earning=False, source=PHONE, grade="C")
    elif what < 0.74:
        history.credit(person, grams, grams_pending=True, source=METERS)
    elif what < 0.82:
        history.credit(
            person, grams, pending=True, funded=random.choice((0, 7)), source=PHONE, grade="B", claims=(history.tag(),)
        )
    else:
        _end_something(history, person, what, grams)


def _end_something(history: History, person: Person, what: float, grams: int) -> None:
    waiting, standing = person.standing(pending=True), person.standing(pending=False)
    if waiting and what < 0.86:
        history.mature(person, waiting[0])
    elif waiting and what < 0.88:
        history.reverse(person, waiting[0], "not_eligible_at_settlement")
    elif waiting and what < 0.91:
        wholly = [one for one in waiting if all(line.to_account == "pending" for line in one.transfer.lines)]
        for one in wholly[:1]:
            history.correct(person, one, grams, "superseded")
    elif standing and what < 0.95:
        history.reverse(person, standing[0], "source_retracted")
    elif standing:
        history.correct(person, standing[-1], grams)
    else:
        history.credit(person, grams)
