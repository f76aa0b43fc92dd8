"""Every problem type of the API: what it means, whether it is final, what to do. Statuses are chosen here alone.

Each room keeps its rows in a module of its own, as `ENTRIES`, and says in `STEPS` where in the order of checks they
stand. A template names its parameters in braces; `{title}` takes the parameter `title_zh` or `title_en` where there is
one. A stored refusal is a slug and its parameters, so a slug or a parameter, once released, keeps its meaning.
"""

from api.problems import (
    access,
    activities,
    banks,
    callers,
    counting,
    hardening,
    linking,
    order,
    products,
    records,
    redemption,
    reports,
    requests,
    reviews,
    rights,
    server,
    settlement,
    webhooks,
)
from api.problems.kinds import QUOTA_EXCEEDED_TYPE, Language, ProblemType, Text
from api.problems.order import CheckStep

__all__ = [
    "ORDER_OF_CHECKS",
    "PROBLEM_TYPES",
    "QUOTA_EXCEEDED_TYPE",
    "CheckStep",
    "Language",
    "ProblemType",
    "Text",
]

_LATER = (hardening, access, linking, products, banks, redemption, webhooks, settlement, reports, rights, reviews)

PROBLEM_TYPES: dict[str, ProblemType] = {
    slug: row
    for room in (callers, requests, activities, counting, records, *_LATER, server)
    for slug, row in room.ENTRIES.items()
}

# Part of the interface: the first step that fails answers, so a client can rely on what was checked before it.
ORDER_OF_CHECKS: tuple[CheckStep, ...] = tuple(
    step._replace(slugs=(*step.slugs, *(slug for room in _LATER for slug in room.STEPS.get(step.name, ()))))
    for step in order.STEPS
)
