"""What was published of a methodology, and what was not: unknown fields, acts, the table a document is part of."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from service.quantification.document import Bilingual
from service.quantification.methodology import NoMethodologyInForce, catalogue_of, load_catalogue, parse_methodology
from service.quantification.model import ACT_OF_OLDER, ACTS, UNKNOWN, ActivityData, PartOf
from service.quantification.parsing import MethodologyInvalid
from service.quantification.periods import SHANGHAI
from service.quantification.quantify import quantify
from service.quantification.refusals import MethodologyIncomplete
from tests.documents import DEMO, changed
from tests.service.quantification.factor_set_documents import PUBLISHED

STUB = parse_methodology(PUBLISHED.encode())
MOMENT = datetime(2026, 5, 1, 8, tzinfo=SHANGHAI)


def test_what_was_not_published_is_unknown_and_never_in_force() -> None:
    assert STUB.unknown == {"trigger", "participants", "credit_class", "in_force", "claim_window"}
    assert (STUB.trigger, STUB.credit_class) == (UNKNOWN, UNKNOWN)
    assert (STUB.participants, STUB.in_force, STUB.claim_window_days) == (frozenset(), None, None)
    assert STUB.in_force_shown == "unknown"
    assert not any(STUB.covers(day) for day in (date.min, date(2026, 5, 1), date.max))
    assert STUB.faults == ("methodology-incomplete",)
    again = parse_methodology(STUB.document)
    assert (again.unknown, again.act, again.part_of) == (STUB.unknown, STUB.act, STUB.part_of)


@pytest.mark.parametrize(
    ("old", "field"),
    [
        ("trigger: trip", "trigger"),
        ("credit_class: behaviour", "credit_class"),
        ("in_force: {from: 2016-01-01}", "in_force"),
        ("claim_window: none", "claim_window"),
        ("version: 1", "participants"),
    ],
)
def test_unknown_stands_only_beside_what_is_missing(old: str, field: str) -> None:
    replaced = f"{old}\nparticipants: unknown" if field == "participants" else f"{field}: unknown"
    document = changed(DEMO, (old, replaced))
    with pytest.raises(MethodologyInvalid, match=f"{field} is unknown here: say so in the field 'missing'") as caught:
        parse_methodology(document)
    assert f"{field}: unknown" in document.decode().splitlines()[caught.value.line - 1]
    missing = document + "missing: [{zh: 未见公布, en: not published}]\n".encode()
    assert parse_methodology(missing).unknown == {field}


@pytest.mark.parametrize("field", ["title", "status", "version", "scenario"])
def test_nothing_else_may_be_unknown(field: str) -> None:
    line = next(line for line in PUBLISHED.splitlines() if line.startswith(f"{field}:"))
    with pytest.raises(MethodologyInvalid):
        parse_methodology(changed(PUBLISHED, (line, f"{field}: unknown")))


def test_it_is_refused_as_not_in_force_by_a_catalogue_and_as_incomplete_by_itself() -> None:
    catalogue = catalogue_of([STUB])
    with pytest.raises(NoMethodologyInForce) as caught:
        catalogue.in_force("our-published", date(2026, 5, 1))
    assert caught.value.params["spans"] == "unknown"
    with pytest.raises(MethodologyIncomplete):
        quantify(STUB, ActivityData(MOMENT, MOMENT, {}))


def test_two_documents_of_one_scenario_meet_on_no_day_that_is_unknown() -> None:
    other = parse_methodology(changed(PUBLISHED, ("id: our-published\n", "id: another\n")))
    assert len(catalogue_of([STUB, other]).all()) == 2


def test_an_example_is_recomputed_where_nobody_knows_since_when_it_is_in_force() -> None:
    unknown = DEMO.replace("in_force: {from: 2016-01-01}", "in_force: unknown") + "missing: [{zh: 施行日, en: day}]\n"
    assert len(parse_methodology(unknown.encode()).examples) == 2
    with pytest.raises(MethodologyInvalid, match="gives 82273 mg"):
        parse_methodology(unknown.replace("expected_mg: 82273", "expected_mg: 82274").encode())


def test_what_stands_beside_an_unknown_trigger_and_period() -> None:
    claimed = PUBLISHED + "exclusive: travel\nclaims: [{of: [meter], over: time}]\n"
    stub = parse_methodology(claimed.encode())
    assert (stub.exclusive, stub.claims[0].of) == ("travel", ("meter",))
    with pytest.raises(MethodologyInvalid, match="belongs to the trigger period, not to unknown"):
        parse_methodology(f"{PUBLISHED}period: {{unit: month, at_most: 1}}\n".encode())
    by_period = changed(PUBLISHED, ("trigger: unknown", "trigger: period\nperiod: unknown"))
    assert parse_methodology(by_period).period is None
    assert "period" in parse_methodology(by_period).unknown
    complete = changed(DEMO, ("trigger: trip", "trigger: period\nperiod: unknown"))
    with pytest.raises(MethodologyInvalid, match="period is unknown here"):
        parse_methodology(complete)


def test_a_document_names_its_act_the_table_it_is_of_and_what_it_is_counted_against() -> None:
    assert STUB.act == "home-electricity"
    assert STUB.part_of == PartOf("some-table", Bilingual("某表", "some table"))
    assert STUB.baseline_scenario == Bilingual("未见公布", "not published")
    with pytest.raises(MethodologyInvalid, match="expected one of metro, bus, electric-bus"):
        parse_methodology(changed(PUBLISHED, ("act: home-electricity", "act: flying")))
    for field in ("act: home-electricity\n", "part_of: {id: some-table, zh: 某表, en: some table}\n"):
        parse_methodology(changed(PUBLISHED, (field, "")))


def test_every_shipped_document_has_an_act_and_new_ones_a_scenario_of_their_own() -> None:
    shipped = load_catalogue().all()
    assert {one.id for one in shipped} >= ACT_OF_OLDER.keys()
    for one in shipped:
        assert one.act in ACTS, one.id
        assert one.id in ACT_OF_OLDER or one.scenario.id == one.id
    assert set(ACT_OF_OLDER.values()) <= set(ACTS)


def test_credits_under_what_is_inferred_are_a_demonstration_s() -> None:
    formula = changed(DEMO, ("status: demonstration", "status: official\nformula_confidence: inferred"))
    one = parse_methodology(formula)
    assert (one.status, one.credited_as, one.inferred, one.faults) == (
        "official",
        "demonstration",
        ("inferred-formula",),
        (),
    )
    ride = ActivityData(MOMENT, MOMENT + timedelta(minutes=9), {"distance_km": Decimal(1)})
    assert quantify(one, ride).co2e.mg == 35010
