"""What is known of redemptions is recomputed from their steps and from the journal: whoever edits either is found."""

import asyncpg
import pytest

from tests.conftest import Database
from tests.running import Api
from tests.service.redemption.redemption_world import open_market

pytestmark = pytest.mark.anyio

# What somebody with the owner's rights changes, and which check says so.
_TAMPERED = (
    ("UPDATE service.redemption SET units_left = units_left - 1 WHERE state = 'held'", "redemption"),
    ("UPDATE service.redemption SET units_captured = units_captured - 1 WHERE state = 'captured'", "redemption"),
    ("UPDATE service.redemption SET units_refunded = 0 WHERE state = 'refunded'", "redemption"),
    ("UPDATE service.redemption SET state = 'captured' WHERE state = 'refunded'", "redemption"),
    ("UPDATE service.redemption SET accepted_at = NULL", "redemption"),
    ("UPDATE service.redemption SET value_fen = value_fen + units", "redemption"),
    ("UPDATE service.redemption SET expires_at = created_at", "redemption"),
    ("UPDATE service.redemption SET expires_at = expires_at + interval '1 day'", "redemption and hold"),
    ("UPDATE service.redemption SET co2e_mg = co2e_mg + units WHERE state = 'held'", "redemption and hold"),
    ("UPDATE ledger.hold SET points_left = points_left + 1", "redemption and hold"),
    ("UPDATE ledger.hold SET points_left = points_left + 1", "hold"),
    ("UPDATE ledger.hold SET co2e_left = co2e_left + 1", "hold"),
    ("DELETE FROM ledger.hold", "hold"),
    ("UPDATE service.redemption_entry SET points = points + 1 WHERE kind = 'capture'", "redemption entry"),
    ("UPDATE service.redemption_entry SET day = day + 1", "redemption entry"),
    ("UPDATE service.redemption_entry SET reason = 'posted_in_error' WHERE kind = 'refund'", "redemption entry"),
    ("DELETE FROM service.redemption_entry WHERE kind = 'release'", "redemption entry"),
    ("DELETE FROM service.redemption_entry WHERE kind = 'release'", "pool"),
    ("UPDATE service.redemption_key SET bank_id = bank_id + 1", "redemption key"),
    ("DELETE FROM service.redemption_key", "redemption key"),
    ("UPDATE service.pool_slot SET points_left = points_left + 1 WHERE day = '-infinity' AND slot = 0", "pool"),
    ("UPDATE service.pool_slot SET fen_left = fen_left + 1 WHERE day = '-infinity' AND slot = 0", "pool"),
    ("UPDATE service.pool_slot SET points_left = points_left + 1 WHERE day <> '-infinity' AND slot = 0", "pool day"),
    ("DELETE FROM service.pool_slot WHERE day <> '-infinity'", "pool day"),
    ("DELETE FROM service.pool_change", "pool"),
    ("DELETE FROM ledger.reversed", "reversed"),
    (
        "UPDATE ledger.movement m SET expires_on = m.expires_on + 1 FROM ledger.transfer t "
        "WHERE t.transfer_id = m.transfer_id AND t.kind = 'refund' AND m.asset = 'points'",
        "refunded",
    ),
)


async def test_every_edit_of_a_redemption_is_found(fresh_api: Api, fresh_database: Database) -> None:
    market = await open_market(fresh_api, fresh_database)
    offer = await market.offer(await market.pool(points_per_day=10_000), grams_mg_per_point=100)
    person = await market.person(rides=4)
    captured = await market.done(market.capture(await market.done(market.place(person, offer, 3)), 2, final=True))
    await market.done(market.refund(captured))
    await market.done(market.capture(await market.done(market.place(person, offer, 3)), 2, final=True))
    await market.done(market.capture(await market.done(market.place(person, offer, 5)), 1))
    await market.done(market.release(await market.done(market.place(person, offer, 2))))
    assert await market.findings() == []
    connection = await asyncpg.connect(fresh_database.admin)
    tables = (
        "service.redemption",
        "service.redemption_entry",
        "service.redemption_key",
        "service.pool_slot",
        "service.pool_change",
        "ledger.hold",
        "ledger.movement",
        "ledger.reversed",
    )
    try:
        await connection.execute("SET session_replication_role = replica")  # no trigger stands in the way
        for table in tables:
            await connection.execute(f"CREATE TABLE kept_{table.partition('.')[2]} AS TABLE {table}")
        for statement, check in _TAMPERED:
            done = await connection.execute(statement)
            assert not done.endswith(" 0"), f"nothing was changed by: {statement}"
            assert check in {finding.check for finding in await market.findings()}, statement
            table = next(name for name in tables if f" {name} " in f"{statement} ")
            await connection.execute(f"DELETE FROM {table}")
            await connection.execute(f"INSERT INTO {table} SELECT * FROM kept_{table.partition('.')[2]}")
            assert await market.findings() == []
    finally:
        await connection.close()
