"""Documents of products and offers for tests, and what has to stand before they can be listed."""

import itertools
import json
import os
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

from service.clock import Fresh, shanghai_day
from service.database import Connection
from service.products.listing import Desk, approve, submit
from service.products.model import Offer, Product
from service.products.parsing import parse_listing

BANK = "urn:tests:bank:green"
POOL = "tests-pool"
_numbers = itertools.count(1)


def new_id(kind: str) -> str:
    return f"{kind}-{os.getpid()}-{next(_numbers)}-{os.urandom(3).hex()}"


def desk(programme: str = "demo", offset: timedelta = timedelta(0)) -> Desk:
    clock = datetime.now(UTC) + offset
    return Desk(programme, frozenset({"official", "demonstration"}), Fresh(lambda: clock), offset)


def product_fields(**changes: Any) -> dict[str, Any]:
    """A product without a fault from 2026 to 2099; None takes a field out."""
    fields: dict[str, Any] = {
        "schema": "1",
        "kind": "product",
        "id": new_id("product"),
        "version": "1",
        "status": "demonstration",
        "bank": BANK,
        "category": "green_loan",
        "title": {"zh": "测试绿色贷款", "en": "A test loan"},
        "summary": {"zh": "测试", "en": "For tests"},
        "taxonomy": {"name": "green-finance-projects", "version": "2025", "code": "7.1"},
        "label": {
            "basis": {"zh": "测试依据", "en": "A test's basis"},
            "labelled_on": "2025-11-01",
            "assessor": {"zh": "测试评估", "en": "Test Assessors"},
            "assessor_valid_to": "2098-12-31",
            "evidence_digest": "ab" * 32,
            "evidence_url": "https://bank.example/evidence",
        },
        "claimed_benefit": {
            "quantity": "10",
            "unit": "tCO2e/year",
            "verified_quantity": "10",
            "verified_by": {"zh": "测试核查", "en": "Test Verifiers"},
        },
        "checked_on": "2026-01-01",
        "next_check_on": "2099-01-01",
        "lists": [
            {
                "kind": "exclusion",
                "list": {"zh": "测试排除名单", "en": "A test's exclusions"},
                "source": "https://lists.example/exclusions",
                "version": "1",
                "on": "2026-01-01",
                "found": "no",
            }
        ],
        "valid": {"from": "2026-01-01", "to": "2099-12-31"},
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def offer_fields(**changes: Any) -> dict[str, Any]:
    """A voucher of one yuan for ten points; None takes a field out."""
    fields: dict[str, Any] = {
        "schema": "1",
        "kind": "offer",
        "id": new_id("offer"),
        "version": "1",
        "product": "none",
        "bank": BANK,
        "pool": POOL,
        "title": {"zh": "测试券", "en": "A test voucher"},
        "benefit": {"kind": "voucher", "per_unit": "100", "unit": "fen"},
        "points_per_unit": "10",
        "value_fen_per_unit": "100",
        "min_units": "1",
        "max_units": "100",
        "grams_mg_per_point": "0",
        "hold_seconds": "3600",
        "valid": {"from": "2026-01-01", "to": "2099-12-31"},
        "discloses": {"zh": "份数", "en": "The units"},
        "consent": {"text_version": "tests-1", "text": {"zh": "同意", "en": "Agreed"}},
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def written(fields: dict[str, Any]) -> bytes:
    """The document's text: JSON of objects, lists and strings is YAML."""
    return json.dumps(fields, ensure_ascii=False).encode()


def product(**changes: Any) -> Product:
    made = parse_listing(written(product_fields(**changes)))
    assert isinstance(made, Product)
    return made


def offer(**changes: Any) -> Offer:
    made = parse_listing(written(offer_fields(**changes)))
    assert isinstance(made, Offer)
    return made


async def open_bank_and_pool(tx: "Connection | asyncpg.Connection[asyncpg.Record]") -> None:
    """The bank and the pool of the documents above, once."""
    await tx.execute(
        "INSERT INTO service.bank (uri, title_zh, title_en, programme, registered_at) "
        "VALUES ($1, '测试银行', 'A test bank', 'demo', now()) ON CONFLICT DO NOTHING",
        BANK,
    )
    await tx.execute(
        "INSERT INTO service.pool (pool, programme, funder, title_zh, title_en, rate_fen, rate_points, shortage, "
        "state, terms, document, opened_at) VALUES ($1, 'demo', 'urn:tests:funder', '测试资金池', 'A test pool', 10, "
        "1, 'stop', 'open', decode(repeat('00', 32), 'hex'), '\\x', now()) ON CONFLICT DO NOTHING",
        POOL,
    )


async def put_on_board(tx: Connection, *documents: Product | Offer, at: Desk | None = None) -> None:
    """Submit each and approve it twice, in their order."""
    at = at or desk()
    for document in documents:
        await submit(tx, document, "operator-a", at)
        for approver in ("operator-a", "operator-b"):
            await approve(tx, document.kind, document.id, document.version, approver, at)


def today() -> date:
    return shanghai_day(datetime.now(UTC))
