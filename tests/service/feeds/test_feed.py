"""The feed document: what ships loads, and anything else is refused with its line and what to do."""

import contextlib
import copy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.feeds import SHIPPED_RIDES, FeedDocumentError, list_feeds, load_feed
from service.feeds.feed import parse_feed
from service.feeds.kinds import ReadingsFeed
from service.feeds.model import Reference
from service.quantification.model import REFERENCES

VALLEYBIKE = Path(SHIPPED_RIDES).parent.parent / "valleybike.yaml"
TEXT = VALLEYBIKE.read_text(encoding="utf-8")


def test_the_shipped_feeds() -> None:
    feeds = list_feeds()
    assert len({feed.id for feed in feeds}) == len({feed.source.uri for feed in feeds}) == len(feeds) == 14
    for feed in feeds:
        assert load_feed(feed.id) == feed
        numbered = {"order", "payment"} & feed.references.keys() or "vehicle" in feed.model_dump(exclude_none=True)[
            "columns"
        ]
        assert not numbered or "operator" in feed.references, "a number means nothing without whose it is"
        assert isinstance(feed, ReadingsFeed) == ("meter" in feed.references)


def test_the_references_are_those_of_the_rules() -> None:
    assert {*get_args(Reference), "vehicle"} == set(REFERENCES)


def test_a_feed_by_the_path_of_its_document(tmp_path: Path) -> None:
    path = tmp_path / "我的 feed.yaml"
    path.write_text(TEXT, encoding="utf-8")
    assert load_feed(path) == load_feed(str(path)) == load_feed("valleybike")


def test_the_straight_line_is_said_in_both_languages() -> None:
    feed = load_feed("mobike-shanghai")
    assert feed.inputs["distance_km"].basis == "straight_line"
    assert "直线距离" in feed.title.zh
    assert "straight-line" in feed.title.en
    assert "演示" in feed.notes.zh
    assert "demonstration only" in feed.notes.en


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("schema: 1", "schema: 2", "line 2: schema: expected"),
        ("format: csv", "format: csv\ncolour: red", "line 16: colour is not a field"),
        ("format: csv", "format: xlsx", "line 15: format: expected"),
        ("  grade: A", "  grade: D", "line 12: source.grade: expected"),
        ("  subject: user_id\n", "", "line 16: expected a field columns.subject; it is missing"),
        ("unit: km", "unit: furlong", "line 24: inputs: expected: distance_km in one of the units km, m, mi"),
        ("unit: km", "unit: km, decimals: 3", "line 25: inputs.distance_km.decimals is not a field"),
        ("basis: track", "basis: guess", "line 25: inputs.distance_km.basis: expected"),
        ("distance_km:", "distance:", "line 24: inputs: expected: input names that end in a unit"),
        ("time_zone: UTC", "time_zone: Mars/Olympus", "line 20: columns.started_at.time_zone: expected: a time zone"),
        ("time_zone: UTC", "time_zone: ../../etc/passwd", "columns.started_at.time_zone: expected: a time zone"),
        ("time_zone: UTC", "time_zone: Asia", "columns.started_at.time_zone: expected: a time zone"),
        ("scenario: docked-ebike", "scenario: 1", "line 14: scenario: expected"),
        ("2018-01-01", "2018-13-01", "expected a YAML document"),
        ("id: valleybike", "id: valleybike\nid: other", "line 4: the field id stands twice"),
        ("id: valleybike", "id: &name valleybike", None),
        ("id: valleybike", "id: [valleybike", "expected a YAML document"),
        ("id: valleybike", "id: *name", "expected a YAML document"),
        ("uri: urn:", "uri: no scheme ", "line 8: source.uri: expected"),
        ("  operator: {", "  vehicle: {", "line 23: references.vehicle: expected: Input should be 'operator', 'order'"),
        (
            "{constant: valleybike}",
            "{constant: Valley Bike}",
            "line 22: references: expected: the constant operator as",
        ),
        ("{constant: valleybike}", "{constant: ''}", "line 23: references.operator.constant: expected"),
        ("{constant: valleybike}", "{constant: a, column: b}", "line 23: references.operator.column is not a field"),
        ("{constant: valleybike}", "{text: valleybike}", "expected a field references.operator.constant"),
        ("{constant: valleybike}", "7", "line 23: references.operator: expected"),
        ("{constant: valleybike}", "''", "line 23: references.operator: expected"),
        ("{constant: valleybike}", "op_name", None),
    ],
)
def test_a_faulty_document_is_refused_with_its_line(old: str, new: str, said: str | None) -> None:
    text = TEXT.replace(old, new)
    assert text != TEXT
    if said is None:
        parse_feed(text, "my.yaml")
        return
    with pytest.raises(FeedDocumentError) as refused:
        parse_feed(text, "my.yaml")
    assert said in refused.value.text.en
    assert "my.yaml" in refused.value.text.zh


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(FeedDocumentError, match=r"mobike-shanghai, .*valleybike.*no valleybikes"):
        load_feed("valleybikes")


def test_what_is_no_text_and_no_file_is_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("title: Gîrjău".encode("latin-1", "replace"))
    for path in (latin, tmp_path):
        with pytest.raises(FeedDocumentError, match="YAML in UTF-8"):
            load_feed(path)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(data=st.data(), value=anything)
def test_no_document_crashes_the_parser(data: st.DataObject, value: Any) -> None:
    document = copy.deepcopy(yaml.safe_load(TEXT))
    place = document
    for _ in range(data.draw(st.integers(0, 2))):
        deeper = [key for key, inner in place.items() if isinstance(inner, dict)]
        if deeper:
            place = place[data.draw(st.sampled_from(deeper))]
    place[data.draw(st.sampled_from([*place, "new"]))] = value
    with contextlib.suppress(FeedDocumentError):
        parse_feed(yaml.safe_dump(document, allow_unicode=True), "any.yaml")
