"""The same act under every document about it: which documents, by what figures, and why one gives nothing."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.quantification.comparing import TIMES, Outcome, Told, acts_of, compare, same_act
from service.quantification.methodology import DIRECTORY, parse_methodology
from service.quantification.model import ActivityData, Methodology
from service.quantification.periods import SHANGHAI
from service.quantification.quantify import explain, quantify
from service.quantification.readings import parse_readings
from service.quantification.refusals import ConditionNotMet, MethodologyIncomplete, NotWholePeriod
from tests.documents import DEMO, changed
from tests.service.quantification.documents import DOCUMENTS
from tests.service.quantification.factor_set_documents import PUBLISHED

NOW = datetime(2026, 5, 20, 4, 30, tzinfo=UTC)
RIDE = (NOW - timedelta(minutes=12), NOW)
SHIPPED = parse_methodology(DEMO.encode())


EXAMPLE = """examples:
  - title: {zh: 一公里, en: a kilometre}
    started_at: 2025-06-01T08:00:00+08:00
    ended_at: 2025-06-01T08:12:00+08:00
    inputs: {distance_km: "1"}
    expected_mg: """
FORMULA = "reduction: reduction_g_per_pkm * distance_km"


def ebike(name: str, *replaced: tuple[str, str], version: int = 1, factor: str = "35.01") -> Methodology:
    """Another document about riding a shared e-bike."""
    document = changed(
        DEMO[: DEMO.index("examples:")] + f"{EXAMPLE}{int(Decimal(factor) * 1000)}\n",
        ("id: demo-shared-ebike", f"id: {name}\nact: shared-ebike"),
        ("version: 1", f"version: {version}"),
        ("  id: shared-ebike", f"  id: {name}"),
        ('value: "35.01"', f'value: "{factor}"'),
    )
    return parse_methodology(changed(document.decode(), *replaced))


def outcomes(*methodologies: Methodology, **told: str) -> dict[str, Outcome]:
    found = compare(methodologies, "shared-ebike", Told(*RIDE, {name: Decimal(told[name]) for name in told}), NOW)
    return {one.methodology.id: one for one in found}


def test_every_document_of_the_act_gives_what_it_would_credit_the_largest_first() -> None:
    small, large = ebike("small", factor="10"), ebike("large", factor="43")
    found = outcomes(small, SHIPPED, large, DOCUMENTS["test-metro-boarding"], distance_km="2.35")
    assert {name: one.mg for name, one in found.items()} == {
        "large": 101050,
        "demo-shared-ebike": 82273,
        "small": 23500,
    }
    assert list(found) == ["large", "demo-shared-ebike", "small"]
    ride = ActivityData(*RIDE, {"distance_km": Decimal("2.35")})
    for one in found.values():
        assert one.mg == quantify(one.methodology, ride).co2e.mg
        assert one.explanation == explain(one.methodology, ride)
        assert (one.in_force, one.lacking, one.not_used, one.not_checked) == (True, (), (), ())


@given(st.decimals(min_value="0.1", max_value="30", places=3))
def test_it_is_the_same_computation_as_a_report_s(km: Decimal) -> None:
    ride = ActivityData(NOW - timedelta(hours=2), NOW, {"distance_km": km})
    (found,) = compare([SHIPPED], "shared-ebike", Told(ride.started_at, ride.ended_at, ride.inputs), NOW)
    assert found.mg == quantify(SHIPPED, ride).co2e.mg


def test_of_each_document_it_is_the_newest_version_in_force_on_the_day_else_the_newest() -> None:
    first = ebike("ours", ("in_force: {from: 2016-01-01}", "in_force: {from: 2016-01-01, to: 2025-12-31}"))
    second = ebike("ours", ("in_force: {from: 2016-01-01}", "in_force: {from: 2025-06-01}"), version=2, factor="40")
    ended = ebike("ended", ("in_force: {from: 2016-01-01}", "in_force: {from: 2016-01-01, to: 2025-12-31}"))
    for day, version in ((date(2025, 5, 31), 1), (date(2025, 6, 1), 2), (date(2015, 1, 1), 2)):
        (one,) = same_act([second, first], "shared-ebike", day)
        assert one.version == version, day
    found = outcomes(first, second, ended, distance_km="1")
    assert (found["ours"].methodology.version, found["ours"].mg, found["ours"].in_force) == (2, 40000, True)
    assert (found["ended"].mg, found["ended"].in_force) == (35010, False)


FIGURES = """
      - {from: 2019-01-01, to: 2019-12-31, value: "20", source: hello-2022, confidence: single}
      - {from: 2025-06-01, to: 2025-12-31, value: "35.01", source: hello-2022, confidence: single}"""


def test_a_document_that_is_not_in_force_is_computed_by_its_nearest_figures_and_shows_them_as_written() -> None:
    shipped = DEMO[DEMO.index("    values:\n") + len("    values:") : DEMO.index("\nconditions:")].rstrip()
    days = ("in_force: {from: 2016-01-01}", "in_force: {from: 2019-01-01, to: 2025-12-31}")
    ended = ebike("ended", days, (shipped, FIGURES))
    found = outcomes(ended, distance_km="1")["ended"]
    assert (found.mg, found.in_force, found.methodology) == (35010, False, ended)
    assert found.explanation is not None
    assert str(found.explanation.factors[0].used.span) == "2025-06-01 – 2025-12-31"
    early = (datetime(2018, 5, 1, 8, tzinfo=SHANGHAI), datetime(2018, 5, 1, 8, 12, tzinfo=SHANGHAI))
    (before,) = compare([ended], "shared-ebike", Told(*early, {"distance_km": Decimal(1)}), NOW)
    assert before.mg == 20000


def test_what_a_document_does_not_take_is_passed_over_and_what_it_lacks_is_named() -> None:
    heavy = ebike(
        "heavy",
        ("inputs:\n  d", "inputs:\n  load_kg: {unit: kg, from: 0, to: 9, meaning: {zh: 载重, en: load}}\n  d"),
        (FORMULA, f"{FORMULA} * load_kg / load_kg"),
        ('inputs: {distance_km: "1"}', 'inputs: {distance_km: "1", load_kg: "2"}'),
    )
    found = outcomes(SHIPPED, heavy, distance_km="1", seats="2")
    assert found["demo-shared-ebike"].not_used == ("seats",)
    assert (found["heavy"].mg, found["heavy"].lacking, found["heavy"].refusal) == (None, ("load_kg",), None)
    found = outcomes(SHIPPED, heavy, distance_km="1", load_kg="2")
    assert {one.mg for one in found.values()} == {35010}
    assert found["demo-shared-ebike"].not_used == ("load_kg",)


def test_a_document_that_gives_nothing_comes_last_with_what_stands_against_it() -> None:
    unknown = ebike("unknown", ("act: shared-ebike", "act: shared-ebike\nmissing: [{zh: 上限, en: the cap}]"))
    short = ebike("short", ("at_most: 30\n", "at_most: 1\n"))
    found = outcomes(unknown, short, SHIPPED, distance_km="2")
    assert list(found) == ["demo-shared-ebike", "short", "unknown"]
    assert isinstance(found["unknown"].refusal, MethodologyIncomplete)
    assert isinstance(found["short"].refusal, ConditionNotMet)
    assert found["short"].refusal.reason == "condition-not-met/max-distance"


def test_without_times_conditions_on_the_duration_are_named_and_a_formula_of_it_needs_them() -> None:
    timed = ebike("timed", (FORMULA, f"{FORMULA} * duration_s / duration_s"))
    told = Told(figures={"distance_km": Decimal(1)})
    found = {one.methodology.id: one for one in compare([SHIPPED, timed], "shared-ebike", told, NOW)}
    assert found["demo-shared-ebike"].not_checked == ("min-duration", "max-duration", "max-mean-speed")
    assert found["demo-shared-ebike"].mg == 35010
    assert found["timed"].lacking == TIMES


OFFICE = parse_methodology((DIRECTORY / "office-electricity.yaml").read_bytes())
APRIL = (datetime(2026, 4, 1, tzinfo=SHANGHAI), datetime(2026, 5, 1, tzinfo=SHANGHAI))


def test_a_total_stands_for_the_readings_of_a_whole_period_and_of_its_baseline() -> None:
    told = {"use_kwh": Decimal(900), "baseline_kwh": Decimal("1000.5")}
    for whole in (Told(*APRIL, told), Told(figures=told)):
        (found,) = compare([OFFICE], "office-electricity", whole, NOW)
        assert (found.mg, found.day, found.not_checked) == (42210000, date(2026, 4, 1), ())
    span = ["2026-04-01T00:00:00+08:00", "2026-05-01T00:00:00+08:00", 900]
    readings = {"use_kwh": parse_readings({"kind": "interval", "spans": [span]})}
    metered_told = Told(*APRIL, {"baseline_kwh": Decimal("1000.5")}, readings)
    (metered,) = compare([OFFICE], "office-electricity", metered_told, NOW)
    assert metered.explanation == found.explanation
    (part,) = compare([OFFICE], "office-electricity", Told(APRIL[0], NOW, told), NOW)
    assert isinstance(part.refusal, NotWholePeriod)
    (lacking,) = compare([OFFICE], "office-electricity", Told(*APRIL, {"use_kwh": Decimal(9)}), NOW)
    assert lacking.lacking == ("baseline_kwh",)
    (negative,) = compare([OFFICE], "office-electricity", Told(*APRIL, {**told, "use_kwh": Decimal(-9)}), NOW)
    assert negative.refusal is not None
    assert negative.refusal.reason == "readings-invalid/use_kwh"


WEEK = parse_methodology((DIRECTORY / "demo-home-electricity-week.yaml").read_bytes())


def test_a_mean_of_several_periods_is_told_as_that_mean() -> None:
    told = Told(figures={"use_kwh": Decimal("6.5"), "baseline_kwh": Decimal(8)})
    (found,) = compare([WEEK], "home-electricity", told, NOW)
    assert found.explanation is not None, found
    assert found.explanation.measurement is not None
    baseline = found.explanation.measurement.baseline["baseline_kwh"]
    assert (baseline.value, baseline.total.value, baseline.rule.periods) == (Decimal(8), Decimal(56), 7)
    assert found.day == date(2026, 5, 19)


def test_a_document_that_counts_days_takes_the_day_on_which_it_began() -> None:
    walking = DOCUMENTS["test-walking-day"]
    acted = parse_methodology(walking.document.replace(b'{"', b'{"act":"walking","', 1))
    (found,) = compare([acted], "walking", Told(*RIDE, {"steps": Decimal(3000)}), NOW)
    assert (found.mg, found.day) == (60_000, date(2026, 5, 20))
    (found,) = compare([acted], "walking", Told(figures={"steps": Decimal(3000)}), NOW)
    assert (found.mg, found.day) == (60_000, date(2026, 5, 19))


def test_acts_are_those_there_are_documents_about() -> None:
    assert acts_of([OFFICE, SHIPPED, DOCUMENTS["test-metro-boarding"]]) == ("office-electricity", "shared-ebike")
    assert compare([OFFICE], "metro", Told(), NOW) == ()


@pytest.mark.parametrize("moment", [NOW, datetime(2020, 2, 29, tzinfo=UTC)])
def test_a_stub_gives_nothing_on_any_day(moment: datetime) -> None:
    (found,) = compare([parse_methodology(PUBLISHED.encode())], "home-electricity", Told(), moment)
    assert (found.mg, found.in_force) == (None, False)
    assert isinstance(found.refusal, MethodologyIncomplete)
