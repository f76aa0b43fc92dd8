"""What is known of a person when an offer is priced: grams that stand, units of this year, coverage, free points."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.database import Connection
from service.participants import ParticipantNotFound
from service.products.facts import read_facts
from service.products.model import Facts, year_before
from tests.running import Api, credit_code, ride

pytestmark = pytest.mark.anyio

OFFER, OTHER = "facts-offer", "facts-other"


@pytest.fixture
async def tx(api: Api) -> AsyncIterator[Connection]:
    async with api.platform.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()


async def facts(tx: Connection, participant_id: str, at: datetime | None = None, **options: Any) -> Facts:
    found = await read_facts(tx, UUID(participant_id), [OFFER], at or datetime.now(UTC), **options)
    return found[OFFER]


async def redeem(
    tx: Connection,
    participant_id: str,
    units: int,
    *,
    left: int = 0,
    captured: int = 0,
    refunded: int = 0,
    created_at: datetime | None = None,
    expires_at: datetime | None = None,
    offer: str = OFFER,
) -> None:
    """A redemption as it would stand."""
    now = datetime.now(UTC)
    await tx.execute(
        "INSERT INTO service.redemption (participant_id, redemption_id, bank_id, bank, offer, offer_version, "
        "offer_digest, pool, units, points, value_fen, co2e_mg, units_left, units_captured, units_refunded, state, "
        "started_by, created_at, expires_at, ended_at) "
        "VALUES ($1, $2, 1, 'urn:b', $3, 1, $4, 'p', $5, $5, 0, 0, $6, $7, $8, $9, 'participant', $10, $11, $12)",
        UUID(participant_id),
        uuid4(),
        offer,
        os.urandom(32),
        units,
        left,
        captured,
        refunded,
        "held" if left else "captured",
        created_at or now,
        expires_at or now + timedelta(hours=1),
        None if left else now,
    )


async def test_grams_count_while_their_credit_stands(api: Api, tx: Connection) -> None:
    person = await api.person()
    days = {"2.35": "2026-05-01", "10": "2026-05-02", "7": "2026-05-03"}
    made = []
    for km, day in days.items():
        times = {"started_at": f"{day}T08:00:00+08:00", "ended_at": f"{day}T08:40:00+08:00"}
        made += await api.report(person.source, [ride(person.source, person.subject, km=km, **times)])
    assert [one["outcome"] for one in made] == ["credited"] * 3
    at = datetime(2026, 11, 1, tzinfo=UTC)
    assert (await facts(tx, person.participant_id, at)).verified_g == int(35.01 * 19.35)
    assert (await facts(tx, person.participant_id, at, grams=False)).verified_g == 0
    reversed_ = await api.reverse(person.participant_id, made[1]["transfer_id"])
    assert reversed_.status_code == 201, reversed_.text
    assert (await facts(tx, person.participant_id, at)).verified_g == int(35.01 * 9.35)
    # twelve months: the day a year ago no longer counts
    last = datetime(2027, 5, 1, 12, tzinfo=UTC)
    assert (await facts(tx, person.participant_id, last - timedelta(days=1))).verified_g == int(35.01 * 9.35)
    assert (await facts(tx, person.participant_id, last)).verified_g == int(35.01 * 7)


async def test_units_of_this_year_are_those_that_stand(api: Api, tx: Connection) -> None:
    person = (await api.person()).participant_id
    at = datetime(2026, 6, 1, tzinfo=UTC)
    nothing = await facts(tx, person, at)
    assert (nothing.redeemed_units_this_year, nothing.redeemed_before) == (0, False)
    soon, long_ago = at + timedelta(seconds=1), datetime(2025, 12, 31, 15, 59, 59, tzinfo=UTC)
    await redeem(tx, person, 10, captured=10, refunded=10, created_at=at)
    await redeem(tx, person, 9, offer=OTHER, captured=9, created_at=at)
    await redeem(tx, person, 5, left=5, created_at=at, expires_at=at)
    assert await facts(tx, person, at) == nothing
    await redeem(tx, person, 100, captured=100, created_at=long_ago)
    found = await facts(tx, person, at)
    assert (found.redeemed_units_this_year, found.redeemed_before) == (0, True)
    await redeem(tx, person, 7, left=3, captured=4, refunded=0, created_at=at, expires_at=soon)
    await redeem(tx, person, 20, captured=20, created_at=long_ago + timedelta(seconds=1))
    assert (await facts(tx, person, at)).redeemed_units_this_year == 27
    both = await read_facts(tx, UUID(person), [OFFER, OTHER], at)
    assert [both[name].redeemed_units_this_year for name in (OFFER, OTHER)] == [27, 9]


async def test_who_is_covered_is_a_matter_of_the_day(api: Api, tx: Connection) -> None:
    code = credit_code()
    firm = await api.person(kind="firm", code=code)
    body = {
        "scheme": "national",
        "source": "tests",
        "rows": [{"unified_social_credit_code": code, "valid_from": "2026-01-01", "valid_to": "2026-12-31"}],
    }
    answer = await api.client.post("/v1/registers/coverage/imports", headers=api.bearer("operator"), json=body)
    assert answer.status_code == 200
    days = {date(2025, 12, 31): False, date(2026, 1, 1): True, date(2026, 12, 31): True, date(2027, 1, 1): False}
    for day, covered in days.items():
        noon = datetime(day.year, day.month, day.day, 4, tzinfo=UTC)
        found = await facts(tx, firm.participant_id, noon)
        assert (found.covered, found.kind, found.day) == (covered, "firm", day)
    assert not (await facts(tx, (await api.person()).participant_id)).covered


async def test_points_whose_day_is_over_are_not_available(api: Api, tx: Connection) -> None:
    person = await api.person()
    await api.report(person.source, [ride(person.source, person.subject)])
    (bucket,) = (await api.balance(person.participant_id))["points"]["expiring"]
    last = date.fromisoformat(bucket["on"])
    noon = datetime(last.year, last.month, last.day, 4, tzinfo=UTC)
    assert (await facts(tx, person.participant_id, noon)).available_points == bucket["points"] > 0
    assert (await facts(tx, person.participant_id, noon + timedelta(days=1))).available_points == 0


async def test_nobody_and_nothing(api: Api, tx: Connection) -> None:
    with pytest.raises(ParticipantNotFound):
        await read_facts(tx, uuid4(), [OFFER], datetime.now(UTC))
    assert await read_facts(tx, uuid4(), [], datetime.now(UTC)) == {}


def test_a_year_before() -> None:
    assert year_before(date(2028, 2, 29)) == date(2027, 2, 28)
    assert year_before(date(2026, 3, 1)) == date(2025, 3, 1)
