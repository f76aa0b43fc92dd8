"""The page about a methodology holds everything the document decides by, in both languages, as tables that hold."""

import re

import pytest

from api.methodology_page import page
from service.quantification.methodology import load_catalogue, parse_methodology
from service.quantification.model import Methodology
from tests.documents import DEMO, changed
from tests.service.quantification.documents import DOCUMENTS
from tests.service.quantification.factor_set_documents import PUBLISHED, SET

EVERY = {one.id: one for one in (*load_catalogue().all(), *DOCUMENTS.values())}
EVERY_ONE = pytest.mark.parametrize("one", EVERY.values(), ids=EVERY)


@EVERY_ONE
@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_page_names_all_that_decides(one: Methodology, language: str) -> None:
    text = "\n".join(page([one], one, (language,)))  # type: ignore[arg-type]  # zh or en
    windows = [window for rule in one.readings.values() for window in rule.windows]
    conditions = [
        condition.id for condition in (*one.conditions, *(one.settlement.conditions if one.settlement else ()))
    ]
    names = [
        *one.inputs,
        *one.factors,
        *one.readings,
        *one.baseline,
        *windows,
        *conditions,
        *(cap.id for cap in one.caps),
    ]
    for name in (*names, one.digest, one.id, one.scenario.id):
        assert f"`{name}`" in text, name
    for factor in one.factors.values():
        for value in factor.values:
            assert value.source.id in text
            assert str(value.span) in text
    for what in (one.title, *one.notes, *one.missing, *(condition.because for condition in one.conditions)):
        assert " ".join(getattr(what, language).split()) in text
    if not one.missing:
        assert text.count("⌋ = ") == len(one.examples)
    assert text.count("- ") >= len(one.claims)


@EVERY_ONE
def test_every_row_of_a_table_has_the_cells_of_its_head(one: Methodology) -> None:
    width = 0
    for line in page([one], one, ("zh", "en")):
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not width or not cells or cells == width, line
        width = cells


def test_what_is_missing_is_said_first_of_all() -> None:
    incomplete = [one for one in EVERY.values() if one.missing]
    assert incomplete
    for one in incomplete:
        text = "\n".join(page([one], one, ("en",)))
        assert "no: the document says that parts of it are not known" in text
        assert text.index("## What is not known") < text.index("## Scope")


def test_what_was_published_of_a_document_is_told_and_what_was_not() -> None:
    one = parse_methodology(PUBLISHED.encode())
    for language, told in (
        (
            "en",
            ("Act: saving electricity at home", "Part of: some table (`some-table`)", "Counted against: not published"),
        ),
        ("zh", ("行为：家庭节约用电", "出自：某表 (`some-table`)", "与何相比：未见公布")),
    ):
        text = "\n".join(page([one], one, (language,)))  # type: ignore[arg-type]  # zh or en
        unknown = {"zh": "未见公布", "en": "unknown: not published"}[language]
        assert text.count(unknown) >= 6  # trigger, class, participants, days in force twice, claim window
        for sentence in told:
            assert sentence in text
        assert f"`shanghai` {'，因子集' if language == 'zh' else 'of the factor set'} `invented-2024`" in text
        assert SET.digest[:16] in text


def test_a_page_says_that_an_inferred_document_is_credited_as_a_demonstration() -> None:
    one = parse_methodology(changed(DEMO, ("status: demonstration", "status: official\nformula_confidence: inferred")))
    text = "\n".join(page([one], one, ("en",)))
    assert "| credited as | `demonstration` demonstration only, not official: the formula is inferred" in text
    assert "| credited as | `demonstration` demonstration only, not official |" in "\n".join(
        page([EVERY["demo-shared-ebike"]], EVERY["demo-shared-ebike"], ("en",))
    )
