"""Honest histories of a ledger, as the leaves of its log: what an auditor's programs are tried on.

A `History` posts by the ledger's own functions and hands each leaf on as the log would take it: credits with claims,
out of budgets and in debt, pending ones with their maturities, reversals of every reason with what replaces them,
lapses, rules with approvals, keys, epochs, manifests and daily seals. `tests.log.playing` drives it.
"""

import json
from base64 import urlsafe_b64encode
from calendar import monthrange
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from random import Random
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.journal import (
    ASSETS,
    PARTICIPANT_ACCOUNTS,
    Account,
    Line,
    Transfer,
    buckets_after,
    credit_lines,
    lapse_lines,
    maturity_lines,
    posted,
    reversal_lines,
)
from ledger.leaves import (
    CreditFacts,
    MaturityFacts,
    credit_leaf,
    evidence_commitment,
    lapse_leaf,
    maturity_leaf,
    reversal_leaf,
    settlement_commitment,
    utc_second,
)
from ledger.merkle import EMPTY_ROOT, leaf_hash, root_of
from ledger.notices import (
    EpochFacts,
    FormerLog,
    KeyFacts,
    ManifestFacts,
    RuleApproval,
    RuleFacts,
    SealFacts,
    SealTotal,
    epoch_leaf,
    key_leaf,
    manifest_leaf,
    rule_leaf,
    seal_leaf,
)

PROGRAMME, REGION, ORIGIN = "demo", "310000", "log.example.org/log"
OPERATOR, PHONE, METERS = "urn:example:rides", "urn:example:phones", "urn:example:meters"
START = datetime(2026, 5, 1, 4, tzinfo=UTC)
POINTS_LAST_MONTHS = 24
REMEMBERED = 6  # of a person's credits: older ones are not taken back any more, or millions would have to be kept

_SHANGHAI = timedelta(hours=8)
SEEDS = {"competent_authority": bytes([1] * 32), "technical_body": bytes([2] * 32), OPERATOR: bytes([3] * 32)}


def canonical(value: object) -> bytes:
    """A value as canonical JSON, as leaves and bundles have it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Document:
    """A rule document: `kind` is `methodology` or `points`."""

    kind: str
    id: str
    content: bytes
    version: int = 1
    status: str = "demonstration"

    @property
    def digest(self) -> str:
        return sha256(self.content).hexdigest()

    @classmethod
    def made_up(cls, kind: str, name: str) -> "Document":
        fields = {"id": name, "kind": kind, "schema": "1", "status": "demonstration", "version": "1"}
        return cls(kind, name, canonical(fields))


RIDES = Document.made_up("methodology", "demo-shared-ebike")
METERED = Document.made_up("methodology", "demo-home-electricity")
POINTS = Document.made_up("points", "demo-points")


@dataclass(slots=True)
class Credit:
    """A credit that may still be taken back."""

    transfer: Transfer
    claims: tuple[str, ...]
    source: str
    matured: Transfer | None = None
    reversed: bool = False

    @property
    def pending(self) -> bool:
        return self.matured is None and any(line.to_account == "pending" for line in self.transfer.lines)


@dataclass(slots=True, eq=False)
class Person:
    """A participant with the books of theirs."""

    account: Account
    buckets: dict[date, int] = field(default_factory=dict)
    grams: dict[tuple[int, str], int] = field(default_factory=dict)
    credits: deque[Credit] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    record: bytes = b""

    def standing(self, *, pending: bool | None = None) -> list[Credit]:
        return [
            credit for credit in self.credits if not credit.reversed and (pending is None or credit.pending == pending)
        ]


class History:
    """A ledger and its log, one entry after the other.

    put        takes each leaf, as the sequencer would
    evidence   takes what lies beside the log: index, name of the second field, salt and bytes
    now        when the next thing happens; the caller moves it on
    size       how many entries there are
    """

    def __init__(
        self,
        random: Random,
        put: Callable[[bytes], object],
        evidence: Callable[[int, str, bytes, bytes], object] = lambda *_: None,
        *,
        origin: str = ORIGIN,
        rides: Document = RIDES,
        metered: Document = METERED,
        points: Document = POINTS,
    ) -> None:
        self.random, self.evidence, self.origin, self.now = random, evidence, origin, START
        self.rides, self.metered, self.points = rides, metered, points
        self.size = 0
        self.people: list[Person] = []
        self.totals: Counter[tuple[str, str]] = Counter()
        self.documents: dict[str, Document] = {each.digest: each for each in (rides, metered, points)}
        self.manifests: list[dict[str, Any]] = []
        self.source_keys: list[dict[str, Any]] = []
        self.bank_keys: list[dict[str, Any]] = []
        self.papers: set[bytes] = set()
        self._sequences: Counter[tuple[str, date]] = Counter()
        self._sealed: date | None = None
        self._put = put
        self._ids = 0

    @property
    def today(self) -> date:
        """The day in Asia/Shanghai."""
        return (self.now + _SHANGHAI).date()

    def add(self, leaf: bytes) -> int:
        """Put the next entry; its index."""
        self._put(leaf)
        self.size += 1
        return self.size - 1

    def random_bytes(self, count: int) -> bytes:
        """So many random bytes."""
        return self.random.getrandbits(8 * count).to_bytes(count, "big")

    def _id(self) -> UUID:
        self._ids += 1  # no two alike, whatever the random source gives
        number = int(self.now.timestamp() * 1000) << 80 | self.random.getrandbits(32) << 44 | self._ids
        return UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)

    def go_on_from(self, other: "History") -> None:
        """After another one's last moment, with ids and tags of one's own."""
        self.now, self.documents, self._ids = other.now, other.documents, other._ids

    # What belongs to nobody.

    def begin(self, public: bytes) -> None:
        """The first entries of a log: its epoch and its key."""
        self.add(epoch_leaf(EpochFacts(PROGRAMME, 1, self.origin), self.now, self.random_bytes(16)))
        self.key("log", self.origin, public)

    def begin_further(self, number: int, former: FormerLog, public: bytes) -> None:
        """A further epoch, of which the entries kept were put before."""
        origin = f"{self.origin}/epoch-{number}"
        facts = EpochFacts(PROGRAMME, number, origin, former, "restored-backup")
        self.add(epoch_leaf(facts, self.now, self.random_bytes(16)))
        self.key("log", origin, public)

    def key(self, holder: str, name: str, public: bytes, action: str = "added") -> None:
        """An Ed25519 key that counts from now on, or no longer does."""
        facts = KeyFacts(PROGRAMME, action, holder, name, thumbprint(public), "ed25519", public.hex(), self.now)
        self.add(key_leaf(facts, self.now, self.random_bytes(16)))
        if holder in ("source", "bank") and action == "added":
            entry = {
                holder: name,
                "kid": thumbprint(public)[:16],
                "jwk": jwk_of(public),
                "from": utc_second(self.now),
            }
            listed = self.source_keys if holder == "source" else self.bank_keys
            listed.append({**entry, "to": None})

    def rule(self, document: Document) -> None:
        """Both approvals of a document, good ones."""
        self.documents[document.digest] = document
        approvals = tuple(self._approval(document, role) for role in ("competent_authority", "technical_body"))
        facts = RuleFacts(
            PROGRAMME, document.kind, document.id, document.version, document.status, document.digest, approvals
        )
        self.add(rule_leaf(facts, self.now, self.random_bytes(16)))

    def _approval(self, document: Document, role: str) -> RuleApproval:
        key = Ed25519PrivateKey.from_private_bytes(SEEDS[role])
        public, day = key.public_key().public_bytes_raw(), self.today
        lines = (
            "tanpuhui/approve/1", PROGRAMME, document.kind, document.id, document.version, document.digest, role, day,
        )  # fmt: skip
        signature = key.sign("".join(f"{line}\n" for line in lines).encode())
        return RuleApproval(role, f"{role[:4]}-1", thumbprint(public)[:43], public.hex(), signature.hex(), day)

    def manifest(self) -> None:
        """The operator closes yesterday."""
        key, day = Ed25519PrivateKey.from_private_bytes(SEEDS[OPERATOR]), self.today - timedelta(days=1)
        self._sequences[OPERATOR, day] += 1
        sequence = self._sequences[OPERATOR, day]
        received = {"day": day.isoformat(), "scenarios": {}, "source": OPERATOR, "v": "1"}
        statement = {"day": day.isoformat(), "sequence": sequence, "source": OPERATOR}
        signed = f"{_url64(canonical({'alg': 'EdDSA', 'kid': 'k1'}))}.{_url64(canonical(statement))}"
        jws, public = f"{signed}.{_url64(key.sign(signed.encode()))}", key.public_key().public_bytes_raw()
        facts = ManifestFacts(
            OPERATOR,
            PROGRAMME,
            REGION,
            day,
            sequence,
            sha256(jws.encode()).hexdigest(),
            sha256(canonical(received)).hexdigest(),
            thumbprint(public),
        )
        index = self.add(manifest_leaf(facts, self.now, self.random_bytes(16)))
        self.manifests.append({"index": str(index), "received": received, "jws": jws, "jwk": jwk_of(public)})

    def seal(self) -> None:
        """Yesterday's seal, once: over everything up to here."""
        day = self.today - timedelta(days=1)
        if self._sealed is not None and day <= self._sealed:
            return
        self._sealed = day
        people = sorted(
            (one for one in self.people if one.account.counter), key=lambda one: str(one.account.participant_id)
        )
        sums = Counter(self.totals)
        for one in people:
            for key, amount in one.account.balances.items():
                sums[key] += amount
            if not one.record:
                one.record = leaf_hash(sealed_record(one))
        totals = tuple(SealTotal(account, asset, amount) for (asset, account), amount in sums.items() if amount)
        root = root_of(one.record for one in people) if people else EMPTY_ROOT
        facts = SealFacts(PROGRAMME, day, self.size, len(people), root.hex(), totals)
        self.add(seal_leaf(facts, self.now, self.random_bytes(16)))

    # What belongs to a participant.

    def join(self, kind: str = "citizen") -> Person:
        """A new participant; in the log only with a first transfer."""
        identity = UUID(
            bytes=sha256(b"%d %d" % (len(self.people), self.random.getrandbits(64))).digest()[:16], version=4
        )
        person = Person(Account(identity, kind, PROGRAMME, REGION))
        self.people.append(person)
        return person

    def post(self, person: Person, kind: str, lines: tuple[Line, ...], day: date, **rest: Any) -> Transfer:
        """The next transfer of a person, on their books."""
        account = person.account
        transfer = Transfer(
            self._id(),
            account.participant_id,
            kind,
            account.counter + 1,
            PROGRAMME,
            REGION,
            lines,
            day,
            self.now,
            **rest,
        )
        person.account = posted(account, lines)
        person.buckets = {when: left for when, left in buckets_after(person.buckets, lines).items() if left}
        person.record = b""
        for line in lines:
            for name, change in ((line.from_account, -line.amount), (line.to_account, line.amount)):
                if name == "available" and line.vintage and line.credit_class:
                    lot = line.vintage, line.credit_class
                    person.grams[lot] = person.grams.get(lot, 0) + change
                if name not in PARTICIPANT_ACCOUNTS:
                    self.totals[line.asset, name] += change
        return transfer

    def lapse(self, person: Person) -> None:
        """Close what has run out: before anything else is posted for the person."""
        lines = lapse_lines(person.buckets, self.today)
        if lines:
            transfer = self.post(person, "lapse", lines, self.today)
            self.add(lapse_leaf(transfer, person.account.kind, self.random_bytes(16)))

    def credit(
        self,
        person: Person,
        co2e_mg: int,
        *,
        pending: bool = False,
        grams_pending: bool | None = None,
        funded: int = 0,
        earning: bool = True,
        claims: tuple[str, ...] = (),
        source: str = OPERATOR,
        grade: str = "A",
        replaces: Credit | None = None,
    ) -> Credit:
        """Credit an activity of today. `claims` are those beside the event's own."""
        self.lapse(person)
        document = self.metered if pending else self.rides
        lines = credit_lines(
            person.account,
            co2e_mg=co2e_mg,
            points=co2e_mg // 1000 if earning else 0,
            credit_class="project" if grams_pending and not pending else "scenario" if pending else "behaviour",
            vintage=self.today.year,
            expires_on=self.expiry(),
            pending=pending,
            grams_pending=grams_pending,
            funded_points=funded if earning else 0,
        )
        transfer = self.post(person, "credit", lines, self.today)
        salt, evidence = self.random_bytes(32), self._evidence(co2e_mg)
        named = (self.tag(), *claims)
        facts = CreditFacts(
            activity=transfer.transfer_id,
            source=source,
            grade=grade,
            methodology=document.digest,
            points_rule=self.points.digest if earning else None,
            evidence=evidence_commitment(salt, evidence),
            claims=named,
            replaces=replaces.transfer.transfer_id if replaces else None,
        )
        index = self.add(credit_leaf(transfer, person.account.kind, facts, self.random_bytes(16)))
        self.evidence(index, "document", salt, evidence)
        credit = Credit(transfer, named, source)
        person.credits.append(credit)
        return credit

    def tag(self) -> str:
        """A keyed tag nobody has named yet."""
        self._ids += 1
        return f"1:{sha256(b'%d' % self._ids).hexdigest()}"

    def _evidence(self, co2e_mg: int) -> bytes:
        """A ride, of the length at which the demonstration's factor gives these grams."""
        ended, metres = utc_second(self.now), -(-co2e_mg * 100 // 3501)
        began = utc_second(self.now - timedelta(seconds=max(60, metres // 4)))
        kilometres = f"{metres / 1000:.3f}".rstrip("0").rstrip(".")
        return (
            f'{{"ended_at":"{ended}","event":"ride-{self._ids}","inputs":{{"distance_km":"{kilometres}"}},'
            f'"scenario":"shared-ebike","started_at":"{began}","v":"1","vehicle":"{self._ids % 9_973}"}}'
        ).encode()

    def expiry(self) -> date:
        """The bucket of points recorded today."""
        months = self.today.year * 12 + self.today.month - 1 + POINTS_LAST_MONTHS
        year, month = divmod(months, 12)
        return date(year, month + 1, monthrange(year, month + 1)[1])

    def reverse(self, person: Person, credit: Credit, reason: str = "posted_in_error") -> None:
        """Take a standing credit back."""
        self.lapse(person)
        matured = credit.matured.lines if credit.matured else ()
        lines = reversal_lines(person.account, person.buckets, credit.transfer.lines, matured)
        transfer = self.post(person, "reversal", lines, self.today, reverses=credit.transfer.transfer_id, reason=reason)
        decision = None
        if reason == "not_eligible_at_settlement":
            salt, record = self.random_bytes(32), canonical({"facts": {"tier": "3"}, "v": "1"})
            decision = settlement_commitment(salt, record)
            self.evidence(self.size, "record", salt, record)
        self.add(reversal_leaf(transfer, person.account.kind, "operator", self.random_bytes(16), decision))
        credit.reversed = True

    def correct(self, person: Person, credit: Credit, co2e_mg: int, reason: str = "corrected") -> Credit:
        """Take a credit back and give another in its place, which claims the same things but for the event itself."""
        self.reverse(person, credit, reason)
        source = OPERATOR if reason == "superseded" else credit.source
        return self.credit(person, co2e_mg, claims=credit.claims[1:], source=source, replaces=credit)

    def mature(self, person: Person, credit: Credit) -> None:
        """Free what a credit left pending."""
        self.lapse(person)
        lines = maturity_lines(person.account, credit.transfer.lines, expires_on=self.expiry())
        transfer = self.post(person, "maturity", lines, self.today, matures=credit.transfer.transfer_id)
        earns = any(line.asset == "points" for line in lines)
        salt, record = self.random_bytes(32), canonical({"facts": {"tier": "1"}, "v": "1"})
        facts = MaturityFacts(
            "source",
            "settlement",
            settlement_commitment(salt, record),
            METERS,
            self.points.digest if earns else None,
        )
        self.evidence(self.size, "record", salt, record)
        self.add(maturity_leaf(transfer, person.account.kind, facts, self.random_bytes(16)))
        credit.matured = transfer


def sealed_record(person: Person) -> bytes:
    """A participant's record in the tree of a seal."""
    account = person.account
    return canonical(
        {
            "balances": {
                asset: {name: str(account.balances[asset, name]) for name in PARTICIPANT_ACCOUNTS} for asset in ASSETS
            },
            "buckets": {day.isoformat(): str(left) for day, left in person.buckets.items() if left},
            "counter": str(account.counter),
            "participant": str(account.participant_id),
            "v": "1",
        }
    )


def jwk_of(public: bytes) -> dict[str, str]:
    """An Ed25519 key as a JWK."""
    return {"crv": "Ed25519", "kty": "OKP", "x": _url64(public)}


def thumbprint(public: bytes) -> str:
    """RFC 7638, SHA-256, hex."""
    return sha256(canonical(jwk_of(public))).hexdigest()


def _url64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
