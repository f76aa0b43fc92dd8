"""What property tests draw: accounts and buckets as they can stand, lines, transfers, facts of a credit."""

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from typing import get_args
from uuid import UUID

from hypothesis import strategies as st

from ledger.hold_leaves import HoldFacts, StepFacts
from ledger.holds import RefundReason, ReleaseReason
from ledger.journal import (
    AMOUNT_MAX,
    ASSETS,
    CREDIT_CLASSES,
    PARTICIPANT_KINDS,
    SYSTEM_ACCOUNTS,
    Account,
    Line,
    ReversalReason,
    Transfer,
    no_balances,
)
from ledger.leaves import CreditFacts, MaturityFacts
from ledger.notices import ManifestFacts, RuleApproval, RuleFacts

PARTICIPANT = UUID("5b0f6c1e-7d3a-4c57-9a36-0d4f4b2c9a11")

amounts = st.integers(1, 10**9)
points_amounts = st.integers(1, 10**6)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
nonces = st.binary(min_size=16, max_size=16)
uuids = st.uuids()
# Transfers and activities have ids that sort by time (UUIDv7).
sorted_ids = st.integers(0, 2**128 - 1).map(lambda n: UUID(int=n & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62))
days = st.dates(date(2016, 1, 1), date(2099, 12, 31))
moments = st.datetimes(datetime(2016, 1, 1), datetime(2099, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
codes = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
uris = st.from_regex(r"[A-Za-z][A-Za-z0-9+.-]{0,9}:[!#-\[\]-~]{1,40}", fullmatch=True)


@st.composite
def month_ends(draw: st.DrawFn) -> date:
    """The last day of some month of four years."""
    year, month = draw(st.integers(2026, 2029)), draw(st.integers(1, 12))
    return date(year, month, monthrange(year, month)[1])


buckets = st.dictionaries(month_ends(), points_amounts, max_size=5)


@st.composite
def standing_accounts(draw: st.DrawFn) -> tuple[Account, dict[date, int]]:
    """An account and its buckets: what is available in points lies in buckets, and debt excludes free points. What
    earlier credits left pending is there beside it."""
    found = draw(buckets)
    balances = no_balances()
    balances["points", "available"] = sum(found.values())
    balances["points", "debt"] = 0 if found else draw(st.integers(0, 1000))
    balances["co2e_mg", "available"] = draw(st.integers(0, 10**9))
    balances["co2e_mg", "debt"] = draw(st.integers(0, 1000)) if not balances["co2e_mg", "available"] else 0
    for asset in ASSETS:
        balances[asset, "pending"] = draw(st.integers(0, 1000))
    account = Account(
        PARTICIPANT,
        draw(st.sampled_from(PARTICIPANT_KINDS)),
        "demo",
        "310000",
        draw(st.integers(0, 1000)),
        balances,
        min(found, default=None),
    )
    return account, found


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """A line as the journal takes it."""
    asset, amount = draw(st.sampled_from(ASSETS)), draw(amounts)
    from_account, to_account = draw(st.permutations(["available", "pending", "debt", *SYSTEM_ACCOUNTS]))[:2]
    if asset == "points":
        bucket = draw(month_ends()) if "available" in (from_account, to_account) else None
        return Line(from_account, to_account, asset, amount, expires_on=bucket)
    return Line(
        from_account, to_account, asset, amount, draw(st.sampled_from(CREDIT_CLASSES)), draw(st.integers(2016, 2099))
    )


@st.composite
def transfers(draw: st.DrawFn, kind: str) -> Transfer:
    """A transfer of this kind."""
    reasons = {"reversal": ReversalReason, "release": ReleaseReason, "refund": RefundReason}
    return Transfer(
        draw(sorted_ids),
        draw(uuids),
        kind,
        draw(st.integers(1, 2**63 - 1)),
        draw(codes),
        draw(st.from_regex(r"[0-9]{6}", fullmatch=True)),
        tuple(draw(st.lists(lines(), min_size=1, max_size=6))),
        draw(days),
        draw(moments) + timedelta(microseconds=draw(st.integers(0, 999_999))),
        draw(sorted_ids) if kind in ("reversal", "refund") else None,
        draw(st.sampled_from(get_args(reasons[kind]))) if kind in reasons else None,
        draw(sorted_ids) if kind == "maturity" else None,
        draw(sorted_ids) if kind in ("capture", "release") else None,
    )


@st.composite
def credit_facts(draw: st.DrawFn) -> CreditFacts:
    """What a credit's leaf states beside the transfer."""
    claims = st.tuples(st.integers(1, 99_999), digests).map(lambda claim: f"{claim[0]}:{claim[1]}")
    return CreditFacts(
        activity=draw(sorted_ids),
        source=draw(uris),
        grade=draw(st.sampled_from("ABC")),
        methodology=draw(digests),
        points_rule=draw(st.none() | digests),
        evidence=draw(digests),
        claims=tuple(draw(st.lists(claims, max_size=3, unique=True))),
        signature=draw(st.none() | digests),
        replaces=draw(st.none() | sorted_ids),
    )


@st.composite
def maturity_facts(draw: st.DrawFn, *, points: bool) -> MaturityFacts:
    """What a maturity's leaf states beside the transfer, whose lines move points or do not."""
    return MaturityFacts(
        authority=draw(st.sampled_from(["operator", "source"])),
        awaited=draw(st.sampled_from(["settlement", "registration"])),
        facts=draw(st.none() | digests),
        source=draw(st.none() | uris),
        points_rule=draw(digests) if points else None,
        signature=draw(st.none() | digests),
    )


@st.composite
def hold_facts(draw: st.DrawFn) -> HoldFacts:
    """What a hold's leaf states beside the transfer."""
    return HoldFacts(
        bank=draw(uris),
        offer=draw(digests),
        pool=draw(codes),
        units=draw(st.integers(1, AMOUNT_MAX)),
        value_fen=draw(st.integers(0, AMOUNT_MAX)),
        terms=draw(digests),
        expires_at=draw(st.datetimes(datetime(2100, 1, 1), datetime(2999, 12, 31))).replace(microsecond=0, tzinfo=UTC),  # noqa: DTZ001
        signature=draw(st.none() | digests),
    )


@st.composite
def step_facts(draw: st.DrawFn, *, capture: bool = False) -> StepFacts:
    """What the leaf of a capture, a release or a refund states beside the transfer. Only banks capture, and sign."""
    authority = "bank" if capture else draw(st.sampled_from(["bank", "participant", "operator", "rule"]))
    return StepFacts(
        bank=draw(uris),
        pool=draw(codes),
        units=draw(st.integers(1, AMOUNT_MAX)),
        value_fen=draw(st.integers(0, AMOUNT_MAX)),
        authority=authority,
        signature=draw(digests) if authority == "bank" else None,
        decision=None if capture else draw(st.none() | digests),
    )


@st.composite
def rule_facts(draw: st.DrawFn) -> RuleFacts:
    """An approved document."""
    roles = draw(st.lists(codes, min_size=1, max_size=3, unique=True))
    approvers = draw(st.lists(codes, min_size=len(roles), max_size=len(roles), unique=True))
    key_ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
    signatures = st.binary(min_size=64, max_size=64).map(bytes.hex)
    return RuleFacts(
        programme=draw(codes),
        document_kind=draw(st.sampled_from(["methodology", "points"])),
        id=draw(codes),
        version=draw(st.integers(1, 10**6)),
        status=draw(st.sampled_from(["official", "group_standard", "platform_table", "demonstration"])),
        digest=draw(digests),
        approvals=tuple(
            RuleApproval(role, approver, draw(key_ids), draw(digests), draw(signatures), draw(days))
            for role, approver in zip(roles, approvers, strict=True)
        ),
    )


@st.composite
def manifest_facts(draw: st.DrawFn) -> ManifestFacts:
    """A source's closing of a day."""
    region = draw(st.from_regex(r"[0-9]{6}", fullmatch=True))
    return ManifestFacts(
        draw(uris), draw(codes), region, draw(days), draw(st.integers(1, 10**4)), *(draw(digests) for _ in range(3))
    )
