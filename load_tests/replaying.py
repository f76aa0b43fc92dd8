"""`python -m load_tests.replaying`: an auditor's replay at size, as the process that an auditor starts.

It writes an honest bundle of some million rides with their evidence (once: `--bundle` keeps it), half of them under a
rule that claims orders and vehicles and lets nobody ride twice at a time, and replays it with one process and with two.
Says entries a second, processor time an entry, and the most memory all processes held together; the verification that
comes first is part of it, and told of apart. The run ends with status 1 when something was found.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random

from ledger.journal import credit_lines
from ledger.leaves import CreditFacts, credit_leaf, evidence_commitment, utc_second
from load_tests.auditing import Verified, verify, watched
from load_tests.machine import describe_machine
from service.quantification.methodology import Methodology, load_catalogue
from service.quantification.points import load_points_rules
from tests.log.bundles import BundleWriter
from tests.log.histories import OPERATOR, Credit, Document, History, Person

TARGET, MOST_MEMORY_MIB = 20_000, 1_024
MEAN_S = 1.3  # between two rides: 2 million are a month
SIGN_EACH = 10_000  # entries, of which the checkpoints are kept
FACTORS = {"shared-ebike": 3_501, "demo-shared-bike": 3_388}  # hundredths of a milligram for each metre


def main() -> None:
    options = _options()
    with _folder(options.bundle) as folder:
        if not (folder / "bundle.json").exists():
            began = time.monotonic()
            write_bundle(folder, options.entries, options.people, options.seed)
            _say(f"{options.entries:,} entries written in {time.monotonic() - began:.0f} s")
        runs = {str(number): _replay(folder, number) for number in options.processes}
        alone = {str(number): verify(folder, number) for number in options.processes}
    size = int(str(next(iter(runs.values())).report["bundle"]["size"]))  # type: ignore[index] # a report's JSON
    results = {
        name: {
            "entries_per_s": round(size / run.seconds),
            "us_per_entry": round(run.cpu_seconds / size * 1e6, 2),
            "us_per_entry_of_the_verification": round(alone[name].cpu_seconds / size * 1e6, 2),
            "entries_per_cpu_s": round(size / run.cpu_seconds),
            "seconds": round(run.seconds, 1),
            "most_memory_mib": round(run.most_memory_mib),
        }
        for name, run in runs.items()
    }
    for name, result in results.items():
        _say(f"{name} process(es): " + ", ".join(f"{key} {value:,}" for key, value in result.items()))
    clean = all(run.status == 0 for run in (*runs.values(), *alone.values()))
    print(json.dumps({"machine": describe_machine(), "entries": size, "clean": clean, "processes": results}))
    if not clean:
        sys.exit("an honest bundle was found fault with")


def write_bundle(folder: Path, entries: int, people: int, seed: int) -> None:
    """An honest bundle of about so many rides, under the documents that ship."""
    writer, random = BundleWriter(folder), Random(seed)
    methodologies = {one.scenario.id: one for one in load_catalogue().all() if one.scenario.id in FACTORS}
    (points,) = load_points_rules().all()
    history = History(random, writer.log.add, writer.evidence, points=Document("points", points.id, points.document))
    history.documents = {one.digest: Document("methodology", one.id, one.document) for one in methodologies.values()}
    history.documents[points.digest] = history.points
    history.begin(writer.log.signer.verifier.public)
    for document in list(history.documents.values()):
        history.rule(document)
    while history.size < entries:
        history.now += timedelta(seconds=random.uniform(0, 2 * MEAN_S))
        if len(history.people) < people:
            history.join()
        person = history.people[random.randrange(len(history.people))]
        ride(history, person, methodologies[random.choice(list(FACTORS))])
        if history.size % SIGN_EACH == 0:
            writer.log.sign()
    writer.close(history)


def ride(history: History, person: Person, methodology: Methodology) -> None:
    """A ride of a person who cannot be on two: the next one begins after the last has ended."""
    random, scenario = history.random, methodology.scenario.id
    metres = random.randint(250, 6_000)
    co2e_mg = metres * FACTORS[scenario] // 100
    began = history.now - timedelta(seconds=metres // 4)
    last = person.credits[-1].transfer.recorded_at if person.credits else began
    if last > began:
        return
    lines = credit_lines(
        person.account,
        co2e_mg=co2e_mg,
        points=co2e_mg // 1000,
        credit_class="behaviour",
        vintage=began.year,
        expires_on=history.expiry(),
    )
    day = (began + timedelta(hours=8)).date()
    transfer = history.post(person, "credit", lines, day)
    number = history.size
    named = f',"references":{{"operator":"bikes","order":"N{number}"}}' if methodology.claims else ""
    document = (
        f'{{"ended_at":"{utc_second(history.now)}","event":"ride-{number}","inputs":{{"distance_km":"{_km(metres)}"}}'
        f'{named},"scenario":"{scenario}","started_at":"{utc_second(began)}","v":"1","vehicle":"N{number % 99_991}"}}'
    ).encode()
    salt = history.random_bytes(32)
    facts = CreditFacts(
        activity=transfer.transfer_id,
        source=OPERATOR,
        grade="A",
        methodology=methodology.digest,
        points_rule=history.points.digest,
        evidence=evidence_commitment(salt, document),
        claims=tuple(history.tag() for _ in range(2 if methodology.claims else 1)),
    )
    person.credits.append(Credit(transfer, facts.claims, OPERATOR))
    index = history.add(credit_leaf(transfer, person.account.kind, facts, history.random_bytes(16)))
    history.evidence(index, "document", salt, document)


def _km(metres: int) -> str:
    return f"{metres / 1000:.3f}".rstrip("0").rstrip(".")


def _replay(folder: Path, processes: int) -> Verified:
    return watched(["service.audit", "replay", str(folder), "--json", "--processes", str(processes)])


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="tanpuhui-replaying-") as folder:
        yield Path(folder) / "bundle"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m load_tests.replaying", description=__doc__)
    parser.add_argument("--entries", type=int, default=2_000_000)
    parser.add_argument("--people", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bundle", type=Path, help="a folder to keep the bundle in, or one written before")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
