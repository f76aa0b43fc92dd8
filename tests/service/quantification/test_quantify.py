"""Quantifying a ride: exact, monotone, never better in parts, and refused by name."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from math import floor
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.units import CO2e
from service.quantification.methodology import DIRECTORY, MethodologyInvalid, load_catalogue, parse_methodology
from service.quantification.quantify import (
    SHANGHAI,
    ActivityData,
    Explanation,
    NotCredited,
    OutsideCalendar,
    Reduction,
    activity_day,
    explain,
    quantify,
)
from service.quantification.refusals import NoMethodologyInForce

DEMO = load_catalogue().in_force("shared-ebike", date(2025, 6, 1))
DEMO_TEXT = (DIRECTORY / "demo-shared-ebike.yaml").read_text(encoding="utf-8")
EIGHT = datetime(2025, 6, 1, 8, tzinfo=SHANGHAI)

distances = st.decimals(min_value="0.1", max_value=30, places=6)
any_distance = st.decimals(min_value=0, max_value=40, places=9)
durations = st.integers(min_value=0, max_value=4 * 3600 * 10**6).map(lambda us: timedelta(microseconds=us))


def ride(distance: Decimal | str, duration: timedelta, started_at: datetime = EIGHT) -> ActivityData:
    return ActivityData(started_at, started_at + duration, {"distance_km": Decimal(distance)})


def credited(activity: ActivityData) -> int:
    try:
        return quantify(DEMO, activity).co2e.mg
    except NotCredited:
        return 0


@given(distances)
def test_the_result_is_the_exact_product_rounded_down_once(distance: Decimal) -> None:
    slow = timedelta(hours=2.9)
    assert quantify(DEMO, ride(distance, slow)).co2e.mg == floor(Fraction(distance) * Fraction("35.01") * 1000)


@given(any_distance, durations)
def test_conditions_decide_as_fractions_would(distance: Decimal, duration: timedelta) -> None:
    km, seconds = Fraction(distance), Fraction(duration // timedelta(microseconds=1), 10**6)
    plausible = 60 <= seconds <= 10800 and Fraction(1, 10) <= km <= 30 and km * 3600 <= 25 * seconds
    assert (credited(ride(distance, duration)) > 0) == plausible


@given(st.integers(min_value=60 * 10**6, max_value=10800 * 10**6), st.sampled_from([-1, 0, 1]))
def test_the_mean_speed_is_judged_exactly_at_its_limit(microseconds: int, nudge: int) -> None:
    # 25 km/h for this many microseconds is microseconds / 144,000,000 km; one nudge is a millionth of a micrometre.
    nearest = Fraction(microseconds, 144_000_000)
    distance = Decimal(floor(nearest * 10**15) + nudge).scaleb(-15)
    assume(Decimal("0.1") <= distance <= 30)
    fast = Fraction(distance) > nearest
    assert (credited(ride(distance, timedelta(microseconds=microseconds))) == 0) == fast


@given(any_distance, any_distance, durations, durations)
def test_splitting_a_trip_never_earns_more(first: Decimal, second: Decimal, early: timedelta, late: timedelta) -> None:
    whole = ride(first + second, early + late)
    parts = [ride(first, early), ride(second, late, EIGHT + early)]
    # a whole trip that is too long, too far or both is refused, and its parts are then other trips
    assume(early + late <= timedelta(hours=3) and first + second <= 30)
    # a part that meets no condition earns nothing, and the whole may still be credited
    if credited(whole):
        assert sum(map(credited, parts)) <= credited(whole)


@given(distances, distances)
def test_a_longer_way_never_earns_less(one: Decimal, other: Decimal) -> None:
    slow = timedelta(hours=2.9)
    near, far = sorted((one, other))
    assert quantify(DEMO, ride(near, slow)).co2e <= quantify(DEMO, ride(far, slow)).co2e


def outcome(compute: Callable[[], Reduction | Explanation]) -> tuple[object, ...]:
    try:
        found = compute()
    except NotCredited as refusal:
        return refusal.reason, refusal.params
    return found.co2e, found.day, found.vintage, found.methodology


@given(any_distance, durations)
def test_the_explanation_comes_to_the_same_result_or_the_same_refusal(distance: Decimal, duration: timedelta) -> None:
    activity = ride(distance, duration)
    assert outcome(lambda: explain(DEMO, activity)) == outcome(lambda: quantify(DEMO, activity))


def test_a_credit_is_explained_with_every_figure_source_and_step() -> None:
    explanation = explain(DEMO, ride("2.35", timedelta(minutes=12)))
    assert explanation.co2e == CO2e(82273)
    assert explanation.grams == Decimal("82.2735")
    assert explanation.formula == "reduction_g_per_pkm * distance_km"
    assert explanation.steps == ("35.01 g/km × 2.35 km = 82.2735 g", "⌊82.2735 g⌋ = 82273 mg")
    [factor] = explanation.factors
    assert (factor.name, factor.used.value, factor.unit) == ("reduction_g_per_pkm", Decimal("35.01"), "g/km")
    assert (factor.used.source.id, factor.used.confidence) == ("hello-2022", "single")
    [distance] = explanation.inputs
    assert (distance.name, distance.value, distance.unit) == ("distance_km", Decimal("2.35"), "km")
    assert [shown.condition.id for shown in explanation.conditions] == [
        "min-duration",
        "max-duration",
        "min-distance",
        "max-distance",
        "max-mean-speed",
    ]
    speed = explanation.conditions[-1]
    assert (speed.value, speed.condition.limit, speed.condition.formula.unit) == (Decimal("11.75"), Decimal(25), "km/h")
    assert speed.steps == ("2.35 km × 3600 s/h = 8460 km·s/h", "8460 km·s/h ÷ 720 s = 11.75 km/h")


MINUTES = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("last_good", "first_bad", "reason", "value", "limit"),
    [
        (("0.3", 1 * MINUTES), ("0.3", timedelta(seconds=59, microseconds=999_999)), "min-duration", "59.999999", "60"),
        (("9", 180 * MINUTES), ("9", timedelta(hours=3, microseconds=1)), "max-duration", "10800.000001", "10800"),
        (("0.1", 5 * MINUTES), ("0.099999", 5 * MINUTES), "min-distance", "0.099999", "0.1"),
        (("30", 90 * MINUTES), ("30.000001", 90 * MINUTES), "max-distance", "30.000001", "30"),
        (("25", 60 * MINUTES), ("25.000001", 60 * MINUTES), "max-mean-speed", "25.000001", "25"),
    ],
)
def test_each_condition_has_a_last_good_and_a_first_bad_value(
    last_good: tuple[str, timedelta], first_bad: tuple[str, timedelta], reason: str, value: str, limit: str
) -> None:
    assert quantify(DEMO, ride(*last_good)).co2e > CO2e(0)
    with pytest.raises(NotCredited) as caught:
        quantify(DEMO, ride(*first_bad))
    assert caught.value.reason == f"condition-not-met/{reason}"
    assert (caught.value.params["value"], caught.value.params["limit"]) == (value, limit)


def test_a_condition_that_is_not_met_says_everything_in_both_languages() -> None:
    with pytest.raises(NotCredited) as caught:
        quantify(DEMO, ride("8", timedelta(minutes=7)))
    assert caught.value.params == {
        "condition": "max-mean-speed",
        "title_zh": "最高平均速度",
        "title_en": "Highest mean speed",
        "value": "68.571428571428…",
        "unit": "km/h",
        "comparison": "at_most",
        "limit": "25",
    }
    assert str(caught.value) == "Highest mean speed: 68.571428571428… km/h, must be at most 25 km/h"


def refusal_of(
    inputs: Mapping[str, Decimal], ended_at: datetime = EIGHT + timedelta(minutes=12)
) -> tuple[str, dict[str, str]]:
    with pytest.raises(NotCredited) as caught:
        quantify(DEMO, ActivityData(EIGHT, ended_at, inputs))
    assert str(caught.value)
    return caught.value.reason, caught.value.params


def test_inputs_are_refused_by_name() -> None:
    two = Decimal(2)
    assert refusal_of({}) == ("missing-input/distance_km", {"name": "distance_km", "unit": "km"})
    assert refusal_of({"distance_km": two, "x" * 1000: two}) == (
        "unknown-input",
        {"name": "x" * 64, "known": "distance_km"},
    )
    assert refusal_of({"distance_km": two, "a\x00\ud800碳": two})[1]["name"] == "a\ufffd\ufffd碳"
    assert refusal_of({"distance_km": Decimal("-0.1")}) == (
        "input-out-of-range/distance_km",
        {"name": "distance_km", "value": "-0.1", "unit": "km", "limits": "≥ 0 km, ≤ 100000 km"},
    )
    assert refusal_of({"distance_km": Decimal("100000.1")})[0] == "input-out-of-range/distance_km"
    assert refusal_of({"distance_km": Decimal(100000)})[0] == "condition-not-met/max-distance"
    assert refusal_of({"distance_km": Decimal(0)})[0] == "condition-not-met/min-distance"


@pytest.mark.parametrize(
    "value", ["NaN", "sNaN", "Infinity", "-Infinity", "-0", "1E+999999", "1E-999999", "9" * 10_000, "0." + "3" * 10_000]
)
def test_numbers_made_to_harm_are_refused_before_any_arithmetic(value: str) -> None:
    reason, params = refusal_of({"distance_km": Decimal(value)})
    assert reason == "improper-number/distance_km"
    assert len(params["value"]) <= 64


def test_times_are_refused_by_name() -> None:
    two = {"distance_km": Decimal(2)}
    assert refusal_of(two, EIGHT - timedelta(microseconds=1))[0] == "ends-before-start"
    assert refusal_of(two, EIGHT)[0] == "condition-not-met/min-duration"
    for outside in (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))):
        with pytest.raises(OutsideCalendar):
            quantify(DEMO, ActivityData(outside, outside, two))


def test_what_only_a_mistake_of_the_program_can_bring_raises() -> None:
    with pytest.raises(TypeError, match="distance_km must be an exact Decimal, not float"):
        quantify(DEMO, ActivityData(EIGHT, EIGHT, {"distance_km": 2.0}))  # type: ignore[dict-item]
    naive = EIGHT.replace(tzinfo=None)
    for started, ended in ((naive, EIGHT), (EIGHT, naive)):
        with pytest.raises(ValueError, match="offset"):
            quantify(DEMO, ActivityData(started, ended, {"distance_km": Decimal(2)}))


@pytest.mark.parametrize(
    ("started_at", "day"),
    [
        ("2025-12-31T15:59:59.999999+00:00", date(2025, 12, 31)),
        ("2025-12-31T16:00:00+00:00", date(2026, 1, 1)),
        ("2025-12-31T23:59:59-05:00", date(2026, 1, 1)),
        ("2026-01-01T00:00:00+08:00", date(2026, 1, 1)),
    ],
)
def test_the_day_is_shanghais_and_gives_the_vintage(started_at: str, day: date) -> None:
    activity = ride("2", timedelta(minutes=12), datetime.fromisoformat(started_at))
    assert activity_day(activity.started_at) == day
    reduction = quantify(DEMO, activity)
    assert (reduction.day, reduction.vintage) == (day, day.year)


@given(st.datetimes(min_value=datetime(1992, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_the_fixed_offset_is_shanghais(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    assert activity_day(moment) == moment.astimezone(ZoneInfo("Asia/Shanghai")).date()


def test_a_ride_through_the_change_of_summer_time_has_its_real_length() -> None:
    new_york = ZoneInfo("America/New_York")
    started = datetime(2019, 11, 3, 1, 50, tzinfo=new_york)  # twenty minutes; the clock goes back at two
    ended = datetime(2019, 11, 3, 1, 10, tzinfo=new_york, fold=1)
    speed = explain(DEMO, ActivityData(started, ended, {"distance_km": Decimal(5)})).conditions[-1]
    assert speed.value == 15


def test_a_methodology_is_not_applied_outside_its_days() -> None:
    before = datetime(2015, 12, 31, 12, tzinfo=SHANGHAI)
    with pytest.raises(NoMethodologyInForce):
        quantify(DEMO, ride("2", timedelta(minutes=12), before))


def variant(*changes: tuple[str, str]) -> str:
    text = DEMO_TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_what_applies_a_methodology_loads_no_unit_library_and_nothing_of_the_service() -> None:
    program = "import sys, service.quantification.methodology, service.quantification.points; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.partition(".")[0] in ("service", "ledger", "api")}
    others = {name for name in ours if not name.startswith("service.quantification")}
    assert others == {"service", "ledger", "ledger.units"}
    assert not {"pint", "sqlalchemy", "asyncpg", "fastapi", "redis"} & set(loaded)


def test_a_factor_without_a_value_on_the_day_is_named() -> None:
    dated = parse_methodology(variant(("      - from: 2016-01-01\n", "      - from: 2025-06-01\n")).encode())
    with pytest.raises(NotCredited) as caught:
        quantify(dated, ride("2", timedelta(minutes=12), EIGHT - timedelta(days=1)))
    assert caught.value.reason == "missing-factor/reduction_g_per_pkm"
    assert caught.value.params == {"name": "reduction_g_per_pkm", "day": "2025-05-31"}


@pytest.mark.parametrize(("distance", "value"), [("0.5", "-17.505"), ("1", "0"), ("1.00001", "0.0003501")])
def test_what_saves_nothing_is_refused_and_never_taken_away(distance: str, value: str) -> None:
    one = "{from: 2016-01-01, value: 1, source: hello-2022, confidence: single}"
    factor = f"{{unit: km, meaning: {{zh: 起算, en: first}}, values: [{one}]}}"
    changes = [
        ("factors:\n", f"factors:\n  first_km: {factor}\n"),
        (
            "\nreduction: reduction_g_per_pkm * distance_km",
            "\nreduction: reduction_g_per_pkm * (distance_km - first_km)",
        ),
        ("expected_mg: 82273", "expected_mg: 47263"),
        ('inputs: {distance_km: "0.1"}\n    expected_mg: 3501', 'inputs: {distance_km: "0.4"}\n    expected_mg: 1'),
    ]
    with pytest.raises(MethodologyInvalid, match=r"this example is refused: the computed reduction is -21\.006 g"):
        parse_methodology(variant(*changes).encode())
    examples = DEMO_TEXT[DEMO_TEXT.index("  - title: {zh: 恰为") :]
    penalised = parse_methodology(variant(*changes[:3], (examples, "")).encode())
    with pytest.raises(NotCredited) as caught:
        quantify(penalised, ride(distance, timedelta(minutes=12)))
    assert (caught.value.reason, caught.value.params) == ("no-reduction", {"value": value, "unit": "g"})
    assert quantify(penalised, ride("1.0001", timedelta(minutes=12))).co2e == CO2e(3)


def test_a_divisor_that_is_zero_is_named() -> None:
    first = "  - id: min-duration\n"
    condition = (
        "  - {id: haste, title: {zh: 速度, en: haste}, value: distance_km * s_per_h / duration_s, unit: km/h, "
        "below: 99, because: {zh: 无, en: none}}\n"
    )
    hasty = parse_methodology(variant((first, condition + first)).encode())
    with pytest.raises(NotCredited) as caught:
        quantify(hasty, ride("2", timedelta(0)))
    assert caught.value.reason == "not-computable/haste"
    with pytest.raises(NotCredited) as caught:
        explain(hasty, ride("2", timedelta(0)))
    assert caught.value.reason == "not-computable/haste"
