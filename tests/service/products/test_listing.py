"""The desk of the board: two people list, one takes down at once, a rule takes down by itself, and the log is told."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from ledger.leaf_reading import read_leaf
from service.banks.registry import set_bank_state
from service.database import Connection, Pool
from service.participants import hold_withdrawals
from service.products.bank_listings import BANK_SUSPENDED, resume_offers_of, suspend_offers_of
from service.products.listing import (
    AlreadyApproved,
    DocumentConflict,
    ListingNotFound,
    ListingRefused,
    ListingStateWrong,
    approve,
    read_history,
    resume,
    submit,
    suspend,
    sweep_listings,
    take_down,
)
from service.products.model import Offer, Product
from service.products.standing import STANDINGS, standing
from service.products.sweeping import run_listing_sweeps
from tests.conftest import Database
from tests.running import pooled
from tests.service.products.documents import (
    BANK,
    desk,
    offer,
    open_bank_and_pool,
    product,
    put_on_board,
    today,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with pooled(database.app, size=3) as pool:
        async with pool.acquire() as connection:
            await open_bank_and_pool(connection)
        yield pool


@pytest.fixture
async def tx(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()


async def leaves(tx: Connection, document: Product | Offer) -> list[dict[str, Any]]:
    """The leaves that tell of a document, in their order."""
    found = [read_leaf(row["leaf"]) for row in await tx.fetch("SELECT leaf FROM ledger.leaf_queue ORDER BY queue_id")]
    return [leaf for leaf in found if leaf.get("id") == document.id]


async def actions(tx: Connection, document: Product | Offer) -> list[tuple[str, str | None]]:
    history = await read_history(tx, document.kind, document.id)
    return [(change.action, change.reason) for change in history if change.version == document.version]


async def hold_refused(tx: Connection, wanted: Offer, bank: str | None = None) -> str | None:
    return await standing(tx, wanted.id, wanted.version, bank, day=today())


async def on_board(tx: Connection, **changes: Any) -> tuple[Product, Offer]:
    """A product and an offer on it, both listed."""
    of = product()
    made = offer(product=of.id, **changes)
    await put_on_board(tx, of, made)
    return of, made


async def test_two_people_list_and_the_log_is_told_once(tx: Connection) -> None:
    made = product()
    assert await submit(tx, made, "operator-a", desk())
    assert await approve(tx, "product", made.id, 1, "operator-a", desk()) == "submitted"
    with pytest.raises(AlreadyApproved):
        await approve(tx, "product", made.id, 1, "operator-a", desk())
    assert await leaves(tx, made) == []
    assert await approve(tx, "product", made.id, 1, "operator-b", desk()) == "listed"
    (leaf,) = await leaves(tx, made)
    assert (leaf["kind"], leaf["action"], leaf["digest"], leaf["version"]) == ("listing", "listed", made.digest, "1")
    assert leaf["approvers"] == ["operator-a", "operator-b"]
    with pytest.raises(ListingStateWrong, match="listed"):
        await approve(tx, "product", made.id, 1, "operator-c", desk())
    assert [action for action, _ in await actions(tx, made)] == ["submitted", "approved", "approved", "listed"]


async def test_the_same_document_again_changes_nothing_and_another_is_a_conflict(tx: Connection) -> None:
    made = product()
    assert await submit(tx, made, "operator-a", desk())
    assert not await submit(tx, made, "operator-b", desk())
    assert len(await actions(tx, made)) == 1
    with pytest.raises(DocumentConflict, match=made.digest):
        await submit(tx, product(id=made.id, category="deposit"), "operator-a", desk())
    with pytest.raises(ListingNotFound):
        await approve(tx, "offer", made.id, 1, "operator-a", desk())


async def test_evidence_that_does_not_hold_refuses_both_approvals_and_leaves_nothing(tx: Connection) -> None:
    made = product(claimed_benefit={"quantity": "11", "unit": "t"})
    await submit(tx, made, "operator-a", desk())
    with pytest.raises(ListingRefused) as refused:
        await approve(tx, "product", made.id, 1, "operator-a", desk())
    assert [reason.code for reason in refused.value.reasons] == ["claim-not-verified"]
    assert len(await actions(tx, made)) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"bank": "urn:tests:bank:nobody"}, "bank-not-active"),
        ({"pool": "no-such-pool"}, "pool-not-open"),
        ({"product": "no-such-product"}, "product-not-listed"),
        ({"value_fen_per_unit": "101"}, "beyond-pool-rate"),
        (
            {"tiers": [{"name": {"zh": "高", "en": "high"}, "min_verified_g": "1", "points_per_unit": "9"}]},
            "beyond-pool-rate",
        ),
        ({"valid": {"from": "2025-01-01", "to": "2025-12-31"}}, "ended"),
    ],
)
async def test_an_offer_is_refused_for_what_it_rests_on(tx: Connection, changes: dict[str, Any], code: str) -> None:
    """The pool pays ten fen for a point: a hundred for ten is the most."""
    of = product()
    await put_on_board(tx, of)
    made = offer(**({"product": of.id} | changes))
    await submit(tx, made, "operator-a", desk())
    with pytest.raises(ListingRefused) as refused:
        await approve(tx, "offer", made.id, 1, "operator-a", desk())
    assert code in [reason.code for reason in refused.value.reasons]


async def test_a_demonstration_is_listed_where_demonstrations_are_allowed(tx: Connection) -> None:
    made, strict = product(), replace(desk(), allowed_statuses=frozenset({"official"}))
    await submit(tx, made, "operator-a", strict)
    with pytest.raises(ListingRefused, match="status-not-allowed"):
        await approve(tx, "product", made.id, 1, "operator-a", strict)


async def test_what_is_suspended_is_not_held_until_it_is_resumed(tx: Connection) -> None:
    _, made = await on_board(tx)
    assert await hold_refused(tx, made) is None
    await suspend(tx, "offer", made.id, 1, "operator-a", "complaints", desk())
    assert await hold_refused(tx, made) == "offer-suspended"
    await resume(tx, "offer", made.id, 1, "operator-b", desk())
    assert await hold_refused(tx, made) is None
    await take_down(tx, "offer", made.id, 1, "operator-a", "misleading", desk())
    assert await hold_refused(tx, made) == "offer-not-listed"
    with pytest.raises(ListingStateWrong, match="taken_down"):
        await resume(tx, "offer", made.id, 1, "operator-a", desk())
    told = [(leaf["action"], leaf["reason"]) for leaf in await leaves(tx, made)]
    assert told == [
        ("listed", None),
        ("suspended", "complaints"),
        ("resumed", None),
        ("taken_down", "misleading"),
    ]


async def test_an_offer_stands_as_long_as_its_product_and_its_bank(tx: Connection) -> None:
    of, made = await on_board(tx)
    assert await hold_refused(tx, made, BANK) is None
    assert await hold_refused(tx, made, "urn:tests:bank:other") == "bank-differs"
    await suspend(tx, "product", of.id, 1, "operator-a", "complaints", desk())
    assert await hold_refused(tx, made) == "product-suspended"
    await take_down(tx, "product", of.id, 1, "operator-a", "evidence_disproved", desk())
    assert await hold_refused(tx, made) == "product-not-listed"
    other, another = await on_board(tx)
    await tx.execute("UPDATE service.bank SET state = 'suspended' WHERE uri = $1", BANK)
    assert await hold_refused(tx, another) == "bank-suspended"
    assert {await hold_refused(tx, made), await hold_refused(tx, another)} <= STANDINGS.keys()
    await submit(tx, newer := product(id=other.id, version="2"), "operator-a", desk())
    with pytest.raises(ListingRefused, match="bank-not-active"):
        await approve(tx, "product", newer.id, 2, "operator-a", desk())


async def test_a_bank_takes_its_offers_with_it_and_the_log_hears_of_each(tx: Connection) -> None:
    (_, one), (_, other), (_, own) = [await on_board(tx) for _ in range(3)]
    await suspend(tx, "offer", own.id, 1, "operator-a", "complaints", desk())
    before = len(await tx.fetch("SELECT FROM service.listing WHERE kind = 'offer' AND state = 'listed'"))
    await set_bank_state(tx, BANK, "suspended", "under-review", timedelta(0))
    assert await suspend_offers_of(tx, BANK, "operator-a", desk()) == before
    assert await suspend_offers_of(tx, BANK, "operator-a", desk()) == 0
    assert await resume_offers_of(tx, BANK, "operator-b", desk()) == 0, "the bank is suspended still"
    await set_bank_state(tx, BANK, "resumed", None, timedelta(0))
    await tx.execute("UPDATE service.listing SET state = 'taken_down' WHERE id = $1", other.product)
    await resume_offers_of(tx, BANK, "operator-b", desk())
    told = [("listed", None), ("suspended", BANK_SUSPENDED), ("resumed", None)]
    for made, steps in ((one, told), (other, told[:2]), (own, [told[0], ("suspended", "complaints")])):
        assert [(leaf["action"], leaf["reason"]) for leaf in await leaves(tx, made)] == steps
    assert await hold_refused(tx, one) is None
    assert await hold_refused(tx, own) == "offer-suspended"


async def test_a_new_version_takes_the_place_of_the_one_before(tx: Connection) -> None:
    of, made = await on_board(tx)
    second = offer(id=made.id, version="2", product=of.id)
    early = offer(id=made.id, version="3", product=of.id, valid={"from": "2098-01-01"})
    await put_on_board(tx, second)
    assert await actions(tx, made) == [
        ("submitted", None),
        ("approved", None),
        ("approved", None),
        ("listed", None),
        ("taken_down", "superseded"),
    ]
    assert (await hold_refused(tx, made), await hold_refused(tx, second)) == ("offer-not-listed", None)
    with pytest.raises(ListingRefused, match="replaces-too-early"):
        await put_on_board(tx, early)


async def test_what_its_evidence_no_longer_carries_goes_down_by_itself(tx: Connection) -> None:
    """The day after the last good one nothing can be held; the sweep writes down why, once."""
    checked = today() + timedelta(days=40)
    of = product(next_check_on=checked.isoformat())
    made = offer(product=of.id, valid={"from": "2026-01-01", "to": (checked + timedelta(days=5)).isoformat()})
    await put_on_board(tx, of, made)
    last, first_bad = checked - timedelta(days=1), checked
    assert await standing(tx, made.id, 1, day=last) is None
    assert await standing(tx, made.id, 1, day=first_bad) == "product-not-listed"
    before, after = desk(offset=last - today()), desk(offset=first_bad - today())
    await sweep_listings(tx, before)
    assert (await actions(tx, of))[-1] == ("listed", None)
    await sweep_listings(tx, after)
    assert (await actions(tx, of))[-1] == ("taken_down", "check-overdue")
    assert (await actions(tx, made))[-1] == ("listed", None)
    assert await standing(tx, made.id, 1, day=first_bad) == "product-not-listed"
    await sweep_listings(tx, desk(offset=first_bad - today() + timedelta(days=6)))
    assert (await actions(tx, made))[-1] == ("taken_down", "ended")
    taken = [change for change in await read_history(tx, "product", of.id) if change.action == "taken_down"]
    assert [change.operator for change in taken] == ["rule"]
    assert [leaf["reason"] for leaf in await leaves(tx, of)] == [None, "check-overdue"]


async def test_an_offer_is_held_to_its_own_last_day(tx: Connection) -> None:
    last = today() + timedelta(days=2)
    _, made = await on_board(tx, valid={"from": "2026-01-01", "to": last.isoformat()})
    assert await standing(tx, made.id, 1, day=last) is None
    assert await standing(tx, made.id, 1, day=last + timedelta(days=1)) == "offer-not-listed"


async def test_the_worker_may_sweep(fresh_database: Database) -> None:
    """As the role it has."""
    async with pooled(fresh_database.app) as app, pooled(fresh_database.sequencer) as sequencer:
        soon = today() + timedelta(days=3)
        async with app.acquire() as connection, connection.transaction():
            await open_bank_and_pool(connection)
            await put_on_board(connection, product(next_check_on=soon.isoformat()))
        async with sequencer.acquire() as connection, connection.transaction():
            assert await sweep_listings(connection, desk(offset=timedelta(days=2))) == 0
            assert await sweep_listings(connection, desk(offset=timedelta(days=3))) == 1
            assert await sweep_listings(connection, desk(offset=timedelta(days=3))) == 0


async def test_going_down_waits_for_what_is_being_posted(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        _, made = await on_board(connection)

    async def stop() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await suspend(connection, "offer", made.id, 1, "operator-a", "complaints", desk())

    async with pool.acquire() as posting:
        async with posting.transaction():
            await hold_withdrawals(posting)
            assert await hold_refused(posting, made) is None
            stopping = asyncio.create_task(stop())
            await asyncio.sleep(0.2)
            assert not stopping.done()
            assert await hold_refused(posting, made) is None
        await stopping
        assert await hold_refused(posting, made) == "offer-suspended"


async def test_two_second_approvals_at_once_list_it_once(pool: Pool) -> None:
    made = product()
    async with pool.acquire() as connection, connection.transaction():
        await submit(connection, made, "operator-a", desk())
        await approve(connection, "product", made.id, 1, "operator-a", desk())

    async def second(operator: str) -> str:
        async with pool.acquire() as connection, connection.transaction():
            return await approve(connection, "product", made.id, 1, operator, desk())

    done = await asyncio.gather(second("operator-b"), second("operator-c"), return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["ListingStateWrong", "str"]


async def test_the_record_is_not_edited(pool: Pool, database: Database) -> None:
    made = product()
    async with pool.acquire() as connection, connection.transaction():
        await put_on_board(connection, made)
    async with pool.acquire() as connection:
        for statement in (
            "UPDATE service.listing_document SET bank = 'urn:x'",
            "DELETE FROM service.listing_change",
            "DELETE FROM service.listing",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    owner = await asyncpg.connect(database.owner)
    try:
        for table in ("listing_document", "listing_change"):
            with pytest.raises(asyncpg.RaiseError, match="refused"):
                await owner.execute(f"DELETE FROM service.{table}")
    finally:
        await owner.close()


async def test_the_loop_sweeps_unless_the_log_is_refused(fresh_database: Database) -> None:
    async with pooled(fresh_database.app) as app, pooled(fresh_database.sequencer) as sequencer:
        made = product(next_check_on=(today() + timedelta(days=1)).isoformat())
        async with app.acquire() as connection, connection.transaction():
            await open_bank_and_pool(connection)
            await put_on_board(connection, made)

        async def look(refused: str | None) -> str:
            async with sequencer.acquire() as connection:
                await connection.execute("UPDATE ledger.log_state SET refused = $1", refused)
            stopping = asyncio.Event()
            looking = asyncio.create_task(run_listing_sweeps(sequencer, desk(offset=timedelta(days=1)), stopping))
            await asyncio.sleep(0.3)
            stopping.set()
            await looking
            async with app.acquire() as connection:
                return (await actions(connection, made))[-1][0]

        assert [await look("guard-ahead"), await look(None)] == ["listed", "taken_down"]


# The table of docs/products.md: what each step makes of each state; None where it is refused.
STEPS: dict[str, dict[str, str | None]] = {
    "approve": {"submitted": "submitted", "listed": None, "suspended": None, "taken_down": None},
    "suspend": {"submitted": None, "listed": "suspended", "suspended": None, "taken_down": None},
    "resume": {"submitted": None, "listed": None, "suspended": "listed", "taken_down": None},
    "take_down": {"submitted": None, "listed": "taken_down", "suspended": "taken_down", "taken_down": None},
}


async def take(tx: Connection, step: str, document: Product | Offer) -> None:
    key = (document.kind, document.id, document.version)
    if step == "approve":
        await approve(tx, *key, "operator-c", desk())
    elif step == "resume":
        await resume(tx, *key, "operator-c", desk())
    else:
        await (suspend if step == "suspend" else take_down)(tx, *key, "operator-c", "complaints", desk())


@pytest.mark.parametrize("state", ["submitted", "listed", "suspended", "taken_down"])
@pytest.mark.parametrize("step", STEPS)
async def test_every_step_from_every_state(tx: Connection, step: str, state: str) -> None:
    made = product()
    if state == "submitted":
        await submit(tx, made, "operator-a", desk())
    else:
        await put_on_board(tx, made)
    for before in {"suspended": ["suspend"], "taken_down": ["take_down"]}.get(state, []):
        await take(tx, before, made)
    changes = len(await actions(tx, made))
    if STEPS[step][state] is None:
        with pytest.raises(ListingStateWrong, match=state):
            await take(tx, step, made)
        assert len(await actions(tx, made)) == changes
    else:
        await take(tx, step, made)
    now = await tx.fetchval("SELECT state FROM service.listing WHERE kind = 'product' AND id = $1", made.id)
    assert now == (STEPS[step][state] or state)
