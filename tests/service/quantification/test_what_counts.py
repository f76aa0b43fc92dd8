"""The document's language for what counts, for whom and how often: what it means, and what is refused on which line."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.journal import PARTICIPANT_KINDS as KINDS_OF_THE_LEDGER
from ledger.units import CO2e
from service.quantification.document import MAX_BYTES, Bilingual
from service.quantification.methodology import load_catalogue
from service.quantification.model import PARTICIPANT_KINDS, REFERENCES, ActivityData, ClaimRule
from service.quantification.parsing import MethodologyInvalid, parse_methodology
from service.quantification.quantify import SHANGHAI, explain, quantify
from service.quantification.readings import Readings, parse_readings
from service.quantification.refusals import MethodologyIncomplete, NotCredited, Refusal
from service.quantification.settlement import explain_settlement, settle
from tests.service.quantification.documents import DOCUMENTS, rule, text

METRO, WALKING, SHIFTING, PV, HOME, BIKE, SHOWN = (
    rule(f"test-{name}")
    for name in (
        "metro-boarding",
        "walking-day",
        "load-shifting",
        "rooftop-pv",
        "home-electricity",
        "shared-bike",
        "shown-only",
    )
)
DEMO = load_catalogue().in_force("shared-ebike", date(2025, 6, 1))
JANUARY, FEBRUARY = datetime(2025, 1, 1, tzinfo=SHANGHAI), datetime(2025, 2, 1, tzinfo=SHANGHAI)


def series(begins: datetime, ends: datetime, value: str | Decimal) -> Readings:
    span = [begins.isoformat(), ends.isoformat(), value if isinstance(value, str) else format(value, "f")]
    return parse_readings({"kind": "interval", "spans": [span]})


def at_home(use: str | Decimal, before: str | Decimal) -> ActivityData:
    year_earlier = series(JANUARY.replace(year=2024), FEBRUARY.replace(year=2024), before)
    return ActivityData(
        JANUARY, FEBRUARY, {}, {"use_kwh": series(JANUARY, FEBRUARY, use)}, {"baseline_kwh": year_earlier}
    )


def test_the_lists_are_those_of_the_rooms_that_use_them() -> None:
    assert PARTICIPANT_KINDS == KINDS_OF_THE_LEDGER
    assert len(set(REFERENCES)) == len(REFERENCES)


def test_a_document_that_says_nothing_of_it_is_as_it_was() -> None:
    assert (DEMO.formula_confidence, DEMO.missing, DEMO.faults) == ("single", (), ())
    assert DEMO.participants == set(PARTICIPANT_KINDS)
    assert DEMO.grades == {"A": "credit", "B": "credit", "C": "grams"}
    assert (DEMO.period, DEMO.exclusive, DEMO.claims, DEMO.caps, DEMO.settlement) == (None, None, (), (), None)
    assert (DEMO.readings, DEMO.baseline, DEMO.claim_window_days) == ({}, {}, None)
    assert DEMO.registers == {"coverage"}


def test_what_a_document_says_is_in_the_model() -> None:
    assert METRO.claims == (
        ClaimRule(("operator", "order"), over_time=False, use=None, optional=False),
        ClaimRule(("payment",), over_time=False, use=None, optional=True),
    )
    assert PV.claims[1] == ClaimRule(("address",), over_time=True, use="pv", optional=True)
    assert (METRO.trigger, METRO.exclusive, METRO.claim_window_days) == ("boarding", "travel", 7)
    assert METRO.registers == frozenset()
    assert [(cap.id, cap.per, cap.of, cap.at_most, cap.beyond, cap.restored) for cap in METRO.caps + WALKING.caps] == [
        ("rides-per-day", "day", "actions", 10, "refuse", True),
        ("points-per-month", "month", "points", 2000, "clip", False),
        ("grams-per-day", "day", "grams", 300_500, "clip", True),
        ("grams-per-year", "year", "grams", 50_000_000, "refuse", True),
    ]
    assert (PV.credit_class, PV.registers) == ("project", frozenset({"coverage", "elsewhere"}))
    assert (BIKE.grades["B"], BIKE.participants) == ("match", frozenset({"citizen", "firm"}))
    assert SHIFTING.readings["use_kwh"].windows["valley_kwh"].seconds == 8 * 3600
    assert HOME.settlement is not None
    assert (list(HOME.settlement.facts), HOME.settlement.due_days) == (["has_pv", "tier"], 400)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_canonical_form_of_every_document_reads_back_to_itself(name: str) -> None:
    one = rule(name)
    again = parse_methodology(one.document)
    assert (again, again.document, again.digest) == (one, one.document, one.digest)
    assert (again.claims, again.caps, again.readings, again.baseline) == (
        one.claims,
        one.caps,
        one.readings,
        one.baseline,
    )
    assert [example.activity for example in again.examples] == [example.activity for example in one.examples]


def test_a_document_that_says_what_is_missing_is_shown_and_never_computed_with() -> None:
    assert SHOWN.missing[0] == Bilingual("基准用电量如何确定", "how the baseline is determined")
    assert (SHOWN.reduction, SHOWN.examples, SHOWN.conditions) == (None, (), ())
    assert SHOWN.faults == ("methodology-incomplete", "missing-figure", "low-quality-figure")
    assert SHOWN.inferred == ("inferred-formula", "inferred-figure")
    year = datetime(2024, 1, 1, tzinfo=SHANGHAI)
    with pytest.raises(MethodologyIncomplete) as caught:
        quantify(SHOWN, ActivityData(year, year.replace(year=2025), {"annual_kwh": Decimal(1)}))
    assert (caught.value.reason, caught.value.params) == ("methodology-incomplete", {"methodology": "test-shown-only"})


def test_a_formula_beside_what_is_missing_is_checked_and_still_not_computed_with() -> None:
    incomplete = METRO_TEXT.replace("exclusive: travel", "missing: [{zh: 线路, en: lines}]", 1)
    moment = datetime(2025, 6, 1, 8, tzinfo=SHANGHAI)
    with pytest.raises(MethodologyIncomplete):
        quantify(parse_methodology(incomplete.encode()), ActivityData(moment, moment, {}))
    with pytest.raises(MethodologyIncomplete):
        explain(parse_methodology(incomplete.encode()), ActivityData(moment, moment, {}))
    with pytest.raises(MethodologyInvalid, match="gives 150500 mg"):
        parse_methodology(incomplete.replace("expected_mg: 150500", "expected_mg: 150501").encode())


def test_what_is_not_optional_is_required() -> None:
    strict = parse_methodology(METRO_TEXT.replace('optional: "true"', 'optional: "false"').encode())
    assert [claim.optional for claim in METRO.claims + strict.claims] == [False, True, False, False]


def test_what_rests_on_something_inferred_is_credited_as_a_demonstration_whatever_its_status() -> None:
    published = text("test-shared-bike")
    figure = published.replace("confidence: single", "confidence: inferred")
    formula = published.replace("exclusive:", "formula_confidence: inferred\nexclusive:")
    both = figure.replace("exclusive:", "formula_confidence: inferred\nexclusive:")
    for status in ("official", "group_standard", "platform_table", "demonstration"):
        for text_of, inferred in (
            (published, ()),
            (figure, ("inferred-figure",)),
            (formula, ("inferred-formula",)),
            (both, ("inferred-formula", "inferred-figure")),
        ):
            one = parse_methodology(text_of.replace("status: demonstration", f"status: {status}").encode())
            assert (one.faults, one.inferred, one.status) == ((), inferred, status)
            assert one.credited_as == ("demonstration" if inferred else status)


def test_a_figure_that_was_not_found_is_a_fault_and_refuses_on_its_days() -> None:
    known = '{from: 2016-01-01, value: "50", source: invented, confidence: single}'
    unknown = known.replace("2016-01-01", "2016-01-01, to: 2025-12-31") + "\n      - {from: 2026-01-01, value: unknown}"
    found = parse_methodology(text("test-shared-bike").replace(known, unknown).encode())
    assert found.faults == ("missing-figure",)
    assert found.factors["reduction_g_per_pkm"].on(date(2026, 1, 1)) is None
    for year, good in ((2025, True), (2026, False)):
        moment = datetime(year, 6, 1, 8, tzinfo=SHANGHAI)
        ride = ActivityData(moment, moment + timedelta(minutes=9), {"distance_km": Decimal(2)})
        if good:
            assert quantify(found, ride).co2e == CO2e(100_000)
            continue
        with pytest.raises(NotCredited) as caught:
            quantify(found, ride)
        assert caught.value.reason == "missing-factor/reduction_g_per_pkm"


def test_settlement_decides_by_its_conditions_and_says_how() -> None:
    assert HOME.settlement is not None
    tier_two = {"tier": Decimal(2), "has_pv": Decimal(0)}
    settle(HOME.settlement, tier_two)
    shown = explain_settlement(HOME.settlement, tier_two)
    assert [(one.condition.id, one.value, one.steps) for one in shown] == [
        ("below-tier-three", Decimal(2), ()),
        ("no-pv", Decimal(0), ()),
    ]
    for facts, reason in (
        ({"tier": "3", "has_pv": "0"}, "condition-not-met/below-tier-three"),
        ({"tier": "2.999", "has_pv": "0.001"}, "condition-not-met/no-pv"),
        ({"tier": "4", "has_pv": "0"}, "input-out-of-range/tier"),
        ({"tier": "2"}, "missing-input/has_pv"),
        ({"tier": "2", "has_pv": "0", "tariff": "1"}, "unknown-input"),
        ({"tier": "NaN", "has_pv": "0"}, "improper-number/tier"),
    ):
        with pytest.raises(Refusal) as caught:
            settle(HOME.settlement, {name: Decimal(value) for name, value in facts.items()})
        assert caught.value.reason == reason


def test_a_boarding_earns_at_the_moment_it_happens_and_a_day_for_the_whole_of_it() -> None:
    moment = datetime(2025, 6, 1, 8, tzinfo=SHANGHAI)
    assert quantify(METRO, ActivityData(moment, moment, {})).co2e == CO2e(150_500)
    midnight = moment.replace(hour=0)
    steps = {"steps": Decimal(3000)}
    assert quantify(WALKING, ActivityData(midnight, midnight + timedelta(days=1), steps)).co2e == CO2e(60_000)
    with pytest.raises(NotCredited) as caught:
        quantify(WALKING, ActivityData(moment, moment + timedelta(days=1), steps))
    assert caught.value.reason == "not-one-day"


def refusal_of(activity: ActivityData) -> tuple[str, dict[str, str]]:
    with pytest.raises(NotCredited) as caught:
        quantify(HOME, activity)
    with pytest.raises(NotCredited) as explained:
        explain(HOME, activity)
    assert explained.value.reason == caught.value.reason
    assert str(caught.value)
    return caught.value.reason, caught.value.params


def test_readings_are_refused_by_name() -> None:
    good = at_home("150", "200")
    use, before = good.readings["use_kwh"], good.baseline["baseline_kwh"]
    assert refusal_of(replace(good, readings={})) == ("missing-reading/use_kwh", {"name": "use_kwh"})
    assert refusal_of(replace(good, baseline={})) == (
        "missing-baseline/baseline_kwh",
        {"name": "baseline_kwh", "first": "2024-01-01", "last": "2024-01-31"},
    )
    assert refusal_of(replace(good, readings={"use_kwh": use, "x" * 99: use})) == (
        "unknown-reading",
        {"name": "x" * 64, "known": "use_kwh, baseline_kwh"},
    )
    assert refusal_of(replace(good, baseline={"baseline_kwh": before, "use_kwh": use}))[0] == "unknown-reading"
    assert refusal_of(replace(good, baseline={"baseline_kwh": use})) == (
        "readings-invalid/baseline_kwh",
        {
            "name": "baseline_kwh",
            "why_zh": "有读数在时段之外或跨越其边界",
            "why_en": "a span lies outside the period, or crosses its edge",
        },
    )
    half = series(JANUARY, JANUARY + timedelta(days=15), "70")
    assert refusal_of(replace(good, readings={"use_kwh": half}))[0] == "readings-incomplete/use_kwh"
    assert refusal_of(replace(good, ended_at=FEBRUARY - timedelta(days=1)))[0] == "not-whole-period"
    assert refusal_of(replace(good, started_at=FEBRUARY, ended_at=JANUARY))[0] == "ends-before-start"
    assert refusal_of(replace(good, started_at=datetime(2024, 1, 1, tzinfo=SHANGHAI)))[0] == "period-too-long"
    assert refusal_of(at_home("200", "200"))[0] == "no-reduction"
    assert refusal_of(at_home("150", "0"))[0] == "not-computable/plausible"


def test_a_trip_takes_no_readings() -> None:
    moment = datetime(2025, 6, 1, 8, tzinfo=SHANGHAI)
    ride = ActivityData(moment, moment + timedelta(minutes=12), {"distance_km": Decimal(2)})
    for extra in (
        {"readings": {"use_kwh": series(JANUARY, FEBRUARY, "1")}},
        {"baseline": {"a": series(JANUARY, FEBRUARY, "1")}},
    ):
        with pytest.raises(NotCredited) as caught:
            quantify(DEMO, replace(ride, **extra))  # type: ignore[arg-type]
        assert (caught.value.reason, caught.value.params["known"]) == ("unknown-reading", "")


def test_an_explanation_shows_sums_coverage_and_what_was_filled() -> None:
    rows = [(0, 14, "4500"), (15, 30, "4200")]
    june, before = datetime(2025, 6, 1, tzinfo=SHANGHAI), datetime(2024, 6, 1, tzinfo=SHANGHAI)
    spans = [
        [(june + timedelta(days=a)).isoformat(), (june + timedelta(days=b)).isoformat(), kwh] for a, b, kwh in rows
    ]
    activity = ActivityData(
        june,
        june.replace(month=7),
        {},
        {"use_kwh": parse_readings({"kind": "interval", "spans": spans})},
        {"baseline_kwh": series(before, before.replace(month=7), "9600")},
    )
    explanation = explain(HOME, activity)
    assert explanation.co2e == quantify(HOME, activity).co2e == CO2e(252_000_000)
    assert explanation.steps == (
        "Σ use_kwh [2025-06-01 … 2025-06-30] = 8700 kWh",
        "2505600 s ÷ 2592000 s = 0.966666666666… (covered_share, use_kwh, ⌈86400 s⌉, pro_rata)",
        "8700 kWh × 2592000 s ÷ 2505600 s = 9000 kWh (use_kwh)",
        "Σ baseline_kwh [2024-06-01 … 2024-06-30] = 9600 kWh",
        "9600 kWh − 9000 kWh = 600 kWh",
        "600 kWh × 420 g/kWh = 252000 g",
        "⌊252000 g⌋ = 252000000 mg",
    )
    measured = explanation.measurement
    assert measured is not None
    assert (measured.first, measured.last) == (date(2025, 6, 1), date(2025, 6, 30))
    assert measured.readings["use_kwh"].longest_gap_s == 86400
    assert measured.baseline["baseline_kwh"].total.first == date(2024, 6, 1)


kilowatt_hours = st.decimals(min_value=0, max_value=10**5, places=3)


def earned(methodology: object, activity: ActivityData) -> int:
    try:
        return quantify(methodology, activity).co2e.mg  # type: ignore[arg-type]
    except NotCredited:
        return 0


@given(kilowatt_hours, kilowatt_hours, st.integers(min_value=1, max_value=28))
def test_the_explanation_of_a_period_comes_to_the_same(use: Decimal, before: Decimal, day: int) -> None:
    activity = at_home(use, before)
    cut = JANUARY + timedelta(days=day)
    rows = [[JANUARY.isoformat(), cut.isoformat(), "0"], [cut.isoformat(), FEBRUARY.isoformat(), format(use, "f")]]
    split = replace(activity, readings={"use_kwh": parse_readings({"kind": "interval", "spans": rows})})
    assert earned(HOME, activity) == earned(HOME, split)
    if earned(HOME, activity):
        assert explain(HOME, activity).co2e.mg == earned(HOME, activity)


MEAN = """
baseline:
  usual_kwh: {of: use_kwh, from: preceding, periods: 3, meaning: {zh: 前三个月平均, en: mean of three months}}
settlement:"""


@given(st.lists(kilowatt_hours, min_size=3, max_size=3), kilowatt_hours)
def test_a_mean_of_preceding_months_is_exact_until_it_is_rounded_once(before: list[Decimal], use: Decimal) -> None:
    found = explain_mean(before, use)
    if found is not None:
        exact, value = found
        assert abs(value - exact) <= exact / 10**49


def explain_mean(before: list[Decimal], use: Decimal) -> tuple[Fraction, Fraction] | None:
    months = [datetime(2024, month, 1, tzinfo=SHANGHAI) for month in (10, 11, 12)] + [JANUARY]
    rows = [
        [one.isoformat(), other.isoformat(), format(value, "f")]
        for one, other, value in zip(months, months[1:], before, strict=False)
    ]
    activity = ActivityData(
        JANUARY,
        FEBRUARY,
        {},
        {"use_kwh": series(JANUARY, FEBRUARY, use)},
        {"usual_kwh": parse_readings({"kind": "interval", "spans": rows})},
    )
    try:
        measured = explain(USUAL, activity).measurement
    except NotCredited:
        return None
    assert measured is not None
    assert measured.baseline["usual_kwh"].total.first == date(2024, 10, 1)
    return sum(map(Fraction, before), Fraction(0)) / 3, Fraction(measured.baseline["usual_kwh"].value)


def usual() -> str:
    head, rest = text("test-home-electricity").split("\nbaseline:\n")
    rest = rest.split("\nsettlement:")[1]
    rest = rest[: rest.index("examples:")].replace("baseline_kwh", "usual_kwh")
    document = (head + MEAN + rest).replace("at_most: 12", "at_most: 1")
    example = text("test-home-electricity")[text("test-home-electricity").index("examples:") :]
    example = example.replace("baseline_kwh", "usual_kwh").replace("2024-02-01", "2024-11-01")
    return document + example.replace("2024-03-01", "2025-02-01").replace('"200"', '"600"')


USUAL = parse_methodology(usual().encode())

per_km = st.sampled_from([DEMO, BIKE])
lengths = st.decimals(min_value=0, max_value=15, places=6)
minutes = st.integers(min_value=0, max_value=90).map(lambda found: timedelta(minutes=found))


@given(per_km, st.lists(st.tuples(lengths, minutes), min_size=2, max_size=5))
def test_splitting_a_trip_never_earns_more(methodology: object, parts: list[tuple[Decimal, timedelta]]) -> None:
    began = datetime(2025, 6, 1, 8, tzinfo=SHANGHAI)
    whole = ActivityData(
        began,
        began + sum((long for _, long in parts), timedelta(0)),
        {"distance_km": sum((km for km, _ in parts), Decimal(0))},
    )
    single, at = 0, began
    for km, long in parts:
        single += earned(methodology, ActivityData(at, at + long, {"distance_km": km}))
        at += long
    if earned(methodology, whole):  # one that is too far or too long is refused, and its parts are then other trips
        assert single <= earned(methodology, whole)


@given(kilowatt_hours, kilowatt_hours)
def test_a_period_never_earns_more_in_months_than_as_a_whole(one: Decimal, other: Decimal) -> None:
    """Where the months are all credited: a month with more than the year before earns nothing by itself."""
    march = datetime(2025, 3, 1, tzinfo=SHANGHAI)

    def generated(begins: datetime, ends: datetime, value: Decimal) -> int:
        readings = {"generation_kwh": series(begins, ends, value)}
        return earned(PV, ActivityData(begins, ends, {"capacity_kw": Decimal(5)}, readings))

    rows = [
        [JANUARY.isoformat(), FEBRUARY.isoformat(), format(one, "f")],
        [FEBRUARY.isoformat(), march.isoformat(), format(other, "f")],
    ]
    both = {"generation_kwh": parse_readings({"kind": "interval", "spans": rows})}
    whole = earned(PV, ActivityData(JANUARY, march, {"capacity_kw": Decimal(5)}, both))
    assert generated(JANUARY, FEBRUARY, one) + generated(FEBRUARY, march, other) <= whole


@given(
    st.dates(min_value=date(2024, 1, 1), max_value=date(2026, 12, 31)),
    st.dates(min_value=date(2024, 1, 2), max_value=date(2027, 12, 31)),
    st.decimals(min_value=0, max_value=1000, places=3),
)
def test_a_later_factor_never_changes_an_earlier_result(day: date, changes: date, value: Decimal) -> None:
    known = '{from: 2016-01-01, value: "50", source: invented, confidence: single}'
    dated = f"{{from: 2016-01-01, to: {changes - timedelta(days=1)}, value: 50, source: invented, confidence: single}}"
    later = f"{{from: {changes}, value: {value:f}, source: invented, confidence: single}}"
    document = text("test-shared-bike").replace(known, f"{dated}\n      - {later}")
    changed = parse_methodology(document[: document.index("examples:")].encode() + EXAMPLE_OF_2016.encode())
    began = datetime(day.year, day.month, day.day, 23, 50, tzinfo=SHANGHAI)
    ride = ActivityData(began, began + timedelta(minutes=30), {"distance_km": Decimal("3.3")})
    if day < changes:
        assert quantify(changed, ride).co2e == quantify(BIKE, ride).co2e
    else:
        assert earned(changed, ride) == int(value * 3300)


EXAMPLE_OF_2016 = """examples:
  - title: {zh: 两公里, en: two kilometres}
    started_at: 2016-06-01T08:00:00+08:00
    ended_at: 2016-06-01T08:12:00+08:00
    inputs: {distance_km: "2"}
    expected_mg: 100000
"""


METRO_TEXT, HOME_TEXT, SHIFT_TEXT = (text(f"test-{n}") for n in ("metro-boarding", "home-electricity", "load-shifting"))
PV_TEXT = text("test-rooftop-pv")
BIKE_TEXT, SHOWN_TEXT, WALK_TEXT = (text(f"test-{n}") for n in ("shared-bike", "shown-only", "walking-day"))
CLAIM = "  - {of: [operator, order]}\n"
METER = "  - {of: [meter], over: time}\n"
GRADES = "grades: {A: credit, B: match, C: grams}"
PEAK = '      peak_kwh: {from: "06:00", to: "22:00", meaning: {zh: 峰时用电, en: use by day}}\n'
BASE = HOME_TEXT[HOME_TEXT.index("  baseline_kwh: {") : HOME_TEXT.index("\nsettlement:")]
SHARE = 'coverage_at_least: "0.9"'
DUE = "  due: {days: 400}"
CAP = METRO_TEXT[METRO_TEXT.index("  - {id: rides-per-day") : METRO_TEXT.index("  - {id: points-per-month")]


@pytest.mark.parametrize(
    ("document", "old", "new", "reason", "at"),
    [
        (METRO_TEXT, "participants: [citizen]", "participants: [robot]", "expected one of citizen", ""),
        (METRO_TEXT, "participants: [citizen]", "participants: [citizen, citizen]", "'citizen' stands here twice", ""),
        (METRO_TEXT, "participants: [citizen]", "participants: citizen", "expected a list", ""),
        (METRO_TEXT, "trigger: boarding", "trigger: day", "many things in a day", "exclusive:"),
        (METRO_TEXT, "exclusive: travel", "exclusive: Travel", "an id is", ""),
        (METRO_TEXT, "exclusive: travel", "period: {unit: day, at_most: 1}", "belongs to the trigger period", ""),
        (METRO_TEXT, CLAIM, "  - {of: [operator, number]}\n", "expected one of operator", ""),
        (
            METRO_TEXT,
            CLAIM,
            CLAIM + "  - {of: [order, operator]}\n",
            "'operator+order' stands here twice",
            "  - {of: [order, o",
        ),
        (METRO_TEXT, CLAIM, "  - {of: [order], over: space}\n", "expected one of time", ""),
        (METRO_TEXT, CLAIM, "  - {of: [order], use: pv}\n", "belongs to a claim over time", ""),
        (METRO_TEXT, CLAIM, "  - {of: [order], optional: maybe}\n", "expected one of true, false", ""),
        (METRO_TEXT, CLAIM, "  - {of: []}\n", "at least one item", ""),
        (METRO_TEXT, CLAIM, "  - {of: [order]}\n", "write operator beside order", ""),
        (METRO_TEXT, CLAIM, "  - {of: [order, payment]}\n", "write operator beside order", ""),
        (BIKE_TEXT, "{of: [operator, vehicle],", "{of: [vehicle],", "write operator beside vehicle", ""),
        (HOME_TEXT, METER, "  - {of: [vehicle], over: time, use: hire}\n", "write operator beside vehicle", ""),
        (PV_TEXT, "unit: month, at_most: 12", "unit: month, at_most: 27", "823 days would claim 823 things", "claims:"),
        (METRO_TEXT, CAP, CAP.replace("beyond: refuse", "beyond: clip"), "a cap of actions refuses", ""),
        (METRO_TEXT, CAP, CAP.replace('"10"', '"1.5"'), "whole number", ""),
        (METRO_TEXT, CAP, CAP.replace('"10"', '"0"'), "whole number from 1", ""),
        (METRO_TEXT, CAP, CAP.replace("per: day", "per: week"), "expected one of day, month, year", ""),
        (METRO_TEXT, CAP, CAP.replace(' restored: "true",', ""), "'restored' is missing", ""),
        (METRO_TEXT, CAP, CAP + CAP, "'rides-per-day' stands here twice", CAP + "  - {id: points"),
        (WALK_TEXT, '"300.5"', '"0.0001"', "to the milligram", 'restored: "true"'),
        (WALK_TEXT, "claim_window: {days: 3}", "claim_window: {days: 3661}", "from 1 to 3660", ""),
        (BIKE_TEXT, GRADES, "grades: {A: match}", "expected one of credit", ""),
        (BIKE_TEXT, GRADES, "grades: {C: credit}", "expected one of grams", ""),
        (BIKE_TEXT, GRADES, "grades: {D: credit}", "unknown field 'D'", ""),
        (BIKE_TEXT, CLAIM, "", "match needs a claim", GRADES),
        (BIKE_TEXT, "exclusive: travel", "registers: [blacklist]", "expected one of coverage, elsewhere", ""),
        (BIKE_TEXT, "exclusive: travel", "formula_confidence: sure", "expected one of confirmed", ""),
        (HOME_TEXT, "period: {unit: month, at_most: 12}\n", "", "needs the field 'period'", "trigger: period"),
        (HOME_TEXT, "unit: month, at_most: 12", "unit: week, at_most: 12", "expected one of day, month, year", ""),
        (HOME_TEXT, "unit: month, at_most: 12", "unit: month, at_most: 37", "from 1 to 36", ""),
        (HOME_TEXT, "unit: month, at_most: 12", "unit: month, at_most: 13", "they would overlap", "  baseline_kwh:"),
        (HOME_TEXT, BASE, BASE.replace("of: use_kwh", "of: useless"), "expected one of use_kwh", ""),
        (HOME_TEXT, BASE, BASE.replace("earlier_year", "preceding"), "period.at_most 1", ""),
        (HOME_TEXT, BASE, BASE.replace("earlier_year", "earlier_year, periods: 2"), "unknown field 'periods'", ""),
        (HOME_TEXT, BASE, BASE.replace("baseline_kwh", "use_kwh"), "cannot be declared", ""),
        (HOME_TEXT, BASE, BASE.replace("baseline_kwh", "covered_share"), "cannot be declared", ""),
        (HOME_TEXT, BASE, BASE + "\n" + BASE.replace("baseline_kwh", "other_kwh"), "no formula uses it", "  other_kwh"),
        (HOME_TEXT, DUE, "  due: {days: 0}", "from 1 to 3660", ""),
        (HOME_TEXT, "value: has_pv", "value: tier", "has_pv is declared but no formula uses it", "    has_pv: {"),
        (HOME_TEXT, "value: has_pv", "value: use_kwh", "'use_kwh' is not declared; declared are has_pv, tier", ""),
        (HOME_TEXT, "    has_pv: {", "    use_kwh: {", "cannot be declared", ""),
        (HOME_TEXT, "use_kwh / baseline_kwh", "use_kwh * baseline_kwh", "declared is 1", ""),
        (HOME_TEXT, "gaps: pro_rata", "gaps: guess", "expected one of pro_rata, as_zero, refuse", ""),
        (HOME_TEXT, "gaps: pro_rata", "gaps: refuse", "unknown field 'coverage_at_least'", "    coverage"),
        (HOME_TEXT, "    longest_gap_h: 48\n", "", "'longest_gap_h' is missing", "  use_kwh:"),
        (SHIFT_TEXT, SHARE, 'coverage_at_least: "1.1"', "a number from 0 to 1", ""),
        (SHIFT_TEXT, SHARE, "coverage_at_least: -0.1", "a number from 0 to 1", ""),
        (SHIFT_TEXT, PEAK, PEAK.replace("06:00", "6:00"), "a time of day such as 06:00", ""),
        (SHIFT_TEXT, PEAK, PEAK.replace("06:00", "05:59"), "has hours of another window", "      valley_kwh"),
        (SHIFT_TEXT, PEAK, PEAK.replace("peak_kwh", "cohort_peak_share"), "cannot be declared", ""),
        (
            SHIFT_TEXT,
            PEAK,
            PEAK + PEAK.replace("peak_kwh", "x").replace("06:00", "22:00"),
            "another window",
            "      x:",
        ),
        (SHIFT_TEXT, "use_kwh - peak_kwh)", "use_kwh)", "peak_kwh is declared but no formula uses it", PEAK[:14]),
        (SHIFT_TEXT, '"3"]', '"-3"]', "not negative", "      use_kwh:\n        kind"),
        (SHIFT_TEXT, '"3"]', '"4"]', "gives 37000 mg", "  - title: {zh: "),
        (SHOWN_TEXT, "value: unknown, source: invented", "value: unknown, confidence: single", "unknown field", ""),
        (SHOWN_TEXT, "value: unknown, source: invented", "value: unknown, source: nobody", "one of invented", ""),
        (SHOWN_TEXT, "from: 2025-01-01, value", "from: 2024-12-31, value", "two values on 2024-12-31", ""),
        (SHOWN_TEXT, "sources:", "examples: [a]\nsources:", "without a reduction", ""),
        (SHOWN_TEXT, "sources:", "reduction: annual_kwh\nsources:", "'reduction_unit' is missing", ""),
        (SHOWN_TEXT, "missing:", "notes:", "'conditions' is missing", "schema:"),
    ],
)
def test_a_faulty_document_is_refused_on_the_line_of_the_fault(
    document: str, old: str, new: str, reason: str, at: str
) -> None:
    assert old in document, old
    faulty = document.replace(old, new, 1)
    with pytest.raises(MethodologyInvalid) as caught:
        parse_methodology(faulty.encode())
    assert reason in caught.value.reason, str(caught.value)
    assert caught.value.line == faulty[: faulty.index(at or new)].count("\n") + 1 + new.startswith("\n")


@pytest.mark.parametrize(
    ("unit", "at_most", "day_wise", "others", "good"),
    [
        ("month", 12, 2, 0, True),  # a leap year of two meters' days: 732
        ("month", 12, 3, 0, False),
        ("month", 26, 1, 0, True),  # 793 where both long summers are in it
        ("month", 27, 1, 0, False),
        ("year", 2, 1, 0, True),
        ("year", 3, 1, 0, False),
        ("day", 266, 3, 2, True),  # 800
        ("day", 266, 3, 3, False),
    ],
)
def test_the_tags_of_the_longest_activity_have_to_fit_into_its_leaf(
    unit: str, at_most: int, day_wise: int, others: int, good: bool
) -> None:
    """A claim of one use is held as a span, and has no tag."""
    names = ["installation", "meter", "site", "payment", "[operator, order]", "[operator, vehicle]"]
    claims = [f"{{of: {name if '[' in name else f'[{name}]'}, over: time}}" for name in names[:day_wise]]
    claims += [f"{{of: {name if '[' in name else f'[{name}]'}}}" for name in names[day_wise : day_wise + others]]
    claims.append("{of: [address], over: time, use: pv}")
    document = PV_TEXT.replace("unit: month, at_most: 12", f"unit: {unit}, at_most: {at_most}").replace(
        PV_TEXT[PV_TEXT.index("  - {of: [installation]") : PV_TEXT.index("registers:")],
        "".join(f"  - {claim}\n" for claim in claims),
    )
    document = document[: document.index("examples:")] + (
        "missing: [{zh: 测试, en: for a test}]\n" if unit != "month" else PV_TEXT[PV_TEXT.index("examples:") :]
    )
    if good:
        assert len(parse_methodology(document.encode()).claims) == day_wise + others + 1
        return
    with pytest.raises(MethodologyInvalid, match="one by one, 800 at most"):
        parse_methodology(document.encode())


DEEP = "{a: " * 12 + "1" + "}" * 12


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("claims:\n", f"claims: {DEEP}\nnone:\n", "nested deeper"),
        ("claims:\n", "claims: &x\n", "anchors"),
        ("claims:\n", "claims: *x\nnone:\n", "aliases"),
        ("exclusive: travel", "exclusive: travel\nexclusive: travel", "stands here twice"),
        ("exclusive: travel", "<<: {a: b}", "field name"),
        ('at_most: "10"', "at_most: 99999999999999999999", "whole number"),
        ('at_most: "10"', "at_most: 9999999999999999", "from 1 to"),
        (
            "reduction: reduction_g",
            "reduction: reduction_g / (duration_s - duration_s) * duration_s",
            "divisor is zero",
        ),
        ("reduction: reduction_g", "reduction: reduction_g / 0", "division by zero"),
        ("reduction: reduction_g", "reduction: reduction_g ** 999999", "powers"),
        ("reduction: reduction_g", "reduction: covered_share * reduction_g", "'covered_share' is not declared"),
        ("reduction: reduction_g", "reduction: duration_s", "comes out in s"),
        ("reduction: reduction_g", "reduction: __import__(reduction_g)", "no function"),
        ("sources:", "notes: [{zh: " + "x" * MAX_BYTES + ", en: x}]\nsources:", "at most"),
        ("sources:", "notes: [{zh: " + "x" * 10_000_000 + ", en: x}]\nsources:", "at most"),
    ],
    ids=lambda found: found[:24],
)
def test_documents_made_to_harm_are_refused_with_a_line_in_bounded_time(old: str, new: str, reason: str) -> None:
    begun = perf_counter()
    with pytest.raises(MethodologyInvalid, match=reason) as caught:
        parse_methodology(METRO_TEXT.replace(old, new, 1).encode())
    assert caught.value.line >= 1
    assert perf_counter() - begun < 3


def test_a_document_of_as_many_windows_as_fit_is_refused_in_bounded_time() -> None:
    lines = "".join(PEAK.replace("peak_kwh", f"w{number}") for number in range(2_000))
    begun = perf_counter()
    with pytest.raises(MethodologyInvalid, match="hours of another window"):
        parse_methodology(SHIFT_TEXT.replace(PEAK, lines).encode())
    assert perf_counter() - begun < 5
