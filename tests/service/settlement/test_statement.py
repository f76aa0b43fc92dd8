"""The statement's bytes: canonical, read back whole, the same in CSV, and a bank that sends them back agrees."""

import csv
import hashlib
import io
from dataclasses import replace

import orjson
import pytest
import rfc8785
from hypothesis import given

from service.settlement.bank_file import read_bank_file
from service.settlement.differences import compare
from service.settlement.statement import (
    COLUMNS,
    KINDS,
    MEASURES,
    DayStatement,
    Total,
    digest_of,
    read_statement,
    statement_csv,
    statement_document,
)
from tests.service.settlement.drawing import BANK, DAY, statements


@given(statements())
def test_a_statement_is_canonical_and_read_back_as_it_was(statement: DayStatement) -> None:
    document = statement_document(statement)
    assert rfc8785.dumps(orjson.loads(document)) == document
    assert read_statement(document) == statement
    assert statement_document(read_statement(document)) == document


@given(statements())
def test_the_csv_says_the_same(statement: DayStatement) -> None:
    document = statement_document(statement)
    rows = list(csv.DictReader(io.StringIO(statement_csv(document).decode("utf-8"), newline=""), strict=True))
    assert rows[0] | {"record": "statement", "bank": BANK, "day": "2026-05-01"} == rows[0]
    assert rows[0]["digest"] == hashlib.sha256(document).hexdigest() == digest_of(document).hex()
    content = orjson.loads(document)
    entries = [{name: row[name] or None for name in content["entries"][0]} for row in rows if row["record"] == "entry"]
    assert entries == content["entries"]
    totals = {row["kind"]: {name: row[name] for name in ("entries", *MEASURES)} for row in rows[-len(KINDS) :]}
    assert totals == content["totals"]
    assert [row["record"] for row in rows] == ["statement"] + ["entry"] * len(entries) + ["total"] * len(KINDS)
    assert set(rows[0]) == set(COLUMNS)


@given(statements())
def test_totals_add_up_whatever_the_order(statement: DayStatement) -> None:
    turned = replace(statement, entries=statement.entries[::-1])
    assert turned.totals == statement.totals
    for measure in MEASURES:
        whole = sum(getattr(entry, measure) for entry in statement.entries)
        assert sum(getattr(total, measure) for total in statement.totals.values()) == whole
    assert sum(total.entries for total in statement.totals.values()) == len(statement.entries)


@pytest.mark.parametrize("form", ["csv", "json"])
@given(statement=statements())
def test_a_statement_that_is_sent_back_agrees(form: str, statement: DayStatement) -> None:
    document = statement_document(statement)
    if form == "csv":
        theirs = read_bank_file(statement_csv(document), "csv", bank=BANK, day=DAY)
    else:
        theirs = read_bank_file(document, "json", bank=BANK, day=DAY)
    assert compare(statement.entries, theirs, other_days={}, known=frozenset()) == ()
    stated = {kind: Total(**total) for kind, total in theirs.totals.items()}
    assert stated == statement.totals
