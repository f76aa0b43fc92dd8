"""A firm's year from end to end: enrolled with its code, twelve months of meter readings, pending points, settlement at
the year's end; then it is covered by emission trading and is told why it stops, and a late correction takes its place.

The platform runs as real processes, at two times of its life; what it answers is compared with sums of this file's own.
"""

import csv
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from api.auth import DevelopmentIssuer
from service.organisations import check_character
from tests.running import EVENT, problem_of
from tests.story.clients import Served, room, run_command

SHANGHAI = ZoneInfo("Asia/Shanghai")
SCENARIO = "office-electricity"
GRAMS_PER_KWH = 420  # of the shipped document
YEAR = 2025
AFTER_THE_YEAR = datetime(2026, 1, 20, 9, tzinfo=SHANGHAI)
IN_SPRING = datetime(2026, 4, 20, 9, tzinfo=SHANGHAI)  # the annual report is there, and March may still be corrected
EXPIRES_ON = "2028-04-30"  # the end of the month 24 months after the settlement's
SOURCE, UTILITY = "urn:tests:utility", {"title_zh": "供电公司", "title_en": "The utility"}
SCHEME, NOTICE = "shanghai", "沪环气〔2026〕1号"
GOOD_YEAR = {"staff_ratio": "1.02", "year_ratio": "0.91", "closed": 0}
CLOSED = GOOD_YEAR | {"closed": 1}
NO_LESS_IN_ALL = GOOD_YEAR | {"year_ratio": "1.001"}  # good months were reported, and the year was no better


@dataclass(slots=True)
class Meter:
    """A firm's meter: the same readings again for the same seed, in Wh so that sums are exact.

    Offices are full from eight to six on working days; the year that is reported uses about a tenth less.
    """

    seed: int
    _months: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def readings(self, year: int, month: int) -> list[int]:
        """Half-hours of the reported year and later, hours of the year before."""
        if (year, month) not in self._months:
            chance = random.Random(f"{self.seed} {year} {month}")
            first, step = datetime(year, month, 1, tzinfo=SHANGHAI), self.step_s(year)
            count = int((_next(first) - first).total_seconds()) // step
            level = Fraction(9, 10) if year >= YEAR else Fraction(1)
            moments = [first + timedelta(seconds=step * number) for number in range(count)]
            self._months[year, month] = [
                int(chance.randint(900, 1100) * _load(moment) * level * step / 3600) for moment in moments
            ]
        return self._months[year, month]

    def step_s(self, year: int) -> int:
        return 1800 if year >= YEAR else 3600

    def series(self, year: int, month: int) -> dict[str, Any]:
        """A month as an event carries it."""
        values = [_kwh(value) for value in self.readings(year, month)]
        first = datetime(year, month, 1, tzinfo=SHANGHAI)
        return {"kind": "interval", "from": first.isoformat(), "step_s": self.step_s(year), "values": values}

    def wh(self, year: int, month: int) -> int:
        """The month's use."""
        return sum(self.readings(year, month))

    def correct(self, year: int, month: int) -> None:
        """A recount of one month: every reading is one part in fifty higher."""
        self._months[year, month] = [value + value // 50 for value in self.readings(year, month)]


def _load(moment: datetime) -> int:
    """Watts for a thousandth of the office, by the hour."""
    return 32 if moment.weekday() < 5 and 8 <= moment.hour < 18 else 6


def _kwh(wh: int) -> str:
    return f"{wh // 1000}.{wh % 1000:03}"


def _next(first: datetime) -> datetime:
    return (first + timedelta(days=31)).replace(day=1)


@dataclass(slots=True)
class Firm:
    """An enrolled firm, its meter, and what was credited for each month: the transfer's id."""

    subject: str
    code: str
    meter: Meter
    participant_id: str = ""
    credits: dict[int, str] = field(default_factory=dict)

    def expected_mg(self, year: int, month: int) -> int:
        saved_wh = self.meter.wh(year - 1, month) - self.meter.wh(year, month)
        return saved_wh * GRAMS_PER_KWH  # Wh x g/kWh are milligrams

    def expected_points(self, months: range | tuple[int, ...]) -> int:
        return sum(self.expected_mg(YEAR, month) // 1000 for month in months)

    def event(self, year: int, month: int, **data: Any) -> dict[str, Any]:
        first = datetime(year, month, 1, tzinfo=SHANGHAI)
        return {
            "specversion": "1.0",
            "id": f"{self.subject} {year}-{month:02}{' corrected' if data else ''}",
            "source": SOURCE,
            "type": "org.tanpuhui.activity.v1",
            "subject": self.subject,
            "data": {
                "scenario": SCENARIO,
                "started_at": first.isoformat(),
                "ended_at": _next(first).isoformat(),
                "inputs": {},
                "references": {"meter": f"meter of {self.subject}", "address": f"address of {self.subject}"},
                "readings": {"use_kwh": self.meter.series(year, month)},
                "baseline": {"baseline_kwh": self.meter.series(year - 1, month)},
            }
            | data,
        }


class Platform:
    """The platform at one time of its life, and what the utility, the operator and the firms do with it."""

    def __init__(self, served: Served) -> None:
        self.data_dir = served.data_dir
        self._issuer = DevelopmentIssuer(served.data_dir)
        self._client = httpx.Client(base_url=served.url, timeout=60)

    def __enter__(self) -> "Platform":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._issuer.issue('operator', 'story')}"}

    def utility(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._issuer.issue('provider', 'story', source=SOURCE)}"}

    def register_source(self) -> None:
        body = {"uri": SOURCE, **UTILITY, "grade": "A", "scenarios": [SCENARIO], "valid_from": "2024-01-01"}
        assert self._client.put("/v1/sources", headers=self.operator(), json=body).status_code == 200

    def enrol(self, firm: Firm, code: str | None = None) -> httpx.Response:
        given_at = "2025-01-02T10:00:00+08:00"
        consent = {"purpose": "carbon-credit", "text_version": "story-1", "given_at": given_at}
        body = {
            "kind": "firm",
            "organisation": {"code": code or firm.code, "mandate": {"text_version": "story-1", "given_at": given_at}},
            "links": [{"source": SOURCE, "subject": firm.subject, "consent": consent}],
        }
        return self._client.post("/v1/participants", headers=self.operator(), json=body)

    def report(self, event: Mapping[str, Any], language: str = "en") -> httpx.Response:
        headers = self.utility() | {"Content-Type": EVENT, "Accept-Language": language}
        return self._client.post("/v1/activities", headers=headers, content=json.dumps(event))

    def settle(
        self, firm: Firm, months: tuple[int, int], facts: Mapping[str, Any], *, dry_run: bool = False
    ) -> dict[str, Any]:
        first, last = (date(YEAR, month, 1) for month in months)
        days = {"first_day": first.isoformat(), "last_day": last.isoformat()}
        body = {"subject": firm.subject, "scenario": SCENARIO, **days, "facts": facts, "dry_run": dry_run}
        answer = self._client.post("/v1/settlements", headers=self.utility(), json=body)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def due(self) -> int:
        answer = self._client.get("/v1/settlements/due", headers=self.utility())
        assert answer.status_code == 200, answer.text
        return sum(month["credits"] for month in answer.json()["months"])

    def read(self, firm: Firm, rest: str, language: str = "en") -> dict[str, Any]:
        token = self._issuer.issue("participant", firm.participant_id)
        headers = {"Authorization": f"Bearer {token}", "Accept-Language": language}
        answer = self._client.get(f"/v1/participants/{firm.participant_id}/{rest}", headers=headers)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def explained(self, firm: Firm, transfer_id: str, language: str = "en") -> dict[str, Any]:
        return self.read(firm, f"transfers/{transfer_id}", language)

    def told_about(self, slug: str, language: str) -> str:
        answer = self._client.get(f"/v1/problems/{slug}", headers={"Accept-Language": language})
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with room() as directory:
        yield directory / "data"


def running_at(data_dir: Path, moment: datetime) -> Served:
    """`tanpuhui serve`, whose clock says so."""
    return Served(data_dir, clock_offset=str(int((moment - datetime.now(UTC)).total_seconds())))


def a_firm(subject: str, number: int) -> Firm:
    first = f"91310000MA{number:07}"
    return Firm(subject, first + check_character(first), Meter(number))


def test_a_firms_year(data_dir: Path) -> None:
    firm, other = a_firm("a firm", 1), a_firm("another firm", 2)
    with running_at(data_dir, AFTER_THE_YEAR) as served, Platform(served) as platform:
        platform.register_source()
        enrolled_by_its_code(platform, firm)
        enrolled_by_its_code(platform, other)
        a_years_points_are_pending(platform, firm)
        for month in (11, 12):
            other.credits[month] = credited(platform, other, month)
        assert platform.due() == 14
        assert found_by_the_check(data_dir) == 14
    with running_at(data_dir, IN_SPRING) as served, Platform(served) as platform:
        settled_at_the_years_end(platform, firm)
        a_month_is_withdrawn(platform, other)
        assert platform.due() == 0
        explained_in_both_languages(platform, firm)
        covered_and_told_why(platform, firm, data_dir)
        march_is_corrected(platform, firm)
        assert found_by_the_check(data_dir) == 14 + 12 + 2 + 3  # credits, settlements; the correction's three


def enrolled_by_its_code(platform: Platform, firm: Firm) -> None:
    mistyped = firm.code[:-2] + ("1" if firm.code[-2] != "1" else "2") + firm.code[-1]
    assert problem_of(platform.enrol(firm, mistyped), "malformed-request")["errors"][0]["pointer"].endswith("code")
    answer = platform.enrol(firm)
    assert answer.status_code == 201, answer.text
    firm.participant_id = answer.json()["participant_id"]
    again = platform.enrol(firm)
    assert (again.status_code, again.json()["participant_id"]) == (200, firm.participant_id)


def credited(platform: Platform, firm: Firm, month: int) -> str:
    """Upload a month, which is credited and pending; the credit's id."""
    answer = platform.report(firm.event(YEAR, month))
    assert answer.status_code == 201, answer.text
    said = answer.json()
    saved_mg = firm.expected_mg(YEAR, month)
    assert (said["reduction_mg"], said["points"], said["pending"]) == (saved_mg, saved_mg // 1000, True)
    assert platform.report(firm.event(YEAR, month)).json()["first"] == said
    return str(said["transfer_id"])


def a_years_points_are_pending(platform: Platform, firm: Firm) -> None:
    for month in range(1, 13):
        firm.credits[month] = credited(platform, firm, month)
        balance = platform.read(firm, "balance")
        assert (balance["points"]["available"], balance["points"]["expiring"]) == (0, [])
        assert balance["points"]["pending"] == firm.expected_points(range(1, month + 1))
    assert balance["reduction"]["pending_mg"] == sum(firm.expected_mg(YEAR, month) for month in range(1, 13))
    waiting = platform.explained(firm, firm.credits[1])["pending"]
    assert (waiting["awaits"], waiting["points"]) == ("settlement", firm.expected_points((1,)))


def settled_at_the_years_end(platform: Platform, firm: Firm) -> None:
    whole_year = firm.expected_points(range(1, 13))
    worse = platform.settle(firm, (1, 12), NO_LESS_IN_ALL, dry_run=True)["credits"]
    assert {credit["because"]["condition"] for credit in worse} == {"year-not-higher"}
    foreseen = platform.settle(firm, (1, 12), GOOD_YEAR, dry_run=True)
    assert platform.read(firm, "balance")["points"]["available"] == 0
    settled = platform.settle(firm, (1, 12), GOOD_YEAR)
    assert settled["credits"] == foreseen["credits"]
    assert [credit["activity_id"] for credit in settled["credits"]] == list(firm.credits.values())
    assert settled["totals"]["matured"]["points"] == whole_year
    assert settled["totals"]["withdrawn"]["credits"] == 0
    points = platform.read(firm, "balance")["points"]
    assert (points["available"], points["pending"]) == (whole_year, 0)
    assert points["expiring"] == [{"on": EXPIRES_ON, "points": whole_year}]
    again = platform.settle(firm, (1, 12), GOOD_YEAR)  # its answer was lost: the same answer, and nothing twice
    assert again["credits"] == settled["credits"]


def a_month_is_withdrawn(platform: Platform, firm: Firm) -> None:
    assert platform.settle(firm, (11, 11), GOOD_YEAR)["totals"]["matured"]["credits"] == 1
    (withdrawn,) = platform.settle(firm, (12, 12), CLOSED)["credits"]
    assert (withdrawn["activity_id"], withdrawn["outcome"]) == (firm.credits[12], "withdrawn")
    assert withdrawn["because"]["condition"] == "still-open"
    points = platform.read(firm, "balance")["points"]
    assert (points["available"], points["pending"], points["debt"]) == (firm.expected_points((11,)), 0, 0)
    told = platform.explained(firm, firm.credits[12], "zh")
    assert told["reversed_by"]
    assert told["settlement"]["not_met"]["title"] == "年内未停业、未迁出"


def explained_in_both_languages(platform: Platform, firm: Firm) -> None:
    """May, from its readings to its points."""
    zh, en = (platform.explained(firm, firm.credits[5], language) for language in ("zh", "en"))
    for told in (zh, en):
        assert told["arithmetic"]["reduction_mg"] == firm.expected_mg(YEAR, 5)
        assert told["methodology"]["id"] == SCENARIO
        assert told["settlement"]["outcome"] == "matured"
        assert told["matured_by"]
        assert str(GRAMS_PER_KWH) in [factor["value"] for factor in told["arithmetic"]["factors"]]
    assert (zh["source"]["title"], en["source"]["title"]) == (UTILITY["title_zh"], UTILITY["title_en"])
    assert zh["methodology"]["title"] != en["methodology"]["title"]
    assert zh["arithmetic"]["factors"][0]["meaning"] == "外购电力排放因子"
    assert en["arithmetic"]["factors"][0]["meaning"] == "emission factor of purchased electricity"
    assert zh["arithmetic"]["steps"] == en["arithmetic"]["steps"]


def covered_and_told_why(platform: Platform, firm: Firm, data_dir: Path) -> None:
    """The register is imported from a file, and the next year's January is refused by the day it is of."""
    register = data_dir.parent / "covered.csv"
    with register.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["unified_social_credit_code", "name", "valid_from", "valid_to"])
        rows.writerow([firm.code, "某公司", "2026-01-01", "2026-12-31"])
    command = ("coverage", "import", str(register), "--scheme", SCHEME, "--source", NOTICE, "--json")
    for added in (1, 0):
        imported = run_command(data_dir, *command)
        assert imported.returncode == 0, imported.stderr
        assert json.loads(imported.stdout.splitlines()[-1])["added"] == added
    for language, what_to_do in (("en", "report under a new id"), ("zh", "名录有误")):
        answer = platform.report(firm.event(YEAR + 1, 1), language)
        said = problem_of(answer, "participant-covered")
        assert (said["scheme"], said["valid_from"], said["valid_to"]) == (SCHEME, "2026-01-01", "2026-12-31")
        for word in (SCHEME, "2026-01-01", "2026-12-31", NOTICE, "2026-01-31"):
            assert word in said["detail"]
        assert what_to_do in platform.told_about("participant-covered", language)
    assert platform.read(firm, "balance")["points"]["available"] == firm.expected_points(range(1, 13))


def march_is_corrected(platform: Platform, firm: Firm) -> None:
    """A late correction of the year before: what March had earned is taken back, credited anew, and settled again."""
    before, original = firm.expected_points(range(1, 13)), firm.expected_points((3,))
    firm.meter.correct(YEAR, 3)
    correction = firm.event(YEAR, 3, replaces=f"{firm.subject} {YEAR}-03")
    answer = platform.report(correction)
    assert answer.status_code == 201, answer.text
    anew, corrected = answer.json(), firm.expected_points((3,))
    assert (anew["reduction_mg"], anew["points"], anew["pending"]) == (firm.expected_mg(YEAR, 3), corrected, True)
    assert 0 < corrected < original
    points = platform.read(firm, "balance")["points"]
    assert (points["available"], points["pending"], points["debt"]) == (before - original, corrected, 0)
    old, new = (platform.explained(firm, each) for each in (firm.credits[3], anew["transfer_id"]))
    assert (old["replaced_by"], new["replaces"]) == (anew["transfer_id"], firm.credits[3])
    reversal = platform.explained(firm, old["reversed_by"])
    assert (reversal["kind"], reversal["reverses"], reversal["reason"]) == ("reversal", firm.credits[3], "corrected")
    again = platform.report(firm.event(YEAR, 3, replaces=f"{firm.subject} {YEAR}-03") | {"id": "a third time"})
    problem_of(again, "already-corrected")
    assert platform.settle(firm, (3, 3), GOOD_YEAR)["totals"]["matured"]["points"] == corrected
    assert platform.read(firm, "balance")["points"]["available"] == before - original + corrected


def found_by_the_check(data_dir: Path) -> int:
    """The number of transfers in a ledger in which `tanpuhui ledger check` finds nothing."""
    checked = run_command(data_dir, "ledger", "check", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    document = json.loads(checked.stdout.splitlines()[-1])
    assert document["findings"] == []
    return int(document["transfers"])
