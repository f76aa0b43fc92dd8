"""A day manifest's signed content, read strictly, and shown beside what was received, in Chinese and English."""

from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.body import parse_json
from api.problems import Fault, Language, Problem, Text, pointer
from api.problems.faults import MOST_FAULTS
from api.v1.activities import Name, Word
from api.v1.sources import Day, SourceUri
from service.jws import payload_of
from service.manifests import Claimed, Counts, Gap, Statement, StoredManifest, compare

MOST_LATE, MOST_SCENARIOS = 1_000, 200
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2999, 12, 31)

Count = Annotated[int, Field(ge=0, le=10**12)]
Amount = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,17})$")]
ManifestDay = Annotated[Day, Field(ge=FIRST_DAY, le=LAST_DAY)]


class ScenarioClaim(BaseModel):
    """What was sent of one scenario on the day, and what became of it by the answers.

    sent   every event that was sent and answered, repeats too; those refused without anything kept are in it alone
    credited, refused   events decided on this day, refused for good; reduction_mg and points are of the credited
    duplicate   answers to events that had come before
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    sent: Count
    credited: Count
    refused: Count
    duplicate: Count
    reduction_mg: Amount
    points: Amount


class ManifestPayload(BaseModel):
    """The signed content of a day manifest. `late` are ids of events of that day that no earlier manifest of it
    counted."""

    model_config = ConfigDict(strict=True, extra="forbid")

    v: Literal["1"]
    source: SourceUri
    day: ManifestDay
    sequence: Annotated[int, Field(ge=1, le=1_000_000)]
    scenarios: Annotated[dict[Name, ScenarioClaim], Field(max_length=MOST_SCENARIOS)]
    late: Annotated[list[Word], Field(max_length=MOST_LATE)]


class MeasureView(BaseModel):
    """One measure on both sides; the difference is what the source claims beyond what was received."""

    claimed: int
    received: int
    difference: int


class ScenarioView(BaseModel):
    """One scenario on both sides; `said` is the same in words."""

    scenario: str
    agrees: bool
    sent: int
    duplicate: int
    credited: MeasureView
    refused: MeasureView
    reduction_mg: MeasureView
    points: MeasureView
    said: str


class LateView(BaseModel):
    """Late events of a manifest, and those of them that did not arrive on its day."""

    claimed: int
    not_received: list[str]


class ManifestView(BaseModel):
    """A manifest beside what had been received of its day. `digest` is the SHA-256 of the JWS and `key` the thumbprint
    of the key that signed it, as in the log's leaf. Once the signed text is erased, `jws` and `agrees` are null, and
    nothing is compared."""

    day: date
    sequence: int
    digest: str
    jws: str | None
    key_id: str
    key: str
    recorded_at: datetime
    agrees: bool | None
    scenarios: list[ScenarioView]
    late: LateView


class OpenDays(BaseModel):
    """Days that are over and have no manifest, since the first licence: how many, and the latest of them."""

    count: int
    latest: list[date]


_MEASURES: Mapping[str, Text] = {
    "credited": Text("入账", "credited"),
    "refused": Text("未入账", "refused"),
    "reduction_mg": Text("减排量（毫克）", "reduction (mg)"),
    "points": Text("碳积分", "points"),
}


def statement_of(payload: ManifestPayload) -> Statement:
    """The payload as a value. Raises Problem malformed-request for what its form alone does not exclude."""
    faults = [
        Fault(pointer("scenarios", name, "sent"), "too-small", {"limit": str(answered)})
        for name, claim in payload.scenarios.items()
        if claim.sent < (answered := claim.credited + claim.refused + claim.duplicate)
    ]
    if payload.late and payload.sequence == 1:  # there is no earlier manifest they could have come after
        faults.append(Fault("/late", "too-long", {"limit": "0"}))
    seen: dict[str, int] = {}
    for place, event in enumerate(payload.late):
        if seen.setdefault(event, place) != place:
            faults.append(Fault(pointer("late", place), "repeated", {"other": pointer("late", seen[event])}))
    if faults:
        raise Problem("malformed-request", faults=faults[:MOST_FAULTS])
    scenarios = {
        name: Claimed(
            claim.sent,
            claim.duplicate,
            Counts(claim.credited, claim.refused, int(claim.reduction_mg), int(claim.points)),
        )
        for name, claim in payload.scenarios.items()
    }
    return Statement(payload.source, payload.day, payload.sequence, scenarios, tuple(payload.late))


def stored_statement(stored: StoredManifest) -> Statement | None:
    """What a recorded manifest says; it was verified and whole when it came. None once its text is erased."""
    if stored.jws is None:
        return None
    return statement_of(ManifestPayload.model_validate(parse_json(payload_of(stored.jws))))


def manifest_view(
    stored: StoredManifest, statement: Statement | None, late: Set[str], language: Language
) -> dict[str, Any]:
    """A manifest beside what had been received of its day. `late` are those of its late events that are known."""
    compared = [] if statement is None else _compared(stored, statement, language)
    claimed_late = () if statement is None else statement.late
    return {
        "day": stored.day,
        "sequence": stored.sequence,
        "digest": stored.digest,
        "jws": stored.jws,
        "key_id": stored.key_id,
        "key": stored.key,
        "recorded_at": stored.recorded_at,
        "agrees": None if statement is None else all(scenario["agrees"] for scenario in compared),
        "scenarios": compared,
        "late": {"claimed": len(claimed_late), "not_received": [event for event in claimed_late if event not in late]},
    }


def _compared(stored: StoredManifest, statement: Statement, language: Language) -> list[dict[str, Any]]:
    return [
        _scenario_view(scenario, statement.scenarios.get(scenario), gaps, language)
        for scenario, gaps in compare(
            {name: claimed.counts for name, claimed in statement.scenarios.items()}, stored.received
        ).items()
    ]


def _scenario_view(scenario: str, claimed: Claimed | None, gaps: Sequence[Gap], language: Language) -> dict[str, Any]:
    apart = [gap for gap in gaps if gap.difference]
    return {
        "scenario": scenario,
        "agrees": not apart,
        "sent": claimed.sent if claimed else 0,
        "duplicate": claimed.duplicate if claimed else 0,
        **{
            gap.measure: {"claimed": gap.claimed, "received": gap.received, "difference": gap.difference}
            for gap in gaps
        },
        "said": _said(apart, language),
    }


def _said(apart: Sequence[Gap], language: Language) -> str:
    if language == "zh":
        told = [
            f"{_MEASURES[gap.measure].zh}：清单 {gap.claimed}，收到 {gap.received}，相差 {gap.difference:+}"
            for gap in apart
        ]
        return "；".join(told) or "双方一致"
    told = [
        f"{_MEASURES[gap.measure].en}: claimed {gap.claimed}, received {gap.received}, difference {gap.difference:+}"
        for gap in apart
    ]
    return "; ".join(told) or "both sides agree"
