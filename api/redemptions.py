"""Redemptions as they are told: to the participant with everything, to the bank without the person."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.platform import Platform
from api.problems import Problem, clean
from api.v1.manifests import answered
from service.activities.intake import Refusal
from service.products.standing import STANDINGS
from service.redemption.commands import Redeemed, RedemptionCommand, RedemptionState, Step
from service.redemption.reading import Told

# What deciding a step of a redemption may end with.
PLACE_PROBLEMS = (
    "participant-not-found",
    "account-closed",
    "guardian-consent-needed",
    "offer-not-listed",
    "pool-not-open",
    "not-eligible",
    "price-changed",
    "points-not-enough",
    "under-review",
    "grams-not-enough",
    "pool-person-limit",
    "pool-daily-limit",
    "pool-exhausted",
)
STEP_PROBLEMS = ("redemption-not-found", "hold-ended", "idempotency-conflict")
POSTING_PROBLEMS = ("posting-suspended", "overloaded", "posting-failed")


def redemption_view(state: RedemptionState, now: datetime) -> dict[str, Any]:
    """A redemption as it stands now: a hold whose time is over is dead, whether or not that was written down."""
    dead = state.is_dead(now)
    return {
        "redemption_id": str(state.redemption_id),
        "offer": state.offer,
        "offer_version": state.offer_version,
        "offer_digest": state.offer_digest,
        "bank": state.bank,
        "pool": state.pool,
        "state": state.ended("lapsed") if dead else state.state,
        "units": state.units,
        "points": state.points,
        "value_fen": state.value_fen,
        "reduction_mg": state.co2e_mg,
        "units_held": 0 if dead else state.units_left,
        "units_captured": state.units_captured,
        "units_refunded": state.units_refunded,
        "started_by": state.started_by,
        "request_id": None if state.request_id is None else str(state.request_id),
        "created_at": state.created_at,
        "expires_at": state.expires_at,
        "accepted_at": state.accepted_at,
        "ended_at": state.expires_at if dead else state.ended_at,
    }


def told_view(told: Told, now: datetime) -> dict[str, Any]:
    """A redemption with its steps and the bank's word that the benefit was given."""
    steps = [
        {
            "kind": step.kind,
            "transfer_id": str(step.transfer_id),
            "reason": step.reason,
            "units": step.units,
            "points": step.points,
            "value_fen": step.value_fen,
            "reduction_mg": step.co2e_mg,
            "recorded_at": step.recorded_at,
            "log_index": step.log_index,
            "refunded_by": None if step.refunded_by is None else str(step.refunded_by),
        }
        for step in told.steps
    ]
    given = [
        {"reference": one.reference, "on": one.fulfilled_on, "recorded_at": one.recorded_at} for one in told.fulfilments
    ]
    return {**redemption_view(told.state, now), "steps": steps, "fulfilments": given}


def done_view(done: Redeemed, now: datetime) -> dict[str, Any]:
    """What a call did: its step, the release of the rest, and the redemption afterwards."""
    return {
        "redemption": redemption_view(done.redemption, now),
        "step": step_view(done.step),
        "rest": None if done.rest is None else step_view(done.rest),
        "repeated": done.repeated,
    }


def step_view(step: Step) -> dict[str, Any]:
    """One step. Of points that came back: what repaid a debt, and what had run out and lapsed at once."""
    return {
        "kind": step.kind,
        "transfer_id": str(step.transfer_id),
        "reason": step.reason,
        "units": step.units,
        "points": step.points,
        "value_fen": step.value_fen,
        "reduction_mg": step.co2e_mg,
        "recorded_at": step.recorded_at,
        "repaid_points": step.repaid_points,
        "lapsed_points": step.lapsed_points,
    }


async def post_step(
    platform: Platform, command: RedemptionCommand, request: Request, headers: Mapping[str, str]
) -> Response:
    """Post one command and answer what it did: 201 the first time for a hold, 200 otherwise. Raises its problem."""
    (outcome,) = await platform.poster.post([command])
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    assert isinstance(outcome, Redeemed)
    new = outcome.step.kind == "hold" and not outcome.repeated
    view = done_view(outcome, platform.fresh.clock())
    return answered(201 if new else 200, view, dict(headers), request)


def refused(refusal: Refusal) -> Problem:
    """The problem of a refusal."""
    params: dict[str, Any] = dict(refusal.params)
    if refusal.slug == "offer-not-listed":
        why = STANDINGS[params["because"]]
        params |= {"why_zh": why.zh, "why_en": why.en}
    told: dict[str, Any] = {**clean(params)}
    return Problem(refusal.slug, **told)


def not_found() -> Problem:
    """There is none of this id, or it is not the caller's: the answer is the same."""
    return Problem("redemption-not-found")
