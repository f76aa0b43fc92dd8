"""POST /v1/quantify/compare and `tanpuhui quantify --compare`: the same act by every document, and why they differ."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from api.comparing import comparison, grams
from api.problems import Language, Problem
from service.activities.rules import RuleBook
from service.approvals import Approvals
from service.quantification.comparing import Told
from service.quantification.methodology import catalogue_of, parse_methodology
from service.quantification.points import load_points_rules
from tests.api.test_commands import last_line, run
from tests.documents import DEMO, changed
from tests.running import Api, problem_of
from tests.service.quantification.factor_set_documents import PUBLISHED

pytestmark = pytest.mark.anyio

TIMES = {"started_at": "2026-05-01T08:00:00+08:00", "ended_at": "2026-05-01T08:12:00+08:00"}
WANTED = {"act": "shared-ebike", "inputs": {"distance_km": "2.35"}, **TIMES}
NOW = datetime(2026, 5, 20, 4, 30, 15, 77, tzinfo=UTC)
METRO = DEMO.replace("id: demo-shared-ebike", "id: %s\nact: metro").replace("  id: shared-ebike", "  id: %s")


async def ask(api: Api, body: Any, language: str = "en") -> httpx.Response:
    return await api.client.post("/v1/quantify/compare", json=body, headers={"Accept-Language": language})


async def test_anyone_may_compare_and_each_document_gives_what_quantify_gives(api: Api) -> None:
    answer = await ask(api, WANTED)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert "RateLimit" in answer.headers
    assert (shown["act"], shown["act_title"]) == ("shared-ebike", "riding a shared e-bike")
    documents = {one["methodology"]: one for one in shown["documents"]}
    assert {"demo-shared-ebike", "demo-docked-ebike"} <= documents.keys()
    assert shown["computed"] == sum(one["reduction_mg"] is not None for one in documents.values())
    for name, one in documents.items():
        if one["reduction_mg"] is None:
            continue
        body = {"methodology": name, "version": one["version"], "inputs": WANTED["inputs"], **TIMES}
        alone = (await api.client.post("/v1/quantify", json=body, headers={"Accept-Language": "en"})).json()
        for field in ("reduction_mg", "formula", "factors", "digest", "status", "credited_as", "can_credit", "why_not"):
            assert one[field] == alone[field], (name, field)


async def test_it_says_the_same_in_both_languages(api: Api) -> None:
    zh, en = [(await ask(api, WANTED, language)).json() for language in ("zh", "en")]
    assert zh["act_title"] == "骑行共享电单车"
    for chinese, english in zip(zh["documents"], en["documents"], strict=True):
        for field in ("methodology", "version", "reduction_mg", "ratio_to_median", "in_force", "trigger", "not_used"):
            assert chinese[field] == english[field]
        assert len(chinese["because"]) == len(english["because"]) > 0
        assert not any(re.search("[\u4e00-\u9fff]", sentence) for sentence in english["because"])


@pytest.mark.parametrize(
    ("change", "slug"),
    [
        ({"act": "flying"}, "act-not-covered"),
        ({"act": "Not An Act"}, "malformed-request"),
        ({"methodology": "demo-shared-ebike"}, "malformed-request"),
        ({"ended_at": None}, "times-needed"),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "outside-calendar"),
        ({"readings": {"use_kwh": {"kind": "nothing"}}}, "readings-invalid"),
        ({"inputs": {"distance_km": "far"}}, "malformed-request"),
    ],
)
async def test_what_is_wrong_is_a_documented_problem(api: Api, change: dict[str, Any], slug: str) -> None:
    problem = problem_of(await ask(api, WANTED | change), slug)
    if slug == "act-not-covered":
        assert {"office-electricity", "shared-ebike"} <= set(problem["acts"])


def compared(*documents: bytes, act: str = "metro", language: Language = "en", **figures: str) -> dict[str, Any]:
    methodologies, points = catalogue_of(map(parse_methodology, documents)), load_points_rules()
    rules = RuleBook(methodologies, points, {}, {}, {}, frozenset({"demonstration", "official"}), Approvals())
    told = Told(figures={name: Decimal(value) for name, value in figures.items()})
    return comparison(rules, act, told, NOW, language)


def metro(name: str, factor: str, *replaced: tuple[str, str]) -> bytes:
    text = METRO[: METRO.index("examples:")] % (name, name)
    example = (
        "examples:\n  - title: {zh: 甲, en: a}\n    started_at: 2025-06-01T08:00:00+08:00\n"
        '    ended_at: 2025-06-01T08:12:00+08:00\n    inputs: {distance_km: "1"}\n'
        f"    expected_mg: {int(Decimal(factor) * 1000)}\n"
    )
    return changed(text + example, ('value: "35.01"', f'value: "{factor}"'), *replaced)


BOARDING = (
    ("trigger: trip", "trigger: boarding"),
    ("    unit: g/km\n", "    unit: g\n"),
    ("reduction: reduction_g_per_pkm * distance_km", "reduction: reduction_g_per_pkm"),
)
AGAINST = "baseline_scenario: {zh: 机动化出行。, en: the motorised average.}"


def test_every_reason_is_told() -> None:
    shown = compared(
        metro("long", "97", ("version: 1", f"version: 1\n{AGAINST}")),
        metro("middle", "50"),
        metro("short", "46.7", ("status: demonstration", "status: official\nformula_confidence: inferred")),
        metro("fixed", "515.5", *BOARDING),
        distance_km="10",
        seats="2",
    )
    assert shown["median_mg"] == (500_000 + 515_500) // 2
    told = {one["methodology"]: one for one in shown["documents"]}
    assert list(told) == ["long", "fixed", "middle", "short"]
    assert [one["ratio_to_median"] for one in told.values()] == ["1.91", "1.02", "0.98", "0.92"]
    assert told["long"]["because"] == [
        "1.91 times the median of the 4 documents that give a result, 507.75 g",
        "counted per trip by distance_km; others each time as one fixed amount (1)",
        "counted against: the motorised average",
        "its factor reduction_g_per_pkm = 97 g/km (one source only); those of others in this unit: 46.7–50 g/km",
        "not used: seats",
    ]
    fixed = told["fixed"]["because"]
    assert "counted each time as one fixed amount, as no other does; others per trip by distance_km (3)" in fixed
    assert "it does not say what it is counted against" in fixed
    assert "its factors reduction_g_per_pkm = 515.5 g (one source only)" in fixed
    assert told["short"]["because"][-1] == (
        "official methodology, but the formula is inferred, which is good for a demonstration only"
    )
    assert (told["short"]["status"], told["short"]["credited_as"], told["short"]["can_credit"]) == (
        "official",
        "demonstration",
        True,
    )


def test_the_same_result_and_the_only_one_are_said() -> None:
    (one,) = compared(metro("alone", "97"), distance_km="10")["documents"]
    assert one["because"] == ["the only document that gives a result"]
    assert one["ratio_to_median"] is None
    first, second = compared(metro("one", "97"), metro("two", "97"), distance_km="10")["documents"]
    assert first["because"][1:] == ["the same result as two"]
    assert second["because"][1:] == ["the same result as one"]


def test_what_rests_on_a_weak_source_is_computed_and_said_never_to_credit() -> None:
    weak = ("        confidence: single\n", "        confidence: single\n        quality: low\n")
    (one,) = compared(metro("weak", "97", weak), distance_km="10")["documents"]
    assert (one["reduction_mg"], one["can_credit"]) == (970_000, False)
    assert one["because"][-1] == "it never credits: a figure rests on a source of low quality"


def test_why_a_document_gives_nothing_is_told_with_what_it_knows() -> None:
    shown = compared(
        PUBLISHED.replace("act: home-electricity", "act: metro").encode(),
        metro("near", "50", ("at_most: 30\n", "at_most: 5\n")),
        metro("ended", "97", ("in_force: {from: 2016-01-01}", "in_force: {from: 2016-01-01, to: 2025-12-31}")),
        distance_km="10",
    )
    told = {one["methodology"]: one for one in shown["documents"]}
    assert shown["computed"] == 1
    stub = told["our-published"]
    assert (stub["reduction_mg"], stub["formula"], stub["in_force"]) == (None, None, False)
    assert (stub["refusal"]["reason"], stub["refusal"]["missing"]) == ("methodology-incomplete", ["the formula"])
    assert [one["value"] for one in stub["factors"]] == ["573.7"]
    assert stub["factors"][0]["pinned"]["figure"] == "shanghai"
    assert stub["because"] == [
        "no result, the document itself lacks: the formula",
        "known figures: grid = 573.7 g/kWh",
        "not in force on 2026-05-20 (unknown: not published)",
    ]
    assert told["near"]["refusal"]["reason"] == "condition-not-met/max-distance"
    assert told["near"]["because"][0].startswith("no result: ")
    assert (told["ended"]["in_force"], told["ended"]["reduction_mg"]) == (False, 970_000)
    assert told["ended"]["because"][-1].endswith("computed with its nearest figures")


def test_what_is_lacking_is_named_with_unit_and_meaning() -> None:
    (one,) = compared(metro("far", "50"))["documents"]
    (lacking,) = one["refusal"]["lacking"]
    assert (lacking["name"], lacking["unit"]) == ("distance_km", "km")
    assert one["refusal"]["reason"] == "missing-input"
    assert one["because"][0].startswith("no result, it also needs distance_km km (ridden distance")
    (one,) = compared(metro("far", "50"), language="zh")["documents"]
    assert one["because"][0].startswith("没有结果，它还需要：distance_km km (骑行距离")


def test_an_act_without_a_document_names_those_that_have_one() -> None:
    with pytest.raises(Problem) as caught:
        compared(metro("far", "50"), act="forest")
    told = caught.value.render("en")
    assert (told["act"], told["acts"]) == ("forest", ["metro"])


@pytest.mark.parametrize(("mg", "text"), [(0, "0"), (1, "0.001"), (1000, "1"), (515_500, "515.5"), (10**6, "1000")])
def test_grams_are_told_without_trailing_zeros(mg: int, text: str) -> None:
    assert grams(mg) == text


def test_the_command_shows_a_table_and_gives_the_same_as_the_call(tmp_path: Any) -> None:
    times = ("--started", TIMES["started_at"], "--ended", TIMES["ended_at"])
    arguments = ("quantify", "--compare", "shared-ebike", "--input", "distance_km=2.35", *times)
    told = last_line(run(tmp_path, *arguments, "--json"))
    assert {"demo-shared-ebike", "demo-docked-ebike"} <= {one["methodology"] for one in told["documents"]}
    shown = run(tmp_path, *arguments)
    assert shown.exit_code == 0
    for word in ("骑行共享电单车", "riding a shared e-bike", "82.273 g", "demo-shared-ebike 1", "times the median"):
        assert word in shown.stdout
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--compare", "flying"), "shared-ebike"),
        ((), "either a methodology, or an act"),
        (("demo-shared-ebike", "--compare", "shared-ebike"), "either a methodology, or an act"),
        (("--compare", "shared-ebike", "--version", "1"), "leave --version out"),
        (("--compare", "shared-ebike", "--started", "2026-05-01T08:00:00+08:00"), "only one of start and end"),
    ],
)
def test_what_the_command_cannot_do_is_said(tmp_path: Any, arguments: tuple[str, ...], told: str) -> None:
    done = run(tmp_path, "quantify", *arguments)
    assert done.exit_code == 1
    assert told in done.stderr
